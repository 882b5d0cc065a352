//! What is allowed of one action, in a form in which one side can be shown to follow from the other.
//!
//! What partial evaluation leaves of the policies is brought into alternatives: a request is allowed if all the conditions
//! of any one alternative hold. A side is no wider than another if each of its alternatives has all that some alternative
//! of the other asks for. That is shown by comparing single conditions, so it can fail to see what is true, and never sees
//! what is not.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use cedar_policy::pst::{BinaryOp, Clause, Effect, Expr, Literal, PatternElem, UnaryOp, Var};

use crate::condition::expr_of;
use crate::resource::Resource;

/// More alternatives than this are not compared.
const MOST: usize = 256;

/// What one side allows of an action.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Allowed {
    alternatives: Alternatives,
    /// The policies that are left, without their names: the same policies allow the same.
    policies: BTreeSet<String>,
}

impl Allowed {
    /// What partial evaluation left of the policies on one action.
    pub(super) fn by(left: &[Policy]) -> Result<Self, String> {
        let mut permits = Alternatives::never();
        let mut refusals = Vec::new();
        let mut policies = BTreeSet::new();
        for policy in left {
            let policy = policy.to_pst().map_err(|error| error.to_string())?;
            let (effect, clauses) = (policy.body().effect, policy.body().clauses());
            policies.insert(format!("{effect:?} {clauses:?}"));
            match effect {
                Effect::Permit => permits = permits.or(satisfied(clauses)),
                Effect::Forbid => refusals.push(not_satisfied(clauses)),
            }
        }
        let alternatives = refusals.into_iter().fold(permits, Alternatives::and);
        Ok(Self { alternatives, policies })
    }

    /// Whatever this allows, the other allows too: shown, not guessed.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        if self.policies == other.policies {
            return true;
        }
        match (&self.alternatives.0, &other.alternatives.0) {
            (Some(these), Some(those)) => these.iter().all(|this| those.iter().any(|that| this.has_all_of(that))),
            _ => false,
        }
    }
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Alternative(BTreeSet<Condition>);

impl Alternative {
    /// Every condition of the other follows from one of these.
    fn has_all_of(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|asked| self.0.iter().any(|held| held.implies(asked)))
    }

    fn is_impossible(&self) -> bool {
        self.0
            .iter()
            .any(|held| self.0.iter().any(|other| held.implies(&other.negated())))
    }
}

/// Any one of these is enough; none where there are too many to compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Alternatives(Option<BTreeSet<Alternative>>);

impl Alternatives {
    fn never() -> Self {
        Self(Some(BTreeSet::new()))
    }

    fn always() -> Self {
        Self(Some(BTreeSet::from([Alternative::default()])))
    }

    fn one(condition: Condition) -> Self {
        Self(Some(BTreeSet::from([Alternative(BTreeSet::from([condition]))])))
    }

    fn or(self, other: Self) -> Self {
        let all = |these: BTreeSet<_>, those| fewest(these.into_iter().chain(those));
        Self(self.0.zip(other.0).and_then(|(these, those)| all(these, those)))
    }

    fn and(self, other: Self) -> Self {
        let crossed = |these: &BTreeSet<Alternative>, those: &BTreeSet<Alternative>| {
            let both = |this: &Alternative, that: &Alternative| Alternative(this.0.union(&that.0).cloned().collect());
            fewest(
                these
                    .iter()
                    .flat_map(|this| those.iter().map(move |that| both(this, that))),
            )
        };
        Self(self.0.zip(other.0).and_then(|(these, those)| crossed(&these, &those)))
    }

    /// These, or where there are too many the policy as it is.
    fn or_whole(self, clauses: &[Clause], holds: bool) -> Self {
        if self.0.is_some() { self } else { whole(clauses, holds) }
    }
}

/// One test of one expression, and whether it must hold. It holds if it is evaluated, without an error, to that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Condition {
    of: String,
    test: Test,
    holds: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    /// `==` a constant.
    Is(Constant),
    /// `in` an entity.
    In(Constant),
    /// `like` a pattern; none stands for the wildcard.
    Like(Vec<Option<char>>),
    /// Whatever the expression says.
    True,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Constant {
    Text(String),
    Entity(String),
    Other(String),
}

impl Condition {
    fn negated(&self) -> Self {
        Self {
            holds: !self.holds,
            ..self.clone()
        }
    }

    fn implies(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        if self.of != other.of {
            return false;
        }
        match (self.holds, other.holds) {
            (true, true) => self.test.implies(&other.test),
            (false, false) => other.test.implies(&self.test),
            (true, false) => self.test.excludes(&other.test),
            (false, true) => false,
        }
    }
}

impl Test {
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(Constant::Text(text)), Self::Like(pattern)) => {
                let text: Vec<Option<char>> = text.chars().map(Some).collect();
                is_covered(&text, pattern)
            }
            (Self::Like(narrow), Self::Like(wide)) => is_covered(narrow, wide),
            (Self::Is(inner) | Self::In(inner), Self::In(outer)) => {
                inner == outer || inner.is_inside(outer) == Some(true)
            }
            _ => self == other,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(one), Self::Is(another)) => one != another,
            (Self::Is(Constant::Text(_)), Self::Like(_)) => !self.implies(other),
            (Self::Like(_), Self::Is(Constant::Text(_))) => !other.implies(self),
            (Self::Is(inner), Self::In(outer)) | (Self::In(outer), Self::Is(inner)) => {
                inner != outer && inner.is_inside(outer) == Some(false)
            }
            _ => false,
        }
    }
}

impl Constant {
    /// Whether an entity is in another because of its name; nothing where names do not say.
    fn is_inside(&self, other: &Self) -> Option<bool> {
        let (Self::Entity(inner), Self::Entity(outer)) = (self, other) else {
            return None;
        };
        let inner: Resource = inner.parse().ok()?;
        let outer: Resource = outer.parse().ok()?;
        inner
            .kind()
            .is_structural()
            .then(|| inner == outer || inner.parents().contains(&outer))
    }
}

/// Every text that fits `narrow` fits `wide`: a wildcard of the first is a letter that only a wildcard of the second takes.
fn is_covered(narrow: &[Option<char>], wide: &[Option<char>]) -> bool {
    let mut reached = vec![false; narrow.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for element in wide {
        let mut next = vec![false; narrow.len() + 1];
        let mut is_open = false;
        for (at, can_reach) in reached.iter().enumerate() {
            is_open |= can_reach;
            let taken = match element {
                None => is_open.then_some(at),
                Some(_) => (*can_reach && narrow.get(at) == Some(element)).then_some(at + 1),
            };
            if let Some(place) = taken.and_then(|at| next.get_mut(at)) {
                *place = true;
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

fn satisfied(clauses: &[Clause]) -> Alternatives {
    if clauses.iter().any(|clause| can_error(expr_of(clause))) {
        return whole(clauses, true);
    }
    let each = clauses
        .iter()
        .map(|clause| alternatives(expr_of(clause), is_when(clause)));
    each.fold(Alternatives::always(), Alternatives::and)
        .or_whole(clauses, true)
}

fn not_satisfied(clauses: &[Clause]) -> Alternatives {
    if clauses.iter().any(|clause| can_error(expr_of(clause))) {
        return whole(clauses, false);
    }
    let each = clauses
        .iter()
        .map(|clause| alternatives(expr_of(clause), !is_when(clause)));
    each.fold(Alternatives::never(), Alternatives::or)
        .or_whole(clauses, false)
}

/// The policy as one condition: equal to itself, and to nothing else.
fn whole(clauses: &[Clause], holds: bool) -> Alternatives {
    Alternatives::one(Condition {
        of: format!("{clauses:?}"),
        test: Test::True,
        holds,
    })
}

fn is_when(clause: &Clause) -> bool {
    matches!(clause, Clause::When(_))
}

/// Without what is impossible and what another alternative allows anyway.
fn fewest(all: impl Iterator<Item = Alternative>) -> Option<BTreeSet<Alternative>> {
    let mut kept: Vec<Alternative> = Vec::new();
    for alternative in all {
        if alternative.is_impossible() || kept.iter().any(|other| alternative.has_all_of(other)) {
            continue;
        }
        kept.retain(|other| !other.has_all_of(&alternative));
        kept.push(alternative);
        if kept.len() > MOST {
            return None;
        }
    }
    Some(kept.into_iter().collect())
}

/// The ways in which an expression comes to `wanted`.
fn alternatives(expr: &Expr, wanted: bool) -> Alternatives {
    match expr {
        Expr::Literal(Literal::Bool(value)) => {
            if *value == wanted {
                Alternatives::always()
            } else {
                Alternatives::never()
            }
        }
        Expr::UnaryOp { op: UnaryOp::Not, expr } => alternatives(expr, !wanted),
        Expr::BinaryOp { op, left, right } => of_operation(*op, left, right, expr, wanted),
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => {
            let then = alternatives(cond, true).and(alternatives(then_expr, wanted));
            then.or(alternatives(cond, false).and(alternatives(else_expr, wanted)))
        }
        Expr::Like { expr, pattern } => Alternatives::one(Condition {
            of: format!("{expr:?}"),
            test: Test::Like(pattern_of(pattern)),
            holds: wanted,
        }),
        _ => as_it_is(expr, wanted),
    }
}

fn of_operation(op: BinaryOp, left: &Expr, right: &Expr, whole: &Expr, wanted: bool) -> Alternatives {
    let both = |left: Alternatives, right: Alternatives, is_and: bool| {
        if is_and == wanted {
            left.and(right)
        } else {
            left.or(right)
        }
    };
    match op {
        BinaryOp::And | BinaryOp::Or => both(
            alternatives(left, wanted),
            alternatives(right, wanted),
            op == BinaryOp::And,
        ),
        BinaryOp::Eq => equal(left, right, wanted),
        BinaryOp::NotEq => equal(left, right, !wanted),
        BinaryOp::In => {
            let inside = |outer: &Expr| Some((left, Test::In(constant(outer)?)));
            any(&elements(right), inside, wanted).unwrap_or_else(|| as_it_is(whole, wanted))
        }
        BinaryOp::Contains => {
            let is = |element: &Expr| Some((right, Test::Is(constant(element)?)));
            match left {
                Expr::Set(_) => any(&elements(left), is, wanted).unwrap_or_else(|| as_it_is(whole, wanted)),
                _ => as_it_is(whole, wanted),
            }
        }
        _ => as_it_is(whole, wanted),
    }
}

/// A set's elements; anything else is the only one.
fn elements(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Set(elements) => elements.iter().map(AsRef::as_ref).collect(),
        other => vec![other],
    }
}

fn any<'a>(
    elements: &[&'a Expr],
    test: impl Fn(&'a Expr) -> Option<(&'a Expr, Test)>,
    wanted: bool,
) -> Option<Alternatives> {
    let mut all = if wanted {
        Alternatives::never()
    } else {
        Alternatives::always()
    };
    for element in elements {
        let (of, test) = test(element)?;
        let next = Alternatives::one(Condition {
            of: format!("{of:?}"),
            test,
            holds: wanted,
        });
        all = if wanted { all.or(next) } else { all.and(next) };
    }
    Some(all)
}

fn equal(left: &Expr, right: &Expr, wanted: bool) -> Alternatives {
    let (of, test) = match (constant(left), constant(right)) {
        (None, Some(constant)) => (format!("{left:?}"), Test::Is(constant)),
        (Some(constant), None) => (format!("{right:?}"), Test::Is(constant)),
        _ => {
            let mut sides = [format!("{left:?}"), format!("{right:?}")];
            sides.sort_unstable();
            (sides.join(" == "), Test::True)
        }
    };
    Alternatives::one(Condition {
        of,
        test,
        holds: wanted,
    })
}

fn constant(expr: &Expr) -> Option<Constant> {
    let Expr::Literal(literal) = expr else { return None };
    Some(match literal {
        Literal::String(text) => Constant::Text(text.to_string()),
        Literal::EntityUID(uid) => Constant::Entity(named(&uid.ty.to_string(), &uid.eid)),
        other => Constant::Other(format!("{other:?}")),
    })
}

/// An entity as policies write it: `Table::"main.notes"`.
pub(super) fn named(type_: &str, id: &str) -> String {
    format!("{type_}::{}", serde_json::Value::from(id))
}

/// A pattern's letters; none stands for a wildcard.
pub(super) fn pattern_of(pattern: &[PatternElem]) -> Vec<Option<char>> {
    let letter = |element: &PatternElem| match element {
        PatternElem::Char(letter) => Some(*letter),
        PatternElem::Wildcard => None,
    };
    pattern.iter().map(letter).collect()
}

fn as_it_is(expr: &Expr, wanted: bool) -> Alternatives {
    Alternatives::one(Condition {
        of: format!("{expr:?}"),
        test: Test::True,
        holds: wanted,
    })
}

/// Whether evaluating can go wrong although the policy fits the schema. Then the order in which conditions are tried
/// matters, and alternatives have none.
fn can_error(expr: &Expr) -> bool {
    let is_doubtful = |expr: &Expr| match expr {
        Expr::Literal(_) | Expr::Var(_) => Some(false),
        Expr::GetAttr { expr, .. } => match &**expr {
            Expr::Var(Var::Context | Var::Resource | Var::Principal) => Some(false),
            _ => Some(true),
        },
        Expr::UnaryOp {
            op: UnaryOp::Not | UnaryOp::IsEmpty,
            ..
        }
        | Expr::BinaryOp {
            op:
                BinaryOp::Eq
                | BinaryOp::NotEq
                | BinaryOp::Less
                | BinaryOp::LessEq
                | BinaryOp::Greater
                | BinaryOp::GreaterEq
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::In
                | BinaryOp::Contains
                | BinaryOp::ContainsAll
                | BinaryOp::ContainsAny,
            ..
        }
        | Expr::HasAttr { .. }
        | Expr::Like { .. }
        | Expr::Is { .. }
        | Expr::IfThenElse { .. }
        | Expr::Set(_)
        | Expr::Record(_) => None,
        _ => Some(true),
    };
    expr.reduce(&is_doubtful, &|one, other| one || other, false)
}

#[cfg(test)]
mod tests {
    use cedar_policy::PolicyId;

    use super::*;

    fn allowed(policies: &[&str]) -> Allowed {
        let parsed: Vec<Policy> = policies
            .iter()
            .enumerate()
            .map(|(index, text)| Policy::parse(Some(PolicyId::new(index.to_string())), text).unwrap())
            .collect();
        Allowed::by(&parsed).unwrap()
    }

    fn permit(condition: &str) -> String {
        format!("permit (principal, action, resource) when {{ {condition} }};")
    }

    fn forbid(condition: &str) -> String {
        format!("forbid (principal, action, resource) when {{ {condition} }};")
    }

    #[track_caller]
    fn assert_same(one: &[&str], other: &[&str]) {
        let (one, other) = (allowed(one), allowed(other));
        assert!(one.is_within(&other) && other.is_within(&one), "{one:#?}\n{other:#?}");
    }

    #[track_caller]
    fn assert_narrower(narrow: &[&str], wide: &[&str]) {
        let (narrow, wide) = (allowed(narrow), allowed(wide));
        assert!(narrow.is_within(&wide), "{narrow:#?}\n{wide:#?}");
        assert!(!wide.is_within(&narrow), "{narrow:#?}\n{wide:#?}");
    }

    #[test]
    fn the_same_said_otherwise() {
        let (a, b) = (r#"context.name == "a""#, r#"context.name == "b""#);
        assert_same(&[&permit(a), &permit(b)], &[&permit(&format!("{b} || {a}"))]);
        assert_same(
            &[&permit(a), &permit(b)],
            &[&permit(r#"["b", "a"].contains(context.name)"#)],
        );
        assert_same(
            &[&permit(&format!("!({a} || {b})"))],
            &[&permit(&format!("!({b}) && !({a})"))],
        );
        assert_same(&[&permit("true"), &forbid(a)], &[&permit(&format!("!({a})"))]);
        assert_same(
            &[&permit(r#""a" == context.name"#)],
            &[&permit(r#"!(context.name != "a")"#)],
        );
        assert_same(
            &[&permit(r#"resource in [Table::"main.a", Table::"main.b"]"#)],
            &[
                &permit(r#"resource in Table::"main.b""#),
                &permit(r#"resource in Table::"main.a""#),
            ],
        );
        assert_same(&[&permit(&format!("if {a} then {b} else {a}"))], &[]);
        assert_same(&[&permit(&format!("{a} && {b}"))], &[&forbid("true"), &permit("true")]);
    }

    #[test]
    fn one_inside_the_other() {
        assert_narrower(
            &[&permit(r#"context.name == "ab""#)],
            &[&permit(r#"context.name like "a*""#)],
        );
        assert_narrower(
            &[&permit(r#"context.name like "a/*""#)],
            &[&permit(r#"context.name like "a*""#)],
        );
        assert_narrower(
            &[&permit(r#"resource == Column::"main.t.c""#)],
            &[&permit(r#"resource in Table::"main.t""#)],
        );
        assert_narrower(
            &[&permit(r#"resource in Path::"/a/b""#)],
            &[&permit(r#"resource in Path::"/a""#)],
        );
        assert_narrower(
            &[&permit("true"), &forbid(r#"resource in Database::"main""#)],
            &[&permit("true"), &forbid(r#"resource in Table::"main.t""#)],
        );
        assert_narrower(
            &[&permit(r#"context.name == "a" && context has trigger"#)],
            &[&permit(r#"context.name == "a""#)],
        );
        assert_narrower(
            &[&permit(r#"context.name == "a""#)],
            &[&permit(r#"context.name != "b""#)],
        );
    }

    #[test]
    fn what_is_not_shown_is_not_claimed() {
        let pairs = [
            (r#"context.name like "a*""#, r#"context.name like "*a""#),
            (r#"resource in Table::"main.t""#, r#"resource in Table::"main.u""#),
            (r#"context.name == "a""#, r#"resource.name == "a""#),
            (r"context has name", r"context has trigger"),
            (
                r#"resource in SqlFunctionClass::"clock""#,
                r#"resource in SqlFunctionClass::"random""#,
            ),
            // A literal star is a letter, not a wildcard.
            (r#"context.name like "a*""#, r#"context.name like "a\*""#),
        ];
        for (one, other) in pairs {
            assert!(
                !allowed(&[&permit(one)]).is_within(&allowed(&[&permit(other)])),
                "{one} {other}"
            );
            assert!(!allowed(&[&permit("true"), &forbid(other)]).is_within(&allowed(&[&permit("true"), &forbid(one)])));
        }
    }

    #[test]
    fn an_order_that_an_error_depends_on_is_kept() {
        let risky = "context.n + 1 > 0";
        let (before, after) = (
            permit(&format!("context.n > 5 || {risky}")),
            permit(&format!("{risky} || context.n > 5")),
        );
        assert!(!allowed(&[&before]).is_within(&allowed(&[&after])));
        assert_same(&[&before], &[&before]);
    }

    #[test]
    fn too_many_alternatives_are_compared_as_they_are() {
        let pair = |n: usize| format!("(context.a{n} == \"x\" || context.b{n} == \"x\")");
        let many: Vec<String> = (0..12).map(pair).collect();
        let reversed: Vec<String> = (0..12).rev().map(pair).collect();
        let (many, reversed) = (permit(&many.join(" && ")), permit(&reversed.join(" && ")));
        assert_same(&[&many], &[&many]);
        assert!(!allowed(&[&many]).is_within(&allowed(&[&reversed])));
    }

    #[test]
    fn patterns_cover_patterns() {
        let covered = |narrow: &str, wide: &str| {
            let letters = |text: &str| -> Vec<Option<char>> {
                text.chars().map(|letter| (letter != '*').then_some(letter)).collect()
            };
            is_covered(&letters(narrow), &letters(wide))
        };
        for (narrow, wide) in [
            ("", "*"),
            ("a", "a"),
            ("a*b", "a*"),
            ("a*b", "*b"),
            ("a**b", "a*b"),
            ("xay", "*a*"),
        ] {
            assert!(covered(narrow, wide), "{narrow} {wide}");
        }
        for (narrow, wide) in [
            ("*", ""),
            ("a*", "a"),
            ("a*", "a*b"),
            ("*", "**a"),
            ("b", "a*"),
            ("ab", "a"),
        ] {
            assert!(!covered(narrow, wide), "{narrow} {wide}");
        }
    }
}
