//! Policy files from the command line.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stockade_policies::{PolicyStore, Source, SourceKind, Stock};

use crate::arguments::Policies;
use crate::exit::Failure;
use crate::findings;

/// The largest policy file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Reads policy and entity files, folders of them, and `-`. The entities beside a policy file are read with it.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        add(path, &mut files)?;
    }
    let mut sources = Vec::with_capacity(files.len());
    for file in files {
        sources.push(read_one(&file)?);
    }
    Ok(sources)
}

/// The stock policies and the user's, or what is wrong with them.
pub(crate) fn load(policies: &Policies) -> Result<PolicyStore, Failure> {
    let sources = read(&policies.files)?;
    let store = PolicyStore::load(&sources, stock(policies.no_stock)).map_err(|error| {
        findings::show(error.findings(), &sources);
        Failure::new("the policies do not load")
    })?;
    findings::show(store.warnings(), &sources);
    Ok(store)
}

pub(crate) fn stock(left_out: bool) -> Stock {
    if left_out { Stock::Without } else { Stock::With }
}

fn add(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if path.is_dir() {
        return add_folder(path, files);
    }
    push_once(files, path.to_owned());
    let beside = path.with_extension("entities.json");
    if path.extension().is_some_and(|kind| kind == "cedar") && beside.is_file() {
        push_once(files, beside);
    }
    Ok(())
}

fn add_folder(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::new(format!("cannot read folder `{}`: {error}", folder.display()));
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|kind| kind == "cedar" || kind == "json") {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Failure::new(format!(
            "there is no `.cedar` or `.json` file in `{}`",
            folder.display()
        )));
    }
    found.sort();
    for path in found {
        push_once(files, path);
    }
    Ok(())
}

fn push_once(files: &mut Vec<PathBuf>, path: PathBuf) {
    if !files.contains(&path) {
        files.push(path);
    }
}

/// Reads one file, or standard input for `-`.
pub(crate) fn read_one(path: &Path) -> Result<Source, Failure> {
    if path == Path::new("-") {
        return Ok(Source {
            name: "<stdin>".to_owned(),
            text: text("standard input", read_limited(io::stdin(), "standard input")?)?,
            kind: SourceKind::Policies,
        });
    }
    let name = path.display().to_string();
    let kind = match path.extension().and_then(|kind| kind.to_str()) {
        Some("cedar") => SourceKind::Policies,
        Some("json") => SourceKind::Entities,
        _ => {
            return Err(Failure::new(format!(
                "`{name}` is neither a `.cedar` nor a `.json` file"
            )));
        }
    };
    let text = read_text(path)?;
    Ok(Source { name, text, kind })
}

/// A file's text.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = fs::File::open(path).map_err(|error| Failure::new(format!("cannot read `{name}`: {error}")))?;
    text(&name, read_limited(file, &name)?)
}

/// Everything up to a limit that no honest policy file meets.
fn read_limited(from: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read `{name}`: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::new(format!("`{name}` is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(bytes)
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("`{name}` is not UTF-8 at byte {at}"))
    })
}
