//! Scripts of two tenants in turns, each in a session of its own: what one does, the other does not notice.

use arbitrary::Unstructured;
use stockade_runtime::{HostDatabase, Runtime, RuntimeError, SqlSession, SqlValue};
use tempfile::TempDir;

use crate::guests::new_runtime;
use crate::is_planted;

const POLICIES: &str = r#"
@id("fuzz-deadline")
forbid (principal in Profile::"walkin", action == Action::"elapse", resource) unless { context.millis <= 50 };
"#;

/// What a tenant may send: own rows, and everything that could reach beyond them.
const SCRIPTS: &[&str] = &[
    "insert into mine values (1)",
    "delete from mine",
    "select count(*) from mine",
    "create temp table shared(x); insert into shared values (1)",
    "select count(*) from shared",
    "pragma hard_heap_limit = 100000",
    "pragma soft_heap_limit = 1",
    "pragma max_page_count = 1",
    "pragma query_only = 1",
    "pragma writable_schema = 1",
    "pragma case_sensitive_like = 1",
    "pragma foreign_keys = 1",
    "pragma locking_mode = exclusive; insert into mine values (2)",
    "pragma temp_store_directory = '/tmp'",
    "begin immediate; insert into mine values (3)",
    "commit",
    "rollback",
    "attach 'file:other.db?mode=memory&cache=shared' as other; create table other.t(x)",
    "select zeroblob(900000)",
    "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c",
    "selekt",
    "drop table mine",
    "create trigger t after insert on mine begin delete from mine; end",
    "vacuum",
    "analyze",
];

/// Plays the scripts that the bytes choose. After each, the other tenant reads and writes what is his.
///
/// # Panics
/// Where he cannot, or finds something else than he left.
pub fn sessions(data: &[u8]) {
    thread_local! {
        static HOUSE: House = House::new();
    }
    HOUSE.with(|house| house.play(&mut Unstructured::new(data)));
}

struct House {
    folder: TempDir,
    runtime: Runtime,
}

impl House {
    #[expect(clippy::expect_used, reason = "without a runtime there is nothing to fuzz")]
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            runtime: new_runtime(POLICIES),
        }
    }

    #[expect(clippy::expect_used, reason = "a panic is how a fuzz target reports what it found")]
    fn session(&self, name: &str, profile: &str) -> SqlSession {
        let path = self.folder.path().join(name);
        std::fs::write(&path, []).expect("a file");
        HostDatabase::open(&path)
            .and_then(|database| database.execute("create table mine(x)"))
            .expect("a database");
        self.runtime.open(profile, Some(&path)).expect("a session")
    }

    #[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
    fn play(&self, input: &mut Unstructured<'_>) {
        let mut hostile = self.session("hostile.db", "walkin");
        // With all the time there is: a slow disk is nobody's finding.
        let mut honest = self.session("honest.db", "trusted");
        for rows in 1..=8 {
            let Ok(script) = input.choose(SCRIPTS) else { return };
            match hostile.run(script) {
                Ok(_) | Err(RuntimeError::Request(_)) => {}
                // A file that another connection of the same tenant holds.
                Err(RuntimeError::Database { .. }) => return,
                Err(error) => panic!("no outcome: {error}\n{script}"),
            }
            let outcome = match honest.run("insert into mine values ('of mine'); select count(*) from mine") {
                Ok(outcome) => outcome,
                Err(error) => panic!("the honest tenant has no outcome after `{script}`: {error}"),
            };
            let seen = outcome
                .product
                .statements
                .last()
                .map(|last| last.rows.clone())
                .unwrap_or_default();
            let expected = if is_planted() && script.contains("vacuum") {
                0
            } else {
                rows
            };
            assert_eq!(
                seen,
                [[SqlValue::Integer(expected)]],
                "after `{script}`: {}",
                outcome.detail
            );
        }
    }
}
