//! One thing that is asked, and the answer that it must get.

use std::fmt;
use std::sync::Arc;

use crate::finding::Location;
use crate::plan::Bound;
use crate::principal::{Principal, PrincipalKind};
use crate::vocabulary::{Action, Meter, Resource, Value};

/// One thing that is asked, and the answer that it must get.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// What its author calls it, and the rest of its table with it.
    pub(super) title: Option<Arc<str>>,
    pub(super) location: Arc<Location>,
    pub(super) principal: Arc<Principal>,
    pub(super) asked: Asked,
    /// Exactly the policies that decide, sorted.
    pub(super) by: Option<Arc<[String]>>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// May this be done?
    Request {
        action: Action,
        resource: Arc<Resource>,
        context: Arc<[(&'static str, Value)]>,
        allowed: bool,
    },
    /// May the total reach this amount?
    Amount { meter: Meter, amount: u64, allowed: bool },
    /// How much at most?
    Bound { meter: Meter, most: Bound },
}

impl Asked {
    /// The id of the action, or of the meter's.
    pub(super) const fn action(&self) -> &'static str {
        match self {
            Self::Request { action, .. } => action.id(),
            Self::Amount { meter, .. } | Self::Bound { meter, .. } => meter.action(),
        }
    }
}

impl Case {
    /// What is asked in words, its title in front.
    pub(super) fn name(&self) -> String {
        match &self.title {
            Some(title) => format!("{title}: {self}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Principal { kind, id, profile, .. } = &*self.principal;
        match kind {
            PrincipalKind::Profile => f.write_str(profile)?,
            PrincipalKind::Module | PrincipalKind::Caller => write!(f, "{}::{id:?} in {profile}", kind.name())?,
        }
        if let Some(publisher) = &self.principal.publisher {
            write!(f, ", signed by {publisher}")?;
        }
        match &self.asked {
            Asked::Request {
                action,
                resource,
                context,
                ..
            } => {
                write!(f, ", {} on {resource}", action.id())?;
                if context.is_empty() {
                    return Ok(());
                }
                let said = context.iter().map(|(name, value)| match value {
                    Value::Text(text) => format!("{name}: {text:?}"),
                    Value::Long(number) => format!("{name}: {number}"),
                });
                write!(f, " {{{}}}", said.collect::<Vec<_>>().join(", "))
            }
            Asked::Amount { meter, amount, .. } => {
                write!(f, ", {} to {amount} {}", meter.action(), meter.unit().name())
            }
            Asked::Bound { meter, .. } => write!(f, ", the bound of {}", meter.action()),
        }
    }
}

/// A decision in a word.
pub(super) const fn ruling(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}
