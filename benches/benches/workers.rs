//! What it costs to run guests in workers, and what one tenant's guests cost another's.
//!
//! Where two things are compared they take turns within one run, and the first of them is measured twice: how much it
//! seems to differ from itself is what a ratio is worth. `targets.yaml` says what is promised. Every answer is checked:
//! one that is wrong, or a database that another tenant's guest changed, fails the run.

use std::error::Error;
use std::hint::{black_box, spin_loop};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stockade_benches::latencies::Latencies;
use stockade_benches::machine::{cores, fast_folder};
use stockade_benches::record::Record;
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::worker::{Ended, Patience, Pool, PoolOptions};
use stockade_runtime::{Ablated, Class, HostDatabase, Layer, Layers, Outcome, Request, Runtime, SqlValue};

type Failure = Box<dyn Error + Send + Sync>;

const PROFILE: &str = "walkin";

/// One call of one opcode that SQLite does not leave for half a minute: only a kill ends it.
const STUCK: &str = "select length(trim(replace(hex(zeroblob(249990)), '00', 'aaaa'), \
                     replace(hex(zeroblob(20700)), '00', 'bbbb') || 'a'))";

/// It never ends, and can be stopped at any row.
const ENDLESS: &str = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";

/// It asks for more memory than there is for it.
const BOMB: &str = "with recursive c(x, text) as (select 1, '' union select x + 1, hex(zeroblob(490000)) || x from c) \
                    select sum(length(text)) from c";

/// How long a hostile guest may run, in milliseconds.
const HOSTILE_MILLIS: u64 = 100;

fn main() -> Result<(), Failure> {
    stockade_runtime::worker::enter();
    let mut record = Record::of("workers")?;
    round_trip(&mut record)?;
    kill(false, &mut record)?;
    kill(true, &mut record)?;
    replace(&mut record)?;
    neighbours(Duration::from_millis(25), &mut record)?;
    neighbours(Duration::ZERO, &mut record)?;
    record.finish()
}

fn show(record: &Record, name: &str, latencies: &Latencies) {
    record.say(format_args!("  {name:<36} {latencies}\n"));
}

/// The stock policies, so many milliseconds for a guest at most, and functions that take as long as they like: a guest must
/// be able to get stuck in one.
fn policies(millis: u64) -> Result<PolicyStore, Failure> {
    let text = format!(
        "@id(\"bench-elapse\") forbid (principal in Profile::\"{PROFILE}\", action == Action::\"elapse\", \
         resource == Meter::\"guest\") unless {{ context.millis <= {millis} }};
         @id(\"bench-functions\") permit (principal in Profile::\"{PROFILE}\", action == Action::\"sqlFunctionSteps\", \
         resource == Meter::\"connection\") when {{ context.ops <= 1000000000000000 }};"
    );
    let source = Source {
        name: "bench.cedar".to_owned(),
        text,
        kind: SourceKind::Policies,
    };
    Ok(PolicyStore::load(&[source], Stock::With)?)
}

fn pool(workers: usize, spare: usize) -> Result<Arc<Pool>, Failure> {
    Ok(Arc::new(Pool::with(PoolOptions {
        workers,
        spare,
        ..PoolOptions::default()
    })?))
}

/// Fails where the guest did not complete, or returned anything but this.
fn expect(outcome: &Outcome, rows: &[Vec<SqlValue>]) -> Result<(), Failure> {
    let last = outcome.product.statements.last();
    if outcome.class == Class::Completed && last.is_some_and(|last| last.rows == rows) {
        return Ok(());
    }
    Err(format!("{} ({}) and {last:?}, not {rows:?}", outcome.class, outcome.detail).into())
}

fn the_answer(runtime: &Runtime, tenant: &str) -> Result<(), Failure> {
    let outcome = runtime.run(&Request::sql(PROFILE, "select 6 * 7").for_tenant(tenant))?;
    expect(&outcome, &[vec![SqlValue::Integer(42)]])
}

/// The same scripts in process and in a worker, in turns: the shortest, and one that has a database opened.
fn round_trip(record: &mut Record) -> Result<(), Failure> {
    let folder = fast_folder()?;
    let path = folder.path().join("own.db");
    HostDatabase::open(&path)?.execute("create table own(x); insert into own values (42);")?;
    let shortest = Request::sql(PROFILE, "select 6 * 7");
    let opening = Request::sql(PROFILE, "select x from own").on_database(&path);
    let inside = Runtime::in_process(policies(2000)?);
    let outside = Runtime::in_pool(policies(2000)?, pool(1, 1)?);
    let ways = [
        ("in process", &inside),
        ("in a worker", &outside),
        ("(in process again)", &inside),
    ];
    for (name, request, batch) in [("`select 6 * 7`", shortest, 50), ("one row of a database", opening, 20)] {
        let mut taken = [const { Latencies::new() }; 3];
        for _ in 0..if record.is_once() { 1 } else { 200 } {
            for ((_, runtime), taken) in ways.iter().zip(&mut taken) {
                for _ in 0..if record.is_once() { 1 } else { batch } {
                    let outcome = taken.time(|| runtime.run(&request))?;
                    expect(&outcome, &[vec![SqlValue::Integer(42)]])?;
                }
            }
        }
        record.say(format_args!("{name}, from request to outcome\n"));
        for ((name, _), taken) in ways.iter().zip(&taken) {
            show(record, name, taken);
        }
        if request.database.is_none() {
            let [inside, outside, again] = &taken;
            record.figure("round-trip", Some(outside.over(inside, again, 0)));
            record.figure("typical-round-trip", Some(outside.over(inside, again, 50)));
        }
    }
    Ok(())
}

/// How long a guest that is stuck is there beyond its deadline: its time runs from its first byte, and ends with its process.
fn kill(busy: bool, record: &mut Record) -> Result<(), Failure> {
    const MILLIS: u64 = 60;
    let runtime = Runtime::in_pool(policies(MILLIS)?, pool(1, 1)?);
    let due = Duration::from_millis(MILLIS);
    let request = Request::sql(PROFILE, STUCK);
    the_answer(&runtime, "one")?;
    let is_over = AtomicBool::new(false);
    let mut late = Latencies::new();
    thread::scope(|scope| {
        let _over = Ends(&is_over);
        for _ in 0..if busy { cores() } else { 0 } {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let most = if record.is_once() { 1 } else { 250 };
        for _ in 0..most {
            let outcome = runtime.run(&request)?;
            let ran = Duration::from_micros(outcome.wall_us);
            match (outcome.class, outcome.layer) {
                (Class::LimitTime, Some(Layer::Worker)) => late.add(ran.saturating_sub(due)),
                // On a busy machine it may not have come far enough to be stuck.
                (Class::LimitTime, Some(Layer::Deadline)) => {}
                other => return Err(Failure::from(format!("a stuck guest: {other:?}, {}", outcome.detail))),
            }
        }
        if late.len() * 5 < most * 4 && !record.is_once() {
            return Err(format!("only {} of {most} guests were killed", late.len()).into());
        }
        Ok(())
    })?;
    let (id, name) = if busy {
        ("kill-busy", "every core busy")
    } else {
        ("kill", "quiet")
    };
    record.say("from a stuck guest's deadline to the end of its process\n");
    show(record, name, &late);
    record.figure(id, Some(late.figure(99)));
    Ok(())
}

/// Sets the flag when it goes, whichever way.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Loses its worker a millisecond after the guest's start, as by a crash.
fn crash(runtime: &Runtime, tenant: &str) -> Result<(), Failure> {
    let layers = Layers::ALL.without(Layer::Worker);
    let watchdog = Patience {
        prepare: Duration::from_secs(2),
        run: Some(Duration::from_millis(1)),
        answer: Duration::ZERO,
        reply_bytes: 1 << 20,
        rss_bytes: None,
    };
    match runtime.run_ablated(&Request::sql(PROFILE, STUCK).for_tenant(tenant), layers, &watchdog)? {
        Ablated::Ended(Ended::Killed { .. }) => Ok(()),
        other => Err(format!("nobody was killed: {other:?}").into()),
    }
}

/// One tenant's call just after another's worker was killed, where there is one worker, with a spare one and without.
fn replace(record: &mut Record) -> Result<(), Failure> {
    // As long as starting a worker takes on a busy machine, and longer.
    let pause = Duration::from_millis(25);
    let spare = Runtime::in_pool(policies(2000)?, pool(1, 1)?);
    let bare = Runtime::in_pool(policies(2000)?, pool(1, 0)?);
    let ways = [
        ("nobody was killed", &spare, false),
        ("one was, a spare worker", &spare, true),
        ("one was, no spare worker", &bare, true),
        ("(nobody was killed, again)", &spare, false),
    ];
    let mut taken = [const { Latencies::new() }; 4];
    for _ in 0..if record.is_once() { 1 } else { 200 } {
        for ((_, runtime, is_killed), taken) in ways.iter().zip(&mut taken) {
            if *is_killed {
                crash(runtime, "hostile")?;
            } else {
                the_answer(runtime, "hostile")?;
            }
            taken.time(|| the_answer(runtime, "honest"))?;
            thread::sleep(pause);
        }
    }
    record.say("one tenant's call just after another's\n");
    for ((name, ..), taken) in ways.iter().zip(&taken) {
        show(record, name, taken);
    }
    let [quiet, spare, _, again] = taken;
    record.figure("replace", Some(spare.ratio(&quiet, &again, 99)));
    Ok(())
}

/// One honest tenant: a database with its name, and a number that only its own guests count up.
struct Honest {
    name: String,
    path: PathBuf,
    counted: i64,
}

impl Honest {
    fn new(folder: &Path, number: usize) -> Result<Self, Failure> {
        let name = format!("honest-{number}");
        let path = folder.join(format!("{name}.db"));
        HostDatabase::open(&path)?.execute(&format!(
            "create table own(name, counted); insert into own values ('{name}', 0);"
        ))?;
        Ok(Self { name, path, counted: 0 })
    }

    fn rows(&self) -> Vec<Vec<SqlValue>> {
        vec![vec![SqlValue::Text(self.name.clone()), SqlValue::Integer(self.counted)]]
    }

    /// Asks until the end, and checks each answer.
    fn ask(&mut self, runtime: &Runtime, pause: Duration, until: &Until) -> Result<Latencies, Failure> {
        let script = "update own set counted = counted + 1; select name, counted from own;";
        let request = Request::sql(PROFILE, script)
            .on_database(&self.path)
            .for_tenant(&self.name);
        let mut taken = Latencies::new();
        while !until.is_over() || taken.is_empty() {
            let outcome = taken.time(|| runtime.run(&request))?;
            self.counted += 1;
            expect(&outcome, &self.rows())?;
            thread::sleep(pause);
        }
        let seen = HostDatabase::open(&self.path)?.rows("select name, counted from own")?;
        if seen != self.rows() {
            return Err(format!("the database of {} holds {seen:?}, not {:?}", self.name, self.rows()).into());
        }
        Ok(taken)
    }
}

/// The end of a phase: a time, or somebody's failure.
struct Until {
    end: Instant,
    has_failed: AtomicBool,
}

impl Until {
    fn after(long: Duration) -> Self {
        Self {
            end: Instant::now() + long,
            has_failed: AtomicBool::new(false),
        }
    }

    fn is_over(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || Instant::now() >= self.end
    }
}

/// Attacks until the end: each its own way.
fn attack(runtime: &Runtime, number: usize, until: &Until) -> Result<(), Failure> {
    let tenant = format!("hostile-{number}");
    let script = match number % 4 {
        0 => STUCK,
        1 => ENDLESS,
        2 => BOMB,
        _ => {
            while !until.is_over() {
                crash(runtime, &tenant)?;
            }
            return Ok(());
        }
    };
    let request = Request::sql(PROFILE, script).for_tenant(&tenant);
    while !until.is_over() {
        let outcome = runtime.run(&request)?;
        if !matches!(outcome.class, Class::LimitTime | Class::LimitMemory) {
            return Err(format!("{tenant}: {} ({})", outcome.class, outcome.detail).into());
        }
    }
    Ok(())
}

/// Half of 64 tenants are hostile; the other half is timed, beside them and alone with half of the workers.
fn neighbours(pause: Duration, record: &mut Record) -> Result<(), Failure> {
    let workers = cores().max(2);
    let tenants = if record.is_once() { 4 } else { 32 };
    let folder = fast_folder()?;
    let mut honest = (0..tenants)
        .map(|number| Honest::new(folder.path(), number))
        .collect::<Result<Vec<_>, _>>()?;
    let stage = |workers| {
        let pool = pool(workers, 1)?;
        Ok::<_, Failure>(Stage {
            honest: Runtime::in_pool(policies(2000)?, Arc::clone(&pool)),
            hostile: Runtime::in_pool(policies(HOSTILE_MILLIS)?, pool),
        })
    };
    let (alone, beside) = (stage(workers / 2)?, stage(workers)?);
    let long = Duration::from_millis(if record.is_once() { 1 } else { 2500 });
    let ways = [
        ("alone with half of the workers", &alone, 0),
        ("beside as many hostile ones", &beside, tenants),
        ("(alone again)", &alone, 0),
    ];
    let mut taken = [const { Latencies::new() }; 3];
    if !record.is_once() {
        // Until somebody has had anything, all are alike.
        black_box(phase(&mut honest, tenants, &beside, pause, long)?);
    }
    for _ in 0..if record.is_once() { 1 } else { 4 } {
        for ((_, stage, hostile), taken) in ways.iter().zip(&mut taken) {
            taken.merge(phase(&mut honest, *hostile, stage, pause, long)?);
        }
    }
    record.say(format_args!(
        "{tenants} tenants, {} ms between their calls, {workers} workers\n",
        pause.as_millis()
    ));
    for ((name, ..), taken) in ways.iter().zip(&taken) {
        show(record, name, taken);
    }
    let [alone, beside, again] = taken;
    let id = if pause.is_zero() {
        "neighbours-busy"
    } else {
        "neighbours"
    };
    record.figure(id, Some(beside.ratio(&alone, &again, 99)));
    Ok(())
}

/// One pool, and how long each half may run on it.
struct Stage {
    honest: Runtime,
    hostile: Runtime,
}

fn phase(
    honest: &mut [Honest],
    hostile: usize,
    stage: &Stage,
    pause: Duration,
    long: Duration,
) -> Result<Latencies, Failure> {
    let until = Until::after(long);
    let or_fail = |result: Result<Latencies, Failure>| {
        until.has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    };
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..hostile)
            .map(|number| {
                let until = &until;
                scope.spawn(move || or_fail(attack(&stage.hostile, number, until).map(|()| Latencies::new())))
            })
            .collect();
        let askers: Vec<_> = honest
            .iter_mut()
            .map(|tenant| {
                let until = &until;
                scope.spawn(move || or_fail(tenant.ask(&stage.honest, pause, until)))
            })
            .collect();
        let mut all = Latencies::new();
        for thread in askers.into_iter().chain(attackers) {
            all.merge(thread.join().map_err(|_| "a tenant's thread ended in a panic")??);
        }
        Ok(all)
    })
}
