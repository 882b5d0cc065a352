//! What becomes of one mutant.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint, ValidationMode, Validator};
use serde_json::Value as Json;

use crate::compile::Ready;
use crate::entities::declare;
use crate::finding::{Code, Finding, Severity};
use crate::lint::lint;
use crate::load::finding_of;
use crate::mutate::edits::Edit;
use crate::mutate::parents::Parent;
use crate::mutate::report::{Killer, MutantReport, Verdict};
use crate::mutate::shown::{difference, printed};
use crate::mutate::variant::{Variant, with_policy_replaced};
use crate::mutate::witness::Witness;
use crate::mutate::{Attacked, Beyond, Mutable, Mutant, Mutation, Operator, Unnoticed};
use crate::parse::LoadedPolicy;
use crate::principal::{Principal, PrincipalKind};
use crate::publisher::signers;
use crate::schema::{id, type_of, uid};
use crate::store::PolicyStore;
use crate::suite::Suite;

/// Judges mutants, one after the other.
pub(crate) struct Judge<'a> {
    mutation: &'a Mutation,
    suite: &'a Suite,
    beyond: Beyond<'a>,
    validator: &'a Validator,
    /// The printed form of the originals that were shown before, by policy.
    printed: RefCell<HashMap<usize, Vec<String>>>,
}

/// Somebody, and an action about which the mutant says something else.
pub(crate) struct Difference {
    pub(crate) principal: Principal,
    pub(crate) action: &'static str,
}

/// Why a mutant needs no further judging.
enum Early {
    Stillborn(String),
    Refused(Code),
}

impl From<String> for Early {
    fn from(because: String) -> Self {
        Self::Stillborn(because)
    }
}

impl<'a> Judge<'a> {
    pub(crate) fn new(mutation: &'a Mutation, suite: &'a Suite, beyond: Beyond<'a>) -> Self {
        Self {
            mutation,
            suite,
            beyond,
            validator: &mutation.origin.store.vocabulary().validator,
            printed: RefCell::default(),
        }
    }

    pub(crate) fn judge(&self, mutant: Mutant<'_>) -> MutantReport {
        let verdict = match self.variant(mutant) {
            Ok(store) => self.verdict(&store),
            Err(early) => verdict_of(early),
        };
        self.report(mutant, verdict)
    }

    pub(crate) fn unjudged(&self, mutant: Mutant<'_>) -> MutantReport {
        self.report(mutant, Verdict::Unjudged)
    }

    fn report(&self, mutant: Mutant<'_>, verdict: Verdict) -> MutantReport {
        let (subject, location, operator) = match mutant {
            Mutant::Policy { policy, edit } => (&policy.loaded.id, &policy.loaded.location, edit.operator),
            Mutant::Parent(parent) => (&parent.entity, &parent.location, Operator::DropParent),
        };
        MutantReport {
            subject: subject.clone(),
            location: location.clone(),
            operator,
            diff: self.difference(mutant),
            verdict,
        }
    }

    fn difference(&self, mutant: Mutant<'_>) -> Vec<String> {
        match mutant {
            Mutant::Parent(parent) => vec![format!("- {} in {}", parent.entity, parent.above)],
            Mutant::Policy { policy, edit } => {
                let mut known = self.printed.borrow_mut();
                let before = known.entry(policy.index).or_insert_with(|| printed(&policy.json));
                let after = policy.edited(edit).map_or_else(Vec::new, |json| printed(&json));
                difference(before, &after)
            }
        }
    }

    /// The policies with this mistake in them, where they load.
    fn variant(&self, mutant: Mutant<'_>) -> Result<PolicyStore, Early> {
        match mutant {
            Mutant::Policy { policy, edit } => self.with_policy(policy, edit),
            Mutant::Parent(parent) => self.without_parent(parent),
        }
    }

    fn with_policy(&self, policy: &Mutable, edit: &Edit) -> Result<PolicyStore, Early> {
        let origin = &self.mutation.origin;
        let edited = policy.edited(edit).map(|json| self.loaded(&policy.loaded, json));
        let replacement = edited.transpose()?;
        if let Some(loaded) = &replacement {
            self.check(loaded)?;
        }
        let (changed, touched, reach) = with_policy_replaced(origin.store.ready(), policy.index, replacement)?;
        Ok(origin.store.variant(changed, Variant::new(origin, touched, reach)))
    }

    fn loaded(&self, original: &LoadedPolicy, json: Json) -> Result<LoadedPolicy, String> {
        let policy = Policy::from_json(Some(PolicyId::new(&original.id)), json).map_err(|error| error.to_string())?;
        let covered = self
            .mutation
            .origin
            .store
            .vocabulary()
            .covered(&policy.action_constraint());
        Ok(LoadedPolicy {
            covered: covered.into_iter().map(str::to_owned).collect(),
            text: policy.to_cedar().ok_or("it cannot be written down")?,
            policy: policy.into(),
            ..original.clone()
        })
    }

    /// What loading checks about one policy by itself.
    fn check(&self, loaded: &LoadedPolicy) -> Result<(), Early> {
        let set = PolicySet::from_policies([Policy::clone(&loaded.policy)]).map_err(|error| error.to_string())?;
        let result = self.validator.validate(&set, ValidationMode::Strict);
        // Cedar reports them in no order.
        if let Some(error) = result.validation_errors().map(ToString::to_string).min() {
            return Err(Early::Stillborn(error));
        }
        if result.validation_warnings().next().is_some() {
            return Err(Early::Refused(Code::ValidationWarning));
        }
        let Mutation { origin, .. } = self.mutation;
        let one = std::slice::from_ref(loaded);
        first_error(&lint(one, &origin.store.ready().profiles, origin.store.vocabulary()))
    }

    fn without_parent(&self, parent: &Parent) -> Result<PolicyStore, Early> {
        let origin = &self.mutation.origin;
        let ready = origin.store.ready();
        let sources = self.mutation.entities.iter();
        let sources: Vec<_> = sources
            .map(|source| parent.dropped_from(source).unwrap_or_else(|| source.clone()))
            .collect();
        let mut findings = Vec::new();
        let declared = declare(&sources, origin.store.vocabulary(), &mut findings);
        first_error(&findings)?;
        let changed = Ready {
            entities: declared.entities,
            profiles: declared.profiles,
            ..ready.clone()
        };
        let entity = uid(&parent.type_, &parent.id)?;
        Ok(origin.store.variant(changed, Variant::of_entities(origin, &entity)))
    }

    fn verdict(&self, store: &PolicyStore) -> Verdict {
        let differences = match self.differences(store) {
            Ok(differences) => differences,
            Err(early) => return verdict_of(early),
        };
        if differences.is_empty() && !asks_for_digests(store) && !asks_for_digests(&self.mutation.origin.store) {
            return Verdict::Equivalent { proven: false };
        }
        if let Some(test) = self.failing_test(store, &differences) {
            return killed(Killer::Test(test));
        }
        let original = &self.mutation.origin.store;
        let witness = Witness::find(original, store, &differences);
        let profiles = differences.into_iter().map(|found| found.principal.profile).collect();
        let unnoticed = Unnoticed {
            original,
            mutant: store,
            profiles: &profiles,
        };
        if witness.is_none() && self.beyond.proof.is_some_and(|proves| proves(&unnoticed)) {
            return Verdict::Equivalent { proven: true };
        }
        match self.beyond.attacks.map(|attack| attack(&unnoticed)) {
            Some(Attacked::Noticed(attack)) => killed(Killer::Attack(attack)),
            Some(Attacked::Untried) => Verdict::Unjudged,
            Some(Attacked::Unnoticed) | None => Verdict::Survived {
                example: witness.map(Witness::into_example),
            },
        }
    }

    /// The first test that fails, of those that could.
    fn failing_test(&self, store: &PolicyStore, differences: &[Difference]) -> Option<String> {
        let variant = store.as_variant()?;
        let known = differences
            .iter()
            .map(|found| ((found.principal.clone(), found.action), true));
        let known: RefCell<HashMap<(Principal, &'static str), bool>> = RefCell::new(known.collect());
        let concerns = |principal: &Principal, action: &'static str| {
            if !variant.touched.contains(action) {
                return false;
            }
            let mut known = known.borrow_mut();
            let key = (principal.clone(), action);
            *known
                .entry(key)
                .or_insert_with(|| variant.differs(store.ready(), principal, action).unwrap_or(true))
        };
        let failure = self.suite.first_failure_among(store, &concerns)?;
        Some(failure.name)
    }

    /// Where the mutant says something else than the original; that it does not compile is found here too.
    fn differences(&self, store: &PolicyStore) -> Result<Vec<Difference>, Early> {
        let origin = &self.mutation.origin;
        let (before, after) = (origin.store.ready(), store.ready());
        let Some(variant) = store.as_variant() else {
            return Ok(Vec::new());
        };
        let mut differences = Vec::new();
        for principal in principals(before, after, &variant.touched) {
            for action in variant.touched.iter().copied() {
                let differs = match variant.differs(after, &principal, action) {
                    Err(problem) if is_sample(&principal) => {
                        return Err(Early::Refused(finding_of(&problem, &principal, after).code));
                    }
                    differs => differs.unwrap_or(true),
                };
                if differs {
                    differences.push(Difference {
                        principal: principal.clone(),
                        action,
                    });
                }
            }
        }
        Ok(differences)
    }
}

fn verdict_of(early: Early) -> Verdict {
    match early {
        Early::Stillborn(because) => Verdict::Stillborn { because },
        Early::Refused(code) => killed(Killer::Check(code)),
    }
}

fn killed(by: Killer) -> Verdict {
    Verdict::Killed { by }
}

fn first_error(findings: &[Finding]) -> Result<(), Early> {
    match findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(error) => Err(Early::Refused(error.code)),
        None => Ok(()),
    }
}

const NOBODYS_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ANYBODY: &str = "anybody";

/// Loading compiles every profile, and somebody of each kind in it.
fn is_sample(principal: &Principal) -> bool {
    match principal.kind {
        PrincipalKind::Profile => true,
        PrincipalKind::Module => principal.id == NOBODYS_DIGEST,
        PrincipalKind::Caller => principal.id == ANYBODY,
    }
}

/// Everybody whose plan could be another: each profile; where some policy tells guests in it apart, a guest of each kind
/// and every guest that is named; and the guests that are declared.
fn principals(before: &Ready, after: &Ready, touched: &BTreeSet<&'static str>) -> Vec<Principal> {
    let told_apart = [before, after].into_iter().any(|ready| {
        let mut covering = ready
            .policies
            .iter()
            .filter(|loaded| loaded.covered.iter().any(|action| touched.contains(action.as_str())));
        covering.any(tells_guests_apart)
    });
    let mut guests: BTreeSet<(PrincipalKind, String)> = BTreeSet::new();
    if told_apart {
        guests.insert((PrincipalKind::Module, NOBODYS_DIGEST.to_owned()));
        guests.insert((PrincipalKind::Caller, ANYBODY.to_owned()));
        for ready in [before, after] {
            for loaded in &ready.policies {
                guests.extend(loaded.named("Module").into_iter().map(|id| (PrincipalKind::Module, id)));
                guests.extend(loaded.named("Caller").into_iter().map(|id| (PrincipalKind::Caller, id)));
            }
        }
    }
    let mut principals = Vec::new();
    let signers: BTreeSet<String> = [before, after].into_iter().flat_map(signers).collect();
    for profile in &before.profiles {
        principals.push(Principal::profile(profile));
        principals.extend(guests.iter().map(|(kind, id)| guest(*kind, id, profile)));
        principals.extend(
            signers
                .iter()
                .map(|signer| Principal::any_module(profile).signed_by(signer)),
        );
    }
    for ready in [before, after] {
        for (kind, uid) in declared(ready) {
            let above = ready.entities.ancestors(&uid).into_iter().flatten();
            let mut profiles: Vec<&str> = above.filter(|above| type_of(above) == "Profile").map(id).collect();
            if profiles.is_empty() {
                profiles.extend(ready.profiles.iter().map(String::as_str));
            }
            profiles.sort_unstable();
            for profile in profiles {
                let principal = guest(kind, id(&uid), profile);
                if !principals.contains(&principal) {
                    principals.push(principal);
                }
            }
        }
    }
    principals
}

fn declared(ready: &Ready) -> Vec<(PrincipalKind, EntityUid)> {
    let kind_of = |uid: &EntityUid| match type_of(uid).as_str() {
        "Module" => Some(PrincipalKind::Module),
        "Caller" => Some(PrincipalKind::Caller),
        _ => None,
    };
    let mut found: Vec<(PrincipalKind, EntityUid)> = ready
        .entities
        .iter()
        .filter_map(|entity| Some((kind_of(&entity.uid())?, entity.uid())))
        .collect();
    found.sort_by_cached_key(|(_, uid)| uid.to_string());
    found
}

fn guest(kind: PrincipalKind, id: &str, profile: &str) -> Principal {
    match kind {
        PrincipalKind::Module => Principal::module(id, profile),
        PrincipalKind::Caller => Principal::caller(id, profile),
        PrincipalKind::Profile => Principal::profile(profile),
    }
}

/// Whether some policy asks for a module's digest. Then a change can concern a module that nobody named, and only a solver
/// can tell that it does not.
fn asks_for_digests(store: &PolicyStore) -> bool {
    let mut policies = store.ready().policies.iter().filter(|loaded| !loaded.is_stock);
    policies.any(LoadedPolicy::asks_for_a_digest)
}

/// Whether a policy can say one thing of a profile and another of a guest in it.
fn tells_guests_apart(loaded: &LoadedPolicy) -> bool {
    let by_scope = match loaded.policy.principal_constraint() {
        PrincipalConstraint::Any => false,
        PrincipalConstraint::In(above) => type_of(&above) != "Profile",
        PrincipalConstraint::Eq(_) | PrincipalConstraint::Is(_) | PrincipalConstraint::IsIn(..) => true,
    };
    // A name or a string that has the word in it costs time, and nothing else.
    by_scope || loaded.text.matches("principal").count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{LoadError, Source, SourceKind, Stock};
    use crate::plan::{Bound, Plan};
    use crate::principal::Principal;
    use crate::resource::Resource;
    use crate::vocabulary::{Action, Meter, Question, SqlAction};

    fn source(kind: SourceKind, text: &str) -> Source {
        Source {
            name: "team".to_owned(),
            text: text.to_owned(),
            kind,
        }
    }

    fn sources() -> Vec<Source> {
        vec![
            source(
                SourceKind::Entities,
                r#"[
                    {"uid": {"type": "Profile", "id": "base"}, "attrs": {}, "parents": []},
                    {"uid": {"type": "Profile", "id": "team"}, "attrs": {}, "parents": [{"type": "Profile", "id": "base"}]},
                    {"uid": {"type": "HostFunction", "id": "stockade#log"}, "attrs": {}, "parents": [{"type": "Capability", "id": "logs"}]},
                    {"uid": {"type": "Capability", "id": "logs"}, "attrs": {}, "parents": []}
                ]"#,
            ),
            source(
                SourceKind::Policies,
                r#"
                @id("time") permit (principal in Profile::"base", action == Action::"elapse", resource == Meter::"guest")
                when { context.millis <= 100 };
                @id("less") forbid (principal in Profile::"team", action == Action::"elapse", resource == Meter::"guest")
                unless { context.millis <= 50 };
                @id("rows") permit (principal in Profile::"base", action in [Action::"read", Action::"insert"], resource in Database::"main");
                @id("secret") forbid (principal == Profile::"team", action == Action::"read", resource == Column::"main.staff.pay");
                @id("log") permit (principal in Profile::"team", action == Action::"writeLog", resource in Capability::"logs");
                @id("select") permit (principal, action == Action::"select", resource);
                "#,
            ),
        ]
    }

    /// The sources as somebody would have written the mutant, loaded from nothing.
    fn loaded(mutant: Mutant<'_>) -> Result<PolicyStore, LoadError> {
        let mut written = sources();
        match mutant {
            Mutant::Parent(parent) => {
                for source in written.iter_mut().filter(|source| source.kind == SourceKind::Entities) {
                    *source = parent.dropped_from(source).unwrap();
                }
            }
            Mutant::Policy { policy, edit } => {
                let text = policy.edited(edit).map_or_else(String::new, |json| {
                    let policy = Policy::from_json(None, json).unwrap();
                    policy.to_cedar().unwrap()
                });
                for source in written.iter_mut().filter(|source| source.kind == SourceKind::Policies) {
                    source.text = source.text.replace(&policy.loaded.text, &text);
                }
            }
        }
        PolicyStore::load(&written, Stock::Without)
    }

    fn questions() -> Vec<(Action, Resource)> {
        let mut questions = Vec::new();
        for action in Action::all() {
            let resources = [
                Resource::column("main", "staff", "pay"),
                Resource::column("main", "staff", "name"),
                Resource::column("temp", "staff", "pay"),
                Resource::table("main", "staff"),
                Resource::table("temp", "staff"),
                Resource::database("main"),
                Resource::host_function("stockade#log"),
                Resource::host_function("other"),
            ];
            questions.extend(resources.map(|resource| (action, resource)));
        }
        questions
    }

    fn assert_same(variant: &Plan, whole: &Plan, place: &str) {
        for meter in Meter::ALL {
            assert_eq!(variant.bound(*meter), whole.bound(*meter), "{place} {}", meter.action());
            assert_eq!(
                variant.binding(*meter),
                whole.binding(*meter),
                "{place} {}",
                meter.action()
            );
        }
        for (action, resource) in questions() {
            let context: Vec<_> = Vec::new();
            let question = Question {
                action,
                resource: &resource,
                context: &context,
            };
            let place = format!("{place} {} {resource}", action.id());
            assert_eq!(variant.decide(&question), whole.decide(&question), "{place}");
        }
    }

    #[test]
    fn a_variant_is_what_loading_the_mutant_from_nothing_gives() {
        let mutation = Mutation::of(&sources(), Stock::Without).unwrap();
        let suite = Suite::read(&[]).unwrap();
        let judge = Judge::new(&mutation, &suite, Beyond::default());
        let (mut compared, mut refused) = (0, 0);
        for mutant in mutation.mutants() {
            let record = judge.judge(mutant);
            let place = format!("{} {:?}", record.subject, record.diff);
            match (judge.variant(mutant), loaded(mutant)) {
                (Ok(variant), Ok(whole)) => {
                    let guests = [
                        Principal::module(&"1".repeat(64), "team"),
                        Principal::caller("guest", "base"),
                    ];
                    for principal in [Principal::profile("base"), Principal::profile("team")]
                        .iter()
                        .chain(&guests)
                    {
                        assert_same(
                            &variant.plan(principal).unwrap(),
                            &whole.plan(principal).unwrap(),
                            &place,
                        );
                    }
                    assert!(!matches!(record.verdict, Verdict::Stillborn { .. }), "{place}");
                    compared += 1;
                }
                (_, Err(_)) => {
                    let is_refused = matches!(
                        &record.verdict,
                        Verdict::Stillborn { .. } | Verdict::Killed { by: Killer::Check(_) }
                    );
                    assert!(is_refused, "{place} {:?}", record.verdict);
                    refused += 1;
                }
                (Err(_), Ok(_)) => panic!("{place} loads"),
            }
        }
        assert!(compared > 30 && refused > 5, "{compared} compared, {refused} refused");
    }

    #[test]
    fn a_plan_that_a_mistake_does_not_reach_is_the_original_itself() {
        let mutation = Mutation::of(&sources(), Stock::Without).unwrap();
        let suite = Suite::read(&[]).unwrap();
        let judge = Judge::new(&mutation, &suite, Beyond::default());
        let less = mutation.mutants().find(|mutant| {
            matches!(mutant, Mutant::Policy { policy, edit }
                if policy.loaded.id == "less" && edit.operator == Operator::DropPolicy)
        });
        let Ok(variant) = judge.variant(less.unwrap()) else {
            panic!("it loads")
        };
        let (base, team) = (Principal::profile("base"), Principal::profile("team"));
        let original = mutation.original();
        assert_eq!(
            variant.plan(&base).unwrap().digest(),
            original.plan(&base).unwrap().digest()
        );
        assert_eq!(variant.plan(&team).unwrap().bound(Meter::Elapse), Bound::Limited(100));
        assert_eq!(original.plan(&team).unwrap().bound(Meter::Elapse), Bound::Limited(50));
        assert_eq!(
            variant.plan(&team).unwrap().bit(Action::Sql(SqlAction::Select)),
            Some(true)
        );
    }
}
