//! What whoever serves tenants gets: whole calls and typical work in a worker, calls in a second as tenants become more, how
//! busy workers are, how often the module cache has what is asked for.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use stockade_benches::bootstrap::few;
use stockade_benches::completed as is_completed;
use stockade_benches::latencies::Latencies;
use stockade_benches::machine::{cores, fast_folder};
use stockade_benches::pairs::Pairs;
use stockade_benches::record::Record;
use stockade_benches::synthetic::NOTES;
use stockade_conformance::overhead::{Figure, Size, WayTaken};
use stockade_policies::PolicyStore;
use stockade_runtime::measure::Bare;
use stockade_runtime::worker::{Pool, PoolOptions};
use stockade_runtime::{Class, HostDatabase, ModuleCache, Outcome, Request, Runtime};

type Failure = Box<dyn Error + Send + Sync>;

/// One that reads and writes JSON, and the smallest.
const KERNELS: [&[u8]; 2] = [
    include_bytes!("../kernels/modules/json.wasm"),
    include_bytes!("../kernels/modules/interpreter.wasm"),
];

fn main() -> Result<(), Failure> {
    stockade_runtime::worker::enter();
    let mut record = Record::of("service")?;
    calls(&mut record)?;
    typical_script(&mut record)?;
    typical_module(&mut record)?;
    for tenants in if record.is_once() { &[2][..] } else { &TENANTS } {
        crowd(*tenants, &mut record)?;
    }
    newcomers(&mut record)?;
    pool_use(&mut record)?;
    cache_hits(&mut record)?;
    record.finish()
}

fn pooled(workers: usize) -> Result<Runtime, Failure> {
    let options = PoolOptions {
        workers,
        spare: 1,
        ..PoolOptions::default()
    };
    Ok(Runtime::in_pool(PolicyStore::stock()?, Arc::new(Pool::with(options)?)))
}

/// A refusal is quick: timing one would flatter.
fn completed(outcome: Outcome) -> Result<Outcome, Failure> {
    if outcome.class == Class::Completed {
        Ok(outcome)
    } else {
        Err(format!("{}: {}", outcome.class, outcome.detail).into())
    }
}

/// From request to outcome in a worker, where the guest does next to nothing.
fn calls(record: &mut Record) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let cache = Arc::new(ModuleCache::open(folder.path(), 1 << 28)?);
    let runtime = pooled(1)?.with_module_cache(cache);
    let nothing = 0_u32.to_le_bytes().to_vec();
    for (id, request) in [
        ("whole-call", Request::sql("walkin", "select 6 * 7")),
        ("module-call", kernel_request(KERNELS[1], nothing)),
    ] {
        let mut taken = Latencies::new();
        completed(runtime.run(&request)?)?;
        for _ in 0..if record.is_once() { 2 } else { 4000 } {
            completed(taken.time(|| runtime.run(&request))?)?;
        }
        record.say(format_args!("{id:<20} {taken}\n"));
        record.figure(id, Some(taken.figure(50)));
    }
    Ok(())
}

fn kernel_request(kernel: &[u8], input: Vec<u8>) -> Request {
    let mut request = Request::wasm("trusted", kernel);
    request.input = input;
    request
}

/// What a tenant's page does in the morning: reads a table, joins it with another, writes some of it down. Its text is another
/// in each turn, as that of a program which puts its values into it; the rows are the same.
fn day(turn: u32) -> String {
    format!(
        "
    select name, count(*), sum(n.id) from notes n join tags t on n.tag = t.id group by name order by 2 desc limit 10;
    select max(length(body)) from notes where body like '%7%';
    insert into copies select body, tag from notes where id <= 500;
    select body from notes where id between 700 and 900 and id <> -{turn};
    delete from copies;"
    )
}

/// Every way has a file of its own, for a connection reads all pages again when another has written. And every way compiles
/// each time: a session keeps a script that comes again.
fn typical_script(record: &mut Record) -> Result<(), Failure> {
    let folder = fast_folder()?;
    let staged = folder.path().join("staged.db");
    HostDatabase::open(&staged)?.execute(NOTES)?;
    let copy = |name: &str| -> Result<PathBuf, Failure> {
        let path = folder.path().join(name);
        std::fs::copy(&staged, &path)?;
        Ok(path)
    };
    let bare = HostDatabase::open(copy("bare.db")?)?;
    let inside = Runtime::in_process(PolicyStore::stock()?);
    let session = RefCell::new(inside.open("trusted", Some(&copy("session.db")?))?);
    let outside = pooled(1)?;
    let worker = copy("worker.db")?;
    let in_a_worker = |script: String| outside.run(&Request::sql("trusted", script).on_database(&worker));
    let turn = Cell::new(0_u32);
    let next = || {
        turn.set(turn.get().wrapping_add(1));
        day(turn.get())
    };
    let expected = bare.compile(&next())?.run()?;
    for outcome in [session.borrow_mut().run(&next())?, in_a_worker(next())?] {
        if completed(outcome)?.product.statements != expected {
            return Err("the day comes out otherwise".into());
        }
    }
    let timed = Pairs::of("five statements that are typical, from a text that is new to rows")
        .way_by_clock("bare", || {
            let ran = bare.compile(&next()).and_then(|mut script| script.run());
            ran.is_ok()
        })
        .way_by_clock("in process, in a session", || {
            is_completed(&session.borrow_mut().run(&next()))
        })
        .way_by_clock("in a worker, which opens the database", || {
            is_completed(&in_a_worker(next()))
        })
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("day-session", timed.ratio("in process, in a session"));
    record.figure("day-worker", timed.ratio("in a worker, which opens the database"));
    Ok(())
}

fn typical_module(record: &mut Record) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let cache = || ModuleCache::open(folder.path(), 1 << 28).map(Arc::new);
    let inside = Runtime::in_process(PolicyStore::stock()?).with_module_cache(cache()?);
    let outside = pooled(1)?.with_module_cache(cache()?);
    let turns: u32 = if record.is_once() { 1 } else { 4 };
    let bare = Bare::new(KERNELS[0])?;
    let request = kernel_request(KERNELS[0], turns.to_le_bytes().to_vec());
    let expected = bare.start()?.work(turns)?;
    for outcome in [inside.run(&request)?, outside.run(&request)?] {
        if completed(outcome)?.product.output != expected {
            return Err("the module has another answer".into());
        }
    }
    let timed = Pairs::of("a module that reads and writes JSON, from request to output, compiled before")
        .way_by_clock("bare wasmtime, a new instance", || {
            bare.start().and_then(|mut instance| instance.work(turns)).is_ok()
        })
        .way_by_clock("in process", || is_completed(&inside.run(&request)))
        .way_by_clock("in a worker", || is_completed(&outside.run(&request)))
        .timed(record.effort())?;
    record.timed(&timed);
    record.figure("typical-module", timed.ratio("in a worker"));
    Ok(())
}

/// How many tenants ask at once.
const TENANTS: [u64; 5] = [1, 4, 16, 64, 256];

/// How long each phase is.
fn phase(record: &Record) -> Duration {
    Duration::from_millis(if record.is_once() { 1 } else { 1500 })
}

/// Has so many tenants ask until the phase is over. What each call took, and how many there were in a second.
fn asked(
    tenants: u64,
    long: Duration,
    call: impl Fn(u64) -> Result<(), Failure> + Sync,
) -> Result<(Latencies, f64), Failure> {
    let begun = Instant::now();
    let ask = |tenant| {
        let mut taken = Latencies::new();
        while begun.elapsed() < long || taken.is_empty() {
            taken.time(|| call(tenant))?;
        }
        Ok::<_, Failure>(taken)
    };
    let ask = &ask;
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..tenants).map(|tenant| scope.spawn(move || ask(tenant))).collect();
        let mut all = Latencies::new();
        for thread in threads {
            all.merge(thread.join().map_err(|_| "a tenant's thread ended in a panic")??);
        }
        Ok::<_, Failure>(all)
    })?;
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 calls")]
    let per_second = all.len() as f64 / begun.elapsed().as_secs_f64();
    Ok((all, per_second))
}

fn counts_up(runtime: &Runtime, folder: &Path, tenant: u64) -> Result<(), Failure> {
    let request = Request::sql(
        "walkin",
        "update own set counted = counted + 1; select counted from own;",
    )
    .on_database(folder.join(format!("{tenant}.db")))
    .for_tenant(format!("tenant-{tenant}"));
    completed(runtime.run(&request)?).map(drop)
}

/// Tenants who always ask, each of its own database.
fn crowd(tenants: u64, record: &mut Record) -> Result<(), Failure> {
    let folder = fast_folder()?;
    for tenant in 0..tenants {
        HostDatabase::open(folder.path().join(format!("{tenant}.db")))?
            .execute("create table own(counted); insert into own values (0);")?;
    }
    let runtime = pooled(cores())?;
    let call = |tenant| counts_up(&runtime, folder.path(), tenant);
    let phases = (0..3).map(|_| asked(tenants, phase(record), call));
    let phases = phases.collect::<Result<Vec<_>, _>>()?;
    let rates: Vec<f64> = phases.iter().map(|(_, per_second)| *per_second).collect();
    let rate = few(&rates);
    let [(taken, _), .., (again, _)] = phases.as_slice() else {
        return Err("there are three phases".into());
    };
    let (median, slow) = (taken.figure(50).value, taken.figure(99).value);
    record.say(format_args!(
        "{tenants:>4} tenants: {:.0} calls a second\n  {taken}\n",
        rate.value
    ));
    let way = |name: &str, nanos| WayTaken {
        name: name.to_owned(),
        nanos,
    };
    let ways = vec![
        way("a call, the median", median),
        way("a call, the 99th of 100", slow),
        way("all together, for each call", 1e9 / rate.value),
    ];
    let size = Size {
        count: tenants,
        of: "tenants".to_owned(),
    };
    record.comparison(
        "tenants who always ask, each of its own database",
        Some(size),
        ways,
        again.figure(50).value,
    );
    if tenants == 64 || record.is_once() {
        record.figure("walk-ins", Some(rate));
    }
    Ok(())
}

/// Tenants who come for the first time: an empty database, and a table in it.
fn newcomers(record: &mut Record) -> Result<(), Failure> {
    let folder = fast_folder()?;
    let runtime = pooled(cores())?;
    let number = std::sync::atomic::AtomicU64::new(0);
    let call = |_| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(format!("{number}.db"));
        std::fs::write(&path, [])?;
        let request = Request::sql(
            "walkin",
            "create table own(x); insert into own values (1); select * from own;",
        )
        .on_database(&path)
        .for_tenant(format!("tenant-{number}"));
        completed(runtime.run(&request)?)?;
        Ok(std::fs::remove_file(&path)?)
    };
    let phases = (0..3).map(|_| asked(8, phase(record), call).map(|(_, per_second)| per_second));
    let rates = phases.collect::<Result<Vec<_>, _>>()?;
    record.figure("walk-ins-created", Some(few(&rates)));
    Ok(())
}

/// A few milliseconds of work that needs nothing but a processor.
const BUSY: &str =
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) select sum(i * i % 7) from n";

/// How much of the workers' time guests have, while there is always somebody who asks.
fn pool_use(record: &mut Record) -> Result<(), Failure> {
    let workers = cores();
    let runtime = pooled(workers)?;
    let mut shares = Vec::new();
    for _ in 0..3 {
        let guests = std::sync::atomic::AtomicU64::new(0);
        let begun = Instant::now();
        let call = |tenant| {
            let request = Request::sql("trusted", BUSY).for_tenant(format!("tenant-{tenant}"));
            let outcome = completed(runtime.run(&request)?)?;
            guests.fetch_add(outcome.wall_us, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        asked(8, phase(record), call)?;
        #[expect(clippy::cast_precision_loss, reason = "less than 2^52 microseconds")]
        let (had, workers) = (guests.into_inner() as f64 / 1e6, workers as f64);
        shares.push(had / begun.elapsed().as_secs_f64() / workers);
    }
    record.figure("pool-use", Some(few(&shares)));
    Ok(())
}

/// How many modules there are, and how many requests, each for one of them: the second is asked for half as often as the
/// first, the third a third as often.
const MODULES: usize = 256;
const REQUESTS: usize = 8000;

/// Small modules that differ in a section of no meaning, and so in everything that a cache goes by.
fn module(number: usize) -> Vec<u8> {
    let [low, high] = u16::try_from(number).unwrap_or_default().to_le_bytes();
    // A custom section with five bytes: a name of one, `n`, and a number.
    let section = [0, 5, 1, b'n', low, high, 0];
    [KERNELS[1], &section].concat()
}

/// How often the module cache has what is asked for, where there is room for half of it on disk. It holds as many in memory, which
/// need not be the same ones.
fn cache_hits(record: &mut Record) -> Result<(), Failure> {
    let (modules, requests) = if record.is_once() { (2, 3) } else { (MODULES, REQUESTS) };
    let folder = tempfile::tempdir()?;
    let (first, _) = runtime_with_cache(folder.path(), u64::MAX)?;
    completed(first.run(&kernel_request(&module(0), vec![0; 4]))?)?;
    let mut each = 0;
    for entry in std::fs::read_dir(folder.path())? {
        each = each.max(entry?.metadata()?.len());
    }
    let folder = tempfile::tempdir()?;
    let (runtime, cache) = runtime_with_cache(folder.path(), each * modules as u64 / 2)?;
    let harmonic: f64 = (1..=modules).map(inverse).sum();
    let mut state = 0x5eed_u64;
    for _ in 0..requests {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are enough to choose by")]
        let mut left = (state >> 11) as f64 / (1_u64 << 53) as f64 * harmonic;
        let chosen = (1..modules).find(|rank| {
            left -= inverse(*rank);
            left < 0.0
        });
        let request = kernel_request(&module(chosen.unwrap_or(modules)), vec![0; 4]);
        completed(runtime.run(&request)?)?;
    }
    let counts = cache.counts();
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let share = counts.hits as f64 / (counts.hits + counts.misses + counts.rejected) as f64;
    record.say(format_args!(
        "the module cache, with room for half on disk: {counts:?}\n"
    ));
    record.figure("cache-hits", Some(Figure::exact(share)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "there are few modules")]
fn inverse(rank: usize) -> f64 {
    1.0 / rank as f64
}

fn runtime_with_cache(folder: &Path, most_bytes: u64) -> Result<(Runtime, Arc<ModuleCache>), Failure> {
    let cache = Arc::new(ModuleCache::open(folder, most_bytes)?);
    let runtime = Runtime::in_process(PolicyStore::stock()?).with_module_cache(Arc::clone(&cache));
    Ok((runtime, cache))
}
