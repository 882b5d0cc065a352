//! Guests that use just so much of what host functions do for a module.

use stockade_policies::Meter;
use stockade_runtime::{Class, Layer};

use super::{Pair, Uses, repeated};

/// A meter, the bound that it is given, the guest, and what ends it.
type Entry = (Meter, u64, fn(u64) -> String, Class, Layer);

/// The pairs of what host functions do.
pub(super) fn pairs() -> impl Iterator<Item = Pair> {
    use Class as C;
    use Layer as L;
    let entries: [Entry; 6] = [
        (Meter::Allocate, 100, answer_of, C::LimitMemory, L::Bridge),
        (Meter::HoldAllocations, 100, answers_of, C::LimitMemory, L::Bridge),
        (Meter::AddMetric, 7, metrics, C::LimitMetrics, L::Quota),
        (Meter::StoreValue, 100, stored_value, C::LimitState, L::Quota),
        (Meter::AddKey, 7, stored_keys, C::LimitState, L::Quota),
        (Meter::GrowState, 100, stored, C::LimitState, L::Quota),
    ];
    entries.into_iter().map(|(meter, bound, uses, class, layer)| Pair {
        meter,
        bound,
        uses: Uses::Text(uses),
        stops: (class, layer),
        around: None,
    })
}

/// A module that asks for one answer of so many bytes.
fn answer_of(bytes: u64) -> String {
    asking(&[bytes])
}

/// A module that asks for answers of so many bytes together, and gives none back.
fn answers_of(bytes: u64) -> String {
    asking(&[bytes / 2, bytes - bytes / 2])
}

/// A module that asks for answers of so many bytes each: the text and six around it.
fn asking(answers: &[u64]) -> String {
    let mut queries = String::new();
    let mut calls = String::new();
    for (number, bytes) in answers.iter().enumerate() {
        let query = format!("select '{}'", repeated("x", bytes.saturating_sub(6)));
        let place = 1024 * (number + 1);
        queries.push_str(&format!("(data (i32.const {place}) \"{query}\")"));
        calls.push_str(&format!(
            "(drop (call $query (i32.const {place}) (i32.const {}) (i32.const 16) (i32.const 20)))",
            query.len()
        ));
    }
    format!(
        "(module
           (import \"stockade\" \"db_query\" (func $query (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           {queries}
           (global $next (mut i32) (i32.const 32768))
           (func (export \"__wasm_allocate\") (param $length i32) (result i32)
             (global.get $next)
             (global.set $next (i32.add (global.get $next) (local.get $length))))
           (func (export \"run\") {calls}))"
    )
}

/// A module that adds to so many metrics.
fn metrics(count: u64) -> String {
    let body = "(drop (call $host (i32.const 16) (i32.const 1) (i64.const 1)))";
    lettering("metric_add", "i32 i32 i64", body, count)
}

/// A module that stores so many keys.
fn stored_keys(count: u64) -> String {
    let body = "(drop (call $host (i32.const 16) (i32.const 1) (i32.const 64) (i32.const 1)))";
    lettering("state_set", "i32 i32 i32 i32", body, count)
}

/// A module that stores one value of so many bytes.
fn stored_value(bytes: u64) -> String {
    let body = format!("(drop (call $host (i32.const 16) (i32.const 1) (i32.const 64) (i32.const {bytes})))");
    lettering("state_set", "i32 i32 i32 i32", &body, 1)
}

/// A module that stores keys and values of so many bytes together.
fn stored(bytes: u64) -> String {
    let value =
        |bytes: u64| format!("(drop (call $host (i32.const 16) (i32.const 1) (i32.const 64) (i32.const {bytes})))");
    // The first is overwritten, and counts no more.
    lettering(
        "state_set",
        "i32 i32 i32 i32",
        &[value(bytes / 2), value(bytes - 1)].concat(),
        1,
    )
}

/// A module that does `body` so many times, each time with another letter at 16.
fn lettering(function: &str, parameters: &str, body: &str, times: u64) -> String {
    format!(
        "(module
           (import \"stockade\" \"{function}\" (func $host (param {parameters}) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"run\") (local $times i32)
             (loop $again
               (i32.store8 (i32.const 16) (i32.add (i32.const 97) (local.get $times)))
               {body}
               (local.set $times (i32.add (local.get $times) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $times) (i32.const {times}))))))"
    )
}
