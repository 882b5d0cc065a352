//! Things to ask about.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "tables are long, and a panic is the report"
)]

use serde_json::{Value as Json, json};
use stockade_policies::Resource;

/// Resources of every kind, granted somewhere and granted nowhere, each beside the entity that it must be, typed by hand.
pub fn samples() -> Vec<(Resource, Json)> {
    let database = |name: &str| {
        let row = json!({"uid": {"type": "Database", "id": name}, "attrs": {"name": name}, "parents": []});
        (Resource::database(name), row)
    };
    let table = |database: &str, name: &str, id: &str| {
        let row = json!({
            "uid": {"type": "Table", "id": id},
            "attrs": {"name": name, "database": database},
            "parents": [{"type": "Database", "id": database}],
        });
        (Resource::table(database, name), row)
    };
    let column = |database: &str, table: &str, name: &str, above: &str, id: &str| {
        let row = json!({
            "uid": {"type": "Column", "id": id},
            "attrs": {"name": name, "table": table, "database": database},
            "parents": [{"type": "Table", "id": above}, {"type": "Database", "id": database}],
        });
        (Resource::column(database, table, name), row)
    };
    let named = |type_: &str, id: &str| json!({"uid": {"type": type_, "id": id}, "attrs": {"name": id}, "parents": []});
    let bare = |type_: &str, id: &str| json!({"uid": {"type": type_, "id": id}, "attrs": {}, "parents": []});
    let mut samples = vec![
        database("main"),
        database("temp"),
        database("loot"),
        table("main", "notes", "main.notes"),
        table("main", "a.b", "main.\"a.b\""),
        table("main", "sqlite_master", "main.sqlite_master"),
        table("main", "sqlite_dbpage", "main.sqlite_dbpage"),
        table("main", "dbstat", "main.dbstat"),
        table("main", "pragma_table_info", "main.pragma_table_info"),
        table("temp", "sqlite_temp_master", "temp.sqlite_temp_master"),
        table("temp", "scratch", "temp.scratch"),
        table("loot", "staff", "loot.staff"),
        column("main", "notes", "body", "main.notes", "main.notes.body"),
        column("main", "notes", "", "main.notes", "main.notes.\"\""),
        column("main", "a.b", "c", "main.\"a.b\"", "main.\"a.b\".c"),
        column("main", "staff", "salary", "main.staff", "main.staff.salary"),
        column(
            "main",
            "sqlite_master",
            "sql",
            "main.sqlite_master",
            "main.sqlite_master.sql",
        ),
        column(
            "main",
            "sqlite_dbpage",
            "data",
            "main.sqlite_dbpage",
            "main.sqlite_dbpage.data",
        ),
        column("main", "dbstat", "name", "main.dbstat", "main.dbstat.name"),
        column(
            "main",
            "pragma_table_info",
            "name",
            "main.pragma_table_info",
            "main.pragma_table_info.name",
        ),
        column("temp", "scratch", "x", "temp.scratch", "temp.scratch.x"),
        column("loot", "staff", "salary", "loot.staff", "loot.staff.salary"),
        (Resource::path("/etc/passwd"), named("Path", "/etc/passwd")),
        (Resource::path(""), named("Path", "")),
        (
            Resource::host_function("stockade#log"),
            bare("HostFunction", "stockade#log"),
        ),
        (
            Resource::host_function("env#system"),
            bare("HostFunction", "env#system"),
        ),
    ];
    let path = samples
        .iter_mut()
        .find(|(resource, _)| *resource == Resource::path("/etc/passwd"))
        .unwrap();
    path.1["parents"] = json!([{"type": "Path", "id": "/etc"}, {"type": "Path", "id": "/"}]);
    for name in [
        "abs",
        "->>",
        "like",
        "date",
        "random",
        "changes",
        "sqlite_version",
        "sqlite_rename_table",
        "load_extension",
        "fts3_tokenizer",
        "sqlite_log",
        "readfile",
    ] {
        samples.push((Resource::sql_function(name), bare("SqlFunction", name)));
    }
    for name in [
        "table_info",
        "user_version",
        "writable_schema",
        "max_page_count",
        "hard_heap_limit",
        "database_list",
    ] {
        samples.push((Resource::pragma(name), named("Pragma", name)));
    }
    samples
}
