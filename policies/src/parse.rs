//! Policy files: their policies, each with an id and a place.

use std::collections::HashMap;

use cedar_policy::{Policy, PolicyId, Template};
use miette::Diagnostic;

use crate::finding::{Code, Finding, Location};
use crate::schema::{Vocabulary, id, type_of};
use crate::split::{Piece, pieces};
use crate::store::Source;

/// One policy, as Cedar has it and as it was written.
#[derive(Debug, Clone)]
pub(crate) struct LoadedPolicy {
    pub(crate) id: String,
    pub(crate) policy: Policy,
    pub(crate) text: String,
    /// Its first line.
    pub(crate) location: Location,
    /// The actions that its scope lets through.
    pub(crate) covered: Vec<String>,
    /// It came with the product.
    pub(crate) is_stock: bool,
}

impl LoadedPolicy {
    pub(crate) fn covers(&self, action: &str) -> bool {
        self.covered.iter().any(|covered| covered == action)
    }

    /// The entities of a type that the policy names, sorted.
    pub(crate) fn named(&self, type_: &str) -> Vec<String> {
        let literals = self.policy.entity_literals();
        let mut names: Vec<String> = literals
            .iter()
            .filter(|uid| type_of(uid) == type_)
            .map(|uid| id(uid).to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A policy's text and the file around it, to find places in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) source: &'a Source,
    pub(crate) piece: Piece<'a>,
}

impl Written<'_> {
    /// A place inside the policy, counted from its start.
    fn at(self, offset: usize, length: usize) -> Location {
        Location::new(&self.source.name, &self.source.text, self.piece.offset + offset, length)
    }

    /// The first line of such a place: enough to point at, short enough to print.
    fn first_line_at(self, offset: usize, length: usize) -> Location {
        let marked = self
            .piece
            .text
            .get(offset..offset.saturating_add(length))
            .unwrap_or_default();
        self.at(offset, marked.lines().next().map_or(length, str::len))
    }

    pub(crate) fn first_line(self) -> Location {
        self.first_line_at(0, self.piece.text.len())
    }
}

/// Parses every policy file; the flag says whether it came with the product. What is no policy is a finding, and left out.
pub(crate) fn parse<'a>(
    sources: impl IntoIterator<Item = (&'a Source, bool)>,
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
) -> Vec<LoadedPolicy> {
    let mut policies: Vec<LoadedPolicy> = Vec::new();
    let mut seen: HashMap<String, Location> = HashMap::new();
    for (source, is_stock) in sources {
        for piece in pieces(&source.text) {
            match policy_of(Written { source, piece }, vocabulary) {
                Err(mut problems) => findings.append(&mut problems),
                Ok(policy) => match seen.get(&policy.id) {
                    Some(first) => findings.push(
                        Finding::error(Code::DuplicateId, format!("the id `{}` is used twice", policy.id))
                            .with_help(format!("it is also used at {first}"))
                            .at(Some(policy.location)),
                    ),
                    None => {
                        seen.insert(policy.id.clone(), policy.location.clone());
                        policies.push(LoadedPolicy { is_stock, ..policy });
                    }
                },
            }
        }
    }
    policies
}

fn policy_of(written: Written<'_>, vocabulary: &Vocabulary) -> Result<LoadedPolicy, Vec<Finding>> {
    let text = written.piece.text;
    let policy = Policy::parse(None, text).map_err(|errors| not_a_policy(written, &errors))?;
    let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()).map(str::to_owned) else {
        return Err(vec![
            Finding::error(Code::MissingId, "a policy has no `@id`")
                .with_help("write `@id(\"what-it-is-for\")` above it; denials are reported by that name")
                .at(Some(written.first_line())),
        ]);
    };
    let covered = vocabulary
        .covered(&policy.action_constraint())
        .into_iter()
        .map(str::to_owned)
        .collect();
    Ok(LoadedPolicy {
        policy: policy.new_id(PolicyId::new(&id)),
        id,
        text: text.to_owned(),
        location: written.first_line(),
        covered,
        is_stock: false,
    })
}

fn not_a_policy(written: Written<'_>, errors: &cedar_policy::ParseErrors) -> Vec<Finding> {
    if Template::parse(None, written.piece.text).is_ok_and(|template| template.slots().next().is_some()) {
        return vec![
            Finding::error(Code::Template, "a policy has a slot and so is a template")
                .with_help("name the principal or resource; nothing here fills slots in")
                .at(Some(written.first_line())),
        ];
    }
    errors
        .iter()
        .map(|error| described(Code::Syntax, error, written))
        .collect()
}

/// A finding from one of Cedar's diagnostics, with its place inside a policy.
pub(crate) fn described(code: Code, error: &dyn Diagnostic, written: Written<'_>) -> Finding {
    let label = error.labels().and_then(|mut labels| labels.next());
    let location = match &label {
        Some(label) => written.first_line_at(label.offset(), label.len()),
        None => written.first_line(),
    };
    let finding = Finding::error(code, error.to_string()).at(Some(location));
    let expected = label
        .and_then(|label| label.label().map(str::to_owned))
        .filter(|label| !label.is_empty());
    match error.help().map(|help| help.to_string()).or(expected) {
        Some(help) => finding.with_help(help),
        None => finding,
    }
}
