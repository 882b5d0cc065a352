//! The SHA-256 of its input.

use sha2::{Digest, Sha256};
use stockade_honest_modules::program;

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

program!(digest);
