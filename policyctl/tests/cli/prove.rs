//! `policyctl prove`: what its exit code says, and that no silence is taken for a proof.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::folder::{Folder, Ran};

const PROPERTIES: &str = "\
properties:
  - id: mine
    why: because
    profiles: [untrusted]
    never: [callFunction]
    when: resource == SqlFunction::\"random\"
";

fn proven(properties: &str) -> Ran {
    let folder = Folder::new();
    fs::write(folder.path("mine.properties.yaml"), properties).unwrap();
    folder.run(&["prove", "--filter", "mine", "mine.properties.yaml"])
}

#[test]
fn the_exit_code_says_what_came_of_it() {
    let ran = proven(PROPERTIES);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout, "proven     mine\n1 proven, 0 broken, 0 not known\n");
    let ran = proven(&PROPERTIES.replace("random", "abs"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stdout
            .contains("may `callFunction` SqlFunction::\"abs\"\n    by `untrusted-functions` at "),
        "{ran:?}"
    );
    let ran = proven(&PROPERTIES.replace("never", "nver"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("did you mean `never`?"), "{ran:?}");
}

#[test]
fn a_solver_without_an_answer_is_no_proof() {
    let folder = Folder::new();
    fs::write(folder.path("mine.properties.yaml"), PROPERTIES).unwrap();
    let slow = folder.path("slow");
    // It answers the first question, which is whether it is a solver at all.
    let script = "#!/bin/sh\nwhile read line; do case $line in *check-sat*) echo sat; exec sleep 600;; esac; done\n";
    fs::write(&slow, script).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = folder.command(&["prove", "--timeout", "1", "--filter", "mine", "mine.properties.yaml"]);
    let output = command.env("CVC5", &slow).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the solver had no answer within 1s"), "{said}");
    assert!(said.ends_with("0 proven, 0 broken, 1 not known\n"), "{said}");
}

#[test]
fn a_property_may_not_take_a_stock_name() {
    let ran = proven(&PROPERTIES.replace("mine", "nobody-attaches"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr
            .contains("`nobody-attaches` is also the id of a stock property"),
        "{ran:?}"
    );
}
