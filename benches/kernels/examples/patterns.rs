//! Finds what looks like addresses and dates in a text.

use regex::Regex;
use stockade_kernels::{kernel, mixed, words};

fn work(turn: u32) -> u64 {
    let pattern = Regex::new(r"(?P<name>[a-z]+)@(?P<host>[a-z]+)\.org|([0-9]{4})-([0-9]{2})-([0-9]{2})").unwrap();
    let mut text = String::new();
    for (index, line) in words(6000).lines().enumerate() {
        text.push_str(line);
        text.push_str(&format!(" name{turn}@host.org user@host.org 20{:02}-{:02}-03 ", index % 30, index % 12));
    }
    pattern
        .captures_iter(&text)
        .fold(0, |seen, found| mixed(seen, found.get(0).map_or(0, |all| all.end() as u64)))
}

kernel!(work);
