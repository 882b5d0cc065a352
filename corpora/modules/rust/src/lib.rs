//! What every program shares: the input/output contract of stockade's modules, from text to text.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

/// The most bytes of an input.
pub const CAPACITY: usize = 1 << 16;

/// Where the host writes the input.
pub static INPUT: [AtomicU8; CAPACITY] = [const { AtomicU8::new(0) }; CAPACITY];

/// What the host reads when the program has run.
pub static OUTPUT: Mutex<String> = Mutex::new(String::new());

/// The first bytes of what the host wrote, as text.
pub fn input(length: usize) -> String {
    let bytes: Vec<u8> = INPUT.iter().take(length).map(|byte| byte.load(Ordering::Relaxed)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Keeps what the host will read, and returns its length.
pub fn hand_over(text: String) -> usize {
    let mut output = OUTPUT.lock().unwrap();
    *output = text;
    output.len()
}

/// Exports a program: a function from text to text.
#[macro_export]
macro_rules! program {
    ($work:path) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn input_ptr() -> usize {
            $crate::INPUT.as_ptr() as usize
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn input_utf8_cap() -> usize {
            $crate::CAPACITY
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn output_ptr() -> usize {
            $crate::OUTPUT.lock().unwrap().as_ptr() as usize
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn output_utf8_cap() -> usize {
            $crate::OUTPUT.lock().unwrap().len()
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn run(length: usize) -> usize {
            $crate::hand_over($work(&$crate::input(length)))
        }
    };
}
