//! How much is read, and how deep it may nest.
//!
//! Cedar's parser calls itself for every bracket, and everything that walks an expression calls itself for every operator
//! in it, so a line of brackets would end the process. What is too much is refused before Cedar sees it. The numbers are
//! far above what people write, and low enough for a thread with a stack of 2 MiB.

use std::collections::HashMap;

use cedar_policy::PrincipalConstraint;

use crate::compile::Ready;
use crate::finding::{Code, Finding, Location};
use crate::parse::{LoadedPolicy, Written};
use crate::schema::{type_of, uid};
use crate::split::{Piece, words};
use crate::store::Source;
use crate::vocabulary::Meter;

/// The text of all sources together, in bytes.
pub(crate) const MOST_TEXT: usize = 4 << 20;
/// One policy, in bytes.
const LONGEST_POLICY: usize = 64 << 10;
/// Policies, templates and links together.
const MOST_POLICIES: usize = 4096;
/// Entities that are declared.
const MOST_ENTITIES: usize = 8192;
/// Entities that others are in: each of those carries the list of all that it is in.
const MOST_GROUPS: usize = 512;
/// Profiles: each is compiled when the policies load.
const MOST_PROFILES: usize = 512;
/// Steps of compiling: some ten seconds of one core.
const MOST_WORK: usize = 2_000_000;
/// What a bracket costs, in operators: about as much of the stack.
const BRACKET: usize = 4;
/// Operators on the way to the innermost expression.
const DEEPEST: usize = 256;

/// Refuses more text than is read.
pub(crate) fn refuse_text(sources: &[Source]) -> Result<(), Finding> {
    let mut total = 0_usize;
    for source in sources {
        total = total.saturating_add(source.text.len());
        if total > MOST_TEXT {
            return Err(Finding::error(
                Code::TooLarge,
                format!(
                    "there are more than {} MiB of policies, entities, links and schemas",
                    MOST_TEXT >> 20
                ),
            )
            .with_help("load fewer at once: a plan is made for one principal, from the policies that concern it")
            .at(Some(Location::new(&source.name, "", 0, 0))));
        }
    }
    Ok(())
}

/// Refuses more policies than are loaded. A link is one more policy.
pub(crate) fn refuse_policies(counted: &[(&Source, usize)]) -> Result<(), Finding> {
    let mut total = 0_usize;
    for (source, count) in counted {
        total = total.saturating_add(*count);
        if total > MOST_POLICIES {
            return Err(Finding::error(
                Code::TooLarge,
                format!("there are more than {MOST_POLICIES} policies and links"),
            )
            .with_help("load fewer at once, or say it with a set: `[\"a\", \"b\"].contains(resource.name)`")
            .at(Some(Location::new(&source.name, "", 0, 0))));
        }
    }
    Ok(())
}

/// Refuses more entities than are loaded: how many there are, how many of them are profiles, and how many others are in.
pub(crate) fn refuse_entities(entities: usize, profiles: usize, groups: usize) -> Result<(), Finding> {
    let counted = [
        (entities, MOST_ENTITIES, "entities are declared"),
        (profiles, MOST_PROFILES, "profiles are declared"),
        (groups, MOST_GROUPS, "entities have others in them"),
    ];
    match counted.into_iter().find(|(count, most, _)| count > most) {
        None => Ok(()),
        Some((count, most, what)) => Err(Finding::error(
            Code::TooLarge,
            format!("{count} {what}, and {most} are the most"),
        )
        .with_help("name a guest to the host with its profile instead of declaring it")),
    }
}

/// Refuses policies that take too long to compile for every profile.
///
/// Partial evaluation takes a step for each policy, action and profile; the comparison with the authorizer asks about each
/// policy's numbers, and every other policy of the meter has a say in each answer.
pub(crate) fn refuse_work(ready: &Ready, kinds: usize) -> Result<(), Finding> {
    let mut work = 0_usize;
    for profile in &ready.profiles {
        let mut per_meter: HashMap<&str, usize> = HashMap::new();
        for loaded in ready
            .policies
            .iter()
            .filter(|loaded| may_concern(loaded, profile, ready))
        {
            work += kinds * (loaded.covered.len() + loaded.covered_own.len());
            for meter in loaded.covered.iter().filter(|name| Meter::from_action(name).is_some()) {
                *per_meter.entry(meter).or_default() += 1;
            }
        }
        let compared: usize = per_meter.values().map(|count| 3 * count * count).sum();
        work = work.saturating_add(kinds * compared);
        if work > MOST_WORK {
            return Err(Finding::error(
                Code::TooLarge,
                "these policies times the profiles that each of them concerns are too many to compile",
            )
            .with_help(
                "give each policy the profile it is for, `principal in Profile::\"…\"`, and the actions it means",
            )
            .at(ready.policies.last().map(|loaded| loaded.location.clone())));
        }
    }
    Ok(())
}

/// Whether a policy can have a say about the profile or a guest in it, as far as its scope says.
pub(crate) fn may_concern(loaded: &LoadedPolicy, profile: &str, ready: &Ready) -> bool {
    let (PrincipalConstraint::In(above) | PrincipalConstraint::IsIn(_, above)) = loaded.policy.principal_constraint()
    else {
        return true;
    };
    // A guest of any profile may be in a publisher.
    type_of(&above) != "Profile"
        || uid("Profile", profile).is_ok_and(|uid| uid == above || ready.entities.is_ancestor_of(&above, &uid))
}

/// Refuses a policy that is too long to look at or nests too deep to parse.
pub(crate) fn refuse_policy(written: Written<'_>) -> Result<(), Finding> {
    let length = written.piece.text.len();
    if length > LONGEST_POLICY {
        return Err(Finding::error(
            Code::TooLarge,
            format!("a policy is {length} bytes long, and {LONGEST_POLICY} are the most"),
        )
        .with_help("make several policies of it; is a `;` or a closing quote missing?")
        .at(Some(written.first_line())));
    }
    refuse_depth(written, &['(', '[', '{'])
}

/// Refuses a text whose brackets and operators nest too deep.
pub(crate) fn refuse_depth(written: Written<'_>, brackets: &[char]) -> Result<(), Finding> {
    let Some(at) = too_deep_at(written.piece, brackets) else {
        return Ok(());
    };
    Err(Finding::error(
        Code::TooDeep,
        format!(
            "this nests deeper than {} brackets or {DEEPEST} operators in a row",
            DEEPEST / BRACKET
        ),
    )
    .with_help("compare with a set, `[1, 2].contains(x)`, or make several policies of it")
    .at(Some(written.at(at, 1))))
}

/// Where the text gets too deep.
///
/// An operator nests everything before it on its level one deeper, `a && b && c` as much as `a.b.c`; a comma begins anew.
fn too_deep_at(piece: Piece<'_>, brackets: &[char]) -> Option<usize> {
    let mut levels: Vec<usize> = Vec::new();
    let (mut here, mut depth) = (0_usize, 0_usize);
    let mut after_operator = None;
    for (at, word) in words(piece.text) {
        let first = word.chars().next().unwrap_or_default();
        // The second half of `&&`, `<=` and their like.
        if matches!(first, '=' | '&' | '|') && after_operator.take() == Some(at) {
            continue;
        }
        match first {
            _ if brackets.contains(&first) => {
                levels.push(here);
                here = BRACKET;
                depth += BRACKET;
            }
            ')' | ']' | '}' | '>' if levels.last().is_some() && (first != '>' || brackets.contains(&'<')) => {
                depth -= here;
                // What the brackets hold is an operand of what follows: `a["b"]["c"]`.
                here = levels.pop().unwrap_or_default() + 1;
                depth += 1;
            }
            ',' | ';' => {
                let kept = if levels.is_empty() { 0 } else { BRACKET };
                depth -= here.saturating_sub(kept);
                here = here.min(kept);
            }
            '!' | '-' | '+' | '*' | '&' | '|' | '<' | '>' | '=' | '.' => {
                here += 1;
                depth += 1;
                after_operator = Some(at + 1);
            }
            _ if word == "if" => {
                here += 1;
                depth += 1;
            }
            _ => {}
        }
        if depth > DEEPEST {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_too_deep(text: &str) -> bool {
        too_deep_at(Piece::whole(text), &['(', '[', '{']).is_some()
    }

    #[test]
    fn brackets_and_operators_add_up() {
        for (open, close) in [("(", ")"), ("[", "]"), ("{", "}"), ("!(", ")")] {
            let nested = |depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
            assert!(!is_too_deep(&nested(DEEPEST / (BRACKET + open.len() - 1))), "{open}");
            assert!(is_too_deep(&nested(DEEPEST / BRACKET + 1)), "{open}");
        }
        for operator in [" && a", " || a", ".a", " + 1", " <= 1", "[\"a\"]"] {
            assert!(!is_too_deep(&operator.repeat(DEEPEST - BRACKET)), "{operator}");
            assert!(is_too_deep(&operator.repeat(DEEPEST + 1)), "{operator}");
        }
        assert!(is_too_deep(&"if a then b else ".repeat(DEEPEST + 1)));
        assert!(is_too_deep(&"!".repeat(DEEPEST + 1)));
        assert!(is_too_deep(&"(1 + ".repeat(DEEPEST / (BRACKET + 1) + 1)));
    }

    #[test]
    fn what_is_wide_is_not_deep() {
        assert!(!is_too_deep(&format!("[{}]", "a.b, ".repeat(10_000))));
        assert!(!is_too_deep(&format!("[{}]", "(a && b), ".repeat(10_000))));
        assert!(!is_too_deep(&format!(
            "\"{}\" // {}",
            "(".repeat(10_000),
            "(".repeat(10_000)
        )));
    }
}
