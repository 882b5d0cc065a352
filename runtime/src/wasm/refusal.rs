//! Reads the cause out of a trap.

use stockade_policies::Meter;
use wasmtime::{Error, Trap};

use super::host::Host;
use crate::gate::beyond;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Why the guest stopped. The gate's own refusal comes first: the trap is then only its echo.
pub(super) fn read(host: &Host, error: &Error) -> Refusal {
    let gate = &host.gate;
    if let Some(refusal) = gate.refusal() {
        return refusal;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Refusal::by(
            Layer::Deadline,
            Class::LimitTime,
            beyond(Meter::Elapse, gate.bound(Meter::Elapse)),
        ),
        Some(Trap::StackOverflow) => Refusal {
            class: Class::LimitStack,
            layer: gate.has(Layer::Stack).then_some(Layer::Stack),
            detail: beyond(Meter::GrowStack, gate.bound(Meter::GrowStack)),
        },
        Some(trap) => Refusal::own_failure(Class::Trap, trap.to_string()),
        None => Refusal::own_failure(Class::Trap, format!("{error:#}")),
    }
}
