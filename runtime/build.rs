//! Says whether the SQLite that will be linked can load extensions: without them, the function that switches them is gone.

use std::env;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    println!("cargo::rustc-check-cfg=cfg(sqlite_loads_extensions)");
    let flags = env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    if !flags.contains("SQLITE_OMIT_LOAD_EXTENSION") {
        println!("cargo::rustc-cfg=sqlite_loads_extensions");
    }
}
