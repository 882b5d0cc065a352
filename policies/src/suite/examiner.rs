//! Cases against a policy set.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::Entity;

use crate::compile::Ready;
use crate::entities::misnamed_module;
use crate::finding::Location;
use crate::nearest::nearest;
use crate::plan::{Bound, Plan};
use crate::principal::Principal;
use crate::schema::{id, type_of};
use crate::store::PolicyStore;
use crate::suite::authorizer::{Put, Reference, Told};
use crate::suite::case::{Asked, Case, ruling};
use crate::suite::coverage::Ledger;
use crate::suite::{CaseResult, DecidingPolicy, Problem};
use crate::vocabulary::{Action, Meter, Question, Resource, Value};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The plan and the authorizer.
    Whole,
    /// The plan, and the authorizer only where a case names the policies that decide.
    Plan,
}

/// Answers cases.
pub(super) struct Examiner<'a> {
    depth: Depth,
    store: &'a PolicyStore,
    reference: Reference<'a>,
    plans: HashMap<Arc<Principal>, Result<Plan, String>>,
    /// Every policy's id, and where it stands.
    places: HashMap<&'a str, &'a Location>,
}

/// What came of a case: what is wrong, and who decided.
type Judged = (Option<Problem>, Vec<String>);

impl<'a> Examiner<'a> {
    pub(super) fn new(store: &'a PolicyStore, cases: &[Case], depth: Depth) -> Result<Self, String> {
        let ready = store.ready();
        let resources = cases.iter().filter_map(|case| match &case.asked {
            Asked::Request { resource, .. } => Some(&**resource),
            Asked::Amount { .. } | Asked::Bound { .. } => None,
        });
        let places = ready
            .policies
            .iter()
            .map(|loaded| (loaded.id.as_str(), &loaded.location));
        Ok(Self {
            depth,
            store,
            reference: Reference::new(ready, store.vocabulary(), resources)?,
            plans: HashMap::new(),
            places: places.collect(),
        })
    }

    /// Asks, compares, and notes in the ledger what was seen.
    pub(super) fn examine(&mut self, case: &Case, ledger: Option<&mut Ledger>) -> CaseResult {
        let (problem, policies) = match self.judge(case, ledger) {
            Ok(judged) => judged,
            Err(reason) => (Some(Problem::Unasked { reason }), Vec::new()),
        };
        let placed = |id: String| DecidingPolicy {
            location: self.places.get(id.as_str()).map(|location| (*location).clone()),
            id,
        };
        CaseResult {
            problem,
            policies: policies.into_iter().map(placed).collect(),
            ..CaseResult::passed(case)
        }
    }

    fn judge(&mut self, case: &Case, ledger: Option<&mut Ledger>) -> Result<Judged, String> {
        let plan = self.plan(&case.principal)?;
        self.known(case.by.as_deref())?;
        match &case.asked {
            Asked::Request {
                action,
                resource,
                context,
                allowed,
            } => self.request(case, &plan, (*action, resource, context), *allowed, ledger),
            Asked::Amount { meter, amount, allowed } => self.amount(case, &plan, (*meter, *amount), *allowed, ledger),
            Asked::Bound { meter, most } => self.bound(case, &plan, *meter, *most, ledger),
        }
    }

    fn plan(&mut self, principal: &Arc<Principal>) -> Result<Plan, String> {
        if let Some(known) = self.plans.get(principal) {
            return known.clone();
        }
        let plan = self.store.plan(principal).map_err(|error| error.to_string());
        self.plans.insert(Arc::clone(principal), plan.clone());
        plan
    }

    fn known(&self, by: Option<&[String]>) -> Result<(), String> {
        let unknown = by
            .into_iter()
            .flatten()
            .find(|id| !self.places.contains_key(id.as_str()));
        match unknown {
            None => Ok(()),
            Some(id) => Err(match nearest(id, self.places.keys().copied()) {
                Some(near) => format!("there is no policy `{id}`; did you mean `{near}`?"),
                None => format!("there is no policy `{id}`"),
            }),
        }
    }

    fn request(
        &mut self,
        case: &Case,
        plan: &Plan,
        (action, resource, context): (Action, &Arc<Resource>, &[(&'static str, Value)]),
        allowed: bool,
        ledger: Option<&mut Ledger>,
    ) -> Result<Judged, String> {
        let question = Question {
            action,
            resource,
            context,
        };
        let decision = plan.decide(&question);
        let planned = Told {
            allowed: decision.allowed,
            policies: decision.policies,
        };
        if self.depth == Depth::Plan && (case.by.is_none() || planned.allowed != allowed) {
            return Ok(compared(case, allowed, planned));
        }
        let put = self.reference.put(&case.principal, &question)?;
        let told = self.answer(&put, action.id());
        if let Some(ledger) = ledger {
            ledger.asked(action.id(), &put.request, &put.entities, &told.policies);
            ledger.answered(&case.principal, action, told.allowed);
        }
        if told.allowed != planned.allowed {
            return Ok(disagreement(&planned, told));
        }
        Ok(compared(case, allowed, told))
    }

    fn amount(
        &mut self,
        case: &Case,
        plan: &Plan,
        (meter, amount): (Meter, u64),
        allowed: bool,
        ledger: Option<&mut Ledger>,
    ) -> Result<Judged, String> {
        let bound = plan.bound(meter);
        let told = self.reach(case, meter, amount, ledger)?;
        let is_permitted = bound.permits(amount);
        if told.allowed != is_permitted && !uses_nothing(bound, amount) {
            let planned = Told {
                allowed: is_permitted,
                policies: plan.binding(meter).to_vec(),
            };
            return Ok(disagreement(&planned, told));
        }
        let told = Told {
            allowed: is_permitted,
            ..told
        };
        Ok(compared(case, allowed, told))
    }

    fn bound(
        &mut self,
        case: &Case,
        plan: &Plan,
        meter: Meter,
        most: Bound,
        mut ledger: Option<&mut Ledger>,
    ) -> Result<Judged, String> {
        let found = plan.bound(meter);
        let binding = plan.binding(meter).to_vec();
        let is_by = case.by.as_ref().is_none_or(|by| **by == *binding);
        if found != most || !is_by {
            let said = |bound: Bound, by: Option<&[String]>| {
                let amount = bound.shown(meter.unit());
                by.map_or(amount.clone(), |by| format!("{amount}{}", said_by(by, true)))
            };
            let problem = Problem::Wrong {
                expected: said(most, case.by.as_deref()),
                got: said(found, Some(&binding)),
            };
            return Ok((Some(problem), binding));
        }
        if self.depth == Depth::Plan {
            return Ok((None, binding));
        }
        let edge = most.limit().unwrap_or(i64::MAX.unsigned_abs());
        for amount in [edge, edge.saturating_add(1)] {
            if i64::try_from(amount).is_err() {
                continue;
            }
            let told = self.reach(case, meter, amount, ledger.as_deref_mut())?;
            if told.allowed != found.permits(amount) && !uses_nothing(found, amount) {
                let problem = Problem::Disagreement {
                    plan: format!("at most {}", found.shown(meter.unit())),
                    cedar: format!("{} at {amount}", told.sentence()),
                };
                return Ok((Some(problem), told.policies));
            }
        }
        if let Some(ledger) = ledger {
            ledger.edge(&case.principal, meter);
        }
        Ok((None, binding))
    }

    /// Cedar's answer about one amount.
    fn reach(&mut self, case: &Case, meter: Meter, amount: u64, ledger: Option<&mut Ledger>) -> Result<Told, String> {
        let signed = i64::try_from(amount).map_err(|error| error.to_string())?;
        let put = self.reference.put_amount(&case.principal, meter, signed)?;
        let told = self.answer(&put, meter.action());
        if let Some(ledger) = ledger {
            ledger.asked(meter.action(), &put.request, &put.entities, &told.policies);
        }
        Ok(told)
    }

    fn answer(&self, put: &Put, action: &str) -> Told {
        match self.depth {
            Depth::Whole => self.reference.answer(put),
            Depth::Plan => self.reference.answer_of_covering(put, action),
        }
    }
}

impl CaseResult {
    fn passed(case: &Case) -> Self {
        Self {
            name: case.name(),
            location: Location::clone(&case.location),
            problem: None,
            policies: Vec::new(),
        }
    }

    /// What becomes of a case whose file cannot be set up.
    pub(super) fn unasked(case: &Case, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self {
            problem: Some(Problem::Unasked { reason }),
            ..Self::passed(case)
        }
    }
}

impl Told {
    fn sentence(&self) -> String {
        format!("{}{}", ruling(self.allowed), said_by(&self.policies, self.allowed))
    }
}

/// A meter that nothing permits has the bound zero, and a total of zero uses nothing of it.
fn uses_nothing(bound: Bound, amount: u64) -> bool {
    amount == 0 && bound == Bound::Limited(0)
}

fn compared(case: &Case, allowed: bool, told: Told) -> Judged {
    let is_by = case.by.as_ref().is_none_or(|by| **by == *told.policies);
    if told.allowed == allowed && is_by {
        return (None, told.policies);
    }
    let by = case.by.as_deref().map(|by| said_by(by, allowed));
    let problem = Problem::Wrong {
        expected: format!("{}{}", ruling(allowed), by.unwrap_or_default()),
        got: told.sentence(),
    };
    (Some(problem), told.policies)
}

fn disagreement(planned: &Told, told: Told) -> Judged {
    let problem = Problem::Disagreement {
        plan: planned.sentence(),
        cedar: told.sentence(),
    };
    (Some(problem), told.policies)
}

fn said_by(policies: &[String], allowed: bool) -> String {
    match policies {
        [] if allowed => " by no policy".to_owned(),
        [] => ": no policy permits it".to_owned(),
        policies => format!(" by `{}`", policies.join("`, `")),
    }
}

/// The policy set with a test file's own entities.
pub(super) fn with_entities(store: &PolicyStore, rows: &[serde_json::Value]) -> Result<PolicyStore, String> {
    if rows.is_empty() {
        return Ok(store.clone());
    }
    let schema = store.vocabulary().schema();
    let mut entities = Vec::with_capacity(rows.len());
    for row in rows {
        let entity = Entity::from_json_value(row.clone(), Some(schema)).map_err(|error| chain(&error))?;
        let uid = entity.uid();
        let kind = type_of(&uid);
        if !matches!(kind.as_str(), "Profile" | "Module" | "Caller" | "Publisher") {
            return Err(format!(
                "`{uid}` is not declared by tests, only profiles, modules, callers and publishers"
            ));
        }
        if let Some(finding) = misnamed_module(&entity) {
            return Err(finding.message);
        }
        entities.push(entity);
    }
    let declared: HashSet<String> = entities
        .iter()
        .map(Entity::uid)
        .filter(|uid| type_of(uid) == "Profile")
        .map(|uid| id(&uid).to_owned())
        .collect();
    let ready = store.ready();
    Ok(store.with_ready(Ready {
        entities: ready
            .entities
            .clone()
            .add_entities(entities, Some(schema))
            .map_err(|error| chain(&error))?,
        profiles: ready.profiles.iter().cloned().chain(declared).collect(),
        ..ready.clone()
    }))
}

/// An error and what caused it, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::read::{TestFile, read};

    /// A plan that says something else than Cedar is not believed, whatever the test expects.
    #[test]
    fn a_plan_that_cedar_contradicts_is_a_failure_of_its_own_kind() {
        let store = PolicyStore::stock().unwrap();
        let text = "
requests:
  - {principal: pure, action: select, resource: 'Database::\"main\"', expect: allow}
  - {principal: pure, action: elapse, context: {millis: 200}, expect: allow}
bounds:
  - {principals: pure, meters: {elapse: 500 ms}}
";
        let file = TestFile {
            name: "a.tests.yaml".to_owned(),
            text: text.to_owned(),
        };
        let file = read(&file).unwrap();
        let mut examiner = Examiner::new(&store, &file.cases, Depth::Whole).unwrap();
        let of_another = store.plan(&Principal::profile("untrusted")).unwrap();
        examiner
            .plans
            .insert(Arc::new(Principal::profile("pure")), Ok(of_another));
        let problems: Vec<_> = file
            .cases
            .iter()
            .map(|case| examiner.examine(case, None).problem)
            .collect();
        let disagreement = |plan: &str, cedar: &str| {
            Some(Problem::Disagreement {
                plan: plan.to_owned(),
                cedar: cedar.to_owned(),
            })
        };
        assert_eq!(
            problems,
            [
                disagreement("allowed by `untrusted-compute`", "denied: no policy permits it"),
                disagreement("allowed by `untrusted-deadline`", "denied: no policy permits it"),
                disagreement("at most 500 ms", "denied: no policy permits it at 500"),
            ]
        );
    }
}
