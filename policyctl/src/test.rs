//! `policyctl test`

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use clap::{Args, ValueEnum};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use stockade_policies::suite::{
    CaseResult, Coverage, Missing, Problem, Suite, SuiteRun, TestFile, schema, stock_tests,
};
use stockade_policies::{PolicyStore, Source};

use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::{findings, sources};

/// How often files are looked at while nothing happens.
const GLANCE: Duration = Duration::from_millis(300);

/// How many failures, and how many uncovered things, people are shown.
const SHOWN: usize = 25;

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Tests (`.tests.yaml`), policies (`.cedar`), entities (`.json`) or folders of them; `NAME.cedar` and `NAME.tests.yaml`
    /// bring each other. Without any: this folder if there are policies in it, else the stock profiles
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Leave the stock profiles out
    #[arg(long)]
    pub no_stock: bool,
    /// Run only the cases whose name or file contains this; coverage is not measured then
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Fail if less than this is covered of policies, of conditions, of capabilities or of bounds
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100), conflicts_with = "filter")]
    pub min_coverage: Option<u8>,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
    /// Run again whenever a file changes, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Print the JSON Schema of test files, for editors, and do nothing else
    #[arg(long)]
    pub schema: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// For programs: one JSON object
    Json,
    /// For CI: junit's XML
    Junit,
    /// For CI: the Test Anything Protocol
    Tap,
}

/// Runs policy tests, and says what they have not seen.
pub(crate) fn test(arguments: &Test) -> Result<Exit, Failure> {
    if arguments.schema {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&schema())?)?;
        return Ok(Exit::Clean);
    }
    if arguments.watch {
        return watch(arguments);
    }
    run(arguments)
}

fn run(arguments: &Test) -> Result<Exit, Failure> {
    let named = Named::by(&arguments.files)?;
    if named.is_stock {
        writeln!(io::stderr(), "no policies here: testing the stock profiles")?;
    }
    let (suite, store) = read(arguments, &named)?;
    let run = suite.run(&store, arguments.filter.as_deref());
    if run.cases.is_empty() {
        return Err(nothing_to_run(arguments, &named));
    }
    let short = shortfalls(&run, arguments.min_coverage);
    match arguments.format {
        Format::Human => write!(io::stdout(), "{}", for_people(&run, &short))?,
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&run)?)?,
        Format::Junit => writeln!(io::stdout(), "{}", junit(&run)?)?,
        Format::Tap => write!(io::stdout(), "{}", tap(&run))?,
    }
    if arguments.format != Format::Human {
        for line in &short {
            writeln!(io::stderr(), "{line}")?;
        }
    }
    Ok(if run.cases.iter().any(CaseResult::is_unasked) {
        Exit::NoAnswer
    } else if short.is_empty() && !run.cases.iter().any(CaseResult::is_failed) {
        Exit::Clean
    } else {
        Exit::Findings
    })
}

fn read(arguments: &Test, named: &Named) -> Result<(Suite, PolicyStore), Failure> {
    let policies = sources::read(&named.policies)?;
    let suite = if named.is_stock {
        read_suite(&stock_tests())?
    } else {
        suite_of(&named.tests)?
    };
    if suite.is_empty() {
        return Err(nothing_to_run(arguments, named));
    }
    let store = load(&policies, arguments.no_stock)?;
    Ok((suite, store))
}

/// The tests in these files.
pub(crate) fn suite_of(tests: &[PathBuf]) -> Result<Suite, Failure> {
    let files = tests.iter().map(|path| test_file(path));
    read_suite(&files.collect::<Result<Vec<_>, _>>()?)
}

fn read_suite(tests: &[TestFile]) -> Result<Suite, Failure> {
    Suite::read(tests).map_err(|errors| {
        let lines = errors
            .iter()
            .map(|error| format!("\n  {}", one_line(&error.to_string())));
        Failure::new(format!("the tests cannot be read:{}", lines.collect::<String>()))
    })
}

fn load(policies: &[Source], no_stock: bool) -> Result<PolicyStore, Failure> {
    PolicyStore::load(policies, sources::stock(no_stock, policies)).map_err(|error| {
        findings::show(error.findings(), policies);
        Failure::new("the policies do not load")
    })
}

fn test_file(path: &Path) -> Result<TestFile, Failure> {
    Ok(TestFile {
        name: path.display().to_string(),
        text: sources::read_text(path)?,
    })
}

fn nothing_to_run(arguments: &Test, named: &Named) -> Failure {
    if let Some(filter) = &arguments.filter {
        return Failure::new(format!("no case has `{filter}` in its name or file"));
    }
    let tests = named.tests.iter().map(|path| format!("`{}`", path.display()));
    match tests.collect::<Vec<_>>().as_slice() {
        [] => Failure::new("there is no test: write one in `NAME.tests.yaml` beside `NAME.cedar`"),
        tests => Failure::new(format!("there is no test in {}", tests.join(", "))),
    }
}

/// The files that were meant.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub policies: Vec<PathBuf>,
    pub tests: Vec<PathBuf>,
    /// Nothing was named, and nothing is here.
    is_stock: bool,
}

impl Named {
    pub(crate) fn by(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut named = Self::default();
        if paths.is_empty() {
            named.add_folder(Path::new("."))?;
            named.is_stock = named.policies.is_empty() && named.tests.is_empty();
        }
        for path in paths {
            if path.is_dir() {
                let before = named.tests.len();
                named.add_folder(path)?;
                if named.tests.len() == before {
                    let folder = path.display();
                    return Err(Failure::new(format!("there is no `.tests.yaml` file in `{folder}`")));
                }
            } else {
                named.add_file(path)?;
            }
        }
        Ok(named)
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), Failure> {
        let unreadable = |error: io::Error| Failure::new(format!("cannot read folder `{}`: {error}", folder.display()));
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            // Without the `.` in front, which nobody has typed.
            found.push(path.strip_prefix(".").map_or(path.clone(), Path::to_owned));
        }
        found.sort();
        let has_policies = found.iter().any(|path| has_extension(path, "cedar"));
        for path in found {
            if is_test(&path) {
                push_once(&mut self.tests, path);
            } else if has_extension(&path, "cedar") || (has_policies && has_extension(&path, "json")) {
                push_once(&mut self.policies, path);
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        if is_test(path) {
            push_once(&mut self.tests, path.to_owned());
            let policies = beside(path, "cedar");
            if policies.is_file() {
                push_once(&mut self.policies, policies);
            }
        } else if has_extension(path, "cedar") {
            push_once(&mut self.policies, path.to_owned());
            let tests = beside(path, "tests.yaml");
            if tests.is_file() {
                push_once(&mut self.tests, tests);
            }
        } else if has_extension(path, "json") {
            push_once(&mut self.policies, path.to_owned());
        } else {
            let name = path.display();
            return Err(Failure::new(format!(
                "`{name}` is neither a `.tests.yaml` nor a `.cedar` nor a `.json` file"
            )));
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.policies.iter().chain(&self.tests)
    }
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".tests.yaml") || name.ends_with(".tests.yml")
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// `grants.tests.yaml` and `grants.cedar` are beside each other.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = [".tests.yaml", ".tests.yml", ".cedar"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(&name);
    path.with_file_name(format!("{stem}.{extension}"))
}

fn push_once(paths: &mut Vec<PathBuf>, path: PathBuf) {
    if !paths.contains(&path) {
        paths.push(path);
    }
}

/// Runs again whenever a file changes, comes or goes.
fn watch(arguments: &Test) -> Result<Exit, Failure> {
    if Named::by(&arguments.files)?.is_stock {
        return Err(Failure::new("the stock profiles do not change: name files to watch"));
    }
    loop {
        let seen = changes(arguments);
        if io::stdout().is_terminal() {
            write!(io::stdout(), "\u{1b}[2J\u{1b}[H")?;
        }
        if let Err(failure) = run(arguments) {
            failure.tell();
        }
        io::stdout().flush()?;
        while changes(arguments) == seen {
            thread::sleep(GLANCE);
        }
    }
}

/// When each file was last changed. A file that cannot be seen was never.
fn changes(arguments: &Test) -> BTreeMap<PathBuf, Option<(SystemTime, u64)>> {
    let changed = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    let named = Named::by(&arguments.files).unwrap_or_default();
    let entities = named.policies.iter().map(|path| path.with_extension("entities.json"));
    let all = named
        .all()
        .cloned()
        .chain(entities)
        .chain(arguments.files.iter().cloned());
    all.map(|path| (path.clone(), changed(&path))).collect()
}

/// What is less than was asked for.
fn shortfalls(run: &SuiteRun, least: Option<u8>) -> Vec<String> {
    let (Some(coverage), Some(least)) = (&run.coverage, least) else {
        return Vec::new();
    };
    let short = coverage
        .kinds()
        .into_iter()
        .filter(|(_, share)| share.percent() < usize::from(least));
    short
        .map(|(kind, share)| format!("{kind} are covered to {} %, less than {least} %", share.percent()))
        .collect()
}

fn for_people(run: &SuiteRun, short: &[String]) -> String {
    let mut text = String::new();
    let failed: Vec<&CaseResult> = run.cases.iter().filter(|case| case.is_failed()).collect();
    for case in failed.iter().take(SHOWN) {
        text.push_str(&failure(case));
    }
    if failed.len() > SHOWN {
        let more = failed.len() - SHOWN;
        text.push_str(&format!(
            "and {more} more; `--format json` has all, `--filter` runs some\n\n"
        ));
    }
    if let Some(coverage) = &run.coverage {
        text.push_str(&covered(coverage));
    }
    for line in short {
        text.push_str(&format!("{line}\n"));
    }
    let (all, failed) = (run.cases.len(), failed.len());
    let cases = if all == 1 { "case" } else { "cases" };
    text + &format!("{all} {cases}: {} passed, {failed} failed\n", all - failed)
}

fn failure(case: &CaseResult) -> String {
    let mut text = format!("FAIL {}\n  {}\n", case.location, one_line(&case.name));
    for (word, said) in problem(case) {
        text.push_str(&format!("  {word:<9} {}\n", one_line(said)));
    }
    for policy in &case.policies {
        if let Some(at) = &policy.location {
            text.push_str(&format!("  `{}` is at {at}\n", one_line(&policy.id)));
        }
    }
    text + "\n"
}

/// What is wrong, in rows.
fn problem(case: &CaseResult) -> Vec<(&'static str, &str)> {
    match &case.problem {
        None => Vec::new(),
        Some(Problem::Wrong { expected, got }) => vec![("expected", expected), ("got", got)],
        Some(Problem::Disagreement { plan, cedar }) => vec![
            ("plan", plan),
            ("cedar", cedar),
            (
                "mend",
                "this is a mistake in the compiler; please report it with the policies",
            ),
        ],
        Some(Problem::Unasked { reason }) => vec![("unasked", reason)],
    }
}

fn covered(coverage: &Coverage) -> String {
    let mut text = String::new();
    let missing: Vec<&Missing> = coverage.kinds().iter().flat_map(|(_, share)| &share.missing).collect();
    for one in missing.iter().take(SHOWN) {
        let at = one.location.as_ref().map_or(String::new(), |at| format!("{at}: "));
        text.push_str(&format!("not covered: {at}{}\n", one_line(&one.what)));
    }
    if missing.len() > SHOWN {
        text.push_str(&format!(
            "and {} more; `--format json` has all\n",
            missing.len() - SHOWN
        ));
    }
    let shares = coverage
        .kinds()
        .map(|(kind, share)| format!("{kind} {} of {}", share.seen(), share.total));
    text + &format!("covered: {}\n", shares.join(", "))
}

fn junit(run: &SuiteRun) -> Result<String, Failure> {
    let mut suites: Vec<TestSuite> = Vec::new();
    for case in &run.cases {
        let file = case.location.source.as_str();
        if suites.last().is_none_or(|suite| suite.name.as_str() != file) {
            suites.push(TestSuite::new(file));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(junit_case(case));
        }
    }
    let mut report = Report::new("policyctl test");
    report.add_test_suites(suites);
    report.to_string().map_err(Failure::new)
}

fn junit_case(case: &CaseResult) -> TestCase {
    let status = if case.is_failed() {
        let kind = if case.is_unasked() {
            NonSuccessKind::Error
        } else {
            NonSuccessKind::Failure
        };
        let mut status = TestCaseStatus::non_success(kind);
        let rows = problem(case).into_iter().map(|(word, said)| format!("{word} {said}"));
        status.set_message(rows.collect::<Vec<_>>().join("; "));
        status.set_description(failure(case).trim_end().to_owned());
        status
    } else {
        TestCaseStatus::success()
    };
    let mut junit = TestCase::new(case.name.as_str(), status);
    junit.set_classname(case.location.to_string());
    junit
}

fn tap(run: &SuiteRun) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", run.cases.len());
    for (index, case) in run.cases.iter().enumerate() {
        let ok = if case.is_failed() { "not ok" } else { "ok" };
        // A `#` would begin a directive.
        let name = one_line(&case.name).replace('\\', "\\\\").replace('#', "\\#");
        text.push_str(&format!("{ok} {} - {name}\n", index + 1));
        if case.is_failed() {
            let quoted = |said: &str| serde_json::Value::from(said).to_string();
            text.push_str(&format!("  ---\n  at: {}\n", quoted(&case.location.to_string())));
            for (word, said) in problem(case) {
                text.push_str(&format!("  {word}: {}\n", quoted(said)));
            }
            text.push_str("  ...\n");
        }
    }
    text
}
