//! Resources as policies write them: `Table::"main.notes"`.

use std::str::FromStr;

use crate::resource::{Resource, ResourceKind};

/// Why a text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no resource: {reason}")]
pub struct ResourceError {
    text: String,
    reason: String,
}

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        read(text).map_err(|reason| ResourceError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn read(text: &str) -> Result<Resource, String> {
    let (kind, id) = text.split_once("::").ok_or("write it as `Table::\"main.notes\"`")?;
    let kind = ResourceKind::from_name(kind).ok_or_else(|| {
        let kinds: Vec<&str> = ResourceKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("its type is none of {}", kinds.join(", "))
    })?;
    let id: String = serde_json::from_str(id).map_err(|_| "its id is not in double quotes")?;
    let identifiers = || identifiers(&id);
    Ok(match kind {
        ResourceKind::HostFunction => Resource::host_function(&id),
        ResourceKind::Path => Resource::path(&id),
        ResourceKind::Namespace => Resource::namespace(&id),
        ResourceKind::Variable => Resource::variable(&id),
        ResourceKind::SqlFunction => Resource::sql_function(&id),
        ResourceKind::Pragma => Resource::pragma(&id),
        ResourceKind::Database => match identifiers()?.as_slice() {
            [database] => Resource::database(database),
            _ => return Err("a database is named by itself: `main`".to_owned()),
        },
        ResourceKind::Table => match identifiers()?.as_slice() {
            [database, table] => Resource::table(database, table),
            _ => return Err("a table is named with its database: `main.notes`".to_owned()),
        },
        ResourceKind::Column => match identifiers()?.as_slice() {
            [database, table, column] => Resource::column(database, table, column),
            _ => return Err("a column is named with its table: `main.notes.body`".to_owned()),
        },
    })
}

/// Splits at dots outside double quotes, and takes the quotes away.
fn identifiers(id: &str) -> Result<Vec<String>, String> {
    let mut found = vec![String::new()];
    let mut characters = id.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => push(&mut found, '"'),
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => found.push(String::new()),
            other => push(&mut found, other),
        }
    }
    if is_quoted {
        return Err("a quote in its id is not closed".to_owned());
    }
    Ok(found)
}

fn push(found: &mut [String], character: char) {
    if let Some(last) = found.last_mut() {
        last.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_reads_back_what_it_shows() {
        let resources = [
            Resource::host_function("stockade#log"),
            Resource::database("main"),
            Resource::table("main", "a.b"),
            Resource::column("main", "say \"hi\"", ""),
            Resource::column("temp", "t", "c"),
            Resource::sql_function("abs"),
            Resource::pragma("user_version"),
            Resource::path("/etc/passwd"),
        ];
        for resource in resources {
            assert_eq!(resource.to_string().parse::<Resource>().as_ref(), Ok(&resource));
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "main",
            "Tabel::\"main.t\"",
            "Table::main.t",
            "Table::\"t\"",
            "Column::\"main.t\"",
            "Table::\"main.\\\"t\"",
        ] {
            assert!(text.parse::<Resource>().is_err(), "{text}");
        }
    }
}
