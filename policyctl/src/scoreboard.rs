//! `policyctl scoreboard`, and `policyctl replay --subject PATH`

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use stockade_conformance::wire::{Allowance, Wired, schema};
use stockade_conformance::{Corpus, Day, Gaps, Laboratory, Score, Standing, Standings, Threat, score, score_reference};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;
use crate::replay::{clear_progress, show_progress};

#[derive(Debug, Args)]
pub(crate) struct Scoreboard {
    /// Cases or folders of the corpus, or files and folders on disk; without any, the whole corpus in this program
    #[arg(value_name = "CASE|DIR")]
    pub cases: Vec<String>,
    /// The folder of adapters, each a folder with a program `start` in it; what each is known to fail is beside it, in `../expectations`
    #[arg(long, value_name = "DIR", default_value = "conformance/subjects")]
    pub subjects: PathBuf,
    /// Only this one, once for each; `reference` is Stockade's own runtime
    #[arg(long = "only", value_name = "NAME")]
    pub only: Vec<String>,
    /// Install what each needs first, into a folder of the user's cache
    #[arg(long)]
    pub install: bool,
    /// Cases played at a time
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Print the JSON Schema of the adapters' protocol, and play nothing
    #[arg(long)]
    pub schema: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// The scores of all subjects that are there.
#[derive(Debug, Serialize)]
struct Board {
    scores: Vec<Scored>,
    /// Subjects that are not there, and why.
    absent: Vec<Absent>,
}

#[derive(Debug, Serialize)]
struct Scored {
    #[serde(flatten)]
    score: Score,
    /// What is otherwise than the subject's expectations say.
    differences: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Absent {
    subject: String,
    because: String,
}

/// Shows where every subject stands.
pub(crate) fn scoreboard(arguments: &Scoreboard) -> Result<Exit, Failure> {
    if arguments.schema {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&schema())?)?;
        return Ok(Exit::Clean);
    }
    let corpus = selected(&arguments.cases)?;
    let jobs = jobs(arguments.jobs);
    let laboratory = Laboratory::new(jobs)?;
    let is_meant = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let folders = folders(&arguments.subjects)?;
    let mut board = Board {
        scores: Vec::new(),
        absent: Vec::new(),
    };
    let mut names: BTreeSet<&str> = arguments.only.iter().map(String::as_str).collect();
    if names.remove(REFERENCE) || arguments.only.is_empty() {
        let score = score_reference(&corpus, &laboratory, jobs, &show_progress);
        let differences = Gaps::default().differences(&score, Day::today());
        board.scores.push(Scored { score, differences });
    }
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        names.remove(name.as_str());
        if !is_meant(&name) {
            continue;
        }
        match put_to_the_test(folder, arguments.install, &corpus, &laboratory, jobs)? {
            Ok(scored) => board.scores.push(scored),
            Err(because) => board.absent.push(Absent { subject: name, because }),
        }
    }
    clear_progress();
    if let Some(unknown) = names.first() {
        return Err(Failure::new(format!(
            "there is no subject `{unknown}` in `{}`",
            arguments.subjects.display()
        )));
    }
    told(&board, arguments.format)?;
    Ok(verdict(&board))
}

/// Plays the corpus against one adapter, which must be there.
pub(crate) fn of_one(adapter: &Path, corpus: &Corpus, jobs: usize, format: Format) -> Result<Exit, Failure> {
    if !adapter.exists() {
        return Err(Failure::new(format!(
            "subject `{}` is neither `reference`, `undefended` nor the path of an adapter",
            adapter.display()
        )));
    }
    let laboratory = Laboratory::new(jobs)?;
    let scored = put_to_the_test(adapter, false, corpus, &laboratory, jobs)?.map_err(Failure::new)?;
    clear_progress();
    let board = Board {
        scores: vec![scored],
        absent: Vec::new(),
    };
    told(&board, format)?;
    Ok(verdict(&board))
}

const REFERENCE: &str = "reference";

fn selected(cases: &[String]) -> Result<Corpus, Failure> {
    Ok(if cases.is_empty() {
        Corpus::embedded()?
    } else {
        Corpus::select(cases)?
    })
}

fn jobs(asked: Option<usize>) -> usize {
    asked
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
        .max(1)
}

/// The folders with an adapter in them, by name.
fn folders(subjects: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(subjects)
        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", subjects.display())))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("start").is_file())
        .collect();
    folders.sort();
    Ok(folders)
}

/// The score of an adapter, or why it is not there.
fn put_to_the_test(
    adapter: &Path,
    install: bool,
    corpus: &Corpus,
    laboratory: &Arc<Laboratory>,
    jobs: usize,
) -> Result<Result<Scored, String>, Failure> {
    let (folder, start) = if adapter.is_dir() {
        (adapter.to_owned(), adapter.join("start"))
    } else {
        (
            adapter.parent().unwrap_or(Path::new(".")).to_owned(),
            adapter.to_owned(),
        )
    };
    if install && let Err(because) = installed(&folder)? {
        return Ok(Err(because));
    }
    let subject = match Wired::introduce(&start, laboratory, Allowance::default()) {
        Ok(subject) => subject,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let gaps = Gaps::read(&expectations(&folder)).map_err(Failure::new)?;
    let score = score(&subject, corpus, laboratory, jobs, &show_progress);
    let differences = gaps.differences(&score, Day::today());
    Ok(Ok(Scored { score, differences }))
}

fn expectations(folder: &Path) -> PathBuf {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    folder.join("../../expectations").join(name + ".toml")
}

/// Runs the folder's `install`, if it has one.
fn installed(folder: &Path) -> Result<Result<(), String>, Failure> {
    let program = folder.join("install");
    if !program.is_file() {
        return Ok(Ok(()));
    }
    #[expect(clippy::disallowed_methods, reason = "the user asked for it to be installed")]
    let output = Command::new(fs::canonicalize(&program)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(Err(format!("`{}` failed: {}", program.display(), one_line(last))))
}

fn told(board: &Board, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(board)?)?,
        Format::Human => {
            write!(io::stdout(), "{}\n{}", standings(board), by_threat(board))?;
            for absent in &board.absent {
                writeln!(
                    io::stdout(),
                    "absent: {}: {}",
                    absent.subject,
                    one_line(&absent.because)
                )?;
            }
            for scored in &board.scores {
                for difference in &scored.differences {
                    writeln!(io::stderr(), "{}: {}", scored.score.subject, one_line(difference))?;
                }
            }
        }
    }
    Ok(())
}

fn verdict(board: &Board) -> Exit {
    let is_unknown = |scored: &Scored| scored.score.cases.iter().any(|stand| stand.standing == Standing::Error);
    let is_otherwise = |scored: &Scored| !scored.differences.is_empty();
    let is_tried = |scored: &Scored| scored.score.cases.iter().any(|stand| stand.standing.is_tried());
    // A skip is never a pass.
    if !board.scores.iter().any(is_tried) {
        Exit::NoAnswer
    } else if !board.scores.iter().any(is_otherwise) {
        Exit::Clean
    } else if board.scores.iter().any(is_unknown) {
        Exit::NoAnswer
    } else {
        Exit::Findings
    }
}

/// A line for each subject.
fn standings(board: &Board) -> String {
    const ATTACKS: [Standing; 7] = [
        Standing::Stopped,
        Standing::Undetected,
        Standing::Hung,
        Standing::Crashed,
        Standing::Error,
        Standing::Unsupported,
        Standing::Harmless,
    ];
    let title = |score: &Score| format!("{} {}", score.subject, score.version);
    let width = board
        .scores
        .iter()
        .map(|scored| title(&scored.score).len())
        .max()
        .unwrap_or(0)
        .max("subject".len());
    let mut text = format!("{:<width$}", "subject");
    for standing in ATTACKS {
        text.push_str(&format!(" {:>12}", standing.name()));
    }
    text.push_str(&format!(" {:>18}\n", "honest, completed"));
    for Scored { score, .. } in &board.scores {
        text.push_str(&format!("{:<width$}", title(score)));
        for standing in ATTACKS {
            text.push_str(&format!(" {:>12}", score.attacks_that(standing)));
        }
        text.push_str(&format!(" {:>18}\n", of_tried(&score.benign, Standing::Completed)));
    }
    text
}

/// A line for each thing that attackers are after, a column for each subject: stopped, of those that were put to the test.
fn by_threat(board: &Board) -> String {
    let threats: BTreeSet<Threat> = board
        .scores
        .iter()
        .flat_map(|scored| scored.score.attacks.keys().copied())
        .collect();
    let mut text = format!("{:<10}", "stopped");
    for Scored { score, .. } in &board.scores {
        text.push_str(&format!("  {:>8}", score.subject));
    }
    text.push('\n');
    for threat in threats {
        text.push_str(&format!("{:<10}", threat.to_string()));
        for Scored { score, .. } in &board.scores {
            let width = score.subject.len().max(8);
            let cell = score
                .attacks
                .get(&threat)
                .map_or_else(String::new, |standings| of_tried(standings, Standing::Stopped));
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    text
}

/// `12/14`: so many of those that were put to the test; `-` where none was.
fn of_tried(standings: &Standings, passed: Standing) -> String {
    let tried: usize = standings
        .iter()
        .filter(|(standing, _)| standing.is_tried())
        .map(|(_, count)| count)
        .sum();
    match tried {
        0 => "-".to_owned(),
        _ => format!("{}/{tried}", standings.get(&passed).copied().unwrap_or(0)),
    }
}
