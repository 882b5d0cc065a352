//! On stable, with no sanitizer: every target on inputs of every kind. That they find what is planted, `ci/fuzz` is asked at night.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is how a test reports"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use stockade_conformance::{Code, Corpus, Program};
use stockade_fuzz::{TARGETS, noise};

/// Inputs of each target that follow from nothing but their number.
const RANDOM: u64 = 60;
const SEEDS: usize = 40;

fn target(name: &str) -> stockade_fuzz::Target {
    TARGETS.iter().find(|(known, _)| *known == name).unwrap().1
}

fn mutants(seed: &[u8]) -> Vec<Vec<u8>> {
    let mut mutants = vec![seed.to_vec()];
    for at in (0..seed.len()).step_by(seed.len() / 6 + 1) {
        mutants.push(seed[..at].to_vec());
        let mut changed = seed.to_vec();
        changed[at] = changed[at].wrapping_mul(31).wrapping_add(7);
        mutants.push(changed);
    }
    mutants
}

/// Benign guests: attacks on time and memory want the worker that is not here.
fn seeds(want_sql: bool) -> Vec<Vec<u8>> {
    let corpus = Corpus::embedded().unwrap();
    let texts = corpus
        .cases()
        .iter()
        .filter(|case| case.is_benign())
        .filter_map(|case| match &case.program {
            Program::Sql(script) if want_sql => Some(script.clone().into_bytes()),
            Program::Module {
                code: Code::Text(text), ..
            } if !want_sql => Some(text.clone().into_bytes()),
            _ => None,
        });
    let seeds: Vec<_> = texts.take(SEEDS).collect();
    assert!(!seeds.is_empty());
    seeds
}

fn play(name: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    let mut played = 0;
    for input in inputs {
        target(name)(&input);
        played += 1;
    }
    assert!(played > 0);
}

#[test]
fn every_target_takes_any_bytes() {
    for (name, _) in TARGETS {
        play(name, (0..RANDOM).map(noise));
    }
}

/// What was found once, and is mended. A guard that panics refuses; libFuzzer ends the process, and here it is counted.
#[test]
fn old_findings() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some("the_canary_sings") {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(panic);
    }));
    for (name, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
        let files = fs::read_dir(folder).into_iter().flatten();
        for file in files {
            target(name)(&fs::read(file.unwrap().path()).unwrap());
        }
    }
    assert_eq!(
        PANICS.load(Ordering::Relaxed),
        0,
        "something panicked, and was taken for a refusal"
    );
}

/// A target that nobody runs finds nothing.
#[test]
fn every_target_is_a_program_that_runs_at_night() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let nightly = fs::read_to_string(root.join("../.github/workflows/nightly.yml")).unwrap();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let at_night: Vec<&str> = names.iter().copied().filter(|name| *name != "canary").collect();
    assert!(
        nightly.contains(&format!("target: [{}]", at_night.join(", "))),
        "{names:?}"
    );
    let mut programs: Vec<String> = fs::read_dir(root.join("fuzz_targets"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    programs.sort();
    assert_eq!(programs, names);
}

/// With a cargo that only says that it built: whoever has more machines gets every target, with seeds and options.
#[test]
#[expect(clippy::disallowed_methods, reason = "a script is a process")]
fn every_target_is_built_for_those_with_more_machines() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let [bin, out, built] = ["bin", "out", "built"].map(|name| folder.path().join(name));
    let release = built.join("x86_64-unknown-linux-gnu/release");
    for made in [&bin, &out, &release] {
        fs::create_dir_all(made).unwrap();
    }
    std::os::unix::fs::symlink(root.canonicalize().unwrap(), folder.path().join("stockade")).unwrap();
    let [said, target] = ["said", "target"].map(|name| folder.path().join(name));
    let program = |path: &Path, script: &str| {
        fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let built_all = format!(
        "echo \"$*\" >>{}; for p in fuzz/fuzz_targets/*.rs; do cp {} {}/$(basename -s .rs $p); done",
        said.display(),
        target.display(),
        release.display()
    );
    program(&bin.join("cargo"), &built_all);
    program(&bin.join("zip"), "echo >\"$2\"");
    program(&target, "echo >\"$STOCKADE_FUZZ_SEEDS/seed\"");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = || {
        std::process::Command::new("bash")
            .arg(root.join(".clusterfuzzlite/build.sh"))
            .env("SRC", folder.path())
            .env("OUT", &out)
            .env("SANITIZER", "address")
            .env("CARGO_TARGET_DIR", &built)
            .env("PATH", &path)
            .status()
            .unwrap()
    };
    let ended = run();
    assert!(ended.success(), "{ended}");
    let said = fs::read_to_string(said).unwrap();
    assert!(said.contains("--sanitizer address"), "{said}");
    for (name, _) in TARGETS.iter().filter(|(name, _)| *name != "canary") {
        for file in [
            (*name).to_owned(),
            format!("{name}.options"),
            format!("{name}_seed_corpus.zip"),
        ] {
            assert!(out.join(&file).exists(), "{file} is not there");
        }
    }
    assert!(!out.join("canary").exists(), "it would be found for ever");
    // What could not be built must not be said to be there.
    program(&bin.join("cargo"), "exit 1");
    assert!(!run().success());
}

#[test]
fn policies() {
    let seeds = [
        "@id(\"a\") permit (principal, action == Action::\"elapse\", resource) when { context.millis <= 500 };",
        "@id(\"b\") forbid (principal, action, resource) unless { principal in Profile::\"x\" };",
        "permit (principal, action, resource) when { context.bytes * 9223372036854775807 > -1 };",
        "",
    ];
    play("policy_text", seeds.iter().flat_map(|seed| mutants(seed.as_bytes())));
}

#[test]
fn guests_of_the_corpus() {
    play("sql", seeds(true).iter().flat_map(|seed| mutants(seed)));
    play("wasm", seeds(false).iter().flat_map(|seed| mutants(seed)));
}

#[test]
#[should_panic(expected = "the canary sang")]
fn the_canary_sings() {
    play("canary", [b"stockade".to_vec()]);
}
