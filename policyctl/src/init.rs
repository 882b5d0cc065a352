//! `policyctl init`

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::guest_text::one_line;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder; it is made if it is not there
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// What a folder of policies starts with.
const STARTER: &[(&str, &str)] = &[
    ("grants.cedar", include_str!("../starter/grants.cedar")),
    ("grants.entities.json", include_str!("../starter/grants.entities.json")),
    ("grants.tests.yaml", include_str!("../starter/grants.tests.yaml")),
    (
        ".github/workflows/policies.yml",
        include_str!("../starter/policies.yml"),
    ),
    (
        ".pre-commit-config.yaml",
        include_str!("../starter/pre-commit-config.yaml"),
    ),
];

/// Writes a starter. What is there already is left as it is.
pub(crate) fn init(arguments: &Init) -> Result<Exit, Failure> {
    let mut left = 0;
    for (name, text) in STARTER {
        let path = arguments.folder.join(name);
        let shown = one_line(&path.display().to_string());
        match write_new(&path, text) {
            Ok(()) => writeln!(io::stdout(), "wrote {shown}")?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.symlink_metadata().is_ok() => {
                writeln!(io::stderr(), "left as it is: {shown} is there already")?;
                left += 1;
            }
            Err(error) => return Err(Failure::new(format!("cannot write `{shown}`: {error}"))),
        }
    }
    if left > 0 {
        return Ok(Exit::Findings);
    }
    writeln!(
        io::stdout(),
        "next: policyctl check {}",
        one_line(&arguments.folder.join("grants.cedar").display().to_string())
    )?;
    Ok(Exit::Clean)
}

fn write_new(path: &std::path::Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create_new(path)?.write_all(text.as_bytes())
}
