//! Paths that a worker may ask its porter to open or to remove, who was taken over: whatever they are, they lead to the guest's
//! own files.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use arbitrary::{Result, Unstructured};
use rustix::fs::{OFlags, fcntl_getfl};
use stockade_policies::{Plan, PolicyStore, Principal, Source, SourceKind, Stock};
use stockade_runtime::worker::{opened, removed};
use tempfile::TempDir;

use crate::{is_planted, scratch};

/// What is in every file. The last two bytes are what SQLite knows a database with a write-ahead log by.
const CONTENT: &[u8] = b"as it was before..\x02\x02";

const FILES: [&str; 5] = [
    "own/own.db",
    "own/other.db",
    "lent/lent.db",
    "lent/other.db",
    "secret/secret.db",
];

/// Parts of paths: folders, files, links to both, and what is none.
const PARTS: &[&str] = &[
    "own",
    "own.db",
    "lent",
    "lent.db",
    "other.db",
    "secret",
    "secret.db",
    "link",
    "link.db",
    "..",
    ".",
    "",
    "own.db ",
    "OWN.db",
];

/// What SQLite puts behind the name of a database, and what it does not.
const ENDINGS: &[&str] = &["", "", "-journal", "-wal", "-shm", "-wal-wal", "-mj01", "\0", "/", "/."];

/// Opens what the bytes name, in the way that they say, or removes it.
///
/// # Panics
/// Where that is another file than those that the plan grants, or what is only lent can be written or removed.
pub fn paths(data: &[u8]) {
    thread_local! {
        static PLACE: Place = Place::new();
    }
    let mut input = Unstructured::new(data);
    // Too few bytes: there is no path.
    let _ = PLACE.with(|place| place.play(&mut input));
}

/// A guest's database, one that it is lent, and others.
struct Place {
    /// Gone with the value.
    _folder: TempDir,
    /// The folder, by its whole name.
    root: PathBuf,
    plan: Plan,
}

impl Place {
    #[expect(clippy::expect_used, reason = "without files there is nothing to open")]
    fn new() -> Self {
        let folder = scratch::folder();
        let root = folder.path().canonicalize().expect("the folder is there");
        let place = Self {
            plan: plan(&root.join("lent/lent.db")),
            root,
            _folder: folder,
        };
        for name in FILES {
            let path = place.root.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&place.root)).expect("a folder");
            fs::write(path, CONTENT).expect("a file");
        }
        for (link, to) in [
            ("own/link", "../secret"),
            ("own/link.db", "../secret/secret.db"),
            ("lent/link", "../own"),
            ("own/own.db-wal", "../secret/secret.db"),
            ("lent/lent.db-journal", "../secret/secret.db"),
        ] {
            symlink(to, place.root.join(link)).expect("a link");
        }
        place
    }

    fn play(&self, input: &mut Unstructured<'_>) -> Result<()> {
        let path = self.path(input)?;
        let flags = flags(input)?;
        let own = self.root.join("own/own.db");
        let database = input.ratio(7, 8)?.then_some(own.as_path());
        if input.ratio(1, 8)? {
            let is_beside = ["-journal", "-wal", "-shm"]
                .iter()
                .any(|ending| path == self.root.join(format!("own/own.db{ending}")));
            let is_removed = removed(database, &self.plan, &path).is_ok();
            assert!(
                !is_removed || is_beside && database.is_some(),
                "removed `{}`",
                path.display()
            );
        } else if let Ok(file) = opened(database, &self.plan, &path, flags, 0o600) {
            let found = self.found(&file);
            assert!(
                !(is_planted() && found == "own/own.db-shm"),
                "planted: {}",
                path.display()
            );
            let is_own = ["own/own.db", "own/own.db-journal", "own/own.db-shm"].contains(&found.as_str());
            let is_lent = ["lent/lent.db", "lent/lent.db-wal", "lent/lent.db-shm"].contains(&found.as_str());
            let is_read_only = fcntl_getfl(&file).is_ok_and(|flags| !flags.intersects(OFlags::WRONLY | OFlags::RDWR));
            let is_granted = is_own && database.is_some() || is_lent && is_read_only;
            assert!(is_granted, "`{}` with {flags:#x} opened {found}", path.display());
        }
        self.is_as_it_was(&path);
        Ok(())
    }

    /// What was opened, below the folder, as the kernel names it.
    fn found(&self, file: &OwnedFd) -> String {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        path.strip_prefix(&self.root).unwrap_or(&path).display().to_string()
    }

    /// What was made is cleared away; what was there is whole, and nothing else is.
    #[expect(clippy::expect_used, reason = "without files there is nothing to open")]
    fn is_as_it_was(&self, path: &Path) {
        for made in [
            "own/own.db-journal",
            "own/own.db-shm",
            "lent/lent.db-wal",
            "lent/lent.db-shm",
        ] {
            let made = self.root.join(made);
            // Most often nothing was.
            let content = fs::read(&made).unwrap_or_default();
            assert!(
                content.is_empty(),
                "`{}` made a file with something in it",
                path.display()
            );
            fs::remove_file(made).unwrap_or_default();
        }
        let beside = self.root.join("own/own.db-wal");
        if !beside.is_symlink() {
            symlink("../secret/secret.db", beside).expect("a link");
        }
        for (folder, many) in [("own", 5), ("lent", 4), ("secret", 1), (".", 3)] {
            let count = fs::read_dir(self.root.join(folder)).map_or(0, Iterator::count);
            assert_eq!(count, many, "`{}` changed what is in `{folder}`", path.display());
        }
        for name in FILES {
            let content = fs::read(self.root.join(name)).unwrap_or_default();
            assert_eq!(content, CONTENT, "`{}` changed `{name}`", path.display());
        }
    }

    fn path(&self, input: &mut Unstructured<'_>) -> Result<PathBuf> {
        let mut path = if input.ratio(15, 16)? {
            self.root.as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        for _ in 0..input.int_in_range(1..=4)? {
            path.extend(b"/");
            if input.ratio(15, 16)? {
                path.extend(input.choose(PARTS)?.as_bytes());
            } else {
                let length = input.int_in_range(0..=4)?;
                path.extend(input.bytes(length)?);
            }
        }
        path.extend(input.choose(ENDINGS)?.as_bytes());
        Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&path)))
    }
}

/// As SQLite asks, and any other way.
fn flags(input: &mut Unstructured<'_>) -> Result<i32> {
    let flags = match input.int_in_range(0..=5)? {
        0 => OFlags::RDONLY,
        1 => OFlags::RDWR,
        2 => OFlags::RDWR | OFlags::CREATE,
        3 => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        4 => OFlags::WRONLY | OFlags::TRUNC,
        _ => return input.arbitrary(),
    };
    Ok(flags.bits().cast_signed())
}

#[expect(clippy::expect_used, reason = "without a plan nothing is opened")]
fn plan(lent: &Path) -> Plan {
    let policies = Source {
        name: "fuzz.cedar".to_owned(),
        text: format!(
            "@id(\"fuzz-lends\") permit (principal in Profile::\"untrusted\", action == Action::\"attach\", \
             resource == Path::\"{}\");",
            lent.display()
        ),
        kind: SourceKind::Policies,
    };
    let store = PolicyStore::load(&[policies], Stock::With).expect("the policies load");
    store
        .plan(&Principal::profile("untrusted"))
        .expect("the profile has a plan")
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_granted_is_reached_and_what_is_not_is_not() {
        let place = Place::new();
        let own = place.root.join("own/own.db");
        let open = |name: &str, flags: OFlags| {
            let path = place.root.join(name);
            opened(Some(&own), &place.plan, &path, flags.bits().cast_signed(), 0o600).map(|file| place.found(&file))
        };
        let made = OFlags::RDWR | OFlags::CREATE;
        assert_eq!(open("own/own.db", OFlags::RDWR).unwrap(), "own/own.db");
        assert_eq!(open("own/own.db-journal", made).unwrap(), "own/own.db-journal");
        assert_eq!(open("lent/lent.db", OFlags::RDONLY).unwrap(), "lent/lent.db");
        // It is made, to be read: SQLite asks again.
        assert_eq!(open("lent/lent.db-wal", made), Err(Errno::ACCESS.raw_os_error()));
        assert_eq!(open("lent/lent.db-wal", OFlags::RDONLY).unwrap(), "lent/lent.db-wal");
        for name in ["own/other.db", "secret/secret.db", "own/link.db", "own/own.db-wal"] {
            assert!(open(name, OFlags::RDONLY).is_err(), "{name}");
        }
        let remove = |name: &str| removed(Some(&own), &place.plan, &place.root.join(name));
        assert_eq!(remove("own/own.db-wal"), Ok(()));
        for name in ["own/own.db", "lent/lent.db-wal", "secret/secret.db"] {
            assert!(remove(name).is_err(), "{name}");
        }
        place.is_as_it_was(Path::new("all of these"));
    }

    #[test]
    #[should_panic(expected = "changed `secret/secret.db`")]
    fn a_file_that_is_another_is_noticed() {
        let place = Place::new();
        fs::write(place.root.join("secret/secret.db"), "now").unwrap();
        place.is_as_it_was(Path::new("somebody"));
    }
}
