//! The same attack in other words: what SQLite takes for the same must be taken for the same by the guard.
//!
//! Letter case, comments and white space between tokens, quoted names, redundant parentheses, `main.` before a table, and
//! harmless statements around it. Which of them a variant has follows from its seed. Nothing in quotes changes.

use crate::case::{Case, Kind, Program};
use crate::dice::Dice;

/// A variant is no longer than this, in bytes: what is longer than a walk-in may send is refused for that instead.
const LONGEST: usize = 7000;

/// A script longer than this only changes its letters.
const LONG: usize = 3500;

/// Names in the fixtures of the corpus that are no keywords.
const NAMES: &[&str] = &[
    "amount", "band", "body", "history", "id", "item", "low", "name", "notes", "orders", "payslips", "salary",
    "settings", "staff", "value",
];

/// Tables among them.
const TABLES: &[&str] = &["history", "notes", "orders", "payslips", "settings", "staff"];

/// Words that are never a name here, so that their letters can change anywhere.
const KEYWORDS: &[&str] = &[
    "all",
    "alter",
    "and",
    "as",
    "asc",
    "attach",
    "begin",
    "between",
    "by",
    "case",
    "collate",
    "column",
    "commit",
    "create",
    "cross",
    "database",
    "default",
    "delete",
    "desc",
    "detach",
    "distinct",
    "do",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "explain",
    "filter",
    "foreign",
    "from",
    "group",
    "having",
    "in",
    "index",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "notnull",
    "null",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "pragma",
    "primary",
    "recursive",
    "references",
    "reindex",
    "release",
    "rename",
    "replace",
    "returning",
    "rollback",
    "rows",
    "savepoint",
    "select",
    "set",
    "table",
    "then",
    "to",
    "trigger",
    "union",
    "unique",
    "update",
    "using",
    "vacuum",
    "values",
    "view",
    "virtual",
    "when",
    "where",
    "with",
];

/// `count` variants of an attack in SQL; none of anything else. They have the attack's id and a number: `sql/x~1`.
#[must_use]
pub fn variants(case: &Case, count: u32, seed: u64) -> Vec<Case> {
    let (Kind::Attack(attack), Program::Sql(script)) = (&case.kind, &case.program) else {
        return Vec::new();
    };
    let returns_rows = attack.control.rows.is_some();
    let write = |number: u32| {
        let id = format!("{}~{number}", case.id);
        let mut writer = Writer::new(script, case.fixture.is_some(), Dice::named(seed, &id));
        Case {
            program: Program::Sql(writer.written(returns_rows)),
            id,
            ..case.clone()
        }
    };
    (1..=count).map(write).collect()
}

/// A piece of SQL, with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Word(&'a str),
    Number(&'a str),
    /// Whatever stands in quotes, and parameters.
    Fixed(&'a str),
    /// Operators whole: nothing may come between `|` and `|`.
    Symbol(&'a str),
    /// White space and comments.
    Blank(&'a str),
}

impl<'a> Piece<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Number(text) | Self::Fixed(text) | Self::Symbol(text) | Self::Blank(text) => text,
        }
    }

    fn is_word(self, word: &str) -> bool {
        matches!(self, Self::Word(text) if text.eq_ignore_ascii_case(word))
    }
}

struct Writer<'a> {
    pieces: Vec<Piece<'a>>,
    /// A script that defines names must spell them as its control looks for them.
    defines_names: bool,
    has_fixture: bool,
    /// `ADD COLUMN` puts its own text into the schema, up to the last word: a comment to the end of the line would go on.
    alters: bool,
    dice: Dice,
}

impl<'a> Writer<'a> {
    fn new(script: &'a str, has_fixture: bool, dice: Dice) -> Self {
        let pieces = pieces(script);
        let defines_names = pieces
            .iter()
            .any(|piece| piece.is_word("create") || piece.is_word("alter") || piece.is_word("attach"));
        let alters = pieces.iter().any(|piece| piece.is_word("alter"));
        Self {
            pieces,
            defines_names,
            has_fixture,
            alters,
            dice,
        }
    }

    fn written(&mut self, returns_rows: bool) -> String {
        let length: usize = self.pieces.iter().map(|piece| piece.text().len()).sum();
        let is_long = length > LONG;
        let room = if is_long { 0 } else { LONGEST - length };
        let mut text = String::new();
        if !is_long && self.dice.once_in(2) {
            // Text, because no control looks for it: were the attack refused, this would be the last result.
            text.push_str("select 'harmless';\n");
        }
        let base = text.len();
        for at in 0..self.pieces.len() {
            let piece = self.piece(at);
            let has_room = text.len() < base + length.min(LONG) + room / 2;
            if has_room && !is_long {
                self.write(at, piece, &mut text);
            } else {
                text.push_str(&self.spelled(piece));
            }
        }
        if !is_long && !returns_rows && self.dice.once_in(2) {
            text.push_str("\n;select 'harmless';;");
        }
        text
    }

    /// The piece at `at`; a blank where there is none.
    fn piece(&self, at: usize) -> Piece<'a> {
        self.pieces.get(at).copied().unwrap_or(Piece::Blank(""))
    }

    fn next(&self, at: usize) -> Piece<'a> {
        let mut rest = self.pieces.iter().skip(at + 1);
        rest.find(|piece| !matches!(piece, Piece::Blank(_)))
            .copied()
            .unwrap_or(Piece::Blank(""))
    }

    fn previous(&self, at: usize) -> Piece<'a> {
        let before = self.pieces.get(..at).unwrap_or_default();
        let mut before = before.iter().rev();
        before
            .find(|piece| !matches!(piece, Piece::Blank(_)))
            .copied()
            .unwrap_or(Piece::Blank(""))
    }

    fn write(&mut self, at: usize, piece: Piece<'a>, text: &mut String) {
        match piece {
            Piece::Word(word) => {
                if self.may_be_qualified(at) && self.dice.once_in(2) {
                    text.push_str("main.");
                }
                let spelled = self.spelled(piece);
                let may_be_quoted = self.is_fixture_name(word) && self.next(at) != Piece::Symbol("(");
                if may_be_quoted && self.dice.once_in(3) {
                    text.push_str(&self.quoted(&spelled));
                } else {
                    text.push_str(&spelled);
                }
            }
            Piece::Number(number) if self.may_be_wrapped(at) && self.dice.once_in(2) => {
                text.push_str(&format!("(({number}))"));
            }
            Piece::Blank(_) => text.push_str(self.blank_after(text)),
            _ => text.push_str(piece.text()),
        }
        let is_between = !matches!(piece, Piece::Blank(_)) && at + 1 < self.pieces.len();
        if is_between && self.dice.once_in(4) {
            text.push_str(self.blank_after(text));
        }
    }

    fn spelled(&mut self, piece: Piece<'a>) -> String {
        let Piece::Word(word) = piece else {
            return piece.text().to_owned();
        };
        let is_keyword = KEYWORDS.contains(&word.to_ascii_lowercase().as_str());
        if !is_keyword && self.defines_names {
            return word.to_owned();
        }
        word.chars()
            .map(|letter| match self.dice.below(2) {
                0 => letter.to_ascii_uppercase(),
                _ => letter.to_ascii_lowercase(),
            })
            .collect()
    }

    /// A minus and a comment would be a longer comment, and a slash and one too.
    fn blank_after(&mut self, text: &str) -> &'static str {
        let blank = self.blank();
        let would_go_on = self.alters && blank.contains("--");
        if would_go_on || text.ends_with(['-', '/']) {
            " "
        } else {
            blank
        }
    }

    fn blank(&mut self) -> &'static str {
        const BLANKS: [&str; 8] = [" ", "\n", "\t", "/* */", " /* ' */ ", "--\n", " -- \"\n", "\r\n"];
        BLANKS.get(self.dice.below(BLANKS.len())).copied().unwrap_or(" ")
    }

    fn quoted(&mut self, name: &str) -> String {
        match self.dice.below(3) {
            0 => format!("\"{name}\""),
            1 => format!("[{name}]"),
            _ => format!("`{name}`"),
        }
    }

    fn is_fixture_name(&self, word: &str) -> bool {
        self.has_fixture && !self.defines_names && NAMES.contains(&word.to_ascii_lowercase().as_str())
    }

    /// A table's name where only the table can be meant.
    fn may_be_qualified(&self, at: usize) -> bool {
        let word = self.piece(at).text().to_ascii_lowercase();
        let follows = ["from", "join", "into", "update"]
            .iter()
            .any(|word| self.previous(at).is_word(word));
        let is_table = self.has_fixture && !self.defines_names && TABLES.contains(&word.as_str());
        // A common table expression may have the same name.
        let is_expression = (0..self.pieces.len()).any(|other| {
            let follows_with = self.previous(other).is_word("with") || self.previous(other).is_word("recursive");
            self.piece(other).is_word(&word) && (follows_with || self.next(other).is_word("as"))
        });
        follows && is_table && !is_expression && self.next(at) != Piece::Symbol(".")
    }

    /// A number that is compared or added. A pragma takes no expression.
    fn may_be_wrapped(&self, at: usize) -> bool {
        let is_operand = ["<", "<=", ">", ">=", "+", "-", "*", "<>"]
            .iter()
            .any(|operator| self.previous(at) == Piece::Symbol(operator));
        is_operand
            && !self
                .pieces
                .iter()
                .any(|piece| piece.is_word("pragma") || piece.is_word("frame"))
    }
}

/// `script` in pieces: their texts, one after the other, are `script`.
fn pieces(script: &str) -> Vec<Piece<'_>> {
    let mut rest = script;
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let piece = piece(rest, first);
        let length = piece.text().len().max(first.len_utf8());
        found.push(piece);
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

fn piece(rest: &str, first: char) -> Piece<'_> {
    let upto = |length: usize| rest.get(..length).unwrap_or(rest);
    let while_is = |is: fn(char) -> bool| upto(rest.find(|character| !is(character)).unwrap_or(rest.len()));
    match first {
        '-' if rest.starts_with("--") => Piece::Blank(upto(rest.find('\n').map_or(rest.len(), |end| end + 1))),
        '/' if rest.starts_with("/*") => {
            let body = rest.get(2..).unwrap_or_default();
            Piece::Blank(upto(body.find("*/").map_or(rest.len(), |end| end + 4)))
        }
        '\'' | '"' | '`' => Piece::Fixed(upto(quoted_length(rest, first))),
        '[' => Piece::Fixed(upto(rest.find(']').map_or(rest.len(), |end| end + 1))),
        'x' | 'X' if rest.get(1..2) == Some("'") => {
            let body = rest.get(1..).unwrap_or_default();
            Piece::Fixed(upto(1 + quoted_length(body, '\'')))
        }
        // A parameter may end in parentheses with anything between them, and a keyword may follow it at once: all that
        // stands together stays together.
        '?' | '$' | '@' | '#' | ':' | '\u{feff}' => Piece::Fixed(while_is(|character| {
            !character.is_whitespace() && !matches!(character, ',' | ';')
        })),
        _ if first.is_ascii_digit() => Piece::Number(while_is(|character| {
            character.is_ascii_alphanumeric() || matches!(character, '.' | '_')
        })),
        _ if is_name(first) => Piece::Word(while_is(is_name)),
        _ if first.is_whitespace() => Piece::Blank(while_is(char::is_whitespace)),
        _ => {
            let operators = ["->>", "||", "<=", ">=", "<>", "!=", "==", "->", "<<", ">>"];
            let operator = operators.iter().find(|operator| rest.starts_with(**operator));
            Piece::Symbol(upto(operator.map_or(first.len_utf8(), |operator| operator.len())))
        }
    }
}

/// Up to the closing quote; a doubled one stands for itself.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + quote.len_utf8();
        }
    }
    rest.len()
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

#[cfg(test)]
mod tests {
    use crate::corpus::Corpus;

    use super::*;

    fn written(script: &str, seed: u64) -> String {
        Writer::new(script, true, Dice::new(seed)).written(false)
    }

    #[test]
    fn the_pieces_of_a_script_are_the_script() {
        for script in [
            "select 'it''s', \"a\"\"b\", [c d], `e` -- x\n/* y */ from t where a||b<=x'00' and $a(') = ?1natural",
            "select 1.5e3,.5,0xAB->>'$' /* open",
            "\u{feff}select 'open",
            "",
        ] {
            let together: String = pieces(script).into_iter().map(Piece::text).collect();
            assert_eq!(together, script);
        }
    }

    #[test]
    fn every_transformation_is_reached_and_quotes_stay_as_they_are() {
        let script = "select salary from staff where salary > 5000 and name <> 'It''s /* me */'";
        let many: Vec<String> = (0..200).map(|seed| written(script, seed)).collect();
        for wanted in [
            "/* */",
            "--\n",
            "main.",
            "((5000))",
            "select 'harmless';\n",
            ";select 'harmless';;",
            "[",
            "`",
            "\t",
        ] {
            assert!(many.iter().any(|text| text.contains(wanted)), "{wanted}");
        }
        assert!(many.iter().all(|text| text.contains("'It''s /* me */'")));
        assert!(many.iter().any(|text| text.contains("FROM") || text.contains("From")));
    }

    #[test]
    fn no_comment_swallows_what_was_none() {
        for seed in 0..200 {
            let text = written("select 5 - 1 / 2", seed);
            let bare: Vec<String> = pieces(&text)
                .into_iter()
                .filter(|piece| matches!(piece, Piece::Word(_) | Piece::Number(_) | Piece::Symbol("-" | "/")))
                .map(|piece| piece.text().to_lowercase())
                .collect();
            let bare: Vec<&str> = bare.iter().map(String::as_str).collect();
            let wanted = ["select", "5", "-", "1", "/", "2"];
            assert!(bare.windows(6).any(|window| window == wanted), "{text}");
        }
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let script = "select body from notes where id = 1";
        assert_eq!(written(script, 7), written(script, 7));
        assert!((0..20).any(|seed| written(script, seed) != written(script, 7)));
    }

    #[test]
    fn every_attack_in_sql_has_variants_that_are_others() {
        let corpus = Corpus::embedded().unwrap();
        let attacks: Vec<_> = corpus.cases().iter().filter(|case| case.attack().is_some()).collect();
        for case in attacks {
            let Program::Sql(script) = &case.program else {
                assert!(variants(case, 2, 1).is_empty(), "{}", case.id);
                continue;
            };
            let two = variants(case, 2, 1);
            assert_eq!(two.len(), 2, "{}", case.id);
            for variant in two {
                assert_ne!(variant.program, Program::Sql(script.clone()), "{}", variant.id);
            }
        }
    }
}
