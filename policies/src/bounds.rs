//! One meter's policies as one number.

use cedar_policy::{Effect, Policy};

use crate::amounts::Amounts;
use crate::condition::truth_of;
use crate::linear::Truth;
use crate::plan::Bound;

/// A bound and the policies that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounded {
    pub(crate) bound: Bound,
    pub(crate) policies: Vec<String>,
    /// Where some policy's answer changes.
    pub(crate) edges: Vec<i64>,
}

/// Why there is no such number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoBound {
    /// The condition of this policy is not a set of amounts.
    NotInterval { policy: String },
    /// This forbid errors somewhere, and would then silently not forbid.
    ForbidCanError { policy: String, at: i64 },
    /// The allowed amounts are not `0` to a number. These policies make the hole.
    Holes { allowed: Amounts, policies: Vec<String> },
}

/// One policy's say.
pub(crate) struct Ruling {
    pub(crate) id: String,
    pub(crate) forbids: bool,
    pub(crate) truth: Truth,
}

/// Works out the bound from residual policies: those that partial evaluation has left.
pub(crate) fn bound_of(policies: impl IntoIterator<Item = Policy>, attribute: &str) -> Result<Bounded, NoBound> {
    let rulings = rulings(policies, attribute)?;
    let permitted = together(&rulings, false);
    let forbidden = together(&rulings, true);
    let allowed = permitted
        .without(&forbidden)
        .intersection(&Amounts::between(0, i64::MAX));
    let bound = match allowed.intervals() {
        [] => Bound::Limited(0),
        [(0, i64::MAX)] => Bound::Unbounded,
        [(0, most)] => Bound::Limited(most.unsigned_abs()),
        _ => return Err(holes(allowed, &rulings)),
    };
    Ok(Bounded {
        bound,
        policies: binding(&rulings, &allowed),
        edges: edges(&rulings),
    })
}

/// What each policy says, sorted by id.
pub(crate) fn rulings(policies: impl IntoIterator<Item = Policy>, attribute: &str) -> Result<Vec<Ruling>, NoBound> {
    let mut rulings = policies
        .into_iter()
        .map(|policy| ruling(&policy, attribute))
        .collect::<Result<Vec<_>, _>>()?;
    rulings.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rulings)
}

fn ruling(policy: &Policy, attribute: &str) -> Result<Ruling, NoBound> {
    let id = AsRef::<str>::as_ref(policy.id()).to_owned();
    let forbids = policy.effect() == Effect::Forbid;
    let truth = truth_of(policy, attribute).map_err(|_| NoBound::NotInterval { policy: id.clone() })?;
    match truth.error.intervals().first() {
        Some((at, _)) if forbids => Err(NoBound::ForbidCanError { policy: id, at: *at }),
        _ => Ok(Ruling { id, forbids, truth }),
    }
}

fn together(rulings: &[Ruling], forbids: bool) -> Amounts {
    rulings
        .iter()
        .filter(|ruling| ruling.forbids == forbids)
        .fold(Amounts::none(), |all, ruling| all.union(&ruling.truth.yes))
}

/// The permits that reach the largest allowed amount, and the forbids that keep more from being allowed.
fn binding(rulings: &[Ruling], allowed: &Amounts) -> Vec<String> {
    let largest = allowed.intervals().last().map(|(_, high)| *high);
    let beyond = match largest {
        None => Some(0),
        Some(largest) => largest.checked_add(1),
    };
    let permitted_beyond = |at: &i64| {
        rulings
            .iter()
            .any(|ruling| !ruling.forbids && ruling.truth.yes.contains(*at))
    };
    let cut = beyond.filter(permitted_beyond);
    rulings
        .iter()
        .filter(|ruling| {
            let decides = if ruling.forbids { cut } else { largest };
            decides.is_some_and(|at| ruling.truth.yes.contains(at))
        })
        .map(|ruling| ruling.id.clone())
        .collect()
}

/// The policies on both sides of the first hole.
fn holes(allowed: Amounts, rulings: &[Ruling]) -> NoBound {
    let hole = match allowed.intervals() {
        [(0, end), ..] => end.saturating_add(1),
        _ => 0,
    };
    let after = allowed.intervals().iter().map(|(low, _)| *low).find(|low| *low > hole);
    let mut involved: Vec<&Ruling> = rulings
        .iter()
        .filter(|ruling| {
            let at = if ruling.forbids { Some(hole) } else { after };
            at.is_some_and(|at| ruling.truth.yes.contains(at))
        })
        .collect();
    // Whoever forbids a hole has made it; the permits beyond it are the ordinary case.
    involved.sort_by_key(|ruling| !ruling.forbids);
    NoBound::Holes {
        allowed,
        policies: involved.into_iter().map(|ruling| ruling.id.clone()).collect(),
    }
}

fn edges(rulings: &[Ruling]) -> Vec<i64> {
    let mut edges: Vec<i64> = rulings
        .iter()
        .flat_map(|ruling| [&ruling.truth.yes, &ruling.truth.no, &ruling.truth.error])
        .flat_map(|amounts| amounts.intervals().iter().flat_map(|(low, high)| [*low, *high]))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use cedar_policy::PolicyId;

    use super::*;

    fn of(policies: &[&str]) -> Result<(Bound, Vec<String>), NoBound> {
        let parsed = policies.iter().enumerate().map(|(index, text)| {
            let (effect, condition) = text.split_once(' ').unwrap();
            Policy::parse(
                Some(PolicyId::new(format!("p{index}"))),
                format!("{effect} (principal, action, resource) when {{ {condition} }};"),
            )
            .unwrap()
        });
        bound_of(parsed, "bytes").map(|bounded| (bounded.bound, bounded.policies))
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_permitted_is_nothing() {
        assert_eq!(of(&[]), Ok((Bound::Limited(0), vec![])));
        assert_eq!(of(&["forbid true"]), Ok((Bound::Limited(0), vec![])));
        assert_eq!(of(&["permit context.bytes <= -1"]), Ok((Bound::Limited(0), vec![])));
    }

    #[test]
    fn the_widest_permit_binds() {
        let both = of(&["permit context.bytes <= 10", "permit context.bytes <= 20"]);
        assert_eq!(both, Ok((Bound::Limited(20), ids(&["p1"]))));
    }

    #[test]
    fn a_forbid_cuts() {
        let cut = of(&[
            "permit context.bytes <= 100",
            "forbid context.bytes > 30",
            "forbid context.bytes > 60",
        ]);
        assert_eq!(cut, Ok((Bound::Limited(30), ids(&["p0", "p1"]))));
        let all = of(&["permit context.bytes <= 100", "forbid true"]);
        assert_eq!(all, Ok((Bound::Limited(0), ids(&["p1"]))));
        let zero = of(&["permit context.bytes <= 100", "forbid context.bytes > 0"]);
        assert_eq!(zero, Ok((Bound::Limited(0), ids(&["p0", "p1"]))));
    }

    #[test]
    fn everything_permitted_is_unbounded() {
        assert_eq!(of(&["permit true"]), Ok((Bound::Unbounded, ids(&["p0"]))));
        assert_eq!(of(&["permit context.bytes >= 0"]), Ok((Bound::Unbounded, ids(&["p0"]))));
        let almost = of(&["permit context.bytes < 9223372036854775807"]);
        assert_eq!(almost, Ok((Bound::Limited(9_223_372_036_854_775_806), ids(&["p0"]))));
    }

    #[test]
    fn an_overflowing_permit_stops_where_it_errors() {
        let stops = of(&["permit context.bytes * 4 > -1"]);
        assert_eq!(stops, Ok((Bound::Limited(i64::MAX.unsigned_abs() / 4), ids(&["p0"]))));
    }

    #[test]
    fn holes_are_refused() {
        let Err(NoBound::Holes { policies, .. }) = of(&["permit context.bytes <= 10", "permit context.bytes == 20"])
        else {
            panic!("a hole from 11 to 19 must be seen")
        };
        assert_eq!(policies, ids(&["p1"]));
        assert!(matches!(of(&["permit context.bytes > 5"]), Err(NoBound::Holes { .. })));
        assert!(matches!(
            of(&["permit true", "forbid context.bytes == 7"]),
            Err(NoBound::Holes { .. })
        ));
    }

    #[test]
    fn a_hole_that_another_permit_fills_is_none() {
        let filled = of(&[
            "permit context.bytes <= 10",
            "permit context.bytes > 10 && context.bytes < 30",
        ]);
        assert_eq!(filled, Ok((Bound::Limited(29), ids(&["p1"]))));
    }

    #[test]
    fn an_erroring_forbid_is_refused() {
        let error = of(&["permit true", "forbid context.bytes + 1 > 100"]);
        assert_eq!(
            error,
            Err(NoBound::ForbidCanError {
                policy: "p1".to_owned(),
                at: i64::MAX
            })
        );
        assert!(of(&["permit true", "forbid context.bytes > 100 || context.bytes + 1 > 100"]).is_ok());
    }
}
