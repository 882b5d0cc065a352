//! A policy whose conditions are read once.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use cedar_policy::Policy;
use cedar_policy::pst::Clause;

use crate::condition::{asks_for, can_error, written_numbers};

/// A policy and what its conditions are, once somebody asked: Cedar parses the text again for each answer, which takes longer than
/// most of what is asked about them.
#[derive(Debug, Clone)]
pub(crate) struct Conditioned {
    policy: Policy,
    conditions: Arc<Conditions>,
}

#[derive(Debug, Default)]
struct Conditions {
    clauses: OnceLock<Option<Vec<Clause>>>,
    numbers: OnceLock<Vec<i64>>,
}

impl From<Policy> for Conditioned {
    fn from(policy: Policy) -> Self {
        Self {
            policy,
            conditions: Arc::default(),
        }
    }
}

/// Nobody changes a policy whose conditions were read.
impl Deref for Conditioned {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

impl Conditioned {
    /// What stands behind `when` and `unless`. Nothing where Cedar cannot say.
    fn read(&self) -> Option<&[Clause]> {
        let read = || Some(self.policy.to_pst().ok()?.body().clauses().clone());
        self.conditions.clauses.get_or_init(read).as_deref()
    }

    /// What stands behind `when` and `unless`, as far as Cedar can say.
    pub(crate) fn clauses(&self) -> &[Clause] {
        self.read().unwrap_or_default()
    }

    /// Whether a condition reads this attribute of anything but the context, or may.
    pub(crate) fn asks_for(&self, attribute: &str) -> bool {
        self.read().is_none_or(|clauses| asks_for(clauses, attribute))
    }

    /// Whether evaluating the conditions can end in an error, whatever the request.
    pub(crate) fn can_error(&self) -> bool {
        self.read().is_none_or(can_error)
    }

    /// The numbers at which an answer is likely to change, see [`written_numbers`].
    pub(crate) fn written_numbers(&self) -> &[i64] {
        let written = || written_numbers(self.clauses());
        self.conditions.numbers.get_or_init(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_policy_has_conditions_of_its_own() {
        let read = |condition: &str| {
            let text = format!("permit (principal, action, resource) when {{ {condition} }};");
            Conditioned::from(Policy::parse(None, text).unwrap())
        };
        let (one, other) = (read("context.bytes <= 4 * 1024"), read("context.bytes + 1 <= 7"));
        assert!(one.written_numbers().contains(&4096) && !one.can_error());
        assert!(!other.written_numbers().contains(&4096) && other.can_error());
        assert_eq!(one.clone().clauses(), one.clauses());
        assert_ne!(one.clauses(), other.clauses());
    }
}
