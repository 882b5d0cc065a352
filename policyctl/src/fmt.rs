//! `policyctl fmt`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use stockade_policies::Source;
use stockade_policies::format::{Edit, FormatError, Formatted, format};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::{findings, sources};

#[derive(Debug, Args)]
pub(crate) struct Fmt {
    /// Policy files (`.cedar`), folders of them, or `-` to lay out standard input on standard output
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Change nothing: show what would be changed, and exit with 1 if anything would be
    #[arg(long)]
    pub check: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Changed lines of one file that people are shown.
const SHOWN: usize = 20;

/// One file and what is to be done about it.
#[derive(Debug, Serialize)]
struct Laid {
    name: String,
    edits: Vec<Edit>,
}

/// Lays policy files out.
pub(crate) fn fmt(arguments: &Fmt) -> Result<Exit, Failure> {
    let is_stdin = arguments.files.iter().any(|file| file == Path::new("-"));
    if is_stdin && arguments.files.len() > 1 {
        return Err(Failure::new("`-` is laid out alone: standard output holds one file"));
    }
    let sources = read(&arguments.files)?;
    let mut failed = 0;
    let mut laid = Vec::new();
    for source in &sources {
        match format(source) {
            Ok(formatted) => {
                if !arguments.check {
                    keep(source, &formatted, is_stdin)?;
                }
                laid.push(Laid {
                    name: source.name.clone(),
                    edits: formatted.edits,
                });
            }
            Err(error) => {
                tell(source, &error)?;
                failed += 1;
            }
        }
    }
    if arguments.check || !is_stdin {
        show(arguments, &laid)?;
    }
    if failed > 0 {
        let what = if failed == 1 { "file is" } else { "files are" };
        return Err(Failure::new(format!("{failed} {what} left as before")));
    }
    let would_change = arguments.check && laid.iter().any(|laid| !laid.edits.is_empty());
    Ok(if would_change { Exit::Findings } else { Exit::Clean })
}

/// The policies among what was named; entities have no layout.
fn read(files: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let is_policies = |path: &Path| path.extension().is_some_and(|kind| kind == "cedar");
    let mut paths: Vec<PathBuf> = Vec::new();
    for file in files {
        if file.is_dir() {
            let unreadable =
                |error: io::Error| Failure::new(format!("cannot read folder `{}`: {error}", file.display()));
            let mut found = Vec::new();
            for entry in fs::read_dir(file).map_err(unreadable)? {
                found.push(entry.map_err(unreadable)?.path());
            }
            found.retain(|path| is_policies(path));
            if found.is_empty() {
                return Err(Failure::new(format!(
                    "there is no `.cedar` file in `{}`",
                    file.display()
                )));
            }
            found.sort();
            paths.extend(found);
        } else if is_policies(file) || file == Path::new("-") {
            paths.push(file.clone());
        } else {
            return Err(Failure::new(format!("`{}` is not a `.cedar` file", file.display())));
        }
    }
    let mut seen = Vec::new();
    paths.retain(|path| {
        !seen.contains(path) && {
            seen.push(path.clone());
            true
        }
    });
    paths.iter().map(|path| sources::read_one(path)).collect()
}

fn keep(source: &Source, formatted: &Formatted, is_stdin: bool) -> Result<(), Failure> {
    if is_stdin {
        io::stdout().write_all(formatted.text.as_bytes())?;
        return Ok(());
    }
    if formatted.edits.is_empty() {
        return Ok(());
    }
    replace(Path::new(&source.name), &formatted.text)
        .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", source.name)))
}

/// Writes a file whole or not at all: what reads it at the same time sees the old text or the new. A link stays a link,
/// and the file keeps its permissions.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let target = fs::canonicalize(path)?;
    let permissions = fs::metadata(&target)?.permissions();
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = target.with_file_name(name);
    let written = fs::File::create_new(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.set_permissions(permissions)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&beside, &target));
    if replaced.is_err() {
        // What cannot be removed either is named by the error that comes back.
        fs::remove_file(&beside).unwrap_or_default();
    }
    replaced
}

fn tell(source: &Source, error: &FormatError) -> Result<(), Failure> {
    match error {
        FormatError::Syntax(found) => findings::show(found, std::slice::from_ref(source)),
        other => writeln!(io::stderr(), "error: {}", one_line(&other.to_string()))?,
    }
    Ok(())
}

fn show(arguments: &Fmt, laid: &[Laid]) -> Result<(), Failure> {
    if arguments.format == Format::Json {
        writeln!(
            io::stdout(),
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({ "files": laid }))?
        )?;
        return Ok(());
    }
    let mut changed = 0;
    for laid in laid.iter().filter(|laid| !laid.edits.is_empty()) {
        changed += 1;
        if arguments.check {
            write!(io::stdout(), "{}", shortly(laid))?;
        } else {
            writeln!(io::stderr(), "laid out `{}`", one_line(&laid.name))?;
        }
    }
    if arguments.check {
        let what = match changed {
            0 => "nothing to change".to_owned(),
            1 => "1 file would be changed".to_owned(),
            count => format!("{count} files would be changed"),
        };
        writeln!(io::stdout(), "{what}")?;
    }
    Ok(())
}

/// The first of the lines that would be changed.
fn shortly(laid: &Laid) -> String {
    let mut lines = Vec::new();
    for edit in &laid.edits {
        lines.push(format!("{}:{}", one_line(&laid.name), edit.line));
        lines.extend(edit.old.iter().map(|line| format!("- {}", shown(line))));
        lines.extend(edit.new.iter().map(|line| format!("+ {}", shown(line))));
    }
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if more > 0 {
        lines.push(format!("… and {more} more lines"));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Spaces as they are; what else cannot be seen as escapes.
fn shown(line: &str) -> String {
    one_line(line.trim_end_matches('\r'))
}
