//! How another project holds its own runtime to the corpus. The book shows this file.

use std::process::ExitCode;

use stockade_conformance::{Case, Observed, Stage, Subject, SubjectError, hold};
use stockade_policies::{PolicyStore, Stock};
use stockade_runtime::Runtime;

struct Mine;

impl Subject for Mine {
    fn name(&self) -> String {
        "mine".to_owned()
    }

    fn run(&self, case: &Case, stage: &Stage) -> Result<Observed, SubjectError> {
        let runtime = Runtime::in_process(PolicyStore::load(&case.sources(), Stock::With)?);
        Ok(runtime.run(&stage.request(case))?.into())
    }
}

fn main() -> ExitCode {
    stockade_conformance::enter();
    hold(
        Mine,
        &[
            "sql/attach-reads-host-file",
            "sql/denied-column-in-union",
            "benign/sql/arithmetic",
        ],
    )
}
