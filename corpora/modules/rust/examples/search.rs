//! The lines that match a regular expression, which is the first line.

use regex::Regex;
use stockade_honest_modules::program;

fn found(text: &str) -> String {
    let (pattern, lines) = text.split_once('\n').unwrap_or((text, ""));
    match Regex::new(pattern) {
        Ok(pattern) => lines.lines().filter(|line| pattern.is_match(line)).collect::<Vec<_>>().join("\n"),
        Err(error) => error.to_string(),
    }
}

program!(found);
