//! Text from a zlib stream, which is written in hexadecimal.

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use stockade_honest_modules::program;

fn inflated(text: &str) -> String {
    let Ok(stream) = hex::decode(text.trim()) else {
        return "this is not hexadecimal".to_owned();
    };
    match decompress_to_vec_zlib_with_limit(&stream, 1 << 20) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    }
}

program!(inflated);
