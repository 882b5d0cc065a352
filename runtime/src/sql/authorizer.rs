//! Turns what SQLite reports while it compiles a statement into a question for the gate.

use std::ffi::CStr;

use stockade_policies::{Action, Resource, SqlAction, Value};

use super::answers::Report;
use super::hooks::Does;
use super::unreported::Told;
use crate::gate::{Allowed, Gate};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// One call of SQLite's authorizer. What `first` and `second` mean depends on the code:
/// <https://sqlite.org/c3ref/c_alter_table.html>.
#[derive(Debug)]
pub(super) struct Reported {
    pub code: i32,
    pub first: Option<String>,
    pub second: Option<String>,
    pub database: Option<String>,
    /// "the name of the inner-most trigger or view that is responsible for the access attempt"
    pub accessor: Option<String>,
}

impl Reported {
    /// A report, copied. A name that is not UTF-8, which only the owner of a database can have made, has U+FFFD where it is
    /// not.
    pub(super) fn of(report: &Report<'_>) -> Self {
        let text = |argument: &CStr| argument.to_string_lossy().into_owned();
        let [first, second, database, accessor] = report.arguments.map(|argument| argument.map(text));
        Self {
            code: report.code,
            first,
            second,
            database,
            accessor,
        }
    }

    /// What a statement does of which this is reported.
    pub(super) fn does(&self) -> Does {
        use SqlAction as A;
        match SqlAction::from_code(self.code) {
            Some(A::Select | A::Read | A::Insert | A::Update | A::Delete | A::CallFunction | A::Recursive) => {
                Does::Rows
            }
            Some(A::Transaction) => match self.first.as_deref() {
                Some("BEGIN") => Does::Begin,
                Some("COMMIT") => Does::Commit,
                _ => Does::Other,
            },
            _ => Does::Other,
        }
    }

    /// The table whose rows are inserted or updated, if any are. SQLite's own tables are written by it alone.
    pub(super) fn written_table(&self) -> Option<Resource> {
        let writes = [SqlAction::Insert.code(), SqlAction::Update.code()].contains(&self.code);
        let table = self
            .first
            .as_deref()
            .filter(|table| writes && !table.starts_with("sqlite_"))?;
        Some(Resource::table(self.database.as_deref().unwrap_or("main"), table))
    }

    /// A column that this read or write tells about, and that the guest may not read; and how it tells.
    pub(super) fn tells<'t>(&self, told: &'t Told) -> Option<(&'t Resource, &'static str)> {
        let table = self.first.as_deref()?;
        let database = self.database.as_deref().unwrap_or("main");
        let column = || Some(Resource::column(database, table, self.second.as_deref()?));
        match SqlAction::from_code(self.code)? {
            SqlAction::Read => {
                let kept = told.by_reading(&Resource::table(database, table), &column()?)?;
                Some((kept, "what is read here is made of it"))
            }
            SqlAction::Update => told.by_updating(&column()?),
            SqlAction::Insert => {
                let taken = told.by_inserting(&Resource::table(database, table))?;
                Some((taken, "whether this insert fails depends on it, because it is `unique`"))
            }
            _ => None,
        }
    }

    /// Whether tables may come, go or change their names when the statement runs. What is rolled back may bring back those
    /// that were dropped.
    pub(super) fn changes_schema(&self) -> bool {
        use SqlAction as A;
        let action = SqlAction::from_code(self.code);
        if let Some(A::Transaction | A::Savepoint) = action {
            return self.first.as_deref() == Some("ROLLBACK");
        }
        matches!(
            action,
            Some(
                A::Attach
                    | A::Detach
                    | A::AlterTable
                    | A::CreateTable
                    | A::CreateTempTable
                    | A::CreateView
                    | A::CreateTempView
                    | A::CreateVtable
            ) | None
        )
    }

    /// The name that is read without a column or a database, if that is what is reported.
    pub(super) fn nameless_read(&self) -> Option<&str> {
        let is_nameless = self.code == SqlAction::Read.code()
            && self.database.is_none()
            && self.second.as_deref().is_some_and(str::is_empty);
        self.first.as_deref().filter(|_| is_nameless)
    }
}

/// Whether the plan grants what SQLite reports, without asking on the guest's behalf.
pub(super) fn would_allow(gate: &Gate, reported: &Reported) -> bool {
    question(reported)
        .is_some_and(|(action, resource, context)| gate.would_allow(Action::Sql(action), &resource, &context))
}

/// How rows of `table` that stand in the way of others may be deleted. Ends the guest where they may not.
pub(super) fn allows_replacing(gate: &Gate, table: &Resource) -> Option<Allowed> {
    gate.ask(Action::Sql(SqlAction::Delete), table, &[])
        .map_err(|why| {
            gate.refuse(denial(
                SqlAction::Delete,
                format!("{why}, and `replace` deletes rows that stand in its way"),
            ));
        })
        .ok()
}

/// Ends the guest for reading or writing what tells of `column`, which is not granted.
pub(super) fn deny_told(gate: &Gate, column: &Resource, why: &str) -> Refusal {
    let denied = gate
        .ask(Action::Sql(SqlAction::Read), column, &[])
        .err()
        .unwrap_or_default();
    let refusal = denial(SqlAction::Read, format!("{denied}, and {why}"));
    gate.refuse(refusal.clone());
    refusal
}

/// Ends the guest for reading the rows of a table that is not granted.
pub(super) fn deny_rows(gate: &Gate, table: &str) -> Refusal {
    let rows = Resource::column("main", table, "");
    let detail = gate
        .ask(Action::Sql(SqlAction::Read), &rows, &[])
        .err()
        .unwrap_or_default();
    let refusal = denial(SqlAction::Read, detail);
    gate.refuse(refusal.clone());
    refusal
}

/// How the plan grants what SQLite reports. Ends the guest where it does not.
pub(super) fn allows(gate: &Gate, reported: &Reported) -> Option<Allowed> {
    let Some((action, resource, context)) = question(reported) else {
        // SQLite may add codes in any release, and reports `ATTACH` of an expression without its value:
        // what we cannot name we cannot grant.
        gate.refuse(Refusal::by(
            Layer::Authorizer,
            Class::DeniedSqlAction,
            format!(
                "SQLite's action {} cannot be named, so it cannot be granted",
                reported.code
            ),
        ));
        return None;
    };
    gate.ask(Action::Sql(action), &resource, &context)
        .map_err(|why| gate.refuse(denial(action, why)))
        .ok()
}

fn denial(action: SqlAction, detail: String) -> Refusal {
    let class = match action {
        SqlAction::CallFunction => Class::DeniedFunction,
        _ => Class::DeniedSqlAction,
    };
    Refusal::by(Layer::Authorizer, class, detail)
}

type Context = Vec<(&'static str, Value)>;

fn question(reported: &Reported) -> Option<(SqlAction, Resource, Context)> {
    use SqlAction as A;
    let action = SqlAction::from_code(reported.code)?;
    let first = reported.first.as_deref();
    let second = reported.second.as_deref();
    // "select count(*) from t" reports a read of t without a database; only main has tables that are not temporary.
    let database = reported.database.as_deref().unwrap_or("main");
    let table = |name: &str| Resource::table(database, name);
    let mut context: Context = Vec::new();
    let mut add = |name: &'static str, value: Option<&str>| {
        if let Some(value) = value {
            context.push((name, Value::Text(value.to_owned())));
        }
    };
    add("database", reported.database.as_deref());
    add("trigger", reported.accessor.as_deref());
    let resource = match action {
        A::CreateIndex | A::CreateTempIndex | A::DropIndex | A::DropTempIndex => {
            add("index", first);
            table(second?)
        }
        A::CreateTrigger | A::CreateTempTrigger | A::DropTrigger | A::DropTempTrigger => {
            add("name", first);
            table(second?)
        }
        A::CreateTable
        | A::CreateTempTable
        | A::CreateTempView
        | A::CreateView
        | A::Delete
        | A::DropTable
        | A::DropTempTable
        | A::DropTempView
        | A::DropView
        | A::Insert
        | A::Analyze => table(first?),
        A::CreateVtable | A::DropVtable => {
            add("module", second);
            table(first?)
        }
        A::AlterTable => Resource::table(first?, second?),
        A::Read | A::Update => Resource::column(database, first?, second?),
        A::Pragma => {
            add("argument", second);
            Resource::pragma(first?)
        }
        A::CallFunction => Resource::sql_function(second?),
        A::Attach => {
            add("file", first);
            Resource::Path(first?.to_owned())
        }
        A::Detach => Resource::database(first?),
        A::Select | A::Recursive => Resource::database(database),
        A::Transaction => {
            add("operation", first);
            Resource::database(database)
        }
        A::Savepoint => {
            add("operation", first);
            add("name", second);
            Resource::database(database)
        }
        A::Reindex => {
            add("index", first);
            Resource::database(database)
        }
    };
    Some((action, resource, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(code: i32, first: Option<&str>, second: Option<&str>) -> Reported {
        Reported {
            code,
            first: first.map(str::to_owned),
            second: second.map(str::to_owned),
            database: Some("main".to_owned()),
            accessor: None,
        }
    }

    #[test]
    fn an_unknown_code_has_no_question() {
        assert!(question(&reported(0, Some("t"), None)).is_none());
        assert!(question(&reported(34, Some("t"), None)).is_none());
        assert!(question(&reported(-1, None, None)).is_none());
    }

    #[test]
    fn attach_of_an_expression_has_no_question() {
        assert!(question(&reported(24, None, None)).is_none());
        let (action, resource, _) = question(&reported(24, Some("/etc/passwd"), None)).unwrap();
        assert_eq!(action, SqlAction::Attach);
        assert_eq!(resource, Resource::Path("/etc/passwd".to_owned()));
    }

    #[test]
    fn every_code_is_turned_into_a_question() {
        for code in 1..=33 {
            assert!(
                question(&reported(code, Some("one"), Some("two"))).is_some(),
                "code {code}"
            );
        }
    }

    #[test]
    fn a_read_without_a_database_is_a_read_of_main() {
        let mut counted = reported(20, Some("Secret"), Some(""));
        counted.database = None;
        let (_, resource, _) = question(&counted).unwrap();
        assert_eq!(resource, Resource::column("main", "secret", ""));
    }
}
