//! The grants of the stock profiles, and that a plan decides about them what Cedar decides.

#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tables are long, and a panic is the report"
)]

mod reference;
mod samples;

use reference::{Reference, principals};
use samples::samples;
use serde_json::{Value as Json, json};
use stockade_policies::{
    Action, Bound, Capability, Meter, Plan, PolicyStore, Principal, Question, Resource, Source, SourceKind, SqlAction,
    Stock, Value, ValueKind,
};

fn store() -> PolicyStore {
    PolicyStore::stock().unwrap()
}

/// The shortest context that the action allows, and the longest.
fn contexts(action: Action) -> [Vec<(&'static str, Value)>; 2] {
    let value = |kind| match kind {
        ValueKind::Text => Value::Text("x".to_owned()),
        ValueKind::Long => Value::Long(1),
    };
    [false, true].map(|all| {
        let taken = action.context().iter().filter(|attribute| all || attribute.required);
        taken.map(|attribute| (attribute.name, value(attribute.kind))).collect()
    })
}

fn as_json(context: &[(&'static str, Value)]) -> Json {
    let fields = context.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => json!(text),
            Value::Long(number) => json!(number),
        };
        ((*name).to_owned(), value)
    });
    Json::Object(fields.collect())
}

fn compare_with_authorizer(plan: &Plan, reference: &Reference) -> (usize, usize) {
    let (mut allowed, mut denied) = (0, 0);
    for action in Action::all() {
        for (resource, row) in samples()
            .iter()
            .filter(|(resource, _)| resource.kind() == action.resource())
        {
            for context in contexts(action) {
                let decision = plan.decide(&Question {
                    action,
                    resource,
                    context: &context,
                });
                let expected = reference.allows(plan.principal(), action.id(), row, as_json(&context));
                let asked = format!("{} {} {resource} {context:?}", plan.principal().profile, action.id());
                assert_eq!(decision.allowed, expected, "{asked}");
                assert!(decision.errors.is_empty(), "{asked}: {:?}", decision.errors);
                assert!(
                    !decision.allowed || !decision.policies.is_empty(),
                    "{asked} is allowed by nobody"
                );
                let again = plan.decide(&Question {
                    action,
                    resource,
                    context: &context,
                });
                assert_eq!(decision, again, "{asked}");
                if expected { allowed += 1 } else { denied += 1 }
            }
        }
    }
    (allowed, denied)
}

fn decides_as_the_authorizer(profile: &str) {
    let (store, reference) = (store(), Reference::stock(&[], &[]));
    for principal in principals(profile) {
        let (allowed, denied) = compare_with_authorizer(&store.plan(&principal).unwrap(), &reference);
        assert!(denied > 0, "{profile}");
        assert_eq!(allowed == 0, profile == "pure", "{profile}");
    }
}

#[test]
fn untrusted_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("untrusted");
}

#[test]
fn database_only_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("database-only");
}

#[test]
fn standard_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("standard");
}

#[test]
fn trusted_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("trusted");
}

#[test]
fn walkin_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("walkin");
}

#[test]
fn pure_is_decided_as_the_authorizer_decides() {
    decides_as_the_authorizer("pure");
}

fn allows(plan: &Plan, action: Action, resource: &Resource) -> bool {
    let [required, _] = contexts(action);
    plan.decide(&Question {
        action,
        resource,
        context: &required,
    })
    .allowed
}

/// Who may do what, said by hand: profiles in this order, and a mark where it is allowed.
#[test]
fn grants_are_the_promised_ones() {
    use SqlAction as A;
    let store = store();
    let order = ["untrusted", "database-only", "standard", "trusted", "walkin", "pure"];
    let plans = order.map(|profile| store.plan(&Principal::profile(profile)).unwrap());
    let notes = || Resource::table("main", "notes");
    let body = || Resource::column("main", "notes", "body");
    let function = Resource::sql_function;
    let rows: [(&str, Action, Resource); 43] = [
        ("xxxxx.", Action::Sql(A::Select), Resource::database("main")),
        ("xxxxx.", Action::Sql(A::Recursive), Resource::database("main")),
        (".xxxx.", Action::Sql(A::Read), body()),
        (".xxxx.", Action::Sql(A::Read), Resource::column("main", "notes", "")),
        (
            "...xx.",
            Action::Sql(A::Read),
            Resource::column("main", "sqlite_master", "sql"),
        ),
        ("...xx.", Action::Sql(A::Read), Resource::column("temp", "scratch", "x")),
        (
            "...x..",
            Action::Sql(A::Read),
            Resource::column("main", "dbstat", "name"),
        ),
        (
            "......",
            Action::Sql(A::Read),
            Resource::column("main", "sqlite_dbpage", "data"),
        ),
        (
            "......",
            Action::Sql(A::Read),
            Resource::column("loot", "staff", "salary"),
        ),
        ("..xxx.", Action::Sql(A::Insert), notes()),
        ("..xxx.", Action::Sql(A::Delete), notes()),
        ("..xxx.", Action::Sql(A::Update), body()),
        (
            "...xx.",
            Action::Sql(A::Insert),
            Resource::table("main", "sqlite_master"),
        ),
        (
            "...xx.",
            Action::Sql(A::Insert),
            Resource::table("temp", "sqlite_temp_master"),
        ),
        ("..xxx.", Action::Sql(A::Transaction), Resource::database("main")),
        ("..xxx.", Action::Sql(A::Savepoint), Resource::database("main")),
        ("...xx.", Action::Sql(A::CreateTable), notes()),
        ("...xx.", Action::Sql(A::CreateIndex), notes()),
        ("...xx.", Action::Sql(A::CreateTrigger), notes()),
        ("...xx.", Action::Sql(A::CreateView), notes()),
        (
            "...xx.",
            Action::Sql(A::CreateTempTable),
            Resource::table("temp", "scratch"),
        ),
        ("...xx.", Action::Sql(A::DropTable), notes()),
        ("...xx.", Action::Sql(A::AlterTable), notes()),
        ("...xx.", Action::Sql(A::Analyze), notes()),
        ("...xx.", Action::Sql(A::Reindex), Resource::database("main")),
        ("......", Action::Sql(A::CreateVtable), notes()),
        ("......", Action::Sql(A::DropVtable), notes()),
        ("......", Action::Sql(A::Attach), Resource::path("/tmp/x.db")),
        ("......", Action::Sql(A::Detach), Resource::database("main")),
        ("xxxxx.", Action::Sql(A::CallFunction), function("abs")),
        ("xxxxx.", Action::Sql(A::CallFunction), function("LIKE")),
        ("..xxx.", Action::Sql(A::CallFunction), function("datetime")),
        ("..xxx.", Action::Sql(A::CallFunction), function("randomblob")),
        ("...xx.", Action::Sql(A::CallFunction), function("sqlite_rename_table")),
        ("......", Action::Sql(A::CallFunction), function("load_extension")),
        ("......", Action::Sql(A::CallFunction), function("fts3_tokenizer")),
        ("......", Action::Sql(A::CallFunction), function("sqlite_log")),
        ("......", Action::Sql(A::Pragma), Resource::pragma("writable_schema")),
        ("...xx.", Action::Sql(A::Pragma), Resource::pragma("table_info")),
        (
            ".xxx..",
            Action::Host(Capability::QueryDatabase),
            Resource::database("main"),
        ),
        (
            "..xx..",
            Action::Host(Capability::ExecuteDatabase),
            Resource::database("main"),
        ),
        (
            ".xxx..",
            Action::Host(Capability::WriteLog),
            Resource::host_function("stockade#log"),
        ),
        (
            "..xx..",
            Action::Host(Capability::ReadClock),
            Resource::host_function("stockade#clock_now_ms"),
        ),
    ];
    for (expected, action, resource) in rows {
        let found: String = plans
            .iter()
            .map(|plan| if allows(plan, action, &resource) { 'x' } else { '.' })
            .collect();
        assert_eq!(found, expected, "{} {resource}", action.id());
    }
}

#[test]
fn a_pragma_that_is_given_anything_is_a_write() {
    let plan = store().plan(&Principal::profile("walkin")).unwrap();
    let asked = |pragma: &str, argument: Option<&str>| {
        let context: Vec<_> = argument
            .map(|text| ("argument", Value::Text(text.to_owned())))
            .into_iter()
            .collect();
        let resource = Resource::pragma(pragma);
        plan.decide(&Question {
            action: Action::Sql(SqlAction::Pragma),
            resource: &resource,
            context: &context,
        })
        .allowed
    };
    assert!(asked("user_version", None));
    assert!(!asked("user_version", Some("7")));
    assert!(!asked("user_version", Some("")));
    assert!(asked("TABLE_INFO", Some("notes")));
    assert!(!asked("max_page_count", None));
}

#[test]
fn bits_need_no_cedar() {
    let plan = store().plan(&Principal::profile("walkin")).unwrap();
    assert_eq!(plan.bit(Action::Sql(SqlAction::Select)), Some(true));
    assert_eq!(plan.bit(Action::Sql(SqlAction::Attach)), Some(false));
    assert_eq!(plan.bit(Action::Sql(SqlAction::Read)), None);
    let pure = store().plan(&Principal::profile("pure")).unwrap();
    assert!(Action::all().all(|action| pure.bit(action) == Some(false)));
}

#[test]
fn a_denial_names_the_policy_that_denies() {
    let plan = store().plan(&Principal::profile("walkin")).unwrap();
    let resource = Resource::path("/etc/passwd");
    let context = [("file", Value::Text("/etc/passwd".to_owned()))];
    let decision = plan.decide(&Question {
        action: Action::Sql(SqlAction::Attach),
        resource: &resource,
        context: &context,
    });
    assert!(!decision.allowed);
    assert_eq!(decision.policies, ["walkin-no-other-database"]);
    assert_eq!(
        store().locate("walkin-no-other-database").unwrap().source,
        "stock/walkin.cedar"
    );
}

#[test]
fn the_example_does_what_it_says() {
    let source = |name: &str, text: &str, kind| Source {
        name: name.to_owned(),
        text: text.to_owned(),
        kind,
    };
    let policies = include_str!("../examples/grants.cedar");
    let entities = include_str!("../examples/grants.entities.json");
    let sources = [
        source("grants.cedar", policies, SourceKind::Policies),
        source("grants.entities.json", entities, SourceKind::Entities),
    ];
    let store = PolicyStore::load(&sources, Stock::With).unwrap();
    let plan = store.plan(&Principal::profile("reports")).unwrap();
    let reads = |table: &str, column: &str| {
        allows(
            &plan,
            Action::Sql(SqlAction::Read),
            &Resource::column("main", table, column),
        )
    };
    assert!(reads("staff", "name") && reads("departments", "id") && reads("STAFF", "Name"));
    assert!(!reads("staff", "salary") && !reads("staff", "SALARY") && !reads("payroll", "name"));
    assert_eq!(plan.bound(Meter::Elapse), Bound::Limited(500));
    assert_eq!(
        plan.binding(Meter::Elapse),
        ["database-only-deadline", "reports-deadline"]
    );
    let reference = Reference::stock(&[policies], &[entities]);
    for principal in principals("reports") {
        compare_with_authorizer(&store.plan(&principal).unwrap(), &reference);
    }
}
