//! The rows of a statement, as many of them as the plan lets be handed back.

use std::ffi::c_int;

use rusqlite::types::ValueRef;
use stockade_policies::{Bound, Meter};

use super::session::Cut;
use super::statement::Statement;
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{SqlValue, StatementResult};

/// What the scripts of this session have handed back so far.
#[derive(Default)]
pub(super) struct Spent {
    rows: u64,
    bytes: u64,
}

/// The most that may be handed back of `meter`.
fn most(meter: Meter, gate: &Gate) -> u64 {
    match gate.bound(meter) {
        Bound::Limited(most) if gate.has(Layer::Quota) => most,
        // Nobody counts so far.
        _ => u64::MAX,
    }
}

/// Steps a statement to its end, or to the rows or bytes that the plan allows.
pub(super) fn step(
    statement: &mut Statement,
    columns: &[String],
    gate: &Gate,
    spent: &mut Spent,
    result: &mut StatementResult,
) -> rusqlite::Result<Cut> {
    spent.bytes += columns.iter().map(|name| name.len() as u64).sum::<u64>();
    let (most_rows, most_bytes) = (most(Meter::ReturnRows, gate), most(Meter::ReturnBytes, gate));
    if spent.bytes > most_bytes {
        return Ok(Cut::At(Meter::ReturnBytes));
    }
    result.columns = columns.to_vec();
    let is_explain = statement.is_explain();
    while statement.step()? {
        spent.rows += 1;
        if spent.rows > most_rows {
            return Ok(Cut::At(Meter::ReturnRows));
        }
        let mut values = Vec::with_capacity(columns.len());
        for index in (0..).take(columns.len()) {
            let mut value = statement.value(index)?;
            if is_explain && index == ADDRESSES && is_virtual(statement.value(OPCODES)?) {
                value = ValueRef::Null;
            }
            spent.bytes += size(value);
            // Asked before the copy: a row of a hundred megabytes is not copied to find that it is too large.
            if spent.bytes > most_bytes {
                return Ok(Cut::At(Meter::ReturnBytes));
            }
            values.push(owned(value));
        }
        result.rows.push(values);
    }
    Ok(Cut::No)
}

/// The columns of an explanation that say which opcode it is, and what goes with it.
const OPCODES: c_int = 1;
const ADDRESSES: c_int = 5;

/// `EXPLAIN` writes down where this process has a virtual table in its memory, as `vtab:…`, or as the bytes that lie there where an
/// opcode of a new SQLite has no words for it. That is worth something to whoever looks for a way out. So of what is
/// done to virtual tables, nothing is said beside the opcode and its numbers.
fn is_virtual(opcode: ValueRef<'_>) -> bool {
    matches!(opcode, ValueRef::Text([b'V', second, ..]) if second.is_ascii_uppercase())
}

fn size(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Null => 1,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
    }
}

/// A value, copied.
pub(crate) fn owned(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
        // Text that is not UTF-8 stays what it is: bytes.
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => SqlValue::Text(text.to_owned()),
            Err(_) => SqlValue::Blob(bytes.to_vec()),
        },
    }
}
