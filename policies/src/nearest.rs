//! "Did you mean".

/// Longer than any name; comparing takes time that grows with the length of both.
const LONGEST: usize = 256;

/// The known name that a typo most likely stands for, if one is near enough.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if typed.len() > LONGEST {
        return None;
    }
    let near_enough = (typed.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= near_enough)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// How many characters must be added, removed or replaced, or neighbours swapped, to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, c) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, d) in to.iter().enumerate() {
            let cost = |costs: &[usize], at: usize| costs.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut best = (cost(&last, column) + usize::from(c != *d))
                .min(cost(&last, column + 1) + 1)
                .min(cost(&current, column) + 1);
            let swapped = column > 0 && previous == Some(*d) && to.get(column - 1) == Some(&c);
            if swapped {
                best = best.min(cost(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(c);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_near() {
        let known = ["untrusted", "database-only", "standard", "walkin", "pure"];
        assert_eq!(nearest("untursted", known).as_deref(), Some("untrusted"));
        assert_eq!(nearest("databse-only", known).as_deref(), Some("database-only"));
        assert_eq!(nearest("walk-in", known).as_deref(), Some("walkin"));
        assert_eq!(nearest("Pure", known).as_deref(), Some("pure"));
    }

    #[test]
    fn other_words_are_not() {
        assert_eq!(nearest("reports", ["untrusted", "pure"]), None);
        assert_eq!(nearest("", ["pure"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
    }
}
