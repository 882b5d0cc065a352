//! Numbers that a guest adds up under names.

use std::collections::BTreeMap;
use std::sync::Arc;

use stockade_policies::Meter;
use wasmtime::Caller;

use super::bridge::Bridge;
use super::host::{Host, bounded, call, code, memory};
use super::linker::HostFunction;
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

/// Metrics of one run.
#[derive(Debug, Default)]
pub(super) struct Metrics(BTreeMap<String, i64>);

impl Metrics {
    fn add(&mut self, gate: &Gate, name: String, value: i64) -> Result<(), Refusal> {
        if gate.has(Layer::Bridge) && !is_name(&name) {
            let detail =
                format!("a metric's name is at most {LONGEST_NAME} of a-z, A-Z, 0-9 and _, and begins with no digit");
            return Err(Refusal::by(Layer::Bridge, Class::ContractBadText, detail));
        }
        if let Some(sum) = self.0.get_mut(&name) {
            *sum = sum.saturating_add(value);
            return Ok(());
        }
        bounded(gate, Meter::AddMetric, self.0.len() as u64 + 1, Class::LimitMetrics)?;
        self.0.insert(name, value);
        Ok(())
    }

    pub(super) fn into_sums(self) -> BTreeMap<String, i64> {
        self.0
    }
}

/// Whether an exposition of metrics in text can have it as a name: no guest writes a line of its own there.
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_first = |byte: u8| is_part(byte) && !byte.is_ascii_digit();
    name.len() <= LONGEST_NAME && name.bytes().next().is_some_and(is_first) && name.bytes().all(is_part)
}

/// Adds to a metric. A sum that 64 bits cannot hold stays at the largest or smallest that they can.
pub(super) fn metric_add(caller: Caller<'_, Host>, name: u32, name_length: u32, value: i64) -> wasmtime::Result<i32> {
    call(caller, HostFunction::MetricAdd, name_length, |caller| {
        let gate = Arc::clone(&caller.data().gate);
        let bridge = Bridge {
            gate: &gate,
            memory: memory(caller)?,
        };
        let name = bridge.read_text(&mut *caller, name, name_length)?;
        caller.data_mut().metrics.add(&gate, name, value)?;
        Ok(code::DONE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_an_exposition() {
        let longest = "x".repeat(LONGEST_NAME);
        for name in ["a", "_", "A9", "orders_seen_total", &longest] {
            assert!(is_name(name), "{name}");
        }
        let too_long = "x".repeat(LONGEST_NAME + 1);
        for name in [
            "",
            "9a",
            "a b",
            "a\nb",
            "a{b=\"c\"}",
            "a:b",
            "a-b",
            "ä",
            "a\0",
            &too_long,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
