//! What is wrong with a policy set, where, and what to do about it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::nearest::nearest;

macro_rules! codes {
    ($($severity:ident $variant:ident $name:literal)*) => {
        /// What kind of thing is wrong. The kebab-case names are stable: people search for them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = include_str!(concat!("../diagnostics/", $name, ".md"))] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name: `meter-with-holes`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// How bad every finding of this kind is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }

            /// What it means, why it matters, what to avoid and what to prefer, in Markdown: `policies/diagnostics/NAME.md`.
            ///
            /// A block marked `avoid` provokes the code and one marked `prefer` is clean, beside the stock profiles and in a
            /// profile `team` that is nested in `pure`, unless the example declares its own.
            #[must_use]
            pub const fn page(self) -> &'static str {
                match self { $(Self::$variant => include_str!(concat!("../diagnostics/", $name, ".md"))),* }
            }
        }
    };
}

codes! {
    Error Syntax "syntax"
    Error MissingId "missing-id"
    Error DuplicateId "duplicate-id"
    Error Link "link"
    Error Schema "schema"
    Error TooLarge "too-large"
    Error TooDeep "too-deep"
    Error Validation "validation"
    Error ValidationWarning "validation-warning"
    Error Entities "entities"
    Error ModuleDigest "module-digest"
    Error PublisherKey "publisher-key"
    Error UnknownProfile "unknown-profile"
    Error ProfileCycle "profile-cycle"
    Error ResourceId "resource-id"
    Error MeterResource "meter-resource"
    Error MeterNotInterval "meter-not-interval"
    Error MeterWithHoles "meter-with-holes"
    Error ForbidCanError "forbid-can-error"
    Error PlanMismatch "plan-mismatch"
    Warning UnlinkedTemplate "unlinked-template"
    Warning UnboundedMeter "unbounded-meter"
    Warning ReservedAction "reserved-action"
    Warning UnknownEntity "unknown-entity"
    Warning MeterNeverGranted "meter-never-granted"
    Warning RedundantPolicy "redundant-policy"
    Warning ShadowedPolicy "shadowed-policy"
    Warning ConstantCondition "constant-condition"
    Warning UnscopedPermit "unscoped-permit"
    Warning ProfileItself "profile-itself"
    Warning DangerousGrant "dangerous-grant"
    Warning LoosePattern "loose-pattern"
    Warning OddAmount "odd-amount"
    Warning BadAllow "bad-allow"
    Warning UnusedAllow "unused-allow"
}

impl Code {
    /// What it means, in one sentence: the first paragraph of its page.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.paragraph(1)
    }

    /// Why it matters: the second paragraph of its page.
    #[must_use]
    pub fn why(self) -> &'static str {
        self.paragraph(2)
    }

    fn paragraph(self, index: usize) -> &'static str {
        self.page().split("\n\n").nth(index).map_or("", str::trim)
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().copied().find(|code| code.name() == name);
        known.ok_or_else(|| UnknownCode {
            name: name.to_owned(),
            nearest: nearest(name, Self::ALL.iter().map(|code| code.name())),
        })
    }
}

/// No code has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no finding has the code `{name}`; {}", instead(nearest.as_deref()))]
pub struct UnknownCode {
    /// What was asked for.
    pub name: String,
    /// The code with the most similar name.
    pub nearest: Option<String>,
}

fn instead(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!(
            "the codes are {}",
            Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>().join(", ")
        ),
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not what was meant; loading goes on.
    Warning,
    /// Loading fails.
    Error,
}

/// Where in a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The source's name.
    pub source: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// Start, in bytes.
    pub offset: usize,
    /// Length, in bytes.
    pub length: usize,
}

impl Location {
    /// The place of `length` bytes at `offset`. An offset inside a character or past the end moves back to where one starts.
    pub(crate) fn new(source: &str, text: &str, offset: usize, length: usize) -> Self {
        let offset = (0..=offset.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        let before = text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            source: source.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            offset,
            length: length.min(text.len() - offset),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where.
    pub location: Option<Location>,
}

impl Finding {
    /// Something that makes loading fail.
    pub(crate) fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            help: None,
            location: None,
        }
    }

    /// Something to look at.
    pub(crate) fn warning(code: Code, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message)
        }
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    pub(crate) fn at(self, location: Option<Location>) -> Self {
        Self { location, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Finding {}

/// A finding that its policy allows, and why: `@allow("unscoped-permit: every guest may log")`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowed {
    /// What is allowed.
    pub finding: Finding,
    /// Why, in the author's words.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_counts_characters_and_keeps_bytes() {
        let text = "первый\nвторой слон";
        let offset = text.find("слон").unwrap_or_default();
        let location = Location::new("a.cedar", text, offset, 8);
        assert_eq!(
            (location.line, location.column, location.offset, location.length),
            (2, 8, 26, 8)
        );
    }

    #[test]
    fn a_location_stays_inside_the_text() {
        let location = Location::new("a.cedar", "é", 1, 99);
        assert_eq!((location.offset, location.length), (0, 2));
        let location = Location::new("a.cedar", "ab", 99, 99);
        assert_eq!(
            (location.line, location.column, location.offset, location.length),
            (1, 3, 2, 0)
        );
    }
}
