//! Nothing is permitted: a bound of zero, and bounds so small that SQLite would quietly raise them.

use libtest_mimic::Trial;
use stockade_policies::Meter;
use stockade_runtime::{Class, Layer, Request, Runtime};

use crate::support::{assert_completed, assert_stopped, in_workers, named, only_notes, roomy, run, sql, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        nothing_passes_a_bound_of_zero,
        a_value_bound_below_what_sqlite_can_enforce_lets_nothing_pass,
        a_parser_bound_below_what_sqlite_can_enforce_lets_nothing_deeper_pass,
        a_profile_without_permits_runs_nothing,
        a_narrow_bound_does_not_make_a_common_table_expression_unreadable,
    ]
}

/// What every guest of a kind needs, and the class of its refusal.
const NEEDED: &[(Meter, bool, Class)] = &[
    (Meter::SqlLength, true, Class::LimitSqlValue),
    (Meter::SqlSqlLength, true, Class::LimitSqlLength),
    (Meter::SqlColumn, true, Class::LimitSqlColumns),
    (Meter::SqlExprDepth, true, Class::LimitSqlExpr),
    (Meter::SqlCompoundSelect, true, Class::LimitSqlCompound),
    (Meter::SqlVdbeOp, true, Class::LimitSqlProgram),
    (Meter::SqlParserDepth, true, Class::LimitSqlParser),
    (Meter::GrowHeap, true, Class::LimitMemory),
    (Meter::LoadGuest, true, Class::GuestTooLarge),
    (Meter::Elapse, true, Class::LimitTime),
    (Meter::Elapse, false, Class::LimitTime),
    (Meter::LoadGuest, false, Class::GuestTooLarge),
    (Meter::AddInstance, false, Class::LimitInstances),
    (Meter::GrowStack, false, Class::LimitStack),
    (Meter::BurnFuel, false, Class::LimitFuel),
    (Meter::Compile, false, Class::LimitTime),
    (Meter::WasmItem, false, Class::LimitModule),
    (Meter::WasmFunctionLength, false, Class::LimitModule),
];

fn plainest(is_sql: bool) -> Request {
    if is_sql { sql("select 1") } else { wasm("(module)") }
}

fn nothing_passes_a_bound_of_zero() {
    for &(meter, is_sql, class) in NEEDED {
        let request = plainest(is_sql);
        assert!(class.meters().contains(&meter), "{}", meter.action());
        for runtime in [
            in_workers(roomy(&[(meter, 0)])),
            Runtime::in_process(roomy(&[(meter, 0)])),
        ] {
            let outcome = run(&runtime, &request);
            assert_eq!(
                (outcome.class, outcome.layer),
                (class, Some(Layer::Screen)),
                "{}: {}",
                meter.action(),
                outcome.detail
            );
            assert!(outcome.product.statements.is_empty(), "{}", meter.action());
        }
        assert_completed(&run(&in_workers(roomy(&[])), &request));
    }
}

fn a_value_bound_below_what_sqlite_can_enforce_lets_nothing_pass() {
    for most in [1, 29] {
        let runtime = in_workers(roomy(&[(Meter::SqlLength, most)]));
        assert_stopped(&run(&runtime, &sql("select 1")), Class::LimitSqlValue, Layer::Screen);
    }
    let runtime = in_workers(roomy(&[(Meter::SqlLength, 30)]));
    assert_completed(&run(&runtime, &sql("select 1")));
}

/// SQLite's parser has room for fifty entries whatever it is told.
fn a_parser_bound_below_what_sqlite_can_enforce_lets_nothing_deeper_pass() {
    let runtime = in_workers(roomy(&[(Meter::SqlParserDepth, 20)]));
    let nested = format!("select {}1{}", "(".repeat(40), ")".repeat(40));
    let outcome = run(&runtime, &sql(nested));
    assert_eq!(outcome.class, Class::LimitSqlParser, "{}", outcome.detail);
}

fn a_profile_without_permits_runs_nothing() {
    let runtime = in_workers(stockade_policies::PolicyStore::stock().unwrap());
    for guest in [
        Request::sql("capabilities-minimal", "select 1"),
        Request::wasm("capabilities-minimal", "(module)"),
    ] {
        assert_stopped(&run(&runtime, &guest), Class::GuestTooLarge, Layer::Screen);
    }
}

/// The host asks the schema in SQL of its own: that must not need what the guest is not given.
fn a_narrow_bound_does_not_make_a_common_table_expression_unreadable() {
    let request = sql("with x as (select 1) select count(*) from x");
    let unreadable: Vec<String> = [
        (Meter::SqlLikePatternLength, 0),
        (Meter::SqlVariableNumber, 0),
        (Meter::SqlExprDepth, 3),
        (Meter::SqlFunctionArg, 1),
        (Meter::SqlSqlLength, 100),
    ]
    .into_iter()
    .filter_map(|(meter, most)| {
        let outcome = run(&in_workers(only_notes(&[(meter, most)])), &request);
        (outcome.class != Class::Completed)
            .then(|| format!("{} {most}: {} {}", meter.action(), outcome.class, outcome.detail))
    })
    .collect();
    assert!(unreadable.is_empty(), "{unreadable:#?}");
}
