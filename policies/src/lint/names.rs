//! Names that nothing answers to, and meters without a limit.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use cedar_policy::Effect;

use super::Reviewed;
use crate::entities::unknown_profile;
use crate::finding::{Code, Finding, Location};
use crate::nearest::nearest;
use crate::parse::LoadedPolicy;
use crate::profiles::stock_functions;
use crate::resource::{Resource, ResourceKind};
use crate::schema::{Vocabulary, id, type_of};
use crate::vocabulary::{Action, Capability, Meter};

/// Reads every policy for what it cannot mean.
pub(crate) fn lint(policies: &[LoadedPolicy], profiles: &BTreeSet<String>, vocabulary: &Vocabulary) -> Vec<Finding> {
    let lint = Lint { profiles, vocabulary };
    let findings = policies
        .iter()
        .flat_map(|policy| {
            [
                lint.unknown_profiles(policy),
                lint.reserved_actions(policy),
                meter_resources(policy),
                resource_ids(policy),
            ]
            .into_iter()
            .flatten()
            .chain(unbounded_meter(policy))
            .chain(erring_forbid(policy))
            .map(|finding| policy.names_link(finding))
        })
        .collect();
    once_per_profile(findings)
}

/// A profile that is declared nowhere is one mistake, however many policies name it.
fn once_per_profile(findings: Vec<Finding>) -> Vec<Finding> {
    let mistake = |finding: &Finding| {
        let source = finding.location.as_ref().map(|location| location.source.clone());
        (finding.code == Code::UnknownProfile).then(|| (finding.message.clone(), source))
    };
    let all: Vec<_> = findings.iter().filter_map(mistake).collect();
    let mut said = HashSet::new();
    let mut kept = Vec::new();
    for finding in findings {
        let Some(mistake) = mistake(&finding) else {
            kept.push(finding);
            continue;
        };
        let others = all.iter().filter(|other| **other == mistake).count() - 1;
        if said.insert(mistake) {
            kept.push(match (&finding.help, others) {
                (Some(help), 1..) => {
                    let help = format!("{help}; it is named {others} more times");
                    finding.with_help(help)
                }
                _ => finding,
            });
        }
    }
    kept
}

struct Lint<'a> {
    profiles: &'a BTreeSet<String>,
    vocabulary: &'a Vocabulary,
}

impl Lint<'_> {
    fn unknown_profiles(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let file = Path::new(&policy.location.source).with_extension("entities.json");
        let unknown = policy
            .named("Profile")
            .into_iter()
            .filter(|name| !self.profiles.contains(name));
        unknown
            .map(|name| {
                unknown_profile(&name, self.profiles, &format!("`{}`", file.display()))
                    .at(Some(place_of(policy, "Profile", &name)))
            })
            .collect()
    }

    /// A group is fine as long as something in it is asked about.
    fn reserved_actions(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let warning = |name: &str, message: String, help: Option<&str>| {
            let finding = Finding::warning(Code::ReservedAction, message).at(Some(place_of(policy, "Action", name)));
            match help {
                Some(why) => finding.with_help(format!("it is reserved: {why}")),
                None => finding.with_help("every action in it is reserved"),
            }
        };
        policy
            .named("Action")
            .iter()
            .filter_map(|name| match self.vocabulary.actions.get(name) {
                Some(info) => {
                    let why = info.annotation("reserved")?;
                    Some(warning(
                        name,
                        format!("nothing in this runtime asks about `{name}`"),
                        Some(why),
                    ))
                }
                None => {
                    let mut members = self.vocabulary.members(name).peekable();
                    let is_idle = members.peek().is_some() && members.all(|(_, info)| info.is_reserved());
                    is_idle.then(|| {
                        warning(
                            name,
                            format!("nothing in this runtime asks about anything in `{name}`"),
                            None,
                        )
                    })
                }
            })
            .collect()
    }
}

/// A forbid on `Table::"main.Staff"` would forbid nothing: requests carry names in lower case, with their database.
fn resource_ids(policy: &LoadedPolicy) -> Vec<Finding> {
    let named = ResourceKind::ALL
        .iter()
        .flat_map(|kind| policy.named(kind.name()).into_iter().map(|id| (*kind, id)));
    named
        .filter_map(|(kind, id)| {
            let place = place_of(policy, kind.name(), &id);
            let written = format!("{}::{}", kind.name(), serde_json::Value::from(id.as_str()));
            let finding = |message| Finding::error(Code::ResourceId, message).at(Some(place));
            match written.parse::<Resource>() {
                Ok(resource) if resource.id() == id => None,
                Ok(resource) => {
                    let message = format!("no request is about `{written}`");
                    Some(finding(message).with_help(format!("did you mean `{resource}`?")))
                }
                Err(error) => Some(finding(error.to_string())),
            }
        })
        .collect()
}

/// Every meter that is named by itself must hang on a meter entity that is named, if any is.
fn meter_resources(policy: &LoadedPolicy) -> Vec<Finding> {
    let resources = policy.named("Meter");
    if resources.is_empty() {
        return Vec::new();
    }
    let named = policy.named("Action");
    let by_itself = named.iter().filter_map(|name| Meter::from_action(name));
    let mut wrong: Vec<Meter> = by_itself
        .filter(|meter| !resources.iter().any(|id| id == meter.resource()))
        .collect();
    let covered: Vec<Meter> = policy
        .covered
        .iter()
        .filter_map(|name| Meter::from_action(name))
        .collect();
    let none_fits = covered
        .iter()
        .all(|meter| !resources.iter().any(|id| id == meter.resource()));
    if wrong.is_empty() && none_fits {
        wrong.extend(covered.first());
    }
    wrong
        .into_iter()
        .map(|meter| {
            let named = resources
                .iter()
                .map(|id| format!("`Meter::{id:?}`"))
                .collect::<Vec<_>>()
                .join(", ");
            let place = resources.first().map(|id| place_of(policy, "Meter", id));
            Finding::error(
                Code::MeterResource,
                format!("`{}` does not hang on {named}", meter.action()),
            )
            .with_help(format!("write `resource == Meter::{:?}`", meter.resource()))
            .at(place)
        })
        .collect()
}

/// Where a policy writes `Type::"id"`.
fn place_of(policy: &LoadedPolicy, type_: &str, id: &str) -> Location {
    super::place_of(policy, &format!("{type_}::\"{}\"", id.escape_debug()))
}

fn unbounded_meter(policy: &LoadedPolicy) -> Option<Finding> {
    let limits = policy.policy.effect() == Effect::Forbid || policy.policy.has_non_scope_constraint();
    if limits {
        return None;
    }
    let mut meters = policy.covered.iter().filter_map(|name| Meter::from_action(name));
    let first = meters.next()?;
    let others = meters.count();
    if others == 0 {
        return Some(unbounded(policy, first));
    }
    let message = format!(
        "`{}` permits {} meters without a limit, `{}` among them",
        policy.id,
        others + 1,
        first.action()
    );
    Some(
        Finding {
            message,
            ..unbounded(policy, first)
        }
        .with_help("name the actions that you mean; each meter wants a number"),
    )
}

/// Meters are left to the compiler, which knows exactly where a condition errors.
fn erring_forbid(policy: &LoadedPolicy) -> Option<Finding> {
    let asked = !policy.covered_own.is_empty() || policy.covered.iter().any(|name| Action::from_id(name).is_some());
    let risky = policy.policy.effect() == Effect::Forbid && asked && policy.policy.can_error();
    risky.then(|| {
        Finding::error(
            Code::ForbidCanError,
            format!("the condition of `{}` can end in an error", policy.id),
        )
        .with_help("cedar skips a forbid that errors, so it would not forbid; compare without arithmetic")
        .at(Some(policy.location.clone()))
    })
}

/// A permit that lets a meter run free.
pub(crate) fn unbounded(policy: &LoadedPolicy, meter: Meter) -> Finding {
    let (action, unit) = (meter.action(), meter.unit().name());
    Finding::warning(
        Code::UnboundedMeter,
        format!("`{}` permits `{action}` without a limit", policy.id),
    )
    .with_help(format!("write `when {{ context.{unit} <= … }}`"))
    .at(Some(policy.location.clone()))
}

/// What SQLite has beside the functions of the stock classes: none of them is in a class, so no class grants them.
const UNCLASSED_FUNCTIONS: &[&str] = &[
    "bm25",
    "fts3_tokenizer",
    "fts5",
    "fts5_get_locale",
    "fts5_insttoken",
    "fts5_locale",
    "fts5_source_id",
    "highlight",
    "load_extension",
    "match",
    "matchinfo",
    "offsets",
    "optimize",
    "rtreecheck",
    "rtreedepth",
    "rtreenode",
    "snippet",
    "sqlite_log",
];

/// Every pragma of SQLite: <https://sqlite.org/pragma.html>.
const PRAGMAS: &[&str] = &[
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "case_sensitive_like",
    "cell_size_check",
    "checkpoint_fullfsync",
    "collation_list",
    "compile_options",
    "count_changes",
    "data_store_directory",
    "data_version",
    "database_list",
    "default_cache_size",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "full_column_names",
    "fullfsync",
    "function_list",
    "hard_heap_limit",
    "ignore_check_constraints",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "journal_mode",
    "journal_size_limit",
    "legacy_alter_table",
    "legacy_file_format",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "module_list",
    "optimize",
    "page_count",
    "page_size",
    "parser_trace",
    "pragma_list",
    "query_only",
    "quick_check",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "schema_version",
    "secure_delete",
    "short_column_names",
    "shrink_memory",
    "soft_heap_limit",
    "stats",
    "synchronous",
    "table_info",
    "table_list",
    "table_xinfo",
    "temp_store",
    "temp_store_directory",
    "threads",
    "trusted_schema",
    "user_version",
    "vdbe_addoptrace",
    "vdbe_debug",
    "vdbe_listing",
    "vdbe_trace",
    "wal_autocheckpoint",
    "wal_checkpoint",
    "writable_schema",
];

/// The kinds of entities of which it is known what there is.
const KNOWN_KINDS: &[&str] = &[
    "SqlFunction",
    "Pragma",
    "HostFunction",
    "Capability",
    "Publisher",
    "Module",
];

/// Everything that can be asked about, and what the entities files say there is, by kind.
pub(super) struct Known(BTreeMap<&'static str, BTreeSet<String>>);

impl Known {
    pub(super) fn of(reviewed: &Reviewed<'_>) -> Self {
        let mut known: BTreeMap<&'static str, BTreeSet<String>> = KNOWN_KINDS
            .iter()
            .map(|kind| (*kind, built_in(kind).collect()))
            .collect();
        for entity in reviewed.ready.entities.iter() {
            let uid = entity.uid();
            let above = reviewed.ready.entities.ancestors(&uid).into_iter().flatten();
            for uid in above.chain([&uid]) {
                if let Some(ids) = known.get_mut(type_of(uid).as_str()) {
                    ids.insert(id(uid).to_owned());
                }
            }
        }
        Self(known)
    }

    /// Ids that are well spelled and stand for nothing: a policy about one is never asked.
    pub(super) fn unknown_entities(&self, policy: &LoadedPolicy) -> Vec<Finding> {
        let named = self
            .0
            .iter()
            .flat_map(|(kind, known)| policy.named(kind).into_iter().map(move |id| (*kind, known, id)));
        named
            .filter(|(kind, known, name)| !(known.contains(name) || (*kind == "Module" && is_digest(name))))
            .map(|(kind, known, name)| {
                let help = match nearest(&name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{kind}::{near:?}`?"),
                    None => unknown_help(kind),
                };
                let message = format!("nothing is `{kind}::{name:?}`, so it never matches");
                Finding::warning(Code::UnknownEntity, message)
                    .with_help(help)
                    .at(Some(place_of(policy, kind, &name)))
            })
            .collect()
    }
}

/// A module needs no declaration: its id says what it is.
fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn built_in(kind: &str) -> Box<dyn Iterator<Item = String>> {
    let owned = |names: &'static [&'static str]| names.iter().map(|name| (*name).to_owned());
    match kind {
        "SqlFunction" => Box::new(stock_functions().chain(owned(UNCLASSED_FUNCTIONS))),
        "Pragma" => Box::new(owned(PRAGMAS)),
        "HostFunction" => Box::new(host_functions().map(str::to_owned)),
        _ => Box::new(std::iter::empty()),
    }
}

fn host_functions() -> impl Iterator<Item = &'static str> {
    Capability::ALL
        .iter()
        .filter_map(|capability| capability.host_function())
}

fn unknown_help(kind: &str) -> String {
    match kind {
        "SqlFunction" => "this SQLite has no such function; one of your own is declared in an entities file".to_owned(),
        "Pragma" => "SQLite has no such pragma; its list is at https://sqlite.org/pragma.html".to_owned(),
        "HostFunction" => format!(
            "the host functions are {}; groups of them are declared in an entities file",
            super::listed(host_functions())
        ),
        "Module" => "a module is known by the SHA-256 of its bytes, in 64 lower-case hexadecimal digits".to_owned(),
        kind => format!("an entities file says what is in a `{kind}`"),
    }
}
