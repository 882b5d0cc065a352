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
    DbQuery,
    DbExecute,
}

impl HostFunction {
    pub(super) const ALL: [Self; 6] = [
        Self::Release,
        Self::Log,
        Self::ClockNowMs,
        Self::RandomFill,
        Self::DbQuery,
        Self::DbExecute,
    ];

    /// The import's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Log => "log",
            Self::ClockNowMs => "clock_now_ms",
            Self::RandomFill => "random_fill",
            Self::DbQuery => "db_query",
            Self::DbExecute => "db_execute",
        }
    }

    /// The id that policies and trails know it by: `stockade#log`.
    pub(super) fn id(self) -> String {
        format!("{NAMESPACE}#{}", self.name())
    }

    /// The capability that calling it takes, and on what. Giving back what one was given takes none.
    pub(super) fn needs(self) -> Option<(Action, Resource)> {
        let of_function = |capability| (Action::Host(capability), Resource::HostFunction(self.id()));
        let of_database = |capability| (Action::Host(capability), Resource::database("main"));
        Some(match self {
            Self::Release => return None,
            Self::Log => of_function(Capability::WriteLog),
            Self::ClockNowMs => of_function(Capability::ReadClock),
            Self::RandomFill => of_function(Capability::ReadRandom),
            Self::DbQuery => of_database(Capability::QueryDatabase),
            Self::DbExecute => of_database(Capability::ExecuteDatabase),
        })
    }

    /// Whether the plan has it linked.
    fn is_granted(self, gate: &Gate) -> bool {
        match self.needs() {
            Some((action, resource)) => gate.would_allow(action, &resource, &[]),
            // Who is given no buffer has none to give back.
            None => gate.bound(Meter::Allocate).permits(1),
        }
    }
}

/// A linker that holds what the plan grants and nothing else, or why the module must not be linked at all.
pub(super) fn linker(
    engine: &Engine,
    module: &Module,
    gate: &Arc<Gate>,
) -> wasmtime::Result<Result<Linker<Host>, Refusal>> {
    let mut linker = Linker::new(engine);
    let mut offered = Vec::new();
    for function in HostFunction::ALL {
        if !gate.has(Layer::Imports) || function.is_granted(gate) {
            host::define(&mut linker, function)?;
            offered.push(function.name());
        }
    }
    let missing = module
        .imports()
        .find(|import| import.module() != NAMESPACE || !offered.contains(&import.name()));
    Ok(match missing {
        Some(import) => Err(denial(import.module(), import.name())),
        // The names are right; wasmtime compares the types, and what was meant by another one nobody offers.
        None => match linker.instantiate_pre(module) {
            Ok(_) => Ok(linker),
            Err(error) => Err(Refusal::by(Layer::Imports, Class::DeniedImport, format!("{error:#}"))),
        },
    })
}

fn denial(module: &str, name: &str) -> Refusal {
    let exists = module == NAMESPACE && HostFunction::ALL.iter().any(|function| function.name() == name);
    let why = if exists {
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
            .filter_map(|function| match function.needs() {
                Some((_, Resource::HostFunction(id))) => Some(id),
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
