//! A policy set and one principal into a plan.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision as Ruling, Entities, Entity, EntityUid, PartialEntities, PartialEntityUid,
    PartialRequest, Policy, PolicySet, Request, RestrictedExpression, TpeResponse,
};

use crate::bounds::{self, Bounded, NoBound, bound_of};
use crate::condition::written_numbers;
use crate::parse::LoadedPolicy;
use crate::plan::{ActionAnswer, Answer, Bound, Content, MeterBound, Plan, PolicyText};
use crate::principal::{Principal, PrincipalKind};
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
    pub(crate) by_action: HashMap<&'static str, PolicySet>,
    pub(crate) entities: Entities,
    pub(crate) profiles: BTreeSet<String>,
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

/// One principal's compilation.
pub(crate) struct Compiler<'a> {
    ready: &'a Ready,
    vocabulary: &'a Vocabulary,
    principal: &'a Principal,
    uid: EntityUid,
    entities: Entities,
    partial: PartialEntities,
}

impl<'a> Compiler<'a> {
    /// Puts the principal among the entities.
    pub(crate) fn new(ready: &'a Ready, vocabulary: &'a Vocabulary, principal: &'a Principal) -> Result<Self, NoPlan> {
        let uid = uid(principal.kind.name(), &principal.id)?;
        let entity = match ready.entities.get(&uid) {
            Some(declared) => in_profile(declared, principal, &ready.entities)?,
            None => entity_of(principal, &uid)?,
        };
        let entities = ready
            .entities
            .clone()
            .upsert_entities([entity], Some(&vocabulary.schema))
            .map_err(message)?;
        let partial = PartialEntities::from_concrete(entities.clone(), &vocabulary.schema).map_err(message)?;
        Ok(Self {
            ready,
            vocabulary,
            principal,
            uid,
            entities,
            partial,
        })
    }

    /// Everything that is declared, and the principal.
    #[cfg(feature = "workbench")]
    pub(crate) fn entities(&self) -> &Entities {
        &self.entities
    }

    /// The principal, and every entity with it among them.
    #[cfg(feature = "workbench")]
    pub(crate) fn into_principal_and_entities(self) -> (EntityUid, Entities) {
        (self.uid, self.entities)
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

    fn checked_bound(&self, meter: Meter) -> Result<Bounded, NoPlan> {
        let bounded = self.bound(meter)?;
        self.compare(meter, &bounded)?;
        Ok(bounded)
    }

    fn policies(&self, action: &str) -> &PolicySet {
        static NONE: std::sync::LazyLock<PolicySet> = std::sync::LazyLock::new(PolicySet::new);
        self.ready.by_action.get(action).unwrap_or(&NONE)
    }

    fn bound(&self, meter: Meter) -> Result<Bounded, NoPlan> {
        bound_of(self.left(meter)?, meter.unit().name()).map_err(|problem| NoPlan::Meter(meter, problem))
    }

    /// What each policy comes to on a meter, once it is known who asks.
    pub(crate) fn rulings(&self, meter: Meter) -> Result<Vec<bounds::Ruling>, NoPlan> {
        bounds::rulings(self.left(meter)?, meter.unit().name()).map_err(|problem| NoPlan::Meter(meter, problem))
    }

    fn left(&self, meter: Meter) -> Result<Vec<Policy>, NoPlan> {
        let resource = PartialEntityUid::from_concrete(uid("Meter", meter.resource())?);
        let request = self.request(meter.action(), resource)?;
        Ok(self.evaluate(meter.action(), &request)?.policies().collect())
    }

    fn request(&self, action: &str, resource: PartialEntityUid) -> Result<PartialRequest, NoPlan> {
        let principal = PartialEntityUid::from_concrete(self.uid.clone());
        Ok(PartialRequest::new(
            principal,
            uid("Action", action)?,
            resource,
            None,
            &self.vocabulary.schema,
        )
        .map_err(message)?)
    }

    fn evaluate<'r>(&'r self, action: &str, request: &'r PartialRequest) -> Result<TpeResponse<'r>, NoPlan> {
        Ok(self
            .policies(action)
            .tpe(request, &self.partial, &self.vocabulary.schema)
            .map_err(message)?)
    }

    /// Asks the authorizer about every amount where the answer may change, and refuses a bound that it contradicts.
    fn compare(&self, meter: Meter, bounded: &Bounded) -> Result<(), NoPlan> {
        for amount in self.telling_amounts(meter, bounded) {
            let allowed = self.authorize(meter, amount)?;
            let permitted = bounded.bound.permits(amount.unsigned_abs());
            // A meter that nothing permits has the bound zero, and a total of zero uses nothing of it.
            let harmless = amount == 0 && bounded.bound == Bound::Limited(0);
            if allowed != permitted && !harmless {
                return Err(NoPlan::Mismatch { meter, amount });
            }
        }
        Ok(())
    }

    fn telling_amounts(&self, meter: Meter, bounded: &Bounded) -> BTreeSet<i64> {
        let written = self.policies(meter.action()).policies().flat_map(written_numbers);
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

    fn authorize(&self, meter: Meter, amount: i64) -> Result<bool, NoPlan> {
        let attribute = (meter.unit().name().to_owned(), RestrictedExpression::new_long(amount));
        let context = Context::from_pairs([attribute]).map_err(message)?;
        let (action, resource) = (uid("Action", meter.action())?, uid("Meter", meter.resource())?);
        let request = Request::new(
            self.uid.clone(),
            action,
            resource,
            context,
            Some(&self.vocabulary.schema),
        )
        .map_err(message)?;
        let response = Authorizer::new().is_authorized(&request, self.policies(meter.action()), &self.entities);
        Ok(response.decision() == Ruling::Allow)
    }

    /// What partial evaluation leaves of the policies on an action, those included of which only `true` or `false` is left.
    #[cfg(feature = "workbench")]
    pub(crate) fn left_of(&self, action: Action) -> Result<Vec<Policy>, NoPlan> {
        let resource = PartialEntityUid::new(type_name(action.resource().name())?, None);
        let request = self.request(action.id(), resource)?;
        Ok(self.evaluate(action.id(), &request)?.policies().collect())
    }

    /// Does Cedar's authorizer allow it, asked with every policy and against the schema?
    #[cfg(feature = "workbench")]
    pub(crate) fn authorizes(&self, question: &Question<'_>) -> Result<bool, NoPlan> {
        let resource = uid_of(question.resource)?;
        let mut entities = self.entities.clone();
        if entities.get(&resource).is_none() {
            entities = entities
                .upsert_entities([resource_of(question.resource)?], Some(&self.vocabulary.schema))
                .map_err(message)?;
        }
        let action = uid("Action", question.action.id())?;
        let context = context_of(question)?;
        let request = Request::new(
            self.uid.clone(),
            action,
            resource,
            context,
            Some(&self.vocabulary.schema),
        );
        let request = request.map_err(message)?;
        let response = Authorizer::new().is_authorized(&request, self.policies(question.action.id()), &entities);
        Ok(response.decision() == Ruling::Allow)
    }

    fn content(&self, meters: Vec<MeterBound>) -> Result<Content, NoPlan> {
        let mut kept = Kept::default();
        let mut answers = Vec::new();
        for action in Action::all() {
            let answer = self.answer(action, &mut kept)?;
            answers.push(ActionAnswer { action, answer });
        }
        Ok(Content {
            principal: self.principal.clone(),
            meters,
            entities: self.needed_entities(&answers, &kept)?,
            answers,
            policies: kept.policies,
        })
    }

    fn answer(&self, action: Action, kept: &mut Kept) -> Result<Answer, NoPlan> {
        let resource = PartialEntityUid::new(type_name(action.resource().name())?, None);
        let request = self.request(action.id(), resource)?;
        let response = self.evaluate(action.id(), &request)?;
        if let Some(decision) = response.decision() {
            let mut policies: Vec<String> = response
                .reason()
                .into_iter()
                .flatten()
                .map(|id| AsRef::<str>::as_ref(id).to_owned())
                .collect();
            policies.sort_unstable();
            return Ok(Answer::Known {
                allowed: decision == Ruling::Allow,
                policies,
            });
        }
        // The policies as they were written, not as they were left: what was left assumes more than a request at run time says.
        let never: HashSet<&str> = response
            .false_permits()
            .chain(response.false_forbids())
            .map(AsRef::as_ref)
            .collect();
        let policies = self
            .ready
            .policies
            .iter()
            .filter(|policy| policy.covers(action.id()) && !never.contains(policy.id.as_str()));
        Ok(Answer::Depends {
            policies: policies.map(|policy| kept.index_of(policy)).collect(),
        })
    }

    /// The principal, the actions, and what is declared about resources and named entities: all that a request can reach.
    fn needed_entities(&self, answers: &[ActionAnswer], kept: &Kept) -> Result<String, NoPlan> {
        let open: Vec<Action> = answers
            .iter()
            .filter(|entry| matches!(entry.answer, Answer::Depends { .. }))
            .map(|entry| entry.action)
            .collect();
        let types: BTreeSet<&str> = open.iter().map(|action| action.resource().name()).collect();
        let mut named: HashSet<EntityUid> = HashSet::new();
        if !open.is_empty() {
            named.insert(self.uid.clone());
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
        let mut needed: Vec<&Entity> = self
            .entities
            .iter()
            .filter(|entity| named.contains(&entity.uid()) || types.contains(type_of(&entity.uid()).as_str()))
            .collect();
        // One order, so that one policy set has one digest.
        needed.sort_by_cached_key(|entity| entity.uid().to_string());
        let values = needed.into_iter().map(in_order).collect::<Result<Vec<_>, _>>()?;
        Ok(serde_json::to_string(&values).map_err(message)?)
    }
}

/// The policies that a plan carries.
#[derive(Default)]
struct Kept {
    policies: Vec<PolicyText>,
    places: HashMap<String, usize>,
}

impl Kept {
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

/// The declared entity, in the profile that the host asks for. One that is declared to be in other profiles stays out of it:
/// whatever the host asks for, a pinned module runs where it was pinned.
fn in_profile(declared: &Entity, principal: &Principal, entities: &Entities) -> Result<Entity, NoPlan> {
    let uid = declared.uid();
    let asked = crate::schema::uid("Profile", &principal.profile)?;
    if uid == asked || entities.is_ancestor_of(&asked, &uid) {
        return Ok(declared.clone());
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
        return Ok(Entity::new(uid, attributes, parents).map_err(message)?);
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
