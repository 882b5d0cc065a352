//! Scripts of two tenants in turns, each in a session of its own: what one does, the other does not notice.

use std::fs;

use arbitrary::{Result, Unstructured};
use stockade_runtime::{HostDatabase, Runtime, RuntimeError, SqlSession, SqlValue};
use tempfile::TempDir;

use crate::guests::new_runtime;
use crate::{is_planted, scratch};

const POLICIES: &str = r#"
@id("fuzz-deadline")
forbid (principal in Profile::"walkin", action == Action::"elapse", resource) unless { context.millis <= 5 };
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
    "selekt",
    "drop table mine",
    "create trigger t after insert on mine begin delete from mine; end",
    "vacuum",
    "analyze",
];

/// What only its deadline ends. It comes seldom, because each time takes as long as a hundred of the others.
const ENDLESS: &str = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c";

/// The most scripts that an input has.
const MOST: i64 = 8;

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
    /// A database with an empty table.
    made: Vec<u8>,
}

impl House {
    #[expect(clippy::expect_used, reason = "without a database there is nothing to fuzz")]
    fn new() -> Self {
        let folder = scratch::folder();
        let path = folder.path().join("made.db");
        fs::write(&path, []).expect("a file");
        HostDatabase::open(&path)
            .and_then(|database| database.execute("create table mine(x)"))
            .expect("the database is made");
        Self {
            made: fs::read(&path).expect("the database is there"),
            folder,
            runtime: new_runtime(POLICIES),
        }
    }

    #[expect(clippy::expect_used, reason = "a panic is how a fuzz target reports what it found")]
    fn session(&self, name: &str, profile: &str) -> SqlSession {
        let path = self.folder.path().join(name);
        for ending in ["-journal", "-wal", "-shm"] {
            // Most often there is none.
            fs::remove_file(self.folder.path().join(format!("{name}{ending}"))).unwrap_or_default();
        }
        fs::write(&path, &self.made).expect("a file");
        self.runtime.open(profile, Some(&path)).expect("a session")
    }

    #[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
    fn play(&self, input: &mut Unstructured<'_>) {
        let mut hostile = self.session("hostile.db", "walkin");
        // With all the time there is: a slow disk is nobody's finding.
        let mut honest = self.session("honest.db", "trusted");
        for rows in 1..=MOST {
            if input.is_empty() && rows > 1 {
                return;
            }
            let Ok(script) = next(input) else { return };
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
            assert!(!(is_planted() && script.contains("vacuum")), "planted: `{script}`");
            assert_eq!(
                seen,
                [[SqlValue::Integer(rows)]],
                "after `{script}`: {}",
                outcome.detail
            );
        }
    }
}

fn next(input: &mut Unstructured<'_>) -> Result<&'static str> {
    // Zeros, of which there are many, are not this one.
    if input.ratio(199, 200)? {
        input.choose(SCRIPTS).copied()
    } else {
        Ok(ENDLESS)
    }
}
