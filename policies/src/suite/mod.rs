//! Policy tests: requests, and the answers they must get.
//!
//! Each question is answered twice, by the compiled plan and by Cedar's own authorizer on the whole policy set. Nothing
//! here runs a guest, and there is no clock: no policy of the vocabulary can ask what time it is.

mod authorizer;
mod case;
mod clauses;
mod coverage;
mod examiner;
mod places;
mod read;
mod written;

use serde::Serialize;

pub use self::coverage::{Coverage, Missing, Share};
pub use self::read::{SuiteError, TestFile};

use self::case::Case;
use self::coverage::Ledger;
use self::examiner::{Depth, Examiner, with_entities};
use self::read::{ReadFile, read};
use self::written::WrittenFile;
use crate::finding::Location;
use crate::principal::Principal;
use crate::store::PolicyStore;

macro_rules! stock_tests {
    ($($file:literal)*) => {
        /// The tests beside the stock profiles: name and text.
        const STOCK_TESTS: &[(&str, &str)] = &[
            $((concat!("stock/", $file), include_str!(concat!("../../profiles/", $file))),)*
        ];
    };
}

stock_tests! {
    "capabilities.tests.yaml"
    "sqlite-recommended.tests.yaml"
    "untrusted.tests.yaml"
    "database-only.tests.yaml"
    "standard.tests.yaml"
    "trusted.tests.yaml"
    "walkin.tests.yaml"
    "pure.tests.yaml"
}

/// Test files, read.
#[derive(Debug)]
pub struct Suite {
    files: Vec<ReadFile>,
}

/// What became of a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuiteRun {
    /// One for each case that was run, in the order of the files.
    pub cases: Vec<CaseResult>,
    /// What the cases have seen of the policies; nothing where only some cases were run.
    pub coverage: Option<Coverage>,
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseResult {
    /// What was asked.
    pub name: String,
    /// Where it is written.
    pub location: Location,
    /// Why it failed, if it did.
    pub problem: Option<Problem>,
    /// The policies that decided, and where they stand.
    pub policies: Vec<DecidingPolicy>,
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Problem {
    /// The answer is another.
    Wrong {
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// The plan and Cedar's authorizer answer differently: a defect of Stockade.
    Disagreement {
        /// What the plan says.
        plan: String,
        /// What Cedar says.
        cedar: String,
    },
    /// It could not be asked.
    Unasked {
        /// Why.
        reason: String,
    },
}

/// A policy and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecidingPolicy {
    /// Its id.
    pub id: String,
    /// Where it is written.
    pub location: Option<Location>,
}

impl Suite {
    /// Reads test files.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in any of them, file by file.
    pub fn read(files: &[TestFile]) -> Result<Self, Vec<SuiteError>> {
        let mut read_files = Vec::with_capacity(files.len());
        let mut errors = Vec::new();
        for file in files {
            match read(file) {
                Ok(read) => read_files.push(read),
                Err(mut found) => errors.append(&mut found),
            }
        }
        if errors.is_empty() {
            Ok(Self { files: read_files })
        } else {
            Err(errors)
        }
    }

    /// How many cases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.iter().map(|file| file.cases.len()).sum()
    }

    /// Whether nothing is asked at all: such a suite proves nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs every case, or those whose name or file contains a text. Coverage is measured only where all were run.
    #[must_use]
    pub fn run(&self, store: &PolicyStore, filter: Option<&str>) -> SuiteRun {
        let mut ledger = filter.is_none().then(|| Ledger::new(store.ready()));
        let mut cases = Vec::new();
        for file in &self.files {
            let is_meant = |case: &&Case| {
                filter.is_none_or(|text| case.name().contains(text) || case.location.source.contains(text))
            };
            let meant = file.cases.iter().filter(is_meant);
            match with_entities(store, &file.entities) {
                Ok(store) => match Examiner::new(&store, &file.cases, Depth::Whole) {
                    Ok(mut examiner) => cases.extend(meant.map(|case| examiner.examine(case, ledger.as_mut()))),
                    Err(reason) => cases.extend(meant.map(|case| CaseResult::unasked(case, &reason))),
                },
                Err(reason) => cases.extend(meant.map(|case| CaseResult::unasked(case, &reason))),
            }
        }
        SuiteRun {
            cases,
            coverage: ledger.map(|ledger| ledger.coverage(store)),
        }
    }

    /// The first case that fails, as soon as it does. Only the plans are asked, and Cedar where a case names the policies
    /// that decide: this judges policies, not the compiler.
    #[must_use]
    pub fn first_failure(&self, store: &PolicyStore) -> Option<CaseResult> {
        self.first_failure_among(store, &|_, _| true)
    }

    /// The same, where the caller knows about whom and which action an answer could be another than before. Who a file
    /// declares by itself is not known to the caller, so such a file is asked whole.
    pub(crate) fn first_failure_among(
        &self,
        store: &PolicyStore,
        concerns: &dyn Fn(&Principal, &'static str) -> bool,
    ) -> Option<CaseResult> {
        self.files.iter().find_map(|file| {
            let is_whole = !file.entities.is_empty();
            let is_meant = |case: &&Case| is_whole || concerns(&case.principal, case.asked.action());
            let mut meant = file.cases.iter().filter(is_meant).peekable();
            let first = *meant.peek()?;
            let store = match with_entities(store, &file.entities) {
                Ok(store) => store,
                Err(reason) => return Some(CaseResult::unasked(first, &reason)),
            };
            match Examiner::new(&store, &file.cases, Depth::Plan) {
                Ok(mut examiner) => meant
                    .map(|case| examiner.examine(case, None))
                    .find(CaseResult::is_failed),
                Err(reason) => Some(CaseResult::unasked(first, &reason)),
            }
        })
    }
}

/// The tests of the stock profiles.
#[must_use]
pub fn stock_tests() -> Vec<TestFile> {
    STOCK_TESTS
        .iter()
        .map(|(name, text)| TestFile {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect()
}

/// The JSON Schema of test files, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(WrittenFile).to_value()
}

impl CaseResult {
    /// It failed or could not be asked.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.problem.is_some()
    }

    /// It could not be asked.
    #[must_use]
    pub const fn is_unasked(&self) -> bool {
        matches!(self.problem, Some(Problem::Unasked { .. }))
    }
}
