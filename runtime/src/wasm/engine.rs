//! wasmtime, configured from the plan.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;

use stockade_policies::{Bound, Meter};
use wasmtime::{Config, Engine};

use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::gate::Gate;
use crate::layer::Layer;

/// Stack that a guest's thread has beyond the guest's own: host calls run there.
pub(super) const HOST_STACK: usize = 2 * 1024 * 1024;

/// The most stack that a plan can give, whatever it says.
const MOST_STACK: u64 = 64 * 1024 * 1024;

/// What wasmtime is told where the stack layer is off: more than the thread has, as in a host that set the one
/// without looking at the other.
const UNGUARDED_STACK: usize = 256 * 1024 * 1024;

/// Bytes of stack that the plan allows.
pub(super) fn stack_bound(gate: &Gate) -> usize {
    let most = match gate.bound(Meter::GrowStack) {
        Bound::Limited(most) => most.min(MOST_STACK),
        Bound::Unbounded => MOST_STACK,
    };
    usize::try_from(most).unwrap_or(HOST_STACK)
}

/// An engine for one guest.
pub(super) fn engine(gate: &Gate) -> Result<Engine, RuntimeError> {
    let stack = if gate.has(Layer::Stack) {
        stack_bound(gate).max(1)
    } else {
        UNGUARDED_STACK
    };
    let mut config = Config::new();
    config
        .wasm_memory64(false)
        .epoch_interruption(gate.has(Layer::Deadline))
        .max_wasm_stack(stack)
        // No guest runs on such a stack; wasmtime only insists that it is the larger one.
        .async_stack_size(stack + HOST_STACK);
    Engine::new(&config).map_err(|error| RuntimeError::Request(format!("wasmtime refused its configuration: {error}")))
}

/// Interrupts the guest at its deadline, unless dropped before.
pub(super) struct Alarm {
    _cancel: Sender<()>,
}

impl Alarm {
    /// Sets the alarm, or fails where no thread can be had: a guest must not start without its alarm.
    pub(super) fn set(engine: &Engine, deadline: Deadline) -> std::io::Result<Self> {
        let (cancel, cancelled) = mpsc::channel::<()>();
        let engine = engine.clone();
        thread::Builder::new().name("alarm".to_owned()).spawn(move || {
            let timed_out = match deadline.left() {
                Some(left) => cancelled.recv_timeout(left) == Err(RecvTimeoutError::Timeout),
                None => false,
            };
            if timed_out {
                engine.increment_epoch();
            }
        })?;
        Ok(Self { _cancel: cancel })
    }
}
