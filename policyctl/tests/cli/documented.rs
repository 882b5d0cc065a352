//! Every `policyctl` command in the README and the book, run as it stands there.
//!
//! In a block marked `console`, a line that starts with `$ ` is a command, and what follows is what it prints: standard
//! output, then standard error. `[..]` stands for anything on a line: times, and what a machine names. A last line
//! `? 1` is the exit code, 0 where there is none. Commands run in a folder that has `policies/` in it and what the
//! blocks marked with a file's name put there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::folder::Folder;

#[derive(Debug)]
struct Shown {
    page: PathBuf,
    line: usize,
    command: String,
    prints: Vec<String>,
    code: i32,
}

#[test]
fn documented_commands_print_what_is_shown() {
    let mut pages = vec![repository().join("README.md")];
    pages.extend(
        fs::read_dir(repository().join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let mut played = 0;
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|kind| kind == "md"))
    {
        let text = fs::read_to_string(page).unwrap();
        let folder = stage(&text);
        for shown in commands(page, &text) {
            play(&shown, &folder);
            played += 1;
        }
    }
    assert!(played > 5, "only {played} commands are documented");
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder as the reader has it: the repository's policies, and the files that the page shows.
fn stage(text: &str) -> Folder {
    let folder = Folder::new();
    copy(
        &repository().join("policies/examples"),
        &folder.path("policies/examples"),
    );
    for (name, body) in blocks(text).filter_map(|(_, info, body)| Some((info.split_once(" file=")?.1.to_owned(), body)))
    {
        fs::write(folder.path(&name), body.join("\n") + "\n").unwrap();
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Fenced blocks: the line they start at, what stands behind the fence, and their lines.
fn blocks(text: &str) -> impl Iterator<Item = (usize, &str, Vec<&str>)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (start, fence) = lines.find(|(_, line)| line.starts_with("```"))?;
        let body = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        Some((start + 2, fence.trim_start_matches('`'), body))
    })
}

fn commands(page: &Path, text: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for (start, _, body) in blocks(text).filter(|(_, info, _)| *info == "console") {
        for (offset, line) in body.into_iter().enumerate() {
            if let Some(command) = line.strip_prefix("$ ") {
                found.push(Shown {
                    page: page.to_owned(),
                    line: start + offset,
                    command: command.to_owned(),
                    prints: Vec::new(),
                    code: 0,
                });
            } else if let Some(code) = line.strip_prefix("? ") {
                found.last_mut().unwrap().code = code.parse().unwrap();
            } else {
                found
                    .last_mut()
                    .expect("a block marked `console` starts with a command")
                    .prints
                    .push(line.to_owned());
            }
        }
    }
    found
}

fn play(shown: &Shown, folder: &Folder) {
    let place = format!("{}:{}: {}", shown.page.display(), shown.line, shown.command);
    // Through a shell, because readers have one: pipes and quotes mean what they mean to them.
    let program = Path::new(env!("CARGO_BIN_EXE_policyctl")).parent().unwrap();
    #[expect(clippy::disallowed_methods, reason = "documented commands are shell commands")]
    let output = std::process::Command::new("sh")
        .args(["-c", &shown.command])
        .current_dir(folder.path("."))
        .env(
            "PATH",
            format!("{}:{}", program.display(), std::env::var("PATH").unwrap()),
        )
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    let wanted: Vec<&str> = shown.prints.iter().map(|line| line.trim_end()).collect();
    let wanted = wanted.strip_suffix(&[""]).unwrap_or(&wanted);
    assert_eq!(output.status.code(), Some(shown.code), "{place}\n{printed}");
    let matches = lines.len() == wanted.len() && lines.iter().zip(wanted).all(|(line, pattern)| fits(line, pattern));
    assert!(
        matches,
        "{place}\nshown:\n{}\nprinted:\n{}",
        wanted.join("\n"),
        lines.join("\n")
    );
}

/// Whether `line` is `pattern` with something for each `[..]`.
fn fits(line: &str, pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once("[..]") else {
        return line == pattern;
    };
    let Some(rest) = line.strip_prefix(before) else {
        return false;
    };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(rest, after)))
}

#[test]
fn a_page_that_shows_something_else_is_noticed() {
    assert!(fits("completed after 1.2 ms", "completed after [..] ms"));
    assert!(fits("abc", "[..]"));
    assert!(!fits("completed after 1.2 ms", "truncated after [..] ms"));
    assert!(!fits("completed after 1.2 ms: x", "completed after [..] ms"));
    let text = "```console\n$ policyctl --version\nx\n? 2\n```\n";
    let [shown] = <[Shown; 1]>::try_from(commands(Path::new("page.md"), text)).unwrap();
    assert_eq!(
        (shown.line, shown.command.as_str(), shown.code),
        (2, "policyctl --version", 2)
    );
    assert_eq!(shown.prints, ["x"]);
}

#[test]
fn the_book_shows_the_example_that_is_tested() {
    let page = fs::read_to_string(repository().join("docs/put-a-runtime-to-the-test.md")).unwrap();
    let example = fs::read_to_string(repository().join("conformance/tests/own_runtime.rs")).unwrap();
    let (_, code) = example.split_once("\n\n").unwrap();
    assert!(
        page.contains(code.trim_end()),
        "docs/put-a-runtime-to-the-test.md shows another example"
    );
}
