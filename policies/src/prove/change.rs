//! Two policy sets beside each other: do they decide every request the same?

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Entity;
use serde_json::Value;

use crate::compile::Ready;
use crate::principal::PrincipalKind;
use crate::prove::Whose;
use crate::prove::ask::{Ask, Asker, Said};
use crate::prove::claim::{Domain, Rebuilt, World, renamed};
use crate::prove::facts::{Kind, named};
use crate::prove::task::{End, confirmed, kinds};
use crate::schema::{Vocabulary, type_of};

/// What differs between two policy sets, as far as requests can tell.
pub(super) struct Change<'a> {
    old: &'a Ready,
    new: &'a Ready,
    profiles: Vec<&'a str>,
    /// Profiles are nested differently, so that one guest stands in different places.
    is_nested_anew: bool,
    /// The kinds of request that could be decided differently.
    pub(super) kinds: Vec<Kind>,
}

impl<'a> Change<'a> {
    pub(super) fn between(
        old: &'a Ready,
        new: &'a Ready,
        whose: Whose<'a>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, String> {
        let (profile_rows, other_rows) = (rows(old, true) != rows(new, true), rows(old, false) != rows(new, false));
        if other_rows {
            return Err("the two declare different modules, callers or functions".to_owned());
        }
        let profiles: Vec<&str> = match whose {
            Whose::Members(profile) => vec![profile],
            Whose::Everybody => old.profiles.intersection(&new.profiles).map(String::as_str).collect(),
        };
        if let Some(missing) = profiles
            .iter()
            .find(|name| !old.profiles.contains(**name) || !new.profiles.contains(**name))
        {
            return Err(format!("profile `{missing}` is not declared in both"));
        }
        let is_guest = |kind: &Kind| !profile_rows || kind.principal != PrincipalKind::Profile;
        let kinds = actions(old, new, profile_rows)
            .into_iter()
            .flat_map(|action| kinds(vocabulary, action));
        Ok(Self {
            old,
            new,
            profiles,
            is_nested_anew: profile_rows,
            kinds: kinds.filter(is_guest).collect(),
        })
    }

    pub(super) fn settle(&self, asker: &mut Asker<'_>, kind: &Kind, vocabulary: &Vocabulary) -> Result<End, String> {
        let (old, new) = (World::new(self.old, &kind.action)?, World::new(self.new, &kind.action)?);
        let claim = if self.is_nested_anew {
            let pairs: Vec<[&str; 2]> = self.profiles.iter().map(|profile| [*profile; 2]).collect();
            let domain = Domain::in_two_worlds([&old, &new], kind, &pairs, None)?;
            domain.compared(old.policies(), &renamed(new.policies())?)?
        } else {
            let named = named(old.policies().policies().chain(new.policies().policies()));
            let members: Vec<(&str, Option<&str>)> = self.profiles.iter().map(|profile| (*profile, None)).collect();
            Domain::members(self.old, &named, kind, &members, None)?.compared(old.policies(), new.policies())?
        };
        match asker.ask(kind, &Ask::Equivalent(&claim.left, &claim.right)) {
            Said::Yes => Ok(End::Holds),
            Said::Unknown(reason) => Ok(End::Unknown(reason)),
            Said::No(env) => {
                let mut last = End::Unknown("the solver's request is nobody's".to_owned());
                for profile in &self.profiles {
                    let before = Rebuilt::new(&env, self.old, vocabulary, profile)?.decide(old.policies());
                    let rebuilt = Rebuilt::new(&env, self.new, vocabulary, profile)?;
                    let after = rebuilt.decide(new.policies());
                    let differs = before.0 != after.0;
                    last = confirmed(rebuilt.counterexample(self.new, after), differs);
                    if differs {
                        break;
                    }
                }
                Ok(last)
            }
        }
    }
}

/// The declared entities that are profiles, or those that are not, with what they are in.
fn rows(ready: &Ready, are_profiles: bool) -> BTreeMap<String, (BTreeSet<String>, Option<Value>)> {
    let chosen = ready.entities.iter().filter(|entity| {
        let type_ = type_of(&entity.uid());
        type_ != "Action" && (type_ == "Profile") == are_profiles
    });
    chosen.map(row).collect()
}

fn row(entity: &Entity) -> (String, (BTreeSet<String>, Option<Value>)) {
    let attributes = entity.to_json_value().ok().and_then(|json| json.get("attrs").cloned());
    let (uid, _, parents) = entity.clone().into_inner();
    let parents = parents.iter().map(ToString::to_string).collect();
    (uid.to_string(), (parents, attributes))
}

/// The actions that some policy covers which is not the same in both; all that are covered, where nesting differs.
fn actions<'a>(old: &'a Ready, new: &'a Ready, all: bool) -> BTreeSet<&'a str> {
    let texts = |ready: &'a Ready| -> BTreeMap<&'a str, &'a str> {
        ready
            .policies
            .iter()
            .map(|loaded| (loaded.id.as_str(), loaded.text.as_str()))
            .collect()
    };
    let (before, after) = (texts(old), texts(new));
    let is_changed = |id: &str| all || before.get(id) != after.get(id);
    let changed = old
        .policies
        .iter()
        .chain(&new.policies)
        .filter(|loaded| is_changed(&loaded.id));
    changed
        .flat_map(|loaded| loaded.covered.iter().map(String::as_str))
        .collect()
}
