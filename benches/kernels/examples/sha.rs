//! Digests a buffer: long bodies, few turns.

use sha2::{Digest, Sha256};
use stockade_kernels::kernel;

fn work(turn: u32) -> u64 {
    let digest = Sha256::digest(vec![turn as u8; 300_000]);
    digest.iter().take(8).fold(0, |seen, byte| seen << 8 | u64::from(*byte))
}

kernel!(work);
