//! What stands around a policy: the names that its author could have meant instead.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::compile::Ready;
use crate::schema::{Vocabulary, id, type_of};
use crate::vocabulary::{Action, Meter};

/// The entities that policies and entity files name, and the vocabulary.
pub(crate) struct Surroundings<'a> {
    vocabulary: &'a Vocabulary,
    named: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn of(ready: &Ready, vocabulary: &'a Vocabulary) -> Self {
        let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut add = |uid: &cedar_policy::EntityUid| {
            named.entry(type_of(uid)).or_default().insert(id(uid).to_owned());
        };
        for loaded in &ready.policies {
            loaded.policy.entity_literals().iter().for_each(&mut add);
        }
        ready.entities.iter().for_each(|entity| add(&entity.uid()));
        Self { vocabulary, named }
    }

    /// The next entity of the same type, in the order of the alphabet; after the last comes the first.
    pub(crate) fn sibling(&self, entity: &Json) -> Option<Json> {
        let (type_, own) = (entity.get("type")?.as_str()?, entity.get("id")?.as_str()?);
        if type_ == "Action" {
            return sibling_action(entity);
        }
        let named = self.named.get(type_)?;
        let other = after(named.iter().map(String::as_str), own)?;
        Some(json!({ "type": type_, "id": other }))
    }

    /// The groups that all of these are in, and that hold more than these.
    pub(crate) fn groups_over(&self, named: &[&Json]) -> Vec<Json> {
        let names: Vec<&str> = named.iter().filter_map(|action| action.get("id")?.as_str()).collect();
        let is_named = |action: &str, groups: &BTreeSet<String>| {
            names.iter().any(|name| *name == action || groups.contains(*name))
        };
        let covered: Vec<&BTreeSet<String>> = self
            .vocabulary
            .actions
            .iter()
            .filter(|(action, info)| is_named(action, &info.groups))
            .map(|(_, info)| &info.groups)
            .collect();
        let Some((first, others)) = covered.split_first() else {
            return Vec::new();
        };
        first
            .iter()
            .filter(|group| others.iter().all(|groups| groups.contains(*group)))
            .filter(|group| self.vocabulary.members(group).count() > covered.len())
            .map(|group| json!({ "type": "Action", "id": group }))
            .collect()
    }
}

/// The next action that is asked about the same kind of thing with the same context.
pub(crate) fn sibling_action(action: &Json) -> Option<Json> {
    let own = action.get("id")?.as_str()?;
    let others: BTreeSet<&str> = match (Meter::from_action(own), Action::from_id(own)) {
        (Some(meter), _) => {
            let alike = |other: &&Meter| other.unit() == meter.unit() && other.resource() == meter.resource();
            Meter::ALL.iter().filter(alike).map(|other| other.action()).collect()
        }
        (None, Some(action)) => {
            let alike = |other: &Action| other.resource() == action.resource() && other.context() == action.context();
            Action::all().filter(alike).map(Action::id).collect()
        }
        (None, None) => return None,
    };
    let other = after(others.iter().copied(), own)?;
    Some(json!({ "type": "Action", "id": other }))
}

fn after<'a>(mut sorted: impl Iterator<Item = &'a str> + Clone, own: &str) -> Option<&'a str> {
    let first = sorted.clone().find(|name| *name != own);
    sorted.find(|name| *name > own).or(first)
}
