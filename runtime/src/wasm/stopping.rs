//! Guests that must be stopped, and guests that must not notice.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use stockade_policies::{Meter, Plan, PolicyStore, Principal, Source, SourceKind, Stock};

use super::engine::{self, Stopping};
use super::program::Program;
use super::run::{compile, run_stopping};
use crate::deadline::allowance;
use crate::execute::Ended;
use crate::gate::Gate;
use crate::layer::{Layer, Layers};
use crate::outcome::{Class, Product, WasmValue};
use crate::request::Request;

/// Guests without an end, each in its own way.
const ENDLESS: &[(&str, &str)] = &[
    ("a loop", "(module (func (export \"run\") (loop $again (br $again))))"),
    (
        "a loop that is not the first instruction, in blocks",
        "(module (func (export \"run\") (local i32) (block (block (local.set 0 (i32.const 1))
           (loop $again (param) (br_if $again (local.get 0)))))))",
    ),
    (
        "a loop with parameters and results",
        "(module (func (export \"run\") (result i64) (i64.const 1)
           (loop $again (param i64) (result i64) (i64.const 1) (i64.add) (br $again))))",
    ),
    (
        "a loop that touches every kind of state",
        "(module (memory 1) (table 1 funcref) (global $g (mut i32) (i32.const 0))
           (func (export \"run\") (loop $again
             (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
             (global.set $g (i32.load (i32.const 0)))
             (table.set (i32.const 0) (ref.null func))
             (br $again))))",
    ),
    (
        "bulk operations in a loop",
        "(module (memory 1) (func (export \"run\") (loop $again
           (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br $again))))",
    ),
    (
        "a tail call to itself",
        "(module (func $run (export \"run\") (return_call $run)))",
    ),
    (
        "tail calls in a ring, through a table",
        "(module (type $t (func)) (table funcref (elem $a $b))
           (func $a (return_call_indirect (type $t) (i32.const 1)))
           (func $b (return_call_indirect (type $t) (i32.const 0)))
           (func (export \"run\") (call $a)))",
    ),
    (
        "a start function",
        "(module (func $start (loop $again (br $again))) (start $start) (func (export \"run\")))",
    ),
    (
        "the getter of an address",
        "(module (memory (export \"memory\") 1)
           (func (export \"input_ptr\") (result i32) (loop $again (br $again)) (i32.const 8))
           (global (export \"input_bytes_cap\") i32 (i32.const 8))
           (func (export \"run\") (param i32) (result i32) (i32.const 0)))",
    ),
];

/// Twice as many calls at each of a hundred levels, and neither a loop nor a recursion.
fn calls_without_end(call: impl Fn(usize) -> String) -> String {
    let levels: String = (1..100)
        .map(|level| format!("(func $f{level} (type $t) {0} {0})", call(level - 1)))
        .collect();
    let names: String = (0..100).map(|level| format!("$f{level} ")).collect();
    format!(
        "(module (type $t (func)) (table funcref (elem {names})) (func $f0 (type $t)) {levels}
           (func (export \"run\") (call $f99)))"
    )
}

fn endless() -> Vec<(&'static str, String)> {
    let mut guests: Vec<(&str, String)> = ENDLESS.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    guests.push((
        "calls in a tree",
        calls_without_end(|level| format!("(call $f{level})")),
    ));
    guests.push((
        "calls in a tree, through a table",
        calls_without_end(|level| format!("(call_indirect (type $t) (i32.const {level}))")),
    ));
    guests
}

fn gate(narrowed: &[(Meter, u64)]) -> Arc<Gate> {
    Arc::new(Gate::new(plan(narrowed), Layers::ALL, Box::new(())))
}

fn plan(narrowed: &[(Meter, u64)]) -> Plan {
    let mut text = String::new();
    for meter in Meter::ALL {
        let (action, resource) = (meter.action(), meter.resource());
        text.push_str(&format!(
            "@id(\"permit-{action}\") permit (principal, action == Action::\"{action}\", resource == Meter::\"{resource}\");"
        ));
    }
    for (meter, most) in narrowed {
        let (action, unit) = (meter.action(), meter.unit().name());
        text.push_str(&format!(
            "@id(\"narrow-{action}\") forbid (principal, action == Action::\"{action}\", resource)
             unless {{ context.{unit} <= {most} }};"
        ));
    }
    let entities = r#"[{"uid": {"type": "Profile", "id": "tested"}, "attrs": {}, "parents": []}]"#.to_owned();
    let source = |name: &str, text, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    let sources = [
        source("tested.json", entities, SourceKind::Entities),
        source("tested.cedar", text, SourceKind::Policies),
    ];
    let policies = PolicyStore::load(&sources, Stock::Without).unwrap();
    policies.plan(&Principal::caller("guest", "tested")).unwrap()
}

/// The outcome of a guest, or a failure where it does not end.
#[track_caller]
fn run(text: &str, gate: &Arc<Gate>, stopping: Stopping, invoke: Option<&str>) -> Ended {
    run_for_product(text, gate, stopping, invoke).0
}

/// The same, and what it handed back.
#[track_caller]
fn run_for_product(text: &str, gate: &Arc<Gate>, stopping: Stopping, invoke: Option<&str>) -> (Ended, Product) {
    const LONG: Duration = Duration::from_mins(1);
    let mut request = Request::wasm("tested", text);
    request.invoke = invoke.map(str::to_owned);
    let (gate, (sender, receiver)) = (Arc::clone(gate), mpsc::channel());
    thread::spawn(move || {
        let mut product = Product::default();
        let ended = run_stopping(
            request.guest.bytes(),
            &request,
            &gate,
            allowance(gate.bound(Meter::Elapse)),
            stopping,
            &mut product,
        );
        sender.send(ended.map(|ended| (ended, product))).unwrap_or_default();
    });
    match receiver.recv_timeout(LONG) {
        Ok(ended) => ended.unwrap(),
        Err(RecvTimeoutError::Timeout) => panic!("the guest was not stopped: {text}"),
        Err(RecvTimeoutError::Disconnected) => panic!("the guest took its thread along: {text}"),
    }
}

#[track_caller]
fn assert_stopped(ended: &Ended, what: &str) {
    let refusal = ended.class.as_ref().expect_err(what);
    assert_eq!(
        (refusal.class, refusal.layer),
        (Class::LimitTime, Some(Layer::Deadline)),
        "{what}: {}",
        refusal.detail
    );
}

fn results(product: &Product) -> &[WasmValue] {
    &product.results
}

#[track_caller]
fn compiled(text: &str, gate: &Arc<Gate>) -> Program {
    match compile(text.as_bytes(), gate, Stopping::Page).unwrap() {
        Ok((program, _)) => program,
        Err(refusal) => panic!("{}: {text}", refusal.detail),
    }
}

#[test]
fn an_endless_guest_is_stopped_by_its_page() {
    for (name, text) in endless() {
        let gate = gate(&[(Meter::Elapse, 30)]);
        assert_eq!(compiled(&text, &gate).stopping, Stopping::Page, "{name}");
        assert_stopped(&run(&text, &gate, Stopping::Page, None), name);
    }
}

#[test]
fn an_endless_guest_is_stopped_by_its_epoch() {
    for (name, text) in endless() {
        let gate = gate(&[(Meter::Elapse, 30)]);
        assert_stopped(&run(&text, &gate, Stopping::Epoch, None), name);
    }
}

#[test]
fn a_guest_that_cannot_be_rewritten_is_stopped_all_the_same() {
    // A hundred memories are the most that a module may have.
    let memories = "(memory 0)".repeat(100);
    let text = format!("(module {memories} (func (export \"run\") (loop $again (br $again))))");
    let gate = gate(&[(Meter::Elapse, 30)]);
    assert_eq!(compiled(&text, &gate).stopping, Stopping::Epoch);
    assert_stopped(&run(&text, &gate, Stopping::Page, None), "a hundred memories");
    let one_less = format!("(module {})", "(memory 0)".repeat(99));
    assert_eq!(compiled(&one_less, &gate).stopping, Stopping::Page);
}

#[test]
fn a_guest_that_traps_by_itself_is_not_said_to_be_late() {
    let gate = gate(&[(Meter::Elapse, 60_000)]);
    let text = "(module (memory 1) (func (export \"run\") (result i32) (i32.load (i32.const 65536))))";
    let ended = run(text, &gate, Stopping::Page, None);
    let refusal = ended.class.unwrap_err();
    assert_eq!(
        (refusal.class, refusal.layer),
        (Class::Trap, None),
        "{}",
        refusal.detail
    );
}

#[test]
fn guests_of_one_engine_are_stopped_one_by_one() {
    // While many guests of the same engine are stopped, one that has time goes on to its end.
    let patient = "(module (func (export \"run\") (result i32) (local i64)
        (loop $again
          (local.set 0 (i64.add (local.get 0) (i64.const 1)))
          (br_if $again (i64.lt_u (local.get 0) (i64.const 1000000000))))
        (i32.const 42)))";
    for stopping in [Stopping::Page, Stopping::Epoch] {
        let worker = thread::spawn(move || run_for_product(patient, &gate(&[(Meter::Elapse, 60_000)]), stopping, None));
        while !worker.is_finished() {
            let ended = run(ENDLESS[0].1, &gate(&[(Meter::Elapse, 10)]), stopping, None);
            assert_stopped(&ended, "a loop");
        }
        let (ended, product) = worker.join().unwrap();
        assert_eq!(ended.class.as_ref().ok(), Some(&Class::Completed), "{stopping:?}");
        assert_eq!(results(&product), [WasmValue::I32(42)]);
    }
}

/// Sections of every kind that a guest may have, and names that it should not have taken.
const EVERYTHING: &str = "(module
    (memory $first (export \"stockade#watchdog\") 1)
    (memory $second 1)
    (table $table 2 funcref)
    (global $started (mut i32) (i32.const 0))
    (func $start (export \"stockade#start\") (global.set $started (i32.add (global.get $started) (i32.const 1))))
    (start $start)
    (elem (table $table) (i32.const 0) func $seven $eight)
    (data $passive \"\\09\")
    (data (memory $second) (i32.const 65535) \"\\05\")
    (func $seven (result i32) (i32.const 7))
    (func $eight (result i32) (i32.const 8))
    (func (export \"run\") (result i32 i32 i32 i32 i32 i32)
      (memory.init $first $passive (i32.const 65535) (i32.const 0) (i32.const 1))
      (i32.load8_u $first (i32.const 65535))
      (i32.load8_u $second (i32.const 65535))
      (call_indirect $table (result i32) (i32.const 1))
      (global.get $started)
      (memory.size $first)
      (memory.size $second)))";

#[test]
fn a_module_means_what_it_meant() {
    let gate = gate(&[(Meter::AddMemory, 2), (Meter::GrowMemory, 2 * 65536)]);
    assert_eq!(compiled(EVERYTHING, &gate).stopping, Stopping::Page);
    for stopping in [Stopping::Never, Stopping::Page, Stopping::Epoch] {
        let (ended, product) = run_for_product(EVERYTHING, &gate, stopping, None);
        assert_eq!(ended.class.as_ref().ok(), Some(&Class::Completed), "{stopping:?}");
        assert_eq!(
            results(&product),
            [9, 5, 8, 1, 1, 1].map(WasmValue::I32),
            "{stopping:?}"
        );
    }
}

#[test]
fn names_that_the_guest_took_stay_its_own() {
    let gate = gate(&[]);
    let exports = compiled(EVERYTHING, &gate).exports;
    assert_eq!(exports.page.as_deref(), Some("stockade#watchdog'"));
    let start = exports.start.unwrap();
    assert_eq!(start, "stockade#start'");
    // What the guest exports can be called, what was added cannot.
    let ended = run(EVERYTHING, &gate, Stopping::Page, Some("stockade#start"));
    assert_eq!(ended.class.ok(), Some(Class::Completed));
    let mut request = Request::wasm("tested", EVERYTHING);
    request.invoke = Some(start);
    let refused = run_stopping(
        request.guest.bytes(),
        &request,
        &gate,
        allowance(gate.bound(Meter::Elapse)),
        Stopping::Page,
        &mut Product::default(),
    );
    let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.ends_with("it exports `stockade#start`, `run`"), "{error}");
}

#[test]
fn what_checks_are_made_of_is_not_for_guests() {
    let gate = gate(&[]);
    let forbidden = [
        (
            "an atomic load",
            "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
        ),
        (
            "an atomic store",
            "(module (memory 1) (func (i32.atomic.store (i32.const 0) (i32.const 1))))",
        ),
        ("a shared memory", "(module (memory 1 1 shared))"),
        (
            "the memory behind its own",
            "(module (memory 1) (func (drop (i32.load 1 (i32.const 0)))))",
        ),
        (
            "a memory, where it has none",
            "(module (func (drop (i32.load (i32.const 0)))))",
        ),
    ];
    for (what, text) in forbidden {
        for stopping in [Stopping::Page, Stopping::Epoch, Stopping::Never] {
            let refusal = run(text, &gate, stopping, None).class.expect_err(what);
            assert_eq!(refusal.class, Class::ModuleMalformed, "{what}: {}", refusal.detail);
        }
    }
}

#[test]
fn fuel_is_the_same_however_a_guest_is_stopped() {
    // The call; `local.set`; and ten turns of `local.get`, `i32.sub`, `local.tee` and `br_if`.
    const BURNS: u64 = 1 + 1 + 10 * 4;
    let text = "(module (func (export \"run\") (local i32)
        (local.set 0 (i32.const 10))
        (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))";
    for stopping in [Stopping::Never, Stopping::Page, Stopping::Epoch] {
        let enough = run(text, &gate(&[(Meter::BurnFuel, BURNS)]), stopping, None);
        assert_eq!(enough.class.ok(), Some(Class::Completed), "{stopping:?}");
        let refusal = run(text, &gate(&[(Meter::BurnFuel, BURNS - 1)]), stopping, None)
            .class
            .unwrap_err();
        assert_eq!(
            (refusal.class, refusal.layer),
            (Class::LimitFuel, Some(Layer::Fuel)),
            "{stopping:?}: {}",
            refusal.detail
        );
    }
}

#[test]
fn what_a_start_function_burns_counts_too() {
    // Two calls, and one `local.get` in the start function. What the segments take is not the guest's doing.
    let text = "(module (memory 1) (data (i32.const 0) \"many bytes\") (table funcref (elem $start $start $start))
        (func $start (local i32) (drop (local.get 0))) (start $start) (func (export \"run\")))";
    let alone = "(module (func $start (local i32) (drop (local.get 0))) (start $start))";
    for stopping in [Stopping::Never, Stopping::Page, Stopping::Epoch] {
        for (text, burns) in [(text, 3), (alone, 2)] {
            let enough = run(text, &gate(&[(Meter::BurnFuel, burns)]), stopping, None);
            assert_eq!(enough.class.ok(), Some(Class::Completed), "{stopping:?} {burns}");
            let refusal = run(text, &gate(&[(Meter::BurnFuel, burns - 1)]), stopping, None)
                .class
                .unwrap_err();
            assert_eq!(
                refusal.class,
                Class::LimitFuel,
                "{stopping:?} {burns}: {}",
                refusal.detail
            );
        }
    }
}

#[test]
fn what_cannot_be_burned_in_the_time_is_not_counted() {
    let counted = |narrowed: &[(Meter, u64)]| engine::fuel_bound(&gate(narrowed));
    let second = 1_000_000_000_000;
    assert_eq!(counted(&[(Meter::Elapse, 1000)]), None);
    assert_eq!(counted(&[(Meter::Elapse, 1000), (Meter::BurnFuel, second)]), None);
    assert_eq!(
        counted(&[(Meter::Elapse, 1000), (Meter::BurnFuel, second - 1)]),
        Some(second - 1)
    );
    // Nobody's time is over where there is no clock.
    assert_eq!(counted(&[(Meter::BurnFuel, second)]), Some(second));
    let plan = plan(&[(Meter::Elapse, 1000), (Meter::BurnFuel, second)]);
    let unwatched = Gate::new(plan, Layers::ALL.without(Layer::Deadline), Box::new(()));
    assert_eq!(engine::fuel_bound(&unwatched), Some(second));
}
