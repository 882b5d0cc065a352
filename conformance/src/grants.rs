//! Each action that a policy can grant, granted and withheld.
//!
//! The guest is the same, and so are its policies but for one: with the action it completes, without it it is refused. An
//! action that nobody asks about would complete both times.

use std::sync::Arc;

use stockade_policies::{Action, Capability, SqlAction};
use stockade_runtime::{Class, Layer, Outcome, Request};

use crate::replay::TrialError;
use crate::subject::{Laboratory, SubjectError};

/// Whether the action is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// As everything else is.
    Granted,
    /// Everything else is.
    Withheld,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Granted, Self::Withheld];

    /// The word used in the names of trials.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Withheld => "withheld",
        }
    }
}

/// May do most of what there is; the rest is granted here.
const PROFILE: &str = "trusted";

const EVERYTHING: &str = r#"
@id("grants-sql")
permit (principal, action in Action::"sql", resource);
@id("grants-host")
permit (principal, action in [Action::"telemetry", Action::"ambient", Action::"database", Action::"state"], resource);
@id("grants-attached")
permit (principal, action == Action::"sqlAttached", resource) when { context.count <= 2 };
"#;

/// The name of a trial: `attach/withheld`.
#[must_use]
pub fn name(action: Action, side: Side) -> String {
    format!("{}/{}", action.id(), side.name())
}

/// Runs one side, and says what is wrong; empty when all is well.
///
/// # Errors
/// [`TrialError`] where nobody knows what happened: never a pass.
pub fn play(action: Action, side: Side, laboratory: &Arc<Laboratory>) -> Result<Vec<String>, TrialError> {
    let runtime = laboratory.runtime_with(&policies(action, side))?;
    let outcome = runtime.run(&request(action)).map_err(SubjectError::from)?;
    Ok(fault(action, side, &outcome).into_iter().collect())
}

fn fault(action: Action, side: Side, outcome: &Outcome) -> Option<String> {
    let is_right = match side {
        Side::Granted => outcome.class == Class::Completed,
        Side::Withheld => is_denial(action, outcome),
    };
    (!is_right).then(|| {
        format!(
            "`{}` was {}, and the guest ended with `{}` ({})",
            action.id(),
            side.name(),
            outcome.class,
            outcome.detail
        )
    })
}

fn is_denial(action: Action, outcome: &Outcome) -> bool {
    match action {
        Action::Sql(_) => {
            let classes = [Class::DeniedSqlAction, Class::DeniedFunction];
            let layers = [Layer::Screen, Layer::Authorizer];
            classes.contains(&outcome.class) && outcome.layer.is_some_and(|layer| layers.contains(&layer))
        }
        // What is asked about by a name that only the call says is linked.
        Action::Host(_) => [
            (Class::DeniedImport, Some(Layer::Imports)),
            (Class::DeniedCapability, Some(Layer::Capability)),
        ]
        .contains(&(outcome.class, outcome.layer)),
    }
}

fn policies(action: Action, side: Side) -> String {
    let withheld = match side {
        Side::Granted => String::new(),
        Side::Withheld => format!(
            "@id(\"grants-without\") forbid (principal, action == Action::\"{}\", resource);",
            action.id()
        ),
    };
    format!("{EVERYTHING}{withheld}")
}

/// A guest that needs the action.
fn request(action: Action) -> Request {
    match action {
        Action::Sql(action) => Request::sql(PROFILE, script(action)),
        Action::Host(capability) => Request::wasm(PROFILE, module(capability)),
    }
}

fn script(action: SqlAction) -> &'static str {
    use SqlAction as A;
    match action {
        A::CreateIndex => "create table t(x); create index i on t(x)",
        A::CreateTable => "create table t(x)",
        A::CreateTempIndex => "create temp table t(x); create index temp.i on t(x)",
        A::CreateTempTable => "create temp table t(x)",
        A::CreateTempTrigger => "create table t(x); create temp trigger g after insert on t begin select 1; end",
        A::CreateTempView => "create temp view v as select 1",
        A::CreateTrigger => "create table t(x); create trigger g after insert on t begin select 1; end",
        A::CreateView => "create view v as select 1",
        A::Delete => "create table t(x); delete from t",
        A::DropIndex => "create table t(x); create index i on t(x); drop index i",
        A::DropTable => "create table t(x); drop table t",
        A::DropTempIndex => "create temp table t(x); create index temp.i on t(x); drop index temp.i",
        A::DropTempTable => "create temp table t(x); drop table temp.t",
        A::DropTempTrigger => {
            "create table t(x); create temp trigger g after insert on t begin select 1; end; drop trigger temp.g"
        }
        A::DropTempView => "create temp view v as select 1; drop view temp.v",
        A::DropTrigger => "create table t(x); create trigger g after insert on t begin select 1; end; drop trigger g",
        A::DropView => "create view v as select 1; drop view v",
        A::Insert => "create table t(x); insert into t values (1)",
        A::Pragma => "pragma user_version",
        A::Read => "create table t(x); select x from t",
        A::Select => "select 1",
        A::Transaction => "begin; commit",
        A::Update => "create table t(x); update t set x = 1",
        A::Attach => "attach ':memory:' as other",
        A::Detach => "attach ':memory:' as other; detach other",
        A::AlterTable => "create table t(x); alter table t add column y",
        A::Reindex => "create table t(x); create index i on t(x); reindex i",
        A::Analyze => "create table t(x); analyze t",
        A::CreateVtable => "create virtual table v using fts5(x)",
        A::DropVtable => "create virtual table v using fts5(x); drop table v",
        A::CallFunction => "select abs(-1)",
        A::Savepoint => "savepoint s; release s",
        A::Recursive => "with recursive c(x) as (select 1 union all select x + 1 from c where x < 3) select x from c",
    }
}

fn module(capability: Capability) -> String {
    let (import, parameters, arguments, result) = match capability {
        Capability::WriteLog => ("log", "i32 i32", "(i32.const 16) (i32.const 1)", "i32"),
        Capability::ReadClock => ("clock_now_ms", "", "", "i64"),
        Capability::ReadRandom => ("random_fill", "i32 i32", "(i32.const 16) (i32.const 1)", "i32"),
        Capability::QueryDatabase => (
            "db_query",
            "i32 i32 i32 i32",
            "(i32.const 16) (i32.const 8) (i32.const 4) (i32.const 8)",
            "i32",
        ),
        Capability::ExecuteDatabase => ("db_execute", "i32 i32", "(i32.const 16) (i32.const 8)", "i64"),
        Capability::RecordMetric => (
            "metric_add",
            "i32 i32 i64",
            "(i32.const 16) (i32.const 6) (i64.const 1)",
            "i32",
        ),
        Capability::ReadEnvironment => (
            "env_get",
            "i32 i32 i32 i32",
            "(i32.const 16) (i32.const 6) (i32.const 4) (i32.const 8)",
            "i32",
        ),
        Capability::ReadState => (
            "state_get",
            "i32 i32 i32 i32",
            "(i32.const 16) (i32.const 6) (i32.const 4) (i32.const 8)",
            "i32",
        ),
        Capability::WriteState => (
            "state_set",
            "i32 i32 i32 i32",
            "(i32.const 16) (i32.const 6) (i32.const 16) (i32.const 6)",
            "i32",
        ),
    };
    format!(
        "(module
           (import \"stockade\" \"{import}\" (func $asks (param {parameters}) (result {result})))
           (memory (export \"memory\") 1)
           (data (i32.const 16) \"select 1\")
           (func (export \"__wasm_allocate\") (param i32) (result i32) (i32.const 1024))
           (func (export \"run\") (drop (call $asks {arguments}))))"
    )
}
