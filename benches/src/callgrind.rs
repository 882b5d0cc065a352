//! What callgrind writes down, as far as `ci/instructions` has it written: names in full, one position, one event.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instructions {
    /// Of Rust, and of what Cranelift makes of guests: the same wherever the same compiler and the same crates are.
    pub rust: u64,
    /// These, and what the C compiler makes of SQLite, and the system's own libraries.
    pub all: u64,
}

/// The instructions of every path that a program counted, for one step. The folder has `paths`, which is the program's
/// standard output, and `out.1`, `out.2` and so on, what callgrind wrote when the first path and the second came to their end.
///
/// # Errors
/// Where a file is missing or is not what it should be: in words.
pub fn counted(folder: &Path) -> Result<BTreeMap<String, PerStep>, String> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
    };
    let mut paths = BTreeMap::new();
    for (number, line) in (1..).zip(read("paths")?.lines()) {
        let said = line.rsplit_once(' ');
        let (name, steps) = said
            .and_then(|(name, steps)| Some((name, steps.parse().ok()?)))
            .ok_or_else(|| format!("`{line}` is no path and a number of steps"))?;
        let profile = instructions(&read(&format!("out.{number}"))?).map_err(|error| format!("{name}: {error}"))?;
        paths.insert(name.to_owned(), PerStep::of(profile, steps));
    }
    Ok(paths)
}

/// Instructions for one step.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct PerStep {
    /// As [`Instructions::rust`].
    pub rust: f64,
    /// As [`Instructions::all`].
    pub all: f64,
}

impl PerStep {
    #[expect(clippy::cast_precision_loss, reason = "nobody waits for 2^52 instructions")]
    fn of(Instructions { rust, all }: Instructions, steps: u64) -> Self {
        let each = |count: u64| count as f64 / steps.max(1) as f64;
        Self {
            rust: each(rust),
            all: each(all),
        }
    }
}

/// The instructions in one profile. What a function's callees took is beside it too, and is theirs.
fn instructions(profile: &str) -> Result<Instructions, String> {
    let mut found = Instructions::default();
    let (mut object, mut is_rust, mut is_of_callee) = ("", false, false);
    let mut total: Option<u64> = None;
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            is_rust = is_made_of_rust(object, name);
        } else if line.starts_with("calls=") {
            is_of_callee = true;
        } else if let Some(said) = line.strip_prefix("totals: ") {
            total = said.parse().ok();
        } else if let Some(count) = cost(line)
            && !std::mem::take(&mut is_of_callee)
        {
            found.all += count;
            found.rust += if is_rust { count } else { 0 };
        }
    }
    match total {
        Some(total) if total == found.all && total > 0 => Ok(found),
        Some(total) => Err(format!(
            "callgrind counted {total} instructions, and {} are in its functions",
            found.all
        )),
        None => Err("callgrind wrote no total".to_owned()),
    }
}

/// Code of a guest is in no file. C's names have no colons; Rust's have, unless valgrind is older than how they are mangled.
fn is_made_of_rust(object: &str, name: &str) -> bool {
    object == "???" || name.contains("::") || name.starts_with("_R")
}

/// `0 345`: what was executed at a position.
fn cost(line: &str) -> Option<u64> {
    let (position, count) = line.split_once(' ')?;
    position.parse::<u64>().ok()?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
# callgrind format
version: 1
positions: line
events: Ir
summary: 1234

ob=/target/instructions
fl=???
fn=instructions::in_turns
0 10
cob=/lib/libc.so.6
cfn=malloc
calls=3 0
0 900
0 20
fn=_RNvNtCs1_4core3ptr4drop
0 4
fn=sqlite3VdbeExec
0 200

ob=/lib/libc.so.6
fn=malloc
0 900

ob=???
fn=0x0000000004843020
0 100
totals: 1234
";

    #[test]
    fn what_a_callee_took_is_counted_once_and_as_its_own() {
        let expected = Instructions { rust: 134, all: 1234 };
        assert_eq!(instructions(PROFILE), Ok(expected));
    }

    #[test]
    fn half_a_profile_is_none() {
        let cut = PROFILE.replace("totals: 1234\n", "");
        assert!(instructions(&cut).is_err_and(|error| error.contains("no total")));
        let lost = PROFILE.replace("0 200\n", "");
        assert!(instructions(&lost).is_err_and(|error| error.contains("1234 instructions, and 1034")));
        assert!(instructions("totals: 0\n").is_err(), "nothing was counted");
    }

    #[test]
    fn a_path_is_found_by_its_place_and_counted_by_its_steps() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("paths", "one 2\nanother 10\n");
        write("out.1", PROFILE);
        assert!(counted(folder.path()).is_err_and(|error| error.contains("out.2")));
        write("out.2", PROFILE);
        let counted = counted(folder.path()).unwrap();
        assert_eq!(counted["one"], PerStep { rust: 67.0, all: 617.0 });
        assert_eq!(counted["another"], PerStep { rust: 13.4, all: 123.4 });
    }
}
