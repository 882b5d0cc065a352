//! Makes a module look at a page of memory wherever it could go on for ever.
//!
//! A guest may compute for as long as it likes only by running loops and by calling functions. So each function's first
//! instruction, and the first of each loop, becomes a load from a memory of one page, which this adds. At the guest's
//! deadline the host takes that page away: the next load faults, and wasmtime makes an ordinary trap of it. Until then a
//! guest pays a load, of which processors do several per cycle.
//!
//! * The load is atomic, because the compiler takes out a plain one whose result nobody uses, and then nothing stops a loop.
//!   A load of one byte is never misaligned, so there is no check but the fault.
//! * The memory comes last, so every index that the guest uses means what it meant. The guest was validated before: an
//!   instruction that names a memory beyond its own is no longer there.
//! * The start function becomes an export, which the host calls once the page can be taken away, and the fuel counted.
//! * Everything else is copied byte for byte, but for custom sections: what they say of offsets would no longer be true.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use wasm_encoder::{Encode, ExportKind, Instruction, MemArg, MemoryType, RawSection, SectionId};
use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload, TypeRef};

/// Bytes of the memory that checks load from.
pub(super) const PAGE_BYTES: usize = 64 * 1024;

/// A module with exports that the guest did not write.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub binary: Vec<u8>,
    pub exports: Exports,
}

/// Exports that the guest did not write. Their names are none of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Exports {
    /// The memory whose page is taken away, where there are checks.
    pub page: Option<String>,
    /// The start function, where the guest has one.
    pub start: Option<String>,
}

impl Exports {
    /// Whether `name` is one of these.
    pub(super) fn contains(&self, name: &str) -> bool {
        [&self.page, &self.start]
            .into_iter()
            .any(|own| own.as_deref() == Some(name))
    }
}

/// Adds checks to a module that has been validated, and makes an export of its start function.
///
/// # Errors
/// What the parser makes of a module that was not.
pub(super) fn with_checks(binary: &[u8]) -> Result<Rewritten, BinaryReaderError> {
    let mut guest = Guest::default();
    let survey = Survey::of(binary, &mut guest)?;
    let exports = Exports {
        page: Some(survey.fresh("watchdog")),
        start: survey.start_export(),
    };
    let check = check(survey.memories);
    guest.set(SectionId::Memory, survey.memory_section());
    guest.set(SectionId::Export, survey.export_section(&exports));
    if !survey.bodies.is_empty() {
        guest.set(SectionId::Code, code_section(binary, &survey.bodies, &check)?);
    }
    Ok(Rewritten {
        binary: guest.written(),
        exports,
    })
}

/// Makes an export of the start function of a module that has been validated; nothing where it has none.
///
/// # Errors
/// What the parser makes of a module that was not.
pub(super) fn with_start_exported(binary: &[u8]) -> Result<Option<Rewritten>, BinaryReaderError> {
    let mut guest = Guest::default();
    let survey = Survey::of(binary, &mut guest)?;
    let exports = Exports {
        page: None,
        start: survey.start_export(),
    };
    if exports.start.is_none() {
        return Ok(None);
    }
    guest.set(SectionId::Export, survey.export_section(&exports));
    Ok(Some(Rewritten {
        binary: guest.written(),
        exports,
    }))
}

/// The sections of a module, in the order in which they must stand.
#[derive(Default)]
struct Guest<'a>(BTreeMap<u8, (u8, Cow<'a, [u8]>)>);

impl<'a> Guest<'a> {
    fn copy(&mut self, id: u8, content: &'a [u8]) {
        self.0.insert(rank(id), (id, Cow::Borrowed(content)));
    }

    fn set(&mut self, id: SectionId, content: Vec<u8>) {
        self.0.insert(rank(id as u8), (id as u8, Cow::Owned(content)));
    }

    fn written(&self) -> Vec<u8> {
        let mut module = wasm_encoder::Module::new();
        for (id, content) in self.0.values() {
            module.section(&RawSection { id: *id, data: content });
        }
        module.finish()
    }
}

/// Where a section stands among the others: in the order of their numbers, but for two that were added later.
fn rank(section: u8) -> u8 {
    const TAG: u8 = SectionId::Tag as u8;
    const DATA_COUNT: u8 = SectionId::DataCount as u8;
    const AFTER_MEMORIES: u8 = 2 * SectionId::Memory as u8 + 1;
    const BEFORE_CODE: u8 = 2 * SectionId::Code as u8 - 1;
    match section {
        TAG => AFTER_MEMORIES,
        DATA_COUNT => BEFORE_CODE,
        other => other.saturating_mul(2),
    }
}

/// What the guest has of what is added to.
#[derive(Default)]
struct Survey<'a> {
    memories: u32,
    memory_types: Items<'a>,
    exports: Items<'a>,
    names: HashSet<&'a str>,
    start: Option<u32>,
    bodies: Vec<FunctionBody<'a>>,
}

/// The items of a section, as they are written.
#[derive(Default)]
struct Items<'a> {
    count: u32,
    written: &'a [u8],
}

impl<'a> Survey<'a> {
    /// Reads the module, and copies the sections that stay as they are.
    fn of(binary: &'a [u8], guest: &mut Guest<'a>) -> Result<Self, BinaryReaderError> {
        let mut survey = Self::default();
        for payload in Parser::new(0).parse_all(binary) {
            let payload = payload?;
            let section = payload.as_section();
            let items = |count, from| Items {
                count,
                written: section
                    .as_ref()
                    .and_then(|(_, range)| binary.get(from..range.end))
                    .unwrap_or_default(),
            };
            match &payload {
                Payload::ImportSection(imports) => {
                    for import in imports.clone().into_imports() {
                        survey.memories += u32::from(matches!(import?.ty, TypeRef::Memory(_)));
                    }
                }
                Payload::MemorySection(memories) => {
                    survey.memories += memories.count();
                    survey.memory_types = items(memories.count(), memories.original_position());
                }
                Payload::ExportSection(exports) => {
                    survey.exports = items(exports.count(), exports.original_position());
                    for export in exports.clone() {
                        survey.names.insert(export?.name);
                    }
                }
                Payload::StartSection { func, .. } => {
                    survey.start = Some(*func);
                    continue;
                }
                Payload::CustomSection(_) => continue,
                Payload::CodeSectionEntry(body) => survey.bodies.push(body.clone()),
                _ => {}
            }
            if let Some((id, range)) = section
                && let Some(content) = binary.get(range)
            {
                guest.copy(id, content);
            }
        }
        Ok(survey)
    }

    fn start_export(&self) -> Option<String> {
        self.start.map(|_| self.fresh("start"))
    }

    /// A name by which the guest exports nothing.
    fn fresh(&self, word: &str) -> String {
        let mut name = format!("stockade#{word}");
        while self.names.contains(name.as_str()) {
            name.push('\'');
        }
        name
    }

    fn memory_section(&self) -> Vec<u8> {
        let mut section = Vec::new();
        (self.memory_types.count + 1).encode(&mut section);
        section.extend(self.memory_types.written);
        PAGE.encode(&mut section);
        section
    }

    fn export_section(&self, exports: &Exports) -> Vec<u8> {
        let page = exports
            .page
            .as_ref()
            .map(|name| (name, ExportKind::Memory, self.memories));
        let start = exports.start.as_ref().zip(self.start);
        let start = start.map(|(name, function)| (name, ExportKind::Func, function));
        let own: Vec<_> = page.into_iter().chain(start).collect();
        let mut section = Vec::new();
        (self.exports.count as usize + own.len()).encode(&mut section);
        section.extend(self.exports.written);
        for (name, kind, index) in own {
            name.encode(&mut section);
            kind.encode(&mut section);
            index.encode(&mut section);
        }
        section
    }
}

/// One page, and never another: it cannot move, so the compiler reads its address once.
const PAGE: MemoryType = MemoryType {
    minimum: 1,
    maximum: Some(1),
    memory64: false,
    shared: false,
    page_size_log2: None,
};

/// The instructions that fault where the page is gone.
fn check(memory_index: u32) -> Vec<u8> {
    let address = MemArg {
        offset: 0,
        align: 0,
        memory_index,
    };
    let mut check = Vec::new();
    for instruction in [
        Instruction::I32Const(0),
        Instruction::I32AtomicLoad8U(address),
        Instruction::Drop,
    ] {
        instruction.encode(&mut check);
    }
    check
}

fn code_section(binary: &[u8], bodies: &[FunctionBody<'_>], check: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut section = Vec::new();
    bodies.len().encode(&mut section);
    for body in bodies {
        checking(binary, body, check)?.as_slice().encode(&mut section);
    }
    Ok(section)
}

/// The function, with a check before its first instruction and before the first of each loop.
fn checking(binary: &[u8], body: &FunctionBody<'_>, check: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let range = body.range();
    let mut operators = body.get_operators_reader()?;
    let mut places = vec![operators.original_position()];
    while !operators.eof() {
        if matches!(operators.read()?, Operator::Loop { .. }) {
            places.push(operators.original_position());
        }
    }
    let mut written = Vec::with_capacity(range.len() + places.len() * check.len());
    let mut copied = range.start;
    for place in places {
        written.extend(binary.get(copied..place).unwrap_or_default());
        written.extend(check);
        copied = place;
    }
    written.extend(binary.get(copied..range.end).unwrap_or_default());
    Ok(written)
}
