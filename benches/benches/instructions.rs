//! The hot paths, for `ci/instructions` to count what they take.
//!
//! Without arguments every path is taken once, to see that it works. With `count` each takes a fixed number of turns inside of
//! [`in_turns`], which is what callgrind is told to count, and its name and its steps are on standard output, in that order. With
//! `judge` what was counted is held against the baseline: [`instructions::command`].
//!
//! Nothing is timed. A path does the same every time, so that what it takes can be compared with what it took before.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use stockade_benches::instructions;
use stockade_benches::synthetic;
use stockade_policies::{
    Action, Meter, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction, Stock,
};
use stockade_runtime::measure::{Account, Crossing, Governed, Kept, Way};
use stockade_runtime::{CacheUse, Class, HostDatabase, ModuleCache, Outcome, Request, Runtime, SqlSession};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let counts = match words.as_slice() {
        ["judge" | "update", ..] => return Ok(judged(&words)),
        ["count", ..] => true,
        _ => false,
    };
    let folder = tempfile::tempdir()?;
    let paths = Paths { counts };
    let stock = with_stock()?;
    let plan = stock.plan(&Principal::caller("guest", "bench"))?;
    plans(&paths, &plan)?;
    buffers(&paths, plan.clone())?;
    modules(&paths, plan, folder.path())?;
    whole_run(&paths, stock, folder.path())?;
    sql(&paths, folder.path())?;
    Ok(ExitCode::SUCCESS)
}

/// 2 where nothing can be compared.
fn judged(words: &[&str]) -> ExitCode {
    instructions::command(words).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

struct Paths {
    counts: bool,
}

/// Turns before those that are counted: what is made on first use is made then.
const WARM: u32 = 5;

impl Paths {
    /// A path, and how many turns of it are counted. Each turn is so many steps, and a step is what the path is named for.
    fn path(&self, name: &str, turns: u32, steps: usize, mut turn: impl FnMut() -> Result<()>) -> Result<()> {
        for _ in 0..if self.counts { WARM } else { 1 } {
            turn().map_err(|error| format!("{name}: {error}"))?;
        }
        if self.counts {
            println!("{name} {}", u64::from(turns) * steps as u64);
            in_turns(turns, &mut turn)?;
        }
        Ok(())
    }
}

/// What is counted, of the thread that is in here and of no other. `ci/instructions` knows it by its name.
#[inline(never)]
fn in_turns(turns: u32, turn: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..turns {
        turn()?;
    }
    Ok(())
}

fn source(name: &str, text: impl Into<String>, kind: SourceKind) -> Source {
    Source {
        name: name.to_owned(),
        text: text.into(),
        kind,
    }
}

/// What a plan answers: from an array, from its memory, and by asking Cedar.
fn plans(paths: &Paths, stock: &Plan) -> Result<()> {
    paths.path("plan-bound", 200, Meter::ALL.len(), || {
        for &meter in Meter::ALL {
            black_box(black_box(stock).bound(black_box(meter)).permits(black_box(4096)));
        }
        Ok(())
    })?;
    paths.path("plan-bit", 200, SqlAction::ALL.len(), || {
        for &action in SqlAction::ALL {
            black_box(black_box(stock).bit(black_box(Action::Sql(action))));
        }
        Ok(())
    })?;
    let sources = [
        source("synthetic.cedar", synthetic::cedar_readings(200), SourceKind::Policies),
        source("synthetic.json", synthetic::entities(), SourceKind::Entities),
    ];
    let plan = PolicyStore::load(&sources, Stock::Without)?.plan(&Principal::caller("guest", "p3"))?;
    let known = Resource::column("main", "t3", "name");
    paths.path("plan-remembered", 500, 1, || {
        black_box(reads(&plan, &known));
        Ok(())
    })?;
    let mut columns = (0_u32..).map(|number| Resource::column("main", "t3", &format!("name{number}")));
    paths.path("plan-new", 100, 1, || {
        black_box(columns.next().map(|column| reads(&plan, &column)));
        Ok(())
    })
}

fn reads(plan: &Plan, column: &Resource) -> bool {
    plan.decide(&Question {
        action: Action::Sql(SqlAction::Read),
        resource: column,
        context: &[],
    })
    .allowed
}

/// A thousand rows that are found by their key.
const STAGE: &str = "
    create table notes(id integer primary key, body text, tag int);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
      insert into notes select i, 'note ' || i, i % 100 from n;
";

/// What a plugin with a database of its own may do: nothing here is refused, everything is asked about.
const SQL_POLICIES: &str = r#"
    @id("rows") permit (principal in Profile::"bench", action in [Action::"select", Action::"read"],
      resource in Database::"main");
    @id("functions") permit (principal in Profile::"bench", action == Action::"callFunction", resource);
    @id("threads") forbid (principal in Profile::"bench", action == Action::"sqlWorkerThreads", resource)
      unless { context.count <= 0 };
"#;

fn sql_policies() -> Result<PolicyStore> {
    let bounds = Meter::ALL.iter().map(|meter| {
        format!(
            "@id(\"{0}\") permit (principal in Profile::\"bench\", action == Action::\"{0}\", resource == Meter::\"{1}\") \
             when {{ context.{2} <= 100000000 }};\n",
            meter.action(),
            meter.resource(),
            meter.unit().name(),
        )
    });
    let profile = r#"[{"uid": {"type": "Profile", "id": "bench"}, "attrs": {}, "parents": []}]"#;
    let sources = [
        source(
            "bench.cedar",
            SQL_POLICIES.to_owned() + bounds.collect::<String>().as_str(),
            SourceKind::Policies,
        ),
        source("bench.json", profile, SourceKind::Entities),
    ];
    Ok(PolicyStore::load(&sources, Stock::Without)?)
}

/// A statement that is compiled, one that was compiled before, and a row of many.
fn sql(paths: &Paths, folder: &Path) -> Result<()> {
    const ROWS: usize = 500;
    let file = folder.join("bench.db");
    HostDatabase::open(&file)?.execute(STAGE)?;
    let runtime = Runtime::in_process(sql_policies()?);
    let mut session = runtime.open("bench", Some(&file))?;
    let mut scripts = (1_u32..=1000).map(|id| format!("select body from notes where id = {id}"));
    paths.path("sql-compiled", 100, 1, || {
        let script = scripts.next().ok_or("there are no more scripts")?;
        rows(&mut session, &script, 1)
    })?;
    paths.path("sql-kept", 300, 1, || {
        rows(&mut session, "select body from notes where id = 500", 1)
    })?;
    paths.path("sql-row", 10, ROWS, || {
        rows(&mut session, "select id, body, tag from notes where id <= 500", ROWS)
    })?;
    frames(paths, &runtime)
}

fn rows(session: &mut SqlSession, script: &str, expected: usize) -> Result<()> {
    let outcome = completed(session.run(script)?)?;
    let rows: usize = outcome
        .product
        .statements
        .iter()
        .map(|statement| statement.rows.len())
        .sum();
    if rows == expected {
        Ok(())
    } else {
        Err(format!("{rows} rows").into())
    }
}

/// A refusal takes less.
fn completed(outcome: Outcome) -> Result<Outcome> {
    if outcome.class == Class::Completed {
        Ok(outcome)
    } else {
        Err(format!("{}: {}", outcome.class, outcome.detail).into())
    }
}

/// A guest that calls a host function as often as it is told.
fn guest(import: &str, call: &str) -> Result<Vec<u8>> {
    Ok(wat::parse_str(format!(
        r#"(module
            (import "stockade" {import})
            (memory (export "memory") 2)
            (data (i32.const 64) "requests_of_one_tenant_that_were_answered_from_what_is_remembered")
            (func (export "input_ptr") (result i32) (i32.const 16))
            (global (export "input_bytes_cap") i32 (i32.const 4))
            (func (export "run") (param i32) (result i32) (local $turns i32)
              (local.set $turns (i32.load (i32.const 16)))
              (loop $again
                (drop {call})
                (br_if $again (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
              (i32.const 0)))"#
    ))?)
}

/// One that hands nothing over, and one that hands over a name of 64 bytes.
const CLOCK: [&str; 2] = [r#""clock_now_ms" (func $now (result i64))"#, "(call $now)"];
const METRIC: [&str; 2] = [
    r#""metric_add" (func $add (param i32 i32 i64) (result i32))"#,
    "(call $add (i32.const 64) (i32.const 64) (i64.const 1))",
];

/// Time for all turns, however slow they are while they are counted: fuel is out of reach in it, so none is counted.
const WASM_POLICIES: &str = r#"
    @id("bench-elapse") permit (principal in Profile::"bench", action == Action::"elapse", resource == Meter::"guest")
      when { context.millis <= 600000 };
    @id("bench-clock") permit (principal in Profile::"bench", action == Action::"readClock",
      resource == HostFunction::"stockade#clock_now_ms");
"#;

fn with_stock() -> Result<PolicyStore> {
    let profile = r#"[{"uid": {"type": "Profile", "id": "bench"}, "attrs": {},
                       "parents": [{"type": "Profile", "id": "trusted"}]}]"#;
    let sources = [
        source("bench.json", profile, SourceKind::Entities),
        source("bench.cedar", WASM_POLICIES, SourceKind::Policies),
    ];
    Ok(PolicyStore::load(&sources, Stock::With)?)
}

/// A module: loaded, made an instance of, called back from, and read from. All of it is done in this thread.
fn modules(paths: &Paths, plan: Plan, folder: &Path) -> Result<()> {
    const CALLS: u32 = 200;
    let binary = guest(CLOCK[0], CLOCK[1])?;
    let kept = Kept::new(&binary, plan.clone(), &folder.join("kept"))?;
    paths.path("module-load", 100, 1, || Ok(kept.load().map(drop)?))?;
    let clock = Governed::new(&binary, plan.clone(), Way::Page)?;
    paths.path("instance", 200, 1, || Ok(clock.start()?.work(1).map(drop)?))?;
    let metric = Governed::new(&guest(METRIC[0], METRIC[1])?, plan, Way::Page)?;
    for (name, governed) in [("host-call", &clock), ("host-call-64", &metric)] {
        let mut guest = governed.start()?;
        paths.path(name, 10, CALLS as usize, || Ok(guest.work(CALLS).map(drop)?))?;
    }
    let mut guest = clock.start()?;
    for (name, turns, length) in [("bridge-64", 500, 64), ("bridge-64k", 50, 1 << 16)] {
        paths.path(name, turns, 1, || {
            black_box(guest.read(black_box(1024), black_box(length))?);
            Ok(())
        })?;
    }
    Ok(())
}

/// From the request to the outcome, with a module that is in the cache, what its caller's thread does. The guest has a thread of its
/// own, in which nothing is counted: `instance` and `host-call` have what is done there.
fn whole_run(paths: &Paths, policies: PolicyStore, folder: &Path) -> Result<()> {
    let cache = Arc::new(ModuleCache::open(folder.join("cache"), u64::MAX)?);
    let runtime = Runtime::in_process(policies).with_module_cache(cache);
    let mut request = Request::wasm("bench", guest(CLOCK[0], CLOCK[1])?);
    request.input = 10_u32.to_le_bytes().to_vec();
    completed(runtime.run(&request)?)?;
    paths.path("module-run", 100, 1, || {
        match completed(runtime.run(&request)?)?.module_cache {
            Some(CacheUse::Hit) => Ok(()),
            other => Err(format!("the module cache says {other:?}").into()),
        }
    })
}

/// A buffer that is entered into the account between others, and struck out.
fn buffers(paths: &Paths, plan: Plan) -> Result<()> {
    const SIZE: u32 = 64;
    let mut account = Account::of(plan);
    for number in 0..16 {
        if !account.enter(number * 2 * SIZE, SIZE) {
            return Err("a buffer apart from the others is refused".into());
        }
    }
    paths.path("allocation", 500, 1, || {
        let pointer = black_box(17 * SIZE);
        if account.enter(pointer, SIZE) && account.strike(pointer) {
            Ok(())
        } else {
            Err("a buffer is refused".into())
        }
    })
}

/// What crosses to a worker, and back.
fn frames(paths: &Paths, runtime: &Runtime) -> Result<()> {
    let request = Request::sql("bench", "select 1, 'text', null union all select 2, 'more', 2.5");
    let outcome = completed(runtime.run(&request)?)?;
    let mut crossing = Crossing::of(request, outcome);
    paths.path("frame-there", 200, 1, || Ok(crossing.there()?))?;
    paths.path("frame-back", 200, 1, || Ok(crossing.back()?))
}
