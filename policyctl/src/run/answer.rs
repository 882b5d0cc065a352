//! What a run answers: for people, and as one JSON object.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use stockade_runtime::{Outcome, SqlValue, StateChanges, StatementResult, WasmValue};

use crate::exit::Failure;
use crate::guest_text::{harmless, one_line};

/// What the last guest handed over on standard output, what became of each on standard error.
pub(super) fn show(guests: &[PathBuf], outcomes: &[Outcome], last: &Outcome) -> Result<(), Failure> {
    for line in outcomes.iter().flat_map(|outcome| &outcome.product.log) {
        writeln!(io::stderr(), "guest: {}", one_line(line))?;
    }
    for (name, sum) in outcomes.iter().flat_map(|outcome| &outcome.product.metrics) {
        writeln!(io::stderr(), "metric: {name} {sum}")?;
    }
    show_product(last)?;
    if guests.len() == 1 {
        writeln!(io::stderr(), "{}", verdict(last))?;
        return Ok(());
    }
    for (guest, outcome) in guests.iter().zip(outcomes) {
        writeln!(io::stderr(), "{}: {}", guest.display(), verdict(outcome))?;
    }
    Ok(())
}

fn show_product(outcome: &Outcome) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for statement in &outcome.product.statements {
        show_rows(&mut out, statement)?;
    }
    if outcome.product.output.is_empty() {
        for result in &outcome.product.results {
            writeln!(out, "{}", wasm_text(*result))?;
        }
    } else if io::stdout().is_terminal() {
        writeln!(out, "{}", harmless(&String::from_utf8_lossy(&outcome.product.output)))?;
    } else {
        out.write_all(&outcome.product.output)?;
    }
    out.flush()?;
    Ok(())
}

fn show_rows(out: &mut impl Write, statement: &StatementResult) -> io::Result<()> {
    if statement.columns.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = statement.columns.iter().map(|name| one_line(name)).collect();
    writeln!(out, "{}", names.join("\t"))?;
    for row in &statement.rows {
        let cells: Vec<String> = row.iter().map(sql_text).collect();
        writeln!(out, "{}", cells.join("\t"))?;
    }
    Ok(())
}

fn verdict(outcome: &Outcome) -> String {
    let took = format!("{}.{:01} ms", outcome.wall_us / 1000, outcome.wall_us % 1000 / 100);
    let by = outcome.layer.map_or(String::new(), |layer| format!(" by `{layer}`"));
    let detail = if outcome.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", one_line(&outcome.detail))
    };
    format!("{}{by} after {took}{detail}", outcome.class)
}

fn sql_text(value: &SqlValue) -> String {
    match value {
        SqlValue::Null => "NULL".to_owned(),
        SqlValue::Integer(number) => number.to_string(),
        SqlValue::Real(number) => number.to_string(),
        SqlValue::Text(text) => one_line(text),
        SqlValue::Blob(bytes) => format!("x'{}'", hexadecimal(bytes)),
    }
}

fn wasm_text(value: WasmValue) -> String {
    match value {
        WasmValue::I32(number) => number.to_string(),
        WasmValue::I64(number) => number.to_string(),
        WasmValue::F32(number) => number.to_string(),
        WasmValue::F64(number) => number.to_string(),
        WasmValue::Opaque => "(not a number)".to_owned(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one object of `--format json`: the last guest's, and of a chain every module's in it.
pub(super) fn all_as_json(guests: &[PathBuf], outcomes: &[Outcome], last: &Outcome) -> Value {
    let mut object = as_json(last);
    if guests.len() > 1 {
        let modules = guests.iter().zip(outcomes).map(|(guest, outcome)| {
            let name = guest.display().to_string();
            with(as_json(outcome), "guest", name.into())
        });
        object = with(object, "modules", modules.collect());
    }
    object
}

/// An object with one key more.
fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Some(entries) = object.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
    object
}

/// The object of one guest. Its shape is documented and stable.
fn as_json(outcome: &Outcome) -> Value {
    let product = &outcome.product;
    let last = product
        .statements
        .iter()
        .rev()
        .find(|statement| !statement.columns.is_empty());
    json!({
        "outcome": outcome.class,
        "layer": outcome.layer,
        "detail": outcome.detail,
        "wall_ms": micros_as_millis(outcome.wall_us),
        "peak_rss_bytes": outcome.peak_rss_bytes,
        "columns": last.map(|statement| &statement.columns),
        "rows": last.map(json_rows),
        "statements": product.statements.iter().map(json_statement).collect::<Vec<_>>(),
        "results": product.results.iter().map(json_result).collect::<Vec<_>>(),
        "output": String::from_utf8(product.output.clone()).ok(),
        "output_hex": (String::from_utf8(product.output.clone()).is_err()).then(|| hexadecimal(&product.output)),
        "log": product.log,
        "metrics": product.metrics,
        "state": json_state(&product.state),
        "absent": outcome.absent.iter().collect::<Vec<_>>(),
        "module_cache": outcome.module_cache,
        "trail": outcome.trail.events(),
        "trail_dropped": outcome.trail.dropped(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a run is far shorter than 285 years")]
fn micros_as_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn json_statement(statement: &StatementResult) -> Value {
    json!({ "columns": statement.columns, "row_count": statement.rows.len(), "changes": statement.changes })
}

fn json_rows(statement: &StatementResult) -> Vec<Vec<Value>> {
    statement
        .rows
        .iter()
        .map(|row| row.iter().map(json_cell).collect())
        .collect()
}

/// JSON has no bytes and no infinities: those are objects and strings, never a lookalike.
fn json_cell(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(number) => json!(number),
        SqlValue::Real(number) if number.is_finite() => json!(number),
        SqlValue::Real(number) => json!({ "real": number.to_string() }),
        SqlValue::Text(text) => json!(text),
        SqlValue::Blob(bytes) => json!({ "blob": hexadecimal(bytes) }),
    }
}

/// Each key that was changed: text, bytes as a cell has them, or `null` where it was removed.
fn json_state(changes: &StateChanges) -> Map<String, Value> {
    let json = |value: &[u8]| match std::str::from_utf8(value) {
        Ok(text) => json!(text),
        Err(_) => json!({ "blob": hexadecimal(value) }),
    };
    changes
        .iter()
        .map(|(key, change)| (key.to_owned(), change.map_or(Value::Null, json)))
        .collect()
}

fn json_result(value: &WasmValue) -> Value {
    match *value {
        WasmValue::I32(number) => json!(number),
        WasmValue::I64(number) => json!(number),
        WasmValue::F32(number) if number.is_finite() => json!(number),
        WasmValue::F64(number) if number.is_finite() => json!(number),
        other => json!(wasm_text(other)),
    }
}

/// What the caller agreed to must not be forgotten.
pub(super) fn show_absent(outcome: &Outcome) -> io::Result<()> {
    let names: Vec<String> = outcome.absent.iter().map(|layer| format!("`{layer}`")).collect();
    if names.is_empty() {
        return Ok(());
    }
    writeln!(io::stderr(), "it ran without {}", names.join(", "))
}
