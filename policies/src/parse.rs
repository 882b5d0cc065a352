//! Policy files: their policies and templates, each with an id and a place.

use std::collections::HashMap;

use cedar_policy::{Policy, PolicyId};
use miette::Diagnostic;

use crate::conditioned::Conditioned;
use crate::finding::{Code, Finding, Location};
use crate::limits::refuse_policy;
use crate::links::{Linked, LoadedTemplate};
use crate::schema::{Vocabulary, id, type_of};
use crate::split::{Piece, pieces};
use crate::store::Source;

/// One policy, as Cedar has it and as it was written.
#[derive(Debug, Clone)]
pub(crate) struct LoadedPolicy {
    pub(crate) id: String,
    pub(crate) policy: Conditioned,
    pub(crate) text: String,
    /// Its first line.
    pub(crate) location: Location,
    /// The built-in actions that its scope lets through.
    pub(crate) covered: Vec<String>,
    /// The actions of the user's own schema that its scope lets through.
    pub(crate) covered_own: Vec<String>,
    /// It came with the product.
    pub(crate) is_stock: bool,
    /// Its slots were filled.
    pub(crate) link: Option<Linked>,
}

impl LoadedPolicy {
    pub(crate) fn covers(&self, action: &str) -> bool {
        self.covered.iter().any(|covered| covered == action)
    }

    /// Whether a condition reads this attribute of anything but the context, or may. An attribute that is read is written, as it
    /// is or with escapes, and looking for that takes a fraction of what it takes to follow the condition.
    pub(crate) fn asks_for(&self, attribute: &str) -> bool {
        (self.text.contains(attribute) || self.text.contains('\\')) && self.policy.asks_for(attribute)
    }

    /// A condition may ask for the digest of a module, which nobody knows who does not have the module.
    #[cfg(feature = "workbench")]
    pub(crate) fn asks_for_a_digest(&self) -> bool {
        self.asks_for("sha256")
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
    pub(crate) fn at(self, offset: usize, length: usize) -> Location {
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

/// What policy files hold.
pub(crate) struct Parsed {
    pub(crate) policies: Vec<LoadedPolicy>,
    pub(crate) templates: Vec<LoadedTemplate>,
    /// Where each id is used first.
    pub(crate) seen: HashMap<String, Location>,
}

/// One policy file, cut into its policies.
pub(crate) struct Cut<'a> {
    pub(crate) source: &'a Source,
    pub(crate) pieces: Vec<Piece<'a>>,
    /// It came with the product.
    pub(crate) is_stock: bool,
}

impl<'a> Cut<'a> {
    pub(crate) fn new(source: &'a Source, is_stock: bool) -> Self {
        Self {
            source,
            pieces: pieces(&source.text),
            is_stock,
        }
    }
}

/// Parses every policy file, after what is parsed already. What is no policy is a finding, and left out.
pub(crate) fn parse(
    before: Vec<LoadedPolicy>,
    files: &[Cut<'_>],
    vocabulary: &Vocabulary,
    findings: &mut Vec<Finding>,
) -> Parsed {
    let mut parsed = Parsed {
        seen: before
            .iter()
            .map(|loaded| (loaded.id.clone(), loaded.location.clone()))
            .collect(),
        policies: before,
        templates: Vec::new(),
    };
    for file in files {
        let mut lines = Lines::default();
        for piece in &file.pieces {
            let written = Written {
                source: file.source,
                piece: *piece,
            };
            match read(written, &mut lines, vocabulary) {
                Err(mut problems) => findings.append(&mut problems),
                Ok(Read::Policy(policy)) => {
                    if parsed.is_new(&policy.id, &policy.location, findings) {
                        parsed.policies.push(LoadedPolicy {
                            is_stock: file.is_stock,
                            ..*policy
                        });
                    }
                }
                Ok(Read::Template(template)) => {
                    if parsed.is_new(&template.id, &template.location, findings) {
                        parsed.templates.push(*template);
                    }
                }
            }
        }
    }
    parsed
}

impl Parsed {
    fn is_new(&mut self, id: &str, place: &Location, findings: &mut Vec<Finding>) -> bool {
        if let Some(first) = self.seen.get(id) {
            findings.push(
                Finding::error(Code::DuplicateId, format!("the id `{id}` is used twice"))
                    .with_help(format!("it is also used at {first}"))
                    .at(Some(place.clone())),
            );
            return false;
        }
        self.seen.insert(id.to_owned(), place.clone());
        true
    }
}

enum Read {
    Policy(Box<LoadedPolicy>),
    Template(Box<LoadedTemplate>),
}

fn read(written: Written<'_>, lines: &mut Lines, vocabulary: &Vocabulary) -> Result<Read, Vec<Finding>> {
    refuse_policy(written).map_err(|finding| vec![finding])?;
    let policy = match Policy::parse(None, written.piece.text) {
        Ok(policy) => policy,
        Err(errors) => {
            return match LoadedTemplate::read(written) {
                Some(template) => template
                    .map(|template| Read::Template(Box::new(template)))
                    .map_err(|finding| vec![finding]),
                None => Err(errors
                    .iter()
                    .map(|error| described(Code::Syntax, error, written))
                    .collect()),
            };
        }
    };
    let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()).map(str::to_owned) else {
        return Err(vec![
            Finding::error(Code::MissingId, "a policy has no `@id`")
                .with_help("write `@id(\"what-it-is-for\")` above it; denials are reported by that name")
                .at(Some(written.first_line())),
        ]);
    };
    let (covered, covered_own) = covering(&policy, vocabulary);
    Ok(Read::Policy(Box::new(LoadedPolicy {
        policy: policy.new_id(PolicyId::new(&id)).into(),
        id,
        text: written.piece.text.to_owned(),
        location: lines.first_line_of(written),
        covered,
        covered_own,
        is_stock: false,
        link: None,
    })))
}

/// The actions that a policy's scope lets through: the built-in ones, and the user's own.
pub(crate) fn covering(policy: &Policy, vocabulary: &Vocabulary) -> (Vec<String>, Vec<String>) {
    let constraint = policy.action_constraint();
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    (
        owned(vocabulary.covered(&constraint)),
        owned(vocabulary.own.covered(&constraint)),
    )
}

/// How far the lines of a file are counted. Counting from the start for each policy takes a second for ten thousand.
#[derive(Default)]
struct Lines {
    offset: usize,
    newlines: usize,
}

impl Lines {
    /// The first line of a policy that comes after all those that were asked for before.
    fn first_line_of(&mut self, written: Written<'_>) -> Location {
        let Written { source, piece } = written;
        let between = source.text.get(self.offset..piece.offset).unwrap_or_default();
        self.newlines += between.matches('\n').count();
        self.offset = piece.offset;
        let before = source.text.get(..piece.offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Location {
            source: source.name.clone(),
            line: self.newlines + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            offset: piece.offset,
            length: piece.text.lines().next().map_or(0, str::len),
        }
    }
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
