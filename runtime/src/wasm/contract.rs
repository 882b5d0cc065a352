//! The input/output convention of modules without imports: bytes are written where the guest says, it runs, and bytes
//! are read from where the guest says. Every place and size that it states may be a lie.

use stockade_policies::Meter;
use wasmtime::{Extern, Instance, Memory, Module, Store, Val, ValType};

use super::bridge::Bridge;
use super::host::Host;
use super::refusal;
use crate::gate::beyond;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// The export that says a module follows the convention.
const INPUT_POINTER: &str = "input_ptr";
const INPUT_CAPACITIES: &[&str] = &["input_utf8_cap", "input_bytes_cap"];
const OUTPUT_POINTER: &str = "output_ptr";
/// Capacities and the bytes that one of what they count takes.
const OUTPUT_CAPACITIES: &[(&str, u64)] = &[("output_utf8_cap", 1), ("output_i32_cap", 4), ("output_bytes_cap", 1)];

/// What the guest handed over.
pub(super) struct Handed {
    pub count: u32,
    pub output: Vec<u8>,
}

/// Whether the module follows the convention.
pub(super) fn is_followed(module: &Module) -> bool {
    module.get_export(INPUT_POINTER).is_some()
}

/// Writes the input, runs the guest and reads its output.
pub(super) fn run(store: &mut Store<Host>, instance: &Instance, input: &[u8]) -> Result<Handed, Refusal> {
    let memory = memory(store, instance)?;
    write_input(store, instance, memory, input)?;
    let count = call_run(store, instance, input.len())?;
    let output = read_output(store, instance, memory, count)?;
    Ok(Handed { count, output })
}

fn write_input(store: &mut Store<Host>, instance: &Instance, memory: Memory, input: &[u8]) -> Result<(), Refusal> {
    let pointer = stated(store, instance, INPUT_POINTER)?
        .ok_or_else(|| missing(&format!("the guest exports no `{INPUT_POINTER}`")))?;
    let capacity = first_stated(store, instance, INPUT_CAPACITIES.iter().copied())?
        .ok_or_else(|| missing("the guest exports neither `input_utf8_cap` nor `input_bytes_cap`"))?
        .1;
    let gate = std::sync::Arc::clone(&store.data().gate);
    if gate.has(Layer::Quota) && input.len() as u64 > u64::from(capacity) {
        let detail = format!("the input has {} bytes, and the guest takes {capacity}", input.len());
        return Err(Refusal::by(Layer::Quota, Class::LimitInput, detail));
    }
    if input.is_empty() {
        return Ok(());
    }
    Bridge { gate: &gate, memory }.write(store, pointer, input)
}

fn call_run(store: &mut Store<Host>, instance: &Instance, size: usize) -> Result<u32, Refusal> {
    let Some(export) = instance.get_export(&mut *store, "run") else {
        return Err(missing("the guest exports no `run`"));
    };
    let run = export
        .into_func()
        .and_then(|function| function.typed::<u32, u32>(&*store).ok())
        .ok_or_else(|| bad_type("export `run` is not a function from i32 to i32"))?;
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    run.call(&mut *store, size)
        .map_err(|error| refusal::read(store.data(), &error))
}

fn read_output(store: &mut Store<Host>, instance: &Instance, memory: Memory, count: u32) -> Result<Vec<u8>, Refusal> {
    let Some(pointer) = stated(store, instance, OUTPUT_POINTER)? else {
        return Ok(Vec::new());
    };
    let names = OUTPUT_CAPACITIES.iter().map(|(name, _)| *name);
    let (name, capacity) = first_stated(store, instance, names)?.ok_or_else(|| {
        missing("the guest exports `output_ptr` and none of `output_utf8_cap`, `output_i32_cap`, `output_bytes_cap`")
    })?;
    let gate = std::sync::Arc::clone(&store.data().gate);
    if gate.has(Layer::Quota) && count > capacity {
        let detail = format!("the guest returned {count}, and its own capacity is {capacity}");
        return Err(Refusal::by(Layer::Quota, Class::LimitOutput, detail));
    }
    let item = OUTPUT_CAPACITIES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(1, |(_, size)| *size);
    let size = u64::from(count) * item;
    let bound = gate.bound(Meter::ReturnOutput);
    if gate.has(Layer::Quota) && !bound.permits(size) {
        let detail = format!("{}, and {size} were returned", beyond(Meter::ReturnOutput, bound));
        return Err(Refusal::by(Layer::Quota, Class::LimitOutput, detail));
    }
    if size == 0 {
        return Ok(Vec::new());
    }
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let bridge = Bridge { gate: &gate, memory };
    match name {
        "output_utf8_cap" => bridge.read_text(&*store, pointer, size).map(String::into_bytes),
        "output_i32_cap" => bridge.read_numbers(&*store, pointer, size),
        _ => bridge.read(&*store, pointer, size),
    }
}

/// The first of `names` that the guest exports, with its value.
fn first_stated<'n>(
    store: &mut Store<Host>,
    instance: &Instance,
    names: impl Iterator<Item = &'n str>,
) -> Result<Option<(&'n str, u32)>, Refusal> {
    for name in names {
        if let Some(value) = stated(store, instance, name)? {
            return Ok(Some((name, value)));
        }
    }
    Ok(None)
}

/// A number that the guest states as a global or as a function without parameters.
fn stated(store: &mut Store<Host>, instance: &Instance, name: &str) -> Result<Option<u32>, Refusal> {
    let wrong = || {
        bad_type(&format!(
            "export `{name}` is neither an i32 global nor a function that returns one i32"
        ))
    };
    let value = match instance.get_export(&mut *store, name) {
        None => return Ok(None),
        Some(Extern::Global(global)) if matches!(global.ty(&*store).content(), ValType::I32) => {
            match global.get(&mut *store) {
                Val::I32(value) => value,
                _ => return Err(wrong()),
            }
        }
        Some(Extern::Func(function)) => {
            let getter = function.typed::<(), i32>(&*store).map_err(|_| wrong())?;
            getter
                .call(&mut *store, ())
                .map_err(|error| refusal::read(store.data(), &error))?
        }
        Some(_) => return Err(wrong()),
    };
    Ok(Some(value.cast_unsigned()))
}

fn memory(store: &mut Store<Host>, instance: &Instance) -> Result<Memory, Refusal> {
    match instance.get_export(store, "memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        Some(_) => Err(bad_type("export `memory` is not a memory")),
        None => Err(missing("the guest exports no `memory`")),
    }
}

fn missing(detail: &str) -> Refusal {
    Refusal::by(Layer::Bridge, Class::ContractMissingExport, detail)
}

fn bad_type(detail: &str) -> Refusal {
    Refusal::by(Layer::Bridge, Class::ContractBadType, detail)
}
