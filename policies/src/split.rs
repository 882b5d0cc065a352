//! One text into its policies.
//!
//! Cedar parses a file as a whole and numbers what it finds. Splitting first gives every policy a place of its own, and
//! lets several mistakes be reported at once.

/// The text of one policy, and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) offset: usize,
    pub(crate) text: &'a str,
}

impl<'a> Piece<'a> {
    /// A text that is not cut.
    pub(crate) fn whole(text: &'a str) -> Self {
        Self { offset: 0, text }
    }
}

/// Cuts after every `;` outside strings and comments. What comes before a policy, blank or comment, belongs to none.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = None;
    for (at, c) in code(text) {
        if start.is_none() && !c.is_whitespace() {
            start = Some(at);
        }
        if c == ';'
            && let Some(offset) = start.take()
        {
            pieces.push(Piece {
                offset,
                text: text.get(offset..=at).unwrap_or_default(),
            });
        }
    }
    if let Some(offset) = start {
        pieces.push(Piece {
            offset,
            text: text.get(offset..).unwrap_or_default().trim_end(),
        });
    }
    pieces
}

/// The characters outside comments and strings, and the quote that opens a string.
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, char)> {
    marked(text)
        .filter(|(_, _, part)| *part == Part::Code)
        .map(|(at, c, _)| (at, c))
}

/// Names, strings with their quotes, and every other character by itself; comments and blanks are left out.
pub(crate) fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut push = |start: usize, end: usize| words.extend(text.get(start..end).map(|word| (start, word)));
    let mut open: Option<(usize, Part)> = None;
    for (at, c, part) in marked(text) {
        let is_name = part == Part::Code && (c.is_alphanumeric() || c == '_');
        match open {
            Some((_, Part::Text)) if part == Part::Text => continue,
            Some((_, Part::Code)) if is_name => continue,
            Some((start, _)) => push(start, at),
            None => {}
        }
        open = match c {
            '"' if part == Part::Code => Some((at, Part::Text)),
            _ if is_name => Some((at, Part::Code)),
            _ => {
                if part == Part::Code && !c.is_whitespace() {
                    push(at, at + c.len_utf8());
                }
                None
            }
        };
    }
    if let Some((start, _)) = open {
        push(start, text.len());
    }
    words
}

/// Every comment, in order, without what ends its line.
#[cfg(feature = "workbench")]
pub(crate) fn comments(text: &str) -> Vec<&str> {
    let mut comments = Vec::new();
    let mut start = None;
    let mut push = |start: usize, end: usize| comments.extend(text.get(start..end).map(str::trim_end));
    for (at, c, part) in marked(text) {
        if part != Part::Comment {
            continue;
        }
        let begun = *start.get_or_insert(at);
        if matches!(c, '\n' | '\r') {
            push(begun, at);
            start = None;
        }
    }
    if let Some(begun) = start {
        push(begun, text.len());
    }
    comments
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    /// The inside of a string, and the quote that closes it.
    Text,
    Comment,
}

fn marked(text: &str) -> impl Iterator<Item = (usize, char, Part)> {
    let mut characters = text.char_indices().peekable();
    let mut state = Part::Code;
    let mut is_escaped = false;
    std::iter::from_fn(move || {
        let (at, c) = characters.next()?;
        let next = characters.peek().map(|(_, next)| *next);
        let (part, after) = match (state, c) {
            // Cedar ends a comment at either: what it takes for a policy must not be skipped here.
            (Part::Comment, '\n' | '\r') => (Part::Comment, Part::Code),
            (Part::Comment, _) => (Part::Comment, Part::Comment),
            (Part::Text, '"') if !is_escaped => (Part::Text, Part::Code),
            (Part::Text, _) => (Part::Text, Part::Text),
            (Part::Code, '/') if next == Some('/') => (Part::Comment, Part::Comment),
            (Part::Code, '"') => (Part::Code, Part::Text),
            (Part::Code, _) => (Part::Code, Part::Code),
        };
        is_escaped = part == Part::Text && c == '\\' && !is_escaped;
        state = after;
        Some((at, c, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        pieces(text).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn a_semicolon_ends_a_policy() {
        assert_eq!(texts("a;  b ;"), ["a;", "b ;"]);
        assert_eq!(texts("a; b"), ["a;", "b"]);
        assert!(texts(" \n\t").is_empty());
    }

    #[test]
    fn comments_and_strings_hide_semicolons() {
        assert_eq!(texts("// no; policy\na // not; here\n;"), ["a // not; here\n;"]);
        assert_eq!(texts(r#"a "x;\";y"; b;"#), [r#"a "x;\";y";"#, "b;"]);
        assert_eq!(texts("\"// not a comment\";"), ["\"// not a comment\";"]);
    }

    #[test]
    fn an_open_string_swallows_the_rest() {
        assert_eq!(texts("a \"; b;"), ["a \"; b;"]);
        assert_eq!(texts("a \"\\"), ["a \"\\"]);
    }

    #[test]
    fn a_piece_knows_where_it_starts() {
        let text = "// é\n\n  a;\nb;";
        for piece in pieces(text) {
            assert!(
                text.get(piece.offset..)
                    .is_some_and(|rest| rest.starts_with(piece.text))
            );
        }
        assert_eq!(
            pieces(text).iter().map(|piece| piece.offset).collect::<Vec<_>>(),
            [9, 12]
        );
    }

    #[test]
    fn a_carriage_return_ends_a_comment_as_it_does_for_cedar() {
        assert_eq!(texts("// no\ra;\r\n// no\r\nb;"), ["a;", "b;"]);
    }

    #[test]
    fn words_are_names_strings_and_marks() {
        let found = |text| words(text).into_iter().map(|(_, word)| word).collect::<Vec<_>>();
        assert_eq!(
            found("entity Größe in [A] // entity B\n= {\"a b\"?: Long};"),
            [
                "entity", "Größe", "in", "[", "A", "]", "=", "{", "\"a b\"", "?", ":", "Long", "}", ";"
            ]
        );
        assert_eq!(found(r#"x"\"//"y"#), ["x", r#""\"//""#, "y"]);
        assert_eq!(found("\"a\"\"b"), ["\"a\"", "\"b"]);
        assert!(
            words("ab \"c\"")
                .iter()
                .all(|(at, word)| "ab \"c\"".get(*at..).is_some_and(|rest| rest.starts_with(word)))
        );
    }

    #[test]
    fn a_comment_after_the_last_policy_is_no_policy() {
        assert_eq!(texts("a;\n// the end"), ["a;"]);
    }
}
