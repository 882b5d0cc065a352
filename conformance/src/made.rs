//! Modules made to measure: so many functions, so many variables, so much code.
//!
//! In binary, because six bytes of it declare fifty thousand variables and text writes out each of them. Whatever else a
//! module of these is made of, it exports a `run` that returns 42.

use serde::Deserialize;

/// What a module is made of, beside the one type, function and export that make it run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measures {
    /// Types, each of another function.
    pub types: u32,
    /// Functions that nobody calls.
    pub functions: u32,
    /// Exports.
    pub exports: u32,
    /// Segments of one byte each.
    pub segments: u32,
    /// Variables of each function that nobody calls.
    pub locals: u32,
    /// Loops in each of those, one after another.
    pub loops: u32,
    /// Blocks in each, one inside the other.
    pub blocks: u32,
    /// Branches in each, all of them about one variable.
    pub branches: u32,
    /// Calls in each.
    pub calls: u32,
    /// Bytes that do nothing in each.
    pub idle: u32,
}

/// The type of a function without parameters and results, and of one that returns an `i32`.
const TYPES: [&[u8]; 2] = [&[0x60, 0, 0], &[0x60, 0, 1, I32]];
const I32: u8 = 0x7f;
const I64: u8 = 0x7e;
/// `i32.const 42`, and the end.
const RUN: &[u8] = &[4, 0, 0x41, 42, END];
const END: u8 = 0x0b;

impl Measures {
    /// The module's bytes.
    #[must_use]
    pub fn module(&self) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        section(&mut module, 1, self.types());
        section(&mut module, 3, self.functions());
        if self.segments > 0 {
            section(&mut module, 5, vec![1, 0, 1]);
        }
        section(&mut module, 7, self.exports());
        section(&mut module, 10, self.code());
        if self.segments > 0 {
            section(&mut module, 11, self.segments());
        }
        module
    }

    fn types(&self) -> Vec<u8> {
        let mut types = number(self.types + 2);
        types.extend(TYPES.concat());
        for index in 0..self.types {
            // The parameters write the number, with `i32` for 0 and `i64` for 1.
            let kind = |bit: u32| if index >> bit & 1 == 0 { I32 } else { I64 };
            types.extend([0x60, 20]);
            types.extend((0..20).map(kind));
            types.push(0);
        }
        types
    }

    fn functions(&self) -> Vec<u8> {
        let mut functions = number(self.functions + 1);
        functions.push(1);
        functions.extend((0..self.functions).map(|_| 0));
        functions
    }

    fn exports(&self) -> Vec<u8> {
        let mut exports = number(self.exports + 1);
        let mut export = |name: String| {
            exports.extend(number(u32::try_from(name.len()).unwrap_or(0)));
            exports.extend(name.into_bytes());
            exports.extend([0, 0]);
        };
        export("run".to_owned());
        (0..self.exports).for_each(|index| export(index.to_string()));
        exports
    }

    fn code(&self) -> Vec<u8> {
        let body = self.body();
        let mut code = number(self.functions + 1);
        code.extend(RUN);
        for _ in 0..self.functions {
            code.extend(number(u32::try_from(body.len()).unwrap_or(0)));
            code.extend(&body);
        }
        code
    }

    /// The variables and the instructions of a function that nobody calls.
    fn body(&self) -> Vec<u8> {
        const IDLE: u8 = 0x01;
        const LOOP: &[u8] = &[0x03, 0x40, END];
        const BLOCK: &[u8] = &[0x02, 0x40];
        const CALL: &[u8] = &[0x10, 1];
        // br_if 0 where variable 0 is not zero
        const BRANCH: &[u8] = &[0x20, 0, 0xa7, 0x0d, 0];
        let mut body = Vec::new();
        if self.locals == 0 {
            body.push(0);
        } else {
            body.push(1);
            body.extend(number(self.locals));
            body.push(I64);
        }
        let repeat = |part: &[u8], times: u32| part.repeat(times as usize);
        body.extend(repeat(BLOCK, self.blocks));
        body.extend(repeat(LOOP, self.loops));
        body.extend(repeat(BRANCH, self.branches));
        body.extend(repeat(CALL, self.calls));
        body.extend(repeat(&[IDLE], self.idle));
        body.extend(repeat(&[END], self.blocks));
        body.push(END);
        body
    }

    fn segments(&self) -> Vec<u8> {
        // Active, at `i32.const 0`.
        const SEGMENT: &[u8] = &[0, 0x41, 0, END, 1, b'x'];
        let mut segments = number(self.segments);
        segments.extend(SEGMENT.repeat(self.segments as usize));
        segments
    }
}

fn section(module: &mut Vec<u8>, id: u8, content: Vec<u8>) {
    module.push(id);
    module.extend(number(u32::try_from(content.len()).unwrap_or(0)));
    module.extend(content);
}

/// A number as WebAssembly writes it: seven bits at a time, the least first.
fn number(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
