//! The questions that only the run can answer, put to Cedar.
//!
//! A request is made of the policies that are left, the entities that they can reach, and the resource with the parents
//! that its name gives it. No schema: the process that runs guests has none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Context, Decision as Ruling, Effect, Entities, Entity, EntityUid,
    Policy, PolicyId, PolicySet, Request, RestrictedExpression,
};

use crate::condition::{Reads, context_reads, needs};
use crate::plan::{Answer, Content, Decision, PolicyText};
use crate::schema::uid;
use crate::slice::Slices;
use crate::vocabulary::{Action, Attribute, Question, Resource, Value, ValueKind};

/// A plan's residual part, in Cedar's form.
pub(crate) struct Residuals {
    authorizer: Authorizer,
    principal: EntityUid,
    /// Per action, by its index; nothing where the answer is known.
    asking: Vec<Option<Asking>>,
    entities: HashMap<EntityUid, Entity>,
    /// What the declared ones are in, directly or not.
    above: HashMap<EntityUid, Vec<EntityUid>>,
}

/// What is the same for every question about one action.
struct Asking {
    action: EntityUid,
    policies: Slices,
    entities: Vec<Entity>,
    /// Whether some policy reads attributes of the resource.
    reads_attributes: bool,
    /// What the policies read of the context.
    reads: Reads,
}

impl Residuals {
    /// Parses what the plan carries.
    pub(crate) fn wake(content: &Content) -> Result<Self, String> {
        let policies = policies_of(content)?;
        let declared = Entities::from_json_str(&content.entities, None).map_err(|error| error.to_string())?;
        let above = declared
            .iter()
            .map(Entity::uid)
            .map(|uid| {
                let above = declared.ancestors(&uid).into_iter().flatten().cloned().collect();
                (uid, above)
            })
            .collect();
        let entities: HashMap<EntityUid, Entity> = declared.into_iter().map(|entity| (entity.uid(), entity)).collect();
        let principal = uid(content.principal.kind.name(), &content.principal.id)?;
        let asking = content
            .answers
            .iter()
            .map(|entry| match &entry.answer {
                Answer::Known { .. } => Ok(None),
                Answer::Depends { policies: kept } => {
                    let kept = kept.iter().filter_map(|index| policies.get(*index)).cloned();
                    Asking::new(entry.action, kept.collect(), &principal, &entities).map(Some)
                }
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self {
            authorizer: Authorizer::new(),
            principal,
            asking,
            entities,
            above,
        })
    }

    /// What the answer to an action depends on in the context.
    pub(crate) fn reads(&self, action: Action) -> &Reads {
        match self.asking.get(action.index()) {
            Some(Some(asking)) => &asking.reads,
            _ => &Reads::Everything,
        }
    }

    pub(crate) fn decide(&self, question: &Question<'_>) -> Decision {
        let Some(Some(asking)) = self.asking.get(question.action.index()) else {
            return Decision::unasked(format!("nothing is left to ask about `{}`", question.action.id()));
        };
        match self.request(asking, question) {
            Ok((request, policies, entities)) => authorized(&self.authorizer, &request, &policies, &entities),
            Err(error) => Decision::unasked(error),
        }
    }

    fn request(&self, asking: &Asking, question: &Question<'_>) -> Result<(Request, Arc<PolicySet>, Entities), String> {
        let uid = uid_of(question.resource)?;
        let (resource, above) = match (self.entities.get(&uid), self.above.get(&uid)) {
            (Some(declared), Some(above)) => (declared.clone(), above.clone()),
            _ => {
                let above = parents_of(question.resource)?;
                let attributes = if asking.reads_attributes {
                    attributes_of(question.resource)
                } else {
                    HashMap::new()
                };
                let resource = Entity::new(uid.clone(), attributes, above.iter().cloned().collect());
                (resource.map_err(|error| error.to_string())?, above)
            }
        };
        let policies = asking.policies.about(above.iter().chain([&uid]))?;
        let context = context_of(question)?;
        let (principal, action) = (self.principal.clone(), asking.action.clone());
        let request = Request::new(principal, action, uid, context, None).map_err(|error| error.to_string())?;
        let others = asking
            .entities
            .iter()
            .filter(|entity| entity.uid() != resource.uid())
            .cloned();
        let entities =
            Entities::from_entities(others.chain([resource.clone()]), None).map_err(|error| error.to_string())?;
        Ok((request, policies, entities))
    }
}

impl Asking {
    fn new(
        action: Action,
        policies: Vec<Policy>,
        principal: &EntityUid,
        entities: &HashMap<EntityUid, Entity>,
    ) -> Result<Self, String> {
        let action = uid("Action", action.id())?;
        let needs = needs(&policies);
        let mut reached = HashSet::from([principal.clone()]);
        if needs.entities {
            reached.extend(policies.iter().flat_map(Policy::entity_literals));
        }
        let names_a_group = |policy: &Policy| matches!(policy.action_constraint(), ActionConstraint::In(_));
        if needs.entities || policies.iter().any(names_a_group) {
            reached.insert(action.clone());
        }
        let entities = reached.iter().filter_map(|uid| entities.get(uid)).cloned().collect();
        Ok(Self {
            action,
            reads: context_reads(&policies),
            reads_attributes: needs.attributes,
            policies: Slices::of(policies),
            entities,
        })
    }
}

/// The policies that a plan carries, by their places.
pub(crate) fn policies_of(content: &Content) -> Result<Vec<Policy>, String> {
    let parse = |policy: &PolicyText| {
        Policy::parse(Some(PolicyId::new(&policy.id)), &policy.text).map_err(|error| error.to_string())
    };
    content.policies.iter().map(parse).collect()
}

/// What Cedar says. A forbid that errors denies.
pub(crate) fn authorized(
    authorizer: &Authorizer,
    request: &Request,
    policies: &PolicySet,
    entities: &Entities,
) -> Decision {
    let response = authorizer.is_authorized(request, policies, entities);
    let reason = response.diagnostics().reason();
    let mut deciding: Vec<String> = reason.map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
    deciding.sort_unstable();
    let mut errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
    errors.sort_unstable();
    // Cedar skips a policy that errors. A forbid that was skipped has not been asked, so the answer is no.
    let skipped_forbid = response.diagnostics().errors().any(|error| is_forbid(policies, error));
    Decision {
        allowed: response.decision() == Ruling::Allow && !skipped_forbid,
        policies: deciding,
        errors,
    }
}

fn is_forbid(policies: &PolicySet, error: &AuthorizationError) -> bool {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    policies
        .policy(error.policy_id())
        .is_none_or(|policy| policy.effect() == Effect::Forbid)
}

/// The resource's uid.
pub(crate) fn uid_of(resource: &Resource) -> Result<EntityUid, String> {
    uid(resource.kind().name(), &resource.id())
}

/// The resource with the parents and attributes that its name gives it.
pub(crate) fn entity_of(resource: &Resource) -> Result<Entity, String> {
    let parents = parents_of(resource)?.into_iter().collect();
    Entity::new(uid_of(resource)?, attributes_of(resource), parents).map_err(|error| error.to_string())
}

/// All that the resource is in.
fn parents_of(resource: &Resource) -> Result<Vec<EntityUid>, String> {
    resource.parents().iter().map(uid_of).collect()
}

fn attributes_of(resource: &Resource) -> HashMap<String, RestrictedExpression> {
    let text = |(name, value): (&str, String)| (name.to_owned(), RestrictedExpression::new_string(value));
    resource.attributes().into_iter().map(text).collect()
}

/// Whether the context is what the schema says: policies were validated against that and nothing else.
pub(crate) fn well_formed(question: &Question<'_>) -> Result<(), String> {
    let known = question.action.context();
    let action = question.action.id();
    let is_there = |name: &str| question.context.iter().any(|(there, _)| *there == name);
    if let Some(missing) = known
        .iter()
        .find(|attribute| attribute.required && !is_there(attribute.name))
    {
        return Err(format!("`{action}` is asked without `{}`", missing.name));
    }
    for (place, (name, value)) in question.context.iter().enumerate() {
        let kind = match value.kind() {
            ValueKind::Text => "a string",
            ValueKind::Long => "a number",
        };
        let is_known = |attribute: &Attribute| attribute.name == *name && attribute.kind == value.kind();
        if !known.iter().any(is_known) {
            return Err(format!("`{action}` is not asked with {kind} `{name}`"));
        }
        if question.context.iter().take(place).any(|(before, _)| before == name) {
            return Err(format!("`{action}` is asked with `{name}` twice"));
        }
    }
    Ok(())
}

/// The context as Cedar has it, if it is well formed.
pub(crate) fn context_of(question: &Question<'_>) -> Result<Context, String> {
    well_formed(question)?;
    let pairs = question.context.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => RestrictedExpression::new_string(text.clone()),
            Value::Long(number) => RestrictedExpression::new_long(*number),
        };
        ((*name).to_owned(), value)
    });
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}
