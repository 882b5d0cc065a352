//! Integer expressions over one unknown amount, exact to the last overflow.
//!
//! Cedar computes with checked 64-bit integers: past them is an error, not a number. So an expression is a list of
//! straight lines, each on its own set of amounts, and one more set where it errors.

use crate::amounts::Amounts;

/// The expression is not made of straight lines, or has numbers too large to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotLinear;

/// More pieces than any policy that people read; a set literal in a product would otherwise grow without end.
const MOST_PIECES: usize = 256;

/// `factor * amount + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    factor: i128,
    offset: i128,
}

impl Line {
    /// Where it is at most zero.
    fn at_most_zero(self) -> Result<Amounts, NotLinear> {
        let most = self.offset.checked_neg().ok_or(NotLinear)?;
        Ok(match self.factor {
            0 if self.offset <= 0 => Amounts::all(),
            0 => Amounts::none(),
            // A positive factor rounds down, a negative one turns the comparison round and rounds up.
            factor if factor > 0 => Amounts::clamped(i128::MIN, most.div_euclid(factor)),
            factor => Amounts::clamped(ceiling(most, factor), i128::MAX),
        })
    }

    fn plus(self, other: Self) -> Result<Self, NotLinear> {
        Ok(Self {
            factor: self.factor.checked_add(other.factor).ok_or(NotLinear)?,
            offset: self.offset.checked_add(other.offset).ok_or(NotLinear)?,
        })
    }

    fn times(self, by: i128) -> Result<Self, NotLinear> {
        Ok(Self {
            factor: self.factor.checked_mul(by).ok_or(NotLinear)?,
            offset: self.offset.checked_mul(by).ok_or(NotLinear)?,
        })
    }

    fn minus(self, other: Self) -> Result<Self, NotLinear> {
        self.plus(other.times(-1)?)
    }

    fn product(self, other: Self) -> Result<Self, NotLinear> {
        match (self.factor, other.factor) {
            (0, _) => other.times(self.offset),
            (_, 0) => self.times(other.offset),
            _ => Err(NotLinear),
        }
    }

    /// Where it is a 64-bit integer.
    fn representable(self) -> Result<Amounts, NotLinear> {
        let constant = |value| Self {
            factor: 0,
            offset: value,
        };
        let low_enough = self.minus(constant(i128::from(i64::MAX)))?.at_most_zero()?;
        let high_enough = constant(i128::from(i64::MIN)).minus(self)?.at_most_zero()?;
        Ok(low_enough.intersection(&high_enough))
    }
}

/// `numerator / denominator`, rounded up, for a negative denominator.
fn ceiling(numerator: i128, denominator: i128) -> i128 {
    // Euclidean division by a negative number rounds up: the remainder is never negative.
    numerator.div_euclid(denominator)
}

/// An integer expression.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    pieces: Vec<(Amounts, Line)>,
    pub(crate) error: Amounts,
}

/// Where a comparison holds, does not, and errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) yes: Amounts,
    pub(crate) no: Amounts,
    pub(crate) error: Amounts,
}

/// Which comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessOrEqual,
    Equal,
}

impl Number {
    pub(crate) fn constant(value: i64) -> Self {
        Self::line(Line {
            factor: 0,
            offset: i128::from(value),
        })
    }

    /// The unknown amount itself.
    pub(crate) fn amount() -> Self {
        Self::line(Line { factor: 1, offset: 0 })
    }

    /// What partial evaluation has found to error whenever it is looked at.
    pub(crate) fn error() -> Self {
        Self {
            pieces: Vec::new(),
            error: Amounts::all(),
        }
    }

    fn line(line: Line) -> Self {
        Self {
            pieces: vec![(Amounts::all(), line)],
            error: Amounts::none(),
        }
    }

    pub(crate) fn plus(&self, other: &Self) -> Result<Self, NotLinear> {
        self.combined(other, Line::plus)
    }

    pub(crate) fn minus(&self, other: &Self) -> Result<Self, NotLinear> {
        self.combined(other, Line::minus)
    }

    pub(crate) fn times(&self, other: &Self) -> Result<Self, NotLinear> {
        self.combined(other, Line::product)
    }

    /// One number where the condition holds, another where it does not.
    pub(crate) fn chosen(condition: &Truth, then: &Self, otherwise: &Self) -> Self {
        let within = |number: &Self, domain: &Amounts| -> Vec<(Amounts, Line)> {
            number
                .pieces
                .iter()
                .map(|(on, line)| (on.intersection(domain), *line))
                .filter(|(on, _)| !on.is_empty())
                .collect()
        };
        let mut pieces = within(then, &condition.yes);
        pieces.extend(within(otherwise, &condition.no));
        let error = condition
            .error
            .union(&then.error.intersection(&condition.yes))
            .union(&otherwise.error.intersection(&condition.no));
        Self { pieces, error }
    }

    fn combined(&self, other: &Self, with: fn(Line, Line) -> Result<Line, NotLinear>) -> Result<Self, NotLinear> {
        let mut pieces = Vec::new();
        let mut error = self.error.union(&other.error);
        for (domain, left, right) in self.overlaps(other) {
            let line = with(left, right)?;
            let representable = line.representable()?;
            error = error.union(&domain.without(&representable));
            let domain = domain.intersection(&representable);
            if !domain.is_empty() {
                pieces.push((domain, line));
            }
        }
        if pieces.len() > MOST_PIECES {
            Err(NotLinear)
        } else {
            Ok(Self { pieces, error })
        }
    }

    pub(crate) fn compared(&self, order: Order, other: &Self) -> Result<Truth, NotLinear> {
        let mut yes = Amounts::none();
        let mut no = Amounts::none();
        for (domain, left, right) in self.overlaps(other) {
            let difference = left.minus(right)?;
            let holds = match order {
                Order::LessOrEqual => difference.at_most_zero()?,
                Order::Less => difference.plus(Line { factor: 0, offset: 1 })?.at_most_zero()?,
                Order::Equal => difference
                    .at_most_zero()?
                    .intersection(&difference.times(-1)?.at_most_zero()?),
            };
            no = no.union(&domain.without(&holds));
            yes = yes.union(&domain.intersection(&holds));
        }
        Ok(Truth {
            yes,
            no,
            error: self.error.union(&other.error),
        })
    }

    fn overlaps(&self, other: &Self) -> Vec<(Amounts, Line, Line)> {
        let pairs = self
            .pieces
            .iter()
            .flat_map(|left| other.pieces.iter().map(move |right| (left, right)));
        pairs
            .map(|((left_on, left), (right_on, right))| (left_on.intersection(right_on), *left, *right))
            .filter(|(domain, _, _)| !domain.is_empty())
            .collect()
    }
}

impl Truth {
    pub(crate) fn always(value: bool) -> Self {
        let (yes, no) = if value {
            (Amounts::all(), Amounts::none())
        } else {
            (Amounts::none(), Amounts::all())
        };
        Self {
            yes,
            no,
            error: Amounts::none(),
        }
    }

    pub(crate) fn error() -> Self {
        Self {
            yes: Amounts::none(),
            no: Amounts::none(),
            error: Amounts::all(),
        }
    }

    pub(crate) fn negated(self) -> Self {
        Self {
            yes: self.no,
            no: self.yes,
            error: self.error,
        }
    }

    /// `self && other`: the right side is not looked at where the left is false.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self::chosen(self, other, &Self::always(false))
    }

    /// `self || other`: the right side is not looked at where the left is true.
    pub(crate) fn or(&self, other: &Self) -> Self {
        Self::chosen(self, &Self::always(true), other)
    }

    /// `if condition then … else …`.
    pub(crate) fn chosen(condition: &Self, then: &Self, otherwise: &Self) -> Self {
        let either = |then: &Amounts, otherwise: &Amounts| {
            condition
                .yes
                .intersection(then)
                .union(&condition.no.intersection(otherwise))
        };
        Self {
            yes: either(&then.yes, &otherwise.yes),
            no: either(&then.no, &otherwise.no),
            error: condition.error.union(&either(&then.error, &otherwise.error)),
        }
    }

    /// Both sides are looked at, whatever they are.
    pub(crate) fn same(&self, other: &Self) -> Self {
        Self {
            yes: self
                .yes
                .intersection(&other.yes)
                .union(&self.no.intersection(&other.no)),
            no: self
                .yes
                .intersection(&other.no)
                .union(&self.no.intersection(&other.yes)),
            error: self.error.union(&other.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: i64 = i64::MIN;
    const MAX: i64 = i64::MAX;

    fn scaled(factor: i64, offset: i64) -> Number {
        Number::amount()
            .times(&Number::constant(factor))
            .and_then(|number| number.plus(&Number::constant(offset)))
            .unwrap()
    }

    fn below(number: &Number, order: Order, bound: i64) -> Truth {
        number.compared(order, &Number::constant(bound)).unwrap()
    }

    #[test]
    fn comparisons_round_the_right_way() {
        assert_eq!(
            below(&scaled(3, 0), Order::LessOrEqual, 10).yes.intervals(),
            [(MIN / 3, 3)]
        );
        assert_eq!(
            below(&scaled(-3, 0), Order::LessOrEqual, 10).yes.intervals(),
            [(-3, MAX / 3)]
        );
        assert_eq!(below(&scaled(-3, 0), Order::Less, 9).yes.intervals(), [(-2, MAX / 3)]);
        assert_eq!(below(&scaled(2, 0), Order::Equal, 8).yes.intervals(), [(4, 4)]);
        assert!(below(&scaled(2, 0), Order::Equal, 7).yes.is_empty());
    }

    #[test]
    fn overflow_is_an_error_and_not_a_number() {
        let truth = below(&scaled(1, 1), Order::Less, 100);
        assert_eq!(truth.yes.intervals(), [(MIN, 98)]);
        assert_eq!(truth.no.intervals(), [(99, MAX - 1)]);
        assert_eq!(truth.error.intervals(), [(MAX, MAX)]);
        let negated = Number::constant(0).minus(&Number::amount()).unwrap();
        assert_eq!(negated.error.intervals(), [(MIN, MIN)]);
    }

    #[test]
    fn an_overflow_inside_is_not_undone_outside() {
        let there = scaled(2, 0);
        let back = there.minus(&Number::amount()).unwrap();
        assert_eq!(
            below(&back, Order::LessOrEqual, MAX).yes.intervals(),
            [(MIN / 2, MAX / 2)]
        );
    }

    #[test]
    fn a_product_of_two_unknowns_is_not_a_line() {
        assert_eq!(Number::amount().times(&Number::amount()).unwrap_err(), NotLinear);
        assert!(Number::amount().times(&Number::constant(0)).is_ok());
    }

    #[test]
    fn every_amount_is_true_false_or_an_error() {
        for (factor, offset, bound) in [(1, 0, 0), (-1, MIN, 5), (MAX, MAX, MIN), (MIN, 1, MAX), (7, -3, 12)] {
            let Ok(number) = Number::amount()
                .times(&Number::constant(factor))
                .and_then(|n| n.plus(&Number::constant(offset)))
            else {
                continue;
            };
            for order in [Order::Less, Order::LessOrEqual, Order::Equal] {
                let truth = below(&number, order, bound);
                assert_eq!(truth.yes.union(&truth.no).union(&truth.error), Amounts::all());
                assert!(truth.yes.intersection(&truth.no).is_empty());
                assert!(truth.error.intersection(&truth.yes.union(&truth.no)).is_empty());
            }
        }
    }

    #[test]
    fn the_right_side_of_and_is_not_looked_at_where_the_left_is_false() {
        let guarded = below(&Number::amount(), Order::Less, 10).and(&below(&scaled(1, 1), Order::Less, 100));
        assert!(guarded.error.is_empty());
        let unguarded = below(&scaled(1, 1), Order::Less, 100).and(&below(&Number::amount(), Order::Less, 10));
        assert_eq!(unguarded.error.intervals(), [(MAX, MAX)]);
    }
}
