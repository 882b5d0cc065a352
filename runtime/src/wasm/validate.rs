//! What is known of a module before anything compiles it.
//!
//! A compiler cannot be interrupted, and the time it takes has little to do with the size of what it is given: fifteen
//! kilobytes keep it busy for seconds. One pass over the bytes counts what its time and memory grow with, and stops at
//! the first bound; the same pass refuses what is no module, and every proposal beyond [`FEATURES`]. It generates no code,
//! so it takes milliseconds for a megabyte.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use stockade_policies::Meter;
use wasmparser::{
    Encoding, Error, FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator, OperatorsReader, Parser,
    Payload, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use crate::gate::{Gate, beyond};
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// WebAssembly 2.0, tail calls, several memories and constant expressions that add. What else wasmtime knows, such as
/// exceptions, threads, garbage collection and 64-bit memories, no guest of the stock profiles needs.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::EXTENDED_CONST);

/// The most characters that are kept of what a parser says: it quotes the guest.
const LONGEST_REASON: usize = 500;

/// The module in binary format and what was counted in it, or why it must not be compiled.
pub(super) fn binary<'b>(bytes: &'b [u8], gate: &Gate) -> Result<(Cow<'b, [u8]>, Counts), Refusal> {
    let binary = wat::parse_bytes(bytes).map_err(|error| malformed(gate, &error.to_string()))?;
    let counts = if gate.has(Layer::Validate) {
        Pass::new(gate).over(&binary)?
    } else {
        Counts::default()
    };
    Ok((binary, counts))
}

/// What a compiler's time and memory grow with: of each the most that one bound is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    items: u64,
    function_length: u64,
    locals: u64,
    blocks: u64,
    loops: u64,
}

impl Counts {
    /// Whether a plan allows a module of so much, which was valid when it was counted.
    pub(super) fn permitted(&self, gate: &Gate) -> Result<(), Refusal> {
        [
            (Meter::WasmItem, self.items),
            (Meter::WasmFunctionLength, self.function_length),
            (Meter::WasmLocal, self.locals),
            (Meter::WasmBlock, self.blocks),
            (Meter::WasmLoop, self.loops),
        ]
        .into_iter()
        .try_for_each(|(meter, total)| permit(gate, meter, total))
    }
}

fn permit(gate: &Gate, meter: Meter, total: u64) -> Result<(), Refusal> {
    let bound = gate.bound(meter);
    if bound.permits(total) {
        return Ok(());
    }
    Err(Refusal::by(Layer::Validate, Class::LimitModule, beyond(meter, bound)))
}

/// A module that does not parse or validate. Where this layer is off, it is wasmtime that cannot use it.
pub(super) fn malformed(gate: &Gate, reason: &str) -> Refusal {
    let mut detail = reason.to_owned();
    if let Some((cut, _)) = detail.char_indices().nth(LONGEST_REASON) {
        detail.truncate(cut);
        detail.push('…');
    }
    Refusal {
        class: Class::ModuleMalformed,
        layer: gate.has(Layer::Validate).then_some(Layer::Validate),
        detail,
    }
}

/// One pass over a module.
struct Pass<'g> {
    gate: &'g Gate,
    validator: Validator,
    allocations: FuncValidatorAllocations,
    /// What has been counted so far.
    counts: Counts,
}

impl<'g> Pass<'g> {
    fn new(gate: &'g Gate) -> Self {
        Self {
            gate,
            validator: Validator::new_with_features(FEATURES),
            allocations: FuncValidatorAllocations::default(),
            counts: Counts::default(),
        }
    }

    fn over(mut self, binary: &[u8]) -> Result<Counts, Refusal> {
        let mut parser = Parser::new(0);
        parser.set_features(FEATURES);
        for payload in parser.parse_all(binary) {
            let payload = payload.map_err(|error| self.invalid(&error))?;
            if let Payload::Version {
                encoding: Encoding::Component,
                ..
            } = payload
            {
                return Err(malformed(
                    self.gate,
                    "it is a component, and only core modules run here",
                ));
            }
            // Counted first: the validator keeps every item that it is given.
            self.count_items(&payload)?;
            let valid = self.validator.payload(&payload).map_err(|error| self.invalid(&error))?;
            if let ValidPayload::Func(function, body) = valid {
                self.function(function, &body)?;
            }
        }
        Ok(self.counts)
    }

    fn count_items(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        let count = match payload {
            Payload::TypeSection(types) => types.count(),
            Payload::ImportSection(imports) => imports.count(),
            Payload::FunctionSection(functions) => functions.count(),
            Payload::TableSection(tables) => tables.count(),
            Payload::MemorySection(memories) => memories.count(),
            Payload::TagSection(tags) => tags.count(),
            Payload::GlobalSection(globals) => globals.count(),
            Payload::ExportSection(exports) => exports.count(),
            Payload::ElementSection(segments) => segments.count(),
            Payload::DataSection(segments) => segments.count(),
            _ => 0,
        };
        self.counts.items += u64::from(count);
        permit(self.gate, Meter::WasmItem, self.counts.items)
    }

    fn function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), Refusal> {
        let length = body.range().len() as u64;
        self.counts.function_length = self.counts.function_length.max(length);
        permit(self.gate, Meter::WasmFunctionLength, length)?;
        self.count_locals(body)?;
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        let mut reader = body.get_binary_reader();
        validator
            .read_locals(&mut reader)
            .map_err(|error| self.invalid(&error))?;
        let mut operators = OperatorsReader::new(reader);
        let mut blocks = 0;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset().map_err(|error| self.invalid(&error))?;
            self.count_blocks(&operator, &mut blocks)?;
            validator.op(offset, &operator).map_err(|error| self.invalid(&error))?;
        }
        operators.finish().map_err(|error| self.invalid(&error))?;
        self.allocations = validator.into_allocations();
        Ok(())
    }

    fn count_locals(&mut self, body: &FunctionBody<'_>) -> Result<(), Refusal> {
        let groups = body.get_locals_reader().map_err(|error| self.invalid(&error))?;
        let mut locals = 0;
        for group in groups {
            let (count, _) = group.map_err(|error| self.invalid(&error))?;
            locals += u64::from(count);
            self.counts.locals = self.counts.locals.max(locals);
            permit(self.gate, Meter::WasmLocal, locals)?;
        }
        Ok(())
    }

    fn count_blocks(&mut self, operator: &Operator<'_>, blocks: &mut u64) -> Result<(), Refusal> {
        let is_loop = matches!(operator, Operator::Loop { .. });
        let branches = matches!(
            operator,
            Operator::Block { .. } | Operator::If { .. } | Operator::BrIf { .. } | Operator::BrTable { .. }
        );
        if is_loop {
            self.counts.loops += 1;
            permit(self.gate, Meter::WasmLoop, self.counts.loops)?;
        }
        if is_loop || branches {
            *blocks += 1;
            self.counts.blocks = self.counts.blocks.max(*blocks);
            permit(self.gate, Meter::WasmBlock, *blocks)?;
        }
        Ok(())
    }

    fn invalid(&self, error: &Error) -> Refusal {
        malformed(self.gate, &error.to_string())
    }
}
