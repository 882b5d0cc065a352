//! The vocabulary that policies are validated against, and what its annotations say.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::{ActionConstraint, EntityId, EntityTypeName, EntityUid, Schema, SchemaFragment};

/// The schema's text.
pub(crate) const TEXT: &str = include_str!("../schema.cedarschema");

/// The schema, and the parts of it that Cedar keeps but does not use.
pub(crate) struct Vocabulary {
    pub(crate) schema: Schema,
    /// The actions that can be asked about, by id. Groups are not among them.
    pub(crate) actions: BTreeMap<String, ActionInfo>,
}

/// One action that can be asked about.
pub(crate) struct ActionInfo {
    pub(crate) annotations: BTreeMap<String, String>,
    /// Every group that the action is in, directly or not.
    pub(crate) groups: BTreeSet<String>,
}

impl ActionInfo {
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// Nothing in this runtime asks about it.
    pub(crate) fn is_reserved(&self) -> bool {
        self.annotations.contains_key("reserved")
    }
}

static VOCABULARY: LazyLock<Result<Vocabulary, String>> = LazyLock::new(Vocabulary::read);

/// The vocabulary, read once.
pub(crate) fn vocabulary() -> Result<&'static Vocabulary, &'static str> {
    VOCABULARY.as_ref().map_err(String::as_str)
}

impl Vocabulary {
    fn read() -> Result<Self, String> {
        let (fragment, _) = SchemaFragment::from_cedarschema_str(TEXT).map_err(|error| error.to_string())?;
        let schema = Schema::from_schema_fragments([fragment.clone()]).map_err(|error| error.to_string())?;
        let action_entities = schema.action_entities().map_err(|error| error.to_string())?;
        let groups: BTreeSet<&EntityUid> = schema.action_groups().collect();
        // A group applies to nothing; an action that happens to have members as well would still be asked about.
        let asked: Vec<&EntityUid> = schema
            .actions()
            .filter(|uid| {
                !groups.contains(uid)
                    || schema
                        .resources_for_action(uid)
                        .is_some_and(|mut of| of.next().is_some())
            })
            .collect();
        let mut actions = BTreeMap::new();
        for uid in asked {
            actions.insert(
                id(uid).to_owned(),
                ActionInfo {
                    annotations: annotations(&fragment, uid),
                    groups: action_entities
                        .ancestors(uid)
                        .into_iter()
                        .flatten()
                        .map(|group| id(group).to_owned())
                        .collect(),
                },
            );
        }
        Ok(Self { schema, actions })
    }

    /// The actions that a policy's scope lets through.
    pub(crate) fn covered(&self, constraint: &ActionConstraint) -> Vec<&str> {
        let named = |uids: &[EntityUid], name: &str, info: &ActionInfo| {
            uids.iter().any(|uid| id(uid) == name || info.groups.contains(id(uid)))
        };
        self.actions
            .iter()
            .filter(|(name, info)| match constraint {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(uid) => id(uid) == name.as_str(),
                ActionConstraint::In(uids) => named(uids, name, info),
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The actions that are in this group.
    pub(crate) fn members<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (&'a str, &'a ActionInfo)> {
        self.actions
            .iter()
            .filter(move |(_, info)| info.groups.contains(group))
            .map(|(name, info)| (name.as_str(), info))
    }
}

fn annotations(fragment: &SchemaFragment, action: &EntityUid) -> BTreeMap<String, String> {
    fragment
        .action_annotations(None, action.id())
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.to_string(), value.to_owned()))
        .collect()
}

/// The id as it is written between the quotes, without escapes.
pub(crate) fn id(uid: &EntityUid) -> &str {
    uid.id().unescaped()
}

/// The type as it is written before the quotes.
pub(crate) fn type_of(uid: &EntityUid) -> String {
    uid.type_name().to_string()
}

/// An entity type of the schema.
pub(crate) fn type_name(name: &str) -> Result<EntityTypeName, String> {
    EntityTypeName::from_str(name).map_err(|error| error.to_string())
}

/// An entity's uid. The id needs no escaping.
pub(crate) fn uid(type_: &str, id: &str) -> Result<EntityUid, String> {
    Ok(EntityUid::from_type_name_and_id(type_name(type_)?, EntityId::new(id)))
}
