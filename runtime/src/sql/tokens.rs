//! SQL as SQLite's own tokenizer cuts it: <https://sqlite.org/src/file/src/tokenize.c>.
//!
//! For questions that words alone answer. It never fails: what SQLite would reject is cut into something, and SQLite
//! rejects it afterwards.

use std::borrow::Cow;

/// A piece of SQL. Comments and white space are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, a number or a name that is not quoted.
    Word(&'a str),
    /// A name in double quotes, backticks or brackets, without them.
    Name(Cow<'a, str>),
    /// A text, without its quotes. Where a name is expected, SQLite takes it for one.
    Text(Cow<'a, str>),
    /// Anything else, a character at a time.
    Symbol(char),
}

impl Token<'_> {
    /// A word that is not quoted: only such a one can be a keyword.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Name(_) | Self::Text(_) | Self::Symbol(_) => None,
        }
    }

    /// What may name a function.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) => Some(name),
            Self::Name(name) => Some(name),
            Self::Text(_) | Self::Symbol(_) => None,
        }
    }

    /// What may name a table or a column.
    pub(super) fn name_or_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            other => other.name(),
        }
    }
}

/// The tokens of `script`, in order.
pub(super) fn tokens(script: &str) -> Vec<Token<'_>> {
    let mut rest = script;
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, comment_length(rest)),
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => bracketed(rest),
            '?' => (Some(Token::Symbol(first)), numbered_variable_length(rest)),
            '$' | '@' | '#' | ':' => (Some(Token::Symbol(first)), variable_length(rest)),
            // A byte order mark is white space where a token starts, and part of a name inside one.
            '\u{feff}' => (None, first.len_utf8()),
            _ if is_word(first) => word(rest),
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ => (Some(Token::Symbol(first)), first.len_utf8()),
        };
        found.extend(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

/// "Comments … do not nest"; one that is not closed reaches to the end.
fn comment_length(rest: &str) -> usize {
    let body = rest.get(2..).unwrap_or_default();
    body.find("*/").map_or(rest.len(), |end| end + 4)
}

/// Text up to the closing quote; a doubled one stands for itself.
fn quoted(rest: &str, quote: char) -> (Option<Token<'_>>, usize) {
    let token = if quote == '\'' { Token::Text } else { Token::Name };
    let body = rest.get(1..).unwrap_or_default();
    let mut has_doubled = false;
    let mut from = 0;
    let end = loop {
        let Some(at) = body.get(from..).and_then(|left| left.find(quote)).map(|at| from + at) else {
            break body.len();
        };
        if !body.get(at + 1..).is_some_and(|after| after.starts_with(quote)) {
            break at;
        }
        has_doubled = true;
        from = at + 2;
    };
    let text = body.get(..end).unwrap_or_default();
    let text = if has_doubled {
        Cow::Owned(text.replace(&format!("{quote}{quote}"), &quote.to_string()))
    } else {
        Cow::Borrowed(text)
    };
    (Some(token(text)), end + 2)
}

/// A parameter with a number: what follows the digits is a token of its own.
fn numbered_variable_length(rest: &str) -> usize {
    let digits = rest.get(1..).unwrap_or_default();
    1 + digits
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(digits.len())
}

/// A parameter. In the manner of Tcl it may go on with `::` and end in parentheses with anything but white space
/// between them, quotation marks too.
fn variable_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let at = |index: usize| bytes.get(index).copied();
    let mut end = 1;
    while let Some(byte) = at(end) {
        match byte {
            b'(' if end > 1 => {
                let body = bytes.get(end + 1..).unwrap_or_default();
                let length = body.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b')');
                let stop = length.map_or(bytes.len(), |length| end + 1 + length);
                return if at(stop) == Some(b')') { stop + 1 } else { stop };
            }
            b':' if at(end + 1) == Some(b':') => end += 2,
            b'_' | b'$' => end += 1,
            byte if byte.is_ascii_alphanumeric() || !byte.is_ascii() => end += 1,
            _ => break,
        }
    }
    end
}

fn bracketed(rest: &str) -> (Option<Token<'_>>, usize) {
    let end = rest.find(']').unwrap_or(rest.len());
    let text = rest.get(1..end).unwrap_or_default();
    (Some(Token::Name(text.into())), end + 1)
}

fn word(rest: &str) -> (Option<Token<'_>>, usize) {
    let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
    (Some(Token::Word(rest.get(..end).unwrap_or_default())), end)
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// Words to look for in a text.
pub(super) struct Words {
    words: &'static [&'static str],
    /// How many of them come before those that begin with each letter, and how many there are.
    starts: [u8; 27],
}

impl Words {
    /// These words, which are lower-case letters and underscores, and in the order of their first letters.
    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "where it goes wrong, nothing is compiled"
    )]
    pub(super) const fn new(words: &'static [&'static str]) -> Self {
        let mut starts = [0; 27];
        let (mut letter, mut at) = (0, 0);
        while letter < 26 {
            starts[letter] = at as u8;
            while at < words.len() && words[at].as_bytes()[0] == b'a' + letter as u8 {
                at += 1;
            }
            letter += 1;
        }
        starts[26] = at as u8;
        assert!(at == words.len() && at < 256, "too many words, or not in order");
        Self { words, starts }
    }

    /// Whether one of them begins anywhere in `text` where no word goes on. No token is taken for what it is, so this finds too
    /// much and never too little.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let mut rest = text.as_bytes();
        let mut follows_letter = false;
        while let [byte, after @ ..] = rest {
            // A letter's place in the alphabet; beyond that for what is none.
            let letter = (byte | 0x20).wrapping_sub(b'a');
            let is_letter = letter < 26;
            if is_letter && !follows_letter && self.beginning_with(letter).iter().any(|word| begins_with(rest, word)) {
                return true;
            }
            follows_letter = is_letter;
            rest = after;
        }
        false
    }

    /// Those that begin with a letter, `a` being 0.
    fn beginning_with(&self, letter: u8) -> &[&'static str] {
        let letter = usize::from(letter);
        let range = self.starts.get(letter).zip(self.starts.get(letter + 1));
        range
            .and_then(|(from, to)| self.words.get(usize::from(*from)..usize::from(*to)))
            .unwrap_or_default()
    }
}

/// Two lists of words as [`Words`] wants them, in one.
#[expect(clippy::indexing_slicing, reason = "where it goes wrong, nothing is compiled")]
pub(super) const fn merged<const N: usize>(some: &[&'static str], more: &[&'static str]) -> [&'static str; N] {
    let mut all = [""; N];
    let (mut from_some, mut from_more) = (0, 0);
    while from_some + from_more < N {
        let is_from_some = from_more == more.len()
            || (from_some < some.len() && some[from_some].as_bytes()[0] <= more[from_more].as_bytes()[0]);
        all[from_some + from_more] = if is_from_some { some[from_some] } else { more[from_more] };
        if is_from_some {
            from_some += 1;
        } else {
            from_more += 1;
        }
    }
    all
}

fn begins_with(text: &[u8], word: &str) -> bool {
    let mut letters = text.iter().map(u8::to_ascii_lowercase);
    // The second letter mostly tells that it does not.
    word.bytes().all(|letter| letters.next() == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Token<'_> {
        Token::Word(text)
    }

    fn name(text: &str) -> Token<'_> {
        Token::Name(text.into())
    }

    fn text(text: &str) -> Token<'_> {
        Token::Text(text.into())
    }

    #[test]
    fn comments_hide_nothing_and_are_nothing() {
        assert_eq!(
            tokens("a/* b */natural--c\njoin /* open"),
            [word("a"), word("natural"), word("join")]
        );
        assert_eq!(tokens("/**/x"), [word("x")]);
        assert_eq!(tokens("/*/x*/y"), [word("y")]);
    }

    #[test]
    fn every_quote_gives_the_name_inside() {
        assert_eq!(
            tokens("'a''b' \"c\"\"d\" `e` [f g] 'open"),
            [text("a'b"), name("c\"d"), name("e"), name("f g"), text("open")]
        );
        assert_eq!(tokens("[open"), [name("open")]);
    }

    #[test]
    fn a_variable_ends_where_it_does_for_sqlite() {
        let variable = Token::Symbol('$');
        assert_eq!(
            tokens("$a('), natural"),
            [variable.clone(), Token::Symbol(','), word("natural")]
        );
        assert_eq!(tokens("$a::b(\"x)y"), [variable.clone(), word("y")]);
        assert_eq!(tokens("$a(' natural"), [variable.clone(), word("natural")]);
        assert_eq!(tokens("$(a"), [variable, Token::Symbol('('), word("a")]);
        assert_eq!(
            tokens(":x@y#z"),
            [Token::Symbol(':'), Token::Symbol('@'), Token::Symbol('#')]
        );
        assert_eq!(tokens("?1natural"), [Token::Symbol('?'), word("natural")]);
        assert_eq!(
            tokens("\u{feff}natural a\u{feff}b"),
            [word("natural"), word("a\u{feff}b")]
        );
    }

    #[test]
    fn names_may_hold_any_letter() {
        assert_eq!(tokens("straße$1.x"), [word("straße$1"), Token::Symbol('.'), word("x")]);
        assert_eq!(tokens(""), []);
    }
}
