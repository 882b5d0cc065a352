//! seccomp: the system calls that a guest's process still has.
//!
//! What SQLite, wasmtime and the C library use is allowed. What is not listed fails with EPERM, so that a new version of a
//! library that tries something harmless gets an error instead of its death. What only an attacker uses kills the
//! process, and a worker that dies is a refusal.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::confine::Calls;

/// What every worker needs: its socket, open files, memory, time, and an end.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What is done with an open file: locks, flags, another descriptor for it, and the seals of wasmtime's memory. Others have
/// the kernel send signals to whom one likes (`F_SETOWN`, `F_SETSIG`, `F_NOTIFY`, `F_SETLEASE`).
const FILE_CONTROLS: &[libc::c_int] = &[
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_DUPFD_CLOEXEC,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

/// What a module needs besides: threads of its own process.
const FOR_THREADS: &[c_long] = &[
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    // wasmtime keeps a module's initial memory so.
    libc::SYS_memfd_create,
    // Answered by `refuse_clone3`.
    libc::SYS_clone3,
];

/// What no guest and no library of ours has a use for.
const DEADLY: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_personality,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_setrlimit,
];

/// Calls of older programs, which only some processors have.
#[cfg(target_arch = "x86_64")]
const DEADLY_OF_OLD: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
];
#[cfg(not(target_arch = "x86_64"))]
const DEADLY_OF_OLD: &[c_long] = &[];

#[cfg(target_arch = "x86_64")]
const ALLOWED_OF_OLD: &[c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OF_OLD: &[c_long] = &[];

/// Whether the kernel can kill a process for a call, on a processor that filters can be made for.
pub(super) fn is_there() -> bool {
    const ACTION_AVAILABLE: libc::c_uint = 2;
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    #[expect(unsafe_code, reason = "the crate does not ask")]
    // SAFETY: reads one number behind a valid pointer.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, ACTION_AVAILABLE, 0, std::ptr::from_ref(&action)) };
    answer == 0 && architecture().is_ok()
}

/// Leaves this process the calls that a guest of this kind needs, in all its threads.
pub(super) fn restrict(calls: Calls) -> io::Result<()> {
    restrict_to_harmless(calls)?;
    let mut allowed = plainly(&[ALLOWED, ALLOWED_OF_OLD]);
    allowed.extend(careful(calls)?);
    if calls == Calls::Wasm {
        allowed.extend(plainly(&[FOR_THREADS]));
        allowed.insert(libc::SYS_clone, Vec::new());
    }
    // Last, because from here on no filter can be added.
    install(allowed, SeccompAction::Errno(errno(libc::EPERM)), SeccompAction::Allow)
}

/// Forbids only what is deadly: also for the porter, which opens files.
pub(super) fn restrict_to_harmless(calls: Calls) -> io::Result<()> {
    let mut deadly = plainly(&[DEADLY, DEADLY_OF_OLD]);
    match calls {
        Calls::Sql => {
            deadly.insert(libc::SYS_clone, Vec::new());
            deadly.insert(libc::SYS_clone3, Vec::new());
            deadly.insert(libc::SYS_memfd_create, Vec::new());
        }
        // A thread has all of these in common with the one that makes it; a process lacks one.
        Calls::Wasm => {
            let common = [
                libc::CLONE_THREAD,
                libc::CLONE_VM,
                libc::CLONE_FS,
                libc::CLONE_FILES,
                libc::CLONE_SIGHAND,
            ];
            let lacking = |flag: libc::c_int| rule(&[(0, Width::Qword, Is::MaskedEq(bits(flag)), 0)]);
            let lacking: io::Result<Vec<SeccompRule>> = common.into_iter().map(lacking).collect();
            deadly.insert(libc::SYS_clone, lacking?);
        }
    }
    install(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?;
    refuse_clone3()
}

/// Its flags stand in memory, where no filter can read them. Without it, threads are made by `clone`.
fn refuse_clone3() -> io::Result<()> {
    let rules = plainly(&[&[libc::SYS_clone3]]);
    install(rules, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))
}

/// Calls that are allowed with some arguments only.
fn careful(calls: Calls) -> io::Result<BTreeMap<c_long, Vec<SeccompRule>>> {
    let executable = bits(libc::PROT_EXEC);
    let own = u64::from(std::process::id());
    let protection: Vec<SeccompRule> = match calls {
        Calls::Sql => vec![rule(&[(2, Width::Dword, Is::MaskedEq(executable), 0)])?],
        Calls::Wasm => Vec::new(),
    };
    let locks_and_flags = FILE_CONTROLS
        .iter()
        .map(|control| rule(&[(1, Width::Dword, Is::Eq, bits(*control))]));
    Ok(BTreeMap::from([
        (libc::SYS_fcntl, locks_and_flags.collect::<io::Result<_>>()?),
        (libc::SYS_mmap, protection.clone()),
        (libc::SYS_mprotect, protection),
        // `abort` ends a process so.
        (libc::SYS_tgkill, vec![rule(&[(0, Width::Dword, Is::Eq, own)])?]),
        // Reading a limit, not setting one.
        (libc::SYS_prlimit64, vec![rule(&[(2, Width::Qword, Is::Eq, 0)])?]),
        // A thread's name.
        (
            libc::SYS_prctl,
            vec![rule(&[(0, Width::Dword, Is::Eq, bits(libc::PR_SET_NAME))])?],
        ),
        // `fstat` in the clothes of newer C libraries: the path is empty.
        (
            libc::SYS_newfstatat,
            vec![rule(&[(
                3,
                Width::Dword,
                Is::MaskedEq(bits(libc::AT_EMPTY_PATH)),
                bits(libc::AT_EMPTY_PATH),
            )])?],
        ),
    ]))
}

fn rule(conditions: &[(u8, Width, Is, u64)]) -> io::Result<SeccompRule> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(argument, width, is, value)| SeccompCondition::new(*argument, width.clone(), is.clone(), *value))
        .collect();
    conditions.and_then(SeccompRule::new).map_err(io::Error::other)
}

fn plainly(lists: &[&[c_long]]) -> BTreeMap<c_long, Vec<SeccompRule>> {
    lists
        .iter()
        .copied()
        .flatten()
        .map(|call| (*call, Vec::new()))
        .collect()
}

fn install(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> io::Result<()> {
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture()?).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn architecture() -> io::Result<TargetArch> {
    std::env::consts::ARCH.try_into().map_err(io::Error::other)
}

fn errno(number: libc::c_int) -> u32 {
    number.unsigned_abs()
}

fn bits(flag: libc::c_int) -> u64 {
    flag.cast_unsigned().into()
}
