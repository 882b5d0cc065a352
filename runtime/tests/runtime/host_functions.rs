//! What a run leaves behind: lines of its trail, and changes of its namespace.

use libtest_mimic::Trial;
use stockade_policies::Meter;
use stockade_runtime::{Class, Event, Layer, Outcome, Request, Runtime, State};

use crate::support::{assert_completed, assert_stopped, in_workers, named, roomy, run, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        a_function_is_one_line_of_the_trail_however_often_it_was_called,
        a_call_that_was_refused_is_counted_before_the_refusal,
        buffers_that_were_not_given_back_are_a_line_of_the_trail,
        a_guest_that_completed_changed_its_namespace,
        a_guest_that_was_refused_changed_nothing,
        a_guest_that_trapped_changed_nothing,
        a_namespace_larger_than_the_bound_can_be_read_and_not_grown,
    ]
}

/// Both ways of running a guest.
fn runtimes(narrowed: &[(Meter, u64)]) -> [Runtime; 2] {
    [in_workers(roomy(narrowed)), Runtime::in_process(roomy(narrowed))]
}

fn called(outcome: &Outcome) -> Vec<(&str, u64, u64)> {
    let events = outcome.trail.events().iter();
    events
        .filter_map(|event| match event {
            Event::Called { function, calls, bytes } => Some((function.as_str(), *calls, *bytes)),
            _ => None,
        })
        .collect()
}

/// Logs three bytes and four, reads the clock, and logs once more.
fn logging() -> Request {
    wasm(
        "(module
           (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
           (import \"stockade\" \"clock_now_ms\" (func $now (result i64)))
           (memory (export \"memory\") 1)
           (func (export \"run\")
             (drop (call $log (i32.const 16) (i32.const 3)))
             (drop (call $log (i32.const 16) (i32.const 4)))
             (drop (call $now))
             (drop (call $log (i32.const 16) (i32.const 5)))))",
    )
}

fn a_function_is_one_line_of_the_trail_however_often_it_was_called() {
    for runtime in runtimes(&[]) {
        let outcome = run(&runtime, &logging());
        assert_completed(&outcome);
        assert_eq!(
            called(&outcome),
            [("stockade#log", 3, 12), ("stockade#clock_now_ms", 1, 0)]
        );
    }
}

fn a_call_that_was_refused_is_counted_before_the_refusal() {
    for runtime in runtimes(&[(Meter::CallHost, 3)]) {
        let outcome = run(&runtime, &logging());
        assert_stopped(&outcome, Class::LimitCalls, Layer::Quota);
        assert_eq!(
            called(&outcome),
            [("stockade#log", 3, 12), ("stockade#clock_now_ms", 1, 0)]
        );
        assert!(matches!(outcome.trail.events().last(), Some(Event::Refused { .. })));
    }
}

/// Asks for two answers, and gives the first so many back.
fn asking(given_back: usize) -> Request {
    const QUERY: &str = "(drop (call $query (i32.const 16) (i32.const 8) (i32.const 4) (i32.const 8)))";
    let release = [
        "(drop (call $release (i32.const 1024)))",
        "(drop (call $release (i32.const 1029)))",
    ];
    wasm(format!(
        "(module
           (import \"stockade\" \"db_query\" (func $query (param i32 i32 i32 i32) (result i32)))
           (import \"stockade\" \"release\" (func $release (param i32) (result i32)))
           (memory (export \"memory\") 1)
           (data (i32.const 16) \"select 1\")
           (global $next (mut i32) (i32.const 1024))
           (func (export \"__wasm_allocate\") (param i32) (result i32)
             (global.get $next)
             (global.set $next (i32.add (global.get $next) (local.get 0))))
           (func (export \"__wasm_deallocate\") (param i32 i32))
           (func (export \"run\") {QUERY} {QUERY} {}))",
        release.iter().take(given_back).copied().collect::<String>()
    ))
}

fn buffers_that_were_not_given_back_are_a_line_of_the_trail() {
    for (given_back, held) in [(0, Some((2, 10))), (1, Some((1, 5))), (2, None)] {
        let outcome = run(&in_workers(roomy(&[])), &asking(given_back));
        assert_completed(&outcome);
        let seen = outcome.trail.events().iter().find_map(|event| match event {
            Event::Held { buffers, bytes } => Some((*buffers, *bytes)),
            _ => None,
        });
        assert_eq!(seen, held);
    }
}

/// Sets `key` to `new` and then does this.
fn setting(and_then: &str) -> Request {
    let mut state = State::of("orders");
    state.set("key", "old");
    wasm(format!(
        "(module
           (import \"stockade\" \"state_set\" (func $set (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (data (i32.const 16) \"key\") (data (i32.const 32) \"new\")
           (func $set_key (result i32) (call $set (i32.const 16) (i32.const 3) (i32.const 32) (i32.const 3)))
           (func (export \"run\") (drop (call $set_key)) {and_then}))"
    ))
    .with_state(state)
}

fn a_guest_that_completed_changed_its_namespace() {
    for runtime in runtimes(&[]) {
        let request = setting("");
        let outcome = run(&runtime, &request);
        assert_completed(&outcome);
        let mut state = request.state;
        state.apply(&outcome.product.state);
        assert_eq!((state.namespace(), state.get("key")), ("orders", Some(&b"new"[..])));
    }
}

fn a_guest_that_was_refused_changed_nothing() {
    for runtime in runtimes(&[(Meter::CallHost, 1)]) {
        let outcome = run(&runtime, &setting("(drop (call $set_key))"));
        assert_stopped(&outcome, Class::LimitCalls, Layer::Quota);
        assert!(outcome.product.state.is_empty());
    }
}

fn a_guest_that_trapped_changed_nothing() {
    for runtime in runtimes(&[]) {
        let outcome = run(&runtime, &setting("unreachable"));
        assert_eq!(outcome.class, Class::Trap);
        assert!(outcome.product.state.is_empty());
    }
}

fn a_namespace_larger_than_the_bound_can_be_read_and_not_grown() {
    // `key` and `old` are six bytes.
    for runtime in runtimes(&[(Meter::GrowState, 5)]) {
        let reading = wasm(
            "(module
               (import \"stockade\" \"state_get\" (func $get (param i32 i32 i32 i32) (result i32)))
               (memory (export \"memory\") 1)
               (data (i32.const 16) \"key\")
               (func (export \"__wasm_allocate\") (param i32) (result i32) (i32.const 1024))
               (func (export \"run\")
                 (drop (call $get (i32.const 16) (i32.const 3) (i32.const 4) (i32.const 8)))))",
        );
        assert_completed(&run(&runtime, &reading.with_state(setting("").state)));
        assert_stopped(&run(&runtime, &setting("")), Class::LimitState, Layer::Quota);
    }
}
