//! Properties taken apart: one task for each kind of request and profile, put to the solver many at a time.
//!
//! Tasks about the same kind of request are one question first: is there any request that breaks any of them? Mostly there
//! is none, and then all of them hold. Where there is one, each is asked by itself.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Effect, Policy};

use crate::compile::Ready;
use crate::principal::PrincipalKind;
use crate::prove::ask::{Ask, Asker, Said};
use crate::prove::claim::{Claim, Counterexample, Domain, Rebuilt, World, only_when, renamed};
use crate::prove::facts::Kind;
use crate::prove::properties::{Demand, PropertiesError, Property};
use crate::schema::{Vocabulary, uid};

/// What came of one task.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Holds,
    /// It holds because there is no such request.
    HoldsOfNothing,
    Broken(Box<Counterexample>),
    Unknown(String),
}

/// One kind of request that a property is about, by members of one profile.
pub(super) struct Task<'a> {
    /// The property's place in the list.
    pub(super) property: usize,
    kind: Kind,
    shape: Shape,
    profile: &'a str,
    /// Of an `implies`, the profile that may do as much.
    other: &'a str,
    /// Of a bound, what exceeds it. It cannot err.
    exceeding: Option<String>,
    /// What the property's author narrows it by.
    when: Option<&'a str>,
    /// The forbid that must not err.
    policy: Option<&'a Policy>,
}

/// What shall be so of a kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Never,
    Always,
    Implies,
    NeverErrs,
}

/// Tasks that can be asked about at once: their places in the list.
pub(super) struct Batch(Vec<usize>);

/// A policy set on the workbench.
pub(super) struct Bench<'a> {
    pub(super) ready: &'a Ready,
    pub(super) vocabulary: &'a Vocabulary,
}

impl<'a> Bench<'a> {
    /// What a property asks for.
    pub(super) fn tasks(
        &self,
        property: usize,
        of: &'a Property,
        stock: &'a BTreeSet<String>,
    ) -> Result<Vec<Task<'a>>, PropertiesError> {
        let profiles = of.profiles(&self.ready.profiles, stock)?;
        if of.demand == Demand::NoForbidErrs {
            return Ok(self.forbids(property).collect());
        }
        let mut tasks = Vec::new();
        for action in of.actions() {
            for kind in kinds(self.vocabulary, &action) {
                let here = profiles.iter().filter_map(|profile| task(property, of, &kind, profile));
                tasks.extend(here);
            }
        }
        Ok(tasks)
    }

    fn forbids(&self, property: usize) -> impl Iterator<Item = Task<'a>> {
        let forbids = self
            .ready
            .policies
            .iter()
            .filter(|loaded| loaded.policy.effect() == Effect::Forbid);
        forbids.flat_map(move |loaded| {
            let covered = loaded.covered.iter().flat_map(|action| kinds(self.vocabulary, action));
            covered.map(move |kind| Task {
                property,
                kind,
                shape: Shape::NeverErrs,
                profile: "",
                other: "",
                exceeding: None,
                when: None,
                policy: Some(&loaded.policy),
            })
        })
    }

    /// What comes of every task of a batch.
    pub(super) fn settle(&self, asker: &mut Asker<'_>, tasks: &[Task<'_>], batch: &Batch) -> Vec<(usize, End)> {
        let chosen: Vec<&Task<'_>> = batch.0.iter().filter_map(|index| tasks.get(*index)).collect();
        let all = self.settle_together(asker, &chosen);
        let ends: Vec<End> = match all {
            Ok(end @ (End::Holds | End::HoldsOfNothing)) => vec![end; chosen.len()],
            other if chosen.len() == 1 => vec![other.unwrap_or_else(End::Unknown)],
            _ => chosen
                .iter()
                .map(|task| self.settle_together(asker, &[task]).unwrap_or_else(End::Unknown))
                .collect(),
        };
        batch.0.iter().copied().zip(ends).collect()
    }

    /// What comes of all of them; of one, with its counterexample.
    fn settle_together(&self, asker: &mut Asker<'_>, tasks: &[&Task<'_>]) -> Result<End, String> {
        let Some(first) = tasks.first() else {
            return Ok(End::HoldsOfNothing);
        };
        let kind = &first.kind;
        if let Some(policy) = first.policy {
            return Ok(match asker.ask(kind, &Ask::NeverErrs(policy)) {
                Said::Yes => End::Holds,
                Said::Unknown(reason) => End::Unknown(reason),
                Said::No(env) => {
                    let rebuilt = Rebuilt::as_it_is(&env);
                    let decision = rebuilt.decide(World::new(self.ready, &kind.action)?.policies());
                    confirmed(rebuilt.counterexample(self.ready, decision), rebuilt.errs(policy))
                }
            });
        }
        let world = World::new(self.ready, &kind.action)?;
        let domain = self.domain(&world, tasks)?;
        // What nothing permits is denied; a solver would say the same, later.
        let is_denied = !world
            .policies()
            .policies()
            .any(|policy| policy.effect() == Effect::Permit);
        let end = if is_denied && first.shape != Shape::Always {
            End::Holds
        } else {
            let claim = claim(first.shape, &world, &domain)?;
            match asker.ask(kind, &Ask::Implies(&claim.left, &claim.right)) {
                Said::Yes => End::Holds,
                Said::Unknown(reason) => End::Unknown(reason),
                Said::No(env) => self.judged(first, &world, &claim, &env)?,
            }
        };
        match first.when {
            Some(when) if end == End::Holds => Ok(said_something(asker, kind, &domain, when)?),
            _ => Ok(end),
        }
    }

    fn domain(&self, world: &World<'_>, tasks: &[&Task<'_>]) -> Result<Domain, String> {
        let Some(Task { kind, shape, when, .. }) = tasks.first().copied() else {
            return Err("nothing is asked".to_owned());
        };
        if *shape == Shape::Implies {
            let pairs: Vec<[&str; 2]> = tasks.iter().map(|task| [task.profile, task.other]).collect();
            return Domain::in_two_worlds([world, world], kind, &pairs, *when);
        }
        let members: Vec<(&str, Option<&str>)> = tasks
            .iter()
            .map(|task| (task.profile, task.exceeding.as_deref()))
            .collect();
        Domain::members(self.ready, &world.named(*when)?, kind, &members, *when)
    }

    /// Whether the request that the solver found is one.
    fn judged(
        &self,
        task: &Task<'_>,
        world: &World<'_>,
        claim: &Claim,
        env: &cedar_policy_symcc::Env,
    ) -> Result<End, String> {
        let rebuilt = Rebuilt::new(env, self.ready, self.vocabulary, task.profile)?;
        let decision = rebuilt.decide(world.policies());
        let is_confirmed = match task.shape {
            Shape::Never => decision.0 && !rebuilt.decide(&claim.right).0,
            Shape::Always => !decision.0 && rebuilt.decide(&claim.left).0,
            Shape::Implies => {
                let there = Rebuilt::new(env, self.ready, self.vocabulary, task.other)?;
                let is_meant = task.when.map_or(Ok(true), |when| rebuilt.meets(&only_when(when)?))?;
                decision.0 && is_meant && !there.decide(world.policies()).0
            }
            Shape::NeverErrs => false,
        };
        Ok(confirmed(rebuilt.counterexample(self.ready, decision), is_confirmed))
    }
}

fn claim(shape: Shape, world: &World<'_>, domain: &Domain) -> Result<Claim, String> {
    match shape {
        Shape::Never | Shape::NeverErrs => domain.denied(world),
        Shape::Always => domain.allowed(world),
        Shape::Implies => domain.compared(world.policies(), &renamed(world.policies())?),
    }
}

/// A property that holds of no request holds by accident, and a condition that errs leaves requests out unseen.
fn said_something(asker: &mut Asker<'_>, kind: &Kind, domain: &Domain, when: &str) -> Result<End, String> {
    let claim = domain.inhabited()?;
    match asker.ask(kind, &Ask::Implies(&claim.left, &claim.right)) {
        Said::Yes => return Ok(End::HoldsOfNothing),
        Said::Unknown(reason) => return Ok(End::Unknown(reason)),
        Said::No(_) => {}
    }
    Ok(match asker.ask(kind, &Ask::NeverErrs(&only_when(when)?)) {
        Said::Yes => End::Holds,
        Said::Unknown(reason) => End::Unknown(reason),
        Said::No(_) => End::Unknown("`when` overflows for some requests, and would leave them out".to_owned()),
    })
}

/// What of a property is about this kind of request.
fn task<'a>(place: usize, property: &'a Property, kind: &Kind, profile: &'a str) -> Option<Task<'a>> {
    let mut exceeding = None;
    let (shape, other) = match &property.demand {
        Demand::Never(_) => (Shape::Never, ""),
        Demand::Always(_) => (Shape::Always, ""),
        Demand::Bounded(most) => {
            let (unit, most) = most.get(&kind.action)?;
            exceeding = Some(format!("context.{} > {most}", unit.name()));
            (Shape::Never, "")
        }
        // A profile itself is never in another's place.
        Demand::Implies { .. } if kind.principal == PrincipalKind::Profile => return None,
        Demand::Implies { other, .. } => (Shape::Implies, other.as_str()),
        Demand::NoForbidErrs => return None,
    };
    Some(Task {
        property: place,
        kind: kind.clone(),
        shape,
        profile,
        other,
        exceeding,
        when: property.when.as_deref(),
        policy: None,
    })
}

/// Tasks about the same kind of request together. Where an author's condition narrows them, only those of one property: if
/// the condition errs, it is only that property that says nothing.
pub(super) fn batches(tasks: &[Task<'_>]) -> Vec<Batch> {
    let mut together: BTreeMap<(&Kind, Shape, Option<usize>), Vec<usize>> = BTreeMap::new();
    let mut alone = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        if task.shape == Shape::NeverErrs {
            alone.push(Batch(vec![index]));
            continue;
        }
        let property = task.when.map(|_| task.property);
        together
            .entry((&task.kind, task.shape, property))
            .or_default()
            .push(index);
    }
    together.into_values().map(Batch).chain(alone).collect()
}

/// Every kind of request about an action.
pub(super) fn kinds(vocabulary: &Vocabulary, action: &str) -> Vec<Kind> {
    let Ok(action_uid) = uid("Action", action) else {
        return Vec::new();
    };
    let principals = vocabulary.schema().principals_for_action(&action_uid);
    let principals: Vec<String> = principals.into_iter().flatten().map(ToString::to_string).collect();
    let resources = vocabulary.schema().resources_for_action(&action_uid);
    let mut resources: Vec<String> = resources.into_iter().flatten().map(ToString::to_string).collect();
    resources.sort_unstable();
    let asking = PrincipalKind::ALL
        .iter()
        .copied()
        .filter(|kind| principals.iter().any(|name| name == kind.name()));
    let pairs = asking.flat_map(|principal| resources.iter().map(move |resource| (principal, resource)));
    pairs
        .map(|(principal, resource)| Kind {
            principal,
            action: action.to_owned(),
            resource: resource.clone(),
        })
        .collect()
}

/// A request that Cedar's own authorizer decides as the solver says, or nothing to rely on.
pub(super) fn confirmed(counterexample: Counterexample, is_confirmed: bool) -> End {
    if is_confirmed {
        return End::Broken(Box::new(counterexample));
    }
    let Counterexample {
        principal,
        action,
        resource,
        ..
    } = counterexample;
    End::Unknown(format!(
        "the solver objects with `{action}` by {principal} on {resource}, and cedar's authorizer does not confirm it"
    ))
}
