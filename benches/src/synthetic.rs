//! Policy sets of any size, and questions about them, in the languages of several engines.
//!
//! Every rule is one that people write: members of a profile may read a table or one column of it, may not read another,
//! may attach files below a folder, may use so much time. The rules go round the profiles, so each has its share.

use std::fmt::Write as _;

/// How many profiles share the rules.
pub const PROFILES: usize = 10;
/// How many tables they are about.
const TABLES: usize = 7;

/// One rule about reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its place in the set.
    pub index: usize,
    /// Who: a number of a profile.
    pub profile: usize,
    /// The table's name.
    pub table: String,
    /// The column's, or nothing for all of them.
    pub column: Option<String>,
    /// It takes away.
    pub forbids: bool,
}

/// What somebody wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who: a number of a profile.
    pub profile: usize,
    /// The table's name.
    pub table: String,
    /// The column's.
    pub column: String,
}

/// The first `count` rules about reading.
pub fn readings(count: usize) -> impl Iterator<Item = Reading> {
    (0..count).map(|index| {
        let table = format!("t{}", index % TABLES);
        let (column, forbids) = match index % 3 {
            0 => (None, false),
            1 => (Some(format!("c{index}")), false),
            _ => (Some(format!("secret{index}")), true),
        };
        Reading {
            index,
            profile: index % PROFILES,
            table,
            column,
            forbids,
        }
    })
}

/// Questions that some rules answer with yes, some with no, and some not at all.
pub fn wishes(count: usize) -> impl Iterator<Item = Wish> {
    readings(count).enumerate().map(|(turn, rule)| Wish {
        profile: (rule.profile + usize::from(turn % 4 == 3)) % PROFILES,
        table: rule.table,
        column: rule.column.unwrap_or_else(|| format!("other{turn}")),
    })
}

/// Rules about reading, in Cedar.
#[must_use]
pub fn cedar_readings(count: usize) -> String {
    readings(count).fold(String::new(), |mut text, rule| {
        let effect = if rule.forbids { "forbid" } else { "permit" };
        let scope = match &rule.column {
            Some(column) => format!("resource == Column::\"main.{}.{column}\"", rule.table),
            None => format!("resource in Table::\"main.{}\"", rule.table),
        };
        // A string takes anything that is written to it.
        let _ = writeln!(
            text,
            "@id(\"r{}\") {effect} (principal in Profile::\"p{}\", action == Action::\"read\", {scope});",
            rule.index, rule.profile
        );
        text
    })
}

/// A policy set of `count` rules as a service has them: half about reading, a quarter bounds, a quarter files and functions.
#[must_use]
pub fn cedar(count: usize) -> String {
    let mut text = cedar_readings(count / 2);
    for index in count / 2..count {
        let profile = index % PROFILES;
        let (action, scope, condition) = match index % 4 {
            0 => (
                "elapse",
                "resource == Meter::\"guest\"".to_owned(),
                format!("when {{ context.millis <= {index} * 10 }}"),
            ),
            1 => (
                "growHeap",
                "resource == Meter::\"connection\"".to_owned(),
                format!("when {{ context.bytes <= {index} * 4096 }}"),
            ),
            2 => (
                "attach",
                format!("resource in Path::\"/data/{index}\""),
                "unless { context.file like \"*.tmp\" }".to_owned(),
            ),
            _ => (
                "callFunction",
                "resource in SqlFunctionClass::\"computing\"".to_owned(),
                String::new(),
            ),
        };
        let _ = writeln!(
            text,
            "@id(\"r{index}\") permit (principal in Profile::\"p{profile}\", action == Action::\"{action}\", {scope}) {condition};"
        );
    }
    text
}

/// The digest of the one module that is named.
pub const MODULE: &str = "feedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedface";

/// The profiles and the module in one of them, as an entities file.
#[must_use]
pub fn entities() -> String {
    let profile = |index: usize| {
        format!("{{\"uid\": {{\"type\": \"Profile\", \"id\": \"p{index}\"}}, \"attrs\": {{}}, \"parents\": []}}")
    };
    let module = format!(
        "{{\"uid\": {{\"type\": \"Module\", \"id\": \"{MODULE}\"}}, \"attrs\": {{\"sha256\": \"{MODULE}\"}}, \
         \"parents\": [{{\"type\": \"Profile\", \"id\": \"p3\"}}]}}"
    );
    let rows: Vec<String> = (0..PROFILES).map(profile).chain([module]).collect();
    format!("[{}]", rows.join(",\n"))
}

/// Rules about reading, in Rego.
#[must_use]
pub fn rego(count: usize) -> String {
    let mut text =
        "package stockade\nimport rego.v1\ndefault allow := false\nallow if { permit; not deny }\n".to_owned();
    for rule in readings(count) {
        let head = if rule.forbids { "deny" } else { "permit" };
        let column = rule
            .column
            .map_or(String::new(), |column| format!("; input.column == \"{column}\""));
        let _ = writeln!(
            text,
            "{head} if {{ input.profile == \"p{}\"; input.table == \"{}\"{column} }}",
            rule.profile, rule.table
        );
    }
    text
}

/// The model that casbin wants with those lines.
pub const CASBIN_MODEL: &str = "\
[request_definition]
r = profile, table, column

[policy_definition]
p = profile, table, column, eft

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.profile == p.profile && r.table == p.table && (p.column == \"*\" || r.column == p.column)
";

/// Rules about reading, as casbin's lines.
pub fn casbin(count: usize) -> impl Iterator<Item = Vec<String>> {
    readings(count).map(|rule| {
        vec![
            format!("p{}", rule.profile),
            rule.table,
            rule.column.unwrap_or_else(|| "*".to_owned()),
            if rule.forbids { "deny" } else { "allow" }.to_owned(),
        ]
    })
}
/// Ten thousand notes with a primary key, tags of them, and a place to write to, in SQL.
pub const NOTES: &str = "
    create table notes(id integer primary key, body text, tag int);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)
      insert into notes select i, 'note ' || i, i % 100 from n;
    create table tags(id integer primary key, name text);
    insert into tags select distinct tag, 'tag ' || tag from notes;
    create table copies(body text, tag int);";
