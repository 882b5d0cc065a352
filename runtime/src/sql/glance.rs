//! The first look at a script, which mostly is the last.

use std::cell::OnceCell;

use super::tokens::{Words, merged};
use super::{keywords, unreported};

/// The words that [`keywords`] or [`unreported`] look for.
const EITHER: [&str; keywords::WORDS.len() + unreported::SIGNS.len()] = merged(keywords::WORDS, unreported::SIGNS);
static CLOSER_LOOK: Words = Words::new(&EITHER);

/// A script, and whether nothing in it calls for a closer look. Looked at once, when somebody first wants to know.
pub(crate) struct Glanced<'t> {
    text: &'t str,
    is_plain: OnceCell<bool>,
}

impl<'t> Glanced<'t> {
    /// A script that nobody has looked at.
    pub(crate) fn of(text: &'t str) -> Self {
        Self {
            text,
            is_plain: OnceCell::new(),
        }
    }

    /// Its text.
    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// Whether it has none of the words that anybody looks for.
    pub(super) fn is_plain(&self) -> bool {
        *self.is_plain.get_or_init(|| !CLOSER_LOOK.are_in(self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_that_somebody_looks_for_calls_for_a_closer_look() {
        for word in keywords::WORDS.iter().chain(unreported::SIGNS) {
            assert!(!Glanced::of(&format!("select 1;{word}")).is_plain(), "{word}");
        }
        assert!(Glanced::of("select body from notes where id = 500").is_plain());
    }
}
