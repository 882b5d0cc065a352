//! The questions that only the run can answer, put to Cedar.
//!
//! A request is made of the policies that are left, the entities that they can reach, and the resource with the parents
//! that its name gives it. No schema: the process that runs guests has none.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Ruling, Effect, Entities, Entity, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression,
};

use crate::plan::{Answer, Content, Decision};
use crate::schema::uid;
use crate::vocabulary::{Action, Question, Resource, Value, ValueKind};

/// A plan's residual part, in Cedar's form.
pub(crate) struct Residuals {
    authorizer: Authorizer,
    principal: EntityUid,
    /// Per action, by its index; nothing where the answer is known.
    asking: Vec<Option<Asking>>,
    entities: HashMap<EntityUid, Entity>,
}

/// What is the same for every question about one action.
struct Asking {
    action: EntityUid,
    policies: PolicySet,
    entities: Vec<Entity>,
}

impl Residuals {
    /// Parses what the plan carries.
    pub(crate) fn wake(content: &Content) -> Result<Self, String> {
        let policies = content
            .policies
            .iter()
            .map(|policy| {
                Policy::parse(Some(PolicyId::new(&policy.id)), &policy.text).map_err(|error| error.to_string())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let entities: HashMap<EntityUid, Entity> = Entities::from_json_str(&content.entities, None)
            .map_err(|error| error.to_string())?
            .into_iter()
            .map(|entity| (entity.uid(), entity))
            .collect();
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
        })
    }

    pub(crate) fn decide(&self, question: &Question<'_>) -> Decision {
        let Some(Some(asking)) = self.asking.get(question.action.index()) else {
            return Decision::unasked(format!("nothing is left to ask about `{}`", question.action.id()));
        };
        match self.request(asking, question) {
            Ok((request, entities)) => self.answer(asking, &request, &entities),
            Err(error) => Decision::unasked(error),
        }
    }

    fn request(&self, asking: &Asking, question: &Question<'_>) -> Result<(Request, Entities), String> {
        let resource = match self.entities.get(&uid_of(question.resource)?) {
            Some(declared) => declared.clone(),
            None => entity_of(question.resource)?,
        };
        let context = context_of(question)?;
        let request = Request::new(
            self.principal.clone(),
            asking.action.clone(),
            resource.uid(),
            context,
            None,
        )
        .map_err(|error| error.to_string())?;
        let others = asking
            .entities
            .iter()
            .filter(|entity| entity.uid() != resource.uid())
            .cloned();
        let entities =
            Entities::from_entities(others.chain([resource.clone()]), None).map_err(|error| error.to_string())?;
        Ok((request, entities))
    }

    fn answer(&self, asking: &Asking, request: &Request, entities: &Entities) -> Decision {
        let response = self.authorizer.is_authorized(request, &asking.policies, entities);
        let mut policies: Vec<String> = response
            .diagnostics()
            .reason()
            .map(|id| AsRef::<str>::as_ref(id).to_owned())
            .collect();
        policies.sort_unstable();
        let mut errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        errors.sort_unstable();
        // Cedar skips a policy that errors. A forbid that was skipped has not been asked, so the answer is no.
        let skipped_forbid = response.diagnostics().errors().any(|error| asking.is_forbid(error));
        let allowed = response.decision() == Ruling::Allow && !skipped_forbid;
        Decision {
            allowed,
            policies,
            errors,
        }
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
        let mut reached: HashSet<EntityUid> = policies.iter().flat_map(Policy::entity_literals).collect();
        reached.extend([principal.clone(), action.clone()]);
        let entities = reached.iter().filter_map(|uid| entities.get(uid)).cloned().collect();
        Ok(Self {
            action,
            policies: PolicySet::from_policies(policies).map_err(|error| error.to_string())?,
            entities,
        })
    }

    fn is_forbid(&self, error: &AuthorizationError) -> bool {
        let AuthorizationError::PolicyEvaluationError(error) = error;
        self.policies
            .policy(error.policy_id())
            .is_none_or(|policy| policy.effect() == Effect::Forbid)
    }
}

/// The resource's uid.
pub(crate) fn uid_of(resource: &Resource) -> Result<EntityUid, String> {
    uid(resource.kind().name(), &resource.id())
}

/// The resource with the parents and attributes that its name gives it.
pub(crate) fn entity_of(resource: &Resource) -> Result<Entity, String> {
    let parents = resource
        .parents()
        .iter()
        .map(uid_of)
        .collect::<Result<HashSet<_>, _>>()?;
    let attributes = resource
        .attributes()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), RestrictedExpression::new_string(value)))
        .collect();
    Entity::new(uid_of(resource)?, attributes, parents).map_err(|error| error.to_string())
}

/// The context, if it is what the schema says: policies were validated against that and nothing else.
pub(crate) fn context_of(question: &Question<'_>) -> Result<Context, String> {
    let known = question.action.context();
    if let Some(missing) = known
        .iter()
        .find(|attribute| attribute.required && !question.context.iter().any(|(name, _)| *name == attribute.name))
    {
        return Err(format!(
            "`{}` is asked without `{}`",
            question.action.id(),
            missing.name
        ));
    }
    let mut pairs = Vec::with_capacity(question.context.len());
    for (name, value) in question.context {
        if !known
            .iter()
            .any(|attribute| attribute.name == *name && attribute.kind == value.kind())
        {
            let kind = match value.kind() {
                ValueKind::Text => "a string",
                ValueKind::Long => "a number",
            };
            return Err(format!("`{}` is not asked with {kind} `{name}`", question.action.id()));
        }
        let value = match value {
            Value::Text(text) => RestrictedExpression::new_string(text.clone()),
            Value::Long(number) => RestrictedExpression::new_long(*number),
        };
        pairs.push(((*name).to_owned(), value));
    }
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}
