//! What is true of every request that the runtime makes, as Cedar conditions.
//!
//! A solver answers for every entity store that fits the schema, a store where everybody is in every profile among them.
//! What keeps to the declared entities is said here: where a guest of a profile stands, and what follows from a resource's
//! name. A fact that is missing can only spoil a proof, never make one; a fact that is wrong could, so a test holds all
//! of them against requests as the runtime makes them.

use std::collections::BTreeSet;

use cedar_policy::{Entity, EntityUid, EvalResult, Policy};

use crate::compile::Ready;
use crate::principal::PrincipalKind;
use crate::publisher::{PUBLISHER, keys};
use crate::resource::{Resource, ResourceKind};
use crate::schema::{id, type_of, uid};
use crate::vocabulary::Meter;

/// One kind of request: who asks by type, what for, and on what type of thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) principal: PrincipalKind,
    pub(super) action: String,
    pub(super) resource: String,
}

/// Where a principal stands: it, and everything that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    kind: PrincipalKind,
    /// One that is declared, or anybody who is not.
    who: Option<EntityUid>,
    /// The publisher who signed it.
    signer: Option<EntityUid>,
    /// Everybody of its type who is declared: anybody else is none of them.
    declared: Vec<EntityUid>,
    within: BTreeSet<EntityUid>,
    /// What its attributes are, where they are known.
    attributes: Vec<String>,
}

/// The entities that policies name: what no policy names makes no difference to any.
pub(super) fn named<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> BTreeSet<EntityUid> {
    policies.into_iter().flat_map(Policy::entity_literals).collect()
}

/// Everybody of this type who can run in the profile, as the compiler puts them there: guests that are declared nowhere are
/// in it alone, and declared ones are where they were declared, which may be in other profiles as well.
pub(super) fn standings(ready: &Ready, kind: PrincipalKind, profile: &str) -> Result<Vec<Standing>, String> {
    let profile = uid("Profile", profile)?;
    let inside = with_ancestors(ready, &profile);
    if kind == PrincipalKind::Profile {
        return Ok(vec![Standing {
            kind,
            who: Some(profile),
            signer: None,
            declared: Vec::new(),
            within: inside,
            attributes: Vec::new(),
        }]);
    }
    let rows: Vec<&Entity> = ready
        .entities
        .iter()
        .filter(|row| type_of(&row.uid()) == kind.name())
        .collect();
    let mut standings = vec![Standing {
        kind,
        who: None,
        signer: None,
        declared: rows.iter().map(|row| row.uid()).collect(),
        within: inside.clone(),
        attributes: match kind {
            PrincipalKind::Caller => vec!["!(principal has tenant)".to_owned()],
            PrincipalKind::Module | PrincipalKind::Profile => Vec::new(),
        },
    }];
    for row in rows {
        let mut within = with_ancestors(ready, &row.uid());
        let is_free = !within.iter().any(|above| type_of(above) == "Profile");
        if is_free {
            within.extend(inside.iter().cloned());
        }
        if within.contains(&profile) {
            standings.push(Standing {
                kind,
                who: Some(row.uid()),
                signer: None,
                declared: Vec::new(),
                within,
                attributes: attributes(row),
            });
        }
    }
    if kind == PrincipalKind::Module {
        let signed = signed(ready, &standings)?;
        standings.extend(signed);
    }
    Ok(standings)
}

/// Where each of these modules stands once a publisher has signed it.
fn signed(ready: &Ready, standings: &[Standing]) -> Result<Vec<Standing>, String> {
    let mut signed = Vec::new();
    // Not only those that policies name: a property's own condition may name one.
    for key in keys(&ready.entities) {
        let signer = uid(PUBLISHER, &key.publisher)?;
        // One that is declared to be in it stands there already.
        let others = standings.iter().filter(|standing| !standing.within.contains(&signer));
        signed.extend(others.map(|standing| Standing {
            signer: Some(signer.clone()),
            within: standing.within.iter().cloned().chain([signer.clone()]).collect(),
            ..standing.clone()
        }));
    }
    Ok(signed)
}

fn with_ancestors(ready: &Ready, of: &EntityUid) -> BTreeSet<EntityUid> {
    let above = ready.entities.ancestors(of).into_iter().flatten().cloned();
    above.chain([of.clone()]).collect()
}

fn attributes(row: &Entity) -> Vec<String> {
    let text = |name: &str| match row.attr(name) {
        Some(Ok(EvalResult::String(text))) => Some(text),
        _ => None,
    };
    match type_of(&row.uid()).as_str() {
        "Module" => text("sha256")
            .map(|text| format!("principal.sha256 == {text:?}"))
            .into_iter()
            .collect(),
        "Caller" => vec![match text("tenant") {
            Some(text) => format!("(principal has tenant && principal.tenant == {text:?})"),
            None => "!(principal has tenant)".to_owned(),
        }],
        _ => Vec::new(),
    }
}

impl Standing {
    /// They are the same guest's, or both those of guests that are declared nowhere, and signed by the same publisher.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.who == other.who && self.signer == other.signer
    }

    /// It stands here, as far as the named entities can tell. `spelled` says how a profile is written in the policies.
    pub(super) fn condition(&self, named: &BTreeSet<EntityUid>, spelled: impl Fn(&EntityUid) -> EntityUid) -> String {
        let mut all: Vec<String> = Vec::new();
        match &self.who {
            Some(who) => all.push(format!("principal == {who}")),
            None => {
                all.extend(self.declared.iter().map(|other| format!("principal != {other}")));
                let modules = named
                    .iter()
                    .filter(|uid| self.kind == PrincipalKind::Module && type_of(uid) == "Module");
                all.extend(modules.map(own_digest));
            }
        }
        all.extend(self.attributes.iter().cloned());
        let groups = named.iter().filter(|uid| match type_of(uid).as_str() {
            "Profile" => true,
            "Publisher" => self.kind == PrincipalKind::Module,
            _ => false,
        });
        all.extend(groups.map(|group| {
            let not = if self.within.contains(group) { "" } else { "!" };
            format!("{not}(principal in {})", spelled(group))
        }));
        conjunction(&all)
    }
}

/// An undeclared module's id is the digest of its bytes, and so is its attribute.
fn own_digest(module: &EntityUid) -> String {
    format!("((principal == {module}) == (principal.sha256 == {:?}))", id(module))
}

/// What holds of every request of this kind, whoever asks.
pub(super) fn of_request(ready: &Ready, kind: &Kind, named: &BTreeSet<EntityUid>) -> String {
    let mut all = Vec::new();
    if let Some(meter) = Meter::from_action(&kind.action) {
        all.push(format!("resource == Meter::{:?}", meter.resource()));
        all.push(format!("context.{} >= 0", meter.unit().name()));
    }
    if let Some(resource) = ResourceKind::from_name(&kind.resource) {
        all.extend(named.iter().filter_map(|uid| {
            if resource.is_structural() {
                by_name(resource, uid)
            } else {
                by_declaration(ready, resource, uid)
            }
        }));
    }
    conjunction(&all)
}

/// What resources are in this entity because somebody declared them to be. What is not declared is in nothing.
fn by_declaration(ready: &Ready, resource: ResourceKind, above: &EntityUid) -> Option<String> {
    let is_group = matches!(
        (resource, type_of(above).as_str()),
        (ResourceKind::SqlFunction, "SqlFunctionClass") | (ResourceKind::HostFunction, "Capability")
    );
    if !is_group {
        return None;
    }
    let mut members: Vec<String> = ready
        .entities
        .iter()
        .map(Entity::uid)
        .filter(|uid| type_of(uid) == resource.name() && ready.entities.is_ancestor_of(above, uid))
        .map(|uid| uid.to_string())
        .collect();
    members.sort_unstable();
    Some(if members.is_empty() {
        format!("!(resource in {above})")
    } else {
        format!(
            "((resource in {above}) == ([{}].contains(resource)))",
            members.join(", ")
        )
    })
}

/// Which resources are this entity, or in it, as their attributes tell.
fn by_name(resource: ResourceKind, other: &EntityUid) -> Option<String> {
    let named = resource_of(other)?;
    let is = |attribute: &str, value: &str| format!("resource.{attribute} == {value:?}");
    let (relation, attributes) = match (resource, &named) {
        (ResourceKind::Database, Resource::Database(name))
        | (ResourceKind::Pragma, Resource::Pragma(name))
        | (ResourceKind::Namespace, Resource::Namespace(name))
        | (ResourceKind::Variable, Resource::Variable(name)) => ("==", is("name", name)),
        (ResourceKind::Table | ResourceKind::Column, Resource::Database(name)) => ("in", is("database", name)),
        (ResourceKind::Table, Resource::Table { database, table }) => {
            ("==", format!("{} && {}", is("name", table), is("database", database)))
        }
        (ResourceKind::Column, Resource::Table { database, table }) => {
            ("in", format!("{} && {}", is("table", table), is("database", database)))
        }
        (
            ResourceKind::Column,
            Resource::Column {
                database,
                table,
                column,
            },
        ) => (
            "==",
            format!(
                "{} && {} && {}",
                is("name", column),
                is("table", table),
                is("database", database)
            ),
        ),
        (ResourceKind::Path, Resource::Path(path)) => return Some(below(other, path)),
        _ => return None,
    };
    Some(format!("((resource {relation} {other}) == ({attributes}))"))
}

/// The resource that an entity in a policy stands for, if requests spell it so.
fn resource_of(uid: &EntityUid) -> Option<Resource> {
    let id = serde_json::to_string(id(uid)).ok()?;
    let resource: Resource = format!("{}::{id}", type_of(uid)).parse().ok()?;
    (resource.id() == self::id(uid)).then_some(resource)
}

/// A path is itself, and in every folder above it if it is canonical.
fn below(folder: &EntityUid, path: &str) -> String {
    let pattern = match path {
        "/" => "/*".to_owned(),
        path => format!("{}/*", pattern(path)),
    };
    let odd = ["*/", "*//*", "*/./*", "*/../*", "*/.", "*/.."].map(|odd| format!("resource.name like {odd:?}"));
    let holds_nothing = Resource::path(path).parents().is_empty() && path != "/";
    let is_below = if holds_nothing {
        "false".to_owned()
    } else {
        format!("resource.name like \"{pattern}\" && !({})", odd.join(" || "))
    };
    format!(
        "((resource == {folder}) == (resource.name == {path:?})) && \
         ((resource in {folder}) == (resource.name == {path:?} || ({is_below})))"
    )
}

/// As it is written in a pattern: a star stands for itself.
fn pattern(text: &str) -> String {
    text.escape_debug().to_string().replace('*', "\\*")
}

/// All of them; nothing said is true.
pub(super) fn conjunction(all: &[String]) -> String {
    if all.is_empty() {
        return "true".to_owned();
    }
    all.join(" && ")
}

/// At least one of them.
pub(super) fn disjunction(any: Vec<String>) -> String {
    let alternatives: Vec<String> = any.into_iter().map(|one| format!("({one})")).collect();
    if alternatives.is_empty() {
        return "false".to_owned();
    }
    alternatives.join(" || ")
}

#[cfg(test)]
mod tests {
    use cedar_policy::{Authorizer, Context, Decision, Entities, PolicySet, Request};

    use super::*;
    use crate::compile::Compiler;
    use crate::load::load;
    use crate::principal::Principal;
    use crate::residual::entity_of;
    use crate::schema::vocabulary;
    use crate::store::{Source, SourceKind, Stock};

    const PINNED: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
    const BOTH: &str = "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2";
    const FREE: &str = "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3";

    /// Declared guests: one pinned to a profile, one in two of them, one in none.
    const GUESTS: &str = r#"[
        {"uid": {"type": "Publisher", "id": "us"}, "attrs": {}, "parents": []},
        {"uid": {"type": "Publisher", "id": "acme"}, "attrs": {"ed25519": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}, "parents": []},
        {"uid": {"type": "Module", "id": "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}, "attrs": {"sha256": "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}, "parents": [{"type": "Profile", "id": "pure"}]},
        {"uid": {"type": "Module", "id": "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"}, "attrs": {"sha256": "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"}, "parents": [{"type": "Profile", "id": "pure"}, {"type": "Profile", "id": "trusted"}]},
        {"uid": {"type": "Module", "id": "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3"}, "attrs": {"sha256": "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3"}, "parents": [{"type": "Publisher", "id": "us"}]},
        {"uid": {"type": "Caller", "id": "ada"}, "attrs": {"tenant": "a\"b*"}, "parents": []},
        {"uid": {"type": "HostFunction", "id": "stockade#log"}, "attrs": {}, "parents": [{"type": "Capability", "id": "logs"}]},
        {"uid": {"type": "Capability", "id": "logs"}, "attrs": {}, "parents": []}
    ]"#;

    /// Names everything that there are facts about.
    const NAMES: &str = r#"
        permit (principal, action, resource) when {
            principal in [Profile::"pure", Profile::"trusted", Profile::"untrusted", Profile::"capabilities-minimal",
                Profile::"standard", Publisher::"us", Publisher::"them", Publisher::"acme", Module::"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", Module::"other"] ||
            resource in [SqlFunctionClass::"computing", SqlFunctionClass::"clock", Capability::"logs", Capability::"none",
                Database::"main", Database::"temp", Table::"main.notes", Table::"main.\"a.b\"", Column::"main.notes.body",
                Path::"/etc", Path::"/", Path::"/etc/passwd", Path::"/a*b", Path::"../x", Path::"", Pragma::"user_version"]
        };"#;

    fn resources() -> Vec<Resource> {
        let paths = [
            "/",
            "/etc",
            "/etc/passwd",
            "/etc/",
            "//etc",
            "/etc/../x",
            "/a*b",
            "/a*b/c",
            "/axb/c",
            "",
            "../x",
            "/etc/..",
            "/etc/./p",
        ];
        let mut all: Vec<Resource> = paths.map(Resource::path).to_vec();
        for name in ["abs", "date", "load_extension"] {
            all.push(Resource::sql_function(name));
        }
        for name in ["stockade#log", "env#system"] {
            all.push(Resource::host_function(name));
        }
        for name in ["main", "temp", "loot"] {
            all.push(Resource::database(name));
            for table in ["notes", "a.b", "sqlite_schema", ""] {
                all.push(Resource::table(name, table));
                all.push(Resource::column(name, table, "body"));
                all.push(Resource::column(name, table, ""));
            }
        }
        all.extend(["user_version", "cache_size"].map(Resource::pragma));
        all
    }

    fn principals(profile: &str) -> Vec<Principal> {
        let modules = [PINNED, BOTH, FREE, "other", "000"].map(|id| Principal::module(id, profile));
        let signed = modules.clone().map(|module| module.signed_by("acme"));
        let callers = ["ada", "anybody"].map(|id| Principal::caller(id, profile));
        modules
            .into_iter()
            .chain(signed)
            .chain(callers)
            .chain([Principal::profile(profile)])
            .collect()
    }

    /// Whether the authorizer finds a condition true.
    fn holds(condition: &str, request: &Request, entities: &Entities) -> bool {
        let set: PolicySet = format!("permit (principal, action, resource) when {{ {condition} }};")
            .parse()
            .unwrap();
        Authorizer::new().is_authorized(request, &set, entities).decision() == Decision::Allow
    }

    /// The most important test here: what is wrongly assumed would be wrongly proven.
    #[test]
    fn the_facts_are_true_of_every_request_as_the_runtime_makes_it() {
        let guests = Source {
            name: "guests.json".into(),
            text: GUESTS.into(),
            kind: SourceKind::Entities,
        };
        let ready = load(&[guests], Stock::With).ready.unwrap();
        let vocabulary = vocabulary().unwrap();
        let named = named(&[Policy::parse(None, NAMES).unwrap()]);
        let mut looked = 0;
        for profile in ["pure", "trusted", "untrusted", "capabilities-minimal"] {
            for who in principals(profile) {
                let Ok(compiler) = Compiler::new(&ready, vocabulary, &who) else {
                    assert!(who.id == PINNED || who.id == BOTH, "{who:?}");
                    continue;
                };
                let (principal, entities) = compiler.into_principal_and_entities();
                let standings = standings(&ready, who.kind, profile).unwrap();
                for resource in resources() {
                    let entity = match entities.get(&uid(resource.kind().name(), &resource.id()).unwrap()) {
                        Some(declared) => declared.clone(),
                        None => entity_of(&resource).unwrap(),
                    };
                    let around = entities.clone().upsert_entities([entity.clone()], None).unwrap();
                    let action = uid("Action", "read").unwrap();
                    let request =
                        Request::new(principal.clone(), action, entity.uid(), Context::empty(), None).unwrap();
                    let conditions = standings
                        .iter()
                        .map(|standing| standing.condition(&named, Clone::clone));
                    let stands = conditions
                        .filter(|condition| holds(condition, &request, &around))
                        .count();
                    assert_eq!(stands, 1, "{who:?}");
                    let kind = Kind {
                        principal: who.kind,
                        action: "read".into(),
                        resource: resource.kind().name().into(),
                    };
                    let fact = of_request(&ready, &kind, &named);
                    assert!(fact != "true", "{resource}");
                    assert!(holds(&fact, &request, &around), "{resource}: {fact}");
                    looked += 1;
                }
            }
        }
        assert!(looked > 500, "{looked}");
    }

    #[test]
    fn a_guest_of_one_profile_stands_in_no_other() {
        let ready = load(&[], Stock::With).ready.unwrap();
        let named = named(&[Policy::parse(None, NAMES).unwrap()]);
        let standings = standings(&ready, PrincipalKind::Module, "pure").unwrap();
        let conditions: Vec<String> = standings
            .iter()
            .map(|standing| standing.condition(&named, Clone::clone))
            .collect();
        let (principal, entities) = Compiler::new(&ready, vocabulary().unwrap(), &Principal::module("0", "trusted"))
            .unwrap()
            .into_principal_and_entities();
        let request = Request::new(
            principal,
            uid("Action", "elapse").unwrap(),
            uid("Meter", "guest").unwrap(),
            Context::empty(),
            None,
        )
        .unwrap();
        assert!(
            conditions
                .iter()
                .all(|condition| !holds(condition, &request, &entities))
        );
    }

    #[test]
    fn a_meter_is_asked_about_where_it_hangs_and_with_a_total() {
        let ready = load(&[], Stock::With).ready.unwrap();
        let kind = Kind {
            principal: PrincipalKind::Module,
            action: "elapse".into(),
            resource: "Meter".into(),
        };
        assert_eq!(
            of_request(&ready, &kind, &BTreeSet::new()),
            "resource == Meter::\"guest\" && context.millis >= 0"
        );
    }
}
