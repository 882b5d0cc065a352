//! The messages: one JSON object a line.
//!
//! Numbers of guests are written as text, because a JSON number past 2^53 loses digits in half of the languages that an
//! adapter may be written in, and there is none for "not a number". Bytes are hexadecimal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stockade_runtime::{Class, Product, SqlValue, StatementResult, WasmValue};

use crate::damage::from_hex;

/// The version of the protocol. An adapter that speaks another is not put to the test.
pub const PROTOCOL: u32 = 1;

/// What the harness says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToAdapter {
    /// The first line.
    Hello {
        /// The version that the harness speaks.
        protocol: u32,
    },
    /// A guest to run. It is said once: another case is another process.
    Run(Box<Run>),
    /// The answer to `ask`.
    Decision {
        /// Whether the plan grants it.
        granted: bool,
    },
}

/// What an adapter says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromAdapter {
    /// The answer to `hello`.
    Hello(Hello),
    /// The guest's first instruction comes next: the clock of `elapse` starts here, and that of `compile` ends.
    Started {
        /// The case.
        case: String,
    },
    /// The guest is about to do what the plan leaves to be asked. The adapter waits for the decision.
    Ask(Ask),
    /// The last line: what became of the guest.
    Done(Done),
    /// The last line, instead: the guest was not run, because the subject has no means for it.
    Unsupported {
        /// The case.
        case: String,
        /// What it would need, in a few words.
        needs: String,
    },
}

/// Who is put to the test, and what it can express.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version that the adapter speaks.
    pub protocol: u32,
    /// The name used in reports.
    pub subject: String,
    /// The version of what is put to the test, not of the adapter.
    pub version: String,
    /// Kinds of guests.
    pub kinds: BTreeSet<GuestKind>,
    /// Meters whose bounds it enforces, by the ids of their actions: `elapse`, `sqlLength`.
    pub meters: BTreeSet<String>,
    /// Actions that it can deny, by their ids: `attach`, `callFunction`.
    pub actions: BTreeSet<String>,
}

/// A kind of guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestKind {
    /// An SQL script.
    Sql,
    /// A WebAssembly module.
    Wasm,
}

/// A guest to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The case. Every answer names it.
    pub case: String,
    /// The guest.
    pub guest: WireGuest,
    /// The file of the guest's database; `null` is an empty database in memory.
    pub database: Option<PathBuf>,
    /// What the guest may do and use. `null` is the control: the subject as a program uses it that thought of nothing.
    pub plan: Option<WirePlan>,
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WireGuest {
    /// Any number of statements, run in order up to the first that fails.
    Sql {
        /// The statements.
        script: String,
    },
    /// A module.
    Wasm {
        /// Its bytes, in hexadecimal.
        module: String,
        /// The export to call; `null` calls `run`, else `_start`, else nothing.
        invoke: Option<String>,
        /// The export's arguments, as decimal numbers.
        arguments: Vec<String>,
        /// Input for the input/output contract, in hexadecimal.
        input: String,
    },
}

/// What a guest may do and use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WirePlan {
    /// The most of each meter, by the id of its action, in the meter's unit; `null` is unbounded.
    pub bounds: BTreeMap<String, Option<u64>>,
    /// Each action, by its id.
    pub actions: BTreeMap<String, Grant>,
}

/// Whether an action is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Whatever it is done to.
    Granted,
    /// Never.
    Denied,
    /// It depends on what it is done to: `ask`.
    Ask,
}

/// Whether the plan grants one action on one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The case.
    pub case: String,
    /// The action's id.
    pub action: String,
    /// The names of what it is done to, outermost first: `["main", "staff", "salary"]` is a column.
    pub resource: Vec<String>,
    /// What else is known, by the names of the vocabulary: `argument`, `trigger`.
    #[serde(default)]
    pub context: BTreeMap<String, String>,
}

/// What became of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// The case.
    pub case: String,
    /// The class of the outcome.
    #[schemars(with = "String")]
    pub class: Class,
    /// What stopped the guest, or what it failed of, for people.
    #[serde(default)]
    pub detail: String,
    /// Results of the statements that ran, in order.
    #[serde(default)]
    pub statements: Vec<Statement>,
    /// What the export returned.
    #[serde(default)]
    pub results: Vec<WireNumber>,
    /// What the input/output contract handed over, in hexadecimal.
    #[serde(default)]
    pub output: String,
    /// What the guest logged.
    #[serde(default)]
    pub log: Vec<String>,
}

/// The result of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Names of the columns.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The rows, in order.
    pub rows: Vec<Vec<WireValue>>,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WireValue {
    /// NULL.
    Null,
    /// A decimal 64-bit integer.
    Integer(String),
    /// A decimal double.
    Real(String),
    /// Text.
    Text(String),
    /// Bytes, in hexadecimal.
    Blob(String),
}

/// A number that an export returned, in decimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WireNumber {
    /// A 32-bit integer, signed.
    I32(String),
    /// A 64-bit integer, signed.
    I64(String),
    /// A float.
    F32(String),
    /// A double.
    F64(String),
    /// A vector or a reference.
    Opaque,
}

impl Done {
    /// What the guest handed back.
    ///
    /// # Errors
    /// The text that is not what it should be.
    pub(crate) fn product(&self) -> Result<Product, String> {
        Ok(Product {
            statements: self.statements.iter().map(statement).collect::<Result<_, _>>()?,
            results: self.results.iter().map(number).collect::<Result<_, _>>()?,
            output: bytes(&self.output)?,
            log: self.log.clone(),
            ..Product::default()
        })
    }
}

fn statement(statement: &Statement) -> Result<StatementResult, String> {
    let row = |row: &Vec<WireValue>| row.iter().map(value).collect();
    Ok(StatementResult {
        columns: statement.columns.clone(),
        rows: statement.rows.iter().map(row).collect::<Result<_, String>>()?,
        changes: 0,
    })
}

fn value(value: &WireValue) -> Result<SqlValue, String> {
    Ok(match value {
        WireValue::Null => SqlValue::Null,
        WireValue::Integer(text) => SqlValue::Integer(parsed(text)?),
        WireValue::Real(text) => SqlValue::Real(parsed(text)?),
        WireValue::Text(text) => SqlValue::Text(text.clone()),
        WireValue::Blob(hex) => SqlValue::Blob(bytes(hex)?),
    })
}

fn number(number: &WireNumber) -> Result<WasmValue, String> {
    Ok(match number {
        WireNumber::I32(text) => WasmValue::I32(parsed(text)?),
        WireNumber::I64(text) => WasmValue::I64(parsed(text)?),
        WireNumber::F32(text) => WasmValue::F32(parsed(text)?),
        WireNumber::F64(text) => WasmValue::F64(parsed(text)?),
        WireNumber::Opaque => WasmValue::Opaque,
    })
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not such a number"))
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    if hex.is_empty() {
        return Ok(Vec::new());
    }
    from_hex(hex)
}

/// The JSON Schema of every message, in both directions.
#[must_use]
pub fn schema() -> serde_json::Value {
    /// A line of the protocol between a harness and the adapter of a runtime.
    #[derive(JsonSchema)]
    #[schemars(title = "Stockade adapter protocol", untagged)]
    #[expect(dead_code, reason = "only its schema is of use")]
    enum Line {
        ToAdapter(ToAdapter),
        FromAdapter(FromAdapter),
    }
    schemars::schema_for!(Line).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(line: &str) -> Result<FromAdapter, String> {
        serde_json::from_str(line).map_err(|error| error.to_string())
    }

    #[test]
    fn a_field_that_nobody_knows_is_an_error() {
        assert!(heard(r#"{"type":"started","case":"a"}"#).is_ok());
        assert!(heard(r#"{"type":"started","case":"a","when":1}"#).is_err());
        assert!(heard(r#"{"type":"done","case":"a","class":"completed"}"#).is_ok());
        assert!(heard(r#"{"type":"done","case":"a","class":"completed","rows":[]}"#).is_err());
    }

    #[test]
    fn a_class_that_nobody_knows_is_an_error() {
        assert!(heard(r#"{"type":"done","case":"a","class":"fine"}"#).is_err());
    }

    #[test]
    fn numbers_keep_every_digit() {
        let line = r#"{"type":"done","case":"a","class":"completed",
            "statements":[{"rows":[["null",{"integer":"9223372036854775807"},{"real":"0.1"},{"blob":"00ff"}]]}],
            "results":[{"i64":"-9223372036854775808"},{"f64":"NaN"}]}"#;
        let Ok(FromAdapter::Done(done)) = heard(line) else {
            panic!("{:?}", heard(line));
        };
        let product = done.product().unwrap();
        assert_eq!(
            product.statements[0].rows[0],
            [
                SqlValue::Null,
                SqlValue::Integer(i64::MAX),
                SqlValue::Real(0.1),
                SqlValue::Blob(vec![0, 255])
            ]
        );
        assert_eq!(product.results[0], WasmValue::I64(i64::MIN));
        assert!(matches!(product.results[1], WasmValue::F64(number) if number.is_nan()));
    }

    #[test]
    fn a_number_that_is_none_is_an_error() {
        let Ok(FromAdapter::Done(done)) =
            heard(r#"{"type":"done","case":"a","class":"completed","results":[{"i32":"4294967296"}]}"#)
        else {
            panic!("it is a message");
        };
        assert!(done.product().is_err());
    }
}
