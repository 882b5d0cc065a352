//! Embeds the corpus, and compiles the extension that one of its attacks loads.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?);
    let root = fs::canonicalize("../corpora")?;
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    fs::write(out.join("corpus.rs"), embedded(&root, &files))?;
    compile_extension(&root.join("fixtures/extension.c"), &out.join("extension.so"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|kind| kind == "yaml" || kind == "sql") {
            files.push(path);
        }
    }
    Ok(())
}

/// `&[(path below corpora, text)]`
fn embedded(root: &Path, files: &[PathBuf]) -> String {
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(file);
        // Writing to a string cannot fail.
        writeln!(
            list,
            "({:?}, include_str!({:?})),",
            name.display().to_string(),
            file.display().to_string()
        )
        .unwrap_or_default();
    }
    list.push(']');
    list
}

fn compile_extension(source: &Path, target: &Path) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", source.display());
    let status = cc::Build::new()
        .get_compiler()
        .to_command()
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(target)
        .arg(source)
        .arg("-ldl")
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the C compiler ended with {status}")))
}
