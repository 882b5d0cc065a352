//! What several trials need: a profile that permits everything up to generous bounds, ways to narrow it, and workers.

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::Trial;
use stockade_policies::{Meter, PolicyStore, Source, SourceKind, Stock, Unit};
use stockade_runtime::worker::Pool;
use stockade_runtime::{Class, Layer, Module, Outcome, Request, Runtime, SqlValue};

/// The profile of [`roomy`].
pub const ROOMY: &str = "roomy";

/// One trial per function, named `module::function`.
macro_rules! named {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::support::trial(module_path!(), stringify!($name), $name)),*]
    };
}
pub(crate) use named;

pub fn trial(module: &str, name: &str, body: fn()) -> Trial {
    let module = module.rsplit("::").next().unwrap_or_default();
    Trial::test(format!("{module}::{name}"), move || {
        body();
        Ok(())
    })
}

/// Far more than any guest of these tests uses, but for those that are given much to a compiler.
fn generous(meter: Meter) -> u64 {
    if meter.action().starts_with("wasm") {
        return 1 << 20;
    }
    if meter == Meter::BurnFuel {
        // Out of reach, as in the stock profiles: nothing is counted.
        return 1_000_000_000_000_000;
    }
    match meter.unit() {
        Unit::Bytes => 64 * 1024 * 1024,
        Unit::Millis => 60_000,
        Unit::Elements | Unit::Rows => 100_000,
        Unit::Count | Unit::Depth => 1000,
        Unit::Ops => 1 << 42,
    }
}

fn meter_policy(id: &str, effect: &str, clause: &str, meter: Meter, most: u64) -> String {
    format!(
        "@id(\"{id}-{action}\") {effect} (principal in Profile::\"{ROOMY}\", action == Action::\"{action}\", \
         resource == Meter::\"{resource}\") {clause} {{ context.{unit} <= {most} }};\n",
        action = meter.action(),
        resource = meter.resource(),
        unit = meter.unit().name(),
    )
}

/// Everything is permitted, generously bounded; `narrowed` bounds some meters tightly, and `more` adds policies.
pub fn roomy_with(narrowed: &[(Meter, u64)], more: &str) -> PolicyStore {
    let mut text = format!(
        "@id(\"any-sql\") permit (principal in Profile::\"{ROOMY}\", action in Action::\"sql\", resource);\n\
         @id(\"any-host-call\") permit (principal in Profile::\"{ROOMY}\", action in [Action::\"writeLog\", \
         Action::\"readClock\", Action::\"readRandom\", Action::\"queryDatabase\", Action::\"executeDatabase\", \
         Action::\"recordMetric\", Action::\"readState\", Action::\"writeState\", Action::\"readEnvironment\"], \
         resource);\n"
    );
    for &meter in Meter::ALL {
        text.push_str(&meter_policy("roomy", "permit", "when", meter, generous(meter)));
    }
    for &(meter, most) in narrowed {
        text.push_str(&meter_policy("narrow", "forbid", "unless", meter, most));
    }
    text.push_str(more);
    let entities = format!(r#"[{{"uid": {{"type": "Profile", "id": "{ROOMY}"}}, "attrs": {{}}, "parents": []}}]"#);
    let source = |name: &str, text, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    let sources = [
        source("roomy.json", entities, SourceKind::Entities),
        source("roomy.cedar", text, SourceKind::Policies),
    ];
    PolicyStore::load(&sources, Stock::Without).expect("the policies load")
}

/// Everything is permitted, generously bounded; `narrowed` bounds some meters tightly.
pub fn roomy(narrowed: &[(Meter, u64)]) -> PolicyStore {
    roomy_with(narrowed, "")
}

/// As [`roomy`], but of all tables only `notes` may be read.
pub fn only_notes(narrowed: &[(Meter, u64)]) -> PolicyStore {
    let forbid = format!(
        "@id(\"only-notes\") forbid (principal in Profile::\"{ROOMY}\", action == Action::\"read\", resource) \
         unless {{ resource.table == \"notes\" }};"
    );
    roomy_with(narrowed, &forbid)
}

static POOL: Mutex<Option<Arc<Pool>>> = Mutex::new(None);

/// Workers that trials share.
pub fn pool() -> Arc<Pool> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(pool.get_or_insert_with(|| Arc::new(Pool::new(2).expect("workers start"))))
}

/// Ends the workers that trials shared: what is never dropped leaves its control groups behind.
pub fn end_pool() {
    drop(POOL.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// A runtime on the shared workers.
pub fn in_workers(policies: PolicyStore) -> Runtime {
    Runtime::in_pool(policies, pool())
}

/// An SQL guest of the profile [`ROOMY`].
pub fn sql(script: impl Into<Vec<u8>>) -> Request {
    Request::sql(ROOMY, script)
}

/// A WebAssembly guest of the profile [`ROOMY`].
pub fn wasm(module: impl Into<Module>) -> Request {
    Request::wasm(ROOMY, module)
}

#[track_caller]
pub fn run(runtime: &Runtime, request: &Request) -> Outcome {
    runtime.run(request).expect("the guest has an outcome")
}

#[track_caller]
pub fn assert_completed(outcome: &Outcome) {
    assert_eq!(
        (outcome.class, outcome.layer),
        (Class::Completed, None),
        "{}",
        outcome.detail
    );
}

#[track_caller]
pub fn assert_stopped(outcome: &Outcome, class: Class, layer: Layer) {
    assert_eq!(
        (outcome.class, outcome.layer),
        (class, Some(layer)),
        "{}",
        outcome.detail
    );
}

/// The rows of the last statement.
pub fn last_rows(outcome: &Outcome) -> &[Vec<SqlValue>] {
    outcome.product.statements.last().map_or(&[], |last| &last.rows)
}

pub fn integer(number: i64) -> Vec<Vec<SqlValue>> {
    vec![vec![SqlValue::Integer(number)]]
}

/// `item` so many times, with `between` in between.
pub fn repeated(count: usize, item: &str, between: &str) -> String {
    vec![item; count].join(between)
}

/// A recursive query that never ends by itself and never holds much.
pub const ENDLESS: &str = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
