//! What every kernel shares: the input/output convention of stockade's modules, and numbers that look random.
//!
//! The input is a 32-bit number, how often to do the work; without one it is done once. The output is a 64-bit number
//! that depends on all of it.

/// Random enough to be no pattern, and the same every time.
pub struct Numbers(pub u64);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}

/// So many words of a text that compresses as prose does.
pub fn words(count: usize) -> String {
    const WORDS: [&str; 12] = [
        "guest", "policy", "bound", "a", "the", "meter", "layer", "refuses", "what", "is", "not", "granted",
    ];
    let numbers = Numbers(7).take(count);
    let mut text = String::new();
    for number in numbers {
        text.push_str(WORDS[number as usize % WORDS.len()]);
        text.push(if number % 11 == 0 { '\n' } else { ' ' });
    }
    text
}

/// Mixes a value into what was seen before.
pub fn mixed(seen: u64, value: u64) -> u64 {
    (seen ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Exports a kernel: a function from a number that differs in each turn to one that depends on the work.
#[macro_export]
macro_rules! kernel {
    ($work:path) => {
        static INPUT: [std::sync::atomic::AtomicU8; 4] = [const { std::sync::atomic::AtomicU8::new(0) }; 4];
        static OUTPUT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

        #[unsafe(no_mangle)]
        pub extern "C" fn input_ptr() -> usize {
            INPUT.as_ptr() as usize
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn input_bytes_cap() -> usize {
            INPUT.len()
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn output_ptr() -> usize {
            OUTPUT.as_ptr() as usize
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn output_bytes_cap() -> usize {
            8
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn run(size: usize) -> usize {
            use std::sync::atomic::Ordering::Relaxed;
            let bytes = INPUT.each_ref().map(|byte| byte.load(Relaxed));
            let turns = if size == 4 { u32::from_le_bytes(bytes) } else { 1 };
            let seen = (0..turns).fold(0, |seen, turn| $crate::mixed(seen, $work(turn)));
            OUTPUT.store(seen, Relaxed);
            8
        }
    };
}
