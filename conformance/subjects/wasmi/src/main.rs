//! wasmi: fuel in slices with a look at the clock between them, limits of the store, the height of the stack.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmi::TrapCode;
use wasmi::errors::ErrorKind;
use wasmi::{
    Config, CustomFuelCosts, Engine, Error, Func, Instance, Linker, Module, ResumableCall, Store, StoreLimits,
    StoreLimitsBuilder, Val, ValType,
};

const VERSION: &str = "2.0.0";

/// Fuel between two looks at the clock: about a millisecond.
const SLICE: u64 = 200_000;

/// What ended a guest, and a detail.
type Ended = (&'static str, String);

fn main() -> io::Result<()> {
    let mut lines = io::stdin().lock().lines();
    let mut hear = || -> io::Result<Value> {
        let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        Ok(serde_json::from_str(&line)?)
    };
    hear()?;
    say(&json!({
        "type": "hello", "protocol": 1, "subject": "wasmi", "version": VERSION, "kinds": ["wasm"], "actions": [],
        "meters": ["elapse", "burnFuel", "growStack", "growMemory", "growTable", "addInstance", "addMemory", "addTable"],
    }))?;
    let run = hear()?;
    let case = &run["case"];
    let bytes = from_hex(run["guest"]["module"].as_str().unwrap_or_default());
    let answer = match play(&run, &bytes) {
        Ok(results) => json!({"type": "done", "case": case, "class": "completed", "results": results}),
        Err(("unsupported", needs)) => json!({"type": "unsupported", "case": case, "needs": needs}),
        Err((class, detail)) => json!({"type": "done", "case": case, "class": class, "detail": detail}),
    };
    say(&answer)
}

fn say(message: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{message}")?;
    out.flush()
}

/// The plan's bounds; `None` is the control.
struct Bounds(Option<BTreeMap<String, Option<u64>>>);

impl Bounds {
    fn of(run: &Value) -> Self {
        let bounds = run["plan"]["bounds"].as_object();
        Self(bounds.map(|bounds| {
            bounds
                .iter()
                .map(|(meter, most)| (meter.clone(), most.as_u64()))
                .collect()
        }))
    }

    fn get(&self, meter: &str) -> Option<u64> {
        self.0.as_ref()?.get(meter).copied().flatten()
    }

    fn size(&self, meter: &str) -> Option<usize> {
        self.get(meter).map(|most| usize::try_from(most).unwrap_or(usize::MAX))
    }
}

fn play(run: &Value, bytes: &[u8]) -> Result<Vec<Value>, Ended> {
    let bounds = Bounds::of(run);
    let engine = Engine::new(&config(&bounds));
    let module = Module::new(&engine, bytes).map_err(|error| ("module.malformed", error.to_string()))?;
    let invoke = run["guest"]["invoke"].as_str();
    if module.imports().any(|import| import.module() == "stockade") {
        return Err(("unsupported", "Stockade's host functions".to_owned()));
    }
    if invoke.is_none() && module.exports().any(|export| export.name() == "input_ptr") {
        return Err(("unsupported", "the contract of input and output".to_owned()));
    }
    let mut store = Store::new(&engine, limits(&bounds));
    store.limiter(|limits| limits);
    say(&json!({"type": "started", "case": run["case"]})).map_err(|error| ("host.internal", error.to_string()))?;
    let mut clock = Clock::of(&bounds);
    // A start function cannot be resumed: it gets at once what it would get slice by slice.
    clock.fill(&mut store, clock.whole);
    let instance = Linker::new(&engine)
        .instantiate_and_start(&mut store, &module)
        .map_err(ended)?;
    clock.take(&store);
    let Some(function) = function(&instance, &store, invoke)? else {
        return Ok(Vec::new());
    };
    let arguments = arguments(run, &function, &store);
    call(&mut store, function, &arguments, &mut clock)
}

fn config(bounds: &Bounds) -> Config {
    let mut config = Config::default();
    if bounds.0.is_none() {
        return config;
    }
    config.consume_fuel(true);
    // As the meter counts: operators, and the bytes of bulk operations; nothing for translating.
    config.fuel_cost(CustomFuelCosts {
        bytes_copied_per_fuel: 1,
        fuel_per_bytes_translated: 0,
        fuel_per_bytes_validated: 0,
    });
    if let Some(most) = bounds.size("growStack") {
        config.set_min_stack_height(most.min(1000));
        config.set_max_stack_height(most.max(1));
        // The bytes are what bounds it.
        config.set_max_recursion_depth(most);
    }
    config
}

fn limits(bounds: &Bounds) -> StoreLimits {
    let mut limits = StoreLimitsBuilder::new();
    if let Some(most) = bounds.size("growMemory") {
        limits = limits.memory_size(most);
    }
    if let Some(most) = bounds.size("growTable") {
        limits = limits.table_elements(most);
    }
    if let Some(most) = bounds.size("addInstance") {
        limits = limits.instances(most);
    }
    if let Some(most) = bounds.size("addMemory") {
        limits = limits.memories(most);
    }
    if let Some(most) = bounds.size("addTable") {
        limits = limits.tables(most);
    }
    limits.build()
}

/// Fuel and time. Without a plan there is neither.
struct Clock {
    deadline: Option<Instant>,
    /// Fuel for the whole of the plan's time, or less where the plan bounds fuel.
    whole: u64,
    left: u64,
    filled: u64,
    is_on: bool,
}

impl Clock {
    fn of(bounds: &Bounds) -> Self {
        let elapse = bounds.get("elapse");
        let left = bounds.get("burnFuel").unwrap_or(u64::MAX);
        Self {
            deadline: elapse.map(|millis| Instant::now() + Duration::from_millis(millis)),
            whole: elapse.map_or(left, |millis| left.min(millis.saturating_mul(SLICE))),
            left,
            filled: 0,
            is_on: bounds.0.is_some(),
        }
    }

    fn fill(&mut self, store: &mut Store<StoreLimits>, most: u64) {
        self.filled = most.min(self.left);
        if self.is_on && store.set_fuel(self.filled).is_err() {
            self.left = 0;
        }
    }

    /// Counts what was used since it was filled.
    fn take(&mut self, store: &Store<StoreLimits>) {
        if self.is_on {
            let unused = store.get_fuel().unwrap_or(0);
            self.left = self.left.saturating_sub(self.filled.saturating_sub(unused));
        }
    }

    fn check(&self, required: u64) -> Result<(), Ended> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(("limit.time", "between two slices of fuel".to_owned()));
        }
        if required > self.left {
            return Err(("limit.fuel", "all fuel consumed".to_owned()));
        }
        Ok(())
    }
}

fn call(
    store: &mut Store<StoreLimits>,
    function: Func,
    arguments: &[Val],
    clock: &mut Clock,
) -> Result<Vec<Value>, Ended> {
    let kinds: Vec<ValType> = function.ty(&*store).results().to_vec();
    let mut results: Vec<Val> = kinds.iter().map(|kind| Val::default_for_ty(*kind)).collect();
    clock.fill(store, SLICE);
    let mut state = function
        .call_resumable(&mut *store, arguments, &mut results)
        .map_err(ended)?;
    loop {
        match state {
            ResumableCall::Finished => return Ok(results.iter().map(number).collect()),
            ResumableCall::HostTrap(_) => return Err(("host.internal", "there is no host function".to_owned())),
            ResumableCall::OutOfFuel(paused) => {
                clock.take(store);
                let required = paused.required_fuel();
                clock.check(required)?;
                clock.fill(store, SLICE.max(required));
                state = paused.resume(&mut *store, &mut results).map_err(ended)?;
            }
        }
    }
}

fn function(instance: &Instance, store: &Store<StoreLimits>, invoke: Option<&str>) -> Result<Option<Func>, Ended> {
    match invoke {
        Some(name) => match instance.get_func(store, name) {
            Some(function) => Ok(Some(function)),
            None => Err(("contract.missing-export", name.to_owned())),
        },
        None => Ok(["run", "_start"]
            .into_iter()
            .find_map(|name| instance.get_func(store, name))),
    }
}

fn arguments(run: &Value, function: &Func, store: &Store<StoreLimits>) -> Vec<Val> {
    let kinds = function.ty(store);
    let texts = run["guest"]["arguments"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    texts
        .zip(kinds.params())
        .map(|(text, kind)| match kind {
            ValType::I64 => Val::I64(text.parse().unwrap_or_default()),
            ValType::F32 => Val::F32(text.parse::<f32>().unwrap_or_default().into()),
            ValType::F64 => Val::F64(text.parse::<f64>().unwrap_or_default().into()),
            _ => Val::I32(text.parse().unwrap_or_default()),
        })
        .collect()
}

fn number(value: &Val) -> Value {
    match value {
        Val::I32(number) => json!({"i32": number.to_string()}),
        Val::I64(number) => json!({"i64": number.to_string()}),
        Val::F32(number) => json!({"f32": f32::from(*number).to_string()}),
        Val::F64(number) => json!({"f64": f64::from(*number).to_string()}),
        _ => json!("opaque"),
    }
}

fn ended(error: Error) -> Ended {
    let class = match error.kind() {
        ErrorKind::TrapCode(TrapCode::StackOverflow) => "limit.stack",
        ErrorKind::TrapCode(TrapCode::OutOfFuel) => "limit.fuel",
        ErrorKind::TrapCode(_) => "trap",
        ErrorKind::Linker(_) => "denied.import",
        ErrorKind::Memory(_) => "limit.memory",
        ErrorKind::Table(_) => "limit.table",
        ErrorKind::Instantiation(_) => "limit.instances",
        _ => "trap",
    };
    (class, error.to_string())
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .filter_map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}
