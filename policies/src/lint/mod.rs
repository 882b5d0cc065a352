//! What Cedar's validator lets pass: what cannot mean anything here, and what is hardly what was meant.
//!
//! [`lint`] refuses at every load what could be mistaken for a guard. [`advise`] costs more and is for whoever writes
//! policies: only `check` asks for it, and nothing that it says keeps policies from loading.

mod allow;
mod amount;
mod constant;
mod danger;
mod names;
mod need;
mod overlap;
mod pattern;
mod scope;

use std::collections::{BTreeMap, HashSet};

use crate::compile::Ready;
use crate::finding::{Finding, Location};
use crate::parse::LoadedPolicy;
use crate::plan::Plan;
use crate::schema::Vocabulary;
use crate::store::Source;
use crate::vocabulary::{Action, Meter};

pub(crate) use allow::Allowances;
pub(crate) use names::{lint, unbounded};
pub use need::{MODULE_NEEDS, STATEMENT_NEEDS};

/// A policy set that loads, and what it comes to.
pub(crate) struct Reviewed<'a> {
    pub(crate) ready: &'a Ready,
    /// The plan of each profile.
    pub(crate) plans: &'a BTreeMap<String, Plan>,
    pub(crate) sources: &'a [Source],
    pub(crate) vocabulary: &'a Vocabulary,
}

impl Reviewed<'_> {
    /// The policies in question: the stock's own only where there are no others.
    fn policies(&self) -> impl DoubleEndedIterator<Item = &LoadedPolicy> {
        let only_stock = self.ready.policies.iter().all(|policy| policy.is_stock);
        self.ready
            .policies
            .iter()
            .filter(move |policy| only_stock || !policy.is_stock)
    }

    fn policy(&self, id: &str) -> Option<&LoadedPolicy> {
        self.policies().find(|policy| policy.id == id)
    }
}

/// Everything that its author would want to know.
pub(crate) fn advise(reviewed: &Reviewed<'_>) -> Vec<Finding> {
    let known = names::Known::of(reviewed);
    let mut findings = Vec::new();
    for policy in reviewed.policies() {
        findings.extend(known.unknown_entities(policy));
        findings.extend(scope::unscoped_permit(policy));
        findings.extend(scope::profile_itself(policy));
        findings.extend(constant::constant_conditions(policy));
        findings.extend(pattern::loose_patterns(policy));
    }
    findings.extend(danger::dangerous_grants(reviewed));
    findings.extend(amount::odd_amounts(reviewed));
    findings.extend(need::unmet_needs(reviewed));
    findings.extend(overlap::overlaps(reviewed));
    once(findings)
}

/// One mistake is inherited by many profiles; it is reported once.
fn once(findings: Vec<Finding>) -> Vec<Finding> {
    let mut said = HashSet::new();
    findings
        .into_iter()
        .filter(|finding| finding.location.is_none() || said.insert((finding.code, finding.location.clone())))
        .collect()
}

/// The actions that a policy lets through and that are asked about: a reserved action has no answer to change.
fn asked(policy: &LoadedPolicy) -> impl Iterator<Item = &str> {
    policy
        .covered
        .iter()
        .map(String::as_str)
        .filter(|id| Action::from_id(id).is_some() || Meter::from_action(id).is_some())
}

/// Where a policy writes this, or its first line if it writes it some other way.
fn place_of(policy: &LoadedPolicy, written: &str) -> Location {
    match policy.text.find(written) {
        Some(offset) => place_at(policy, offset, written.len()),
        None => policy.location.clone(),
    }
}

/// A place inside a policy, counted in bytes from its start.
fn place_at(policy: &LoadedPolicy, offset: usize, length: usize) -> Location {
    if policy.link.is_some() {
        // Its text is the template's with other words in it, so no place in the one is a place in the other.
        return policy.location.clone();
    }
    let start = &policy.location;
    let before = policy.text.get(..offset).unwrap_or_default();
    let on_its_line = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let lines = before.matches('\n').count();
    Location {
        source: start.source.clone(),
        line: start.line + lines,
        column: on_its_line + if lines == 0 { start.column } else { 1 },
        offset: start.offset + offset,
        length,
    }
}

/// Names for a sentence: "`a`, `b` and `c`".
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}
