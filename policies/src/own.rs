//! Questions about the actions of a user's own schema.
//!
//! Nothing in this program asks them: a program that embeds it does, in a host function of its own. A question is validated
//! against the schema as Cedar's own authorizer would have it, and what does not fit is denied.

use std::collections::HashMap;
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Schema,
};
use serde_json::Value;

use crate::own_schema::schema_of;
use crate::plan::{Answer, Content, Decision};
use crate::residual::{authorized, entity_of, policies_of};
use crate::resource::{Resource, ResourceKind};
use crate::schema::{uid, vocabulary};

/// One question about an action of a user's own schema.
#[derive(Debug, Clone, Copy)]
pub struct OwnQuestion<'a> {
    /// The action's uid, as `check` shows it: `Shop::Action::"sendMail"`.
    pub action: &'a str,
    /// The resource's type: `Shop::Mailbox`.
    pub resource_type: &'a str,
    /// The resource's id, as it is: nothing in it is quoted or escaped, so a guest may have chosen it.
    pub resource_id: &'a str,
    /// The context, an object. Entities in it are `{"type": …, "id": …}`.
    pub context: &'a Value,
}

/// A plan's answers to such questions, in Cedar's form.
pub(crate) struct OwnResiduals {
    authorizer: Authorizer,
    schema: Schema,
    principal: EntityUid,
    /// Per action whose answer depends on the question, the policies that take part.
    policies: HashMap<String, PolicySet>,
    actions: HashMap<String, EntityUid>,
    entities: Entities,
}

impl OwnResiduals {
    /// Parses what the plan carries.
    pub(crate) fn wake(content: &Content) -> Result<Self, String> {
        let schema = schema_of(vocabulary()?, &content.own.schemas)?;
        let all = policies_of(content)?;
        let mut policies = HashMap::new();
        for entry in &content.own.answers {
            if let Answer::Depends { policies: indices } = &entry.answer {
                let kept = indices.iter().filter_map(|index| all.get(*index)).cloned();
                let set = PolicySet::from_policies(kept).map_err(|error| error.to_string())?;
                policies.insert(entry.action.clone(), set);
            }
        }
        Ok(Self {
            authorizer: Authorizer::new(),
            principal: uid(content.principal.kind.name(), &content.principal.id)?,
            policies,
            actions: schema.actions().map(|uid| (uid.to_string(), uid.clone())).collect(),
            entities: Entities::from_json_str(&content.own.entities, None).map_err(|error| error.to_string())?,
            schema,
        })
    }

    pub(crate) fn decide(&self, question: &OwnQuestion<'_>, answer: &Answer) -> Decision {
        self.asked(question, answer).unwrap_or_else(Decision::unasked)
    }

    fn asked(&self, question: &OwnQuestion<'_>, answer: &Answer) -> Result<Decision, String> {
        let resource = resource_uid(question)?;
        let request = self.request(question, &resource)?;
        let policies = match answer {
            Answer::Known { allowed, policies } => {
                return Ok(Decision {
                    allowed: *allowed,
                    policies: policies.clone(),
                    errors: Vec::new(),
                });
            }
            Answer::Depends { .. } => self
                .policies
                .get(question.action)
                .ok_or_else(|| format!("nothing is left to ask about `{}`", question.action))?,
        };
        let named = named_entity(question)?;
        let entities = match named.filter(|_| self.entities.get(&resource).is_none()) {
            None => self.entities.clone(),
            Some(entity) => self
                .entities
                .clone()
                .add_entities([entity], None)
                .map_err(|error| error.to_string())?,
        };
        Ok(authorized(&self.authorizer, &request, policies, &entities))
    }

    fn request(&self, question: &OwnQuestion<'_>, resource: &EntityUid) -> Result<Request, String> {
        let action = self
            .actions
            .get(question.action)
            .ok_or_else(|| format!("the schema has no `{}`", question.action))?;
        let context = Context::from_json_value(question.context.clone(), Some((&self.schema, action)))
            .map_err(|error| error.to_string())?;
        Request::new(
            self.principal.clone(),
            action.clone(),
            resource.clone(),
            context,
            Some(&self.schema),
        )
        .map_err(|error| error.to_string())
    }
}

/// A type name is written by a program, and no longer than this.
const LONGEST_TYPE: usize = 1024;

fn resource_uid(question: &OwnQuestion<'_>) -> Result<EntityUid, String> {
    let type_ = question.resource_type;
    if type_.len() > LONGEST_TYPE {
        return Err(format!("the name of a type is {} bytes long", type_.len()));
    }
    let type_ = EntityTypeName::from_str(type_).map_err(|error| format!("`{type_}` is no type: {error}"))?;
    Ok(EntityUid::from_type_name_and_id(
        type_,
        EntityId::new(question.resource_id),
    ))
}

/// The resource with what follows from its name, where it is of a type for which something does.
fn named_entity(question: &OwnQuestion<'_>) -> Result<Option<Entity>, String> {
    let Some(kind) = ResourceKind::from_name(question.resource_type).filter(|kind| kind.is_structural()) else {
        return Ok(None);
    };
    let id = question.resource_id;
    let written = format!("{}::{}", kind.name(), Value::from(id));
    let resource: Resource = written
        .parse()
        .map_err(|error: crate::resource_text::ResourceError| error.to_string())?;
    if resource.id() != id {
        return Err(format!("no request is about `{written}`; it would be `{resource}`"));
    }
    entity_of(&resource).map(Some)
}
