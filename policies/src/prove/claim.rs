//! One claim about one kind of request: the policy sets that the solver compares, and what its counterexample comes to.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityUid, EvalResult, Policy, PolicyId, PolicySet,
    Request,
};
use cedar_policy_symcc::Env;
use serde::Serialize;
use serde_json::Value;

use crate::compile::{Compiler, Ready};
use crate::finding::Location;
use crate::principal::{Principal, PrincipalKind};
use crate::prove::facts::{Kind, conjunction, disjunction, named, of_request, standings};
use crate::publisher::{PUBLISHER, keys};
use crate::residual::entity_of;
use crate::resource::{Resource, ResourceKind};
use crate::schema::{Vocabulary, id, type_of, uid};

/// What a condition that is added to a policy set is called: no `@id` has a line break.
const ASSUMED: &str = "assumed\nby prove";

/// What is added to the name of a profile that somebody is in only in the other one of two worlds.
const ELSEWHERE: &str = "\nelsewhere";

/// A request that breaks a property, as the runtime could make it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counterexample {
    /// The profile that the guest runs in.
    pub profile: String,
    /// Who asks: `Module::"…"`.
    pub principal: String,
    /// For what.
    pub action: String,
    /// On what: `Path::"/etc"`.
    pub resource: String,
    /// What else the request says.
    pub context: BTreeMap<String, Value>,
    /// Whether Cedar's authorizer allows it.
    pub allowed: bool,
    /// The policies that decide so; none where nothing permits.
    pub policies: Vec<Deciding>,
}

/// A policy that decides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deciding {
    /// Its id.
    pub id: String,
    /// Where it is written.
    pub location: Location,
}

/// The policies of one store that cover an action, and what they are asked about.
pub(super) struct World<'a> {
    ready: &'a Ready,
    policies: PolicySet,
}

impl<'a> World<'a> {
    pub(super) fn new(ready: &'a Ready, action: &str) -> Result<Self, String> {
        let covering = ready
            .policies
            .iter()
            .filter(|loaded| loaded.covers(action))
            .map(|loaded| Policy::clone(&loaded.policy));
        Ok(Self {
            ready,
            policies: PolicySet::from_policies(covering).map_err(|error| error.to_string())?,
        })
    }

    /// The entities that its policies and the condition name.
    pub(super) fn named(&self, when: Option<&str>) -> Result<BTreeSet<EntityUid>, String> {
        let when = when.map(only_when).transpose()?;
        Ok(named(self.policies.policies().chain(&when)))
    }

    pub(super) fn policies(&self) -> &PolicySet {
        &self.policies
    }
}

/// Two policy sets, and the assumption under which they are compared.
pub(super) struct Claim {
    pub(super) left: PolicySet,
    pub(super) right: PolicySet,
}

/// Whoever is in the profile asks for it, under this condition, as the runtime would.
pub(super) struct Domain {
    assumption: String,
}

impl Domain {
    /// Members of one of the profiles, each with a condition of its own that cannot err, and a condition for all.
    pub(super) fn members(
        ready: &Ready,
        named: &BTreeSet<EntityUid>,
        kind: &Kind,
        profiles: &[(&str, Option<&str>)],
        when: Option<&str>,
    ) -> Result<Self, String> {
        let mut members = Vec::new();
        for (profile, condition) in profiles {
            let standings = standings(ready, kind.principal, profile)?;
            members.extend(standings.iter().map(|standing| {
                let own = [
                    Some(standing.condition(named, Clone::clone)),
                    condition.map(ToString::to_string),
                ];
                conjunction(&own.into_iter().flatten().collect::<Vec<_>>())
            }));
        }
        members.dedup();
        Ok(Self::of(
            vec![disjunction(members), of_request(ready, kind, named)],
            when,
        ))
    }

    /// One guest who is in one profile of one world, and in another of the other: for each pair of profiles.
    pub(super) fn in_two_worlds(
        [here, there]: [&World<'_>; 2],
        kind: &Kind,
        profiles: &[[&str; 2]],
        when: Option<&str>,
    ) -> Result<Self, String> {
        let named_here = here.named(when)?;
        let named_there = there.named(None)?;
        let mut members = Vec::new();
        for [profile, other] in profiles {
            let others = standings(there.ready, kind.principal, other)?;
            for standing in standings(here.ready, kind.principal, profile)? {
                let elsewhere = others.iter().find(|other| other.is_of(&standing));
                members.extend(elsewhere.map(|other| {
                    conjunction(&[
                        standing.condition(&named_here, Clone::clone),
                        other.condition(&named_there, renamed_profile),
                    ])
                }));
            }
        }
        let all: BTreeSet<EntityUid> = named_here.union(&named_there).cloned().collect();
        Ok(Self::of(
            vec![disjunction(members), of_request(here.ready, kind, &all)],
            when,
        ))
    }

    fn of(mut all: Vec<String>, when: Option<&str>) -> Self {
        all.extend(when.map(|when| format!("(\n{when}\n)")));
        let all: Vec<String> = all.into_iter().map(|one| format!("({one})")).collect();
        Self {
            assumption: conjunction(&all),
        }
    }

    /// Nothing in the domain is allowed.
    pub(super) fn denied(&self, world: &World<'_>) -> Result<Claim, String> {
        let text = format!(
            "permit (principal, action, resource);\nforbid (principal, action, resource) when {{ {} }};",
            self.assumption
        );
        Ok(Claim {
            left: world.policies.clone(),
            right: set(&text)?,
        })
    }

    /// Everything in the domain is allowed.
    pub(super) fn allowed(&self, world: &World<'_>) -> Result<Claim, String> {
        Ok(Claim {
            left: self.inhabited()?.left,
            right: world.policies.clone(),
        })
    }

    /// The domain is empty: to ask whether a property says anything.
    pub(super) fn inhabited(&self) -> Result<Claim, String> {
        Ok(Claim {
            left: set(&format!(
                "permit (principal, action, resource) when {{ {} }};",
                self.assumption
            ))?,
            right: PolicySet::new(),
        })
    }

    /// Both sets as they are inside the domain; outside of it they deny.
    pub(super) fn compared(&self, left: &PolicySet, right: &PolicySet) -> Result<Claim, String> {
        let text = format!("forbid (principal, action, resource) unless {{ {} }};", self.assumption);
        let guard = Policy::parse(Some(PolicyId::new(ASSUMED)), text).map_err(|error| error.to_string())?;
        let guarded = |set: &PolicySet| {
            let mut set = set.clone();
            set.add(guard.clone()).map_err(|error| error.to_string())?;
            Ok::<_, String>(set)
        };
        Ok(Claim {
            left: guarded(left)?,
            right: guarded(right)?,
        })
    }
}

/// The condition of a property as a policy by itself.
pub(super) fn only_when(when: &str) -> Result<Policy, String> {
    let text = format!("permit (principal, action, resource) when {{\n{when}\n}};");
    Policy::parse(Some(PolicyId::new("when")), text).map_err(|error| error.to_string())
}

fn set(text: &str) -> Result<PolicySet, String> {
    text.parse()
        .map_err(|error: cedar_policy::ParseErrors| format!("{error}: {text}"))
}

fn renamed_profile(entity: &EntityUid) -> EntityUid {
    match type_of(entity).as_str() {
        "Profile" => EntityUid::from_type_name_and_id(
            entity.type_name().clone(),
            EntityId::new(format!("{}{ELSEWHERE}", id(entity))),
        ),
        _ => entity.clone(),
    }
}

/// The same policies, with other names for every profile: so a guest can be in one profile for the first set of policies
/// and in another for the second.
pub(super) fn renamed(policies: &PolicySet) -> Result<PolicySet, String> {
    let mut set = PolicySet::new();
    for policy in policies.policies() {
        let mut json = policy.to_json().map_err(|error| error.to_string())?;
        rename(&mut json);
        let policy = Policy::from_json(Some(policy.id().clone()), json).map_err(|error| error.to_string())?;
        set.add(policy).map_err(|error| error.to_string())?;
    }
    Ok(set)
}

fn rename(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            let is_profile = fields.get("type").and_then(Value::as_str) == Some("Profile");
            if let (true, Some(Value::String(id))) = (is_profile, fields.get_mut("id")) {
                id.push_str(ELSEWHERE);
            }
            fields.values_mut().for_each(rename);
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        _ => {}
    }
}

/// A request as the runtime would make it, rebuilt from the solver's.
pub(super) struct Rebuilt {
    principal: Principal,
    request: Request,
    entities: Entities,
}

impl Rebuilt {
    /// The solver's request, by a member of the profile.
    pub(super) fn new(env: &Env, ready: &Ready, vocabulary: &Vocabulary, profile: &str) -> Result<Self, String> {
        let (Some(asking), Some(action), Some(on), Some(context)) = (
            env.request.principal(),
            env.request.action(),
            env.request.resource(),
            env.request.context(),
        ) else {
            return Err("the solver's request is not complete".to_owned());
        };
        let principal = principal(asking, env, ready, profile)?;
        let compiler = Compiler::new(ready, vocabulary, &principal).map_err(|problem| format!("{problem:?}"))?;
        let (uid, entities) = compiler.into_principal_and_entities();
        let on = resource(on, env)?;
        let missing = on
            .iter()
            .filter(|entity| entities.get(&entity.uid()).is_none() && type_of(&entity.uid()) != "Meter");
        let resource = on
            .first()
            .map(Entity::uid)
            .ok_or("the solver's request has no resource")?;
        let missing: Vec<Entity> = missing.cloned().collect();
        let entities = entities
            .add_entities(missing, Some(vocabulary.schema()))
            .map_err(|error| error.to_string())?;
        let request = Request::new(
            uid,
            action.clone(),
            resource,
            context.clone(),
            Some(vocabulary.schema()),
        )
        .map_err(|error| error.to_string())?;
        Ok(Self {
            principal,
            request,
            entities,
        })
    }

    /// The solver's request among the solver's entities.
    pub(super) fn as_it_is(env: &Env) -> Self {
        Self {
            principal: Principal::profile(""),
            request: env.request.clone(),
            entities: env.entities.clone(),
        }
    }

    /// Whether the request meets a condition.
    pub(super) fn meets(&self, condition: &Policy) -> Result<bool, String> {
        let set = PolicySet::from_policies([condition.clone()]).map_err(|error| error.to_string())?;
        Ok(self.decide(&set).0)
    }

    /// What Cedar's authorizer decides, and by which policies.
    pub(super) fn decide(&self, policies: &PolicySet) -> (bool, Vec<String>) {
        let response = Authorizer::new().is_authorized(&self.request, policies, &self.entities);
        let mut deciding: Vec<String> = response
            .diagnostics()
            .reason()
            .map(|id| AsRef::<str>::as_ref(id).to_owned())
            .collect();
        deciding.sort_unstable();
        (response.decision() == Decision::Allow, deciding)
    }

    /// Whether evaluating the policy fails.
    pub(super) fn errs(&self, policy: &Policy) -> bool {
        let Ok(set) = PolicySet::from_policies([policy.clone()]) else {
            return false;
        };
        let response = Authorizer::new().is_authorized(&self.request, &set, &self.entities);
        response.diagnostics().errors().next().is_some()
    }

    /// For people.
    pub(super) fn counterexample(&self, ready: &Ready, decision: (bool, Vec<String>)) -> Counterexample {
        let shown = |uid: Option<&EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
        let (allowed, policies) = decision;
        let deciding = ready
            .policies
            .iter()
            .filter(|loaded| policies.contains(&loaded.id))
            .map(|loaded| Deciding {
                id: loaded.id.clone(),
                location: loaded.location.clone(),
            });
        Counterexample {
            profile: self.principal.profile.clone(),
            principal: shown(self.request.principal()),
            action: self
                .request
                .action()
                .map(|action| id(action).to_owned())
                .unwrap_or_default(),
            resource: shown(self.request.resource()),
            context: self.request.context().map(context).unwrap_or_default(),
            allowed,
            policies: deciding.collect(),
        }
    }
}

/// Whom the runtime would take the solver's principal for.
fn principal(asking: &EntityUid, env: &Env, ready: &Ready, profile: &str) -> Result<Principal, String> {
    let kind = PrincipalKind::ALL.iter().find(|kind| kind.name() == type_of(asking));
    let is_declared = ready.entities.get(asking).is_some();
    let is_in = |entities: &Entities, signer: &str| {
        let publisher = uid(PUBLISHER, signer).ok();
        publisher.is_some_and(|publisher| entities.is_ancestor_of(&publisher, asking))
    };
    let signed = |module: Principal| {
        let signer = keys(&ready.entities)
            .into_iter()
            .map(|key| key.publisher)
            .find(|signer| is_in(&env.entities, signer) && !is_in(&ready.entities, signer));
        match signer {
            Some(signer) => module.signed_by(&signer),
            None => module,
        }
    };
    Ok(match kind {
        Some(PrincipalKind::Profile) => Principal::profile(profile),
        Some(PrincipalKind::Caller) => Principal::caller(or(id(asking), "guest"), profile),
        Some(PrincipalKind::Module) if is_declared => signed(Principal::module(id(asking), profile)),
        Some(PrincipalKind::Module) => {
            let digest = env.entities.get(asking).and_then(|entity| match entity.attr("sha256") {
                Some(Ok(EvalResult::String(digest))) => Some(digest),
                _ => None,
            });
            let digest = digest.unwrap_or_default();
            signed(Principal::module(or(or(id(asking), &digest), &"0".repeat(64)), profile))
        }
        None => return Err(format!("nobody of the type of `{asking}` asks for anything")),
    })
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The resource with what its name says about it; of a kind that the runtime does not have, with what the solver says.
fn resource(on: &EntityUid, env: &Env) -> Result<Vec<Entity>, String> {
    let solvers = || {
        env.entities
            .get(on)
            .cloned()
            .unwrap_or_else(|| Entity::with_uid(on.clone()))
    };
    let attribute = |name: &str| match solvers().attr(name) {
        Some(Ok(EvalResult::String(text))) => text,
        _ => String::new(),
    };
    let resource = match ResourceKind::from_name(&type_of(on)) {
        Some(ResourceKind::HostFunction) => Resource::host_function(id(on)),
        Some(ResourceKind::SqlFunction) => Resource::sql_function(id(on)),
        Some(ResourceKind::Database) => Resource::database(&attribute("name")),
        Some(ResourceKind::Pragma) => Resource::pragma(&attribute("name")),
        Some(ResourceKind::Path) => Resource::path(&attribute("name")),
        Some(ResourceKind::Namespace) => Resource::namespace(&attribute("name")),
        Some(ResourceKind::Variable) => Resource::variable(&attribute("name")),
        Some(ResourceKind::Table) => Resource::table(&attribute("database"), &attribute("name")),
        Some(ResourceKind::Column) => Resource::column(&attribute("database"), &attribute("table"), &attribute("name")),
        None => {
            let above = env
                .entities
                .ancestors(on)
                .into_iter()
                .flatten()
                .filter_map(|uid| env.entities.get(uid));
            return Ok([solvers()].into_iter().chain(above.cloned()).collect());
        }
    };
    Ok(vec![entity_of(&resource)?])
}

fn context(context: &Context) -> BTreeMap<String, Value> {
    match context.to_json_value() {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
