//! A policy set and one principal into a plan.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Decision as Ruling, Entities, Entity, EntityTypeName, EntityUid, PartialEntities,
    PartialEntityUid, PartialRequest, Policy, PolicySet, PrincipalConstraint, Request, RestrictedExpression,
    TpeResponse,
};

use crate::bounds::{self, Bounded, NoBound, bound_of};
use crate::conditioned::Conditioned;
use crate::entities::Declared;
use crate::own_schema::OwnAction;
use crate::parse::LoadedPolicy;
use crate::plan::{ActionAnswer, Answer, Bound, Content, MeterBound, OwnAnswer, OwnContent, Plan, PolicyText};
use crate::principal::{Principal, PrincipalKind};
use crate::publisher::PUBLISHER;
#[cfg(feature = "workbench")]
use crate::residual::{context_of, entity_of as resource_of, uid_of};
use crate::schema::{Vocabulary, id, type_name, type_of, uid};
#[cfg(feature = "workbench")]
use crate::vocabulary::Question;
use crate::vocabulary::{Action, Meter};

/// A validated policy set, ready to be compiled.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) policies: Vec<LoadedPolicy>,
    /// Per action id, the policies whose scope lets it through. Evaluating the whole set for each action costs ten times as much.
    pub(crate) by_action: HashMap<&'static str, Covering>,
    /// The same for the actions of the user's own schema, by their uids.
    pub(crate) by_own: BTreeMap<String, PolicySet>,
    pub(crate) entities: Entities,
    pub(crate) profiles: BTreeSet<String>,
}

/// The policies whose scope lets one action through.
#[derive(Clone)]
pub(crate) struct Covering {
    pub(crate) policies: PolicySet,
    /// The same, with what their conditions are.
    conditioned: Arc<[Conditioned]>,
}

impl Covering {
    pub(crate) fn of(policies: Vec<Conditioned>) -> Result<Self, String> {
        let plain = policies.iter().map(|policy| Policy::clone(policy));
        Ok(Self {
            policies: PolicySet::from_policies(plain).map_err(|error| error.to_string())?,
            conditioned: policies.into(),
        })
    }

    /// The numbers that are written in these of the policies.
    fn numbers_of<'c>(&'c self, policies: &'c PolicySet) -> impl Iterator<Item = i64> + 'c {
        self.conditioned
            .iter()
            .filter(|policy| policies.policy(policy.id()).is_some())
            .flat_map(Conditioned::written_numbers)
            .copied()
    }
}

impl Ready {
    /// Sorts the policies by what they are about.
    pub(crate) fn new(
        policies: Vec<LoadedPolicy>,
        declared: Declared,
        vocabulary: &Vocabulary,
    ) -> Result<Self, String> {
        let mut by_action: HashMap<&str, Vec<Conditioned>> = HashMap::new();
        let mut by_own: BTreeMap<&str, Vec<Policy>> = BTreeMap::new();
        for loaded in &policies {
            for name in &loaded.covered {
                by_action.entry(name).or_default().push(loaded.policy.clone());
            }
            for name in &loaded.covered_own {
                by_own.entry(name).or_default().push(Policy::clone(&loaded.policy));
            }
        }
        let set = |policies: Option<Vec<Policy>>| {
            PolicySet::from_policies(policies.unwrap_or_default()).map_err(|error| error.to_string())
        };
        let meters = Meter::ALL.iter().map(|meter| meter.action());
        let asked = meters.chain(Action::all().map(Action::id));
        let by_action = asked
            .map(|id| Ok((id, Covering::of(by_action.remove(id).unwrap_or_default())?)))
            .collect::<Result<_, String>>()?;
        let own = vocabulary.own.actions.keys();
        let by_own = own
            .map(|name| Ok((name.clone(), set(by_own.remove(name.as_str()))?)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            policies,
            by_action,
            by_own,
            entities: declared.entities,
            profiles: declared.profiles,
        })
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPlan {
    /// The entities say another profile than the host.
    Profile { declared: Vec<String> },
    /// This meter has no bound.
    Meter(Meter, NoBound),
    /// The bound and Cedar's authorizer disagree about this amount.
    Mismatch { meter: Meter, amount: i64 },
    /// Cedar itself failed.
    Engine(String),
}

impl From<String> for NoPlan {
    fn from(error: String) -> Self {
        Self::Engine(error)
    }
}

/// A principal among the entities, in both of the forms that Cedar wants.
pub(crate) struct Ground {
    uid: EntityUid,
    entities: Entities,
    partial: PartialEntities,
}

impl Ground {
    /// Puts the principal among the entities.
    pub(crate) fn new(declared: &Entities, vocabulary: &Vocabulary, principal: &Principal) -> Result<Self, NoPlan> {
        let uid = uid(principal.kind.name(), &principal.id)?;
        let changed = match declared.get(&uid) {
            Some(known) => in_profile(known, principal, declared)?,
            None => Some(entity_of(principal, &uid)?),
        };
        let changed = match &principal.publisher {
            None => changed,
            Some(publisher) => {
                let standing = changed.or_else(|| declared.get(&uid).cloned());
                standing.map(|entity| vouched_for(entity, publisher)).transpose()?
            }
        };
        let mut entities = declared.clone();
        if let Some(entity) = changed {
            let schema = Some(vocabulary.schema());
            entities = entities.upsert_entities([entity], schema).map_err(message)?;
        }
        let partial = PartialEntities::from_concrete(entities.clone(), vocabulary.schema()).map_err(message)?;
        Ok(Self { uid, entities, partial })
    }

    /// Whether the policy's scope lets this principal through. What it does not says nothing about it, and there may be
    /// thousands of those.
    fn concerns(&self, policy: &Policy) -> bool {
        let is_in = |above: &EntityUid| *above == self.uid || self.entities.is_ancestor_of(above, &self.uid);
        match policy.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Eq(uid) => uid == self.uid,
            PrincipalConstraint::In(above) => is_in(&above),
            PrincipalConstraint::Is(type_) => type_ == *self.uid.type_name(),
            PrincipalConstraint::IsIn(type_, above) => type_ == *self.uid.type_name() && is_in(&above),
        }
    }
}

/// One principal's compilation.
pub(crate) struct Compiler<'a> {
    ready: &'a Ready,
    vocabulary: &'a Vocabulary,
    principal: &'a Principal,
    ground: Arc<Ground>,
}

impl<'a> Compiler<'a> {
    /// Puts the principal among the entities.
    pub(crate) fn new(ready: &'a Ready, vocabulary: &'a Vocabulary, principal: &'a Principal) -> Result<Self, NoPlan> {
        let ground = Arc::new(Ground::new(&ready.entities, vocabulary, principal)?);
        Ok(Self::on(ground, ready, vocabulary, principal))
    }

    /// A compilation on ground that was laid before: policies change more often than entities.
    pub(crate) fn on(
        ground: Arc<Ground>,
        ready: &'a Ready,
        vocabulary: &'a Vocabulary,
        principal: &'a Principal,
    ) -> Self {
        Self {
            ready,
            vocabulary,
            principal,
            ground,
        }
    }

    /// Everything that is declared, and the principal.
    #[cfg(feature = "workbench")]
    pub(crate) fn entities(&self) -> &Entities {
        &self.ground.entities
    }

    /// The principal, and every entity with it among them.
    #[cfg(feature = "workbench")]
    pub(crate) fn into_principal_and_entities(self) -> (EntityUid, Entities) {
        (self.ground.uid.clone(), self.ground.entities.clone())
    }

    /// The plan, checked against the authorizer, or everything that keeps it from being made.
    pub(crate) fn plan(&self) -> Result<Plan, Vec<NoPlan>> {
        let mut meters = Vec::with_capacity(Meter::ALL.len());
        let mut problems = Vec::new();
        for meter in Meter::ALL {
            match self.checked_bound(*meter) {
                Ok(Bounded { bound, policies, .. }) => meters.push(MeterBound {
                    meter: *meter,
                    bound,
                    policies,
                }),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let content = self.content(meters).map_err(|problem| vec![problem])?;
        Plan::new(content).map_err(|error| vec![NoPlan::Engine(error)])
    }

    pub(crate) fn checked_bound(&self, meter: Meter) -> Result<Bounded, NoPlan> {
        let bounded = self.bound(meter)?;
        self.compare(meter, &bounded)?;
        Ok(bounded)
    }

    /// The policies about an action that concern the principal.
    fn policies(&self, action: &str) -> Result<PolicySet, NoPlan> {
        self.concerning(self.ready.by_action.get(action).map(|covering| &covering.policies))
    }

    fn concerning(&self, policies: Option<&PolicySet>) -> Result<PolicySet, NoPlan> {
        let all = policies.into_iter().flat_map(PolicySet::policies);
        let concerning = all.filter(|policy| self.ground.concerns(policy)).cloned();
        Ok(PolicySet::from_policies(concerning).map_err(message)?)
    }

    pub(crate) fn bound(&self, meter: Meter) -> Result<Bounded, NoPlan> {
        bound_of(self.left(meter)?, meter.unit().name()).map_err(|problem| NoPlan::Meter(meter, problem))
    }

    /// What each policy comes to on a meter, once it is known who asks.
    pub(crate) fn rulings(&self, meter: Meter) -> Result<Vec<bounds::Ruling>, NoPlan> {
        bounds::rulings(self.left(meter)?, meter.unit().name()).map_err(|problem| NoPlan::Meter(meter, problem))
    }

    fn left(&self, meter: Meter) -> Result<Vec<Policy>, NoPlan> {
        if self.policies(meter.action())?.is_empty() {
            return Ok(Vec::new());
        }
        let resource = PartialEntityUid::from_concrete(uid("Meter", meter.resource())?);
        let request = self.request(uid("Action", meter.action())?, resource)?;
        Ok(self.evaluate(meter.action(), &request)?.policies().collect())
    }

    pub(crate) fn request(&self, action: EntityUid, resource: PartialEntityUid) -> Result<PartialRequest, NoPlan> {
        let principal = PartialEntityUid::from_concrete(self.ground.uid.clone());
        Ok(PartialRequest::new(principal, action, resource, None, self.vocabulary.schema()).map_err(message)?)
    }

    pub(crate) fn evaluate<'r>(&'r self, action: &str, request: &'r PartialRequest) -> Result<TpeResponse<'r>, NoPlan> {
        self.evaluate_these(&self.policies(action)?, request)
    }

    fn evaluate_these<'r>(
        &'r self,
        policies: &PolicySet,
        request: &'r PartialRequest,
    ) -> Result<TpeResponse<'r>, NoPlan> {
        Ok(policies
            .tpe(request, &self.ground.partial, self.vocabulary.schema())
            .map_err(message)?)
    }

    /// Asks the authorizer about every amount where the answer may change, and refuses a bound that it contradicts.
    fn compare(&self, meter: Meter, bounded: &Bounded) -> Result<(), NoPlan> {
        let policies = self.policies(meter.action())?;
        if policies.is_empty() && bounded.bound == Bound::Limited(0) {
            return Ok(());
        }
        let covering = self.ready.by_action.get(meter.action());
        let written = covering.into_iter().flat_map(|covering| covering.numbers_of(&policies));
        for amount in telling_amounts(written, bounded) {
            let allowed = self.authorize(&policies, meter, amount)?;
            let permitted = bounded.bound.permits(amount.unsigned_abs());
            // A meter that nothing permits has the bound zero, and a total of zero uses nothing of it.
            let harmless = amount == 0 && bounded.bound == Bound::Limited(0);
            if allowed != permitted && !harmless {
                return Err(NoPlan::Mismatch { meter, amount });
            }
        }
        Ok(())
    }

    fn authorize(&self, policies: &PolicySet, meter: Meter, amount: i64) -> Result<bool, NoPlan> {
        let attribute = (meter.unit().name().to_owned(), RestrictedExpression::new_long(amount));
        let context = Context::from_pairs([attribute]).map_err(message)?;
        let (action, resource) = (uid("Action", meter.action())?, uid("Meter", meter.resource())?);
        let request = Request::new(self.ground.uid.clone(), action, resource, context, None).map_err(message)?;
        let response = Authorizer::new().is_authorized(&request, policies, &self.ground.entities);
        Ok(response.decision() == Ruling::Allow)
    }

    /// What partial evaluation leaves of the policies on an action, those included of which only `true` or `false` is left.
    #[cfg(feature = "workbench")]
    pub(crate) fn left_of(&self, action: Action) -> Result<Vec<Policy>, NoPlan> {
        let resource = PartialEntityUid::new(type_name(action.resource().name())?, None);
        let request = self.request(uid("Action", action.id())?, resource)?;
        Ok(self.evaluate(action.id(), &request)?.policies().collect())
    }

    /// Does Cedar's authorizer allow it, asked with every policy and against the schema?
    #[cfg(feature = "workbench")]
    pub(crate) fn authorizes(&self, question: &Question<'_>) -> Result<bool, NoPlan> {
        let resource = uid_of(question.resource)?;
        let mut entities = self.ground.entities.clone();
        if entities.get(&resource).is_none() {
            entities = entities
                .upsert_entities([resource_of(question.resource)?], Some(self.vocabulary.schema()))
                .map_err(message)?;
        }
        let action = uid("Action", question.action.id())?;
        let context = context_of(question)?;
        let request = Request::new(
            self.ground.uid.clone(),
            action,
            resource,
            context,
            Some(self.vocabulary.schema()),
        );
        let request = request.map_err(message)?;
        // All of them, not only those that the compiler thinks concern the principal.
        let none = PolicySet::new();
        let covering = self.ready.by_action.get(question.action.id());
        let policies = covering.map_or(&none, |covering| &covering.policies);
        let response = Authorizer::new().is_authorized(&request, policies, &entities);
        Ok(response.decision() == Ruling::Allow)
    }

    fn content(&self, meters: Vec<MeterBound>) -> Result<Content, NoPlan> {
        let mut kept = Kept::default();
        let mut answers = Vec::new();
        for action in Action::all() {
            let answer = self.answer(action, &mut kept)?;
            answers.push(ActionAnswer { action, answer });
        }
        let entities = self.needed_entities(&answers, &kept)?;
        let own = self.own_content(&mut kept)?;
        Ok(Content {
            principal: self.principal.clone(),
            meters,
            answers,
            entities,
            own,
            policies: kept.policies,
        })
    }

    /// The action on anything of its kind.
    pub(crate) fn any(&self, action: Action) -> Result<PartialRequest, NoPlan> {
        self.any_of(uid("Action", action.id())?, type_name(action.resource().name())?)
    }

    fn any_of(&self, action: EntityUid, resource: EntityTypeName) -> Result<PartialRequest, NoPlan> {
        self.request(action, PartialEntityUid::new(resource, None))
    }

    pub(crate) fn answer(&self, action: Action, kept: &mut Kept) -> Result<Answer, NoPlan> {
        let policies = self.policies(action.id())?;
        if policies.is_empty() {
            return Ok(Answer::Known {
                allowed: false,
                policies: Vec::new(),
            });
        }
        let request = self.any(action)?;
        let response = self.evaluate_these(&policies, &request)?;
        if let Some(known) = known(&response) {
            return Ok(known);
        }
        let never = never(&response);
        let open = ids(&policies).filter(|id| !never.contains(id)).collect();
        Ok(self.depends(&open, kept))
    }

    /// The policies as they were written, not as they were left: what was left assumes more than a request at run time says.
    fn depends(&self, open: &HashSet<String>, kept: &mut Kept) -> Answer {
        let policies = self.ready.policies.iter().filter(|policy| open.contains(&policy.id));
        Answer::Depends {
            policies: policies.map(|policy| kept.index_of(policy)).collect(),
        }
    }

    fn own_content(&self, kept: &mut Kept) -> Result<OwnContent, NoPlan> {
        let own = &self.vocabulary.own;
        let mut answers = Vec::new();
        let mut open = Vec::new();
        for (name, action) in own.asked_by(self.principal.kind) {
            let policies = self.concerning(self.ready.by_own.get(name))?;
            let answer = self.own_answer(action, &policies, kept)?;
            if let Answer::Depends { policies: indices } = &answer {
                open.push((action, indices.clone()));
            }
            answers.push(OwnAnswer {
                action: name.to_owned(),
                answer,
            });
        }
        if answers.is_empty() {
            return Ok(OwnContent::default());
        }
        Ok(OwnContent {
            schemas: own.texts.clone(),
            entities: self.own_entities(&open, kept)?,
            answers,
        })
    }

    /// Known where it is the same for every type that the action can be done to.
    fn own_answer(&self, action: &OwnAction, policies: &PolicySet, kept: &mut Kept) -> Result<Answer, NoPlan> {
        let mut answers = Vec::new();
        let mut open: HashSet<String> = HashSet::new();
        for resource in &action.resources {
            let request = self.any_of(action.uid.clone(), resource.clone())?;
            let response = self.evaluate_these(policies, &request)?;
            let never = never(&response);
            open.extend(ids(policies).filter(|id| !never.contains(id)));
            answers.push(known(&response));
        }
        let first = answers.first().cloned().flatten();
        match first {
            Some(answer) if answers.iter().all(|other| other.as_ref() == Some(&answer)) => Ok(answer),
            _ => Ok(self.depends(&open, kept)),
        }
    }

    /// The principal, the actions, and what is declared about resources and named entities: all that a request can reach.
    pub(crate) fn needed_entities(&self, answers: &[ActionAnswer], kept: &Kept) -> Result<String, NoPlan> {
        let open: Vec<Action> = answers
            .iter()
            .filter(|entry| matches!(entry.answer, Answer::Depends { .. }))
            .map(|entry| entry.action)
            .collect();
        let types: BTreeSet<&str> = open.iter().map(|action| action.resource().name()).collect();
        let mut named: HashSet<EntityUid> = HashSet::new();
        if !open.is_empty() {
            named.insert(self.ground.uid.clone());
        }
        for action in &open {
            named.insert(uid("Action", action.id())?);
        }
        let policies = self
            .ready
            .policies
            .iter()
            .filter(|policy| kept.places.contains_key(&policy.id));
        named.extend(policies.flat_map(|policy| policy.policy.entity_literals()));
        self.entities_as_json(|entity| named.contains(&entity.uid()) || types.contains(type_of(&entity.uid()).as_str()))
    }

    /// The same for the actions of the user's own schema. Their contexts can hold entities, and so can attributes.
    fn own_entities(&self, open: &[(&OwnAction, Vec<usize>)], kept: &Kept) -> Result<String, NoPlan> {
        if open.is_empty() {
            return Ok("[]".to_owned());
        }
        let mut named: HashSet<EntityUid> = HashSet::from([self.ground.uid.clone()]);
        named.extend(open.iter().map(|(action, _)| action.uid.clone()));
        let kept_for_own: HashSet<&str> = open
            .iter()
            .flat_map(|(_, indices)| indices)
            .filter_map(|index| kept.policies.get(*index))
            .map(|policy| policy.id.as_str())
            .collect();
        let policies = self
            .ready
            .policies
            .iter()
            .filter(|policy| kept_for_own.contains(policy.id.as_str()));
        named.extend(policies.flat_map(|policy| policy.policy.entity_literals()));
        self.entities_as_json(|entity| {
            named.contains(&entity.uid()) || self.vocabulary.own.reaches(&type_of(&entity.uid()))
        })
    }

    fn entities_as_json(&self, is_needed: impl Fn(&Entity) -> bool) -> Result<String, NoPlan> {
        let mut needed: Vec<&Entity> = self.ground.entities.iter().filter(|entity| is_needed(entity)).collect();
        // One order, so that one policy set has one digest.
        needed.sort_by_cached_key(|entity| entity.uid().to_string());
        let values = needed.into_iter().map(in_order).collect::<Result<Vec<_>, _>>()?;
        Ok(serde_json::to_string(&values).map_err(message)?)
    }
}

/// Every amount around which the authorizer's answer may change.
fn telling_amounts(written: impl Iterator<Item = i64>, bounded: &Bounded) -> BTreeSet<i64> {
    bounded
        .edges
        .iter()
        .copied()
        .chain(written)
        .chain(bounded.bound.limit().and_then(|most| i64::try_from(most).ok()))
        .chain([0, i64::MAX])
        .flat_map(|at| [at.saturating_sub(1), at, at.saturating_add(1)])
        .filter(|amount| *amount >= 0)
        .collect()
}

/// The answer, where it depends on nothing.
fn known(response: &TpeResponse<'_>) -> Option<Answer> {
    let decision = response.decision()?;
    let reason = response.reason().into_iter().flatten();
    let mut policies: Vec<String> = reason.map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
    policies.sort_unstable();
    Some(Answer::Known {
        allowed: decision == Ruling::Allow,
        policies,
    })
}

fn ids(policies: &PolicySet) -> impl Iterator<Item = String> {
    policies
        .policies()
        .map(|policy| AsRef::<str>::as_ref(policy.id()).to_owned())
}

/// The policies that never apply.
fn never(response: &TpeResponse<'_>) -> HashSet<String> {
    response
        .false_permits()
        .chain(response.false_forbids())
        .map(|id| AsRef::<str>::as_ref(id).to_owned())
        .collect()
}

/// The policies that a plan carries.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) policies: Vec<PolicyText>,
    places: HashMap<String, usize>,
}

impl Kept {
    /// What a plan carried before, as the policies are written now. One that is gone stays, because nothing asks it.
    #[cfg(feature = "workbench")]
    pub(crate) fn resume(before: &[PolicyText], now: &[LoadedPolicy]) -> Self {
        let mut kept = Self::default();
        for (place, policy) in before.iter().enumerate() {
            kept.places.insert(policy.id.clone(), place);
            let written = now.iter().find(|loaded| loaded.id == policy.id);
            let text = written.map_or(&policy.text, |loaded| &loaded.text);
            kept.policies.push(PolicyText {
                id: policy.id.clone(),
                text: text.clone(),
            });
        }
        kept
    }

    fn index_of(&mut self, policy: &LoadedPolicy) -> usize {
        *self.places.entry(policy.id.clone()).or_insert_with(|| {
            self.policies.push(PolicyText {
                id: policy.id.clone(),
                text: policy.text.clone(),
            });
            self.policies.len() - 1
        })
    }
}

/// An entity as JSON, its parents sorted: Cedar keeps them in a hash set.
pub(crate) fn in_order(entity: &Entity) -> Result<serde_json::Value, String> {
    let mut value = entity.to_json_value().map_err(|error| error.to_string())?;
    if let Some(parents) = value.get_mut("parents").and_then(serde_json::Value::as_array_mut) {
        parents.sort_by_cached_key(ToString::to_string);
    }
    Ok(value)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` asks for")]
fn message(error: impl ToString) -> String {
    error.to_string()
}

fn entity_of(principal: &Principal, uid: &EntityUid) -> Result<Entity, String> {
    let mut attributes = HashMap::new();
    if principal.kind == PrincipalKind::Module {
        let sha256 = principal.sha256.clone().unwrap_or_default();
        attributes.insert("sha256".to_owned(), RestrictedExpression::new_string(sha256));
    }
    let parents = match principal.kind {
        PrincipalKind::Profile => HashSet::new(),
        PrincipalKind::Module | PrincipalKind::Caller => {
            HashSet::from([crate::schema::uid("Profile", &principal.profile)?])
        }
    };
    Entity::new(uid.clone(), attributes, parents).map_err(message)
}

/// The module in the publisher who signed it, too.
fn vouched_for(module: Entity, publisher: &str) -> Result<Entity, String> {
    let (uid, attributes, mut parents) = module.into_inner();
    parents.insert(crate::schema::uid(PUBLISHER, publisher)?);
    Entity::new(uid, attributes, parents).map_err(message)
}

/// The declared entity in the profile that the host asks for; nothing where it is in it already. One that is declared to be
/// in other profiles stays out of it: whatever the host asks for, a pinned module runs where it was pinned.
fn in_profile(declared: &Entity, principal: &Principal, entities: &Entities) -> Result<Option<Entity>, NoPlan> {
    let uid = declared.uid();
    let asked = crate::schema::uid("Profile", &principal.profile)?;
    if uid == asked || entities.is_ancestor_of(&asked, &uid) {
        return Ok(None);
    }
    let above = entities
        .ancestors(&uid)
        .into_iter()
        .flatten()
        .filter(|above| type_of(above) == "Profile");
    let mut profiles: Vec<String> = above.map(|above| id(above).to_owned()).collect();
    if profiles.is_empty() && principal.kind != PrincipalKind::Profile {
        let (uid, attributes, mut parents) = declared.clone().into_inner();
        parents.insert(asked);
        return Ok(Some(Entity::new(uid, attributes, parents).map_err(message)?));
    }
    profiles.sort_unstable();
    Err(NoPlan::Profile { declared: profiles })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load;
    use crate::schema::vocabulary;
    use crate::store::Stock;

    #[test]
    fn a_bound_that_the_authorizer_contradicts_is_refused() {
        let ready = load(&[], Stock::With).ready.unwrap();
        let principal = Principal::profile("untrusted");
        let compiler = Compiler::new(&ready, vocabulary().unwrap(), &principal).unwrap();
        let right = compiler.bound(Meter::Elapse).unwrap();
        assert_eq!(right.bound, Bound::Limited(500));
        assert_eq!(compiler.compare(Meter::Elapse, &right), Ok(()));
        for (wrong, amount) in [
            (Bound::Limited(499), 500),
            (Bound::Limited(501), 501),
            (Bound::Unbounded, 501),
        ] {
            let wrong = Bounded {
                bound: wrong,
                ..right.clone()
            };
            assert_eq!(
                compiler.compare(Meter::Elapse, &wrong),
                Err(NoPlan::Mismatch {
                    meter: Meter::Elapse,
                    amount
                })
            );
        }
    }

    /// Cedar calls two entities equal that have one uid, whatever they are in.
    #[test]
    fn a_module_that_is_declared_without_a_profile_is_put_into_one() {
        let digest = "cd".repeat(32);
        let text = format!(
            r#"[{{"uid": {{"type": "Module", "id": "{digest}"}}, "attrs": {{"sha256": "{digest}"}}, "parents": [{{"type": "Publisher", "id": "acme"}}]}}]"#
        );
        let declared = crate::store::Source {
            name: "a.json".to_owned(),
            text,
            kind: crate::store::SourceKind::Entities,
        };
        let store = crate::store::PolicyStore::load(&[declared], Stock::With).unwrap();
        let profile = store.plan(&Principal::profile("trusted")).unwrap();
        for sha256 in [digest.as_str(), "undeclared"] {
            let plan = store.plan(&Principal::module(sha256, "trusted")).unwrap();
            assert_ne!(plan.bound(Meter::Elapse), Bound::Limited(0));
            assert_eq!(plan.bound(Meter::Elapse), profile.bound(Meter::Elapse), "{sha256}");
        }
    }

    const PINNED: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

    /// Publishers with and without a key, a pinned module, and a clock for what `acme` vouches for.
    fn with_publishers(clock: &str) -> Result<crate::store::PolicyStore, crate::store::LoadError> {
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let entities = format!(
            r#"[
                {{"uid": {{"type": "Publisher", "id": "acme"}}, "attrs": {{"ed25519": "{key}"}}, "parents": []}},
                {{"uid": {{"type": "Publisher", "id": "zenith"}}, "attrs": {{}}, "parents": []}},
                {{"uid": {{"type": "Module", "id": "{PINNED}"}}, "attrs": {{"sha256": "{PINNED}"}}, "parents": [{{"type": "Profile", "id": "pure"}}]}}
            ]"#
        );
        let source = |name: &str, text: &str, kind| crate::store::Source {
            name: name.to_owned(),
            text: text.to_owned(),
            kind,
        };
        let sources = [
            source("a.json", &entities, crate::store::SourceKind::Entities),
            source("a.cedar", clock, crate::store::SourceKind::Policies),
        ];
        crate::store::PolicyStore::load(&sources, Stock::With)
    }

    #[test]
    fn a_module_is_in_the_publisher_who_signed_it_and_stays_where_it_is_pinned() {
        let clock = r#"@id("clock") permit (principal in Publisher::"acme", action == Action::"readClock", resource);"#;
        let store = with_publishers(clock).unwrap();
        let is_granted = |principal: &Principal| {
            let plan = store.plan(principal).unwrap();
            plan.bit(Action::Host(crate::vocabulary::Capability::ReadClock)) == Some(true)
        };
        for digest in [PINNED, "undeclared"] {
            let module = Principal::module(digest, "pure");
            assert!(!is_granted(&module), "{digest}");
            assert!(is_granted(&module.clone().signed_by("acme")), "{digest}");
            assert!(!is_granted(&module.signed_by("zenith")), "{digest}");
        }
        let elsewhere = Principal::module(PINNED, "standard").signed_by("acme");
        assert!(store.plan(&elsewhere).is_err());
        let publishers: Vec<String> = store.publisher_keys().into_iter().map(|key| key.publisher).collect();
        assert_eq!(publishers, ["acme"]);
    }

    #[test]
    fn a_mistake_that_only_signed_modules_meet_is_found_at_load() {
        let holes = r#"@id("odd") forbid (principal in Publisher::"acme", action == Action::"elapse", resource)
            when { context.millis > 10 && context.millis < 20 };"#;
        let refused = with_publishers(holes).unwrap_err();
        let codes: Vec<_> = refused.findings().iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [crate::finding::Code::MeterWithHoles]);
    }

    #[test]
    fn the_comparison_does_not_lean_on_the_algebra() {
        let ready = load(&[], Stock::With).ready.unwrap();
        let principal = Principal::profile("untrusted");
        let compiler = Compiler::new(&ready, vocabulary().unwrap(), &principal).unwrap();
        let blind = Bounded {
            bound: Bound::Limited(400),
            policies: Vec::new(),
            edges: Vec::new(),
        };
        assert!(compiler.compare(Meter::Elapse, &blind).is_err());
    }

    #[test]
    fn a_mismatch_says_where() {
        let ready = load(&[], Stock::With).ready.unwrap();
        let problem = NoPlan::Mismatch {
            meter: Meter::Elapse,
            amount: 501,
        };
        let finding = crate::load::finding_of(&problem, &Principal::profile("untrusted"), &ready);
        assert_eq!(finding.code, crate::finding::Code::PlanMismatch);
        assert_eq!(
            finding.message,
            "the compiled bound of `elapse` in profile `untrusted` is not what cedar says about 501"
        );
    }
}
