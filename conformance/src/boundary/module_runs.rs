//! Guests that use just so much of what a module's store and its run are bounded by.

use std::fmt::Write;

use stockade_policies::Meter;
use stockade_runtime::{Class, Layer};

use super::{Pair, Uses, repeated};
use crate::corpus::embedded_module;

/// Bytes of a page of linear memory.
const PAGE: u64 = 65_536;

/// A meter, the bound that it is given, the guest, and what ends it.
type Entry = (Meter, u64, Uses, Class, Layer);

/// The pairs of modules at run.
pub(super) fn pairs() -> impl Iterator<Item = Pair> {
    use Class as C;
    use Layer as L;
    use Uses::{Compiled, Input, Text};
    let entries: [Entry; 12] = [
        (Meter::GrowMemory, 3 * PAGE, Text(memory), C::LimitMemory, L::Memory),
        (Meter::GrowTable, 7, Text(table), C::LimitTable, L::Memory),
        (Meter::AddMemory, 3, Text(memories), C::LimitInstances, L::Memory),
        (Meter::AddTable, 3, Text(tables), C::LimitInstances, L::Memory),
        (Meter::GrowStack, PAGE, Text(calls_itself), C::LimitStack, L::Stack),
        (Meter::BurnFuel, 7, Text(reads), C::LimitFuel, L::Fuel),
        (Meter::Compile, 100, Compiled(small_or_large), C::LimitTime, L::Worker),
        (Meter::TakeInput, 7, Input(echo_of), C::LimitInput, L::Screen),
        (Meter::ReturnOutput, 7, Text(output), C::LimitOutput, L::Quota),
        (Meter::GrowLog, 7, Text(logs), C::LimitOutput, L::Quota),
        (Meter::CallHost, 7, Text(asks_for_the_time), C::LimitCalls, L::Quota),
        (Meter::PassBuffer, 7, Text(passes), C::LimitOutput, L::Bridge),
    ];
    entries.into_iter().map(|(meter, bound, uses, class, layer)| Pair {
        meter,
        bound,
        uses,
        stops: (class, layer),
        around: match meter {
            // Memory grows by pages, and what a frame or a compiler takes is for wasmtime to say.
            Meter::GrowMemory => Some((bound, bound + PAGE)),
            Meter::GrowStack | Meter::Compile => Some((0, u64::MAX)),
            _ => None,
        },
    })
}

fn with_run(rest: &str, body: &str) -> String {
    format!("(module {rest} (func (export \"run\") (local i32) {body}))")
}

fn memory(bytes: u64) -> String {
    with_run(&format!("(memory {})", bytes / PAGE), "")
}

fn table(elements: u64) -> String {
    with_run(&format!("(table {elements} funcref)"), "")
}

fn memories(count: u64) -> String {
    with_run(&repeated("(memory 0)", count), "")
}

fn tables(count: u64) -> String {
    with_run(&repeated("(table 0 funcref)", count), "")
}

/// Not at all, or without end.
fn calls_itself(amount: u64) -> String {
    let again = if amount == 0 { "" } else { "(call $deeper)" };
    with_run(&format!("(func $deeper {again})"), "(call $deeper)")
}

/// So many operators: one is the function's, and to forget a value is free.
fn reads(operators: u64) -> String {
    with_run("", &repeated("(drop (local.get 0))", operators - 1))
}

/// A module that compiles in no time, or one that takes a compiler most of a second.
fn small_or_large(amount: u64) -> Vec<u8> {
    if amount == 0 {
        return with_run("", "").into_bytes();
    }
    embedded_module("template").unwrap_or_default().to_vec()
}

fn echo_of(bytes: u64) -> (String, Vec<u8>) {
    (contract("(local.get 0)"), repeated("x", bytes).into_bytes())
}

fn output(bytes: u64) -> String {
    contract(&format!("(i32.const {bytes})"))
}

fn contract(length: &str) -> String {
    let mut exports = String::new();
    for (name, value) in [
        ("input_ptr", 1024),
        ("input_bytes_cap", 1024),
        ("output_ptr", 1024),
        ("output_bytes_cap", 1024),
    ] {
        // Writing to a string cannot fail.
        write!(exports, "(global (export \"{name}\") i32 (i32.const {value}))").unwrap_or_default();
    }
    format!(
        "(module (memory (export \"memory\") 1) {exports}
           (func (export \"run\") (param i32) (result i32) {length}))"
    )
}

/// One line of the log, which ends.
fn logs(bytes: u64) -> String {
    passes(bytes - 1)
}

/// A text of so many bytes, to the log.
fn passes(bytes: u64) -> String {
    with_run(
        "(import \"stockade\" \"log\" (func $log (param i32 i32) (result i32)))
         (memory (export \"memory\") 1)",
        &format!("(drop (call $log (i32.const 16) (i32.const {bytes})))"),
    )
}

fn asks_for_the_time(times: u64) -> String {
    with_run(
        "(import \"stockade\" \"clock_now_ms\" (func $now (result i64)))",
        &repeated("(drop (call $now))", times),
    )
}
