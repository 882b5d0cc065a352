//! What the corpus must hold: every promise and every attack that its sources name, and two layers for each that reaches
//! beyond the guest's own rows.

use std::collections::BTreeSet;

use stockade_conformance::{Case, Code, Corpus, Kind, Program, Threat};
use stockade_runtime::Layer;

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
    "sqlink/L12",
    "sqlink/L13",
    "sqlink/L14",
    "qip/Q1",
    "qip/Q2",
    "qip/Q3",
    "qip/Q4",
    "qip/Q5",
    "qip/Q6",
    "qip/Q7",
    "qip/Q8",
    "qip/Q9",
    "qip/Q10",
    "qip/Q11",
    "qip/Q12",
    "helios/H1",
    "helios/H2",
    "helios/H3",
    "helios/H4",
    "helios/H5",
    "helios/H6",
    "helios/H7",
    "helios/H8",
    "helios/H9",
    "helios/H10",
    "helios/H11",
    "helios/H14",
    "helios/H15",
    "proxy/P1",
    "proxy/P2",
    "proxy/P3",
    "proxy/P5",
    "proxy/P6",
    "proxy/P7",
    "proxy/P9",
    "proxy/P14",
];

/// Promises that no case can cite, and why. One that is cited after all must leave this list.
const NOT_PROMISED_HERE: &[(&str, &str)] = &[
    ("walkindb/W13", "nothing here limits how often guests run"),
    ("walkindb/W15", "there are no sessions"),
    ("helios/H12", "there is no kit for writing guests, only a host"),
    (
        "proxy/P4",
        "there are no hooks; an export that the caller names and that is not there is an error of his, and no outcome",
    ),
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

/// Attacks of modules, and cases that are one, or where the engine itself stops it. Components, HTTP, sockets and plugins'
/// manifests are not among them, because nothing here has any.
const ATTACKS_OF_MODULES: &[(&str, &[&str])] = &[
    (
        "infinite loop",
        &[
            "wasm/loop-in-run",
            "wasm/loop-by-a-branch-table",
            "wasm/tail-calls-in-a-circle",
            "wasm/loop-to-the-end-of-64-bits",
        ],
    ),
    (
        "loop in a getter or in start",
        &[
            "wasm/loop-in-a-getter",
            "wasm/loop-in-the-output-getter",
            "wasm/loop-in-start",
            "wasm/loop-in-the-start-export",
            "wasm/loop-in-the-allocator",
        ],
    ),
    (
        "memory by growing",
        &[
            "wasm/memory-grow-in-one-step",
            "wasm/memory-grow-page-by-page",
            "wasm/memory-grow-in-the-allocator",
        ],
    ),
    (
        "memory by initial size",
        &["wasm/memory-by-initial-size", "wasm/memory-of-zero-bytes-in-32-bits"],
    ),
    (
        "memory by tables",
        &[
            "wasm/table-grow",
            "wasm/table-by-initial-size",
            "wasm/tables-that-grow-in-turn",
        ],
    ),
    (
        "many memories and tables",
        &[
            "wasm/memories-many",
            "wasm/memories-that-add-up",
            "wasm/memories-that-grow-in-turn",
            "wasm/tables-many",
        ],
    ),
    (
        "data, custom sections and names",
        &[
            "wasm/module-with-more-data-than-code",
            "wasm/module-with-a-custom-section",
            "wasm/module-with-a-long-export-name",
        ],
    ),
    ("module too large", &["wasm/module-larger-than-allowed"]),
    (
        "import that is not granted",
        &[
            "wasm/import-clock",
            "wasm/import-query",
            "wasm/import-clock-through-a-table",
            "wasm/import-random-forbidden-by-its-name",
        ],
    ),
    (
        "WASI",
        &[
            "regression/wasm/wasi-opens-a-file",
            "regression/wasm/wasi-opens-a-socket",
            "regression/wasm/wasi-reads-the-environment",
            "regression/wasm/wasi-reads-the-clock",
            "regression/wasm/wasi-ends-the-process",
        ],
    ),
    (
        "names that look like others",
        &[
            "regression/wasm/import-with-a-zero-width-space",
            "regression/wasm/import-in-letters-that-look-the-same",
            "regression/wasm/import-in-capitals",
            "regression/wasm/contract-with-a-zero-width-space",
        ],
    ),
    (
        "missing export",
        &[
            "regression/wasm/contract-without-a-memory",
            "regression/wasm/contract-without-run",
            "regression/wasm/query-without-an-allocator",
        ],
    ),
    (
        "export of another type",
        &[
            "regression/wasm/getter-of-64-bits",
            "regression/wasm/contract-with-a-memory-that-is-none",
            "regression/wasm/query-with-an-allocator-of-another-type",
        ],
    ),
    (
        "lying pointer",
        &[
            "wasm/input-pointer-beyond-memory",
            "wasm/output-pointer-beyond-memory",
            "wasm/log-pointer-beyond-memory",
            "wasm/query-result-pointer-beyond-memory",
        ],
    ),
    (
        "lying capacity or length",
        &[
            "wasm/input-capacity-beyond-memory",
            "wasm/output-longer-than-stated",
            "wasm/log-negative-length",
            "wasm/query-text-of-the-largest-signed-length",
        ],
    ),
    (
        "null pointer",
        &[
            "wasm/input-pointer-null",
            "wasm/output-pointer-null",
            "wasm/log-null-pointer",
            "wasm/query-text-null",
            "wasm/execute-text-null",
            "wasm/random-fill-null",
            "wasm/query-length-pointer-null",
        ],
    ),
    (
        "misaligned pointer",
        &[
            "wasm/query-result-pointer-misaligned",
            "wasm/query-length-pointer-misaligned",
            "wasm/output-numbers-misaligned",
        ],
    ),
    (
        "double free",
        &[
            "wasm/buffer-given-back-twice",
            "wasm/buffer-given-back-inside-the-deallocator",
        ],
    ),
    (
        "leak",
        &[
            "wasm/buffers-never-given-back",
            "wasm/buffers-that-add-up-in-the-allocator",
        ],
    ),
    (
        "pointer and length overflow",
        &[
            "wasm/log-pointer-plus-length-overflows",
            "wasm/execute-text-at-the-last-address",
        ],
    ),
    (
        "use of what was not allocated",
        &[
            "wasm/buffer-given-back-that-nobody-gave",
            "wasm/buffer-given-back-from-its-middle",
            "wasm/allocator-gives-the-same-twice",
            "wasm/allocator-gives-what-overlaps",
            "wasm/allocator-points-beyond-memory",
            "wasm/allocator-returns-minus-one",
            "wasm/allocator-grows-and-points-past-it",
        ],
    ),
    (
        "checked and then changed",
        &[
            "wasm/output-capacity-raised-by-run",
            "wasm/output-pointer-moved-by-run",
            "wasm/input-pointer-moved-by-start",
            "wasm/allocator-lies-the-second-time",
        ],
    ),
    (
        "buffer overflow",
        &[
            "wasm/input-overruns-its-buffer",
            "wasm/input-of-wide-letters-overruns",
            "wasm/output-numbers-across-the-end",
        ],
    ),
    (
        "text that is not UTF-8",
        &[
            "wasm/log-text-that-is-not-utf8",
            "wasm/output-text-with-an-overlong-slash",
            "wasm/output-text-cut-inside-a-letter",
            "wasm/query-text-with-an-overlong-quote",
        ],
    ),
    (
        "text that is too long",
        &["wasm/buffer-beyond-its-bound", "wasm/query-result-beyond-a-buffer"],
    ),
    (
        "numbers of four bytes",
        &["wasm/output-count-times-four", "wasm/output-numbers-beyond-their-bound"],
    ),
    (
        "stack overflow",
        &[
            "wasm/recursion-direct",
            "wasm/recursion-through-the-host",
            "wasm/recursion-in-start",
            "wasm/recursion-on-a-stack-half-full",
        ],
    ),
    (
        "trap",
        &[
            "regression/wasm/trap-unreachable",
            "regression/wasm/trap-load-across-the-end",
            "regression/wasm/trap-call-of-another-type",
            "regression/wasm/getter-that-traps",
        ],
    ),
    (
        "division by zero",
        &[
            "regression/wasm/trap-division-by-zero",
            "regression/wasm/trap-division-that-overflows",
        ],
    ),
    ("bad magic number", &["regression/wasm/module-of-another-magic"]),
    (
        "malformed module",
        &[
            "regression/wasm/module-cut-inside-a-section",
            "regression/wasm/module-with-a-number-that-never-ends",
            "regression/wasm/module-with-sections-out-of-order",
        ],
    ),
    (
        "features that are off",
        &[
            "regression/wasm/off-memory-of-64-bits",
            "regression/wasm/off-shared-memory",
            "regression/wasm/off-objects",
            "regression/wasm/off-exceptions",
            "regression/wasm/off-references-to-the-host",
        ],
    ),
    (
        "flood of logs",
        &[
            "wasm/log-flood",
            "wasm/log-in-one-long-line",
            "wasm/log-lines-that-weigh-nothing",
            "wasm/log-flood-in-the-allocator",
        ],
    ),
    (
        "forged log",
        &[
            "benign/wasm/log-line-with-line-breaks",
            "benign/wasm/output-that-looks-like-a-verdict",
            "regression/wasm/import-that-forges-a-verdict",
        ],
    ),
    (
        "work of the host",
        &[
            "wasm/bulk-copies-in-a-row",
            "wasm/loop-of-random-bytes",
            "wasm/loop-of-queries",
            "wasm/query-that-returns-late",
        ],
    ),
    (
        "clock and chance as an oracle",
        &["wasm/clock-flood", "wasm/import-clock", "wasm/import-random"],
    ),
    (
        "limit not counted on",
        &[
            "wasm/host-calls-of-several-kinds",
            "wasm/query-bytes-in-portions",
            "wasm/execute-fills-the-disk-in-portions",
            "wasm/query-rows-in-portions",
        ],
    ),
    (
        "going on after a refusal",
        &[
            "wasm/execute-goes-on-after-a-refusal",
            "wasm/execute-refused-inside-a-transaction",
            "wasm/state-changed-before-a-refusal",
        ],
    ),
    (
        "store of keys and values",
        &[
            "wasm/state-value-larger-than-one-may-be",
            "wasm/state-of-too-many-keys",
            "wasm/state-that-adds-up",
            "wasm/state-in-the-key",
            "wasm/state-that-grows-by-overwriting",
        ],
    ),
    (
        "state of another",
        &["wasm/state-of-a-namespace-not-granted", "wasm/import-state-get"],
    ),
    (
        "environment",
        &[
            "wasm/import-env",
            "wasm/env-reads-a-variable-not-granted",
            "wasm/env-probes-for-a-variable",
        ],
    ),
    (
        "metrics",
        &[
            "wasm/metrics-of-too-many-names",
            "wasm/metric-name-that-forges-a-line",
            "wasm/import-metric",
        ],
    ),
    (
        "SQL through a module",
        &[
            "wasm/query-attaches-a-file",
            "wasm/query-loads-an-extension",
            "wasm/query-reads-a-denied-column",
            "wasm/execute-drops-a-table-as-second-statement",
            "wasm/query-sorts-past-the-heap",
        ],
    ),
    (
        "injection through a module",
        &["wasm/query-injected-by-the-input", "wasm/execute-injected-by-the-input"],
    ),
];

/// What is wrong with the corpus; empty when all is well.
pub fn faults(corpus: &Corpus) -> Vec<String> {
    [
        promises(corpus),
        attacks(corpus),
        depth(corpus),
        size(corpus),
        plugins(corpus),
        layers(corpus),
    ]
    .concat()
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
        .chain(ATTACKS_OF_MODULES)
        .flat_map(|(attack, cases)| cases.iter().map(move |id| (*attack, *id)))
        .filter(|(_, id)| !ids.contains(id))
        .map(|(attack, id)| missing(attack, id))
        .collect()
}

/// What reaches files, memory, the processor or another tenant is stopped twice, or the case says why it cannot be.
fn depth(corpus: &Corpus) -> Vec<String> {
    use Threat as T;
    let reaches_beyond = [T::Files, T::Code, T::Time, T::Memory, T::Storage, T::Host];
    let is_alone = |case: &&Case| {
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

/// A guard that only meets modules written by hand was never shown what compilers make.
fn plugins(corpus: &Corpus) -> Vec<String> {
    const LEAST: usize = 10;
    const SMALLEST: usize = 16 << 10;
    let is_compiled = |program: &Program| matches!(program, Program::Module { code: Code::Bytes(module), .. } if module.bytes().len() >= SMALLEST);
    let cases = corpus.cases().iter();
    let count = cases
        .filter(|case| case.is_benign() && is_compiled(&case.program))
        .count();
    let is_enough = count >= LEAST;
    (!is_enough)
        .then(|| format!("{count} honest modules from a compiler, and there must be {LEAST}"))
        .into_iter()
        .collect()
}

/// A layer that stops nothing is none.
fn layers(corpus: &Corpus) -> Vec<String> {
    let stops = |layer: Layer| {
        let attacks = corpus.cases().iter().filter_map(Case::attack);
        attacks
            .flat_map(|attack| &attack.stopped_by)
            .any(|named| *named == layer)
    };
    let idle = Layer::ALL.iter().filter(|layer| !stops(**layer));
    idle.map(|layer| format!("`{layer}` stops no attack")).collect()
}

fn size(corpus: &Corpus) -> Vec<String> {
    let count = |is_wanted: fn(&Kind) -> bool, is_program: fn(&Program) -> bool| {
        let cases = corpus.cases().iter();
        cases
            .filter(|case| is_wanted(&case.kind) && is_program(&case.program))
            .count()
    };
    let is_attack = |kind: &Kind| matches!(kind, Kind::Attack(_));
    let is_honest = |kind: &Kind| matches!(kind, Kind::Benign(_));
    let is_old_fault = |kind: &Kind| matches!(kind, Kind::Regression(_));
    let is_sql = |program: &Program| matches!(program, Program::Sql(_));
    let is_module = |program: &Program| !matches!(program, Program::Sql(_));
    let counts = [
        ("attacks in SQL", count(is_attack, is_sql), 160),
        ("honest guests in SQL", count(is_honest, is_sql), 60),
        ("old faults in SQL", count(is_old_fault, is_sql), 60),
        ("attacks by modules", count(is_attack, is_module), 160),
        ("honest modules", count(is_honest, is_module), 40),
        ("old faults of modules", count(is_old_fault, is_module), 60),
    ];
    counts
        .into_iter()
        .filter(|(_, count, least)| count < least)
        .map(|(what, count, least)| format!("{count} {what}, and there must be {least}"))
        .collect()
}
