//! What changed in effect between two policy sets.
//!
//! Sets are compared by what they come to: for each principal each meter's bound and each action's answer. Where an answer
//! depends on the question, what partial evaluation leaves of both sides is brought into a form in which one can be shown
//! to follow from the other (`allowed`). What cannot be shown is looked for with the questions that the policies
//! suggest, put to both plans and confirmed by Cedar's authorizer. What is neither shown nor found is said to be open.

mod allowed;
mod questions;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{Entity, Policy};
use serde::Serialize;

use crate::check::BoundReport;
use crate::compile::{Compiler, NoPlan, in_order};
use crate::limits::may_concern;
use crate::plan::{Bound, Decision, Plan};
use crate::principal::{Principal, PrincipalKind};
use crate::publisher::signers;
use crate::resource::ResourceKind;
use crate::schema::{id, type_of, uid};
use crate::store::{PlanError, PolicyStore};
use crate::vocabulary::{Action, Meter, Question, Value};
use allowed::Allowed;
use questions::{Asked, Mentioned};

/// What changed in effect. Empty where nothing did, however the text changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The principals for whom something changed: profiles by name, each before the guests in it.
    pub principals: Vec<PrincipalDifference>,
}

impl Difference {
    /// Nothing changed in effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.principals.is_empty()
    }

    /// Every change.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.principals.iter().flat_map(|principal| &principal.changes)
    }

    /// Something is allowed that was not, or that could not be excluded.
    #[must_use]
    pub fn may_widen(&self) -> bool {
        self.changes().any(|change| change.widening != Evidence::Excluded)
    }

    /// Something is no longer allowed, or that could not be excluded.
    #[must_use]
    pub fn may_narrow(&self) -> bool {
        self.changes().any(|change| change.narrowing != Evidence::Excluded)
    }
}

/// What changed for one principal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrincipalDifference {
    /// Who it is. A guest stands here beside its profile only where something else changed for it.
    pub principal: Principal,
    /// What changed: where it may run, then bounds, then actions.
    pub changes: Vec<Change>,
}

/// One change, and whether it allows more or less.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// In short.
    pub direction: Direction,
    /// Whether something is allowed that was not.
    pub widening: Evidence,
    /// Whether something is no longer allowed.
    pub narrowing: Evidence,
    /// What changed.
    pub what: What,
}

/// Whether a change allows more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// More is allowed.
    Widening,
    /// Less is allowed, and nothing more.
    Narrowing,
    /// Some things are allowed that were not, and some no longer are.
    Both,
    /// It could not be excluded that more is allowed, and no question was found that shows it.
    Unknown,
}

/// What is known about one direction of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// A number or an example shows it.
    Shown,
    /// It was shown that it cannot be.
    Excluded,
    /// Neither.
    Open,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum What {
    /// A profile is there now, or no longer.
    Profile {
        /// It is declared in the new set.
        is_declared: bool,
    },
    /// The profiles that a declared guest may run in; none where it may run in any.
    Confinement {
        /// Before.
        old: Option<Vec<String>>,
        /// Now.
        new: Option<Vec<String>>,
    },
    /// The bound of a meter.
    Bound {
        /// Before.
        old: BoundReport,
        /// Now.
        new: BoundReport,
    },
    /// The answer to an action.
    Action {
        /// The action.
        action: Action,
        /// Before.
        old: Answered,
        /// Now.
        new: Answered,
        /// Questions that are decided differently: one that is allowed now, one that is denied now.
        examples: Vec<Example>,
    },
    /// Policies that differ and whose effect is not compared: they ask for a module's digest, or are about actions of the
    /// user's own.
    Unseen {
        /// Before.
        old: Vec<String>,
        /// Now.
        new: Vec<String>,
    },
}

/// How much of an action is granted, and the policies that take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// How much of it.
    pub extent: Extent,
    /// The policies that take part.
    pub policies: Vec<String>,
}

/// How much of an action is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// No such question is allowed.
    Nothing,
    /// It depends on the resource or the context.
    Some,
    /// Every such question is allowed.
    Everything,
}

/// One question that the two sides decide differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The resource as policies write it.
    pub resource: String,
    /// What else was said.
    pub context: BTreeMap<String, serde_json::Value>,
    /// What was decided before.
    pub old: Decision,
    /// What is decided now.
    pub new: Decision,
}

/// What changed in effect from one policy set to another.
///
/// # Errors
///
/// Where a declared guest has no plan in one of the sets, or a plan and Cedar's authorizer disagree.
pub fn diff(old: &PolicyStore, new: &PolicyStore) -> Result<Difference, PlanError> {
    let mut comparison = Comparison {
        old,
        new,
        found: HashMap::new(),
    };
    let mut principals = Vec::new();
    for profile in both(old.profiles(), new.profiles()) {
        comparison.profile(&profile, &mut principals)?;
    }
    for guest in both(guests(old), guests(new)) {
        comparison.guest(&guest, &mut principals)?;
    }
    Ok(Difference { principals })
}

fn both<T: Ord>(old: Vec<T>, new: Vec<T>) -> BTreeSet<T> {
    old.into_iter().chain(new).collect()
}

/// Two sets, and what was found out about them.
struct Comparison<'a> {
    old: &'a PolicyStore,
    new: &'a PolicyStore,
    /// Profiles inherit: the same is left of the policies for many principals, and is searched once.
    found: HashMap<(Action, Allowed, Allowed), Found>,
}

/// Questions that show that more is allowed, and that less is.
#[derive(Debug, Clone, Default)]
struct Found {
    wider: Option<Asked>,
    narrower: Option<Asked>,
}

/// One principal in one set.
struct Side<'a> {
    store: &'a PolicyStore,
    compiler: Compiler<'a>,
    plan: Plan,
}

impl<'a> Side<'a> {
    /// Nothing where the set does not declare the profile.
    fn new(store: &'a PolicyStore, principal: &'a Principal) -> Result<Option<Self>, PlanError> {
        if !store.ready().profiles.contains(&principal.profile) {
            return Ok(None);
        }
        let plan = store.plan(principal)?;
        let compiler = store.compiler(principal)?;
        Ok(Some(Self { store, compiler, plan }))
    }
}

impl Comparison<'_> {
    /// A profile, and the guests in it whom policies treat differently.
    fn profile(&mut self, name: &str, principals: &mut Vec<PrincipalDifference>) -> Result<(), PlanError> {
        let profile = Principal::profile(name);
        let declared = |store: &PolicyStore| store.ready().profiles.contains(name);
        let mut changes = match (declared(self.old), declared(self.new)) {
            (before, now) if before == now => Vec::new(),
            (_, is_declared) => vec![Change::new(widening_if(is_declared), What::Profile { is_declared })],
        };
        let of_profile = self.compare(&profile, &profile)?;
        changes.extend(of_profile.iter().cloned());
        changes.extend(self.unseen(name));
        push(profile.clone(), changes, principals);
        let module = Principal::any_module(name);
        let mut of_module = of_profile.clone();
        for guest in [Principal::any_caller(name), module.clone()] {
            let of_guest = self.compare(&guest, &guest)?;
            of_module.clone_from(&of_guest);
            if of_guest != of_profile {
                push(guest, of_guest, principals);
            }
        }
        for signer in both(signers(self.old.ready()), signers(self.new.ready())) {
            // Where a set has no key of it, nothing that it signed runs there; what it was before is what anybody's is.
            let signed = |store: &PolicyStore| {
                let has_key = store.publisher_keys().iter().any(|key| key.publisher == signer);
                if has_key {
                    module.clone().signed_by(&signer)
                } else {
                    module.clone()
                }
            };
            let of_signed = self.compare(&signed(self.old), &signed(self.new))?;
            if of_signed != of_module {
                push(module.clone().signed_by(&signer), of_signed, principals);
            }
        }
        Ok(())
    }

    /// What is not compared, where it differs.
    fn unseen(&self, profile: &str) -> Option<Change> {
        let beyond = |store: &PolicyStore| -> BTreeMap<String, String> {
            let ready = store.ready();
            let policies = ready.policies.iter();
            policies
                .filter(|loaded| loaded.asks_for_a_digest() || !loaded.covered_own.is_empty())
                .filter(|loaded| may_concern(loaded, profile, ready))
                .map(|loaded| (loaded.id.clone(), loaded.text.clone()))
                .collect()
        };
        let (old, new) = (beyond(self.old), beyond(self.new));
        let is_same_schema = self.old.vocabulary().own.texts == self.new.vocabulary().own.texts;
        let is_same = old == new && (is_same_schema || new.is_empty());
        let ids = |policies: BTreeMap<String, String>| policies.into_keys().collect();
        (!is_same).then(|| {
            Change::new(
                (Evidence::Open, Evidence::Open),
                What::Unseen {
                    old: ids(old),
                    new: ids(new),
                },
            )
        })
    }

    /// A module or caller that is declared or named, in the profile that it is confined to, or in each.
    fn guest(&mut self, guest: &Guest, principals: &mut Vec<PrincipalDifference>) -> Result<(), PlanError> {
        let (old, new) = (guest.confinement(self.old)?, guest.confinement(self.new)?);
        let mut changes = Vec::new();
        if old != new {
            let within = |narrow: &Option<Vec<String>>, wide: &Option<Vec<String>>| match (narrow, wide) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(narrow), Some(wide)) => narrow.iter().all(|profile| wide.contains(profile)),
            };
            let evidence = |excluded: bool| if excluded { Evidence::Excluded } else { Evidence::Shown };
            let directions = (evidence(within(&new, &old)), evidence(within(&old, &new)));
            let (old, new) = (old.clone(), new.clone());
            changes.push(Change::new(directions, What::Confinement { old, new }));
        }
        let first = |profiles: &Option<Vec<String>>| profiles.as_ref().and_then(|profiles| profiles.first().cloned());
        let homes: Vec<(String, String)> = match (first(&old), first(&new)) {
            (Some(old), Some(new)) => vec![(old, new)],
            (Some(only), None) | (None, Some(only)) => vec![(only.clone(), only)],
            (None, None) => both(self.old.profiles(), self.new.profiles())
                .into_iter()
                .map(|profile| (profile.clone(), profile))
                .collect(),
        };
        for (before, now) in homes {
            let (before, now) = (guest.in_profile(&before), guest.in_profile(&now));
            let mut of_guest = std::mem::take(&mut changes);
            of_guest.extend(self.compare(&before, &now)?);
            let usual = self.compare(&guest.anybody_in(&before.profile), &guest.anybody_in(&now.profile))?;
            if of_guest != usual {
                push(now, of_guest, principals);
            }
        }
        Ok(())
    }

    /// Bounds and actions.
    fn compare(&mut self, before: &Principal, now: &Principal) -> Result<Vec<Change>, PlanError> {
        let (old, new) = (Side::new(self.old, before)?, Side::new(self.new, now)?);
        if let (Some(old), Some(new)) = (&old, &new)
            && old.plan.digest() == new.plan.digest()
        {
            return Ok(Vec::new());
        }
        let mut changes: Vec<Change> = Meter::ALL
            .iter()
            .filter_map(|meter| bound_change(*meter, old.as_ref(), new.as_ref()))
            .collect();
        for action in Action::all() {
            changes.extend(self.action(&Pair {
                action,
                old: old.as_ref(),
                new: new.as_ref(),
            })?);
        }
        Ok(changes)
    }

    fn action(&mut self, pair: &Pair<'_>) -> Result<Option<Change>, PlanError> {
        let (before, now) = (answered(pair.action, pair.old), answered(pair.action, pair.new));
        let (old, new) = (before.extent, now.extent);
        if old == new && old != Extent::Some {
            return Ok(None);
        }
        if old != Extent::Some && new != Extent::Some {
            let what = What::Action {
                action: pair.action,
                old: before,
                new: now,
                examples: Vec::new(),
            };
            return Ok(Some(Change::new(widening_if(new == Extent::Everything), what)));
        }
        let left = pair.left()?;
        let comparable = pair.is_on_same_ground()?;
        let no_wider =
            new == Extent::Nothing || old == Extent::Everything || (comparable && left.new.is_within(&left.old));
        let no_narrower =
            old == Extent::Nothing || new == Extent::Everything || (comparable && left.old.is_within(&left.new));
        if comparable && left.new.is_within(&left.old) && left.old.is_within(&left.new) {
            return Ok(None);
        }
        let found = self.found(pair, left, comparable)?;
        let examples = pair.confirmed(&found)?;
        let evidence = |is_excluded: bool, is_shown: bool| match (is_shown, is_excluded) {
            (true, _) => Evidence::Shown,
            (false, true) => Evidence::Excluded,
            (false, false) => Evidence::Open,
        };
        let directions = (
            evidence(no_wider, examples.iter().any(|example| example.new.allowed)),
            evidence(no_narrower, examples.iter().any(|example| example.old.allowed)),
        );
        let what = What::Action {
            action: pair.action,
            old: before,
            new: now,
            examples,
        };
        Ok(Some(Change::new(directions, what)))
    }

    fn found(&mut self, pair: &Pair<'_>, left: Left, comparable: bool) -> Result<Found, PlanError> {
        let key = (pair.action, left.old, left.new);
        if let Some(found) = self.found.get(&key).filter(|_| comparable) {
            return Ok(found.clone());
        }
        let mentioned = Mentioned::by(&left.policies).map_err(PlanError::Engine)?;
        let found = pair.search(&mentioned.and_declared(pair.declared()));
        if comparable {
            self.found.insert(key, found.clone());
        }
        Ok(found)
    }
}

/// One action on both sides.
struct Pair<'a> {
    action: Action,
    old: Option<&'a Side<'a>>,
    new: Option<&'a Side<'a>>,
}

/// What partial evaluation left of both sides.
struct Left {
    policies: Vec<Policy>,
    old: Allowed,
    new: Allowed,
}

impl Pair<'_> {
    fn left(&self) -> Result<Left, PlanError> {
        let left_of = |side: Option<&Side<'_>>| side.map_or(Ok(Vec::new()), |side| side.left_of(self.action));
        let (mut policies, new) = (left_of(self.old)?, left_of(self.new)?);
        let allowed = |left: &[Policy]| Allowed::by(left).map_err(PlanError::Engine);
        let (allowed_before, allowed_now) = (allowed(&policies)?, allowed(&new)?);
        policies.extend(new);
        Ok(Left {
            policies,
            old: allowed_before,
            new: allowed_now,
        })
    }

    /// What a condition means depends on what is declared about the things that it speaks of.
    fn is_on_same_ground(&self) -> Result<bool, PlanError> {
        match (self.old, self.new) {
            (Some(old), Some(new)) => Ok(old.ground(self.action)? == new.ground(self.action)?),
            _ => Ok(true),
        }
    }

    /// What is declared of the kind that the action is asked about.
    fn declared(&self) -> Vec<(String, String)> {
        let sides = [self.old, self.new].into_iter().flatten();
        let entities = sides.flat_map(|side| side.store.ready().entities.iter());
        let of_kind = entities
            .map(Entity::uid)
            .map(|uid| (type_of(&uid), id(&uid).to_owned()));
        of_kind
            .filter(|(type_, _)| type_ == self.action.resource().name())
            .collect()
    }

    /// The first question that is newly allowed, and the first that is newly denied.
    fn search(&self, mentioned: &Mentioned) -> Found {
        let mut found = Found::default();
        for asked in mentioned.questions(self.action) {
            match (
                self.decide(self.old, &asked).allowed,
                self.decide(self.new, &asked).allowed,
            ) {
                (false, true) => found.wider = found.wider.or(Some(asked)),
                (true, false) => found.narrower = found.narrower.or(Some(asked)),
                _ => {}
            }
            if found.wider.is_some() && found.narrower.is_some() {
                break;
            }
        }
        found
    }

    fn decide(&self, side: Option<&Side<'_>>, asked: &Asked) -> Decision {
        side.map_or_else(Decision::default, |side| side.plan.decide(&asked.about(self.action)))
    }

    /// What was found, where it holds for these principals and Cedar's authorizer agrees with both plans.
    fn confirmed(&self, found: &Found) -> Result<Vec<Example>, PlanError> {
        let mut examples = Vec::new();
        for asked in [&found.wider, &found.narrower].into_iter().flatten() {
            let (old, new) = (self.decide(self.old, asked), self.decide(self.new, asked));
            if old.allowed == new.allowed {
                continue;
            }
            for (side, decision) in [(self.old, &old), (self.new, &new)] {
                side.map_or(Ok(()), |side| side.agrees(&asked.about(self.action), decision))?;
            }
            examples.push(asked.example(old, new));
        }
        Ok(examples)
    }
}

impl Asked {
    fn about(&self, action: Action) -> Question<'_> {
        Question {
            action,
            resource: &self.resource,
            context: &self.context,
        }
    }

    fn example(&self, old: Decision, new: Decision) -> Example {
        let plain = |value: &Value| match value {
            Value::Text(text) => serde_json::Value::from(text.as_str()),
            Value::Long(number) => serde_json::Value::from(*number),
        };
        let context = self
            .context
            .iter()
            .map(|(name, value)| ((*name).to_owned(), plain(value)));
        Example {
            resource: self.resource.to_string(),
            context: context.collect(),
            old,
            new,
        }
    }
}

impl Side<'_> {
    fn left_of(&self, action: Action) -> Result<Vec<Policy>, PlanError> {
        self.compiler.left_of(action).map_err(engine)
    }

    /// Refuses an example about which Cedar's authorizer, asked with every policy, says something else than the plan.
    fn agrees(&self, question: &Question<'_>, decision: &Decision) -> Result<(), PlanError> {
        // Cedar skips a forbid that errors; the plan denies.
        let allowed = self.compiler.authorizes(question).map_err(engine)?;
        if allowed == decision.allowed || !decision.errors.is_empty() {
            return Ok(());
        }
        Err(PlanError::Engine(format!(
            "the plan of `{}` and the authorizer disagree about `{}` on {}",
            self.plan.principal().id,
            question.action.id(),
            question.resource
        )))
    }

    /// Everything declared that an action's residuals can depend on. What is declared about principals and actions is not
    /// among it: partial evaluation has used that up.
    fn ground(&self, action: Action) -> Result<BTreeSet<String>, PlanError> {
        let used_up = ["Action", "Profile", "Publisher", "Module", "Caller"];
        let entities = self.store.ready().entities.iter().filter(|entity| {
            let type_ = type_of(&entity.uid());
            let is_other_resource = ResourceKind::from_name(&type_).is_some_and(|kind| kind != action.resource());
            !used_up.contains(&type_.as_str()) && !is_other_resource
        });
        let rows = entities.map(|entity| in_order(entity).map(|row| row.to_string()));
        rows.collect::<Result<_, _>>().map_err(PlanError::Engine)
    }
}

impl Change {
    fn new((widening, narrowing): (Evidence, Evidence), what: What) -> Self {
        let direction = match (widening, narrowing) {
            (Evidence::Shown, Evidence::Shown) => Direction::Both,
            (Evidence::Shown, _) => Direction::Widening,
            (Evidence::Open, _) => Direction::Unknown,
            (Evidence::Excluded, _) => Direction::Narrowing,
        };
        Self {
            direction,
            widening,
            narrowing,
            what,
        }
    }
}

/// A change in one direction only.
fn widening_if(is_wider: bool) -> (Evidence, Evidence) {
    if is_wider {
        (Evidence::Shown, Evidence::Excluded)
    } else {
        (Evidence::Excluded, Evidence::Shown)
    }
}

fn push(principal: Principal, changes: Vec<Change>, principals: &mut Vec<PrincipalDifference>) {
    if !changes.is_empty() {
        principals.push(PrincipalDifference { principal, changes });
    }
}

fn bound_change(meter: Meter, old: Option<&Side<'_>>, new: Option<&Side<'_>>) -> Option<Change> {
    let report = |side: Option<&Side<'_>>| BoundReport {
        meter,
        unit: meter.unit(),
        bound: side.map_or(Bound::Limited(0), |side| side.plan.bound(meter)),
        policies: side.map_or(Vec::new(), |side| side.plan.binding(meter).to_vec()),
    };
    let (old, new) = (report(old), report(new));
    let most = |report: &BoundReport| report.bound.limit().unwrap_or(i64::MAX.unsigned_abs());
    match most(&new).cmp(&most(&old)) {
        Ordering::Equal => None,
        order => Some(Change::new(
            widening_if(order == Ordering::Greater),
            What::Bound { old, new },
        )),
    }
}

fn answered(action: Action, side: Option<&Side<'_>>) -> Answered {
    let extent = match side.map(|side| side.plan.bit(action)) {
        None | Some(Some(false)) => Extent::Nothing,
        Some(Some(true)) => Extent::Everything,
        Some(None) => Extent::Some,
    };
    let policies = side.map_or(Vec::new(), |side| side.plan.taking_part(action));
    Answered { extent, policies }
}

/// A module or caller of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Guest {
    kind: PrincipalKind,
    id: String,
}

impl Guest {
    /// The profiles that the set confines it to, sorted.
    fn confinement(&self, store: &PolicyStore) -> Result<Option<Vec<String>>, PlanError> {
        let uid = uid(self.kind.name(), &self.id).map_err(PlanError::Engine)?;
        let above = store.ready().entities.ancestors(&uid).into_iter().flatten();
        let mut profiles: Vec<String> = above
            .filter(|above| type_of(above) == "Profile")
            .map(|above| id(above).to_owned())
            .collect();
        profiles.sort_unstable();
        Ok(if profiles.is_empty() { None } else { Some(profiles) })
    }

    /// A guest of this kind that nobody names.
    fn anybody_in(&self, profile: &str) -> Principal {
        match self.kind {
            PrincipalKind::Module => Principal::any_module(profile),
            PrincipalKind::Caller | PrincipalKind::Profile => Principal::any_caller(profile),
        }
    }

    fn in_profile(&self, profile: &str) -> Principal {
        match self.kind {
            PrincipalKind::Module => Principal::module(&self.id, profile),
            PrincipalKind::Caller | PrincipalKind::Profile => Principal::caller(&self.id, profile),
        }
    }
}

/// The guests that a set declares or names. Policies may name one that is declared nowhere.
fn guests(store: &PolicyStore) -> Vec<Guest> {
    let kinds = [PrincipalKind::Module, PrincipalKind::Caller];
    let ready = store.ready();
    let of_kind = |kind: PrincipalKind| {
        let declared = ready
            .entities
            .iter()
            .map(Entity::uid)
            .filter(move |uid| type_of(uid) == kind.name());
        let named = ready.policies.iter().flat_map(move |policy| policy.named(kind.name()));
        let ids = declared.map(|uid| id(&uid).to_owned()).chain(named);
        ids.map(move |id| Guest { kind, id })
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

fn engine(problem: NoPlan) -> PlanError {
    match problem {
        NoPlan::Engine(error) => PlanError::Engine(error),
        other => PlanError::Engine(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{Resource, SqlAction};

    #[test]
    fn an_example_that_the_authorizer_contradicts_is_refused() {
        let store = PolicyStore::stock().unwrap();
        let principal = Principal::profile("database-only");
        let side = Side::new(&store, &principal).unwrap().unwrap();
        for (database, allowed) in [("main", true), ("temp", false)] {
            let resource = Resource::column(database, "t", "c");
            let question = Question {
                action: Action::Sql(SqlAction::Read),
                resource: &resource,
                context: &[],
            };
            let decision = side.plan.decide(&question);
            assert_eq!(decision.allowed, allowed);
            assert_eq!(side.agrees(&question, &decision), Ok(()));
            let contradicted = Decision {
                allowed: !allowed,
                ..decision
            };
            assert!(side.agrees(&question, &contradicted).is_err());
        }
    }
}
