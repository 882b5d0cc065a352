//! What the hot paths take, held against what they took before: the judgement of `ci/instructions`.
//!
//! A path must not take more than its baseline by the margin. Nor less: then the baseline says what is no longer so, and has
//! to be written again, or the next change could give all of it away unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;

use crate::callgrind::{self, PerStep};

/// What counts depend on beside the code.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tools {
    /// The Rust compiler, and the kind of processor that it compiles for. Where these are others, nothing is compared.
    pub rustc: String,
    /// The C compiler, the C library and valgrind. Where these are others, SQLite and the C library are not compared.
    pub c: String,
}

/// What the hot paths took: `benches/instructions.yaml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Baseline {
    /// By what it was counted.
    #[serde(flatten)]
    pub tools: Tools,
    /// On which day.
    pub counted: String,
    /// How far a path may be from here, in percent.
    pub margin: f64,
    /// Instructions for one step, by path.
    pub paths: BTreeMap<String, PerStep>,
}

/// What is to be said of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes what it took.
    Same,
    /// It takes more.
    Costlier,
    /// It takes less.
    Cheaper,
    /// The baseline does not know it.
    New,
    /// It was not counted.
    Gone,
}

impl Verdict {
    fn of(margin: f64, percents: &[f64]) -> Self {
        let beyond = |percent: &&f64| percent.abs() > margin;
        // Who pays for one part with the other pays.
        match percents.iter().filter(beyond).copied().reduce(f64::max) {
            None => Self::Same,
            Some(percent) if percent > 0.0 => Self::Costlier,
            Some(_) => Self::Cheaper,
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Costlier => "COSTLIER",
            Self::Cheaper => "CHEAPER: update the baseline",
            Self::New => "NEW: update the baseline",
            Self::Gone => "NOT COUNTED",
        }
    }
}

/// One path, before and now.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The path.
    pub path: String,
    /// What the baseline has.
    pub before: Option<PerStep>,
    /// What was counted.
    pub now: Option<PerStep>,
    /// What is to be said of it.
    pub verdict: Verdict,
}

impl Judged {
    /// How much of the path is what the Rust compiler and Cranelift made, in percent of the baseline; nothing where all of it is, or
    /// nothing was compared.
    fn percent_of_rust(&self) -> Option<f64> {
        let PerStep { rust, all } = self.before.filter(|_| self.now.is_some())?;
        (rust < all).then_some(rust / all * 100.0)
    }
}

/// Every path of the baseline, and every one that was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// One line each, in the order of their names.
    pub paths: Vec<Judged>,
    /// Whether SQLite and the C library were compared.
    pub has_c: bool,
}

impl Baseline {
    /// Holds what was counted against this.
    ///
    /// # Errors
    /// Where it was counted by another Rust compiler: nothing can be compared.
    pub fn judge(&self, tools: &Tools, counted: &BTreeMap<String, PerStep>) -> Result<Table, String> {
        if self.tools.rustc != tools.rustc {
            return Err(format!(
                "the baseline was counted with another compiler or kind of processor (`{}`, and this is `{}`): run ci/instructions --update",
                self.tools.rustc, tools.rustc
            ));
        }
        let has_c = self.tools.c == tools.c;
        let names: BTreeSet<&String> = self.paths.keys().chain(counted.keys()).collect();
        let judged = names.into_iter().map(|path| {
            let (before, now) = (self.paths.get(path).copied(), counted.get(path).copied());
            let verdict = match (before, now) {
                (Some(before), Some(now)) if has_c => Verdict::of(
                    self.margin,
                    &[percent(before.rust, now.rust), percent(before.all, now.all)],
                ),
                (Some(before), Some(now)) => Verdict::of(self.margin, &[percent(before.rust, now.rust)]),
                (Some(_), None) => Verdict::Gone,
                (None, _) => Verdict::New,
            };
            Judged {
                path: path.clone(),
                before,
                now,
                verdict,
            }
        });
        Ok(Table {
            paths: judged.collect(),
            has_c,
        })
    }

    /// What it looks like as a file.
    #[must_use]
    pub fn as_yaml(&self) -> String {
        let mut text = format!(
            "# Instructions that one step of a hot path takes: `rust` by what the Rust compiler and Cranelift made, `all` with SQLite and the\n\
             # C library. Written by `ci/instructions --update`, compared by `ci/instructions`. These are no figures of a release: they are\n\
             # there to be compared with themselves.\n\
             counted: {}\nrustc: {}\nc: {}\n\
             # Percent. The same code counted again differed by at most 1.3; code beside it that is inlined otherwise makes some more.\n\
             margin: {}\npaths:\n",
            self.counted, self.tools.rustc, self.tools.c, self.margin
        );
        for (path, PerStep { rust, all }) in &self.paths {
            text += &format!("  {path}: {{ rust: {rust:.1}, all: {all:.1} }}\n");
        }
        text
    }
}

fn percent(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

impl Table {
    /// Whether every path takes what it took.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.paths.iter().all(|judged| judged.verdict == Verdict::Same)
    }

    /// What was not compared, in words: every path of which only a part was, and how large that is, the smallest first.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        if self.has_c {
            return None;
        }
        let parts = self.paths.iter();
        let mut parts: Vec<(&str, f64)> = parts
            .filter_map(|judged| Some((judged.path.as_str(), judged.percent_of_rust()?)))
            .collect();
        parts.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        let named: Vec<String> = parts
            .iter()
            .map(|(path, percent)| format!("{path} ({percent:.0} %)"))
            .collect();
        Some(format!(
            "SQLite and the C library are not compared: the baseline was counted with others; of these paths only a part is: {}",
            named.join(", ")
        ))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>12} {:>12} {:>8}   {:>12} {:>12} {:>8}   verdict",
            "path", "baseline", "counted", "percent", "and C", "counted", "percent"
        )?;
        for judged in &self.paths {
            write!(f, "{:<16} ", judged.path)?;
            let part = |of: fn(PerStep) -> f64| (judged.before.map(of), judged.now.map(of));
            write_part(f, part(|step| step.rust))?;
            write_part(
                f,
                if self.has_c {
                    part(|step| step.all)
                } else {
                    (None, None)
                },
            )?;
            match judged.percent_of_rust().filter(|_| !self.has_c) {
                Some(percent) => writeln!(f, "{}, as far as compared: {percent:.0} %", judged.verdict.in_words())?,
                None => writeln!(f, "{}", judged.verdict.in_words())?,
            }
        }
        if let Some(left_out) = self.left_out() {
            writeln!(f, "{left_out}")?;
        }
        Ok(())
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, (before, now): (Option<f64>, Option<f64>)) -> fmt::Result {
    let shown = |number: Option<f64>, form: fn(f64) -> String| number.map_or("-".to_owned(), form);
    let count = |number: f64| format!("{number:.1}");
    let both = before.zip(now).map(|(before, now)| percent(before, now));
    write!(
        f,
        "{:>12} {:>12} {:>8}   ",
        shown(before, count),
        shown(now, count),
        shown(both, |percent| format!("{percent:+.1}"))
    )
}

/// The least of several runs, of each part of each path: what is more was done by chance.
#[must_use]
pub fn least(runs: &[BTreeMap<String, PerStep>]) -> BTreeMap<String, PerStep> {
    let mut least: BTreeMap<String, PerStep> = BTreeMap::new();
    for (path, now) in runs.iter().flatten() {
        let seen = least.entry(path.clone()).or_insert(*now);
        seen.rust = seen.rust.min(now.rust);
        seen.all = seen.all.min(now.all);
    }
    least
}

/// How far a path may be from a baseline that is written for the first time, in percent.
const MARGIN: f64 = 5.0;

/// `judge` or `update`, the baseline's file, the Rust compiler, the other tools, the day, and a folder for each run, as
/// [`callgrind::counted`] has them. Prints the table, and says on standard error what was not compared. The exit code is 1 where
/// a path is not what it was.
///
/// # Errors
/// Where nothing can be compared.
pub fn command(words: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    let [verb, file, rustc, c, today, folders @ ..] = words else {
        return Err("usage: judge|update BASELINE RUSTC TOOLS DAY FOLDER...".into());
    };
    let runs = folders.iter().map(|folder| callgrind::counted(Path::new(folder)));
    let counted = least(&runs.collect::<Result<Vec<_>, _>>()?);
    let tools = Tools {
        rustc: (*rustc).to_owned(),
        c: (*c).to_owned(),
    };
    let baseline = || -> Result<Baseline, Box<dyn Error>> { Ok(serde_yaml::from_str(&fs::read_to_string(file)?)?) };
    if *verb == "update" {
        let margin = baseline().map_or(MARGIN, |baseline| baseline.margin);
        let counted = Baseline {
            tools,
            counted: (*today).to_owned(),
            margin,
            paths: counted,
        };
        fs::write(file, counted.as_yaml())?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = baseline()?.judge(&tools, &counted)?;
    print!("{table}");
    if let Some(left_out) = table.left_out() {
        eprintln!("ci/instructions: {left_out}");
    }
    Ok(ExitCode::from(u8::from(!table.is_same())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Tools {
        Tools {
            rustc: "rustc 1.95.0".to_owned(),
            c: "cc 12".to_owned(),
        }
    }

    fn paths(paths: &[(&str, f64, f64)]) -> BTreeMap<String, PerStep> {
        let named = paths.iter();
        named
            .map(|&(path, rust, all)| (path.to_owned(), PerStep { rust, all }))
            .collect()
    }

    fn baseline() -> Baseline {
        Baseline {
            tools: tools(),
            counted: "2026-11-29".to_owned(),
            margin: 3.0,
            paths: paths(&[("row", 100.0, 300.0)]),
        }
    }

    fn verdict(rust: f64, all: f64, tools: &Tools) -> Verdict {
        let table = baseline().judge(tools, &paths(&[("row", rust, all)])).unwrap();
        assert_eq!(table.is_same(), table.paths[0].verdict == Verdict::Same);
        table.paths[0].verdict
    }

    #[test]
    fn a_path_may_be_off_by_the_margin_and_no_further() {
        for (rust, all, expected) in [
            (100.0, 300.0, Verdict::Same),
            (102.9, 308.9, Verdict::Same),
            (97.1, 291.1, Verdict::Same),
            (103.1, 303.1, Verdict::Costlier),
            (96.9, 296.9, Verdict::Cheaper),
            (100.0, 309.1, Verdict::Costlier),
            (100.0, 290.9, Verdict::Cheaper),
        ] {
            assert_eq!(verdict(rust, all, &tools()), expected, "{rust} {all}");
        }
    }

    #[test]
    fn what_one_part_saves_does_not_pay_for_the_other() {
        assert_eq!(verdict(110.0, 280.0, &tools()), Verdict::Costlier);
        assert_eq!(verdict(90.0, 320.0, &tools()), Verdict::Costlier);
    }

    #[test]
    fn with_other_c_tools_only_rust_is_compared() {
        let other = Tools {
            c: "cc 13".to_owned(),
            ..tools()
        };
        assert_eq!(verdict(100.0, 400.0, &other), Verdict::Same);
        assert_eq!(verdict(110.0, 300.0, &other), Verdict::Costlier);
        let table = baseline().judge(&other, &paths(&[("row", 100.0, 400.0)])).unwrap();
        assert!(table.to_string().contains("are not compared"));
        assert!(!table.to_string().contains("400"));
    }

    #[test]
    fn what_was_compared_only_in_part_is_named() {
        let baseline = Baseline {
            paths: paths(&[("bit", 20.0, 20.0), ("row", 100.0, 400.0), ("scan", 10.0, 1000.0)]),
            ..baseline()
        };
        let table = |tools: &Tools| baseline.judge(tools, &baseline.paths).unwrap();
        assert_eq!(table(&tools()).left_out(), None);
        let other = Tools {
            c: "cc 13".to_owned(),
            ..tools()
        };
        let table = table(&other);
        assert!(
            table.left_out().unwrap().ends_with(": scan (1 %), row (25 %)"),
            "{table}"
        );
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("bit ") && lines[1].ends_with(" same"), "{table}");
        assert!(
            lines[2].starts_with("row ") && lines[2].ends_with(" same, as far as compared: 25 %"),
            "{table}"
        );
    }

    #[test]
    fn with_another_rust_compiler_nothing_is_compared() {
        let other = Tools {
            rustc: "rustc 1.96.0".to_owned(),
            ..tools()
        };
        let error = baseline().judge(&other, &paths(&[("row", 100.0, 300.0)])).unwrap_err();
        assert!(error.ends_with("run ci/instructions --update"), "{error}");
    }

    #[test]
    fn a_path_that_only_one_side_has_is_said() {
        let table = baseline().judge(&tools(), &paths(&[("scan", 1.0, 1.0)])).unwrap();
        let verdicts: Vec<_> = table
            .paths
            .iter()
            .map(|judged| (judged.path.as_str(), judged.verdict))
            .collect();
        assert_eq!(verdicts, [("row", Verdict::Gone), ("scan", Verdict::New)]);
        assert!(!table.is_same());
    }

    #[test]
    fn the_table_says_what_was_and_what_is() {
        let table = baseline().judge(&tools(), &paths(&[("row", 110.0, 310.0)])).unwrap();
        let text = table.to_string();
        let line = text.lines().nth(1).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            words,
            ["row", "100.0", "110.0", "+10.0", "300.0", "310.0", "+3.3", "COSTLIER"]
        );
    }

    #[test]
    fn the_least_of_several_runs_counts() {
        let runs = [
            paths(&[("row", 100.0, 330.0), ("scan", 7.0, 7.0)]),
            paths(&[("row", 110.0, 300.0), ("scan", 7.0, 7.0)]),
        ];
        assert_eq!(least(&runs), paths(&[("row", 100.0, 300.0), ("scan", 7.0, 7.0)]));
    }

    #[test]
    fn a_baseline_that_was_written_is_read_again() {
        assert_eq!(
            serde_yaml::from_str::<Baseline>(&baseline().as_yaml()).unwrap(),
            baseline()
        );
    }

    #[test]
    fn the_baseline_of_this_repository_is_read() {
        let baseline: Baseline = serde_yaml::from_str(include_str!("../instructions.yaml")).unwrap();
        assert!(baseline.margin > 0.0 && !baseline.paths.is_empty());
        assert_eq!(baseline.as_yaml(), include_str!("../instructions.yaml"));
    }
}
