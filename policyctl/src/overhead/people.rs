//! For people.

use stockade_conformance::overhead::{Bound, Comparison, Judged, Unit};

use super::{NOT_OPTIMISED, Overhead};
use crate::guest_text::one_line;

/// Every quantity with its figure, its targets below it.
pub(super) fn verdicts(overhead: &Overhead<'_>) -> String {
    let mut text = format!("{}\n{}\n", one_line(&overhead.host()), one_line(&overhead.versions()));
    if !overhead.run.host.is_optimised {
        text.push_str(&format!("{NOT_OPTIMISED}\n"));
    }
    let mut bench = "";
    for judged in &overhead.judged {
        if bench != judged.quantity.bench {
            bench = &judged.quantity.bench;
            text.push_str(&format!("\n{bench}\n"));
        }
        text.push_str(&quantity(judged));
    }
    text.push_str("\npromised, and not measured here\n");
    for elsewhere in &overhead.targets.elsewhere {
        let (what, source, because) = (&elsewhere.what, &elsewhere.source, &elsewhere.because);
        text.push_str(&format!("  {what} ({source}): {because}\n"));
    }
    text + &format!("\n{}\n", overhead.summary())
}

fn quantity(judged: &Judged<'_>) -> String {
    let quantity = judged.quantity;
    let figure = measured(judged);
    let mut text = format!("  {:<20} {figure:<44} {}\n", quantity.id, quantity.what);
    for (target, verdict) in &judged.targets {
        let bound = bound(quantity.unit, target.bound);
        text.push_str(&format!("  {:<20} {verdict:<12} {bound:<31} {}\n", "", target.source));
    }
    if let Some(because) = judged.because() {
        text.push_str(&format!("  {:<20} because {because}\n", ""));
    }
    text
}

/// A figure with its interval, or a dash.
pub(super) fn measured(judged: &Judged<'_>) -> String {
    let shown = |amount: f64| judged.quantity.unit.shown(amount);
    judged.figure.map_or("-".to_owned(), |figure| {
        format!(
            "{} ({} to {}, noise {})",
            shown(figure.value),
            shown(figure.low),
            shown(figure.high),
            shown(figure.noise)
        )
    })
}

/// What keeps a target, in words.
pub(super) fn bound(unit: Unit, bound: Bound) -> String {
    match bound {
        Bound::Most(most) => format!("at most {}", unit.shown(most)),
        Bound::Least(least) => format!("at least {}", unit.shown(least)),
    }
}

/// What was timed side by side.
pub(super) fn comparisons(overhead: &Overhead<'_>) -> String {
    overhead.run.comparisons.iter().map(comparison).collect()
}

fn comparison(comparison: &Comparison) -> String {
    let mut text = format!("\n{}\n", one_line(&heading(comparison)));
    let baseline = comparison.ways.first().map_or(f64::NAN, |way| way.nanos);
    let ways = comparison.ways.iter().map(|way| (one_line(&way.name), way.nanos));
    for (name, nanos) in ways.chain([("(the first again)".to_owned(), comparison.control_nanos)]) {
        let shown = Unit::Nanoseconds.shown(nanos);
        text.push_str(&format!("  {name:<48} {shown:>12}  x {:.3}\n", nanos / baseline));
    }
    text
}

/// What was done, with how much of it there was.
pub(super) fn heading(comparison: &Comparison) -> String {
    match &comparison.size {
        Some(size) => format!("{}: {} {}", comparison.title, size.count, size.of),
        None => comparison.title.clone(),
    }
}
