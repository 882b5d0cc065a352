//! What a decision costs, and what a guest's way through a worker does: for whoever works at these and wants to see at once what a
//! change does.
//!
//! `cargo bench --bench cost` says how far each is from the run before, which criterion keeps. It judges nothing, and its figures
//! are no part of a run of `ci/bench`: there `policies`, `workers` and `service` measure the same beside what it is compared with.

use std::cell::Cell;
use std::hint::black_box;

use criterion::Criterion;
use stockade_benches::completed;
use stockade_policies::{Action, Meter, PolicyStore, Principal, Question, Resource, SqlAction};
use stockade_runtime::{Class, Request, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stockade_runtime::worker::enter();
    let mut criterion = Criterion::default().configure_from_args();
    decisions(&mut criterion)?;
    guests(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn decisions(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let policies = PolicyStore::stock()?;
    let plan = policies.plan(&Principal::caller("guest", "database-only"))?;
    let mut group = criterion.benchmark_group("decision");
    group.bench_function("bound", |bencher| {
        bencher.iter(|| {
            black_box(&plan)
                .bound(black_box(Meter::GrowHeap))
                .permits(black_box(4096))
        });
    });
    let path = Resource::path("/etc/passwd");
    group.bench_function("bit", |bencher| {
        let question = Question {
            action: Action::Sql(SqlAction::Detach),
            resource: &path,
            context: &[],
        };
        bencher.iter(|| plan.decide(black_box(&question)).allowed);
    });
    let column = Resource::column("main", "notes", "body");
    group.bench_function("residual, remembered", |bencher| {
        let question = Question {
            action: Action::Sql(SqlAction::Read),
            resource: &column,
            context: &[],
        };
        bencher.iter(|| plan.decide(black_box(&question)).allowed);
    });
    group.finish();
    Ok(())
}

fn guests(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let request = Request::sql("walkin", "select 6 * 7");
    let mut group = criterion.benchmark_group("select 6 * 7");
    let runtimes = [
        ("in process", Runtime::in_process(PolicyStore::stock()?)),
        ("in a worker", Runtime::in_workers(PolicyStore::stock()?, 1)?),
    ];
    for (name, runtime) in runtimes {
        let class = runtime.run(&request)?.class;
        if class != Class::Completed {
            // A refusal is quick: timing one would flatter.
            return Err(format!("{name}: {class}").into());
        }
        let went_well = Cell::new(true);
        group.bench_function(name, |bencher| {
            bencher.iter(|| went_well.set(went_well.get() & completed(&runtime.run(&request))));
        });
        if !went_well.get() {
            return Err(format!("{name}: a call did not complete while it was timed").into());
        }
    }
    group.finish();
    Ok(())
}
