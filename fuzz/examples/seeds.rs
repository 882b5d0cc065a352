//! Writes what a fuzz target may begin with to a folder: the corpus's guests where it takes guests as they are, and policies.
//!
//! `cargo build --workspace --example seeds && target/debug/examples/seeds TARGET FOLDER`

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use stockade_conformance::{CaseReport, Claim, Code, Corpus, Expected, Program, Report, Rigour, Shard, Suite, Threat};
use stockade_runtime::Class;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(target), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("which target, and which folder?".into());
    };
    for (name, seed) in seeds(&target)? {
        // A folder that has them keeps what fuzzing made of them.
        fs::write(Path::new(&folder).join(name), seed)?;
    }
    Ok(())
}

/// A file's name, and what is in it.
type Seed = (String, Vec<u8>);

fn seeds(target: &str) -> Result<Vec<Seed>, Box<dyn Error>> {
    match target {
        "policy_text" => return parts("policies/profiles", "cedar", "\n\n"),
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
