//! As one page with charts, which needs nothing else and runs nothing.

use std::fmt::{self, Write};

use stockade_conformance::overhead::{Comparison, Judged, Unit, Verdict};

use super::{NOT_OPTIMISED, Overhead, chart, people};
use crate::page::{self, Text};

pub(super) fn page(overhead: &Overhead<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    write_page(&mut text, overhead).unwrap_or_default();
    text
}

fn write_page(text: &mut String, overhead: &Overhead<'_>) -> fmt::Result {
    page::begin(text, "overhead", "")?;
    let class = class(overhead.in_all());
    writeln!(
        text,
        "<h1>Stockade: overhead</h1>\n<p class=\"{class}\">{}</p>\n<p class=\"facts\">{}</p>\n<p class=\"facts\">{}</p>",
        overhead.summary(),
        Text(&overhead.host()),
        Text(&overhead.versions()),
    )?;
    if !overhead.run.host.is_optimised {
        writeln!(text, "<p class=\"bad\">{NOT_OPTIMISED}</p>")?;
    }
    verdicts(text, overhead)?;
    curves(text, overhead)?;
    comparisons(text, overhead)?;
    page::end(text);
    Ok(())
}

/// The colour of a verdict.
const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "good",
        Verdict::Missed => "bad",
        Verdict::Unsure | Verdict::NotMeasured => "unsure",
    }
}

fn verdicts(text: &mut String, overhead: &Overhead<'_>) -> fmt::Result {
    text.push_str(
        "<h2>Targets</h2>\n<p class=\"facts\">The line in the middle of a bar is the target; its ends are a hundredth and a hundred \
         times that. The band is the interval with its noise.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>quantity</th>\
         <th class=\"number\">measured</th><th></th><th class=\"number\">target</th><th>verdict</th><th>promised by</th></tr></thead>\n<tbody>\n",
    );
    overhead.judged.iter().try_for_each(|judged| rows(text, judged))?;
    text.push_str("</tbody></table></div>\n<p>Promised, and not measured here:</p>\n<ul>\n");
    for elsewhere in &overhead.targets.elsewhere {
        let (what, source, because) = (&elsewhere.what, &elsewhere.source, &elsewhere.because);
        writeln!(text, "<li>{} ({}): {}</li>", Text(what), Text(source), Text(because))?;
    }
    text.push_str("</ul>\n");
    Ok(())
}

fn rows(text: &mut String, judged: &Judged<'_>) -> fmt::Result {
    let quantity = judged.quantity;
    let because = judged
        .because()
        .map_or(String::new(), |because| format!("<br>Because {}", Text(because)));
    let name = format!(
        "<td><span class=\"id\">{}</span><br><span class=\"facts\">{}{because}</span></td><td class=\"number\">{}</td>",
        Text(&quantity.id),
        Text(&quantity.what),
        judged
            .figure
            .map_or("-".to_owned(), |figure| quantity.unit.shown(figure.value)),
    );
    if judged.targets.is_empty() {
        writeln!(text, "<tr>{name}<td></td><td></td><td></td><td></td></tr>")?;
    }
    for (number, (target, verdict)) in judged.targets.iter().enumerate() {
        let name = if number == 0 { &name } else { "<td></td><td></td>" };
        let bar = judged.figure.map_or(String::new(), |figure| {
            chart::beside_target(figure, quantity.unit, target.bound)
        });
        let class = class(*verdict);
        writeln!(
            text,
            "<tr>{name}<td>{bar}</td><td class=\"number\">{}</td><td class=\"{class}\">{verdict}</td><td class=\"facts\">{}</td></tr>",
            people::bound(quantity.unit, target.bound),
            Text(&target.source),
        )?;
    }
    Ok(())
}

/// What was timed for several sizes, by title.
fn curves(text: &mut String, overhead: &Overhead<'_>) -> fmt::Result {
    let sized = |comparison: &&Comparison| comparison.size.is_some();
    let mut titles: Vec<&str> = Vec::new();
    for comparison in overhead.run.comparisons.iter().filter(sized) {
        if !titles.contains(&comparison.title.as_str()) {
            titles.push(&comparison.title);
        }
    }
    if !titles.is_empty() {
        text.push_str("<h2>As the work grows</h2>\n");
    }
    for title in titles {
        let of_title = |comparison: &&Comparison| comparison.title == title && sized(comparison);
        let points: Vec<&Comparison> = overhead.run.comparisons.iter().filter(of_title).collect();
        let of = points
            .first()
            .and_then(|point| point.size.as_ref())
            .map_or("", |size| size.of.as_str());
        writeln!(
            text,
            "<h3>{}, as {} grow</h3>\n{}",
            Text(title),
            Text(of),
            chart::curve(&points)?
        )?;
    }
    Ok(())
}

fn comparisons(text: &mut String, overhead: &Overhead<'_>) -> fmt::Result {
    text.push_str("<h2>Side by side</h2>\n");
    for comparison in &overhead.run.comparisons {
        let baseline = comparison.ways.first().map_or(f64::NAN, |way| way.nanos);
        writeln!(
            text,
            "<details><summary><span class=\"id\">{}</span></summary>\n<div class=\"scroll\"><table><tbody>",
            Text(&people::heading(comparison))
        )?;
        let ways = comparison.ways.iter().map(|way| (way.name.as_str(), way.nanos));
        for (name, nanos) in ways.chain([("(the first again)", comparison.control_nanos)]) {
            writeln!(
                text,
                "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">&times; {:.3}</td></tr>",
                Text(name),
                Unit::Nanoseconds.shown(nanos),
                nanos / baseline
            )?;
        }
        text.push_str("</tbody></table></div></details>\n");
    }
    Ok(())
}
