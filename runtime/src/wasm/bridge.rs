//! The only way to a guest's memory.
//!
//! A pointer and a length from a guest are two numbers that may lie. They are checked together, once, against the
//! memory as it is at that moment, and the bytes are copied: nothing that the guest can change afterwards is trusted.

use stockade_policies::Meter;
use wasmtime::{AsContext, AsContextMut, Memory};

use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Bytes of an i32, which lies at a multiple of that.
const NUMBER: u32 = 4;

/// A guest's memory, and the gate that bounds what crosses.
pub(super) struct Bridge<'a> {
    pub gate: &'a Gate,
    pub memory: Memory,
}

impl Bridge<'_> {
    /// Copies `length` bytes at `pointer` out of the guest.
    pub(super) fn read(&self, store: impl AsContext, pointer: u32, length: u32) -> Result<Vec<u8>, Refusal> {
        let (start, size) = (pointer as usize, length as usize);
        if !self.gate.has(Layer::Bridge) {
            return Ok(unchecked::read(&self.memory, &store, start, size));
        }
        self.check_size(length)?;
        let data = self.memory.data(&store);
        range(start, size)
            .and_then(|range| data.get(range))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| outside(pointer, length, data.len()))
    }

    /// Copies text out of the guest.
    pub(super) fn read_text(&self, store: impl AsContext, pointer: u32, length: u32) -> Result<String, Refusal> {
        let bytes = self.read(store, pointer, length)?;
        if !self.gate.has(Layer::Bridge) {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let detail = format!("text at {pointer:#x} is not UTF-8 at byte {at}");
            Refusal::by(Layer::Bridge, Class::ContractBadText, detail)
        })
    }

    /// Copies `bytes` into the guest at `pointer`.
    pub(super) fn write(&self, mut store: impl AsContextMut, pointer: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let start = pointer as usize;
        if !self.gate.has(Layer::Bridge) {
            unchecked::write(&self.memory, &store, start, bytes);
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.check_size(length)?;
        let data = self.memory.data_mut(&mut store);
        let size = data.len();
        let target = range(start, bytes.len())
            .and_then(|range| data.get_mut(range))
            .ok_or_else(|| outside(pointer, length, size))?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies numbers of four bytes, `length` bytes in all, out of the guest.
    pub(super) fn read_numbers(&self, store: impl AsContext, pointer: u32, length: u32) -> Result<Vec<u8>, Refusal> {
        self.check_alignment(pointer)?;
        self.read(store, pointer, length)
    }

    /// Writes a number of four bytes to the guest at `pointer`.
    pub(super) fn write_number(&self, store: impl AsContextMut, pointer: u32, number: u32) -> Result<(), Refusal> {
        self.check_alignment(pointer)?;
        self.write(store, pointer, &number.to_le_bytes())
    }

    fn check_alignment(&self, pointer: u32) -> Result<(), Refusal> {
        if !self.gate.has(Layer::Bridge) || pointer.is_multiple_of(NUMBER) {
            return Ok(());
        }
        let detail = format!("{pointer:#x} is no address of a number of {NUMBER} bytes");
        Err(Refusal::by(Layer::Bridge, Class::ContractBadPointer, detail))
    }

    /// Asks whether a buffer of `length` bytes may cross.
    pub(super) fn check_size(&self, length: u32) -> Result<(), Refusal> {
        let bound = self.gate.bound(Meter::PassBuffer);
        if !self.gate.has(Layer::Bridge) || bound.permits(u64::from(length)) {
            return Ok(());
        }
        let detail = format!("{}, and {length} were passed", beyond(Meter::PassBuffer, bound));
        Err(Refusal::by(Layer::Bridge, Class::LimitOutput, detail))
    }
}

/// The bytes from `start`. Address zero is null: nothing may be passed there.
fn range(start: usize, size: usize) -> Option<std::ops::Range<usize>> {
    if start == 0 {
        return None;
    }
    Some(start..start.checked_add(size)?)
}

fn outside(pointer: u32, length: u32, size: usize) -> Refusal {
    let detail = if pointer == 0 {
        "the guest passed a null pointer".to_owned()
    } else {
        format!("{length} bytes at {pointer:#x} are outside the guest's {size} bytes of memory")
    };
    Refusal::by(Layer::Bridge, Class::ContractBadPointer, detail)
}

/// What a host does that trusts the guest: the control. It is only reached where the bridge layer is off.
mod unchecked {
    use wasmtime::{AsContext, Memory};

    #[expect(unsafe_code, reason = "the control must do what an unguarded host does")]
    pub(super) fn read(memory: &Memory, store: impl AsContext, start: usize, size: usize) -> Vec<u8> {
        // SAFETY: none, deliberately. Reached only in a control process whose loss is the observation.
        unsafe { std::slice::from_raw_parts(memory.data_ptr(store).add(start), size) }.to_vec()
    }

    #[expect(unsafe_code, reason = "the control must do what an unguarded host does")]
    pub(super) fn write(memory: &Memory, store: impl AsContext, start: usize, bytes: &[u8]) {
        // SAFETY: none, deliberately. Reached only in a control process whose loss is the observation.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.data_ptr(store).add(start), bytes.len());
        }
    }
}
