//! What the indexes of a database are made of.
//!
//! An index holds the values of its columns in order, whoever may read them: it decides whether a row can be written, and in
//! which order rows are read.

use std::collections::BTreeMap;

use rusqlite::Connection;
use stockade_policies::Resource;

use super::unreported::quoted;

/// One index, or the primary key of a table that has no row ids.
#[derive(Debug)]
pub(super) struct Index {
    pub table: Resource,
    pub is_unique: bool,
    /// Where its tree begins: its database's number, and the page.
    pub root: Root,
    /// The columns that it is made of; all of the table where SQLite does not tell, because it is made of an expression
    /// or holds for some rows only.
    pub columns: Vec<Resource>,
}

/// A database's number in the connection, and a page of it.
pub(super) type Root = (i64, i64);

/// The indexes of one schema, as the host sees them.
pub(super) fn indexes(connection: &Connection, schema: &str) -> rusqlite::Result<Vec<Index>> {
    if !may_have_any(connection, schema)? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare(&format!(
        "with listed as (
           select tables.name as tbl, indexes.name as idx, indexes.\"unique\" as is_unique,
             coalesce(stored.rootpage, tables.rootpage) as root,
             indexes.partial or exists (
               select 1 from pragma_index_xinfo(indexes.name, ?1) as keys where keys.key and keys.name is null) as is_open
           from {schema}.sqlite_master as tables
           join pragma_index_list(tables.name, ?1) as indexes
           left join {schema}.sqlite_master as stored on stored.type = 'index' and stored.name = indexes.name
           where tables.type = 'table')
         select tbl, idx, is_unique, (select seq from pragma_database_list where name = ?1), root, columns.name
         from listed join pragma_index_xinfo(idx, ?1) as columns on columns.key
         where not is_open
         union all
         select tbl, idx, is_unique, (select seq from pragma_database_list where name = ?1), root, columns.name
         from listed join pragma_table_xinfo(tbl, ?1) as columns
         where is_open",
        schema = quoted(schema)
    ))?;
    let mut found: BTreeMap<(String, String), Index> = BTreeMap::new();
    let mut rows = statement.query([schema])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        let column = Resource::column(schema, &table, &row.get::<_, String>(5)?);
        let index = Index {
            table: Resource::table(schema, &table),
            is_unique: row.get(2)?,
            root: (row.get(3)?, row.get(4)?),
            columns: Vec::new(),
        };
        let index = found.entry((table, row.get(1)?)).or_insert(index);
        index.columns.push(column);
    }
    Ok(found.into_values().collect())
}

/// Whether there could be one. Most of the time of a short script would go into asking what it is made of.
fn may_have_any(connection: &Connection, schema: &str) -> rusqlite::Result<bool> {
    let query = format!(
        "select exists (select 1 from {}.sqlite_master where type = 'index' or sql like '%without%rowid%')",
        quoted(schema)
    );
    connection.query_row(&query, [], |row| row.get(0))
}

/// The trees that the statement in `text` walks in their order, as the host sees it.
pub(super) fn walked(connection: &Connection, text: &str) -> rusqlite::Result<Vec<Root>> {
    const OPENS: [&str; 3] = ["OpenRead", "OpenWrite", "ReopenIdx"];
    const WALKS: [&str; 6] = ["Last", "Rewind", "SeekGE", "SeekGT", "SeekLE", "SeekLT"];
    let mut explain = connection.prepare(&format!("explain {text}"))?;
    let mut opened: Vec<(i64, Root)> = Vec::new();
    let mut walking = Vec::new();
    let mut rows = explain.query([])?;
    while let Some(row) = rows.next()? {
        let opcode: String = row.get(1)?;
        let cursor: i64 = row.get(2)?;
        if OPENS.contains(&opcode.as_str()) {
            opened.push((cursor, (row.get(4)?, row.get(3)?)));
        } else if WALKS.contains(&opcode.as_str()) {
            walking.push(cursor);
        }
    }
    let is_walked = |(cursor, _): &(i64, Root)| walking.contains(cursor);
    Ok(opened.into_iter().filter(is_walked).map(|(_, root)| root).collect())
}
