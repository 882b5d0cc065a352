//! A virtual machine with registers: one loop around one big switch.

use stockade_kernels::kernel;

#[derive(Clone, Copy)]
enum Op {
    Add(u8, u8, u8),
    Mul(u8, u8, u8),
    Xor(u8, u8, u8),
    Load(u8, u8),
    Store(u8, u8),
    Dec(u8),
    JumpIfNot0(u8, u16),
    Halt,
}

const PROGRAM: &[Op] = &[
    Op::Load(1, 0),
    Op::Add(2, 2, 1),
    Op::Mul(3, 3, 2),
    Op::Xor(3, 3, 1),
    Op::Store(0, 3),
    Op::Dec(0),
    Op::JumpIfNot0(0, 0),
    Op::Halt,
];

fn work(turn: u32) -> u64 {
    let program = core::hint::black_box(PROGRAM);
    let mut memory = [u64::from(turn) | 1; 256];
    let mut registers = [1_u64; 16];
    registers[0] = 100_000;
    let mut at = 0;
    loop {
        let next = program[at];
        at += 1;
        match next {
            Op::Add(to, a, b) => {
                registers[to as usize & 15] = registers[a as usize & 15].wrapping_add(registers[b as usize & 15]);
            }
            Op::Mul(to, a, b) => {
                registers[to as usize & 15] = registers[a as usize & 15].wrapping_mul(registers[b as usize & 15]);
            }
            Op::Xor(to, a, b) => registers[to as usize & 15] = registers[a as usize & 15] ^ registers[b as usize & 15],
            Op::Load(to, from) => registers[to as usize & 15] = memory[registers[from as usize & 15] as usize & 255],
            Op::Store(to, from) => memory[registers[to as usize & 15] as usize & 255] = registers[from as usize & 15],
            Op::Dec(of) => registers[of as usize & 15] = registers[of as usize & 15].wrapping_sub(1),
            Op::JumpIfNot0(of, to) => {
                if registers[of as usize & 15] != 0 {
                    at = to as usize;
                }
            }
            Op::Halt => return registers[3],
        }
    }
}

kernel!(work);
