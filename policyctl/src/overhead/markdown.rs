//! As Markdown, for a comment or a page.

use stockade_conformance::overhead::Unit;

use super::{NOT_OPTIMISED, Overhead, people};
use crate::guest_text::one_line;

pub(super) fn text(overhead: &Overhead<'_>, with_comparisons: bool) -> String {
    let mut text = format!("{}. {}.\n", cell(&overhead.host()), cell(&overhead.versions()));
    if !overhead.run.host.is_optimised {
        text.push_str(&format!("\n**{NOT_OPTIMISED}**\n"));
    }
    text.push_str("\n| quantity | measured | target | verdict | promised by |\n|---|---:|---:|---|---|\n");
    for judged in &overhead.judged {
        let (quantity, figure) = (judged.quantity, people::measured(judged));
        let mut name = format!("`{}`: {}", quantity.id, cell(&quantity.what));
        let mut figure = cell(&figure);
        if judged.targets.is_empty() {
            text.push_str(&format!("| {name} | {figure} | | | |\n"));
        }
        for (target, verdict) in &judged.targets {
            let bound = people::bound(quantity.unit, target.bound);
            let source = cell(&target.source);
            text.push_str(&format!("| {name} | {figure} | {bound} | {verdict} | {source} |\n"));
            // Once is enough.
            name.clear();
            figure.clear();
        }
    }
    text.push_str(&format!("\n{}.\n", overhead.summary()));
    let missed: Vec<_> = overhead
        .judged
        .iter()
        .filter_map(|judged| Some((judged, judged.because()?)))
        .collect();
    if !missed.is_empty() {
        text.push_str("\nMissed, and why:\n\n");
    }
    for (judged, because) in missed {
        text.push_str(&format!("* `{}`: {}\n", judged.quantity.id, cell(because)));
    }
    text.push_str("\nPromised, and not measured here:\n\n");
    for elsewhere in &overhead.targets.elsewhere {
        let (what, source, because) = (&elsewhere.what, &elsewhere.source, &elsewhere.because);
        text.push_str(&format!("* {} ({}): {}\n", cell(what), cell(source), cell(because)));
    }
    if with_comparisons {
        text.push_str(&comparisons(overhead));
    }
    text
}

fn comparisons(overhead: &Overhead<'_>) -> String {
    let mut text = String::new();
    for comparison in &overhead.run.comparisons {
        let heading = people::heading(comparison);
        text.push_str(&format!("\n| {} | | |\n|---|---:|---:|\n", cell(&heading)));
        let baseline = comparison.ways.first().map_or(f64::NAN, |way| way.nanos);
        for way in &comparison.ways {
            let shown = Unit::Nanoseconds.shown(way.nanos);
            text.push_str(&format!(
                "| {} | {shown} | {:.3} |\n",
                cell(&way.name),
                way.nanos / baseline
            ));
        }
    }
    text
}

/// Text of a file, in a cell of a table.
fn cell(text: &str) -> String {
    let line = one_line(text).replace('\\', "\\\\");
    line.replace('|', "\\|").replace('<', "&lt;").replace('[', "\\[")
}
