//! Boundary pairs of the meters that a WebAssembly guest consumes.

use stockade_policies::Meter;
use stockade_runtime::{Class, Layer, Request};

use crate::boundaries::Pair;
use crate::support::{repeated, wasm};

/// A page of linear memory.
const PAGE: u64 = 64 * 1024;

pub fn pairs() -> Vec<Pair> {
    let mut pairs = of_stores();
    pairs.extend(of_items());
    pairs.extend(of_functions());
    pairs.extend(of_host_calls());
    pairs.extend(of_allocations());
    pairs.extend(of_metrics_and_state());
    pairs.extend(of_input_and_output());
    pairs.extend(of_time());
    pairs.extend(of_fuel());
    pairs
}

fn pair(meter: Meter, name: &'static str, most: u64, guests: (Request, Request), class: Class, layer: Layer) -> Pair {
    let (at, past) = guests;
    Pair {
        meter,
        name,
        most,
        at,
        past,
        class,
        layer,
        stage: None,
    }
}

fn of_stores() -> Vec<Pair> {
    use Meter as M;
    let memory = |pages: u64| wasm(format!("(module (memory {pages}))"));
    let two_memories = |pages: u64| wasm(format!("(module (memory 1) (memory {pages}))"));
    let grown = |by: u64| {
        wasm(format!(
            "(module (memory 1) (func (export \"run\") (result i32) (memory.grow (i32.const {by}))))"
        ))
    };
    let table = |elements: u64| wasm(format!("(module (table {elements} funcref))"));
    let grown_table = |by: u64| {
        wasm(format!(
            "(module (table 4 funcref) (func (export \"run\") (result i32) \
             (table.grow (ref.null func) (i32.const {by}))))"
        ))
    };
    let memories = |count| wasm(format!("(module {})", repeated(count, "(memory 1)", " ")));
    let tables = |count| wasm(format!("(module {})", repeated(count, "(table 1 funcref)", " ")));
    let memory_pair = |name, at, past| {
        pair(
            M::GrowMemory,
            name,
            3 * PAGE,
            (at, past),
            Class::LimitMemory,
            Layer::Memory,
        )
    };
    let table_pair = |name, at, past| pair(M::GrowTable, name, 10, (at, past), Class::LimitTable, Layer::Memory);
    let count_pair =
        |meter, name, most, at, past| pair(meter, name, most, (at, past), Class::LimitInstances, Layer::Memory);
    vec![
        memory_pair("declared", memory(3), memory(4)),
        memory_pair("in_sum", two_memories(2), two_memories(3)),
        memory_pair("grown", grown(2), grown(3)),
        table_pair("declared", table(10), table(11)),
        table_pair("grown", grown_table(6), grown_table(7)),
        count_pair(M::AddMemory, "two", 2, memories(2), memories(3)),
        count_pair(M::AddMemory, "none", 0, memories(0), memories(1)),
        count_pair(M::AddTable, "two", 2, tables(2), tables(3)),
        count_pair(M::AddTable, "none", 0, tables(0), tables(1)),
        // How much stack a call takes is the compiler's affair, so the pair stands well off on either side.
        pair(
            M::GrowStack,
            "recursion",
            64 * 1024,
            (recursing(100), recursing(20_000)),
            Class::LimitStack,
            Layer::Stack,
        ),
    ]
}

/// One pair for each section that has items. There is one item beside those that are counted.
fn of_items() -> Vec<Pair> {
    let of = |name, item: fn(usize) -> String| {
        let module = |count| wasm(format!("(module {})", (0..count).map(item).collect::<String>()));
        let with_type = |count| {
            wasm(format!(
                "(module (type (func)) {})",
                (0..count).map(item).collect::<String>()
            ))
        };
        // A function and an import have a type, which is an item itself; beside the others stands one that is not used.
        let guests = match name {
            "functions" | "imports" => (module(2), module(3)),
            _ => (with_type(2), with_type(3)),
        };
        pair(Meter::WasmItem, name, 3, guests, Class::LimitModule, Layer::Validate)
    };
    vec![
        of("types", |number| {
            format!("(type (func {}))", repeated(number + 1, "(param i32)", " "))
        }),
        of("imports", |_| {
            "(import \"stockade\" \"clock_now_ms\" (func (result i64)))".to_owned()
        }),
        of("functions", |_| "(func)".to_owned()),
        of("tables", |_| "(table 1 funcref)".to_owned()),
        of("memories", |_| "(memory 1)".to_owned()),
        of("globals", |_| "(global i32 (i32.const 1))".to_owned()),
        of("element_segments", |_| "(elem funcref)".to_owned()),
        of("data_segments", |_| "(data \"x\")".to_owned()),
        pair(
            Meter::WasmItem,
            "exports",
            3,
            (
                wasm("(module (memory 1) (export \"a\" (memory 0)) (export \"b\" (memory 0)))"),
                wasm(
                    "(module (memory 1) (export \"a\" (memory 0)) (export \"b\" (memory 0)) (export \"c\" (memory 0)))",
                ),
            ),
            Class::LimitModule,
            Layer::Validate,
        ),
    ]
}

fn of_functions() -> Vec<Pair> {
    use Meter as M;
    let refused = |meter, name, most, at: String, past: String| {
        let guests = (wasm(format!("(module {at})")), wasm(format!("(module {past})")));
        pair(meter, name, most, guests, Class::LimitModule, Layer::Validate)
    };
    // How many groups of variables there are, and the end.
    let idle = |bytes: usize| format!("(func {})", repeated(bytes - 2, "nop", " "));
    let variables = |kinds: &[&str]| format!("(func (param i32 i32) (local {}))", kinds.join(" "));
    let each = |part: &str, count| format!("(func (local i32) {})", repeated(count, part, " "));
    let block = |name, part: &str| {
        // Each function has its own bound.
        let at = repeated(2, &each(part, 3), " ");
        refused(M::WasmBlock, name, 3, at, each(part, 4))
    };
    let loops = |count| each("(loop)", count);
    vec![
        refused(M::WasmFunctionLength, "bytes", 10, idle(10), idle(11)),
        refused(
            M::WasmFunctionLength,
            "second",
            10,
            repeated(2, &idle(10), " "),
            format!("{} {}", idle(10), idle(11)),
        ),
        refused(
            M::WasmLocal,
            "one_kind",
            3,
            variables(&["i64"; 3]),
            variables(&["i64"; 4]),
        ),
        refused(
            M::WasmLocal,
            "several_kinds",
            3,
            repeated(2, &variables(&["i32", "f64", "i32"]), " "),
            variables(&["i32", "f64", "i32", "f64"]),
        ),
        block("blocks", "(block)"),
        block("loops", "(loop)"),
        block("ifs", "(if (local.get 0) (then))"),
        block("branches", "(br_if 0 (local.get 0))"),
        block("tables_of_branches", "(br_table 0 0 (local.get 0))"),
        refused(M::WasmLoop, "in_one_function", 3, loops(3), loops(4)),
        refused(
            M::WasmLoop,
            "in_sum",
            3,
            format!("{} {}", loops(1), loops(2)),
            format!("{} {}", loops(2), loops(2)),
        ),
    ]
}

/// Calls itself so many times.
fn recursing(depth: u32) -> Request {
    wasm(format!(
        "(module (func $down (param i32) (result i32)
           (if (result i32) (i32.eqz (local.get 0))
             (then (i32.const 0))
             (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))
         (func (export \"run\") (result i32) (call $down (i32.const {depth}))))"
    ))
}

/// Logs lines of so many bytes each.
fn logging(lines: &[u32]) -> Request {
    let calls: String = lines
        .iter()
        .map(|bytes| format!("(drop (call $log (i32.const 16) (i32.const {bytes})))"))
        .collect();
    wasm(format!(
        "(module (import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (func (export \"run\") {calls}))"
    ))
}

fn of_host_calls() -> Vec<Pair> {
    use Meter as M;
    let calling = |count| {
        wasm(format!(
            "(module (import \"stockade\" \"clock_now_ms\" (func $now (result i64))) (func (export \"run\") {}))",
            repeated(count, "(drop (call $now))", " ")
        ))
    };
    let random = |bytes: u32| {
        wasm(format!(
            "(module (import \"stockade\" \"random_fill\" (func $fill (param i32 i32) (result i32)))
             (memory (export \"memory\") 1)
             (func (export \"run\") (drop (call $fill (i32.const 16) (i32.const {bytes})))))"
        ))
    };
    let calls = |name, most, at, past| pair(M::CallHost, name, most, (at, past), Class::LimitCalls, Layer::Quota);
    let log = |name, most, at, past| pair(M::GrowLog, name, most, (at, past), Class::LimitOutput, Layer::Quota);
    let buffer = |name, at, past| pair(M::PassBuffer, name, 8, (at, past), Class::LimitOutput, Layer::Bridge);
    vec![
        calls("three", 3, calling(3), calling(4)),
        calls("none", 0, calling(0), calling(1)),
        // A line costs its bytes and one more, so that empty lines are not free.
        log("one_line", 10, logging(&[9]), logging(&[10])),
        log("all_lines", 10, logging(&[4, 4]), logging(&[4, 5])),
        log("empty_lines", 2, logging(&[0, 0]), logging(&[0, 0, 0])),
        buffer("logged", logging(&[8]), logging(&[9])),
        buffer("random", random(8), random(9)),
        buffer("query", querying("select 1"), querying("select 10")),
        // Rows cross as JSON, and their buffer must be the longer one of the two.
        pair(
            M::PassBuffer,
            "rows",
            46,
            (
                querying("values(hex('12345678901234567890'))"),
                querying("values(hex('123456789012345678901'))"),
            ),
            Class::LimitOutput,
            Layer::Bridge,
        ),
    ]
}

/// What `select 1` and so on come to in JSON: five bytes and one for each digit more.
fn of_allocations() -> Vec<Pair> {
    let allocation = |meter, name, at, past| pair(meter, name, 10, (at, past), Class::LimitMemory, Layer::Bridge);
    vec![
        allocation(
            Meter::Allocate,
            "one",
            querying("select 123456"),
            querying("select 1234567"),
        ),
        allocation(
            Meter::HoldAllocations,
            "one",
            querying("select 123456"),
            querying("select 1234567"),
        ),
        allocation(Meter::HoldAllocations, "in_sum", holding(2), holding(3)),
    ]
}

fn of_metrics_and_state() -> Vec<Pair> {
    let metrics = |names: &[&str]| {
        let add = |at: usize, length| format!("(call $host (i32.const {at}) (i32.const {length}) (i64.const 1))");
        naming("metric_add", "i32 i32 i64", names, &add)
    };
    let storing = |keys: &[&str], value: usize| {
        let set = |at: usize, length| {
            format!("(call $host (i32.const {at}) (i32.const {length}) (i32.const 64) (i32.const {value}))")
        };
        naming("state_set", "i32 i32 i32 i32", keys, &set)
    };
    let given = |mut request: Request| {
        request.state.set("given", "value");
        request
    };
    let state = |meter, name, most, at, past| pair(meter, name, most, (at, past), Class::LimitState, Layer::Quota);
    vec![
        pair(
            Meter::AddMetric,
            "names",
            2,
            (metrics(&["a", "b", "a"]), metrics(&["a", "b", "c"])),
            Class::LimitMetrics,
            Layer::Quota,
        ),
        state(
            Meter::StoreValue,
            "bytes",
            8,
            storing(&["key"], 8),
            storing(&["key"], 9),
        ),
        state(
            Meter::AddKey,
            "new",
            2,
            storing(&["a", "b", "a"], 1),
            storing(&["a", "b", "c"], 1),
        ),
        state(
            Meter::AddKey,
            "beside_given",
            2,
            given(storing(&["a", "given"], 1)),
            given(storing(&["a", "b"], 1)),
        ),
        state(Meter::GrowState, "one", 11, storing(&["key"], 8), storing(&["key"], 9)),
        state(
            Meter::GrowState,
            "in_sum",
            12,
            storing(&["a", "b"], 5),
            storing(&["a", "bc"], 5),
        ),
        state(
            Meter::GrowState,
            "beside_given",
            15,
            given(storing(&["a"], 4)),
            given(storing(&["a"], 5)),
        ),
        state(
            Meter::GrowState,
            "overwriting",
            10,
            given(storing(&["given"], 5)),
            given(storing(&["given"], 6)),
        ),
    ]
}

/// Calls a host function once for each name.
fn naming(function: &str, parameters: &str, names: &[&str], call: &dyn Fn(usize, usize) -> String) -> Request {
    let mut data = String::new();
    let mut calls = String::new();
    for (number, name) in names.iter().enumerate() {
        let at = 1024 + 64 * number;
        data.push_str(&format!("(data (i32.const {at}) \"{name}\")"));
        calls.push_str(&format!("(drop {})", call(at, name.len())));
    }
    wasm(format!(
        "(module (import \"stockade\" \"{function}\" (func $host (param {parameters}) (result i32)))
         (memory (export \"memory\") 1)
         {data}
         (func (export \"run\") {calls}))"
    ))
}

/// Has so many answers of five bytes at once.
fn holding(answers: usize) -> Request {
    wasm(format!(
        "(module (import \"stockade\" \"db_query\" (func $query (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 64) \"select 1\")
         (global $next (mut i32) (i32.const 1024))
         (func (export \"__wasm_allocate\") (param i32) (result i32)
           (global.get $next)
           (global.set $next (i32.add (global.get $next) (local.get 0))))
         (func (export \"run\") {}))",
        repeated(
            answers,
            "(drop (call $query (i32.const 64) (i32.const 8) (i32.const 16) (i32.const 20)))",
            " "
        )
    ))
}

/// Runs one query through the host.
fn querying(query: &str) -> Request {
    wasm(format!(
        "(module (import \"stockade\" \"db_query\" (func $query (param i32 i32 i32 i32) (result i32)))
         (memory (export \"memory\") 2)
         (data (i32.const 64) \"{query}\")
         (func (export \"__wasm_allocate\") (param i32) (result i32) (i32.const 65536))
         (func (export \"run\") (result i32)
           (call $query (i32.const 64) (i32.const {}) (i32.const 16) (i32.const 20))))",
        query.len()
    ))
}

/// Takes input, and returns so many bytes.
fn returning(bytes: u32) -> Request {
    wasm(format!(
        "(module (memory (export \"memory\") 1)
         (global (export \"input_ptr\") i32 (i32.const 1024))
         (global (export \"input_bytes_cap\") i32 (i32.const 1024))
         (global (export \"output_ptr\") i32 (i32.const 2048))
         (global (export \"output_bytes_cap\") i32 (i32.const 1024))
         (func (export \"run\") (param i32) (result i32) (i32.const {bytes})))"
    ))
}

fn of_input_and_output() -> Vec<Pair> {
    use Meter as M;
    let taking = |bytes: usize| {
        let mut request = returning(0);
        request.input = vec![b'x'; bytes];
        request
    };
    let of_size = |bytes: usize| {
        let module = "(module)";
        wasm(format!("{module}{}", " ".repeat(bytes - module.len())))
    };
    vec![
        pair(
            M::TakeInput,
            "bytes",
            8,
            (taking(8), taking(9)),
            Class::LimitInput,
            Layer::Screen,
        ),
        pair(
            M::TakeInput,
            "none",
            0,
            (taking(0), taking(1)),
            Class::LimitInput,
            Layer::Screen,
        ),
        pair(
            M::ReturnOutput,
            "bytes",
            8,
            (returning(8), returning(9)),
            Class::LimitOutput,
            Layer::Quota,
        ),
        pair(
            M::ReturnOutput,
            "none",
            0,
            (returning(0), returning(1)),
            Class::LimitOutput,
            Layer::Quota,
        ),
        pair(
            M::PassBuffer,
            "input",
            8,
            (taking(8), taking(9)),
            Class::LimitOutput,
            Layer::Bridge,
        ),
        pair(
            M::PassBuffer,
            "output",
            8,
            (returning(8), returning(9)),
            Class::LimitOutput,
            Layer::Bridge,
        ),
        pair(
            M::LoadGuest,
            "module",
            20,
            (of_size(20), of_size(21)),
            Class::GuestTooLarge,
            Layer::Screen,
        ),
    ]
}

fn of_time() -> Vec<Pair> {
    let spinning = |turns: u64| {
        wasm(format!(
            "(module (func (export \"run\") (local i64)
               (loop $again
                 (local.set 0 (i64.add (local.get 0) (i64.const 1)))
                 (br_if $again (i64.lt_u (local.get 0) (i64.const {turns}))))))"
        ))
    };
    vec![
        // A clock has no "one past": the guest beyond it counts for many times as long.
        pair(
            Meter::Elapse,
            "looping",
            500,
            (spinning(10), spinning(8_000_000_000)),
            Class::LimitTime,
            Layer::Deadline,
        ),
        pair(
            Meter::Compile,
            "many_locals",
            1,
            (wasm("(module)"), wasm(slow_to_compile())),
            Class::LimitTime,
            Layer::Worker,
        ),
    ]
}

/// A call costs one, each operator one, and constants, `drop`, `loop` and `end` nothing.
fn of_fuel() -> Vec<Pair> {
    let guest = |body: &str| {
        wasm(format!(
            "(module (memory 1 4) (func (export \"run\") (local i32) {body}))"
        ))
    };
    let reading = |times| guest(&repeated(times, "(drop (local.get 0))", " "));
    // `local.set` once, then `local.get`, `i32.sub`, `local.tee` and `br_if` in each turn.
    let turning = |turns: u32| {
        guest(&format!(
            "(local.set 0 (i32.const {turns}))
             (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))"
        ))
    };
    let filling = |bytes: u32| {
        guest(&format!(
            "(memory.fill (i32.const 0) (i32.const 7) (i32.const {bytes}))"
        ))
    };
    let growing = |pages: u32| guest(&format!("(drop (memory.grow (i32.const {pages})))"));
    let fuel = |name, most, at, past| pair(Meter::BurnFuel, name, most, (at, past), Class::LimitFuel, Layer::Fuel);
    vec![
        fuel("straight_on", 1 + 7, reading(7), reading(8)),
        fuel("in_turns", 1 + 1 + 4 * 10, turning(10), turning(11)),
        fuel("filling", 1 + 1 + 4096, filling(4096), filling(4097)),
        fuel("growing", 1 + 1 + 2 * 255, growing(2), growing(3)),
    ]
}

/// A few kilobytes that take a compiler seconds: many empty functions, each with fifty thousand local variables.
pub fn slow_to_compile() -> Vec<u8> {
    const FUNCTIONS: usize = 2000;
    // One group of 50 000 variables of type i64, then `end`.
    const BODY: &[u8] = &[0x01, 0xd0, 0x86, 0x03, 0x7e, 0x0b];
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[0x01, 0x60, 0x00, 0x00]);
    let mut functions = length(FUNCTIONS);
    functions.extend(vec![0; FUNCTIONS]);
    section(&mut module, 3, &functions);
    let mut code = length(FUNCTIONS);
    for _ in 0..FUNCTIONS {
        code.extend(length(BODY.len()));
        code.extend(BODY);
    }
    section(&mut module, 10, &code);
    module
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    module.extend(length(content.len()));
    module.extend(content);
}

/// A number as WebAssembly writes it: seven bits at a time, the least first.
fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
