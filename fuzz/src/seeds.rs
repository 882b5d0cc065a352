//! What a target may begin with: the corpus's guests where it takes guests as they are, policies, and cases and reports.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use stockade_conformance::{CaseReport, Claim, Code, Corpus, Expected, Program, Report, Rigour, Shard, Suite, Threat};
use stockade_runtime::Class;

use crate::calls::every_function;

/// The variable that names the folder for the seeds.
const FOLDER: &str = "STOCKADE_FUZZ_SEEDS";

/// Where a folder for seeds is named, writes the target's there and ends the program: who fuzzes needs to build no other.
#[cfg_attr(
    not(fuzzing),
    expect(clippy::disallowed_methods, reason = "a target's own `main` is libFuzzer's")
)]
pub fn write_where_asked(target: &str) {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let written = write(target, Path::new(&folder));
    if let Err(error) = &written {
        eprintln!("the seeds of `{target}` could not be written: {error}");
    }
    std::process::exit(written.map_or(2, |()| 0));
}

fn write(target: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    for (name, seed) in seeds(target)? {
        // A folder that has them keeps what fuzzing made of them.
        fs::write(folder.join(name), seed)?;
    }
    Ok(())
}

/// A file's name, and what is in it.
type Seed = (String, Vec<u8>);

fn seeds(target: &str) -> Result<Vec<Seed>, Box<dyn Error>> {
    match target {
        "policy_text" => return parts("policies/profiles", "cedar", "\n\n"),
        "calls" => return Ok(vec![("every-function".to_owned(), every_function())]),
        "parsers" => {
            let mut seeds = parts("corpora/wasm", "yaml", "\0")?;
            seeds.extend(documents()?);
            return Ok(seeds);
        }
        _ => {}
    }
    let corpus = Corpus::embedded()?;
    let wanted = corpus.cases().iter().filter_map(|case| {
        let seed = match (&case.program, target) {
            (Program::Sql(script), "sql") => script.clone().into_bytes(),
            (
                Program::Module {
                    code: Code::Text(text), ..
                },
                "wasm",
            ) => wat::parse_str(text).ok()?,
            (
                Program::Module {
                    code: Code::Made(measures),
                    ..
                },
                "wasm",
            ) => measures.module(),
            _ => return None,
        };
        Some((case.id.replace('/', "-"), seed))
    });
    Ok(wanted.filter(|(_, seed)| seed.len() <= 4096).collect())
}

/// A report of one shard, and what it lets one claim.
fn documents() -> Result<Vec<Seed>, Box<dyn Error>> {
    let suite = Suite::of(&Corpus::embedded()?, Rigour::Standard, 1);
    let case = CaseReport {
        id: "sql/seed".to_owned(),
        why: "It is a seed.".to_owned(),
        threat: Some(Threat::Files),
        is_regression: false,
        expect: Expected::Class(Class::DeniedSqlAction),
        trials: Vec::new(),
    };
    let mut report = Report::of("seed", suite, vec![case], Duration::ZERO);
    report.shard = Some(Shard { index: 1, of: 2 });
    let claim = Claim::of(&report, "2026-02-21")?;
    Ok(vec![
        ("report".to_owned(), serde_json::to_vec(&report)?),
        ("claim".to_owned(), serde_json::to_vec(&claim)?),
    ])
}

/// What the files of a folder are made of, each a seed: a whole profile would be cut to something that is no policy.
fn parts(folder: &str, ending: &str, between: &str) -> Result<Vec<Seed>, Box<dyn Error>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == ending) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)?;
            let numbered = (1..).zip(text.split(between));
            seeds.extend(numbered.map(|(number, part)| (format!("{name}-{number}"), part.into())));
        }
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    #[test]
    fn targets_that_take_what_is_there_have_it_to_begin_with() {
        let folder = tempfile::tempdir().unwrap();
        for (target, _) in TARGETS {
            let own = folder.path().join(target);
            fs::create_dir(&own).unwrap();
            write(target, &own).unwrap();
            let count = fs::read_dir(&own).unwrap().count();
            let expected = match *target {
                "parsers" | "policy_text" | "sql" | "wasm" => 20..1000,
                "calls" => 1..2,
                _ => 0..1,
            };
            assert!(expected.contains(&count), "{target}: {count}");
            let write_again = write(target, &own);
            assert!(
                write_again.is_ok() && fs::read_dir(&own).unwrap().count() == count,
                "{target}"
            );
        }
    }
}
