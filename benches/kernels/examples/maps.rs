//! Counts and sorts by keys, in a hash map and in a tree.

use std::collections::{BTreeMap, HashMap};

use stockade_kernels::{Numbers, kernel, mixed};

fn work(turn: u32) -> u64 {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    let mut sorted = BTreeMap::new();
    for number in Numbers(u64::from(turn) + 11).take(10_000) {
        *counts.entry(number % 3000).or_default() += 1;
        sorted.insert(number % 5000, number);
    }
    for number in 0..1000 {
        sorted.remove(&number);
    }
    let most = counts.values().copied().max().unwrap_or(0);
    sorted.iter().fold(most, |seen, (key, value)| mixed(seen, key ^ value))
}

kernel!(work);
