//! A policy set with one thing changed, compiled only where that can matter.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use cedar_policy::{Entity, EntityUid, PartialEntityUid, PartialRequest, Policy};
use serde_json::{Value as Json, json};

use crate::compile::{Compiler, Covering, Ground, Kept, NoPlan, Ready};
use crate::parse::LoadedPolicy;
use crate::plan::{ActionAnswer, Answer, Bound, Content, MeterBound, Plan};
use crate::principal::Principal;
use crate::resource::ResourceKind;
use crate::schema::{type_of, uid};
use crate::store::{PlanError, PolicyStore};
use crate::vocabulary::{Action, Meter};

/// What every variant of one policy set has in common.
pub(crate) struct Origin {
    pub(crate) store: PolicyStore,
    grounds: Shelf<Principal, Result<Arc<Ground>, NoPlan>>,
    plans: Shelf<Principal, Result<Plan, PlanError>>,
    sayings: Shelf<(Principal, &'static str), Result<Saying, NoPlan>>,
}

impl Origin {
    pub(crate) fn new(store: PolicyStore) -> Self {
        Self {
            store,
            grounds: Shelf::default(),
            plans: Shelf::default(),
            sayings: Shelf::default(),
        }
    }

    pub(crate) fn plan(&self, principal: &Principal) -> Result<Plan, PlanError> {
        self.plans.get(principal, || self.store.plan(principal))
    }

    fn ground(&self, principal: &Principal) -> Result<Arc<Ground>, NoPlan> {
        let entities = &self.store.ready().entities;
        self.grounds.get(principal, || {
            Ground::new(entities, self.store.vocabulary(), principal).map(Arc::new)
        })
    }

    /// What the original says about an action.
    fn says(&self, principal: &Principal, action: &'static str) -> Result<Saying, NoPlan> {
        self.sayings.get(&(principal.clone(), action), || {
            let ground = self.ground(principal)?;
            Saying::of(
                &Compiler::on(ground, self.store.ready(), self.store.vocabulary(), principal),
                action,
            )
        })
    }
}

/// One thing changed.
pub(crate) struct Variant {
    origin: Arc<Origin>,
    /// The actions whose answers may be other ones.
    pub(crate) touched: BTreeSet<&'static str>,
    reach: Reach,
    /// The declared resources that are in other things than before.
    moved: Vec<EntityUid>,
    grounds: Shelf<Principal, Result<Arc<Ground>, NoPlan>>,
    plans: Shelf<Principal, Result<Plan, PlanError>>,
}

/// What a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A policy that names the same entities as before, or fewer.
    Policy,
    /// A policy that names other entities.
    NewNames,
    /// The entities themselves.
    Entities,
}

impl Variant {
    pub(crate) fn new(origin: &Arc<Origin>, touched: BTreeSet<&'static str>, reach: Reach) -> Self {
        Self {
            origin: Arc::clone(origin),
            touched,
            reach,
            moved: Vec::new(),
            grounds: Shelf::default(),
            plans: Shelf::default(),
        }
    }

    /// A variant in which an entity is in other things than before.
    pub(crate) fn of_entities(origin: &Arc<Origin>, changed: &EntityUid) -> Self {
        let ready = origin.store.ready();
        let entities = ready.entities.iter().map(Entity::uid);
        let mut moved: Vec<EntityUid> = entities
            .filter(|uid| uid == changed || ready.entities.is_ancestor_of(changed, uid))
            .filter(|uid| ResourceKind::from_name(&type_of(uid)).is_some())
            .collect();
        moved.sort_by_cached_key(ToString::to_string);
        Self {
            moved,
            ..Self::new(origin, touched_by(changed, ready), Reach::Entities)
        }
    }

    fn ground(&self, ready: &Ready, principal: &Principal) -> Result<Arc<Ground>, NoPlan> {
        if self.reach != Reach::Entities {
            return self.origin.ground(principal);
        }
        self.grounds.get(principal, || {
            Ground::new(&ready.entities, self.origin.store.vocabulary(), principal).map(Arc::new)
        })
    }

    fn compiler<'a>(&'a self, ready: &'a Ready, principal: &'a Principal) -> Result<Compiler<'a>, NoPlan> {
        let ground = self.ground(ready, principal)?;
        Ok(Compiler::on(ground, ready, self.origin.store.vocabulary(), principal))
    }

    /// Whether the variant says something else about an action than the original.
    ///
    /// # Errors
    ///
    /// Why the variant has no plan, where the original has one.
    pub(crate) fn differs(&self, ready: &Ready, principal: &Principal, action: &'static str) -> Result<bool, NoPlan> {
        if self.moved.is_empty() {
            let says = || Saying::of(&self.compiler(ready, principal)?, action);
            return is_other(self.origin.says(principal, action), says());
        }
        let before = || {
            let ground = self.origin.ground(principal)?;
            let compiler = Compiler::on(
                ground,
                self.origin.store.ready(),
                self.origin.store.vocabulary(),
                principal,
            );
            Saying::of_each(&compiler, action, &self.moved)
        };
        let after = || Saying::of_each(&self.compiler(ready, principal)?, action, &self.moved);
        is_other(before(), after())
    }

    /// The plan of one principal: the original's, where nothing in it changed.
    pub(crate) fn plan(&self, ready: &Ready, principal: &Principal) -> Result<Plan, PlanError> {
        self.plans.get(principal, || {
            self.compile(ready, principal)
                .map_err(|problem| self.origin.store.refusal(problem, principal))
        })
    }

    fn compile(&self, ready: &Ready, principal: &Principal) -> Result<Plan, NoPlan> {
        let compiler = self.compiler(ready, principal)?;
        let Ok(original) = self.origin.plan(principal) else {
            let first = |problems: Vec<NoPlan>| problems.into_iter().next();
            return compiler
                .plan()
                .map_err(|problems| first(problems).unwrap_or_else(|| "no reason was given".to_owned().into()));
        };
        let before = original.content();
        let meters = before.meters.iter().map(|old| self.meter(&compiler, old));
        let meters = meters.collect::<Result<Vec<_>, _>>()?;
        let mut kept = Kept::resume(&before.policies, &ready.policies);
        let answers = before.answers.iter().map(|old| self.answer(&compiler, old, &mut kept));
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        let is_reusable = self.reach == Reach::Policy
            && kept.policies.len() == before.policies.len()
            && open(&answers).eq(open(&before.answers));
        let content = Content {
            principal: principal.clone(),
            meters,
            entities: if is_reusable {
                before.entities.clone()
            } else {
                compiler.needed_entities(&answers, &kept)?
            },
            answers,
            // Actions of one's own are not asked about here.
            own: before.own.clone(),
            policies: kept.policies,
        };
        if content == *before {
            return Ok(original);
        }
        Plan::new(content).map_err(NoPlan::Engine)
    }

    fn meter(&self, compiler: &Compiler<'_>, old: &MeterBound) -> Result<MeterBound, NoPlan> {
        if !self.touched.contains(old.meter.action()) {
            return Ok(old.clone());
        }
        let bounded = compiler.bound(old.meter)?;
        Ok(MeterBound {
            meter: old.meter,
            bound: bounded.bound,
            policies: bounded.policies,
        })
    }

    fn answer(&self, compiler: &Compiler<'_>, old: &ActionAnswer, kept: &mut Kept) -> Result<ActionAnswer, NoPlan> {
        if !self.touched.contains(old.action.id()) {
            return Ok(old.clone());
        }
        Ok(ActionAnswer {
            action: old.action,
            answer: compiler.answer(old.action, kept)?,
        })
    }
}

/// That somebody is let into a profile, or no longer, is a difference; any other reason to have no plan is the variant's.
fn is_other(before: Result<Saying, NoPlan>, after: Result<Saying, NoPlan>) -> Result<bool, NoPlan> {
    match (before, after) {
        (Ok(before), Ok(after)) => Ok(before != after),
        (Err(_), Err(_)) => Ok(false),
        (Ok(_), Err(problem)) if !matches!(problem, NoPlan::Profile { .. }) => Err(problem),
        _ => Ok(true),
    }
}

/// The actions that depend on the question.
fn open(answers: &[ActionAnswer]) -> impl Iterator<Item = Action> {
    answers
        .iter()
        .filter(|entry| matches!(entry.answer, Answer::Depends { .. }))
        .map(|entry| entry.action)
}

/// What a policy set says about one action, without who says it: equal sayings give equal answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saying {
    /// So much of a meter.
    Bound(Bound),
    /// Always or never.
    Known(bool),
    /// Whatever these conditions say, each an effect and an expression that partial evaluation has left.
    Depends(BTreeSet<String>),
    /// That, and this about one resource after the other.
    OfEach(Box<Saying>, Vec<Saying>),
}

impl Saying {
    fn of(compiler: &Compiler<'_>, action: &str) -> Result<Self, NoPlan> {
        match (Meter::from_action(action), Action::from_id(action)) {
            (Some(meter), _) => Ok(Self::Bound(compiler.bound(meter)?.bound)),
            (None, Some(action)) => Self::of_action(compiler, action),
            (None, None) => Ok(Self::Known(false)),
        }
    }

    /// What is left of the policies does not show which declared resource is in what, so those that a change of the
    /// entities reaches are asked about one by one.
    fn of_each(compiler: &Compiler<'_>, action: &str, resources: &[EntityUid]) -> Result<Self, NoPlan> {
        let general = Self::of(compiler, action)?;
        let Some(action) = Action::from_id(action) else {
            return Ok(general);
        };
        let of_kind = resources.iter().filter(|uid| type_of(uid) == action.resource().name());
        let each = of_kind.map(|declared| {
            let resource = PartialEntityUid::from_concrete(declared.clone());
            Self::about(
                compiler,
                action,
                &compiler.request(uid("Action", action.id())?, resource)?,
            )
        });
        let each = each.collect::<Result<Vec<_>, _>>()?;
        Ok(Self::OfEach(Box::new(general), each))
    }

    fn of_action(compiler: &Compiler<'_>, action: Action) -> Result<Self, NoPlan> {
        Self::about(compiler, action, &compiler.any(action)?)
    }

    fn about(compiler: &Compiler<'_>, action: Action, request: &PartialRequest) -> Result<Self, NoPlan> {
        let response = compiler.evaluate(action.id(), request)?;
        if let Some(decision) = response.decision() {
            return Ok(Self::Known(decision == cedar_policy::Decision::Allow));
        }
        let is_permitted = response.true_permits().next().is_some();
        let mut left: BTreeSet<String> = response
            .residual_policies()
            .filter(|policy| !(is_permitted && policy.effect() == cedar_policy::Effect::Permit))
            .map(|policy| condition_of(&policy, action))
            .collect();
        if is_permitted {
            left.insert("permit".to_owned());
        }
        Ok(Self::Depends(left))
    }
}

fn condition_of(policy: &Policy, action: Action) -> String {
    let effect = policy.effect();
    let Ok(mut json) = policy.to_json() else {
        return format!("{effect} {policy}");
    };
    let mut conditions = json.get_mut("conditions").map(Json::take).unwrap_or_default();
    level(&mut conditions, action.resource().name());
    format!("{effect} {conditions}")
}

/// `resource in Column::"main.t.c"` is `resource == …`, because nothing is in a column. Of what is asked about, only paths
/// are in things of their own type.
fn level(expr: &mut Json, kind: &str) {
    let is_itself = expr.get("in").is_some_and(|operands| {
        let is_resource = operands.pointer("/left/Var").is_some_and(|var| var == "resource");
        let type_ = operands.pointer("/right/Value/__entity/type");
        is_resource && type_.is_some_and(|type_| type_ == kind && kind != "Path")
    });
    if is_itself && let Some(operands) = expr.get_mut("in").map(Json::take) {
        *expr = json!({ "==": operands });
        return;
    }
    match expr {
        Json::Array(elements) => elements.iter_mut().for_each(|element| level(element, kind)),
        Json::Object(fields) => fields.values_mut().for_each(|value| level(value, kind)),
        _ => {}
    }
}

/// The actions that are asked about, of those that a policy covers.
pub(crate) fn asked(covered: &[String]) -> impl Iterator<Item = &'static str> {
    covered.iter().filter_map(|name| {
        let meter = Meter::from_action(name).map(Meter::action);
        meter.or_else(|| Action::from_id(name).map(Action::id))
    })
}

/// The original policies with one of them replaced or dropped, and what that reaches.
pub(crate) fn with_policy_replaced(
    ready: &Ready,
    index: usize,
    replacement: Option<LoadedPolicy>,
) -> Result<(Ready, BTreeSet<&'static str>, Reach), String> {
    let mut policies = ready.policies.clone();
    let Some(slot) = policies.get_mut(index) else {
        return Err("there is no such policy".to_owned());
    };
    let literals = |loaded: &LoadedPolicy| {
        loaded
            .policy
            .entity_literals()
            .into_iter()
            .collect::<BTreeSet<EntityUid>>()
    };
    let (before, after) = (literals(slot), replacement.as_ref().map(literals).unwrap_or_default());
    let mut touched: BTreeSet<&'static str> = asked(&slot.covered).collect();
    match replacement {
        Some(replacement) => {
            touched.extend(asked(&replacement.covered));
            *slot = replacement;
        }
        None => {
            policies.remove(index);
        }
    }
    let mut by_action = ready.by_action.clone();
    for action in &touched {
        let covering = policies.iter().filter(|loaded| loaded.covers(action));
        let covering = covering.map(|loaded| loaded.policy.clone()).collect();
        by_action.insert(action, Covering::of(covering)?);
    }
    let reach = if after.is_subset(&before) {
        Reach::Policy
    } else {
        Reach::NewNames
    };
    let changed = Ready {
        policies,
        by_action,
        by_own: ready.by_own.clone(),
        entities: ready.entities.clone(),
        profiles: ready.profiles.clone(),
    };
    Ok((changed, touched, reach))
}

/// The actions that a change of one entity can touch: those about it, and those of policies that name it. A profile, a
/// module or a caller can do anything.
fn touched_by(uid: &EntityUid, ready: &Ready) -> BTreeSet<&'static str> {
    let type_ = type_of(uid);
    let everything = || {
        Meter::ALL
            .iter()
            .map(|meter| meter.action())
            .chain(Action::all().map(Action::id))
    };
    let Some(kind) = ResourceKind::from_name(&type_) else {
        return everything().collect();
    };
    let naming = ready
        .policies
        .iter()
        .filter(|loaded| loaded.policy.entity_literals().contains(uid))
        .flat_map(|loaded| asked(&loaded.covered));
    Action::all()
        .filter(|action| action.resource() == kind)
        .map(Action::id)
        .chain(naming)
        .collect()
}

/// What was worked out before, for threads to share. Two threads may work out the same thing; neither waits for the other.
struct Shelf<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shelf<K, V> {
    fn get(&self, key: &K, work_out: impl FnOnce() -> V) -> V {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.unwrap_or_else(|| {
            let value = work_out();
            let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.entry(key.clone()).or_insert(value).clone()
        })
    }
}
