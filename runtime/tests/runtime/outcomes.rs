//! Outcomes and trails: the same in a worker and in process, and written in the right order.

use libtest_mimic::Trial;
use stockade_policies::{Meter, PolicyStore};
use stockade_runtime::{Class, Event, HostDatabase, Outcome, Request, Runtime, SqlValue};
use tempfile::TempDir;

use crate::support::{ENDLESS, in_workers, last_rows, named, only_notes, roomy, run, sql, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        ordinary_guests_end_alike_in_a_worker_and_in_process,
        stock_profiles_end_alike_in_a_worker_and_in_process,
        a_trail_begins_with_the_admission,
        nothing_is_decided_before_the_start,
        a_refused_guest_has_its_refusal_last,
        a_guest_that_completed_has_no_refusal,
        a_script_keeps_what_it_had_before_it_was_stopped,
        an_explanation_has_no_address,
    ]
}

/// SQLite's own says where the process has its memory.
fn an_explanation_has_no_address() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tree.db");
    let bare = HostDatabase::open(&path).unwrap();
    bare.execute("create virtual table tree using rtree(id, low, high)")
        .unwrap();
    // What goes with an opcode.
    let told = |rows: &[Vec<SqlValue>], opcode: &str| {
        let row = rows.iter().find(|row| row[1] == SqlValue::Text(opcode.to_owned()));
        row.unwrap()[5].clone()
    };
    for (explained, opcode) in [
        ("explain select name from pragma_table_info('sqlite_schema')", "VOpen"),
        ("explain pragma integrity_check", "VCheck"),
    ] {
        let rows = bare.compile(explained).unwrap().run().unwrap().remove(0).rows;
        let address = match told(&rows, opcode) {
            SqlValue::Text(text) => text.len(),
            SqlValue::Blob(bytes) => bytes.len(),
            other => panic!("{other:?}"),
        };
        assert!(address >= 6, "{opcode} has {address} bytes beside it");
        for runtime in [in_workers(roomy(&[])), Runtime::in_process(roomy(&[]))] {
            let outcome = run(&runtime, &sql(explained).on_database(&path));
            assert_eq!(told(last_rows(&outcome), opcode), SqlValue::Null);
        }
    }
}

/// Ordinary guests and what becomes of them.
fn ordinary() -> Vec<(Request, Class)> {
    let scripts = [
        ("", Class::Completed),
        (";;", Class::Completed),
        ("-- nothing", Class::Completed),
        ("select 6 * 7 as answer", Class::Completed),
        (
            "select null, 1, 2.5, 'text', x'00ff', cast(x'ff' as text)",
            Class::Completed,
        ),
        ("select 'attach', 'pragma'; select 'é'", Class::Completed),
        (
            "create table t(a, b); insert into t values (1, 'x'), (2, 'y'); update t set a = 3; \
             select * from t order by b desc; delete from t; select count(*) from t",
            Class::Completed,
        ),
        (
            "create table t(a primary key); insert into t values (1); insert into t values (1); select 1",
            Class::SqlError,
        ),
        ("selec 1", Class::SqlSyntax),
        ("select 1; select no_such_column", Class::SqlSyntax),
        ("select abs(-9223372036854775808)", Class::SqlError),
        (
            "begin; create table t(a); rollback; select count(*) from sqlite_master",
            Class::Completed,
        ),
        (
            "with x as (select 1 as a union select 2) select sum(a) from x",
            Class::Completed,
        ),
        ("select 'a\0b'", Class::GuestMalformed),
    ];
    let modules = [
        ("(module)", Class::Completed),
        (
            "(module (func (export \"run\") (result i32 i64) (i32.const 7) (i64.const -1)))",
            Class::Completed,
        ),
        ("(module (func (export \"_start\") unreachable))", Class::Trap),
        (
            "(module (func (export \"run\") (result i32) (i32.div_s (i32.const 1) (i32.const 0))))",
            Class::Trap,
        ),
        ("(module (func (export \"run\")", Class::ModuleMalformed),
        ("(module (import \"env\" \"exit\" (func)))", Class::DeniedImport),
        (
            "(module (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
             (memory (export \"memory\") 1) (data (i32.const 8) \"hello\")
             (func (export \"run\") (result i32) (call $log (i32.const 8) (i32.const 5))))",
            Class::Completed,
        ),
        (
            "(module (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
             (memory (export \"memory\") 1)
             (func (export \"run\") (result i32) (call $log (i32.const 65530) (i32.const 7))))",
            Class::ContractBadPointer,
        ),
    ];
    scripts
        .map(|(script, class)| (sql(script), class))
        .into_iter()
        .chain(modules.map(|(module, class)| (wasm(module), class)))
        .collect()
}

/// What must not depend on where a guest runs.
fn essence(outcome: &Outcome) -> impl PartialEq + std::fmt::Debug + use<> {
    let Outcome {
        class,
        layer,
        detail,
        product,
        trail,
        ..
    } = outcome.clone();
    (class, layer, detail, product, trail)
}

fn ordinary_guests_end_alike_in_a_worker_and_in_process() {
    let (outside, inside) = (in_workers(roomy(&[])), Runtime::in_process(roomy(&[])));
    for (request, class) in ordinary() {
        let name = String::from_utf8_lossy(request.guest.bytes()).into_owned();
        let outcome = run(&outside, &request);
        assert_eq!(outcome.class, class, "{name}: {}", outcome.detail);
        assert_eq!(essence(&outcome), essence(&run(&inside, &request)), "{name}");
    }
}

fn stock_profiles_end_alike_in_a_worker_and_in_process() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stage.db");
    HostDatabase::open(&path)
        .and_then(|database| database.execute("create table notes(id, body); insert into notes values (1, 'hello');"))
        .unwrap();
    let policies = PolicyStore::stock().unwrap();
    let (outside, inside) = (in_workers(policies.clone()), Runtime::in_process(policies));
    for profile in ["untrusted", "database-only", "standard", "trusted", "walkin", "pure"] {
        for script in [
            "select 1",
            "select body from notes",
            "select count(*) from notes",
            "with x as (select 1) select count(*) from x",
            "update notes set body = body",
            "select name from sqlite_master",
            "attach ':memory:' as other",
            "pragma user_version",
        ] {
            let request = Request::sql(profile, script).on_database(&path);
            assert_eq!(
                essence(&run(&outside, &request)),
                essence(&run(&inside, &request)),
                "{profile}: {script}"
            );
        }
    }
}

/// Guests that end in many ways, with the runtimes that they end so in.
fn endings() -> Vec<(Outcome, String)> {
    let mut endings = Vec::new();
    let narrow = [(Meter::Elapse, 300), (Meter::ReturnRows, 3), (Meter::CallHost, 2)];
    for runtime in [
        in_workers(only_notes(&narrow)),
        Runtime::in_process(only_notes(&narrow)),
    ] {
        let more = [
            sql(ENDLESS),
            sql("select name from sqlite_master"),
            sql("values (1), (2), (3), (4)"),
            wasm("(module (func (export \"run\") (loop $again (br $again))))"),
            wasm(
                "(module (import \"stockade\" \"clock_now_ms\" (func $now (result i64)))
                 (func (export \"run\") (loop $again (drop (call $now)) (br $again))))",
            ),
        ];
        for request in ordinary().into_iter().map(|(request, _)| request).chain(more) {
            let name = String::from_utf8_lossy(request.guest.bytes()).into_owned();
            endings.push((run(&runtime, &request), name));
        }
    }
    endings
}

fn a_trail_begins_with_the_admission() {
    let plan = roomy(&[]);
    let runtime = in_workers(plan);
    for (request, _) in ordinary() {
        let outcome = run(&runtime, &request);
        let digest = runtime.plan(&request).unwrap().digest().to_owned();
        assert_eq!(
            outcome.trail.events().first(),
            Some(&Event::Admitted {
                profile: request.profile.clone(),
                plan: digest
            })
        );
    }
    for (outcome, name) in endings() {
        let events = outcome.trail.events();
        let admissions = events.iter().filter(|event| matches!(event, Event::Admitted { .. }));
        assert_eq!(admissions.count(), 1, "{name}");
        assert!(matches!(events.first(), Some(Event::Admitted { .. })), "{name}");
    }
}

fn nothing_is_decided_before_the_start() {
    let mut started = 0;
    for (outcome, name) in endings() {
        let events = outcome.trail.events();
        let start = events.iter().position(|event| *event == Event::Started);
        let first_decision = events.iter().position(|event| matches!(event, Event::Decided { .. }));
        if let Some(decided) = first_decision {
            assert!(start.is_some_and(|start| start < decided), "{name}: {events:?}");
        }
        let has_product = !outcome.product.statements.is_empty() || !outcome.product.log.is_empty();
        assert!(start.is_some() || !has_product, "{name}");
        let is_before_start = matches!(
            outcome.class,
            Class::GuestMalformed | Class::ModuleMalformed | Class::DeniedImport
        );
        assert_eq!(start.is_none(), is_before_start, "{name}: {events:?}");
        started += usize::from(start.is_some());
    }
    assert!(started > 20, "{started}");
}

fn a_refused_guest_has_its_refusal_last() {
    let mut refused = 0;
    for (outcome, name) in endings() {
        if outcome.class.is_completed() {
            continue;
        }
        refused += 1;
        let expected = Event::Refused {
            class: outcome.class,
            layer: outcome.layer,
        };
        assert_eq!(outcome.trail.events().last(), Some(&expected), "{name}");
        let refusals = outcome.trail.events().iter();
        let count = refusals.filter(|event| matches!(event, Event::Refused { .. })).count();
        assert_eq!(count, 1, "{name}: {:?}", outcome.trail.events());
    }
    assert!(refused > 20, "{refused}");
}

fn a_guest_that_completed_has_no_refusal() {
    for (outcome, name) in endings() {
        if outcome.class == Class::Completed {
            let events = outcome.trail.events();
            assert!(
                !events.iter().any(|event| matches!(event, Event::Refused { .. })),
                "{name}: {events:?}"
            );
        }
    }
}

fn a_script_keeps_what_it_had_before_it_was_stopped() {
    // In process: a worker that is killed takes with it what its guest had.
    let runtime = Runtime::in_process(only_notes(&[(Meter::Elapse, 300), (Meter::ReturnRows, 3)]));
    for (script, class) in [
        (format!("select 1; {ENDLESS}"), Class::LimitTime),
        (
            "select 1; select name from sqlite_master".to_owned(),
            Class::DeniedSqlAction,
        ),
        ("select 1; selec 2".to_owned(), Class::SqlSyntax),
        ("select 1; values (2), (3), (4), (5)".to_owned(), Class::Truncated),
    ] {
        let outcome = run(&runtime, &sql(script));
        assert_eq!(outcome.class, class, "{}", outcome.detail);
        assert_eq!(
            outcome.product.statements[0].rows,
            crate::support::integer(1),
            "{class}"
        );
        let rows: usize = outcome.product.statements.iter().map(|result| result.rows.len()).sum();
        assert_eq!(rows, if class == Class::Truncated { 3 } else { 1 }, "{class}");
    }
}
