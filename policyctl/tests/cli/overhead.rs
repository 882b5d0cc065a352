//! What the fence costs, in every form, with good files and bad ones.

use std::fs;

use serde_json::{Value, json};

use crate::folder::Folder;

fn figure(value: f64) -> Value {
    json!({ "value": value, "low": value, "high": value, "noise": 0.0 })
}

/// A run with these figures, and a curve and its text of whoever's making.
fn run(figures: &Value) -> Value {
    run_of("sql", figures)
}

/// The same, of another benchmark.
fn run_of(bench: &str, figures: &Value) -> Value {
    let point = |count: u64| {
        json!({
            "bench": bench, "title": "rows <script>", "size": { "count": count, "of": "rows" },
            "ways": [{ "name": "bare", "nanos": 100.0 }, { "name": "<b>|`\u{1b}[2J", "nanos": 150.0 }], "control_nanos": 101.0
        })
    };
    json!({
        "run": 1, "date": "2026-01-31",
        "host": {
            "processor": "one <i>of</i> a test", "processors": 2, "memory_bytes": 1 << 30, "kernel": "6.0",
            "is_optimised": true, "versions": { "stockade": "0.1.0" }
        },
        "figures": figures, "comparisons": [point(1), point(100)]
    })
}

fn write(folder: &Folder, name: &str, run: &Value) {
    fs::write(folder.path(name), run.to_string()).unwrap();
}

/// Every quantity at its first target, or what is given.
#[expect(clippy::indexing_slicing, reason = "what is not there is null, or a panic")]
fn every(but: &[(&str, f64)]) -> Value {
    let answer = Folder::new().run(&["overhead", "--format", "json"]);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let mut figures = serde_json::Map::new();
    for verdict in answer["verdicts"].as_array().unwrap() {
        let id = verdict["quantity"].as_str().unwrap();
        // What keeps the strictest keeps the others, and a bound is kept at its value.
        let bound = |key: &str| verdict[key].as_f64();
        let value = bound("most").or(bound("least")).unwrap();
        let kept = figures.get(id).map_or(value, |kept| {
            let kept = kept["value"].as_f64().unwrap();
            if bound("most").is_some() {
                kept.min(value)
            } else {
                kept.max(value)
            }
        });
        figures.insert(id.to_owned(), figure(kept));
    }
    for (id, value) in but {
        figures.insert((*id).to_owned(), figure(*value));
    }
    Value::Object(figures)
}

#[test]
fn the_exit_code_says_whether_every_target_is_met() {
    let folder = Folder::new();
    for (but, code, wanted) in [
        (&[][..], 0, " 0 missed, 0 unsure, 0 not measured"),
        (&[("pointer", 60.0)], 1, " 1 missed, 0 unsure, 0 not measured"),
        (&[("pointer", 200_000.0)], 1, " 2 missed, 0 unsure, 0 not measured"),
        (&[("pool-use", 0.1)], 1, " 1 missed, 0 unsure, 0 not measured"),
    ] {
        write(&folder, "run.json", &run(&every(but)));
        let ran = folder.run(&["overhead", "run.json"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stdout.contains(wanted), "{wanted}: {ran:?}");
    }
    let mut noisy = every(&[]);
    noisy["pointer"]["noise"] = json!(1.0);
    write(&folder, "run.json", &run(&noisy));
    let ran = folder.run(&["overhead", "run.json"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stdout.contains(" 0 missed, 1 unsure"), "{ran:?}");
    let mut slow = run(&every(&[]));
    slow["host"]["is_optimised"] = json!(false);
    write(&folder, "run.json", &slow);
    let ran = folder.run(&["overhead", "run.json"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stdout.contains("not a release: no verdicts") && ran.stdout.contains("0 targets met"),
        "{ran:?}"
    );
}

#[test]
fn the_files_of_one_run_are_put_together_and_kept() {
    let folder = Folder::new();
    write(
        &folder,
        "wasm.json",
        &run_of("wasm", &json!({ "pointer": figure(3.0) })),
    );
    write(&folder, "sql.json", &run(&json!({ "scan": figure(1.5) })));
    let ran = folder.run(&["overhead", "wasm.json", "sql.json", "--save", "both.json"]);
    assert_eq!(ran.code, Some(2), "the others are not measured: {ran:?}");
    let again = folder.run(&["overhead", "both.json", "--format", "json"]);
    let answer: Value = serde_json::from_str(&again.stdout).unwrap();
    let verdict = |id: &str, number: usize| {
        let verdicts = answer["verdicts"].as_array().unwrap().iter();
        let mut of_it = verdicts.filter(|verdict| verdict["quantity"] == id);
        of_it.nth(number).unwrap()["verdict"].clone()
    };
    assert_eq!(
        (verdict("pointer", 0), verdict("scan", 0)),
        (json!("met"), json!("missed"))
    );
    assert_eq!(verdict("join", 0), json!("not-measured"));
    let twice = folder.run(&["overhead", "both.json", "sql.json"]);
    assert_eq!(twice.code, Some(2));
    assert!(twice.stderr.contains("`sql.json` measures `scan` again"), "{twice:?}");
    write(&folder, "layers.json", &run_of("layers", &json!({})));
    let twice = folder.run(&["overhead", "layers.json", "both.json", "layers.json"]);
    assert_eq!(twice.code, Some(2));
    assert!(
        twice.stderr.contains("`layers.json` measures `rows <script>` again"),
        "{twice:?}"
    );
}

/// The line above all others of the page is green for a promise that is kept, and for nothing else.
#[test]
fn a_page_is_green_where_every_target_is_met() {
    let folder = Folder::new();
    let class = |run: &Value| {
        write(&folder, "run.json", run);
        let page = folder.run(&["overhead", "run.json", "--format", "html"]).stdout;
        let (_, after) = page.split_once("</h1>\n<p class=\"").unwrap();
        after.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(class(&run(&every(&[]))), "good");
    assert_eq!(class(&run(&every(&[("pointer", 60.0)]))), "bad");
    let mut noisy = every(&[]);
    noisy["pointer"]["noise"] = json!(1.0);
    assert_eq!(class(&run(&noisy)), "unsure");
    let mut partial = every(&[]);
    partial.as_object_mut().unwrap().remove("pointer");
    assert_eq!(class(&run(&partial)), "unsure");
    let mut slow = run(&every(&[]));
    slow["host"]["is_optimised"] = json!(false);
    assert_eq!(class(&slow), "unsure");
}

#[test]
fn a_machine_may_say_that_it_has_any_memory() {
    let folder = Folder::new();
    let mut large = run(&every(&[]));
    large["host"]["memory_bytes"] = json!(u64::MAX);
    write(&folder, "run.json", &large);
    let ran = folder.run(&["overhead", "run.json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("17179869183 GiB"), "{ran:?}");
}

#[test]
fn what_is_no_run_is_said_to_be_none() {
    let folder = Folder::new();
    let whole = run(&json!({ "pointer": figure(3.0) })).to_string();
    for (from, to, wanted) in [
        ("\"run\":1", "\"run\":9", "of version 9"),
        ("\"pointer\"", "\"poetry\"", "`poetry` is no quantity"),
        ("\"low\":3.0", "\"low\":4.0", "`pointer` cannot be"),
        ("\"high\":3.0", "\"high\":2.0", "`pointer` cannot be"),
        ("\"value\":3.0", "\"value\":2.0", "`pointer` cannot be"),
        ("\"figures\"", "\"figurines\"", "unknown field `figurines`"),
    ] {
        assert!(whole.contains(from), "{whole}");
        fs::write(folder.path("run.json"), whole.replacen(from, to, 1)).unwrap();
        let ran = folder.run(&["overhead", "run.json"]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(
            ran.stderr.contains("`run.json`") && ran.stderr.contains(wanted),
            "{ran:?}"
        );
    }
    let absent = folder.run(&["overhead", "absent.json"]);
    assert!(
        absent.code == Some(2) && absent.stderr.contains("cannot read run `absent.json`"),
        "{absent:?}"
    );
}

#[test]
fn a_strangers_text_comes_through_in_no_form() {
    let folder = Folder::new();
    write(&folder, "run.json", &run(&every(&[])));
    for format in ["human", "markdown", "html"] {
        let ran = folder.run(&["overhead", "run.json", "--comparisons", "--format", format]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.stdout.contains('\u{1b}'), "{format}");
        if format != "human" {
            for tag in ["<script>", "<b>", "<i>"] {
                assert!(!ran.stdout.contains(tag), "{format}: {tag}");
            }
        }
        assert!(ran.stdout.contains("rows "), "{format}: the comparison is shown");
    }
    let page = folder.run(&["overhead", "run.json", "--format", "html"]).stdout;
    assert!(
        page.contains("<polyline class=\"line c1\"") && page.contains("class=\"bar\""),
        "there are charts"
    );
    assert!(!page.contains("<script") && page.contains("default-src 'none'"));
}

#[test]
fn the_book_has_the_published_verdicts() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/overhead.md")).unwrap();
    let table = Folder::new().run(&["overhead", "--format", "markdown"]).stdout;
    assert!(
        page.contains(&table),
        "docs/overhead.md is of another run than:\n{table}"
    );
}

/// The book's figures are those of the newest run, and who misses a target says why.
#[test]
fn the_published_run_is_the_newest_and_every_target_that_it_misses_has_a_reason() {
    let runs = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/runs");
    let names = fs::read_dir(runs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let newest = names.max().unwrap();
    let answer = Folder::new().run(&["overhead", "--format", "json"]);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let kept: Value = serde_json::from_str(&fs::read_to_string(format!("{runs}/{newest}")).unwrap()).unwrap();
    assert_eq!(answer["run"], kept);
    let verdicts = answer["verdicts"].as_array().unwrap();
    for verdict in verdicts {
        assert_ne!(verdict["verdict"], "not-measured", "{verdict}");
    }
    for missed in verdicts.iter().filter(|verdict| verdict["verdict"] == "missed") {
        assert!(missed["because"].is_string(), "{missed}");
    }
}
