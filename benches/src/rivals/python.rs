//! What people reach for from Python, in a process of its own that times itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A process that does one thing as often as it is told: `benches/rivals/peer.py`.
pub struct Peer(RefCell<Running>);

struct Running {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts one, if `benches/rivals/install` has been run; what it does is said in the arguments.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let python = installed()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals/peer.py");
        #[expect(clippy::disallowed_methods, reason = "it is no guest, and ends with its input")]
        let mut process = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (input, output) = (process.stdin.take()?, BufReader::new(process.stdout.take()?));
        Some(Self(RefCell::new(Running { process, input, output })))
    }

    /// Does it so many times. How long that took of a processor, by its own clock; nothing where it fails.
    #[must_use]
    pub fn repeat(&self, times: u64) -> Option<Duration> {
        let (nanos, _) = self.0.borrow_mut().told(times).ok()?;
        Some(Duration::from_nanos(nanos))
    }

    /// What comes out of it.
    ///
    /// # Errors
    /// Where the process failed.
    pub fn answer(&self) -> io::Result<String> {
        self.0.borrow_mut().told(1).map(|(_, answer)| answer)
    }
}

impl Running {
    fn told(&mut self, times: u64) -> io::Result<(u64, String)> {
        writeln!(self.input, "{times}")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let (nanos, answer) = line.trim_end().split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let nanos = nanos.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((nanos, answer.to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself is not there to be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The versions of Python, of its own SQLite and of Extism; nothing where they are not installed.
#[must_use]
pub fn versions_in_python() -> BTreeMap<String, String> {
    let said = Peer::start(&["versions"]).and_then(|peer| peer.answer().ok());
    said.map_or_else(BTreeMap::new, |said| versions(&said))
}

/// `python 3.13.1, extism 1.1.1`, by name.
fn versions(said: &str) -> BTreeMap<String, String> {
    let named = said.split(", ").filter_map(|each| each.split_once(' '));
    named
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
}

fn installed() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let python = cache.join("stockade/subjects/benches/bin/python");
    python.exists().then_some(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_by_name() {
        let versions = versions("python 3.13.1, python-sqlite3 3.45.2");
        assert_eq!(versions.len(), 2);
        assert_eq!(versions["python-sqlite3"], "3.45.2");
    }

    /// Where Python and Extism are installed, all of them say what they are.
    #[test]
    fn whatever_is_compared_in_python_has_a_version() {
        let versions = versions_in_python();
        let names: Vec<_> = versions.keys().map(String::as_str).collect();
        let expected: &[&str] = if installed().is_some() {
            &["extism", "extism-sys", "python", "python-sqlite3"]
        } else {
            &[]
        };
        assert_eq!(names, expected);
    }
}
