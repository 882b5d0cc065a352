//! TOML as JSON.

use stockade_honest_modules::program;

fn as_json(text: &str) -> String {
    match toml::from_str::<serde_json::Value>(text) {
        Ok(settings) => settings.to_string(),
        Err(error) => error.message().to_owned(),
    }
}

program!(as_json);
