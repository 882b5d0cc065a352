//! Things acted on, and the ids that policies know them by.
//!
//! A column is in its table and a table in its database because of how they are named, not because somebody declared it:
//! guests invent names at run time. Entity files therefore never list them.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// The type of a [`Resource`]; its name is the entity type of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceKind {
    /// A function that the host offers to modules.
    HostFunction,
    /// A schema of the connection: `main`, `temp`.
    Database,
    /// A table or view.
    Table,
    /// A column of a table.
    Column,
    /// A function that SQL may call.
    SqlFunction,
    /// A pragma.
    Pragma,
    /// A file-system path.
    Path,
    /// A namespace of keys and values.
    Namespace,
    /// A variable that the host gives guests.
    Variable,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::HostFunction,
        Self::Database,
        Self::Table,
        Self::Column,
        Self::SqlFunction,
        Self::Pragma,
        Self::Path,
        Self::Namespace,
        Self::Variable,
    ];

    /// The entity type of the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostFunction => "HostFunction",
            Self::Database => "Database",
            Self::Table => "Table",
            Self::Column => "Column",
            Self::SqlFunction => "SqlFunction",
            Self::Pragma => "Pragma",
            Self::Path => "Path",
            Self::Namespace => "Namespace",
            Self::Variable => "Variable",
        }
    }

    /// The kind of this entity type.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Parents follow from the name, so declaring such an entity is refused.
    #[must_use]
    pub const fn is_structural(self) -> bool {
        match self {
            Self::Database
            | Self::Table
            | Self::Column
            | Self::Pragma
            | Self::Path
            | Self::Namespace
            | Self::Variable => true,
            Self::HostFunction | Self::SqlFunction => false,
        }
    }
}

/// A thing acted on. The constructors lower-case what SQL compares without case; [`Resource::id`] does so again, so that
/// a value built by hand cannot slip past a policy by its spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// A function that the host offers to modules: `stockade#log`.
    HostFunction(String),
    /// A schema of the connection: `main`.
    Database(String),
    /// A table or view.
    Table {
        /// The schema it is in.
        database: String,
        /// Its own name.
        table: String,
    },
    /// A column of a table. SQLite names no column when only rows are counted; the name is empty then.
    Column {
        /// The schema its table is in.
        database: String,
        /// The table.
        table: String,
        /// Its own name.
        column: String,
    },
    /// A function that SQL may call.
    SqlFunction(String),
    /// A pragma.
    Pragma(String),
    /// A file-system path, made canonical by the caller.
    Path(String),
    /// A namespace of keys and values; names differ by case.
    Namespace(String),
    /// A variable that the host gives guests; names differ by case.
    Variable(String),
}

impl Resource {
    /// A host function; its id is taken as it is.
    #[must_use]
    pub fn host_function(id: &str) -> Self {
        Self::HostFunction(id.to_owned())
    }

    /// A schema of the connection.
    #[must_use]
    pub fn database(name: &str) -> Self {
        Self::Database(name.to_ascii_lowercase())
    }

    /// A table or view of a schema.
    #[must_use]
    pub fn table(database: &str, table: &str) -> Self {
        Self::Table {
            database: database.to_ascii_lowercase(),
            table: table_name(database, table),
        }
    }

    /// A column of a table; an empty name stands for the rows themselves.
    #[must_use]
    pub fn column(database: &str, table: &str, column: &str) -> Self {
        Self::Column {
            database: database.to_ascii_lowercase(),
            table: table_name(database, table),
            column: column.to_ascii_lowercase(),
        }
    }

    /// A function that SQL may call.
    #[must_use]
    pub fn sql_function(name: &str) -> Self {
        Self::SqlFunction(name.to_ascii_lowercase())
    }

    /// A pragma.
    #[must_use]
    pub fn pragma(name: &str) -> Self {
        Self::Pragma(name.to_ascii_lowercase())
    }

    /// A file-system path, made canonical by the caller.
    #[must_use]
    pub fn path(path: &str) -> Self {
        Self::Path(path.to_owned())
    }

    /// A namespace of keys and values; its name is taken as it is.
    #[must_use]
    pub fn namespace(name: &str) -> Self {
        Self::Namespace(name.to_owned())
    }

    /// A variable that the host gives guests; its name is taken as it is.
    #[must_use]
    pub fn variable(name: &str) -> Self {
        Self::Variable(name.to_owned())
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> ResourceKind {
        match self {
            Self::HostFunction(_) => ResourceKind::HostFunction,
            Self::Database(_) => ResourceKind::Database,
            Self::Table { .. } => ResourceKind::Table,
            Self::Column { .. } => ResourceKind::Column,
            Self::SqlFunction(_) => ResourceKind::SqlFunction,
            Self::Pragma(_) => ResourceKind::Pragma,
            Self::Path(_) => ResourceKind::Path,
            Self::Namespace(_) => ResourceKind::Namespace,
            Self::Variable(_) => ResourceKind::Variable,
        }
    }

    /// The id that policies know it by: `main.notes.body`, `main."a.b"`.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::HostFunction(id) | Self::Path(id) | Self::Namespace(id) | Self::Variable(id) => id.clone(),
            Self::SqlFunction(name) | Self::Pragma(name) => name.to_ascii_lowercase(),
            Self::Database(name) => dotted(&[name]),
            Self::Table { database, table } => dotted(&[database, &table_name(database, table)]),
            Self::Column {
                database,
                table,
                column,
            } => dotted(&[database, &table_name(database, table), column]),
        }
    }

    /// What it is in because of its name, nearest first.
    #[must_use]
    pub fn parents(&self) -> Vec<Self> {
        match self {
            Self::HostFunction(_)
            | Self::Database(_)
            | Self::SqlFunction(_)
            | Self::Pragma(_)
            | Self::Namespace(_)
            | Self::Variable(_) => Vec::new(),
            Self::Table { database, .. } => vec![Self::database(database)],
            Self::Column { database, table, .. } => vec![Self::table(database, table), Self::database(database)],
            Self::Path(path) => enclosing_directories(path)
                .map(|directory| Self::path(&directory))
                .collect(),
        }
    }

    /// The attributes that the schema gives its type, by name: what `resource.table` means in a policy.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::HostFunction(_) | Self::SqlFunction(_) => Vec::new(),
            Self::Database(name) | Self::Pragma(name) => vec![("name", name.to_ascii_lowercase())],
            Self::Path(name) | Self::Namespace(name) | Self::Variable(name) => vec![("name", name.clone())],
            Self::Table { database, table } => {
                vec![
                    ("name", table.to_ascii_lowercase()),
                    ("database", database.to_ascii_lowercase()),
                ]
            }
            Self::Column {
                database,
                table,
                column,
            } => vec![
                ("name", column.to_ascii_lowercase()),
                ("table", table.to_ascii_lowercase()),
                ("database", database.to_ascii_lowercase()),
            ],
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{:?}", self.kind().name(), self.id())
    }
}

/// A table's name as SQLite's authorizer reports it: in lower case, and the schema table under one of its names, of which
/// it has two, and four in `temp` (<https://sqlite.org/schematab.html>).
fn table_name(database: &str, table: &str) -> String {
    let name = table.to_ascii_lowercase();
    let is_temporary = database.eq_ignore_ascii_case("temp");
    match name.as_str() {
        "sqlite_master" | "sqlite_schema" if is_temporary => "sqlite_temp_master".to_owned(),
        "sqlite_temp_schema" => "sqlite_temp_master".to_owned(),
        "sqlite_schema" => "sqlite_master".to_owned(),
        _ => name,
    }
}

/// Joins identifiers with dots, quoting those that could be mistaken for several.
fn dotted(identifiers: &[&String]) -> String {
    let mut id = String::new();
    for (position, identifier) in identifiers.iter().enumerate() {
        if position > 0 {
            id.push('.');
        }
        push_identifier(&mut id, &identifier.to_ascii_lowercase());
    }
    id
}

fn push_identifier(id: &mut String, identifier: &str) {
    let plain = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$' || (!c.is_ascii() && c.is_alphabetic())
    };
    if !identifier.is_empty() && identifier.chars().all(plain) {
        id.push_str(identifier);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(id, "\"{}\"", identifier.replace('"', "\"\""));
    }
}

/// Every directory above a path, nearest first. A path that is not plainly absolute is above nothing and below nothing:
/// `..` in it could lead anywhere.
fn enclosing_directories(path: &str) -> impl Iterator<Item = String> {
    let components: Vec<&str> = match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(|name| !matches!(name, "" | "." | "..")) => rest.split('/').collect(),
        _ => Vec::new(),
    };
    (0..components.len()).rev().map(move |count| {
        let above = components.get(..count).unwrap_or_default();
        format!("/{}", above.join("/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_and_dotted() {
        assert_eq!(Resource::database("Main").id(), "main");
        assert_eq!(Resource::table("MAIN", "Notes").id(), "main.notes");
        assert_eq!(Resource::column("main", "notes", "Body").id(), "main.notes.body");
        assert_eq!(Resource::sql_function("ABS").id(), "abs");
        assert_eq!(Resource::pragma("User_Version").id(), "user_version");
        assert_eq!(Resource::host_function("stockade#log").id(), "stockade#log");
    }

    #[test]
    fn the_schema_table_has_one_name() {
        assert_eq!(Resource::table("main", "sqlite_schema").id(), "main.sqlite_master");
        assert_eq!(
            Resource::column("temp", "SQLITE_MASTER", "sql").id(),
            "temp.sqlite_temp_master.sql"
        );
        assert_eq!(
            Resource::table("temp", "sqlite_temp_schema").id(),
            "temp.sqlite_temp_master"
        );
        assert_eq!(Resource::table("main", "sqlite_sequence").id(), "main.sqlite_sequence");
    }

    #[test]
    fn spelling_in_a_hand_made_value_is_levelled() {
        let made = Resource::Column {
            database: "MAIN".into(),
            table: "Notes".into(),
            column: "BODY".into(),
        };
        assert_eq!(made.id(), "main.notes.body");
        assert!(made.attributes().contains(&("table", "notes".to_owned())));
    }

    #[test]
    fn odd_identifiers_are_quoted_so_that_ids_do_not_collide() {
        assert_eq!(Resource::column("main", "a.b", "c").id(), "main.\"a.b\".c");
        assert_eq!(Resource::column("main", "a", "b.c").id(), "main.a.\"b.c\"");
        assert_eq!(Resource::table("main", "say \"hi\"").id(), "main.\"say \"\"hi\"\"\"");
        assert_eq!(Resource::column("main", "t", "").id(), "main.t.\"\"");
        assert_eq!(Resource::table("main", "straße").id(), "main.straße");
        assert_ne!(
            Resource::table("main", "a\".\"b").id(),
            Resource::column("main", "a", "b").id()
        );
    }

    #[test]
    fn parents_follow_from_the_name() {
        let ids = |resource: Resource| resource.parents().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            ids(Resource::column("main", "t", "c")),
            ["Table::\"main.t\"", "Database::\"main\""]
        );
        assert_eq!(ids(Resource::table("temp", "t")), ["Database::\"temp\""]);
        assert_eq!(ids(Resource::path("/a/b")), ["Path::\"/a\"", "Path::\"/\""]);
    }

    #[test]
    fn a_path_that_is_not_canonical_is_in_nothing() {
        for path in ["", "/", "a/b", "/a/../b", "/a//b", "/a/", "/a/./b"] {
            assert!(Resource::path(path).parents().is_empty(), "{path}");
        }
    }
}
