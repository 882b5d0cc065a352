//! A target whose finding must be found, or whoever fuzzes finds nothing.

/// A word as a number: without a sanitizer libFuzzer sees what numbers are compared with, and not what strings are.
const WORD: u64 = u64::from_le_bytes(*b"stockade");

/// Fails on one word.
///
/// # Panics
/// On the word.
pub fn canary(data: &[u8]) {
    let first = data.first_chunk().map(|first| u64::from_le_bytes(*first));
    assert!(first != Some(WORD), "the canary sang");
}
