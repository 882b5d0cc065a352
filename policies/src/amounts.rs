//! Sets of amounts: exact unions of intervals of 64-bit integers.

/// A set of integers, as sorted intervals that neither touch nor overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Amounts(Vec<(i64, i64)>);

impl Amounts {
    /// No amount.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Every amount.
    pub(crate) fn all() -> Self {
        Self(vec![(i64::MIN, i64::MAX)])
    }

    /// Every amount from `low` to `high`, both included.
    pub(crate) fn between(low: i64, high: i64) -> Self {
        if low <= high {
            Self(vec![(low, high)])
        } else {
            Self::none()
        }
    }

    /// The integers from `low` to `high` that an amount can be.
    pub(crate) fn clamped(low: i128, high: i128) -> Self {
        let (smallest, largest) = (i128::from(i64::MIN), i128::from(i64::MAX));
        if low > largest || high < smallest {
            return Self::none();
        }
        let narrow = |value: i128| i64::try_from(value.clamp(smallest, largest)).unwrap_or(i64::MAX);
        Self::between(narrow(low), narrow(high))
    }

    /// The intervals, in order.
    pub(crate) fn intervals(&self) -> &[(i64, i64)] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, amount: i64) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&amount))
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut sorted: Vec<(i64, i64)> = self.0.iter().chain(&other.0).copied().collect();
        sorted.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
        for (low, high) in sorted {
            match joined.last_mut() {
                // `low - 1` cannot overflow: an interval that starts at the smallest integer sorts first.
                Some(last) if last.1 >= low.saturating_sub(1) => last.1 = last.1.max(high),
                _ => joined.push((low, high)),
            }
        }
        Self(joined)
    }

    pub(crate) fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut start = Some(i64::MIN);
        for (low, high) in &self.0 {
            if let Some(from) = start
                && from < *low
            {
                gaps.push((from, low.saturating_sub(1)));
            }
            start = high.checked_add(1);
        }
        if let Some(from) = start {
            gaps.push((from, i64::MAX));
        }
        Self(gaps)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for (low, high) in &self.0 {
            for (other_low, other_high) in &other.0 {
                let overlap = (*low.max(other_low), *high.min(other_high));
                if overlap.0 <= overlap.1 {
                    common.push(overlap);
                }
            }
        }
        Self(common)
    }

    pub(crate) fn without(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: i64 = i64::MIN;
    const MAX: i64 = i64::MAX;

    fn of(intervals: &[(i64, i64)]) -> Amounts {
        intervals.iter().fold(Amounts::none(), |set, (low, high)| {
            set.union(&Amounts::between(*low, *high))
        })
    }

    #[test]
    fn neighbours_are_joined() {
        assert_eq!(of(&[(5, 9), (0, 4)]).intervals(), [(0, 9)]);
        assert_eq!(of(&[(0, 4), (6, 9)]).intervals(), [(0, 4), (6, 9)]);
        assert_eq!(of(&[(0, 9), (2, 3)]).intervals(), [(0, 9)]);
        assert_eq!(of(&[(MIN, MAX), (0, 0)]).intervals(), [(MIN, MAX)]);
        assert_eq!(of(&[(MIN, MIN), (MIN + 1, 0)]).intervals(), [(MIN, 0)]);
    }

    #[test]
    fn complement_reaches_both_ends() {
        assert_eq!(Amounts::none().complement(), Amounts::all());
        assert_eq!(Amounts::all().complement(), Amounts::none());
        assert_eq!(of(&[(0, 4)]).complement().intervals(), [(MIN, -1), (5, MAX)]);
        assert_eq!(of(&[(MIN, -1), (5, MAX)]).complement().intervals(), [(0, 4)]);
    }

    #[test]
    fn difference_cuts() {
        assert_eq!(
            of(&[(0, 9)]).without(&of(&[(3, 4), (9, 20)])).intervals(),
            [(0, 2), (5, 8)]
        );
    }

    #[test]
    fn wide_numbers_are_clamped() {
        assert_eq!(Amounts::clamped(i128::MIN, 5).intervals(), [(MIN, 5)]);
        assert_eq!(Amounts::clamped(i128::from(MAX) + 1, i128::MAX), Amounts::none());
        assert_eq!(Amounts::clamped(0, i128::MAX).intervals(), [(0, MAX)]);
    }
}
