//! Reads a document and writes it again, as a service does with every request.

use serde_json::{Value, json};
use stockade_kernels::{Numbers, kernel};

fn work(turn: u32) -> u64 {
    let items: Vec<Value> = Numbers(u64::from(turn) + 3)
        .take(400)
        .map(|number| {
            json!({"id": number, "name": format!("item \"{number:x}\"\n"), "price": (number % 1_000_000) as f64 / 1024.0, "tags": ["a", null, true]})
        })
        .collect();
    let text = Value::from(items).to_string();
    let read: Value = serde_json::from_str(&text).unwrap_or_default();
    let again = read.to_string();
    assert_eq!(text.len(), again.len());
    again.len() as u64
}

kernel!(work);
