//! What Cedar's own authorizer says about the whole policy set and all entities, without a plan.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Decision as Ruling, Entities, Entity, EntityUid, Policy, PolicySet, Request,
    RestrictedExpression,
};

use crate::compile::{Compiler, Ready};
use crate::principal::Principal;
use crate::residual::{context_of, entity_of, uid_of};
use crate::schema::{Vocabulary, uid};
use crate::vocabulary::{Meter, Question, Resource};

/// Cedar, with everything that a policy set and its entities say.
pub(super) struct Reference<'a> {
    ready: &'a Ready,
    vocabulary: &'a Vocabulary,
    policies: PolicySet,
    authorizer: Authorizer,
    /// The resources that are going to be asked about. All at once, because adding one costs as much as adding all.
    resources: Vec<Entity>,
    /// All entities, with each principal that was asked about.
    around: HashMap<Arc<Principal>, Arc<Entities>>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) allowed: bool,
    /// Sorted.
    pub(super) policies: Vec<String>,
}

/// A question in Cedar's form.
pub(super) struct Put {
    pub(super) request: Request,
    pub(super) entities: Arc<Entities>,
}

impl<'a> Reference<'a> {
    pub(super) fn new<'r>(
        ready: &'a Ready,
        vocabulary: &'a Vocabulary,
        asked_about: impl IntoIterator<Item = &'r Resource>,
    ) -> Result<Self, String> {
        let policies = ready.policies.iter().map(|loaded| Policy::clone(&loaded.policy));
        let mut resources: HashMap<EntityUid, Entity> = HashMap::new();
        for resource in asked_about {
            let uid = uid_of(resource)?;
            if ready.entities.get(&uid).is_none() && !resources.contains_key(&uid) {
                resources.insert(uid, entity_of(resource)?);
            }
        }
        Ok(Self {
            ready,
            vocabulary,
            policies: PolicySet::from_policies(policies).map_err(|error| error.to_string())?,
            authorizer: Authorizer::new(),
            resources: resources.into_values().collect(),
            around: HashMap::new(),
        })
    }

    /// A question about a resource.
    pub(super) fn put(&mut self, principal: &Arc<Principal>, question: &Question<'_>) -> Result<Put, String> {
        let context = context_of(question)?;
        let entities = self.around(principal)?;
        let resource = uid_of(question.resource)?;
        self.request(principal, question.action.id(), resource, context, entities)
    }

    /// A question about an amount.
    pub(super) fn put_amount(&mut self, principal: &Arc<Principal>, meter: Meter, amount: i64) -> Result<Put, String> {
        let attribute = (meter.unit().name().to_owned(), RestrictedExpression::new_long(amount));
        let context = Context::from_pairs([attribute]).map_err(|error| error.to_string())?;
        let entities = self.around(principal)?;
        self.request(
            principal,
            meter.action(),
            uid("Meter", meter.resource())?,
            context,
            entities,
        )
    }

    /// The answer of the whole policy set.
    pub(super) fn answer(&self, put: &Put) -> Told {
        told(&self.authorizer, put, &self.policies)
    }

    /// The answer of the policies whose scope lets the action through. The others never apply, so it is the same, sooner.
    pub(super) fn answer_of_covering(&self, put: &Put, action: &str) -> Told {
        let covering = self.ready.by_action.get(action);
        let covering = covering.map_or(&self.policies, |covering| &covering.policies);
        told(&self.authorizer, put, covering)
    }

    fn request(
        &self,
        principal: &Principal,
        action: &str,
        resource: EntityUid,
        context: Context,
        entities: Arc<Entities>,
    ) -> Result<Put, String> {
        let principal = uid(principal.kind.name(), &principal.id)?;
        let schema = Some(self.vocabulary.schema());
        let request = Request::new(principal, uid("Action", action)?, resource, context, schema)
            .map_err(|error| error.to_string())?;
        Ok(Put { request, entities })
    }

    fn around(&mut self, principal: &Arc<Principal>) -> Result<Arc<Entities>, String> {
        if let Some(known) = self.around.get(principal) {
            return Ok(Arc::clone(known));
        }
        let declared = Compiler::new(self.ready, self.vocabulary, principal)
            .map(|compiler| compiler.entities().clone())
            .map_err(|_| format!("`{}` is not in profile `{}`", principal.id, principal.profile))?;
        let entities = declared
            .add_entities(self.resources.iter().cloned(), Some(self.vocabulary.schema()))
            .map_err(|error| error.to_string())?;
        let entities = Arc::new(entities);
        self.around.insert(Arc::clone(principal), Arc::clone(&entities));
        Ok(entities)
    }
}

fn told(authorizer: &Authorizer, put: &Put, policies: &PolicySet) -> Told {
    let response = authorizer.is_authorized(&put.request, policies, &put.entities);
    let mut policies: Vec<String> = response
        .diagnostics()
        .reason()
        .map(|id| AsRef::<str>::as_ref(id).to_owned())
        .collect();
    policies.sort_unstable();
    Told {
        allowed: response.decision() == Ruling::Allow,
        policies,
    }
}
