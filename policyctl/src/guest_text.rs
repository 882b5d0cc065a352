//! Text that a guest wrote, made harmless for a terminal.

/// Control characters, and those that nobody sees, as escapes: a guest's text cannot move the cursor, change colours, forge
/// a line or look like another text.
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
    let reorders =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Not U+200C and U+200D, without which some languages cannot be written.
    let is_unseen = matches!(
        character,
        '\u{ad}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    );
    character == '\n' || character == '\t' || !(character.is_control() || reorders || is_unseen)
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
        assert_eq!(harmless("lo\u{200b}g\u{feff}"), "lo\\u{200b}g\\u{feff}");
        assert_eq!(harmless("می\u{200c}خواهم"), "می\u{200c}خواهم");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }
}
