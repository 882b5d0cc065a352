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
    let (modules, texts): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_named(path, "wasm"));
    fs::write(out.join("corpus.rs"), embedded_texts(&root, &texts))?;
    fs::write(out.join("modules.rs"), embedded_modules(&modules))?;
    compile_extension(&root.join("fixtures/extension.c"), &out.join("extension.so"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if ["yaml", "sql", "wasm"].iter().any(|ending| is_named(&path, ending)) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_named(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|kind| kind == ending)
}

/// `&[(path below corpora, text)]`
fn embedded_texts(root: &Path, files: &[PathBuf]) -> String {
    list(files, "include_str!", |file| {
        file.strip_prefix(root).unwrap_or(file).display().to_string()
    })
}

/// `&[(name, bytes)]`
fn embedded_modules(files: &[PathBuf]) -> String {
    list(files, "include_bytes!", |file| {
        file.file_stem().unwrap_or_default().display().to_string()
    })
}

fn list(files: &[PathBuf], including: &str, name: impl Fn(&Path) -> String) -> String {
    let mut list = String::from("&[\n");
    for file in files {
        // Writing to a string cannot fail.
        writeln!(
            list,
            "({:?}, {including}({:?})),",
            name(file),
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
