//! Compiled modules that are kept from one command to the next.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::folder::{Folder, Ran, on_a_small_file_system};

/// A folder with a module in it that answers 42.
fn folder() -> Folder {
    let folder = Folder::new();
    let text = "(module (func (export \"run\") (result i32) (i32.const 42)))";
    fs::write(folder.path("answer.wat"), text).unwrap();
    folder
}

const RUN: [&str; 4] = ["run", "answer.wat", "--module-cache", "kept"];

/// Whether it answered, and what it said of the cache.
#[track_caller]
fn answered(ran: &Ran) -> &str {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "42\n"), "{ran:?}");
    let line = ran.stderr.lines().last().unwrap();
    line.strip_prefix("module cache: ").unwrap()
}

/// The files in a folder that are modules', and those that are not.
fn files(folder: &Folder) -> (usize, Vec<String>) {
    let names = fs::read_dir(folder.path("kept")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (modules, others): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".module"));
    (modules.len(), others)
}

#[test]
fn what_one_command_compiled_the_next_one_loads() {
    let folder = folder();
    assert_eq!(answered(&folder.run(&RUN)), "miss");
    assert_eq!(answered(&folder.run(&RUN)), "hit");
    let in_process: Vec<&str> = RUN.into_iter().chain(["--in-process"]).collect();
    assert_eq!(answered(&folder.run(&in_process)), "hit");
    for (more, said) in [(&RUN[..], "\"hit\""), (&RUN[..2], "null")] {
        let arguments: Vec<&str> = more.iter().copied().chain(["--format", "json"]).collect();
        let ran = folder.run(&arguments);
        assert!(ran.stdout.contains(&format!("\"module_cache\":{said}")), "{ran:?}");
    }
}

#[test]
fn a_folder_for_everybody_is_an_error_that_says_what_to_do() {
    let folder = folder();
    fs::create_dir(folder.path("kept")).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(folder.path("kept"), everybody).unwrap();
    let ran = folder.run(&RUN);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(
        ran.stderr.contains("`kept`: others may write to it; `chmod go-w`"),
        "{ran:?}"
    );
}

fn started(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Each makes the folder, the key and the module if nobody has, and some are killed on the way.
#[test]
fn many_processes_share_a_folder_and_some_are_killed() {
    let folder = folder();
    let mut honest: Vec<Child> = (0..6).map(|_| started(folder.command(&RUN))).collect();
    for after in [5, 20, 40, 60, 80, 100, 120, 140] {
        let mut killed = started(folder.command(&RUN));
        thread::sleep(Duration::from_millis(after));
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    for run in &mut honest {
        assert!(run.wait().unwrap().success());
    }
    assert_eq!(answered(&folder.run(&RUN)), "hit");
    let (modules, others) = files(&folder);
    assert_eq!(modules, 1);
    let is_known = |name: &String| name == "key" || name.starts_with("unfinished-");
    assert!(others.iter().all(is_known), "{others:?}");
}

#[test]
fn a_full_disk_keeps_nothing_and_fails_no_guest() {
    let folder = folder();
    let ran = on_a_small_file_system(
        &folder,
        "head -c 300000 /dev/zero > small/fill
         mkdir -m 700 small/kept
         $0 run answer.wat --module-cache small/kept; echo \"exit code $?\"",
    );
    assert_eq!(ran.stdout, "42\nexit code 0\n", "{ran:?}");
    assert!(ran.stderr.contains("module cache: miss\n"), "{ran:?}");
    assert_eq!(
        ran.stderr.matches("No space left on device").count(),
        1 + 1,
        "of `head`, and once: {ran:?}"
    );
}

#[test]
fn a_folder_that_may_only_be_read_is_read() {
    let folder = folder();
    let other = "(module (func (export \"run\") (result i32) (i32.const 43)))";
    fs::write(folder.path("other.wat"), other).unwrap();
    let ran = on_a_small_file_system(
        &folder,
        "$0 run answer.wat --module-cache small/kept && mount -o remount,bind,ro none small
         $0 run answer.wat --module-cache small/kept; echo \"exit code $?\"
         $0 run other.wat --module-cache small/kept; echo \"exit code $?\"",
    );
    assert_eq!(ran.stdout, "42\n42\nexit code 0\n43\nexit code 0\n", "{ran:?}");
    let said: Vec<&str> = ran
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("module cache: "))
        .collect();
    let read_only = "not used to the full: Read-only file system (os error 30)";
    assert_eq!(said, ["miss", "hit", "miss", read_only], "{ran:?}");
}
