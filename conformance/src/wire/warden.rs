//! What an adapter is before it is an adapter: a process that sees to it that nothing of it stays.
//!
//! The harness kills the process group of each case. Where the harness itself is killed, the kernel kills the adapter, and
//! what the adapter started runs out of CPU time.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

/// First argument of a process that becomes an adapter. The second is the program.
pub(super) const WARDEN_ARGUMENT: &str = "__stockade-adapter";

/// More than the longest control takes on every core there is.
const CPU_SECONDS: u64 = 120;

/// Makes this process an adapter if it was started as one; returns at once if not.
pub(crate) fn enter() {
    let arguments: Vec<OsString> = env::args_os().skip(1).take(2).collect();
    let [role, program] = arguments.as_slice() else {
        return;
    };
    if role != WARDEN_ARGUMENT {
        return;
    }
    let error = become_adapter(program);
    writeln!(io::stderr(), "cannot start `{}`: {error}", program.display()).unwrap_or_default();
    #[expect(
        clippy::disallowed_methods,
        reason = "a warden must never go on into the program's own `main`"
    )]
    std::process::exit(127);
}

/// Comes back only where it failed.
fn become_adapter(program: &OsString) -> io::Error {
    let limit = |resource, most| {
        let most = Some(most);
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )
    };
    let guarded = set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| limit(Resource::Cpu, CPU_SECONDS))
        .and_then(|()| limit(Resource::Core, 0));
    if let Err(error) = guarded {
        return error.into();
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a process becomes an adapter"
    )]
    Command::new(program).exec()
}
