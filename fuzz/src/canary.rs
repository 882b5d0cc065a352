//! A target whose finding must be found, or whoever fuzzes finds nothing.

/// Fails on one word. Libfuzzer reads it out of the comparison.
///
/// # Panics
/// On the word.
pub fn canary(data: &[u8]) {
    assert!(!data.starts_with(b"stockade"), "the canary sang");
}
