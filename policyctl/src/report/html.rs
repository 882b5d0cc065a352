//! A report as one page that needs nothing else and runs nothing: filters are style sheets, so there is no script for a
//! guest's text to get into.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};

use stockade_conformance::{CaseReport, Matrix, Report, Tally, TrialReport, Verdict, Worth};
use stockade_runtime::{Event, Layer};

use super::{LEGEND, people};
use crate::page::{self, Text};

pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    write_page(&mut page, report).unwrap_or_default();
    page
}

fn write_page(page: &mut String, report: &Report) -> fmt::Result {
    page::begin(page, &report.subject, Filters(report))?;
    heading(page, report)?;
    summary(page, report)?;
    matrix(page, report)?;
    cases(page, report)?;
    page::end(page);
    Ok(())
}

fn heading(page: &mut String, report: &Report) -> fmt::Result {
    let layers: Vec<&str> = report.machine.layers.iter().map(|layer| layer.name()).collect();
    let (class, verdict) = if report.passed() {
        ("good", "every verdict passed".to_owned())
    } else {
        let failed = report.summary.failed;
        (
            "bad",
            format!("{failed} cases failed, {} without a verdict", report.summary.unknown),
        )
    };
    writeln!(
        page,
        "<h1>Stockade: {}</h1>\n<p class=\"{class}\">{verdict}</p>\n\
         <p class=\"facts\">{} cases in {} s; version {}, corpus <code>{}</code></p>\n\
         <p class=\"facts\">kernel {}; layers {}</p>",
        Text(&report.subject),
        report.cases.len(),
        people::tenths(report.total_ms),
        Text(&report.suite.version),
        Text(&report.suite.corpus),
        Text(&report.machine.kernel),
        layers.join(", "),
    )
}

fn summary(page: &mut String, report: &Report) -> fmt::Result {
    page.push_str(
        "<h2>What was stopped</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>threat</th><th class=\"number\">cases</th>\
         <th class=\"number\">held</th><th class=\"number\">undetected</th></tr></thead>\n<tbody>\n",
    );
    let summary = &report.summary;
    for (threat, tally) in &summary.attacks {
        tally_row(page, &threat.to_string(), *tally)?;
    }
    tally_row(page, "honest guests", summary.benign)?;
    tally_row(page, "old faults", summary.regressions)?;
    page.push_str("</tbody></table></div>\n");
    Ok(())
}

fn tally_row(page: &mut String, name: &str, tally: Tally) -> fmt::Result {
    let Tally {
        cases,
        held,
        undetected,
    } = tally;
    let class = if undetected > 0 { "number bad" } else { "number" };
    writeln!(
        page,
        "<tr><td>{}</td><td class=\"number\">{cases}</td><td class=\"number\">{held}</td><td class=\"{class}\">{undetected}</td></tr>",
        Text(name)
    )
}

fn matrix(page: &mut String, report: &Report) -> fmt::Result {
    let matrix = Matrix::of(&report.cases);
    let is_told = |worth: &Worth| !matches!(worth, Worth::No | Worth::Untold);
    let is_column = |layer: &Layer| {
        let mut cells = matrix.rows.iter().flat_map(|row| &row.worth);
        cells.any(|(of, worth)| of == layer && is_told(worth))
    };
    let layers: Vec<Layer> = Layer::ALL.iter().copied().filter(is_column).collect();
    if layers.is_empty() {
        return Ok(());
    }
    write!(
        page,
        "<h2>Which layer stops which attack</h2>\n<p class=\"facts legend\">{LEGEND}</p>\n\
         <div class=\"scroll\"><table class=\"matrix\">\n<thead><tr><th>attack</th><th>depth</th>"
    )?;
    for layer in &layers {
        write!(page, "<th class=\"layer\" scope=\"col\">{layer}</th>")?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &matrix.rows {
        write!(
            page,
            "<tr><td class=\"id\">{}</td><td>{}</td>",
            Text(&row.case),
            row.depth
        )?;
        for (_, worth) in row.worth.iter().filter(|(layer, _)| layers.contains(layer)) {
            let class = if *worth == Worth::Disputed {
                " class=\"bad\""
            } else {
                ""
            };
            write!(page, "<td{class}>{}</td>", worth.mark())?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
    Ok(())
}

/// What can be chosen: the name of the choice, and its values.
fn choices(report: &Report) -> [(&'static str, Vec<String>); 3] {
    let threats = report.summary.attacks.keys().map(ToString::to_string);
    let kinds = threats.chain(["honest".to_owned(), "fault".to_owned()]).collect();
    let verdicts = ["passed", "failed", "unknown"].map(str::to_owned).to_vec();
    let stopped: BTreeSet<&str> = report.cases.iter().filter_map(stopper).map(Layer::name).collect();
    let layers = stopped.into_iter().map(str::to_owned).collect();
    [("kind", kinds), ("verdict", verdicts), ("layer", layers)]
}

/// Rules that hide what is not chosen. Every value is a word of ours.
struct Filters<'a>(&'a Report);

impl Display for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, values) in choices(self.0) {
            for value in values {
                writeln!(
                    f,
                    "body:has(#{name} option[value=\"{value}\"]:checked) details:not([data-{name}=\"{value}\"]) {{ display: none; }}"
                )?;
            }
        }
        Ok(())
    }
}

fn cases(page: &mut String, report: &Report) -> fmt::Result {
    page.push_str("<h2>Cases</h2>\n<div class=\"filters\">\n");
    for (name, values) in choices(report) {
        write!(
            page,
            "<label>{name} <select id=\"{name}\"><option value=\"\">all</option>"
        )?;
        for value in values {
            write!(page, "<option value=\"{value}\">{value}</option>")?;
        }
        page.push_str("</select></label>\n");
    }
    page.push_str("</div>\n");
    report.cases.iter().try_for_each(|case| one_case(page, case))
}

fn one_case(page: &mut String, case: &CaseReport) -> fmt::Result {
    let kind = match case.threat {
        Some(threat) => threat.to_string(),
        None if case.is_regression => "fault".to_owned(),
        None => "honest".to_owned(),
    };
    let (class, verdict) = if case.is_unknown() {
        ("unsure", "unknown")
    } else if case.passed() {
        ("good", "passed")
    } else {
        ("bad", "failed")
    };
    let layer = stopper(case).map_or("", Layer::name);
    writeln!(
        page,
        "<details data-kind=\"{kind}\" data-verdict=\"{verdict}\" data-layer=\"{layer}\">\
         <summary><span class=\"id\">{}</span><span>{}</span><span>{layer}</span><span class=\"{class}\">{verdict}</span></summary>\n\
         <div><p>{}</p>\n<div class=\"scroll\"><table><thead><tr><th>trial</th><th>outcome</th><th>layer</th>\
         <th class=\"number\">guest ms</th><th class=\"number\">all ms</th><th>verdict</th></tr></thead>\n<tbody>",
        Text(&case.id),
        case.expect,
        Text(&case.why),
    )?;
    case.trials.iter().try_for_each(|trial| trial_row(page, trial))?;
    page.push_str("</tbody></table></div>\n");
    case.trials.iter().try_for_each(|trial| trail(page, trial))?;
    page.push_str("</div></details>\n");
    Ok(())
}

fn stopper(case: &CaseReport) -> Option<Layer> {
    case.trials.first().and_then(|trial| trial.layer)
}

fn trial_row(page: &mut String, trial: &TrialReport) -> fmt::Result {
    let class = match &trial.verdict {
        Verdict::Passed => "good",
        Verdict::Failed(_) => "bad",
        Verdict::Unknown(_) => "unsure",
    };
    let because = people::because(&trial.verdict).unwrap_or_else(|| "passed".to_owned());
    writeln!(
        page,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"{class}\">{}</td></tr>",
        trial.trial.name(),
        trial.class.map_or("", |class| class.name()),
        trial.layer.map_or("", Layer::name),
        trial.guest_ms,
        trial.total_ms,
        Text(&because),
    )
}

fn trail(page: &mut String, trial: &TrialReport) -> fmt::Result {
    if trial.trail.is_empty() {
        return Ok(());
    }
    writeln!(page, "<p>Trail of {}:</p>\n<ol>", trial.trial.name())?;
    for event in &trial.trail {
        writeln!(page, "<li>{}</li>", Text(&in_words(event)))?;
    }
    page.push_str("</ol>\n");
    Ok(())
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Admitted { profile, .. } => format!("admitted as a member of {profile}"),
        Event::Started => "started".to_owned(),
        Event::Decided {
            action,
            resource,
            allowed,
            policies,
        } => {
            let answer = if *allowed { "allowed" } else { "denied" };
            format!("{answer}: {action} on {resource} ({})", policies.join(", "))
        }
        Event::Called { function, calls, bytes } => format!("called {function} {calls} times, with {bytes} bytes"),
        Event::Held { buffers, bytes } => format!("still held {buffers} buffers, {bytes} bytes"),
        Event::Refused { class, layer } => {
            let by = layer.map_or(String::new(), |layer| format!(" by {layer}"));
            format!("refused: {class}{by}")
        }
    }
}
