//! What happened to a guest, by class.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use stockade_policies::Meter;

use crate::layer::{Layer, Layers};
use crate::state::StateChanges;
use crate::trail::Trail;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What happened to a guest: one class per cause, so that other runtimes' errors map onto them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Class { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl Class {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in cases and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

classes! {
    /// The guest ran to its end.
    Completed = "completed",
    /// The guest ran, and its result was cut at the rows or bytes the plan allows.
    Truncated = "truncated",
    /// A host call whose capability the plan does not grant.
    DeniedCapability = "denied.capability",
    /// An SQL action, table or column that the plan does not grant.
    DeniedSqlAction = "denied.sql-action",
    /// An SQL function that the plan does not grant.
    DeniedFunction = "denied.function",
    /// An import that the plan does not grant or the runtime does not offer.
    DeniedImport = "denied.import",
    /// A signature that is wrong, of no publisher's key, or none at all.
    DeniedProvenance = "denied.provenance",
    /// The guest used up its wall-clock time.
    LimitTime = "limit.time",
    /// Linear memory, buffers allocated for answers, or SQLite heap beyond the bound.
    LimitMemory = "limit.memory",
    /// Table elements beyond the bound.
    LimitTable = "limit.table",
    /// Stack beyond the bound.
    LimitStack = "limit.stack",
    /// More operators than the bound.
    LimitFuel = "limit.fuel",
    /// Instances, memories or tables beyond the bound.
    LimitInstances = "limit.instances",
    /// More input than the plan or the guest's own capacity allows.
    LimitInput = "limit.input",
    /// More output, log or buffer than the plan or the guest's own capacity allows.
    LimitOutput = "limit.output",
    /// More host calls than the plan allows.
    LimitCalls = "limit.calls",
    /// Rows beyond the bound where a cut result cannot be handed over.
    LimitRows = "limit.rows",
    /// The database would outgrow its bound.
    LimitStorage = "limit.storage",
    /// A value, the keys or all of the namespace beyond the bound.
    LimitState = "limit.state",
    /// More metrics than the plan allows.
    LimitMetrics = "limit.metrics",
    /// A module that would cost a compiler too much: too many items, variables, blocks or loops, or too long a function.
    LimitModule = "limit.module",
    /// SQL text too long.
    LimitSqlLength = "limit.sql-length",
    /// A string, blob or row too long.
    LimitSqlValue = "limit.sql-value",
    /// An expression nested too deep.
    LimitSqlExpr = "limit.sql-expr",
    /// Too many terms in a compound select.
    LimitSqlCompound = "limit.sql-compound",
    /// A LIKE or GLOB pattern too long.
    LimitSqlPattern = "limit.sql-pattern",
    /// A parameter number too high.
    LimitSqlVariables = "limit.sql-variables",
    /// Too many arguments to a function.
    LimitSqlArguments = "limit.sql-arguments",
    /// Too many columns.
    LimitSqlColumns = "limit.sql-columns",
    /// A statement whose program is too long.
    LimitSqlProgram = "limit.sql-program",
    /// Too many attached databases.
    LimitSqlAttached = "limit.sql-attached",
    /// Triggers nested too deep, or too many steps in one.
    LimitSqlTrigger = "limit.sql-trigger",
    /// The parser's stack would grow too deep.
    LimitSqlParser = "limit.sql-parser",
    /// Too many objects in the schema.
    LimitSqlSchema = "limit.sql-schema",
    /// A function whose time grows with the product of what it is given, given too much.
    LimitSqlFunction = "limit.sql-function",
    /// An export that the contract requires is not there.
    ContractMissingExport = "contract.missing-export",
    /// An export has another kind or type than the contract says.
    ContractBadType = "contract.bad-type",
    /// A pointer or length outside the guest's memory, or a number at an address that no number has.
    ContractBadPointer = "contract.bad-pointer",
    /// A buffer that was given back and not held, or that the guest's allocator gave out while it was held.
    ContractAllocation = "contract.allocation",
    /// Text that is not UTF-8.
    ContractBadText = "contract.bad-text",
    /// A module that does not parse or validate.
    ModuleMalformed = "module.malformed",
    /// A guest larger than the plan allows.
    GuestTooLarge = "guest.too-large",
    /// Bytes that can be no guest: a NUL in SQL, text that is not UTF-8.
    GuestMalformed = "guest.malformed",
    /// The guest ended itself: unreachable, division by zero, an out-of-bounds access.
    Trap = "trap",
    /// SQL that does not compile.
    SqlSyntax = "sql.syntax",
    /// SQL that compiled and failed: a constraint, a read-only database, `RAISE`.
    SqlError = "sql.error",
    /// The process that ran the guest was lost, or the guard itself failed: the guest is refused.
    HostInternal = "host.internal",
}

impl Class {
    /// Whether the guest ran to its end, in full or in part.
    #[must_use]
    pub const fn is_completed(self) -> bool {
        matches!(self, Self::Completed | Self::Truncated)
    }

    /// Whether the guest failed by itself: nothing was refused, nothing ran out.
    #[must_use]
    pub const fn is_own_failure(self) -> bool {
        matches!(self, Self::Trap | Self::SqlSyntax | Self::SqlError)
    }

    /// The meters whose bounds end a guest with this class; the bound that did is one of them.
    #[must_use]
    pub const fn meters(self) -> &'static [Meter] {
        match self {
            Self::LimitTime => &[Meter::Elapse, Meter::Compile],
            Self::LimitMemory => &[
                Meter::GrowMemory,
                Meter::Allocate,
                Meter::HoldAllocations,
                Meter::GrowHeap,
            ],
            Self::LimitTable => &[Meter::GrowTable],
            Self::LimitStack => &[Meter::GrowStack],
            Self::LimitFuel => &[Meter::BurnFuel],
            Self::LimitInstances => &[Meter::AddInstance, Meter::AddMemory, Meter::AddTable],
            Self::LimitInput => &[Meter::TakeInput],
            Self::LimitOutput => &[Meter::ReturnOutput, Meter::GrowLog, Meter::PassBuffer],
            Self::LimitCalls => &[Meter::CallHost],
            Self::LimitRows | Self::Truncated => &[Meter::ReturnRows, Meter::ReturnBytes],
            Self::LimitStorage => &[Meter::GrowDatabase],
            Self::LimitState => &[Meter::StoreValue, Meter::AddKey, Meter::GrowState],
            Self::LimitMetrics => &[Meter::AddMetric],
            Self::LimitModule => &[
                Meter::WasmItem,
                Meter::WasmFunctionLength,
                Meter::WasmLocal,
                Meter::WasmBlock,
                Meter::WasmLoop,
            ],
            Self::LimitSqlLength => &[Meter::SqlSqlLength],
            Self::LimitSqlValue => &[Meter::SqlLength],
            Self::LimitSqlExpr => &[Meter::SqlExprDepth],
            Self::LimitSqlCompound => &[Meter::SqlCompoundSelect],
            Self::LimitSqlPattern => &[Meter::SqlLikePatternLength],
            Self::LimitSqlVariables => &[Meter::SqlVariableNumber],
            Self::LimitSqlArguments => &[Meter::SqlFunctionArg],
            Self::LimitSqlColumns => &[Meter::SqlColumn],
            Self::LimitSqlProgram => &[Meter::SqlVdbeOp],
            Self::LimitSqlAttached => &[Meter::SqlAttached],
            Self::LimitSqlTrigger => &[Meter::SqlTriggerDepth, Meter::SqlTriggerSteps],
            Self::LimitSqlParser => &[Meter::SqlParserDepth],
            Self::LimitSqlSchema => &[Meter::SqlSchema],
            Self::LimitSqlFunction => &[Meter::SqlFunctionSteps],
            Self::GuestTooLarge => &[Meter::LoadGuest],
            _ => &[],
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a guest was stopped, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The cause.
    pub class: Class,
    /// The layer that stopped it; `None` when the guest failed by itself.
    pub layer: Option<Layer>,
    /// For people. Never parsed, and may quote the guest.
    pub detail: String,
}

impl Refusal {
    /// A refusal by `layer`.
    pub fn by(layer: Layer, class: Class, detail: impl Into<String>) -> Self {
        Self {
            class,
            layer: Some(layer),
            detail: detail.into(),
        }
    }

    /// A guest that failed by itself.
    pub fn own_failure(class: Class, detail: impl Into<String>) -> Self {
        Self {
            class,
            layer: None,
            detail: detail.into(),
        }
    }
}

/// One value of an SQL result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// Text that is valid UTF-8.
    Text(String),
    /// Bytes, including text that is not valid UTF-8.
    Blob(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// The result of one SQL statement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StatementResult {
    /// Names of the columns; empty for a statement that returns no rows.
    pub columns: Vec<String>,
    /// The rows, in order.
    pub rows: Vec<Vec<SqlValue>>,
    /// Rows inserted, updated or deleted.
    pub changes: u64,
}

/// A number that a WebAssembly export returned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum WasmValue {
    /// A 32-bit integer, signed.
    I32(i32),
    /// A 64-bit integer, signed.
    I64(i64),
    /// A float.
    F32(f32),
    /// A double.
    F64(f64),
    /// A vector or a reference: shown by kind only.
    Opaque,
}

/// What a guest handed back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Product {
    /// Results of the SQL statements, in order.
    pub statements: Vec<StatementResult>,
    /// Values returned by the invoked export.
    pub results: Vec<WasmValue>,
    /// Bytes handed over through the input/output contract.
    #[serde(with = "serde_bytes")]
    pub output: Vec<u8>,
    /// Lines written through the log capability.
    pub log: Vec<String>,
    /// Sums of the metrics, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, i64>,
    /// What was changed in the namespace. Nothing unless the guest completed: who was stopped half-way changes nothing.
    #[serde(default)]
    pub state: StateChanges,
}

/// Whether a module was in the module cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheUse {
    /// It was, and what was compiled before was loaded.
    Hit,
    /// It was not, and was compiled; where it did not get so far, it was refused before.
    Miss,
}

impl fmt::Display for CacheUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        })
    }
}

/// What happened to a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class.
    pub class: Class,
    /// The layer that stopped the guest; `None` when it completed or failed by itself.
    pub layer: Option<Layer>,
    /// For people. Never parsed, and may quote the guest.
    pub detail: String,
    /// Wall-clock time from the first guest byte executed to the end, in microseconds.
    pub wall_us: u64,
    /// The largest resident set of the process that ran the guest, in bytes; 0 where it was not measured.
    pub peak_rss_bytes: u64,
    /// What the guest handed back; kept when it was stopped half-way, except in `host.internal`.
    pub product: Product,
    /// What was asked, decided and refused on the way.
    pub trail: Trail,
    /// Layers that were not in force, because of how or where the guest ran.
    #[serde(default)]
    pub absent: Layers,
    /// Whether the module was in the module cache; `None` where that was not asked.
    #[serde(default)]
    pub module_cache: Option<CacheUse>,
}

impl Outcome {
    /// The outcome of a guest that was refused before it ran.
    #[must_use]
    pub fn refused(refusal: Refusal, mut trail: Trail) -> Self {
        trail.refused(&refusal);
        Self {
            class: refusal.class,
            layer: refusal.layer,
            detail: refusal.detail,
            wall_us: 0,
            peak_rss_bytes: 0,
            product: Product::default(),
            trail,
            absent: Layers::NONE,
            module_cache: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_names_its_meters_and_every_meter_has_its_class() {
        for &class in Class::ALL {
            let is_limit =
                class.name().starts_with("limit.") || class == Class::GuestTooLarge || class == Class::Truncated;
            assert_eq!(!class.meters().is_empty(), is_limit, "{class}");
        }
        let witnessed: Vec<Meter> = Class::ALL.iter().flat_map(|class| class.meters()).copied().collect();
        let silent: Vec<&Meter> = Meter::ALL.iter().filter(|meter| !witnessed.contains(meter)).collect();
        // Auxiliary threads are simply never started: nothing can be observed to stop.
        assert_eq!(silent, [&Meter::SqlWorkerThreads]);
    }

    #[test]
    fn class_names_are_unique_and_round_trip() {
        for &class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
            assert_eq!(
                serde_json::to_value(class).unwrap(),
                serde_json::Value::from(class.name())
            );
        }
        assert_eq!(Class::from_name("completely"), None);
    }
}
