//! What each layer costs a guest in a worker, by itself and with all others.
//!
//! The script and the module do next to nothing, so what is left is the worker and its layers. The fastest of many calls
//! counts: whatever makes others slower is not the layer's.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use stockade_benches::latencies::Latencies;
use stockade_benches::record::Record;
use stockade_conformance::overhead::WayTaken;
use stockade_policies::PolicyStore;
use stockade_runtime::worker::{Patience, Pool, PoolOptions};
use stockade_runtime::{Ablated, Class, Layer, Layers, Request, Runtime};

type Failure = Box<dyn Error + Send + Sync>;

/// Layers in a worker come in four ways to confine it, and one that is confined stays so.
const WORKERS: usize = 4;

/// Layers that a script meets, and those that a module meets, the outermost first.
const OF_SCRIPTS: [Layer; 9] = [
    Layer::Worker,
    Layer::Heap,
    Layer::Landlock,
    Layer::Seccomp,
    Layer::Screen,
    Layer::Authorizer,
    Layer::Limits,
    Layer::Quota,
    Layer::Deadline,
];
const OF_MODULES: [Layer; 8] = [
    Layer::Worker,
    Layer::Landlock,
    Layer::Seccomp,
    Layer::Validate,
    Layer::Imports,
    Layer::Memory,
    Layer::Stack,
    Layer::Deadline,
];

fn main() -> Result<(), Failure> {
    stockade_runtime::worker::enter();
    let mut record = Record::of("layers")?;
    let script = Request::sql("walkin", "select 6 * 7");
    let module = Request::wasm("trusted", r#"(module (func (export "run") (result i32) i32.const 0))"#);
    in_a_worker(
        "a script in a worker, layer by layer",
        &script,
        &OF_SCRIPTS,
        &mut record,
    )?;
    in_a_worker(
        "a module compiled in a worker, layer by layer",
        &module,
        &OF_MODULES,
        &mut record,
    )?;
    record.finish()
}

fn in_a_worker(title: &str, request: &Request, met: &[Layer], record: &mut Record) -> Result<(), Failure> {
    let mut ways = vec![("no layer".to_owned(), Layers::NONE)];
    ways.extend(
        met.iter()
            .map(|layer| (format!("only {layer}"), Layers::NONE.with(*layer))),
    );
    ways.push(("every layer".to_owned(), Layers::ALL));
    ways.push(("(the first again)".to_owned(), Layers::NONE));
    let runtime = Runtime::in_pool(PolicyStore::stock()?, pool()?);
    let expected = runtime.run(request)?.product;
    let mut taken = vec![Latencies::new(); ways.len()];
    for _ in 0..if record.is_once() { 1 } else { 100 } {
        for ((_, layers), taken) in ways.iter().zip(&mut taken) {
            for _ in 0..if record.is_once() { 1 } else { 20 } {
                let ended = taken.time(|| runtime.run_ablated(request, *layers, &patience()))?;
                match ended {
                    Ablated::Outcome(outcome) if outcome.class == Class::Completed && outcome.product == expected => {}
                    other => return Err(format!("{title}: {other:?}").into()),
                }
            }
        }
    }
    let nanos = |taken: &Latencies| taken.figure(0).value;
    let control = taken.pop().map_or(0.0, |again| nanos(&again));
    let ways = ways.into_iter().zip(&taken);
    let ways = ways.map(|((name, _), taken)| WayTaken {
        name,
        nanos: nanos(taken),
    });
    let ways: Vec<_> = ways.collect();
    record.say(format_args!("{title}\n"));
    for way in &ways {
        record.say(format_args!("  {:<20} {:>9.1} us\n", way.name, way.nanos / 1e3));
    }
    record.comparison(title, None, ways, control);
    Ok(())
}

fn pool() -> Result<Arc<Pool>, Failure> {
    Ok(Arc::new(Pool::with(PoolOptions {
        workers: WORKERS,
        spare: 0,
        ..PoolOptions::default()
    })?))
}

/// For a worker that no layer watches.
fn patience() -> Patience {
    Patience {
        prepare: Duration::from_secs(5),
        run: Some(Duration::from_secs(5)),
        answer: Duration::from_secs(5),
        reply_bytes: 1 << 20,
        rss_bytes: None,
    }
}
