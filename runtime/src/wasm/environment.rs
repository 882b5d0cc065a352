//! Variables of the host's environment: those that the host gives a guest, each by its name.

use std::sync::Arc;

use stockade_policies::{Action, Capability, Resource};
use wasmtime::Caller;

use super::bridge::Bridge;
use super::handover::hand_over;
use super::host::{Host, Stop, call, code, memory};
use super::linker::HostFunction;
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Hands the value of a variable over. Whether it is granted is asked before it is known whether there is one, so that who is
/// not granted it does not learn that either.
pub(super) fn env_get(
    caller: Caller<'_, Host>,
    name: u32,
    name_length: u32,
    result: u32,
    result_length: u32,
) -> wasmtime::Result<i32> {
    call(caller, HostFunction::EnvGet, name_length, |caller| {
        let gate = Arc::clone(&caller.data().gate);
        let bridge = Bridge {
            gate: &gate,
            memory: memory(caller)?,
        };
        let name = bridge.read_text(&mut *caller, name, name_length)?;
        ask(&gate, &name)?;
        let Some(value) = caller.data().environment.get(&name).cloned() else {
            return Ok(code::ABSENT);
        };
        hand_over(caller, value.as_bytes(), result, result_length)
    })
}

fn ask(gate: &Gate, name: &str) -> Result<(), Stop> {
    if gate.has(Layer::Capability) {
        gate.ask(
            Action::Host(Capability::ReadEnvironment),
            &Resource::variable(name),
            &[],
        )
        .map_err(|why| Refusal::by(Layer::Capability, Class::DeniedCapability, why))?;
    }
    Ok(())
}
