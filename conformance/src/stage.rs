//! Where a case is played: a database for the guest, and things outside it that it must not reach.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use stockade_runtime::{HostDatabase, Request, RuntimeError};
use tempfile::TempDir;

use crate::case::{Case, Program};
use crate::corpus::Corpus;
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
}

impl Stage {
    /// Sets the stage for one run of `case`.
    ///
    /// # Errors
    /// [`StageError`] where a file, a database or a fixture is missing.
    pub fn set(case: &Case, corpus: &Corpus) -> Result<Self, StageError> {
        let folder = tempfile::Builder::new()
            .prefix("stage-")
            .tempdir_in(session_folder()?)?;
        let mut stage = Self { folder, database: None };
        fs::create_dir(stage.outside())?;
        fs::write(stage.outside().join("extension.so"), EXTENSION)?;
        build(&stage.outside().join("payroll.db"), PAYROLL, corpus)?;
        if let Some(fixture) = &case.fixture {
            let path = stage.folder.path().join("guest.db");
            build(&path, fixture, corpus)?;
            stage.database = Some(path);
        }
        Ok(stage)
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
            Program::Wat {
                text,
                invoke,
                arguments,
                input,
            } => {
                let mut request = Request::wasm(&case.profile, self.filled_in(text));
                request.invoke.clone_from(invoke);
                request.arguments.clone_from(arguments);
                request.input = input.clone().into_bytes();
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
