//! Patterns that match more than they seem to, or nothing at all.

use cedar_policy::Effect;
use cedar_policy::pst::{BinaryOp, Clause, Expr, PatternElem, UnaryOp, Var};

use super::place_of;
use crate::finding::{Code, Finding};
use crate::parse::LoadedPolicy;
use crate::vocabulary::{Action, ResourceKind};

/// Letters that look like a Latin one in most typefaces: Cyrillic, Greek, Armenian.
const LOOK_ALIKES: &str = "аеіјорсухѕһԁԛԝАВЕІЈКМНОРСТУХЅαοινρυΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսհոցԼ";

/// Which way a match turns the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// Towards yes: what matches by accident is granted.
    Grants,
    /// Towards no: what matches by accident is refused, and seen.
    Refuses,
}

impl Match {
    fn other(self) -> Self {
        match self {
            Self::Grants => Self::Refuses,
            Self::Refuses => Self::Grants,
        }
    }
}

/// What a pattern is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Path,
    Name,
}

/// Every `like` whose pattern is hardly what was meant.
pub(super) fn loose_patterns(policy: &LoadedPolicy) -> Vec<Finding> {
    let mut found = Vec::new();
    for clause in policy.policy.clauses() {
        let (condition, permits) = match clause {
            Clause::When(condition) => (condition, policy.policy.effect() == Effect::Permit),
            Clause::Unless(condition) => (condition, policy.policy.effect() == Effect::Forbid),
        };
        let direction = if permits { Match::Grants } else { Match::Refuses };
        each_like(condition, direction, &mut |subject, pattern, direction| {
            found.extend(judged(policy, subject, pattern, direction));
        });
    }
    found
}

fn judged(policy: &LoadedPolicy, subject: &Expr, pattern: &[PatternElem], direction: Match) -> Option<Finding> {
    let written = written(pattern);
    let text = if is_path(policy, subject) {
        Text::Path
    } else {
        Text::Name
    };
    let (problem, help) = never(&written, text).or_else(|| {
        (direction == Match::Grants).then(|| match text {
            Text::Path => loose_path(&written),
            Text::Name => loose_name(&written),
        })?
    })?;
    let place = place_of(policy, &format!("\"{written}\""));
    Some(
        Finding::warning(Code::LoosePattern, format!("the pattern `{written}` {problem}"))
            .with_help(help)
            .at(Some(place)),
    )
}

/// What no honest text ever matches, whichever way it would turn the answer.
fn never(pattern: &str, text: Text) -> Option<(String, String)> {
    if let Some(hidden) = pattern.chars().find(|c| is_invisible(*c)) {
        return Some((
            format!("has an invisible character, U+{:04X}", u32::from(hidden)),
            "type the pattern again".to_owned(),
        ));
    }
    let word = pattern
        .split(|c: char| !c.is_alphabetic())
        .find(|word| word.chars().any(is_look_alike) && word.chars().all(|c| c.is_ascii() || is_look_alike(c)));
    if let Some(word) = word {
        let spelled: Vec<String> = word
            .chars()
            .filter(|c| is_look_alike(*c))
            .map(|c| format!("U+{:04X}", u32::from(c)))
            .collect();
        return Some((
            format!("has letters that only look like Latin ones: {}", spelled.join(", ")),
            "type the word again, in one alphabet".to_owned(),
        ));
    }
    let odd = pattern.split('/').skip(1).any(|name| matches!(name, "." | ".."));
    (text == Text::Path && (odd || pattern.contains("//"))).then(|| {
        (
            "matches no path: `.`, `..` and `//` are resolved before a policy is asked".to_owned(),
            "write the path as it is after that".to_owned(),
        )
    })
}

fn loose_path(pattern: &str) -> Option<(String, String)> {
    if !pattern.starts_with('/') {
        return Some((
            "is not anchored: it matches in every folder".to_owned(),
            "start with the folder, or name it: `resource in Path::\"/data\"`".to_owned(),
        ));
    }
    let stars = pattern.matches('*').count();
    if let Some(stem) = pattern
        .strip_suffix('*')
        .filter(|stem| stars == 1 && !stem.ends_with('/'))
    {
        return Some((
            format!("also matches what only starts like it, such as `{stem}-other`"),
            format!("write `{stem}/*`, or `resource in Path::\"{stem}\"`"),
        ));
    }
    let inside = pattern.trim_end_matches('*').contains('*');
    inside.then(|| {
        (
            "has a `*` in the middle, which matches `/` as well".to_owned(),
            "name the folder: `resource in Path::\"/data\"`".to_owned(),
        )
    })
}

fn loose_name(pattern: &str) -> Option<(String, String)> {
    if pattern.starts_with('*') && pattern.chars().all(|c| c == '*') {
        return Some(("matches everything".to_owned(), "leave the condition out".to_owned()));
    }
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    if let Some(tail) = pattern.strip_prefix('*').filter(|tail| is_word(tail.chars().next())) {
        let (glue, kind) = if tail.contains('.') {
            (".", "evil-")
        } else {
            ("_", "other")
        };
        return Some((
            format!("also matches what only ends like it, such as `{kind}{tail}`"),
            format!("put a separator behind the `*`: `*{glue}{tail}`"),
        ));
    }
    let stem = pattern
        .strip_suffix('*')
        .filter(|stem| is_word(stem.chars().next_back()))?;
    Some((
        format!("also matches what only starts like it, such as `{stem}other`"),
        format!("put a separator before the `*`: `{stem}_*`"),
    ))
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || c.is_control()
}

/// Full-width forms are Latin letters that are none.
fn is_look_alike(c: char) -> bool {
    LOOK_ALIKES.contains(c) || matches!(c, '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}')
}

/// The pattern as it stands between the quotes, where it needs no other escapes.
fn written(pattern: &[PatternElem]) -> String {
    pattern
        .iter()
        .map(|element| match element {
            PatternElem::Wildcard => "*".to_owned(),
            PatternElem::Char('*') => "\\*".to_owned(),
            PatternElem::Char(c) => c.to_string(),
        })
        .collect()
}

/// The names of paths, and the files that `attach` names.
fn is_path(policy: &LoadedPolicy, subject: &Expr) -> bool {
    let Expr::GetAttr { expr, attr } = subject else {
        return false;
    };
    let about_paths = || {
        let mut kinds = policy
            .covered
            .iter()
            .filter_map(|id| Action::from_id(id))
            .map(Action::resource);
        kinds.any(|kind| kind == ResourceKind::Path)
    };
    match &**expr {
        Expr::Var(Var::Context) => attr == "file",
        Expr::Var(Var::Resource) => attr == "name" && about_paths(),
        _ => false,
    }
}

fn each_like(expr: &Expr, direction: Match, look: &mut dyn FnMut(&Expr, &[PatternElem], Match)) {
    match expr {
        Expr::Like { expr, pattern } => look(expr, pattern, direction),
        Expr::UnaryOp { op: UnaryOp::Not, expr } => each_like(expr, direction.other(), look),
        Expr::BinaryOp {
            op: BinaryOp::And | BinaryOp::Or,
            left,
            right,
        } => {
            each_like(left, direction, look);
            each_like(right, direction, look);
        }
        // Compared with another truth, a match may turn the answer either way; the worse one is assumed.
        Expr::BinaryOp { left, right, .. } => {
            each_like(left, Match::Grants, look);
            each_like(right, Match::Grants, look);
        }
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => {
            each_like(cond, Match::Grants, look);
            each_like(then_expr, direction, look);
            each_like(else_expr, direction, look);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(found: Option<(String, String)>) -> Option<String> {
        found.map(|(problem, _)| problem)
    }

    #[test]
    fn paths_are_anchored_and_end_in_a_folder() {
        for loose in [
            "*",
            "*.db",
            "data/*",
            "/data*",
            "/data/a*",
            "/home/*/public",
            "/data/*/x*",
        ] {
            assert!(loose_path(loose).is_some(), "{loose}");
        }
        for tight in ["/data/*", "/data/in.db", "/"] {
            assert_eq!(loose_path(tight), None, "{tight}");
        }
    }

    #[test]
    fn names_end_where_a_word_ends() {
        for loose in ["*", "**", "*example.com", "staff*", "*public"] {
            assert!(loose_name(loose).is_some(), "{loose}");
        }
        for tight in ["*.example.com", "staff_*", "*_public", "staff", "a*b", ""] {
            assert_eq!(loose_name(tight), None, "{tight}");
        }
    }

    #[test]
    fn nothing_matches_what_is_resolved_before() {
        for odd in ["/data/../*", "/data//*", "/./a", "/data/.."] {
            assert!(never(odd, Text::Path).is_some(), "{odd}");
            assert_eq!(never(odd, Text::Name), None, "{odd}");
        }
        assert_eq!(never("/data/..hidden/*", Text::Path), None);
    }

    #[test]
    fn a_word_in_one_alphabet_is_a_word() {
        for forged in ["/а/*", "pаyroll_*", "ｅxample", "log\u{200b}_*"] {
            assert!(problem(never(forged, Text::Name)).is_some(), "{forged}");
        }
        for honest in ["/a/*", "отчёты_*", "straße", "Μισθός_*", "漢字"] {
            assert_eq!(never(honest, Text::Name), None, "{honest}");
        }
    }
}
