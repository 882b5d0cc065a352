//! Properties files: what shall hold, said so that it can be proven.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use cedar_policy::{Expression, Policy, PolicyId, PolicySet, ValidationMode};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::bound_text;
use crate::finding::Location;
use crate::nearest::nearest;
use crate::profiles::stock_properties;
use crate::schema::{Vocabulary, vocabulary};
use crate::vocabulary::Unit;

/// One properties file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertiesText {
    /// What to call it in messages.
    pub name: String,
    /// Its text, in YAML.
    pub text: String,
}

/// Why a properties file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}:{line}: {reason}")]
pub struct PropertiesError {
    name: String,
    line: usize,
    reason: String,
}

/// Something that shall hold of every request.
#[derive(Debug, Clone)]
pub struct Property {
    id: String,
    why: String,
    location: Location,
    /// It came with the product, and is about the profiles that did.
    is_stock: bool,
    pub(super) profiles: Profiles,
    pub(super) demand: Demand,
    pub(super) when: Option<String>,
}

impl Property {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What would be wrong if it did not hold.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Where it is written.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// `never`, `always`, `bounded` or `implies`.
    #[must_use]
    pub fn kind(&self) -> DemandKind {
        match self.demand {
            Demand::Never(_) => DemandKind::Never,
            Demand::Always(_) => DemandKind::Always,
            Demand::Bounded(_) => DemandKind::Bounded,
            Demand::Implies { .. } => DemandKind::Implies,
            Demand::NoForbidErrs => DemandKind::NeverErrs,
        }
    }
}

/// What kind of property it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DemandKind {
    /// Members never may.
    Never,
    /// Members always may.
    Always,
    /// Meters never exceed an amount.
    Bounded,
    /// Whatever members may, members of another profile may too.
    Implies,
    /// No forbid errors.
    NeverErrs,
}

/// Whom a property is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Profiles {
    /// These.
    Only(Vec<String>),
    /// Every one that is declared, but these.
    But(BTreeSet<String>),
}

/// What shall hold. Actions are single ones, never groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Demand {
    Never(Vec<String>),
    Always(Vec<String>),
    /// Per meter's action, its unit and the most.
    Bounded(BTreeMap<String, (Unit, i64)>),
    Implies {
        other: String,
        actions: Vec<String>,
    },
    NoForbidErrs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    properties: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    why: String,
    profiles: Option<Vec<String>>,
    except: Option<BTreeSet<String>>,
    never: Option<Actions>,
    always: Option<Actions>,
    bounded: Option<BTreeMap<String, String>>,
    rest: Option<Rest>,
    implies: Option<String>,
    actions: Option<Actions>,
    when: Option<String>,
}

#[derive(Deserialize)]
enum Rest {
    #[serde(rename = "nothing")]
    Nothing,
}

/// Actions and groups of actions, spelled out.
struct Actions(Vec<String>);

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let vocabulary = vocabulary().map_err(de::Error::custom)?;
        let mut actions = Vec::new();
        for name in &names {
            let members: Vec<String> = if vocabulary.actions.contains_key(name) {
                vec![name.clone()]
            } else {
                vocabulary.members(name).map(|(member, _)| member.to_owned()).collect()
            };
            if members.is_empty() {
                return Err(de::Error::custom(unknown("action", name, known_actions(vocabulary))));
            }
            actions.extend(members);
        }
        if actions.is_empty() {
            return Err(de::Error::custom("no action is named, so nothing would be proven"));
        }
        actions.sort_unstable();
        actions.dedup();
        Ok(Self(actions))
    }
}

fn known_actions(vocabulary: &Vocabulary) -> BTreeSet<&str> {
    let groups = vocabulary
        .actions
        .values()
        .flat_map(|info| info.groups.iter().map(String::as_str));
    vocabulary.actions.keys().map(String::as_str).chain(groups).collect()
}

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, known)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    format!("there is no {what} `{name}`{near}")
}

/// What is proven of the stock profiles.
///
/// # Errors
///
/// Only if Stockade itself is broken.
pub fn stock() -> Result<Vec<Property>, PropertiesError> {
    let properties = read(&[stock_properties()])?;
    let as_stock = |property| Property {
        is_stock: true,
        ..property
    };
    Ok(properties.into_iter().map(as_stock).collect())
}

/// That no forbid errs: worth proving of every policy set.
#[must_use]
pub fn forbids_never_err() -> Property {
    Property {
        id: "forbids-never-err".to_owned(),
        why: "Cedar skips a policy that errs, so a forbid that errs does not forbid".to_owned(),
        location: Location::new("built in", "", 0, 0),
        is_stock: false,
        profiles: Profiles::But(BTreeSet::new()),
        demand: Demand::NoForbidErrs,
        when: None,
    }
}

/// Reads properties files. Ids are unique over all of them.
///
/// # Errors
///
/// The first thing that is wrong, and where.
pub fn read(files: &[PropertiesText]) -> Result<Vec<Property>, PropertiesError> {
    let mut properties: Vec<Property> = Vec::new();
    for file in files {
        let parsed: File = serde_yaml::from_str(&file.text).map_err(|error| unreadable(file, &error))?;
        if parsed.properties.is_empty() {
            return Err(at(file, 1, "it has no properties, so nothing would be proven"));
        }
        for row in parsed.properties {
            let location = place_of(file, &row.id);
            let line = location.line;
            if let Some(first) = properties.iter().find(|other| other.id == row.id) {
                return Err(at(
                    file,
                    line,
                    format!("`{}` is also the id of {}", row.id, first.location),
                ));
            }
            properties.push(property(row, location).map_err(|reason| at(file, line, reason))?);
        }
    }
    Ok(properties)
}

fn at(file: &PropertiesText, line: usize, reason: impl Into<String>) -> PropertiesError {
    PropertiesError {
        name: file.name.clone(),
        line,
        reason: reason.into(),
    }
}

/// The parser's message says where and, of an unknown field, which there are.
fn unreadable(file: &PropertiesText, error: &serde_yaml::Error) -> PropertiesError {
    let line = error.location().map_or(1, |location| location.line());
    let message = error.to_string();
    let message = match message.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => message,
    };
    let mut quoted = message.split('`').skip(1).step_by(2);
    let typed = quoted.next();
    let is_unknown = message.contains("unknown field");
    let near = typed.filter(|_| is_unknown).and_then(|typed| nearest(typed, quoted));
    let mend = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    // The parser names the line where the property starts; what it quotes stands somewhere below.
    let mut below = file.text.lines().enumerate().skip(line.saturating_sub(1));
    let exact = typed.and_then(|typed| below.find(|(_, text)| text.contains(typed)));
    let line = exact.map_or(line, |(index, _)| index + 1);
    at(file, line, format!("{message}{mend}"))
}

/// The line that gives the id, or the file's first.
fn place_of(file: &PropertiesText, id: &str) -> Location {
    let mut offset = 0;
    for line in file.text.split_inclusive('\n') {
        let key = line.trim_start_matches([' ', '-']);
        let value = key
            .strip_prefix("id:")
            .map(|value| value.trim().trim_matches(['"', '\'']));
        if value == Some(id) {
            return Location::new(
                &file.name,
                &file.text,
                offset + (line.len() - key.len()),
                key.trim_end().len(),
            );
        }
        offset += line.len();
    }
    Location::new(&file.name, &file.text, 0, 0)
}

fn property(row: Row, location: Location) -> Result<Property, String> {
    let named = |reason: String| format!("property `{}`: {reason}", row.id);
    if row.id.trim().is_empty() || row.why.trim().is_empty() {
        return Err(named(
            "`id` and `why` say what it is and why it matters, so neither is empty".to_owned(),
        ));
    }
    let profiles = match (row.profiles, row.except) {
        (Some(only), None) if only.is_empty() => {
            return Err(named(
                "`profiles` is empty; without it, every profile is meant".to_owned(),
            ));
        }
        (Some(only), None) => Profiles::Only(only),
        (None, except) => Profiles::But(except.unwrap_or_default()),
        (Some(_), Some(_)) => return Err(named("`profiles` and `except` exclude each other".to_owned())),
    };
    let is_bounded = row.bounded.is_some();
    let is_implied = row.implies.is_some();
    if row.rest.is_some() && !is_bounded {
        return Err(named("`rest` goes with `bounded`".to_owned()));
    }
    if row.actions.is_some() && !is_implied {
        return Err(named("`actions` goes with `implies`".to_owned()));
    }
    let demand = match (row.never, row.always, row.bounded, row.implies) {
        (Some(actions), None, None, None) => Demand::Never(actions.0),
        (None, Some(actions), None, None) => Demand::Always(actions.0),
        (None, None, Some(bounds), None) => Demand::Bounded(bounded(bounds, row.rest.as_ref()).map_err(named)?),
        (None, None, None, Some(other)) => Demand::Implies {
            other,
            actions: match row.actions {
                Some(actions) => actions.0,
                None => every_action()?,
            },
        },
        _ => {
            return Err(named(
                "it says not one but several or none of `never`, `always`, `bounded` and `implies`".to_owned(),
            ));
        }
    };
    let property = Property {
        id: row.id.clone(),
        why: row.why.trim().to_owned(),
        location,
        is_stock: false,
        profiles,
        demand,
        when: row.when,
    };
    if let Some(when) = &property.when {
        condition(when, &property.actions()).map_err(named)?;
    }
    Ok(property)
}

fn every_action() -> Result<Vec<String>, String> {
    Ok(vocabulary()?.actions.keys().cloned().collect())
}

/// A number that can be proven.
fn amount(text: &str, unit: Unit) -> Result<i64, String> {
    let most = bound_text::read(text, unit)?
        .limit()
        .and_then(|most| i64::try_from(most).ok());
    most.ok_or_else(|| format!("`{text}` is no limit, so there is nothing to prove"))
}

fn bounded(bounds: BTreeMap<String, String>, rest: Option<&Rest>) -> Result<BTreeMap<String, (Unit, i64)>, String> {
    let vocabulary = vocabulary()?;
    let meters: BTreeMap<&str, Unit> = vocabulary
        .members("meters")
        .filter_map(|(name, info)| {
            let unit = Unit::ALL
                .iter()
                .find(|unit| Some(unit.name()) == info.annotation("unit"))?;
            Some((name, *unit))
        })
        .collect();
    let mut most = BTreeMap::new();
    for (name, text) in bounds {
        let unit = meters
            .get(name.as_str())
            .ok_or_else(|| unknown("meter", &name, meters.keys().copied()))?;
        let amount = amount(&text, *unit).map_err(|reason| format!("`{name}`: {reason}"))?;
        most.insert(name, (*unit, amount));
    }
    if matches!(rest, Some(Rest::Nothing)) {
        for (name, unit) in meters {
            most.entry(name.to_owned()).or_insert((unit, 0));
        }
    }
    if most.is_empty() {
        return Err("`bounded` names no meter, so nothing would be proven".to_owned());
    }
    Ok(most)
}

impl Property {
    /// The actions that it is about, without those that a forbid is checked for.
    pub(super) fn actions(&self) -> Vec<String> {
        match &self.demand {
            Demand::Never(actions) | Demand::Always(actions) | Demand::Implies { actions, .. } => actions.clone(),
            Demand::Bounded(most) => most.keys().cloned().collect(),
            Demand::NoForbidErrs => Vec::new(),
        }
    }

    /// The declared profiles that it is about: all, or those that came with the product, if it came with it too.
    pub(super) fn profiles<'a>(
        &'a self,
        declared: &'a BTreeSet<String>,
        stock: &'a BTreeSet<String>,
    ) -> Result<Vec<&'a str>, PropertiesError> {
        let other = match &self.demand {
            Demand::Implies { other, .. } => Some(other),
            _ => None,
        };
        let named: Vec<&String> = match &self.profiles {
            Profiles::Only(only) => only.iter().collect(),
            Profiles::But(except) => except.iter().collect(),
        };
        if let Some(wrong) = named.into_iter().chain(other).find(|name| !declared.contains(*name)) {
            let reason = unknown("profile", wrong, declared.iter().map(String::as_str));
            return Err(PropertiesError {
                name: self.location.source.clone(),
                line: self.location.line,
                reason: format!("property `{}`: {reason}", self.id),
            });
        }
        Ok(match &self.profiles {
            Profiles::Only(only) => only.iter().map(String::as_str).collect(),
            Profiles::But(except) => {
                let all = if self.is_stock { stock } else { declared };
                all.iter()
                    .filter(|name| !except.contains(*name))
                    .map(String::as_str)
                    .collect()
            }
        })
    }
}

/// Refuses a condition that is none, does not fit the schema, or cannot hold.
fn condition(when: &str, actions: &[String]) -> Result<(), String> {
    let wrong = |reason: String| format!("`when` is no condition: {reason}");
    // By itself first: what would close the braces around it is no expression.
    Expression::from_str(when).map_err(|error| wrong(error.to_string()))?;
    let validator = &vocabulary()?.validator;
    for action in actions {
        let text = format!("permit (principal, action == Action::{action:?}, resource) when {{\n{when}\n}};");
        let policy = Policy::parse(Some(PolicyId::new("when")), text).map_err(|error| wrong(error.to_string()))?;
        let set = PolicySet::from_policies([policy]).map_err(|error| wrong(error.to_string()))?;
        let result = validator.validate(&set, ValidationMode::Strict);
        let problem = (result.validation_errors().map(ToString::to_string).next())
            .or_else(|| result.validation_warnings().map(ToString::to_string).next());
        if let Some(problem) = problem {
            let problem = problem
                .strip_prefix("for policy `when`, ")
                .unwrap_or(&problem)
                .to_owned();
            return Err(format!("`when` does not fit `{action}`: {problem}"));
        }
    }
    Ok(())
}
