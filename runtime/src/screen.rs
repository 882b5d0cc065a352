//! What can be refused before SQLite or wasmtime reads a byte of it.

use stockade_policies::{Bound, Meter, Plan};

use crate::gate::beyond;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};
use crate::request::{Guest, Request};
#[cfg(feature = "sql")]
use crate::sql::Glanced;

/// The least of each meter that any SQL statement needs and SQLite can enforce. SQLite reads a zero in some of them
/// as "no limit", raises `SQLITE_LIMIT_LENGTH` to 30, and its parser's stack starts with 50 entries, so a smaller bound
/// is kept here: nothing passes.
const STATEMENT_NEEDS: &[(Meter, u64, Class)] = &[
    (Meter::SqlLength, 30, Class::LimitSqlValue),
    (Meter::SqlSqlLength, 1, Class::LimitSqlLength),
    (Meter::SqlColumn, 1, Class::LimitSqlColumns),
    (Meter::SqlExprDepth, 1, Class::LimitSqlExpr),
    (Meter::SqlCompoundSelect, 1, Class::LimitSqlCompound),
    (Meter::SqlVdbeOp, 1, Class::LimitSqlProgram),
    (Meter::SqlParserDepth, 50, Class::LimitSqlParser),
    (Meter::GrowHeap, 1, Class::LimitMemory),
    (Meter::Elapse, 1, Class::LimitTime),
];

/// The least of each meter that any module needs.
const MODULE_NEEDS: &[(Meter, u64, Class)] = &[
    (Meter::AddInstance, 1, Class::LimitInstances),
    (Meter::GrowStack, 1, Class::LimitStack),
    (Meter::BurnFuel, 1, Class::LimitFuel),
    (Meter::Compile, 1, Class::LimitTime),
    (Meter::WasmItem, 1, Class::LimitModule),
    (Meter::WasmFunctionLength, 1, Class::LimitModule),
    (Meter::Elapse, 1, Class::LimitTime),
];

/// Why the request must not run at all, if so.
pub(crate) fn refusal(request: &Request, plan: &Plan) -> Option<Refusal> {
    let needs = match &request.guest {
        Guest::Sql(_) => STATEMENT_NEEDS,
        Guest::Wasm(_) => MODULE_NEEDS,
    };
    size_refusal(request.guest.bytes().len(), request.input.len(), plan)
        .or_else(|| match &request.guest {
            Guest::Sql(script) => bytes_refusal(script),
            Guest::Wasm(_) => None,
        })
        .or_else(|| need_refusal(needs, |meter| plan.bound(meter)))
        .or_else(|| match &request.guest {
            Guest::Sql(script) => keyword_refusal(script, plan),
            Guest::Wasm(_) => None,
        })
}

/// Why a script of a kept connection must not run, if so, where its plan lets any run: [`statement_refusal`].
#[cfg(feature = "sql")]
pub(crate) fn script_refusal(script: &Glanced<'_>, plan: &Plan) -> Option<Refusal> {
    size_refusal(script.text().len(), 0, plan)
        .or_else(|| nul_refusal(script.text().as_bytes()))
        .or_else(|| crate::sql::keywords::refusal(script, plan))
}

/// Why a plan lets no SQL run, if so.
#[cfg(feature = "sql")]
pub(crate) fn statement_refusal(plan: &Plan) -> Option<Refusal> {
    need_refusal(STATEMENT_NEEDS, |meter| plan.bound(meter))
}

/// Why the words of a script keep it from running, if they do.
#[cfg(feature = "sql")]
pub(crate) fn keyword_refusal(script: &[u8], plan: &Plan) -> Option<Refusal> {
    crate::sql::keywords::refusal(&Glanced::of(std::str::from_utf8(script).ok()?), plan)
}

#[cfg(not(feature = "sql"))]
fn keyword_refusal(_: &[u8], _: &Plan) -> Option<Refusal> {
    None
}

fn size_refusal(guest: usize, input: usize, plan: &Plan) -> Option<Refusal> {
    let sizes = [
        (Meter::LoadGuest, guest, Class::GuestTooLarge),
        (Meter::TakeInput, input, Class::LimitInput),
    ];
    sizes.into_iter().find_map(|(meter, size, class)| {
        let bound = plan.bound(meter);
        (!bound.permits(size as u64)).then(|| {
            let detail = format!("{}, and {size} were given", beyond(meter, bound));
            Refusal::by(Layer::Screen, class, detail)
        })
    })
}

fn bytes_refusal(script: &[u8]) -> Option<Refusal> {
    nul_refusal(script).or_else(|| {
        let invalid = std::str::from_utf8(script).err()?;
        Some(malformed(format!(
            "the script is not UTF-8 at byte {}",
            invalid.valid_up_to()
        )))
    })
}

/// SQLite stops reading at a NUL, so what stands after one would be run by nobody and read by everybody.
fn nul_refusal(script: &[u8]) -> Option<Refusal> {
    if !script.contains(&0) {
        return None;
    }
    let at = script.iter().position(|&byte| byte == 0)?;
    Some(malformed(format!("the script has a NUL at byte {at}")))
}

fn malformed(detail: String) -> Refusal {
    Refusal::by(Layer::Screen, Class::GuestMalformed, detail)
}

fn need_refusal(needs: &[(Meter, u64, Class)], bound: impl Fn(Meter) -> Bound) -> Option<Refusal> {
    needs.iter().find_map(|&(meter, least, class)| {
        let bound = bound(meter);
        (!bound.permits(least)).then(|| {
            let what = if bound.permits(1) {
                "needs more than that"
            } else {
                "of this kind cannot run"
            };
            let detail = format!("{}: a guest {what}", beyond(meter, bound));
            Refusal::by(Layer::Screen, class, detail)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_checked_for_what_is_refused_here() {
        let least = |needs: &[(Meter, u64, Class)]| -> Vec<(Meter, u64)> {
            needs.iter().map(|(meter, least, _)| (*meter, *least)).collect()
        };
        assert_eq!(least(STATEMENT_NEEDS), stockade_policies::STATEMENT_NEEDS);
        assert_eq!(least(MODULE_NEEDS), stockade_policies::MODULE_NEEDS);
    }
}
