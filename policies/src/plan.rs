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
use crate::own::{OwnQuestion, OwnResiduals};
use crate::principal::Principal;
use crate::residual::{Residuals, well_formed};
use crate::vocabulary::{Action, Capability, Meter, Question, SqlAction};

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
    #[inline]
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
    /// The bounds and the answers that are known, where a question finds them without following a list.
    at_hand: AtHand,
    digest: String,
    /// Built when the first question needs it: most guests never ask one.
    residuals: OnceLock<Result<Residuals, String>>,
    memo: Memo,
    own: OnceLock<Result<OwnResiduals, String>>,
}

/// Copied from the content: one load, one comparison.
struct AtHand {
    bounds: [Bound; Meter::ALL.len()],
    /// By [`Action::index`]: whether the answer is known, and whether it is yes.
    known: u64,
    allowed: u64,
}

// Every action has its bit.
const _: () = assert!(SqlAction::ALL.len() + Capability::ALL.len() <= u64::BITS as usize);

impl AtHand {
    fn of(content: &Content) -> Self {
        let mut at_hand = Self {
            bounds: [Bound::Limited(0); Meter::ALL.len()],
            known: 0,
            allowed: 0,
        };
        for (bound, entry) in at_hand.bounds.iter_mut().zip(&content.meters) {
            *bound = entry.bound;
        }
        for entry in &content.answers {
            if let Answer::Known { allowed, .. } = entry.answer {
                at_hand.known |= 1 << entry.action.index();
                at_hand.allowed |= u64::from(allowed) << entry.action.index();
            }
        }
        at_hand
    }
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
    /// What the user's own schema adds.
    pub(crate) own: OwnContent,
}

/// The answers to the actions of a user's own schema.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnContent {
    /// The schema files, as they were written: questions are validated against them.
    pub(crate) schemas: Vec<String>,
    /// One per action that the principal can ask about, in the order of their names.
    pub(crate) answers: Vec<OwnAnswer>,
    /// The entities that such a question can reach, as Cedar's JSON.
    pub(crate) entities: String,
}

/// One own action's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnAnswer {
    /// Its uid: `Shop::Action::"sendMail"`.
    pub(crate) action: String,
    pub(crate) answer: Answer,
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
            && self.answers.iter().all(|entry| self.has_policies_of(&entry.answer))
            && self.own.answers.iter().all(|entry| self.has_policies_of(&entry.answer))
            && self.own.answers.is_sorted_by(|one, next| one.action < next.action)
    }

    fn has_policies_of(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Known { .. } => true,
            Answer::Depends { policies } => policies.iter().all(|index| *index < self.policies.len()),
        }
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
            at_hand: AtHand::of(&content),
            content,
            digest,
            residuals: OnceLock::new(),
            memo: Memo::default(),
            own: OnceLock::new(),
        })))
    }

    /// What it is made of.
    pub(crate) fn content(&self) -> &Content {
        &self.0.content
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
    #[inline]
    pub fn bound(&self, meter: Meter) -> Bound {
        let bound = self.0.at_hand.bounds.get(meter.index());
        bound.copied().unwrap_or(Bound::Limited(0))
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
    #[inline]
    pub fn bit(&self, action: Action) -> Option<bool> {
        let bit = 1 << action.index();
        let AtHand { known, allowed, .. } = &self.0.at_hand;
        (known & bit != 0).then_some(allowed & bit != 0)
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
            Some(Answer::Depends { .. }) => self.ask(question),
        }
    }

    /// May this be done? The action is one of a user's own schema, which a host function asks about that the embedding
    /// program adds. What the schema does not allow to ask, and what no policy permits, is denied.
    #[must_use]
    pub fn decide_own(&self, question: &OwnQuestion<'_>) -> Decision {
        let answers = &self.0.content.own.answers;
        let found = answers.binary_search_by(|entry| entry.action.as_str().cmp(question.action));
        let Some(entry) = found.ok().and_then(|index| answers.get(index)) else {
            return Decision::unasked(format!("the plan has no answer for `{}`", question.action));
        };
        match self.0.own.get_or_init(|| OwnResiduals::wake(&self.0.content)) {
            Ok(own) => own.decide(question, &entry.answer),
            Err(error) => Decision::unasked(error.clone()),
        }
    }

    /// The actions of the user's own schema that this principal can ask about, by their uids and in their order, and the
    /// answer that does not depend on the resource and the context, where there is one.
    pub fn own_actions(&self) -> impl Iterator<Item = (&str, Option<bool>)> {
        self.0.content.own.answers.iter().map(|entry| {
            let bit = match &entry.answer {
                Answer::Known { allowed, .. } => Some(*allowed),
                Answer::Depends { .. } => None,
            };
            (entry.action.as_str(), bit)
        })
    }

    /// The ids of the policies that take part in an action's answer.
    pub(crate) fn taking_part(&self, action: Action) -> Vec<String> {
        self.answer(action)
            .map_or_else(Vec::new, |answer| self.policies_of(answer))
    }

    /// The same for an action of the user's own schema.
    pub(crate) fn taking_part_own(&self, action: &str) -> Vec<String> {
        let entry = self.0.content.own.answers.iter().find(|entry| entry.action == action);
        entry.map_or_else(Vec::new, |entry| self.policies_of(&entry.answer))
    }

    fn policies_of(&self, answer: &Answer) -> Vec<String> {
        match answer {
            Answer::Known { policies, .. } => policies.clone(),
            Answer::Depends { policies } => policies
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
        let residuals = match self.0.residuals.get_or_init(|| Residuals::wake(&self.0.content)) {
            Ok(residuals) => residuals,
            Err(error) => return Decision::unasked(error.clone()),
        };
        // Before the memo: an answer is remembered by what the policies read, and what they do not read may be wrong too.
        if let Err(error) = well_formed(question) {
            return Decision::unasked(error);
        }
        let reads = residuals.reads(question.action);
        self.0.memo.recall(question, reads, || residuals.decide(question))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PolicyStore, Source, SourceKind, Stock};
    use crate::vocabulary::{Resource, SqlAction, Value};

    fn plan(condition: &str) -> Plan {
        let source = |name: &str, text: String, kind| Source {
            name: name.to_owned(),
            text,
            kind,
        };
        let policy = format!(
            "@id(\"a\") permit (principal, action == Action::\"createIndex\", resource) when {{ {condition} }};"
        );
        let profile = r#"[{"uid": {"type": "Profile", "id": "p"}, "attrs": {}, "parents": []}]"#;
        let sources = [
            source("a.cedar", policy, SourceKind::Policies),
            source("a.json", profile.to_owned(), SourceKind::Entities),
        ];
        let store = PolicyStore::load(&sources, Stock::Without).unwrap();
        store.plan(&Principal::profile("p")).unwrap()
    }

    /// Whether an index of this name may be made, and the database that is said beside it.
    fn ask(plan: &Plan, context: &[(&'static str, &str)]) -> Decision {
        let context: Vec<_> = context
            .iter()
            .map(|(name, text)| (*name, Value::Text((*text).to_owned())))
            .collect();
        plan.decide(&Question {
            action: Action::Sql(SqlAction::CreateIndex),
            resource: &Resource::table("main", "t"),
            context: &context,
        })
    }

    #[test]
    fn questions_that_differ_in_what_nobody_reads_are_asked_once() {
        let by_table = plan("resource.name == \"t\"");
        for index in ["a", "b", "c"] {
            assert!(ask(&by_table, &[("index", index)]).allowed);
        }
        assert_eq!(by_table.0.memo.remembered(), 1);
        let by_index = plan("context.index == \"a\"");
        for (index, allowed) in [("a", true), ("b", false), ("a", true)] {
            for database in ["main", "temp"] {
                assert_eq!(
                    ask(&by_index, &[("index", index), ("database", database)]).allowed,
                    allowed
                );
            }
        }
        assert_eq!(by_index.0.memo.remembered(), 2);
    }

    #[test]
    fn a_question_of_the_wrong_shape_is_not_taken_for_one_that_was_answered() {
        let by_table = plan("resource.name == \"t\"");
        assert!(ask(&by_table, &[("index", "a")]).allowed);
        for wrong in [
            &[][..],
            &[("index", "a"), ("index", "a")],
            &[("index", "a"), ("other", "x")],
        ] {
            let decision = ask(&by_table, wrong);
            assert!(!decision.allowed && decision.errors.len() == 1, "{wrong:?}");
        }
        assert!(ask(&by_table, &[("index", "a")]).allowed);
    }
}
