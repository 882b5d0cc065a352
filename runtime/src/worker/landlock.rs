//! Landlock: the kernel refuses this process every file, TCP connection, program and signal to others.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};

/// The version of Landlock that the kernel offers; `None` where it has none, or does not use it.
pub(super) fn version() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    #[expect(unsafe_code, reason = "the crate keeps this question to itself")]
    // SAFETY: with this flag the call takes no pointer, makes nothing and answers a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// Refuses everything that this kernel's Landlock knows to refuse. Descriptors that are open stay usable.
pub(super) fn restrict() -> io::Result<()> {
    let failed = |error: RulesetError| io::Error::other(format!("Landlock: {error}"));
    let everything = ABI::V9;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(everything))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(everything)))
        .and_then(|rules| rules.scope(Scope::from_all(everything)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(io::Error::other("the kernel does not enforce Landlock"));
    }
    Ok(())
}

/// Leaves files alone and refuses the rest: for the porter.
pub(super) fn restrict_all_but_files() -> io::Result<()> {
    let failed = |error: RulesetError| io::Error::other(format!("Landlock: {error}"));
    let everything = ABI::V9;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::Execute)
        .and_then(|rules| rules.handle_access(AccessNet::from_all(everything)))
        .and_then(|rules| rules.scope(Scope::from_all(everything)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    Ok(())
}
