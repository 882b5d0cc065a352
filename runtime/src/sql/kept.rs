//! Scripts that are kept compiled.
//!
//! A kept script costs no compiling and no question: its decisions were made when it was compiled, and are written to the
//! trail again whenever it runs. It belongs to one plan, that of its connection, and to one schema. Who has it must drop it
//! when the schema may be another.
//!
//! Only a script that comes a second time is kept: text with a literal in it comes once.

use super::hooks::Does;
use super::statement::Statement;
use crate::gate::Allowed;
use crate::trail::Trail;

/// Places. Each holds one script.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 5;
/// The longest script that is kept, in bytes.
const LONGEST_TEXT: usize = 4096;
/// The most memory of the statements of one script, in bytes: it counts as the guest's heap.
const MOST_MEMORY: usize = 32 * 1024;

/// Scripts that are kept compiled.
#[derive(Default)]
pub(super) struct Kept {
    places: Vec<Place>,
    /// Where the last one was.
    last: usize,
}

#[derive(Default)]
struct Place {
    /// The script that was here last, by its [`mark`].
    seen: u64,
    script: Option<Box<Script>>,
}

/// A compiled script.
pub(super) struct Script {
    text: Box<str>,
    pub parts: Vec<Part>,
    /// The trail of a run of it, to its end, in which nothing was asked.
    pub trail: Option<Trail>,
}

/// One statement of a script.
pub(super) struct Part {
    pub statement: Statement,
    /// The names of its columns.
    pub columns: Vec<String>,
    pub is_read_only: bool,
    pub does: Does,
    /// What was decided when it was compiled.
    pub allowed: Vec<Allowed>,
    /// Where it begins in the script.
    pub start: usize,
}

/// What is known of a text.
pub(super) enum Known {
    /// It is compiled. Until [`Kept::put_back`], it is the caller's.
    Script(Box<Script>),
    /// It came before, and is not compiled: keep it.
    SeenBefore,
    /// It is new, or nothing to keep.
    No,
}

impl Kept {
    /// What is known of `text`, which is about to run.
    pub(super) fn take(&mut self, text: &str) -> Known {
        if text.len() > LONGEST_TEXT {
            return Known::No;
        }
        if let Some(script) = self.places.get_mut(self.last).and_then(|place| place.take(text)) {
            return Known::Script(script);
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, Place::default);
        }
        let mark = mark(text);
        let index = index(mark);
        let Some(place) = self.places.get_mut(index) else {
            return Known::No;
        };
        if let Some(script) = place.take(text) {
            self.last = index;
            return Known::Script(script);
        }
        if std::mem::replace(&mut place.seen, mark) == mark {
            return Known::SeenBefore;
        }
        Known::No
    }

    /// Whether `text` is the script that ran last of those that are kept.
    pub(super) fn was_last(&self, text: &str) -> bool {
        let last = self.places.get(self.last).and_then(|place| place.script.as_ref());
        last.is_some_and(|script| &*script.text == text)
    }

    /// The script that ran last of those that are kept.
    pub(super) fn last(&mut self) -> Option<&mut Script> {
        self.places.get_mut(self.last)?.script.as_deref_mut()
    }

    /// Keeps a script that was taken.
    pub(super) fn put_back(&mut self, script: Box<Script>) {
        if let Some(place) = self.places.get_mut(self.last) {
            place.script = Some(script);
        }
    }

    /// Keeps a script that was seen before, unless it takes too much.
    pub(super) fn keep(&mut self, text: &str, parts: Vec<Part>) {
        let memory = parts.iter().map(|part| part.statement.memory()).sum::<usize>();
        if let Some(place) = self.places.get_mut(index(mark(text)))
            && memory <= MOST_MEMORY
        {
            place.script = Some(Box::new(Script {
                text: text.into(),
                parts,
                trail: None,
            }));
        }
    }

    /// Drops every script.
    pub(super) fn clear(&mut self) {
        for place in &mut self.places {
            place.script = None;
        }
    }

    /// How many scripts there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.iter().filter(|place| place.script.is_some()).count()
    }
}

impl Place {
    fn take(&mut self, text: &str) -> Option<Box<Script>> {
        self.script.take_if(|script| *script.text == *text)
    }
}

/// A number by which a text is told from most others. A guest can find two texts with one number, and what it gains is that
/// they take turns in its own place: what is run is known by its whole text.
fn mark(text: &str) -> u64 {
    // The multiplier of a linear congruential generator (Knuth's MMIX), which moves every bit upwards.
    let mixed = |mark: u64, word: u64| (mark.rotate_left(5) ^ word).wrapping_mul(6_364_136_223_846_793_005);
    let (words, rest) = text.as_bytes().as_chunks();
    let last = rest
        .iter()
        .fold(text.len() as u64, |last, byte| last << 8 | u64::from(*byte));
    let mark = words
        .iter()
        .fold(0, |mark, word| mixed(mark, u64::from_ne_bytes(*word)));
    mixed(mark, last)
}

/// The place of a text with this mark: its highest bits, on which every byte of the text works.
fn index(mark: u64) -> usize {
    usize::try_from(mark >> (u64::BITS - PLACE_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn part(connection: &Connection, text: &str) -> Part {
        #[expect(unsafe_code, reason = "nothing else ties a statement to its connection")]
        // SAFETY: each test drops what it keeps before the connection, which it opened first.
        let compiled = unsafe { Statement::compile(connection, text, true) };
        Part {
            statement: compiled.unwrap().statement.unwrap(),
            columns: Vec::new(),
            is_read_only: true,
            does: Does::Rows,
            allowed: Vec::new(),
            start: 0,
        }
    }

    #[test]
    fn a_script_is_kept_when_it_comes_again_and_taken_by_its_whole_text() {
        let connection = Connection::open_in_memory().unwrap();
        let mut kept = Kept::default();
        assert!(matches!(kept.take("select 1"), Known::No));
        assert!(matches!(kept.take("select 1"), Known::SeenBefore));
        kept.keep("select 1", vec![part(&connection, "select 1")]);
        assert!(!matches!(kept.take("select 1 "), Known::Script(_)));
        assert!(!matches!(kept.take("SELECT 1"), Known::Script(_)));
        let Known::Script(script) = kept.take("select 1") else {
            panic!("it was kept");
        };
        assert!(!matches!(kept.take("select 1"), Known::Script(_)), "it is the caller's");
        kept.put_back(script);
        assert!(matches!(kept.take("select 1"), Known::Script(_)));
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_length_and_memory() {
        let connection = Connection::open_in_memory().unwrap();
        let mut kept = Kept::default();
        for number in 0..10 * PLACES {
            let text = format!("select {number}");
            for _ in 0..2 {
                let _ = kept.take(&text);
            }
            kept.keep(&text, vec![part(&connection, &text)]);
        }
        assert!((1..=PLACES).contains(&kept.len()));
        kept.clear();
        assert_eq!(kept.len(), 0);
        let long = format!("select 1 -- {}", "x".repeat(LONGEST_TEXT));
        for _ in 0..3 {
            assert!(matches!(kept.take(&long), Known::No));
        }
        let large = format!("select {}", vec!["abs(1)"; 1000].join(", "));
        let statement = part(&connection, &large);
        assert!(statement.statement.memory() > MOST_MEMORY);
        kept.keep("select 2", vec![statement]);
        assert_eq!(kept.len(), 0);
    }
}
