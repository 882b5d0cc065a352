//! What Cedar's own authorizer says, without any of this crate's compiler.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report"
)]

use std::cell::RefCell;

use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, Schema};
use serde_json::{Value as Json, json};
use stockade_policies::{Principal, PrincipalKind};

/// A policy set and entities, as Cedar reads them.
pub struct Reference {
    schema: Schema,
    policies: PolicySet,
    entities: Vec<Json>,
    /// The entities of the principal that was asked about last.
    around: RefCell<Option<(Principal, Entities)>>,
}

impl Reference {
    pub fn new(policies: &[&str], entities: &[&str]) -> Self {
        let (schema, _) = Schema::from_cedarschema_str(include_str!("../../schema.cedarschema")).unwrap();
        let rows = |text: &&str| serde_json::from_str::<Vec<Json>>(text).unwrap();
        Self {
            schema,
            policies: policies.join("\n").parse().unwrap(),
            entities: entities.iter().flat_map(rows).collect(),
            around: RefCell::new(None),
        }
    }

    /// Everything that is stock.
    pub fn stock(more: &[&str], more_entities: &[&str]) -> Self {
        let policies = [
            include_str!("../../profiles/capabilities.cedar"),
            include_str!("../../profiles/sqlite-recommended.cedar"),
            include_str!("../../profiles/untrusted.cedar"),
            include_str!("../../profiles/database-only.cedar"),
            include_str!("../../profiles/standard.cedar"),
            include_str!("../../profiles/trusted.cedar"),
            include_str!("../../profiles/walkin.cedar"),
            include_str!("../../profiles/pure.cedar"),
        ];
        let entities = [
            include_str!("../../profiles/profiles.json"),
            include_str!("../../profiles/functions.json"),
        ];
        Self::new(
            &[&policies[..], more].concat(),
            &[&entities[..], more_entities].concat(),
        )
    }

    /// Does the authorizer allow it? `resource` is the entity as JSON, with its parents; a meter is just its id.
    pub fn allows(&self, principal: &Principal, action: &str, resource: &Json, context: Json) -> bool {
        let uid = |value: &Json| EntityUid::from_json(value.clone()).unwrap();
        let action = uid(&json!({"type": "Action", "id": action}));
        let mut entities = self.around(principal);
        let resource_uid = uid(&resource["uid"]);
        if entities.get(&resource_uid).is_none() && resource["uid"]["type"] != "Meter" {
            let row = Entity::from_json_value(resource.clone(), Some(&self.schema)).unwrap();
            entities = entities.add_entities([row], Some(&self.schema)).unwrap();
        }
        let context = Context::from_json_value(context, Some((&self.schema, &action))).unwrap();
        let principal = uid(&json!({"type": principal.kind.name(), "id": principal.id}));
        let request = Request::new(principal, action, resource_uid, context, Some(&self.schema)).unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        assert_eq!(response.diagnostics().errors().count(), 0);
        response.decision() == Decision::Allow
    }

    /// What is declared, and the principal.
    fn around(&self, principal: &Principal) -> Entities {
        if let Some((known, entities)) = &*self.around.borrow()
            && known == principal
        {
            return entities.clone();
        }
        let mut rows = self.entities.clone();
        rows.extend(principal_row(principal));
        let entities = Entities::from_json_value(Json::Array(rows), Some(&self.schema)).unwrap();
        *self.around.borrow_mut() = Some((principal.clone(), entities.clone()));
        entities
    }
}

fn principal_row(principal: &Principal) -> Option<Json> {
    let parents = json!([{"type": "Profile", "id": principal.profile}]);
    let uid = json!({"type": principal.kind.name(), "id": principal.id});
    match principal.kind {
        PrincipalKind::Module => Some(json!({"uid": uid, "attrs": {"sha256": principal.sha256}, "parents": parents})),
        PrincipalKind::Caller => Some(json!({"uid": uid, "attrs": {}, "parents": parents})),
        PrincipalKind::Profile => None,
    }
}

/// Everybody that a profile can be run for.
pub fn principals(profile: &str) -> [Principal; 3] {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    [
        Principal::profile(profile),
        Principal::module(digest, profile),
        Principal::caller("alice", profile),
    ]
}
