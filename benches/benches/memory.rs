//! What the fence costs in memory: the same work held open in a process of its own, bare and governed.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use stockade_benches::bootstrap::few;
use stockade_benches::record::Record;
use stockade_policies::{PolicyStore, Principal};
use stockade_runtime::measure::{Bare, Governed, Way};
use stockade_runtime::worker::{Pool, PoolOptions};
use stockade_runtime::{Class, HostDatabase, Request, Runtime};

type Failure = Box<dyn Error + Send + Sync>;

/// A module with a heap that is worth the name.
const KERNEL: &[u8] = include_bytes!("../kernels/modules/json.wasm");

/// Ten thousand rows: half a megabyte for whoever has read them.
const STAGE: &str = "
    create table notes(id integer primary key, body text, tag int);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)
      insert into notes select i, 'a note that says something about number ' || i, i % 100 from n;
";
const SCAN: &str = "select count(*), max(length(body)) from notes";

/// How many are held open, and how often that is done.
const MANY: usize = 128;
const TIMES: usize = 5;

fn main() -> Result<(), Failure> {
    stockade_runtime::worker::enter();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, holding, way, count, path] = arguments.as_slice()
        && holding == "holding"
    {
        println!("{}", hold(way, count.parse()?, Path::new(path))?);
        return Ok(());
    }
    let mut record = Record::of("memory")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notes.db");
    HostDatabase::open(&path)?.execute(STAGE)?;
    held(&mut record, &path)?;
    worker(&mut record)?;
    record.finish()
}

/// Bytes that a process of its own has, with so many of these open.
fn held_by(way: &str, count: usize, path: &Path) -> Result<f64, Failure> {
    #[expect(clippy::disallowed_methods, reason = "it is this program, and no guest")]
    let output = Command::new(std::env::current_exe()?)
        .args(["holding", way, &count.to_string()])
        .arg(path)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let bytes = text.trim().parse();
    bytes.map_err(|_| format!("{way}: {text}{}", String::from_utf8_lossy(&output.stderr)).into())
}

fn held(record: &mut Record, path: &Path) -> Result<(), Failure> {
    let (many, times) = if record.is_once() { (2, 1) } else { (MANY, TIMES) };
    let [mut sql, mut wasm, mut fixed, mut each_session, mut each_instance] = [const { Vec::new() }; 5];
    for _ in 0..times {
        let both = |bare: &str, governed: &str, count| {
            Ok::<_, Failure>((held_by(bare, count, path)?, held_by(governed, count, path)?))
        };
        let (bare_one, governed_one) = both("bare-sql", "sql", 1)?;
        let (bare, governed) = both("bare-sql", "sql", many)?;
        let beyond = |one: f64, other: f64| (one - other) / count(many - 1);
        sql.push(governed / bare);
        fixed.push(governed_one - bare_one);
        each_session.push(beyond(governed - governed_one, bare - bare_one));
        let (bare_one, governed_one) = both("bare-wasm", "wasm", 1)?;
        let (bare, governed) = both("bare-wasm", "wasm", many)?;
        wasm.push(governed / bare);
        each_instance.push(beyond(governed - governed_one, bare - bare_one));
    }
    record.figure("memory-sql", Some(few(&sql)));
    record.figure("memory-wasm", Some(few(&wasm)));
    record.figure("memory-policies", Some(few(&fixed)));
    record.figure("memory-session", Some(few(&each_session)));
    record.figure("memory-instance", Some(few(&each_instance)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn count(count: usize) -> f64 {
    count as f64
}

/// Opens so many, has each do its work, and says how many bytes that is while all of them are there.
fn hold(way: &str, count: usize, path: &Path) -> Result<u64, Failure> {
    match way {
        "bare-sql" => held_open(count, || {
            let database = HostDatabase::open(path)?;
            database.rows(SCAN)?;
            Ok(database)
        }),
        "sql" => {
            let runtime = Runtime::in_process(PolicyStore::stock()?);
            held_open(count, || {
                let mut session = runtime.open("walkin", Some(path))?;
                let class = session.run(SCAN)?.class;
                (class == Class::Completed)
                    .then_some(session)
                    .ok_or_else(|| class.name().into())
            })
        }
        "bare-wasm" => {
            let module = Bare::new(KERNEL)?;
            held_open(count, || {
                let mut instance = module.start()?;
                instance.work(1)?;
                Ok(instance)
            })
        }
        "wasm" => {
            let plan = PolicyStore::stock()?.plan(&Principal::caller("guest", "trusted"))?;
            let module = Governed::new(KERNEL, plan, Way::Page)?;
            held_open(count, || {
                let mut instance = module.start()?;
                instance.work(1)?;
                Ok(instance)
            })
        }
        other => Err(format!("nobody holds `{other}`").into()),
    }
}

fn held_open<T>(count: usize, open: impl FnMut() -> Result<T, Failure>) -> Result<u64, Failure> {
    let _held = std::iter::repeat_with(open)
        .take(count)
        .collect::<Result<Vec<T>, _>>()?;
    resident("self")
}

/// Bytes of memory that a process has, those that it shares divided by how many share them.
fn resident(process: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .ok_or("no Pss")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// What one worker takes, which has had a guest and waits for the next.
fn worker(record: &mut Record) -> Result<(), Failure> {
    let mut taken = Vec::new();
    for _ in 0..if record.is_once() { 1 } else { TIMES } {
        let options = PoolOptions {
            workers: 1,
            spare: 0,
            ..PoolOptions::default()
        };
        let runtime = Runtime::in_pool(PolicyStore::stock()?, Pool::with(options)?.into());
        let class = runtime.run(&Request::sql("walkin", "select 6 * 7"))?.class;
        if class != Class::Completed {
            return Err(class.name().into());
        }
        let mut all = 0;
        for thread in fs::read_dir("/proc/self/task")? {
            let children = fs::read_to_string(thread?.path().join("children"))?;
            for child in children.split_whitespace() {
                all += resident(child)?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "less than 2^52 bytes")]
        taken.push(all as f64);
    }
    record.figure("memory-worker", Some(few(&taken)));
    Ok(())
}
