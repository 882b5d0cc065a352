//! Functions whose time grows with the product of what they are given, so that one call is one opcode of any length.
//!
//! `instr`, `replace`, `trim` of a set of characters and `json_patch` compare each byte of one argument with each of another,
//! and nothing looks at the clock meanwhile. Each is overridden by one that first multiplies the two sizes, and then
//! asks SQLite's own, on a connection where that is not overridden: what it answers is what SQLite answers. And since each
//! is a hundred times what an opcode is, it looks at the clock besides.

use std::cell::OnceCell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::limits::Limit;
use rusqlite::{Connection, ffi};
use stockade_policies::{Bound, Meter};

use super::hooks::Hooks;
use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// One of SQLite's functions.
struct Function {
    name: &'static CStr,
    /// How many arguments it has; the first two are compared.
    arguments: c_int,
    /// Steps for one byte compared with one: characters are compared one at a time, and each takes as long as sixteen bytes
    /// in a row.
    steps: u64,
    /// Whether its answer is marked as JSON.
    is_json: bool,
}

const FUNCTIONS: [Function; 7] = [
    function(c"instr", 2, 1),
    function(c"replace", 3, 1),
    function(c"trim", 2, 16),
    function(c"ltrim", 2, 16),
    function(c"rtrim", 2, 16),
    Function {
        is_json: true,
        ..function(c"json_patch", 2, 1)
    },
    function(c"jsonb_patch", 2, 1),
];

const fn function(name: &'static CStr, arguments: c_int, steps: u64) -> Function {
    Function {
        name,
        arguments,
        steps,
        is_json: false,
    }
}

/// Overrides each of them on `connection` with one that the plan and the clock bound.
pub(super) fn bound(connection: &Connection, gate: &Arc<Gate>, hooks: &Hooks) -> rusqlite::Result<()> {
    if ![Layer::Limits, Layer::Deadline]
        .into_iter()
        .any(|layer| gate.has(layer))
    {
        return Ok(());
    }
    let calculator = Rc::new(Calculator {
        gate: Arc::clone(gate),
        hooks,
        connection: OnceCell::new(),
    });
    for function in &FUNCTIONS {
        let bounded = Box::new(Bounded {
            function,
            calculator: Rc::clone(&calculator),
            statement: OnceCell::new(),
        });
        // As SQLite registers its own: a schema may use them in indexes and generated columns.
        let mut flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
        if function.is_json {
            flags |= ffi::SQLITE_RESULT_SUBTYPE;
        }
        #[expect(unsafe_code, reason = "text that is not UTF-8 must pass, and rusqlite returns none")]
        // SAFETY: the handle is open and the name NUL-terminated. SQLite owns the box from here, also where this fails,
        // and hands it to `drop_function` once nothing calls `call_function` any more. Both have the C signatures. What the boxes
        // share (`Rc`) goes where the connection goes, all at once, and only its thread calls them.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                connection.handle(),
                function.name.as_ptr(),
                function.arguments,
                flags,
                Box::into_raw(bounded).cast(),
                Some(call_function),
                None,
                None,
                Some(drop_function),
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        }
    }
    Ok(())
}

/// A connection with SQLite's own functions, opened when the first is called.
struct Calculator {
    gate: Arc<Gate>,
    /// Which outlive the connection that calls these functions: see [`Hooks`].
    hooks: *const Hooks,
    connection: OnceCell<Option<Connection>>,
}

impl Calculator {
    fn connection(&self) -> Option<&Connection> {
        self.connection.get_or_init(|| self.open().ok()).as_ref()
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_in_memory()?;
        let longest = match self.gate.bound(Meter::SqlLength) {
            Bound::Limited(most) if self.gate.has(Layer::Limits) => c_int::try_from(most).unwrap_or(c_int::MAX),
            _ => c_int::MAX,
        };
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, longest)?;
        Ok(connection)
    }
}

/// One function of a guest's connection.
struct Bounded {
    function: &'static Function,
    // Dropped before the connection that it is of: a field is dropped before those that follow.
    statement: OnceCell<Option<Prepared>>,
    calculator: Rc<Calculator>,
}

/// `select trim(?, ?)`.
struct Prepared(*mut ffi::sqlite3_stmt);

impl Drop for Prepared {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "a statement of the C interface")]
        // SAFETY: prepared once, by `Bounded::prepare`, and finalised here alone. Its connection still lives: see `Bounded`.
        unsafe {
            ffi::sqlite3_finalize(self.0);
        }
    }
}

/// What to tell SQLite.
enum Answer {
    Value(*mut ffi::sqlite3_value),
    Error(String),
    TooBig,
    NoMemory,
}

impl Bounded {
    fn refusal(&self, steps: u64) -> Option<Refusal> {
        let Calculator { gate, hooks, .. } = &*self.calculator;
        #[expect(unsafe_code, reason = "what SQLite calls back with has no lifetime")]
        // SAFETY: SQLite is calling on the guest's connection, and the hooks outlive that (see the field).
        let is_over = unsafe { (**hooks).is_really_over() };
        if gate.has(Layer::Deadline) && is_over {
            let detail = beyond(Meter::Elapse, gate.bound(Meter::Elapse));
            return Some(Refusal::by(Layer::Deadline, Class::LimitTime, detail));
        }
        let bound = gate.bound(Meter::SqlFunctionSteps);
        (gate.has(Layer::Limits) && !bound.permits(steps)).then(|| {
            let name = self.function.name.to_string_lossy();
            let detail = format!(
                "{}, and `{name}` was given {steps}",
                beyond(Meter::SqlFunctionSteps, bound)
            );
            Refusal::by(Layer::Limits, Class::LimitSqlFunction, detail)
        })
    }

    fn statement(&self) -> Option<*mut ffi::sqlite3_stmt> {
        let prepared = self.statement.get_or_init(|| self.prepare());
        prepared.as_ref().map(|prepared| prepared.0)
    }

    fn prepare(&self) -> Option<Prepared> {
        let connection = self.calculator.connection()?;
        let parameters = vec!["?"; usize::try_from(self.function.arguments).ok()?].join(",");
        let query = CString::new(format!("select {}({parameters})", self.function.name.to_string_lossy())).ok()?;
        let mut statement = std::ptr::null_mut();
        #[expect(unsafe_code, reason = "values must pass as SQLite has them")]
        // SAFETY: the handle is open, the query NUL-terminated, and `statement` has room for a pointer.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                query.as_ptr(),
                -1,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut statement,
                std::ptr::null_mut(),
            )
        };
        (code == ffi::SQLITE_OK && !statement.is_null()).then_some(Prepared(statement))
    }

    /// What the function answers.
    ///
    /// # Safety
    /// `values` are those of a call that SQLite is making.
    #[expect(unsafe_code, reason = "hands on values that SQLite handed over")]
    unsafe fn answer(&self, values: &[*mut ffi::sqlite3_value]) -> Answer {
        // SAFETY: the caller's promise: the values live for the duration of the call.
        let sizes = values.iter().take(2).map(|value| unsafe { size(*value) });
        if let Some(refusal) = self.refusal(sizes.fold(self.function.steps, u64::saturating_mul)) {
            let detail = refusal.detail.clone();
            self.calculator.gate.refuse(refusal);
            return Answer::Error(detail);
        }
        let Some(statement) = self.statement() else {
            return Answer::NoMemory;
        };
        for (value, number) in values.iter().zip(1..) {
            // SAFETY: the statement is prepared, at rest and has this parameter; the value is copied.
            let code = unsafe { ffi::sqlite3_bind_value(statement, number, *value) };
            if code != ffi::SQLITE_OK {
                return failed(code, String::new());
            }
        }
        // SAFETY: as above. A row has one column, whose value is good until the statement is reset.
        unsafe {
            match ffi::sqlite3_step(statement) {
                ffi::SQLITE_ROW => Answer::Value(ffi::sqlite3_column_value(statement, 0)),
                code => {
                    let words = CStr::from_ptr(ffi::sqlite3_errmsg(ffi::sqlite3_db_handle(statement)));
                    failed(code, words.to_string_lossy().into_owned())
                }
            }
        }
    }

    /// Keeps no value of a call that is over.
    fn forget(&self) {
        if let Some(Some(Prepared(statement))) = self.statement.get() {
            #[expect(unsafe_code, reason = "a statement of the C interface")]
            // SAFETY: prepared, and not stepped by anybody now.
            unsafe {
                ffi::sqlite3_reset(*statement);
                ffi::sqlite3_clear_bindings(*statement);
            }
        }
    }
}

fn failed(code: c_int, words: String) -> Answer {
    match code & 0xff {
        ffi::SQLITE_TOOBIG => Answer::TooBig,
        ffi::SQLITE_NOMEM => Answer::NoMemory,
        _ => Answer::Error(words),
    }
}

/// Bytes of a value; none of NULL, of which no function compares anything.
///
/// # Safety
/// `value` is one of a call that SQLite is making.
#[expect(unsafe_code, reason = "asks a value of SQLite's")]
unsafe fn size(value: *mut ffi::sqlite3_value) -> u64 {
    // SAFETY: the caller's promise. A number becomes text for it, as it would in the function itself.
    unsafe {
        if ffi::sqlite3_value_type(value) == ffi::SQLITE_NULL {
            return 0;
        }
        u64::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(u64::MAX)
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn call_function(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite calls with the box that `bound` registered, only ever read through `&`, and with `count` values that live
    // for the duration of the call. The answer's value is copied before the statement that holds it is reset.
    unsafe {
        let function = &*ffi::sqlite3_user_data(context).cast::<Bounded>();
        let values = std::slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0));
        // A panic must not cross into C.
        let answer = catch_unwind(AssertUnwindSafe(|| function.answer(values)))
            .unwrap_or_else(|_| Answer::Error("the guard failed".to_owned()));
        match answer {
            Answer::Value(value) => ffi::sqlite3_result_value(context, value),
            Answer::TooBig => ffi::sqlite3_result_error_toobig(context),
            Answer::NoMemory => ffi::sqlite3_result_error_nomem(context),
            Answer::Error(words) => {
                let length = c_int::try_from(words.len()).unwrap_or(0);
                ffi::sqlite3_result_error(context, words.as_ptr().cast(), length);
            }
        }
        function.forget();
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn drop_function(function: *mut c_void) {
    // SAFETY: the box that `bound` registered, which nothing else owns; SQLite says so once.
    drop(unsafe { Box::from_raw(function.cast::<Bounded>()) });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::types::Value;
    use stockade_policies::{PolicyStore, Principal};

    use super::*;
    use crate::deadline::Deadline;
    use crate::layer::Layers;

    fn gate() -> Arc<Gate> {
        let store = PolicyStore::stock().unwrap();
        let plan = store.plan(&Principal::caller("guest", "walkin")).unwrap();
        Arc::new(Gate::new(plan, Layers::ALL, Box::new(())))
    }

    /// A connection, the gate that its functions ask, and the hooks, which go last.
    fn overridden_until(end: Bound) -> (Connection, Arc<Gate>, Box<Hooks>) {
        let gate = gate();
        let connection = Connection::open_in_memory().unwrap();
        let hooks = Box::new(Hooks::new(Arc::clone(&gate), Deadline::start(end)));
        bound(&connection, &gate, &hooks).unwrap();
        (connection, gate, hooks)
    }

    fn overridden() -> (Connection, Arc<Gate>, Box<Hooks>) {
        overridden_until(Bound::Unbounded)
    }

    fn value() -> impl Strategy<Value = Value> {
        let few = "[ab é\u{0}0]{0,6}";
        prop_oneof![
            Just(Value::Null),
            any::<i8>().prop_map(|number| Value::Integer(number.into())),
            any::<i8>().prop_map(|number| Value::Real(f64::from(number) / 4.0)),
            few.prop_map(Value::Text),
            proptest::collection::vec(
                prop_oneof![Just(0_u8), Just(97), Just(0xc3), Just(0xa9), Just(0x80)],
                0..6
            )
            .prop_map(Value::Blob),
            prop_oneof![
                Just(r#"{"a":1,"b":{"c":null}}"#),
                Just("{a:2,b:{c:3}}"),
                Just("[1,2]"),
                Just("{\"a\":null}"),
                Just("{")
            ]
            .prop_map(|text| Value::Text(text.to_owned())),
        ]
    }

    fn ask(connection: &Connection, query: &str, values: &[Value]) -> Result<(Value, String), String> {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        connection
            .query_row(query, rusqlite::params_from_iter(values), row)
            .map_err(|error| error.to_string())
    }

    proptest! {
        #[test]
        fn each_answers_as_the_one_it_overrides(values in [value(), value(), value()]) {
            let (bounded, _, _hooks) = overridden();
            let bare = Connection::open_in_memory().unwrap();
            for Function { name, arguments, .. } in &FUNCTIONS {
                let arguments = *arguments;
                let count = usize::try_from(arguments).unwrap();
                let places = (1..=count).map(|place| format!("?{place}")).collect::<Vec<_>>();
                // Also as text from bytes that are none, whose type tells what the answer is, and as JSON in JSON.
                for places in [places.join(","), places.iter().map(|place| format!("cast({place} as text)")).collect::<Vec<_>>().join(",")] {
                    let call = format!("{}({places})", name.to_str().unwrap());
                    let query = format!("select cast({call} as blob), typeof({call}) || json_array(iif(typeof({call}) = 'blob', 0, {call}))");
                    prop_assert_eq!(ask(&bounded, &query, &values[..count]), ask(&bare, &query, &values[..count]), "{}", query);
                }
            }
        }
    }

    #[test]
    fn a_product_beyond_the_bound_is_refused_and_one_below_is_not() {
        let (connection, gate, _hooks) = overridden();
        let below = "select instr(zeroblob(100000), zeroblob(9999) || x'01')";
        let found: i64 = connection.query_row(below, [], |row| row.get(0)).unwrap();
        assert_eq!((found, gate.refusal()), (0, None));
        for call in [
            "instr(zeroblob(100000), zeroblob(10001))",
            "length(replace(hex(zeroblob(50000)), hex(zeroblob(5001)), ''))",
            "trim(hex(zeroblob(50000)), hex(zeroblob(5001)))",
            "ltrim(hex(zeroblob(50000)), hex(zeroblob(5001)))",
            "rtrim(hex(zeroblob(50000)), hex(zeroblob(5001)))",
            "json_patch(hex(zeroblob(50000)), hex(zeroblob(5001)))",
            "length(jsonb_patch(hex(zeroblob(50000)), hex(zeroblob(5001))))",
        ] {
            let (connection, gate, _hooks) = overridden();
            let ended = connection.query_row(&format!("select {call}"), [], |_| Ok(()));
            assert!(ended.is_err(), "{call}");
            let refusal = gate.refusal().unwrap_or_else(|| panic!("{call}"));
            assert_eq!(refusal.class, Class::LimitSqlFunction, "{call}");
            assert_eq!(refusal.layer, Some(Layer::Limits), "{call}");
        }
    }

    #[test]
    fn none_is_called_when_the_time_is_over() {
        let (connection, gate, _hooks) = overridden_until(Bound::Limited(0));
        assert!(connection.query_row("select trim('a', 'b')", [], |_| Ok(())).is_err());
        assert_eq!(gate.refusal().unwrap().class, Class::LimitTime);
    }

    #[test]
    fn nothing_is_compared_with_nothing() {
        let (connection, gate, _hooks) = overridden();
        let query = "select trim(zeroblob(1000000), null) is null and instr(null, zeroblob(1000000)) is null";
        let is_null: bool = connection.query_row(query, [], |row| row.get(0)).unwrap();
        assert!(is_null && gate.refusal().is_none());
    }
}
