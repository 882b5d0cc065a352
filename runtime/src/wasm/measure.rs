//! Modules for `stockade-benches`: run as production runs them, and as a bare wasmtime does.
//!
//! This is no way to run a guest: there is no request and no outcome, and nothing here changes what [`crate::Runtime`] does.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stockade_policies::{Meter, Plan};
use wasmtime::{Config, Engine, Instance, Linker, Memory, Module, Store, TypedFunc};

use super::allocations::Allocations;
use super::bridge::Bridge;
use super::capability::Granted;
use super::engine::Stopping;
use super::linker::HostFunction;
use super::program::Program;
use super::run::{Guest, Watched};
use super::{contract, keep, linker, run};
use crate::code::Artefact;
use crate::deadline::Deadline;
use crate::gate::Gate;
use crate::layer::{Layer, Layers};
use crate::module;
use crate::module_cache::{Key, ModuleCache};
use crate::request::Request;

/// What goes wrong is for people to read.
pub type Result<T> = std::result::Result<T, String>;

/// How a governed guest is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As production does it.
    Page,
    /// As where a module cannot be rewritten.
    Epoch,
}

fn said(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

/// A module inside a plan, ready to run, by one host thread and with every layer that is in a process.
pub struct Governed {
    gate: Arc<Gate>,
    program: Program,
    linker: Linker<super::host::Host>,
    request: Request,
}

impl Governed {
    /// Validates, compiles and links a module. The plan says whether its fuel is counted.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn new(binary: &[u8], plan: Plan, way: Way) -> Result<Self> {
        Self::with_layers(binary, plan, way, Layers::ALL)
    }

    /// As [`Governed::new`], with these layers only: what each of them costs.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn with_layers(binary: &[u8], plan: Plan, way: Way, layers: Layers) -> Result<Self> {
        let gate = Arc::new(Gate::new(plan, layers, Box::new(())));
        let stopping = match way {
            Way::Page => Stopping::Page,
            Way::Epoch => Stopping::Epoch,
        };
        let (program, _) = run::compile(binary, &gate, stopping)
            .map_err(said)?
            .map_err(|refusal| refusal.detail)?;
        Self::linked(program, gate)
    }

    fn linked(program: Program, gate: Arc<Gate>) -> Result<Self> {
        let linker = linker::linker(&program.engine, &program.module, &gate, "main")
            .map_err(said)?
            .map_err(|refusal| refusal.detail)?;
        Ok(Self {
            gate,
            program,
            linker,
            request: Request::wasm("", Vec::new()),
        })
    }

    /// An instance.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn start(&self) -> Result<GovernedInstance> {
        let deadline = Deadline::start(self.gate.bound(Meter::Elapse));
        let guest = Guest {
            program: &self.program,
            linker: &self.linker,
            gate: &self.gate,
            request: &self.request,
            deadline,
        };
        let mut watched = guest.watched(deadline);
        let instance = guest
            .instantiate(&mut watched)
            .map_err(said)?
            .map_err(|refusal| refusal.detail)?;
        let memory = instance.get_memory(&mut watched.store, "memory");
        Ok(GovernedInstance {
            watched,
            instance,
            memory,
        })
    }
}

/// One instance of a [`Governed`] module.
pub struct GovernedInstance {
    watched: Watched,
    instance: Instance,
    memory: Option<Memory>,
}

impl GovernedInstance {
    /// Has the kernel work so many turns, through the input/output convention, and returns what it wrote.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn work(&mut self, turns: u32) -> Result<Vec<u8>> {
        contract::run(&mut self.watched.store, &self.instance, &turns.to_le_bytes())
            .map(|handed| handed.output)
            .map_err(|refusal| refusal.detail)
    }

    /// Copies bytes out of the guest, after the checks that every pointer meets.
    ///
    /// # Errors
    /// Where they are refused.
    pub fn read(&mut self, pointer: u32, length: u32) -> Result<Vec<u8>> {
        let memory = self.memory.ok_or("the module exports no memory")?;
        let gate = Arc::clone(&self.watched.store.data().gate);
        let bridge = Bridge { gate: &gate, memory };
        bridge
            .read(&self.watched.store, pointer, length)
            .map_err(|refusal| refusal.detail)
    }
}

/// The question that a host call asks: whether the guest may read the clock. What is granted once, a run remembers.
pub struct Asked {
    gate: Gate,
    granted: Cell<Granted>,
}

impl Asked {
    /// Asked of this plan.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self {
            gate: Gate::new(plan, Layers::ALL, Box::new(())),
            granted: Cell::default(),
        }
    }

    /// Asks as a host call of one run does: the plan the first time, and then what the run remembers.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        let mut granted = self.granted.get();
        let is_allowed =
            self.gate.has(Layer::Capability) && granted.ask(&self.gate, HostFunction::ClockNowMs, "main").is_ok();
        self.granted.set(granted);
        is_allowed
    }
}

/// The account of buffers that a guest is given.
pub struct Account {
    gate: Gate,
    allocations: Allocations,
}

impl Account {
    /// Bounded by this plan.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self {
            gate: Gate::new(plan, Layers::ALL, Box::new(())),
            allocations: Allocations::default(),
        }
    }

    /// Enters a buffer, as a host call does around the guest's allocator: the bounds are asked before and after.
    #[must_use]
    pub fn enter(&mut self, pointer: u32, length: u32) -> bool {
        let Self { gate, allocations } = self;
        allocations.admit(gate, length).is_ok() && allocations.enter(gate, pointer, length).is_ok()
    }

    /// Strikes one out.
    #[must_use]
    pub fn strike(&mut self, pointer: u32) -> bool {
        self.allocations.strike(&self.gate, pointer).is_ok()
    }
}

/// A module that is kept in a module cache.
pub struct Kept {
    gate: Arc<Gate>,
    folder: PathBuf,
    cache: ModuleCache,
    key: Key,
    artefact: Artefact,
}

impl Kept {
    /// Compiles a module, and keeps it in `folder`.
    ///
    /// # Errors
    /// Where it is refused, or cannot be kept.
    pub fn new(binary: &[u8], plan: Plan, folder: &Path) -> Result<Self> {
        let gate = Arc::new(Gate::new(plan, Layers::ALL, Box::new(())));
        let key = Self::key(&module::Module::from(binary), &gate)?;
        let (program, counts) = run::compile(binary, &gate, Stopping::Page)
            .map_err(said)?
            .map_err(|refusal| refusal.detail)?;
        let compiled = keep::compiled(&program, counts).ok_or("the module is too large to be kept")?;
        let cache = Self::opened(folder)?;
        cache.keep(&key, &compiled);
        let artefact = cache.find(&key).ok_or("the module was not kept")?;
        let folder = folder.to_owned();
        Ok(Self {
            gate,
            folder,
            cache,
            key,
            artefact,
        })
    }

    fn opened(folder: &Path) -> Result<ModuleCache> {
        ModuleCache::open(folder, u64::MAX).map_err(said)
    }

    fn key(module: &module::Module, gate: &Gate) -> Result<Key> {
        let fingerprint = keep::fingerprint(gate.plan(), Layers::ALL).map_err(said)?;
        Ok(Key::new(module.sha256(), fingerprint))
    }

    /// Loads it, as a worker does that is handed the code: it was found before.
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn load(&self) -> Result<Loaded<'_>> {
        self.loaded(&self.artefact)
    }

    /// The same where a request has brought the module again: by its digest it is found in the cache's memory first.
    ///
    /// # Errors
    /// Where this is another one, or it cannot be loaded.
    pub fn come_again(&self, module: &module::Module) -> Result<Loaded<'_>> {
        let key = Self::key(module, &self.gate)?;
        self.loaded(&self.cache.find(&key).ok_or("it is not there")?)
    }

    /// The same for the first time in a process, its digest known: the folder is opened, and the file read and authenticated.
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn load_from_disk(&self) -> Result<Loaded<'_>> {
        self.loaded(&Self::opened(&self.folder)?.find(&self.key).ok_or("it is not there")?)
    }

    fn loaded(&self, artefact: &Artefact) -> Result<Loaded<'_>> {
        let program = keep::load(artefact, &self.gate).map_err(said)?;
        let program = program.map_err(|refusal| refusal.detail)?;
        Ok(Loaded {
            program,
            gate: &self.gate,
        })
    }
}

/// A module that was loaded, and is not linked yet.
pub struct Loaded<'k> {
    program: Program,
    gate: &'k Arc<Gate>,
}

impl Loaded<'_> {
    /// Links it: what it answers tells whether it is the module that was kept.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn linked(self) -> Result<Governed> {
        Governed::linked(self.program, Arc::clone(self.gate))
    }
}

/// Code in a file, of a wasmtime that nobody has configured.
pub struct BareFile {
    engine: Engine,
    path: PathBuf,
}

impl BareFile {
    /// Compiles a module, and writes it to `path`.
    ///
    /// # Errors
    /// Where wasmtime does not take it, or it cannot be written.
    pub fn new(binary: &[u8], path: &Path) -> Result<Self> {
        let Bare { engine, module, .. } = Bare::new(binary)?;
        std::fs::write(path, module.serialize().map_err(said)?).map_err(said)?;
        let path = path.to_owned();
        Ok(Self { engine, path })
    }

    /// Loads it.
    ///
    /// # Errors
    /// Where wasmtime does not take it.
    pub fn load(&self) -> Result<Bare> {
        #[expect(unsafe_code, reason = "wasmtime cannot tell its own code from a stranger's")]
        // SAFETY: `new` wrote it, and it is nobody else's: this is a measurement.
        let module = unsafe { Module::deserialize_file(&self.engine, &self.path) };
        Ok(Bare {
            engine: self.engine.clone(),
            module: module.map_err(said)?,
            stopped: Stopped::Never,
        })
    }
}

/// How a bare wasmtime's modules are stopped, as its own documentation has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Never.
    Never,
    /// By an epoch that somebody counts up.
    ByEpochs,
    /// Where their fuel is burnt.
    ByFuel,
}

/// A module on a wasmtime that nobody has configured, but for how it is stopped.
pub struct Bare {
    engine: Engine,
    module: Module,
    stopped: Stopped,
}

impl Bare {
    /// Compiles a module that imports nothing.
    ///
    /// # Errors
    /// Where wasmtime does not take it.
    pub fn new(binary: &[u8]) -> Result<Self> {
        Self::on(&Config::new(), binary, Stopped::Never)
    }

    /// As [`Bare::new`], with what it takes to stop the module. The bounds are out of reach: nobody ticks, and nothing burns
    /// that much.
    ///
    /// # Errors
    /// Where wasmtime does not take it.
    pub fn stopped(binary: &[u8], stopped: Stopped) -> Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(stopped == Stopped::ByEpochs)
            .consume_fuel(stopped == Stopped::ByFuel);
        Self::on(&config, binary, stopped)
    }

    /// As [`Bare::new`], with instances from a pool.
    ///
    /// # Errors
    /// Where wasmtime does not take it.
    pub fn pooled(binary: &[u8]) -> Result<Self> {
        let mut config = Config::new();
        config.allocation_strategy(wasmtime::PoolingAllocationConfig::default());
        Self::on(&config, binary, Stopped::Never)
    }

    fn on(config: &Config, binary: &[u8], stopped: Stopped) -> Result<Self> {
        let engine = Engine::new(config).map_err(said)?;
        let module = Module::from_binary(&engine, binary).map_err(said)?;
        Ok(Self {
            engine,
            module,
            stopped,
        })
    }

    /// An instance.
    ///
    /// # Errors
    /// Where wasmtime makes none.
    pub fn start(&self) -> Result<BareInstance> {
        let mut store = Store::new(&self.engine, ());
        match self.stopped {
            Stopped::Never => {}
            Stopped::ByEpochs => store.set_epoch_deadline(1 << 40),
            Stopped::ByFuel => store.set_fuel(u64::MAX).map_err(said)?,
        }
        let instance = Instance::new(&mut store, &self.module, &[]).map_err(said)?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or("the module exports no memory")?;
        Ok(BareInstance {
            store,
            instance,
            memory,
        })
    }
}

/// One instance of a [`Bare`] module.
pub struct BareInstance {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl BareInstance {
    /// Has the kernel work so many turns, and returns what it wrote.
    ///
    /// # Errors
    /// Where the module is no kernel, or traps.
    pub fn work(&mut self, turns: u32) -> Result<Vec<u8>> {
        let input = self.stated("input_ptr")?;
        self.memory
            .write(&mut self.store, input as usize, &turns.to_le_bytes())
            .map_err(said)?;
        let run: TypedFunc<u32, u32> = self.instance.get_typed_func(&mut self.store, "run").map_err(said)?;
        let count = run.call(&mut self.store, 4).map_err(said)?;
        let output = self.stated("output_ptr")?;
        let mut bytes = vec![0; count as usize];
        self.memory
            .read(&self.store, output as usize, &mut bytes)
            .map_err(said)?;
        Ok(bytes)
    }

    /// Copies bytes out of the guest, with a slice's own check and no other.
    ///
    /// # Errors
    /// Where they are not there.
    pub fn read(&mut self, pointer: u32, length: u32) -> Result<Vec<u8>> {
        let start = pointer as usize;
        let data = self
            .memory
            .data(&self.store)
            .get(start..start.saturating_add(length as usize));
        data.map(<[u8]>::to_vec).ok_or("the bytes are not there".to_owned())
    }

    fn stated(&mut self, name: &str) -> Result<u32> {
        let getter: TypedFunc<(), u32> = self.instance.get_typed_func(&mut self.store, name).map_err(said)?;
        getter.call(&mut self.store, ()).map_err(said)
    }
}
