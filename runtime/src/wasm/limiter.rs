//! Counts what a store grows, in total.
//!
//! wasmtime asks per memory and per table; a plan speaks of the store. A refused growth ends the guest: it does not
//! learn of its bound by a −1 that it may ignore.

use std::sync::Arc;

use stockade_policies::{Bound, Meter};
use wasmtime::{Error, ResourceLimiter};

use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Sums of one store.
pub(super) struct Limiter {
    gate: Arc<Gate>,
    memory_bytes: u64,
    table_elements: u64,
    own: Own,
}

/// What of a store is the host's own, and on no guest's account.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own {
    pub memories: u32,
    /// Of all these memories together, from the beginning to the end. They are made after the guest's.
    pub memory_bytes: u64,
}

impl Limiter {
    pub(super) fn new(gate: Arc<Gate>, own: Own) -> Self {
        Self {
            gate,
            memory_bytes: 0,
            table_elements: 0,
            own,
        }
    }

    fn grown(&self, meter: Meter, total: u64, class: Class) -> wasmtime::Result<bool> {
        let bound = self.gate.bound(meter);
        if !self.gate.has(Layer::Memory) || bound.permits(total) {
            return Ok(true);
        }
        let detail = beyond(meter, bound);
        self.gate.refuse(Refusal::by(Layer::Memory, class, detail.clone()));
        Err(Error::msg(detail))
    }

    fn most(&self, meter: Meter) -> usize {
        match self.gate.bound(meter) {
            Bound::Limited(most) if self.gate.has(Layer::Memory) => usize::try_from(most).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|most| desired > most) {
            // The guest's own maximum: −1, as the specification says.
            return Ok(false);
        }
        let total = self.memory_bytes + (desired - current) as u64;
        let of_the_guest = total.saturating_sub(self.own.memory_bytes);
        let allowed = self.grown(Meter::GrowMemory, of_the_guest, Class::LimitMemory)?;
        self.memory_bytes = total;
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        let total = self.table_elements + (desired - current) as u64;
        let allowed = self.grown(Meter::GrowTable, total, Class::LimitTable)?;
        self.table_elements = total;
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        self.most(Meter::AddInstance)
    }

    fn tables(&self) -> usize {
        self.most(Meter::AddTable)
    }

    fn memories(&self) -> usize {
        self.most(Meter::AddMemory).saturating_add(self.own.memories as usize)
    }
}

/// Why a module that declares so many memories or tables must not be instantiated, if so.
pub(super) fn count_refusal(gate: &Gate, memories: u32, tables: u32) -> Option<Refusal> {
    let counts = [
        (Meter::AddInstance, 1),
        (Meter::AddMemory, memories),
        (Meter::AddTable, tables),
    ];
    counts.into_iter().find_map(|(meter, count)| {
        let bound = gate.bound(meter);
        (gate.has(Layer::Memory) && !bound.permits(u64::from(count)))
            .then(|| Refusal::by(Layer::Memory, Class::LimitInstances, beyond(meter, bound)))
    })
}
