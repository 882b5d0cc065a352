//! From texts to a policy set that is safe to compile, and what is wrong on the way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread;

use cedar_policy::{Policy, PolicySet, PrincipalConstraint, ValidationError, ValidationMode, ValidationResult};

use crate::bounds::NoBound;
use crate::compile::{Compiler, NoPlan, Ready};
use crate::entities::declare;
use crate::finding::{Allowed, Code, Finding, Location, Severity};
use crate::limits::{may_concern, refuse_policies, refuse_text, refuse_work};
use crate::links::{Linker, links};
use crate::lint::{Allowances, lint, unbounded};
use crate::nearest::nearest;
use crate::parse::{Cut, LoadedPolicy, Written, described, parse};
use crate::plan::{Bound, Plan};
use crate::principal::{Principal, PrincipalKind};
use crate::profiles::stock_sources;
use crate::publisher::signers;
use crate::schema::{Vocabulary, id, type_of, vocabulary};
use crate::split::Piece;
use crate::store::{Source, SourceKind, Stock};
use crate::vocabulary::Meter;

/// The outcome of loading.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// Errors first, then in the order of the sources.
    pub(crate) findings: Vec<Finding>,
    /// What would be a finding, had its policy not allowed it.
    pub(crate) allowed: Vec<Allowed>,
    /// The policy set, where it could be read and fits the schema.
    pub(crate) ready: Option<Ready>,
    /// The plan of each profile that has one.
    pub(crate) plans: BTreeMap<String, Plan>,
    /// What the policies were validated against, where that is sound.
    pub(crate) vocabulary: Option<Arc<Vocabulary>>,
}

impl Loaded {
    pub(crate) fn is_refused(&self) -> bool {
        self.ready.is_none() || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Parses, validates, lints, and compiles every profile.
pub(crate) fn load(sources: &[Source], stock: Stock) -> Loaded {
    if let Err(finding) = refuse_text(sources) {
        return Loaded::nothing(vec![finding]);
    }
    match stock {
        Stock::Without => load_all(sources, 0, None),
        Stock::With if sources.is_empty() => STOCK.clone(),
        Stock::With => {
            let mut all = stock_sources();
            let built_in = all.len();
            all.extend_from_slice(sources);
            load_all(&all, built_in, Some(&STOCK))
        }
    }
}

/// The stock profiles by themselves. Their text is part of this crate, so what is found out about them once stays true.
static STOCK: LazyLock<Loaded> = LazyLock::new(|| {
    let sources = stock_sources();
    load_all(&sources, sources.len(), None)
});

/// Loads what is there. So many of the sources, the first ones, come with the product; `stock` says what they come to by
/// themselves, where that is known.
fn load_all(sources: &[Source], built_in: usize, stock: Option<&Loaded>) -> Loaded {
    let mut findings = Vec::new();
    let Some(vocabulary) = vocabulary_of(sources, &mut findings) else {
        sort(&mut findings, sources);
        return Loaded::nothing(findings);
    };
    let mut allowances = Allowances::default();
    let (ready, plans) = ready(sources, built_in, stock, &vocabulary, &mut findings, &mut allowances);
    let (mut findings, allowed) = allowances.apply(findings);
    sort(&mut findings, sources);
    Loaded {
        findings,
        allowed,
        ready,
        plans,
        vocabulary: Some(vocabulary),
    }
}

impl Loaded {
    fn nothing(findings: Vec<Finding>) -> Self {
        Self {
            findings,
            allowed: Vec::new(),
            ready: None,
            plans: BTreeMap::new(),
            vocabulary: None,
        }
    }
}

/// The built-in vocabulary, and what the schema files add to it.
fn vocabulary_of(sources: &[Source], findings: &mut Vec<Finding>) -> Option<Arc<Vocabulary>> {
    let built_in = vocabulary()
        .map_err(|error| {
            findings.push(Finding::error(
                Code::Validation,
                format!("the built-in schema is broken: {error}"),
            ));
        })
        .ok()?;
    let own: Vec<&Source> = of_kind(sources, SourceKind::Schema).map(|(_, source)| source).collect();
    if own.is_empty() {
        return Some(Arc::clone(built_in));
    }
    built_in.widened(&own, findings).map(Arc::new)
}

fn of_kind(sources: &[Source], kind: SourceKind) -> impl Iterator<Item = (usize, &Source)> {
    sources
        .iter()
        .enumerate()
        .filter(move |(_, source)| source.kind == kind)
}

fn ready(
    sources: &[Source],
    built_in: usize,
    stock: Option<&Loaded>,
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
    allowances: &mut Allowances,
) -> (Option<Ready>, BTreeMap<String, Plan>) {
    let declared = declare(
        of_kind(sources, SourceKind::Entities).map(|(_, source)| source),
        vocabulary,
        findings,
    );
    let Some(policies) = policies_of(sources, built_in, stock, vocabulary, findings) else {
        return (None, BTreeMap::new());
    };
    *allowances = Allowances::of(&policies);
    validate(&policies, sources, vocabulary, findings);
    findings.extend(lint(&policies, &declared.profiles, vocabulary));
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return (None, BTreeMap::new());
    }
    match Ready::new(policies, declared, vocabulary) {
        Ok(ready) => {
            let plans = compile_profiles(&ready, stock, vocabulary, findings);
            (Some(ready), plans)
        }
        Err(error) => {
            findings.push(Finding::error(Code::DuplicateId, error));
            (None, BTreeMap::new())
        }
    }
}

/// The policies of every file, and those that links make. Nothing where there are too many.
fn policies_of(
    sources: &[Source],
    built_in: usize,
    stock: Option<&Loaded>,
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
) -> Option<Vec<LoadedPolicy>> {
    // What is parsed already: the policies of the stock, unless they have to be looked at with other actions in mind.
    let inherited = stock
        .and_then(|stock| stock.ready.as_ref())
        .filter(|_| vocabulary.own.actions.is_empty());
    let files: Vec<Cut<'_>> = of_kind(sources, SourceKind::Policies)
        .map(|(index, source)| (source, index < built_in))
        .filter(|(_, is_stock)| !is_stock || inherited.is_none())
        .map(|(source, is_stock)| Cut::new(source, is_stock))
        .collect();
    let linking: Vec<_> = of_kind(sources, SourceKind::Links)
        .map(|(_, source)| (source, links(source, findings)))
        .collect();
    let cut = files.iter().map(|file| (file.source, file.pieces.len()));
    let counted: Vec<(&Source, usize)> = cut
        .chain(linking.iter().map(|(source, links)| (*source, links.len())))
        .collect();
    if let Err(finding) = refuse_policies(&counted) {
        findings.push(finding);
        return None;
    }
    let before = inherited.map_or_else(Vec::new, |ready| ready.policies.clone());
    let mut parsed = parse(before, &files, vocabulary, findings);
    let mut linker = Linker::new(&parsed.templates, vocabulary);
    for (source, links) in &linking {
        linker.add(source, links, &mut parsed.seen, &mut parsed.policies, findings);
    }
    findings.extend(linker.unlinked());
    Some(parsed.policies)
}

fn validate(policies: &[LoadedPolicy], sources: &[Source], vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let by_id: HashMap<&str, &LoadedPolicy> = policies.iter().map(|loaded| (loaded.id.as_str(), loaded)).collect();
    let by_name: HashMap<&str, &Source> = sources.iter().map(|source| (source.name.as_str(), source)).collect();
    let of = |id: &cedar_policy::PolicyId| by_id.get(AsRef::<str>::as_ref(id)).copied();
    let in_question: Vec<&LoadedPolicy> = to_validate(policies).collect();
    let mut wrong: HashSet<&str> = HashSet::new();
    for result in results(&in_question, vocabulary) {
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                findings.push(Finding::error(Code::Validation, error));
                continue;
            }
        };
        for error in result.validation_errors() {
            let Some(loaded) = of(error.policy_id()) else { continue };
            wrong.insert(&loaded.id);
            let found = problem(Code::Validation, error, loaded, &by_name);
            let help = match error {
                ValidationError::UnrecognizedActionId(_) => nearest_action(loaded, vocabulary),
                _ => None,
            };
            findings.push(match help {
                Some(help) => found.with_help(help),
                None => found,
            });
        }
        // A forbid that can never apply forbids nothing, so a warning refuses as well. One is enough: a policy with an error
        // is usually also impossible, and an impossible one is usually so in several ways.
        for warning in result.validation_warnings() {
            let Some(loaded) = of(warning.policy_id()) else {
                continue;
            };
            if wrong.insert(&loaded.id) {
                findings.push(problem(Code::ValidationWarning, warning, loaded, &by_name));
            }
        }
        if !result.validation_passed_without_warnings() && findings.is_empty() {
            findings.push(Finding::error(Code::Validation, result.to_string()));
        }
    }
}

/// What the validator says, about a part of the policies each: it looks at one at a time, and machines have several cores.
fn results(policies: &[&LoadedPolicy], vocabulary: &Vocabulary) -> Vec<Result<ValidationResult, String>> {
    let validate = |part: &[&LoadedPolicy]| {
        let set = PolicySet::from_policies(part.iter().map(|loaded| Policy::clone(&loaded.policy)))
            .map_err(|error| error.to_string())?;
        Ok(vocabulary.validator.validate(&set, ValidationMode::Strict))
    };
    // Fewer than eight are done sooner than a thread is started.
    in_parts(policies, 8, validate)
}

/// Does the work on parts of the items, on as many threads as there are cores. The results are in the items' order.
fn in_parts<T: Sync, R: Send>(items: &[T], smallest: usize, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let size = items.len().div_ceil(cores).max(smallest);
    let work = &work;
    if items.len() <= size {
        return vec![work(items)];
    }
    thread::scope(|scope| {
        // A part for which there is no thread is done here.
        let parts: Vec<_> = items
            .chunks(size)
            .map(|part| {
                let started = thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || work(part));
                (part, started)
            })
            .collect();
        parts
            .into_iter()
            .map(|(part, started)| match started.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => work(part),
            })
            .collect()
    })
}

/// What the main thread of a program has: an answer must not depend on which thread it is worked out on.
const STACK: usize = 8 << 20;

/// Validating the stock profiles takes longer than everything else together, and their text is part of this crate: a test
/// validates them. Here it is somebody's own policies that are in question, and those stock policies that let an action
/// through which their author never saw.
fn to_validate(policies: &[LoadedPolicy]) -> impl Iterator<Item = &LoadedPolicy> {
    policies
        .iter()
        .filter(|loaded| !loaded.is_stock || !loaded.covered_own.is_empty())
}

/// Cedar suggests whatever action is nearest, however far that is.
fn nearest_action(loaded: &LoadedPolicy, vocabulary: &Vocabulary) -> Option<String> {
    let built_in = vocabulary.schema().actions().filter(|uid| type_of(uid) == "Action");
    let known: Vec<&str> = built_in.map(id).collect();
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
fn problem(
    code: Code,
    error: &dyn miette::Diagnostic,
    loaded: &LoadedPolicy,
    sources: &HashMap<&str, &Source>,
) -> Finding {
    let found = match sources.get(loaded.location.source.as_str()) {
        Some(source) => {
            let piece = Piece {
                offset: loaded.location.offset,
                text: &loaded.text,
            };
            let found = described(code, error, Written { source, piece });
            match loaded.link {
                None => found,
                Some(_) => found.at(Some(loaded.location.clone())),
            }
        }
        None => Finding::error(code, error.to_string()).at(Some(loaded.location.clone())),
    };
    let prefix = format!("for policy `{}`, ", loaded.id);
    let message = found.message.strip_prefix(&prefix).unwrap_or(&found.message).to_owned();
    loaded.names_link(Finding { message, ..found })
}

fn compile_profiles(
    ready: &Ready,
    stock: Option<&Loaded>,
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
) -> BTreeMap<String, Plan> {
    let kinds = sampled_kinds(ready);
    let signers = signers(ready);
    if let Err(finding) = refuse_work(ready, kinds.len() + signers.len()) {
        findings.push(finding);
        return BTreeMap::new();
    }
    let mut plans = stock.map_or_else(BTreeMap::new, |stock| unchanged(stock, ready, vocabulary));
    let principals: Vec<Principal> = ready
        .profiles
        .iter()
        .filter(|profile| !plans.contains_key(*profile))
        .flat_map(|profile| {
            let signed = signers
                .iter()
                .map(|signer| Principal::any_module(profile).signed_by(signer));
            kinds.iter().map(|kind| sample(*kind, profile)).chain(signed)
        })
        .collect();
    let compile = |part: &[Principal]| -> Vec<Result<Plan, Vec<NoPlan>>> {
        part.iter()
            .map(|principal| {
                Compiler::new(ready, vocabulary, principal)
                    .map_err(|problem| vec![problem])?
                    .plan()
            })
            .collect()
    };
    let compiled = in_parts(&principals, 1, compile);
    let mut reported = Reported::of(findings);
    let by_id: HashMap<&str, &LoadedPolicy> = ready
        .policies
        .iter()
        .map(|loaded| (loaded.id.as_str(), loaded))
        .collect();
    for (principal, compiled) in principals.iter().zip(compiled.into_iter().flatten()) {
        match compiled {
            Err(problems) => {
                for problem in problems {
                    reported.add(finding_of(&problem, principal, ready), findings);
                }
            }
            Ok(plan) => {
                for finding in unlimited(&plan, &by_id) {
                    reported.add(finding, findings);
                }
                if principal.kind == PrincipalKind::Profile {
                    plans.insert(principal.profile.clone(), plan);
                }
            }
        }
    }
    plans
}

/// The plans of the stock profiles that nothing here says anything about.
fn unchanged(stock: &Loaded, ready: &Ready, vocabulary: &Vocabulary) -> BTreeMap<String, Plan> {
    let is_about_guests =
        |type_: &str| type_ == "Publisher" || PrincipalKind::ALL.iter().any(|kind| kind.name() == type_);
    let stock_entities = stock.ready.as_ref().map(|ready| &ready.entities);
    let adds_resources = ready
        .entities
        .iter()
        .filter(|entity| stock_entities.is_none_or(|stock| stock.get(&entity.uid()).is_none()))
        .any(|entity| !is_about_guests(&type_of(&entity.uid())));
    if adds_resources || !vocabulary.own.actions.is_empty() {
        return BTreeMap::new();
    }
    let says_something = |profile: &str| {
        let own = ready.policies.iter().filter(|loaded| !loaded.is_stock);
        own.into_iter().any(|loaded| may_concern(loaded, profile, ready))
    };
    stock
        .plans
        .iter()
        .filter(|(profile, _)| !says_something(profile))
        .map(|(profile, plan)| (profile.clone(), plan.clone()))
        .collect()
}

/// What stands for a profile: itself, and a guest in it of each kind that some policy treats differently.
fn sampled_kinds(ready: &Ready) -> Vec<PrincipalKind> {
    // A policy tells them apart by their type, by an attribute that only one of them has, or by there being no other type.
    let mentions = |kind: PrincipalKind, attribute: &str| {
        ready.policies.iter().any(|loaded| {
            [kind.name(), "is Profile"]
                .iter()
                .any(|word| loaded.text.contains(word))
                || loaded.asks_for(attribute)
                || matches!(loaded.policy.principal_constraint(), PrincipalConstraint::Eq(_))
        })
    };
    let others = [(PrincipalKind::Module, "sha256"), (PrincipalKind::Caller, "tenant")];
    let mentioned = others
        .into_iter()
        .filter(|(kind, attribute)| mentions(*kind, attribute));
    let mentioned = mentioned.map(|(kind, _)| kind);
    [PrincipalKind::Profile].into_iter().chain(mentioned).collect()
}

/// Any guest of this kind, in this profile.
pub(crate) fn sample(kind: PrincipalKind, profile: &str) -> Principal {
    match kind {
        PrincipalKind::Profile => Principal::profile(profile),
        PrincipalKind::Module => Principal::any_module(profile),
        PrincipalKind::Caller => Principal::any_caller(profile),
    }
}

/// One mistake is inherited by many profiles; it is reported once.
struct Reported(HashSet<(Code, Option<Location>)>);

impl Reported {
    fn of(findings: &[Finding]) -> Self {
        Self(
            findings
                .iter()
                .map(|finding| (finding.code, finding.location.clone()))
                .collect(),
        )
    }

    fn add(&mut self, finding: Finding, findings: &mut Vec<Finding>) {
        if finding.location.is_none() || self.0.insert((finding.code, finding.location.clone())) {
            findings.push(finding);
        }
    }
}

fn unlimited(plan: &Plan, policies: &HashMap<&str, &LoadedPolicy>) -> Vec<Finding> {
    let free = Meter::ALL
        .iter()
        .copied()
        .filter(|meter| plan.bound(*meter) == Bound::Unbounded);
    free.flat_map(|meter| {
        let binding = plan.binding(meter).iter().filter_map(|id| policies.get(id.as_str()));
        binding.map(move |loaded| loaded.names_link(unbounded(loaded, meter)))
    })
    .collect()
}

fn policy<'a>(ready: &'a Ready, id: &str) -> Option<&'a LoadedPolicy> {
    ready.policies.iter().find(|loaded| loaded.id == id)
}

/// What to say about a principal that has no plan.
pub(crate) fn finding_of(problem: &NoPlan, principal: &Principal, ready: &Ready) -> Finding {
    let involved = match problem {
        NoPlan::Meter(_, NoBound::NotInterval { policy } | NoBound::ForbidCanError { policy, .. }) => Some(policy),
        NoPlan::Meter(_, NoBound::Holes { policies, .. }) => policies.first(),
        _ => None,
    };
    let finding = words_for(problem, principal);
    match involved.and_then(|id| policy(ready, id)) {
        Some(loaded) => loaded.names_link(finding.at(Some(loaded.location.clone()))),
        None => finding,
    }
}

fn words_for(problem: &NoPlan, principal: &Principal) -> Finding {
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
        }
        NoPlan::Meter(meter, NoBound::ForbidCanError { policy, at }) => {
            let unit = meter.unit().name();
            Finding::error(
                Code::ForbidCanError,
                format!("the condition of `{policy}` overflows where `context.{unit}` is {at}"),
            )
            .with_help("cedar skips a forbid that errors, so it would not forbid; move the arithmetic to the constant")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str, kind: SourceKind) -> Source {
        Source {
            name: name.to_owned(),
            text: text.to_owned(),
            kind,
        }
    }

    /// Loading takes the stock as valid, because it is the same in every process. This is where it is validated.
    #[test]
    fn the_stock_is_valid() {
        let ready = load(&[], Stock::With).ready.unwrap();
        assert!(ready.policies.iter().all(|loaded| loaded.is_stock));
        assert_eq!(to_validate(&ready.policies).count(), 0);
        let set = PolicySet::from_policies(ready.policies.iter().map(|loaded| Policy::clone(&loaded.policy))).unwrap();
        assert!(set.num_of_policies() > 50);
        let result = vocabulary().unwrap().validator.validate(&set, ValidationMode::Strict);
        assert!(result.validation_passed_without_warnings(), "{result}");
    }

    /// The plans of the stock profiles, compiled among somebody's policies without looking at what was compiled before.
    fn afresh(sources: &[Source]) -> BTreeMap<String, Plan> {
        let mut all = stock_sources();
        let built_in = all.len();
        all.extend_from_slice(sources);
        load_all(&all, built_in, None).plans
    }

    #[test]
    fn plans_that_are_kept_are_those_that_would_be_made() {
        let team = r#"[{"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "pure"}]}]"#;
        let function = r#"[{"uid": {"type": "SqlFunction", "id": "mine"}, "attrs": {}, "parents": [{"type": "SqlFunctionClass", "id": "computing"}]}]"#;
        let policy = |scope: &str| {
            format!(
                "@id(\"x\") forbid ({scope}, action in [Action::\"read\", Action::\"elapse\"], resource) when {{ principal is Profile }};"
            )
        };
        let cases = [
            (policy("principal in Profile::\"team\""), team, 11),
            (policy("principal in Profile::\"pure\""), team, 10),
            (policy("principal in Profile::\"capabilities-minimal\""), team, 3),
            (policy("principal == Profile::\"pure\""), team, 0),
            (policy("principal"), team, 0),
            (String::new(), function, 0),
        ];
        for (policies, entities, at_most) in cases {
            let sources = [
                source("a.cedar", &policies, SourceKind::Policies),
                source("a.json", entities, SourceKind::Entities),
            ];
            let loaded = load(&sources, Stock::With);
            assert_eq!(loaded.findings, [], "{policies}");
            let digests = |plans: &BTreeMap<String, Plan>| -> Vec<String> {
                plans.values().map(|plan| plan.digest().to_owned()).collect()
            };
            assert_eq!(digests(&loaded.plans), digests(&afresh(&sources)), "{policies}");
            let ready = loaded.ready.unwrap();
            let kept = unchanged(&STOCK, &ready, vocabulary().unwrap()).len();
            assert!(kept <= at_most && (kept > 0) == (at_most > 0), "{policies} {kept}");
        }
    }

    #[test]
    fn parts_are_in_order_and_lose_nothing() {
        let numbers: Vec<usize> = (0..1000).collect();
        for smallest in [1, 7, 999, 1000, 5000] {
            let parts = in_parts(&numbers, smallest, <[usize]>::to_vec);
            assert_eq!(parts.concat(), numbers);
        }
        assert!(in_parts(&[] as &[usize], 1, <[usize]>::to_vec).concat().is_empty());
    }
}
