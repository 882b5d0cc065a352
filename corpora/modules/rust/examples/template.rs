//! A template, filled in with the JSON of the first line.

use minijinja::Environment;
use serde_json::Value;
use stockade_honest_modules::program;

fn filled_in(text: &str) -> String {
    let (values, template) = text.split_once('\n').unwrap_or((text, ""));
    let values: Value = match serde_json::from_str(values) {
        Ok(values) => values,
        Err(error) => return error.to_string(),
    };
    match Environment::new().render_str(template, values) {
        Ok(page) => page,
        Err(error) => error.to_string(),
    }
}

program!(filled_in);
