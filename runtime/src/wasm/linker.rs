//! What a module may import: only what the plan grants is there to be linked.

use std::sync::Arc;

use stockade_policies::{Action, Capability, Meter, Resource};
use wasmtime::{Engine, Linker, Module};

use super::host::{self, Host};
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// The module name of every host function.
pub(super) const NAMESPACE: &str = "stockade";

/// A function that the host offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostFunction {
    Release,
    Log,
    ClockNowMs,
    RandomFill,
    MetricAdd,
    EnvGet,
    DbQuery,
    DbExecute,
    StateGet,
    StateSet,
    StateRemove,
}

/// What calling a host function takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Needs {
    /// This capability, on this.
    Grant(Action, Resource),
    /// This capability, on what the guest names when it calls.
    GrantByName(Action),
    /// That the guest may be given buffers: who is given none has none to give back.
    Buffers,
}

impl HostFunction {
    pub(super) const ALL: [Self; 11] = [
        Self::Release,
        Self::Log,
        Self::ClockNowMs,
        Self::RandomFill,
        Self::MetricAdd,
        Self::EnvGet,
        Self::DbQuery,
        Self::DbExecute,
        Self::StateGet,
        Self::StateSet,
        Self::StateRemove,
    ];

    /// The import's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Log => "log",
            Self::ClockNowMs => "clock_now_ms",
            Self::RandomFill => "random_fill",
            Self::MetricAdd => "metric_add",
            Self::EnvGet => "env_get",
            Self::DbQuery => "db_query",
            Self::DbExecute => "db_execute",
            Self::StateGet => "state_get",
            Self::StateSet => "state_set",
            Self::StateRemove => "state_remove",
        }
    }

    /// The one that is imported by these names.
    fn imported(module: &str, name: &str) -> Option<Self> {
        let named = || Self::ALL.into_iter().find(|function| function.name() == name);
        (module == NAMESPACE).then(named).flatten()
    }

    /// The id that policies and trails know it by: `stockade#log`.
    pub(super) fn id(self) -> String {
        format!("{NAMESPACE}#{}", self.name())
    }

    /// What calling it takes of a guest of this namespace.
    pub(super) fn needs(self, namespace: &str) -> Needs {
        let of_function = |capability| Needs::Grant(Action::Host(capability), Resource::HostFunction(self.id()));
        let of_database = |capability| Needs::Grant(Action::Host(capability), Resource::database("main"));
        let of_namespace = |capability| Needs::Grant(Action::Host(capability), Resource::namespace(namespace));
        match self {
            Self::Release => Needs::Buffers,
            Self::Log => of_function(Capability::WriteLog),
            Self::ClockNowMs => of_function(Capability::ReadClock),
            Self::RandomFill => of_function(Capability::ReadRandom),
            Self::MetricAdd => of_function(Capability::RecordMetric),
            Self::EnvGet => Needs::GrantByName(Action::Host(Capability::ReadEnvironment)),
            Self::DbQuery => of_database(Capability::QueryDatabase),
            Self::DbExecute => of_database(Capability::ExecuteDatabase),
            Self::StateGet => of_namespace(Capability::ReadState),
            Self::StateSet | Self::StateRemove => of_namespace(Capability::WriteState),
        }
    }

    /// Whether the plan has it linked.
    fn is_granted(self, gate: &Gate, namespace: &str) -> bool {
        match self.needs(namespace) {
            Needs::Grant(action, resource) => gate.would_allow(action, &resource, &[]),
            Needs::GrantByName(action) => gate.plan().bit(action) != Some(false),
            Needs::Buffers => gate.bound(Meter::Allocate).permits(1),
        }
    }
}

/// A linker that holds what the module imports and the plan grants, or why the module must not be linked at all.
pub(super) fn linker(
    engine: &Engine,
    module: &Module,
    gate: &Arc<Gate>,
    namespace: &str,
) -> wasmtime::Result<Result<Linker<Host>, Refusal>> {
    let mut linker = Linker::new(engine);
    let mut linked = Vec::new();
    for import in module.imports() {
        let function = HostFunction::imported(import.module(), import.name());
        // A module may import a function more than once.
        if function.is_some_and(|function| linked.contains(&function)) {
            continue;
        }
        let granted = function.filter(|function| !gate.has(Layer::Imports) || function.is_granted(gate, namespace));
        let Some(function) = granted else {
            return Ok(Err(denial(import.module(), import.name())));
        };
        host::define(&mut linker, function)?;
        linked.push(function);
    }
    // The names are right; wasmtime compares the types, and what was meant by another one nobody offers.
    Ok(match linker.instantiate_pre(module) {
        Ok(_) => Ok(linker),
        Err(error) => Err(Refusal::by(Layer::Imports, Class::DeniedImport, format!("{error:#}"))),
    })
}

fn denial(module: &str, name: &str) -> Refusal {
    let why = if HostFunction::imported(module, name).is_some() {
        "is not granted"
    } else {
        "is not offered to any guest"
    };
    let detail = format!("import `{module}#{name}` {why}");
    Refusal::by(Layer::Imports, Class::DeniedImport, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_know_every_host_function_by_its_import() {
        let asked: Vec<String> = HostFunction::ALL
            .iter()
            .filter_map(|function| match function.needs("main") {
                Needs::Grant(_, Resource::HostFunction(id)) => Some(id),
                _ => None,
            })
            .collect();
        let known: Vec<&str> = Capability::ALL
            .iter()
            .filter_map(|capability| capability.host_function())
            .collect();
        assert_eq!(asked, known);
    }
}
