//! Where cases come from: the corpus in this binary, or files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::case::{Case, CaseError, Modules};
use crate::report::CaseReport;
use crate::suite::Shard;
use crate::variant::variants;

/// `(path below corpora, text)` of every case and fixture.
static EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/corpus.rs"));

/// `(name, bytes)` of every module.
static EMBEDDED_MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Cases, and the fixtures they name.
#[derive(Debug, Clone)]
pub struct Corpus {
    cases: Vec<Case>,
    fixtures: BTreeMap<String, String>,
}

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// Files that are not cases; all of them, not only the first.
    #[error("{}", lines(.0))]
    Cases(Vec<CaseError>),
    /// No case at all: nothing would be tested.
    #[error("there is no case in {0}")]
    Empty(String),
    /// A case names a fixture that is not there.
    #[error("case `{id}` names fixture `{fixture}`, which is not in `fixtures`")]
    UnknownFixture {
        /// The case.
        id: String,
        /// The fixture.
        fixture: String,
    },
    /// A case names a twin that is not there or not benign.
    #[error("case `{id}` names twin `{twin}`, which is no benign case")]
    UnknownTwin {
        /// The case.
        id: String,
        /// The twin.
        twin: String,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither a case of the embedded corpus nor a file.
    #[error("`{name}` is neither a file, a folder nor a case{}", did_you_mean(nearest.as_deref()))]
    UnknownCase {
        /// What was asked for.
        name: String,
        /// A case whose name is near.
        nearest: Option<String>,
    },
}

fn lines(errors: &[CaseError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"))
}

impl Corpus {
    /// The corpus in this binary.
    ///
    /// # Errors
    /// [`CorpusError`] where it does not hold together: a mistake of this build.
    pub fn embedded() -> Result<Self, CorpusError> {
        let (fixtures, cases): (Vec<_>, Vec<_>) = EMBEDDED.iter().partition(|(name, _)| name.starts_with("fixtures/"));
        let fixtures = fixtures
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix("fixtures/")?.to_owned(), (*text).to_owned())))
            .collect();
        let cases = cases
            .iter()
            .filter_map(|(name, text)| Some((name.strip_suffix(".yaml")?, *name, *text)));
        let corpus = Self::parse(cases, fixtures, &embedded_modules())?;
        corpus.checked("the embedded corpus")
    }

    /// The cases that `names` name: ids or folders of the embedded corpus, or files and folders on disk.
    ///
    /// # Errors
    /// [`CorpusError`] for anything that is none of these, or is no case.
    pub fn select(names: &[String]) -> Result<Self, CorpusError> {
        let embedded = Self::embedded()?;
        let mut selected = Self {
            cases: Vec::new(),
            fixtures: embedded.fixtures.clone(),
        };
        for name in names {
            let path = Path::new(name);
            if path.exists() {
                selected.add_files(path)?;
            } else {
                selected.add_embedded(&embedded, name)?;
            }
        }
        selected.cases.sort_by(|one, other| one.id.cmp(&other.id));
        selected.cases.dedup_by(|one, other| one.id == other.id);
        selected.checked(&names.join(", "))
    }

    /// This corpus and `count` variants of each attack in SQL, which follow from `seed`.
    #[must_use]
    pub fn with_variants(mut self, count: u32, seed: u64) -> Self {
        let more: Vec<Case> = self.cases.iter().flat_map(|case| variants(case, count, seed)).collect();
        self.cases.extend(more);
        self.cases.sort_by(|one, other| one.id.cmp(&other.id));
        self
    }

    /// The cases that fall to one shard.
    #[must_use]
    pub fn shard(mut self, shard: Shard) -> Self {
        let mut place = 0..;
        self.cases
            .retain(|_| place.next().is_some_and(|place| shard.has(place)));
        self
    }

    /// The cases without those that are played already.
    #[must_use]
    pub fn without(mut self, played: &[CaseReport]) -> Self {
        let played: BTreeSet<&str> = played.iter().map(|case| case.id.as_str()).collect();
        self.cases.retain(|case| !played.contains(case.id.as_str()));
        self
    }

    /// The cases, by id.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The SQL that builds a fixture.
    #[must_use]
    pub fn fixture(&self, name: &str) -> Option<&str> {
        self.fixtures.get(name).map(String::as_str)
    }

    fn parse<'a>(
        files: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
        fixtures: BTreeMap<String, String>,
        modules: &Modules,
    ) -> Result<Self, CorpusError> {
        let mut cases = Vec::new();
        let mut errors = Vec::new();
        for (id, file, text) in files {
            match Case::parse(id, file, text, modules) {
                Ok(case) => cases.push(case),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(CorpusError::Cases(errors));
        }
        cases.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(Self { cases, fixtures })
    }

    fn add_embedded(&mut self, embedded: &Self, name: &str) -> Result<(), CorpusError> {
        let folder = format!("{}/", name.trim_end_matches('/'));
        let found: Vec<Case> = embedded
            .cases
            .iter()
            .filter(|case| case.id == name || case.id.starts_with(&folder))
            .cloned()
            .collect();
        if found.is_empty() {
            return Err(CorpusError::UnknownCase {
                name: name.to_owned(),
                nearest: embedded.nearest(name),
            });
        }
        self.cases.extend(found);
        Ok(())
    }

    /// The case that shares the most words with `name`.
    fn nearest(&self, name: &str) -> Option<String> {
        let words = |text: &str| -> Vec<String> {
            text.split(|c: char| !c.is_alphanumeric())
                .map(str::to_lowercase)
                .filter(|w| !w.is_empty())
                .collect()
        };
        let wanted = words(name);
        let shared = |case: &&Case| words(&case.id).iter().filter(|word| wanted.contains(word)).count();
        let best = self.cases.iter().max_by_key(shared)?;
        (shared(&best) > 0).then(|| best.id.clone())
    }

    fn add_files(&mut self, path: &Path) -> Result<(), CorpusError> {
        let root = corpus_root(path);
        self.add_fixtures(&root.join("fixtures"))?;
        let mut modules = embedded_modules();
        add_modules(&root.join("modules"), &mut modules)?;
        let mut files = Vec::new();
        find_cases(path, &mut files).map_err(|source| read_error(path, source))?;
        let mut texts = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file).map_err(|source| read_error(&file, source))?;
            let id = file
                .strip_prefix(&root)
                .unwrap_or(&file)
                .with_extension("")
                .display()
                .to_string();
            texts.push((id, file.display().to_string(), text));
        }
        let files = texts
            .iter()
            .map(|(id, file, text)| (id.as_str(), file.as_str(), text.as_str()));
        self.cases.extend(Self::parse(files, BTreeMap::new(), &modules)?.cases);
        Ok(())
    }

    fn add_fixtures(&mut self, folder: &Path) -> Result<(), CorpusError> {
        for path in files_named(folder, "sql") {
            let text = fs::read_to_string(&path).map_err(|source| read_error(&path, source))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.fixtures.insert(name, text);
        }
        Ok(())
    }

    fn checked(self, place: &str) -> Result<Self, CorpusError> {
        if self.cases.is_empty() {
            return Err(CorpusError::Empty(place.to_owned()));
        }
        for case in &self.cases {
            self.check_names(case)?;
        }
        Ok(self)
    }

    fn check_names(&self, case: &Case) -> Result<(), CorpusError> {
        if let Some(fixture) = case.fixture.as_ref().filter(|name| !self.fixtures.contains_key(*name)) {
            return Err(CorpusError::UnknownFixture {
                id: case.id.clone(),
                fixture: fixture.clone(),
            });
        }
        let is_benign = |id: &str| {
            let here = self.cases.iter().any(|other| other.id == id && other.is_benign());
            here || EMBEDDED.iter().any(|(name, _)| name.strip_suffix(".yaml") == Some(id))
        };
        let twin = case.attack().and_then(|attack| attack.twin.as_ref());
        match twin.filter(|twin| !twin.starts_with("benign/") || !is_benign(twin)) {
            None => Ok(()),
            Some(twin) => Err(CorpusError::UnknownTwin {
                id: case.id.clone(),
                twin: twin.clone(),
            }),
        }
    }
}

/// A module of the corpus in this binary.
pub(crate) fn embedded_module(name: &str) -> Option<&'static [u8]> {
    let mut modules = EMBEDDED_MODULES.iter();
    modules.find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

fn embedded_modules() -> Modules {
    let modules = EMBEDDED_MODULES.iter();
    modules
        .map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes)))
        .collect()
}

fn add_modules(folder: &Path, modules: &mut Modules) -> Result<(), CorpusError> {
    for path in files_named(folder, "wasm") {
        let bytes = fs::read(&path).map_err(|source| read_error(&path, source))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        modules.insert(name, Cow::Owned(bytes));
    }
    Ok(())
}

/// The files with this ending. A corpus of one's own need not have the folder: a case that names what is not there is told so.
fn files_named(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == ending))
        .collect()
}

fn read_error(path: &Path, source: io::Error) -> CorpusError {
    CorpusError::Read {
        path: path.to_owned(),
        source,
    }
}

/// The folder that ids are relative to: the nearest one called `corpora`, else the named folder itself.
fn corpus_root(path: &Path) -> PathBuf {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let named = absolute
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "corpora"));
    let fallback = if absolute.is_dir() {
        Some(absolute.as_path())
    } else {
        absolute.parent()
    };
    named.or(fallback).unwrap_or(path).to_owned()
}

fn find_cases(path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    if !path.is_dir() {
        found.push(path);
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.is_dir() {
            find_cases(&entry, found)?;
        } else if entry.extension().is_some_and(|kind| kind == "yaml") {
            found.push(entry);
        }
    }
    Ok(())
}
