//! Runs untrusted WebAssembly modules and SQL scripts inside the plan that Cedar policies give them.
//!
//! [`Runtime`] takes policies and [`Request`]s and gives [`Outcome`]s. Guests run in [`worker`] processes by default;
//! running them in the calling process is a choice, with the gaps that [`Runtime::in_process`] names.
//!
//! A refusal is an outcome. A [`RuntimeError`] means that we do not know.

#[cfg(not(target_os = "linux"))]
compile_error!("stockade-runtime needs Linux: workers die with their supervisor through PR_SET_PDEATHSIG");

mod chain;
mod code;
mod deadline;
mod error;
mod execute;
mod gate;
#[cfg(feature = "sql")]
mod host_database;
mod layer;
mod module;
#[cfg(feature = "wasm")]
mod module_cache;
mod outcome;
mod presence;
mod provenance;
mod request;
mod runtime;
mod screen;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "sql")]
mod sql_session;
mod state;
mod state_file;
#[cfg(feature = "sql")]
mod ticker;
mod trail;
#[cfg(feature = "wasm")]
mod wasm;
pub mod worker;

pub use error::RuntimeError;
#[cfg(feature = "sql")]
pub use host_database::{HostDatabase, HostScript};
pub use layer::{Layer, Layers};
pub use module::Module;
#[cfg(feature = "wasm")]
pub use module_cache::{ModuleCache, ModuleCacheCounts};
pub use outcome::{CacheUse, Class, Outcome, Product, Refusal, SqlValue, StatementResult, WasmValue};
pub use presence::{Presence, presence};
pub use request::{Guest, Request};
pub use runtime::{Ablated, KILL_GRACE, Runtime, WORKER_MEMORY};
#[cfg(feature = "sql")]
pub use sql_session::SqlSession;
pub use state::{State, StateChanges};
pub use state_file::{StateFile, StateFileError};
pub use trail::{Event, Trail};
/// What `stockade-benches` measures by, and `stockade-fuzz` with layers missing: no way to run a guest.
#[doc(hidden)]
pub mod measure {
    #[cfg(feature = "sql")]
    pub use crate::sql::measure::*;
    #[cfg(feature = "wasm")]
    pub use crate::wasm::measure::*;
    pub use crate::worker::measure::*;
}
