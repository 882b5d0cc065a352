//! What was measured on one machine on one day, as a file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::figure::Figure;
use super::targets::Targets;

/// The version of the files that this program writes and reads.
const VERSION: u32 = 1;

/// What was measured on one machine on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The version of this file.
    pub run: u32,
    /// The day on which it began, in UTC: `2026-11-29`.
    pub date: String,
    /// What it was measured on, and of.
    pub host: Host,
    /// The figures, by the names of their quantities.
    pub figures: BTreeMap<String, Figure>,
    /// What was timed in turns.
    pub comparisons: Vec<Comparison>,
}

/// What was measured on, and what of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What the processor says that it is.
    pub processor: String,
    /// How many processors there are.
    pub processors: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Whether it was a release build: any other says nothing of one that is used.
    pub is_optimised: bool,
    /// Versions of Stockade, of the compiler, of the crates that were compared, and of what was compared in Python, where that was
    /// installed.
    pub versions: BTreeMap<String, String>,
}

/// Ways to do one thing, timed in turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The benchmark that timed them.
    pub bench: String,
    /// What was done.
    pub title: String,
    /// How much there was to do, where it was done for several sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// The ways, the baseline first.
    pub ways: Vec<WayTaken>,
    /// What the baseline seems to take in its second turns, in nanoseconds.
    pub control_nanos: f64,
}

/// How much there was to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// How many.
    pub count: u64,
    /// Of what: `policies`, `rows`.
    pub of: String,
}

/// What one way took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WayTaken {
    /// What it is called.
    pub name: String,
    /// Nanoseconds for one time, in its fastest round. Where several processes timed it, the baseline's is the middle one's, and
    /// what others took is that times the middle one of their ratios.
    pub nanos: f64,
}

/// Why files are no run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// A file is not what it should be.
    #[error("`{name}` is no run of benchmarks: {reason}; `ci/bench` writes them")]
    Malformed {
        /// The file's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Files of different machines, or of different versions.
    #[error(
        "`{name}` was measured on another machine or of other versions than the files before it: runs are not mixed"
    )]
    Mixed {
        /// The file's name.
        name: String,
    },
    /// Something is in two files.
    #[error("`{name}` measures `{what}` again: each benchmark's file is given once")]
    Twice {
        /// The file's name.
        name: String,
        /// What.
        what: String,
    },
    /// No file.
    #[error("there is no file to read")]
    Nothing,
}

/// The run whose figures the book has.
const PUBLISHED: (&str, &str) = (
    "benches/runs/2026-11-30.json",
    include_str!("../../../benches/runs/2026-11-30.json"),
);

impl Run {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(date: String, host: Host) -> Self {
        Self {
            run: VERSION,
            date,
            host,
            figures: BTreeMap::new(),
            comparisons: Vec::new(),
        }
    }

    /// The run whose figures the book has, from `benches/runs`.
    ///
    /// # Errors
    /// [`RunError::Malformed`] where the file is not what it should be.
    pub fn published() -> Result<Self, RunError> {
        Self::parse(PUBLISHED.0, PUBLISHED.1)
    }

    /// Reads a run.
    ///
    /// # Errors
    /// [`RunError::Malformed`].
    pub fn parse(name: &str, text: &str) -> Result<Self, RunError> {
        let malformed = |reason: String| RunError::Malformed {
            name: name.to_owned(),
            reason,
        };
        let run: Self = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if run.run != VERSION {
            return Err(malformed(format!(
                "it is of version {}, and this reads {VERSION}",
                run.run
            )));
        }
        let broken = run.figures.iter().find(|(_, figure)| !figure.is_sound());
        if let Some((id, figure)) = broken {
            return Err(malformed(format!("`{id}` cannot be {figure}")));
        }
        let targets = Targets::published().map_err(malformed)?;
        let stranger = run.figures.keys().find(|id| targets.quantity(id).is_none());
        match stranger {
            Some(id) => Err(malformed(format!("`{id}` is no quantity of benches/targets.yaml"))),
            None => Ok(run),
        }
    }

    /// Puts together what several benchmarks measured, one after the other: the date is the first's.
    ///
    /// # Errors
    /// [`RunError::Mixed`], [`RunError::Twice`], [`RunError::Nothing`].
    pub fn merged(parts: impl IntoIterator<Item = (String, Self)>) -> Result<Self, RunError> {
        let mut parts = parts.into_iter();
        let (_, mut merged) = parts.next().ok_or(RunError::Nothing)?;
        for (name, part) in parts {
            if part.host != merged.host {
                return Err(RunError::Mixed { name });
            }
            for (what, figure) in part.figures {
                if merged.figures.insert(what.clone(), figure).is_some() {
                    return Err(RunError::Twice { name, what });
                }
            }
            let again = part.comparisons.iter().find(|comparison| merged.has_timed(comparison));
            if let Some(Comparison { title, .. }) = again {
                return Err(RunError::Twice {
                    name,
                    what: title.clone(),
                });
            }
            merged.comparisons.extend(part.comparisons);
        }
        Ok(merged)
    }

    fn has_timed(&self, this: &Comparison) -> bool {
        let name = |comparison: &Comparison| {
            (
                comparison.bench.clone(),
                comparison.title.clone(),
                comparison.size.clone(),
            )
        };
        self.comparisons.iter().any(|comparison| name(comparison) == name(this))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn run() -> Run {
        let host = Host {
            processor: "one of a test".to_owned(),
            processors: 2,
            memory_bytes: 1 << 30,
            kernel: "6.0".to_owned(),
            is_optimised: true,
            versions: BTreeMap::from([("stockade".to_owned(), "0.1.0".to_owned())]),
        };
        Run::new("2026-01-31".to_owned(), host)
    }

    fn with(id: &str) -> Run {
        let mut run = run();
        run.figures.insert(id.to_owned(), Figure::exact(1.0));
        run
    }

    fn named(runs: impl IntoIterator<Item = Run>) -> Vec<(String, Run)> {
        let numbered = (1..).zip(runs);
        numbered.map(|(number, run)| (format!("{number}.json"), run)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let run = with("bound");
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(Run::parse("a.json", &text), Ok(run));
    }

    #[test]
    fn what_is_no_run_is_refused_by_name() {
        let text = |run: &Run| serde_json::to_string(run).unwrap();
        let mut broken = with("bound");
        broken.figures.insert(
            "bound".to_owned(),
            Figure {
                low: 2.0,
                ..Figure::exact(1.0)
            },
        );
        let later = Run { run: 2, ..run() };
        for (text, reason) in [
            ("{}".to_owned(), "missing field"),
            (text(&later), "of version 2"),
            (text(&broken), "`bound` cannot be"),
            (text(&with("poetry")), "`poetry` is no quantity"),
        ] {
            let said = Run::parse("a.json", &text).unwrap_err().to_string();
            assert!(said.contains("`a.json`") && said.contains(reason), "{said}");
        }
    }

    #[test]
    fn parts_become_one_run_and_strangers_do_not() {
        let merged = Run::merged(named([with("bound"), with("bit")])).unwrap();
        assert_eq!(merged.figures.len(), 2);
        let mut other = with("bit");
        other.host.kernel = "7.0".to_owned();
        let mixed = Run::merged(named([with("bound"), other]));
        assert_eq!(
            mixed,
            Err(RunError::Mixed {
                name: "2.json".to_owned()
            })
        );
        let twice = Run::merged(named([with("bound"), with("bound")]));
        assert!(matches!(twice, Err(RunError::Twice { .. })), "{twice:?}");
        assert_eq!(Run::merged([]), Err(RunError::Nothing));
    }

    #[test]
    fn a_file_without_figures_is_given_once_too() {
        let timed = |bench: &str, count| Run {
            comparisons: vec![Comparison {
                bench: bench.to_owned(),
                title: "layer by layer".to_owned(),
                size: Some(Size {
                    count,
                    of: "rows".to_owned(),
                }),
                ways: Vec::new(),
                control_nanos: 1.0,
            }],
            ..run()
        };
        let merged = Run::merged(named([timed("layers", 1), timed("layers", 2), timed("sql", 1)])).unwrap();
        assert_eq!(merged.comparisons.len(), 3);
        assert_eq!(
            Run::merged(named([timed("layers", 1), timed("sql", 1), timed("layers", 1)])),
            Err(RunError::Twice {
                name: "3.json".to_owned(),
                what: "layer by layer".to_owned()
            })
        );
    }
}
