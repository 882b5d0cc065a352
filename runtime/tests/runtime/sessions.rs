//! A connection that stays open: each call is a guest of its own, what is kept compiled is judged like everything else.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use stockade_policies::{Meter, PolicyStore};
use stockade_runtime::{Class, Event, HostDatabase, Layer, Outcome, Runtime, RuntimeError, SqlSession, SqlValue};
use tempfile::TempDir;

use crate::support::{
    ENDLESS, ROOMY, assert_completed, assert_stopped, in_workers, integer, last_rows, named, only_notes, roomy,
    roomy_with, run, sql,
};

pub fn trials() -> Vec<Trial> {
    named![
        what_a_session_answers_is_what_a_request_does,
        a_runtime_with_workers_opens_no_session,
        a_session_says_which_layers_are_absent,
        a_refusal_ends_one_call,
        quotas_and_the_deadline_are_a_calls_own,
        the_screen_looks_at_every_call,
        a_transaction_left_open_is_rolled_back,
        the_trail_of_a_kept_script_is_that_of_its_first_run,
        the_trail_of_a_kept_script_ends_where_it_was_cut,
        the_trail_of_a_kept_script_has_what_it_compiled_while_it_ran,
        other_policies_deny_what_was_kept,
        a_table_that_became_a_view_is_judged_again,
        a_column_that_became_telling_is_judged_again,
        a_column_that_somebody_else_just_made_is_judged,
        a_table_brought_back_by_a_rollback_is_judged,
        what_is_not_reported_is_asked_about_however_often,
        a_kept_write_goes_on_after_others_changed_the_schema,
        limits_that_a_script_raises_are_noticed_every_time,
        more_scripts_than_are_kept_run_alike,
    ]
}

/// Often enough for a script to be seen, kept and run from there.
const OFTEN: usize = 4;

struct Stage {
    _folder: TempDir,
    path: PathBuf,
}

impl Stage {
    fn new(schema: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("stage.db");
        let stage = Self { _folder: folder, path };
        stage.by_owner(schema);
        stage
    }

    /// What the owner does meanwhile, on a connection of their own.
    fn by_owner(&self, script: &str) {
        HostDatabase::open(&self.path)
            .and_then(|database| database.execute(script))
            .unwrap();
    }

    fn rows(&self, query: &str) -> Vec<Vec<SqlValue>> {
        HostDatabase::open(&self.path).unwrap().rows(query).unwrap()
    }

    fn open(&self, policies: PolicyStore) -> SqlSession {
        open(policies, Some(&self.path))
    }
}

fn open(policies: PolicyStore, database: Option<&Path>) -> SqlSession {
    Runtime::in_process(policies).open(ROOMY, database).unwrap()
}

#[track_caller]
fn call(session: &mut SqlSession, script: &str) -> Outcome {
    session.run(script).expect("the call has an outcome")
}

#[track_caller]
fn assert_denied(outcome: &Outcome) {
    assert_stopped(outcome, Class::DeniedSqlAction, Layer::Authorizer);
    let told = format!("{:?} {}", outcome.product, outcome.detail);
    assert!(!told.contains("4200"), "{told}");
}

const STAFF: &str = "create table staff(name text, salary int); insert into staff values ('ada', 4200);";

/// Everything but the column `salary`.
fn no_pay() -> PolicyStore {
    roomy_with(
        &[],
        &format!(
            "@id(\"no-pay\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"read\", resource) \
             when {{ resource.name == \"salary\" }};"
        ),
    )
}

fn what_a_session_answers_is_what_a_request_does() {
    let mut session = open(no_pay(), None);
    let runtime = Runtime::in_process(no_pay());
    for script in [
        "select 6 * 7 as answer; select 'x' as y",
        "  -- nothing\n ;; select 1;  ; /* select 2; */ select 2; -- end",
        "",
        "select",
        "with staff as (select 1 as salary) select count(*) from staff",
        "select count(*) from nowhere",
        "create temp table t(x); insert into t values (1), (2); drop table t",
        "select 1; select no_such_function(1)",
        "pragma user_version",
        "values (1), (2); select 3 where 0",
    ] {
        let asked = run(&runtime, &sql(script));
        for _ in 0..OFTEN {
            let outcome = call(&mut session, script);
            assert_eq!(
                (
                    outcome.class,
                    outcome.layer,
                    &outcome.detail,
                    &outcome.product,
                    &outcome.trail
                ),
                (asked.class, asked.layer, &asked.detail, &asked.product, &asked.trail),
                "{script}"
            );
        }
    }
}

fn a_runtime_with_workers_opens_no_session() {
    let refused = in_workers(roomy(&[])).open(ROOMY, None);
    assert!(matches!(refused, Err(RuntimeError::Request(_))));
    let unknown = Runtime::in_process(roomy(&[])).open("nobody", None);
    assert!(matches!(unknown, Err(RuntimeError::Plan(_))));
}

fn a_session_says_which_layers_are_absent() {
    let absent = run(&Runtime::in_process(roomy(&[])), &sql("select 1")).absent;
    let mut session = open(roomy(&[]), None);
    assert_eq!(call(&mut session, "select 1").absent, absent);
    assert_eq!(call(&mut session, "\0").absent, absent);
}

fn a_refusal_ends_one_call() {
    let stage = Stage::new(STAFF);
    let mut session = stage.open(no_pay());
    for _ in 0..OFTEN {
        let refused = call(&mut session, "select salary from staff; delete from staff");
        assert_denied(&refused);
        let last = refused.trail.events().last();
        assert!(matches!(last, Some(Event::Refused { .. })), "{last:?}");
        let next = call(&mut session, "select name from staff");
        assert_completed(&next);
        let refusals = next.trail.events().iter();
        assert_eq!(
            refusals.filter(|event| matches!(event, Event::Refused { .. })).count(),
            0
        );
    }
}

fn quotas_and_the_deadline_are_a_calls_own() {
    let mut session = open(roomy(&[(Meter::ReturnRows, 2), (Meter::Elapse, 300)]), None);
    for _ in 0..OFTEN {
        assert_completed(&call(&mut session, "values (1), (2)"));
        assert_eq!(call(&mut session, "values (1), (2), (3)").class, Class::Truncated);
    }
    assert_stopped(&call(&mut session, ENDLESS), Class::LimitTime, Layer::Deadline);
    assert_completed(&call(&mut session, "values (1), (2)"));
}

fn the_screen_looks_at_every_call() {
    let mut session = open(roomy(&[(Meter::LoadGuest, 20)]), None);
    assert_completed(&call(&mut session, "select 123456789 + 1"));
    assert_stopped(
        &call(&mut session, "select 123456789 + 12"),
        Class::GuestTooLarge,
        Layer::Screen,
    );
    assert_stopped(
        &call(&mut session, "select 1;\0 select"),
        Class::GuestMalformed,
        Layer::Screen,
    );
    let mut session = open(roomy(&[(Meter::SqlExprDepth, 0)]), None);
    assert_stopped(&call(&mut session, "select 1"), Class::LimitSqlExpr, Layer::Screen);
}

fn a_transaction_left_open_is_rolled_back() {
    let stage = Stage::new("create table t(x)");
    let mut session = stage.open(roomy(&[]));
    for _ in 0..OFTEN {
        assert_completed(&call(&mut session, "begin immediate; insert into t values (1)"));
        // Nobody is kept from writing.
        stage.by_owner("insert into t values (2)");
    }
    assert_eq!(stage.rows("select count(*) from t where x = 1"), integer(0));
    assert_eq!(stage.rows("select count(*) from t"), integer(4));
}

fn the_trail_of_a_kept_script_is_that_of_its_first_run() {
    let stage = Stage::new("create table notes(a, b); insert into notes values (1, 2); create table log(x)");
    let mut session = stage.open(roomy(&[]));
    for script in [
        "select b from notes where a = 1",
        "begin; insert into log select a from notes; commit",
        "select count(*) from notes; select b from notes",
    ] {
        let first = call(&mut session, script);
        assert_completed(&first);
        let decided = first
            .trail
            .events()
            .iter()
            .filter(|event| matches!(event, Event::Decided { .. }));
        assert!(decided.count() >= 2, "{script}: {:?}", first.trail);
        for _ in 0..OFTEN {
            let again = call(&mut session, script);
            assert_eq!(
                (&again.trail, &again.product),
                (&first.trail, &first.product),
                "{script}"
            );
            // Another one between two of the same.
            assert_completed(&call(&mut session, "select 1"));
        }
    }
}

/// Which columns a guest was allowed to read.
fn columns_read(outcome: &Outcome) -> Vec<&str> {
    let events = outcome.trail.events().iter();
    events
        .filter_map(|event| match event {
            Event::Decided { action, resource, .. } if action == "read" => Some(resource.as_str()),
            _ => None,
        })
        .collect()
}

fn the_trail_of_a_kept_script_ends_where_it_was_cut() {
    let stage = Stage::new("create table notes(a, b); insert into notes values (1, 2)");
    let mut session = stage.open(roomy(&[(Meter::ReturnRows, 2)]));
    let script = "select a from notes; select b from notes";
    let (whole, first) = (
        [r#"Column::"main.notes.a""#, r#"Column::"main.notes.b""#],
        [r#"Column::"main.notes.a""#],
    );
    for _ in 0..2 {
        for _ in 0..OFTEN {
            assert_eq!(columns_read(&call(&mut session, script)), whole);
        }
        stage.by_owner("insert into notes values (3, 4), (5, 6)");
        for _ in 0..OFTEN {
            let cut = call(&mut session, script);
            assert_eq!((cut.class, columns_read(&cut)), (Class::Truncated, first.to_vec()));
        }
        stage.by_owner("delete from notes where a > 1");
    }
}

fn the_trail_of_a_kept_script_has_what_it_compiled_while_it_ran() {
    let stage = Stage::new(
        "create virtual table docs using fts5(body); insert into docs values ('word');
         create table notes(a)",
    );
    let mut session = stage.open(roomy(&[]));
    let script = "select (select body from docs where docs match notes.a order by rank) from notes";
    let none = (0..OFTEN).map(|_| call(&mut session, script)).last().unwrap();
    assert_completed(&none);
    stage.by_owner("insert into notes values ('word')");
    for _ in 0..OFTEN {
        let some = call(&mut session, script);
        assert_eq!(last_rows(&some), [[SqlValue::Text("word".to_owned())]]);
        let more = columns_read(&some).len();
        assert!(more > columns_read(&none).len(), "{:?}", some.trail);
    }
    stage.by_owner("delete from notes");
    let none_again = call(&mut session, script);
    assert_eq!(columns_read(&none_again), columns_read(&none));
}

fn other_policies_deny_what_was_kept() {
    let stage = Stage::new("create table notes(a); create table other(a); insert into other values (1)");
    let script = "select a from other";
    let mut before = stage.open(roomy(&[]));
    for _ in 0..OFTEN {
        assert_completed(&call(&mut before, script));
    }
    // New policies are a new runtime. What it opens shares nothing with the session that is still open.
    let mut after = stage.open(only_notes(&[]));
    for _ in 0..OFTEN {
        assert_denied(&call(&mut after, script));
        assert_completed(&call(&mut before, script));
    }
}

fn a_table_that_became_a_view_is_judged_again() {
    let stage = Stage::new(&format!(
        "{STAFF} create table open(name); insert into open values ('x')"
    ));
    let mut session = stage.open(no_pay());
    let script = "select name from open";
    for _ in 0..OFTEN {
        assert_completed(&call(&mut session, script));
    }
    stage.by_owner("drop table open; create view open as select salary as name from staff");
    for _ in 0..OFTEN {
        assert_denied(&call(&mut session, script));
    }
    stage.by_owner("drop view open; create table open(name); insert into open values ('y')");
    assert_eq!(
        last_rows(&call(&mut session, script)),
        [[SqlValue::Text("y".to_owned())]]
    );
}

fn a_column_that_became_telling_is_judged_again() {
    let stage = Stage::new(&format!("{STAFF} alter table staff add column hint"));
    let mut session = stage.open(no_pay());
    let (script, update) = ("select hint from staff", "update staff set hint = 1");
    for _ in 0..OFTEN {
        assert_completed(&call(&mut session, script));
        assert_completed(&call(&mut session, update));
    }
    stage.by_owner("alter table staff drop column hint; alter table staff add column hint as (salary)");
    for _ in 0..OFTEN {
        assert_denied(&call(&mut session, script));
    }
    stage.by_owner(
        "drop table staff; create table staff(name text, salary int, hint, check (hint is not salary));
         insert into staff values ('ada', 4200, 0)",
    );
    for _ in 0..OFTEN {
        assert_completed(&call(&mut session, script));
        assert_denied(&call(&mut session, update));
    }
}

/// SQLite looks whether there is a new schema when it does not find a name, in the middle of compiling.
fn a_column_that_somebody_else_just_made_is_judged() {
    let stage = Stage::new(STAFF);
    let mut session = stage.open(no_pay());
    for name in ["a", "b", "c"] {
        assert_completed(&call(&mut session, "select name from staff"));
        stage.by_owner(&format!("alter table staff add column {name} as (salary + 0)"));
        assert_denied(&call(&mut session, &format!("select {name} from staff")));
    }
}

fn a_table_brought_back_by_a_rollback_is_judged() {
    let stage =
        Stage::new("create table staff(name, salary, hint as (salary)); insert into staff values ('ada', 4200);");
    let away = "begin; drop table staff; create table x(y)";
    // Together with what is rolled back, within one script.
    let denied = run(
        &Runtime::in_process(no_pay()),
        &sql(format!("{away}; rollback; select hint from staff")).on_database(&stage.path),
    );
    assert_denied(&denied);
    let mut session = stage.open(no_pay());
    for _ in 0..OFTEN {
        assert_completed(&call(&mut session, away));
        assert_denied(&call(&mut session, "select hint from staff"));
    }
}

fn what_is_not_reported_is_asked_about_however_often() {
    let stage = Stage::new(&format!(
        "{STAFF} create table pays(salary); insert into pays values (4200)"
    ));
    let mut session = stage.open(no_pay());
    for _ in 0..OFTEN {
        assert_denied(&call(&mut session, "select 1 from staff natural join pays"));
        assert_denied(&call(&mut session, "select 1 from staff join pays using (salary)"));
        assert_completed(&call(&mut session, "select 1 from staff join pays on name = 1"));
        assert_denied(&call(&mut session, "create view v as select salary from staff"));
    }
}

fn a_kept_write_goes_on_after_others_changed_the_schema() {
    let stage = Stage::new("create table t(x); create table u(x)");
    let mut session = stage.open(roomy(&[]));
    let script = "insert into t values (1); insert into u values (2)";
    for round in 1..=i64::try_from(OFTEN).unwrap() {
        for _ in 0..OFTEN {
            assert_completed(&call(&mut session, script));
        }
        stage.by_owner(&format!("create index i{round} on u(x); create table more{round}(x)"));
        let count = round * i64::try_from(OFTEN).unwrap();
        assert_eq!(stage.rows("select count(*) from t"), integer(count));
        assert_eq!(stage.rows("select count(*) from u"), integer(count));
    }
}

fn limits_that_a_script_raises_are_noticed_every_time() {
    let mut session = open(roomy(&[(Meter::GrowDatabase, 64 * 4096)]), None);
    for script in [
        "pragma max_page_count = 100000",
        "select 1; PRAGMA/**/main.max_page_count(100000); select 2",
        "pragma \"max_page_count\" = 100000",
    ] {
        for _ in 0..OFTEN {
            assert_stopped(&call(&mut session, script), Class::LimitStorage, Layer::Quota);
        }
    }
    // What one was refused for, the next one does not have.
    assert_eq!(last_rows(&call(&mut session, "pragma max_page_count")), integer(64));
    let fill = "create table t(x); insert into t values (zeroblob(100 * 4096))";
    assert_stopped(&call(&mut session, fill), Class::LimitStorage, Layer::Quota);
}

fn more_scripts_than_are_kept_run_alike() {
    let mut session = open(roomy(&[]), None);
    for number in (0..200).chain(0..200).chain(0..200) {
        let outcome = call(&mut session, &format!("select {number}"));
        assert_eq!(last_rows(&outcome), integer(number));
    }
    let long = format!("select length('{}')", "x".repeat(8000));
    for _ in 0..OFTEN {
        assert_eq!(last_rows(&call(&mut session, &long)), integer(8000));
    }
}
