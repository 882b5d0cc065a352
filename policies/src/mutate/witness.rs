//! A question that tells a mutant from its original.
//!
//! Candidates are what either policy set names, and what stands near it: the next amount, another column of the table,
//! the text that a pattern nearly matches, a context with an attribute and without.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cedar_policy::{Entity, EntityUid};
use serde_json::Value as Json;

use crate::mutate::judge::Difference;
use crate::mutate::report::Example;
use crate::plan::{Bound, Plan};
use crate::principal::{Principal, PrincipalKind};
use crate::resource::{Resource, ResourceKind};
use crate::schema::{id, type_of};
use crate::store::PolicyStore;
use crate::vocabulary::{Action, Meter, Question, Value, ValueKind};

/// Questions put to one pair of plans before giving up.
const MOST_QUESTIONS: usize = 4096;
/// Pairs of plans that are asked.
const MOST_PLANS: usize = 16;

/// A question that tells a mutant from its original.
pub(crate) struct Witness {
    principal: Principal,
    asked: Asked,
    /// What the original answers.
    allowed: bool,
}

enum Asked {
    Amount(Meter, u64),
    Request(Action, Resource, Context),
    /// Whether there is a plan at all.
    Admission,
}

type Context = Vec<(&'static str, Value)>;

impl Witness {
    /// The first candidate that the two answer differently.
    pub(crate) fn find(original: &PolicyStore, mutant: &PolicyStore, differences: &[Difference]) -> Option<Self> {
        let names = Names::of(original, mutant, differences);
        differences
            .iter()
            .take(MOST_PLANS)
            .find_map(|difference| names.tell_apart(original, mutant, difference))
    }

    pub(crate) fn into_example(self) -> Example {
        Example {
            question: self.question(),
            allowed: self.allowed,
            test: self.test(),
        }
    }

    fn question(&self) -> String {
        let signed = self.principal.publisher.as_ref();
        let signed = signed.map_or_else(String::new, |publisher| format!(", signed by `{publisher}`"));
        let who = match self.principal.kind {
            PrincipalKind::Profile => format!("profile `{}`", self.principal.profile),
            PrincipalKind::Module | PrincipalKind::Caller => format!(
                "`{}::{:?}` in profile `{}`{signed}",
                self.principal.kind.name(),
                self.principal.id,
                self.principal.profile
            ),
        };
        match &self.asked {
            Asked::Admission => format!("{who}, may it run there"),
            Asked::Amount(meter, amount) => format!("{who}, `{}` to {amount} {}", meter.action(), meter.unit().name()),
            Asked::Request(action, resource, context) if context.is_empty() => {
                format!("{who}, `{}` on `{resource}`", action.id())
            }
            Asked::Request(action, resource, context) => {
                format!("{who}, `{}` on `{resource}` with `{}`", action.id(), flow(context))
            }
        }
    }

    /// One item of `requests:`.
    fn test(&self) -> String {
        let Principal { kind, id, profile, .. } = &self.principal;
        let who = match kind {
            PrincipalKind::Profile => quoted(profile),
            PrincipalKind::Module => match &self.principal.publisher {
                None => format!("{{module: {}, in: {}}}", quoted(id), quoted(profile)),
                Some(publisher) => format!(
                    "{{module: {}, signed_by: {}, in: {}}}",
                    quoted(id),
                    quoted(publisher),
                    quoted(profile)
                ),
            },
            PrincipalKind::Caller => format!("{{caller: {}, in: {}}}", quoted(id), quoted(profile)),
        };
        let mut test = format!("- principal: {who}\n");
        // Writing to a string cannot fail.
        let mut line = |text: String| writeln!(test, "  {text}").unwrap_or_default();
        match &self.asked {
            Asked::Admission => return String::new(),
            Asked::Amount(meter, amount) => {
                line(format!("action: {}", meter.action()));
                line(format!("context: {{{}: {amount}}}", meter.unit().name()));
            }
            Asked::Request(action, resource, context) => {
                line(format!("action: {}", action.id()));
                line(format!("resource: '{}'", resource.to_string().replace('\'', "''")));
                if !context.is_empty() {
                    line(format!("context: {}", flow(context)));
                }
            }
        }
        line(format!("expect: {}", if self.allowed { "allow" } else { "deny" }));
        test
    }
}

fn flow(context: &Context) -> String {
    let fields = context.iter().map(|(name, value)| match value {
        Value::Text(text) => format!("{name}: {}", Json::from(text.as_str())),
        Value::Long(number) => format!("{name}: {number}"),
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// A name as YAML takes it: a plain word as it is, anything else as JSON, which is YAML too.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !matches!(
            name.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if is_plain {
        name.to_owned()
    } else {
        Json::from(name).to_string()
    }
}

/// What the policies that cover the actions in question name.
struct Names {
    entities: Vec<EntityUid>,
    texts: Vec<String>,
    functions: Vec<String>,
    host_functions: Vec<String>,
}

impl Names {
    fn of(original: &PolicyStore, mutant: &PolicyStore, differences: &[Difference]) -> Self {
        let mut entities: BTreeSet<EntityUid> = BTreeSet::new();
        let mut texts: BTreeSet<String> = BTreeSet::from(["x".to_owned(), String::new()]);
        for store in [original, mutant] {
            let covering = store.ready().policies.iter().filter(|loaded| {
                differences
                    .iter()
                    .take(MOST_PLANS)
                    .any(|difference| loaded.covers(difference.action))
            });
            for loaded in covering {
                entities.extend(loaded.policy.entity_literals());
                if let Ok(json) = loaded.policy.to_json() {
                    gather(json.get("conditions").unwrap_or(&Json::Null), &mut texts);
                }
            }
        }
        let declared = |kind: ResourceKind| {
            let entities = original.ready().entities.iter().map(Entity::uid);
            let mut ids: Vec<String> = entities
                .filter(|uid| type_of(uid) == kind.name())
                .map(|uid| id(&uid).to_owned())
                .collect();
            // `abs` reads better in a test than `->>`.
            ids.sort_unstable_by_key(|id| (!id.starts_with(|c: char| c.is_ascii_alphabetic()), id.clone()));
            ids
        };
        Self {
            entities: entities.into_iter().collect(),
            texts: texts.into_iter().collect(),
            functions: declared(ResourceKind::SqlFunction),
            host_functions: declared(ResourceKind::HostFunction),
        }
    }

    fn tell_apart(&self, original: &PolicyStore, mutant: &PolicyStore, difference: &Difference) -> Option<Witness> {
        let Difference { principal, action } = difference;
        let witness = |asked, allowed| {
            Some(Witness {
                principal: principal.clone(),
                asked,
                allowed,
            })
        };
        let (before, after) = match (original.plan(principal), mutant.plan(principal)) {
            (Ok(before), Ok(after)) => (before, after),
            (before, after) if before.is_ok() != after.is_ok() => return witness(Asked::Admission, before.is_ok()),
            _ => return None,
        };
        if let Some(meter) = Meter::from_action(action) {
            let (old, new) = (before.bound(meter), after.bound(meter));
            let amount = first_beyond(old, new)?;
            return witness(Asked::Amount(meter, amount), old.permits(amount));
        }
        let action = Action::from_id(action)?;
        let (resource, context, allowed) = self.first_difference(action, &before, &after)?;
        witness(Asked::Request(action, resource, context), allowed)
    }

    fn first_difference(&self, action: Action, before: &Plan, after: &Plan) -> Option<(Resource, Context, bool)> {
        let contexts = self.contexts(action);
        let resources = self.resources(action.resource());
        let questions = contexts
            .iter()
            .flat_map(|context| resources.iter().map(move |resource| (resource, context)));
        for (resource, context) in questions.take(MOST_QUESTIONS) {
            let question = Question {
                action,
                resource,
                context,
            };
            let (old, new) = (before.decide(&question).allowed, after.decide(&question).allowed);
            if old != new {
                return Some((resource.clone(), context.clone(), old));
            }
        }
        None
    }

    /// Without and with each attribute, and with each text that is named in it.
    fn contexts(&self, action: Action) -> Vec<Context> {
        let attributes = action.context();
        let value = |kind, text: &str| match kind {
            ValueKind::Text => Value::Text(text.to_owned()),
            ValueKind::Long => Value::Long(0),
        };
        let least: Context = attributes
            .iter()
            .filter(|attribute| attribute.required)
            .map(|attribute| (attribute.name, value(attribute.kind, "x")))
            .collect();
        let mut contexts = vec![least.clone()];
        for attribute in attributes {
            for text in self.texts.iter().rev() {
                let mut context = least.clone();
                context.retain(|(name, _)| *name != attribute.name);
                context.push((attribute.name, value(attribute.kind, text)));
                if !contexts.contains(&context) {
                    contexts.push(context);
                }
            }
        }
        contexts
    }

    fn named(&self, kind: ResourceKind) -> Vec<Resource> {
        let of_kind = self.entities.iter().filter(|uid| type_of(uid) == kind.name());
        of_kind
            .filter_map(|uid| format!("{}::{}", kind.name(), Json::from(id(uid))).parse().ok())
            .collect()
    }

    /// A name that stands for any other comes first, because it reads best in a test.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let named = self.texts.iter().map(String::as_str);
        std::iter::once("x").chain(named.filter(|text| !text.is_empty() && *text != "x"))
    }

    fn databases(&self) -> Vec<String> {
        let mut databases = vec!["main".to_owned(), "temp".to_owned(), "other".to_owned()];
        let kinds = [ResourceKind::Database, ResourceKind::Table, ResourceKind::Column];
        for resource in kinds.into_iter().flat_map(|kind| self.named(kind)) {
            let (Resource::Database(database) | Resource::Table { database, .. } | Resource::Column { database, .. }) =
                resource
            else {
                continue;
            };
            databases.push(database);
        }
        let mut seen = BTreeSet::new();
        databases.retain(|database| seen.insert(database.clone()));
        databases
    }

    /// What is named, what is near it, and what is far from it.
    fn resources(&self, kind: ResourceKind) -> Vec<Resource> {
        let mut resources = self.named(kind);
        match kind {
            ResourceKind::Database => {
                resources.extend(self.databases().iter().map(|name| Resource::database(name)));
            }
            ResourceKind::Table => {
                for database in self.databases() {
                    resources.extend(self.texts().map(|table| Resource::table(&database, table)));
                }
                resources.extend(self.named(ResourceKind::Column).iter().flat_map(Resource::parents));
            }
            ResourceKind::Column => {
                for table in self.tables() {
                    let Resource::Table { database, table } = table else {
                        continue;
                    };
                    resources.extend(self.texts().map(|column| Resource::column(&database, &table, column)));
                }
            }
            ResourceKind::SqlFunction => {
                resources.extend(self.functions.iter().map(|name| Resource::sql_function(name)));
                resources.extend(self.texts().map(Resource::sql_function));
            }
            ResourceKind::HostFunction => {
                resources.extend(self.host_functions.iter().map(|name| Resource::host_function(name)));
                resources.extend(self.texts().map(Resource::host_function));
            }
            ResourceKind::Pragma => resources.extend(self.texts().map(Resource::pragma)),
            ResourceKind::Namespace => resources.extend(self.texts().map(Resource::namespace)),
            ResourceKind::Variable => resources.extend(self.texts().map(Resource::variable)),
            ResourceKind::Path => {
                let below: Vec<Resource> = resources
                    .iter()
                    .flat_map(|path| [format!("{}/x", path.id()), format!("{}x", path.id())])
                    .map(|path| Resource::path(&path))
                    .collect();
                resources.extend(below);
                resources.extend(self.texts().map(Resource::path));
                resources.push(Resource::path("/x"));
            }
        }
        resources.retain(|resource| resource.kind() == kind);
        let mut seen = BTreeSet::new();
        resources.retain(|resource| seen.insert(resource.clone()));
        resources
    }

    fn tables(&self) -> Vec<Resource> {
        let mut tables = self.named(ResourceKind::Table);
        for column in self.named(ResourceKind::Column) {
            tables.extend(column.parents());
        }
        for database in self.databases() {
            tables.extend(self.texts().map(|table| Resource::table(&database, table)));
        }
        tables
    }
}

/// The smallest amount that one bound permits and the other does not.
fn first_beyond(one: Bound, other: Bound) -> Option<u64> {
    let least = match (one.limit(), other.limit()) {
        (Some(one), Some(other)) if one == other => return None,
        (Some(one), Some(other)) => one.min(other),
        (Some(limit), None) | (None, Some(limit)) => limit,
        (None, None) => return None,
    };
    least.checked_add(1)
}

/// Every string in an expression, and for each pattern what it matches and what it nearly matches.
fn gather(expr: &Json, texts: &mut BTreeSet<String>) {
    let mut waiting = vec![expr];
    while let Some(expr) = waiting.pop() {
        match expr {
            Json::Array(elements) => waiting.extend(elements),
            Json::Object(fields) => {
                if let Some(Json::String(text)) = fields.get("Value") {
                    texts.insert(text.clone());
                }
                if let Some(Json::Array(parts)) = fields.get("pattern") {
                    texts.extend(["", "x"].map(|filling| filled(parts, filling)));
                    let mut nearly = filled(parts, "");
                    nearly.pop();
                    texts.extend([format!("{nearly}x"), nearly]);
                }
                waiting.extend(fields.values());
            }
            _ => {}
        }
    }
}

fn filled(parts: &[Json], filling: &str) -> String {
    let part = |part: &Json| match part.get("Literal").and_then(Json::as_str) {
        Some(literal) => literal.to_owned(),
        None => filling.to_owned(),
    };
    parts.iter().map(part).collect()
}
