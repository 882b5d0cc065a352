//! A policy's condition as a set of amounts.
//!
//! After partial evaluation for a concrete principal and meter, one integer of the context is all that is unknown. What is
//! written about it is followed exactly, errors included; what cannot be followed is refused, never guessed.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, UnaryOp, Var};

use crate::amounts::Amounts;
use crate::linear::{NotLinear, Number, Order, Truth};

/// Where the policy applies, does not, and errors, over the one attribute of the context.
pub(crate) fn truth_of(policy: &Policy, attribute: &str) -> Result<Truth, NotLinear> {
    let policy = policy.to_pst().map_err(|_| NotLinear)?;
    let mut truth = Truth::always(true);
    for clause in policy.body().clauses() {
        let next = match clause {
            Clause::When(condition) => Reader { attribute }.truth(condition)?,
            Clause::Unless(condition) => Reader { attribute }.truth(condition)?.negated(),
        };
        truth = truth.and(&next);
    }
    Ok(truth)
}

/// The same of one expression.
pub(crate) fn truth_of_expression(expr: &Expr, attribute: &str) -> Result<Truth, NotLinear> {
    Reader { attribute }.truth(expr)
}

/// The attributes of the context that the expression reads, each once.
pub(crate) fn context_attributes(expr: &Expr) -> Vec<String> {
    let mut names = Vec::new();
    visit(expr, &mut |expr| {
        if let Expr::GetAttr { expr, attr } = expr
            && is_context(expr)
            && !names.iter().any(|name| *name == attr.as_str())
        {
            names.push(attr.to_string());
        }
    });
    names
}

struct Reader<'a> {
    attribute: &'a str,
}

impl Reader<'_> {
    fn truth(&self, expr: &Expr) -> Result<Truth, NotLinear> {
        match expr {
            Expr::Literal(Literal::Bool(value)) => Ok(Truth::always(*value)),
            Expr::UnaryOp { op: UnaryOp::Not, expr } => Ok(self.truth(expr)?.negated()),
            Expr::BinaryOp {
                op: BinaryOp::And,
                left,
                right,
            } => Ok(self.truth(left)?.and(&self.truth(right)?)),
            Expr::BinaryOp {
                op: BinaryOp::Or,
                left,
                right,
            } => Ok(self.truth(left)?.or(&self.truth(right)?)),
            Expr::BinaryOp { op, left, right } => self.comparison(*op, left, right),
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => Ok(Truth::chosen(
                &self.truth(cond)?,
                &self.truth(then_expr)?,
                &self.truth(else_expr)?,
            )),
            // The schema requires the attribute, and the plan's only question is about its value.
            Expr::HasAttr { expr, attrs } if is_context(expr) && attrs.tail.is_empty() => {
                Ok(Truth::always(attrs.head == self.attribute))
            }
            Expr::ResidualError => Ok(Truth::error()),
            _ => Err(NotLinear),
        }
    }

    fn comparison(&self, op: BinaryOp, left: &Expr, right: &Expr) -> Result<Truth, NotLinear> {
        match op {
            BinaryOp::Less => self.number(left)?.compared(Order::Less, &self.number(right)?),
            BinaryOp::LessEq => self.number(left)?.compared(Order::LessOrEqual, &self.number(right)?),
            BinaryOp::Greater => self.number(right)?.compared(Order::Less, &self.number(left)?),
            BinaryOp::GreaterEq => self.number(right)?.compared(Order::LessOrEqual, &self.number(left)?),
            BinaryOp::Eq => self.equality(left, right),
            BinaryOp::NotEq => Ok(self.equality(left, right)?.negated()),
            BinaryOp::Contains => self.membership(left, right),
            _ => Err(NotLinear),
        }
    }

    fn equality(&self, left: &Expr, right: &Expr) -> Result<Truth, NotLinear> {
        if let (Ok(left), Ok(right)) = (self.number(left), self.number(right)) {
            return left.compared(Order::Equal, &right);
        }
        Ok(self.truth(left)?.same(&self.truth(right)?))
    }

    fn membership(&self, set: &Expr, member: &Expr) -> Result<Truth, NotLinear> {
        let Expr::Set(elements) = set else {
            return Err(NotLinear);
        };
        let member = self.number(member)?;
        let mut truth = Truth::always(false);
        let mut error = member.error.clone();
        for element in elements {
            let element = self.number(element)?;
            // Cedar works out every element before it looks for one, so an error in any of them is an error.
            error = error.union(&element.error);
            truth = truth.or(&member.compared(Order::Equal, &element)?);
        }
        let outside = |amounts: &Amounts| amounts.without(&error);
        Ok(Truth {
            yes: outside(&truth.yes),
            no: outside(&truth.no),
            error,
        })
    }

    fn number(&self, expr: &Expr) -> Result<Number, NotLinear> {
        match expr {
            Expr::Literal(Literal::Long(value)) => Ok(Number::constant(*value)),
            Expr::GetAttr { expr, attr } if is_context(expr) && attr == self.attribute => Ok(Number::amount()),
            Expr::UnaryOp { op: UnaryOp::Neg, expr } => Number::constant(0).minus(&self.number(expr)?),
            Expr::BinaryOp {
                op: BinaryOp::Add,
                left,
                right,
            } => self.number(left)?.plus(&self.number(right)?),
            Expr::BinaryOp {
                op: BinaryOp::Sub,
                left,
                right,
            } => self.number(left)?.minus(&self.number(right)?),
            Expr::BinaryOp {
                op: BinaryOp::Mul,
                left,
                right,
            } => self.number(left)?.times(&self.number(right)?),
            Expr::ResidualError => Ok(Number::error()),
            Expr::IfThenElse {
                cond,
                then_expr,
                else_expr,
            } => Ok(Number::chosen(
                &self.truth(cond)?,
                &self.number(then_expr)?,
                &self.number(else_expr)?,
            )),
            _ => Err(NotLinear),
        }
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Context))
}

/// What stands behind `when` or `unless`.
pub(crate) fn expr_of(clause: &Clause) -> &Expr {
    let (Clause::When(expr) | Clause::Unless(expr)) = clause;
    expr
}

/// Every integer that is written in a policy's conditions, and every integer that a product of two neighbours makes.
///
/// These are the places where an answer is likely to change, found without the algebra above, to check it with.
pub(crate) fn written_numbers(clauses: &[Clause]) -> Vec<i64> {
    let mut numbers = Vec::new();
    for clause in clauses {
        visit(expr_of(clause), &mut |expr| numbers.extend(constant(expr)));
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// What the conditions of policies need beside the principal, the action and the resource by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Something of an entity that they name, or of the action.
    pub(crate) entities: bool,
    /// Attributes of something that is not the context.
    pub(crate) attributes: bool,
}

/// What the conditions need. Where that cannot be seen, everything. A scope needs only who is in what.
pub(crate) fn needs(policies: &[Policy]) -> Needs {
    let mut needs = Needs {
        entities: false,
        attributes: false,
    };
    for policy in policies {
        let Ok(policy) = policy.to_pst() else {
            return Needs {
                entities: true,
                attributes: true,
            };
        };
        for clause in policy.body().clauses() {
            visit(expr_of(clause), &mut |expr| match expr {
                Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } => needs.attributes |= !is_context(expr),
                Expr::Literal(Literal::EntityUID(_)) | Expr::Var(Var::Action) => needs.entities = true,
                other if !is_followed(other) => {
                    needs = Needs {
                        entities: true,
                        attributes: true,
                    };
                }
                _ => {}
            });
        }
    }
    needs
}

/// Whether a condition reads this attribute of anything but the context, or may.
pub(crate) fn asks_for(clauses: &[Clause], attribute: &str) -> bool {
    let mut asks = false;
    for clause in clauses {
        visit(expr_of(clause), &mut |expr| {
            asks |= match expr {
                Expr::GetAttr { expr, attr } => attr == attribute && !is_context(expr),
                Expr::HasAttr { expr, attrs } => attrs.head == attribute && !is_context(expr),
                other => !is_followed(other),
            }
        });
    }
    asks
}

/// What policies read of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reads {
    /// These attributes at most, by name.
    Only(BTreeSet<String>),
    /// All of it, as far as anybody can tell.
    Everything,
}

impl Reads {
    pub(crate) fn reads(&self, attribute: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(attribute),
            Self::Everything => true,
        }
    }
}

/// The attributes of the context that the policies look at, directly: `context.a`, `context has a`. Where the context is
/// used in any other way, everything.
pub(crate) fn context_reads(policies: &[Policy]) -> Reads {
    let mut names = BTreeSet::new();
    for policy in policies {
        let Ok(policy) = policy.to_pst() else {
            return Reads::Everything;
        };
        let (mut named, mut seen) = (0_usize, 0_usize);
        for clause in policy.body().clauses() {
            visit(expr_of(clause), &mut |expr| match expr {
                Expr::GetAttr { expr, attr } if is_context(expr) => {
                    named += 1;
                    names.insert(attr.to_string());
                }
                Expr::HasAttr { expr, attrs } if is_context(expr) => {
                    named += 1;
                    names.insert(attrs.head.to_string());
                }
                // What may hold the context without showing it to a visitor.
                Expr::Unknown { .. } | Expr::ResidualError => seen += 1,
                other if is_context(other) => seen += 1,
                other if !is_followed(other) => seen += 1,
                _ => {}
            });
        }
        // Each reading by name shows the context once more, and nothing else may.
        if seen != named {
            return Reads::Everything;
        }
    }
    Reads::Only(names)
}

/// Whether `visit` looks into all of this expression.
fn is_followed(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Literal(_)
            | Expr::Var(_)
            | Expr::UnaryOp { .. }
            | Expr::BinaryOp { .. }
            | Expr::GetAttr { .. }
            | Expr::HasAttr { .. }
            | Expr::Like { .. }
            | Expr::Is { .. }
            | Expr::IfThenElse { .. }
            | Expr::Set(_)
            | Expr::Record(_)
    )
}

/// Whether evaluating a policy's conditions can end in an error, whatever the request.
///
/// Strict validation leaves overflow, and attributes of entities that are named but may not exist.
pub(crate) fn can_error(clauses: &[Clause]) -> bool {
    clauses.iter().any(|clause| expression_can_error(expr_of(clause)))
}

/// The same of one expression.
pub(crate) fn expression_can_error(expr: &Expr) -> bool {
    let mut risky = false;
    visit(expr, &mut |expr| risky |= is_risky(expr));
    risky
}

fn is_risky(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryOp {
            op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul,
            ..
        }
        | Expr::UnaryOp { op: UnaryOp::Neg, .. } => constant(expr).is_none(),
        Expr::BinaryOp {
            op: BinaryOp::Offset | BinaryOp::DurationSince | BinaryOp::GetTag,
            ..
        }
        | Expr::UnaryOp {
            op: UnaryOp::ToDate, ..
        }
        | Expr::ResidualError
        | Expr::Unknown { .. } => true,
        Expr::GetAttr { expr, .. } => names_an_entity(expr),
        _ => false,
    }
}

/// Whether it can come to an entity that is written there, and may not exist.
fn names_an_entity(expr: &Expr) -> bool {
    let mut names = false;
    visit(expr, &mut |expr| {
        names |= matches!(expr, Expr::Literal(Literal::EntityUID(_)));
    });
    names
}

/// The value of an expression of literals, where it has one.
fn constant(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(Literal::Long(value)) => Some(*value),
        Expr::UnaryOp { op: UnaryOp::Neg, expr } => constant(expr)?.checked_neg(),
        Expr::BinaryOp {
            op: BinaryOp::Add,
            left,
            right,
        } => constant(left)?.checked_add(constant(right)?),
        Expr::BinaryOp {
            op: BinaryOp::Sub,
            left,
            right,
        } => constant(left)?.checked_sub(constant(right)?),
        Expr::BinaryOp {
            op: BinaryOp::Mul,
            left,
            right,
        } => constant(left)?.checked_mul(constant(right)?),
        _ => None,
    }
}

/// Shows every part of an expression, the whole first.
pub(crate) fn visit(expr: &Expr, look: &mut dyn FnMut(&Expr)) {
    look(expr);
    match expr {
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => visit(expr, look),
        Expr::BinaryOp { left, right, .. } => {
            visit(left, look);
            visit(right, look);
        }
        Expr::Is { expr, in_expr, .. } => {
            visit(expr, look);
            if let Some(in_expr) = in_expr {
                visit(in_expr, look);
            }
        }
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => {
            visit(cond, look);
            visit(then_expr, look);
            visit(else_expr, look);
        }
        Expr::Set(elements) => elements.iter().for_each(|element| visit(element, look)),
        Expr::Record(fields) => fields.values().for_each(|value| visit(value, look)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(condition: &str) -> Policy {
        Policy::parse(
            None,
            format!("permit (principal, action, resource) when {{ {condition} }};"),
        )
        .unwrap()
    }

    fn clauses(condition: &str) -> Vec<Clause> {
        policy(condition).to_pst().unwrap().body().clauses().clone()
    }

    fn yes(condition: &str) -> Vec<(i64, i64)> {
        truth_of(&policy(condition), "bytes").unwrap().yes.intervals().to_vec()
    }

    const MIN: i64 = i64::MIN;
    const MAX: i64 = i64::MAX;

    #[test]
    fn conditions_are_sets() {
        assert_eq!(yes("context.bytes <= 4 * 1024 * 1024"), [(MIN, 4_194_304)]);
        assert_eq!(yes("context.bytes < 10 && context.bytes >= 3"), [(3, 9)]);
        assert_eq!(yes("!(context.bytes > 3) || context.bytes == 7"), [(MIN, 3), (7, 7)]);
        assert_eq!(yes("context.bytes != 5"), [(MIN, 4), (6, MAX)]);
        assert_eq!(
            yes("[1, 2, 3, 65536].contains(context.bytes)"),
            [(1, 3), (65536, 65536)]
        );
        assert_eq!(yes("if context.bytes < 0 then true else context.bytes < 3"), [(MIN, 2)]);
        assert_eq!(yes("(if context.bytes < 0 then 0 else context.bytes) <= 3"), [(MIN, 3)]);
        assert_eq!(yes("(context.bytes < 5) == (context.bytes < 9)"), [(MIN, 4), (9, MAX)]);
        assert_eq!(
            yes("context.bytes * 4 > -9223372036854775807"),
            [(-2_305_843_009_213_693_951, MAX / 4)]
        );
        assert_eq!(
            yes("context.bytes * 2 + 10 <= 1000 && 5 - context.bytes <= 0"),
            [(5, 495)]
        );
    }

    #[test]
    fn what_is_not_a_line_is_refused() {
        for condition in [
            "context.bytes * context.bytes < 9",
            "context.name like \"a*\"",
            "principal == resource",
        ] {
            assert_eq!(truth_of(&policy(condition), "bytes"), Err(NotLinear), "{condition}");
        }
    }

    #[test]
    fn only_literals_cannot_overflow() {
        assert!(!can_error(&clauses("context.bytes > 4 * 1024 * 1024 - 1")));
        assert!(can_error(&clauses("context.bytes + 1 > 4")));
        assert!(can_error(&clauses("[1, -context.bytes].contains(3)")));
        assert!(can_error(&clauses("context.bytes > 9223372036854775807 + 1")));
        assert!(can_error(&clauses("Table::\"main.t\".name == \"t\"")));
        assert!(can_error(&clauses(
            "(if context has a then Table::\"main.t\" else Table::\"main.u\").name == \"t\""
        )));
        assert!(!can_error(&clauses("resource.name == \"t\"")));
    }

    #[test]
    fn what_is_read_of_the_context() {
        let reads =
            |conditions: &[&str]| context_reads(&conditions.iter().map(|text| policy(text)).collect::<Vec<_>>());
        let only = |names: &[&str]| Reads::Only(names.iter().map(ToString::to_string).collect());
        assert_eq!(reads(&["resource.name == \"a\""]), only(&[]));
        assert_eq!(
            reads(&["context.index == resource.name", "context has trigger"]),
            only(&["index", "trigger"])
        );
        assert_eq!(
            reads(&["if [context.a.b].contains(1) then context has c.d else {x: context[\"e\"]}.x like \"f\""]),
            only(&["a", "c", "e"])
        );
        for whole in [
            "context == {a: 1}",
            "{a: context}.a.b",
            "[context].contains({})",
            "context.a && context == {}",
        ] {
            assert_eq!(reads(&["context.a == 1", whole]), Reads::Everything, "{whole}");
        }
        assert!(Reads::Everything.reads("x") && only(&["x"]).reads("x") && !only(&["x"]).reads("y"));
    }

    #[test]
    fn written_numbers_include_products() {
        assert!(written_numbers(&clauses("context.bytes <= 4 * 1024")).contains(&4096));
    }
}
