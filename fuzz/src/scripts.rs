//! SQL that is likely to compile: statements of a grammar, with parts of the corpus between them, about databases that differ in
//! what nobody may see.

use std::cell::RefCell;
use std::fs;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use stockade_conformance::{Case, Corpus, Program, Threat, oracle};
use stockade_policies::{Plan, Principal};
use stockade_runtime::measure::session_with;
use stockade_runtime::{Class, HostDatabase, Layer, Layers, Outcome, RuntimeError, SqlSession};
use tempfile::TempDir;

use crate::guests::new_runtime;
use crate::{is_planted, scratch};

/// What nobody may see, in each of two worlds: of one length, and in another order.
const SECRETS: [[&str; 3]; 2] = [
    ["c5a41d8e-is-ada", "0d2f77b1-is-bob", "f1902c44-is-eve"],
    ["71be03f9-is-ada", "e29c5a06-is-bob", "08d4b6f3-is-eve"],
];

/// What is true in the first world only. Anybody may guess it.
const GUESS: &str = SECRETS[0][0];

const POLICIES: &str = r#"
@id("fuzz-deadline")
forbid (principal, action == Action::"elapse", resource) unless { context.millis <= 20 };
@id("fuzz-secret")
forbid (principal, action == Action::"read", resource)
when { [Column::"main.staff.secret", Column::"main.wages.secret", Column::"main.keyed.secret"].contains(resource) };
"#;

/// Who may only read, and who may do everything about the database.
const PROFILES: [&str; 2] = ["database-only", "trusted"];

/// Layers without which no secret must come out either. Without the authorizer they do.
const DISPENSABLE: [Layer; 3] = [Layer::Screen, Layer::Limits, Layer::Quota];

/// So many scripts follow one another in a session: what one leaves behind for another is found too, and still small enough to read.
const MOST_IN_A_SESSION: usize = 8;

/// Runs a script of somebody who may do what the profile lets him, but not read some columns, in two worlds that differ in
/// those only: what became of it is the same in both. Half of the inputs have every layer to stop them, and the others have all
/// but one.
///
/// # Panics
/// Where it is not, or where a law is broken or nobody knows what happened.
pub fn scripts(data: &[u8]) {
    thread_local! {
        static PAIRS: RefCell<Vec<Pair>> = RefCell::new(PROFILES.into_iter().flat_map(pairs).collect());
    }
    let mut input = Unstructured::new(data);
    let most = DISPENSABLE.len() * 2 - 1;
    if let (Ok(profile), Ok(number), Ok(script)) = (
        input.int_in_range(0..=PROFILES.len() - 1),
        input.int_in_range(0..=most),
        script(&mut input),
    ) {
        let missing = number.min(DISPENSABLE.len());
        PAIRS.with_borrow_mut(|pairs| {
            if let Some(pair) = pairs.get_mut(profile * (DISPENSABLE.len() + 1) + missing) {
                pair.play(script);
            }
        });
    }
}

/// Of a profile one without each of the layers, and one with all of them.
fn pairs(profile: &'static str) -> impl Iterator<Item = Pair> {
    let missing = DISPENSABLE.into_iter().map(Some).chain([None]);
    missing.map(move |missing| Pair::new(profile, missing))
}

/// Two worlds that nobody can tell apart.
struct Pair {
    worlds: [World; 2],
    missing: Option<Layer>,
    /// What the sessions have had, the oldest first.
    since: Vec<String>,
}

impl Pair {
    fn new(profile: &'static str, missing: Option<Layer>) -> Self {
        Self {
            worlds: SECRETS.map(|secrets| World::new(secrets, profile, missing)),
            missing,
            since: Vec::new(),
        }
    }

    fn play(&mut self, script: String) {
        if self.since.is_empty() {
            self.worlds.iter_mut().for_each(World::close);
        }
        self.since.push(script);
        let [one, other] = self.worlds.each_mut().map(|world| world.run(&self.since));
        if is_told(&one, &other) {
            self.tell(&one, &other);
        }
        let is_sought = one.class == Class::DeniedSqlAction;
        assert!(
            !(is_planted() && is_sought),
            "planted: {}\n{:?}",
            one.detail,
            self.since
        );
        // Who was late may have done less.
        if is_late(&one) || is_late(&other) || self.since.len() >= MOST_IN_A_SESSION {
            self.since.clear();
        }
    }

    /// Says which scripts tell the worlds apart, if those do so again that did it now: random numbers and clocks do not. The last
    /// by itself, where that is enough: an input is one script.
    #[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
    fn tell(&mut self, one: &Outcome, other: &Outcome) {
        let last = self.since.len() - 1;
        for from in [last, 0] {
            let scripts = self.since.get(from..).unwrap_or_default();
            let [first, second] = [(); 2].map(|()| self.worlds.each_mut().map(|world| world.run_afresh(scripts)));
            let is_steady = !is_told(&first[0], &second[0]) && !is_told(&first[1], &second[1]);
            if is_steady && is_told(&first[0], &first[1]) {
                let missing = self
                    .missing
                    .map_or_else(String::new, |layer| format!(" without `{layer}`"));
                panic!(
                    "a secret is told{missing} by:\n{}\none: {}\nother: {}",
                    scripts.join("\n-- and then\n"),
                    seen(one),
                    seen(other)
                );
            }
        }
        self.since.clear();
    }
}

/// Whether anybody can tell the one from the other. How much of its time each got is no secret.
fn is_told(one: &Outcome, other: &Outcome) -> bool {
    let seen = |outcome: &Outcome| (outcome.class, outcome.layer);
    let is_same = seen(one) == seen(other) && one.detail == other.detail && one.product == other.product;
    !is_same && !is_late(one) && !is_late(other)
}

fn is_late(outcome: &Outcome) -> bool {
    outcome.class == Class::LimitTime
}

fn seen(outcome: &Outcome) -> String {
    format!(
        "`{}` ({}) {:?}",
        outcome.class, outcome.detail, outcome.product.statements
    )
}

/// A database, and whoever may query it.
struct World {
    folder: TempDir,
    plan: Plan,
    layers: Layers,
    /// The database as it was made: every session finds it so.
    made: Vec<u8>,
    session: Option<SqlSession>,
}

impl World {
    #[expect(clippy::expect_used, reason = "without a database there is nothing to fuzz")]
    fn new(secrets: [&str; 3], profile: &str, missing: Option<Layer>) -> Self {
        let folder = scratch::folder();
        let path = folder.path().join("fuzz.db");
        fs::write(&path, []).expect("a file");
        HostDatabase::open(&path)
            .and_then(|database| database.execute(&tables(secrets)))
            .expect("the database is made");
        let runtime = new_runtime(POLICIES);
        Self {
            made: fs::read(&path).expect("the database is there"),
            folder,
            plan: runtime
                .policies()
                .plan(&Principal::caller("guest", profile))
                .expect("the profile has a plan"),
            layers: missing.map_or(Layers::ALL, |layer| Layers::ALL.without(layer)),
            session: None,
        }
    }

    /// What becomes of the last of the scripts, where those before it have been run.
    ///
    /// # Panics
    /// Where a law is broken, or nobody knows.
    #[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
    fn run(&mut self, scripts: &[String]) -> Outcome {
        let script = scripts.last().map_or("", String::as_str);
        let outcome = match self.open().and_then(|session| session.run(script)) {
            Ok(outcome) => outcome,
            Err(error) => panic!("no outcome: {error}\n{scripts:?}"),
        };
        assert_ne!(outcome.class, Class::HostInternal, "{}\n{scripts:?}", outcome.detail);
        if self.layers == Layers::ALL {
            let mut faults = oracle::laws(&self.plan, &outcome);
            faults.extend(oracle::was_asked(&outcome));
            assert!(faults.is_empty(), "{}\n{scripts:?}", faults.join("\n"));
        }
        outcome
    }

    /// What becomes of the last of the scripts in a session of their own.
    fn run_afresh(&mut self, scripts: &[String]) -> Outcome {
        self.close();
        for count in 1..scripts.len() {
            self.run(scripts.get(..count).unwrap_or_default());
        }
        let outcome = self.run(scripts);
        self.close();
        outcome
    }

    fn close(&mut self) {
        self.session = None;
    }

    /// The session, or a new one on the database as it was made.
    #[expect(clippy::expect_used, reason = "without a database there is nothing to fuzz")]
    fn open(&mut self) -> std::result::Result<&mut SqlSession, RuntimeError> {
        if self.session.is_none() {
            let path = self.folder.path().join("fuzz.db");
            for beside in ["fuzz.db-journal", "fuzz.db-wal", "fuzz.db-shm"] {
                // Most often there is none.
                fs::remove_file(self.folder.path().join(beside)).unwrap_or_default();
            }
            fs::write(&path, &self.made).expect("the database is made again");
            self.session = Some(session_with(self.plan.clone(), self.layers, &path)?);
        }
        Ok(self.session.as_mut().expect("it was opened"))
    }
}

/// Tables in which all but the secrets is the same in both worlds. What may be read has the guess.
fn tables([ada, bob, eve]: [&str; 3]) -> String {
    let wage = |secret: &str| secret.bytes().map(u32::from).sum::<u32>();
    format!(
        "create table notes(id integer primary key, body text);
         insert into notes values (1, 'milk'), (2, 'ada'), (3, null);
         create table staff(name text, secret text, unique(secret));
         insert into staff values ('ada', '{ada}'), ('bob', '{bob}'), ('eve', '{eve}');
         create view payslips as select name, secret from staff;
         create index by_secret on staff(secret);
         create table history(name text, secret text);
         insert into history values ('ada', '{GUESS}');
         create trigger keep after update of name on staff begin
           insert into history values (old.name, old.secret); end;
         create table wages(name text, secret integer, twice integer as (secret * 2), check (secret > 0));
         insert into wages(name, secret) values ('ada', {}), ('bob', {}), ('eve', {});
         create table keyed(secret text primary key, name text) without rowid;
         insert into keyed values ('{ada}', 'ada'), ('{bob}', 'bob'), ('{eve}', 'eve');",
        wage(ada),
        wage(bob),
        wage(eve)
    )
}

/// The statements of the corpus, but for those that take long: nothing but a worker would end them.
fn corpus() -> &'static [String] {
    static STATEMENTS: OnceLock<Vec<String>> = OnceLock::new();
    STATEMENTS.get_or_init(|| {
        let cases = Corpus::embedded()
            .map(|corpus| corpus.cases().to_vec())
            .unwrap_or_default();
        let scripts = cases.iter().filter_map(|case| match &case.program {
            Program::Sql(script) if !is_about_time(case) => Some(script),
            Program::Sql(_) | Program::Module { .. } => None,
        });
        let statements = scripts.flat_map(|script| script.split(';')).map(str::trim);
        statements
            .filter(|statement| !statement.is_empty() && statement.len() < 300 && is_soon_done(statement))
            .map(str::to_owned)
            .collect()
    })
}

fn is_about_time(case: &Case) -> bool {
    case.attack()
        .is_some_and(|attack| matches!(attack.threat, Threat::Time | Threat::Memory))
}

/// What takes long otherwise says how often, recurs, or trims one long text by another.
fn is_soon_done(statement: &str) -> bool {
    let has_large_number = statement
        .split(|part: char| !part.is_ascii_digit())
        .any(|number| number.len() > 4);
    let text = statement.to_lowercase();
    !has_large_number && !text.contains("recursive") && !text.contains("trim(")
}

fn script(input: &mut Unstructured<'_>) -> Result<String> {
    let mut statements = Vec::new();
    for _ in 0..input.int_in_range(1..=3)? {
        let spliced = !corpus().is_empty() && input.ratio(1, 4)?;
        statements.push(if spliced {
            input.choose(corpus())?.clone()
        } else {
            statement(input)?
        });
    }
    Ok(statements.join("; "))
}

const TABLES: &[&str] = &[
    "notes",
    "staff",
    "payslips",
    "history",
    "main.staff",
    "wages",
    "keyed",
    "sqlite_master",
    "temp.t",
    "\"staff\"",
    "pragma_table_info('staff')",
];
const COLUMNS: &[&str] = &[
    "*",
    "id",
    "body",
    "name",
    "secret",
    "staff.secret",
    "rowid",
    "\"secret\"",
    "staff.*",
    "t.secret",
    "twice",
    "wages.secret",
];
const FUNCTIONS: &[&str] = &[
    "hex",
    "quote",
    "length",
    "max",
    "min",
    "group_concat",
    "json_group_array",
    "substr",
    "upper",
    "unicode",
    "typeof",
    "instr",
    "replace",
    "printf",
    "coalesce",
    "nullif",
    "count",
    "sum",
    "load_extension",
    "like",
    "json_object",
    "zeroblob",
];

fn statement(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(match input.int_in_range(0..=13)? {
        0..=4 => select(input, 3)?,
        5 => format!(
            "update {} set {} = {} where {} returning {}",
            input.choose(TABLES)?,
            input.choose(COLUMNS)?,
            expression(input, 2)?,
            expression(input, 2)?,
            expression(input, 1)?
        ),
        11 => format!(
            "insert or {} into {} values ({}, {})",
            input.choose(&["ignore", "replace", "abort", "rollback"])?,
            input.choose(TABLES)?,
            expression(input, 1)?,
            expression(input, 1)?
        ),
        12 => format!("delete from {} where {}", input.choose(TABLES)?, expression(input, 2)?),
        6 => format!(
            "insert into staff(secret) values ({}) on conflict do update set name = excluded.secret returning {}",
            expression(input, 2)?,
            expression(input, 2)?
        ),
        7 => format!("create temp table t as {}", select(input, 2)?),
        8 => format!("create temp view t as {}", select(input, 2)?),
        9 => format!("explain {}", select(input, 2)?),
        10 => format!("with t as ({}) {}", select(input, 2)?, select(input, 2)?),
        _ => input
            .choose(&[
                "pragma table_info(staff)",
                "attach ':memory:' as other",
                "vacuum",
                "analyze",
                "reindex",
                "begin",
                "rollback",
                "savepoint s",
            ])?
            .to_string(),
    })
}

fn select(input: &mut Unstructured<'_>, depth: u32) -> Result<String> {
    let mut text = format!("select {} from {}", expression(input, depth)?, source(input, depth)?);
    if input.ratio(1, 2)? {
        text.push_str(&format!(" where {}", expression(input, depth)?));
    }
    if input.ratio(1, 4)? {
        text.push_str(&format!(
            " group by {} having {}",
            expression(input, 1)?,
            expression(input, 1)?
        ));
    }
    if input.ratio(1, 4)? {
        text.push_str(&format!(
            " order by {} limit {}",
            expression(input, 1)?,
            expression(input, 1)?
        ));
    }
    if depth > 0 && input.ratio(1, 6)? {
        let operator = input.choose(&["union", "union all", "except", "intersect"])?;
        text.push_str(&format!(" {operator} {}", select(input, depth - 1)?));
    }
    Ok(text)
}

fn source(input: &mut Unstructured<'_>, depth: u32) -> Result<String> {
    let one = if depth > 0 && input.ratio(1, 5)? {
        format!("({})", select(input, depth - 1)?)
    } else {
        (*input.choose(TABLES)?).to_owned()
    };
    Ok(match input.int_in_range(0..=5)? {
        0 => format!("{one} as t"),
        1 => format!("{one} natural join {}", input.choose(TABLES)?),
        2 => format!(
            "{one} join {} using ({})",
            input.choose(TABLES)?,
            input.choose(COLUMNS)?
        ),
        3 => format!("{one} left join {} on {}", input.choose(TABLES)?, expression(input, 1)?),
        _ => one,
    })
}

fn expression(input: &mut Unstructured<'_>, depth: u32) -> Result<String> {
    if depth == 0 {
        return Ok((*input.choose(COLUMNS)?).to_owned());
    }
    Ok(match input.int_in_range(0..=9)? {
        0..=2 => (*input.choose(COLUMNS)?).to_owned(),
        3 if input.ratio(1, 4)? => format!("'{GUESS}'"),
        3 => input
            .choose(&["1", "null", "'c5'", "x'00'", "-1", "1.5", "?1"])?
            .to_string(),
        4 | 5 => format!("{}({})", input.choose(FUNCTIONS)?, expression(input, depth - 1)?),
        6 => format!(
            "({} {} {})",
            expression(input, depth - 1)?,
            input.choose(&["=", "<", "||", "like", "glob", "is", "and", "+", "->>"])?,
            expression(input, depth - 1)?
        ),
        7 => format!(
            "(select {} from {})",
            expression(input, depth - 1)?,
            input.choose(TABLES)?
        ),
        8 => format!("exists ({})", select(input, depth - 1)?),
        _ => format!(
            "case when {} then {} else {} end",
            expression(input, depth - 1)?,
            expression(input, depth - 1)?,
            expression(input, depth - 1)?
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEALS: &str = "select secret from staff";

    #[test]
    fn nothing_is_told_without_any_dispensable_layer() {
        for mut pair in PROFILES.into_iter().flat_map(pairs) {
            pair.play(STEALS.to_owned());
            pair.play("select name from history natural join staff".to_owned());
            pair.play("select name from staff".to_owned());
        }
    }

    #[test]
    fn who_may_write_does() {
        let mut pair = Pair::new("trusted", None);
        for script in [
            "insert into notes values (4, 'rye')",
            "update wages set name = 'cy'",
            "delete from history",
            "create index by_name on history(name)",
            "create temp table t as select name from wages",
        ] {
            let [one, _] = pair.worlds.each_mut().map(|world| world.run(&[script.to_owned()]));
            assert_eq!(one.class, Class::Completed, "{script}: {}", one.detail);
        }
    }

    #[test]
    fn a_layer_that_is_missing_stops_nothing() {
        let stopped_by = |missing| {
            let mut world = World::new(SECRETS[0], "trusted", missing);
            world.run(&["attach ':memory:' as x".to_owned()]).layer
        };
        assert_eq!(stopped_by(None), Some(Layer::Screen));
        assert_eq!(stopped_by(Some(Layer::Screen)), Some(Layer::Authorizer));
    }

    /// Without anybody who is asked, each of these tells something that no row has in it.
    #[test]
    fn what_is_told_is_noticed() {
        for script in [
            STEALS,
            "select count(*) from history natural join staff",
            "select count(*) from staff where secret < 'a'",
            "select rowid from staff where secret > ''",
            "select name from keyed",
            "select twice from wages",
            "insert into staff(secret) values ('c5a41d8e-is-ada')",
            "select name from staff where secret = 'c5a41d8e-is-ada'",
        ] {
            let message = what_is_said_of(&mut Pair::new("trusted", Some(Layer::Authorizer)), script);
            assert!(
                message.starts_with("a secret is told without `authorizer`"),
                "{script}: {message}"
            );
        }
    }

    fn what_is_said_of(pair: &mut Pair, script: &str) -> String {
        let play = std::panic::AssertUnwindSafe(|| pair.play(script.to_owned()));
        let found = std::panic::catch_unwind(play).unwrap_err();
        found.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn what_scripts_tell_together_is_noticed() {
        let mut pair = Pair::new("trusted", Some(Layer::Authorizer));
        pair.play("create table copy as select secret from staff".to_owned());
        let message = what_is_said_of(&mut pair, "select * from copy");
        assert!(
            message.contains("copy as select secret from staff\n-- and then\nselect * from copy"),
            "{message}"
        );
    }

    #[test]
    fn chance_tells_nothing() {
        let mut pair = Pair::new("trusted", Some(Layer::Authorizer));
        pair.play("select random(), name from notes, staff".to_owned());
        assert!(pair.since.is_empty());
    }
}
