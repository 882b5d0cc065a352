//! What an adapter says, as messages: a line each, and no more of them than it may say.

use super::message::FromAdapter;
use super::process::AdapterFault;
use super::subject::Allowance;

/// The most characters that are quoted of what is no message, and of what is said of it.
const MOST_QUOTED: usize = 80;
const MOST_REASON: usize = 300;

/// Bytes that came, and nobody has looked at.
#[derive(Debug)]
pub(super) struct Lines {
    unread: Vec<u8>,
    /// How much of `unread` has no line's end in it.
    searched: usize,
    heard_bytes: usize,
    most_of_line: usize,
    most: usize,
}

impl Lines {
    pub(super) const fn new(allowance: &Allowance) -> Self {
        Self {
            unread: Vec::new(),
            searched: 0,
            heard_bytes: 0,
            most_of_line: allowance.line_bytes,
            most: allowance.heard_bytes,
        }
    }

    /// Takes what came.
    ///
    /// # Errors
    /// [`AdapterFault::Flood`] where that is more, all together, than it may say.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), AdapterFault> {
        self.heard_bytes += bytes.len();
        if self.heard_bytes > self.most {
            return Err(AdapterFault::Flood { most: self.most });
        }
        self.unread.extend(bytes);
        Ok(())
    }

    /// The next message, where its line is whole.
    ///
    /// # Errors
    /// [`AdapterFault`] for a line that is too long or no message.
    pub(super) fn next_message(&mut self) -> Result<Option<FromAdapter>, AdapterFault> {
        self.next_line()?.map(|line| message(&line)).transpose()
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, AdapterFault> {
        let fresh = self.unread.get(self.searched..).unwrap_or_default();
        let end = fresh
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|at| self.searched + at);
        if end.unwrap_or(self.unread.len()) > self.most_of_line {
            let most = self.most_of_line;
            return Err(AdapterFault::Flood { most });
        }
        let Some(end) = end else {
            self.searched = self.unread.len();
            return Ok(None);
        };
        self.searched = 0;
        let rest = self.unread.split_off(end + 1);
        Ok(Some(std::mem::replace(&mut self.unread, rest)))
    }

    /// Whether everything that was said was looked at.
    pub(super) fn is_read(&self) -> bool {
        self.unread.is_empty()
    }
}

fn message(line: &[u8]) -> Result<FromAdapter, AdapterFault> {
    serde_json::from_slice(line).map_err(|error| AdapterFault::Garbage {
        line: beginning(String::from_utf8_lossy(line).trim_end(), MOST_QUOTED),
        // It quotes the adapter.
        reason: beginning(&error.to_string(), MOST_REASON),
    })
}

/// The first characters of what an adapter said: it is quoted in reports, and may be as long as a line.
pub(super) fn beginning(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
