//! The next tenant of a worker: whatever the one before it did, it finds its own limits and an empty database.

use libtest_mimic::Trial;
use std::sync::Arc;
use stockade_policies::Meter;
use stockade_runtime::worker::Pool;
use stockade_runtime::{Class, Layer, Runtime};

use crate::support::{assert_completed, assert_stopped, integer, last_rows, named, roomy, run, sql, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        a_memory_attack_leaves_the_heap_limit_behind_it,
        narrow_limits_are_not_the_next_guests,
        generous_limits_are_not_the_next_guests,
        the_database_in_memory_is_empty_again,
        temporary_tables_and_open_transactions_are_gone,
        a_stack_attack_leaves_no_trace,
    ]
}

/// Two runtimes with other policies, and one worker for both.
fn neighbours(first: &[(Meter, u64)], second: &[(Meter, u64)]) -> [Runtime; 2] {
    let pool = Arc::new(Pool::new(1).unwrap());
    [first, second].map(|narrowed| Runtime::in_pool(roomy(narrowed), Arc::clone(&pool)))
}

fn a_memory_attack_leaves_the_heap_limit_behind_it() {
    let [attacker, victim] = neighbours(&[(Meter::GrowHeap, 2 << 20)], &[]);
    let attack = "create table t(x); with recursive n(i) as (select 1 union all select i + 1 from n) \
                  insert into t select randomblob(100000) from n";
    assert_stopped(&run(&attacker, &sql(attack)), Class::LimitMemory, Layer::Heap);
    let outcome = run(&victim, &sql("select length(randomblob(16 << 20))"));
    assert_completed(&outcome);
    assert_eq!(last_rows(&outcome), integer(16 << 20));
    // And the other way round: the generous limit is not the attacker's.
    assert_stopped(&run(&attacker, &sql(attack)), Class::LimitMemory, Layer::Heap);
}

fn narrow_limits_are_not_the_next_guests() {
    let [narrow, wide] = neighbours(&[(Meter::SqlColumn, 2), (Meter::ReturnRows, 1)], &[]);
    let guest = sql("values (1, 2, 3), (4, 5, 6)");
    assert_stopped(&run(&narrow, &guest), Class::LimitSqlColumns, Layer::Limits);
    let outcome = run(&wide, &guest);
    assert_completed(&outcome);
    assert_eq!(last_rows(&outcome).len(), 2);
}

fn generous_limits_are_not_the_next_guests() {
    let [wide, narrow] = neighbours(&[], &[(Meter::SqlColumn, 2)]);
    let guest = sql("values (1, 2, 3)");
    assert_completed(&run(&wide, &guest));
    assert_stopped(&run(&narrow, &guest), Class::LimitSqlColumns, Layer::Limits);
}

fn the_database_in_memory_is_empty_again() {
    let [first, second] = neighbours(&[], &[(Meter::GrowDatabase, 1 << 20)]);
    assert_completed(&run(
        &first,
        &sql("create table secrets(x); insert into secrets values ('mine');"),
    ));
    for runtime in [&first, &second] {
        let outcome = run(runtime, &sql("select count(*) from sqlite_master"));
        assert_completed(&outcome);
        assert_eq!(last_rows(&outcome), integer(0));
        let outcome = run(runtime, &sql("select x from secrets"));
        assert_eq!(
            (outcome.class, outcome.layer),
            (Class::SqlSyntax, None),
            "{}",
            outcome.detail
        );
    }
}

fn temporary_tables_and_open_transactions_are_gone() {
    let [first, second] = neighbours(&[], &[(Meter::GrowDatabase, 1 << 20)]);
    assert_completed(&run(
        &first,
        &sql("create temp table mine(x); begin; create table also(x);"),
    ));
    let outcome = run(&second, &sql("select count(*) from sqlite_temp_master; begin; commit;"));
    assert_completed(&outcome);
    assert_eq!(outcome.product.statements[0].rows, integer(0));
}

fn a_stack_attack_leaves_no_trace() {
    let [attacker, victim] = neighbours(&[], &[(Meter::GrowStack, 1 << 20)]);
    let endless = wasm("(module (func $down (export \"run\") (call $down) (call $down)))");
    assert_stopped(&run(&attacker, &endless), Class::LimitStack, Layer::Stack);
    let outcome = run(
        &victim,
        &wasm("(module (memory (export \"memory\") 1) (func (export \"run\") (result i32) (i32.load (i32.const 0))))"),
    );
    assert_completed(&outcome);
    assert_stopped(&run(&victim, &endless), Class::LimitStack, Layer::Stack);
}
