//! What a run did, as seen from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use stockade_runtime::worker::KilledFor;
use stockade_runtime::{HostDatabase, Product, SqlValue, WasmValue};

use crate::stage::{Stage, StageError};
use crate::subject::{Observed, WhatEnded};

/// One expected value of a row.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// NULL.
    Null(()),
    /// An integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// Text.
    Text(String),
}

impl Cell {
    fn is(&self, value: &SqlValue) -> bool {
        match (self, value) {
            (Self::Null(()), SqlValue::Null) => true,
            (Self::Integer(expected), SqlValue::Integer(seen)) => expected == seen,
            #[expect(clippy::float_cmp, reason = "a case states the very value")]
            (Self::Real(expected), SqlValue::Real(seen)) => expected == seen,
            (Self::Text(expected), SqlValue::Text(seen)) => expected == seen,
            _ => false,
        }
    }
}

type Rows = Vec<Vec<Cell>>;

/// What the database's owner reads after the run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    query: String,
    rows: Rows,
}

/// The harm of an attack. Every effect that is named must be seen in the control, and none in a fenced run.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    /// The last statement returned these rows.
    pub rows: Option<Rows>,
    /// The invoked export returned these numbers.
    pub results: Option<Vec<f64>>,
    /// This file exists outside the guest's database, and is not empty.
    pub file: Option<String>,
    /// The owner reads this from the database afterwards.
    pub after: Option<After>,
    /// The guest was still running after so many milliseconds.
    pub still_running_after_ms: Option<u64>,
    /// The guest's module was still being compiled after so many milliseconds.
    pub still_compiling_after_ms: Option<u64>,
    /// Resident memory reached so many mebibytes.
    pub peak_rss_mib: Option<u64>,
    /// The database file grew to so many mebibytes.
    pub database_mib: Option<u64>,
    /// The guest logged so many kibibytes.
    pub log_kib: Option<u64>,
    /// The process died by itself.
    pub crashed: Option<bool>,
    /// The output contains this text.
    pub output: Option<String>,
    /// Among the metrics are these sums.
    pub metrics: Option<BTreeMap<String, i64>>,
    /// Among the changes of the namespace are these values.
    pub state: Option<BTreeMap<String, String>>,
}

/// One effect that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What was looked for, in words.
    pub what: String,
    /// Whether it was there.
    pub seen: bool,
}

impl Effects {
    /// Whether any effect is named.
    #[must_use]
    pub fn is_something(&self) -> bool {
        *self != Self::default()
    }

    /// Looks for every effect that is named.
    ///
    /// # Errors
    /// [`StageError`] where the stage cannot be looked at: then nobody knows.
    pub fn look(&self, observed: &Observed, stage: &Stage) -> Result<Vec<Sighting>, StageError> {
        let mut sightings = Vec::new();
        let mut add = |what: String, seen: bool| sightings.push(Sighting { what, seen });
        let product = observed.product();
        if let Some(rows) = &self.rows {
            add(
                "the rows came back".to_owned(),
                product.is_some_and(|product| last_rows_are(product, rows)),
            );
        }
        if let Some(results) = &self.results {
            add(
                "the export returned".to_owned(),
                product.is_some_and(|product| results_are(product, results)),
            );
        }
        if let Some(name) = &self.file {
            add(
                format!("file `{name}` was made"),
                has_content(&stage.outside().join(name)),
            );
        }
        if let Some(after) = &self.after {
            add(format!("`{}` shows it", after.query), owner_reads(stage, after)?);
        }
        if let Some(millis) = self.still_running_after_ms {
            let is_running = observed.wall.as_millis() >= u128::from(millis);
            add(format!("the guest ran for {millis} ms"), is_running);
        }
        if let Some(millis) = self.still_compiling_after_ms {
            let is_compiling = matches!(observed.ended, WhatEnded::Stopped(KilledFor::Preparing));
            add(format!("the module compiled for {millis} ms"), is_compiling);
        }
        if let Some(mebibytes) = self.peak_rss_mib {
            add(
                format!("memory reached {mebibytes} MiB"),
                observed.peak_rss_bytes >= mebibytes << 20,
            );
        }
        if let Some(mebibytes) = self.database_mib {
            add(
                format!("the database grew to {mebibytes} MiB"),
                size(stage.database()?) >= mebibytes << 20,
            );
        }
        if let Some(kibibytes) = self.log_kib {
            let logged = product.map_or(0, |product| product.log.iter().map(|line| line.len() as u64 + 1).sum());
            add(format!("the guest logged {kibibytes} KiB"), logged >= kibibytes << 10);
        }
        if self.crashed == Some(true) {
            add(
                "the process died".to_owned(),
                matches!(observed.ended, WhatEnded::Crashed { .. }),
            );
        }
        if let Some(text) = &self.output {
            let is_there = product.is_some_and(|product| contains(&product.output, text.as_bytes()));
            add("the output came back".to_owned(), is_there);
        }
        if let Some(metrics) = &self.metrics {
            let is_among = |(name, sum)| product.is_some_and(|product| product.metrics.get(name) == Some(sum));
            add("the metrics came back".to_owned(), metrics.iter().all(is_among));
        }
        if let Some(state) = &self.state {
            let changes = product.map(changes).unwrap_or_default();
            let is_among = |(key, value): (&String, &String)| changes.get(key) == Some(&Some(value.clone()));
            add("the namespace was changed".to_owned(), state.iter().all(is_among));
        }
        Ok(sightings)
    }
}

/// What an honest guest hands back, all of it typed by hand.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returns {
    rows: Option<Rows>,
    results: Option<Vec<f64>>,
    output: Option<String>,
    log: Option<Vec<String>>,
    after: Option<After>,
    metrics: Option<BTreeMap<String, i64>>,
    state: Option<BTreeMap<String, Option<String>>>,
}

impl Returns {
    /// Whether anything is demanded.
    #[must_use]
    pub fn is_something(&self) -> bool {
        *self != Self::default()
    }

    /// What is demanded and is not there.
    ///
    /// # Errors
    /// [`StageError`] where the stage cannot be looked at.
    pub fn missing(&self, product: &Product, stage: &Stage) -> Result<Vec<String>, StageError> {
        let mut missing = Vec::new();
        let mut demand = |what: &str, is_there: bool, seen: String| {
            if !is_there {
                missing.push(format!("{what}; got {seen}"));
            }
        };
        if let Some(rows) = &self.rows {
            let seen = product
                .statements
                .last()
                .map(|last| last.rows.iter().take(20).collect::<Vec<_>>());
            demand(
                "other rows were expected",
                last_rows_are(product, rows),
                format!("{seen:?}"),
            );
        }
        if let Some(results) = &self.results {
            let seen = format!("{:?}", product.results);
            demand("other results were expected", results_are(product, results), seen);
        }
        if let Some(text) = &self.output {
            let seen = String::from_utf8_lossy(&product.output).into_owned();
            demand("other output was expected", product.output == text.as_bytes(), seen);
        }
        if let Some(lines) = &self.log {
            demand(
                "another log was expected",
                product.log == *lines,
                format!("{:?}", product.log),
            );
        }
        if let Some(after) = &self.after {
            let seen = "something else".to_owned();
            demand(
                &format!("`{}` should show it", after.query),
                owner_reads(stage, after)?,
                seen,
            );
        }
        if let Some(metrics) = &self.metrics {
            let seen = format!("{:?}", product.metrics);
            demand("other metrics were expected", product.metrics == *metrics, seen);
        }
        if let Some(state) = &self.state {
            let changes = changes(product);
            let seen = format!("{changes:?}");
            demand("other changes of the namespace were expected", changes == *state, seen);
        }
        Ok(missing)
    }
}

fn last_rows_are(product: &Product, expected: &Rows) -> bool {
    product
        .statements
        .last()
        .is_some_and(|last| rows_are(&last.rows, expected))
}

fn rows_are(seen: &[Vec<SqlValue>], expected: &Rows) -> bool {
    seen.len() == expected.len()
        && seen
            .iter()
            .zip(expected)
            .all(|(row, cells)| row.len() == cells.len() && row.iter().zip(cells).all(|(value, cell)| cell.is(value)))
}

fn results_are(product: &Product, expected: &[f64]) -> bool {
    let seen: Option<Vec<f64>> = product.results.iter().copied().map(number).collect();
    seen.is_some_and(|seen| seen == expected)
}

#[expect(clippy::cast_precision_loss, reason = "cases state small numbers")]
fn number(value: WasmValue) -> Option<f64> {
    match value {
        WasmValue::I32(number) => Some(number.into()),
        WasmValue::I64(number) => Some(number as f64),
        WasmValue::F32(number) => Some(number.into()),
        WasmValue::F64(number) => Some(number),
        WasmValue::Opaque => None,
    }
}

/// Keys and what they were changed to, removed ones to nothing.
fn changes(product: &Product) -> BTreeMap<String, Option<String>> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    product
        .state
        .iter()
        .map(|(key, value)| (key.to_owned(), value.map(text)))
        .collect()
}

fn owner_reads(stage: &Stage, after: &After) -> Result<bool, StageError> {
    let database = HostDatabase::open(stage.database()?)?;
    // A query that fails shows nothing: the table may be gone, or never have been made.
    Ok(database
        .rows(&after.query)
        .is_ok_and(|rows| rows_are(&rows, &after.rows)))
}

fn has_content(path: &Path) -> bool {
    size(path) > 0
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len().max(1)).any(|window| window == wanted)
}
