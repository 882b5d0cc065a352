//! What is wrong with a policy set, where, and what to do about it.

use std::fmt;

use serde::Serialize;

macro_rules! codes {
    ($($variant:ident $name:literal $doc:literal)*) => {
        /// What kind of thing is wrong. The kebab-case names are stable: people search for them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $doc] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name: `meter-with-holes`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}

codes! {
    Syntax "syntax" "The text is not a Cedar policy."
    MissingId "missing-id" "A policy has no `@id`, so no denial could name it."
    DuplicateId "duplicate-id" "Two policies have the same `@id`."
    Template "template" "A policy has a slot, and nothing here links templates."
    Validation "validation" "A policy does not fit the schema."
    ValidationWarning "validation-warning" "A policy fits the schema but cannot mean what it says."
    Entities "entities" "An entities file cannot be read or does not fit the schema."
    UnknownProfile "unknown-profile" "A profile is named that is declared nowhere."
    ProfileCycle "profile-cycle" "A profile is nested in itself."
    ResourceId "resource-id" "A resource is named in a way that no request names it, so it can never match."
    MeterResource "meter-resource" "A policy on a meter names the wrong `Meter`, so it can never match."
    MeterNotInterval "meter-not-interval" "A condition on a meter is not linear, so it is not a number."
    MeterWithHoles "meter-with-holes" "A meter allows a larger amount and forbids a smaller one."
    ForbidCanError "forbid-can-error" "A forbid whose condition errors would silently not forbid."
    UnboundedMeter "unbounded-meter" "A meter is permitted without a limit."
    ReservedAction "reserved-action" "A policy names an action that nothing in this runtime asks about."
    PlanMismatch "plan-mismatch" "A compiled plan and Cedar's authorizer disagree, so the plan is not used."
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
