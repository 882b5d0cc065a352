//! `policyctl layers`

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use clap::Args;
use serde::Serialize;
use stockade_runtime::worker::{Attempt, Deed, Pool, PoolOptions};
use stockade_runtime::{Layer, Layers, Presence, presence};

use crate::arguments::Format;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// How to answer
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// One layer, as it was found.
#[derive(Debug, Serialize)]
struct Found {
    layer: Layer,
    is_there: bool,
    detail: String,
    tried: Vec<Tried>,
}

/// What came of a deed that only this layer could stop.
#[derive(Debug, Serialize)]
struct Tried {
    deed: &'static str,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done,
    Refused,
    Killed,
}

/// Says which layers this machine and this build have, and tries them.
pub(crate) fn show(arguments: &Show) -> Result<Exit, Failure> {
    let pool = Pool::with(PoolOptions {
        spare: 0,
        do_without: Layers::ALL,
        ..PoolOptions::default()
    })?;
    let mut found = Vec::new();
    for presence in presence() {
        found.push(looked_at(presence, &pool)?);
    }
    match arguments.format {
        Format::Json => writeln!(io::stdout(), "{}", serde_json::json!({ "layers": found }))?,
        Format::Human => {
            for layer in &found {
                writeln!(io::stdout(), "{}", line(layer))?;
            }
        }
    }
    Ok(if found.iter().all(stands) {
        Exit::Clean
    } else {
        Exit::Findings
    })
}

fn stands(found: &Found) -> bool {
    found.is_there && found.tried.iter().all(|tried| tried.answer != Answer::Done)
}

fn looked_at(presence: Presence, pool: &Pool) -> Result<Found, Failure> {
    let Presence {
        layer,
        is_there,
        detail,
    } = presence;
    let tried = if is_there { tried(layer, pool)? } else { Vec::new() };
    Ok(Found {
        layer,
        is_there,
        detail,
        tried,
    })
}

/// Has native code in a worker attempt what this layer alone must stop.
fn tried(layer: Layer, pool: &Pool) -> Result<Vec<Tried>, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let made = env::temp_dir().join(format!("policyctl-layers-{}", process::id()));
    let mut deeds = vec![
        ("read", Deed::Read(PathBuf::from("/etc/passwd"))),
        ("write", Deed::Write(made.clone())),
        ("connect", Deed::Connect(listener.local_addr()?.port())),
    ];
    if Path::new("/bin/true").exists() {
        deeds.push(("execute", Deed::Execute(PathBuf::from("/bin/true"))));
    }
    match layer {
        Layer::Landlock => {}
        Layer::Seccomp => deeds.push(("fork", Deed::Fork)),
        // What is not compiled in, nobody can try.
        _ => deeds.clear(),
    }
    let mut tried = Vec::new();
    for (name, deed) in deeds {
        let answer = match pool.attempt(&deed, [layer].into_iter().collect())? {
            Attempt::Done => Answer::Done,
            Attempt::Refused { .. } => Answer::Refused,
            Attempt::Killed { .. } => Answer::Killed,
        };
        tried.push(Tried { deed: name, answer });
    }
    if made.exists() {
        fs::remove_file(made)?;
    }
    Ok(tried)
}

fn line(found: &Found) -> String {
    let state = match (found.is_there, stands(found)) {
        (true, true) => "there",
        (true, false) => "FAILS",
        (false, _) => "absent",
    };
    let named = |answer| {
        let names: Vec<&str> = found
            .tried
            .iter()
            .filter(|tried| tried.answer == answer)
            .map(|tried| tried.deed)
            .collect();
        names.join(", ")
    };
    let words = [
        ("refuses", named(Answer::Refused)),
        ("kills for", named(Answer::Killed)),
        ("DOES NOT STOP", named(Answer::Done)),
    ];
    let tried: Vec<String> = words
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(word, names)| format!("{word} {names}"))
        .collect();
    let tried = if tried.is_empty() {
        String::new()
    } else {
        format!("; tried alone, it {}", tried.join(" and "))
    };
    format!("{:<9} {state:<7} {}{tried}", found.layer.name(), found.detail)
}
