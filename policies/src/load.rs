//! From texts to a policy set that is safe to compile, and what is wrong on the way.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{PolicySet, ValidationError, ValidationMode, Validator};

use crate::bounds::NoBound;
use crate::compile::{Compiler, NoPlan, Ready};
use crate::entities::declare;
use crate::finding::{Allowed, Code, Finding, Location, Severity};
use crate::lint::{Allowances, lint, unbounded};
use crate::nearest::nearest;
use crate::parse::{LoadedPolicy, Written, described, parse};
use crate::plan::{Bound, Plan};
use crate::principal::{Principal, PrincipalKind};
use crate::profiles::stock_sources;
use crate::schema::{Vocabulary, id, vocabulary};
use crate::split::Piece;
use crate::store::{Source, SourceKind, Stock};
use crate::vocabulary::{Action, Meter};

/// The outcome of loading.
pub(crate) struct Loaded {
    /// Errors first, then in the order of the sources.
    pub(crate) findings: Vec<Finding>,
    /// What would be a finding, had its policy not allowed it.
    pub(crate) allowed: Vec<Allowed>,
    /// The policy set, where it could be read and fits the schema.
    pub(crate) ready: Option<Ready>,
    /// The plan of each profile that has one.
    pub(crate) plans: BTreeMap<String, Plan>,
}

impl Loaded {
    pub(crate) fn is_refused(&self) -> bool {
        self.ready.is_none() || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Parses, validates, lints, and compiles every profile.
pub(crate) fn load(sources: &[Source], stock: Stock) -> Loaded {
    let mut all = match stock {
        Stock::With => stock_sources(),
        Stock::Without => Vec::new(),
    };
    let built_in = all.len();
    all.extend_from_slice(sources);
    let mut findings = Vec::new();
    let mut allowances = Allowances::default();
    let (ready, plans) = match vocabulary() {
        Ok(vocabulary) => ready(&all, built_in, vocabulary, &mut findings, &mut allowances),
        Err(error) => {
            findings.push(Finding::error(
                Code::Validation,
                format!("the built-in schema is broken: {error}"),
            ));
            (None, BTreeMap::new())
        }
    };
    let (mut findings, allowed) = allowances.apply(findings);
    sort(&mut findings, &all);
    Loaded {
        findings,
        allowed,
        ready,
        plans,
    }
}

fn ready(
    sources: &[Source],
    built_in: usize,
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
    allowances: &mut Allowances,
) -> (Option<Ready>, BTreeMap<String, Plan>) {
    let declared = declare(
        sources.iter().filter(|source| source.kind == SourceKind::Entities),
        vocabulary,
        findings,
    );
    let numbered = sources
        .iter()
        .enumerate()
        .filter(|(_, source)| source.kind == SourceKind::Policies);
    let policies = parse(
        numbered.map(|(index, source)| (source, index < built_in)),
        vocabulary,
        findings,
    );
    *allowances = Allowances::of(&policies);
    validate(&policies, sources, vocabulary, findings);
    findings.extend(lint(&policies, &declared.profiles, vocabulary));
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return (None, BTreeMap::new());
    }
    let by_action = match by_action(&policies) {
        Ok(by_action) => by_action,
        Err(error) => {
            findings.push(Finding::error(Code::DuplicateId, error));
            return (None, BTreeMap::new());
        }
    };
    let ready = Ready {
        policies,
        by_action,
        entities: declared.entities,
        profiles: declared.profiles,
    };
    let plans = compile_profiles(&ready, vocabulary, findings);
    (Some(ready), plans)
}

fn validate(policies: &[LoadedPolicy], sources: &[Source], vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let set = match PolicySet::from_policies(to_validate(policies).map(|loaded| loaded.policy.clone())) {
        Ok(set) => set,
        Err(error) => {
            findings.push(Finding::error(Code::DuplicateId, error.to_string()));
            return;
        }
    };
    let result = Validator::new(vocabulary.schema.clone()).validate(&set, ValidationMode::Strict);
    let of = |id: &cedar_policy::PolicyId| {
        policies
            .iter()
            .find(|loaded| loaded.id.as_str() == AsRef::<str>::as_ref(id))
    };
    let mut wrong: HashSet<&str> = HashSet::new();
    for error in result.validation_errors() {
        let Some(loaded) = of(error.policy_id()) else { continue };
        wrong.insert(&loaded.id);
        let found = problem(Code::Validation, error, loaded, sources);
        let help = match error {
            ValidationError::UnrecognizedActionId(_) => nearest_action(loaded, vocabulary),
            _ => None,
        };
        findings.push(match help {
            Some(help) => found.with_help(help),
            None => found,
        });
    }
    // A forbid that can never apply forbids nothing, so a warning refuses as well. One is enough: a policy with an error is
    // usually also impossible, and an impossible one is usually so in several ways.
    for warning in result.validation_warnings() {
        let Some(loaded) = of(warning.policy_id()) else {
            continue;
        };
        if wrong.insert(&loaded.id) {
            findings.push(problem(Code::ValidationWarning, warning, loaded, sources));
        }
    }
    if !result.validation_passed_without_warnings() && findings.is_empty() {
        findings.push(Finding::error(Code::Validation, result.to_string()));
    }
}

/// Validating the stock profiles takes longer than everything else together, and their text is part of this crate: where
/// they come along with somebody's policies, it is theirs that are in question. On their own they are validated too.
fn to_validate(policies: &[LoadedPolicy]) -> impl Iterator<Item = &LoadedPolicy> {
    let only_stock = policies.iter().all(|loaded| loaded.is_stock);
    policies.iter().filter(move |loaded| only_stock || !loaded.is_stock)
}

/// Cedar suggests whatever action is nearest, however far that is.
fn nearest_action(loaded: &LoadedPolicy, vocabulary: &Vocabulary) -> Option<String> {
    let known: Vec<&str> = vocabulary.schema.actions().map(id).collect();
    let unknown = loaded
        .named("Action")
        .into_iter()
        .find(|name| !known.contains(&name.as_str()))?;
    Some(match nearest(&unknown, known) {
        Some(near) => format!("did you mean `Action::{near:?}`?"),
        None => "the actions are listed in the schema".to_owned(),
    })
}

/// One of the validator's, without the policy's name in front: the location says which it is.
fn problem(code: Code, error: &dyn miette::Diagnostic, loaded: &LoadedPolicy, sources: &[Source]) -> Finding {
    let found = match sources.iter().find(|source| source.name == loaded.location.source) {
        Some(source) => {
            let piece = Piece {
                offset: loaded.location.offset,
                text: &loaded.text,
            };
            described(code, error, Written { source, piece })
        }
        None => Finding::error(code, error.to_string()).at(Some(loaded.location.clone())),
    };
    let prefix = format!("for policy `{}`, ", loaded.id);
    match found.message.strip_prefix(&prefix) {
        Some(message) => Finding {
            message: message.to_owned(),
            ..found
        },
        None => found,
    }
}

fn by_action(policies: &[LoadedPolicy]) -> Result<HashMap<&'static str, PolicySet>, String> {
    let asked = Meter::ALL
        .iter()
        .map(|meter| meter.action())
        .chain(Action::all().map(Action::id));
    asked
        .map(|id| {
            let covering = policies
                .iter()
                .filter(|loaded| loaded.covers(id))
                .map(|loaded| loaded.policy.clone());
            Ok((
                id,
                PolicySet::from_policies(covering).map_err(|error| error.to_string())?,
            ))
        })
        .collect()
}

fn compile_profiles(ready: &Ready, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) -> BTreeMap<String, Plan> {
    let mut plans = BTreeMap::new();
    let mut reported = Reported::default();
    for profile in &ready.profiles {
        for principal in samples(ready, profile) {
            let compiled = Compiler::new(ready, vocabulary, &principal)
                .map_err(|problem| vec![problem])
                .and_then(|c| c.plan());
            match compiled {
                Err(problems) => {
                    for problem in problems {
                        reported.add(finding_of(&problem, &principal, ready), findings);
                    }
                }
                Ok(plan) => {
                    for finding in unlimited(&plan, ready) {
                        reported.add(finding, findings);
                    }
                    if principal.kind == PrincipalKind::Profile {
                        plans.insert(profile.clone(), plan);
                    }
                }
            }
        }
    }
    plans
}

/// The profile itself, and a guest in it of each kind that some policy treats differently.
pub(crate) fn samples(ready: &Ready, profile: &str) -> Vec<Principal> {
    let mentions = |kind: PrincipalKind| ready.policies.iter().any(|loaded| loaded.text.contains(kind.name()));
    let mut samples = vec![Principal::profile(profile)];
    if mentions(PrincipalKind::Module) {
        samples.push(Principal::any_module(profile));
    }
    if mentions(PrincipalKind::Caller) {
        samples.push(Principal::any_caller(profile));
    }
    samples
}

/// One mistake is inherited by many profiles; it is reported once.
#[derive(Default)]
struct Reported(HashSet<(Code, Option<Location>)>);

impl Reported {
    fn add(&mut self, finding: Finding, findings: &mut Vec<Finding>) {
        let same = |other: &Finding| other.code == finding.code && other.location == finding.location;
        if finding.location.is_none()
            || (!findings.iter().any(same) && self.0.insert((finding.code, finding.location.clone())))
        {
            findings.push(finding);
        }
    }
}

fn unlimited(plan: &Plan, ready: &Ready) -> Vec<Finding> {
    let free = Meter::ALL
        .iter()
        .copied()
        .filter(|meter| plan.bound(*meter) == Bound::Unbounded);
    free.flat_map(|meter| {
        let policies = plan.binding(meter).iter().filter_map(|id| policy(ready, id));
        policies.map(move |loaded| unbounded(loaded, meter))
    })
    .collect()
}

fn policy<'a>(ready: &'a Ready, id: &str) -> Option<&'a LoadedPolicy> {
    ready.policies.iter().find(|loaded| loaded.id == id)
}

/// What to say about a principal that has no plan.
pub(crate) fn finding_of(problem: &NoPlan, principal: &Principal, ready: &Ready) -> Finding {
    let place = |id: &str| policy(ready, id).map(|loaded| loaded.location.clone());
    let profile = &principal.profile;
    match problem {
        NoPlan::Profile { declared } => Finding::error(
            Code::Entities,
            format!(
                "`{}` is declared to be in {} and not in `{profile}`",
                principal.id,
                list(declared)
            ),
        ),
        NoPlan::Meter(meter, NoBound::NotInterval { policy }) => {
            let (action, unit) = (meter.action(), meter.unit().name());
            Finding::error(
                Code::MeterNotInterval,
                format!("`{policy}` does not say how much of `{action}` it means"),
            )
            .with_help(format!(
                "compare `context.{unit}` with numbers; a product of it with itself is not a limit"
            ))
            .at(place(policy))
        }
        NoPlan::Meter(meter, NoBound::ForbidCanError { policy, at }) => {
            let unit = meter.unit().name();
            Finding::error(
                Code::ForbidCanError,
                format!("the condition of `{policy}` overflows where `context.{unit}` is {at}"),
            )
            .with_help("cedar skips a forbid that errors, so it would not forbid; move the arithmetic to the constant")
            .at(place(policy))
        }
        NoPlan::Meter(meter, NoBound::Holes { allowed, policies }) => {
            let (action, unit) = (meter.action(), meter.unit().name());
            let ranges: Vec<String> = allowed
                .intervals()
                .iter()
                .map(|(low, high)| format!("{low} to {high}"))
                .collect();
            Finding::error(
                Code::MeterWithHoles,
                format!(
                    "`{action}` is allowed from {} {unit} in profile `{profile}`",
                    ranges.join(" and from ")
                ),
            )
            .with_help(format!(
                "a bound is one number, so everything below it must be allowed; see {}",
                list(policies)
            ))
            .at(policies.first().and_then(|id| place(id)))
        }
        NoPlan::Mismatch { meter, amount } => Finding::error(
            Code::PlanMismatch,
            format!(
                "the compiled bound of `{}` in profile `{profile}` is not what cedar says about {amount}",
                meter.action()
            ),
        )
        .with_help("this is a mistake in the compiler; please report it with the policies"),
        NoPlan::Engine(error) => Finding::error(
            Code::PlanMismatch,
            format!("cedar cannot evaluate the policies: {error}"),
        ),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "no profile".to_owned();
    }
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Errors first, then by place; what has none comes first.
pub(crate) fn sort(findings: &mut [Finding], sources: &[Source]) {
    let order: BTreeMap<&str, usize> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| (source.name.as_str(), index))
        .collect();
    findings.sort_by_cached_key(|finding| {
        let place = finding
            .location
            .as_ref()
            .map(|at| (order.get(at.source.as_str()).copied(), at.offset));
        (std::cmp::Reverse(finding.severity), place, finding.code)
    });
}
