//! `policyctl diff`

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use stockade_policies::diff::{Answered, Change, Direction, Evidence, Example, Extent, What};
use stockade_policies::plan::Decision;
use stockade_policies::{Difference, PolicyStore, Principal, PrincipalKind};

use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::{findings, sources};

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The policies before: a file, a folder, or `-` for policies on standard input
    pub old: PathBuf,
    /// The policies after
    pub new: PathBuf,
    /// Leave the stock profiles out of both
    #[arg(long)]
    pub no_stock: bool,
    /// What makes the exit code 1; what cannot be told counts as both
    #[arg(long, value_enum, default_value = "none", value_name = "WHAT")]
    pub fail_on: FailOn,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Something is allowed that was not
    Widening,
    /// Something is no longer allowed
    Narrowing,
    /// Anything changed in effect
    Any,
    /// Nothing: a difference is no failure
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// For programs: one JSON object
    Json,
    /// For a pull request: a table
    Markdown,
}

/// Says what changed in effect between two policy sets.
pub(crate) fn diff(arguments: &Diff) -> Result<Exit, Failure> {
    if arguments.old == Path::new("-") && arguments.new == Path::new("-") {
        return Err(Failure::new(
            "the old and the new policies cannot both come from standard input",
        ));
    }
    let old = load(&arguments.old, arguments.no_stock);
    let new = load(&arguments.new, arguments.no_stock);
    let difference = stockade_policies::diff(&old?, &new?)?;
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&difference)?)?,
        Format::Human => write!(io::stdout(), "{}", human(&difference))?,
        Format::Markdown => write!(io::stdout(), "{}", markdown(&difference))?,
    }
    let fails = match arguments.fail_on {
        FailOn::Widening => difference.may_widen(),
        FailOn::Narrowing => difference.may_narrow(),
        FailOn::Any => !difference.is_empty(),
        FailOn::None => false,
    };
    Ok(if fails { Exit::Findings } else { Exit::Clean })
}

fn load(path: &Path, no_stock: bool) -> Result<PolicyStore, Failure> {
    let sources = sources::read(&[path.to_owned()])?;
    PolicyStore::load(&sources, sources::stock(no_stock, &sources)).map_err(|error| {
        findings::show(error.findings(), &sources);
        Failure::new(format!("the policies in `{}` do not load", path.display()))
    })
}

fn human(difference: &Difference) -> String {
    let mut text = String::new();
    for (principals, changes) in groups(difference) {
        let _ = writeln!(text, "{}", one_line(&everybody(&principals, &plain)));
        for change in changes {
            let line = format!(
                "  {:<10} {:<22} {:<30} {}",
                word(change.direction),
                subject(change),
                one_line(&values(change)),
                one_line(&policies(change, " -> ", &plain)),
            );
            let _ = writeln!(text, "{}", line.trim_end());
            for note in notes(change, &plain) {
                let _ = writeln!(text, "             {}", one_line(&note));
            }
        }
        text.push('\n');
    }
    text + &summary(difference) + "\n"
}

/// A table for a pull request, and the examples below it.
fn markdown(difference: &Difference) -> String {
    let mut text = format!("**Policies: {}**\n", summary(difference));
    if difference.is_empty() {
        return text;
    }
    text.push_str("\n| | who | what | before | after | policies |\n|---|---|---|---|---|---|\n");
    let mut examples = String::new();
    for (principals, changes) in groups(difference) {
        for change in changes {
            text.push_str(&markdown_row(&principals, change));
            let whose = everybody(&principals, &code);
            for note in notes(change, &code) {
                let _ = writeln!(examples, "- {whose}, {}: {note}", code(subject(change)));
            }
        }
    }
    if !examples.is_empty() {
        text.push('\n');
    }
    text + &examples
}

fn markdown_row(principals: &[&Principal], change: &Change) -> String {
    let direction = match change.direction {
        Direction::Narrowing => word(change.direction).to_owned(),
        Direction::Widening | Direction::Both | Direction::Unknown => format!("**{}**", word(change.direction)),
    };
    let (before, after) = sides(change, &cell);
    format!(
        "| {direction} | {} | {} | {before} | {after} | {} |\n",
        everybody(principals, &cell),
        cell(subject(change)),
        policies(change, " → ", &cell),
    )
}

/// Profiles inherit: those for whom the same changed are told about once.
fn groups(difference: &Difference) -> Vec<(Vec<&Principal>, &[Change])> {
    let mut groups: Vec<(Vec<&Principal>, &[Change])> = Vec::new();
    for found in &difference.principals {
        match groups.iter_mut().find(|(_, changes)| *changes == found.changes) {
            Some((principals, _)) => principals.push(&found.principal),
            None => groups.push((vec![&found.principal], &found.changes)),
        }
    }
    groups
}

fn summary(difference: &Difference) -> String {
    let directions = [
        Direction::Widening,
        Direction::Narrowing,
        Direction::Both,
        Direction::Unknown,
    ];
    let counted: Vec<String> = directions
        .into_iter()
        .map(|direction| {
            let count = difference
                .changes()
                .filter(|change| change.direction == direction)
                .count();
            (count, direction)
        })
        .filter(|(count, _)| *count > 0)
        .map(|(count, direction)| format!("{count} {}", word(direction)))
        .collect();
    if counted.is_empty() {
        return "no change in effect".to_owned();
    }
    counted.join(", ")
}

const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Widening => "widening",
        Direction::Narrowing => "narrowing",
        Direction::Both => "both",
        Direction::Unknown => "unknown",
    }
}

/// How a name is set apart from the words around it.
type Quote<'a> = &'a dyn Fn(&str) -> String;

fn listed(names: &[String], quote: Quote<'_>) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

fn plain(name: &str) -> String {
    name.to_owned()
}

fn everybody(principals: &[&Principal], quote: Quote<'_>) -> String {
    let each: Vec<String> = principals.iter().map(|principal| who(principal, quote)).collect();
    each.join(", ")
}

fn who(principal: &Principal, quote: Quote<'_>) -> String {
    let profile = quote(&principal.profile);
    let kind = match principal.kind {
        PrincipalKind::Profile => return format!("profile {profile}"),
        PrincipalKind::Module => "module",
        PrincipalKind::Caller => "caller",
    };
    if let Some(publisher) = &principal.publisher {
        format!("any {kind} that {} signed in profile {profile}", quote(publisher))
    } else if principal.is_anybody() {
        format!("any other {kind} in profile {profile}")
    } else {
        format!("{kind} {} in profile {profile}", quote(&principal.id))
    }
}

fn subject(change: &Change) -> &'static str {
    match &change.what {
        What::Profile { .. } => "profile",
        What::Confinement { .. } => "may run in",
        What::Bound { new, .. } => new.meter.action(),
        What::Action { action, .. } => action.id(),
        What::Unseen { .. } => "not compared",
    }
}

fn sides(change: &Change, quote: Quote<'_>) -> (String, String) {
    match &change.what {
        What::Profile { is_declared } => {
            let side = |is_declared| if is_declared { "declared" } else { "not declared" }.to_owned();
            (side(!is_declared), side(*is_declared))
        }
        What::Confinement { old, new } => {
            let side = |profiles: &Option<Vec<String>>| match profiles {
                None => "any profile".to_owned(),
                Some(profiles) => listed(profiles, quote),
            };
            (side(old), side(new))
        }
        What::Bound { old, new } => (old.bound.shown(old.meter.unit()), new.bound.shown(new.meter.unit())),
        What::Action { old, new, .. } => (extent(old).to_owned(), extent(new).to_owned()),
        What::Unseen { .. } => ("digests or own actions".to_owned(), "otherwise".to_owned()),
    }
}

const fn extent(answered: &Answered) -> &'static str {
    match answered.extent {
        Extent::Nothing => "not granted",
        Extent::Some => "granted on some",
        Extent::Everything => "granted",
    }
}

/// Both sides, once where they are the same.
fn values(change: &Change) -> String {
    let (before, after) = sides(change, &plain);
    if before == after {
        after
    } else {
        format!("{before} -> {after}")
    }
}

/// The policies of both sides, once where they are the same.
fn policies(change: &Change, between: &str, quote: Quote<'_>) -> String {
    let (old, new) = match &change.what {
        What::Profile { .. } | What::Confinement { .. } => return String::new(),
        What::Bound { old, new } => (&old.policies, &new.policies),
        What::Action { old, new, .. } => (&old.policies, &new.policies),
        What::Unseen { old, new } => (old, new),
    };
    let side = |policies: &[String]| match policies {
        [] => "none".to_owned(),
        some => listed(some, quote),
    };
    if old == new {
        side(new)
    } else {
        format!("{}{between}{}", side(old), side(new))
    }
}

/// The examples of a change, and what is not known about it.
fn notes(change: &Change, quote: Quote<'_>) -> Vec<String> {
    let What::Action { examples, .. } = &change.what else {
        return Vec::new();
    };
    let mut notes: Vec<String> = examples.iter().map(|example| told(example, quote)).collect();
    let also = if examples.is_empty() {
        "no example found"
    } else {
        "beyond that"
    };
    match (change.widening, change.narrowing) {
        (Evidence::Open, Evidence::Open) => notes.push(format!("{also}: cannot tell whether it is wider or narrower")),
        (Evidence::Open, _) => notes.push(format!("{also}: cannot tell whether it is wider")),
        (_, Evidence::Open) => notes.push(format!("{also}: cannot tell whether it is narrower")),
        _ => {}
    }
    notes
}

fn told(example: &Example, quote: Quote<'_>) -> String {
    let context = if example.context.is_empty() {
        String::new()
    } else {
        let pairs = example.context.iter().map(|(name, value)| format!("{name}: {value}"));
        format!(
            " with {}",
            quote(&format!("{{{}}}", pairs.collect::<Vec<_>>().join(", ")))
        )
    };
    let (old, new) = (decided(&example.old, quote), decided(&example.new, quote));
    format!("{}{context}: {old} -> {new}", quote(&example.resource))
}

fn decided(decision: &Decision, quote: Quote<'_>) -> String {
    let by = listed(&decision.policies, quote);
    match (decision.allowed, by.is_empty()) {
        (true, _) => format!("allowed by {by}"),
        (false, false) => format!("denied by {by}"),
        (false, true) => "denied, no policy permits it".to_owned(),
    }
}

/// A text as code in Markdown, whatever is in it.
fn code(text: &str) -> String {
    let text = one_line(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A backtick at an end would join the fence; one space on both sides is taken away again.
    let pad = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// As [`code`], in a table, where a bar would end the cell even inside code.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_holds_whatever_is_in_it() {
        assert_eq!(code("a-b"), "`a-b`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("<img src=x>\n# head"), "`<img src=x>\\n# head`");
        assert_eq!(cell("a|b"), "`a\\|b`");
    }
}
