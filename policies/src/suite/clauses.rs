//! The conditions of a policy, taken apart where it is written.
//!
//! Cedar's own trees say what a condition means and not where it stands, so the text is cut here: into its clauses, and
//! those at `&&` and `||`. Each piece is then parsed and evaluated by Cedar.

use std::ops::Range;
use std::str::FromStr as _;

use cedar_policy::{Entities, EvalResult, Expression, Policy, Request, eval_expression};

use crate::finding::Location;
use crate::parse::LoadedPolicy;

/// One `when` or `unless`.
pub(super) struct WrittenClause {
    pub(super) is_unless: bool,
    pub(super) condition: Condition,
}

/// A condition and what it is made of.
pub(super) struct Condition {
    pub(super) location: Location,
    /// As it is written, on one line.
    pub(super) text: String,
    /// What it has come to so far.
    pub(super) seen: Outcomes,
    parts: Parts,
}

enum Parts {
    /// `a && b`, up to the first that is false.
    All(Vec<Condition>),
    /// `a || b`, up to the first that is true.
    Any(Vec<Condition>),
    /// `!(…)`
    Not(Box<Condition>),
    One(Box<Expression>),
}

/// What something has come to at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcomes {
    pub(super) yes: bool,
    pub(super) no: bool,
    pub(super) error: bool,
}

impl Outcomes {
    /// `None` is an error.
    pub(super) fn add(&mut self, outcome: Option<bool>) {
        match outcome {
            Some(true) => self.yes = true,
            Some(false) => self.no = true,
            None => self.error = true,
        }
    }
}

/// The clauses of a policy, and the policy without them. Nothing where the text is not what Cedar parsed, as with a template.
pub(super) fn taken_apart(loaded: &LoadedPolicy) -> Option<(Policy, Vec<WrittenClause>)> {
    let text = loaded.text.as_str();
    let tokens = tokens(text);
    let found = clauses(text, &tokens);
    let scope = match found.first() {
        Some(first) => format!("{};", text.get(..first.starts)?),
        None => text.to_owned(),
    };
    let scope = Policy::parse(Some(loaded.policy.id().clone()), scope).ok()?;
    let cutter = Cutter { loaded, tokens };
    let clauses = found
        .iter()
        .map(|clause| {
            Some(WrittenClause {
                is_unless: clause.is_unless,
                condition: cutter.condition(clause.tokens.clone())?,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some((scope, clauses))
}

impl Condition {
    /// What it comes to, and with it every part that is looked at. `None` is an error.
    pub(super) fn evaluate(&mut self, request: &Request, entities: &Entities) -> Option<bool> {
        let outcome = self.outcome(request, entities);
        self.seen.add(outcome);
        outcome
    }

    fn outcome(&mut self, request: &Request, entities: &Entities) -> Option<bool> {
        match &mut self.parts {
            Parts::All(parts) => {
                for part in parts {
                    if !part.evaluate(request, entities)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            Parts::Any(parts) => {
                for part in parts {
                    if part.evaluate(request, entities)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Parts::Not(part) => part.outcome(request, entities).map(|is_so| !is_so),
            Parts::One(expression) => match eval_expression(request, entities, expression) {
                Ok(EvalResult::Bool(is_so)) => Some(is_so),
                _ => None,
            },
        }
    }

    /// It, and every operand of an `&&` or `||` in it.
    pub(super) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        self.each_part(visit);
    }

    fn each_part<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        match &self.parts {
            Parts::All(parts) | Parts::Any(parts) => parts.iter().for_each(|part| part.each(visit)),
            Parts::Not(part) => part.each_part(visit),
            Parts::One(_) => {}
        }
    }
}

struct FoundClause {
    is_unless: bool,
    /// Where `when` or `unless` begins.
    starts: usize,
    /// What stands between the braces.
    tokens: Range<usize>,
}

fn clauses(text: &str, tokens: &[Token]) -> Vec<FoundClause> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let word = text.get(token.start..token.end).unwrap_or_default();
        let opens = tokens
            .get(at + 1)
            .is_some_and(|next| next.kind == Kind::Open && text.get(next.start..next.end) == Some("{"));
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 && opens && matches!(word, "when" | "unless") => {
                let close = closing(tokens, at + 1);
                found.push(FoundClause {
                    is_unless: word == "unless",
                    starts: token.start,
                    tokens: at + 2..close,
                });
                at = close;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The place of the bracket that closes this one.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

struct Cutter<'a> {
    loaded: &'a LoadedPolicy,
    tokens: Vec<Token>,
}

impl Cutter<'_> {
    fn condition(&self, range: Range<usize>) -> Option<Condition> {
        let tokens = self.tokens.get(range.clone())?;
        let (first, last) = (tokens.first()?, tokens.last()?);
        let text = self.loaded.text.get(first.start..last.end)?;
        Some(Condition {
            location: within(&self.loaded.location, &self.loaded.text, first.start, text.len()),
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            seen: Outcomes::default(),
            parts: self.parts(range, text)?,
        })
    }

    fn parts(&self, range: Range<usize>, text: &str) -> Option<Parts> {
        let all = |ranges: Vec<Range<usize>>| -> Option<Vec<Condition>> {
            ranges.into_iter().map(|part| self.condition(part)).collect()
        };
        let first = self.tokens.get(range.start)?;
        // A choice is no operand: it stands alone, or in parentheses.
        let is_choice = text.get(..2) == Some("if") && first.end - first.start == 2;
        if !is_choice {
            let operands = self.split(range.clone(), Kind::Or);
            if operands.len() > 1 {
                return Some(Parts::Any(all(operands)?));
            }
            let operands = self.split(range.clone(), Kind::And);
            if operands.len() > 1 {
                return Some(Parts::All(all(operands)?));
            }
            if self.is_bracketed(range.clone()) {
                return self.parts_of(range.start + 1..range.end - 1);
            }
            if first.kind == Kind::Not && self.is_bracketed(range.start + 1..range.end) {
                let inner = self.condition(range.start + 2..range.end - 1)?;
                return Some(Parts::Not(Box::new(inner)));
            }
        }
        Expression::from_str(text).ok().map(|one| Parts::One(Box::new(one)))
    }

    fn parts_of(&self, range: Range<usize>) -> Option<Parts> {
        let (first, last) = (self.tokens.get(range.start)?, self.tokens.get(range.end - 1)?);
        let text = self.loaded.text.get(first.start..last.end)?;
        self.parts(range, text)
    }

    /// Cuts at every operator of this kind that stands in no bracket.
    fn split(&self, range: Range<usize>, operator: Kind) -> Vec<Range<usize>> {
        let mut depth = 0_usize;
        let mut start = range.start;
        let mut parts = Vec::new();
        for at in range.clone() {
            match self.tokens.get(at).map(|token| token.kind) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) => depth = depth.saturating_sub(1),
                Some(kind) if kind == operator && depth == 0 => {
                    parts.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(start..range.end);
        parts
    }

    /// Whether the whole of it is in one pair of parentheses.
    fn is_bracketed(&self, range: Range<usize>) -> bool {
        let is_open = self
            .tokens
            .get(range.start)
            .is_some_and(|token| token.kind == Kind::Open && self.loaded.text.get(token.start..token.end) == Some("("));
        is_open && range.len() > 2 && closing(&self.tokens, range.start) + 1 == range.end
    }
}

/// A place inside a policy, by its distance from the policy's start.
fn within(policy: &Location, text: &str, offset: usize, length: usize) -> Location {
    let inside = Location::new(&policy.source, text, offset, length);
    Location {
        line: policy.line + inside.line - 1,
        column: if inside.line == 1 {
            policy.column + inside.column - 1
        } else {
            inside.column
        },
        offset: policy.offset + inside.offset,
        ..inside
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    And,
    Or,
    Not,
    Word,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Brackets, connectives and words; strings are one token each, comments none.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let start = text.len() - rest.len();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (kind, length) = match c {
            '/' if rest.starts_with("//") => (None, rest.find('\n').unwrap_or(rest.len())),
            '"' => (Some(Kind::Other), string_length(rest)),
            '(' | '[' | '{' => (Some(Kind::Open), 1),
            ')' | ']' | '}' => (Some(Kind::Close), 1),
            '&' if rest.starts_with("&&") => (Some(Kind::And), 2),
            '|' if rest.starts_with("||") => (Some(Kind::Or), 2),
            '!' if rest.starts_with("!=") => (Some(Kind::Other), 2),
            '!' => (Some(Kind::Not), 1),
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Some(Kind::Word), length)
            }
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Kind::Other), c.len_utf8()),
        };
        tokens.extend(kind.map(|kind| Token {
            kind,
            start,
            end: start + length,
        }));
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// How long the string is that a text starts with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load;
    use crate::store::{Source, SourceKind, Stock};

    /// The conditions of a policy that starts on the third line, and where each stands.
    fn conditions(clauses: &str) -> Vec<(String, usize, usize)> {
        let text = format!("\n\n@id(\"a\") permit (principal, action == Action::\"read\", resource)\n{clauses};");
        let source = Source {
            name: "a.cedar".to_owned(),
            text,
            kind: SourceKind::Policies,
        };
        let ready = load(&[source], Stock::Without).ready.unwrap();
        let (_, clauses) = taken_apart(&ready.policies[0]).unwrap();
        let mut found = Vec::new();
        for clause in &clauses {
            clause.condition.each(&mut |condition| {
                found.push((
                    condition.text.clone(),
                    condition.location.line,
                    condition.location.column,
                ));
            });
        }
        found
    }

    fn row(text: &str, line: usize, column: usize) -> (String, usize, usize) {
        (text.to_owned(), line, column)
    }

    #[test]
    fn conditions_are_cut_at_their_connectives() {
        assert_eq!(conditions(""), []);
        assert_eq!(
            conditions(
                "when { resource.name == \"a || b\" && // && not here\n (context has trigger || resource.table like \"}*\") }"
            ),
            [
                row(
                    "resource.name == \"a || b\" && // && not here (context has trigger || resource.table like \"}*\")",
                    4,
                    8
                ),
                row("resource.name == \"a || b\"", 4, 8),
                row("(context has trigger || resource.table like \"}*\")", 5, 2),
                row("context has trigger", 5, 3),
                row("resource.table like \"}*\"", 5, 26),
            ]
        );
    }

    #[test]
    fn clauses_choices_and_negations_are_seen() {
        assert_eq!(
            conditions(
                "when { !(resource.name == \"a\" && resource.table != \"b\") } unless { if context has trigger then true else false }"
            ),
            [
                row("!(resource.name == \"a\" && resource.table != \"b\")", 4, 8),
                row("resource.name == \"a\"", 4, 10),
                row("resource.table != \"b\"", 4, 34),
                row("if context has trigger then true else false", 4, 68),
            ]
        );
    }
}
