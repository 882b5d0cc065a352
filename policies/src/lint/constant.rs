//! Conditions that hold always, or never.
//!
//! What is said about a meter's amount is followed exactly. Everything else is followed as far as it goes without knowing
//! the request: what cannot be followed may be true, false or an error, so that nothing is reported by mistake.

use std::collections::BTreeMap;

use cedar_policy::pst::{BinaryOp, Clause, EntityType, EntityUID, Expr, Literal, Name, PatternElem, UnaryOp, Var};

use super::place_at;
use crate::amounts::Amounts;
use crate::condition::{context_attributes, expr_of, expression_can_error, truth_of_expression, visit};
use crate::finding::{Code, Finding};
use crate::linear::Truth;
use crate::parse::LoadedPolicy;
use crate::vocabulary::Meter;

/// Larger conditions than people write are not followed: each part is compared with each other.
const MOST_PARTS: usize = 500;

/// More steps than a pattern and a text that people write take to compare.
const MOST_STEPS: usize = 1_000_000;

/// Every clause that is the same for every request, or else clauses that contradict each other.
pub(super) fn constant_conditions(policy: &LoadedPolicy) -> Vec<Finding> {
    let clauses = policy.policy.clauses();
    if clauses.iter().map(parts).sum::<usize>() > MOST_PARTS {
        return Vec::new();
    }
    let places = clause_places(&policy.text);
    let finding = |index: usize, message: String, help: &str| {
        let place = match places.get(index) {
            Some((offset, length)) => place_at(policy, *offset, *length),
            None => policy.location.clone(),
        };
        Finding::warning(Code::ConstantCondition, message)
            .with_help(help)
            .at(Some(place))
    };
    let mut findings = Vec::new();
    for (index, clause) in clauses.iter().enumerate() {
        let (word, condition, wanted) = match clause {
            Clause::When(condition) => ("when", condition, true),
            Clause::Unless(condition) => ("unless", condition, false),
        };
        let Some(holds) = constant(policy, |weigher| {
            let holds = weigher.weigh(condition);
            if wanted { holds } else { holds.negated() }
        }) else {
            continue;
        };
        let (effect, help) = if holds {
            ("it changes nothing", "leave it out, or compare with what was meant")
        } else {
            (
                "the policy never applies",
                "mend the condition, or leave the policy out",
            )
        };
        let how = if holds == wanted { "always" } else { "never" };
        let message = format!("the `{word}` of `{}` {how} holds, so {effect}", policy.id);
        findings.push(finding(index, message, help));
    }
    let conjuncts: Vec<(&Expr, bool)> = clauses
        .iter()
        .map(|clause| match clause {
            Clause::When(condition) => (&**condition, true),
            Clause::Unless(condition) => (&**condition, false),
        })
        .collect();
    let contradicts = || {
        constant(policy, |weigher| Possible {
            yes: !weigher.contradict(&conjuncts),
            no: true,
            error: false,
        }) == Some(false)
    };
    if findings.is_empty() && clauses.len() > 1 && contradicts() {
        let message = format!(
            "the conditions of `{}` contradict each other, so it never applies",
            policy.id
        );
        findings.push(finding(0, message, "mend the conditions, or leave the policy out"));
    }
    findings
}

fn parts(clause: &Clause) -> usize {
    let mut parts = 0;
    visit(expr_of(clause), &mut |_| parts += 1);
    parts
}

/// Whether a clause lets the policy apply, if that is the same for every request that the scope lets through.
fn constant(policy: &LoadedPolicy, weigh: impl Fn(&Weigher<'_>) -> Possible) -> Option<bool> {
    let outcomes = policy.covered.iter().map(|action| weigh(&Weigher::of(action)));
    let all = outcomes.reduce(Possible::or_else)?;
    match (all.yes, all.no) {
        // Where it does not hold it may error, and then the policy does not apply either.
        (false, _) => Some(false),
        (true, false) if !all.error => Some(true),
        _ => None,
    }
}

/// What may come of an expression. Too much may be thought possible, never too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Possible {
    yes: bool,
    no: bool,
    error: bool,
}

impl Possible {
    fn only(value: bool) -> Self {
        Self {
            yes: value,
            no: !value,
            error: false,
        }
    }

    fn anything(expr: &Expr) -> Self {
        Self {
            yes: true,
            no: true,
            error: expression_can_error(expr),
        }
    }

    fn negated(self) -> Self {
        Self {
            yes: self.no,
            no: self.yes,
            error: self.error,
        }
    }

    /// The right side is only looked at where the left holds.
    fn and(self, right: Self) -> Self {
        Self {
            yes: self.yes && right.yes,
            no: self.no || (self.yes && right.no),
            error: self.error || (self.yes && right.error),
        }
    }

    fn or_else(self, other: Self) -> Self {
        Self {
            yes: self.yes || other.yes,
            no: self.no || other.no,
            error: self.error || other.error,
        }
    }
}

/// Weighs conditions for one action.
struct Weigher<'a> {
    action: &'a str,
    /// The one attribute of its context, where the action is a meter.
    amount: Option<&'static str>,
}

impl<'a> Weigher<'a> {
    fn of(action: &'a str) -> Self {
        Self {
            action,
            amount: Meter::from_action(action).map(|meter| meter.unit().name()),
        }
    }

    fn weigh(&self, expr: &Expr) -> Possible {
        if let Some(truth) = self.counted(expr) {
            let among = |amounts: &Amounts| !amounts.intersection(&self.domain()).is_empty();
            return Possible {
                yes: among(&truth.yes),
                no: among(&truth.no),
                error: among(&truth.error),
            };
        }
        match expr {
            Expr::Literal(Literal::Bool(value)) => Possible::only(*value),
            Expr::UnaryOp { op: UnaryOp::Not, expr } => self.weigh(expr).negated(),
            Expr::BinaryOp {
                op: BinaryOp::And,
                left,
                right,
            } => {
                let both = self.weigh(left).and(self.weigh(right));
                Possible {
                    yes: both.yes && !self.contradict(&[(expr, true)]),
                    ..both
                }
            }
            Expr::BinaryOp {
                op: BinaryOp::Or,
                left,
                right,
            } => {
                let neither = self.weigh(left).negated().and(self.weigh(right).negated());
                Possible {
                    yes: neither.yes && !self.contradict(&[(expr, false)]),
                    ..neither
                }
                .negated()
            }
            Expr::BinaryOp { op, left, right } => self.compared(*op, left, right, expr),
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => {
                let condition = self.weigh(cond);
                let then = condition.and(self.weigh(then_expr));
                let otherwise = condition.negated().and(self.weigh(else_expr));
                // `and` counts a condition that does not hold as a no, which the other branch decides.
                Possible {
                    yes: then.yes || otherwise.yes,
                    no: (condition.yes && self.weigh(then_expr).no) || (condition.no && self.weigh(else_expr).no),
                    error: then.error || otherwise.error,
                }
            }
            Expr::Like { expr: text, pattern } => match &**text {
                Expr::Literal(Literal::String(text)) => {
                    matches(pattern, text).map_or_else(|| Possible::anything(expr), Possible::only)
                }
                _ => Possible::anything(expr),
            },
            _ => Possible::anything(expr),
        }
    }

    fn compared(&self, op: BinaryOp, left: &Expr, right: &Expr, whole: &Expr) -> Possible {
        let same = || match (self.value(left), self.value(right)) {
            (Some(left), Some(right)) => Some(left == right),
            _ if left == right && !expression_can_error(left) => Some(true),
            _ => None,
        };
        let known = match (op, left, right) {
            (BinaryOp::Eq, ..) => same(),
            (BinaryOp::NotEq, ..) => same().map(|same| !same),
            (BinaryOp::Contains, Expr::Set(elements), member) => self.is_among(elements, member),
            // Groups of actions are not followed: an action is in itself and in no other action.
            (BinaryOp::In, _, Expr::Set(elements)) if elements.is_empty() => Some(false),
            _ => None,
        };
        match known {
            Some(value) if !expression_can_error(whole) => Possible::only(value),
            _ => Possible::anything(whole),
        }
    }

    fn is_among(&self, elements: &[std::sync::Arc<Expr>], member: &Expr) -> Option<bool> {
        if elements.is_empty() {
            return Some(false);
        }
        let member = self.value(member)?;
        let values: Option<Vec<Literal>> = elements.iter().map(|element| self.value(element)).collect();
        Some(values?.contains(&member))
    }

    /// The value of an expression that does not depend on the request, the action excepted.
    fn value(&self, expr: &Expr) -> Option<Literal> {
        match expr {
            Expr::Literal(literal) => Some(literal.clone()),
            Expr::Var(Var::Action) => {
                let name = Name::unqualified("Action").ok()?;
                Some(Literal::EntityUID(EntityUID {
                    ty: EntityType::from_name(name),
                    eid: self.action.into(),
                }))
            }
            _ => None,
        }
    }

    /// Whether these cannot all be what they should be: each expression with the truth that is wanted of it.
    fn contradict(&self, wanted: &[(&Expr, bool)]) -> bool {
        let mut all = Vec::new();
        for (expr, holds) in wanted {
            flatten(expr, *holds, &mut all);
        }
        let opposite = |(expr, holds): &(&Expr, bool)| all.iter().any(|(other, truth)| other == expr && truth != holds);
        all.iter().any(opposite) || self.leaves_no_amount(&all) || leaves_no_text(&all)
    }

    fn leaves_no_amount(&self, all: &[(&Expr, bool)]) -> bool {
        let mut left: BTreeMap<String, Amounts> = BTreeMap::new();
        for (expr, holds) in all {
            let Some(attribute) = context_attributes(expr).pop() else {
                continue;
            };
            if let Some(truth) = self.counted(expr) {
                let set = if *holds { truth.yes } else { truth.no };
                let before = left.remove(&attribute).unwrap_or_else(|| self.domain());
                left.insert(attribute, before.intersection(&set));
            }
        }
        left.values().any(Amounts::is_empty)
    }

    /// What can be asked: a meter's amounts are never negative.
    fn domain(&self) -> Amounts {
        match self.amount {
            Some(_) => Amounts::between(0, i64::MAX),
            None => Amounts::all(),
        }
    }

    /// Where an expression over one number of the context holds, if it is one.
    fn counted(&self, expr: &Expr) -> Option<Truth> {
        if let Some(amount) = self.amount {
            return truth_of_expression(expr, amount).ok();
        }
        match context_attributes(expr).as_slice() {
            // Without a number in it, nothing is left to ask about the context.
            [] => truth_of_expression(expr, "").ok().filter(|_| !asks_context(expr)),
            [attribute] if !asks_context(expr) => truth_of_expression(expr, attribute).ok(),
            _ => None,
        }
    }
}

/// The reader of amounts takes a context to hold one attribute, which only a meter's does.
fn asks_context(expr: &Expr) -> bool {
    let mut asks = false;
    visit(expr, &mut |expr| asks |= matches!(expr, Expr::HasAttr { .. }));
    asks
}

/// What a conjunction says, part by part, each with the truth that is wanted of it.
fn flatten<'e>(expr: &'e Expr, holds: bool, parts: &mut Vec<(&'e Expr, bool)>) {
    match (expr, holds) {
        (Expr::UnaryOp { op: UnaryOp::Not, expr }, _) => flatten(expr, !holds, parts),
        (
            Expr::BinaryOp {
                op: BinaryOp::And,
                left,
                right,
            },
            true,
        )
        | (
            Expr::BinaryOp {
                op: BinaryOp::Or,
                left,
                right,
            },
            false,
        ) => {
            flatten(left, holds, parts);
            flatten(right, holds, parts);
        }
        _ => parts.push((expr, holds)),
    }
}

/// Whether an expression is said to equal, or to match, what it cannot all be.
fn leaves_no_text(all: &[(&Expr, bool)]) -> bool {
    let wanted = || all.iter().filter(|(_, holds)| *holds).map(|(expr, _)| *expr);
    let mut left: BTreeMap<String, Vec<&Literal>> = BTreeMap::new();
    for (subject, values) in wanted().filter_map(one_of) {
        let subject = subject.to_string();
        let before = left.remove(&subject);
        let now = match before {
            Some(before) => before.into_iter().filter(|value| values.contains(value)).collect(),
            None => values,
        };
        left.insert(subject, now);
    }
    for expr in wanted() {
        if let Expr::Like { expr, pattern } = expr
            && let Some(values) = left.get_mut(&expr.to_string())
        {
            values.retain(|value| !matches!(value, Literal::String(text) if matches(pattern, text) == Some(false)));
        }
    }
    left.values().any(Vec::is_empty)
}

/// The expression that is compared with constants, and those.
fn one_of(expr: &Expr) -> Option<(&Expr, Vec<&Literal>)> {
    let literal = |expr: &Expr| matches!(expr, Expr::Literal(_));
    match expr {
        Expr::BinaryOp {
            op: BinaryOp::Eq,
            left,
            right,
        } => match (&**left, &**right) {
            (subject, Expr::Literal(value)) | (Expr::Literal(value), subject) if !literal(subject) => {
                Some((subject, vec![value]))
            }
            _ => None,
        },
        Expr::BinaryOp {
            op: BinaryOp::Contains,
            left,
            right,
        } => match &**left {
            Expr::Set(elements) if !literal(right) => {
                let values = elements.iter().map(|element| match &**element {
                    Expr::Literal(value) => Some(value),
                    _ => None,
                });
                Some((right, values.collect::<Option<Vec<_>>>()?))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Cedar's `like`: `*` stands for any characters, none included. Nothing where that would take long to say.
fn matches(pattern: &[PatternElem], text: &str) -> Option<bool> {
    if pattern.len().saturating_mul(text.len()) > MOST_STEPS {
        return None;
    }
    let mut reached = vec![true];
    reached.resize(pattern.len() + 1, false);
    let step_over = |reached: &mut Vec<bool>| {
        for (index, element) in pattern.iter().enumerate() {
            if matches!(element, PatternElem::Wildcard)
                && reached.get(index) == Some(&true)
                && let Some(next) = reached.get_mut(index + 1)
            {
                *next = true;
            }
        }
    };
    step_over(&mut reached);
    for c in text.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (index, element) in pattern.iter().enumerate() {
            let to = match element {
                PatternElem::Wildcard => index,
                PatternElem::Char(wanted) if *wanted == c => index + 1,
                PatternElem::Char(_) => continue,
            };
            if reached.get(index) == Some(&true)
                && let Some(place) = next.get_mut(to)
            {
                *place = true;
            }
        }
        step_over(&mut next);
        reached = next;
    }
    Some(reached.last() == Some(&true))
}

/// Where each `when` and `unless` stands: outside strings, comments and parentheses of any kind.
fn clause_places(text: &str) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut depth = 0_usize;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => {
                while let Some((_, c)) = characters.next() {
                    match c {
                        '"' => break,
                        '\\' => drop(characters.next()),
                        _ => {}
                    }
                }
            }
            '/' if characters.peek().is_some_and(|(_, next)| *next == '/') => {
                while characters.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth = depth.saturating_sub(1),
            'w' | 'u' if depth == 0 => {
                let word = ["when", "unless"]
                    .into_iter()
                    .find(|word| text.get(at..).is_some_and(|rest| rest.starts_with(word)));
                places.extend(word.map(|word| (at, word.len())));
            }
            _ => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    /// What is made of one `when`, for an action.
    fn value(action: &str, condition: &str) -> Option<bool> {
        let policy = Policy::parse(
            None,
            format!("permit (principal, action, resource) when {{ {condition} }};"),
        );
        let policy = policy.unwrap().to_pst().unwrap();
        let Some(Clause::When(condition)) = policy.body().clauses().first() else {
            panic!("a condition was written")
        };
        let possible = Weigher::of(action).weigh(condition);
        match possible {
            Possible { yes: false, .. } => Some(false),
            Possible {
                no: false,
                error: false,
                ..
            } => Some(true),
            _ => None,
        }
    }

    #[test]
    fn what_can_be_known_is() {
        for (condition, expected) in [
            ("1 > 2", false),
            ("2 > 1", true),
            (r#""a" == "a""#, true),
            (r#""a" == "b""#, false),
            ("resource == resource", true),
            (r#"resource.name == "a" && resource.name == "b""#, false),
            (r#"resource.name == "a" && resource.name like "b*""#, false),
            (r#"["a", "b"].contains(resource.name) && resource.name == "c""#, false),
            ("context has argument || !(context has argument)", true),
            ("context has argument && !(context has argument)", false),
            (r#"action == Action::"pragma""#, true),
            (r#"[Action::"read", Action::"pragma"].contains(action)"#, true),
            (r#"action == Action::"read""#, false),
            (r#"principal in Profile::"a" && 1 > 2"#, false),
            ("if 1 < 2 then true else context has argument", true),
            (r#""abc" like "a*c""#, true),
            (r#""abc" like "a*b""#, false),
            (
                "context.port < 5 && (resource == principal && context.port > 10)",
                false,
            ),
        ] {
            assert_eq!(value("pragma", condition), Some(expected), "{condition}");
        }
    }

    #[test]
    fn what_depends_on_the_request_does() {
        for condition in [
            "context has argument",
            r#"resource.name == "a""#,
            r#"resource.name == "a" || resource.name == "b""#,
            r#"resource.name == "ab" && resource.name like "a*""#,
            r#"principal in Profile::"a" && principal in Profile::"b""#,
            r#"resource.name == "a" && principal.name == "b""#,
            "if context has argument then true else false",
            "context.port < 5 && context.other > 10",
            "context.port + 1 > context.port",
            r#"action in Action::"sql""#,
        ] {
            assert_eq!(value("pragma", condition), None, "{condition}");
        }
    }

    #[test]
    fn a_meter_is_followed_exactly() {
        assert_eq!(
            value("growMemory", "context.bytes < 5 && context.bytes > 10"),
            Some(false)
        );
        assert_eq!(value("growMemory", "context.bytes >= 0"), Some(true));
        assert_eq!(value("growMemory", "context.bytes < 0"), Some(false));
        assert_eq!(value("growMemory", "context.bytes * 2 >= 0"), None, "it can overflow");
        assert_eq!(
            value("growMemory", "context.bytes <= 5 || context.bytes > 5"),
            Some(true)
        );
        assert_eq!(value("growMemory", "context.bytes <= 5 || context.bytes > 6"), None);
    }

    #[test]
    fn clauses_are_found_where_they_stand() {
        let text =
            "@id(\"when\") // unless\npermit (principal, action, resource) when { context.when } unless { 1 > 2 };";
        let words: Vec<&str> = clause_places(text)
            .iter()
            .map(|(at, length)| &text[*at..at + length])
            .collect();
        assert_eq!(words, ["when", "unless"]);
        assert_eq!(clause_places(text).first().map(|(at, _)| *at), text.find("when {"));
    }
}
