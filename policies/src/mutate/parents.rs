//! Entities files without one of the parents in them.

use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::entities::place_of;
use crate::finding::Location;
use crate::store::{Source, SourceKind};

/// A parent that an entities file gives an entity.
#[derive(Debug)]
pub(crate) struct Parent {
    /// The file's name.
    pub(crate) source: String,
    row: usize,
    /// Its place among the parents of the row.
    place: usize,
    /// The entity: `Profile::"reports"`.
    pub(crate) entity: String,
    pub(crate) type_: String,
    pub(crate) id: String,
    /// What it is in: `Profile::"database-only"`.
    pub(crate) above: String,
    pub(crate) location: Location,
}

/// Every parent in the entities files among these sources, all of which have been loaded.
pub(crate) fn of(sources: &[Source]) -> Vec<Parent> {
    let files = sources.iter().filter(|source| source.kind == SourceKind::Entities);
    files.flat_map(in_file).collect()
}

fn in_file(source: &Source) -> Vec<Parent> {
    let rows: Vec<&RawValue> = serde_json::from_str(&source.text).unwrap_or_default();
    let mut found = Vec::new();
    for (row, raw) in rows.into_iter().enumerate() {
        let Ok(entity) = serde_json::from_str::<Json>(raw.get()) else {
            continue;
        };
        let Some((type_, id)) = entity.get("uid").and_then(named) else {
            continue;
        };
        let parents = entity.get("parents").and_then(Json::as_array).into_iter().flatten();
        for (place, above) in parents.enumerate() {
            let above = named(above).map_or_else(|| above.to_string(), |(type_, id)| shown(&type_, &id));
            found.push(Parent {
                source: source.name.clone(),
                row,
                place,
                entity: shown(&type_, &id),
                type_: type_.clone(),
                id: id.clone(),
                above,
                location: place_of(source, raw),
            });
        }
    }
    found
}

/// Both ways in which Cedar's JSON names an entity.
fn named(uid: &Json) -> Option<(String, String)> {
    let uid = uid.get("__entity").unwrap_or(uid);
    Some((
        uid.get("type")?.as_str()?.to_owned(),
        uid.get("id")?.as_str()?.to_owned(),
    ))
}

fn shown(type_: &str, id: &str) -> String {
    format!("{type_}::{id:?}")
}

impl Parent {
    /// The file without this parent; nothing where the source is another file.
    pub(crate) fn dropped_from(&self, source: &Source) -> Option<Source> {
        if source.name != self.source {
            return None;
        }
        let mut rows: Vec<Json> = serde_json::from_str(&source.text).ok()?;
        let parents = rows.get_mut(self.row)?.get_mut("parents")?.as_array_mut()?;
        (self.place < parents.len()).then(|| parents.remove(self.place))?;
        Some(Source {
            text: serde_json::to_string(&rows).ok()?,
            ..source.clone()
        })
    }
}
