//! Reads the cause out of a trap.

use stockade_policies::Meter;
use wasmtime::{AsContext, Error, Trap};

use super::alarm::Cause;
use super::engine;
use super::host::Host;
use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Why the guest stopped. The gate's own refusal comes first: the trap is then only its echo.
pub(super) fn read(host: &Host, error: &Error) -> Refusal {
    let gate = &host.gate;
    if let Some(refusal) = gate.refusal() {
        return refusal;
    }
    match error.downcast_ref::<Trap>() {
        // A load from a page that was taken away faults as one beyond the guest's own memory does: the alarm knows.
        Some(Trap::Interrupt | Trap::MemoryOutOfBounds) if let Some(cause) = host.rung.cause() => stopped(gate, cause),
        Some(Trap::OutOfFuel) => out_of_fuel(gate),
        Some(Trap::StackOverflow) => Refusal {
            class: Class::LimitStack,
            layer: gate.has(Layer::Stack).then_some(Layer::Stack),
            detail: beyond(Meter::GrowStack, gate.bound(Meter::GrowStack)),
        },
        Some(trap) => Refusal::own_failure(Class::Trap, trap.to_string()),
        None => Refusal::own_failure(Class::Trap, format!("{error:#}")),
    }
}

/// That a guest has burned more than its plan allows. wasmtime looks at the fuel where functions and turns of loops begin;
/// what was burned after that is seen here, when the guest calls or returns.
pub(super) fn fuel_refusal(gate: &Gate, store: impl AsContext) -> Option<Refusal> {
    engine::fuel_bound(gate)?;
    let left = store.as_context().get_fuel().unwrap_or(0);
    (left == 0).then(|| out_of_fuel(gate))
}

fn out_of_fuel(gate: &Gate) -> Refusal {
    Refusal::by(
        Layer::Fuel,
        Class::LimitFuel,
        beyond(Meter::BurnFuel, gate.bound(Meter::BurnFuel)),
    )
}

fn stopped(gate: &Gate, cause: Cause) -> Refusal {
    match cause {
        Cause::Deadline => Refusal::by(
            Layer::Deadline,
            Class::LimitTime,
            beyond(Meter::Elapse, gate.bound(Meter::Elapse)),
        ),
        Cause::Unwatched => Refusal::by(
            Layer::Deadline,
            Class::HostInternal,
            "the thread that watches deadlines is gone",
        ),
    }
}
