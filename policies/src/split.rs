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

/// Cuts after every `;` outside strings and comments. What comes before a policy, blank or comment, belongs to none.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = None;
    let mut state = State::Code;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        state = match (state, c) {
            // Cedar ends a comment at either: what it takes for a policy must not be skipped here.
            (State::Comment, '\n' | '\r') | (State::Text, '"') => State::Code,
            (State::Comment, _) => State::Comment,
            (State::Text, '\\') => {
                characters.next();
                State::Text
            }
            (State::Text, _) => State::Text,
            (State::Code, '/') if next == Some('/') => State::Comment,
            (State::Code, _) => {
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
                if c == '"' { State::Text } else { State::Code }
            }
        };
    }
    if let Some(offset) = start {
        pieces.push(Piece {
            offset,
            text: text.get(offset..).unwrap_or_default().trim_end(),
        });
    }
    pieces
}

#[derive(Clone, Copy)]
enum State {
    Code,
    Text,
    Comment,
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
    fn a_comment_after_the_last_policy_is_no_policy() {
        assert_eq!(texts("a;\n// the end"), ["a;"]);
    }
}
