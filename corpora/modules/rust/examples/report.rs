//! A table in Markdown of what the host's database answers to the query that is its input.

use std::alloc::{Layout, alloc};

use serde_json::Value;
use stockade_honest_modules::program;

#[link(wasm_import_module = "stockade")]
unsafe extern "C" {
    fn db_query(sql: *const u8, length: usize, result: *mut *const u8, result_length: *mut usize) -> i32;
}

/// Where the host puts its answers.
#[unsafe(no_mangle)]
pub extern "C" fn __wasm_allocate(size: usize) -> *mut u8 {
    match Layout::from_size_align(size.max(1), 8) {
        // SAFETY: the size is not zero.
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => std::ptr::null_mut(),
    }
}

fn answer(sql: &str) -> Result<Value, i32> {
    let mut rows = std::ptr::null();
    let mut length = 0;
    // SAFETY: the host reads `sql` and writes the two places.
    let code = unsafe { db_query(sql.as_ptr(), sql.len(), &mut rows, &mut length) };
    if code < 0 {
        return Err(code);
    }
    // SAFETY: the host asked `__wasm_allocate` for these bytes and wrote them.
    let text = unsafe { std::slice::from_raw_parts(rows, length) };
    serde_json::from_slice(text).map_err(|_| 0)
}

fn table(sql: &str) -> String {
    let rows = match answer(sql) {
        Ok(rows) => rows,
        Err(code) => return format!("the query failed: {code}"),
    };
    let cell = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let line = |row: &Value| {
        let cells: Vec<String> = row.as_array().into_iter().flatten().map(cell).collect();
        format!("| {} |", cells.join(" | "))
    };
    let lines: Vec<String> = rows.as_array().into_iter().flatten().map(line).collect();
    lines.join("\n")
}

program!(table);
