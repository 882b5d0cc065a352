//! The schema and the types that speak for it say the same.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report"
)]

use std::collections::{BTreeMap, BTreeSet};

use stockade_policies::{
    Action, ActionKind, Capability, Meter, ResourceKind, SqlAction, Unit, ValueKind, action_ids, describe,
};

type Json = serde_json::Value;

/// Where an action's `@layer` may point.
const LAYERS: &[&str] = &[
    "provenance",
    "screen",
    "build",
    "authorizer",
    "limits",
    "heap",
    "quota",
    "validate",
    "imports",
    "capability",
    "bridge",
    "memory",
    "stack",
    "fuel",
    "deadline",
    "worker",
    "landlock",
    "seccomp",
];

/// Every capability of the systems whose policies this vocabulary must be able to express.
const CAPABILITIES: &[&str] = &[
    "sqlink/spi",
    "sqlink/prepared",
    "sqlink/transaction",
    "sqlink/schema",
    "sqlink/state",
    "sqlink/cache",
    "sqlink/random",
    "sqlink/text",
    "sqlink/hashing",
    "sqlink/encoding",
    "sqlink/logging",
    "sqlink/config",
    "sqlink/http",
    "sqlink/dns",
    "sqlink/s3",
    "sqlink/wal-frames",
    "sqlink/spawn-build",
    "sqlink/bundles",
    "sqlink/register",
    "sqlink/session",
    "sqlink/spi-loader",
    "sqlink/loader-bridge.env-var",
    "sqlink/fs-policy.readable-prefixes",
    "sqlink/fs-policy.writable-prefixes",
    "sqlink/spi.open-db",
    "sqlink/spi.backup-into",
    "sqlink/spi.restore-from",
    "sqlink/spi.serialize",
    "sqlink/spi.deserialize-db",
    "sqlink/spi.limit",
    "sqlink/spi.db-config",
    "helios/DatabaseRead",
    "helios/DatabaseWrite",
    "helios/DatabaseQuery",
    "helios/DatabaseTransaction",
    "helios/RandomAccess",
    "helios/ClockAccess",
    "helios/LogAccess",
    "helios/NetworkClient",
    "helios/NetworkServer",
    "helios/FilesystemRead",
    "helios/environ_get",
    "helios/environ_sizes_get",
    "helios/proc_exit",
    "proxy/query_execute",
    "proxy/query.get_tables",
    "proxy/kv_read",
    "proxy/kv_write",
    "proxy/cache_read",
    "proxy/cache_write",
    "proxy/get_time",
    "proxy/crypto",
    "proxy/log",
    "proxy/metrics",
    "proxy/config_read",
    "proxy/http_fetch",
    "proxy/network",
    "proxy/filesystem_read",
    "proxy/filesystem_write",
    "proxy/custom",
    "proxy/hooks",
];

fn schema() -> Json {
    let text = include_str!("../schema.cedarschema");
    let (fragment, warnings) = cedar_policy::SchemaFragment::from_cedarschema_str(text).unwrap();
    assert_eq!(
        warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    fragment.to_json_value().unwrap()[""].take()
}

/// The actions that apply to something: groups do not.
fn actions() -> BTreeMap<String, Json> {
    let all = schema()["actions"].as_object().unwrap().clone();
    let applies = |action: &Json| {
        action["appliesTo"]["resourceTypes"]
            .as_array()
            .is_some_and(|types| !types.is_empty())
    };
    all.into_iter().filter(|(_, action)| applies(action)).collect()
}

fn annotation<'a>(action: &'a Json, name: &str) -> Option<&'a str> {
    action["annotations"][name].as_str()
}

fn attributes(action: &Json) -> BTreeMap<String, (String, bool)> {
    let context = action["appliesTo"]["context"]["attributes"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    context
        .into_iter()
        .map(|(name, attribute)| {
            // A primitive type may be written as itself or as a name that stands for it.
            let type_ = attribute["name"]
                .as_str()
                .or(attribute["type"].as_str())
                .unwrap()
                .replace("__cedar::", "");
            (name, (type_, attribute["required"].as_bool().unwrap_or(true)))
        })
        .collect()
}

#[test]
fn what_is_not_reserved_is_a_type_and_the_other_way_round() {
    let live: BTreeSet<String> = actions()
        .into_iter()
        .filter(|(_, action)| annotation(action, "reserved").is_none())
        .map(|(id, _)| id)
        .collect();
    let types: BTreeSet<String> = Meter::ALL
        .iter()
        .map(|meter| meter.action())
        .chain(Action::all().map(Action::id))
        .map(str::to_owned)
        .collect();
    assert_eq!(live, types);
    assert_eq!(
        types.len(),
        Meter::ALL.len() + SqlAction::ALL.len() + Capability::ALL.len()
    );
}

#[test]
fn meters_agree_with_their_annotations() {
    let actions = actions();
    for meter in Meter::ALL {
        let action = &actions[meter.action()];
        assert_eq!(
            annotation(action, "meter"),
            Some(meter.resource()),
            "{}",
            meter.action()
        );
        assert_eq!(
            annotation(action, "unit"),
            Some(meter.unit().name()),
            "{}",
            meter.action()
        );
        assert_eq!(
            action["appliesTo"]["resourceTypes"],
            serde_json::json!(["Meter"]),
            "{}",
            meter.action()
        );
    }
}

#[test]
fn every_meter_counts_one_thing_and_says_in_what() {
    let units: BTreeSet<&str> = Unit::ALL.iter().map(|unit| unit.name()).collect();
    for (id, action) in actions() {
        let Some(unit) = annotation(&action, "unit") else {
            assert_eq!(annotation(&action, "meter"), None, "{id}");
            continue;
        };
        assert!(units.contains(unit), "{id}: {unit}");
        let only = BTreeMap::from([(unit.to_owned(), ("Long".to_owned(), true))]);
        assert_eq!(attributes(&action), only, "{id}");
        assert!(
            ["guest", "store", "connection", "statement"].contains(&annotation(&action, "meter").unwrap()),
            "{id}"
        );
    }
}

#[test]
fn all_33_authorizer_codes_are_there() {
    let codes: BTreeMap<i32, String> = actions()
        .into_iter()
        .filter_map(|(id, action)| annotation(&action, "code").map(|code| (code.parse().unwrap(), id)))
        .collect();
    assert_eq!(codes.keys().copied().collect::<Vec<_>>(), (1..=33).collect::<Vec<_>>());
    for (code, id) in codes {
        assert_eq!(SqlAction::from_code(code).map(SqlAction::action), Some(id.as_str()));
    }
}

#[test]
fn questions_carry_what_the_schema_says() {
    let actions = actions();
    for action in Action::all() {
        let declared = &actions[action.id()];
        assert_eq!(
            declared["appliesTo"]["resourceTypes"],
            serde_json::json!([action.resource().name()]),
            "{}",
            action.id()
        );
        let expected: BTreeMap<String, (String, bool)> = action
            .context()
            .iter()
            .map(|attribute| {
                let type_ = match attribute.kind {
                    ValueKind::Text => "String",
                    ValueKind::Long => "Long",
                };
                (attribute.name.to_owned(), (type_.to_owned(), attribute.required))
            })
            .collect();
        assert_eq!(attributes(declared), expected, "{}", action.id());
    }
}

#[test]
fn resources_carry_what_the_schema_says() {
    use stockade_policies::Resource;
    let types = schema()["entityTypes"].clone();
    let samples = [
        Resource::host_function("stockade#log"),
        Resource::database("main"),
        Resource::table("main", "t"),
        Resource::column("main", "t", "c"),
        Resource::sql_function("abs"),
        Resource::pragma("user_version"),
        Resource::path("/tmp"),
        Resource::namespace("main"),
        Resource::variable("LANG"),
    ];
    assert_eq!(
        samples.iter().map(Resource::kind).collect::<Vec<_>>(),
        ResourceKind::ALL
    );
    for sample in samples {
        let declared = &types[sample.kind().name()]["shape"]["attributes"];
        let declared: BTreeSet<String> = declared
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        let given: BTreeSet<String> = sample
            .attributes()
            .into_iter()
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(given, declared, "{sample}");
    }
}

#[test]
fn everything_is_documented_and_every_enforced_action_names_its_layers() {
    let schema = schema();
    for kind in ["actions", "entityTypes"] {
        for (id, declared) in schema[kind].as_object().unwrap() {
            assert!(
                annotation(declared, "doc").is_some_and(|doc| !doc.is_empty()),
                "{id} has no @doc"
            );
        }
    }
    for (id, action) in actions() {
        let layers: Vec<&str> = annotation(&action, "layer")
            .into_iter()
            .flat_map(|layers| layers.split(','))
            .collect();
        assert!(layers.iter().all(|layer| LAYERS.contains(layer)), "{id}: {layers:?}");
        assert_eq!(
            layers.is_empty(),
            annotation(&action, "reserved").is_some(),
            "{id}: {layers:?}"
        );
    }
}

#[test]
fn every_capability_of_the_four_systems_has_an_action() {
    let covered: BTreeSet<String> = action_ids()
        .into_iter()
        .filter_map(describe)
        .flat_map(|doc| doc.covers)
        .collect();
    let expected: BTreeSet<String> = CAPABILITIES.iter().map(ToString::to_string).collect();
    assert_eq!(covered, expected);
}

#[test]
fn an_action_describes_itself() {
    let doc = describe("growMemory").unwrap();
    assert_eq!(
        (doc.kind, doc.unit, doc.reserved),
        (ActionKind::Meter, Some(Unit::Bytes), None)
    );
    assert_eq!(doc.layers, ["memory"]);
    assert_eq!(describe("attach").unwrap().kind, ActionKind::Sql);
    assert_eq!(describe("writeLog").unwrap().kind, ActionKind::Host);
    let reserved = describe("fetchHttp").unwrap();
    assert_eq!(
        (reserved.kind, reserved.reserved.as_deref()),
        (ActionKind::Reserved, Some("guests have no sockets"))
    );
    assert_eq!(describe("meters"), None);
    assert_eq!(describe("nosuch"), None);
    assert_eq!(action_ids().len(), actions().len());
}
