//! What SQLite does without telling its authorizer, asked about before it does.
//!
//! * `NATURAL JOIN` and `USING (…)` compare columns that no `SQLITE_READ` reports.
//! * `ALTER TABLE` gives a column a name that no policy knows, or copies it into a generated one.
//! * `REPLACE` deletes the rows that stand in its way, and only an insert or update is reported: in a statement, or in
//!   the table's own definition.
//!
//! All of it needs the table's name in the script. So every table that the script names is asked about: the columns
//! that could be read, deleting its rows. A guest that is refused for a table which
//! it names and does not join can write `on` instead.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use stockade_policies::{Action, Resource, SqlAction};

use super::tokens::{Token, tokens};
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// What a script does that is not reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreported {
    /// Which of [`KEYWORDS`] the script has, and `replace` where that is no function.
    says: BTreeSet<&'static str>,
    /// Columns named after `using`.
    joins_using: BTreeSet<String>,
    /// Every name in the script.
    names: BTreeSet<String>,
}

/// Keywords that matter by themselves. What inserts or updates may replace by the table's own definition.
const KEYWORDS: [&str; 4] = ["natural", "alter", "insert", "update"];

impl Unreported {
    /// What `script` does that is not reported, if anything.
    pub(super) fn of(script: &str) -> Option<Self> {
        let tokens = tokens(script);
        let has = |keyword: &&str| tokens.iter().any(|token| is_keyword(token, keyword));
        let found = Self {
            says: KEYWORDS
                .into_iter()
                .filter(has)
                .chain(replaces(&tokens).then_some("replace"))
                .collect(),
            joins_using: using(&tokens),
            names: tokens.iter().filter_map(name).collect(),
        };
        (!found.says.is_empty() || !found.joins_using.is_empty()).then_some(found)
    }

    fn says(&self, keyword: &str) -> bool {
        self.says.contains(keyword)
    }

    /// Whether it reads columns that are not reported.
    fn reads(&self) -> bool {
        self.says("natural") || self.says("alter") || !self.joins_using.is_empty()
    }

    /// Why it is not granted, if it is not. `connection` must be asked as the host.
    pub(super) fn refusal(&self, connection: &Connection, gate: &Gate) -> rusqlite::Result<Option<Refusal>> {
        let replacing = self.replacing_tables(connection)?;
        let mut tables = Tables::new();
        if self.reads() || self.says("replace") || !replacing.is_empty() {
            let stored = names_in_schema(connection, &self.names)?;
            for name in self.names.iter().filter(|name| stored.contains(*name)) {
                tables.insert(name, columns(connection, name)?);
            }
        }
        let denied = tables.iter().find_map(|(table, columns)| {
            let replaces = self.says("replace") || replacing.contains(*table);
            self.hidden_read(gate, table, columns, &tables)
                .or_else(|| hidden_deletion(gate, table, columns).filter(|_| replaces))
        });
        Ok(denied.map(|(action, resource, why)| {
            // Asked on the guest's behalf only now, so that the trail holds what decided.
            let denied = gate.ask(Action::Sql(action), &resource, &[]).err().unwrap_or_default();
            let detail = format!("{denied}, and {why}");
            Refusal::by(Layer::Authorizer, Class::DeniedSqlAction, detail)
        }))
    }

    /// The named tables whose definition says `on conflict replace`.
    fn replacing_tables(&self, connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
        if !self.says("insert") && !self.says("update") {
            return Ok(BTreeSet::new());
        }
        let mut replacing = BTreeSet::new();
        for schema in schemas(connection)? {
            let mut statement = connection.prepare(&format!(
                "select lower(name), sql from {schema}.sqlite_master where type = 'table' and sql like '%replace%'"
            ))?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            for row in rows {
                let (table, definition) = row?;
                if self.names.contains(&table) && replaces(&tokens(&definition)) {
                    replacing.insert(table);
                }
            }
        }
        Ok(replacing)
    }

    /// A column that is read without a word, and that is not granted.
    fn hidden_read(&self, gate: &Gate, table: &str, columns: &[Column], tables: &Tables<'_>) -> Option<Denied> {
        let could_be_read = |column: &&Column| {
            self.says("alter")
                || self.joins_using.contains(&column.name)
                || self.says("natural") && self.is_elsewhere(&column.name, table, tables)
        };
        columns
            .iter()
            .filter(could_be_read)
            .map(|column| Resource::column(&column.database, table, &column.name))
            .find(|column| !gate.would_allow(Action::Sql(SqlAction::Read), column, &[]))
            .map(|column| {
                let why = if self.says("alter") {
                    "`alter` could give it a name that no policy knows"
                } else {
                    "`natural` and `using` join by columns that SQLite does not report: write `on` instead"
                };
                (SqlAction::Read, column, why)
            })
    }

    /// A natural join compares what has the same name on both sides: the other side is another table, or a select
    /// whose column is named in the script.
    fn is_elsewhere(&self, column: &str, table: &str, tables: &Tables<'_>) -> bool {
        let others = tables.iter().filter(|(other, _)| **other != table);
        self.names.contains(column)
            || others
                .into_iter()
                .any(|(_, columns)| columns.iter().any(|other| other.name == column))
    }
}

/// A table that may be written to and whose rows may not be deleted.
fn hidden_deletion(gate: &Gate, table: &str, columns: &[Column]) -> Option<Denied> {
    let grants = |action, resource: &Resource| gate.would_allow(Action::Sql(action), resource, &[]);
    let target = Resource::table(&columns.first()?.database, table);
    let may_write = grants(SqlAction::Insert, &target)
        || columns.iter().any(|column| {
            grants(
                SqlAction::Update,
                &Resource::column(&column.database, table, &column.name),
            )
        });
    (may_write && !grants(SqlAction::Delete, &target)).then_some((
        SqlAction::Delete,
        target,
        "`replace` deletes rows that stand in its way",
    ))
}

type Tables<'a> = BTreeMap<&'a str, Vec<Column>>;
type Denied = (SqlAction, Resource, &'static str);

/// The names between the parentheses after each `using`.
fn using(tokens: &[Token]) -> BTreeSet<String> {
    let after = |at: usize| tokens.get(at + 1..).unwrap_or_default();
    let lists = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| is_keyword(token, "using"));
    lists
        .flat_map(|(at, _)| after(at).iter().take_while(|token| **token != Token::Symbol(')')))
        .filter_map(name)
        .collect()
}

/// The conflict clause, not the function.
fn replaces(tokens: &[Token]) -> bool {
    tokens
        .iter()
        .enumerate()
        .any(|(at, token)| is_keyword(token, "replace") && tokens.get(at + 1) != Some(&Token::Symbol('(')))
}

fn is_keyword(token: &Token, keyword: &str) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
}

fn name(token: &Token) -> Option<String> {
    match token {
        Token::Word(name) | Token::Quoted(name) => Some(name.to_ascii_lowercase()),
        Token::Symbol(_) => None,
    }
}

struct Column {
    database: String,
    name: String,
}

/// Those of `names` that could be a table, a view or a virtual table.
fn names_in_schema(connection: &Connection, names: &BTreeSet<String>) -> rusqlite::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut queries = vec!["select lower(name) from pragma_module_list".to_owned()];
    queries.extend(
        schemas(connection)?
            .iter()
            .map(|schema| format!("select lower(name) from {schema}.sqlite_master")),
    );
    for query in queries {
        let mut statement = connection.prepare(&query)?;
        let stored = statement.query_map([], |row| row.get::<_, String>(0))?;
        found.extend(stored.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    let built_in = names
        .iter()
        .filter(|name| name.starts_with("sqlite_") || name.starts_with("pragma_"));
    found.extend(built_in.cloned());
    Ok(found)
}

/// The schemas of the connection, attached ones too, quoted.
fn schemas(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("select name from pragma_database_list")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    names
        .map(|name| Ok(format!("\"{}\"", name?.replace('"', "\"\""))))
        .collect()
}

/// The columns of a table, view or virtual table, in every schema that has one of that name; empty where none has.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection
        .prepare("select s.name, c.name from pragma_database_list as s, pragma_table_xinfo(?1, s.name) as c")?;
    let rows = statement.query_map([table], |row| {
        Ok(Column {
            database: row.get(0)?,
            name: row.get::<_, String>(1)?.to_ascii_lowercase(),
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_scripts_do_nothing_unreported() {
        for script in [
            "select 'natural join', \"using\" from t join u on t.a = u.a",
            "select replace(a, 'b', 'c') from t",
            "-- natural\nselect 1 /* using */",
            "delete from t where a = 'replace'",
        ] {
            assert_eq!(Unreported::of(script), None, "{script}");
        }
    }

    #[test]
    fn keywords_are_found_however_they_are_written() {
        for script in [
            "select * from a NATURAL/**/join b",
            "select * from a join b UsInG(x)",
            "replace into t values (1)",
            "insert or Replace into t values (1)",
            "create table t(a unique on conflict replace)",
            "update or replace t set a = 1",
            "insert into t values (1)",
            "alter table t rename to u",
        ] {
            assert!(Unreported::of(script).is_some(), "{script}");
        }
    }

    #[test]
    fn columns_are_known_by_any_quoting() {
        let found = Unreported::of("select * from a join b using(x, \"Y\") join c using ([z])").unwrap();
        assert_eq!(found.joins_using, BTreeSet::from(["x", "y", "z"].map(str::to_owned)));
        assert!(!found.says("natural"));
    }

    #[test]
    fn tables_are_known_by_any_quoting() {
        let found = Unreported::of("select * from a natural join [Staff], `x`, 'y'").unwrap();
        for name in ["a", "staff", "x", "y"] {
            assert!(found.names.contains(name), "{name}");
        }
    }
}
