//! Modules that run one after the other: bytes go on, refusals do not, and time adds up.

use libtest_mimic::Trial;
use stockade_policies::Meter;
use stockade_runtime::{Class, Layer, Outcome, Request, Runtime, RuntimeError};

use crate::support::{assert_completed, assert_stopped, in_workers, named, roomy, run, sql, wasm};

pub fn trials() -> Vec<Trial> {
    named![
        each_module_takes_what_the_one_before_hands_over,
        a_module_without_output_hands_over_nothing,
        a_refusal_ends_the_chain,
        what_is_too_much_for_the_next_module_is_refused,
        time_adds_up_in_workers,
        time_adds_up_in_process,
        what_is_no_chain_is_an_error,
    ]
}

/// Follows the contract: `body` computes the output's length from the input's, which is local 0. Input and output are at 1024.
fn module(capacity: u32, body: &str) -> Request {
    wasm(format!(
        "(module
           (import \"stockade\" \"clock_now_ms\" (func $now (result i64)))
           (memory (export \"memory\") 1)
           (global (export \"input_ptr\") i32 (i32.const 1024))
           (global (export \"input_bytes_cap\") i32 (i32.const {capacity}))
           (global (export \"output_ptr\") i32 (i32.const 1024))
           (global (export \"output_bytes_cap\") i32 (i32.const 1000))
           (func (export \"run\") (param i32) (result i32) (local $end i64) (local $left i32) {body}))"
    ))
}

/// Writes one more byte after its input.
fn appending(byte: char) -> Request {
    let body = format!(
        "(i32.store8 offset=1024 (local.get 0) (i32.const {})) (i32.add (local.get 0) (i32.const 1))",
        u32::from(byte)
    );
    module(1000, &body)
}

/// Looks at the clock until so many milliseconds are over, and not often: calls are counted too.
fn lasting(millis: u32) -> Request {
    let body = format!(
        "(local.set $end (i64.add (call $now) (i64.const {millis})))
         (loop $again
           (local.set $left (i32.const 10000000))
           (loop $wait (br_if $wait (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
           (br_if $again (i64.lt_s (call $now) (local.get $end))))
         (local.get 0)"
    );
    module(1000, &body)
}

fn with_input(mut request: Request, input: &str) -> Request {
    request.input = input.as_bytes().to_vec();
    request
}

#[track_caller]
fn chain(runtime: &Runtime, modules: &[Request]) -> Vec<Outcome> {
    runtime.run_chain(modules).expect("the chain has outcomes")
}

fn each_module_takes_what_the_one_before_hands_over() {
    let modules = [with_input(appending('b'), "a"), appending('c'), appending('d')];
    let outcomes = chain(&in_workers(roomy(&[])), &modules);
    let outputs: Vec<&[u8]> = outcomes
        .iter()
        .map(|outcome| outcome.product.output.as_slice())
        .collect();
    assert_eq!(outputs, [b"ab".as_slice(), b"abc", b"abcd"]);
    outcomes.iter().for_each(assert_completed);
}

fn a_module_without_output_hands_over_nothing() {
    let silent = wasm(
        "(module (memory (export \"memory\") 1)
           (global (export \"input_ptr\") i32 (i32.const 1024))
           (global (export \"input_bytes_cap\") i32 (i32.const 1000))
           (func (export \"run\") (param i32) (result i32) (i32.const 7)))",
    );
    let outcomes = chain(&in_workers(roomy(&[])), &[with_input(silent, "lost"), appending('x')]);
    assert_eq!(outcomes[1].product.output, b"x");
}

fn a_refusal_ends_the_chain() {
    let trapping = module(1000, "unreachable");
    let outcomes = chain(&in_workers(roomy(&[])), &[appending('a'), trapping, appending('b')]);
    let classes: Vec<Class> = outcomes.iter().map(|outcome| outcome.class).collect();
    assert_eq!(classes, [Class::Completed, Class::Trap]);
}

fn what_is_too_much_for_the_next_module_is_refused() {
    let runtime = in_workers(roomy(&[]));
    let echo = |capacity| module(capacity, "(local.get 0)");
    let fits = chain(&runtime, &[with_input(echo(1000), "12345"), echo(5)]);
    fits.iter().for_each(assert_completed);
    let outcomes = chain(&runtime, &[with_input(echo(1000), "12345"), echo(4)]);
    assert_stopped(&outcomes[1], Class::LimitInput, Layer::Quota);
}

fn time_adds_up_in_workers() {
    time_adds_up(&in_workers(roomy(&[(Meter::Elapse, 2000)])));
}

fn time_adds_up_in_process() {
    time_adds_up(&Runtime::in_process(roomy(&[(Meter::Elapse, 2000)])));
}

/// Each alone is within its time, and both together are not.
fn time_adds_up(runtime: &Runtime) {
    assert_completed(&run(runtime, &lasting(1200)));
    let outcomes = chain(runtime, &[lasting(1200), lasting(1200)]);
    assert_completed(&outcomes[0]);
    assert_stopped(&outcomes[1], Class::LimitTime, Layer::Deadline);
    let both: u64 = outcomes.iter().map(|outcome| outcome.wall_us).sum();
    assert!(both >= 2_000_000, "{both}");
}

fn what_is_no_chain_is_an_error() {
    let runtime = in_workers(roomy(&[]));
    let wrong = [
        vec![],
        vec![appending('a'), sql("select 1")],
        vec![appending('a'), with_input(appending('b'), "mine")],
    ];
    for modules in wrong {
        let error = runtime.run_chain(&modules).expect_err("this is no chain");
        assert!(matches!(error, RuntimeError::Request(_)), "{error}");
    }
}
