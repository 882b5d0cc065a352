//! Sorts numbers, and finds some of them.

use stockade_kernels::{Numbers, kernel, mixed};

fn work(turn: u32) -> u64 {
    let mut numbers: Vec<u64> = Numbers(u64::from(turn) + 5).take(30_000).collect();
    numbers.sort_unstable();
    let found = (0..1000).filter(|number| numbers.binary_search(&(number << 54)).is_ok()).count();
    numbers.iter().step_by(97).fold(found as u64, |seen, number| mixed(seen, *number))
}

kernel!(work);
