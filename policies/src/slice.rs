//! Which of many policies can have a say about one resource.
//!
//! Cedar looks at every policy of a set, for every question. A policy whose scope names a resource has a say only about
//! that one and what is in it, so the others need not be shown. What is left out could neither decide nor err: Cedar
//! evaluates a scope before anything else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cedar_policy::{EntityUid, Policy, PolicySet, ResourceConstraint};

/// Guests choose what they ask about, so what is kept has a size.
const MOST_KEPT: usize = 256;

/// Policies about one action, sorted by the resources that their scopes name.
pub(crate) struct Slices {
    policies: Vec<Policy>,
    /// The places of the policies that name this resource.
    by_resource: HashMap<EntityUid, Vec<usize>>,
    /// The places of those that name none.
    unscoped: Vec<usize>,
    /// The sets that were made before, by the places of their policies.
    kept: Mutex<HashMap<Vec<usize>, Arc<PolicySet>>>,
}

impl Slices {
    pub(crate) fn of(policies: Vec<Policy>) -> Self {
        let mut by_resource: HashMap<EntityUid, Vec<usize>> = HashMap::new();
        let mut unscoped = Vec::new();
        for (place, policy) in policies.iter().enumerate() {
            match policy.resource_constraint() {
                ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                    by_resource.entry(uid).or_default().push(place);
                }
                ResourceConstraint::Any | ResourceConstraint::Is(_) => unscoped.push(place),
            }
        }
        Self {
            policies,
            by_resource,
            unscoped,
            kept: Mutex::default(),
        }
    }

    /// The policies that can have a say about something that is, or is in, these.
    pub(crate) fn about<'a>(&self, names: impl Iterator<Item = &'a EntityUid>) -> Result<Arc<PolicySet>, String> {
        let named = names.filter_map(|name| self.by_resource.get(name)).flatten();
        let mut places: Vec<usize> = self.unscoped.iter().chain(named).copied().collect();
        places.sort_unstable();
        places.dedup();
        // A lock that another thread poisoned costs time, not safety: the set is made afresh.
        if let Ok(kept) = self.kept.lock()
            && let Some(set) = kept.get(&places)
        {
            return Ok(Arc::clone(set));
        }
        let chosen = places.iter().filter_map(|place| self.policies.get(*place)).cloned();
        let set = Arc::new(PolicySet::from_policies(chosen).map_err(|error| error.to_string())?);
        if let Ok(mut kept) = self.kept.lock() {
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(places, Arc::clone(&set));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::PolicyId;

    use super::*;

    fn slices(policies: &[(&str, &str)]) -> Slices {
        let parsed = policies.iter().map(|(id, scope)| {
            let text = format!("permit (principal, action, {scope});");
            Policy::parse(Some(PolicyId::new(id)), text).unwrap()
        });
        Slices::of(parsed.collect())
    }

    fn about(slices: &Slices, names: &[&str]) -> Vec<String> {
        let names: Vec<EntityUid> = names.iter().map(|name| name.parse().unwrap()).collect();
        let set = slices.about(names.iter()).unwrap();
        let mut ids: Vec<String> = set.policies().map(|policy| policy.id().to_string()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_policy_that_names_something_else_is_left_out() {
        let slices = slices(&[
            ("all", "resource"),
            ("columns", "resource is Column"),
            ("one", "resource == Column::\"main.t.c\""),
            ("table", "resource in Table::\"main.t\""),
            ("both", "resource is Column in Table::\"main.u\""),
        ]);
        let column = ["Column::\"main.t.c\"", "Table::\"main.t\"", "Database::\"main\""];
        assert_eq!(about(&slices, &column), ["all", "columns", "one", "table"]);
        assert_eq!(
            about(&slices, &["Column::\"main.u.c\"", "Table::\"main.u\""]),
            ["all", "both", "columns"]
        );
        assert_eq!(about(&slices, &["Column::\"main.v.c\""]), ["all", "columns"]);
    }

    #[test]
    fn many_names_do_not_keep_many_sets() {
        let names: Vec<(String, String)> = (0..400)
            .map(|index| (format!("p{index}"), format!("resource == Pragma::\"{index}\"")))
            .collect();
        let policies: Vec<(&str, &str)> = names.iter().map(|(id, scope)| (id.as_str(), scope.as_str())).collect();
        let slices = slices(&policies);
        for index in 0..400 {
            let name = format!("Pragma::\"{index}\"");
            assert_eq!(about(&slices, &[&name]), [format!("p{index}")]);
        }
        assert!(slices.kept.lock().unwrap().len() <= MOST_KEPT);
    }
}
