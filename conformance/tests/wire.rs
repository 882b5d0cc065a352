//! Adapters that lie, hang, flood, die and babble: each costs its case and gets its verdict.
//!
//! Each is a few lines of shell, because the worst of them are programs that no library would help to write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use stockade_conformance::wire::{Allowance, Wired, schema};
use stockade_conformance::{Case, Corpus, Gaps, Laboratory, Modules, Standing, stand};

/// What an honest adapter says first.
const HELLO: &str = r#"{"type":"hello","protocol":1,"subject":"fake","version":"1","kinds":["sql"],"meters":["elapse","growHeap"],"actions":["attach"]}"#;

/// It makes a file where it was given none.
const LOOTING: &str = "
why: A guest that is denied ATTACH makes no file.
source: https://sqlite.org/lang_attach.html
cwe: [22]
threat: files
profile: walkin
guest:
  sql: attach '${outside}/loot' as loot; create table loot.t(x);
expect: denied.sql-action
stopped_by: [authorizer]
control:
  file: loot
";

const LASTING: &str = "
why: A guest that has had its time is ended.
source: https://sqlite.org/lang_with.html
cwe: [400]
threat: time
profile: walkin
guest:
  sql: with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c
expect: limit.time
stopped_by: [deadline]
twin: benign/sql/some
control:
  still_running_after_ms: 500
";

const HOARDING: &str = "
why: A guest that has had its memory is ended.
source: https://sqlite.org/c3ref/hard_heap_limit64.html
cwe: [770]
threat: memory
profile: walkin
guest:
  sql: select length(hex(zeroblob(100000000)))
expect: limit.memory
stopped_by: [heap]
twin: benign/sql/some
control:
  peak_rss_mib: 100
";

const HONEST: &str = "
why: Adding is what guests do.
profile: walkin
guest:
  sql: select 40 + 2
expect: completed
returns:
  rows: [[42]]
";

/// An adapter, the case it is given, and what must be said of it.
struct Fake {
    name: &'static str,
    case: &'static str,
    /// Run after `hello`, with the line in `$run` and `control` true where there is no plan.
    script: &'static str,
    standing: Standing,
    /// Part of the reason that is given.
    because: &'static str,
}

const fn fake(
    name: &'static str,
    case: &'static str,
    script: &'static str,
    standing: Standing,
    because: &'static str,
) -> Fake {
    Fake {
        name,
        case,
        script,
        standing,
        because,
    }
}

#[rustfmt::skip]
const FAKES: &[Fake] = &[
    fake("a fence that stands", LOOTING,
        "started; if $control; then loot; done_ completed; else done_ denied.sql-action; fi",
        Standing::Stopped, "denied.sql-action"),
    fake("a fence that lies", LOOTING,
        "started; loot; done_ denied.sql-action",
        Standing::Undetected, "file `loot` was made"),
    fake("harm that cannot be done", LOOTING,
        "started; done_ sql.syntax",
        Standing::Harmless, "the harm was not seen"),
    fake("harm beside the point", LOOTING,
        "started; echo x > elsewhere; done_ denied.sql-action",
        Standing::Undetected, "file `elsewhere` was made outside"),
    fake("no means", LOOTING,
        "unsupported 'a fence'",
        Standing::Unsupported, "a fence"),
    fake("no means, it says, and does the harm", LOOTING,
        "loot; unsupported 'a fence'",
        Standing::Undetected, "file `loot` was made"),
    fake("garbage", LOOTING,
        "started; echo 'Traceback (most recent call last):'",
        Standing::Error, "said what is no message: `Traceback"),
    fake("garbage over harm", LOOTING,
        "started; loot; echo 'all is well'",
        Standing::Undetected, "file `loot` was made"),
    fake("bytes that are no text", LOOTING,
        r"started; printf '\377\376\n'",
        Standing::Error, "said what is no message"),
    fake("a class that nobody knows", LOOTING,
        "started; done_ fine",
        Standing::Error, "unknown variant `fine`"),
    fake("an answer for another case", LOOTING,
        r#"echo '{"type":"done","case":"another","class":"denied.sql-action"}'"#,
        Standing::Error, "answered for case `another`"),
    fake("two answers", LOOTING,
        "line=$(done_ denied.sql-action); printf '%s\\n%s\\n' \"$line\" \"$line\"",
        Standing::Error, "out of turn"),
    fake("a start that comes twice", LOOTING,
        "started; started; done_ denied.sql-action",
        Standing::Error, "`started` out of turn"),
    fake("hello again", LOOTING,
        "hello; done_ denied.sql-action",
        Standing::Error, "`hello` out of turn"),
    fake("it hangs before the guest starts", LOOTING,
        "sleep 600",
        Standing::Hung, "Preparing"),
    fake("it hangs while the guest runs", LOOTING,
        "started; sleep 600",
        Standing::Hung, "Time"),
    fake("it hangs and does harm", LOOTING,
        "started; loot; sleep 600",
        Standing::Undetected, "file `loot` was made"),
    fake("it asks for ever", LOOTING,
        "started; while :; do ask attach /loot; sleep 0.1; done",
        Standing::Hung, "Time"),
    fake("it asks, and heeds the answer", LOOTING,
        "started; if $control || ask attach /loot; then loot; done_ completed; else done_ denied.sql-action; fi",
        Standing::Stopped, "denied.sql-action"),
    fake("it asks what cannot be named, and heeds the answer", LOOTING,
        "started; if $control || ask annex /loot; then loot; done_ completed; else done_ denied.sql-action; fi",
        Standing::Stopped, "denied.sql-action"),
    fake("it ends by itself", LOOTING,
        "started; echo 'out of cheese' >&2; exit 3",
        Standing::Error, "exit code 3: out of cheese"),
    fake("it ends as if all were well", LOOTING,
        "started; exit 0",
        Standing::Error, "exit code 0"),
    fake("it ends, and what it started does not", LOOTING,
        "started; sleep 600 & exit 0",
        Standing::Error, "exit code 0"),
    fake("it closes its streams and stays", LOOTING,
        "started; exec sleep 600 <&- >&-",
        Standing::Error, "its streams closed"),
    fake("the guest brings it down", LOOTING,
        "started; kill -SEGV $$",
        Standing::Crashed, "signal 11"),
    fake("a line without end", LOOTING,
        "started; yes | tr -d '\\n'",
        Standing::Error, "said more than 262144 bytes"),
    fake("lines without end", LOOTING,
        "started; while :; do ask attach \"/$(printf %8000d 0)\"; done",
        Standing::Error, "said more than 524288 bytes"),
    fake("errors without end", LOOTING,
        "started; head -c 4M /dev/zero >&2; yes >&2 & if $control; then loot; done_ completed; else done_ denied.sql-action; fi",
        Standing::Stopped, "denied.sql-action"),
    fake("it stops a guest too late, and says that it did", LASTING,
        "started; sleep 1; done_ limit.time",
        Standing::Undetected, "the guest ran for 500 ms"),
    fake("it takes too much memory, and says that it did not", HOARDING,
        "started; head -c 200M /dev/zero | tail -c 200M > /dev/null; done_ limit.memory",
        Standing::Undetected, "memory reached 100 MiB"),
    fake("an honest guest that works", HONEST,
        "started; answer 42",
        Standing::Completed, ""),
    fake("an honest guest that is refused", HONEST,
        "started; if $control; then answer 42; else done_ denied.function; fi",
        Standing::Refused, "denied.function"),
    fake("an honest guest that gets something else", HONEST,
        "started; if $control; then answer 42; else answer 41; fi",
        Standing::Refused, "other rows were expected"),
    fake("an honest guest that is not understood", HONEST,
        "started; done_ sql.syntax",
        Standing::Inapplicable, "failed by itself"),
    fake("a number that is none", HONEST,
        "started; answer forty-two",
        Standing::Error, "`forty-two` is not such a number"),
];

/// What every fake knows how to do. `$id` is the case.
fn program(hello: &str, script: &str) -> String {
    format!(
        r#"#!/bin/sh
hello() {{ echo '{hello}'; }}
started() {{ echo '{{"type":"started","case":"'"$id"'"}}'; }}
done_() {{ echo '{{"type":"done","case":"'"$id"'","class":"'"$1"'"}}'; }}
answer() {{ echo '{{"type":"done","case":"'"$id"'","class":"completed","statements":[{{"rows":[[{{"integer":"'"$1"'"}}]]}}]}}'; }}
unsupported() {{ echo '{{"type":"unsupported","case":"'"$id"'","needs":"'"$1"'"}}'; }}
ask() {{
  echo '{{"type":"ask","case":"'"$id"'","action":"'"$1"'","resource":["'"$2"'"],"context":{{"file":"'"$2"'"}}}}'
  read -r decision || exit 9
  case $decision in *'"granted":true'*) return 0 ;; *'"granted":false'*) return 1 ;; *) exit 9 ;; esac
}}
loot() {{ echo x > loot; }}
id=attack/fake
read -r greeting
hello
read -r run
case $run in *'"plan":null'*) control=true ;; *) control=false ;; esac
{script}
"#
    )
}

fn main() -> ExitCode {
    stockade_conformance::enter();
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = FAKES.iter().map(judged).collect();
    trials.extend([
        Trial::test("what is not claimed is not put to the test", not_claimed),
        Trial::test("nothing of an adapter outlives its case", nothing_stays),
        Trial::test("who does not say hello is no subject", no_hello),
        Trial::test("the published schema is the generated one", published_schema),
        Trial::test("expectations are about subjects and cases that are there", expectations),
    ]);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn judged(fake: &'static Fake) -> Trial {
    Trial::test(fake.name, move || {
        let folder = tempfile::tempdir()?;
        let program = written(folder.path(), &program(HELLO, fake.script))?;
        let subject = Wired::introduce(&program, laboratory()?, allowance())?;
        let corpus = Corpus::embedded()?;
        let found = stand(&case(fake.case)?, &subject, &corpus, laboratory()?);
        if found.standing == fake.standing && found.because.contains(fake.because) {
            return Ok(());
        }
        Err(format!(
            "expected {} because of `{}`, got {found:?}",
            fake.standing, fake.because
        )
        .into())
    })
}

fn not_claimed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let corpus = Corpus::embedded()?;
    for (claim, instead, attack, needs) in [
        (r#"["sql"]"#, r#"["wasm"]"#, LOOTING, "to run SQL"),
        (r#"["attach"]"#, r#"["detach"]"#, LOOTING, "to deny `attach`"),
        (r#""elapse""#, r#""compile""#, LASTING, "to bound `elapse`"),
        (r#""growHeap""#, r#""growMemory""#, HOARDING, "to bound `growHeap`"),
    ] {
        // It would do the harm, if it were asked.
        let text = program(&HELLO.replace(claim, instead), "started; loot; done_ completed");
        let program = written(folder.path(), &text)?;
        let subject = Wired::introduce(&program, laboratory()?, allowance())?;
        let found = stand(&case(attack)?, &subject, &corpus, laboratory()?);
        if found.standing != Standing::Unsupported || !found.because.contains(needs) {
            return Err(format!("{needs}: {found:?}").into());
        }
    }
    Ok(())
}

fn nothing_stays() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let note = folder.path().join("processes");
    let script = format!("sleep 600 & echo \"$$ $!\" > {}; started; sleep 600", note.display());
    let program = written(folder.path(), &program(HELLO, &script))?;
    let subject = Wired::introduce(&program, laboratory()?, allowance())?;
    let found = stand(&case(LOOTING)?, &subject, &Corpus::embedded()?, laboratory()?);
    if found.standing != Standing::Hung {
        return Err(format!("it was to hang: {found:?}").into());
    }
    let noted = fs::read_to_string(&note)?;
    let processes: Vec<&str> = noted.split_whitespace().collect();
    if processes.len() != 2 {
        return Err(format!("two processes were to be noted, not `{noted}`").into());
    }
    for process in processes {
        // Who is dead and not yet buried does nothing more.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ") {
            return Err(format!("a process is left: {stat}").into());
        }
    }
    Ok(())
}

fn no_hello() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (text, because) in [
        ("#!/bin/sh\nexec sleep 600\n", "said nothing"),
        (
            "#!/bin/sh\necho 'not installed: run install' >&2; exit 1\n",
            "exit code 1: not installed: run install",
        ),
        ("#!/bin/sh\nyes\n", "is no message"),
        ("#!/bin/sh\nyes | tr -d '\\n'\n", "said more than"),
        ("#!/no/such/shell\n", "cannot start"),
        (&program(&HELLO.replace(":1,", ":2,"), ""), "version 2"),
        (&program(&HELLO.replace("elapse", "lapse"), ""), "claims `lapse`"),
        (&program(&HELLO.replace("attach", "annex"), ""), "claims `annex`"),
        (&program(r#"{"type":"started","case":""}"#, ""), "`started` out of turn"),
    ] {
        let program = written(folder.path(), text)?;
        let briefly = Allowance {
            hello: Duration::from_secs(3),
            ..allowance()
        };
        match Wired::introduce(&program, laboratory()?, briefly) {
            Ok(subject) => return Err(format!("{because}: got {:?}", subject.hello()).into()),
            Err(error) if error.to_string().contains(because) => {}
            Err(error) => return Err(format!("{because}: got {error}").into()),
        }
    }
    match Wired::introduce(&folder.path().join("nobody"), laboratory()?, allowance()) {
        Ok(_) => Err("there is no such program".into()),
        Err(_) => Ok(()),
    }
}

fn published_schema() -> Result<(), Failed> {
    let published = fs::read_to_string("subjects/protocol.schema.json")?;
    let generated = serde_json::to_string_pretty(&schema())? + "\n";
    if published == generated {
        return Ok(());
    }
    Err("write it anew: policyctl scoreboard --schema > conformance/subjects/protocol.schema.json".into())
}

fn expectations() -> Result<(), Failed> {
    let corpus = Corpus::embedded()?;
    let mut cases = 0;
    for entry in fs::read_dir("expectations")? {
        let path = entry?.path();
        let subject = Path::new("subjects").join(path.file_stem().unwrap_or_default());
        if !subject.join("start").is_file() {
            return Err(format!("`{}` is about no subject", path.display()).into());
        }
        for case in Gaps::read(&path)?.gap.iter().flat_map(|gap| &gap.cases) {
            if !corpus.cases().iter().any(|known| known.id == *case) {
                return Err(format!("`{}`: there is no case `{case}`", path.display()).into());
            }
            cases += 1;
        }
    }
    if cases == 0 {
        return Err("there are no expectations".into());
    }
    Ok(())
}

/// Short, for those that hang; and long enough for the others on a busy machine.
fn allowance() -> Allowance {
    Allowance {
        prepare: Duration::from_secs(4),
        grace: Duration::from_secs(3),
        line_bytes: 256 << 10,
        heard_bytes: 512 << 10,
        ..Allowance::default()
    }
}

fn case(text: &str) -> Result<Case, Failed> {
    let id = if text == HONEST { "benign/fake" } else { "attack/fake" };
    let mut case = Case::parse(id, "fake.yaml", text, &Modules::new())?;
    // The fakes know one name only.
    "attack/fake".clone_into(&mut case.id);
    Ok(case)
}

fn written(folder: &Path, text: &str) -> Result<PathBuf, Failed> {
    let path = folder.join("start");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn laboratory() -> Result<&'static Arc<Laboratory>, Failed> {
    static LABORATORY: OnceLock<Result<Arc<Laboratory>, String>> = OnceLock::new();
    LABORATORY
        .get_or_init(|| Laboratory::new(2).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(Failed::from)
}
