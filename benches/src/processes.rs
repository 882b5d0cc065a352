//! The same benchmark in several processes, one after the other.
//!
//! Where code and memory come to lie is chosen once in each process, and what is timed there in turns keeps its place for all
//! rounds: the same loop can take a tenth longer in one process than in the next, however often it is timed. So a figure is
//! the middle one of several processes, and the interval is from the least of them to the most.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stockade_conformance::overhead::{Comparison, Figure, Run, WayTaken};

use crate::bootstrap::{few, percentile};
use crate::record::Record;

/// How many there are: so many draws of anything have its median between them in 94 of 100 cases.
pub const PROCESSES: usize = 5;

/// The file that one of them writes what it measured to.
const PART: &str = "STOCKADE_BENCH_PART";

/// Measures in several processes, each of which calls `main` again, and writes down what they found together. Where nothing
/// is measured there is one of them.
///
/// # Errors
/// Where one of them fails, or measures something else than the others, and as [`Record::finish`].
pub fn in_several(
    bench: &'static str,
    measure: impl FnOnce(&mut Record) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut record = Record::of(bench)?;
    if let Some(path) = part_to_write() {
        measure(&mut record)?;
        return record.write(&path).map_err(|error| error as Box<dyn Error>);
    }
    let folder = tempfile::tempdir()?;
    let count = if record.is_once() { 1 } else { PROCESSES };
    let mut parts = Vec::new();
    for number in 1..=count {
        if stderr().is_terminal() {
            eprintln!("{bench}: process {number} of {count}");
        }
        parts.push(part(&folder.path().join(format!("{number}.json")))?);
    }
    let (figures, comparisons) = together(&parts)?;
    for comparison in comparisons {
        record.compared(comparison);
    }
    for (id, figure) in figures {
        record.figure(&id, Some(figure));
    }
    record.finish().map_err(|error| error as Box<dyn Error>)
}

/// The file that this process writes what it measures to, where it measures for another.
pub(crate) fn part_to_write() -> Option<PathBuf> {
    env::var_os(PART).map(PathBuf::from)
}

/// What another process of this program measures.
fn part(path: &Path) -> Result<Run, Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "it is this program, and no guest")]
    let status = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(PART, path)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("a process that was to measure ended with {status}").into());
    }
    Ok(Run::parse(&path.display().to_string(), &fs::read_to_string(path)?)?)
}

/// The middle of what all of them measured.
fn together(parts: &[Run]) -> Result<(BTreeMap<String, Figure>, Vec<Comparison>), String> {
    let first = parts.first().ok_or("no process measured anything")?;
    let is_alike = |part: &Run| {
        part.host == first.host
            && part.figures.keys().eq(first.figures.keys())
            && part.comparisons.iter().map(what).eq(first.comparisons.iter().map(what))
    };
    if !parts.iter().all(is_alike) {
        return Err("two processes measured different things".to_owned());
    }
    let figure = |id: &String| {
        let all: Vec<Figure> = parts.iter().filter_map(|part| part.figures.get(id)).copied().collect();
        (id.clone(), middle_figure(&all))
    };
    let comparison = |(at, comparison): (usize, &Comparison)| {
        let all: Vec<&Comparison> = parts.iter().filter_map(|part| part.comparisons.get(at)).collect();
        middle_comparison(comparison, &all)
    };
    Ok((
        first.figures.keys().map(figure).collect(),
        first.comparisons.iter().enumerate().map(comparison).collect(),
    ))
}

/// What a comparison is of.
fn what(comparison: &Comparison) -> impl PartialEq {
    let ways: Vec<_> = comparison.ways.iter().map(|way| way.name.clone()).collect();
    (comparison.title.clone(), comparison.size.clone(), ways)
}

fn middle_figure(all: &[Figure]) -> Figure {
    let values: Vec<f64> = all.iter().map(|figure| figure.value).collect();
    Figure {
        noise: middle(all.iter().map(|figure| figure.noise)),
        ..few(&values)
    }
}

fn middle_comparison(first: &Comparison, all: &[&Comparison]) -> Comparison {
    let taken = |(at, way): (usize, &WayTaken)| WayTaken {
        name: way.name.clone(),
        nanos: middle(all.iter().filter_map(|one| one.ways.get(at)).map(|way| way.nanos)),
    };
    Comparison {
        ways: first.ways.iter().enumerate().map(taken).collect(),
        control_nanos: middle(all.iter().map(|one| one.control_nanos)),
        ..first.clone()
    }
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    percentile(&mut values.collect::<Vec<_>>(), 50)
}

#[cfg(test)]
mod tests {
    use stockade_conformance::overhead::Host;

    use super::*;

    fn figure(value: f64, noise: f64) -> Figure {
        Figure {
            low: value - 0.01,
            high: value + 0.01,
            noise,
            ..Figure::exact(value)
        }
    }

    /// A process that found this ratio to a baseline of so many nanoseconds.
    fn part(nanos: f64, ratio: f64, noise: f64) -> Run {
        let host = Host {
            processor: "one of a test".to_owned(),
            processors: 2,
            memory_bytes: 1 << 30,
            kernel: "6.0".to_owned(),
            is_optimised: true,
            versions: BTreeMap::new(),
        };
        let mut run = Run::new("2026-01-31".to_owned(), host);
        run.figures.insert("scan".to_owned(), figure(ratio, noise));
        let way = |name: &str, nanos| WayTaken {
            name: name.to_owned(),
            nanos,
        };
        run.comparisons.push(Comparison {
            bench: "sql".to_owned(),
            title: "a scan".to_owned(),
            size: None,
            ways: vec![way("bare", nanos), way("governed", nanos * ratio)],
            control_nanos: nanos + noise,
        });
        run
    }

    #[test]
    fn a_figure_is_the_middle_one_between_the_least_and_the_most() {
        let parts = [part(100.0, 1.0, 0.003), part(90.0, 1.1, 0.2), part(110.0, 1.02, 0.001)];
        let (figures, comparisons) = together(&parts).unwrap();
        let expected = Figure {
            value: 1.02,
            low: 1.0,
            high: 1.1,
            noise: 0.003,
        };
        assert_eq!(figures, BTreeMap::from([("scan".to_owned(), expected)]));
        let [one] = comparisons.as_slice() else {
            panic!("{comparisons:?}");
        };
        let nanos: Vec<f64> = one.ways.iter().map(|way| way.nanos).collect();
        assert_eq!((nanos.as_slice(), one.control_nanos), (&[100.0, 100.0][..], 100.003));
    }

    #[test]
    fn what_is_not_the_same_everywhere_is_no_figure() {
        let whole = part(100.0, 1.0, 0.0);
        let mut machine = whole.clone();
        machine.host.processors = 4;
        let mut figures = whole.clone();
        figures.figures.insert("join".to_owned(), Figure::exact(1.0));
        let mut ways = whole.clone();
        ways.comparisons[0].ways.pop();
        for other in [machine, figures, ways] {
            assert!(together(&[whole.clone(), other]).is_err());
        }
        assert!(together(&[whole.clone(), whole]).is_ok());
        assert!(together(&[]).is_err());
    }
}
