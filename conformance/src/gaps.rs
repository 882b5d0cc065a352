//! What a subject fails today, and why: `conformance/expectations/<subject>.toml`.
//!
//! A failure that nobody wrote down is a finding. So is one that was written down and no longer happens: it is struck off, or
//! whoever looks later is lulled. And so is one whose date has passed: somebody has to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use serde::Deserialize;
use toml::value::{Date, Datetime};

use crate::scoreboard::{Score, Stand, Standing};

/// What one subject is known to fail.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gaps {
    /// Each with the cases that it explains.
    #[serde(default)]
    pub gap: Vec<Gap>,
}

/// One thing that a subject does not do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// What becomes of the cases instead.
    pub outcome: Standing,
    /// Why.
    pub reason: String,
    /// The last day on which that is believed.
    pub expires: Datetime,
    /// Whether it takes a slow machine, or one that is busy. Then the cases may also pass, or fail otherwise; they must be
    /// put to the test all the same.
    #[serde(default)]
    pub unsteady: bool,
    /// The cases.
    pub cases: Vec<String>,
}

/// Why expectations cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GapsError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, has a field that nobody knows, or lacks one.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Gaps {
    /// The gaps in a file. A file that is not there says that there are none.
    ///
    /// # Errors
    /// [`GapsError`] where it cannot be read, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, GapsError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|reason| GapsError::Syntax {
                path: path.to_owned(),
                reason,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(GapsError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let gaps: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut seen = BTreeSet::new();
        for gap in &gaps.gap {
            if gap.reason.trim().is_empty() {
                return Err("a gap has no `reason`".to_owned());
            }
            if !gap.outcome.is_failure() {
                return Err(format!("`{}` is no failure: it needs no gap", gap.outcome));
            }
            if gap.expires.date.is_none() || gap.expires.time.is_some() {
                return Err("`expires` is a date: 2027-01-31".to_owned());
            }
            if let Some(twice) = gap.cases.iter().find(|case| !seen.insert(case.as_str())) {
                return Err(format!("`{twice}` is in two gaps"));
            }
        }
        Ok(gaps)
    }

    /// What is otherwise than these gaps say, on a day; empty when all is as it is known to be. Gaps of cases that were not
    /// played say nothing.
    #[must_use]
    pub fn differences(&self, score: &Score, today: Day) -> Vec<String> {
        let known: BTreeMap<&str, &Gap> = self
            .gap
            .iter()
            .flat_map(|gap| gap.cases.iter().map(move |case| (case.as_str(), gap)))
            .collect();
        score
            .cases
            .iter()
            .filter_map(|stand| difference(stand, known.get(stand.case.as_str()).copied(), today))
            .collect()
    }
}

fn difference(stand: &Stand, known: Option<&Gap>, today: Day) -> Option<String> {
    let Stand {
        case,
        standing,
        because,
        ..
    } = stand;
    let wrong = match known {
        None => standing.is_failure().then(|| format!("and no gap says so: {because}")),
        Some(gap) if gap.outcome != *standing && !(gap.unsteady && standing.is_tried()) => {
            let advice = if standing.is_pass() { ": strike it off" } else { "" };
            Some(format!("and a gap says `{}`{advice}", gap.outcome))
        }
        Some(gap) => {
            let is_over = gap.expires.date.is_none_or(|date| Day::of(date) < today);
            is_over.then(|| format!("and the gap that says so expired on {}: look again", gap.expires))
        }
    };
    wrong.map(|wrong| format!("{case}: {standing}, {wrong}"))
}

/// A day: how many have gone since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// This day, as UTC counts it.
    #[must_use]
    pub fn today() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self(i64::try_from(seconds / (24 * 60 * 60)).unwrap_or(i64::MAX))
    }

    /// A date of the Gregorian calendar, with years that begin in March: the leap day is the last of its year.
    fn of(date: Date) -> Self {
        let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
        let year = if month <= 2 { year - 1 } else { year };
        let before_this_month = (153 * ((month + 9) % 12) + 2) / 5;
        let before_this_year = 365 * year + year / 4 - year / 100 + year / 400;
        // 1970-01-01 is the 719468th day since 0000-03-01.
        Self(before_this_year + before_this_month + day - 1 - 719_468)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAPS: &str = r#"
        [[gap]]
        outcome = "undetected"
        reason = "There is no clock."
        expires = 2027-02-28
        cases = ["sql/a", "sql/b"]
    "#;

    fn stand(case: &str, standing: Standing) -> Stand {
        Stand {
            case: case.to_owned(),
            threat: None,
            standing,
            class: None,
            because: String::new(),
        }
    }

    fn day(text: &str) -> Day {
        Day::of(text.parse::<Datetime>().unwrap().date.unwrap())
    }

    fn score(cases: Vec<Stand>) -> Score {
        Score {
            subject: String::new(),
            version: String::new(),
            attacks: BTreeMap::new(),
            benign: BTreeMap::new(),
            cases,
        }
    }

    fn differences(cases: Vec<Stand>, today: &str) -> Vec<String> {
        Gaps::parse(GAPS).unwrap().differences(&score(cases), day(today))
    }

    #[test]
    fn a_failure_that_is_written_down_is_no_difference() {
        let same = vec![
            stand("sql/a", Standing::Undetected),
            stand("sql/c", Standing::Stopped),
            stand("sql/d", Standing::Unsupported),
        ];
        assert_eq!(differences(same, "2027-02-28"), Vec::<String>::new());
    }

    #[test]
    fn anything_else_is() {
        for (case, standing, wanted) in [
            ("sql/c", Standing::Undetected, "no gap says so"),
            ("sql/a", Standing::Stopped, "strike it off"),
            // A skip is never a pass, and no known failure either.
            ("sql/a", Standing::Unsupported, "a gap says `undetected`"),
            ("sql/a", Standing::Inapplicable, "a gap says `undetected`"),
            ("sql/a", Standing::Hung, "a gap says `undetected`"),
            ("sql/a", Standing::Error, "a gap says `undetected`"),
        ] {
            let found = differences(vec![stand(case, standing)], "2027-02-28");
            assert!(
                found.len() == 1 && found[0].contains(wanted),
                "{case} {standing}: {found:?}"
            );
        }
    }

    #[test]
    fn an_unsteady_gap_may_close_and_may_not_be_skipped() {
        let gaps = Gaps::parse(&GAPS.replace("cases", "unsteady = true\n cases")).unwrap();
        let differences = |standing| gaps.differences(&score(vec![stand("sql/a", standing)]), day("2027-02-28"));
        for standing in [Standing::Undetected, Standing::Hung, Standing::Stopped] {
            assert_eq!(differences(standing), Vec::<String>::new(), "{standing}");
        }
        assert_eq!(differences(Standing::Unsupported).len(), 1);
        assert_eq!(differences(Standing::Harmless).len(), 1);
    }

    #[test]
    fn a_gap_is_believed_until_its_day_is_over() {
        let known = || vec![stand("sql/a", Standing::Undetected)];
        assert_eq!(differences(known(), "2027-02-28"), Vec::<String>::new());
        assert!(differences(known(), "2027-03-01")[0].contains("expired"));
    }

    #[test]
    fn days_follow_each_other_over_the_ends_of_months_and_years() {
        assert_eq!(day("1970-01-01"), Day(0));
        assert_eq!(day("2000-03-01").0 - day("2000-02-28").0, 2);
        assert_eq!(day("2027-03-01").0 - day("2027-02-28").0, 1);
        assert_eq!(day("2027-01-01").0 - day("2026-12-31").0, 1);
        // `date -d 2026-11-28 +%s` in days.
        assert_eq!(day("2026-11-28"), Day(1_795_824_000 / 86_400));
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        for (from, to) in [
            ("There is no clock.", " "),
            ("undetected", "stopped"),
            ("undetected", "unsupported"),
            ("2027-02-28", "2027-02-28T00:00:00"),
            ("sql/b", "sql/a"),
            ("cases", "case"),
        ] {
            assert!(Gaps::parse(&GAPS.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
