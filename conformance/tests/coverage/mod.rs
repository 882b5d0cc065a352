//! What the corpus must hold: every promise and every attack that its sources name, and two layers for each that reaches
//! beyond the guest's own rows.

use std::collections::BTreeSet;

use stockade_conformance::{Corpus, Kind, Program, Threat};

/// Ids that cases must cite in `source`.
const PROMISES: &[&str] = &[
    "walkindb/W1",
    "walkindb/W2",
    "walkindb/W3",
    "walkindb/W4",
    "walkindb/W5",
    "walkindb/W6",
    "walkindb/W7",
    "walkindb/W8",
    "walkindb/W9",
    "walkindb/W10",
    "walkindb/W11",
    "walkindb/W12",
    "walkindb/W14",
    "walkindb/W16",
    "walkindb/W17",
    "walkindb/W18",
];

/// Promises that no case can cite, and why. One that is cited after all must leave this list.
const NOT_PROMISED_HERE: &[(&str, &str)] = &[
    ("walkindb/W13", "nothing here limits how often guests run"),
    ("walkindb/W15", "there are no sessions"),
];

/// Attacks in SQL, and cases that are one. Floods of requests, sessions, tokens, the network and tables of grants are not
/// among them: nothing here has any.
const ATTACKS: &[(&str, &[&str])] = &[
    (
        "attach",
        &[
            "sql/attach-reads-host-file",
            "sql/attach-creates-file",
            "sql/attach-by-expression",
        ],
    ),
    ("detach", &["sql/attach-then-detach"]),
    (
        "load_extension",
        &["sql/load-extension", "sql/load-extension-by-entry-point"],
    ),
    ("readfile", &["regression/sql/function-that-reads-files"]),
    ("writefile", &["regression/sql/function-that-writes-files"]),
    ("edit", &["regression/sql/function-that-starts-an-editor"]),
    (
        "functions of full-text search",
        &["regression/sql/functions-of-full-text-search"],
    ),
    (
        "raw pages",
        &["regression/sql/module-of-raw-pages", "sql/virtual-table-reads-pages"],
    ),
    ("archives", &["regression/sql/module-of-archives"]),
    ("keyword hidden by comments", &["sql/attach-hidden-in-comments"]),
    ("keyword in another case", &["sql/attach-in-mixed-case"]),
    ("keyword by characters", &["sql/attach-by-characters"]),
    ("keyword in a parameter", &["sql/attach-by-parameter"]),
    ("processor", &["sql/endless-recursion", "sql/cross-join-explodes"]),
    ("disk", &["sql/table-fills-database", "sql/index-fills-database"]),
    ("value too large", &["sql/hex-of-zeros"]),
    ("expression too deep", &["sql/subqueries-nested-too-deep"]),
    ("compound terms", &["sql/too-many-compound-terms"]),
    (
        "long pattern",
        &["sql/like-pattern-too-long", "sql/glob-pattern-too-long"],
    ),
    ("variables", &["sql/parameter-number-too-high"]),
    ("recursive trigger", &["sql/trigger-chain-multiplies"]),
    ("function arguments", &["sql/too-many-arguments"]),
    ("script too long", &["sql/script-too-long", "sql/statement-too-long"]),
    (
        "several statements",
        &[
            "sql/attach-after-honest-statements",
            "sql/statement-after-honest-one-drops-table",
        ],
    ),
    (
        "another tenant",
        &[
            "sql/attach-writes-to-another-tenant",
            "sql/denied-column-under-second-schema",
        ],
    ),
    (
        "injection",
        &[
            "sql/denied-column-in-union",
            "sql/denied-table-by-always-true-condition",
        ],
    ),
    (
        "waiting",
        &["sql/pragma-sets-busy-timeout", "sql/lock-held-while-looping"],
    ),
    (
        "max_page_count",
        &["sql/page-cap-raised", "sql/page-cap-raised-in-other-words"],
    ),
    (
        "hard_heap_limit",
        &["sql/pragma-starves-other-tenants", "sql/heap-limit-lowered-for-all"],
    ),
    (
        "writable_schema",
        &[
            "sql/writable-schema-forgets-table",
            "sql/writable-schema-plants-trigger",
        ],
    ),
    ("temp_store_directory", &["sql/pragma-moves-temporary-files"]),
    (
        "journal_mode",
        &["sql/pragma-changes-journal-mode", "sql/pragma-sets-journal-mode-memory"],
    ),
    ("mmap_size", &["sql/pragma-sets-mmap-size"]),
    ("cache_size", &["sql/pragma-sets-cache-size"]),
    ("threads", &["sql/pragma-sets-threads"]),
    ("temporary tables", &["sql/temporary-table-beyond-page-cap"]),
    (
        "VACUUM INTO",
        &["sql/vacuum-into-copies-database", "sql/vacuum-into-by-uri"],
    ),
    ("randomblob", &["sql/random-bytes-at-once"]),
    ("group_concat", &["sql/group-concat-grows"]),
    ("printf", &["sql/printf-width", "sql/format-precision"]),
    ("json", &["sql/json-elements-multiply", "sql/json-patch-in-one-opcode"]),
    (
        "shadow tables",
        &[
            "sql/denied-column-in-shadow-table",
            "regression/sql/cve-2026-11822-full-text-memory",
        ],
    ),
    (
        "write through a view or trigger",
        &["sql/write-through-view", "sql/write-through-owners-trigger"],
    ),
    ("column through a trigger", &["sql/denied-column-through-own-trigger"]),
    ("column through a view", &["sql/denied-column-through-view"]),
    (
        "column through an expression",
        &["sql/denied-column-through-common-table-expression"],
    ),
    ("EXPLAIN", &["sql/denied-table-in-query-plan"]),
    (
        "dbstat",
        &[
            "sql/denied-table-in-page-statistics",
            "sql/denied-table-measured-in-pages",
        ],
    ),
    (
        "crafted database",
        &["sql/crafted-view-tells-path", "regression/sql/file-with-cyclic-tree"],
    ),
    (
        "RETURNING",
        &[
            "sql/denied-column-in-returning",
            "sql/denied-column-in-returning-subquery",
        ],
    ),
    (
        "upsert",
        &["sql/denied-column-in-upsert", "sql/denied-column-in-upsert-where"],
    ),
];

/// What is wrong with the corpus; empty when all is well.
pub fn faults(corpus: &Corpus) -> Vec<String> {
    [promises(corpus), attacks(corpus), depth(corpus), size(corpus)].concat()
}

fn promises(corpus: &Corpus) -> Vec<String> {
    let cited: BTreeSet<&str> = corpus
        .cases()
        .iter()
        .flat_map(|case| &case.source)
        .map(String::as_str)
        .collect();
    let missing = PROMISES
        .iter()
        .filter(|id| !cited.contains(**id))
        .map(|id| format!("no case cites `{id}`"));
    let cited_after_all = NOT_PROMISED_HERE
        .iter()
        .filter(|(id, _)| cited.contains(id))
        .map(|(id, why)| format!("`{id}` is cited, and the test says that it cannot be: {why}"));
    missing.chain(cited_after_all).collect()
}

fn attacks(corpus: &Corpus) -> Vec<String> {
    let ids: BTreeSet<&str> = corpus.cases().iter().map(|case| case.id.as_str()).collect();
    let missing = |attack: &str, id: &str| format!("{attack}: there is no case `{id}`");
    ATTACKS
        .iter()
        .flat_map(|(attack, cases)| cases.iter().map(move |id| (*attack, *id)))
        .filter(|(_, id)| !ids.contains(id))
        .map(|(attack, id)| missing(attack, id))
        .collect()
}

/// What reaches files, memory, the processor or another tenant is stopped twice, or the case says why it cannot be.
fn depth(corpus: &Corpus) -> Vec<String> {
    use Threat as T;
    let reaches_beyond = [T::Files, T::Code, T::Time, T::Memory, T::Storage, T::Host];
    let is_alone = |case: &&stockade_conformance::Case| {
        case.attack().is_some_and(|attack| {
            reaches_beyond.contains(&attack.threat) && attack.stopped_by.len() < 2 && attack.single.is_none()
        })
    };
    corpus
        .cases()
        .iter()
        .filter(is_alone)
        .map(|case| {
            format!(
                "`{}` is stopped by one layer only; say in `single` why there is no second",
                case.id
            )
        })
        .collect()
}

fn size(corpus: &Corpus) -> Vec<String> {
    let of_sql = |wanted: fn(&Kind) -> bool| {
        let cases = corpus.cases().iter();
        cases
            .filter(|case| wanted(&case.kind) && matches!(case.program, Program::Sql(_)))
            .count()
    };
    let counts = [
        ("attacks", of_sql(|kind| matches!(kind, Kind::Attack(_))), 160),
        ("honest guests", of_sql(|kind| matches!(kind, Kind::Benign(_))), 60),
        ("old faults", of_sql(|kind| matches!(kind, Kind::Regression(_))), 60),
    ];
    counts
        .into_iter()
        .filter(|(_, count, least)| count < least)
        .map(|(what, count, least)| format!("{count} {what} in SQL, and there must be {least}"))
        .collect()
}
