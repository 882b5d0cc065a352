//! Where a case is played: a database for the guest, and things outside it that it must not reach.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use stockade_runtime::{HostDatabase, Request, RuntimeError};
use tempfile::TempDir;

use crate::case::{Case, Code, Program};
use crate::corpus::Corpus;
use crate::damage::Damage;
use crate::janitor::Swept;

/// A loadable extension whose entry point leaves a mark.
static EXTENSION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/extension.so"));

/// The fixture of the database outside.
const PAYROLL: &str = "payroll.sql";

/// Why a stage cannot be set or looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// A file could not be made or read.
    #[error("cannot set the stage: {0}")]
    Files(#[from] io::Error),
    /// A database could not be made or read.
    #[error("cannot set the stage: {0}")]
    Database(#[from] RuntimeError),
    /// A fixture that is not there.
    #[error("fixture `{0}` is not in `fixtures`")]
    NoFixture(String),
    /// The case looks at a database, and its guest has none.
    #[error("the case looks at a database file and names no `fixture`")]
    NoDatabase,
}

/// Where a case is played. Dropping it removes its files.
pub struct Stage {
    folder: TempDir,
    database: Option<PathBuf>,
    /// Holds the file for another process while the guest runs.
    held: Option<HostDatabase>,
    /// What the database outside was made of: it is somebody else's.
    payroll: Vec<u8>,
    /// What the header of the guest's database said of how it is kept.
    settings: Option<Settings>,
}

/// The bytes of a database's header in which pragmas persist: the page size, the journal mode, the size of the cache, the
/// encoding, versions and vacuum modes (<https://sqlite.org/fileformat2.html#the_database_header>). What counts changes is
/// left out.
type Settings = [Vec<u8>; 3];

impl Stage {
    /// Sets the stage for one run of `case`.
    ///
    /// # Errors
    /// [`StageError`] where a file, a database or a fixture is missing.
    pub fn set(case: &Case, corpus: &Corpus) -> Result<Self, StageError> {
        let folder = tempfile::Builder::new()
            .prefix("stage-")
            .tempdir_in(session_folder()?)?;
        let mut stage = Self {
            folder,
            database: None,
            held: None,
            payroll: Vec::new(),
            settings: None,
        };
        fs::create_dir(stage.outside())?;
        fs::write(stage.outside().join("extension.so"), EXTENSION)?;
        build(&stage.outside().join("payroll.db"), PAYROLL, corpus)?;
        stage.payroll = fs::read(stage.outside().join("payroll.db"))?;
        if let Some(fixture) = &case.fixture {
            let path = stage.folder.path().join("guest.db");
            build(&path, fixture, corpus)?;
            do_damage(&path, &case.damage)?;
            stage.settings = settings(&fs::read(&path)?);
            // The last to open the file: closing it anywhere in this process would release what is held.
            stage.held = held(&path, &case.damage)?;
            stage.database = Some(path);
        }
        Ok(stage)
    }

    /// What is not as it was before a guest ran here that was given one database and nothing else: what lies outside it,
    /// and how it is kept. Of a database that is held, nothing is looked at.
    ///
    /// # Errors
    /// [`StageError::Files`] where it cannot be looked at.
    pub fn disturbed(&self) -> Result<Vec<String>, StageError> {
        if self.held.is_some() {
            return Ok(Vec::new());
        }
        let mut disturbed = Vec::new();
        for entry in fs::read_dir(self.outside())? {
            let name = entry?.file_name();
            if name != "payroll.db" && name != "extension.so" {
                disturbed.push(format!("file `{}` was made outside", name.display()));
            }
        }
        let is_as_it_was = |name, bytes: &[u8]| Ok::<_, io::Error>(fs::read(self.outside().join(name))? == bytes);
        if !is_as_it_was("payroll.db", &self.payroll)? || !is_as_it_was("extension.so", EXTENSION)? {
            disturbed.push("a file outside was changed".to_owned());
        }
        if let Some(path) = self.database.as_ref().filter(|_| self.settings.is_some())
            && settings(&fs::read(path)?) != self.settings
        {
            disturbed.push("a setting that the database keeps was changed".to_owned());
        }
        Ok(disturbed)
    }

    /// The folder outside the guest's database.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// The guest's database file.
    ///
    /// # Errors
    /// [`StageError::NoDatabase`] where the case names no fixture.
    pub fn database(&self) -> Result<&Path, StageError> {
        self.database.as_deref().ok_or(StageError::NoDatabase)
    }

    /// The request that plays `case` here.
    #[must_use]
    pub fn request(&self, case: &Case) -> Request {
        let mut request = match &case.program {
            Program::Sql(script) => Request::sql(&case.profile, self.filled_in(script)),
            Program::Module {
                code,
                invoke,
                arguments,
                input,
                signature,
                state,
                environment,
            } => {
                let module = match code {
                    Code::Text(text) => self.filled_in(text).into(),
                    Code::Made(measures) => measures.module().into(),
                    Code::Bytes(bytes) => bytes.clone(),
                };
                let mut request = Request::wasm(&case.profile, module);
                request.invoke.clone_from(invoke);
                request.arguments.clone_from(arguments);
                request.input = input.clone().into_bytes();
                request.signature.clone_from(signature);
                for (key, value) in state {
                    request.state.set(key, value.as_str());
                }
                request.environment.clone_from(environment);
                request
            }
        };
        request.database.clone_from(&self.database);
        request
    }

    fn filled_in(&self, text: &str) -> String {
        let database = self.database.as_deref().unwrap_or(Path::new(":memory:"));
        text.replace("${outside}", &self.outside().to_string_lossy())
            .replace("${database}", &database.to_string_lossy())
    }
}

fn build(path: &Path, fixture: &str, corpus: &Corpus) -> Result<(), StageError> {
    let script = corpus
        .fixture(fixture)
        .ok_or_else(|| StageError::NoFixture(fixture.to_owned()))?;
    HostDatabase::open(path)?.execute(script)?;
    Ok(())
}

fn do_damage(path: &Path, damage: &[Damage]) -> io::Result<()> {
    if damage.is_empty() {
        return Ok(());
    }
    let bytes = damage.iter().fold(fs::read(path)?, |file, damage| damage.done_to(file));
    fs::write(path, bytes)
}

/// Holds the file where `damage` says so.
fn held(path: &Path, damage: &[Damage]) -> Result<Option<HostDatabase>, StageError> {
    if !damage.contains(&Damage::Held) {
        return Ok(None);
    }
    let holder = HostDatabase::open(path)?;
    holder.execute("begin exclusive")?;
    Ok(Some(holder))
}

/// `None` for what is no database, or one in which nothing was ever stored.
fn settings(file: &[u8]) -> Option<Settings> {
    file.starts_with(b"SQLite format 3\0").then_some(())?;
    let range = |from, to| file.get(from..to).map(<[u8]>::to_vec);
    Some([range(16, 24)?, range(48, 52)?, range(56, 72)?])
}

/// Stages of this process that are still there.
pub(crate) fn left_over() -> io::Result<usize> {
    Ok(fs::read_dir(session_folder()?)?.count())
}

/// One folder for all stages of this process, so that one janitor is enough.
fn session_folder() -> io::Result<PathBuf> {
    static SESSION: Mutex<Option<Swept>> = Mutex::new(None);
    let mut session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    if session.is_none() {
        *session = Some(Swept::make()?);
    }
    session
        .as_ref()
        .map(|swept| swept.folder().to_owned())
        .ok_or_else(|| io::Error::other("there is no session folder"))
}
