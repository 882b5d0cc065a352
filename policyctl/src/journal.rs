//! What a replay has done so far, in a file: a line of JSON for each case.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stockade_conformance::{CaseReport, Shard, Suite};

use crate::exit::Failure;

/// What was begun: only that can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub suite: Suite,
    pub subject: String,
    pub shard: Option<Shard>,
}

/// A file that grows with each case.
pub(crate) struct Journal {
    file: Mutex<File>,
    /// The first failure to write: the rest is not tried.
    failed: Mutex<Option<io::Error>>,
    name: String,
}

impl Journal {
    /// Opens or makes the file, and says what is done already. A last line that was cut off is forgotten: its case is played
    /// again.
    pub(crate) fn open(path: &Path, header: &Header) -> Result<(Self, Vec<CaseReport>), Failure> {
        let name = path.display().to_string();
        let cannot = |error: io::Error| Failure::new(format!("cannot use journal `{name}`: {error}"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(cannot)?;
        let (length, lines) = whole_lines(&file).map_err(cannot)?;
        file.set_len(length).map_err(cannot)?;
        file.seek(SeekFrom::End(0)).map_err(cannot)?;
        let done = match lines.split_first() {
            None => {
                write_line(&mut file, header).map_err(cannot)?;
                Vec::new()
            }
            Some((first, cases)) => {
                check(first, header).map_err(|reason| Failure::new(format!("journal `{name}`: {reason}")))?;
                parse(cases).map_err(|error| Failure::new(format!("journal `{name}`: {error}")))?
            }
        };
        let journal = Self {
            file: Mutex::new(file),
            failed: Mutex::default(),
            name,
        };
        Ok((journal, done))
    }

    /// Adds a case that is done.
    pub(crate) fn write(&self, case: Option<&CaseReport>) {
        let Some(case) = case else { return };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none() {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            *failed = write_line(&mut file, case).err();
        }
    }

    /// Says whether every line was written.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let failed = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failed {
            None => Ok(()),
            Some(error) => Err(Failure::new(format!("cannot write journal `{}`: {error}", self.name))),
        }
    }
}

/// The lines that end, and how many bytes they are.
fn whole_lines(file: &File) -> io::Result<(u64, Vec<String>)> {
    let mut reader = BufReader::new(file);
    let mut length = 0;
    let mut lines = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        length += line.len() as u64;
        lines.push(std::mem::take(&mut line));
    }
    Ok((length, lines))
}

fn check(line: &str, header: &Header) -> Result<(), String> {
    match serde_json::from_str::<Header>(line) {
        Ok(begun) if begun == *header => Ok(()),
        Ok(_) => {
            Err("it was begun with another corpus, subject, shard, or way of playing; give it another name".to_owned())
        }
        Err(error) => Err(format!("it is no journal: {error}")),
    }
}

fn parse(lines: &[String]) -> Result<Vec<CaseReport>, serde_json::Error> {
    lines.iter().map(|line| serde_json::from_str(line)).collect()
}

fn write_line(file: &mut File, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    // In one piece: who is killed in between leaves half a line at most.
    file.write_all(&line)
}
