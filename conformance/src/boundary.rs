//! Each meter at its bound and one past it.
//!
//! A pair follows from the plan: its policies lower one meter of a profile, the plan says what the bound is, and two
//! guests are written that use just as much and one more. Some meters cannot be hit to the byte, because SQLite, wasmtime or
//! the clock decide what is used: [`Pair::is_exact`] says which.

mod host_functions;
mod module_runs;

use std::sync::Arc;

use stockade_policies::{Bound, Meter};
use stockade_runtime::{Class, Layer, Outcome, Request};

use crate::made::Measures;
use crate::replay::TrialError;
use crate::subject::{Laboratory, SubjectError};

/// A meter, a bound for it, and how a guest uses as much of it as one likes.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The meter.
    pub meter: Meter,
    /// The bound that the plan is given.
    pub bound: u64,
    uses: Uses,
    /// What ends a guest that uses more.
    stops: (Class, Layer),
    /// Used in place of the bound, and of one past it, where neither can be hit.
    around: Option<(u64, u64)>,
}

/// A guest that uses so much of a meter.
#[derive(Debug, Clone, Copy)]
enum Uses {
    Script(fn(u64) -> String),
    Module(fn(u32) -> Measures),
    Text(fn(u64) -> String),
    Input(fn(u64) -> (String, Vec<u8>)),
    Compiled(fn(u64) -> Vec<u8>),
}

impl Uses {
    fn request(self, amount: u64) -> Request {
        match self {
            Self::Script(script) => Request::sql(PROFILE, script(amount)),
            Self::Module(measures) => {
                let amount = u32::try_from(amount).unwrap_or(u32::MAX);
                Request::wasm(PROFILE, measures(amount).module())
            }
            Self::Text(text) => Request::wasm(PROFILE, text(amount)),
            Self::Compiled(module) => Request::wasm(PROFILE, module(amount)),
            Self::Input(module) => {
                let (text, input) = module(amount);
                let mut request = Request::wasm(PROFILE, text);
                request.input = input;
                request
            }
        }
    }
}

/// On which side of the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// As much as is allowed.
    At,
    /// One more.
    Past,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::At, Self::Past];

    /// The word used in the names of trials.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::At => "at",
            Self::Past => "past",
        }
    }
}

/// Meters without a pair, and why.
pub const WITHOUT_PAIR: &[(Meter, &str)] = &[(
    Meter::AddInstance,
    "a run has exactly one instance, so only a bound of zero can stop it, and then nothing runs",
)];

/// One for each meter, in the order of the vocabulary within SQL, what a compiler is given to do, what a module uses, and what the host
/// does for it.
#[must_use]
pub fn pairs() -> Vec<Pair> {
    let scripts = Meter::ALL
        .iter()
        .filter_map(|&meter| script_pair(meter, small_bound(meter)));
    let modules = Meter::ALL
        .iter()
        .filter_map(|&meter| module_pair(meter, small_bound(meter)));
    scripts
        .chain(modules)
        .chain(module_runs::pairs())
        .chain(host_functions::pairs())
        .collect()
}

/// Small enough to be reached at once, and another than the stock profiles have.
fn small_bound(meter: Meter) -> u64 {
    match meter {
        Meter::Elapse => 250,
        Meter::LoadGuest | Meter::SqlSqlLength | Meter::WasmFunctionLength => 1000,
        Meter::ReturnRows => 25,
        Meter::ReturnBytes => 5000,
        Meter::GrowHeap => 4 << 20,
        Meter::GrowDatabase => 40 * PAGE,
        Meter::SqlLength => 20_000,
        Meter::SqlVdbeOp => 200,
        Meter::SqlParserDepth => 80,
        Meter::SqlAttached | Meter::SqlWorkerThreads => 2,
        _ => 7,
    }
}

const PAGE: u64 = 4096;

/// May change the schema, and nothing forbids it anything.
const PROFILE: &str = "trusted";

fn script_pair(meter: Meter, bound: u64) -> Option<Pair> {
    use Class as C;
    let limits = |class| (class, Layer::Limits);
    let quota = |class| (class, Layer::Quota);
    let (uses, stops): (fn(u64) -> String, _) = match meter {
        Meter::Elapse => (lasting, (C::LimitTime, Layer::Deadline)),
        Meter::LoadGuest => (script_of, (C::GuestTooLarge, Layer::Screen)),
        Meter::ReturnRows => (rows, quota(C::Truncated)),
        Meter::ReturnBytes => (result_of, quota(C::Truncated)),
        Meter::GrowHeap => (sorting, (C::LimitMemory, Layer::Heap)),
        Meter::GrowDatabase => (pages, quota(C::LimitStorage)),
        Meter::SqlLength => (value_of, limits(C::LimitSqlValue)),
        Meter::SqlSqlLength => (script_of, (C::LimitSqlLength, Layer::Screen)),
        Meter::SqlColumn => (columns, limits(C::LimitSqlColumns)),
        Meter::SqlExprDepth => (deep, limits(C::LimitSqlExpr)),
        Meter::SqlCompoundSelect => (terms, limits(C::LimitSqlCompound)),
        Meter::SqlVdbeOp => (program, limits(C::LimitSqlProgram)),
        Meter::SqlFunctionArg => (arguments, limits(C::LimitSqlArguments)),
        Meter::SqlAttached => (attached, limits(C::LimitSqlAttached)),
        Meter::SqlLikePatternLength => (pattern, limits(C::LimitSqlPattern)),
        Meter::SqlVariableNumber => (variable, limits(C::LimitSqlVariables)),
        Meter::SqlTriggerDepth => (triggers, limits(C::LimitSqlTrigger)),
        // The pragma writes the limit itself, up to what SQLite was compiled for: it is found raised.
        Meter::SqlWorkerThreads => (threads, limits(C::HostInternal)),
        Meter::SqlParserDepth => (parentheses, limits(C::LimitSqlParser)),
        Meter::SqlSchema => (tables, limits(C::LimitSqlSchema)),
        Meter::SqlTriggerSteps => (steps, limits(C::LimitSqlTrigger)),
        Meter::SqlFunctionSteps => (compared, limits(C::LimitSqlFunction)),
        _ => return None,
    };
    let around = match meter {
        Meter::Elapse => Some((0, 60_000)),
        Meter::SqlVdbeOp => Some((bound / 2, bound * 2)),
        Meter::GrowHeap | Meter::SqlParserDepth => Some((bound / 4, bound * 2)),
        _ => None,
    };
    Some(Pair {
        meter,
        bound,
        uses: Uses::Script(uses),
        stops,
        around,
    })
}

fn module_pair(meter: Meter, bound: u64) -> Option<Pair> {
    let uses: fn(u32) -> Measures = match meter {
        Meter::WasmItem => items,
        Meter::WasmFunctionLength => function_of,
        Meter::WasmLocal => locals,
        Meter::WasmBlock => blocks,
        Meter::WasmLoop => loops,
        _ => return None,
    };
    Some(Pair {
        meter,
        bound,
        uses: Uses::Module(uses),
        stops: (Class::LimitModule, Layer::Validate),
        around: None,
    })
}

impl Pair {
    /// Whether the bound itself is hit, and one past it: not where what a script uses is for SQLite or the clock to say.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.around.is_none()
    }

    /// The name of a trial: `sqlColumn/8/at`.
    #[must_use]
    pub fn name(&self, side: Side) -> String {
        format!("{}/{}/{}", self.meter.action(), self.bound, side.name())
    }

    /// Runs one side, and says what is wrong; empty when all is well.
    ///
    /// # Errors
    /// [`TrialError`] where nobody knows what happened: never a pass.
    pub fn play(&self, side: Side, laboratory: &Arc<Laboratory>) -> Result<Vec<String>, TrialError> {
        let runtime = laboratory.runtime_with(&self.policies())?;
        let plan = runtime.plan(&self.uses.request(1)).map_err(SubjectError::from)?;
        let Bound::Limited(most) = plan.bound(self.meter) else {
            return Ok(vec![format!("`{}` is not bounded in the plan", self.meter.action())]);
        };
        if most != self.bound {
            return Ok(vec![format!("the plan bounds it at {most}, not {}", self.bound)]);
        }
        let amount = match (side, self.around) {
            (Side::At, None) => most,
            (Side::Past, None) => most + 1,
            (Side::At, Some((below, _))) => below,
            (Side::Past, Some((_, beyond))) => beyond,
        };
        let outcome = runtime.run(&self.uses.request(amount)).map_err(SubjectError::from)?;
        Ok(self.faults(side, amount, &outcome))
    }

    fn faults(&self, side: Side, amount: u64, outcome: &Outcome) -> Vec<String> {
        let seen = (outcome.class, outcome.layer);
        let wanted = match side {
            Side::At => (Class::Completed, None),
            Side::Past => (self.stops.0, Some(self.stops.1)),
        };
        if seen != wanted {
            return vec![format!(
                "{} {} of `{}`, bounded at {}: expected {wanted:?}, got {seen:?} ({})",
                side.name(),
                amount,
                self.meter.action(),
                self.bound,
                outcome.detail
            )];
        }
        Vec::new()
    }

    fn policies(&self) -> String {
        let attribute = self.meter.unit().name();
        let action = self.meter.action();
        let bound = self.bound;
        // What a walk-in is not granted at all is granted first.
        format!(
            "@id(\"pair-grants\")
             permit (principal, action == Action::\"{action}\", resource == Meter::\"{}\") when {{ context.{attribute} <= {bound} }};
             @id(\"pair-bounds\")
             forbid (principal, action == Action::\"{action}\", resource) unless {{ context.{attribute} <= {bound} }};
             @id(\"pair-threads\")
             permit (principal, action == Action::\"pragma\", resource == Pragma::\"threads\");
             @id(\"pair-databases\")
             permit (principal, action == Action::\"attach\", resource);",
            self.meter.resource()
        )
    }
}

fn repeated(text: &str, times: u64) -> String {
    text.repeat(usize::try_from(times).unwrap_or(0))
}

fn listed(item: impl Fn(u64) -> String, count: u64, separator: &str) -> String {
    (1..=count).map(item).collect::<Vec<_>>().join(separator)
}

/// Runs for so many milliseconds or more: nobody waits that long.
fn lasting(millis: u64) -> String {
    match millis {
        0 => "select 1".to_owned(),
        _ => "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c".to_owned(),
    }
}

/// So many bytes of SQL.
fn script_of(bytes: u64) -> String {
    const AROUND: &str = "select length('') as n";
    let text = repeated("x", bytes.saturating_sub(AROUND.len() as u64));
    format!("select length('{text}') as n")
}

fn rows(count: u64) -> String {
    format!("with recursive c(x) as (select 1 union all select x + 1 from c where x < {count}) select x from c")
}

/// A result of so many bytes, its column's name included.
fn result_of(bytes: u64) -> String {
    format!("select substr(hex(zeroblob(10000)), 1, {}) as n", bytes - 1)
}

fn sorting(bytes: u64) -> String {
    let rows = bytes / 10_000;
    format!(
        "with recursive c(x) as (select 1 union all select x + 1 from c where x < {rows})
         select count(*) from (select distinct hex(zeroblob(5000)) || x from c)"
    )
}

/// A database of so many bytes: its first page, and one for each table.
fn pages(bytes: u64) -> String {
    let tables = bytes.div_ceil(PAGE) - 1;
    listed(|number| format!("create table t{number}(x)"), tables, ";")
}

fn value_of(bytes: u64) -> String {
    format!("select length(zeroblob({bytes}))")
}

fn columns(count: u64) -> String {
    format!("select {}", listed(|number| number.to_string(), count, ","))
}

/// An expression so many levels deep: the first operand is one.
fn deep(depth: u64) -> String {
    format!("select 1{}", repeated("+1", depth - 1))
}

fn terms(count: u64) -> String {
    listed(|number| format!("select {number}"), count, " union all ")
}

/// A column costs an opcode or two.
fn program(opcodes: u64) -> String {
    let columns = listed(|number| format!("abs({number})"), (opcodes / 8).clamp(1, 100), ",");
    format!("values {}", listed(|_| format!("({columns})"), 1 + opcodes / 200, ","))
}

fn arguments(count: u64) -> String {
    format!("select max({})", listed(|number| number.to_string(), count, ","))
}

fn attached(count: u64) -> String {
    listed(|number| format!("attach ':memory:' as a{number}"), count, ";")
}

fn pattern(bytes: u64) -> String {
    format!("select 'x' like '{}'", repeated("x", bytes))
}

fn variable(number: u64) -> String {
    format!("select ?{number}")
}

/// So many bytes compared with one.
fn compared(steps: u64) -> String {
    format!("select instr(zeroblob({steps}), x'01')")
}

/// Triggers so many deep, each set off by the one before.
fn triggers(depth: u64) -> String {
    let tables = listed(|number| format!("create table t{number}(x)"), depth + 1, ";");
    let chain = listed(
        |number| {
            let next = number + 1;
            format!("create trigger r{number} after insert on t{number} begin insert into t{next} values (1); end")
        },
        depth,
        ";",
    );
    format!("{tables};{chain};insert into t1 values (1)")
}

fn threads(count: u64) -> String {
    format!("pragma threads = {count}")
}

fn parentheses(depth: u64) -> String {
    format!("select {}1{}", repeated("(", depth), repeated(")", depth))
}

fn tables(count: u64) -> String {
    listed(|number| format!("create table t{number}(x)"), count, ";")
}

fn steps(count: u64) -> String {
    let steps = repeated("select 1;", count);
    format!("create table t(x);create trigger r after insert on t begin {steps} end;insert into t values (1)")
}

/// A module of so many items: two types, a function and its export are there in any case.
fn items(count: u32) -> Measures {
    Measures {
        functions: count.saturating_sub(4),
        ..Measures::default()
    }
}

/// A function of so many bytes: how many groups of variables there are, and the end.
fn function_of(bytes: u32) -> Measures {
    Measures {
        idle: bytes.saturating_sub(2),
        ..one_function()
    }
}

fn locals(count: u32) -> Measures {
    Measures {
        locals: count,
        ..one_function()
    }
}

fn blocks(count: u32) -> Measures {
    Measures {
        blocks: count,
        ..one_function()
    }
}

fn loops(count: u32) -> Measures {
    Measures {
        loops: count,
        ..one_function()
    }
}

fn one_function() -> Measures {
    Measures {
        functions: 1,
        ..Measures::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meter_has_its_pair_or_a_reason() {
        let paired: Vec<Meter> = pairs().iter().map(|pair| pair.meter).collect();
        for meter in Meter::ALL {
            let is_excused = WITHOUT_PAIR.iter().any(|(excused, _)| excused == meter);
            let expected = usize::from(!is_excused);
            assert_eq!(
                paired.iter().filter(|paired| *paired == meter).count(),
                expected,
                "{meter:?}"
            );
        }
    }

    #[test]
    fn what_ends_a_pair_speaks_of_its_meter() {
        for pair in pairs() {
            // The limit itself was found changed: that is nobody's bound.
            let is_of_meter = pair.stops.0.meters().contains(&pair.meter) || pair.meter == Meter::SqlWorkerThreads;
            assert!(is_of_meter, "{:?}", pair.meter);
        }
    }

    #[test]
    fn few_meters_cannot_be_hit() {
        let pairs = pairs();
        let mut inexact: Vec<&str> = pairs
            .iter()
            .filter(|pair| !pair.is_exact())
            .map(|pair| pair.meter.action())
            .collect();
        inexact.sort_unstable();
        let known = [
            "compile",
            "elapse",
            "growHeap",
            "growMemory",
            "growStack",
            "sqlParserDepth",
            "sqlVdbeOp",
        ];
        assert_eq!(inexact, known);
    }
}
