//! Profiles in which nothing can run, because a meter that every run needs is never granted.

use std::collections::BTreeSet;

use cedar_policy::Effect;

use super::{Reviewed, listed};
use crate::finding::{Code, Finding, Location};
use crate::plan::{Bound, Plan};
use crate::schema::{id, type_of, uid};
use crate::store::SourceKind;
use crate::vocabulary::{Action, Meter};

/// The least of each meter that any script needs, beside its own size; the runtime refuses it before it runs otherwise.
pub const STATEMENT_NEEDS: &[(Meter, u64)] = &[
    (Meter::SqlLength, 30),
    (Meter::SqlSqlLength, 1),
    (Meter::SqlColumn, 1),
    (Meter::SqlExprDepth, 1),
    (Meter::SqlCompoundSelect, 1),
    (Meter::SqlVdbeOp, 1),
    (Meter::SqlParserDepth, 50),
    (Meter::GrowHeap, 1),
    (Meter::Elapse, 1),
];

/// The least of each meter that any module needs, beside its own size.
pub const MODULE_NEEDS: &[(Meter, u64)] = &[
    (Meter::AddInstance, 1),
    (Meter::GrowStack, 1),
    (Meter::BurnFuel, 1),
    (Meter::Compile, 1),
    (Meter::WasmItem, 1),
    (Meter::WasmFunctionLength, 1),
    (Meter::Elapse, 1),
];

/// No guest is empty.
const EVERY_GUEST: (Meter, u64) = (Meter::LoadGuest, 1);

/// What is missing from profiles that are meant to be run in.
///
/// A profile that another is nested in is a building block: it grants a part, and the rest is for those above to say. So is
/// one that grants nothing at all. Every other profile is meant to run the kinds of guests whose own meters it grants.
pub(super) fn unmet_needs(reviewed: &Reviewed<'_>) -> Vec<Finding> {
    let blocks = building_blocks(reviewed);
    let meant = reviewed
        .plans
        .iter()
        .filter(|(name, _)| !blocks.contains(name.as_str()));
    meant
        .flat_map(|(name, plan)| {
            let place = place_of(reviewed, name);
            missing(plan).into_iter().map(move |(who, meters)| {
                let names = meters.iter().map(|meter| meter.action());
                Finding::warning(
                    Code::MeterNeverGranted,
                    format!("no {who} can run in profile `{name}`: {} never granted", amounts(names)),
                )
                .with_help(help(&meters))
                .at(place.clone())
            })
        })
        .collect()
}

fn amounts<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", listed(names))
}

fn help(meters: &[Meter]) -> String {
    let least = |meter: &Meter| {
        let needs = STATEMENT_NEEDS.iter().chain(MODULE_NEEDS);
        needs
            .clone()
            .find(|(needed, _)| needed == meter)
            .map_or(1, |(_, least)| *least)
    };
    let more: Vec<String> = meters
        .iter()
        .filter(|meter| least(meter) > 1)
        .map(|meter| format!("; {} is the least of `{}`", least(meter), meter.action()))
        .collect();
    format!(
        "permit what is missing, or nest the profile in one that does{}",
        more.concat()
    )
}

/// What each kind of guest that is meant to run lacks, if anything.
fn missing(plan: &Plan) -> Vec<(&'static str, Vec<Meter>)> {
    let is_granted = |meter: Meter| plan.bound(meter) != Bound::Limited(0);
    let meant = |resource: &str| {
        Meter::ALL
            .iter()
            .any(|meter| meter.resource() == resource && is_granted(*meter))
    };
    let scripts = meant("connection").then_some(("script", STATEMENT_NEEDS));
    let modules = (meant("store") || is_granted(Meter::Compile)).then_some(("module", MODULE_NEEDS));
    let kinds: Vec<_> = [scripts, modules].into_iter().flatten().collect();
    let lacking: Vec<_> = kinds
        .iter()
        .filter_map(|(who, needs)| {
            let lacks: Vec<Meter> = std::iter::once(&EVERY_GUEST)
                .chain(*needs)
                .filter(|(meter, least)| !plan.bound(*meter).permits(*least))
                .map(|(meter, _)| *meter)
                .collect();
            // Whoever forbids what every guest of a kind needs has said that none should run.
            let is_shut = lacks
                .iter()
                .any(|meter| !is_granted(*meter) && !plan.binding(*meter).is_empty());
            (!lacks.is_empty() && !is_shut).then_some((*who, lacks))
        })
        .collect();
    let grants_anything = Action::all().any(|action| plan.bit(action) != Some(false))
        || Meter::ALL.iter().any(|meter| is_granted(*meter));
    if kinds.is_empty() && grants_anything {
        let common = [Meter::LoadGuest, Meter::Elapse, Meter::GrowHeap, Meter::AddInstance];
        return vec![(
            "guest",
            common.into_iter().filter(|meter| !is_granted(*meter)).collect(),
        )];
    }
    lacking
}

/// The profiles that others are nested in.
fn building_blocks<'a>(reviewed: &Reviewed<'a>) -> BTreeSet<&'a str> {
    let entities = &reviewed.ready.entities;
    let profiles = reviewed.ready.profiles.iter();
    profiles
        .filter_map(|name| entities.ancestors(&uid("Profile", name).ok()?))
        .flatten()
        .filter(|above| type_of(above) == "Profile")
        .map(id)
        .collect()
}

/// The first permit that names the profile, or else where it is declared.
fn place_of(reviewed: &Reviewed<'_>, profile: &str) -> Option<Location> {
    let permit = reviewed.policies().find(|policy| {
        policy.policy.effect() == Effect::Permit && policy.named("Profile").iter().any(|id| id == profile)
    });
    let declared = || {
        let written = serde_json::Value::from(profile).to_string();
        let mut entities = reviewed
            .sources
            .iter()
            .filter(|source| source.kind == SourceKind::Entities);
        entities.find_map(|source| {
            let offset = source.text.find(&written)?;
            Some(Location::new(&source.name, &source.text, offset, written.len()))
        })
    };
    permit.map(|policy| policy.location.clone()).or_else(declared)
}
