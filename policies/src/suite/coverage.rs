//! How much of a policy set its tests have seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{Authorizer, Entities, Policy, PolicySet, Request};
use serde::Serialize;

use crate::compile::Ready;
use crate::finding::Location;
use crate::parse::LoadedPolicy;
use crate::plan::{Bound, Plan};
use crate::principal::Principal;
use crate::store::PolicyStore;
use crate::suite::clauses::{Outcomes, WrittenClause, taken_apart};
use crate::vocabulary::{Action, Meter};

/// How much of a policy set its tests have seen.
///
/// Of a set with policies of somebody's own, those count, and what they take part in; of the stock by itself everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Each policy has decided something, has applied, has not applied, and has failed where it can.
    pub policies: Share,
    /// Each clause, and each operand of `&&` and `||` in it, has been true and has been false.
    pub conditions: Share,
    /// Each action that a profile grants was allowed, and was denied where that depends on the question.
    pub capabilities: Share,
    /// Each bound above 0 was tested at its edge.
    pub bounds: Share,
}

/// A part of a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Share {
    /// How many things there are to see.
    pub total: usize,
    /// What was not seen.
    pub missing: Vec<Missing>,
}

/// Something that no test has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What, in words.
    pub what: String,
    /// Where it is written.
    pub location: Option<Location>,
}

impl Coverage {
    /// The four kinds by name.
    #[must_use]
    pub fn kinds(&self) -> [(&'static str, &Share); 4] {
        [
            ("policies", &self.policies),
            ("conditions", &self.conditions),
            ("capabilities", &self.capabilities),
            ("bounds", &self.bounds),
        ]
    }

    /// Nothing is missing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kinds().iter().all(|(_, share)| share.missing.is_empty())
    }
}

impl Share {
    /// How many things were seen.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.total - self.missing.len()
    }

    /// The part that was seen in whole percent, rounded down: 100 only where nothing is missing.
    #[must_use]
    pub fn percent(&self) -> usize {
        (self.seen() * 100).checked_div(self.total).unwrap_or(100)
    }

    fn expect(&mut self, is_seen: bool, missing: impl FnOnce() -> Missing) {
        self.total += 1;
        if !is_seen {
            self.missing.push(missing());
        }
    }
}

/// What the tests have seen so far.
pub(super) struct Ledger {
    /// Those that count.
    policies: Vec<Watched>,
    by_action: HashMap<String, Vec<usize>>,
    authorizer: Authorizer,
    /// Per profile and action: was it allowed, was it denied?
    answers: BTreeMap<(String, Action), Outcomes>,
    edges: BTreeSet<(String, Meter)>,
}

struct Watched {
    id: String,
    location: Location,
    alone: PolicySet,
    can_error: bool,
    applied: Outcomes,
    decided: bool,
    /// The policy without its clauses, and those.
    apart: Option<(PolicySet, Vec<WrittenClause>)>,
}

impl Ledger {
    pub(super) fn new(ready: &Ready) -> Self {
        let only_stock = ready.policies.iter().all(|loaded| loaded.is_stock);
        let policies: Vec<Watched> = ready
            .policies
            .iter()
            .filter(|loaded| only_stock || !loaded.is_stock)
            .filter_map(Watched::new)
            .collect();
        let mut by_action: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, watched) in policies.iter().enumerate() {
            let loaded = ready.policies.iter().find(|loaded| loaded.id == watched.id);
            for action in loaded.into_iter().flat_map(|loaded| &loaded.covered) {
                by_action.entry(action.clone()).or_default().push(at);
            }
        }
        Self {
            policies,
            by_action,
            authorizer: Authorizer::new(),
            answers: BTreeMap::new(),
            edges: BTreeSet::new(),
        }
    }

    /// What was asked, and the policies that decided it.
    pub(super) fn asked(&mut self, action: &str, request: &Request, entities: &Entities, decided: &[String]) {
        for at in self.by_action.get(action).into_iter().flatten() {
            if let Some(watched) = self.policies.get_mut(*at) {
                watched.decided |= decided.contains(&watched.id);
                watched.watch(&self.authorizer, request, entities);
            }
        }
    }

    pub(super) fn answered(&mut self, principal: &Principal, action: Action, allowed: bool) {
        let key = (principal.profile.clone(), action);
        self.answers.entry(key).or_default().add(Some(allowed));
    }

    pub(super) fn edge(&mut self, principal: &Principal, meter: Meter) {
        self.edges.insert((principal.profile.clone(), meter));
    }

    /// What has been seen of a policy set, and what not.
    pub(super) fn coverage(&self, store: &PolicyStore) -> Coverage {
        let (mut policies, mut conditions) = (Share::default(), Share::default());
        for watched in &self.policies {
            watched.count(&mut policies);
            watched.count_conditions(&mut conditions);
        }
        let (mut capabilities, mut bounds) = (Share::default(), Share::default());
        let profiles = store.profiles();
        for plan in profiles
            .iter()
            .filter_map(|profile| store.plan(&Principal::profile(profile)).ok())
        {
            self.count_capabilities(&plan, &mut capabilities);
            self.count_bounds(&plan, &mut bounds);
        }
        Coverage {
            policies,
            conditions,
            capabilities,
            bounds,
        }
    }

    fn count_capabilities(&self, plan: &Plan, share: &mut Share) {
        let profile = &plan.principal().profile;
        for action in Action::all() {
            let depends = match plan.bit(action) {
                Some(false) => continue,
                Some(true) => false,
                None => true,
            };
            let policies = plan.taking_part(action);
            if !self.counts(&policies) {
                continue;
            }
            let seen = self
                .answers
                .get(&(profile.clone(), action))
                .copied()
                .unwrap_or_default();
            let missing = |answer: &str| Missing {
                what: format!("`{profile}` is never {answer} `{}`", action.id()),
                location: self.place(&policies),
            };
            share.expect(seen.yes, || missing("allowed"));
            if depends {
                share.expect(seen.no, || missing("denied"));
            }
        }
    }

    fn count_bounds(&self, plan: &Plan, share: &mut Share) {
        let profile = &plan.principal().profile;
        let counts = |meter: &&Meter| plan.bound(**meter) != Bound::Limited(0) && self.counts(plan.binding(**meter));
        for meter in Meter::ALL.iter().filter(counts) {
            share.expect(self.edges.contains(&(profile.clone(), *meter)), || Missing {
                what: format!("the bound of `{}` is not tested for `{profile}`", meter.action()),
                location: self.place(plan.binding(*meter)),
            });
        }
    }

    /// Whether one of these policies counts.
    fn counts(&self, ids: &[String]) -> bool {
        self.counting(ids).next().is_some()
    }

    /// Where the first of them that counts is written.
    fn place(&self, ids: &[String]) -> Option<Location> {
        self.counting(ids).next().map(|watched| watched.location.clone())
    }

    fn counting<'a>(&'a self, ids: &'a [String]) -> impl Iterator<Item = &'a Watched> {
        self.policies.iter().filter(|watched| ids.contains(&watched.id))
    }
}

impl Watched {
    fn new(loaded: &LoadedPolicy) -> Option<Self> {
        let alone = |policy: Policy| PolicySet::from_policies([policy]).ok();
        let apart = taken_apart(loaded).and_then(|(scope, clauses)| Some((alone(scope)?, clauses)));
        Some(Self {
            id: loaded.id.clone(),
            location: loaded.location.clone(),
            alone: alone(Policy::clone(&loaded.policy))?,
            can_error: loaded.policy.can_error(),
            applied: Outcomes::default(),
            decided: false,
            apart,
        })
    }

    fn watch(&mut self, authorizer: &Authorizer, request: &Request, entities: &Entities) {
        let applies = |policies: &PolicySet| {
            let response = authorizer.is_authorized(request, policies, entities);
            let fails = response.diagnostics().errors().next().is_some();
            (!fails).then(|| response.diagnostics().reason().next().is_some())
        };
        self.applied.add(applies(&self.alone));
        let Some((scope, clauses)) = &mut self.apart else {
            return;
        };
        if applies(scope) != Some(true) {
            return;
        }
        for clause in clauses {
            // A clause is looked at only where those before it let the request through.
            if clause.condition.evaluate(request, entities) != Some(!clause.is_unless) {
                return;
            }
        }
    }

    fn count(&self, share: &mut Share) {
        let missing = |what: &str| Missing {
            what: format!("`{}` {what}", self.id),
            location: Some(self.location.clone()),
        };
        share.expect(self.decided, || missing("never decides"));
        share.expect(self.applied.yes, || missing("never applies"));
        share.expect(self.applied.no, || missing("is never asked where it does not apply"));
        if self.can_error {
            share.expect(self.applied.error, || missing("never fails, and it can"));
        }
    }

    fn count_conditions(&self, share: &mut Share) {
        for clause in self.apart.iter().flat_map(|(_, clauses)| clauses) {
            clause.condition.each(&mut |condition| {
                let missing = |what: &str| Missing {
                    what: format!("`{}`: `{}` is never {what}", self.id, condition.text),
                    location: Some(condition.location.clone()),
                };
                share.expect(condition.seen.yes, || missing("true"));
                share.expect(condition.seen.no, || missing("false"));
            });
        }
    }
}
