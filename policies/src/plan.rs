//! What one principal may do, in the form that is asked at run time.
//!
//! A plan is data: it crosses to another process that has no schema and answers the same there. Cedar is only woken where
//! an answer depends on a name or an argument that only the run knows.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::memo::Memo;
use crate::principal::Principal;
use crate::residual::Residuals;
use crate::vocabulary::{Action, Meter, Question};

/// The most that a plan allows of one meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// Every total up to and including this one. Zero is also the bound of a meter that nothing permits.
    Limited(u64),
    /// Every total that policies can speak about.
    Unbounded,
}

impl Bound {
    /// May the total reach this amount? An amount past the largest number of a policy is past every policy, so it is denied.
    #[must_use]
    pub const fn permits(self, amount: u64) -> bool {
        match self {
            Self::Limited(most) => amount <= most,
            Self::Unbounded => amount <= i64::MAX.unsigned_abs(),
        }
    }

    /// The number, where there is one.
    #[must_use]
    pub const fn limit(self) -> Option<u64> {
        match self {
            Self::Limited(most) => Some(most),
            Self::Unbounded => None,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited(most) => write!(f, "{most}"),
            Self::Unbounded => f.write_str("unbounded"),
        }
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// The ids of the policies that decided; none where nothing permits it.
    pub policies: Vec<String>,
    /// What went wrong while asking. A question that could not be asked properly is denied.
    pub errors: Vec<String>,
}

impl Decision {
    /// A question that could not be asked properly.
    pub(crate) fn unasked(error: impl Into<String>) -> Self {
        Self {
            allowed: false,
            policies: Vec::new(),
            errors: vec![error.into()],
        }
    }
}

/// One principal's bounds, bits and residuals. Cheap to clone.
#[derive(Clone)]
pub struct Plan(Arc<Inner>);

struct Inner {
    content: Content,
    digest: String,
    /// Built when the first question needs it: most guests never ask one.
    residuals: OnceLock<Result<Residuals, String>>,
    memo: Memo,
}

/// What is serialised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    pub(crate) principal: Principal,
    /// One per meter, in the order of [`Meter::ALL`].
    pub(crate) meters: Vec<MeterBound>,
    /// One per action, in the order of [`Action::all`].
    pub(crate) answers: Vec<ActionAnswer>,
    /// The policies that Cedar still has to look at.
    pub(crate) policies: Vec<PolicyText>,
    /// The entities that it needs for that, as Cedar's JSON.
    pub(crate) entities: String,
}

/// One meter's bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeterBound {
    pub(crate) meter: Meter,
    pub(crate) bound: Bound,
    pub(crate) policies: Vec<String>,
}

/// One action's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionAnswer {
    pub(crate) action: Action,
    pub(crate) answer: Answer,
}

/// Whether the answer is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// It is, and these policies gave it.
    Known { allowed: bool, policies: Vec<String> },
    /// It depends on the question. These policies, by their place in the plan, take part.
    Depends { policies: Vec<usize> },
}

/// One policy as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyText {
    pub(crate) id: String,
    pub(crate) text: String,
}

impl Content {
    /// Every meter and action is there, once, in its place, and every policy that is meant exists.
    fn is_complete(&self) -> bool {
        self.meters
            .iter()
            .map(|bound| bound.meter)
            .eq(Meter::ALL.iter().copied())
            && self.answers.iter().map(|answer| answer.action).eq(Action::all())
            && self.answers.iter().all(|answer| match &answer.answer {
                Answer::Known { .. } => true,
                Answer::Depends { policies } => policies.iter().all(|index| *index < self.policies.len()),
            })
    }
}

impl Plan {
    /// A plan with this content, unless something is missing from it.
    pub(crate) fn new(content: Content) -> Result<Self, String> {
        if !content.is_complete() {
            return Err("the plan was made for another vocabulary".to_owned());
        }
        let serialised = serde_json::to_vec(&content).map_err(|error| error.to_string())?;
        let digest = Sha256::digest(&serialised)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self(Arc::new(Inner {
            content,
            digest,
            residuals: OnceLock::new(),
            memo: Memo::default(),
        })))
    }

    /// Who it is for.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.content.principal
    }

    /// SHA-256 over the serialised content, in hexadecimal: two plans with the same digest answer the same.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The most that may be used of a meter. An array read: no Cedar, no hashing.
    #[must_use]
    pub fn bound(&self, meter: Meter) -> Bound {
        self.0
            .content
            .meters
            .get(meter.index())
            .map_or(Bound::Limited(0), |entry| entry.bound)
    }

    /// The ids of the policies that set a bound: the permits that reach it and the forbids that cut it there.
    #[must_use]
    pub fn binding(&self, meter: Meter) -> &[String] {
        self.0
            .content
            .meters
            .get(meter.index())
            .map_or(&[], |entry| &entry.policies)
    }

    /// The answer that does not depend on anything known only at run time, where there is one.
    #[must_use]
    pub fn bit(&self, action: Action) -> Option<bool> {
        match self.answer(action)? {
            Answer::Known { allowed, .. } => Some(*allowed),
            Answer::Depends { .. } => None,
        }
    }

    /// May this be done?
    #[must_use]
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        if question.resource.kind() != question.action.resource() {
            return Decision::unasked(format!(
                "`{}` is asked about a `{}`, not about `{}`",
                question.action.id(),
                question.action.resource().name(),
                question.resource,
            ));
        }
        match self.answer(question.action) {
            None => Decision::unasked(format!("the plan has no answer for `{}`", question.action.id())),
            Some(Answer::Known { allowed, policies }) => Decision {
                allowed: *allowed,
                policies: policies.clone(),
                errors: Vec::new(),
            },
            Some(Answer::Depends { .. }) => self.0.memo.recall(question, || self.ask(question)),
        }
    }

    /// The ids of the policies that take part in an action's answer.
    pub(crate) fn taking_part(&self, action: Action) -> Vec<String> {
        match self.answer(action) {
            None => Vec::new(),
            Some(Answer::Known { policies, .. }) => policies.clone(),
            Some(Answer::Depends { policies }) => policies
                .iter()
                .filter_map(|index| self.0.content.policies.get(*index))
                .map(|policy| policy.id.clone())
                .collect(),
        }
    }

    fn answer(&self, action: Action) -> Option<&Answer> {
        self.0.content.answers.get(action.index()).map(|entry| &entry.answer)
    }

    fn ask(&self, question: &Question<'_>) -> Decision {
        match self.0.residuals.get_or_init(|| Residuals::wake(&self.0.content)) {
            Ok(residuals) => residuals.decide(question),
            Err(error) => Decision::unasked(error.clone()),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("principal", self.principal())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.content.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Content::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
