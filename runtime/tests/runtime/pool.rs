//! Many callers and few workers: whose turn it is, who is turned away, and what becomes of a lost worker.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Signal, kill_process};
use stockade_policies::Meter;
use stockade_runtime::worker::{Pool, PoolOptions};
use stockade_runtime::{Class, HostDatabase, Layer, Layers, Request, Runtime, RuntimeError, SqlValue};

use crate::outer::patient;
use crate::support::{ENDLESS, assert_completed, assert_stopped, integer, last_rows, named, roomy, run, sql, wasm};
use crate::workers::{staged, worker_with, workers, workers_with};

pub fn trials() -> Vec<Trial> {
    named![
        who_had_least_is_served_first,
        a_greedy_tenant_leaves_a_worker_to_others,
        a_full_queue_refuses_at_once,
        a_full_queue_turns_the_greedy_away,
        a_lost_worker_leaves_a_spare_one,
        a_worker_confined_for_others_leaves_a_spare_one,
        scripts_and_modules_take_turns,
    ]
}

const MODULE: &str = "(module (func (export \"run\") (result i32) (i32.const 42)))";

fn pool(options: PoolOptions) -> Arc<Pool> {
    Arc::new(Pool::with(options).unwrap())
}

/// A pool without a spare worker, so that one thing happens after another.
fn plain(workers: usize) -> Arc<Pool> {
    pool(PoolOptions {
        workers,
        spare: 0,
        ..PoolOptions::default()
    })
}

/// A guest that has the database open and does not end by itself.
fn endless(path: &Path) -> Request {
    sql(format!("select * from t; {ENDLESS}")).on_database(path)
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < patience, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn who_had_least_is_served_first() {
    let pool = plain(1);
    let runtime = Runtime::in_pool(roomy(&[]), Arc::clone(&pool));
    let short = Runtime::in_pool(roomy(&[(Meter::Elapse, 200)]), Arc::clone(&pool));
    let (_folder, path) = staged("create table t(x);");
    assert_eq!(run(&short, &sql(ENDLESS).for_tenant("greedy")).class, Class::LimitTime);
    assert_completed(&run(&runtime, &sql("select 1").for_tenant("modest")));
    thread::scope(|scope| {
        let busy = scope.spawn(|| run(&runtime, &endless(&path)));
        let worker = worker_with(&path);
        let mut waiting = Vec::new();
        for (number, tenant) in ["greedy", "greedy", "modest", "modest"].into_iter().enumerate() {
            let request = sql(format!("insert into t values ('{tenant}')"))
                .on_database(&path)
                .for_tenant(tenant);
            waiting.push(scope.spawn(|| {
                let request = request;
                run(&runtime, &request)
            }));
            wait_until("nobody waits for the one worker", || pool.waiting() == number + 1);
        }
        kill_process(worker, Signal::KILL).unwrap();
        assert_stopped(&busy.join().unwrap(), Class::HostInternal, Layer::Worker);
        for caller in waiting {
            assert_completed(&caller.join().unwrap());
        }
    });
    let order = HostDatabase::open(&path)
        .unwrap()
        .rows("select x from t order by rowid")
        .unwrap();
    let names = ["modest", "modest", "greedy", "greedy"].map(|name| vec![SqlValue::Text(name.to_owned())]);
    assert_eq!(order, names);
}

fn a_greedy_tenant_leaves_a_worker_to_others() {
    let pool = plain(2);
    let runtime = Runtime::in_pool(roomy(&[]), Arc::clone(&pool));
    let short = Runtime::in_pool(roomy(&[(Meter::Elapse, 200)]), Arc::clone(&pool));
    let (_folder, path) = staged("create table t(x);");
    assert_completed(&run(&runtime, &sql("select 1").for_tenant("modest")));
    assert_eq!(run(&short, &sql(ENDLESS).for_tenant("greedy")).class, Class::LimitTime);
    thread::scope(|scope| {
        let callers = [(); 2].map(|()| scope.spawn(|| run(&runtime, &endless(&path).for_tenant("greedy"))));
        wait_until("one greedy caller waits", || pool.waiting() == 1);
        let worker = worker_with(&path);
        for _ in 0..3 {
            let outcome = run(&runtime, &sql("select 6 * 7").for_tenant("modest"));
            assert_completed(&outcome);
            assert_eq!(last_rows(&outcome), integer(42));
        }
        assert_eq!(
            pool.waiting(),
            1,
            "the second greedy caller has the worker that was left"
        );
        // The place that it waits for is that of its own tenant's first.
        kill_process(worker, Signal::KILL).unwrap();
        wait_until("the second greedy guest runs", || {
            workers_with(&path).iter().any(|other| *other != worker)
        });
        kill_process(worker_with(&path), Signal::KILL).unwrap();
        for caller in callers {
            assert_stopped(&caller.join().unwrap(), Class::HostInternal, Layer::Worker);
        }
    });
}

/// Holds the only worker, while so many callers of `tenant` wait; then asks for one more as `late`, and says how that ended.
fn in_a_crowd(tenant: &'static str, late: &str) -> (Result<Class, RuntimeError>, usize) {
    let pool = pool(PoolOptions { most_waiting: 2, ..ONE });
    let runtime = Runtime::in_pool(roomy(&[]), Arc::clone(&pool));
    let (_folder, path) = staged("create table t(x);");
    thread::scope(|scope| {
        let busy = scope.spawn(|| run(&runtime, &endless(&path)));
        let worker = worker_with(&path);
        let waiting = [1, 2].map(|number| {
            let caller = scope.spawn(|| runtime.run(&sql("select 1").for_tenant(tenant)));
            wait_until("nobody waits for the one worker", || pool.waiting() == number);
            caller
        });
        let late = scope.spawn(|| runtime.run(&sql("select 1").for_tenant(late)));
        // Somebody is turned away while the worker is still busy.
        wait_until("nobody is turned away", || {
            late.is_finished() || waiting.iter().any(thread::ScopedJoinHandle::is_finished)
        });
        assert_eq!(pool.waiting(), 2);
        kill_process(worker, Signal::KILL).unwrap();
        assert_stopped(&busy.join().unwrap(), Class::HostInternal, Layer::Worker);
        let ended = late.join().unwrap().map(|outcome| outcome.class);
        let turned_away = waiting
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .filter(|ended| matches!(ended, Err(RuntimeError::Crowded { waiting: 2 })))
            .count();
        (ended, turned_away)
    })
}

fn a_full_queue_refuses_at_once() {
    let (late, turned_away) = in_a_crowd("one", "one");
    assert_eq!(turned_away, 0);
    let error = late.unwrap_err();
    assert!(matches!(error, RuntimeError::Crowded { waiting: 2 }), "{error:?}");
    assert_eq!(error.to_string(), "too many wait for a worker: no more than 2 may");
}

fn a_full_queue_turns_the_greedy_away() {
    let (late, turned_away) = in_a_crowd("greedy", "modest");
    assert_eq!((late.unwrap(), turned_away), (Class::Completed, 1));
}

/// Whether `next`, which holds the database open, comes to a worker that was there before `lose` was done to the pool of one
/// worker. Tried again where the spare worker has not come up yet.
fn meets_a_worker_that_was_there(
    options: PoolOptions,
    lose: impl Fn(&Runtime, &Path),
    next: impl Fn(&Runtime, &Path) + Sync,
) -> bool {
    let runtime = Runtime::in_pool(roomy(&[]), pool(options));
    let (_folder, path) = staged("create table t(x);");
    (0..20).any(|turn| {
        thread::sleep(Duration::from_millis(20 * turn));
        let before = workers();
        lose(&runtime, &path);
        thread::scope(|scope| {
            scope.spawn(|| next(&runtime, &path));
            let worker = worker_with(&path);
            kill_process(worker, Signal::KILL).unwrap();
            before.contains(&worker)
        })
    })
}

const ONE: PoolOptions = PoolOptions {
    workers: 1,
    spare: 1,
    wait: Duration::from_mins(1),
    most_waiting: 9,
    do_without: Layers::NONE,
};

fn runs_until_it_is_killed(runtime: &Runtime, path: &Path) {
    assert_stopped(&run(runtime, &endless(path)), Class::HostInternal, Layer::Worker);
}

fn a_lost_worker_leaves_a_spare_one() {
    let lose = |runtime: &Runtime, path: &Path| {
        thread::scope(|scope| {
            scope.spawn(|| runs_until_it_is_killed(runtime, path));
            kill_process(worker_with(path), Signal::KILL).unwrap();
        });
    };
    let found = [ONE, PoolOptions { spare: 0, ..ONE }]
        .map(|options| meets_a_worker_that_was_there(options, lose, runs_until_it_is_killed));
    assert_eq!(found, [true, false]);
}

fn a_worker_confined_for_others_leaves_a_spare_one() {
    let script = |runtime: &Runtime, _: &Path| assert_completed(&run(runtime, &sql("select 1")));
    let otherwise = |runtime: &Runtime, path: &Path| {
        let layers = Layers::ALL.without(Layer::Seccomp);
        drop(runtime.run_ablated(&endless(path), layers, &patient()));
    };
    let found =
        [ONE, PoolOptions { spare: 0, ..ONE }].map(|options| meets_a_worker_that_was_there(options, script, otherwise));
    assert_eq!(found, [true, false]);
}

fn scripts_and_modules_take_turns() {
    for spare in [0, 1] {
        let runtime = Runtime::in_pool(roomy(&[]), pool(PoolOptions { spare, ..ONE }));
        for _ in 0..3 {
            assert_completed(&run(&runtime, &sql("select 1")));
            assert_completed(&run(&runtime, &wasm(MODULE)));
        }
    }
}
