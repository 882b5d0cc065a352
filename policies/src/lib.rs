//! Cedar policies compiled to enforcement plans.
//!
//! A policy set is loaded and checked once ([`PolicyStore`]), then partially evaluated for one [`Principal`] into a
//! [`Plan`]: one number per [`Meter`], one bit per [`Action`] whose answer is known, and for the rest the few policies
//! that are left for Cedar to answer at run time. A plan and Cedar's own authorizer give the same answer to every
//! question; where this crate cannot show that, loading fails.

mod amounts;
mod anybody;
mod bound_text;
mod bounds;
pub mod check;
mod compile;
mod condition;
mod conditioned;
#[cfg(feature = "workbench")]
pub mod diff;
mod entities;
pub mod explain;
mod finding;
#[cfg(feature = "workbench")]
pub mod format;
mod limits;
mod linear;
mod links;
mod lint;
mod load;
mod memo;
#[cfg(feature = "workbench")]
pub mod mutate;
mod nearest;
mod own;
mod own_schema;
mod parse;
pub mod plan;
mod principal;
mod profiles;
#[cfg(feature = "workbench")]
pub mod prove;
mod publisher;
mod residual;
mod resource;
mod resource_text;
mod schema;
mod slice;
mod split;
pub mod store;
#[cfg(feature = "workbench")]
pub mod suite;
pub mod vocabulary;

pub use check::{BoundReport, CapabilityReport, Grant, OwnReport, ProfileReport, Report, check};
#[cfg(feature = "workbench")]
pub use diff::{Difference, diff};
pub use explain::{ActionDoc, ActionKind, action_ids, describe};
pub use finding::{Allowed, Code, Finding, Location, Severity, UnknownCode};
pub use lint::{MODULE_NEEDS, STATEMENT_NEEDS};
pub use own::OwnQuestion;
pub use plan::{Bound, Decision, Plan};
pub use principal::{Principal, PrincipalKind};
pub use publisher::PublisherKey;
pub use resource_text::ResourceError;
pub use store::{LoadError, PlanError, PolicyStore, Source, SourceKind, Stock};
pub use vocabulary::{
    Action, Attribute, Capability, Meter, Question, Resource, ResourceKind, SqlAction, Unit, Value, ValueKind,
};
