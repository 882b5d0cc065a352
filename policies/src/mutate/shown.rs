//! The lines in which a mutant differs from its original.

use cedar_policy::Policy;
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use serde_json::Value as Json;

/// A policy in Cedar's syntax, printed in one way whatever its author's.
pub(crate) fn printed(json: &Json) -> Vec<String> {
    let text = Policy::from_json(None, json.clone())
        .ok()
        .and_then(|policy| Some(policy.to_pst().ok()?.to_string()))
        .unwrap_or_default();
    let pretty = policies_str_to_pretty(&text, &Config::default()).unwrap_or(text);
    pretty.lines().map(str::to_owned).collect()
}

/// The lines that differ, with `-` or `+` in front.
pub(crate) fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let longest = longest_common(before, after);
    let length = |from: usize, to: usize| longest.get(from).and_then(|row| row.get(to)).copied().unwrap_or(0);
    let (mut from, mut to) = (0, 0);
    let mut shown = Vec::new();
    while from < before.len() || to < after.len() {
        match (before.get(from), after.get(to)) {
            (Some(old), Some(new)) if old == new => {
                from += 1;
                to += 1;
            }
            (Some(old), new) if new.is_none() || length(from + 1, to) >= length(from, to + 1) => {
                shown.push(format!("- {old}"));
                from += 1;
            }
            (_, Some(new)) => {
                shown.push(format!("+ {new}"));
                to += 1;
            }
            (_, None) => break,
        }
    }
    shown
}

/// For each pair of tails, how many lines they have in common, in order.
fn longest_common(before: &[String], after: &[String]) -> Vec<Vec<usize>> {
    let mut rows = vec![vec![0; after.len() + 1]];
    for old in before.iter().rev() {
        let below = rows.last().cloned().unwrap_or_default();
        let mut row = vec![0; after.len() + 1];
        for (at, new) in after.iter().enumerate().rev() {
            let of = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(0);
            let best = if old == new {
                of(&below, at + 1) + 1
            } else {
                of(&below, at).max(of(&row, at + 1))
            };
            if let Some(cell) = row.get_mut(at) {
                *cell = best;
            }
        }
        rows.push(row);
    }
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ')
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn only_what_differs_is_shown() {
        let of = |before: &str, after: &str| difference(&lines(before), &lines(after));
        assert_eq!(of("a b c", "a x c"), ["- b", "+ x"]);
        assert_eq!(of("a b c", "a c"), ["- b"]);
        assert_eq!(of("a c", "a b c"), ["+ b"]);
        assert_eq!(of("a b", ""), ["- a", "- b"]);
        assert!(of("a b", "a b").is_empty());
    }
}
