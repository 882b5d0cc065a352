//! Bounds that are hardly what was meant: a wrong unit, or so much that it is no limit.

use super::Reviewed;
use crate::finding::{Code, Finding};
use crate::plan::Bound;
use crate::vocabulary::{Meter, Unit};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// An hour: a guest is called by somebody who waits. Microseconds or nanoseconds taken for milliseconds end up here.
const LONGEST_MS: u64 = 60 * 60 * 1000;

/// Starting a worker takes 2 ms and opening a database as much again. Seconds taken for milliseconds end up here.
const SHORTEST_MS: u64 = 10;

/// A 32-bit memory ends here, and SQLite refuses larger heaps long before.
const MOST_MEMORY: u64 = 4 * GIB;

/// One page of a WebAssembly memory, and less than SQLite needs to open a connection. Kilobytes taken for bytes end up here.
const LEAST_MEMORY: u64 = 64 * KIB;

/// The smallest page that SQLite makes by itself is 4 KiB, and a new database has at least one.
const LEAST_DATABASE: u64 = 4 * KIB;

/// A frame of compiled code alone may take a kilobyte; wasmtime keeps a page of the host's for itself.
const LEAST_STACK: u64 = 4 * KIB;

/// The threads that run guests have stacks of some megabytes.
const MOST_STACK: u64 = GIB;

/// The header of a module has 8 bytes, and `select 1` as many.
const LEAST_GUEST: u64 = 8;

/// A terabyte, 10^12 rows or calls: nobody will ever meet it, so it is no limit.
const NO_LIMIT: u64 = 1 << 40;

/// SQLite's limits are C integers: a larger one is this one.
const MOST_OF_SQLITE: u64 = i32::MAX.unsigned_abs() as u64;

/// Bounds that some profile gets and nobody is likely to have meant.
pub(super) fn odd_amounts(reviewed: &Reviewed<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for plan in reviewed.plans.values() {
        for meter in Meter::ALL {
            let Bound::Limited(most @ 1..) = plan.bound(*meter) else {
                continue;
            };
            let Some((what, help)) = odd(*meter, most) else {
                continue;
            };
            let policy = plan.binding(*meter).iter().find_map(|id| reviewed.policy(id));
            findings.extend(policy.map(|policy| {
                let message = format!("`{}` bounds `{}` at {what}", policy.id, meter.action());
                Finding::warning(Code::OddAmount, message)
                    .with_help(help)
                    .at(Some(policy.location.clone()))
            }));
        }
    }
    findings
}

/// What is odd about the amount and what to do about it, if anything is.
fn odd(meter: Meter, most: u64) -> Option<(String, String)> {
    let unit = meter.unit().name();
    let odd = |why: &str| {
        let help = format!("`context.{unit}` is in {}", described(meter.unit()));
        Some((format!("{most} {unit}: {why}"), help))
    };
    match meter {
        Meter::Elapse | Meter::Compile if most >= LONGEST_MS => odd("an hour or more"),
        Meter::Elapse | Meter::Compile if most < SHORTEST_MS => odd("less than it takes to start"),
        Meter::GrowMemory | Meter::GrowHeap if most > MOST_MEMORY => odd("more than 4 GiB"),
        Meter::GrowMemory if most < LEAST_MEMORY => odd("less than one page of 64 KiB"),
        Meter::GrowHeap if most < LEAST_MEMORY => odd("less than it takes to open a database"),
        Meter::GrowDatabase if most < LEAST_DATABASE => odd("less than one page of 4 KiB"),
        Meter::GrowStack if most < LEAST_STACK => odd("less than one page of 4 KiB"),
        Meter::GrowStack if most > MOST_STACK => odd("more than 1 GiB"),
        Meter::LoadGuest if most < LEAST_GUEST => odd("less than the smallest guest"),
        // A processor gets to 10^12 in minutes, and a bound beyond its reach is how counting is switched off.
        Meter::BurnFuel => None,
        _ if most >= NO_LIMIT => odd("so much that it is no limit"),
        _ if is_sqlite_limit(meter) && most > MOST_OF_SQLITE => odd("more than SQLite can count to"),
        _ => None,
    }
}

fn is_sqlite_limit(meter: Meter) -> bool {
    meter.resource() == "connection" && !matches!(meter, Meter::GrowHeap | Meter::GrowDatabase)
}

fn described(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes: 4 MiB is `4 * 1024 * 1024`",
        Unit::Millis => "milliseconds: two seconds are `2000`",
        Unit::Count | Unit::Elements | Unit::Depth | Unit::Rows | Unit::Ops => "single things, not thousands",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_met_on_one_side_only() {
        let sides = [
            (Meter::Elapse, LONGEST_MS - 1, LONGEST_MS),
            (Meter::Elapse, SHORTEST_MS, SHORTEST_MS - 1),
            (Meter::GrowMemory, MOST_MEMORY, MOST_MEMORY + 1),
            (Meter::GrowMemory, LEAST_MEMORY, LEAST_MEMORY - 1),
            (Meter::GrowHeap, LEAST_MEMORY, LEAST_MEMORY - 1),
            (Meter::GrowDatabase, LEAST_DATABASE, LEAST_DATABASE - 1),
            (Meter::GrowDatabase, NO_LIMIT - 1, NO_LIMIT),
            (Meter::GrowStack, LEAST_STACK, LEAST_STACK - 1),
            (Meter::GrowStack, MOST_STACK, MOST_STACK + 1),
            (Meter::LoadGuest, LEAST_GUEST, LEAST_GUEST - 1),
            (Meter::ReturnRows, NO_LIMIT - 1, NO_LIMIT),
            (Meter::SqlLength, MOST_OF_SQLITE, MOST_OF_SQLITE + 1),
        ];
        for (meter, usual, strange) in sides {
            assert_eq!(odd(meter, usual), None, "{} {usual}", meter.action());
            assert!(odd(meter, strange).is_some(), "{} {strange}", meter.action());
        }
    }
}
