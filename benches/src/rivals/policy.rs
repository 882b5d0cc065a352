//! Other engines, given the same rules about reading, each asked the way its documentation asks it.

use std::error::Error;

use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request};
use regorus::Engine;

use crate::synthetic::{self, PROFILES, Wish};

/// Cedar by itself: the whole set, for every question.
pub struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
}

/// A question that is ready to be asked: making it is not what is timed.
pub struct CedarWish {
    request: Request,
    entities: Entities,
}

impl Cedar {
    /// The set in this text.
    ///
    /// # Errors
    ///
    /// Whatever Cedar says.
    pub fn new(policies: &str) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: policies.parse()?,
        })
    }

    /// A question, with the entities that it reaches.
    ///
    /// # Errors
    ///
    /// Whatever Cedar says.
    pub fn wish(wish: &Wish) -> Result<CedarWish, Box<dyn Error>> {
        let uid =
            |type_: &str, id: &str| -> Result<EntityUid, Box<dyn Error>> { Ok(format!("{type_}::\"{id}\"").parse()?) };
        let caller = uid("Caller", "guest")?;
        let profile = uid("Profile", &format!("p{}", wish.profile))?;
        let table = uid("Table", &format!("main.{}", wish.table))?;
        let column = uid("Column", &format!("main.{}.{}", wish.table, wish.column))?;
        let database = uid("Database", "main")?;
        let in_ = |child: &EntityUid, parent: &EntityUid| {
            Entity::new_no_attrs(child.clone(), std::iter::once(parent.clone()).collect())
        };
        let entities = [in_(&caller, &profile), in_(&column, &table), in_(&table, &database)];
        Ok(CedarWish {
            request: Request::new(caller, "Action::\"read\"".parse()?, column, Context::empty(), None)?,
            entities: Entities::from_entities(entities, None)?,
        })
    }

    /// The answer.
    #[must_use]
    pub fn allows(&self, wish: &CedarWish) -> bool {
        self.authorizer
            .is_authorized(&wish.request, &self.policies, &wish.entities)
            .decision()
            == Decision::Allow
    }
}

/// Rego, by regorus.
pub struct Rego(Engine);

impl Rego {
    /// The first `count` rules.
    ///
    /// # Errors
    ///
    /// Whatever regorus says.
    pub fn new(count: usize) -> Result<Self, Box<dyn Error>> {
        let mut engine = Engine::new();
        engine.add_policy("stockade.rego".to_owned(), synthetic::rego(count))?;
        Ok(Self(engine))
    }

    /// The input of a question.
    ///
    /// # Errors
    ///
    /// Whatever regorus says.
    pub fn wish(wish: &Wish) -> Result<regorus::Value, Box<dyn Error>> {
        let input = format!(
            r#"{{"profile": "p{}", "table": "{}", "column": "{}"}}"#,
            wish.profile, wish.table, wish.column
        );
        Ok(regorus::Value::from_json_str(&input)?)
    }

    /// The answer, false where there is none.
    pub fn allows(&mut self, wish: &regorus::Value) -> bool {
        self.0.set_input(wish.clone());
        self.0
            .eval_rule("data.stockade.allow".to_owned())
            .is_ok_and(|answer| answer == regorus::Value::from(true))
    }
}

/// An access model with a list of rules, by casbin.
pub struct Casbin(Enforcer);

impl Casbin {
    /// The first `count` rules.
    ///
    /// # Errors
    ///
    /// Whatever casbin says.
    pub fn new(count: usize) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let enforcer = runtime.block_on(async {
            let model = DefaultModel::from_str(synthetic::CASBIN_MODEL).await?;
            let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
            enforcer.add_policies(synthetic::casbin(count).collect()).await?;
            Ok::<_, casbin::Error>(enforcer)
        })?;
        Ok(Self(enforcer))
    }

    /// The question's words.
    #[must_use]
    pub fn wish(wish: &Wish) -> (String, String, String) {
        (format!("p{}", wish.profile), wish.table.clone(), wish.column.clone())
    }

    /// The answer, false where there is none.
    #[must_use]
    pub fn allows(&self, (profile, table, column): &(String, String, String)) -> bool {
        self.0
            .enforce((profile.as_str(), table.as_str(), column.as_str()))
            .unwrap_or(false)
    }
}

/// How many different questions there are about rules that go round the profiles.
#[must_use]
pub const fn round() -> usize {
    4 * PROFILES
}
