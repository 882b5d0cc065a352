//! What a newcomer or an attacker gets wrong gets a sentence that says what, where and how to mend it, and exit code 2
//! where there is no answer, 1 where the answer is no.

use std::fs;
use std::process::Command;

use crate::folder::{Folder, Ran};

#[track_caller]
fn assert_no_answer(ran: &Ran, wanted: &str) {
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains(wanted), "{ran:?}");
    assert!(ran.stdout.is_empty(), "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

#[track_caller]
fn assert_refused(ran: &Ran, wanted: &str) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(wanted), "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

#[test]
fn guests_that_are_none() {
    let folder = Folder::new();
    fs::write(folder.path("empty.sql"), "").unwrap();
    fs::write(folder.path("guest.txt"), "select 1").unwrap();
    fs::create_dir(folder.path("folder.sql")).unwrap();
    assert_no_answer(&folder.run(&["run", "empty.sql"]), "guest `empty.sql` is empty");
    assert_no_answer(&folder.run(&["run", "gone.sql"]), "cannot read guest `gone.sql`");
    assert_no_answer(&folder.run(&["run", "folder.sql"]), "guest `folder.sql` is a folder");
    assert_no_answer(&folder.run(&["run", "guest.txt"]), "name it `.sql`, `.wasm` or `.wat`");
}

#[test]
fn chains_that_are_none() {
    let folder = Folder::new();
    fs::write(folder.path("one.wat"), "(module)").unwrap();
    fs::write(folder.path("two.sql"), "select 1").unwrap();
    fs::write(folder.path("one.sig"), [0; 64]).unwrap();
    let run = |words: &[&str]| folder.run(&[&["run", "--profile", "pure"], words].concat());
    assert_no_answer(&run(&["one.wat", "two.sql"]), "guest 2 of the chain is SQL");
    assert_no_answer(&run(&["one.wat", "gone.wat"]), "cannot read guest `gone.wat`");
    assert_no_answer(
        &run(&["-", "-"]),
        "only one guest, or the input, can come from standard input",
    );
    assert_no_answer(&run(&["--invoke", "run", "one.wat", "one.wat"]), "are for one module");
    assert_no_answer(
        &run(&["--signature", "one.sig", "one.wat", "one.wat"]),
        "2 guests and 1 signatures: give one for each, or none",
    );
}

#[test]
fn a_chain_says_which_of_its_modules_failed() {
    let folder = Folder::new();
    fs::write(folder.path("idle.wat"), "(module)").unwrap();
    fs::write(folder.path("trap.wat"), "(module (func (export \"run\") unreachable))").unwrap();
    let chain = ["run", "--profile", "pure", "idle.wat", "trap.wat", "idle.wat"];
    let ran = folder.run(&chain);
    assert_refused(&ran, "trap.wat: trap after");
    assert_eq!(ran.stderr.matches("idle.wat: completed").count(), 1, "{ran:?}");
    let ran = folder.run(&[&chain[..], &["--format", "json"]].concat());
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let module = |number: usize, key: &str| answer["modules"][number][key].as_str().map(str::to_owned);
    assert_eq!(answer["outcome"], "trap");
    assert_eq!(module(0, "outcome").as_deref(), Some("completed"));
    assert_eq!(module(1, "guest").as_deref(), Some("trap.wat"));
    assert_eq!(module(2, "guest"), None);
}

#[test]
fn guests_that_are_refused_before_they_run() {
    let folder = Folder::new();
    fs::write(folder.path("nul.sql"), "select 1;\0attach 'x' as y").unwrap();
    fs::write(folder.path("latin1.sql"), b"select '\xe9'").unwrap();
    fs::write(folder.path("huge.sql"), vec![b' '; 100 << 20]).unwrap();
    let run = |name: &str| folder.run(&["run", "--profile", "walkin", name]);
    assert_refused(&run("nul.sql"), "guest.malformed by `screen`");
    assert_refused(&run("nul.sql"), "NUL at byte 9");
    assert_refused(&run("latin1.sql"), "not UTF-8 at byte 8");
    assert_refused(&run("huge.sql"), "guest.too-large by `screen`");
}

#[test]
fn modules_that_are_refused_before_they_are_compiled() {
    let folder = Folder::new();
    fs::write(folder.path("noise.wasm"), b"\0asm\x01\0\0\0\xff\xff").unwrap();
    fs::write(folder.path("cut.wasm"), b"\0asm\x01").unwrap();
    fs::write(folder.path("component.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
    fs::write(folder.path("native.wasm"), b"\x7fELF\x02\x01\x01\0").unwrap();
    fs::write(folder.path("huge.wasm"), vec![b' '; 100 << 20]).unwrap();
    fs::write(folder.path("prose.wat"), "Dear host, please run me.").unwrap();
    fs::write(folder.path("idle.wat"), "(module)").unwrap();
    let run = |name: &str| folder.run(&["run", "--profile", "pure", name]);
    assert_refused(&run("noise.wasm"), "module.malformed by `validate`");
    assert_refused(&run("cut.wasm"), "module.malformed by `validate`");
    assert_refused(
        &run("component.wasm"),
        "it is a component, and only core modules run here",
    );
    assert_refused(&run("native.wasm"), "module.malformed by `provenance`");
    assert_refused(&run("native.wasm"), "native code from a stranger is never loaded");
    assert_refused(&run("huge.wasm"), "guest.too-large by `screen`");
    assert_refused(&run("prose.wat"), "module.malformed by `validate`");
    let signed = |by: &str, guest: &str| folder.run(&["run", "--profile", "pure", "--signature", by, guest]);
    assert_refused(
        &signed("idle.wat", "idle.wat"),
        "denied.provenance by `provenance` after 0.0 ms: the signature has 8 bytes, and one of Ed25519 has 64",
    );
    assert_no_answer(&signed("gone.sig", "idle.wat"), "cannot read signature `gone.sig`");
    assert_no_answer(&signed("-", "idle.wat"), "a signature comes from a file");
}

/// A million statements are as long as one that is too long: nobody looks at them.
#[test]
fn a_million_statements() {
    let folder = Folder::new();
    fs::write(folder.path("many.sql"), "select 1;".repeat(1_000_000)).unwrap();
    let ran = folder.run(&["run", "--profile", "trusted", "many.sql"]);
    assert_refused(&ran, "limit.sql-length by `screen`");
    fs::write(folder.path("fewer.sql"), "select 1;".repeat(10_000)).unwrap();
    let ran = folder.run(&["run", "--profile", "trusted", "fewer.sql"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn databases_that_cannot_be_used() {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 1").unwrap();
    fs::write(folder.path("noise.db"), vec![b'x'; 8192]).unwrap();
    let on = |database: &str| folder.run(&["run", "--profile", "walkin", "--db", database, "guest.sql"]);
    assert_no_answer(&on("gone.db"), "cannot use database `gone.db`");
    assert_no_answer(&on("noise.db"), "file is not a database");
    assert_eq!(
        fs::read(folder.path("noise.db")).unwrap(),
        vec![b'x'; 8192],
        "a bad database is left as it was"
    );
}

#[test]
fn a_locked_database_is_no_verdict_on_the_guest() {
    let folder = Folder::new();
    let database = folder.path("busy.db");
    let owner = stockade_runtime::HostDatabase::open(&database).unwrap();
    owner
        .execute("create table t(x); begin exclusive; insert into t values (1)")
        .unwrap();
    fs::write(folder.path("guest.sql"), "select count(*) from t").unwrap();
    let run = || folder.run(&["run", "--profile", "walkin", "--db", "busy.db", "guest.sql"]);
    assert_no_answer(&run(), "database is locked");
    owner.execute("commit").unwrap();
    let unlocked = run();
    assert_eq!(
        (unlocked.code, unlocked.stdout.as_str()),
        (Some(0), "count(*)\n1\n"),
        "{unlocked:?}"
    );
}

#[test]
fn profiles_and_exports_that_do_not_exist() {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 1").unwrap();
    fs::write(folder.path("guest.wat"), "(module (func (export \"add\") (param i32)))").unwrap();
    assert_no_answer(
        &folder.run(&["run", "--profile", "wakin", "guest.sql"]),
        "did you mean `walkin`?",
    );
    assert_no_answer(
        &folder.run(&["run", "--invoke", "sub", "guest.wat"]),
        "it exports `add`",
    );
    assert_no_answer(
        &folder.run(&["run", "--invoke", "add", "guest.wat"]),
        "takes 1 arguments, and 0 were given",
    );
    let wrong = folder.run(&["run", "--invoke", "add", "--arg", "x", "guest.wat"]);
    assert_no_answer(&wrong, "argument `x` is not an i32");
    assert_no_answer(
        &folder.run(&["run", "--input", "guest.sql", "guest.sql"]),
        "are for WebAssembly guests",
    );
}

#[test]
fn state_and_variables_that_cannot_be_given() {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 1").unwrap();
    fs::write(folder.path("guest.wat"), "(module)").unwrap();
    fs::write(folder.path("other.state"), "no state").unwrap();
    fs::create_dir(folder.path("folder.state")).unwrap();
    for given in [["--state", "x.state"], ["--env", "LANG=de"]] {
        let ran = folder.run(&["run", given[0], given[1], "guest.sql"]);
        assert_no_answer(&ran, "are for WebAssembly guests");
    }
    let with = |flag: &str, value: &str| folder.run(&["run", "--profile", "trusted", flag, value, "guest.wat"]);
    assert_no_answer(
        &with("--env", "NO_SUCH_VARIABLE"),
        "cannot give variable `NO_SUCH_VARIABLE`",
    );
    assert_no_answer(&with("--env", ""), "a variable has a name");
    assert_no_answer(&with("--env", "=de"), "a variable has a name");
    assert_no_answer(&with("--state", "other.state"), "`other.state` holds no state");
    assert_no_answer(&with("--state", "folder.state"), "cannot use state `folder.state`");
    assert_no_answer(&with("--state", "gone/x.state"), "cannot use state `gone/x.state`");
    assert_eq!(fs::read(folder.path("other.state")).unwrap(), b"no state");
}

#[test]
fn policies_that_do_not_hold() {
    let folder = Folder::new();
    let wrong = [
        ("syntax.cedar", "permit (principal, action resource);", "syntax"),
        (
            "unknown.cedar",
            "@id(\"a\") permit (principal, action == Action::\"atach\", resource);",
            "validation",
        ),
        (
            "profile.cedar",
            "@id(\"a\") permit (principal in Profile::\"wakin\", action == Action::\"select\", resource);",
            "unknown-profile",
        ),
        (
            "holes.cedar",
            "@id(\"a\") forbid (principal in Profile::\"walkin\", action == Action::\"returnRows\", resource)
             when { context.rows > 10 && context.rows < 20 };",
            "meter-with-holes",
        ),
        (
            "unbounded.cedar",
            "@id(\"a\") permit (principal in Profile::\"walkin\", action == Action::\"returnRows\", resource);",
            "unbounded-meter",
        ),
    ];
    for (name, text, code) in wrong {
        fs::write(folder.path(name), text).unwrap();
        let ran = folder.run(&["check", "--deny", "warnings", name]);
        assert_refused(&ran, code);
        assert!(ran.stderr.contains(name), "{ran:?}");
    }
    fs::write(folder.path("binary.cedar"), b"\xff\xfe").unwrap();
    assert_no_answer(
        &folder.run(&["check", "binary.cedar"]),
        "`binary.cedar` is not UTF-8 at byte 0",
    );
    assert_no_answer(&folder.run(&["check", "gone.cedar"]), "cannot read `gone.cedar`");
    fs::create_dir(folder.path("none")).unwrap();
    assert_no_answer(
        &folder.run(&["check", "none"]),
        "no `.cedar`, `.cedarschema` or `.json` file in `none`",
    );
}

#[test]
fn a_policy_that_does_not_load_runs_nothing() {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 1").unwrap();
    fs::write(folder.path("bad.cedar"), "permit (").unwrap();
    assert_no_answer(
        &folder.run(&["run", "--policy", "bad.cedar", "--", "guest.sql"]),
        "the policies do not load",
    );
}

#[test]
fn cases_with_mistakes() {
    let folder = Folder::new();
    let case = |text: &str| {
        fs::write(folder.path("case.yaml"), text).unwrap();
        folder.run(&["replay", "case.yaml"])
    };
    let good = "why: x\nprofile: walkin\nguest: {sql: select 1}\nexpect: completed\n";
    assert_no_answer(&case(&format!("{good}stoped_by: [limits]\n")), "case.yaml:5");
    assert_no_answer(
        &case(&format!("{good}stoped_by: [limits]\n")),
        "unknown field `stoped_by`",
    );
    assert_no_answer(&case(good), "an attack cannot expect `completed`");
    assert_no_answer(&case("why: x\nguest: ["), "case.yaml:2");
    let attack = "why: x\nsource: [y]\ncwe: [1]\nthreat: data\nprofile: walkn\nguest: {sql: select 1}\n\
                  expect: trap\nstopped_by: [limits]\ncontrol: {rows: [[1]]}\n";
    assert_no_answer_with_table(&case(attack), "profile `walkn` is not declared; did you mean `walkin`?");
    assert_no_answer(&case(&format!("{attack}fixture: gone.sql\n")), "fixture `gone.sql`");
    assert_no_answer(&folder.run(&["replay", "sql/atach-reads-host-file"]), "did you mean");
    fs::create_dir(folder.path("empty")).unwrap();
    assert_no_answer(&folder.run(&["replay", "empty"]), "there is no case in empty");
}

/// A replay that began has a table; a case without a verdict makes it no answer.
#[track_caller]
fn assert_no_answer_with_table(ran: &Ran, wanted: &str) {
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains(wanted), "{ran:?}");
    assert!(ran.stdout.contains("cases without a verdict: 1"), "{ran:?}");
}

#[test]
fn what_a_guest_says_cannot_move_the_cursor() {
    let folder = Folder::new();
    fs::write(
        folder.path("guest.sql"),
        "select char(27) || '[2J' as \"\u{1b}]0;x\u{7}\"",
    )
    .unwrap();
    let ran = folder.run(&["run", "--profile", "walkin", "guest.sql"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
    assert!(ran.stdout.contains("\\u{1b}[2J"), "{ran:?}");
}

#[test]
fn layers_that_nobody_can_do_without() {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 1").unwrap();
    assert_no_answer(
        &folder.run(&["run", "--do-without", "authorizer", "guest.sql"]),
        "[possible values: build, landlock, seccomp]",
    );
    assert_no_answer(
        &folder.run(&["run", "--do-without", "landlock", "--in-process", "guest.sql"]),
        "cannot be used with",
    );
}

/// `policyctl run` under a limit, as the shell's `ulimit` takes it.
fn limited(limit: &str) -> Ran {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 1").unwrap();
    let inner = folder.command(&["run", "--profile", "walkin", "guest.sql"]);
    #[expect(
        clippy::disallowed_methods,
        reason = "the program under test, with less than it needs"
    )]
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn who_has_too_few_descriptors_for_a_worker_is_told_so() {
    let ran = limited("-n 9");
    assert_no_answer(&ran, "cannot start a worker: Too many open files");
    assert!(ran.stderr.contains("raise `ulimit -n` (`RLIMIT_NOFILE`)"), "{ran:?}");
    assert_eq!(limited("-n 100").code, Some(0));
}
