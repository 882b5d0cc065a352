//! The tenant who comes next: what the process remembers of the one before must be nothing.

use std::sync::Arc;

use stockade_runtime::{Request, SqlValue};

use crate::oracle::Faults;
use crate::replay::TrialError;
use crate::subject::{Laboratory, SubjectError};

/// Lets this tenant read what belongs to the process, and the switches of a connection.
const POLICIES: &str = r#"
@id("neighbour-reads")
permit (principal, action == Action::"pragma", resource)
when {
  [Pragma::"hard_heap_limit", Pragma::"soft_heap_limit", Pragma::"temp_store_directory", Pragma::"trusted_schema",
   Pragma::"cell_size_check", Pragma::"mmap_size", Pragma::"threads", Pragma::"query_only",
   Pragma::"writable_schema"].contains(resource)
}
unless { context has argument };
"#;

/// What it reads, and what it must find: walk-ins have 64 MiB of heap, and the rest is how a database is opened.
const FINDS: &[(&str, Option<i64>)] = &[
    ("pragma hard_heap_limit", Some(64 << 20)),
    ("pragma soft_heap_limit", Some(64 << 20)),
    ("pragma temp_store_directory", None),
    ("pragma trusted_schema", Some(0)),
    ("pragma cell_size_check", Some(1)),
    ("pragma threads", Some(0)),
    ("pragma query_only", Some(0)),
    ("pragma writable_schema", Some(0)),
];

/// What the next tenant of the same workers finds changed.
pub(crate) fn disturbed(laboratory: &Arc<Laboratory>) -> Result<Faults, TrialError> {
    let runtime = laboratory.runtime_with(POLICIES)?;
    let script: String = FINDS.iter().map(|(query, _)| format!("{query};\n")).collect();
    let outcome = runtime
        .run(&Request::sql("walkin", script))
        .map_err(SubjectError::from)?;
    if !outcome.class.is_completed() {
        return Ok(vec![format!(
            "the next tenant cannot work: `{}` ({})",
            outcome.class, outcome.detail
        )]);
    }
    let changed = outcome
        .product
        .statements
        .iter()
        .zip(FINDS)
        .filter_map(|(found, (query, wanted))| {
            let seen = found.rows.first().and_then(|row| row.first());
            let is_as_it_was = match wanted {
                Some(number) => seen == Some(&SqlValue::Integer(*number)),
                None => seen.is_none_or(|value| *value == SqlValue::Text(String::new())),
            };
            (!is_as_it_was).then(|| format!("the next tenant finds `{query}` changed: {seen:?}"))
        });
    Ok(changed.collect())
}
