//! The account of buffers that the host had the guest allocate, and that the guest has not given back.
//!
//! The allocator is the guest's own, so its answers may lie. Giving a buffer back twice, or one that nobody had, is how a
//! heap is taken over; a guest that does it is not to be trusted with the next buffer either, and is refused.

use stockade_policies::Meter;

use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Buffers of one run, by address, in two stacks: where one was entered or struck out, the next one mostly is too.
#[derive(Debug, Clone, Default)]
pub(super) struct Allocations {
    /// The lower addresses, the highest of them last.
    below: Vec<Held>,
    /// The higher addresses, the lowest of them last.
    above: Vec<Held>,
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
        self.go_to(pointer);
        if gate.has(Layer::Bridge) {
            let is_apart = self.below.last().is_none_or(|below| below.end() <= u64::from(pointer))
                && self
                    .above
                    .last()
                    .is_none_or(|above| new.end() <= u64::from(above.pointer));
            if !is_apart {
                let detail =
                    format!("the guest's allocator answered {pointer:#x} for {length} bytes, some of which are held");
                return Err(Refusal::by(Layer::Bridge, Class::ContractAllocation, detail));
            }
        }
        self.above.push(new);
        self.bytes += u64::from(length);
        Ok(())
    }

    /// Strikes out the buffer at `pointer`, and says how long it is.
    ///
    /// # Errors
    /// Where none is held that begins there.
    pub(super) fn strike(&mut self, gate: &Gate, pointer: u32) -> Result<u32, Refusal> {
        self.go_to(pointer);
        if let Some(held) = self.above.pop_if(|held| held.pointer == pointer) {
            self.bytes -= u64::from(held.length);
            return Ok(held.length);
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

    /// Has the stacks meet at `pointer`: what begins below it is on one, and the rest on the other.
    fn go_to(&mut self, pointer: u32) {
        while let Some(held) = self.below.pop_if(|held| held.pointer >= pointer) {
            self.above.push(held);
        }
        while let Some(held) = self.above.pop_if(|held| held.pointer < pointer) {
            self.below.push(held);
        }
    }

    /// How many buffers are held, and how many bytes they have together.
    pub(super) fn held(&self) -> (u64, u64) {
        ((self.below.len() + self.above.len()) as u64, self.bytes)
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

    /// What is held, wherever the stacks meet.
    fn listed(allocations: &Allocations) -> Vec<Held> {
        let above = allocations.above.iter().rev();
        allocations.below.iter().chain(above).copied().collect()
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
        let before = listed(&allocations);
        for (pointer, length) in [(100, 100), (199, 1), (99, 2), (1, 1000), (450, 1), (499, 1), (350, 100)] {
            let seen = class(allocations.enter(&gate, pointer, length));
            assert_eq!(seen, Some(Class::ContractAllocation), "{pointer}+{length}");
            assert_eq!(listed(&allocations), before);
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
        assert_eq!((listed(&allocations), allocations.held()), (Vec::new(), (0, 0)));
        assert_eq!(class(allocations.strike(&gate, 100)), Some(Class::ContractAllocation));
    }

    #[test]
    fn buffers_are_in_order_wherever_they_come_and_go() {
        let gate = gate();
        let mut allocations = Allocations::default();
        let pointers = [500, 100, 900, 300, 700];
        for pointer in pointers {
            assert_eq!(class(allocations.enter(&gate, pointer, 100)), None);
        }
        let listed_pointers = |allocations: &Allocations| -> Vec<u32> {
            let held = listed(allocations).into_iter();
            held.map(|held| held.pointer).collect()
        };
        assert_eq!(listed_pointers(&allocations), [100, 300, 500, 700, 900]);
        for (struck, left) in [
            (300, vec![100, 500, 700, 900]),
            (900, vec![100, 500, 700]),
            (100, vec![500, 700]),
        ] {
            assert_eq!(allocations.strike(&gate, struck).ok(), Some(100));
            assert_eq!(listed_pointers(&allocations), left);
        }
        assert_eq!(allocations.held(), (2, 200));
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
