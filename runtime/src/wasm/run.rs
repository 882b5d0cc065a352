//! One module, from bytes to outcome.

use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stockade_policies::Meter;
use wasmtime::{Func, FuncType, Instance, Linker, Store, UpdateDeadline, Val, ValType};

use super::alarm::{Alarm, Bell, Page};
use super::contract;
use super::engine::{self, Stopping};
use super::host::Host;
use super::program::Program;
use super::rewrite::{Exports, PAGE_BYTES};
use super::validate::Counts;
use super::{keep, limiter, linker, refusal, validate};
use crate::code::Code;
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::execute::{Ended, Job};
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Product, Refusal, WasmValue};
use crate::request::Request;

/// What `run` and `_start` are tried for where the caller names no export.
const DEFAULT_EXPORTS: [&str; 2] = ["run", "_start"];

/// Compiles or loads, links and runs a module. What it hands back is added to `product`.
pub(crate) fn run(bytes: &[u8], job: &Job, gate: &Arc<Gate>, product: &mut Product) -> Result<Ended, RuntimeError> {
    let stopping = if gate.has(Layer::Deadline) {
        Stopping::Page
    } else {
        Stopping::Never
    };
    let (request, time) = (&job.request, job.time_left());
    match &job.code {
        Code::Compile => run_stopping(bytes, request, gate, time, stopping, product),
        Code::CompileAndKeep => {
            let compiled = compile(bytes, gate, stopping)?;
            if let Ok((program, counts)) = &compiled
                && let Some(code) = keep::compiled(program, *counts)
            {
                gate.compiled(code);
            }
            run_program(compiled.map(|(program, _)| program), request, gate, time, product)
        }
        Code::Load(artefact) => run_program(keep::load(artefact, gate)?, request, gate, time, product),
    }
}

/// As [`run`], stopped as told.
pub(super) fn run_stopping(
    bytes: &[u8],
    request: &Request,
    gate: &Arc<Gate>,
    time: Option<Duration>,
    stopping: Stopping,
    product: &mut Product,
) -> Result<Ended, RuntimeError> {
    let compiled = compile(bytes, gate, stopping)?;
    run_program(compiled.map(|(program, _)| program), request, gate, time, product)
}

fn run_program(
    program: Result<Program, Refusal>,
    request: &Request,
    gate: &Arc<Gate>,
    time: Option<Duration>,
    product: &mut Product,
) -> Result<Ended, RuntimeError> {
    let program = match program {
        Ok(program) => program,
        Err(refusal) => return Ok(before_start(refusal)),
    };
    let required = program.module.resources_required();
    let memories = required.num_memories.saturating_sub(program.own().memories);
    if let Some(refusal) = limiter::count_refusal(gate, memories, required.num_tables) {
        return Ok(before_start(refusal));
    }
    let granted = linker::linker(&program.engine, &program.module, gate, request.state.namespace())
        .map_err(|error| RuntimeError::Request(format!("cannot link host functions: {error}")))?;
    let linker = match granted {
        Ok(linker) => linker,
        Err(refusal) => return Ok(before_start(refusal)),
    };
    // A request that asks for what is not there is one before anything of the guest's runs.
    let call = match Call::of(&program, request)? {
        Ok(call) => call,
        Err(refusal) => return Ok(before_start(refusal)),
    };
    let guest = Guest {
        program: &program,
        linker: &linker,
        gate,
        request,
        // Before anybody is told of the start: no clock that is watched from outside may run ahead of this one.
        deadline: Deadline::after(time),
    };
    gate.started();
    guest.run_on_its_own_stack(&call, product)
}

fn before_start(refusal: Refusal) -> Ended {
    Ended {
        class: Err(refusal),
        detail: String::new(),
        wall_us: 0,
    }
}

pub(super) fn compile(
    bytes: &[u8],
    gate: &Arc<Gate>,
    stopping: Stopping,
) -> Result<Result<(Program, Counts), Refusal>, RuntimeError> {
    match validate::binary(bytes, gate) {
        Ok((binary, counts)) => {
            let program = Program::compile(&binary, gate, stopping)?;
            Ok(program.map(|program| (program, counts)))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// A store, and the alarm that stops what runs in it. The alarm is dropped first: it holds a page of the store's memory.
pub(super) struct Watched {
    alarm: Option<Alarm>,
    pub store: Store<Host>,
}

impl Watched {
    fn into_host(self) -> Host {
        let Self { alarm, store } = self;
        drop(alarm);
        store.into_data()
    }
}

pub(super) struct Guest<'a> {
    pub program: &'a Program,
    pub linker: &'a Linker<Host>,
    pub gate: &'a Arc<Gate>,
    pub request: &'a Request,
    pub deadline: Deadline,
}

impl Guest<'_> {
    /// The thread's stack is larger than the guest's by construction: wasmtime aborts the process where it is not.
    fn run_on_its_own_stack(&self, call: &Call, product: &mut Product) -> Result<Ended, RuntimeError> {
        let size = engine::stack_bound(self.gate) + engine::HOST_STACK;
        thread::scope(|scope| {
            let guest = thread::Builder::new()
                .name("guest".to_owned())
                .stack_size(size)
                .spawn_scoped(scope, || self.run(call, product))
                .map_err(RuntimeError::Spawn)?;
            guest.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn run(&self, call: &Call, product: &mut Product) -> Result<Ended, RuntimeError> {
        let deadline = self.deadline;
        let mut watched = self.watched(deadline);
        let class = self.instantiate_and_call(&mut watched, call, product);
        self.gate.ending();
        let class = class?;
        let host = watched.into_host();
        self.gate.close(host.closing_events());
        if let Some(unknown) = host.unknown {
            return Err(unknown);
        }
        product.log = host.log;
        product.metrics = host.metrics.into_sums();
        if class.is_ok() {
            product.state = host.namespace.into_changes();
        }
        Ok(Ended {
            class,
            detail: String::new(),
            wall_us: deadline.elapsed_us(),
        })
    }

    /// A store for one run.
    pub(super) fn watched(&self, deadline: Deadline) -> Watched {
        let host = Host::new(self.gate, self.program.own(), deadline, self.request);
        let mut store = Store::new(&self.program.engine, host);
        store.limiter(|host| &mut host.limiter);
        Watched { alarm: None, store }
    }

    fn instantiate_and_call(
        &self,
        watched: &mut Watched,
        call: &Call,
        product: &mut Product,
    ) -> Result<Result<Class, Refusal>, RuntimeError> {
        let instance = match self.instantiate(watched)? {
            Ok(instance) => instance,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let store = &mut watched.store;
        if matches!(call, Call::Contract) {
            return Ok(self.follow_contract(store, &instance, product));
        }
        let Call::Export { name, arguments } = call else {
            return Ok(self.within_bounds(store));
        };
        let Some(function) = instance.get_func(&mut *store, name) else {
            return Err(not_exported(self.program, name));
        };
        Ok(self.call(store, function, arguments, product))
    }

    /// Instantiates the module and runs its start function, with the alarm set before the guest's first instruction.
    pub(super) fn instantiate(&self, watched: &mut Watched) -> Result<Result<Instance, Refusal>, RuntimeError> {
        if self.program.stopping == Stopping::Epoch {
            watched.alarm = Some(self.alarm_by_epoch(&mut watched.store)?);
        }
        let store = &mut watched.store;
        let fuel = engine::fuel_bound(self.gate);
        // What wasmtime does to make an instance is paid for by the module's size, and is not the same on every machine.
        set_fuel(store, fuel.map(|_| u64::MAX))?;
        let instance = match self.linker.instantiate(&mut *store, &self.program.module) {
            Ok(instance) => instance,
            Err(error) => return Ok(Err(refusal::read(store.data(), &error))),
        };
        // One more than the bound: who has none left went beyond it.
        set_fuel(store, fuel.map(|most| most.saturating_add(1)))?;
        let Exports { page, start } = &self.program.exports;
        if let Some(page) = page {
            watched.alarm = Some(alarm_by_page(store, &instance, page)?);
        }
        if let Some(start) = start
            && let Err(error) = call_start(store, &instance, start)
        {
            return Ok(Err(refusal::read(store.data(), &error)));
        }
        Ok(Ok(instance))
    }

    fn alarm_by_epoch(&self, store: &mut Store<Host>) -> Result<Alarm, RuntimeError> {
        let Host { deadline, rung, .. } = store.data();
        let (deadline, rung) = (*deadline, rung.clone());
        store.set_epoch_deadline(1);
        let own = rung.clone();
        // Guests of one engine share its epoch: who is not meant goes on.
        store.epoch_deadline_callback(move |_| {
            Ok(match own.cause() {
                Some(_) => UpdateDeadline::Interrupt,
                None => UpdateDeadline::Continue(1),
            })
        });
        Alarm::set(Bell::Epoch(self.program.engine.clone()), deadline, rung).map_err(RuntimeError::Spawn)
    }

    fn follow_contract(
        &self,
        store: &mut Store<Host>,
        instance: &Instance,
        product: &mut Product,
    ) -> Result<Class, Refusal> {
        let handed = contract::run(store, instance, &self.request.input)?;
        let class = self.within_bounds(store)?;
        product.results = vec![WasmValue::I32(handed.count.cast_signed())];
        product.output = handed.output;
        Ok(class)
    }

    fn call(
        &self,
        store: &mut Store<Host>,
        function: Func,
        arguments: &[Val],
        product: &mut Product,
    ) -> Result<Class, Refusal> {
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        if let Err(error) = function.call(&mut *store, arguments, &mut results) {
            return Err(refusal::read(store.data(), &error));
        }
        let class = self.within_bounds(store)?;
        product.results = results.iter().map(shown).collect();
        Ok(class)
    }

    /// A host call may have taken the rest of the time, and the guest returned before the next check. And it may have
    /// returned from where it burned too much.
    fn within_bounds(&self, store: &Store<Host>) -> Result<Class, Refusal> {
        if let Some(refusal) = refusal::fuel_refusal(self.gate, store) {
            return Err(refusal);
        }
        if !self.gate.has(Layer::Deadline) || !store.data().deadline.is_over() {
            return Ok(Class::Completed);
        }
        let detail = crate::gate::beyond(Meter::Elapse, self.gate.bound(Meter::Elapse));
        Err(Refusal::by(Layer::Deadline, Class::LimitTime, detail))
    }
}

fn alarm_by_page(store: &mut Store<Host>, instance: &Instance, name: &str) -> Result<Alarm, RuntimeError> {
    let start = instance
        .get_memory(&mut *store, name)
        .filter(|memory| memory.data_size(&*store) == PAGE_BYTES)
        .and_then(|memory| NonNull::new(memory.data_ptr(&*store)));
    let Some(start) = start else {
        return Err(RuntimeError::Request("the watchdog's page is not there".to_owned()));
    };
    #[expect(unsafe_code, reason = "the watchdog's page is known by its address")]
    // SAFETY: this memory was added by `rewrite`. It has one page, so it does not move; no instruction but checks names it,
    // each a load at which wasmtime expects a fault; no host function asks for an export by this name. `Watched` drops the
    // alarm before the store.
    let page = unsafe { Page::at(start) };
    let Host { deadline, rung, .. } = store.data();
    Alarm::set(Bell::Page(page), *deadline, rung.clone()).map_err(RuntimeError::Spawn)
}

fn set_fuel(store: &mut Store<Host>, fuel: Option<u64>) -> Result<(), RuntimeError> {
    let Some(fuel) = fuel else {
        return Ok(());
    };
    store
        .set_fuel(fuel)
        .map_err(|error| RuntimeError::Request(format!("wasmtime takes no fuel: {error}")))
}

fn call_start(store: &mut Store<Host>, instance: &Instance, name: &str) -> wasmtime::Result<()> {
    instance.get_typed_func::<(), ()>(&mut *store, name)?.call(store, ())
}

/// What is called of a module when it is there.
enum Call {
    /// Input is handed over, and output taken.
    Contract,
    /// A function with these arguments.
    Export { name: String, arguments: Vec<Val> },
    /// The caller named none, and the module has neither default.
    Nothing,
}

impl Call {
    fn of(program: &Program, request: &Request) -> Result<Result<Self, Refusal>, RuntimeError> {
        if request.invoke.is_none() && contract::is_followed(&program.module) {
            return Ok(Ok(Self::Contract));
        }
        if !request.input.is_empty() {
            let detail = "there is input, and the guest exports no `input_ptr` to take it";
            let refusal = Refusal::by(Layer::Bridge, Class::ContractMissingExport, detail);
            return Ok(Err(refusal));
        }
        let default = || {
            let mut defaults = DEFAULT_EXPORTS.into_iter();
            defaults.find(|name| exported(program, name).is_some())
        };
        let name = request.invoke.as_deref().or_else(default);
        name.map_or(Ok(Self::Nothing), |name| Self::export(program, name, request))
            .map(Ok)
    }

    fn export(program: &Program, name: &str, request: &Request) -> Result<Self, RuntimeError> {
        let function = exported(program, name).ok_or_else(|| not_exported(program, name))?;
        Ok(Self::Export {
            name: name.to_owned(),
            arguments: arguments(&request.arguments, function.params())?,
        })
    }
}

/// The function that the guest exports by this name: what was added to the module is not the guest's.
fn exported(program: &Program, name: &str) -> Option<FuncType> {
    let export = program
        .module
        .get_export(name)
        .filter(|_| !program.exports.contains(name))?;
    export.func().cloned()
}

fn not_exported(program: &Program, name: &str) -> RuntimeError {
    RuntimeError::Request(format!(
        "the module exports no function `{name}`; it exports {}",
        exported_functions(program)
    ))
}

fn exported_functions(program: &Program) -> String {
    let names: Vec<String> = program
        .module
        .exports()
        .filter(|export| export.ty().func().is_some() && !program.exports.contains(export.name()))
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
