//! Permits that everybody gets.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Var};
use cedar_policy::{Effect, PrincipalConstraint};

use super::place_of;
use crate::finding::{Code, Finding};
use crate::parse::LoadedPolicy;
use crate::schema::type_of;

/// A permit whose scope lets every principal through, and whose conditions do not ask who it is.
pub(super) fn unscoped_permit(policy: &LoadedPolicy) -> Option<Finding> {
    if policy.policy.effect() == Effect::Forbid {
        return None;
    }
    let who = match policy.policy.principal_constraint() {
        PrincipalConstraint::Any => "everybody".to_owned(),
        PrincipalConstraint::Is(kind) => format!("every `{kind}`"),
        PrincipalConstraint::In(_) | PrincipalConstraint::Eq(_) | PrincipalConstraint::IsIn(..) => return None,
    };
    let is_narrowed = policy
        .policy
        .clauses()
        .iter()
        .any(|clause| matches!(clause, Clause::When(condition) if names_principal(condition)));
    (!is_narrowed).then(|| {
        Finding::warning(
            Code::UnscopedPermit,
            format!("`{}` permits {who}, whatever the profile", policy.id),
        )
        .with_help(
            "write `principal in Profile::\"…\"`; where everybody is meant, say why: `@allow(\"unscoped-permit: …\")`",
        )
        .at(Some(place_of(policy, "principal")))
    })
}

/// A scope that lets a profile through and nobody who is in it.
pub(super) fn profile_itself(policy: &LoadedPolicy) -> Option<Finding> {
    let is_profile = match policy.policy.principal_constraint() {
        PrincipalConstraint::Eq(uid) => type_of(&uid) == "Profile",
        PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => kind.to_string() == "Profile",
        PrincipalConstraint::Any | PrincipalConstraint::In(_) => false,
    };
    is_profile.then(|| {
        Finding::warning(
            Code::ProfileItself,
            format!("`{}` is about a profile itself, and no guest is one", policy.id),
        )
        .with_help("write `principal in Profile::\"…\"`: guests are modules and callers in it")
        .at(Some(place_of(policy, "principal")))
    })
}

/// Whether a condition can only hold for principals that it names.
fn names_principal(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryOp {
            op: BinaryOp::And,
            left,
            right,
        } => names_principal(left) || names_principal(right),
        Expr::BinaryOp {
            op: BinaryOp::Or,
            left,
            right,
        } => names_principal(left) && names_principal(right),
        Expr::BinaryOp {
            op: BinaryOp::In | BinaryOp::Eq,
            left,
            right,
        } => is_principal(left) && is_named(right) || is_principal(right) && is_named(left),
        Expr::BinaryOp {
            op: BinaryOp::Contains,
            left,
            right,
        } => is_named(left) && is_principal(right),
        Expr::Is {
            expr,
            in_expr: Some(group),
            ..
        } => is_principal(expr) && is_named(group),
        _ => false,
    }
}

fn is_principal(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Principal))
}

fn is_named(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(Literal::EntityUID(_)) => true,
        Expr::Set(elements) => elements.iter().all(|element| is_named(element)),
        _ => false,
    }
}
