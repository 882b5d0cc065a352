//! Policies, laid out as Cedar lays them out.
//!
//! Cedar's formatter keeps no blank line that it does not make itself, so the head of a file would stick to the first
//! policy. It is given one policy at a time here, and the comments between policies keep their paragraphs. What comes back
//! is believed only after comparing: the same policies, the same comments, and nothing left to do.

use std::str::FromStr as _;

use cedar_policy::{ParseErrors, PolicySet};
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use serde::Serialize;

use crate::finding::{Code, Finding, Location};
use crate::limits::refuse_policy;
use crate::parse::{Written, described};
use crate::split::{Piece, comments, pieces};
use crate::store::Source;

/// What Cedar's own command line uses.
const LINE_WIDTH: usize = 80;
const INDENT_WIDTH: isize = 2;

/// Cedar's formatter settles in one pass, two where comments move.
const MOST_PASSES: usize = 4;

/// A file's policies, laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    /// The whole file.
    pub text: String,
    /// Where it differs from what was given; nothing where it was laid out so already.
    pub edits: Vec<Edit>,
}

/// Lines that are replaced by others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// The first of the old lines, from 1.
    pub line: usize,
    /// As they are.
    pub old: Vec<String>,
    /// As they should be.
    pub new: Vec<String>,
}

/// Why a file is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It holds something that is no policy.
    #[error("it does not parse")]
    Syntax(Vec<Finding>),
    /// Laying a policy out would lose a comment or change what it says.
    #[error("{0} cannot be laid out without losing a comment or a policy")]
    Lossy(Location),
}

/// Lays policies out.
///
/// # Errors
///
/// When a policy does not parse, or laying it out would lose something.
pub fn format(source: &Source) -> Result<Formatted, FormatError> {
    let text = &source.text;
    let mut segments = Vec::new();
    let (mut end, mut line) = (0, 1);
    for piece in pieces(text) {
        let before = Gap::new(text.get(end..piece.offset).unwrap_or_default(), end == 0);
        let policy = policy(Written { source, piece })?;
        let next = piece.offset + piece.text.len();
        let old = text.get(end..next).unwrap_or_default();
        segments.push(Segment {
            old,
            line,
            new: before.above_a_policy() + &policy,
        });
        line += old.matches('\n').count();
        end = next;
    }
    segments.push(Segment {
        old: text.get(end..).unwrap_or_default(),
        line,
        new: Gap::new(text.get(end..).unwrap_or_default(), end == 0).at_the_end(),
    });
    let formatted: String = segments.iter().map(|segment| segment.new.as_str()).collect();
    if !says_the_same(&formatted, text) {
        return Err(FormatError::Lossy(Location::new(&source.name, text, 0, 0)));
    }
    Ok(Formatted {
        edits: segments.iter().filter_map(Segment::edit).collect(),
        text: formatted,
    })
}

/// A policy and what stands before it.
struct Segment<'a> {
    old: &'a str,
    /// Where the old text starts.
    line: usize,
    new: String,
}

impl Segment<'_> {
    fn edit(&self) -> Option<Edit> {
        if self.old == self.new {
            return None;
        }
        let (old, new): (Vec<&str>, Vec<&str>) = (self.old.split('\n').collect(), self.new.split('\n').collect());
        let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(old, new)| old == new).count();
        let before = same(&mut old.iter().zip(&new));
        let after = same(&mut old.iter().skip(before).rev().zip(new.iter().skip(before).rev()));
        let middle = |lines: &[&str]| -> Vec<String> {
            let kept = lines.get(before..lines.len().saturating_sub(after)).unwrap_or_default();
            kept.iter().map(|line| (*line).to_owned()).collect()
        };
        Some(Edit {
            line: self.line + before,
            old: middle(&old),
            new: middle(&new),
        })
    }
}

/// What stands between two policies: comments and blank lines.
struct Gap<'a> {
    is_first: bool,
    /// Behind the policy before, on its last line.
    trailing: &'a str,
    /// Comments; an empty one stands for any number of blank lines.
    lines: Vec<&'a str>,
}

impl<'a> Gap<'a> {
    fn new(text: &'a str, is_first: bool) -> Self {
        let (trailing, rest) = match text.split_once(['\n', '\r']) {
            _ if is_first => ("", text),
            Some((trailing, rest)) => (trailing, rest),
            None => (text, ""),
        };
        let mut lines: Vec<&str> = Vec::new();
        // The last piece of text is the beginning of the policy's first line.
        for line in rest
            .trim_end_matches([' ', '\t'])
            .lines()
            .flat_map(|line| line.split('\r'))
        {
            let line = line.trim();
            if !(line.is_empty() && lines.last().is_none_or(|last| last.is_empty())) {
                lines.push(line);
            }
        }
        Self {
            is_first,
            trailing: trailing.trim(),
            lines,
        }
    }

    fn above_a_policy(&self) -> String {
        let mut text = self.after_the_policy_before();
        if !self.is_first {
            text.push('\n');
        }
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn at_the_end(&self) -> String {
        let mut text = self.after_the_policy_before();
        let last = self.lines.iter().rposition(|line| !line.is_empty());
        let lines = last.and_then(|last| self.lines.get(..=last)).unwrap_or_default();
        if !self.is_first && !lines.is_empty() {
            text.push('\n');
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn after_the_policy_before(&self) -> String {
        match (self.is_first, self.trailing) {
            (true, _) => String::new(),
            (false, "") => "\n".to_owned(),
            (false, comment) => format!(" {comment}\n"),
        }
    }
}

/// One policy, laid out.
fn policy(written: Written<'_>) -> Result<String, FormatError> {
    let Piece { text, .. } = written.piece;
    refuse_policy(written).map_err(|finding| FormatError::Syntax(vec![finding]))?;
    meaning(text).map_err(|errors| {
        let findings = errors.iter().map(|error| described(Code::Syntax, error, written));
        FormatError::Syntax(findings.collect())
    })?;
    let lossy = || FormatError::Lossy(written.first_line());
    let config = Config {
        line_width: LINE_WIDTH,
        indent_width: INDENT_WIDTH,
    };
    let mut current = text.to_owned();
    for _ in 0..MOST_PASSES {
        let next = policies_str_to_pretty(&current, &config).map_err(|_| lossy())?;
        let next = next.trim_end();
        if next == current {
            return if says_the_same(next, text) {
                Ok(current)
            } else {
                Err(lossy())
            };
        }
        next.clone_into(&mut current);
    }
    Err(lossy())
}

/// The same policies and the same comments, in the same order.
fn says_the_same(formatted: &str, given: &str) -> bool {
    let is_same = match (meaning(formatted), meaning(given)) {
        (Ok(formatted), Ok(given)) => formatted == given,
        _ => false,
    };
    is_same && comments(formatted) == comments(given)
}

/// What policies say, in a form that has no layout.
fn meaning(text: &str) -> Result<serde_json::Value, Box<ParseErrors>> {
    // What parses has a JSON form; what had none would be equal to its own text only.
    let set = PolicySet::from_str(text).map_err(Box::new)?;
    Ok(set.to_json().unwrap_or_else(|_| text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SourceKind;

    fn source(text: &str) -> Source {
        Source {
            name: "a.cedar".to_owned(),
            text: text.to_owned(),
            kind: SourceKind::Policies,
        }
    }

    #[track_caller]
    fn assert_formatted(text: &str, wanted: &str) {
        let formatted = format(&source(text)).unwrap();
        assert_eq!(formatted.text, wanted);
        assert_eq!(formatted.edits.is_empty(), text == wanted, "{:?}", formatted.edits);
        assert_eq!(format(&source(wanted)).unwrap().edits, [], "it would be changed again");
    }

    const PLAIN: &str = "@id(\"a\")\npermit (principal, action, resource);\n";

    #[test]
    fn policies_are_laid_out() {
        assert_formatted("@id(\"a\")permit(principal,action,resource);", PLAIN);
        assert_formatted(PLAIN, PLAIN);
        assert_formatted("", "");
        assert_formatted("\n\n", "");
        assert_formatted(
            "permit(principal,action,resource);forbid(principal,action,resource);",
            "permit (principal, action, resource);\n\nforbid (principal, action, resource);\n",
        );
    }

    #[test]
    fn comments_keep_their_paragraphs() {
        let text = "// The head\n//\n// of it\n\n// ---- part ----\n\n// Why.\n@id(\"a\")\npermit (principal, action, resource); // yes\n\n// Its twin.\n@id(\"b\")\nforbid (principal, action, resource);\n\n// The end.\n";
        assert_formatted(text, text);
        assert_formatted(&text.replace("\n\n", "\n\n\n  \n"), text);
        assert_formatted(&text.replace('\n', "\r\n"), text);
        assert_formatted("// only this", "// only this\n");
    }

    #[test]
    fn comments_inside_a_policy_survive() {
        let text = "permit ( // who\nprincipal, action, // what\nresource) when { // if\ntrue // always\n};";
        let formatted = format(&source(text)).unwrap().text;
        assert_eq!(comments(&formatted), ["// who", "// what", "// if", "// always"]);
    }

    #[test]
    fn a_string_is_no_comment_and_keeps_its_lines() {
        let text = "permit (principal, action, resource)\nwhen { context.name == \"// \\\" not\n\n\n one\" };\n";
        assert_eq!(comments(text), [""; 0]);
        assert_formatted(text, text);
    }

    #[test]
    fn templates_are_laid_out_too() {
        assert_formatted(
            "permit(principal==?principal,action,resource);",
            "permit (\n  principal == ?principal,\n  action,\n  resource\n);\n",
        );
    }

    #[test]
    fn what_does_not_parse_is_left() {
        let Err(FormatError::Syntax(findings)) = format(&source(&format!("{PLAIN}\npermit (principal action);")))
        else {
            panic!("it parsed");
        };
        assert_eq!(findings[0].location.as_ref().map(|at| at.line), Some(4));
    }

    #[test]
    fn comments_survive_wherever_they_stand() {
        let words = [
            "@id",
            "(",
            "\"a\"",
            ")",
            "permit",
            "(",
            "principal",
            "in",
            "Profile",
            "::",
            "\"p\"",
            ",",
            "action",
            "in",
            "[",
            "Action",
            "::",
            "\"read\"",
            ",",
            "Action",
            "::",
            "\"update\"",
            "]",
            ",",
            "resource",
            ")",
            "when",
            "{",
            "if",
            "resource",
            ".",
            "table",
            "like",
            "\"a*\"",
            "then",
            "context",
            "has",
            "trigger",
            "&&",
            "!",
            "[",
            "\"b\"",
            "]",
            ".",
            "contains",
            "(",
            "resource",
            ".",
            "name",
            ")",
            "else",
            "true",
            "}",
            ";",
        ];
        for at in 0..=words.len() {
            let (before, after) = words.split_at(at);
            let text = format!("{} // c {at}\n// d\n{}", before.join(" "), after.join(" "));
            let formatted = format(&source(&text)).unwrap();
            assert_eq!(
                comments(&formatted.text),
                [format!("// c {at}").as_str(), "// d"],
                "{}",
                formatted.text
            );
        }
    }

    #[test]
    fn a_loss_is_noticed() {
        let given = "@id(\"a\") permit (principal, action, resource); // why\nforbid (principal, action, resource);";
        assert!(says_the_same(&given.replace(", ", "  ,\n"), given));
        for (what, without) in [
            ("// why", ""),
            ("// why", "// why not"),
            ("forbid (principal, action, resource);", ""),
            ("forbid", "permit"),
            ("@id(\"a\")", "@id(\"b\")"),
            ("resource); //", "resource) when { false }; //"),
            (");", ")"),
        ] {
            assert!(!says_the_same(&given.replace(what, without), given), "{what}");
        }
    }

    #[test]
    fn what_nests_too_deep_is_left() {
        let nested = |depth: usize| {
            format!(
                "permit (principal, action, resource) when {{ {}true{} }};",
                "(".repeat(depth),
                ")".repeat(depth)
            )
        };
        let chained = |operators: usize| {
            format!(
                "permit (principal, action, resource) when {{ true{} }};",
                " && true".repeat(operators)
            )
        };
        assert!(format(&source(&nested(60))).is_ok());
        assert!(format(&source(&chained(250))).is_ok());
        for text in [nested(70), nested(10_000), chained(300), chained(5_000)] {
            let Err(FormatError::Syntax(findings)) = format(&source(&text)) else {
                panic!("it was laid out");
            };
            assert_eq!(findings[0].code, Code::TooDeep);
        }
        let strings = format!(
            "permit (principal, action, resource) when {{ [{}].contains(\"\") }};",
            "\"((&&\", ".repeat(5000)
        );
        assert!(format(&source(&strings)).is_ok());
    }

    #[test]
    fn an_edit_names_the_lines_that_change() {
        let text = format!("{PLAIN}\n@id(\"b\")\npermit(principal, action, resource);\n");
        let edit = Edit {
            line: 5,
            old: vec!["permit(principal, action, resource);".to_owned()],
            new: vec!["permit (principal, action, resource);".to_owned()],
        };
        assert_eq!(format(&source(&text)).unwrap().edits, [edit]);
    }

    #[test]
    fn what_is_shipped_is_laid_out() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seen = 0;
        for folder in ["profiles", "examples"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|kind| kind == "cedar") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    assert_eq!(format(&source(&text)).unwrap().edits, [], "{}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 8, "only {seen} files");
    }
}
