//! Templates and the links that fill them.
//!
//! A link makes an ordinary policy: the template's text with its slots replaced, under the link's name. So a plan, a
//! residual and everything that reads policies need to know nothing about templates. The file is the one that Cedar's own
//! command line reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr as _;

use cedar_policy::{
    EntityId, EntityTypeName, EntityUid, Policy, PolicyId, SlotId, Template, TemplatePrincipalConstraint,
    TemplateResourceConstraint,
};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::entities::{place_of, unreadable};
use crate::finding::{Code, Finding, Location};
use crate::limits::MOST_TEXT;
use crate::nearest::nearest;
use crate::parse::{LoadedPolicy, Written, covering};
use crate::schema::Vocabulary;
use crate::split::words;
use crate::store::Source;

/// A policy with slots.
#[derive(Debug, Clone)]
pub(crate) struct LoadedTemplate {
    pub(crate) id: String,
    pub(crate) template: Template,
    pub(crate) text: String,
    /// Its first line.
    pub(crate) location: Location,
}

/// The link that a policy comes from.
#[derive(Debug, Clone)]
pub(crate) struct Linked {
    pub(crate) template: String,
    pub(crate) location: Location,
}

/// One element of a links file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    #[serde(rename = "template_id")]
    template: String,
    #[serde(rename = "link_id")]
    name: String,
    args: Arguments,
}

/// What fills which slot, in the order of the file. A name that stands there twice is seen.
struct Arguments(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from slots to entities")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arguments, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Arguments(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The links of a file, each with its place. A file that is no links file is a finding.
pub(crate) fn links<'a>(source: &'a Source, findings: &mut Vec<Finding>) -> Vec<&'a RawValue> {
    serde_json::from_str(&source.text).unwrap_or_else(|error| {
        findings.push(unreadable(
            Code::Link,
            source,
            &error,
            "links",
            "a links file is a JSON array of objects with `template_id`, `link_id` and `args`",
        ));
        Vec::new()
    })
}

/// Fills templates.
pub(crate) struct Linker<'a> {
    templates: BTreeMap<&'a str, &'a LoadedTemplate>,
    vocabulary: &'a Vocabulary,
    used: HashSet<String>,
    /// How much text the links have made, in bytes: a long template could be linked thousands of times.
    made: usize,
}

impl<'a> Linker<'a> {
    pub(crate) fn new(templates: &'a [LoadedTemplate], vocabulary: &'a Vocabulary) -> Self {
        Self {
            templates: templates
                .iter()
                .map(|template| (template.id.as_str(), template))
                .collect(),
            vocabulary,
            used: HashSet::new(),
            made: 0,
        }
    }

    /// Adds the policies that the links make; `seen` says where each id is used already.
    pub(crate) fn add(
        &mut self,
        source: &Source,
        links: &[&RawValue],
        seen: &mut HashMap<String, Location>,
        policies: &mut Vec<LoadedPolicy>,
        findings: &mut Vec<Finding>,
    ) {
        for raw in links {
            let place = place_of(source, raw);
            let made = serde_json::from_str::<Link>(raw.get())
                .map_err(|error| shape(&error))
                .and_then(|link| self.fill(&link, &place));
            match made {
                Err(finding) => findings.push(finding.at(Some(place))),
                Ok(policy) => match seen.get(&policy.id) {
                    Some(first) => findings.push(
                        Finding::error(Code::DuplicateId, format!("the id `{}` is used twice", policy.id))
                            .with_help(format!("it is also used at {first}"))
                            .at(Some(place)),
                    ),
                    None => {
                        seen.insert(policy.id.clone(), place);
                        policies.push(policy);
                    }
                },
            }
        }
    }

    /// The templates that no link has named.
    pub(crate) fn unlinked(&self) -> impl Iterator<Item = Finding> {
        let idle = self
            .templates
            .values()
            .filter(|template| !self.used.contains(&template.id));
        idle.map(|template| {
            Finding::warning(
                Code::UnlinkedTemplate,
                format!("no link fills the template `{}`, so it says nothing", template.id),
            )
            .with_help(format!(
                "link it in `NAME.links.json` beside its file: {{\"template_id\": {:?}, \"link_id\": \"…\", \"args\": {{{}}}}}",
                template.id,
                template.template.slots().map(|slot| format!("\"{slot}\": \"…\"")).collect::<Vec<_>>().join(", ")
            ))
            .at(Some(template.location.clone()))
        })
    }

    fn fill(&mut self, link: &Link, place: &Location) -> Result<LoadedPolicy, Finding> {
        let template = self.template(&link.template)?;
        // It is meant to be linked, whatever else is wrong with the link.
        self.used.insert(template.id.clone());
        if link.name.is_empty() {
            return Err(error("a link has no `link_id`", "denials are reported by that name"));
        }
        let values = values(template, &link.args.0)?;
        for (slot, value) in &values {
            self.fits(template, slot, value)?;
        }
        let text = filled(&template.text, &link.name, &values);
        self.made = self.made.saturating_add(text.len());
        if self.made > MOST_TEXT {
            return Err(Finding::error(
                Code::TooLarge,
                format!("the linked policies are more than {} MiB", MOST_TEXT >> 20),
            )
            .with_help("link shorter templates, or link to a profile that others are in"));
        }
        let policy = Policy::parse(Some(PolicyId::new(&link.name)), &text).map_err(|problem| {
            error(
                format!("the linked policy cannot be read: {problem}"),
                "please report it",
            )
        })?;
        let (covered, covered_own) = covering(&policy, self.vocabulary);
        Ok(LoadedPolicy {
            id: link.name.clone(),
            policy: policy.into(),
            text,
            location: template.location.clone(),
            covered,
            covered_own,
            is_stock: false,
            link: Some(Linked {
                template: template.id.clone(),
                location: place.clone(),
            }),
        })
    }

    fn template(&self, id: &str) -> Result<&'a LoadedTemplate, Finding> {
        self.templates.get(id).copied().ok_or_else(|| {
            let help = match nearest(id, self.templates.keys().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a template is a policy with `?principal` or `?resource` in its first line".to_owned(),
            };
            error(format!("there is no template `{id}`"), help)
        })
    }

    /// Whether anything that the template lets through can have this value where its slot is.
    fn fits(&self, template: &LoadedTemplate, slot: &SlotId, value: &EntityUid) -> Result<(), Finding> {
        let schema = self.vocabulary.schema();
        let (is_exact, asked): (bool, HashSet<&EntityTypeName>) = if *slot == SlotId::principal() {
            let constraint = template.template.principal_constraint();
            (
                matches!(constraint, TemplatePrincipalConstraint::Eq(_)),
                schema.principals().collect(),
            )
        } else {
            let constraint = template.template.resource_constraint();
            (
                matches!(constraint, TemplateResourceConstraint::Eq(_)),
                schema.resources().collect(),
            )
        };
        let is_asked = |type_: &EntityTypeName| {
            asked.contains(type_)
                || !is_exact
                    && asked.iter().any(|asked| {
                        schema
                            .ancestors(asked)
                            .into_iter()
                            .flatten()
                            .any(|above| above == type_)
                    })
        };
        let type_ = value.type_name();
        if is_asked(type_) {
            return Ok(());
        }
        let known: Vec<String> = schema
            .entity_types()
            .filter(|known| is_asked(known))
            .map(ToString::to_string)
            .collect();
        let role = slot.to_string();
        let message = format!(
            "`{role}` of `{}` is `{value}`, which is never a {}",
            template.id,
            role.trim_start_matches('?')
        );
        let help = match nearest(&type_.to_string(), known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "its type is one that the action applies to, or that such an entity is in".to_owned(),
        };
        Err(error(message, help))
    }
}

impl LoadedPolicy {
    /// A finding about this policy that says which link it comes from.
    pub(crate) fn names_link(&self, finding: Finding) -> Finding {
        match &self.link {
            None => finding,
            Some(link) => Finding {
                message: format!(
                    "{}; template `{}` is linked as `{}` at {}",
                    finding.message, link.template, self.id, link.location
                ),
                ..finding
            },
        }
    }
}

impl LoadedTemplate {
    /// The template that is written here, if one is.
    pub(crate) fn read(written: Written<'_>) -> Option<Result<Self, Finding>> {
        let template = Template::parse(None, written.piece.text)
            .ok()
            .filter(|template| template.slots().next().is_some())?;
        let id = template.annotation("id").filter(|id| !id.is_empty()).map(str::to_owned);
        Some(match id {
            None => Err(Finding::error(Code::MissingId, "a template has no `@id`")
                .with_help("write `@id(\"what-it-is-for\")` above it; links name it")
                .at(Some(written.first_line()))),
            Some(id) => Ok(Self {
                id,
                template,
                text: written.piece.text.to_owned(),
                location: written.first_line(),
            }),
        })
    }
}

fn error(message: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding::error(Code::Link, message).with_help(help)
}

fn shape(problem: &serde_json::Error) -> Finding {
    let text = problem.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    error(
        format!("this is no link: {message}"),
        "write {\"template_id\": \"…\", \"link_id\": \"…\", \"args\": {\"?principal\": \"Profile::\\\"…\\\"\"}}",
    )
}

/// What fills each slot of the template, and nothing else.
fn values(template: &LoadedTemplate, arguments: &[(String, String)]) -> Result<Vec<(SlotId, EntityUid)>, Finding> {
    let slots: Vec<&SlotId> = template.template.slots().collect();
    let mut values: Vec<(SlotId, EntityUid)> = Vec::new();
    for (name, written) in arguments {
        let Some(slot) = slots.iter().find(|slot| slot.to_string() == *name) else {
            return Err(error(
                format!("the template `{}` has no slot `{name}`", template.id),
                format!("its slots are {}", quoted(slots.iter().map(ToString::to_string))),
            ));
        };
        if values.iter().any(|(filled, _)| filled == *slot) {
            return Err(error(format!("`{name}` is filled twice"), "keep one of the two"));
        }
        let value = uid_of(written).ok_or_else(|| {
            error(
                format!("`{name}` is `{written}`, which is no entity"),
                "write it as a policy does, quotes escaped: \"Profile::\\\"team\\\"\"",
            )
        })?;
        values.push(((*slot).clone(), value));
    }
    match slots
        .iter()
        .find(|slot| !values.iter().any(|(filled, _)| filled == **slot))
    {
        None => Ok(values),
        Some(slot) => Err(error(
            format!("nothing fills `{slot}` of the template `{}`", template.id),
            format!("add \"{slot}\": \"…\" to its `args`"),
        )),
    }
}

/// The longest entity that is read: what follows would only be parsed to be refused.
const LONGEST_UID: usize = 4096;

fn uid_of(written: &str) -> Option<EntityUid> {
    if written.len() > LONGEST_UID {
        return None;
    }
    EntityUid::from_str(written).ok()
}

fn quoted(names: impl Iterator<Item = String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// The template's text with entities for slots and the link's name for its own.
fn filled(text: &str, link_id: &str, values: &[(SlotId, EntityUid)]) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut copied = 0;
    let mut replace = |from: usize, to: usize, with: &str| {
        filled.push_str(text.get(copied..from).unwrap_or_default());
        filled.push_str(with);
        copied = to;
    };
    let words = words(text);
    let word = |index: usize| words.get(index).map_or("", |(_, word)| *word);
    for (index, (at, found)) in words.iter().enumerate() {
        let is_slot = *found == "?" && words.get(index + 1).is_some_and(|(next, _)| *next == at + 1);
        if is_slot
            && let Some((_, value)) = values
                .iter()
                .find(|(slot, _)| slot.to_string().strip_prefix('?') == Some(word(index + 1)))
        {
            replace(*at, at + 1 + word(index + 1).len(), &value.to_string());
        }
        let is_own_name = index >= 3 && (word(index - 3), word(index - 2), word(index - 1)) == ("@", "id", "(");
        if is_own_name && found.starts_with('"') {
            replace(
                *at,
                at + found.len(),
                &format!("\"{}\"", EntityId::new(link_id).escaped()),
            );
        }
    }
    filled.push_str(text.get(copied..).unwrap_or_default());
    filled
}
