//! What a host call does: asks the plan, then acts, and looks at the clock when it is done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};
use stockade_policies::Meter;
use wasmtime::{Caller, Error, Extern, Linker, Memory};

use super::alarm::Rung;
use super::allocations::Allocations;
use super::bridge::Bridge;
use super::capability::Granted;
use super::environment;
use super::handover;
use super::limiter::{Limiter, Own};
use super::linker::{HostFunction, NAMESPACE};
use super::metrics::{self, Metrics};
use super::namespace::{self, Namespace};
use super::refusal;
use super::tally::Tally;
use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};
use crate::request::Request;
use crate::trail::Event;

/// The host's side of one store.
pub(super) struct Host {
    pub gate: Arc<Gate>,
    pub deadline: Deadline,
    pub limiter: Limiter,
    /// Whether the guest was stopped at its deadline.
    pub rung: Rung,
    pub log: Vec<String>,
    #[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only SQL opens it"))]
    pub database: Option<PathBuf>,
    /// A failure that is not the guest's: the run has no outcome.
    pub unknown: Option<RuntimeError>,
    pub allocations: Allocations,
    pub environment: BTreeMap<String, String>,
    pub metrics: Metrics,
    pub namespace: Namespace,
    log_bytes: u64,
    tally: Tally,
    granted: Granted,
    /// The guest's, once a host call has needed it.
    memory: Option<Memory>,
    #[cfg(feature = "sql")]
    session: Option<crate::sql::Session>,
}

impl Host {
    pub(super) fn new(gate: &Arc<Gate>, own: Own, deadline: Deadline, request: &Request) -> Self {
        Self {
            gate: Arc::clone(gate),
            deadline,
            limiter: Limiter::new(Arc::clone(gate), own),
            rung: Rung::default(),
            log: Vec::new(),
            database: request.database.clone(),
            unknown: None,
            allocations: Allocations::default(),
            environment: request.environment.clone(),
            metrics: Metrics::default(),
            namespace: Namespace::of(request.state.clone()),
            log_bytes: 0,
            tally: Tally::default(),
            granted: Granted::default(),
            memory: None,
            #[cfg(feature = "sql")]
            session: None,
        }
    }

    /// What there is to say of the run when it has ended.
    pub(super) fn closing_events(&self) -> Vec<Event> {
        let mut events = self.tally.events();
        let (buffers, bytes) = self.allocations.held();
        if buffers > 0 {
            events.push(Event::Held { buffers, bytes });
        }
        events
    }
}

/// Codes that host functions return where the guest may go on.
/// 0 and above mean success; a refusal is never a code, it ends the guest.
pub(super) mod code {
    /// It is done.
    pub(in crate::wasm) const DONE: i32 = 0;
    /// There is no such key or variable.
    pub(in crate::wasm) const ABSENT: i32 = -1;
    /// The query failed by itself: it does not compile, or broke a constraint.
    pub(in crate::wasm) const QUERY_FAILED: i32 = -5;
    /// The guest's allocator returned null.
    pub(in crate::wasm) const ALLOCATION_FAILED: i32 = -8;
}

/// Defines `function` in `linker`.
pub(super) fn define(linker: &mut Linker<Host>, function: HostFunction) -> wasmtime::Result<()> {
    let name = function.name();
    match function {
        HostFunction::Release => linker.func_wrap(NAMESPACE, name, release),
        HostFunction::Log => linker.func_wrap(NAMESPACE, name, log),
        HostFunction::ClockNowMs => linker.func_wrap(NAMESPACE, name, clock_now_ms),
        HostFunction::RandomFill => linker.func_wrap(NAMESPACE, name, random_fill),
        HostFunction::MetricAdd => linker.func_wrap(NAMESPACE, name, metrics::metric_add),
        HostFunction::EnvGet => linker.func_wrap(NAMESPACE, name, environment::env_get),
        HostFunction::DbQuery => linker.func_wrap(NAMESPACE, name, database::db_query),
        HostFunction::DbExecute => linker.func_wrap(NAMESPACE, name, database::db_execute),
        HostFunction::StateGet => linker.func_wrap(NAMESPACE, name, namespace::state_get),
        HostFunction::StateSet => linker.func_wrap(NAMESPACE, name, namespace::state_set),
        HostFunction::StateRemove => linker.func_wrap(NAMESPACE, name, namespace::state_remove),
    }?;
    Ok(())
}

/// Why a host call does not return: the guest is refused, or we do not know.
pub(super) enum Stop {
    Refused(Refusal),
    #[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only SQL fails so"))]
    Unknown(RuntimeError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The frame of every host call: counted, asked, done, and the clock looked at. Its arguments say that they have so many
/// bytes.
pub(super) fn call<T>(
    mut caller: Caller<'_, Host>,
    function: HostFunction,
    bytes: u32,
    act: impl FnOnce(&mut Caller<'_, Host>) -> Result<T, Stop>,
) -> wasmtime::Result<T> {
    let result = admit(&mut caller, function, bytes)
        .map_err(Stop::from)
        .and_then(|()| act(&mut caller))
        .and_then(|value| on_time(caller.data()).map(|()| value).map_err(Stop::from));
    result.map_err(|stop| match stop {
        Stop::Refused(refusal) => {
            let error = Error::msg(refusal.detail.clone());
            caller.data().gate.refuse(refusal);
            error
        }
        Stop::Unknown(unknown) => {
            let error = Error::msg(unknown.to_string());
            caller.data_mut().unknown = Some(unknown);
            error
        }
    })
}

fn admit(caller: &mut Caller<'_, Host>, function: HostFunction, bytes: u32) -> Result<(), Refusal> {
    if let Some(refusal) = refusal::fuel_refusal(&caller.data().gate, &*caller) {
        return Err(refusal);
    }
    let host = caller.data_mut();
    let calls = host.tally.count(function, bytes);
    bounded(&host.gate, Meter::CallHost, calls, Class::LimitCalls)?;
    if !host.gate.has(Layer::Capability) {
        return Ok(());
    }
    host.granted.ask(&host.gate, function, host.namespace.name())
}

fn on_time(host: &Host) -> Result<(), Refusal> {
    if !host.gate.has(Layer::Deadline) || !host.deadline.is_over() {
        return Ok(());
    }
    let detail = beyond(Meter::Elapse, host.gate.bound(Meter::Elapse));
    Err(Refusal::by(Layer::Deadline, Class::LimitTime, detail))
}

pub(super) fn bounded(gate: &Gate, meter: Meter, total: u64, class: Class) -> Result<(), Refusal> {
    let bound = gate.bound(meter);
    if !gate.has(Layer::Quota) || bound.permits(total) {
        return Ok(());
    }
    Err(Refusal::by(Layer::Quota, class, beyond(meter, bound)))
}

/// The guest's memory. There is one guest in a store, and what it exports stays what it is, so its name is looked up once.
pub(super) fn memory(caller: &mut Caller<'_, Host>) -> Result<Memory, Refusal> {
    if let Some(memory) = caller.data().memory {
        return Ok(memory);
    }
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(*caller.data_mut().memory.insert(memory)),
        Some(_) => Err(Refusal::by(
            Layer::Bridge,
            Class::ContractBadType,
            "export `memory` is not a memory",
        )),
        None => Err(Refusal::by(
            Layer::Bridge,
            Class::ContractMissingExport,
            "the guest exports no `memory`",
        )),
    }
}

fn release(caller: Caller<'_, Host>, pointer: u32) -> wasmtime::Result<i32> {
    call(caller, HostFunction::Release, 0, |caller| {
        handover::take_back(caller, pointer)
    })
}

fn log(caller: Caller<'_, Host>, pointer: u32, length: u32) -> wasmtime::Result<i32> {
    call(caller, HostFunction::Log, length, |caller| {
        let memory = memory(caller)?;
        let gate = Arc::clone(&caller.data().gate);
        let total = caller.data().log_bytes.saturating_add(u64::from(length) + 1);
        // Asked before the copy.
        bounded(&gate, Meter::GrowLog, total, Class::LimitOutput)?;
        let line = Bridge { gate: &gate, memory }.read_text(&mut *caller, pointer, length)?;
        let host = caller.data_mut();
        host.log_bytes = total;
        host.log.push(line);
        Ok(code::DONE)
    })
}

fn clock_now_ms(caller: Caller<'_, Host>) -> wasmtime::Result<i64> {
    call(caller, HostFunction::ClockNowMs, 0, |_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    })
}

fn random_fill(caller: Caller<'_, Host>, pointer: u32, length: u32) -> wasmtime::Result<i32> {
    call(caller, HostFunction::RandomFill, length, |caller| {
        let memory = memory(caller)?;
        let gate = Arc::clone(&caller.data().gate);
        let bridge = Bridge { gate: &gate, memory };
        // Reading first checks the place before anything of that size is allocated for it.
        let mut bytes = bridge.read(&mut *caller, pointer, length)?;
        fill(&mut bytes)?;
        bridge.write(&mut *caller, pointer, &bytes)?;
        Ok(code::DONE)
    })
}

fn fill(bytes: &mut [u8]) -> Result<(), Refusal> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += getrandom(rest, GetRandomFlags::empty()).map_err(|error| {
            let detail = format!("the system gave no random bytes: {error}");
            Refusal::by(Layer::Capability, Class::HostInternal, detail)
        })?;
    }
    Ok(())
}

#[cfg(not(feature = "sql"))]
mod database {
    use super::{Caller, Host, HostFunction, call, code};

    pub(super) fn db_query(caller: Caller<'_, Host>, _: u32, length: u32, _: u32, _: u32) -> wasmtime::Result<i32> {
        call(caller, HostFunction::DbQuery, length, |_| Ok(code::QUERY_FAILED))
    }

    pub(super) fn db_execute(caller: Caller<'_, Host>, _: u32, length: u32) -> wasmtime::Result<i64> {
        call(caller, HostFunction::DbExecute, length, |_| {
            Ok(i64::from(code::QUERY_FAILED))
        })
    }
}

#[cfg(feature = "sql")]
mod database {
    //! SQL from inside a module: the same guard, the same plan, the same clock.

    use std::sync::Arc;

    use wasmtime::Caller;

    use super::{Host, HostFunction, Stop, call, code, memory};
    use crate::gate::beyond;
    use crate::layer::Layer;
    use crate::outcome::{Class, Refusal, SqlValue, StatementResult};
    use crate::screen;
    use crate::sql::{self, Cut, Glanced, Session};
    use crate::wasm::bridge::Bridge;
    use crate::wasm::handover::hand_over;

    /// Runs a query, and hands its rows over as JSON in memory that the guest's own `__wasm_allocate` returned:
    /// the pointer is written at `result`, the length at `result_length`.
    pub(super) fn db_query(
        caller: Caller<'_, Host>,
        query: u32,
        query_length: u32,
        result: u32,
        result_length: u32,
    ) -> wasmtime::Result<i32> {
        call(caller, HostFunction::DbQuery, query_length, |caller| {
            let text = read_sql(caller, query, query_length)?;
            let Some(results) = run(caller.data_mut(), &text)? else {
                return Ok(code::QUERY_FAILED);
            };
            let rows = results.last().map_or(&[][..], |last| last.rows.as_slice());
            hand_over(caller, as_json(rows).as_bytes(), result, result_length)
        })
    }

    /// Runs a script, and returns how many rows it changed.
    pub(super) fn db_execute(caller: Caller<'_, Host>, script: u32, script_length: u32) -> wasmtime::Result<i64> {
        call(caller, HostFunction::DbExecute, script_length, |caller| {
            let text = read_sql(caller, script, script_length)?;
            let Some(results) = run(caller.data_mut(), &text)? else {
                return Ok(i64::from(code::QUERY_FAILED));
            };
            let changes: u64 = results.iter().map(|result| result.changes).sum();
            Ok(i64::try_from(changes).unwrap_or(i64::MAX))
        })
    }

    fn read_sql(caller: &mut Caller<'_, Host>, pointer: u32, length: u32) -> Result<String, Stop> {
        let memory = memory(caller)?;
        let gate = Arc::clone(&caller.data().gate);
        let text = Bridge { gate: &gate, memory }.read_text(&mut *caller, pointer, length)?;
        if gate.has(Layer::Bridge) && text.contains('\0') {
            let detail = "SQL with a NUL in it";
            return Err(Refusal::by(Layer::Bridge, Class::ContractBadText, detail).into());
        }
        Ok(text)
    }

    /// The results, or `None` where the SQL failed by itself and the guest may go on.
    fn run(host: &mut Host, script: &str) -> Result<Option<Vec<StatementResult>>, Stop> {
        if host.gate.has(Layer::Screen)
            && let Some(refusal) = screen::statement_refusal(host.gate.plan())
                .or_else(|| screen::keyword_refusal(script.as_bytes(), host.gate.plan()))
        {
            return Err(Stop::Refused(refusal));
        }
        let session = match host.session.take() {
            Some(session) => session,
            None => Session::open(host.database.as_deref(), &host.gate, host.deadline).map_err(Stop::Unknown)?,
        };
        let mut results = Vec::new();
        let ended = session.run(&Glanced::of(script), &mut results);
        host.session = Some(session);
        match ended {
            Ok(Cut::No) => Ok(Some(results)),
            Ok(Cut::At(meter)) => Err(Stop::Refused(Refusal::by(
                Layer::Quota,
                Class::LimitRows,
                beyond(meter, host.gate.bound(meter)),
            ))),
            Err(sql::Stop::Refused(refusal)) if refusal.class.is_own_failure() => Ok(None),
            Err(sql::Stop::Refused(refusal)) => Err(Stop::Refused(refusal)),
            Err(sql::Stop::Unknown(error)) => Err(Stop::Unknown(error)),
        }
    }

    fn as_json(rows: &[Vec<SqlValue>]) -> String {
        let rows: serde_json::Value = rows
            .iter()
            .map(|row| row.iter().map(cell).collect::<serde_json::Value>())
            .collect();
        rows.to_string()
    }

    fn cell(value: &SqlValue) -> serde_json::Value {
        match value {
            SqlValue::Null => serde_json::Value::Null,
            SqlValue::Integer(number) => (*number).into(),
            SqlValue::Real(number) if number.is_finite() => (*number).into(),
            // JSON has no infinities, and null would be a lie.
            SqlValue::Real(number) => serde_json::json!({ "real": number.to_string() }),
            SqlValue::Text(text) => text.as_str().into(),
            SqlValue::Blob(bytes) => bytes.as_slice().into(),
        }
    }
}
