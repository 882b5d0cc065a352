//! Statements, functions and tables that the plan grants nowhere, found in a script's own tokens before SQLite reads it.
//!
//! Words count only where SQLite would take them so: `'attach'` is a text, `"attach"` a name, and `attach` itself is one
//! anywhere but at the start of a statement. What stands in comments is not there. In doubt a word passes: the authorizer
//! is asked about all that SQLite makes of it, and this layer does not need to be right about more than it refuses.

use stockade_policies::{Action, Meter, Plan, Question, Resource, SqlAction};

use super::glance::Glanced;
use super::tokens::{Token, Words, tokens};
use crate::gate::beyond;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Words that begin a statement, and what SQLite would ask about it. A statement that could be asked about in several
/// ways is refused where none of them is granted.
const STATEMENTS: &[(&str, &[SqlAction])] = {
    use SqlAction as A;
    &[
        ("alter", &[A::AlterTable]),
        ("analyze", &[A::Analyze]),
        ("attach", &[A::Attach]),
        ("begin", &[A::Transaction]),
        ("commit", &[A::Transaction]),
        ("delete", &[A::Delete]),
        ("detach", &[A::Detach]),
        ("end", &[A::Transaction]),
        ("insert", &[A::Insert]),
        ("pragma", &[A::Pragma]),
        ("reindex", &[A::Reindex]),
        ("release", &[A::Savepoint]),
        ("replace", &[A::Insert]),
        ("rollback", &[A::Transaction, A::Savepoint]),
        ("savepoint", &[A::Savepoint]),
        ("update", &[A::Update]),
        // "VACUUM … is implemented by an ATTACH", and asked about so.
        ("vacuum", &[A::Attach]),
    ]
};

/// What `create` and `drop` are followed by, and what SQLite would ask about either.
type Defined = (&'static str, &'static [SqlAction], &'static [SqlAction]);
const DEFINITIONS: &[Defined] = {
    use SqlAction as A;
    &[
        (
            "index",
            &[A::CreateIndex, A::CreateTempIndex],
            &[A::DropIndex, A::DropTempIndex],
        ),
        (
            "table",
            &[A::CreateTable, A::CreateTempTable],
            &[A::DropTable, A::DropTempTable, A::DropVtable],
        ),
        (
            "trigger",
            &[A::CreateTrigger, A::CreateTempTrigger],
            &[A::DropTrigger, A::DropTempTrigger],
        ),
        (
            "view",
            &[A::CreateView, A::CreateTempView],
            &[A::DropView, A::DropTempView],
        ),
        ("virtual", &[A::CreateVtable], &[]),
    ]
};

/// Functions that read files, start programs, load code or open full-text search from inside (`walkindb/W3`). One that ends
/// in `_` stands for all that begin so.
const FUNCTIONS: &[&str] = &[
    "edit",
    "fts5_",
    "load_extension",
    "readfile",
    "unzip",
    "writefile",
    "zipfile",
];

/// Tables that are the pages of the database (`walkindb/W3`).
const TABLES: &[&str] = &["sqlite_dbpage"];

/// The first words of all of these: what has none of them needs no closer look.
pub(super) const WORDS: &[&str] = &[
    "alter",
    "analyze",
    "attach",
    "begin",
    "commit",
    "create",
    "delete",
    "detach",
    "drop",
    "edit",
    "end",
    "fts5_",
    "insert",
    "load_extension",
    "pragma",
    "readfile",
    "reindex",
    "release",
    "replace",
    "rollback",
    "savepoint",
    "sqlite_dbpage",
    "unzip",
    "update",
    "vacuum",
    "writefile",
    "zipfile",
];
static CLOSER_LOOK: Words = Words::new(WORDS);

/// Why the script must not reach SQLite, if so.
pub(crate) fn refusal(script: &Glanced<'_>, plan: &Plan) -> Option<Refusal> {
    let text = script.text();
    let longest = plan.bound(Meter::SqlSqlLength);
    // It is handed to SQLite whole. What is too long for that is too long to be looked at.
    if !longest.permits(text.len() as u64) {
        let detail = format!(
            "{}, and {} were given",
            beyond(Meter::SqlSqlLength, longest),
            text.len()
        );
        return Some(Refusal::by(Layer::Screen, Class::LimitSqlLength, detail));
    }
    if script.is_plain() || !CLOSER_LOOK.are_in(text) {
        return None;
    }
    let tokens = tokens(text);
    statement_refusal(&tokens, plan)
        .or_else(|| function_refusal(&tokens, plan))
        .or_else(|| table_refusal(&tokens, plan))
}

fn statement_refusal(tokens: &[Token<'_>], plan: &Plan) -> Option<Refusal> {
    statements(tokens).find_map(|statement| {
        let (words, actions) = asked_about(statement)?;
        let is_granted = |action: &SqlAction| plan.bit(Action::Sql(*action)) != Some(false);
        (!actions.is_empty() && !actions.iter().any(is_granted)).then(|| {
            let ids: Vec<String> = actions
                .iter()
                .map(|action| format!("`{}`", Action::Sql(*action).id()))
                .collect();
            let detail = format!(
                "a statement begins with `{words}`, and the plan grants {} nowhere",
                ids.join(" and ")
            );
            Refusal::by(Layer::Screen, Class::DeniedSqlAction, detail)
        })
    })
}

/// What a statement begins with, and what SQLite would ask about it; `None` for what is not screened.
fn asked_about(statement: &[Token<'_>]) -> Option<(String, &'static [SqlAction])> {
    let first = statement.first()?.word()?;
    if let Some((name, actions)) = STATEMENTS.iter().find(|(name, _)| is(first, name)) {
        return Some(((*name).to_owned(), actions));
    }
    let is_create = is(first, "create");
    if !is_create && !is(first, "drop") {
        return None;
    }
    let kinds = statement.iter().skip(1).map_while(Token::word);
    let mut kinds = kinds.skip_while(|kind| ["temp", "temporary", "unique"].iter().any(|skipped| is(kind, skipped)));
    let kind = kinds.next()?;
    let (kind, create, drop) = DEFINITIONS.iter().find(|(name, ..)| is(kind, name))?;
    Some(if is_create {
        (format!("create {kind}"), create)
    } else {
        (format!("drop {kind}"), drop)
    })
}

/// Where each statement begins, without an `explain` before it. What a trigger does stands between semicolons too, and is
/// asked about when it is set off.
fn statements<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    let mut rest = tokens;
    std::iter::from_fn(move || {
        while let [Token::Symbol(';'), after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            return None;
        }
        let statement = without_explain(rest);
        let length = if begins_trigger(statement) {
            trigger_length(rest)
        } else {
            statement_length(rest)
        };
        rest = rest.get(length..).unwrap_or_default();
        Some(statement)
    })
}

fn without_explain<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let is_word = |token: &Token<'_>, wanted: &str| token.word().is_some_and(|word| is(word, wanted));
    match tokens {
        [explain, query, plan, rest @ ..]
            if is_word(explain, "explain") && is_word(query, "query") && is_word(plan, "plan") =>
        {
            rest
        }
        [explain, rest @ ..] if is_word(explain, "explain") => rest,
        _ => tokens,
    }
}

fn begins_trigger(statement: &[Token<'_>]) -> bool {
    asked_about(statement).is_some_and(|(words, _)| words == "create trigger")
}

fn statement_length(tokens: &[Token<'_>]) -> usize {
    let end = tokens.iter().position(|token| *token == Token::Symbol(';'));
    end.unwrap_or(tokens.len())
}

/// A trigger ends at the `end` that stands after a semicolon: <https://sqlite.org/c3ref/complete.html>.
fn trigger_length(tokens: &[Token<'_>]) -> usize {
    let ends = |pair: &[Token<'_>]| match pair {
        [Token::Symbol(';'), Token::Word(word)] => is(word, "end"),
        _ => false,
    };
    let end = tokens.windows(2).position(ends);
    end.map_or(tokens.len(), |end| end + 2)
}

fn function_refusal(tokens: &[Token<'_>], plan: &Plan) -> Option<Refusal> {
    let mut listed = (0..tokens.len())
        .filter_map(|at| Some((at, listed_function(tokens.get(at)?)?)))
        .peekable();
    listed.peek()?;
    let closing = closing(tokens);
    listed.find_map(|(at, name)| {
        let is_called = is_called(tokens, at, &closing);
        let resource = Resource::sql_function(&name);
        (is_called && !is_granted(plan, SqlAction::CallFunction, &resource)).then(|| {
            let detail = format!("the function `{name}` is called, and the plan does not grant it");
            Refusal::by(Layer::Screen, Class::DeniedFunction, detail)
        })
    })
}

/// The name in lower case, where it is one of [`FUNCTIONS`].
fn listed_function(token: &Token<'_>) -> Option<String> {
    let name = token.name()?.to_ascii_lowercase();
    let is_listed = |listed: &&str| name == **listed || (listed.ends_with('_') && name.starts_with(*listed));
    FUNCTIONS.iter().any(is_listed).then_some(name)
}

/// Whether the name here is called: it stands before a parenthesis, and names no table.
fn is_called(tokens: &[Token<'_>], at: usize, closing: &[Option<usize>]) -> bool {
    if tokens.get(at + 1) != Some(&Token::Symbol('(')) {
        return false;
    }
    // `with a(x) as (…), edit(y) as (…)`
    let end = closing.get(at + 1).copied().flatten();
    !stands_for_table(tokens.get(..at).unwrap_or_default())
        && !end.is_some_and(|end| is_defined(tokens.get(end + 1..).unwrap_or_default()))
}

/// Whether what stands before a name says that it is a table's.
fn stands_for_table(before: &[Token<'_>]) -> bool {
    const BEFORE_TABLES: [&str; 8] = [
        "as",
        "exists",
        "into",
        "recursive",
        "references",
        "table",
        "update",
        "with",
    ];
    let is_any_of =
        |token: &Token<'_>, wanted: &[&str]| token.word().is_some_and(|word| wanted.iter().any(|one| is(word, one)));
    match before {
        [.., Token::Symbol('.')] => true,
        // `create index main.i on edit(x)`, and not `join main.t on edit(x)`.
        [.., index, _, Token::Symbol('.'), _, on] | [.., index, _, on] if is_any_of(on, &["on"]) => {
            is_any_of(index, &["exists", "index"])
        }
        [.., last] => is_any_of(last, &BEFORE_TABLES),
        [] => false,
    }
}

/// Whether `as (` follows, or `as materialized (`.
fn is_defined(after: &[Token<'_>]) -> bool {
    let mut after = after.iter();
    let is_as = after.next().and_then(Token::word).is_some_and(|word| is(word, "as"));
    let is_hint = |token: &&Token<'_>| {
        token
            .word()
            .is_some_and(|word| is(word, "not") || is(word, "materialized"))
    };
    is_as && after.find(|token| !is_hint(token)) == Some(&Token::Symbol('('))
}

/// For each parenthesis that opens, where it closes.
fn closing(tokens: &[Token<'_>]) -> Vec<Option<usize>> {
    let mut closing = vec![None; tokens.len()];
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol('(') => open.push(at),
            Token::Symbol(')') => {
                if let Some(slot) = open.pop().and_then(|opened| closing.get_mut(opened)) {
                    *slot = Some(at);
                }
            }
            _ => {}
        }
    }
    closing
}

fn table_refusal(tokens: &[Token<'_>], plan: &Plan) -> Option<Refusal> {
    const BEFORE: [&str; 4] = ["from", "into", "join", "update"];
    tokens.windows(2).find_map(|pair| {
        let [before, table] = pair else {
            return None;
        };
        let name = table.name_or_text()?;
        let stands_for_table = *before == Token::Symbol('.')
            || before
                .word()
                .is_some_and(|before| BEFORE.iter().any(|listed| is(before, listed)));
        let name = TABLES.iter().find(|listed| is(name, listed))?;
        let any_column = Resource::column("main", name, "");
        (stands_for_table && !is_granted(plan, SqlAction::Read, &any_column)).then(|| {
            let detail = format!("the table `{name}` is used, and the plan does not grant it");
            Refusal::by(Layer::Screen, Class::DeniedSqlAction, detail)
        })
    })
}

fn is_granted(plan: &Plan, action: SqlAction, resource: &Resource) -> bool {
    let question = Question {
        action: Action::Sql(action),
        resource,
        context: &[],
    };
    plan.decide(&question).allowed
}

fn is(word: &str, wanted: &str) -> bool {
    word.eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use stockade_policies::{PolicyStore, Principal};

    use super::*;

    fn refused(profile: &str, script: &str) -> Option<Class> {
        let policies = PolicyStore::stock().unwrap();
        let plan = policies.plan(&Principal::caller("guest", profile)).unwrap();
        refusal(&Glanced::of(script), &plan).map(|refusal| refusal.class)
    }

    #[track_caller]
    fn assert_all(profile: &str, scripts: &[&str], class: Option<Class>) {
        for script in scripts {
            assert_eq!(refused(profile, script), class, "{script}");
        }
    }

    #[test]
    fn no_word_is_passed_over() {
        let statements = STATEMENTS.iter().map(|(word, _)| *word);
        let listed = statements
            .chain(["create", "drop"])
            .chain(FUNCTIONS.iter().copied())
            .chain(TABLES.iter().copied());
        let mut listed: Vec<&str> = listed.collect();
        listed.sort_unstable();
        assert_eq!(listed, WORDS);
    }

    #[test]
    fn a_statement_that_is_granted_nowhere_is_found_wherever_it_begins() {
        assert_all(
            "walkin",
            &[
                "attach 'x' as y",
                "/* skip */ AtTaCh 'x' as y",
                "-- a\nattach'x'as y",
                "select 1;attach 'x' as y",
                ";;; detach y",
                "explain attach 'x' as y",
                "explain query plan attach 'x' as y",
                "vacuum into 'x'",
                "create trigger t after insert on a begin select 1; end; attach 'x' as y",
                "create virtual table t using fts5(x)",
                "\u{feff}attach 'x' as y",
            ],
            Some(Class::DeniedSqlAction),
        );
        assert_all(
            "database-only",
            &[
                "pragma user_version",
                "insert into t values (1)",
                "create temp table t(x)",
                "drop view v",
                "begin",
            ],
            Some(Class::DeniedSqlAction),
        );
    }

    #[test]
    fn a_word_that_begins_nothing_is_a_name_or_a_text() {
        assert_all(
            "walkin",
            &[
                "select 'attach database'",
                "select \"attach\" from t",
                "select 1 as attach, 2 as vacuum",
                "select attach from t",
                "select 1 -- ; attach 'x' as y",
                "select 1 /* ; attach 'x' as y */",
                "select ';attach'",
                "select [;attach], `;detach`",
                "create table detach(vacuum, attach)",
                "create trigger t after insert on a begin delete from b; end",
                "with attach(x) as (select 1) select x from attach",
            ],
            None,
        );
    }

    #[test]
    fn a_listed_function_is_found_by_any_quoting_where_it_is_called() {
        assert_all(
            "walkin",
            &[
                "select load_extension('x')",
                "select \"load_extension\" ('x')",
                "select [LOAD_extension]/**/('x')",
                "select 1 where readfile('/etc/passwd') is not null",
                "select * from a join b on writefile('x', 'y')",
                "select * from a join main.b on writefile('x', 'y')",
                "select fts5_source_id()",
                "select * from zipfile('x')",
                "create table t as select edit('x')",
            ],
            Some(Class::DeniedFunction),
        );
    }

    #[test]
    fn a_table_may_be_called_like_a_listed_function() {
        assert_all(
            "walkin",
            &[
                "select 'load_extension(x)'",
                "select load_extension from t",
                "create table edit(a)",
                "create table if not exists edit(a)",
                "insert into edit(a) values (1)",
                "insert into main.edit(a) values (1)",
                "create table t(a references edit(b))",
                "create index i on edit(a)",
                "create unique index if not exists main.i on edit(a)",
                "with edit(a) as (select 1) select a from edit",
                "with a(x) as (select 1), edit(y) as not materialized (select 2) select y from edit",
                "select editor('x'), fts(5)",
            ],
            None,
        );
    }

    #[test]
    fn raw_pages_are_found_where_a_table_stands() {
        assert_all(
            "walkin",
            &[
                "select data from sqlite_dbpage",
                "select data from main.\"sqlite_dbpage\"",
                "select 1 from t join 'SQLITE_DBPAGE'",
                "update sqlite_dbpage set data = 1",
            ],
            Some(Class::DeniedSqlAction),
        );
        assert_all("walkin", &["select 'sqlite_dbpage'", "select 1 as sqlite_dbpage"], None);
    }

    #[test]
    fn what_the_plan_grants_somewhere_passes() {
        assert_eq!(
            refused("trusted", "pragma table_info(x); create view v as select 1; analyze"),
            None
        );
        assert_eq!(
            refused("walkin", "begin; savepoint a; rollback to a; end; reindex"),
            None
        );
        assert_eq!(refused("trusted", "attach 'x' as y"), Some(Class::DeniedSqlAction));
    }
}
