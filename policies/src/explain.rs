//! What the schema says about an action.

use serde::Serialize;

use crate::schema::vocabulary;
use crate::vocabulary::{Action, Meter, Unit};

/// What kind of action it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// A limit that is enforced.
    Meter,
    /// Asked by SQLite's authorizer.
    Sql,
    /// Asked by a host function.
    Host,
    /// Nothing in this runtime asks about it.
    Reserved,
}

/// What the schema says about one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionDoc {
    /// The action's id.
    pub id: String,
    /// What it means.
    pub doc: String,
    /// What kind of action it is.
    pub kind: ActionKind,
    /// The layers that enforce it.
    pub layers: Vec<String>,
    /// Why nothing asks about it, where nothing does.
    pub reserved: Option<String>,
    /// What a meter counts in.
    pub unit: Option<Unit>,
    /// What other systems call it.
    pub covers: Vec<String>,
}

/// What the schema says about an action; nothing for a group or an unknown id.
#[must_use]
pub fn describe(action_id: &str) -> Option<ActionDoc> {
    let info = vocabulary().ok()?.actions.get(action_id)?;
    let words = |annotation: &str, between: char| -> Vec<String> {
        let text = info.annotation(annotation).unwrap_or_default();
        text.split(between)
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let kind = match Action::from_id(action_id) {
        Some(Action::Sql(_)) => ActionKind::Sql,
        Some(Action::Host(_)) => ActionKind::Host,
        None if Meter::from_action(action_id).is_some() => ActionKind::Meter,
        None => ActionKind::Reserved,
    };
    Some(ActionDoc {
        id: action_id.to_owned(),
        doc: info.annotation("doc").unwrap_or_default().to_owned(),
        kind,
        layers: words("layer", ','),
        reserved: info.annotation("reserved").map(str::to_owned),
        unit: Unit::ALL
            .iter()
            .copied()
            .find(|unit| Some(unit.name()) == info.annotation("unit")),
        covers: words("covers", ' '),
    })
}

/// Every action that can be described, sorted by id: what is enforced and what is reserved.
#[must_use]
pub fn action_ids() -> Vec<&'static str> {
    vocabulary()
        .map(|vocabulary| vocabulary.actions.keys().map(String::as_str).collect())
        .unwrap_or_default()
}
