//! Policies about meters, and what they come to: worked out twice.

use arbitrary::{Result, Unstructured};
use stockade_policies::{Bound, Code, Meter, PolicyStore, Principal, Stock};

use crate::is_planted;
use crate::policies::{agree, has_no_mismatch, is_one_of_many, sources};

/// Loads policies on meters that follow from the bytes: whatever loads, the plan permits what the policies do, worked out here by
/// going through them, at the plan's bounds, beside them, at what the policies name, and at any other amounts.
///
/// # Panics
/// Where it does not, or loading and the report disagree.
pub fn plan(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // Too few bytes for another policy: those before are a set.
    let mut rules = Vec::new();
    let _ = add_rules(&mut rules, &mut input);
    let text = text_of(&rules);
    let sources = sources(&text);
    let loaded = PolicyStore::load(&sources, Stock::Without);
    if is_one_of_many(&text) {
        agree(&stockade_policies::check(&sources, Stock::Without), &loaded);
    }
    let findings = match &loaded {
        Ok(store) => store.warnings(),
        Err(error) => error.findings(),
    };
    has_no_mismatch(findings, &text);
    if let Ok(store) = &loaded {
        permits_what_the_rules_do(store, &rules, &mut input);
    }
    let has_holes = findings.iter().any(|finding| finding.code == Code::MeterWithHoles);
    assert!(!(is_planted() && has_holes), "planted: a meter with holes");
}

/// # Panics
/// Where the plan permits something else.
fn permits_what_the_rules_do(store: &PolicyStore, rules: &[Rule], input: &mut Unstructured<'_>) {
    #[expect(clippy::expect_used, reason = "a panic is how a fuzz target reports what it found")]
    let plan = store
        .plan(&Principal::profile("fuzz"))
        .expect("what loads has a plan of each profile");
    let any: [u32; 4] = input.arbitrary().unwrap_or_default();
    for meter in rules.iter().map(|rule| rule.meter) {
        let bound = plan.bound(meter);
        let mut amounts: Vec<i64> = any.map(i64::from).to_vec();
        amounts.extend([0, 1, i64::MAX]);
        if let Bound::Limited(most) = bound {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            amounts.extend([most - 1, most, most.saturating_add(1)]);
        }
        for rule in rules {
            rule.condition.numbers(&mut amounts);
        }
        for amount in amounts.into_iter().filter(|amount| *amount >= 0) {
            let permitted = bound.permits(amount.unsigned_abs());
            // Who is permitted nothing may use nothing.
            let is_nothing = amount == 0 && bound == Bound::Limited(0);
            assert!(
                is_nothing || permitted == permits(rules, meter, amount),
                "`{}` is {bound:?}, and {amount} is another matter:\n{}",
                meter.action(),
                text_of(rules)
            );
        }
    }
}

/// What Cedar answers: one permit applies, and no forbid. What errs does not apply.
fn permits(rules: &[Rule], meter: Meter, amount: i64) -> bool {
    let applies = |is_permit: bool| {
        let mut about = rules
            .iter()
            .filter(|rule| rule.meter == meter && rule.is_permit == is_permit);
        about.any(|rule| rule.condition.holds(amount) == Some(rule.is_when))
    };
    applies(true) && !applies(false)
}

fn add_rules(rules: &mut Vec<Rule>, input: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..input.int_in_range(1..=3)? {
        rules.push(Rule {
            is_permit: input.ratio(1, 2)?,
            meter: *input.choose(Meter::ALL)?,
            is_when: input.ratio(1, 2)?,
            condition: Condition::any(input, 3)?,
        });
    }
    Ok(())
}

fn text_of(rules: &[Rule]) -> String {
    (0..).zip(rules).map(|(number, rule)| rule.text(number)).collect()
}

/// A policy about one meter.
struct Rule {
    is_permit: bool,
    meter: Meter,
    is_when: bool,
    condition: Condition,
}

impl Rule {
    fn text(&self, number: usize) -> String {
        format!(
            "@id(\"fuzz-{number}\") {} (principal in Profile::\"fuzz\", action == Action::\"{}\", \
             resource == Meter::\"{}\") {} {{ {} }};\n",
            if self.is_permit { "permit" } else { "forbid" },
            self.meter.action(),
            self.meter.resource(),
            if self.is_when { "when" } else { "unless" },
            self.condition.text(self.meter.unit().name())
        )
    }
}

/// Arithmetic about the one amount, as it stands in policies and as nobody would write it.
enum Condition {
    And(Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    Not(Box<Self>),
    If(Box<[Self; 3]>),
    Compared(Term, &'static str, Term),
}

enum Term {
    Amount,
    Number(i64),
    Computed(Box<[Self; 2]>, &'static str),
}

impl Condition {
    fn any(input: &mut Unstructured<'_>, depth: u32) -> Result<Self> {
        if depth == 0 || !input.ratio(1, 3)? {
            let comparison = input.choose(&["<=", "<", ">=", ">", "==", "!="])?;
            return Ok(Self::Compared(Term::any(input, 2)?, comparison, Term::any(input, 2)?));
        }
        let part = |input: &mut Unstructured<'_>| Self::any(input, depth - 1);
        Ok(match input.int_in_range(0..=3)? {
            0 => Self::And(Box::new([part(input)?, part(input)?])),
            1 => Self::Or(Box::new([part(input)?, part(input)?])),
            2 => Self::Not(Box::new(part(input)?)),
            _ => Self::If(Box::new([part(input)?, part(input)?, part(input)?])),
        })
    }

    fn text(&self, amount: &str) -> String {
        let text = |part: &Self| part.text(amount);
        match self {
            Self::And(parts) => {
                let [one, other] = parts.each_ref().map(text);
                format!("({one}) && ({other})")
            }
            Self::Or(parts) => {
                let [one, other] = parts.each_ref().map(text);
                format!("({one}) || ({other})")
            }
            Self::Not(part) => format!("!({})", text(part)),
            Self::If(parts) => {
                let [condition, one, other] = parts.each_ref().map(text);
                format!("if {condition} then {one} else {other}")
            }
            Self::Compared(one, how, other) => format!("{} {how} {}", one.text(amount), other.text(amount)),
        }
    }

    /// Whether it holds; nothing where a number becomes too large on the way that Cedar takes.
    fn holds(&self, amount: i64) -> Option<bool> {
        let holds = |part: &Self| part.holds(amount);
        Some(match self {
            Self::And(parts) => {
                let [one, other] = &**parts;
                holds(one)? && holds(other)?
            }
            Self::Or(parts) => {
                let [one, other] = &**parts;
                holds(one)? || holds(other)?
            }
            Self::Not(part) => !holds(part)?,
            Self::If(parts) => {
                let [condition, one, other] = &**parts;
                if holds(condition)? { holds(one)? } else { holds(other)? }
            }
            Self::Compared(one, how, other) => {
                let (one, other) = (one.value(amount)?, other.value(amount)?);
                match *how {
                    "<=" => one <= other,
                    "<" => one < other,
                    ">=" => one >= other,
                    ">" => one > other,
                    "==" => one == other,
                    _ => one != other,
                }
            }
        })
    }

    /// Adds what is written, and what is next to it.
    fn numbers(&self, numbers: &mut Vec<i64>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.numbers(numbers)),
            Self::Not(part) => part.numbers(numbers),
            Self::If(parts) => parts.iter().for_each(|part| part.numbers(numbers)),
            Self::Compared(one, _, other) => {
                one.numbers(numbers);
                other.numbers(numbers);
            }
        }
    }
}

impl Term {
    fn any(input: &mut Unstructured<'_>, depth: u32) -> Result<Self> {
        if depth > 0 && input.ratio(1, 3)? {
            let operator = input.choose(&["+", "-", "*"])?;
            let parts = [Self::any(input, depth - 1)?, Self::any(input, depth - 1)?];
            return Ok(Self::Computed(Box::new(parts), operator));
        }
        Ok(match input.int_in_range(0..=4)? {
            0 | 1 => Self::Amount,
            2 => Self::Number(input.int_in_range(0..=4096)?),
            3 => Self::Number(*input.choose(&[i64::MAX, i64::MIN, i64::MAX / 2 + 1])?),
            _ => Self::Number(input.arbitrary::<i32>()?.unsigned_abs().into()),
        })
    }

    fn text(&self, amount: &str) -> String {
        match self {
            Self::Amount => format!("context.{amount}"),
            Self::Number(number) if *number < 0 => format!("({number})"),
            Self::Number(number) => number.to_string(),
            Self::Computed(parts, how) => {
                let [one, other] = parts.each_ref().map(|part| part.text(amount));
                format!("({one} {how} {other})")
            }
        }
    }

    fn value(&self, amount: i64) -> Option<i64> {
        match self {
            Self::Amount => Some(amount),
            Self::Number(number) => Some(*number),
            Self::Computed(parts, how) => {
                let [one, other] = &**parts;
                let (one, other) = (one.value(amount)?, other.value(amount)?);
                match *how {
                    "+" => one.checked_add(other),
                    "-" => one.checked_sub(other),
                    _ => one.checked_mul(other),
                }
            }
        }
    }

    fn numbers(&self, numbers: &mut Vec<i64>) {
        match self {
            Self::Amount => {}
            Self::Number(number) => numbers.extend([number.saturating_sub(1), *number, number.saturating_add(1)]),
            Self::Computed(parts, _) => parts.iter().for_each(|part| part.numbers(numbers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(is_permit: bool, most: i64) -> Rule {
        Rule {
            is_permit,
            meter: Meter::Elapse,
            is_when: true,
            condition: Condition::Compared(Term::Amount, "<=", Term::Number(most)),
        }
    }

    fn store(rules: &[Rule]) -> PolicyStore {
        PolicyStore::load(&sources(&text_of(rules)), Stock::Without).unwrap()
    }

    #[test]
    fn a_plan_of_the_same_rules_permits_the_same() {
        let rules = [rule(true, 500)];
        permits_what_the_rules_do(&store(&rules), &rules, &mut Unstructured::new(&[]));
    }

    #[test]
    #[should_panic(expected = "is another matter")]
    fn a_plan_of_other_rules_is_noticed() {
        permits_what_the_rules_do(
            &store(&[rule(true, 500)]),
            &[rule(true, 499)],
            &mut Unstructured::new(&[]),
        );
    }

    #[test]
    fn what_errs_does_not_apply() {
        let too_large = || {
            Condition::Compared(
                Term::Computed(Box::new([Term::Amount, Term::Number(i64::MAX)]), "*"),
                ">",
                Term::Number(0),
            )
        };
        assert_eq!(too_large().holds(2), None);
        assert_eq!(too_large().holds(0), Some(false));
        assert_eq!(Condition::Not(Box::new(too_large())).holds(2), None);
        let either = Condition::Or(Box::new([too_large(), too_large()]));
        assert_eq!((either.holds(1), either.holds(2)), (Some(true), None));
    }
}
