//! SQL that is likely to compile: statements of a grammar, with parts of the corpus between them, about a database with a
//! secret in it.

use std::cell::RefCell;
use std::fs;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use stockade_conformance::{Case, Corpus, Program, Threat};
use stockade_policies::Principal;
use stockade_runtime::measure::session_with;
use stockade_runtime::{
    Class, Event, HostDatabase, Layer, Layers, Outcome, Runtime, RuntimeError, SqlSession, SqlValue,
};
use tempfile::TempDir;

use crate::guests::new_runtime;
use crate::{is_planted, scratch};

/// What nobody may see. As long as this, so that no guess and no digest of anything is it by chance.
const SECRET: &str = "c5a41d8e-the-salary-of-ada-7f31";

const POLICIES: &str = r#"
@id("fuzz-deadline")
forbid (principal, action == Action::"elapse", resource) unless { context.millis <= 5 };
@id("fuzz-secret")
forbid (principal, action == Action::"read", resource == Column::"main.staff.secret");
"#;

const PROFILE: &str = "database-only";

/// What leaves nothing behind, in the database or on the connection.
const READING: [&str; 4] = ["callFunction", "read", "recursive", "select"];

/// Layers without which the secret must not come back either. Without the authorizer it does.
const DISPENSABLE: [Layer; 3] = [Layer::Screen, Layer::Limits, Layer::Quota];

/// Runs a script of somebody who may read all but one column, whose one value never comes back: not in rows, not in a
/// message, and not in pieces that are more than half of it. Half of the inputs have every layer to stop them, and the others
/// have all but one.
///
/// # Panics
/// Where it does, or nobody knows what happened.
pub fn scripts(data: &[u8]) {
    thread_local! {
        static LIBRARIES: RefCell<Vec<Library>> = RefCell::new(libraries());
    }
    let mut input = Unstructured::new(data);
    if let (Ok(number), Ok(script)) = (input.int_in_range(0..=DISPENSABLE.len() * 2 - 1), script(&mut input)) {
        LIBRARIES.with_borrow_mut(|libraries| {
            let with_all = libraries.len() - 1;
            if let Some(library) = libraries.get_mut(number.min(with_all)) {
                library.play(script);
            }
        });
    }
}

/// One without each of the layers, and one with all of them.
fn libraries() -> Vec<Library> {
    let missing = DISPENSABLE.into_iter().map(Some).chain([None]);
    missing.map(Library::new).collect()
}

/// A database, and whoever may query it.
struct Library {
    folder: TempDir,
    runtime: Runtime,
    missing: Option<Layer>,
    /// The database as it was made: every script finds it so.
    made: Vec<u8>,
    /// Where the scripts before it only read, and left a connection as it was.
    session: Option<SqlSession>,
    /// The script before, which that one had too.
    before: String,
}

impl Library {
    #[expect(clippy::expect_used, reason = "without a database there is nothing to fuzz")]
    fn new(missing: Option<Layer>) -> Self {
        let folder = scratch::folder();
        let path = folder.path().join("fuzz.db");
        fs::write(&path, []).expect("a file");
        HostDatabase::open(&path)
            .and_then(|database| {
                database.execute(&format!(
                    "create table notes(id integer primary key, body text);
                     insert into notes values (1, 'milk'), (2, 'ada'), (3, null);
                     create table staff(name text, secret text, unique(secret));
                     insert into staff values ('ada', '{SECRET}');
                     create view payslips as select name, secret from staff;
                     create index by_secret on staff(secret);
                     create table history(name text, secret text);
                     create trigger keep after update on staff begin
                       insert into history values (old.name, old.secret); end;"
                ))
            })
            .expect("the database is made");
        Self {
            made: fs::read(&path).expect("the database is there"),
            folder,
            runtime: new_runtime(POLICIES),
            missing,
            session: None,
            before: String::new(),
        }
    }

    #[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
    fn play(&mut self, script: String) {
        let before = std::mem::take(&mut self.before);
        let missing = self
            .missing
            .map_or_else(String::new, |layer| format!(" without `{layer}`"));
        let outcome = match self.run(&script) {
            Ok(outcome) => outcome,
            Err(RuntimeError::Request(_)) => return,
            Err(error) => panic!("no outcome{missing}: {error}\n{script}\nafter\n{before}"),
        };
        assert!(
            !tells(&outcome),
            "the secret came back{missing}:\n{script}\nafter\n{before}"
        );
        let is_sought = outcome.class == Class::DeniedSqlAction;
        assert!(!(is_planted() && is_sought), "planted: {}\n{script}", outcome.detail);
        self.before = script;
    }

    fn run(&mut self, script: &str) -> std::result::Result<Outcome, RuntimeError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.new_session()?,
        };
        let outcome = session.run(script)?;
        if only_read(&outcome) {
            self.session = Some(session);
        }
        Ok(outcome)
    }

    /// A connection to the database as it was made.
    #[expect(clippy::expect_used, reason = "without a database there is nothing to fuzz")]
    fn new_session(&self) -> std::result::Result<SqlSession, RuntimeError> {
        let path = self.folder.path().join("fuzz.db");
        for beside in ["fuzz.db-journal", "fuzz.db-wal", "fuzz.db-shm"] {
            // Most often there is none.
            fs::remove_file(self.folder.path().join(beside)).unwrap_or_default();
        }
        fs::write(&path, &self.made).expect("the database is made again");
        let Some(missing) = self.missing else {
            return self.runtime.open(PROFILE, Some(&path));
        };
        let plan = self.runtime.policies().plan(&Principal::caller("guest", PROFILE))?;
        session_with(plan, Layers::ALL.without(missing), &path)
    }
}

/// Whether whoever comes next finds everything as it was.
fn only_read(outcome: &Outcome) -> bool {
    let is_harmless = |event: &Event| match event {
        Event::Decided { action, allowed, .. } => !allowed || READING.contains(&action.as_str()),
        _ => true,
    };
    outcome.class != Class::HostInternal
        && outcome.trail.dropped() == 0
        && outcome.trail.events().iter().all(is_harmless)
}

/// Whether half of the secret is anywhere in what came back, in whatever case, or in hexadecimal.
fn tells(outcome: &Outcome) -> bool {
    let half = SECRET.len() / 2;
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let secrets = [(SECRET, half), (hex.as_str(), SECRET.len())];
    let has_it = |text: &str| {
        let text = text.to_ascii_lowercase();
        secrets.iter().any(|(secret, length)| {
            let mut parts = secret.as_bytes().windows(*length);
            parts.any(|part| text.as_bytes().windows(*length).any(|seen| seen == part))
        })
    };
    let values = outcome
        .product
        .statements
        .iter()
        .flat_map(|statement| statement.rows.iter().flatten());
    let is_told = |value: &SqlValue| match value {
        SqlValue::Text(text) => has_it(text),
        SqlValue::Blob(bytes) => has_it(&String::from_utf8_lossy(bytes)),
        SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => false,
    };
    values.into_iter().any(is_told) || has_it(&outcome.detail)
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
    Ok(match input.int_in_range(0..=11)? {
        0..=4 => select(input, 3)?,
        5 => format!(
            "update staff set name = {} where {} returning {}",
            expression(input, 2)?,
            expression(input, 2)?,
            expression(input, 1)?
        ),
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
    fn the_secret_stays_where_it_is_without_any_dispensable_layer() {
        for mut library in libraries() {
            library.play(STEALS.to_owned());
            library.play("select name from staff".to_owned());
        }
    }

    #[test]
    fn a_layer_that_is_missing_stops_nothing() {
        let stopped_by = |missing| {
            let outcome = Library::new(missing).run("attach ':memory:' as x").unwrap();
            outcome.layer
        };
        assert_eq!(stopped_by(None), Some(Layer::Screen));
        assert_eq!(stopped_by(Some(Layer::Screen)), Some(Layer::Authorizer));
    }

    #[test]
    fn half_of_the_secret_is_known_in_other_clothes() {
        let returned = |text: String| {
            let mut outcome = Library::new(None).run("select 6 * 7").unwrap();
            outcome.product.statements[0].rows = vec![vec![SqlValue::Text(text)]];
            tells(&outcome)
        };
        let half = SECRET.len() / 2;
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>();
        for told in [
            SECRET.to_uppercase(),
            hex(SECRET),
            hex(&SECRET[3..=3 + half]),
            SECRET[half..].to_owned(),
        ] {
            assert!(returned(told.clone()), "{told}");
        }
        assert!(!returned(SECRET[..half - 1].to_owned()));
        assert!(!returned(hex(&SECRET[..half - 1])));
    }

    #[test]
    #[should_panic(expected = "the secret came back without `authorizer`")]
    fn the_secret_comes_back_where_nobody_is_asked() {
        let mut library = Library::new(Some(Layer::Authorizer));
        // On a machine with much to do its time may be up before it has it.
        for _ in 0..100 {
            library.play(STEALS.to_owned());
        }
    }
}
