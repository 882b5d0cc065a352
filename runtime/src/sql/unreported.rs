//! What SQLite does without telling its authorizer, asked about before it does.
//!
//! * `NATURAL JOIN` and `USING (…)` compare columns that no `SQLITE_READ` reports.
//! * `ALTER TABLE` gives a column a name that no policy knows, or copies it into a generated one. A trigger or a view
//!   reads with the rights of whoever uses it later. `ANALYZE` copies values of indexed columns into a table of its own.
//! * `UPDATE … SET rowid` writes the column that is the primary key, and reports another name.
//! * `REPLACE` deletes the rows that stand in its way, and only an insert or update is reported: in a statement, also in
//!   the triggers that it fires, or in a table's own definition.
//! * A row that is written fails where a `UNIQUE` column has its value already, whoever may read that column; and rows that
//!   are read by an index come in the order of its columns.
//! * A generated column, a `CHECK` and the tables in which a virtual table keeps its rows tell of other columns than the
//!   one that is reported: [`Told`].
//!
//! Reading and updating need the table's name in the script, so every table that it names is asked about; a guest that
//! is refused for a table which it names and does not join can write `on` instead. Where rows may be replaced, and what
//! tells of what, is told to the hooks, which ask when a table is read or written.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, ffi};
use stockade_policies::{Action, Resource, SqlAction};

use super::indexes::{Root, indexes};
use super::refusal;
use super::tokens::{Token, Words, tokens};
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Keywords that matter by themselves.
const KEYWORDS: [&str; 8] = [
    "natural", "alter", "trigger", "view", "analyze", "insert", "update", "delete",
];

/// Words of which a script that does anything unreported, or changes a limit, has at least one, as it stands: [`KEYWORDS`],
/// [`ABOUT_OTHERS`], `using`, `replace`, what tables of statistics begin with, and `pragma`.
pub(super) const SIGNS: &[&str] = &[
    "alter", "analyze", "dbstat", "delete", "insert", "natural", "pragma", "replace", "sqlite_", "trigger", "update",
    "using", "view",
];
static CLOSER_LOOK: Words = Words::new(SIGNS);

/// What the primary key is called that has no column of its own.
const ROW_ID: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// Tables that tell about every other table: sizes, numbers of rows, highest row ids.
const ABOUT_OTHERS: [&str; 3] = ["dbstat", "sqlite_dbpage", "sqlite_sequence"];

/// What the tables are called, behind its own name, in which a virtual table of SQLite's own modules keeps its rows.
const KEEPS: [&str; 11] = [
    "_config",
    "_content",
    "_data",
    "_docsize",
    "_idx",
    "_node",
    "_parent",
    "_rowid",
    "_segdir",
    "_segments",
    "_stat",
];

/// What a script does that is not reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreported {
    /// Which of [`KEYWORDS`] the script has, and `replace` where that is no function.
    says: BTreeSet<&'static str>,
    /// Whether it has a `*`, which names every column.
    has_star: bool,
    /// Columns named after `using`.
    joins_using: BTreeSet<String>,
    /// Every name in the script.
    names: BTreeSet<String>,
}

/// Where writing a row may delete others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replacing {
    /// The script says `replace`, which holds in the triggers that it fires too.
    everywhere: bool,
    /// Tables that replace by their own definition, by id.
    tables: BTreeSet<String>,
}

impl Replacing {
    /// Whether writing to `table` may delete other rows of it.
    pub(super) fn holds_for(&self, table: &Resource) -> bool {
        self.everywhere || self.tables.contains(&table.id())
    }
}

/// Columns that may not be read, and what tells about them without naming them, in the schema as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// By the id of the column that is read, or of the table.
    reading: BTreeMap<String, Resource>,
    /// By the id of the column that is updated.
    updating: BTreeMap<String, (Resource, &'static str)>,
    /// By the id of the table that rows are inserted into.
    inserting: BTreeMap<String, Resource>,
    /// By the tree that rows are read from in its order.
    order: BTreeMap<Root, Resource>,
}

/// The number of the database that has temporary tables.
const TEMP: usize = 1;

/// How an update tells of a column that it does not name.
const BY_CHECK: &str = "whether this update fails depends on it, by a `check` of the table";
const BY_UNIQUE: &str = "whether this update fails depends on it, because it is `unique`";

impl Told {
    /// What tells about columns that the plan does not let the guest read. `connection` must be asked as the host.
    pub(super) fn of(connection: &Connection, gate: &Gate) -> rusqlite::Result<Self> {
        let mut told = Self::default();
        for schema in schemas(connection)? {
            let mut statement = connection.prepare(&format!(
                "select name, sql from {}.sqlite_master where type = 'table' and sql is not null
                 and (rootpage = 0 or sql like '%as%(%' or sql like '%check%')",
                quoted(&schema)
            ))?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            for row in rows {
                let (table, definition) = row?;
                told.add(&schema, &table, &Definition::of(&tokens(&definition)), gate);
            }
            told.add_indexes(&schema, connection, gate)?;
        }
        Ok(told)
    }

    /// What the indexes on columns tell that may not be read. Whoever writes a row learns whether what must be the only one
    /// is there, and whoever reads rows by an index learns how they are ordered. Row ids alone are spared, which are found
    /// by counting.
    fn add_indexes(&mut self, schema: &str, connection: &Connection, gate: &Gate) -> rusqlite::Result<()> {
        let is_hidden = |column: &&Resource| !gate.would_allow(Action::Sql(SqlAction::Read), column, &[]);
        for index in indexes(connection, schema)? {
            let Some(hidden) = index.columns.iter().find(is_hidden).cloned() else {
                continue;
            };
            if index.is_unique {
                let told = index
                    .columns
                    .iter()
                    .map(|column| (column.id(), (hidden.clone(), BY_UNIQUE)));
                self.updating.extend(told);
                self.inserting.insert(index.table.id(), hidden.clone());
            }
            self.order.insert(index.root, hidden);
        }
        Ok(())
    }

    fn add(&mut self, schema: &str, table: &str, definition: &Definition, gate: &Gate) {
        let column = |name: &String| Resource::column(schema, table, name);
        let hidden = |names: &BTreeSet<String>| {
            let mut columns = names.iter().map(column);
            columns.find(|column| !gate.would_allow(Action::Sql(SqlAction::Read), column, &[]))
        };
        for (generated, sources) in &definition.generated {
            if let Some(source) = hidden(&definition.with_sources(sources)) {
                self.reading.insert(column(generated).id(), source);
            }
        }
        for compared in &definition.checks {
            if let Some(other) = hidden(&definition.with_sources(compared)) {
                // A primary key is updated under other names too, and which column is one the definition need not say.
                let row_id = ROW_ID.iter().map(|name| Resource::column(schema, table, name).id());
                let ids = compared.iter().map(|name| column(name).id()).chain(row_id);
                self.updating.extend(ids.map(|id| (id, (other.clone(), BY_CHECK))));
            }
        }
        if let Some(kept) = definition.keeps.as_ref().and_then(hidden) {
            let tables = KEEPS
                .iter()
                .map(|end| Resource::table(schema, &format!("{table}{end}")).id());
            self.reading.extend(tables.map(|id| (id, kept.clone())));
        }
    }

    /// The column that a read of `column`, or of any column of `table`, tells about.
    pub(super) fn by_reading(&self, table: &Resource, column: &Resource) -> Option<&Resource> {
        if self.reading.is_empty() {
            return None;
        }
        let of_column = self.reading.get(&column.id());
        of_column.or_else(|| self.reading.get(&table.id()))
    }

    /// The column that an update of `column` tells about, and how: whether it fails depends on both.
    pub(super) fn by_updating(&self, column: &Resource) -> Option<(&Resource, &'static str)> {
        if self.updating.is_empty() {
            return None;
        }
        self.updating.get(&column.id()).map(|(told, why)| (told, *why))
    }

    /// The column that an insert into `table` tells about: whether it fails depends on the values that are there.
    pub(super) fn by_inserting(&self, table: &Resource) -> Option<&Resource> {
        if self.inserting.is_empty() {
            return None;
        }
        self.inserting.get(&table.id())
    }

    /// Whether the order of rows can tell of anything.
    pub(super) fn has_order(&self) -> bool {
        !self.order.is_empty()
    }

    /// The column that rows tell about which are read from one of these trees in its order.
    pub(super) fn by_order(&self, trees: &[Root]) -> Option<&Resource> {
        trees.iter().find_map(|tree| self.order.get(tree))
    }
}

/// What a table's own definition says of its columns.
#[derive(Debug, Default, PartialEq, Eq)]
struct Definition {
    /// The first name between two commas: columns, and the words that a table's own constraints begin with.
    columns: BTreeSet<String>,
    /// Generated columns, and every name in their expressions.
    generated: BTreeMap<String, BTreeSet<String>>,
    /// Every name in each `CHECK`.
    checks: Vec<BTreeSet<String>>,
    /// Every name between the parentheses of a virtual table.
    keeps: Option<BTreeSet<String>>,
}

impl Definition {
    fn of(tokens: &[Token<'_>]) -> Self {
        let mut found = Self::default();
        let is_virtual = tokens.get(1).is_some_and(|token| is_keyword(token, "virtual"));
        let mut depth = 0_usize;
        // The first name of a column's definition is the column's.
        let mut column: Option<String> = None;
        for (at, token) in tokens.iter().enumerate() {
            let group = || in_parentheses(tokens.get(at + 1..).unwrap_or_default());
            match token {
                Token::Symbol('(') => {
                    depth += 1;
                    if is_virtual && depth == 1 {
                        found.keeps = Some(in_parentheses(tokens.get(at..).unwrap_or_default()));
                    }
                }
                Token::Symbol(')') => depth = depth.saturating_sub(1),
                Token::Symbol(',') if depth == 1 => column = None,
                _ if depth != 1 => {}
                _ if column.is_none() => {
                    column = name(token);
                    found.columns.extend(column.clone());
                }
                _ if is_keyword(token, "check") => found.checks.push(group()),
                _ if is_keyword(token, "as") => {
                    found.generated.extend(column.clone().map(|column| (column, group())));
                }
                _ => {}
            }
            // A table's own constraint has no column before it.
            if depth == 1 && is_keyword(token, "check") && column.as_deref() == Some("check") {
                found.checks.push(group());
            }
        }
        found
    }

    /// `names`, and whatever those among them that are generated are computed from.
    fn with_sources(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let mut all = names.clone();
        loop {
            // What is no column is a function, a keyword or a text.
            all.retain(|name| self.columns.contains(name));
            let more: BTreeSet<String> = all
                .iter()
                .filter_map(|name| self.generated.get(name))
                .flatten()
                .filter(|name| self.columns.contains(*name) && !all.contains(*name))
                .cloned()
                .collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }
}

/// The names in the parentheses that `tokens` begin with; none where they begin with something else.
fn in_parentheses(tokens: &[Token<'_>]) -> BTreeSet<String> {
    let mut depth = 0_usize;
    let mut names = BTreeSet::new();
    for token in tokens {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth = depth.saturating_sub(1),
            other => names.extend(name(other)),
        }
        if depth == 0 {
            break;
        }
    }
    names
}

impl Unreported {
    /// What `script` does that is not reported, if anything.
    pub(super) fn of(script: &str) -> Option<Self> {
        if !CLOSER_LOOK.are_in(script) {
            return None;
        }
        let tokens = tokens(script);
        let has = |keyword: &&str| tokens.iter().any(|token| is_keyword(token, keyword));
        let found = Self {
            says: KEYWORDS
                .into_iter()
                .filter(has)
                .chain(replaces(&tokens).then_some("replace"))
                .collect(),
            has_star: tokens.contains(&Token::Symbol('*')),
            joins_using: using(&tokens),
            names: tokens.iter().filter_map(name).collect(),
        };
        let does_any = !found.says.is_empty() || !found.joins_using.is_empty() || found.names_statistics();
        does_any.then_some(found)
    }

    fn says(&self, keyword: &str) -> bool {
        self.says.contains(keyword)
    }

    /// Whether it makes or names tables that tell about other tables' rows.
    fn names_statistics(&self) -> bool {
        let tells = |name: &String| name.starts_with("sqlite_stat") || ABOUT_OTHERS.contains(&name.as_str());
        self.says("analyze") || self.names.iter().any(tells)
    }

    /// Where rows may be replaced, in the schema as it is now.
    pub(super) fn replacing(&self, connection: &Connection) -> rusqlite::Result<Replacing> {
        let mut replacing = Replacing {
            everywhere: self.says("replace"),
            ..Replacing::default()
        };
        if !["insert", "update", "delete", "replace"]
            .iter()
            .any(|keyword| self.says(keyword))
        {
            return Ok(replacing);
        }
        for schema in schemas(connection)? {
            let mut statement = connection.prepare(&format!(
                "select name, sql from {}.sqlite_master where type = 'table' and sql like '%replace%'",
                quoted(&schema)
            ))?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            for row in rows {
                let (table, definition) = row?;
                if replaces(&tokens(&definition)) {
                    replacing.tables.insert(Resource::table(&schema, &table).id());
                }
            }
        }
        Ok(replacing)
    }

    /// Why it is not granted, if it is not. `connection` must be asked as the host.
    pub(super) fn refusal(&self, connection: &Connection, gate: &Gate) -> rusqlite::Result<Option<Refusal>> {
        let mut tables = Vec::new();
        for stored in stored(connection, &self.names)? {
            if self.names.contains(&stored.name) || (self.names_statistics() && stored.has_rows_of_its_own()) {
                let columns = stored.columns(connection)?;
                tables.push((stored, columns));
            }
        }
        // A view is not asked what its columns are: SQLite would remember them, and never again count how deep it is
        // nested. What could be joined with one has a name in the script or in another table.
        let all: BTreeSet<String> = tables
            .iter()
            .flat_map(|(_, columns)| columns)
            .map(|column| column.name.clone())
            .collect();
        let nameable: Vec<Column> = self
            .names
            .union(&all)
            .map(|name| Column {
                name: name.clone(),
                is_key: false,
            })
            .collect();
        for (table, columns) in &tables {
            let columns = if table.is_view { &nameable } else { columns };
            let denied = self
                .hidden_read(gate, table, columns)
                .or_else(|| self.hidden_update(gate, table, columns));
            if let Some((action, column, why)) = denied {
                // Asked on the guest's behalf only now, so that the trail holds what decided.
                let denied = gate.ask(Action::Sql(action), &column, &[]).err().unwrap_or_default();
                let refusal = Refusal::by(
                    Layer::Authorizer,
                    Class::DeniedSqlAction,
                    format!("{denied}, and {why}"),
                );
                return Ok(Some(refusal));
            }
        }
        Ok(None)
    }

    /// A column that is read without a word, and that is not granted.
    fn hidden_read(&self, gate: &Gate, table: &Stored, columns: &[Column]) -> Option<Denied> {
        columns.iter().find_map(|column| {
            let resource = table.column(column);
            let why = self.way_to_read(&table.name, &column.name)?;
            let is_denied = !gate.would_allow(Action::Sql(SqlAction::Read), &resource, &[]);
            is_denied.then_some((SqlAction::Read, resource, why))
        })
    }

    /// How the script could read a column that it may not, if it could.
    fn way_to_read(&self, table: &str, column: &str) -> Option<&'static str> {
        let is_named = self.names.contains(table);
        if is_named && (self.says("natural") || self.joins_using.contains(column)) {
            return Some("`natural` and `using` join by columns that SQLite does not report: write `on` instead");
        }
        if is_named && self.says("alter") {
            return Some("`alter` could give it a name that no policy knows");
        }
        if is_named && (self.says("trigger") || self.says("view")) && (self.has_star || self.names.contains(column)) {
            return Some("a trigger or a view reads with the rights of whoever uses it");
        }
        self.names_statistics()
            .then_some("statistics hold sizes and row ids of every table, and values of indexed columns")
    }

    /// A primary key that may not be updated, where the script could update it under another name.
    fn hidden_update(&self, gate: &Gate, table: &Stored, columns: &[Column]) -> Option<Denied> {
        if !self.says("update") || !ROW_ID.iter().any(|name| self.names.contains(*name)) {
            return None;
        }
        let mut keys = columns
            .iter()
            .filter(|column| column.is_key)
            .map(|column| table.column(column));
        let key = keys.find(|key| !gate.would_allow(Action::Sql(SqlAction::Update), key, &[]))?;
        Some((SqlAction::Update, key, "its row id is the same by another name"))
    }
}

type Denied = (SqlAction, Resource, &'static str);

/// The names between the parentheses after each `using`.
fn using(tokens: &[Token<'_>]) -> BTreeSet<String> {
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
fn replaces(tokens: &[Token<'_>]) -> bool {
    tokens
        .iter()
        .enumerate()
        .any(|(at, token)| is_keyword(token, "replace") && tokens.get(at + 1) != Some(&Token::Symbol('(')))
}

fn is_keyword(token: &Token<'_>, keyword: &str) -> bool {
    token.word().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
}

fn name(token: &Token<'_>) -> Option<String> {
    token.name_or_text().map(str::to_ascii_lowercase)
}

struct Column {
    name: String,
    is_key: bool,
}

/// Something that rows are read from.
struct Stored {
    schema: String,
    name: String,
    is_view: bool,
    /// A module that is a table by itself.
    is_module: bool,
}

impl Stored {
    /// Whether an index could be on it that statistics are gathered from.
    fn has_rows_of_its_own(&self) -> bool {
        !self.is_view && !self.is_module && !self.name.starts_with("sqlite_")
    }

    fn column(&self, column: &Column) -> Resource {
        Resource::column(&self.schema, &self.name, &column.name)
    }

    /// Its columns; none of a view's.
    fn columns(&self, connection: &Connection) -> rusqlite::Result<Vec<Column>> {
        if self.is_view {
            return Ok(Vec::new());
        }
        let mut statement = connection.prepare("select lower(name), pk > 0 from pragma_table_xinfo(?1, ?2)")?;
        let rows = statement.query_map([&self.name, &self.schema], |row| {
            Ok(Column {
                name: row.get(0)?,
                is_key: row.get(1)?,
            })
        })?;
        match rows.collect() {
            // A module that is no table without arguments: whoever uses it so is told.
            Err(error) if self.is_module && refusal::code(&error) == Some(ffi::SQLITE_ERROR) => Ok(Vec::new()),
            found => found,
        }
    }
}

/// Every table and view of every schema, the virtual tables that need none, and those of `names` that are built in.
fn stored(connection: &Connection, names: &BTreeSet<String>) -> rusqlite::Result<Vec<Stored>> {
    let mut found = Vec::new();
    // Table functions for JSON are registered only when they are first used.
    let is_built_in = |name: &&String| {
        ["sqlite_", "pragma_", "json"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let built_in = names.iter().filter(is_built_in).cloned().collect();
    for schema in schemas(connection)? {
        let mut statement = connection.prepare(&format!(
            "select lower(name), type = 'view' from {}.sqlite_master where type in ('table', 'view')",
            quoted(&schema)
        ))?;
        let rows = statement.query_map([], |row| {
            Ok(Stored {
                schema: schema.clone(),
                name: row.get(0)?,
                is_view: row.get(1)?,
                is_module: false,
            })
        })?;
        for row in rows {
            found.push(row?);
        }
        let own = |name: &String| Stored {
            schema: schema.clone(),
            name: name.clone(),
            is_view: false,
            is_module: true,
        };
        let built_in: &Vec<String> = &built_in;
        found.extend(built_in.iter().map(own));
    }
    let mut statement = connection.prepare("select lower(name) from pragma_module_list")?;
    let modules = statement.query_map([], |row| row.get::<_, String>(0))?;
    for module in modules {
        found.push(Stored {
            schema: "main".to_owned(),
            name: module?,
            is_view: false,
            is_module: true,
        });
    }
    Ok(found)
}

/// The schemas of the connection, attached ones too.
pub(super) fn schemas(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut names = Vec::new();
    for index in 0.. {
        match connection.db_name(index) {
            // That for temporary tables has a name before it is there.
            Ok(name) if index == TEMP && connection.is_readonly(&*name).is_err() => {}
            Ok(name) => names.push(name),
            Err(rusqlite::Error::InvalidDatabaseIndex(_)) => break,
            // What cannot be named cannot be asked about.
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// A name as SQL takes it for one, whatever it is.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_that_matters_is_a_sign() {
        for word in KEYWORDS
            .into_iter()
            .chain(ABOUT_OTHERS)
            .chain(["using", "replace", "sqlite_stat", "pragma"])
        {
            for script in [
                word.to_owned(),
                format!("(\"{}\"", word.to_uppercase()),
                format!("1{word}"),
            ] {
                assert!(CLOSER_LOOK.are_in(&script), "{script}");
            }
        }
        assert!(!CLOSER_LOOK.are_in("select a from t where overview = 'nonnatural'"));
    }

    #[test]
    fn ordinary_scripts_do_nothing_unreported() {
        for script in [
            "select 'natural join', \"using\" from t join u on t.a = u.a",
            "select replace(a, 'b', 'c') from t",
            "-- natural\nselect 1 /* using */",
            "select 'natural' from t where a = 'replace'",
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

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_definition_tells_what_its_columns_are_computed_from_and_compared_with() {
        let text = "create table t(a, [B] int check (abs(b) > 0), c as (b + length('x,')) stored unique,\
             d text generated always as (c || ')'), constraint k check (a < \"b\"), check (d <> e), e)";
        let found = Definition::of(&tokens(text));
        assert_eq!(found.generated.keys().cloned().collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(found.with_sources(&names(&["d"])), names(&["b", "c", "d"]));
        assert_eq!(found.with_sources(&names(&["abs", "e"])), names(&["e"]));
        assert_eq!(found.checks.len(), 3);
        assert_eq!(found.with_sources(&found.checks[0]), names(&["b"]));
        assert_eq!(found.with_sources(&found.checks[1]), names(&["a", "b"]));
        assert_eq!(found.with_sources(&found.checks[2]), names(&["b", "c", "d", "e"]));
        assert_eq!(found.keeps, None);
    }

    #[test]
    fn a_virtual_table_keeps_what_stands_between_its_parentheses() {
        let found = Definition::of(&tokens(
            "CREATE VIRTUAL TABLE docs USING fts5(Title, \"body\", tokenize='porter')",
        ));
        assert_eq!(found.keeps, Some(names(&["title", "body", "tokenize", "porter"])));
        assert_eq!(
            Definition::of(&tokens("create virtual table t using rtree")).keeps,
            None
        );
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
