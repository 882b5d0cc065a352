//! What a benchmark writes down, for `policyctl overhead` to judge.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use stockade_conformance::overhead::{Comparison, Figure, Host, Run, Size, Targets, Unit, WayTaken};
use stockade_runtime::HostDatabase;

use crate::machine::cores;
use crate::pairs::{Effort, Timed};
use crate::rivals;

/// The folder that figures are written to: `NAME.json` of each benchmark.
const FOLDER: &str = "STOCKADE_BENCH_RUN";

/// Crates whose versions figures depend on.
const COMPARED: [&str; 6] = ["casbin", "cedar-policy", "regorus", "rusqlite", "wasmi", "wasmtime"];

/// What one benchmark measured.
pub struct Record {
    bench: &'static str,
    targets: Targets,
    run: Run,
    effort: Effort,
}

impl Record {
    /// Nothing yet. `cargo bench` measures; `cargo test` runs every benchmark once, to see that it works.
    ///
    /// # Errors
    /// Where `targets.yaml` is not what it should be.
    pub fn of(bench: &'static str) -> Result<Self, String> {
        let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
        Ok(Self {
            bench,
            targets: Targets::published()?,
            run: Run::new(today, host()?),
            effort: if env::args().any(|argument| argument == "--bench") {
                Effort::Whole
            } else {
                Effort::Once
            },
        })
    }

    /// The same where other processes measure the same.
    #[must_use]
    pub fn of_several(self) -> Self {
        Self {
            effort: match self.effort {
                Effort::Once => Effort::Once,
                Effort::Whole | Effort::Part => Effort::Part,
            },
            ..self
        }
    }

    /// Whether everything is done just once, and figures mean nothing.
    #[must_use]
    pub fn is_once(&self) -> bool {
        self.effort == Effort::Once
    }

    /// How much is to be done for a comparison.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    /// Says something, where something is measured: anything else would only mislead.
    pub fn say(&self, text: impl fmt::Display) {
        if !self.is_once() {
            print!("{text}");
        }
    }

    /// Writes down what was timed in turns.
    pub fn timed(&mut self, timed: &Timed) {
        self.compared(timed.comparison(self.bench));
    }

    /// Says how long ways to do one thing took, and writes it down.
    pub fn compared(&mut self, comparison: Comparison) {
        self.say(Told(&comparison));
        self.run.comparisons.push(comparison);
    }

    /// Writes down what was compared otherwise.
    pub fn comparison(&mut self, title: &str, size: Option<Size>, ways: Vec<WayTaken>, control_nanos: f64) {
        self.run.comparisons.push(Comparison {
            bench: self.bench.to_owned(),
            title: title.to_owned(),
            size,
            ways,
            control_nanos,
        });
    }

    /// Writes down a figure, in its quantity's unit.
    pub fn figure(&mut self, id: &str, figure: Option<Figure>) {
        self.run.figures.extend(figure.map(|figure| (id.to_owned(), figure)));
    }

    /// Says the figures, and writes them to the folder, if one is named.
    ///
    /// # Errors
    /// Where something that was to be measured was not, or the file cannot be written.
    pub fn finish(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.say("figures\n");
        for quantity in self.targets.of_bench(self.bench) {
            let figure = self.run.figures.get(&quantity.id);
            let figure = figure.ok_or_else(|| format!("`{}` was not measured", quantity.id))?;
            let shown = |amount: f64| quantity.unit.shown(amount);
            self.say(format_args!(
                "  {:<20} {:>12} ({} to {}, noise {})  {}\n",
                quantity.id,
                shown(figure.value),
                shown(figure.low),
                shown(figure.high),
                shown(figure.noise),
                quantity.what
            ));
        }
        let strangers = self.run.figures.keys().filter(|id| self.targets.quantity(id).is_none());
        if let Some(stranger) = strangers.into_iter().next() {
            return Err(format!("`{stranger}` is no quantity of targets.yaml").into());
        }
        if let Some(folder) = env::var_os(FOLDER).filter(|_| !self.is_once()) {
            self.write(&PathBuf::from(folder).join(format!("{}.json", self.bench)))?;
        }
        Ok(())
    }

    /// Takes what several processes measured of it.
    ///
    /// # Errors
    /// Where this process, which says what was measured on and of, is of another build or on another machine.
    pub(crate) fn take(&mut self, measured: Run) -> Result<(), String> {
        if measured.host != self.run.host {
            return Err("the processes that measured are not of this build, or not of this machine".to_owned());
        }
        for comparison in measured.comparisons {
            self.compared(comparison);
        }
        self.run.figures.extend(measured.figures);
        Ok(())
    }

    /// Writes what there is to a file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(fs::write(path, serde_json::to_string_pretty(&self.run)? + "\n")?)
    }
}

/// A comparison in lines.
struct Told<'a>(&'a Comparison);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison {
            title,
            size,
            ways,
            control_nanos,
            ..
        } = self.0;
        write!(f, "{title}")?;
        if let Some(Size { count, of }) = size {
            write!(f, ", {count} {of}")?;
        }
        writeln!(f)?;
        let baseline = ways.first().map_or(f64::NAN, |way| way.nanos);
        let lines = ways.iter().map(|way| (way.name.as_str(), way.nanos));
        for (name, nanos) in lines.chain([("(the first again)", *control_nanos)]) {
            let ratio = nanos / baseline;
            let shown = Unit::Nanoseconds.shown(nanos);
            writeln!(f, "  {name:<48} {shown:>12}  x {ratio:.3}")?;
        }
        Ok(())
    }
}

fn host() -> Result<Host, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let kibibytes: u64 = value_of(&memory, "MemTotal")
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    Ok(Host {
        processor: value_of(&processors, "model name").unwrap_or_default().to_owned(),
        processors: cores(),
        memory_bytes: kibibytes * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        is_optimised: !cfg!(debug_assertions),
        versions: versions()?,
    })
}

/// The value of the first line `key : value`.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(found, _)| found.trim() == key)
        .map(|(_, value)| value.trim())
}

fn versions() -> Result<BTreeMap<String, String>, String> {
    let mut versions = locked(include_str!("../../Cargo.lock"));
    versions.insert("stockade".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    // It is pinned.
    versions.insert("rust".to_owned(), env!("CARGO_PKG_RUST_VERSION").to_owned());
    let memory = HostDatabase::open(":memory:").and_then(|sqlite| sqlite.rows("select sqlite_version()"));
    let rows = memory.map_err(|error| error.to_string())?;
    let version = rows.first().and_then(|row| row.first());
    if let Some(stockade_runtime::SqlValue::Text(version)) = version {
        versions.insert("sqlite".to_owned(), version.clone());
    }
    versions.extend(rivals::versions_in_python());
    Ok(versions)
}

/// The versions that a lock file has of what is compared.
fn locked(lock: &str) -> BTreeMap<String, String> {
    let named = |package: &str| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_matches(['=', ' ', '"']).to_owned())
        };
        Some((value("name")?, value("version")?))
    };
    let packages = lock.split("[[package]]").filter_map(named);
    packages.filter(|(name, _)| COMPARED.contains(&name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\nsource = \"x\"\n\n\
                    [[package]]\nname = \"libc\"\nversion = \"0.2.1\"\n";
        assert_eq!(
            locked(lock),
            BTreeMap::from([("wasmtime".to_owned(), "48.0.8".to_owned())])
        );
        let versions = versions().unwrap();
        assert!(versions["sqlite"].starts_with("3."), "{versions:?}");
        assert!(versions.contains_key("cedar-policy"), "{versions:?}");
    }

    #[test]
    fn what_was_not_measured_is_an_error_and_so_is_a_stranger() {
        let mut record = Record::of("workers").unwrap();
        let targets = record.targets.clone();
        for quantity in targets.of_bench("workers").skip(1) {
            record.figure(&quantity.id, Some(Figure::exact(1.0)));
        }
        let left_out = &targets.of_bench("workers").next().unwrap().id;
        let mut whole = Record::of("workers").unwrap();
        whole.run = record.run.clone();
        assert!(record.finish().unwrap_err().to_string().contains(left_out.as_str()));
        whole.figure(left_out, Some(Figure::exact(1.0)));
        let mut stranger = Record::of("workers").unwrap();
        stranger.run = whole.run.clone();
        assert!(whole.finish().is_ok());
        stranger.figure("poetry", Some(Figure::exact(1.0)));
        assert!(stranger.finish().unwrap_err().to_string().contains("poetry"));
    }

    #[test]
    fn a_comparison_is_told_with_its_ratios() {
        let way = |name: &str, nanos| WayTaken {
            name: name.to_owned(),
            nanos,
        };
        let told = Told(&Comparison {
            bench: "sql".to_owned(),
            title: "made up".to_owned(),
            size: Some(Size {
                count: 7,
                of: "rows".to_owned(),
            }),
            ways: vec![way("bare", 2000.0), way("governed", 3000.0)],
            control_nanos: 2200.0,
        })
        .to_string();
        let lines: Vec<String> = told
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "made up, 7 rows",
                "bare 2.00 us x 1.000",
                "governed 3.00 us x 1.500",
                "(the first again) 2.20 us x 1.100"
            ]
        );
    }

    #[test]
    fn a_machine_says_what_it_is() {
        let host = host().unwrap();
        assert!(
            host.processors > 0 && host.memory_bytes > 1 << 26 && !host.kernel.is_empty(),
            "{host:?}"
        );
    }
}
