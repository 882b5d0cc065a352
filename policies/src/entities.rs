//! Entities files: who is nested in what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use cedar_policy::{Entities, Entity, EntityUid, EvalResult};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::finding::{Code, Finding, Location};
use crate::limits::refuse_entities;
use crate::nearest::nearest;
use crate::principal::PrincipalKind;
use crate::publisher::KeyRing;
use crate::resource::ResourceKind;
use crate::schema::{Vocabulary, id, type_of};
use crate::store::Source;

/// Everything that entities files declare, with the action hierarchy.
pub(crate) struct Declared {
    pub(crate) entities: Entities,
    pub(crate) profiles: BTreeSet<String>,
}

struct Row {
    entity: Entity,
    location: Location,
}

impl Row {
    fn parents(&self) -> impl Iterator<Item = EntityUid> {
        let (_, _, parents) = self.entity.clone().into_inner();
        parents.into_iter()
    }

    fn is_profile(&self) -> bool {
        type_of(&self.entity.uid()) == "Profile"
    }
}

/// Reads every entities file. What cannot be read is a finding, and left out.
pub(crate) fn declare<'a>(
    sources: impl IntoIterator<Item = &'a Source>,
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
) -> Declared {
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: HashMap<EntityUid, Location> = HashMap::new();
    let mut ring = KeyRing::default();
    for source in sources {
        for row in rows_of(source, vocabulary, findings) {
            let uid = row.entity.uid();
            match seen.get(&uid) {
                Some(first) => findings.push(
                    Finding::error(Code::Entities, format!("`{uid}` is declared twice"))
                        .with_help(format!("it is also declared at {first}"))
                        .at(Some(row.location)),
                ),
                None => {
                    seen.insert(uid, row.location.clone());
                    match ring.fault(&row.entity) {
                        None => rows.push(row),
                        Some(finding) => findings.push(finding.at(Some(row.location))),
                    }
                }
            }
        }
    }
    let profiles: BTreeSet<String> = rows
        .iter()
        .filter(|row| row.is_profile())
        .map(|row| id(&row.entity.uid()).to_owned())
        .collect();
    let groups: HashSet<EntityUid> = rows.iter().flat_map(Row::parents).collect();
    if let Err(finding) = refuse_entities(rows.len(), profiles.len(), groups.len()) {
        let place = rows.last().map(|row| row.location.clone());
        findings.push(finding.at(place));
        return Declared {
            entities: Entities::empty(),
            profiles,
        };
    }
    undeclared_parents(&rows, &profiles, findings);
    let is_cyclic = cycles(&rows, findings);
    let entities = if is_cyclic {
        None
    } else {
        together(rows, vocabulary, findings)
    };
    Declared {
        entities: entities.unwrap_or_else(Entities::empty),
        profiles,
    }
}

fn together(rows: Vec<Row>, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) -> Option<Entities> {
    Entities::from_entities(rows.into_iter().map(|row| row.entity), Some(vocabulary.schema()))
        .map_err(|error| findings.push(Finding::error(Code::Entities, chain(&error))))
        .ok()
}

fn rows_of(source: &Source, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) -> Vec<Row> {
    let parsed: Vec<&RawValue> = match serde_json::from_str(&source.text) {
        Ok(parsed) => parsed,
        Err(error) => {
            findings.push(unreadable(
                Code::Entities,
                source,
                &error,
                "entities",
                "an entities file is a JSON array of objects with `uid`, `attrs` and `parents`",
            ));
            return Vec::new();
        }
    };
    if let Err(finding) = refuse_entities(parsed.len(), 0, 0) {
        findings.push(finding.at(parsed.last().map(|raw| place_of(source, raw))));
        return Vec::new();
    }
    let mut rows = Vec::new();
    for raw in parsed {
        let location = place_of(source, raw);
        match entity_of(raw, vocabulary) {
            Ok(entity) => match misnamed_module(&entity) {
                None => rows.push(Row { entity, location }),
                Some(finding) => findings.push(finding.at(Some(location))),
            },
            Err(message) => findings.push(Finding::error(Code::Entities, message).at(Some(location))),
        }
    }
    rows
}

/// A file that is no JSON, or not an array of what it should hold.
pub(crate) fn unreadable(code: Code, source: &Source, error: &serde_json::Error, of: &str, help: &str) -> Finding {
    let before: usize = source
        .text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let offset = before + error.column().saturating_sub(1);
    let text = error.to_string();
    let message = match error.classify() {
        Category::Data => format!("this is JSON, but not an array of {of}"),
        // serde_json ends its messages with the position, which the location says already.
        _ => format!(
            "this is not JSON: {}",
            text.split(" at line ").next().unwrap_or_default()
        ),
    };
    Finding::error(code, message)
        .with_help(help)
        .at(Some(Location::new(&source.name, &source.text, offset, 1)))
}

/// A raw value borrows from the text it was parsed from, so its place is the distance between the two.
pub(crate) fn place_of(source: &Source, raw: &RawValue) -> Location {
    let offset = raw.get().as_ptr().addr().saturating_sub(source.text.as_ptr().addr());
    let first_line = raw.get().lines().next().map_or(0, str::len);
    Location::new(&source.name, &source.text, offset, first_line)
}

fn entity_of(raw: &RawValue, vocabulary: &Vocabulary) -> Result<Entity, String> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    let uid = Entity::from_json_value(value.clone(), None)
        .map_err(|error| chain(&error))?
        .uid();
    let type_ = type_of(&uid);
    if ResourceKind::from_name(&type_).is_some_and(ResourceKind::is_structural) {
        return Err(format!("`{uid}` is not declared: what it is in follows from its name"));
    }
    let is_action = type_.rsplit("::").next() == Some("Action");
    if is_action || matches!(type_.as_str(), "Meter" | "SqlFunctionClass" | "Hook" | "Registration") {
        return Err(format!("`{uid}` is not declared: the schema lists every `{type_}`"));
    }
    if type_ == ResourceKind::SqlFunction.name() && id(&uid).chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "`{uid}` is never asked about: function names are in lower case"
        ));
    }
    let entity = Entity::from_json_value(value, Some(vocabulary.schema())).map_err(|error| chain(&error))?;
    // Added to nothing: a set made with a schema is given all of its actions, which takes longer than the check.
    Entities::empty()
        .add_entities([entity.clone()], Some(vocabulary.schema()))
        .map_err(|error| chain(&error))?;
    Ok(entity)
}

/// A module that no guest is: they are known by the digest of their bytes, and by nothing else.
pub(crate) fn misnamed_module(entity: &Entity) -> Option<Finding> {
    let uid = entity.uid();
    if type_of(&uid) != PrincipalKind::Module.name() {
        return None;
    }
    let digest = id(&uid);
    if let Err(wrong) = hexadecimal::<32>(digest) {
        let help = "write the 64 digits that `sha256sum` prints for the module's file";
        let finding = Finding::error(Code::ModuleDigest, format!("`{uid}` is not a digest: {wrong}"));
        return Some(finding.with_help(help));
    }
    let stated = text_of(entity, "sha256").unwrap_or_default();
    (stated != digest).then(|| {
        Finding::error(Code::ModuleDigest, format!("`{uid}` states another digest, `{stated}`"))
            .with_help("`sha256` is the id again")
    })
}

/// An attribute that is a text.
pub(crate) fn text_of(entity: &Entity, attribute: &str) -> Option<String> {
    match entity.attr(attribute) {
        Some(Ok(EvalResult::String(text))) => Some(text),
        _ => None,
    }
}

/// Bytes in the one way in which they are written here, or what is wrong with that.
pub(crate) fn hexadecimal<const LENGTH: usize>(text: &str) -> Result<[u8; LENGTH], String> {
    let digits = text.chars().count();
    if digits != LENGTH * 2 {
        return Err(format!("it has {digits} characters, and there must be {}", LENGTH * 2));
    }
    let value = |digit: char| match digit {
        '0'..='9' | 'a'..='f' => digit.to_digit(16).and_then(|value| u8::try_from(value).ok()),
        _ => None,
    };
    let mut bytes = [0; LENGTH];
    for (place, digit) in text.chars().enumerate() {
        let value = value(digit).ok_or_else(|| format!("`{digit}` is no hexadecimal digit in lower case"))?;
        if let Some(byte) = bytes.get_mut(place / 2) {
            *byte = *byte << 4 | value;
        }
    }
    Ok(bytes)
}

/// An error and what caused it, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    message
}

fn undeclared_parents(rows: &[Row], profiles: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    for row in rows {
        for parent in row.parents().filter(|parent| type_of(parent) == "Profile") {
            if !profiles.contains(id(&parent)) {
                findings.push(unknown_profile(id(&parent), profiles, "this file").at(Some(row.location.clone())));
            }
        }
    }
}

/// A profile that is named and not declared.
pub(crate) fn unknown_profile(name: &str, profiles: &BTreeSet<String>, file: &str) -> Finding {
    let declare = format!(
        "declare it in {file}: {{\"uid\": {{\"type\": \"Profile\", \"id\": {name:?}}}, \"attrs\": {{}}, \"parents\": []}}"
    );
    let help = match nearest(name, profiles.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? otherwise {declare}"),
        None => declare,
    };
    Finding::error(Code::UnknownProfile, format!("profile `{name}` is not declared")).with_help(help)
}

/// Reports the first nesting that leads back to where it started.
fn cycles(rows: &[Row], findings: &mut Vec<Finding>) -> bool {
    let parents: BTreeMap<String, Vec<String>> = rows
        .iter()
        .filter(|row| row.is_profile())
        .map(|row| {
            let mut above: Vec<String> = row.parents().map(|parent| id(&parent).to_owned()).collect();
            above.sort_unstable();
            (id(&row.entity.uid()).to_owned(), above)
        })
        .collect();
    let Some(cycle) = parents.keys().find_map(|start| way_back(start, &parents)) else {
        return false;
    };
    let start = cycle.first().map(String::as_str).unwrap_or_default();
    let place = rows
        .iter()
        .find(|row| row.is_profile() && id(&row.entity.uid()) == start)
        .map(|row| row.location.clone());
    findings.push(
        Finding::error(Code::ProfileCycle, format!("profile `{start}` is nested in itself"))
            .with_help(format!(
                "the nesting is {}",
                cycle
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(" in ")
            ))
            .at(place),
    );
    true
}

/// The shortest way from a profile up to itself.
fn way_back(start: &str, parents: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    let above = |name: &str| parents.get(name).into_iter().flatten();
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next: VecDeque<&str> = VecDeque::from([start]);
    while let Some(name) = next.pop_front() {
        for parent in above(name) {
            if parent == start {
                let mut way = vec![start.to_owned()];
                let steps = std::iter::successors(Some(name), |name| from.get(name).copied());
                way.extend(steps.take_while(|name| *name != start).map(str::to_owned));
                way.push(start.to_owned());
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(parent.as_str()) {
                from.insert(parent, name);
                next.push_back(parent);
            }
        }
    }
    None
}
