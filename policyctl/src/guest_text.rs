//! Text that a guest wrote, made harmless for a terminal.

/// Control characters as escapes, so that a guest's text cannot move the cursor, change colours or forge a line.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_safe(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

fn is_safe(character: char) -> bool {
    // Bidirectional overrides reorder what is read without being control characters.
    let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character == '\n' || character == '\t' || (!character.is_control() && !reorders)
}

/// As [`harmless`], on one line.
pub(crate) fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_moves_a_cursor_and_keeps_what_is_read() {
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(harmless("évé\n\t漢"), "évé\n\t漢");
        assert_eq!(harmless("\u{202e}txt"), "\\u{202e}txt");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }
}
