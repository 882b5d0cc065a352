//! The words of the schema that this runtime understands, as types.
//!
//! Every action that carries no `@reserved` in `schema.cedarschema` is one variant here, and the other way round; a test
//! compares the two lists. Nothing here parses Cedar: a process that only runs a plan needs these tables and no schema.

use serde::{Deserialize, Serialize};

pub use crate::resource::{Resource, ResourceKind};

/// What an amount is counted in. Its name is also the one attribute of the meter's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Octets.
    Bytes,
    /// Thousandths of a second of wall-clock time.
    Millis,
    /// Plain number of things.
    Count,
    /// Slots of WebAssembly tables.
    Elements,
    /// Levels of nesting.
    Depth,
    /// Rows of a result.
    Rows,
    /// Single steps: instructions of a compiled statement or of a module's run, comparisons of a function.
    Ops,
}

impl Unit {
    /// Every unit.
    pub const ALL: &'static [Self] = &[
        Self::Bytes,
        Self::Millis,
        Self::Count,
        Self::Elements,
        Self::Depth,
        Self::Rows,
        Self::Ops,
    ];

    /// The name in the schema: `context.bytes`, `context.millis`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Millis => "millis",
            Self::Count => "count",
            Self::Elements => "elements",
            Self::Depth => "depth",
            Self::Rows => "rows",
            Self::Ops => "ops",
        }
    }
}

/// One table row per meter: variant, action id, unit, the meter entity it hangs on, and what is counted.
macro_rules! meters {
    ($($variant:ident $action:literal $unit:ident $resource:literal $doc:literal)*) => {
        /// Everything countable that the runtime enforces. The amount is always the total that the operation would reach.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Meter {
            $(
                #[doc = $doc]
                #[serde(rename = $action)]
                $variant,
            )*
        }

        impl Meter {
            /// Every meter, in the order of their indices in a plan.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The id of the schema action: `growMemory`.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action),* }
            }

            /// What the meter counts in.
            #[must_use]
            pub const fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit),* }
            }

            /// The id of the `Meter` entity that a policy names as the resource: `store`.
            #[must_use]
            pub const fn resource(self) -> &'static str {
                match self { $(Self::$variant => $resource),* }
            }
        }
    };
}

meters! {
    GrowMemory "growMemory" Bytes "store" "Linear memory of the store, all memories together."
    GrowTable "growTable" Elements "store" "Table elements of the store, all tables together."
    AddInstance "addInstance" Count "store" "Instances in the store."
    AddMemory "addMemory" Count "store" "Linear memories in the store."
    AddTable "addTable" Count "store" "Tables in the store."
    GrowStack "growStack" Bytes "store" "The guest's call stack."
    BurnFuel "burnFuel" Ops "store" "WebAssembly operators of the run, and bytes and elements of its bulk operations. Not counted where the clock stops the guest before."
    Elapse "elapse" Millis "guest" "Wall-clock time of the run, host calls included."
    Compile "compile" Millis "guest" "Time to validate and compile a module."
    WasmItem "wasmItem" Count "guest" "Types, imports, functions, tables, memories, globals, exports and segments of a module, together."
    WasmFunctionLength "wasmFunctionLength" Bytes "guest" "One function of a module, its variables included."
    WasmLocal "wasmLocal" Count "guest" "Variables of one function, without its parameters."
    WasmBlock "wasmBlock" Count "guest" "Blocks, loops, ifs and conditional branches of one function."
    WasmLoop "wasmLoop" Count "guest" "Loops of a module, all functions together."
    LoadGuest "loadGuest" Bytes "guest" "Size of the module or script."
    TakeInput "takeInput" Bytes "guest" "Input handed to the guest."
    ReturnOutput "returnOutput" Bytes "guest" "Output taken from the guest."
    GrowLog "growLog" Bytes "guest" "Everything the guest logs in one run."
    AddMetric "addMetric" Count "guest" "Metrics of one run, by their names."
    CallHost "callHost" Count "guest" "Host calls in one run."
    PassBuffer "passBuffer" Bytes "guest" "One buffer that crosses between guest and host."
    Allocate "allocate" Bytes "store" "One buffer that the host has the guest allocate."
    HoldAllocations "holdAllocations" Bytes "store" "All buffers that the host had the guest allocate and that are not given back."
    StoreValue "storeValue" Bytes "guest" "One value of the guest's namespace."
    AddKey "addKey" Count "guest" "Keys of the guest's namespace."
    GrowState "growState" Bytes "guest" "Keys and values of the guest's namespace, together."
    GrowHeap "growHeap" Bytes "connection" "Memory that SQLite allocates."
    GrowDatabase "growDatabase" Bytes "connection" "The main database file."
    ReturnRows "returnRows" Rows "guest" "Rows of the whole script's result."
    ReturnBytes "returnBytes" Bytes "guest" "Bytes of the whole script's result."
    SqlLength "sqlLength" Bytes "connection" "One string, blob or row: `SQLITE_LIMIT_LENGTH`."
    SqlSqlLength "sqlSqlLength" Bytes "connection" "The text given to SQLite at once, a statement and what follows it in its script: `SQLITE_LIMIT_SQL_LENGTH`."
    SqlColumn "sqlColumn" Count "connection" "Columns of a table or result: `SQLITE_LIMIT_COLUMN`."
    SqlExprDepth "sqlExprDepth" Depth "connection" "Depth of an expression: `SQLITE_LIMIT_EXPR_DEPTH`."
    SqlCompoundSelect "sqlCompoundSelect" Count "connection" "Terms of a compound select: `SQLITE_LIMIT_COMPOUND_SELECT`."
    SqlVdbeOp "sqlVdbeOp" Ops "connection" "Length of a compiled statement: `SQLITE_LIMIT_VDBE_OP`."
    SqlFunctionArg "sqlFunctionArg" Count "connection" "Arguments of a function: `SQLITE_LIMIT_FUNCTION_ARG`."
    SqlAttached "sqlAttached" Count "connection" "Attached databases: `SQLITE_LIMIT_ATTACHED`."
    SqlLikePatternLength "sqlLikePatternLength" Bytes "connection" "A LIKE or GLOB pattern: `SQLITE_LIMIT_LIKE_PATTERN_LENGTH`."
    SqlVariableNumber "sqlVariableNumber" Count "connection" "Highest parameter number: `SQLITE_LIMIT_VARIABLE_NUMBER`."
    SqlTriggerDepth "sqlTriggerDepth" Depth "connection" "Recursion of triggers: `SQLITE_LIMIT_TRIGGER_DEPTH`."
    SqlWorkerThreads "sqlWorkerThreads" Count "connection" "Helper threads of one statement: `SQLITE_LIMIT_WORKER_THREADS`."
    SqlParserDepth "sqlParserDepth" Depth "connection" "The parser's stack: `SQLITE_LIMIT_PARSER_DEPTH`."
    SqlSchema "sqlSchema" Count "connection" "Tables, indexes, triggers and views: `SQLITE_LIMIT_SCHEMA`."
    SqlTriggerSteps "sqlTriggerSteps" Count "connection" "Statements in one trigger: `SQLITE_LIMIT_TRIGGER_STEPS`."
    SqlFunctionSteps "sqlFunctionSteps" Ops "connection" "One call of a function that compares each byte of one argument with each of another: both sizes multiplied, and sixteen times that for trim."
}

impl Meter {
    /// The meter whose action has this id.
    #[must_use]
    pub fn from_action(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|meter| meter.action() == id)
    }

    /// Where a plan keeps this meter; `ALL` lists the meters in this order.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// The type of one attribute of a question's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A string.
    Text,
    /// A 64-bit signed integer.
    Long,
}

/// One attribute that a question may or must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in `context`.
    pub name: &'static str,
    /// Its type.
    pub kind: ValueKind,
    /// A question without it is denied, because a policy may rely on it.
    pub required: bool,
}

const fn text(name: &'static str, required: bool) -> Attribute {
    Attribute {
        name,
        kind: ValueKind::Text,
        required,
    }
}

const DATABASE: Attribute = text("database", false);
const TRIGGER: Attribute = text("trigger", false);
const PLAIN: &[Attribute] = &[DATABASE, TRIGGER];
const INDEX: &[Attribute] = &[DATABASE, TRIGGER, text("index", true)];
const NAME: &[Attribute] = &[DATABASE, TRIGGER, text("name", true)];
const MODULE: &[Attribute] = &[DATABASE, TRIGGER, text("module", true)];
const OPERATION: &[Attribute] = &[DATABASE, TRIGGER, text("operation", true)];
const SAVEPOINT: &[Attribute] = &[DATABASE, TRIGGER, text("operation", true), text("name", true)];
const ARGUMENT: &[Attribute] = &[DATABASE, TRIGGER, text("argument", false)];
const FILE: &[Attribute] = &[DATABASE, TRIGGER, text("file", true)];
const NOTHING: &[Attribute] = &[];

/// One table row per SQLite authorizer code: variant, code, action id, type of the resource, context.
macro_rules! sql_actions {
    ($($variant:ident $code:literal $action:literal $resource:ident $context:ident $doc:literal)*) => {
        /// The 33 codes that SQLite's authorizer asks about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum SqlAction {
            $(
                #[doc = $doc]
                #[serde(rename = $action)]
                $variant,
            )*
        }

        impl SqlAction {
            /// Every code, in SQLite's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The action of SQLite's code. SQLite may add codes in any release; one that has no name here cannot be granted.
            #[must_use]
            pub const fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// SQLite's number for it.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(Self::$variant => $code),* }
            }

            /// The id of the schema action: `createIndex`.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action),* }
            }

            /// What kind of resource the action is asked about.
            #[must_use]
            pub const fn resource(self) -> ResourceKind {
                match self { $(Self::$variant => ResourceKind::$resource),* }
            }

            /// The attributes a question about it carries.
            #[must_use]
            pub const fn context(self) -> &'static [Attribute] {
                match self { $(Self::$variant => $context),* }
            }
        }
    };
}

sql_actions! {
    CreateIndex 1 "createIndex" Table INDEX "Create an index on a table."
    CreateTable 2 "createTable" Table PLAIN "Create a table."
    CreateTempIndex 3 "createTempIndex" Table INDEX "Create an index on a temporary table."
    CreateTempTable 4 "createTempTable" Table PLAIN "Create a temporary table."
    CreateTempTrigger 5 "createTempTrigger" Table NAME "Create a temporary trigger on a table."
    CreateTempView 6 "createTempView" Table PLAIN "Create a temporary view; the view is the table."
    CreateTrigger 7 "createTrigger" Table NAME "Create a trigger on a table."
    CreateView 8 "createView" Table PLAIN "Create a view; the view is the table."
    Delete 9 "delete" Table PLAIN "Delete rows of a table."
    DropIndex 10 "dropIndex" Table INDEX "Drop an index of a table."
    DropTable 11 "dropTable" Table PLAIN "Drop a table."
    DropTempIndex 12 "dropTempIndex" Table INDEX "Drop an index of a temporary table."
    DropTempTable 13 "dropTempTable" Table PLAIN "Drop a temporary table."
    DropTempTrigger 14 "dropTempTrigger" Table NAME "Drop a temporary trigger of a table."
    DropTempView 15 "dropTempView" Table PLAIN "Drop a temporary view."
    DropTrigger 16 "dropTrigger" Table NAME "Drop a trigger of a table."
    DropView 17 "dropView" Table PLAIN "Drop a view."
    Insert 18 "insert" Table PLAIN "Insert rows into a table."
    Pragma 19 "pragma" Pragma ARGUMENT "Run a pragma."
    Read 20 "read" Column PLAIN "Read a column."
    Select 21 "select" Database PLAIN "Run a select."
    Transaction 22 "transaction" Database OPERATION "Begin, commit or roll back."
    Update 23 "update" Column PLAIN "Update a column."
    Attach 24 "attach" Path FILE "Attach a database file."
    Detach 25 "detach" Database PLAIN "Detach a database."
    AlterTable 26 "alterTable" Table PLAIN "Alter a table."
    Reindex 27 "reindex" Database INDEX "Rebuild an index."
    Analyze 28 "analyze" Table PLAIN "Gather statistics about a table."
    CreateVtable 29 "createVtable" Table MODULE "Create a virtual table."
    DropVtable 30 "dropVtable" Table MODULE "Drop a virtual table."
    CallFunction 31 "callFunction" SqlFunction PLAIN "Call an SQL function."
    Savepoint 32 "savepoint" Database SAVEPOINT "Begin, release or roll back to a savepoint."
    Recursive 33 "recursive" Database PLAIN "Run a recursive common table expression."
}

/// The host capabilities that the runtime implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// Write a line to the guest's log.
    WriteLog,
    /// Read the wall clock.
    ReadClock,
    /// Read random bytes.
    ReadRandom,
    /// Run a statement that returns rows.
    QueryDatabase,
    /// Run a statement for its effect.
    ExecuteDatabase,
    /// Add to a metric.
    RecordMetric,
    /// Read a variable of the environment.
    ReadEnvironment,
    /// Read a value of the namespace.
    ReadState,
    /// Write or remove a value of the namespace.
    WriteState,
}

impl Capability {
    /// Every capability.
    pub const ALL: &'static [Self] = &[
        Self::WriteLog,
        Self::ReadClock,
        Self::ReadRandom,
        Self::QueryDatabase,
        Self::ExecuteDatabase,
        Self::RecordMetric,
        Self::ReadEnvironment,
        Self::ReadState,
        Self::WriteState,
    ];

    /// The id of the schema action: `writeLog`.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::WriteLog => "writeLog",
            Self::ReadClock => "readClock",
            Self::ReadRandom => "readRandom",
            Self::QueryDatabase => "queryDatabase",
            Self::ExecuteDatabase => "executeDatabase",
            Self::RecordMetric => "recordMetric",
            Self::ReadEnvironment => "readEnvironment",
            Self::ReadState => "readState",
            Self::WriteState => "writeState",
        }
    }

    /// The id of the one host function that it is asked about: `stockade#log`. Nothing where it is asked about something else.
    #[must_use]
    pub const fn host_function(self) -> Option<&'static str> {
        match self {
            Self::WriteLog => Some("stockade#log"),
            Self::ReadClock => Some("stockade#clock_now_ms"),
            Self::ReadRandom => Some("stockade#random_fill"),
            Self::RecordMetric => Some("stockade#metric_add"),
            Self::QueryDatabase
            | Self::ExecuteDatabase
            | Self::ReadEnvironment
            | Self::ReadState
            | Self::WriteState => None,
        }
    }

    /// What kind of resource the capability is asked about.
    #[must_use]
    pub const fn resource(self) -> ResourceKind {
        match self {
            Self::WriteLog | Self::ReadClock | Self::ReadRandom | Self::RecordMetric => ResourceKind::HostFunction,
            Self::QueryDatabase | Self::ExecuteDatabase => ResourceKind::Database,
            Self::ReadEnvironment => ResourceKind::Variable,
            Self::ReadState | Self::WriteState => ResourceKind::Namespace,
        }
    }
}

/// Anything but a meter that a guest may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Asked by SQLite's authorizer.
    Sql(SqlAction),
    /// Asked by a host function.
    Host(Capability),
}

impl Action {
    /// Every action, in the order of their indices in a plan.
    pub fn all() -> impl Iterator<Item = Self> {
        SqlAction::ALL
            .iter()
            .copied()
            .map(Self::Sql)
            .chain(Capability::ALL.iter().copied().map(Self::Host))
    }

    /// The id of the schema action.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Sql(action) => action.action(),
            Self::Host(capability) => capability.action(),
        }
    }

    /// The action with this id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::all().find(|action| action.id() == id)
    }

    /// What kind of resource the action is asked about. A question about any other kind is denied.
    #[must_use]
    pub const fn resource(self) -> ResourceKind {
        match self {
            Self::Sql(action) => action.resource(),
            Self::Host(capability) => capability.resource(),
        }
    }

    /// The attributes a question about it carries. A question with others, or without a required one, is denied.
    #[must_use]
    pub const fn context(self) -> &'static [Attribute] {
        match self {
            Self::Sql(action) => action.context(),
            Self::Host(_) => NOTHING,
        }
    }

    /// Where a plan keeps this action; `all` lists the actions in this order.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Sql(action) => action as usize,
            Self::Host(capability) => SqlAction::ALL.len() + capability as usize,
        }
    }
}

/// One attribute's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A string.
    Text(String),
    /// A 64-bit signed integer.
    Long(i64),
}

impl Value {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::Text(_) => ValueKind::Text,
            Self::Long(_) => ValueKind::Long,
        }
    }
}

/// May this be done to that, now?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What would be done.
    pub action: Action,
    /// To what.
    pub resource: &'a Resource,
    /// What else is known: see [`Action::context`].
    pub context: &'a [(&'static str, Value)],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_lists() {
        for (index, meter) in Meter::ALL.iter().enumerate() {
            assert_eq!(meter.index(), index);
        }
        for (index, action) in Action::all().enumerate() {
            assert_eq!(action.index(), index, "{}", action.id());
        }
    }

    #[test]
    fn serialised_names_are_the_action_ids() {
        let name = |json: serde_json::Value| json.as_str().map(str::to_owned);
        for meter in Meter::ALL {
            assert_eq!(
                serde_json::to_value(meter).ok().and_then(name).as_deref(),
                Some(meter.action())
            );
        }
        for action in SqlAction::ALL {
            assert_eq!(
                serde_json::to_value(action).ok().and_then(name).as_deref(),
                Some(action.action())
            );
        }
        for capability in Capability::ALL {
            assert_eq!(
                serde_json::to_value(capability).ok().and_then(name).as_deref(),
                Some(capability.action())
            );
        }
    }

    #[test]
    fn codes_go_there_and_back() {
        for action in SqlAction::ALL {
            assert_eq!(SqlAction::from_code(action.code()), Some(*action));
        }
        assert_eq!(SqlAction::from_code(0), None);
        assert_eq!(SqlAction::from_code(34), None);
    }
}
