//! However a replay ends, no process and no file of it is left.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::folder::Folder;
use rustix::process::{Pid, Signal, kill_process};

/// How long the kernel and a janitor may take to clear up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn start_replay(folder: &Folder) -> Child {
    fs::create_dir(folder.path("tmp")).unwrap();
    // Endless loops only: the replay is still busy when it is interrupted.
    fs::write(
        folder.path("spin.yaml"),
        "why: it spins\nsource: [x]\ncwe: [835]\nthreat: time\nprofile: trusted\nexpect: limit.time\n\
         guest: {wat: '(module (func (export \"run\") (loop br 0)))'}\nstopped_by: [deadline, worker]\n\
         twin: benign/sql/arithmetic\ncontrol: {still_running_after_ms: 60000}\n",
    )
    .unwrap();
    folder
        .command(&["replay", "spin.yaml", "--jobs", "2"])
        .env("TMPDIR", folder.path("tmp"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Workers and their porters carry their supervisor's process id, janitors their folder.
fn processes_that_mention(words: &[&str]) -> usize {
    let processes = fs::read_dir("/proc").unwrap();
    let command_lines = processes.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    command_lines
        .filter(|line| {
            let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words
                .iter()
                .all(|word| arguments.iter().any(|argument| argument.starts_with(word.as_bytes())))
        })
        .count()
}

fn leaves_nothing_when_ended_by(signal: Signal) {
    let folder = Folder::new();
    let temporary = folder.path("tmp");
    let mut replay = start_replay(&folder);
    let supervisor = replay.id().to_string();
    let stages = || fs::read_dir(&temporary).unwrap().count();
    let workers = || processes_that_mention(&["__stockade-", &supervisor]);
    let janitors = || processes_that_mention(&["__stockade-janitor", temporary.to_str().unwrap()]);
    wait_until("the replay never began", || {
        stages() > 0 && workers() > 0 && janitors() > 0
    });
    kill_process(Pid::from_child(&replay), signal).unwrap();
    replay.wait().unwrap();
    wait_until("a worker was left behind", || workers() == 0);
    wait_until("a file was left behind", || stages() == 0);
    wait_until("the janitor was left behind", || janitors() == 0);
}

#[test]
fn a_killed_replay_leaves_nothing() {
    leaves_nothing_when_ended_by(Signal::KILL);
}

#[test]
fn a_closed_terminal_leaves_nothing() {
    leaves_nothing_when_ended_by(Signal::HUP);
}

#[test]
fn an_interrupted_replay_leaves_nothing() {
    leaves_nothing_when_ended_by(Signal::INT);
}

#[test]
fn a_finished_replay_leaves_nothing() {
    let folder = Folder::new();
    let temporary = folder.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let status = folder
        .command(&["replay", "benign/sql/arithmetic"])
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    wait_until("a file was left behind", || {
        fs::read_dir(&temporary).unwrap().count() == 0
    });
    let mentions = ["__stockade-janitor", temporary.to_str().unwrap()];
    wait_until("the janitor was left behind", || processes_that_mention(&mentions) == 0);
}
