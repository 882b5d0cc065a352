//! Guests that nobody has said anything about have the plan of anybody, in their own name.
//!
//! Compiling a plan takes Cedar a millisecond and more, and a host of strangers' code meets new modules all the time. But what
//! policies can tell of two modules in the same profile, signed by the same publisher or by none, is their digest and nothing
//! else. Where no policy asks for digests, and no policy and no entity has either of their names in it, both have the same plan
//! but for the name. So the plan of anybody is compiled once, and the name put into it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cedar_policy::{EntityUid, PrincipalConstraint, ResourceConstraint};
use serde_json::Value;

use crate::compile::{Ready, in_order};
use crate::load::sample;
use crate::parse::LoadedPolicy;
use crate::plan::{Content, OwnContent, Plan};
use crate::principal::{Principal, PrincipalKind};
use crate::schema::uid;

/// Anybodies kept: one for each profile and kind, and for each publisher who signed a guest in it.
const MOST: usize = 256;

/// The plans of anybody, of one policy set.
#[derive(Default)]
pub(crate) struct Anybodies {
    said: OnceLock<Option<Said>>,
    known: Mutex<HashMap<Principal, Option<Arc<Anybody>>>>,
}

/// What is said about particular guests.
struct Said {
    /// Everything that a policy or an entity names, declared or not.
    named: HashSet<EntityUid>,
    asks_for_digests: bool,
}

/// The plan of anybody, taken apart where its name is.
struct Anybody {
    content: Content,
    entities: Around,
    own_entities: Around,
}

/// Entities in the order of their uids, without the one whose plan it is.
#[derive(Default)]
struct Around {
    others: Vec<(String, String)>,
    itself: Option<Value>,
    is_absent: bool,
}

impl Anybodies {
    /// The plan of this principal, where it is anybody's. `compile` makes a plan in the usual way.
    ///
    /// Where anybody has no plan, nobody is told why: the words would be about somebody else.
    pub(crate) fn plan(
        &self,
        principal: &Principal,
        ready: &Ready,
        compile: impl FnOnce(&Principal) -> Option<Plan>,
    ) -> Option<Plan> {
        if principal.kind == PrincipalKind::Profile {
            return None;
        }
        let anybody = Principal {
            publisher: principal.publisher.clone(),
            ..sample(principal.kind, &principal.profile)
        };
        let said = self.said.get_or_init(|| Said::of(ready)).as_ref()?;
        if said.distinguishes(principal) || said.distinguishes(&anybody) {
            return None;
        }
        self.known(&anybody, compile)?.named(principal)
    }

    fn known(&self, anybody: &Principal, compile: impl FnOnce(&Principal) -> Option<Plan>) -> Option<Arc<Anybody>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(anybody) {
            return found.clone();
        }
        // Others need not wait for this one; it may be made twice, and is the same.
        let made = compile(anybody).and_then(|plan| Anybody::of(plan.content()));
        let made = made.map(Arc::new);
        let mut known = known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(anybody.clone(), made.clone());
        made
    }
}

impl Said {
    /// Nothing where it cannot be read: then anything may be said.
    fn of(ready: &Ready) -> Option<Self> {
        let mut named = HashSet::new();
        ready
            .policies
            .iter()
            .for_each(|policy| add_named_by(policy, &mut named));
        for entity in ready.entities.iter() {
            add_named_in(&in_order(entity).ok()?, &mut named);
        }
        Some(Self {
            named,
            asks_for_digests: ready.policies.iter().any(|loaded| loaded.asks_for("sha256")),
        })
    }

    /// Whether anything said may hold for this principal and not for others of its kind.
    fn distinguishes(&self, principal: &Principal) -> bool {
        let is_named = uid(principal.kind.name(), &principal.id).map_or(true, |uid| self.named.contains(&uid));
        is_named || (self.asks_for_digests && principal.sha256.is_some())
    }
}

/// The slots of a template are filled in the scope, where Cedar does not count them as literals.
fn add_named_by(loaded: &LoadedPolicy, named: &mut HashSet<EntityUid>) {
    match loaded.policy.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            named.insert(uid);
        }
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => {}
    }
    match loaded.policy.resource_constraint() {
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            named.insert(uid);
        }
        ResourceConstraint::Any | ResourceConstraint::Is(_) => {}
    }
    named.extend(loaded.policy.entity_literals());
}

/// An entity's own uid, its parents' and those that its attributes and tags are made of: whatever has a type and an id.
fn add_named_in(value: &Value, named: &mut HashSet<EntityUid>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| add_named_in(value, named)),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            if let (Some(type_), Some(id)) = (text("type"), text("id")) {
                // A record that only looks like one names nothing.
                named.extend(uid(type_, id).ok());
            }
            fields.values().for_each(|value| add_named_in(value, named));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Anybody {
    /// Nothing where the plan is not built as expected.
    fn of(content: &Content) -> Option<Self> {
        let around = |entities: &str| Around::of(entities, &content.principal);
        Some(Self {
            entities: around(&content.entities)?,
            own_entities: around(&content.own.entities)?,
            content: content.clone(),
        })
    }

    fn named(&self, principal: &Principal) -> Option<Plan> {
        let content = Content {
            principal: principal.clone(),
            entities: self.entities.with(principal)?,
            own: OwnContent {
                entities: self.own_entities.with(principal)?,
                ..self.content.own.clone()
            },
            ..self.content.clone()
        };
        Plan::new(content).ok()
    }
}

impl Around {
    fn of(entities: &str, principal: &Principal) -> Option<Self> {
        if entities.is_empty() {
            return Some(Self {
                is_absent: true,
                ..Self::default()
            });
        }
        let mut around = Self::default();
        let own_key = key(principal)?;
        for value in serde_json::from_str::<Vec<Value>>(entities).ok()? {
            let part = |name: &str| value.get("uid")?.get(name)?.as_str();
            let key = uid(part("type")?, part("id")?).ok()?.to_string();
            if key == own_key {
                around.itself = Some(value);
            } else {
                around.others.push((key, value.to_string()));
            }
        }
        Some(around)
    }

    /// The same, with this principal in the place where it belongs.
    fn with(&self, principal: &Principal) -> Option<String> {
        if self.is_absent {
            return Some(String::new());
        }
        let mut entities: Vec<&str> = self.others.iter().map(|(_, text)| text.as_str()).collect();
        let itself = match &self.itself {
            Some(itself) => Some(renamed(itself, principal)?.to_string()),
            None => None,
        };
        if let Some(itself) = &itself {
            let own_key = key(principal)?;
            let place = self.others.partition_point(|(key, _)| *key < own_key);
            entities.insert(place, itself);
        }
        Some(format!("[{}]", entities.join(",")))
    }
}

fn key(principal: &Principal) -> Option<String> {
    Some(uid(principal.kind.name(), &principal.id).ok()?.to_string())
}

/// The entity of anybody as this principal's.
fn renamed(itself: &Value, principal: &Principal) -> Option<Value> {
    let mut itself = itself.clone();
    *itself.get_mut("uid")?.get_mut("id")? = Value::String(principal.id.clone());
    if principal.kind == PrincipalKind::Module {
        let sha256 = principal.sha256.clone().unwrap_or_default();
        *itself.get_mut("attrs")?.get_mut("sha256")? = Value::String(sha256);
    }
    Some(itself)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Compiler;
    use crate::store::{PolicyStore, Source, SourceKind, Stock};

    const STRANGER: &str = "4f1c8d3e4f1c8d3e4f1c8d3e4f1c8d3e4f1c8d3e4f1c8d3e4f1c8d3e4f1c8d3e";

    fn store(policies: &str, entities: &str, schema: &str) -> PolicyStore {
        let mut sources = Vec::new();
        for (name, text, kind) in [
            ("a.cedar", policies, SourceKind::Policies),
            ("a.json", entities, SourceKind::Entities),
            ("a.cedarschema", schema, SourceKind::Schema),
        ] {
            if !text.is_empty() {
                sources.push(Source {
                    name: name.to_owned(),
                    text: text.to_owned(),
                    kind,
                });
            }
        }
        PolicyStore::load(&sources, Stock::With).unwrap()
    }

    fn compiled(store: &PolicyStore, principal: &Principal) -> Plan {
        let compiler = Compiler::new(store.ready(), store.vocabulary(), principal).unwrap();
        compiler.plan().unwrap()
    }

    /// The plan by the short way, where that is gone, which must be the one that is compiled.
    fn shortly(store: &PolicyStore, principal: &Principal) -> Option<Plan> {
        let short = Anybodies::default().plan(principal, store.ready(), |anybody| Some(compiled(store, anybody)));
        if let Some(short) = &short {
            let long = compiled(store, principal);
            assert_eq!(short.content(), long.content());
            assert_eq!(short.digest(), long.digest());
        }
        short
    }

    fn guests(profile: &str) -> [Principal; 6] {
        let without_digest = Principal {
            sha256: None,
            ..Principal::module("fedc", profile)
        };
        [
            without_digest,
            Principal::module(STRANGER, profile),
            Principal::module("fedc", profile),
            Principal::caller("guest", profile),
            Principal::caller("\"z\" \u{1f980}\n", profile),
            Principal::module(STRANGER, profile).signed_by("acme"),
        ]
    }

    #[test]
    fn a_stranger_has_the_plan_that_would_be_compiled_for_it() {
        let open = "@id(\"open\") forbid (principal, action == Action::\"read\", resource) \
                    when { resource == Column::\"main.secrets.key\" };";
        let publisher = r#"[{"uid": {"type": "Publisher", "id": "acme"}, "attrs": {}, "parents": []}]"#;
        for (policies, entities) in [("", ""), (open, ""), (open, publisher)] {
            let store = store(policies, entities, "");
            for profile in store.profiles() {
                for guest in guests(&profile) {
                    assert!(shortly(&store, &guest).is_some(), "{guest:?} {policies}");
                }
            }
        }
    }

    #[test]
    fn of_whom_something_is_said_has_a_plan_of_its_own() {
        let on = |scope: &str, condition: &str| {
            format!("@id(\"x\") forbid ({scope}, action == Action::\"elapse\", resource) {condition};")
        };
        let module = format!("Module::\"{STRANGER}\"");
        let other = Principal::module("fedc", "pure");
        let stranger = Principal::module(STRANGER, "pure");
        for policies in [
            on(&format!("principal == {module}"), ""),
            on("principal", &format!("when {{ principal == {module} }}")),
            // Names may be written with escapes.
            on(
                "principal",
                &format!("when {{ principal == {} }}", module.replace("4f1c", "\\u{34}f1c")),
            ),
        ] {
            let store = store(&policies, "", "");
            assert!(shortly(&store, &stranger).is_none(), "{policies}");
            assert_ne!(
                store.plan(&stranger).unwrap().digest(),
                store.plan(&other).unwrap().digest()
            );
            assert!(shortly(&store, &other).is_some(), "{policies}");
        }
        let digest = on(
            "principal",
            &format!("when {{ principal has sha256 && principal.sha256 == \"{STRANGER}\" }}"),
        );
        let store = store(&digest, "", "");
        assert!([&stranger, &other].iter().all(|guest| shortly(&store, guest).is_none()));
        assert!(shortly(&store, &Principal::caller("guest", "pure")).is_some());
    }

    #[test]
    fn a_digest_is_asked_for_in_whatever_way_it_is_written() {
        for written in [
            "principal has sha256",
            "principal[\"sha256\"] == \"\"",
            "principal[\"sh\\u{61}256\"] == \"\"",
        ] {
            let policy = format!(
                "@id(\"x\") forbid (principal is Module, action == Action::\"elapse\", resource) when {{ {written} }};"
            );
            let store = store(&policy, "", "");
            assert!(
                shortly(&store, &Principal::module(STRANGER, "pure")).is_none(),
                "{written}"
            );
        }
    }

    #[test]
    fn of_whom_an_entity_knows_has_a_plan_of_its_own() {
        let stranger = Principal::module(STRANGER, "pure");
        let declared = format!(
            r#"[{{"uid": {{"type": "Module", "id": "{STRANGER}"}}, "attrs": {{"sha256": "{STRANGER}"}}, "parents": []}}]"#
        );
        assert!(shortly(&store("", &declared, ""), &stranger).is_none());
        // What a policy reads of an entity may be the name of a guest.
        let schema =
            "entity Shop { favourite: Module }; action sell appliesTo { principal: [Module], resource: [Shop] };";
        let shop = format!(
            r#"[{{"uid": {{"type": "Shop", "id": "one"}}, "parents": [],
                "attrs": {{"favourite": {{"__entity": {{"type": "Module", "id": "{STRANGER}"}}}}}}}}]"#
        );
        let policy = "@id(\"sell\") permit (principal, action == Action::\"sell\", resource) \
                      when { principal == Shop::\"one\".favourite };";
        let store = store(policy, &shop, schema);
        assert!(shortly(&store, &stranger).is_none());
        assert!(shortly(&store, &Principal::module("fedc", "pure")).is_some());
    }

    #[test]
    fn where_anybody_itself_is_named_nobody_is_anybody() {
        let anybody = Principal::any_module("pure");
        let policy = format!(
            "@id(\"x\") forbid (principal == Module::\"{}\", action == Action::\"elapse\", resource);",
            anybody.id
        );
        assert!(shortly(&store(&policy, "", ""), &Principal::module(STRANGER, "pure")).is_none());
    }

    #[test]
    fn a_link_names_whom_its_slot_is_filled_with() {
        let template = "@id(\"t\") forbid (principal == ?principal, action == Action::\"elapse\", resource);";
        let links =
            format!(r#"[{{"template_id": "t", "link_id": "l", "args": {{"?principal": "Module::\"{STRANGER}\""}}}}]"#);
        let sources = [
            ("a.cedar", template, SourceKind::Policies),
            ("a.json", &links, SourceKind::Links),
        ]
        .map(|(name, text, kind)| Source {
            name: name.to_owned(),
            text: text.to_owned(),
            kind,
        });
        let store = PolicyStore::load(&sources, Stock::With).unwrap();
        assert!(shortly(&store, &Principal::module(STRANGER, "pure")).is_none());
        assert!(shortly(&store, &Principal::module("fedc", "pure")).is_some());
    }
}
