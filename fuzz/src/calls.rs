//! Sequences of host calls with any arguments: a module that does what its input says.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use stockade_runtime::{Class, ModuleCache, Outcome, Request, Runtime, State};
use tempfile::TempDir;

use crate::guests::{keeps_the_laws, new_runtime};

/// What a guest does ends by its operators. How long they take here is nobody's finding.
const POLICIES: &str = r#"
@id("fuzz-fuel")
forbid (principal, action == Action::"burnFuel", resource) unless { context.ops <= 100000 };
"#;

/// Every host function, what it takes and what it returns.
const FUNCTIONS: [(&str, &[&str], &str); 11] = [
    ("log", &["i32", "i32"], "i32"),
    ("clock_now_ms", &[], "i64"),
    ("random_fill", &["i32", "i32"], "i32"),
    ("db_query", &["i32", "i32", "i32", "i32"], "i32"),
    ("db_execute", &["i32", "i32"], "i64"),
    ("release", &["i32"], "i32"),
    ("metric_add", &["i32", "i32", "i64"], "i32"),
    ("env_get", &["i32", "i32", "i32", "i32"], "i32"),
    ("state_get", &["i32", "i32", "i32", "i32"], "i32"),
    ("state_set", &["i32", "i32", "i32", "i32"], "i32"),
    ("state_remove", &["i32", "i32"], "i32"),
];

/// A record of five numbers, each of four bytes: which function, and its arguments.
const RECORD: usize = 20;

/// What the module has in its memory: where, and what.
const TEXTS: [(u32, &str); 4] = [
    (16, "select 6 * 7"),
    (
        32,
        "create table if not exists t(x); insert into t values (zeroblob(1000))",
    ),
    (128, "key"),
    (132, "LANG"),
];

/// A module whose input is at 65536. Where the host asks for memory it is given the next, which one of the records can set;
/// where that is odd, what was given before it is given back while the host waits.
///
/// Few numbers are places in a memory, so most are made into one: below 256 where the highest bit is not set, below 131072 where
/// it is, and as they stand where the highest byte is 255.
fn puppet() -> String {
    let (mut imports, mut arms) = (String::new(), String::new());
    for (index, (name, parameters, result)) in (0..).zip(FUNCTIONS) {
        let argument = |number: usize, kind: &str| {
            let number = format!("(call $argument (local.get $at) (i32.const {number}))");
            if kind == "i64" {
                format!("(i64.extend_i32_s {number})")
            } else {
                number
            }
        };
        let arguments: String = (1..)
            .zip(parameters)
            .map(|(number, kind)| argument(number, kind))
            .collect();
        let parameters = parameters.join(" ");
        // A string takes any of it.
        let _ = writeln!(
            imports,
            "(import \"stockade\" \"{name}\" (func ${name} (param {parameters}) (result {result})))"
        );
        let _ = writeln!(
            arms,
            "(if (i32.eq (local.get $which) (i32.const {index})) (then (drop (call ${name} {arguments}))))"
        );
    }
    let texts: String = TEXTS
        .map(|(at, text)| format!("(data (i32.const {at}) {text:?})"))
        .concat();
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 3)
  {texts}
  (global $next (mut i32) (i32.const 4096))
  (global (export "input_ptr") i32 (i32.const 65536))
  (global (export "input_bytes_cap") i32 (i32.const 65536))
  (func (export "__wasm_deallocate") (param i32 i32))
  (func (export "__wasm_allocate") (param i32) (result i32)
    (if (i32.and (global.get $next) (i32.const 1))
      (then (drop (call $release (i32.sub (global.get $next) (i32.const 1))))))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 0) (i32.const 1)) (i32.const -2)))))
  (func (export "run") (param $length i32) (result i32) (local $at i32) (local $which i32)
    (loop $again
      (if (i32.le_u (i32.add (local.get $at) (i32.const {RECORD})) (local.get $length))
        (then
          (local.set $which (i32.rem_u (i32.load offset=65536 (local.get $at)) (i32.const {count})))
          {arms}
          (if (i32.eq (local.get $which) (i32.const {last})) (then (global.set $next (call $argument (local.get $at) (i32.const 1)))))
          (local.set $at (i32.add (local.get $at) (i32.const {RECORD})))
          (br $again))))
    (i32.const 0))
  (func $argument (param $at i32) (param $number i32) (result i32) (local $value i32)
    (local.set $value (i32.load offset=65536 (i32.add (local.get $at) (i32.mul (local.get $number) (i32.const 4)))))
    (if (result i32) (i32.ge_s (local.get $value) (i32.const 0))
      (then (i32.and (local.get $value) (i32.const 255)))
      (else (if (result i32) (i32.eq (i32.shr_u (local.get $value) (i32.const 24)) (i32.const 255))
        (then (local.get $value))
        (else (i32.and (local.get $value) (i32.const 131071))))))))"#,
        count = FUNCTIONS.len() + 1,
        last = FUNCTIONS.len(),
    )
}

/// Has a module make the host calls that the bytes say.
pub fn calls(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) -> Option<Outcome> {
    static REQUEST: OnceLock<Request> = OnceLock::new();
    let puppet = REQUEST.get_or_init(|| {
        let mut state = State::default();
        state.set("key", "value");
        let mut request = Request::wasm("trusted", puppet()).with_state(state);
        request.environment.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        request
    });
    let mut request = puppet.clone();
    request.input = data.get(..data.len().min(4000)).unwrap_or_default().to_vec();
    keeps_the_laws(runtime(), &request, Class::ContractBadPointer)
}

/// Every function once, with arguments that are right.
pub(crate) fn every_function() -> Vec<u8> {
    let arguments = |name: &str| match name {
        "log" | "state_remove" => [128, 3, 0, 0],
        "random_fill" => [200, 8, 0, 0],
        "db_query" => [16, 12, 240, 244],
        "db_execute" => [32, 70, 0, 0],
        "metric_add" => [128, 3, 1, 0],
        "env_get" => [132, 4, 240, 244],
        "state_get" => [128, 3, 240, 244],
        "state_set" => [128, 3, 132, 4],
        _ => [0; 4],
    };
    let records = (0_u32..).zip(FUNCTIONS).filter(|(_, (name, ..))| *name != "release");
    let numbers = records.flat_map(|(index, (name, ..))| [index].into_iter().chain(arguments(name)));
    numbers.flat_map(u32::to_le_bytes).collect()
}

/// It compiles the module once.
#[expect(
    clippy::expect_used,
    reason = "without a cache every input would take as long as a compiler does"
)]
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<(Runtime, TempDir)> = OnceLock::new();
    let (runtime, _) = RUNTIME.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = ModuleCache::open(folder.path(), 1 << 24).expect("a module cache");
        (new_runtime(POLICIES).with_module_cache(Arc::new(cache)), folder)
    });
    runtime
}

#[cfg(test)]
mod tests {
    use stockade_runtime::Event;

    use super::*;
    use crate::modules::HOST;

    #[test]
    fn every_function_is_called_and_answers() {
        let outcome = run(&every_function()).unwrap();
        assert_eq!(outcome.class, Class::Completed, "{}", outcome.detail);
        let called = outcome
            .trail
            .events()
            .iter()
            .filter(|event| matches!(event, Event::Called { .. }));
        // What was never handed over is not given back.
        assert_eq!(called.count(), FUNCTIONS.len() - 1);
        assert_eq!(outcome.product.log, ["key"]);
        assert_eq!(outcome.product.state.iter().collect::<Vec<_>>(), [("key", None)]);
        assert_eq!(outcome.product.metrics.get("key"), Some(&1));
    }

    #[test]
    fn what_is_handed_over_can_be_given_back_once() {
        let query = [3_u32, 16, 12, 240, 244];
        // The first place that is given is 4096, of which an argument says the lower seventeen bits.
        let give_back = [5_u32, 0x8000_1000, 0, 0, 0];
        let input = |records: &[[u32; 5]]| {
            records
                .iter()
                .flatten()
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        assert_eq!(run(&input(&[query, give_back])).unwrap().class, Class::Completed);
        assert_ne!(
            run(&input(&[query, give_back, give_back])).unwrap().class,
            Class::Completed
        );
        // And while the host waits for another: 4097 is next, and one less is given back.
        let odd = [11_u32, 0x8000_1001, 0, 0, 0];
        assert_eq!(run(&input(&[query, odd, query])).unwrap().class, Class::Completed);
        assert_ne!(
            run(&input(&[query, give_back, odd, query])).unwrap().class,
            Class::Completed
        );
    }

    #[test]
    fn a_number_can_be_no_place_at_all() {
        let log = [0_u32, 0xffff_fff0, 4, 0, 0];
        let input: Vec<u8> = log.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(run(&input).unwrap().class, Class::ContractBadPointer);
    }

    #[test]
    fn the_functions_are_those_that_modules_import() {
        for (name, parameters, result) in FUNCTIONS {
            let parameters = if parameters.is_empty() {
                String::new()
            } else {
                format!("(param {}) ", parameters.join(" "))
            };
            let import = format!("(import \"stockade\" \"{name}\" (func {parameters}(result {result})))");
            assert!(HOST.contains(&import), "{import}");
        }
        assert_eq!(HOST.matches("(import").count(), FUNCTIONS.len());
    }
}
