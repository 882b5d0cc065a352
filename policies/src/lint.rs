//! What Cedar's validator lets pass and this runtime must not.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use cedar_policy::Effect;

use crate::condition::can_error;
use crate::entities::unknown_profile;
use crate::finding::{Code, Finding, Location};
use crate::parse::LoadedPolicy;
use crate::resource::{Resource, ResourceKind};
use crate::schema::Vocabulary;
use crate::store::Source;
use crate::vocabulary::{Action, Meter};

/// Reads every policy for what it cannot mean.
pub(crate) fn lint(
    policies: &[LoadedPolicy],
    sources: &[Source],
    profiles: &BTreeSet<String>,
    vocabulary: &Vocabulary,
) -> Vec<Finding> {
    let lint = Lint {
        sources,
        profiles,
        vocabulary,
    };
    let findings = policies
        .iter()
        .flat_map(|policy| {
            [
                lint.unknown_profiles(policy),
                lint.reserved_actions(policy),
                lint.meter_resources(policy),
                lint.resource_ids(policy),
            ]
            .into_iter()
            .flatten()
            .chain(unbounded_meter(policy))
            .chain(erring_forbid(policy))
        })
        .collect();
    once_per_profile(findings)
}

/// A profile that is declared nowhere is one mistake, however many policies name it.
fn once_per_profile(findings: Vec<Finding>) -> Vec<Finding> {
    let mistake = |finding: &Finding| {
        let source = finding.location.as_ref().map(|location| location.source.clone());
        (finding.code == Code::UnknownProfile).then(|| (finding.message.clone(), source))
    };
    let all: Vec<_> = findings.iter().filter_map(mistake).collect();
    let mut said = HashSet::new();
    let mut kept = Vec::new();
    for finding in findings {
        let Some(mistake) = mistake(&finding) else {
            kept.push(finding);
            continue;
        };
        let others = all.iter().filter(|other| **other == mistake).count() - 1;
        if said.insert(mistake) {
            kept.push(match (&finding.help, others) {
                (Some(help), 1..) => {
                    let help = format!("{help}; it is named {others} more times");
                    finding.with_help(help)
                }
                _ => finding,
            });
        }
    }
    kept
}

struct Lint<'a> {
    sources: &'a [Source],
    profiles: &'a BTreeSet<String>,
    vocabulary: &'a Vocabulary,
}

impl Lint<'_> {
    fn unknown_profiles(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let file = Path::new(&policy.location.source).with_extension("entities.json");
        let unknown = policy
            .named("Profile")
            .into_iter()
            .filter(|name| !self.profiles.contains(name));
        unknown
            .map(|name| {
                unknown_profile(&name, self.profiles, &format!("`{}`", file.display()))
                    .at(Some(self.place_of(policy, "Profile", &name)))
            })
            .collect()
    }

    /// A group is fine as long as something in it is asked about.
    fn reserved_actions(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let warning = |name: &str, message: String, help: Option<&str>| {
            let finding =
                Finding::warning(Code::ReservedAction, message).at(Some(self.place_of(policy, "Action", name)));
            match help {
                Some(why) => finding.with_help(format!("it is reserved: {why}")),
                None => finding.with_help("every action in it is reserved"),
            }
        };
        policy
            .named("Action")
            .iter()
            .filter_map(|name| match self.vocabulary.actions.get(name) {
                Some(info) => {
                    let why = info.annotation("reserved")?;
                    Some(warning(
                        name,
                        format!("nothing in this runtime asks about `{name}`"),
                        Some(why),
                    ))
                }
                None => {
                    let mut members = self.vocabulary.members(name).peekable();
                    let is_idle = members.peek().is_some() && members.all(|(_, info)| info.is_reserved());
                    is_idle.then(|| {
                        warning(
                            name,
                            format!("nothing in this runtime asks about anything in `{name}`"),
                            None,
                        )
                    })
                }
            })
            .collect()
    }

    /// A forbid on `Table::"main.Staff"` would forbid nothing: requests carry names in lower case, with their database.
    fn resource_ids(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let named = ResourceKind::ALL
            .iter()
            .flat_map(|kind| policy.named(kind.name()).into_iter().map(|id| (*kind, id)));
        named
            .filter_map(|(kind, id)| {
                let place = self.place_of(policy, kind.name(), &id);
                let written = format!("{}::{}", kind.name(), serde_json::Value::from(id.as_str()));
                let finding = |message| Finding::error(Code::ResourceId, message).at(Some(place));
                match written.parse::<Resource>() {
                    Ok(resource) if resource.id() == id => None,
                    Ok(resource) => {
                        let message = format!("no request is about `{written}`");
                        Some(finding(message).with_help(format!("did you mean `{resource}`?")))
                    }
                    Err(error) => Some(finding(error.to_string())),
                }
            })
            .collect()
    }

    /// Every meter that is named by itself must hang on a meter entity that is named, if any is.
    fn meter_resources(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let resources = policy.named("Meter");
        if resources.is_empty() {
            return Vec::new();
        }
        let named = policy.named("Action");
        let by_itself = named.iter().filter_map(|name| Meter::from_action(name));
        let mut wrong: Vec<Meter> = by_itself
            .filter(|meter| !resources.iter().any(|id| id == meter.resource()))
            .collect();
        let covered: Vec<Meter> = policy
            .covered
            .iter()
            .filter_map(|name| Meter::from_action(name))
            .collect();
        let none_fits = covered
            .iter()
            .all(|meter| !resources.iter().any(|id| id == meter.resource()));
        if wrong.is_empty() && none_fits {
            wrong.extend(covered.first());
        }
        wrong
            .into_iter()
            .map(|meter| {
                let named = resources
                    .iter()
                    .map(|id| format!("`Meter::{id:?}`"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let place = resources.first().map(|id| self.place_of(policy, "Meter", id));
                Finding::error(
                    Code::MeterResource,
                    format!("`{}` does not hang on {named}", meter.action()),
                )
                .with_help(format!("write `resource == Meter::{:?}`", meter.resource()))
                .at(place)
            })
            .collect()
    }

    /// Where a policy writes `Type::"id"`, or its first line if it writes it some other way.
    fn place_of(&self, policy: &LoadedPolicy, type_: &str, id: &str) -> Location {
        let written = format!("{type_}::\"{}\"", id.escape_debug());
        let source = self.sources.iter().find(|source| source.name == policy.location.source);
        match (source, policy.text.find(&written)) {
            (Some(source), Some(offset)) => Location::new(
                &source.name,
                &source.text,
                policy.location.offset + offset,
                written.len(),
            ),
            _ => policy.location.clone(),
        }
    }
}

fn unbounded_meter(policy: &LoadedPolicy) -> Option<Finding> {
    let limits = policy.policy.effect() == Effect::Forbid || policy.policy.has_non_scope_constraint();
    if limits {
        return None;
    }
    let mut meters = policy.covered.iter().filter_map(|name| Meter::from_action(name));
    let first = meters.next()?;
    let others = meters.count();
    if others == 0 {
        return Some(unbounded(policy, first));
    }
    let message = format!(
        "`{}` permits {} meters without a limit, `{}` among them",
        policy.id,
        others + 1,
        first.action()
    );
    Some(
        Finding {
            message,
            ..unbounded(policy, first)
        }
        .with_help("name the actions that you mean; each meter wants a number"),
    )
}

/// Meters are left to the compiler, which knows exactly where a condition errors.
fn erring_forbid(policy: &LoadedPolicy) -> Option<Finding> {
    let asked = policy.covered.iter().any(|name| Action::from_id(name).is_some());
    let risky = policy.policy.effect() == Effect::Forbid && asked && can_error(&policy.policy);
    risky.then(|| {
        Finding::error(
            Code::ForbidCanError,
            format!("the condition of `{}` can end in an error", policy.id),
        )
        .with_help("cedar skips a forbid that errors, so it would not forbid; compare without arithmetic")
        .at(Some(policy.location.clone()))
    })
}

/// A permit that lets a meter run free.
pub(crate) fn unbounded(policy: &LoadedPolicy, meter: Meter) -> Finding {
    let (action, unit) = (meter.action(), meter.unit().name());
    Finding::warning(
        Code::UnboundedMeter,
        format!("`{}` permits `{action}` without a limit", policy.id),
    )
    .with_help(format!("write `when {{ context.{unit} <= … }}`"))
    .at(Some(policy.location.clone()))
}
