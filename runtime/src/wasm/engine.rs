//! wasmtime, configured from the plan. Guests of the same configuration share an engine.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use stockade_policies::{Bound, Meter, Plan};
use wasmtime::{Config, Engine, OperatorCost, VariableOperatorCost};

use crate::error::RuntimeError;
use crate::gate::Gate;
use crate::layer::{Layer, Layers};

/// Stack that a guest's thread has beyond the guest's own: host calls run there.
pub(super) const HOST_STACK: usize = 2 * 1024 * 1024;

/// The most stack that a plan can give, whatever it says.
const MOST_STACK: u64 = 64 * 1024 * 1024;

/// What wasmtime is told where the stack layer is off: more than the thread has, as in a host that set the one
/// without looking at the other.
const UNGUARDED_STACK: usize = 256 * 1024 * 1024;

/// Engines kept. What they are configured by comes from policies, so they are bounded.
const MOST_ENGINES: usize = 16;

/// Bytes of stack that the plan allows.
pub(super) fn stack_bound(gate: &Gate) -> usize {
    let most = match gate.bound(Meter::GrowStack) {
        Bound::Limited(most) => most.min(MOST_STACK),
        Bound::Unbounded => MOST_STACK,
    };
    usize::try_from(most).unwrap_or(HOST_STACK)
}

/// Nothing burns more in a millisecond: bytes of one `memory.fill` after the other come to a tenth of it.
const MOST_FUEL_PER_MS: u64 = 1_000_000_000;

/// The most operators that the plan allows; nothing where they need not be counted, because none is too many or because the
/// guest's time is over before.
pub(super) fn fuel_bound(gate: &Gate) -> Option<u64> {
    fuel_bound_of(gate.plan(), gate.layers())
}

/// As [`fuel_bound`], with these layers.
pub(super) fn fuel_bound_of(plan: &Plan, layers: Layers) -> Option<u64> {
    let Bound::Limited(most) = plan.bound(Meter::BurnFuel) else {
        return None;
    };
    let is_out_of_reach = match plan.bound(Meter::Elapse) {
        Bound::Limited(millis) => layers.contains(Layer::Deadline) && most >= millis.saturating_mul(MOST_FUEL_PER_MS),
        Bound::Unbounded => false,
    };
    (layers.contains(Layer::Fuel) && !is_out_of_reach).then_some(most)
}

/// What operators cost. Constants are free, and so are the checks that [`super::rewrite`] adds, which are made of one and
/// of a load that no guest can have: a guest burns as much however it is stopped.
fn cost() -> OperatorCost {
    OperatorCost {
        I32Const: 0,
        I64Const: 0,
        F32Const: 0,
        F64Const: 0,
        V128Const: 0,
        I32AtomicLoad8U: 0,
        variable: VariableOperatorCost {
            // The most that there is to choose; wasmtime's own choice is nothing.
            memory_grow_per_page: u8::MAX,
            ..VariableOperatorCost::new()
        },
        ..OperatorCost::new()
    }
}

/// How a guest is stopped at its deadline from inside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Stopping {
    /// It is not.
    Never,
    /// By taking away a page that it looks at: see [`super::rewrite`].
    Page,
    /// By wasmtime's epochs: slower, and for any module.
    Epoch,
}

/// What tells engines apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Setup {
    /// Bytes.
    pub stack: usize,
    pub stopping: Stopping,
    pub counts_fuel: bool,
}

impl Setup {
    /// What a guest of this plan runs on, stopped this way.
    pub(super) fn of(gate: &Gate, stopping: Stopping) -> Self {
        let stack = if gate.has(Layer::Stack) {
            stack_bound(gate).max(1)
        } else {
            UNGUARDED_STACK
        };
        Self {
            stack,
            stopping,
            counts_fuel: fuel_bound(gate).is_some(),
        }
    }

    /// The engine of this setup.
    pub(super) fn engine(self) -> Result<Engine, RuntimeError> {
        static ENGINES: OnceLock<Mutex<HashMap<Setup, Engine>>> = OnceLock::new();
        let mut engines = ENGINES
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&self) {
            return Ok(engine.clone());
        }
        let engine = made(&self.config())?;
        if engines.len() >= MOST_ENGINES {
            engines.clear();
        }
        engines.insert(self, engine.clone());
        Ok(engine)
    }

    /// An engine that differs from others' as this one's does from theirs, for saying so and not for running: it does without
    /// signals, whose handlers are for the whole process, and who only keeps modules has none of wasmtime's.
    pub(super) fn describing_engine(self) -> Result<Engine, RuntimeError> {
        made(self.config().signals_based_traps(false))
    }

    fn config(self) -> Config {
        let mut config = Config::new();
        config
            .wasm_memory64(false)
            // A module that is rewritten was validated by an engine without.
            .wasm_threads(self.stopping == Stopping::Page)
            .epoch_interruption(self.stopping == Stopping::Epoch)
            .consume_fuel(self.counts_fuel)
            .operator_cost(cost())
            .max_wasm_stack(self.stack)
            // No guest runs on such a stack; wasmtime only insists that it is the larger one.
            .async_stack_size(self.stack + HOST_STACK);
        config
    }
}

fn made(config: &Config) -> Result<Engine, RuntimeError> {
    Engine::new(config).map_err(|error| RuntimeError::Request(format!("wasmtime refused its configuration: {error}")))
}
