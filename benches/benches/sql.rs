//! What the fence costs SQL in process: a session beside plain SQLite, compiled by the same calls and handing back the same
//! rows.
//!
//! Everything is timed in turns within one run (`stockade_benches::pairs`); `targets.yaml` says what is promised.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;

use stockade_benches::pairs::{Pairs, Timed};
use stockade_benches::targets::Targets;
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::{Class, HostDatabase, Runtime, SqlSession, StatementResult};

/// Notes with a primary key, tags of them, and a place to write to.
const STAGE: &str = "
    create table notes(id integer primary key, body text, tag int);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)
      insert into notes select i, 'note ' || i, i % 100 from n;
    create table tags(id integer primary key, name text);
    insert into tags select distinct tag, 'tag ' || tag from notes;
    create table copies(body text, tag int);
";

/// What a plugin with a database of its own may do: nothing here is refused, everything is asked about.
const POLICIES: &str = r#"
    @id("rows") permit (principal in Profile::"bench", action in [Action::"select", Action::"read", Action::"insert",
      Action::"update", Action::"delete", Action::"transaction"], resource in Database::"main");
    @id("functions") permit (principal in Profile::"bench", action == Action::"callFunction", resource);
    @id("disk") permit (principal in Profile::"bench", action == Action::"pragma", resource)
      when { resource.name == "journal_mode" || resource.name == "synchronous" };
    @id("threads") forbid (principal in Profile::"bench", action == Action::"sqlWorkerThreads", resource)
      unless { context.count <= 0 };
"#;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test` runs every benchmark to see that it works; `cargo bench` measures.
    let once = !std::env::args().any(|argument| argument == "--bench");
    let mut targets = Targets::read("sql")?;
    let folder = Folder::new()?;
    let bench = Bench {
        runtime: Runtime::in_process(policies()?),
        path: folder.0.join("bench.db"),
        once,
    };
    HostDatabase::open(&bench.path)?.execute(STAGE)?;
    bench.compiled_each_time(&mut targets)?;
    for (id, title, script) in KEPT {
        bench.kept(id, title, script, &mut targets)?;
    }
    bench.opening()?;
    if !once {
        print!("{targets}");
    }
    Ok(())
}

/// Nobody waits for a disk, which would hide what is compared.
const NO_DISK: &str = "pragma journal_mode = memory; pragma synchronous = off";

/// What is compiled once.
const KEPT: [(&str, &str, &str); 4] = [
    (
        "cached",
        "a row by its key, compiled before",
        "select body from notes where id = 500",
    ),
    (
        "insert",
        "a transaction that inserts a thousand rows and deletes them",
        "begin; insert into copies select body, tag from notes where id <= 1000; delete from copies; commit",
    ),
    (
        "scan",
        "a scan of ten thousand rows",
        "select sum(tag), max(length(body)) from notes",
    ),
    (
        "join",
        "a join of ten thousand rows",
        "select name, sum(n.id) from notes n join tags t on n.tag = t.id group by name",
    ),
];

struct Bench {
    runtime: Runtime,
    path: PathBuf,
    once: bool,
}

impl Bench {
    fn session(&self) -> Result<SqlSession, Box<dyn Error>> {
        Ok(self.runtime.open("bench", Some(&self.path))?)
    }

    /// A script that is never the same twice: text with a literal in it.
    fn compiled_each_time(&self, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
        let (bare, session) = (HostDatabase::open(&self.path)?, RefCell::new(self.session()?));
        let turn = Cell::new(0_u32);
        let text = || {
            turn.set(turn.get().wrapping_add(1));
            format!("select body from notes where id = {}", turn.get() % 10_000 + 1)
        };
        for script in [text(), text(), text()] {
            same(&bare.compile(&script)?.run()?, &mut session.borrow_mut(), &script)?;
        }
        let timed = Pairs::of("a row by its key, compiled each time")
            .way("bare", || {
                let ran = bare.compile(&text()).and_then(|mut script| script.run());
                black_box(ran.is_ok());
            })
            .way("governed", || {
                black_box(session.borrow_mut().run(&text()).is_ok());
            })
            .timed(self.once);
        self.show(&timed);
        targets.measured("prepared", timed.ratio("governed"));
        Ok(())
    }

    fn kept(&self, id: &str, title: &'static str, script: &str, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
        let (bare, session) = (HostDatabase::open(&self.path)?, RefCell::new(self.session()?));
        bare.execute(NO_DISK)?;
        session.borrow_mut().run(NO_DISK)?;
        let compiled = RefCell::new(bare.compile(script)?);
        for _ in 0..4 {
            same(&compiled.borrow_mut().run()?, &mut session.borrow_mut(), script)?;
        }
        let timed = Pairs::of(title)
            .way("bare", || {
                black_box(compiled.borrow_mut().run().is_ok());
            })
            .way("governed", || {
                black_box(session.borrow_mut().run(script).is_ok());
            })
            .timed(self.once);
        self.show(&timed);
        targets.measured(id, timed.ratio("governed"));
        Ok(())
    }

    /// What a session takes to open, with its first statement.
    fn opening(&self) -> Result<(), Box<dyn Error>> {
        let script = "select 1";
        let timed = Pairs::of("opening a database, and its first statement")
            .way("bare", || {
                let ran = HostDatabase::open(&self.path).and_then(|database| database.compile(script)?.run());
                black_box(ran.is_ok());
            })
            .way("governed", || {
                let session = self.runtime.open("bench", Some(&self.path));
                black_box(session.and_then(|mut session| session.run(script)).is_ok());
            })
            .timed(self.once);
        self.show(&timed);
        let mut session = self.session()?;
        same(
            &HostDatabase::open(&self.path)?.compile(script)?.run()?,
            &mut session,
            script,
        )
    }

    /// Figures of a run that was no measurement would only mislead.
    fn show(&self, timed: &Timed) {
        if !self.once {
            print!("{timed}");
        }
    }
}

/// A refusal is quick, and so is a wrong answer: timing one would flatter.
fn same(bare: &[StatementResult], session: &mut SqlSession, script: &str) -> Result<(), Box<dyn Error>> {
    let outcome = session.run(script)?;
    if outcome.class != Class::Completed || outcome.product.statements != bare {
        return Err(format!("{script}: {}, {}, {:?}", outcome.class, outcome.detail, outcome.product).into());
    }
    Ok(())
}

fn policies() -> Result<PolicyStore, Box<dyn Error>> {
    let mut text = POLICIES.to_owned();
    for &meter in stockade_policies::Meter::ALL {
        text.push_str(&format!(
            "@id(\"{0}\") permit (principal in Profile::\"bench\", action == Action::\"{0}\", \
             resource == Meter::\"{1}\") when {{ context.{2} <= 100000000 }};\n",
            meter.action(),
            meter.resource(),
            meter.unit().name(),
        ));
    }
    let source = |name: &str, text: String, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    let profile = r#"[{"uid": {"type": "Profile", "id": "bench"}, "attrs": {}, "parents": []}]"#;
    let sources = [
        source("bench.cedar", text, SourceKind::Policies),
        source("bench.json", profile.to_owned(), SourceKind::Entities),
    ];
    Ok(PolicyStore::load(&sources, Stock::Without)?)
}

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("stockade-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's own folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
