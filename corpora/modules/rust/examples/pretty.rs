//! JSON, laid out.

use serde_json::Value;
use stockade_honest_modules::program;

fn laid_out(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => format!("{value:#}"),
        Err(error) => error.to_string(),
    }
}

program!(laid_out);
