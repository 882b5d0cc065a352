//! The account of buffers that the host had the guest allocate, and that the guest has not given back.
//!
//! The allocator is the guest's own, so its answers may lie. Giving a buffer back twice, or one that nobody had, is how a
//! heap is taken over; a guest that does it is not to be trusted with the next buffer either, and is refused.

use stockade_policies::Meter;

use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Buffers of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allocations {
    /// By address. Allocators mostly answer with the highest address yet, and a list takes that at its end.
    held: Vec<Held>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    pointer: u32,
    length: u32,
}

impl Held {
    fn end(self) -> u64 {
        u64::from(self.pointer) + u64::from(self.length)
    }
}

impl Allocations {
    /// Asks whether another buffer of `length` bytes may be allocated.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&self, gate: &Gate, length: u32) -> Result<(), Refusal> {
        let length = u64::from(length);
        for (meter, total) in [(Meter::Allocate, length), (Meter::HoldAllocations, self.bytes + length)] {
            let bound = gate.bound(meter);
            if gate.has(Layer::Bridge) && !bound.permits(total) {
                return Err(Refusal::by(Layer::Bridge, Class::LimitMemory, beyond(meter, bound)));
            }
        }
        Ok(())
    }

    /// Enters what the guest's allocator answered. While it ran it may have had buffers allocated itself, so the bounds are
    /// asked again.
    ///
    /// # Errors
    /// Where a bound is passed, or the buffer is in part one that is held already.
    pub(super) fn enter(&mut self, gate: &Gate, pointer: u32, length: u32) -> Result<(), Refusal> {
        self.admit(gate, length)?;
        let new = Held { pointer, length };
        let place = self.place(pointer);
        if gate.has(Layer::Bridge) {
            let below = place.checked_sub(1).and_then(|below| self.held.get(below));
            let above = self.held.get(place);
            let is_apart = below.is_none_or(|below| below.end() <= u64::from(pointer))
                && above.is_none_or(|above| new.end() <= u64::from(above.pointer));
            if !is_apart {
                let detail =
                    format!("the guest's allocator answered {pointer:#x} for {length} bytes, some of which are held");
                return Err(Refusal::by(Layer::Bridge, Class::ContractAllocation, detail));
            }
        }
        self.held.insert(place, new);
        self.bytes += u64::from(length);
        Ok(())
    }

    /// Strikes out the buffer at `pointer`, and says how long it is.
    ///
    /// # Errors
    /// Where none is held that begins there.
    pub(super) fn strike(&mut self, gate: &Gate, pointer: u32) -> Result<u32, Refusal> {
        if let Some(length) = self.taken(pointer) {
            self.bytes -= u64::from(length);
            return Ok(length);
        }
        if gate.has(Layer::Bridge) {
            let detail = format!(
                "the guest gave back {pointer:#x}, where no buffer begins that it was given and has not given back"
            );
            return Err(Refusal::by(Layer::Bridge, Class::ContractAllocation, detail));
        }
        // An unguarded host hands on what it is told.
        Ok(0)
    }

    /// Takes the buffer at `pointer` off the list, mostly its last one.
    fn taken(&mut self, pointer: u32) -> Option<u32> {
        if let Some(last) = self.held.pop_if(|last| last.pointer == pointer) {
            return Some(last.length);
        }
        let place = self.held.binary_search_by_key(&pointer, |held| held.pointer).ok()?;
        Some(self.held.remove(place).length)
    }

    /// Where the first buffer is that does not begin below `pointer`.
    fn place(&self, pointer: u32) -> usize {
        match self.held.last() {
            Some(last) if last.pointer >= pointer => self.held.partition_point(|held| held.pointer < pointer),
            _ => self.held.len(),
        }
    }

    /// How many buffers are held, and how many bytes they have together.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.held.len() as u64, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use stockade_policies::{PolicyStore, Principal};

    use super::*;
    use crate::layer::Layers;

    /// A buffer has at most 64 KiB, and all have at most 4 MiB.
    fn gate() -> Gate {
        let plan = PolicyStore::stock()
            .unwrap()
            .plan(&Principal::caller("guest", "database-only"))
            .unwrap();
        Gate::new(plan, Layers::ALL, Box::new(()))
    }

    fn class(result: Result<impl Sized, Refusal>) -> Option<Class> {
        result.err().map(|refusal| refusal.class)
    }

    #[test]
    fn what_is_held_may_touch_and_not_overlap() {
        let gate = gate();
        let mut allocations = Allocations::default();
        for pointer in [300, 100, 200, 400] {
            assert_eq!(class(allocations.enter(&gate, pointer, 100)), None);
        }
        let before = allocations.clone();
        for (pointer, length) in [(100, 100), (199, 1), (99, 2), (1, 1000), (450, 1), (499, 1), (350, 100)] {
            let seen = class(allocations.enter(&gate, pointer, length));
            assert_eq!(seen, Some(Class::ContractAllocation), "{pointer}+{length}");
            assert_eq!(allocations, before);
        }
        assert_eq!(class(allocations.enter(&gate, 500, 1)), None);
        assert_eq!(class(allocations.enter(&gate, 99, 1)), None);
        assert_eq!(allocations.held(), (6, 402));
    }

    #[test]
    fn the_end_of_32_bits_is_an_address_like_another() {
        let gate = gate();
        let mut allocations = Allocations::default();
        assert_eq!(class(allocations.enter(&gate, u32::MAX, 16)), None);
        assert_eq!(class(allocations.enter(&gate, u32::MAX - 16, 16)), None);
        assert_eq!(
            class(allocations.enter(&gate, u32::MAX - 100, 85)),
            Some(Class::ContractAllocation)
        );
        assert_eq!(class(allocations.enter(&gate, 0, 16)), None);
    }

    #[test]
    fn a_buffer_is_given_back_once_and_from_its_beginning() {
        let gate = gate();
        let mut allocations = Allocations::default();
        assert_eq!(class(allocations.enter(&gate, 100, 10)), None);
        for pointer in [0, 99, 101, 110] {
            assert_eq!(
                class(allocations.strike(&gate, pointer)),
                Some(Class::ContractAllocation)
            );
        }
        assert_eq!(allocations.strike(&gate, 100).ok(), Some(10));
        assert_eq!(allocations, Allocations::default());
        assert_eq!(class(allocations.strike(&gate, 100)), Some(Class::ContractAllocation));
    }

    #[test]
    fn one_buffer_and_all_of_them_are_bounded() {
        let gate = gate();
        let mut allocations = Allocations::default();
        assert_eq!(class(allocations.admit(&gate, 65_537)), Some(Class::LimitMemory));
        for number in 0..64 {
            assert_eq!(class(allocations.enter(&gate, number << 16, 1 << 16)), None);
        }
        assert_eq!(class(allocations.admit(&gate, 1)), Some(Class::LimitMemory));
        assert_eq!(class(allocations.enter(&gate, 1 << 30, 1)), Some(Class::LimitMemory));
        assert!(allocations.strike(&gate, 0).is_ok());
        assert_eq!(class(allocations.enter(&gate, 1 << 30, 1 << 16)), None);
    }
}
