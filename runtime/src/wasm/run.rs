//! One module, from bytes to outcome.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use stockade_policies::Meter;
use wasmtime::{Engine, Func, Instance, Module, Store, Val, ValType};

use super::contract;
use super::engine::{self, Alarm};
use super::host::Host;
use super::{limiter, linker, refusal, validate};
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::execute::Ended;
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Product, Refusal, WasmValue};
use crate::request::Request;

/// What `run` and `_start` are tried for where the caller names no export.
const DEFAULT_EXPORTS: [&str; 2] = ["run", "_start"];

/// Compiles, links and runs a module.
pub(crate) fn run(bytes: &[u8], request: &Request, gate: &Arc<Gate>) -> Result<Ended, RuntimeError> {
    let engine = engine::engine(gate)?;
    let module = match validate::binary(bytes, gate).and_then(|binary| compile(&engine, &binary, gate)) {
        Ok(module) => module,
        Err(refusal) => return Ok(before_start(refusal)),
    };
    let required = module.resources_required();
    if let Some(refusal) = limiter::count_refusal(gate, required.num_memories, required.num_tables) {
        return Ok(before_start(refusal));
    }
    let granted = linker::linker(&engine, &module, gate)
        .map_err(|error| RuntimeError::Request(format!("cannot link host functions: {error}")))?;
    let linker = match granted {
        Ok(linker) => linker,
        Err(refusal) => return Ok(before_start(refusal)),
    };
    let guest = Guest {
        engine,
        module,
        linker,
        gate,
        request,
        // Before anybody is told of the start: no clock that is watched from outside may run ahead of this one.
        deadline: Deadline::start(gate.bound(Meter::Elapse)),
    };
    gate.started();
    guest.run_on_its_own_stack()
}

fn before_start(refusal: Refusal) -> Ended {
    Ended {
        class: Err(refusal),
        detail: String::new(),
        wall_us: 0,
        product: Product::default(),
    }
}

fn compile(engine: &Engine, binary: &[u8], gate: &Gate) -> Result<Module, Refusal> {
    // `from_binary` takes WebAssembly only: an artefact compiled elsewhere is native code from a stranger.
    Module::from_binary(engine, binary).map_err(|error| validate::malformed(gate, &format!("{error:#}")))
}

struct Guest<'a> {
    engine: Engine,
    module: Module,
    linker: wasmtime::Linker<Host>,
    gate: &'a Arc<Gate>,
    request: &'a Request,
    deadline: Deadline,
}

impl Guest<'_> {
    /// The thread's stack is larger than the guest's by construction: wasmtime aborts the process where it is not.
    fn run_on_its_own_stack(&self) -> Result<Ended, RuntimeError> {
        let size = engine::stack_bound(self.gate) + engine::HOST_STACK;
        thread::scope(|scope| {
            let guest = thread::Builder::new()
                .name("guest".to_owned())
                .stack_size(size)
                .spawn_scoped(scope, || self.run())
                .map_err(RuntimeError::Spawn)?;
            guest.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn run(&self) -> Result<Ended, RuntimeError> {
        let deadline = self.deadline;
        let host = Host::new(self.gate, deadline, self.request.database.clone());
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| &mut host.limiter);
        let _alarm = if self.gate.has(Layer::Deadline) {
            store.set_epoch_deadline(1);
            Some(Alarm::set(&self.engine, deadline).map_err(RuntimeError::Spawn)?)
        } else {
            None
        };
        let mut product = Product::default();
        let class = self.instantiate_and_call(&mut store, &mut product);
        self.gate.ending();
        let class = class?;
        let host = store.into_data();
        if let Some(unknown) = host.unknown {
            return Err(unknown);
        }
        product.log = host.log;
        Ok(Ended {
            class,
            detail: String::new(),
            wall_us: deadline.elapsed_us(),
            product,
        })
    }

    fn instantiate_and_call(
        &self,
        store: &mut Store<Host>,
        product: &mut Product,
    ) -> Result<Result<Class, Refusal>, RuntimeError> {
        let instance = match self.linker.instantiate(&mut *store, &self.module) {
            Ok(instance) => instance,
            Err(error) => return Ok(Err(refusal::read(store.data(), &error))),
        };
        if self.request.invoke.is_none() && contract::is_followed(store, &instance) {
            return Ok(self.follow_contract(store, &instance, product));
        }
        if !self.request.input.is_empty() {
            let detail = "there is input, and the guest exports no `input_ptr` to take it";
            let refusal = Refusal::by(Layer::Bridge, Class::ContractMissingExport, detail);
            return Ok(Err(refusal));
        }
        let Some(function) = self.export_to_call(store, &instance)? else {
            return Ok(Ok(Class::Completed));
        };
        self.call(store, function, product)
    }

    fn follow_contract(
        &self,
        store: &mut Store<Host>,
        instance: &Instance,
        product: &mut Product,
    ) -> Result<Class, Refusal> {
        let handed = contract::run(store, instance, &self.request.input)?;
        product.results = vec![WasmValue::I32(handed.count.cast_signed())];
        product.output = handed.output;
        self.on_time(store)
    }

    /// The export to call; `None` where the caller named none and the module has neither default.
    fn export_to_call(&self, store: &mut Store<Host>, instance: &Instance) -> Result<Option<Func>, RuntimeError> {
        let Some(name) = &self.request.invoke else {
            return Ok(DEFAULT_EXPORTS
                .iter()
                .find_map(|name| instance.get_func(&mut *store, name)));
        };
        match instance.get_func(&mut *store, name) {
            Some(function) => Ok(Some(function)),
            None => Err(RuntimeError::Request(format!(
                "the module exports no function `{name}`; it exports {}",
                exported_functions(&self.module)
            ))),
        }
    }

    fn call(
        &self,
        store: &mut Store<Host>,
        function: Func,
        product: &mut Product,
    ) -> Result<Result<Class, Refusal>, RuntimeError> {
        let signature = function.ty(&*store);
        let arguments = arguments(&self.request.arguments, signature.params())?;
        let mut results = vec![Val::I32(0); signature.results().len()];
        Ok(match function.call(&mut *store, &arguments, &mut results) {
            Ok(()) => {
                product.results = results.iter().map(shown).collect();
                self.on_time(store)
            }
            Err(error) => Err(refusal::read(store.data(), &error)),
        })
    }

    /// A host call may have taken the rest of the time, and the guest returned before the next check.
    fn on_time(&self, store: &Store<Host>) -> Result<Class, Refusal> {
        if !self.gate.has(Layer::Deadline) || !store.data().deadline.is_over() {
            return Ok(Class::Completed);
        }
        let detail = crate::gate::beyond(Meter::Elapse, self.gate.bound(Meter::Elapse));
        Err(Refusal::by(Layer::Deadline, Class::LimitTime, detail))
    }
}

fn exported_functions(module: &Module) -> String {
    let names: Vec<String> = module
        .exports()
        .filter(|export| export.ty().func().is_some())
        .map(|export| format!("`{}`", export.name()))
        .collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

/// The caller's words as numbers of the types that the function takes.
fn arguments(words: &[String], parameters: impl ExactSizeIterator<Item = ValType>) -> Result<Vec<Val>, RuntimeError> {
    let expected = parameters.len();
    if words.len() != expected {
        return Err(RuntimeError::Request(format!(
            "the export takes {expected} arguments, and {} were given",
            words.len()
        )));
    }
    words
        .iter()
        .zip(parameters)
        .map(|(word, parameter)| argument(word, &parameter))
        .collect()
}

fn argument(word: &str, parameter: &ValType) -> Result<Val, RuntimeError> {
    let value = match parameter {
        ValType::I32 => word.parse::<i32>().ok().map(Val::I32),
        ValType::I64 => word.parse::<i64>().ok().map(Val::I64),
        ValType::F32 => word.parse::<f32>().ok().map(Val::from),
        ValType::F64 => word.parse::<f64>().ok().map(Val::from),
        _ => None,
    };
    value.ok_or_else(|| RuntimeError::Request(format!("argument `{word}` is not an {parameter}")))
}

fn shown(value: &Val) -> WasmValue {
    match value {
        Val::I32(number) => WasmValue::I32(*number),
        Val::I64(number) => WasmValue::I64(*number),
        Val::F32(bits) => WasmValue::F32(f32::from_bits(*bits)),
        Val::F64(bits) => WasmValue::F64(f64::from_bits(*bits)),
        _ => WasmValue::Opaque,
    }
}
