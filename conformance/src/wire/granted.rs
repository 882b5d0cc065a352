//! A plan on the wire, and the answers to what it leaves to be asked.

use stockade_policies::{Action, Bound, Meter, Plan, Question, Resource, ResourceKind, Value};

use super::message::{Ask, Grant, WirePlan};

/// The plan as an adapter is told it.
pub(super) fn told(plan: &Plan) -> WirePlan {
    let bound = |meter: &Meter| (meter.action().to_owned(), plan.bound(*meter).limit());
    let grant = |action: Action| {
        let grant = match plan.bit(action) {
            Some(true) => Grant::Granted,
            Some(false) => Grant::Denied,
            None => Grant::Ask,
        };
        (action.id().to_owned(), grant)
    };
    WirePlan {
        bounds: Meter::ALL.iter().map(bound).collect(),
        actions: Action::all().map(grant).collect(),
    }
}

/// Whether the plan grants it. What cannot be named cannot be granted.
pub(super) fn decided(plan: &Plan, ask: &Ask) -> bool {
    let Some(action) = Action::from_id(&ask.action) else {
        return false;
    };
    let Some(resource) = resource(action.resource(), &ask.resource) else {
        return false;
    };
    let attributes = action.context().iter();
    let context: Vec<_> = attributes
        .filter_map(|attribute| {
            let value = ask.context.get(attribute.name)?;
            Some((attribute.name, Value::Text(value.clone())))
        })
        .collect();
    if context.len() != ask.context.len() {
        return false;
    }
    let question = Question {
        action,
        resource: &resource,
        context: &context,
    };
    plan.decide(&question).allowed
}

fn resource(kind: ResourceKind, names: &[String]) -> Option<Resource> {
    Some(match (kind, names) {
        (ResourceKind::HostFunction, [id]) => Resource::host_function(id),
        (ResourceKind::Database, [name]) => Resource::database(name),
        (ResourceKind::Table, [database, table]) => Resource::table(database, table),
        (ResourceKind::Column, [database, table, column]) => Resource::column(database, table, column),
        (ResourceKind::SqlFunction, [name]) => Resource::sql_function(name),
        (ResourceKind::Pragma, [name]) => Resource::pragma(name),
        (ResourceKind::Path, [path]) => Resource::path(path),
        _ => return None,
    })
}

/// The bound in milliseconds, where there is one.
pub(super) fn millis(plan: &Plan, meter: Meter) -> Option<u64> {
    match plan.bound(meter) {
        Bound::Limited(most) => Some(most),
        Bound::Unbounded => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stockade_policies::{PolicyStore, Principal};

    use super::*;

    fn asked(action: &str, resource: &[&str], context: &[(&str, &str)]) -> bool {
        let plan = PolicyStore::stock()
            .unwrap()
            .plan(&Principal::profile("database-only"))
            .unwrap();
        let owned = |text: &&str| (*text).to_owned();
        let context: BTreeMap<_, _> = context
            .iter()
            .map(|(name, value)| (owned(name), owned(value)))
            .collect();
        decided(
            &plan,
            &Ask {
                case: String::new(),
                action: action.to_owned(),
                resource: resource.iter().map(owned).collect(),
                context,
            },
        )
    }

    #[test]
    fn what_is_granted_is_and_what_cannot_be_named_is_not() {
        assert!(asked("read", &["main", "notes", "body"], &[]));
        assert!(asked("read", &["main", "notes", "body"], &[("trigger", "t")]));
        // A table is no column, nobody knows this action, and a pragma has no such attribute.
        assert!(!asked("read", &["main", "notes"], &[]));
        assert!(!asked("peruse", &["main", "notes", "body"], &[]));
        assert!(!asked("read", &["main", "notes", "body"], &[("argument", "1")]));
        assert!(!asked("read", &["other", "notes", "body"], &[]));
    }
}
