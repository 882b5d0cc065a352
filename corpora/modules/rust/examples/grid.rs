//! CSV with a header as JSON, an object for each row.

use serde_json::{Map, Value};
use stockade_honest_modules::program;

fn objects(text: &str) -> String {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().cloned().unwrap_or_default();
    let object = |record: csv::StringRecord| -> Value {
        let fields = names.iter().zip(record.iter());
        fields.map(|(name, cell)| (name.to_owned(), cell.into())).collect::<Map<_, _>>().into()
    };
    match reader.records().map(|record| record.map(object)).collect::<Result<Value, _>>() {
        Ok(rows) => rows.to_string(),
        Err(error) => error.to_string(),
    }
}

program!(objects);
