//! Opens for a worker what the plan grants its guest, and nothing else.
//!
//! A worker that has given up all files needs somebody to open the guest's database, and SQLite also makes, reads and
//! removes files beside it. Rules about paths cannot say that: a rule for a file is gone with the file, and one for its
//! folder is about everybody's files. So each worker has a porter: a process of its own, because closing a file in the
//! supervisor would drop the locks that the host's own SQLite holds there
//! (<https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>). The
//! supervisor tells it whom it serves, and the plan decides about every other file as it decides `attach`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use stockade_policies::{Action, Plan, Question, Resource, SqlAction, Value};

use super::confine::Calls;
use super::door::{self, Answer, What, Wish};
use super::frame::{self, Reader, Received};
use super::{landlock, seccomp};

/// What SQLite puts beside a database.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Whom a porter serves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rule {
    /// The guest's database.
    database: Option<PathBuf>,
    /// What decides about other files; `None` where it would deny every one.
    plan: Option<Plan>,
}

impl Rule {
    /// The rule for a guest; `None` where it can have nothing opened at all.
    pub(super) fn new(database: Option<&Path>, plan: &Plan) -> Option<Self> {
        let may_attach = plan.bit(Action::Sql(SqlAction::Attach)) != Some(false);
        (database.is_some() || may_attach).then(|| Self {
            database: database.map(Path::to_owned),
            plan: may_attach.then(|| plan.clone()),
        })
    }

    /// Whether both say the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let [ours, theirs] = [self, other].map(|rule| rule.plan.as_ref().map(Plan::digest));
        self.database == other.database && ours == theirs
    }
}

/// What a path is to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its database.
    Own,
    /// A file that the plan lets it attach.
    Attached,
    /// What SQLite puts beside its database.
    Beside,
    /// What it puts beside a file that the plan lets it attach.
    BesideAttached,
    /// A folder on the way to its database, or anything where the guest may attach something.
    OnTheWay,
    /// Not the guest's business.
    Foreign,
}

/// Answers a worker's questions until the supervisor is gone.
pub(super) fn serve(control: UnixStream, end: OwnedFd) -> io::Result<()> {
    // Best effort: what a porter is asked it decides itself, and it never runs a guest's bytes.
    landlock::restrict_all_but_files().unwrap_or_default();
    seccomp::restrict_to_harmless(Calls::Wasm).unwrap_or_default();
    let rule: Arc<Mutex<Option<Rule>>> = Arc::default();
    thread::Builder::new().name("door".to_owned()).spawn({
        let rule = Arc::clone(&rule);
        move || answer_all(&end, &rule)
    })?;
    let mut control = control;
    let mut reader = Reader::default();
    loop {
        match reader.read::<Option<Rule>>(&mut control, frame::MOST_BYTES)? {
            Received::Message(next) => {
                *rule.lock().unwrap_or_else(PoisonError::into_inner) = next;
                frame::write(&mut control, &())?;
            }
            Received::NotYet => {}
            Received::Closed => return Ok(()),
        }
    }
}

fn answer_all(end: &OwnedFd, rule: &Mutex<Option<Rule>>) {
    // A worker that says anything else has been taken over: nobody answers it any more.
    while let Ok(Some((wish, _))) = door::receive::<Wish>(end) {
        let rule = rule.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, file) = match &*rule {
            Some(rule) => rule.grant(&wish),
            None => (refused(wish.what), None),
        };
        if door::send(end, &answer, file.as_ref()).is_err() {
            return;
        }
    }
}

/// What a porter hands to the worker of a guest that asks to have this path opened as by `open`, without the processes: for
/// whoever wants to know what a guest reaches by any path at all.
///
/// # Errors
/// The `errno` that the guest is told.
#[doc(hidden)]
pub fn opened(database: Option<&Path>, plan: &Plan, path: &Path, flags: i32, mode: u32) -> Result<OwnedFd, i32> {
    let (answer, file) = granted(database, plan, path, What::Open { flags, mode })?;
    file.ok_or(answer.errno)
}

/// The same of a guest that asks to have this path removed.
///
/// # Errors
/// The `errno` that the guest is told.
#[doc(hidden)]
pub fn removed(database: Option<&Path>, plan: &Plan, path: &Path) -> Result<(), i32> {
    let (answer, _) = granted(database, plan, path, What::Remove)?;
    if answer.errno == 0 { Ok(()) } else { Err(answer.errno) }
}

fn granted(database: Option<&Path>, plan: &Plan, path: &Path, what: What) -> Result<(Answer, Option<OwnedFd>), i32> {
    let rule = Rule::new(database, plan).ok_or(libc::EACCES)?;
    Ok(rule.grant(&Wish {
        path: path.to_owned(),
        what,
    }))
}

/// No; and about what is only looked at, as if it were not there: what else is on this machine is not the guest's business.
fn refused(what: What) -> Answer {
    let is_used = matches!(what, What::Open { .. } | What::Remove | What::Check { mode: 1.. });
    Answer {
        errno: if is_used { libc::EACCES } else { libc::ENOENT },
        refused: true,
        link: None,
    }
}

impl Rule {
    fn grant(&self, wish: &Wish) -> (Answer, Option<OwnedFd>) {
        let role = self.role(&wish.path);
        let done = match (wish.what, role) {
            (What::Open { flags, mode }, Role::Own | Role::Attached | Role::Beside | Role::BesideAttached) => {
                open(&wish.path, flags, mode, role).map(Some)
            }
            (What::Remove, Role::Beside) => rustix::fs::unlink(&wish.path).map(|()| None),
            (What::Open { .. } | What::Remove, _)
            | (_, Role::Foreign)
            | (What::Check { mode: 1.. }, Role::OnTheWay) => {
                return (refused(wish.what), None);
            }
            (What::Look { follow }, _) => look(&wish.path, follow).map(Some),
            (What::Check { mode }, _) => check(&wish.path, mode).map(|()| None),
            (What::ReadLink, _) => {
                return match rustix::fs::readlink(&wish.path, Vec::new()) {
                    Ok(link) => {
                        let link = Some(PathBuf::from(OsStr::from_bytes(link.as_bytes())));
                        (
                            Answer {
                                link,
                                ..Answer::default()
                            },
                            None,
                        )
                    }
                    Err(error) => (failed(error), None),
                };
            }
            (What::SyncFolder, _) => sync_folder(&wish.path).map(|()| None),
        };
        match done {
            Ok(file) => (Answer::default(), file),
            Err(error) => (failed(error), None),
        }
    }

    fn role(&self, path: &Path) -> Role {
        // SQLite asks with resolved paths. A worker that has been taken over may not, and a name with `..` in it would be
        // judged as one file and opened as another.
        if !is_resolved(path) {
            return Role::Foreign;
        }
        if self.database.as_deref() == Some(path) {
            return Role::Own;
        }
        let base = BESIDE.iter().find_map(|ending| without(path, ending));
        if base.is_some() && base.as_deref() == self.database.as_deref() {
            return Role::Beside;
        }
        if self.attaches(path) {
            return Role::Attached;
        }
        if base.is_some_and(|base| self.attaches(&base)) {
            return Role::BesideAttached;
        }
        let is_on_the_way = path.is_absolute() && self.database.as_deref().is_some_and(|own| own.starts_with(path));
        if is_on_the_way || self.plan.is_some() {
            return Role::OnTheWay;
        }
        Role::Foreign
    }

    /// Whether the plan grants this file to `attach`. A relative name is one below the worker's folder, which is `/`.
    fn attaches(&self, path: &Path) -> bool {
        let (Some(path), Some(plan)) = (path.to_str(), &self.plan) else {
            return false;
        };
        [path, path.trim_start_matches('/')].into_iter().any(|name| {
            let context = [("file", Value::Text(name.to_owned()))];
            let question = Question {
                action: Action::Sql(SqlAction::Attach),
                resource: &Resource::Path(name.to_owned()),
                context: &context,
            };
            plan.decide(&question).allowed
        })
    }
}

/// No part of the path is empty, `.` or `..`. The worker's folder is `/`, so a relative name is below that.
fn is_resolved(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let parts = bytes.strip_prefix(b"/").unwrap_or(bytes);
    parts.is_empty()
        || parts
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

fn without(path: &Path, ending: &str) -> Option<PathBuf> {
    let bytes = path.as_os_str().as_bytes().strip_suffix(ending.as_bytes())?;
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

fn failed(error: rustix::io::Errno) -> Answer {
    Answer {
        errno: error.raw_os_error(),
        ..Answer::default()
    }
}

/// Opens a regular file by a path without links. Only what stands beside a database is ever made; only the guest's own
/// database and what stands beside that are ever written.
fn open(path: &Path, flags: i32, mode: u32, role: Role) -> rustix::io::Result<OwnedFd> {
    let asked = OFlags::from_bits_truncate(flags.cast_unsigned());
    let is_written = asked.intersects(OFlags::WRONLY | OFlags::RDWR);
    if matches!(role, Role::Attached | Role::BesideAttached) && is_written {
        if role == Role::BesideAttached && asked.contains(OFlags::CREATE) {
            make_for_readers(path, mode)?;
        }
        // SQLite then opens it for reading.
        return Err(rustix::io::Errno::ACCESS);
    }
    let mut flags = asked & OFlags::ACCMODE;
    let may_make = role == Role::Beside && asked.contains(OFlags::CREATE);
    if may_make {
        flags |= asked & (OFlags::CREATE | OFlags::EXCL);
    }
    let mode = if may_make {
        Mode::from_raw_mode(mode & 0o777)
    } else {
        Mode::empty()
    };
    let file = open_without_links(path, flags, mode)?;
    let seen = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        return Err(rustix::io::Errno::ACCESS);
    }
    if may_make && seen.st_size == 0 {
        belong_to_the_same_owner(path, &file, mode);
    }
    Ok(file)
}

/// Makes the empty files that a database with a write-ahead log cannot be read without
/// (<https://sqlite.org/wal.html#read_only_databases>), where nobody has made them yet. Who only reads needs them for the
/// locks in one, and to see that nothing is in the other; a journal he needs only where there is one.
fn make_for_readers(path: &Path, mode: u32) -> rustix::io::Result<()> {
    let base = ["-wal", "-shm"].iter().find_map(|ending| without(path, ending));
    let is_needed = base.is_some_and(|base| has_write_ahead_log(&base).unwrap_or(false));
    if !is_needed {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(mode & 0o777);
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL;
    match open_without_links(path, flags, mode) {
        Ok(file) => {
            belong_to_the_same_owner(path, &file, mode);
            Ok(())
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// "The file format write version … and the file format read version": 2 is for a write-ahead log
/// — <https://sqlite.org/fileformat2.html#file_format_version_numbers>
fn has_write_ahead_log(database: &Path) -> rustix::io::Result<bool> {
    let file = open_without_links(database, OFlags::RDONLY, Mode::empty())?;
    let mut versions = [0_u8; 2];
    let count = rustix::io::pread(&file, &mut versions, 18)?;
    Ok(count == versions.len() && versions == [2, 2])
}

fn open_without_links(path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(
        CWD,
        path,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
        mode,
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// What a privileged process puts beside somebody's database must stay usable to that somebody.
fn belong_to_the_same_owner(path: &Path, file: &OwnedFd, mode: Mode) {
    let base = BESIDE.iter().find_map(|ending| without(path, ending));
    // As SQLite does it: where it fails, the file is ours.
    if let Some(owner) = base.and_then(|base| rustix::fs::stat(&base).ok()) {
        if rustix::process::geteuid().is_root() {
            let (user, group) = (
                rustix::fs::Uid::from_raw(owner.st_uid),
                rustix::fs::Gid::from_raw(owner.st_gid),
            );
            rustix::fs::fchown(file, Some(user), Some(group)).unwrap_or_default();
        }
        if !mode.is_empty() {
            rustix::fs::fchmod(file, mode).unwrap_or_default();
        }
    }
}

fn look(path: &Path, follow: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    rustix::fs::open(path, flags, Mode::empty())
}

fn check(path: &Path, mode: i32) -> rustix::io::Result<()> {
    let access = rustix::fs::Access::from_bits_truncate(mode.cast_unsigned());
    rustix::fs::accessat(CWD, path, access, AtFlags::empty())
}

fn sync_folder(path: &Path) -> rustix::io::Result<()> {
    let folder = path.parent().ok_or(rustix::io::Errno::INVAL)?;
    let folder = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::fsync(folder.as_fd())
}

#[cfg(test)]
mod tests {
    use stockade_policies::{PolicyStore, Principal, Source, SourceKind, Stock};

    use super::*;

    #[test]
    fn a_path_that_is_not_resolved_is_nobodys() {
        for path in [
            "/lent/../etc/passwd",
            "/lent//a.db",
            "/lent/./a.db",
            "/lent/a.db/",
            "../a.db",
        ] {
            assert!(!is_resolved(Path::new(path)), "{path}");
        }
        for path in ["/lent/a.db", "/", "lent/a.db", "/lent/..a", "/lent/.hidden"] {
            assert!(is_resolved(Path::new(path)), "{path}");
        }
    }

    fn rule(database: Option<&str>, more: &str) -> Option<Rule> {
        let source = Source {
            name: "more.cedar".to_owned(),
            text: more.to_owned(),
            kind: SourceKind::Policies,
        };
        let sources: &[Source] = if more.is_empty() { &[] } else { &[source] };
        let policies = PolicyStore::load(sources, Stock::With).unwrap();
        let plan = policies.plan(&Principal::profile("untrusted")).unwrap();
        Rule::new(database.map(Path::new), &plan)
    }

    #[test]
    fn a_guest_has_its_database_and_what_stands_beside_it() {
        let rule = rule(Some("/data/own.db"), "").unwrap();
        for (path, role) in [
            ("/data/own.db", Role::Own),
            ("/data/own.db-journal", Role::Beside),
            ("/data/own.db-wal", Role::Beside),
            ("/data/own.db-shm", Role::Beside),
            ("/data", Role::OnTheWay),
            ("/", Role::OnTheWay),
            ("/data/own.db-journal2", Role::Foreign),
            ("/data/own.db-wal-wal", Role::Foreign),
            ("/data/own.dbx", Role::Foreign),
            ("/data/own", Role::Foreign),
            ("/data/other.db", Role::Foreign),
            ("/data/other.db-wal", Role::Foreign),
            ("-wal", Role::Foreign),
            ("", Role::Foreign),
        ] {
            assert_eq!(rule.role(Path::new(path)), role, "{path}");
        }
    }

    #[test]
    fn a_guest_without_a_database_has_nothing_beside_it() {
        assert!(rule(None, "").is_none());
        let nobody = Rule {
            database: None,
            plan: None,
        };
        for path in ["-journal", "/x-wal", "/", ""] {
            assert_eq!(nobody.role(Path::new(path)), Role::Foreign, "{path}");
        }
    }

    #[test]
    fn rules_differ_by_their_database_and_by_what_they_attach() {
        let lends =
            "@id(\"any\") permit (principal in Profile::\"untrusted\", action == Action::\"attach\", resource);";
        let rules = [("/a", ""), ("/b", ""), ("/a", lends)].map(|(own, more)| rule(Some(own), more).unwrap());
        for (one, first) in rules.iter().enumerate() {
            for (other, second) in rules.iter().enumerate() {
                assert_eq!(first.is_same(second), one == other, "{one} {other}");
            }
        }
    }

    #[test]
    fn the_plan_decides_about_other_files() {
        let rule = rule(
            Some("/data/own.db"),
            "@id(\"one\") permit (principal in Profile::\"untrusted\", action == Action::\"attach\", \
             resource == Path::\"/lent/one.db\");",
        )
        .unwrap();
        for (path, role) in [
            ("/lent/one.db", Role::Attached),
            ("/lent/one.db-wal", Role::BesideAttached),
            // To be looked at, not to be opened.
            ("/lent/two.db", Role::OnTheWay),
            ("/etc/passwd", Role::OnTheWay),
        ] {
            assert_eq!(rule.role(Path::new(path)), role, "{path}");
        }
    }

    #[test]
    fn what_is_not_the_guests_is_neither_opened_nor_removed_nor_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("other.db");
        std::fs::write(&path, "theirs").unwrap();
        let rule = rule(Some("/data/own.db"), "").unwrap();
        for what in [
            What::Open { flags: 0, mode: 0 },
            What::Remove,
            What::Check { mode: 0 },
            What::Check { mode: 2 },
            What::Look { follow: true },
            What::ReadLink,
            What::SyncFolder,
        ] {
            let (answer, file) = rule.grant(&Wish {
                path: path.clone(),
                what,
            });
            assert!(
                answer.refused && answer.errno != 0 && file.is_none(),
                "{what:?}: {answer:?}"
            );
        }
        assert!(path.exists());
    }

    /// A database that may be attached, and what asks the porter about a file beside it.
    fn lent(version: u8) -> (tempfile::TempDir, PathBuf, impl Fn(&str, What) -> i32) {
        let folder = tempfile::tempdir().unwrap();
        let lent = folder.path().canonicalize().unwrap().join("lent.db");
        let mut header = b"SQLite format 3\0\x10\0".to_vec();
        header.extend([version, version]);
        std::fs::write(&lent, header).unwrap();
        let permit = format!(
            "@id(\"one\") permit (principal in Profile::\"untrusted\", action == Action::\"attach\", \
             resource == Path::\"{}\");",
            lent.display()
        );
        let rule = rule(Some("/data/own.db"), &permit).unwrap();
        let base = lent.clone();
        let ask = move |ending: &str, what| {
            let path = PathBuf::from(format!("{}{ending}", base.display()));
            rule.grant(&Wish { path, what }).0.errno
        };
        (folder, lent, ask)
    }

    fn open_with(flags: OFlags) -> What {
        What::Open {
            flags: flags.bits().cast_signed(),
            mode: 0o644,
        }
    }

    #[test]
    fn what_stands_beside_an_attached_file_is_only_read() {
        for version in [1, 2] {
            let (_folder, lent, ask) = lent(version);
            for ending in BESIDE {
                let beside = format!("{}{ending}", lent.display());
                std::fs::write(&beside, "theirs").unwrap();
                assert_eq!(ask(ending, open_with(OFlags::RDONLY)), 0);
                for flags in [
                    OFlags::RDWR,
                    OFlags::WRONLY,
                    OFlags::RDWR | OFlags::CREATE,
                    OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
                ] {
                    assert_eq!(ask(ending, open_with(flags)), libc::EACCES, "{ending} {flags:?}");
                }
                assert_eq!(ask(ending, What::Remove), libc::EACCES);
                assert_eq!(std::fs::read(&beside).unwrap(), b"theirs");
            }
        }
    }

    #[test]
    fn beside_an_attached_file_only_what_readers_need_is_made_and_empty() {
        for (version, made) in [(1, [false; 3]), (2, [false, true, true])] {
            let (_folder, lent, ask) = lent(version);
            for (ending, is_made) in BESIDE.into_iter().zip(made) {
                assert_eq!(ask(ending, open_with(OFlags::RDONLY | OFlags::CREATE)), libc::ENOENT);
                assert_eq!(ask(ending, open_with(OFlags::RDWR | OFlags::CREATE)), libc::EACCES);
                let length = std::fs::metadata(format!("{}{ending}", lent.display())).map(|file| file.len());
                assert_eq!(length.ok(), is_made.then_some(0), "{ending}");
            }
        }
    }

    #[test]
    fn a_database_is_never_made_nor_followed_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().canonicalize().unwrap().join("own.db");
        let rule = rule(own.to_str(), "").unwrap();
        let open = What::Open {
            flags: (OFlags::RDWR | OFlags::CREATE).bits().cast_signed(),
            mode: 0o644,
        };
        let grant = |what| {
            rule.grant(&Wish {
                path: own.clone(),
                what,
            })
            .0
            .errno
        };
        assert_eq!(grant(open), libc::ENOENT);
        assert!(!own.exists());
        std::os::unix::fs::symlink("/etc/passwd", &own).unwrap();
        assert_eq!(grant(open), libc::ELOOP);
        std::fs::remove_file(&own).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(grant(open), 0);
        assert_eq!(grant(What::Remove), libc::EACCES);
        assert!(own.exists());
    }
}
