//! Grants that reach out of the database or switch a guard off, and that nobody has given a reason for.

use std::collections::BTreeSet;

use cedar_policy::Effect;

use super::{Reviewed, listed};
use crate::finding::{Code, Finding};
use crate::parse::LoadedPolicy;
use crate::plan::Plan;
use crate::vocabulary::{Action, Question, Resource, SqlAction, Value};

/// Functions that are dangerous by themselves: code of a file, a pointer out of SQL, and what shells and hosts add.
const FUNCTIONS: &[&str] = &[
    "load_extension",
    "fts3_tokenizer",
    "readfile",
    "writefile",
    "edit",
    "sqlite_log",
];

/// Pragmas that switch a guard off, undo a bound, or name a folder of the host.
const PRAGMAS: &[&str] = &[
    "writable_schema", // writes sqlite_master: any bytes become the schema
    "trusted_schema",  // lets views and triggers of a hostile file call every function
    "cell_size_check", // off: a corrupt file is believed
    "ignore_check_constraints",
    "journal_mode",    // off: a crash corrupts the file
    "mmap_size",       // an error of the disk becomes a crash of the process
    "max_page_count",  // undoes `growDatabase`
    "hard_heap_limit", // undoes `growHeap`
    "soft_heap_limit",
    "query_only",
    "temp_store_directory", // any folder of the host
    "data_store_directory",
];

/// Actions that are dangerous on whatever resource.
const ACTIONS: &[SqlAction] = &[SqlAction::Attach, SqlAction::CreateVtable];

/// Groups whose actions leave the process. Nothing asks about them yet; on the day that something does, the grant is there.
const GROUPS: &[&str] = &["network", "files", "process", "extension", "databaseAdmin"];

/// Permits that grant something dangerous without an `@reason`.
pub(super) fn dangerous_grants(reviewed: &Reviewed<'_>) -> Vec<Finding> {
    let unexplained = reviewed.policies().filter(|policy| {
        let reason = policy.policy.annotation("reason").unwrap_or_default();
        policy.policy.effect() == Effect::Permit && reason.trim().is_empty()
    });
    unexplained
        .filter_map(|policy| {
            let dangers = dangers(policy, reviewed);
            (!dangers.is_empty()).then(|| {
                let dangers = shortened(&dangers);
                Finding::warning(
                    Code::DangerousGrant,
                    format!("`{}` grants {dangers} and says no reason", policy.id),
                )
                .with_help("narrow it to what is needed, or say why it is: `@reason(\"…\")`")
                .at(Some(policy.location.clone()))
            })
        })
        .collect()
}

/// The first few, and how many more.
fn shortened(dangers: &BTreeSet<String>) -> String {
    const SHOWN: usize = 3;
    let first = dangers.iter().take(SHOWN).map(String::as_str);
    match dangers.len().saturating_sub(SHOWN) {
        0 => listed(first),
        more => {
            let first: Vec<String> = first.map(|name| format!("`{name}`")).collect();
            format!("{} and {more} more", first.join(", "))
        }
    }
}

/// What dangerous things a policy grants: what some profile is allowed because of it, and what is reserved.
fn dangers(policy: &LoadedPolicy, reviewed: &Reviewed<'_>) -> BTreeSet<String> {
    let mut dangers: BTreeSet<String> = reviewed
        .plans
        .values()
        .flat_map(|plan| {
            let whole = ACTIONS.iter().map(|action| Action::Sql(*action));
            let whole = whole.filter(|action| plan.bit(*action) != Some(false) && takes_part(plan, *action, policy));
            whole
                .map(|action| action.id().to_owned())
                .chain(functions(plan, policy))
                .chain(pragmas(plan, policy))
        })
        .collect();
    let reserved = GROUPS.iter().filter(|group| {
        let mut members = reviewed
            .vocabulary
            .members(group)
            .filter(|(_, info)| info.is_reserved());
        members.any(|(action, _)| policy.covers(action))
    });
    dangers.extend(reserved.map(|group| (*group).to_owned()));
    dangers
}

fn takes_part(plan: &Plan, action: Action, policy: &LoadedPolicy) -> bool {
    policy.covers(action.id()) && plan.taking_part(action).contains(&policy.id)
}

fn functions(plan: &Plan, policy: &LoadedPolicy) -> Vec<String> {
    let action = Action::Sql(SqlAction::CallFunction);
    if !takes_part(plan, action, policy) {
        return Vec::new();
    }
    let granted = FUNCTIONS
        .iter()
        .filter(|name| is_granted_by(plan, policy, action, &Resource::sql_function(name), &[]));
    granted.map(|name| (*name).to_owned()).collect()
}

/// A pragma is dangerous with an argument: without one it only reads.
fn pragmas(plan: &Plan, policy: &LoadedPolicy) -> Vec<String> {
    let action = Action::Sql(SqlAction::Pragma);
    if !takes_part(plan, action, policy) {
        return Vec::new();
    }
    let given = ["1", "on", "off", "/tmp"].map(|argument| [("argument", Value::Text(argument.to_owned()))]);
    let granted = PRAGMAS.iter().filter(|name| {
        let pragma = Resource::pragma(name);
        given
            .iter()
            .any(|context| is_granted_by(plan, policy, action, &pragma, context))
    });
    granted.map(|name| format!("pragma {name}")).collect()
}

fn is_granted_by(
    plan: &Plan,
    policy: &LoadedPolicy,
    action: Action,
    resource: &Resource,
    context: &[(&'static str, Value)],
) -> bool {
    let decision = plan.decide(&Question {
        action,
        resource,
        context,
    });
    decision.allowed && decision.policies.contains(&policy.id)
}
