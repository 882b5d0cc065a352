//! Packs a text and unpacks it again, as an archiver does.

use stockade_kernels::{kernel, words};

fn work(turn: u32) -> u64 {
    let text = format!("{turn}{}", words(3000));
    let packed = miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 6);
    let unpacked = miniz_oxide::inflate::decompress_to_vec(&packed).unwrap_or_default();
    assert_eq!(unpacked, text.as_bytes());
    packed.len() as u64
}

kernel!(work);
