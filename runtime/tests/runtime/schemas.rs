//! A database that somebody else made: what its schema does on a guest's behalf, the guest's plan judges.

use std::path::PathBuf;

use libtest_mimic::Trial;
use stockade_policies::{Meter, PolicyStore};
use stockade_runtime::{Class, HostDatabase, Layer, Outcome, Runtime, SqlValue};
use tempfile::TempDir;

use crate::support::{
    ROOMY, assert_completed, assert_stopped, in_workers, integer, last_rows, named, roomy, roomy_with, run, sql,
};

pub fn trials() -> Vec<Trial> {
    named![
        a_view_does_not_hand_out_a_denied_column,
        a_view_inside_a_view_does_not_either,
        a_trigger_does_not_copy_a_denied_column,
        a_trigger_that_raises_tells_nothing,
        a_view_that_counts_a_denied_table_is_refused,
        a_guest_cannot_define_its_way_to_a_denied_column,
        what_the_schema_does_within_the_plan_is_allowed,
        an_object_more_than_the_schema_may_have_is_refused,
        an_attached_file_is_the_one_that_was_granted,
        what_is_not_reported_is_asked_about_in_attached_files_too,
        what_is_not_reported_is_refused_where_it_is_not_granted,
        words_that_only_look_like_it_are_not_refused,
    ]
}

const SCHEMA: &str = "
    create table staff(name, salary);
    insert into staff values ('ada', 4200);
    create view names as select name from staff;
    create view pay as select salary as name from staff;
    create view outer_pay as select name as words from pay;
    create view totals as select (select sum(salary) from staff) as name;
    create table inbox(message);
    create table copies(message);
    create trigger forwards after insert on inbox when new.message = 'good'
      begin insert into copies values (new.message); end;
    create table trap(message);
    create trigger copies_pay after insert on trap
      begin insert into copies select salary from staff; end;
    create table oracle(message);
    create trigger tells after insert on oracle
      begin select raise(abort, 'rich') from staff where salary > 4000; end;
    create table hidden(x);
    insert into hidden values (1), (2);
    create view how_many as select count(*) as n from hidden;
";

/// Everything but the column `salary` and the table `hidden`.
fn policies() -> PolicyStore {
    let forbid = format!(
        "@id(\"no-pay\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"read\", \
         resource == Column::\"main.staff.salary\");\n\
         @id(\"no-hidden\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"read\", \
         resource in Table::\"main.hidden\");"
    );
    roomy_with(&[], &forbid)
}

struct Stage {
    _folder: TempDir,
    path: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("stage.db");
        HostDatabase::open(&path)
            .and_then(|database| database.execute(SCHEMA))
            .unwrap();
        Self { _folder: folder, path }
    }

    fn run_in(&self, runtime: &Runtime, script: &str) -> Outcome {
        run(runtime, &sql(script).on_database(&self.path))
    }

    /// The outcome in a worker, which must be the one in process, on a database of the same making.
    fn run(&self, script: &str) -> Outcome {
        let outcome = self.run_in(&in_workers(policies()), script);
        let inside = Self::new().run_in(&Runtime::in_process(policies()), script);
        assert_eq!((outcome.class, outcome.layer), (inside.class, inside.layer), "{script}");
        outcome
    }

    fn assert_denied(&self, script: &str) {
        let outcome = self.run(script);
        assert!(
            outcome.class == Class::DeniedSqlAction && outcome.layer == Some(Layer::Authorizer),
            "{script}: {} by {:?}, {}",
            outcome.class,
            outcome.layer,
            outcome.detail
        );
        let told = format!("{:?} {}", outcome.product, outcome.detail);
        assert!(!told.contains("4200"), "{script}: {told}");
    }

    fn rows(&self, query: &str) -> Vec<Vec<SqlValue>> {
        HostDatabase::open(&self.path).unwrap().rows(query).unwrap()
    }
}

fn a_view_does_not_hand_out_a_denied_column() {
    let stage = Stage::new();
    stage.assert_denied("select salary from staff");
    stage.assert_denied("select name from pay");
    stage.assert_denied("select * from pay");
    stage.assert_denied("select name from totals");
    stage.assert_denied("select 1 from names where exists (select 1 from pay where name > 4000)");
}

fn a_view_inside_a_view_does_not_either() {
    let stage = Stage::new();
    stage.assert_denied("select words from outer_pay");
    stage.assert_denied("with w as (select words from outer_pay) select * from w");
}

fn a_trigger_does_not_copy_a_denied_column() {
    let stage = Stage::new();
    stage.assert_denied("insert into trap values ('x')");
    assert_eq!(stage.rows("select count(*) from copies"), integer(0));
    assert_eq!(stage.rows("select count(*) from trap"), integer(0));
}

fn a_trigger_that_raises_tells_nothing() {
    Stage::new().assert_denied("insert into oracle values ('x')");
}

fn a_view_that_counts_a_denied_table_is_refused() {
    let stage = Stage::new();
    stage.assert_denied("select count(*) from hidden");
    stage.assert_denied("select n from how_many");
    stage.assert_denied("select count(*) from hidden, names");
}

/// A guest that may change the schema, but not read the column.
fn a_guest_cannot_define_its_way_to_a_denied_column() {
    for script in [
        "create view mine as select salary as s from staff; select s from mine",
        "create table mine as select salary as s from staff; select s from mine",
        "create temp trigger mine after insert on inbox begin insert into copies select salary from staff; end; \
         insert into inbox values (1); select message from copies",
        "update copies set message = (select salary from staff)",
        "insert into copies values (1) returning (select salary from staff)",
        "create index mine on staff(salary); select name from staff where salary = 4200",
    ] {
        Stage::new().assert_denied(script);
    }
}

fn what_the_schema_does_within_the_plan_is_allowed() {
    let stage = Stage::new();
    let outcome = stage.run("select name from names");
    assert_completed(&outcome);
    assert_eq!(last_rows(&outcome), [[SqlValue::Text("ada".to_owned())]]);
    assert_completed(&stage.run("insert into inbox values ('good'), ('bad')"));
    assert_eq!(stage.rows("select count(*) from copies"), integer(1));
}

/// Objects that the owner made count: a guest may not add one where the bound is reached.
fn an_object_more_than_the_schema_may_have_is_refused() {
    let objects: u64 = 14;
    let stage = Stage::new();
    assert_eq!(
        stage.rows("select count(*) from sqlite_master"),
        integer(i64::try_from(objects).unwrap())
    );
    for (most, is_enough) in [(objects, false), (objects + 1, true)] {
        let runtime = in_workers(roomy(&[(Meter::SqlSchema, most)]));
        let outcome = stage.run_in(&runtime, "create table one_more(x)");
        if is_enough {
            assert_completed(&outcome);
        } else {
            assert_stopped(&outcome, Class::LimitSqlSchema, Layer::Limits);
        }
    }
}

/// A grant names a place. What a link in that place points at is another one.
fn an_attached_file_is_the_one_that_was_granted() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let granted = root.join("granted");
    std::fs::create_dir(&granted).unwrap();
    for path in [root.join("secret.db"), granted.join("open.db")] {
        HostDatabase::open(path)
            .and_then(|database| database.execute("create table t(x); insert into t values (1)"))
            .unwrap();
    }
    std::os::unix::fs::symlink(root.join("secret.db"), granted.join("link.db")).unwrap();
    std::os::unix::fs::symlink(&root, granted.join("up")).unwrap();
    let forbid = format!(
        "@id(\"granted-files\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"attach\", resource) \
         unless {{ resource in Path::\"{}\" }};",
        granted.display()
    );
    let runtime = in_workers(roomy_with(&[], &forbid));
    let attach = |name: &str| {
        let path = granted.join(name);
        run(
            &runtime,
            &sql(format!("attach '{}' as other; select x from other.t", path.display())),
        )
    };
    assert_completed(&attach("open.db"));
    for name in ["link.db", "up/secret.db", "../secret.db", "./../secret.db"] {
        let outcome = attach(name);
        assert_eq!(outcome.class, Class::DeniedSqlAction, "{name}: {}", outcome.detail);
        assert!(
            outcome
                .product
                .statements
                .iter()
                .all(|statement| statement.rows.is_empty()),
            "{name}"
        );
    }
}

fn what_is_not_reported_is_asked_about_in_attached_files_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().canonicalize().unwrap().join("other.db");
    let setting = "create table t(name, secret); insert into t values ('ada', 'hidden')";
    HostDatabase::open(&path)
        .and_then(|database| database.execute(setting))
        .unwrap();
    let forbid = format!(
        "@id(\"no-secret\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"read\", \
         resource == Column::\"other.t.secret\");"
    );
    let runtime = in_workers(roomy_with(&[], &forbid));
    let attached = |query: &str| run(&runtime, &sql(format!("attach '{}' as other; {query}", path.display())));
    assert_completed(&attached("select name from other.t"));
    for query in [
        "select secret from other.t",
        "select count(*) from other.t natural join (select 'hidden' as secret)",
        "select count(*) from t join (select 'hidden' as secret) using (secret)",
    ] {
        let outcome = attached(query);
        assert_stopped(&outcome, Class::DeniedSqlAction, Layer::Authorizer);
    }
}

const UNREPORTED: &str = "
    create table pub(id integer primary key, v); insert into pub values (1, 'a');
    create table staff(name, salary); insert into staff values ('ada', 4200);
    create index by_salary on staff(salary);
    create table secrets(n, value); insert into secrets values ('ann', 's3cret');
    create table audit(id unique, what); insert into audit values (1, 'guilty');
    create trigger keeps after update on pub begin insert into audit values (new.id, new.v); end;
    create table last(id unique on conflict replace, what); insert into last values (1, 'kept');
    create table heard(id); create trigger hears after insert on heard begin insert into last values (new.id, 'x'); end;
";

/// Runs `script` on a fresh database, with `forbid` on top of everything.
fn unreported(forbid: &str, script: &str) -> Outcome {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("owned.db");
    HostDatabase::open(&path)
        .and_then(|database| database.execute(UNREPORTED))
        .unwrap();
    let forbid = format!("@id(\"hidden\") forbid (principal in Profile::\"{ROOMY}\", {forbid});");
    run(&in_workers(roomy_with(&[], &forbid)), &sql(script).on_database(path))
}

const NO_SALARY: &str = "action == Action::\"read\", resource == Column::\"main.staff.salary\"";
const NO_VALUE: &str = "action == Action::\"read\", resource == Column::\"main.secrets.value\"";
const NO_KEY: &str = "action == Action::\"update\", resource == Column::\"main.pub.id\"";
const NO_AUDIT: &str = "action == Action::\"delete\", resource == Table::\"main.audit\"";
const NO_LAST: &str = "action == Action::\"delete\", resource == Table::\"main.last\"";

fn what_is_not_reported_is_refused_where_it_is_not_granted() {
    for (forbid, script) in [
        (NO_KEY, "update pub set rowid = 7"),
        (NO_KEY, "update pub set OID = 7"),
        (
            NO_SALARY,
            "create temp table staff as select 4200 as salary; select main.staff.name from main.staff natural join temp.staff",
        ),
        (NO_SALARY, "select a.name from staff a natural join staff b"),
        (NO_VALUE, "select n from secrets natural join json_each('[\"s3cret\"]')"),
        (NO_SALARY, "analyze"),
        (NO_SALARY, "select sample from sqlite_stat4"),
        (
            NO_SALARY,
            "create trigger later after insert on pub begin insert into secrets select name, salary from staff; end",
        ),
        (NO_SALARY, "create view pay as select * from staff"),
        (NO_AUDIT, "update or replace pub set v = 'x'"),
        (NO_LAST, "insert into heard values (1)"),
        (NO_LAST, "insert into last values (1, 'x')"),
    ] {
        let outcome = unreported(forbid, script);
        assert_eq!(
            (outcome.class, outcome.layer),
            (Class::DeniedSqlAction, Some(Layer::Authorizer)),
            "{script}: {}",
            outcome.detail
        );
    }
}

fn words_that_only_look_like_it_are_not_refused() {
    for (forbid, script) in [
        (NO_KEY, "update pub set v = 'x' where id = 2"),
        (NO_SALARY, "select name, 'natural', \"name\" from staff"),
        (
            NO_SALARY,
            "select name from staff join secrets on staff.name = secrets.n",
        ),
        (NO_SALARY, "create view names as select name from staff"),
        (NO_AUDIT, "update secrets set n = replace(n, 'a', 'b')"),
        (NO_LAST, "insert into secrets values ('last', 'replace')"),
        (NO_LAST, "update pub set v = 'last' where id = 2"),
    ] {
        assert_completed(&unreported(forbid, script));
    }
}
