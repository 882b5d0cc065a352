//! The same benchmark in several processes, one after the other.
//!
//! Where code and memory come to lie is chosen once in each process, and what is timed there in turns keeps its place for all
//! rounds: the same loop can take a tenth longer in one process than in the next, however often it is timed. So a figure is
//! the middle one of several processes.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};
use stockade_conformance::overhead::{Comparison, Figure, Run, WayTaken};

use crate::bootstrap::percentile;
use crate::record::Record;

/// How many there are. Their median is one of them, and the median of all such processes is between the least and the most of
/// five in 94 of 100 cases.
pub const PROCESSES: usize = 5;

/// What stands before the file that one of them writes what it measured to.
const PART: &str = "--part";

/// Measures in several processes, each of which calls `main` again, and writes down what they found together. Where nothing
/// is measured there is one of them.
///
/// # Errors
/// Where one of them fails, or measures something else than the others; where memory is laid out the same in each; and as
/// [`Record::finish`].
pub fn in_several(
    bench: &'static str,
    measure: impl FnOnce(&mut Record) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut record = Record::of(bench)?;
    if let Some(path) = part_to_write() {
        // Whoever asked for it is not to find it still measuring beside the next.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut part = record.of_several();
        measure(&mut part)?;
        return part.write(&path).map_err(|error| error as Box<dyn Error>);
    }
    let count = if record.is_once() { 1 } else { PROCESSES };
    if count > 1 && !is_laid_out_anew() {
        return Err(
            "every process has the same addresses, and so one would do; run it without `setarch -R`, and with \
             `kernel.randomize_va_space` set to 2"
                .into(),
        );
    }
    let folder = tempfile::tempdir()?;
    let mut parts = Vec::new();
    for number in 1..=count {
        if stderr().is_terminal() {
            eprintln!("{bench}: process {number} of {count}");
        }
        parts.push(part(&folder.path().join(format!("{number}.json")))?);
    }
    record.take(middle_of(&parts)?)?;
    record.finish().map_err(|error| error as Box<dyn Error>)
}

/// The file that this process writes what it measures to, where it measures for another.
fn part_to_write() -> Option<PathBuf> {
    let mut arguments = env::args_os().skip_while(|argument| argument != OsStr::new(PART));
    arguments.nth(1).map(PathBuf::from)
}

/// Whether the kernel lays out the memory of each process anew.
fn is_laid_out_anew() -> bool {
    const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let personality = u32::from_str_radix(read("/proc/self/personality").trim(), 16).unwrap_or_default();
    let is_switched_off = read("/proc/sys/kernel/randomize_va_space").trim() == "0";
    !is_switched_off && personality & ADDR_NO_RANDOMIZE == 0
}

/// What another process of this program measures.
fn part(path: &Path) -> Result<Run, Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "it is this program, and no guest")]
    let status = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg(PART)
        .arg(path)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("a process that was to measure ended with {status}").into());
    }
    Ok(Run::parse(&path.display().to_string(), &fs::read_to_string(path)?)?)
}

/// The middle of what all of them measured.
fn middle_of(parts: &[Run]) -> Result<Run, String> {
    let first = parts.first().ok_or("no process measured anything")?;
    let names = |run: &Run| -> Vec<String> {
        let figures = run.figures.keys().map(|id| format!("`{id}`"));
        figures.chain(run.comparisons.iter().map(name)).collect()
    };
    let expected = names(first);
    for (number, part) in (1..).zip(parts) {
        let found = names(part);
        if let Some(other) = expected.iter().zip(&found).find(|(one, other)| one != other) {
            return Err(format!(
                "process {number} measured {}, and the first {}",
                other.1, other.0
            ));
        }
        if found.len() != expected.len() || part.host != first.host {
            return Err(format!(
                "process {number} is not of what the first is of, or measured less or more"
            ));
        }
    }
    let mut middle = first.clone();
    for (id, figure) in &mut middle.figures {
        let all: Vec<Figure> = parts.iter().filter_map(|part| part.figures.get(id)).copied().collect();
        *figure = middle_figure(&all);
    }
    for (at, comparison) in middle.comparisons.iter_mut().enumerate() {
        let all: Vec<&Comparison> = parts.iter().filter_map(|part| part.comparisons.get(at)).collect();
        *comparison = middle_comparison(comparison, &all);
    }
    Ok(middle)
}

/// What a comparison is of.
fn name(comparison: &Comparison) -> String {
    let Comparison { title, size, ways, .. } = comparison;
    let ways: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
    let size = size.as_ref().map(|size| format!(" of {} {}", size.count, size.of));
    format!("\"{title}\"{} ({})", size.unwrap_or_default(), ways.join(", "))
}

/// The middle one, and the noise that is the middle one. What a part's own interval holds is in this one.
fn middle_figure(all: &[Figure]) -> Figure {
    let of = |part: fn(&Figure) -> f64| all.iter().map(part);
    Figure {
        value: middle(of(|figure| figure.value)),
        low: of(|figure| figure.low).fold(f64::INFINITY, f64::min),
        high: of(|figure| figure.high).fold(f64::NEG_INFINITY, f64::max),
        noise: middle(of(|figure| figure.noise)),
    }
}

/// The middle one of the baseline's, and for each way that times the middle one of its ratios: processes are compared with
/// themselves only.
fn middle_comparison(first: &Comparison, all: &[&Comparison]) -> Comparison {
    let baseline = |one: &Comparison| one.ways.first().map_or(f64::NAN, |way| way.nanos);
    let bare = middle(all.iter().map(|one| baseline(one)));
    let times = |nanos: &dyn Fn(&Comparison) -> f64| bare * middle(all.iter().map(|one| nanos(one) / baseline(one)));
    let taken = |(at, way): (usize, &WayTaken)| WayTaken {
        name: way.name.clone(),
        nanos: times(&|one| one.ways.get(at).map_or(f64::NAN, |way| way.nanos)),
    };
    Comparison {
        ways: first.ways.iter().enumerate().map(taken).collect(),
        control_nanos: times(&|one| one.control_nanos),
        ..first.clone()
    }
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    percentile(&mut values.collect::<Vec<_>>(), 50)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
            control_nanos: nanos * (1.0 + noise),
        });
        run
    }

    #[test]
    fn a_figure_is_the_middle_one_and_its_interval_holds_all_of_theirs() {
        let parts = [part(100.0, 1.0, 0.003), part(90.0, 1.1, 0.2), part(110.0, 1.02, 0.001)];
        let together = middle_of(&parts).unwrap();
        let figure = together.figures["scan"];
        assert_eq!((figure.value, figure.noise), (1.02, 0.003));
        assert_eq!((figure.low, figure.high), (0.99, 1.1 + 0.01));
    }

    #[test]
    fn a_process_is_compared_with_itself_only() {
        let parts = [part(100.0, 1.0, 0.01), part(50.0, 1.1, 0.03), part(200.0, 1.02, 0.02)];
        let together = middle_of(&parts).unwrap();
        let [one] = together.comparisons.as_slice() else {
            panic!("{together:?}");
        };
        let nanos: Vec<f64> = one.ways.iter().map(|way| way.nanos).collect();
        assert_eq!((nanos.as_slice(), one.control_nanos), (&[100.0, 102.0][..], 102.0));
    }

    #[test]
    fn what_is_not_the_same_everywhere_is_said_and_no_figure() {
        let whole = || part(100.0, 1.0, 0.0);
        let mut machine = whole();
        machine.host.processors = 4;
        let mut figures = whole();
        figures.figures.insert("join".to_owned(), Figure::exact(1.0));
        let mut ways = whole();
        ways.comparisons[0].ways.pop();
        for (other, words) in [
            (machine, "process 2 is not of what the first is of"),
            (figures, "process 2 measured `join`, and the first `scan`"),
            (
                ways,
                "process 2 measured \"a scan\" (bare), and the first \"a scan\" (bare, governed)",
            ),
        ] {
            let said = middle_of(&[whole(), other]).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        assert!(middle_of(&[whole(), whole()]).is_ok());
        assert!(middle_of(&[]).is_err());
    }

    #[test]
    fn who_measured_on_another_machine_is_not_taken() {
        let mut record = Record::of("sql").unwrap();
        assert!(record.take(part(100.0, 1.0, 0.0)).is_err());
    }
}
