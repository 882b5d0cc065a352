//! How many words, letters as people see them, and bytes.

use stockade_honest_modules::program;
use unicode_segmentation::UnicodeSegmentation;

fn counted(text: &str) -> String {
    let words = text.unicode_words().count();
    let letters = text.graphemes(true).count();
    format!("{words} {letters} {}", text.len())
}

program!(counted);
