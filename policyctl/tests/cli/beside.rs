//! What lies beside `NAME.cedar` and belongs to it is read with it, and what is named for itself is told by its name.

use std::fs;

use crate::folder::Folder;

const POLICIES: &str = r#"@id("mail")
permit (principal in ?principal, action == Shop::Action::"sendMail", resource);
"#;
const SCHEMA: &str = "namespace Shop {
  entity Mailbox;
  action sendMail appliesTo { principal: [Profile], resource: [Mailbox] };
}
";
const LINKS: &str = r#"[{"template_id": "mail", "link_id": "desk-mail", "args": {"?principal": "Profile::\"desk\""}}]"#;
const ENTITIES: &str = r#"[{"uid": {"type": "Profile", "id": "desk"}, "attrs": {}, "parents": []}]"#;

const ROW: &str = "  Shop::Action::\"sendMail\" granted            desk-mail\n";

fn folder() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("shop")).unwrap();
    for (name, text) in [
        ("shop/a.cedar", POLICIES),
        ("shop/a.cedarschema", SCHEMA),
        ("shop/a.links.json", LINKS),
        ("shop/a.entities.json", ENTITIES),
    ] {
        fs::write(folder.path(name), text).unwrap();
    }
    folder
}

#[test]
fn a_policy_file_brings_what_belongs_to_it() {
    let folder = folder();
    let named = [
        "shop/a.links.json",
        "shop/a.entities.json",
        "shop/a.cedarschema",
        "shop/a.cedar",
    ];
    let all: Vec<&str> = ["check"].into_iter().chain(named).collect();
    for arguments in [&["check", "shop/a.cedar"][..], &["check", "shop"], &all] {
        let ran = folder.run(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains(ROW), "{ran:?}");
    }
}

#[test]
fn without_them_the_same_policies_are_wrong() {
    for (missing, code) in [
        ("shop/a.links.json", "unlinked-template"),
        ("shop/a.cedarschema", "validation"),
        ("shop/a.entities.json", "unknown-profile"),
    ] {
        let folder = folder();
        fs::remove_file(folder.path(missing)).unwrap();
        let ran = folder.run(&["check", "--deny", "warnings", "--format", "json", "shop/a.cedar"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(!ran.stdout.contains(ROW), "{ran:?}");
        assert!(
            ran.stdout.contains(&format!("\"code\": \"{code}\"")),
            "{missing} {ran:?}"
        );
    }
}

#[test]
fn a_name_that_says_nothing_is_refused() {
    let folder = folder();
    fs::write(folder.path("notes.txt"), "x").unwrap();
    let ran = folder.run(&["check", "notes.txt"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr
            .contains("`notes.txt` is none of `.cedar`, `.cedarschema`, `.links.json` and `.json`"),
        "{ran:?}"
    );
}
