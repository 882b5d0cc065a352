//! A user's own schema, added to the vocabulary.
//!
//! It adds: types of entities, and actions that a program which embeds this one asks about. What the vocabulary defines
//! stays as it is, and no action is added to a group of ours, because what stock policies grant must not grow.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cedar_policy::{ActionConstraint, EntityTypeName, EntityUid, Schema, SchemaFragment, Validator};
use miette::Diagnostic;
use serde_json::Value;

use crate::finding::{Code, Finding, Location, Severity};
use crate::limits::refuse_depth;
use crate::parse::{Written, described};
use crate::principal::PrincipalKind;
use crate::schema::{Vocabulary, applies};
use crate::split::{Piece, words};
use crate::store::Source;

/// What a user's own schema adds.
#[derive(Default)]
pub(crate) struct Own {
    /// The files as they were written: a plan that answers such an action carries them.
    pub(crate) texts: Vec<String>,
    /// The actions that can be asked about, by their uid: `Shop::Action::"sendMail"`.
    pub(crate) actions: BTreeMap<String, OwnAction>,
    /// The last names of all types that a context or an attribute can hold an entity of, or that are acted on.
    pub(crate) reachable: BTreeSet<String>,
}

/// One action of a user's own schema.
pub(crate) struct OwnAction {
    pub(crate) uid: EntityUid,
    /// Every group that it is in, directly or not.
    groups: HashSet<EntityUid>,
    /// What can do it.
    principals: Vec<EntityTypeName>,
    /// What it can be done to.
    pub(crate) resources: Vec<EntityTypeName>,
}

impl Own {
    /// The actions that a policy's scope lets through, by their uids.
    pub(crate) fn covered(&self, constraint: &ActionConstraint) -> Vec<&str> {
        self.actions
            .iter()
            .filter(|(_, action)| match constraint {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(uid) => *uid == action.uid,
                ActionConstraint::In(uids) => uids.iter().any(|uid| *uid == action.uid || action.groups.contains(uid)),
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The actions that a principal of this kind can ask about.
    pub(crate) fn asked_by(&self, kind: PrincipalKind) -> impl Iterator<Item = (&str, &OwnAction)> {
        self.actions
            .iter()
            .filter(move |(_, action)| action.principals.iter().any(|type_| type_.to_string() == kind.name()))
            .map(|(name, action)| (name.as_str(), action))
    }

    /// Whether a request about one of these actions can come to look at an entity of this type without a policy naming it.
    pub(crate) fn reaches(&self, type_: &str) -> bool {
        self.reachable.contains(last_name(type_))
    }
}

/// The schema files as one schema with the vocabulary's, as a plan carries them.
pub(crate) fn schema_of(vocabulary: &Vocabulary, texts: &[String]) -> Result<Schema, String> {
    let mut own = Vec::with_capacity(texts.len());
    for text in texts {
        own.push(
            SchemaFragment::from_cedarschema_str(text)
                .map_err(|error| error.to_string())?
                .0,
        );
    }
    Schema::from_schema_fragments(own.into_iter().chain([vocabulary.fragment.clone()]))
        .map_err(|error| error.to_string())
}

impl Vocabulary {
    /// This vocabulary and what the schema files add. Nothing where they contradict it, themselves or each other.
    pub(crate) fn widened(&self, sources: &[&Source], findings: &mut Vec<Finding>) -> Option<Self> {
        let before = findings.len();
        let is_refused = |findings: &[Finding]| {
            let new = findings.get(before..).unwrap_or_default();
            new.iter().any(|finding| finding.severity == Severity::Error)
        };
        let files: Vec<File<'_>> = sources
            .iter()
            .filter_map(|source| File::read(source, findings))
            .collect();
        redefined(&self.fragment, &files, findings);
        if is_refused(findings) {
            return None;
        }
        let fragments = files.iter().map(|file| file.fragment.clone());
        let schema = match Schema::from_schema_fragments(fragments.chain([self.fragment.clone()])) {
            Ok(schema) => schema,
            Err(error) => {
                findings.extend(whose(&files, &self.fragment).map(|file| file.problem(&error)));
                return None;
            }
        };
        let own = Own {
            texts: files.iter().map(|file| file.source.text.clone()).collect(),
            actions: own_actions(&schema, self.schema())
                .map_err(|error| findings.push(Finding::error(Code::Schema, error)))
                .ok()?,
            reachable: files.iter().flat_map(|file| value_types(&file.json)).collect(),
        };
        let widened = Self {
            validator: Validator::new(schema),
            fragment: self.fragment.clone(),
            actions: self.actions.clone(),
            own,
        };
        widened.misused(self, &files, findings);
        (!is_refused(findings)).then_some(widened)
    }

    /// What Cedar lets a schema say and a plan cannot keep.
    fn misused(&self, built_in: &Self, files: &[File<'_>], findings: &mut Vec<Finding>) {
        let ours: HashSet<&EntityUid> = built_in.schema().actions().collect();
        let place = |action: &OwnAction| {
            let id = action.uid.id().unescaped();
            files.iter().find_map(|file| file.declaration("action", id))
        };
        for (name, action) in &self.own.actions {
            if let Some(group) = action.groups.iter().filter(|group| ours.contains(group)).min() {
                findings.push(
                    Finding::error(Code::Schema, format!("`{name}` is put into the group `{group}`"))
                        .with_help("what the stock policies grant would grow; declare a group of your own")
                        .at(place(action)),
                );
            }
            let kinds: Vec<String> = PrincipalKind::ALL
                .iter()
                .map(|kind| format!("`{}`", kind.name()))
                .collect();
            if !PrincipalKind::ALL
                .iter()
                .any(|kind| action.principals.iter().any(|type_| type_.to_string() == kind.name()))
            {
                findings.push(
                    Finding::warning(Code::Schema, format!("nobody who has a plan can do `{name}`"))
                        .with_help(format!("name one of {} as its principal", kinds.join(", ")))
                        .at(place(action)),
                );
            }
        }
        if !self.schema().is_complete() {
            let place = files.iter().find_map(|file| file.word("external"));
            findings.push(
                Finding::error(Code::Schema, "something is declared `external` and defined nowhere")
                    .with_help("define it; every schema file is loaded at once")
                    .at(place),
            );
        }
    }
}

/// One schema file.
struct File<'a> {
    source: &'a Source,
    fragment: SchemaFragment,
    /// The same as data. Names are as they were written: whether qualified or not.
    json: Value,
}

impl<'a> File<'a> {
    fn read(source: &'a Source, findings: &mut Vec<Finding>) -> Option<Self> {
        let written = whole(source);
        if let Err(finding) = refuse_depth(written, &['(', '[', '{', '<']) {
            findings.push(finding);
            return None;
        }
        let (fragment, warnings) = SchemaFragment::from_cedarschema_str(&source.text)
            .map_err(|error| findings.extend(problems(&error, written)))
            .ok()?;
        findings.extend(warnings.map(|warning| {
            let found = described(Code::Schema, &warning, written);
            Finding {
                severity: Severity::Warning,
                ..found
            }
        }));
        let json = fragment
            .clone()
            .to_json_value()
            .map_err(|error| findings.push(described(Code::Schema, &error, written)))
            .ok()?;
        Some(Self { source, fragment, json })
    }

    /// What the file declares in no namespace: its keyword and its name.
    fn declares(&self) -> Vec<(&'static str, &str)> {
        let kinds = [
            ("entity", "entityTypes"),
            ("action", "actions"),
            ("type", "commonTypes"),
        ];
        let names = |table: &str| {
            let declared = self.json.get("").and_then(|empty| empty.get(table));
            declared
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|table| table.keys())
        };
        kinds
            .into_iter()
            .flat_map(|(keyword, table)| names(table).map(move |name| (keyword, name.as_str())))
            .collect()
    }

    fn problem(&self, error: &dyn Diagnostic) -> Finding {
        described(Code::Schema, error, whole(self.source))
    }

    /// Where a name is declared: one of the words after the keyword, before its braces begin.
    fn declaration(&self, keyword: &str, name: &str) -> Option<Location> {
        let text = &self.source.text;
        let mut is_declaring = false;
        for (offset, word) in words(text) {
            if word == keyword {
                is_declaring = true;
            } else if matches!(word, "{" | ";" | "=" | "in" | "appliesTo" | "enum") {
                is_declaring = false;
            } else if is_declaring && word.trim_matches('"') == name {
                return Some(Location::new(&self.source.name, text, offset, word.len()));
            }
        }
        None
    }

    fn word(&self, wanted: &str) -> Option<Location> {
        let text = &self.source.text;
        let (offset, word) = words(text).into_iter().find(|(_, word)| *word == wanted)?;
        Some(Location::new(&self.source.name, text, offset, word.len()))
    }
}

fn whole(source: &Source) -> Written<'_> {
    let piece = Piece::whole(&source.text);
    Written { source, piece }
}

/// Each of the parser's mistakes by itself, where there are several.
fn problems(error: &dyn Diagnostic, written: Written<'_>) -> Vec<Finding> {
    let others = error
        .related()
        .into_iter()
        .flatten()
        .map(|error| described(Code::Schema, error, written));
    let mut found = vec![described(Code::Schema, error, written)];
    found.extend(others);
    for finding in &mut found {
        if let Some(message) = finding.message.strip_prefix("error parsing schema: ") {
            finding.message = message.to_owned();
        }
    }
    found
}

/// Reports what is defined already: by the vocabulary, or by a schema file before.
fn redefined(vocabulary: &SchemaFragment, files: &[File<'_>], findings: &mut Vec<Finding>) {
    let built_in = vocabulary.clone().to_json_value().unwrap_or_default();
    let ours = |keyword: &str, name: &str| {
        let table = match keyword {
            "entity" => "entityTypes",
            "action" => "actions",
            _ => "commonTypes",
        };
        built_in.get("").and_then(|all| all.get(table)?.get(name)).is_some()
    };
    let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for file in files {
        for (keyword, name) in file.declares() {
            let place = file.declaration(keyword, name).or_else(|| file.word(keyword));
            if ours(keyword, name) {
                findings.push(
                    Finding::error(
                        Code::Schema,
                        format!("`{keyword} {name}` is in the built-in schema already"),
                    )
                    .with_help("use it as it is, or choose another name")
                    .at(place),
                );
            } else if let Some(first) = seen.insert((keyword, name), &file.source.name) {
                findings.push(
                    Finding::error(Code::Schema, format!("`{keyword} {name}` is declared twice"))
                        .with_help(format!("it is also declared in {first}"))
                        .at(place),
                );
            }
        }
    }
}

/// The file without which the others would do; the first, where there is no such file.
fn whose<'f, 'a>(files: &'f [File<'a>], vocabulary: &SchemaFragment) -> Option<&'f File<'a>> {
    let does_without = |index: &usize| {
        let others = files.iter().enumerate().filter(|(other, _)| other != index);
        let fragments = others.map(|(_, file)| file.fragment.clone());
        Schema::from_schema_fragments(fragments.chain([vocabulary.clone()])).is_ok()
    };
    let culprit = (0..files.len()).find(does_without).unwrap_or(0);
    files.get(culprit)
}

fn own_actions(schema: &Schema, built_in: &Schema) -> Result<BTreeMap<String, OwnAction>, String> {
    let ours: HashSet<&EntityUid> = built_in.actions().collect();
    let entities = schema.action_entities().map_err(|error| error.to_string())?;
    let own = schema
        .actions()
        .filter(|uid| !ours.contains(uid) && applies(schema, uid));
    Ok(own
        .map(|uid| {
            let mut resources: Vec<EntityTypeName> = schema
                .resources_for_action(uid)
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            resources.sort_unstable();
            resources.dedup();
            let action = OwnAction {
                uid: uid.clone(),
                groups: entities.ancestors(uid).into_iter().flatten().cloned().collect(),
                principals: schema
                    .principals_for_action(uid)
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect(),
                resources,
            };
            (uid.to_string(), action)
        })
        .collect())
}

/// The last names of the types that the file's contexts, attributes, tags and common types speak of, and of what its
/// actions are done to. More than there are do no harm: they only make a plan carry more.
fn value_types(json: &Value) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    for namespace in json.as_object().into_iter().flat_map(|namespaces| namespaces.values()) {
        names_in(namespace.get("commonTypes"), &mut types);
        for entity in namespace
            .get("entityTypes")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|all| all.values())
        {
            names_in(entity.get("shape"), &mut types);
            names_in(entity.get("tags"), &mut types);
        }
        for action in namespace
            .get("actions")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|all| all.values())
        {
            let applies_to = action.get("appliesTo");
            names_in(applies_to.and_then(|to| to.get("context")), &mut types);
            names_in(applies_to.and_then(|to| to.get("resourceTypes")), &mut types);
        }
    }
    types
}

fn names_in(value: Option<&Value>, names: &mut BTreeSet<String>) {
    match value {
        Some(Value::String(name)) => {
            names.insert(last_name(name).to_owned());
        }
        Some(Value::Array(elements)) => elements.iter().for_each(|element| names_in(Some(element), names)),
        Some(Value::Object(fields)) => fields.values().for_each(|field| names_in(Some(field), names)),
        _ => {}
    }
}

fn last_name(type_: &str) -> &str {
    type_.rsplit("::").next().unwrap_or(type_)
}
