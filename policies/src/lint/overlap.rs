//! Policies that another makes pointless: redundant ones, and permits that forbids cancel.
//!
//! Nothing is reported by mistake. Meters are compared exactly, as the sets of amounts that each policy lets through. Of
//! everything else it is only said that a policy lies inside another where its scope does, by the hierarchy that is
//! declared or follows from names, and where it has every condition of the other.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::pst::{Clause, Expr, Var};
use cedar_policy::{Effect, Entities, EntityUid, PrincipalConstraint, ResourceConstraint};

use super::{Reviewed, asked, listed};
use crate::amounts::Amounts;
use crate::bounds::Ruling;
use crate::compile::Compiler;
use crate::condition::{expr_of, visit};
use crate::finding::{Code, Finding};
use crate::parse::LoadedPolicy;
use crate::principal::Principal;
use crate::schema::{id, type_of};
use crate::vocabulary::{Meter, Resource};

/// More policies on one meter in one profile than anybody reads; comparing them all would take a minute.
const MOST_RULINGS: usize = 500;

/// More policies with one scope than are compared with a policy inside it.
const MOST_ALIKE: usize = 1000;

/// Every policy that could go, the last ones first: of two that say the same, the later is reported.
pub(super) fn overlaps(reviewed: &Reviewed<'_>) -> Vec<Finding> {
    let entities = &reviewed.ready.entities;
    let all: Vec<Scoped<'_>> = reviewed
        .ready
        .policies
        .iter()
        .map(|policy| Scoped::of(policy, entities))
        .collect();
    let mut index: HashMap<(bool, &str, &str), Vec<&Scoped<'_>>> = HashMap::new();
    for scoped in &all {
        let (Some(principal), Some(resource)) = (scoped.principals.first(), scoped.resources.first()) else {
            continue;
        };
        index
            .entry((scoped.forbids, principal, resource))
            .or_default()
            .push(scoped);
    }
    let around = Around {
        index,
        tables: tables(reviewed, &all),
        plain: all.iter().filter(|scoped| scoped.is_plain).map(Scoped::id).collect(),
    };
    let in_question: HashSet<&str> = reviewed.policies().map(|policy| policy.id.as_str()).collect();
    let mut gone: HashSet<&str> = HashSet::new();
    let mut findings = Vec::new();
    for scoped in all.iter().rev().filter(|scoped| in_question.contains(scoped.id())) {
        if let Some(finding) = around.judge(scoped, &gone) {
            gone.insert(scoped.id());
            findings.push(finding);
        }
    }
    findings
}

/// A policy, and what it lies inside.
struct Scoped<'a> {
    policy: &'a LoadedPolicy,
    forbids: bool,
    /// Its own principal scope, then every wider one.
    principals: Vec<String>,
    resources: Vec<String>,
    conditions: BTreeSet<String>,
    asked: BTreeSet<&'a str>,
    /// Who asks is told by a profile in the scope, and by nothing else: every guest of the profile is treated alike.
    is_plain: bool,
}

impl<'a> Scoped<'a> {
    fn of(policy: &'a LoadedPolicy, entities: &Entities) -> Self {
        let clauses = policy.policy.clauses();
        let principal = match policy.policy.principal_constraint() {
            PrincipalConstraint::Any => Scope::Any,
            PrincipalConstraint::In(group) => Scope::In(None, group),
            PrincipalConstraint::Eq(one) => Scope::Eq(one),
            PrincipalConstraint::Is(kind) => Scope::Is(kind.to_string()),
            PrincipalConstraint::IsIn(kind, group) => Scope::In(Some(kind.to_string()), group),
        };
        let resource = match policy.policy.resource_constraint() {
            ResourceConstraint::Any => Scope::Any,
            ResourceConstraint::In(group) => Scope::In(None, group),
            ResourceConstraint::Eq(one) => Scope::Eq(one),
            ResourceConstraint::Is(kind) => Scope::Is(kind.to_string()),
            ResourceConstraint::IsIn(kind, group) => Scope::In(Some(kind.to_string()), group),
        };
        Self {
            policy,
            forbids: policy.policy.effect() == Effect::Forbid,
            is_plain: matches!(principal, Scope::Any | Scope::In(None, _)) && !clauses.iter().any(asks_who),
            principals: principal.widening(entities),
            resources: resource.widening(entities),
            conditions: clauses.iter().map(ToString::to_string).collect(),
            asked: asked(policy).collect(),
        }
    }

    fn id(&self) -> &'a str {
        &self.policy.id
    }

    /// The meters that it is about, if it is about nothing else.
    fn meters(&self) -> Option<Vec<Meter>> {
        self.asked.iter().map(|action| Meter::from_action(action)).collect()
    }
}

fn asks_who(clause: &Clause) -> bool {
    let mut asks = false;
    visit(expr_of(clause), &mut |expr| {
        asks |= matches!(expr, Expr::Var(Var::Principal));
    });
    asks
}

enum Scope {
    Any,
    Is(String),
    In(Option<String>, EntityUid),
    Eq(EntityUid),
}

impl Scope {
    /// This scope and every one that holds all of it, as keys.
    fn widening(&self, entities: &Entities) -> Vec<String> {
        let mut keys = Vec::new();
        match self {
            Self::Any => {}
            Self::Is(kind) => keys.push(format!("is {kind}")),
            Self::In(kind, group) => {
                let groups = around(group, entities);
                if let Some(kind) = kind {
                    keys.extend(groups.iter().map(|group| format!("{kind} in {group}")));
                    keys.push(format!("is {kind}"));
                }
                keys.extend(groups.iter().map(|group| format!("in {group}")));
            }
            Self::Eq(one) => {
                keys.push(format!("is exactly {one}"));
                let groups = around(one, entities);
                keys.extend(groups.iter().map(|group| format!("{} in {group}", type_of(one))));
                keys.extend(groups.iter().map(|group| format!("in {group}")));
                keys.push(format!("is {}", type_of(one)));
            }
        }
        keys.push("any".to_owned());
        keys
    }
}

/// An entity and all that it is in: what is declared, and what follows from its name.
fn around(uid: &EntityUid, entities: &Entities) -> Vec<String> {
    let mut groups = vec![uid.to_string()];
    groups.extend(entities.ancestors(uid).into_iter().flatten().map(ToString::to_string));
    let written = format!("{}::{}", type_of(uid), serde_json::Value::from(id(uid)));
    if let Ok(resource) = written.parse::<Resource>() {
        groups.extend(resource.parents().iter().map(ToString::to_string));
    }
    groups
}

/// What every policy comes to on one meter for the members of one profile.
struct Table {
    meter: Meter,
    rulings: Vec<Ruling>,
}

/// The tables of every profile that a policy in question is about, or nothing where one cannot be made.
fn tables(reviewed: &Reviewed<'_>, all: &[Scoped<'_>]) -> Option<Vec<Table>> {
    let in_question: HashSet<&str> = reviewed.policies().map(|policy| policy.id.as_str()).collect();
    let on_meters: Vec<(&Scoped<'_>, Vec<Meter>)> = all
        .iter()
        .filter(|scoped| scoped.is_plain && in_question.contains(scoped.id()))
        .filter_map(|scoped| Some((scoped, scoped.meters()?)))
        .collect();
    let mut tables = Vec::new();
    for profile in &reviewed.ready.profiles {
        let uid = crate::schema::uid("Profile", profile).ok()?;
        let here: BTreeSet<String> = Scope::In(None, uid)
            .widening(&reviewed.ready.entities)
            .into_iter()
            .collect();
        let meters: BTreeSet<Meter> = on_meters
            .iter()
            .filter(|(scoped, _)| scoped.principals.first().is_some_and(|own| here.contains(own)))
            .flat_map(|(_, meters)| meters.iter().copied())
            .collect();
        if meters.is_empty() {
            continue;
        }
        let principal = Principal::profile(profile);
        let compiler = Compiler::new(reviewed.ready, reviewed.vocabulary, &principal).ok()?;
        for meter in meters {
            let rulings = compiler.rulings(meter).ok()?;
            if rulings.len() > MOST_RULINGS {
                return None;
            }
            tables.push(Table { meter, rulings });
        }
    }
    Some(tables)
}

/// Everything that a policy is compared with.
struct Around<'a> {
    /// Policies by what they do and their own scopes.
    index: HashMap<(bool, &'a str, &'a str), Vec<&'a Scoped<'a>>>,
    tables: Option<Vec<Table>>,
    /// The policies that treat every guest of a profile alike.
    plain: HashSet<&'a str>,
}

impl<'a> Around<'a> {
    /// Why a policy could go, if it could. What is gone already covers for nobody.
    fn judge(&self, scoped: &Scoped<'_>, gone: &HashSet<&str>) -> Option<Finding> {
        if scoped.asked.is_empty() {
            return None;
        }
        let id = scoped.id();
        if let Some(forbids) = self.cancelled_by(scoped) {
            return Some(shadowed(scoped.policy, &forbids));
        }
        let wider = self
            .around(scoped, scoped.forbids)
            .find(|wider| wider.id() != id && !gone.contains(wider.id()) && wider.asked.is_superset(&scoped.asked));
        if let Some(wider) = wider {
            return Some(redundant(scoped.policy, &[wider.id()]));
        }
        let meters = scoped.meters().filter(|_| scoped.is_plain)?;
        let tables = self.tables.as_ref()?.iter().filter(|table| {
            meters.contains(&table.meter)
                && table
                    .ruling(id)
                    .is_some_and(|ruling| !usable(&ruling.truth.yes).is_empty())
        });
        let tables: Vec<&Table> = tables.collect();
        if tables.is_empty() {
            return None;
        }
        let counts = |other: &Ruling| {
            other.id != id && self.plain.contains(other.id.as_str()) && !gone.contains(other.id.as_str())
        };
        if !scoped.forbids {
            let forbids: Option<Vec<_>> = tables.iter().map(|table| table.cancels(id, counts)).collect();
            if let Some(forbids) = forbids {
                return Some(shadowed(scoped.policy, &distinct(forbids.into_iter().flatten())));
            }
        }
        let others: Option<Vec<_>> = tables.iter().map(|table| table.covers(id, counts)).collect();
        Some(redundant(scoped.policy, &distinct(others?.into_iter().flatten())))
    }

    /// Every policy of an effect that applies wherever this one does, so far as its actions go.
    fn around<'s>(
        &'s self,
        scoped: &'s Scoped<'s>,
        forbids: bool,
    ) -> impl Iterator<Item = &'a Scoped<'a>> + use<'s, 'a> {
        let scopes = scoped.principals.iter().flat_map(|principal| {
            scoped
                .resources
                .iter()
                .map(move |resource| (principal.as_str(), resource.as_str()))
        });
        scopes
            .filter_map(move |(principal, resource)| self.index.get(&(forbids, principal, resource)))
            .flat_map(|alike| alike.iter().take(MOST_ALIKE).copied())
            .filter(|wider| wider.conditions.is_subset(&scoped.conditions))
    }

    /// The forbids that together leave nothing of a permit, if they do.
    fn cancelled_by(&self, scoped: &Scoped<'_>) -> Option<Vec<&'a str>> {
        if scoped.forbids {
            return None;
        }
        let forbids: Vec<&'a Scoped<'a>> = self.around(scoped, true).collect();
        let of = |action: &&str| {
            forbids
                .iter()
                .find(|forbid| forbid.asked.contains(action))
                .map(|forbid| forbid.id())
        };
        let cancelling: Option<Vec<&'a str>> = scoped.asked.iter().map(of).collect();
        cancelling.map(distinct)
    }
}

impl Table {
    fn ruling(&self, id: &str) -> Option<&Ruling> {
        self.rulings.iter().find(|ruling| ruling.id == id)
    }

    /// The forbids that leave nothing of a permit.
    fn cancels(&self, id: &str, counts: impl Fn(&Ruling) -> bool) -> Option<Vec<&str>> {
        let permitted = usable(&self.ruling(id)?.truth.yes);
        self.together(&permitted, |other| other.forbids && counts(other))
    }

    /// The policies of the same effect that say all that this one says. What is forbidden anyway need not be permitted.
    fn covers(&self, id: &str, counts: impl Fn(&Ruling) -> bool) -> Option<Vec<&str>> {
        let own = self.ruling(id)?;
        let said = usable(&own.truth.yes);
        let forbidden = self
            .rulings
            .iter()
            .filter(|other| other.forbids && !own.forbids && counts(other))
            .fold(Amounts::none(), |all, other| all.union(&other.truth.yes));
        self.together(&said.without(&forbidden), |other| {
            other.forbids == own.forbids && counts(other)
        })
    }

    /// The policies among these that take part in saying all of these amounts, if together they do.
    fn together(&self, said: &Amounts, which: impl Fn(&Ruling) -> bool) -> Option<Vec<&str>> {
        let mut left = said.clone();
        let mut taking_part = Vec::new();
        // The widest first, so that one is named where one is enough.
        let mut others: Vec<&Ruling> = self.rulings.iter().filter(|other| which(other)).collect();
        others.sort_by_key(|other| std::cmp::Reverse(other.truth.yes.intervals().last().map(|(_, high)| *high)));
        for other in others {
            let rest = left.without(&other.truth.yes);
            if rest != left {
                taking_part.push(other.id.as_str());
                left = rest;
            }
        }
        left.is_empty().then_some(taking_part)
    }
}

/// The amounts that can be asked for.
fn usable(amounts: &Amounts) -> Amounts {
    amounts.intersection(&Amounts::between(0, i64::MAX))
}

fn distinct<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

fn shadowed(policy: &LoadedPolicy, forbids: &[&str]) -> Finding {
    Finding::warning(
        Code::ShadowedPolicy,
        format!(
            "`{}` grants nothing: all of it is forbidden by {}",
            policy.id,
            listed(forbids.iter().copied())
        ),
    )
    .with_help("a forbid beats every permit; leave the permit out, or narrow the forbid")
    .at(Some(policy.location.clone()))
}

fn redundant(policy: &LoadedPolicy, others: &[&str]) -> Finding {
    let (verb, help) = match policy.policy.effect() {
        Effect::Permit => (
            "permits",
            "permits add up to the widest; to tighten, write a forbid; otherwise leave it out",
        ),
        Effect::Forbid => (
            "forbids",
            "leave it out, or say what it is a second lock for: `@allow(\"redundant-policy: …\")`",
        ),
    };
    let by = if others.is_empty() {
        "what it permits is forbidden anyway".to_owned()
    } else {
        format!("{} {verb} all of it", listed(others.iter().copied()))
    };
    Finding::warning(Code::RedundantPolicy, format!("`{}` changes nothing: {by}", policy.id))
        .with_help(help)
        .at(Some(policy.location.clone()))
}
