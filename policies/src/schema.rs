//! The vocabulary that policies are validated against, and what its annotations say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock};

use cedar_policy::{ActionConstraint, EntityId, EntityTypeName, EntityUid, Schema, SchemaFragment, Validator};

use crate::own_schema::Own;
use crate::principal::PrincipalKind;
use crate::resource::ResourceKind;

/// The schema's text.
pub(crate) const TEXT: &str = include_str!("../schema.cedarschema");

/// The schema, and the parts of it that Cedar keeps but does not use.
pub(crate) struct Vocabulary {
    /// It has the schema: a validator that is made anew takes one of its own, which costs more than most policies.
    pub(crate) validator: Validator,
    /// The part of the schema that is built in.
    pub(crate) fragment: SchemaFragment,
    /// The built-in actions that can be asked about, by id. Groups are not among them.
    pub(crate) actions: BTreeMap<String, ActionInfo>,
    /// What somebody's own schema adds.
    pub(crate) own: Own,
}

/// One action that can be asked about.
#[derive(Clone)]
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

static VOCABULARY: LazyLock<Result<Arc<Vocabulary>, String>> = LazyLock::new(|| Vocabulary::read().map(Arc::new));

/// The built-in vocabulary, read once.
pub(crate) fn vocabulary() -> Result<&'static Arc<Vocabulary>, &'static str> {
    VOCABULARY.as_ref().map_err(String::as_str)
}

impl Vocabulary {
    /// The schema that everything is validated against.
    pub(crate) fn schema(&self) -> &Schema {
        self.validator.schema()
    }

    fn read() -> Result<Self, String> {
        let (fragment, _) = SchemaFragment::from_cedarschema_str(TEXT).map_err(|error| error.to_string())?;
        let schema = Schema::from_schema_fragments([fragment.clone()]).map_err(|error| error.to_string())?;
        let action_entities = schema.action_entities().map_err(|error| error.to_string())?;
        let groups: BTreeSet<&EntityUid> = schema.action_groups().collect();
        // A group applies to nothing; an action that happens to have members as well would still be asked about.
        let is_asked = |uid: &&EntityUid| !groups.contains(uid) || applies(&schema, uid);
        let asked: Vec<&EntityUid> = schema.actions().filter(is_asked).collect();
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
        Ok(Self {
            validator: Validator::new(schema),
            fragment,
            actions,
            own: Own::default(),
        })
    }

    /// The built-in actions that a policy's scope lets through. `Shop::Action::"read"` is none of them.
    pub(crate) fn covered(&self, constraint: &ActionConstraint) -> Vec<&str> {
        let built_in = |uids: &[EntityUid]| -> Vec<String> {
            let is_built_in = |uid: &&EntityUid| type_of(uid) == "Action";
            uids.iter().filter(is_built_in).map(|uid| id(uid).to_owned()).collect()
        };
        let (named, with_groups) = match constraint {
            ActionConstraint::Any => return self.actions.keys().map(String::as_str).collect(),
            ActionConstraint::Eq(uid) => (built_in(std::slice::from_ref(uid)), false),
            ActionConstraint::In(uids) => (built_in(uids), true),
        };
        let is_covered = |name: &String, info: &ActionInfo| {
            named.contains(name) || with_groups && named.iter().any(|group| info.groups.contains(group))
        };
        self.actions
            .iter()
            .filter(|(name, info)| is_covered(name, info))
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

/// Whether the action can be done to anything.
pub(crate) fn applies(schema: &Schema, action: &EntityUid) -> bool {
    schema
        .resources_for_action(action)
        .is_some_and(|mut types| types.next().is_some())
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

/// The types that questions are made of. Parsing a name takes longer than the rest of a uid.
static COMMON_TYPES: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
    let kinds = ResourceKind::ALL.iter().map(|kind| kind.name());
    let askers = PrincipalKind::ALL.iter().map(|kind| kind.name());
    let names = kinds.chain(askers).chain(["Action", "Meter"]);
    names
        .filter_map(|name| Some((name, EntityTypeName::from_str(name).ok()?)))
        .collect()
});

/// An entity type of the schema.
pub(crate) fn type_name(name: &str) -> Result<EntityTypeName, String> {
    match COMMON_TYPES.get(name) {
        Some(type_) => Ok(type_.clone()),
        None => EntityTypeName::from_str(name).map_err(|error| error.to_string()),
    }
}

/// An entity's uid. The id needs no escaping.
pub(crate) fn uid(type_: &str, id: &str) -> Result<EntityUid, String> {
    Ok(EntityUid::from_type_name_and_id(type_name(type_)?, EntityId::new(id)))
}
