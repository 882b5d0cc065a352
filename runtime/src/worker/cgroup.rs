//! Control groups: the kernel bounds the memory and the processes of a worker, from outside it.
//!
//! Each worker has a group of its own, beside or below its supervisor's, of version 1 or 2, whatever this machine gives.
//! Where it gives none, resource limits and the supervisor's own looks remain. A supervisor that was killed cannot take its
//! groups away: the next one does.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What the names of groups begin with; the supervisor's process id and a number follow.
const OURS: &str = "stockade-";

/// What a group may hold beyond what the supervisor kills a worker for, in bytes: page tables and the like count here,
/// and not there.
const BEYOND_RESIDENT: u64 = 16 << 20;

/// A group whose most was no further below its limit, in bytes, had met it: what did not fit is not counted.
const LARGEST_PIECE: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Processes,
}

impl Controller {
    /// The kernel's word.
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "pids",
        }
    }

    /// The file that only a group has which this controller is in force in.
    const fn file(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Memory, Version::One) => "memory.limit_in_bytes",
            (Self::Memory, Version::Two) => "memory.max",
            (Self::Processes, _) => "pids.max",
        }
    }
}

/// A group: one of ours, or the one that ours are made in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    version: Version,
    path: PathBuf,
}

/// Where groups can be made, or why they cannot.
struct Grounds {
    memory: Result<Folder, String>,
    processes: Result<Folder, String>,
}

/// The grounds of this process. What supervisors that are gone left there is taken away first.
fn grounds() -> &'static Grounds {
    static GROUNDS: OnceLock<Grounds> = OnceLock::new();
    GROUNDS.get_or_init(|| {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let (mounts, groups) = (read("mountinfo"), read("cgroup"));
        let ground = |controller| ground(controller, candidates(&mounts, &groups, controller));
        Grounds {
            memory: ground(Controller::Memory),
            processes: ground(Controller::Processes),
        }
    })
}

/// What is in force around every worker of this process, in words.
pub(super) fn in_force() -> String {
    grounds().in_words()
}

impl Grounds {
    fn in_words(&self) -> String {
        let found = [("memory", &self.memory), ("processes", &self.processes)];
        let words = found.map(|(what, ground)| match ground {
            Ok(folder) => format!("{what} by cgroup v{}", folder.version.number()),
            Err(reason) => format!("no cgroup for {what}: {reason}"),
        });
        match (&self.memory, &self.processes) {
            (Ok(memory), Ok(processes)) if memory.version == processes.version => {
                format!("cgroup v{}: memory, processes", memory.version.number())
            }
            (Err(reason), Err(other)) if reason == other => {
                format!("no cgroup: {reason}; memory is looked at every 5 ms, and processes are not counted")
            }
            _ => words.join("; "),
        }
    }
}

impl Version {
    const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// Folders in which groups with this controller might be made, the best first.
///
/// In version 2 only groups without processes give controllers to others below them
/// (<https://docs.kernel.org/admin-guide/cgroup-v2.html#no-internal-process-constraint>). The supervisor's own has one, so
/// unless that is the root, workers can only be beside it.
fn candidates(mounts: &str, groups: &str, controller: Controller) -> Vec<Folder> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else {
            continue;
        };
        let version = match controllers {
            "" => Version::Two,
            some if some.split(',').any(|name| name == controller.name()) => Version::One,
            _ => continue,
        };
        let Some((top, path)) = mounts.lines().find_map(|mount| below(mount, version, controller, own)) else {
            continue;
        };
        let beside = path.parent().filter(|_| path != top).map(Path::to_owned);
        found.push(Folder { version, path });
        if version == Version::Two {
            found.extend(beside.map(|path| Folder { version, path }));
        }
    }
    found
}

/// The folder of group `own`, and the top of its tree, where this line of `mountinfo` is where that is mounted: "36 35 98:0
/// /root /mount/point options - type source options" — <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>
fn below(mount: &str, version: Version, controller: Controller, own: &str) -> Option<(PathBuf, PathBuf)> {
    let (place, what) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut what = what.split(' ');
    let is_it = match (version, what.next()?) {
        (Version::One, "cgroup") => what.nth(1)?.split(',').any(|option| option == controller.name()),
        (Version::Two, "cgroup2") => true,
        _ => false,
    };
    let inside = Path::new(own).strip_prefix(root).ok()?;
    is_it.then(|| {
        (
            PathBuf::from(point),
            Path::new(point).join(inside).components().collect(),
        )
    })
}

/// The first folder in which a group with this controller could be made.
fn ground(controller: Controller, candidates: Vec<Folder>) -> Result<Folder, String> {
    let mut reasons = Vec::new();
    for folder in candidates {
        take_away_orphans(&folder.path);
        match folder.try_out(controller) {
            Ok(()) => return Ok(folder),
            Err(reason) => reasons.push(format!("{} ({})", reason, folder.path.display())),
        }
    }
    if reasons.is_empty() {
        reasons.push("the kernel has none mounted for it".to_owned());
    }
    Err(reasons.join(", "))
}

impl Folder {
    /// Makes a group here, for a moment, and looks whether the controller is in force in it.
    fn try_out(&self, controller: Controller) -> Result<(), String> {
        if self.version == Version::Two {
            let offered = self.read("cgroup.controllers");
            if !offered.split_ascii_whitespace().any(|name| name == controller.name()) {
                return Err(format!("`{}` is not offered", controller.name()));
            }
        }
        let group = self.make(&fresh_name()).map_err(|error| error.to_string())?;
        let has_it = if group.has(controller) {
            Ok(())
        } else {
            self.write("cgroup.subtree_control", &format!("+{}", controller.name()))
                .map_err(|error| error.to_string())
        };
        let has_it = has_it.and_then(|()| {
            let missing = || format!("`{}` is not there", controller.file(self.version));
            group.has(controller).then_some(()).ok_or_else(missing)
        });
        group.take_away();
        has_it
    }

    fn make(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        Ok(Self { path, ..*self })
    }

    fn has(&self, controller: Controller) -> bool {
        self.path.join(controller.file(self.version)).exists()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    /// Writes to a file that the kernel made: nothing else is ever made here.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        File::options()
            .write(true)
            .open(self.path.join(file))?
            .write_all(text.as_bytes())
    }

    /// As [`Folder::write`], where the kernel has such a file.
    fn write_if_there(&self, file: &str, text: &str) -> io::Result<()> {
        match self.write(file, text) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }

    fn number(&self, file: &str) -> u64 {
        self.read(file).trim().parse().unwrap_or(0)
    }

    /// The number behind a word, in a file of words and numbers.
    fn count(&self, file: &str, word: &str) -> u64 {
        let text = self.read(file);
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix(word)?.trim().parse().ok());
        count.unwrap_or(0)
    }

    /// A process that was waited for may be counted here for a moment longer.
    fn take_away(&self) {
        for _ in 0..50 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
}

fn fresh_name() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    format!("{OURS}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// Takes away groups whose supervisor is gone. One with a process in it stays: the kernel removes no such group.
fn take_away_orphans(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let supervisor = name
            .to_str()
            .and_then(|name| name.strip_prefix(OURS)?.split_once('-'))
            .and_then(|(supervisor, _)| supervisor.parse::<u32>().ok());
        if supervisor.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            fs::remove_dir(entry.path()).unwrap_or_default();
        }
    }
}

/// What a group may hold; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Most {
    /// Resident memory, in bytes.
    pub(super) resident: Option<u64>,
    /// Processes, and threads, which the kernel counts with them.
    pub(super) processes: Option<u32>,
}

/// The group of one worker. Dropping it takes it away; its processes must have ended.
#[derive(Debug, Default)]
pub(super) struct Group {
    memory: Option<Folder>,
    processes: Option<Folder>,
    most: Most,
}

impl Group {
    /// A new group with what this machine gives, perhaps nothing.
    ///
    /// # Errors
    /// Where it gave one before, and does not now: what was said to be in force must be.
    pub(super) fn new() -> io::Result<Self> {
        let Grounds { memory, processes } = grounds();
        Self::within(memory.as_ref().ok(), processes.as_ref().ok()).map_err(|error| {
            let reason = format!("{error}; no cgroup can be made for it any more");
            io::Error::new(error.kind(), reason)
        })
    }

    fn within(memory: Option<&Folder>, processes: Option<&Folder>) -> io::Result<Self> {
        let name = fresh_name();
        let mut group = Self::default();
        if let Some(ground) = memory {
            let made = group.memory.insert(ground.make(&name)?);
            if ground.version == Version::Two {
                made.write_if_there("memory.swap.max", "0")?;
            }
        }
        group.processes = match (processes, &group.memory) {
            (Some(ground), Some(made)) if made.path.parent() == Some(&ground.path) => Some(made.clone()),
            (Some(ground), _) => Some(ground.make(&name)?),
            (None, _) => None,
        };
        Ok(group)
    }

    /// Puts a process in, for good.
    pub(super) fn admit(&self, process: u32) -> io::Result<()> {
        [&self.memory, &self.processes]
            .into_iter()
            .flatten()
            .try_for_each(|folder| folder.write("cgroup.procs", &process.to_string()))
    }

    /// Sets what the group may hold from now on.
    pub(super) fn limit(&mut self, most: Most) -> io::Result<()> {
        if let Some(folder) = self.memory.as_ref().filter(|_| most.resident != self.most.resident) {
            limit_memory(folder, group_bytes(self.most), group_bytes(most))?;
        }
        if let Some(folder) = self
            .processes
            .as_ref()
            .filter(|_| most.processes != self.most.processes)
        {
            let text = most.processes.map_or("max".to_owned(), |most| most.to_string());
            folder.write("pids.max", &text)?;
        }
        self.most = most;
        Ok(())
    }

    /// Whether the kernel killed a process of this group because the group, and not the machine, was full.
    pub(super) fn is_out_of_memory(&self) -> bool {
        let (Some(folder), Some(most)) = (&self.memory, group_bytes(self.most)) else {
            return false;
        };
        match folder.version {
            Version::One => {
                let has_met_it = self.peak_bytes().saturating_add(LARGEST_PIECE) >= most;
                has_met_it && folder.count("memory.oom_control", "oom_kill ") > 0
            }
            Version::Two => ["oom ", "oom_kill "]
                .into_iter()
                .all(|event| folder.count("memory.events", event) > 0),
        }
    }

    /// The most bytes that were counted in the group; 0 where the kernel does not say.
    pub(super) fn peak_bytes(&self) -> u64 {
        const PEAKS: [&str; 3] = [
            "memory.max_usage_in_bytes",
            "memory.memsw.max_usage_in_bytes",
            "memory.peak",
        ];
        let Some(folder) = &self.memory else {
            return 0;
        };
        PEAKS.into_iter().map(|file| folder.number(file)).max().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in [&self.memory, &self.processes].into_iter().flatten() {
            folder.take_away();
        }
    }
}

fn group_bytes(most: Most) -> Option<u64> {
    most.resident.map(|bytes| bytes.saturating_add(BEYOND_RESIDENT))
}

fn limit_memory(folder: &Folder, before: Option<u64>, most: Option<u64>) -> io::Result<()> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    match folder.version {
        Version::Two => folder.write("memory.max", &most.map_or("max".to_owned(), |most| most.to_string())),
        Version::One => {
            let text = most.map_or("-1".to_owned(), |most| most.to_string());
            let is_raised = most.unwrap_or(u64::MAX) > before.unwrap_or(u64::MAX);
            // Memory alone may never be more than with swap.
            if is_raised {
                folder.write_if_there(WITH_SWAP, &text)?;
                folder.write(MEMORY, &text)?;
            } else {
                folder.write(MEMORY, &text)?;
                folder.write_if_there(WITH_SWAP, &text)?;
            }
            folder.write_if_there("memory.max_usage_in_bytes", "0")?;
            folder.write_if_there("memory.memsw.max_usage_in_bytes", "0")
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const MOUNTS: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          40 31 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                          41 31 0:38 /docker/c1 /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn paths(groups: &str, controller: Controller) -> Vec<(Version, String)> {
        let found = candidates(MOUNTS, groups, controller).into_iter();
        found
            .map(|folder| (folder.version, folder.path.display().to_string()))
            .collect()
    }

    #[test]
    fn a_group_is_looked_for_below_ones_own_and_in_version_two_beside_it() {
        let groups = "8:pids:/\n4:cpu,memory:/a/b\n0::/docker/c1/main\n";
        let beside = [
            (Version::Two, "/sys/fs/cgroup/unified/main".to_owned()),
            (Version::Two, "/sys/fs/cgroup/unified".to_owned()),
        ];
        let mut expected = vec![(Version::One, "/sys/fs/cgroup/memory/a/b".to_owned())];
        expected.extend(beside.clone());
        assert_eq!(paths(groups, Controller::Memory), expected);
        expected[0] = (Version::One, "/sys/fs/cgroup/pids".to_owned());
        assert_eq!(paths(groups, Controller::Processes), expected);
        // What is mounted has nothing above its root, and does not show what is elsewhere.
        let top = (Version::Two, "/sys/fs/cgroup/unified".to_owned());
        assert_eq!(paths("0::/docker/c1\n", Controller::Memory), [top]);
        assert_eq!(paths("0::/docker/c2\n", Controller::Memory), []);
        assert_eq!(paths("nonsense\n", Controller::Memory), []);
    }

    /// A folder with these files, as the kernel would make it.
    fn folder(version: Version, files: &[(&str, &str)]) -> (TempDir, Folder) {
        let made = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(made.path().join(name), text).unwrap();
        }
        let path = made.path().to_owned();
        (made, Folder { version, path })
    }

    fn group(folder: &Folder) -> Group {
        Group {
            memory: Some(folder.clone()),
            processes: Some(folder.clone()),
            most: Most::default(),
        }
    }

    const MOST: Most = Most {
        resident: Some(100 << 20),
        processes: Some(8),
    };

    #[test]
    fn limits_of_version_two_are_written_and_lifted() {
        let files = ["memory.max", "pids.max", "cgroup.procs"].map(|file| (file, ""));
        let (_made, folder) = folder(Version::Two, &files);
        let mut group = group(&folder);
        group.limit(MOST).unwrap();
        assert_eq!(folder.read("memory.max"), (116 << 20).to_string());
        assert_eq!(folder.read("pids.max"), "8");
        group.admit(42).unwrap();
        assert_eq!(folder.read("cgroup.procs"), "42");
        // A file of the kernel's takes each write as a whole; one of the disk keeps what a shorter one leaves.
        for file in ["memory.max", "pids.max"] {
            fs::write(folder.path.join(file), "").unwrap();
        }
        group.limit(Most::default()).unwrap();
        assert_eq!(folder.read("memory.max"), "max");
        assert_eq!(folder.read("pids.max"), "max");
    }

    #[test]
    fn a_limit_that_cannot_be_set_is_an_error() {
        let (_made, folder) = folder(Version::Two, &[("pids.max", "")]);
        assert!(group(&folder).limit(MOST).is_err());
        assert!(!folder.path.join("memory.max").exists());
    }

    #[test]
    fn only_a_kill_for_the_groups_own_limit_is_out_of_memory() {
        let limit = (116_u64 << 20).to_string();
        let files = |kills, peak| [("memory.oom_control", kills), ("memory.max_usage_in_bytes", peak)];
        for (version, files, expected) in [
            (Version::One, files("under_oom 0\noom_kill 1\n", &limit), true),
            (Version::One, files("under_oom 0\noom_kill 0\n", &limit), false),
            // The machine was full, and the kernel took this one.
            (Version::One, files("under_oom 0\noom_kill 1\n", "1000"), false),
            (
                Version::Two,
                [("memory.events", "max 3\noom 1\noom_kill 1\n"), ("x", "")],
                true,
            ),
            (
                Version::Two,
                [("memory.events", "max 3\noom 0\noom_kill 1\n"), ("x", "")],
                false,
            ),
            (
                Version::Two,
                [("memory.events", "max 3\noom 1\noom_kill 0\n"), ("x", "")],
                false,
            ),
            (Version::Two, [("y", ""), ("x", "")], false),
        ] {
            let (_made, folder) = folder(version, &files);
            let mut group = group(&folder);
            group.most = MOST;
            assert_eq!(group.is_out_of_memory(), expected, "{files:?}");
        }
    }

    #[test]
    fn a_folder_without_the_controller_is_no_ground_and_says_why() {
        let (_made, bare) = folder(Version::Two, &[("cgroup.controllers", "cpu io\n")]);
        let reason = ground(Controller::Memory, vec![bare.clone()]).unwrap_err();
        assert!(reason.contains("`memory` is not offered"), "{reason}");
        // Offered, and refused: nothing appears in a group below.
        let files = [("cgroup.controllers", "memory pids\n"), ("cgroup.subtree_control", "")];
        let (_made, busy) = folder(Version::Two, &files);
        let reason = ground(Controller::Memory, vec![bare, busy.clone()]).unwrap_err();
        assert!(reason.contains("`memory.max` is not there"), "{reason}");
        assert_eq!(busy.read("cgroup.subtree_control"), "+memory");
        assert_eq!(fs::read_dir(&busy.path).unwrap().count(), 2);
        assert!(ground(Controller::Memory, Vec::new()).is_err());
    }

    #[test]
    fn only_groups_of_supervisors_that_are_gone_are_taken_away() {
        let folder = TempDir::new().unwrap();
        // No process has a number this high.
        let orphan = format!("{OURS}4194305-0");
        let ours = format!("{OURS}{}-0", std::process::id());
        let kept = [ours.as_str(), "stockade-4194305", "stockade-x-0", "other-4194305-0"];
        for name in kept.into_iter().chain([orphan.as_str()]) {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        take_away_orphans(folder.path());
        assert!(!folder.path().join(orphan).exists());
        for name in kept {
            assert!(folder.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn what_is_in_force_is_said_in_words() {
        let folder = |version| Folder {
            version,
            path: PathBuf::from("/x"),
        };
        let words = |memory, processes| Grounds { memory, processes }.in_words();
        let (one, two) = (Ok(folder(Version::One)), Ok(folder(Version::Two)));
        let none = Err("why".to_owned());
        assert_eq!(words(one.clone(), one.clone()), "cgroup v1: memory, processes");
        assert_eq!(words(one.clone(), two), "memory by cgroup v1; processes by cgroup v2");
        assert_eq!(
            words(one, none.clone()),
            "memory by cgroup v1; no cgroup for processes: why"
        );
        assert!(words(none.clone(), none).starts_with("no cgroup: why; "));
    }
}
