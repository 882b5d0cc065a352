//! How answers reach a guest that cannot know how long they are: in a buffer that its own allocator makes, and that it gives
//! back.

use std::sync::Arc;

use wasmtime::{Caller, TypedFunc, WasmParams, WasmResults};

use super::bridge::Bridge;
use super::host::{Host, Stop, code, memory};
use super::refusal;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// The guest's allocator: a length in, an address or null out.
const ALLOCATOR: &str = "__wasm_allocate";
/// Takes back an address and a length.
const DEALLOCATOR: &str = "__wasm_deallocate";

/// Hands `bytes` over: the buffer's address is written at `result`, its length at `result_length`. Nothing is allocated for
/// nothing, whose address is null.
pub(super) fn hand_over(
    caller: &mut Caller<'_, Host>,
    bytes: &[u8],
    result: u32,
    result_length: u32,
) -> Result<i32, Stop> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let gate = Arc::clone(&caller.data().gate);
    let pointer = if bytes.is_empty() {
        0
    } else {
        let bridge = Bridge {
            gate: &gate,
            memory: memory(caller)?,
        };
        bridge.check_size(length)?;
        match allocate(caller, length)? {
            Some(pointer) => pointer,
            None => return Ok(code::ALLOCATION_FAILED),
        }
    };
    // After the guest's allocator ran: it may have grown the memory.
    let bridge = Bridge {
        gate: &gate,
        memory: memory(caller)?,
    };
    if !bytes.is_empty() {
        bridge.write(&mut *caller, pointer, bytes)?;
    }
    bridge.write_number(&mut *caller, result, pointer)?;
    bridge.write_number(&mut *caller, result_length, length)?;
    Ok(code::DONE)
}

/// Takes the buffer at `pointer` off the account, and has the guest's own deallocator free it. In this order: what that does
/// in its turn meets an account without it.
pub(super) fn take_back(caller: &mut Caller<'_, Host>, pointer: u32) -> Result<i32, Stop> {
    let deallocator = export::<(u32, u32), ()>(caller, DEALLOCATOR, "two i32 to nothing")?;
    let gate = Arc::clone(&caller.data().gate);
    let length = caller.data_mut().allocations.strike(&gate, pointer)?;
    deallocator
        .call(&mut *caller, (pointer, length))
        .map_err(|error| refusal::read(caller.data(), &error))?;
    Ok(code::DONE)
}

/// A buffer from the guest's own allocator; `None` where that returned null.
fn allocate(caller: &mut Caller<'_, Host>, length: u32) -> Result<Option<u32>, Stop> {
    let allocator = export::<u32, u32>(caller, ALLOCATOR, "i32 to i32")?;
    let gate = Arc::clone(&caller.data().gate);
    caller.data().allocations.admit(&gate, length)?;
    let pointer = allocator
        .call(&mut *caller, length)
        .map_err(|error| refusal::read(caller.data(), &error))?;
    if pointer == 0 {
        return Ok(None);
    }
    caller.data_mut().allocations.enter(&gate, pointer, length)?;
    Ok(Some(pointer))
}

/// The function that the guest exports as `name`.
fn export<P: WasmParams, R: WasmResults>(
    caller: &mut Caller<'_, Host>,
    name: &str,
    type_in_words: &str,
) -> Result<TypedFunc<P, R>, Refusal> {
    let Some(export) = caller.get_export(name) else {
        let detail = format!("the guest exports no `{name}`");
        return Err(Refusal::by(Layer::Bridge, Class::ContractMissingExport, detail));
    };
    let function = export
        .into_func()
        .and_then(|function| function.typed::<P, R>(&caller).ok());
    function.ok_or_else(|| {
        let detail = format!("export `{name}` is not a function from {type_in_words}");
        Refusal::by(Layer::Bridge, Class::ContractBadType, detail)
    })
}
