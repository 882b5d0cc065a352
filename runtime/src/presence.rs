//! Which of the layers that depend on the machine and on the build are there.

use crate::layer::Layer;
use crate::worker;

/// Whether one layer is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The layer.
    pub layer: Layer,
    /// Whether it is there.
    pub is_there: bool,
    /// What of it is there, or why it is not and what to do.
    pub detail: String,
}

/// The layers that depend on the machine and on the build; every other one is always there. So is `worker`, and what it has
/// besides of the machine is said too.
#[must_use]
pub fn presence() -> Vec<Presence> {
    vec![build(), worker(), landlock(), seccomp()]
}

fn there(layer: Layer, detail: impl Into<String>) -> Presence {
    Presence {
        layer,
        is_there: true,
        detail: detail.into(),
    }
}

fn not_there(layer: Layer, detail: impl Into<String>) -> Presence {
    Presence {
        layer,
        is_there: false,
        detail: detail.into(),
    }
}

#[cfg(feature = "sql")]
fn build() -> Presence {
    let missing = crate::sql::missing_from_build();
    if missing.is_empty() {
        return there(Layer::Build, crate::sql::version());
    }
    let detail = format!(
        "SQLite was compiled without {}; copy `LIBSQLITE3_FLAGS` from stockade's `.cargo/config.toml` into your own and \
         build again",
        missing.join(", ")
    );
    not_there(Layer::Build, detail)
}

#[cfg(not(feature = "sql"))]
fn build() -> Presence {
    there(Layer::Build, "no SQLite in this build")
}

/// No condition: where there are no control groups, resource limits and the supervisor's own looks remain.
fn worker() -> Presence {
    there(Layer::Worker, worker::cgroups_in_force())
}

fn landlock() -> Presence {
    match worker::landlock_version() {
        Some(version) => there(
            Layer::Landlock,
            format!("version {version} of its interface: {}", covers(version)),
        ),
        None => not_there(
            Layer::Landlock,
            "the kernel is older than Linux 5.13, or was started without `landlock` in its list of security modules",
        ),
    }
}

/// What Landlock refuses, by the version of its interface.
fn covers(version: u32) -> &'static str {
    match version {
        0..4 => "files and programs",
        4..6 => "files, programs and TCP",
        _ => "files, programs, TCP and signals",
    }
}

fn seccomp() -> Presence {
    if worker::has_seccomp() {
        return there(Layer::Seccomp, "system calls are filtered");
    }
    not_there(
        Layer::Seccomp,
        "the kernel has no seccomp filters, or runs on a processor that they are not made for",
    )
}
