//! What a supervisor may do that a worker may not: capabilities, groups, and ways to get more.
//!
//! A worker keeps none. Its porter keeps those that are about files: whose database a privileged host can open, its guests
//! can use.

use std::io;

/// What a process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    /// To open files of others, and to give them what is made beside those.
    Files,
}

/// <https://man7.org/linux/man-pages/man7/capabilities.7.html>
const FOR_FILES: [u32; 4] = [
    0, // CAP_CHOWN
    1, // CAP_DAC_OVERRIDE
    2, // CAP_DAC_READ_SEARCH
    3, // CAP_FOWNER
];

/// Third version of the interface: 64 bits in two halves.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    process: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all other capabilities, for good, and what could bring some back. Those that are ambient go with the inheritable.
///
/// # Errors
/// Where the kernel does not take them.
pub(super) fn drop(keep: Keep) -> io::Result<()> {
    answered(control(libc::PR_SET_NO_NEW_PRIVS, 1).into())?;
    empty_bounding_set();
    if keep == Keep::Nothing {
        leave_groups();
    }
    let kept = match keep {
        Keep::Nothing => 0,
        Keep::Files => FOR_FILES.into_iter().fold(0, |set, capability| set | 1 << capability) & permitted()?,
    };
    let low = Half {
        effective: kept,
        permitted: kept,
        inheritable: 0,
    };
    set(&[low, Half::default()])
}

/// What a program that is executed could gain. Needs a capability itself; who has not got it can execute nothing with more
/// rights either, after `no_new_privs`.
fn empty_bounding_set() {
    for capability in 0..64 {
        // An error where the kernel has no such capability.
        control(libc::PR_CAPBSET_DROP, capability);
    }
}

/// One of the two calls above.
fn control(option: libc::c_int, argument: libc::c_ulong) -> libc::c_int {
    const NOTHING: libc::c_ulong = 0;
    #[expect(unsafe_code, reason = "sets what this process may become")]
    // SAFETY: both options take numbers only, and touch no memory.
    unsafe {
        libc::prctl(option, argument, NOTHING, NOTHING, NOTHING)
    }
}

/// Only who is privileged can leave groups, and whoever is not keeps those of the user who runs it.
fn leave_groups() {
    #[expect(unsafe_code, reason = "rustix leaves groups for one thread only, under another name")]
    // SAFETY: no group is read where there are none.
    unsafe {
        libc::setgroups(0, std::ptr::null());
    }
}

fn permitted() -> io::Result<u32> {
    let mut halves = [Half::default(); 2];
    let mut header = Header {
        version: VERSION,
        process: 0,
    };
    #[expect(unsafe_code, reason = "the C library has no such function")]
    // SAFETY: this version of the interface reads one header, and writes two halves, which is what there is room for.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    let [low, _] = halves;
    answered(answer).map(|()| low.permitted)
}

fn set(halves: &[Half; 2]) -> io::Result<()> {
    let mut header = Header {
        version: VERSION,
        process: 0,
    };
    #[expect(unsafe_code, reason = "the C library has no such function")]
    // SAFETY: this version of the interface reads one header and two halves.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    answered(answer)
}

fn answered(answer: libc::c_long) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
