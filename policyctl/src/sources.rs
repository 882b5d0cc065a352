//! Policy files from the command line.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stockade_policies::{PolicyStore, Source, SourceKind, Stock};

use crate::arguments::Policies;
use crate::exit::Failure;
use crate::findings;

/// The largest policy file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// What belongs to `NAME.cedar` where it lies beside it: what replaces `.cedar`.
const BESIDE: &[&str] = &["entities.json", "links.json", "cedarschema"];

/// Reads policies, entities, links and schemas, folders of them, and `-`. What lies beside a policy file and belongs to it
/// is read with it.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut files = Files::default();
    for path in paths {
        add(path, &mut files)?;
    }
    let mut sources = Vec::with_capacity(files.named.len());
    for file in files.named {
        sources.push(read_one(&file)?);
    }
    Ok(sources)
}

/// The stock policies and the user's, or what is wrong with them.
pub(crate) fn load(policies: &Policies) -> Result<PolicyStore, Failure> {
    let sources = read(&policies.files)?;
    let store = PolicyStore::load(&sources, stock(policies.no_stock, &sources)).map_err(|error| {
        findings::show(error.findings(), &sources);
        Failure::new("the policies do not load")
    })?;
    findings::show(store.warnings(), &sources);
    Ok(store)
}

/// Whether the stock profiles are loaded beside these files. Their own files are not loaded twice.
pub(crate) fn stock(left_out: bool, sources: &[Source]) -> Stock {
    if left_out {
        Stock::Without
    } else {
        Stock::beside(sources)
    }
}

fn add(path: &Path, files: &mut Files) -> Result<(), Failure> {
    if path.is_dir() {
        return add_folder(path, files);
    }
    files.push(path.to_owned());
    if path.extension().is_some_and(|kind| kind == "cedar") {
        let beside = BESIDE.iter().map(|ending| path.with_extension(ending));
        beside.filter(|path| path.is_file()).for_each(|path| files.push(path));
    }
    Ok(())
}

fn add_folder(folder: &Path, files: &mut Files) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::new(format!("cannot read folder `{}`: {error}", folder.display()));
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if kind_of(&path).is_some() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Failure::new(format!(
            "there is no `.cedar`, `.cedarschema` or `.json` file in `{}`",
            folder.display()
        )));
    }
    found.sort();
    for path in found {
        files.push(path);
    }
    Ok(())
}

/// Each file once, in the order in which they were named.
#[derive(Default)]
struct Files {
    named: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Files {
    fn push(&mut self, path: PathBuf) {
        if self.seen.insert(path.clone()) {
            self.named.push(path);
        }
    }
}

/// What a file holds, by its name.
fn kind_of(path: &Path) -> Option<SourceKind> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(".links.json") {
        return Some(SourceKind::Links);
    }
    match path.extension()?.to_str()? {
        "cedar" => Some(SourceKind::Policies),
        "cedarschema" => Some(SourceKind::Schema),
        "json" => Some(SourceKind::Entities),
        _ => None,
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
    let Some(kind) = kind_of(path) else {
        return Err(Failure::new(format!(
            "`{name}` is none of `.cedar`, `.cedarschema`, `.links.json` and `.json`"
        )));
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
