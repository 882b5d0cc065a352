//! What the fence costs SQL in process: a session beside plain SQLite, compiled by the same calls and handing back the same
//! rows.
//!
//! Everything is timed in turns (`stockade_benches::pairs`), in several processes (`stockade_benches::processes`);
//! `targets.yaml` says what is promised.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use stockade_benches::completed;
use stockade_benches::pairs::Pairs;
use stockade_benches::processes::in_several;
use stockade_benches::record::Record;
use stockade_benches::rivals::Peer;
use stockade_benches::synthetic::NOTES;
use stockade_policies::{PolicyStore, Source, SourceKind, Stock};
use stockade_runtime::measure::{guard_by_hand, session_with};
use stockade_runtime::{Class, HostDatabase, Layer, Layers, Request, Runtime, SqlSession, SqlValue, StatementResult};

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
    in_several("sql", measure)
}

fn measure(record: &mut Record) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let bench = Bench {
        runtime: Runtime::in_process(policies()?),
        path: folder.path().join("bench.db"),
        copies: Cell::new(0),
    };
    HostDatabase::open(&bench.path)?.execute(NOTES)?;
    bench.compiled_each_time(record)?;
    bench.layers(record)?;
    for (id, title, script) in KEPT {
        bench.kept(id, title, script, record)?;
    }
    for rows in if record.is_once() { &[1][..] } else { &ROWS } {
        bench.returned(*rows, record)?;
    }
    bench.opening(record)
}

/// How many connections take a way's turns: for some, pages lie better than for others.
const INSTANCES: usize = 8;

/// How many rows are handed back.
const ROWS: [u64; 5] = [1, 10, 100, 1000, 10_000];

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

/// The layers that are there while a script runs in process.
const LAYERS: [(&str, Layer); 5] = [
    ("only screen", Layer::Screen),
    ("only authorizer", Layer::Authorizer),
    ("only limits", Layer::Limits),
    ("only quota", Layer::Quota),
    ("only deadline", Layer::Deadline),
];

struct Bench {
    runtime: Runtime,
    path: PathBuf,
    copies: Cell<u32>,
}

impl Bench {
    fn session(&self) -> Result<SqlSession, Box<dyn Error>> {
        Ok(self.runtime.open("bench", Some(&self.path))?)
    }

    fn a_database(&self) -> Result<HostDatabase, Box<dyn Error>> {
        Ok(HostDatabase::open(&self.path)?)
    }

    /// A file that no other connection has: one that another has written to is read again.
    fn copy(&self) -> Result<PathBuf, Box<dyn Error>> {
        let copies = self.copies.get() + 1;
        self.copies.set(copies);
        let path = self.path.with_file_name(format!("{copies}.db"));
        fs::copy(&self.path, &path)?;
        Ok(path)
    }

    fn databases(&self) -> Result<Vec<HostDatabase>, Box<dyn Error>> {
        (0..INSTANCES).map(|_| Ok(HostDatabase::open(self.copy()?)?)).collect()
    }

    fn sessions(&self) -> Result<Vec<SqlSession>, Box<dyn Error>> {
        let opened = |_| Ok(self.runtime.open("bench", Some(&self.copy()?))?);
        (0..INSTANCES).map(opened).collect()
    }

    /// A script that is never the same twice: text with a literal in it.
    fn compiled_each_time(&self, record: &mut Record) -> Result<(), Box<dyn Error>> {
        let (bare, by_hand) = (self.databases()?, self.databases()?);
        let mut sessions = self.sessions()?;
        let turn = Cell::new(0_u32);
        let text = || {
            turn.set(turn.get().wrapping_add(1));
            format!("select body from notes where id = {}", turn.get() % 10_000 + 1)
        };
        for ((bare, by_hand), session) in bare.iter().zip(&by_hand).zip(&mut sessions) {
            for script in [text(), text(), text()] {
                same(&bare.compile(&script)?.run()?, session, &script)?;
            }
            guard_by_hand(by_hand);
            if by_hand.rows("attach ':memory:' as other").is_ok() {
                return Err("the authorizer written by hand is not asked".into());
            }
            let script = text();
            if by_hand.compile(&script)?.run()? != bare.compile(&script)?.run()? {
                return Err("the authorizer written by hand changes the rows".into());
            }
        }
        let expected = self.a_database()?.rows("select body from notes where id = 1")?;
        let run = |database: &HostDatabase| {
            let ran = database.compile(&text()).and_then(|mut script| script.run());
            ran.is_ok()
        };
        let python = self.peer("compiled", "select body from notes where id = {}");
        let mut pairs = Pairs::of("a row by its key, compiled each time")
            .way_of_several("bare", bare.iter().map(|bare| || run(bare)).collect())
            .way_of_several(
                "governed",
                each(&mut sessions, |session| completed(&session.run(&text()))),
            )
            .way_of_several(
                "an authorizer written by hand, and no more",
                by_hand.iter().map(|by_hand| || run(by_hand)).collect(),
            );
        if let Some(python) = &python {
            // It counts for itself, from the beginning.
            same_in_python(python, &expected)?;
            pairs = pairs.repeated("Python's sqlite3", |times| python.repeat(times));
        }
        let timed = pairs.timed(record.effort())?;
        record.timed(&timed);
        record.figure("prepared", timed.ratio("governed"));
        Ok(())
    }

    fn kept(&self, id: &str, title: &'static str, script: &str, record: &mut Record) -> Result<(), Box<dyn Error>> {
        let (bare, mut sessions) = (self.databases()?, self.sessions()?);
        let compiled = bare.iter().map(|bare| bare.compile(script));
        let mut compiled = compiled.collect::<Result<Vec<_>, _>>()?;
        for ((bare, compiled), session) in bare.iter().zip(&mut compiled).zip(&mut sessions) {
            bare.execute(NO_DISK)?;
            session.run(NO_DISK)?;
            for _ in 0..4 {
                same(&compiled.run()?, session, script)?;
            }
        }
        // It would begin and end transactions of its own.
        let python = if script.starts_with("select") {
            self.peer("kept", script)
        } else {
            None
        };
        let mut pairs = Pairs::of(title)
            .way_of_several("bare", each(&mut compiled, |compiled| compiled.run().is_ok()))
            .way_of_several(
                "governed",
                each(&mut sessions, |session| completed(&session.run(script))),
            );
        if let Some(python) = &python {
            same_in_python(python, &self.a_database()?.rows(script)?)?;
            pairs = pairs.repeated("Python's sqlite3", |times| python.repeat(times));
        }
        let timed = pairs.timed(record.effort())?;
        record.timed(&timed);
        record.figure(id, timed.ratio("governed"));
        Ok(())
    }

    /// The same script in Python's sqlite3, where that has been installed.
    fn peer(&self, manner: &str, script: &str) -> Option<Peer> {
        Peer::start(&[manner, self.path.to_str()?, script])
    }

    /// What each layer costs alone, where a statement is compiled each time: that is when most is asked.
    fn layers(&self, record: &mut Record) -> Result<(), Box<dyn Error>> {
        let plan = self.runtime.plan(&Request::sql("bench", ""))?;
        let bare = HostDatabase::open(&self.path)?;
        let turn = Cell::new(0_u32);
        let text = || {
            turn.set(turn.get().wrapping_add(1));
            format!("select body from notes where id = {}", turn.get() % 10_000 + 1)
        };
        let opened = |layers: Layers| -> Result<SqlSession, Box<dyn Error>> {
            let mut session = session_with(plan.clone(), layers, &self.path)?;
            let script = text();
            same(&bare.compile(&script)?.run()?, &mut session, &script)?;
            Ok(session)
        };
        let mut single = LAYERS
            .iter()
            .map(|(name, layer)| Ok((*name, opened(Layers::NONE.with(*layer))?)))
            .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        let (mut none, mut all) = (opened(Layers::NONE)?, opened(Layers::ALL)?);
        let mut pairs = Pairs::of("a row by its key, compiled each time, layer by layer")
            .way("no layer", || completed(&none.run(&text())));
        for (name, session) in &mut single {
            pairs = pairs.way(name, || completed(&session.run(&text())));
        }
        let timed = pairs
            .way("every layer", || completed(&all.run(&text())))
            .timed(record.effort())?;
        record.timed(&timed);
        Ok(())
    }

    /// What a session takes to open, with its first statement.
    fn opening(&self, record: &mut Record) -> Result<(), Box<dyn Error>> {
        let script = "select 1";
        same(
            &HostDatabase::open(&self.path)?.compile(script)?.run()?,
            &mut self.session()?,
            script,
        )?;
        let timed = Pairs::of("opening a database, and its first statement")
            .way("bare", || {
                let ran = HostDatabase::open(&self.path).and_then(|database| database.compile(script)?.run());
                ran.is_ok()
            })
            .way("governed", || {
                let session = self.runtime.open("bench", Some(&self.path));
                completed(&session.and_then(|mut session| session.run(script)))
            })
            .timed(record.effort())?;
        record.timed(&timed);
        Ok(())
    }

    /// Rows that are all handed back, as their number grows.
    fn returned(&self, rows: u64, record: &mut Record) -> Result<(), Box<dyn Error>> {
        let script = format!("select id, body from notes where id <= {rows}");
        let (bare, session) = (HostDatabase::open(&self.path)?, RefCell::new(self.session()?));
        let compiled = RefCell::new(bare.compile(&script)?);
        same(&compiled.borrow_mut().run()?, &mut session.borrow_mut(), &script)?;
        let timed = Pairs::of("rows that are handed back, compiled before")
            .sized(rows, "rows")
            .way("bare", || compiled.borrow_mut().run().is_ok())
            .way("governed", || completed(&session.borrow_mut().run(&script)))
            .timed(record.effort())?;
        record.timed(&timed);
        Ok(())
    }
}

/// What is done with each of them, when its turn comes.
fn each<'a, T>(instances: &'a mut [T], once: impl Fn(&mut T) -> bool + Copy + 'a) -> Vec<impl FnMut() -> bool + 'a> {
    instances.iter_mut().map(|instance| move || once(instance)).collect()
}

/// A refusal is quick, and so is a wrong answer: timing one would flatter.
fn same(bare: &[StatementResult], session: &mut SqlSession, script: &str) -> Result<(), Box<dyn Error>> {
    let outcome = session.run(script)?;
    if outcome.class != Class::Completed || outcome.product.statements != bare {
        return Err(format!("{script}: {}, {}, {:?}", outcome.class, outcome.detail, outcome.product).into());
    }
    Ok(())
}

/// The same of Python's sqlite3, which shows rows as lists of tuples.
fn same_in_python(python: &Peer, rows: &[Vec<SqlValue>]) -> Result<(), Box<dyn Error>> {
    let shown = |value: &SqlValue| match value {
        SqlValue::Integer(integer) => integer.to_string(),
        SqlValue::Text(text) => format!("'{text}'"),
        other => format!("{other:?}"),
    };
    let tuple = |row: &Vec<SqlValue>| match row.as_slice() {
        [one] => format!("({},)", shown(one)),
        several => format!("({})", several.iter().map(shown).collect::<Vec<_>>().join(", ")),
    };
    let expected = format!("[{}]", rows.iter().map(tuple).collect::<Vec<_>>().join(", "));
    let answer = python.answer()?;
    if answer != expected {
        return Err(format!("Python answers `{answer}`, not `{expected}`").into());
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
