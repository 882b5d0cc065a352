//! A test file as it is written, and the JSON Schema of that.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Tests of policies: requests and the answers they must get, tables of grants, and bounds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Policy tests")]
pub(super) struct WrittenFile {
    /// Entities beyond those of the policies, in Cedar's JSON: a caller with a tenant, a module that is pinned.
    #[serde(default)]
    pub(super) entities: Vec<serde_json::Value>,
    /// Single questions.
    #[serde(default)]
    pub(super) requests: Vec<WrittenRequest>,
    /// Tables: every principal asks for every action on every resource of its kind.
    #[serde(default)]
    pub(super) tables: Vec<WrittenTable>,
    /// The most that may be used of each meter.
    #[serde(default)]
    pub(super) bounds: Vec<WrittenBounds>,
}

/// One question.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRequest {
    /// What to call it in reports.
    pub(super) name: Option<String>,
    /// Who asks.
    pub(super) principal: WrittenPrincipal,
    /// For what: an action of the vocabulary, or a meter.
    pub(super) action: String,
    /// On what, as policies write it: `Table::"main.notes"`. A meter needs none.
    pub(super) resource: Option<String>,
    /// Everything else that is known. Nothing is filled in.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(super) context: Entries<serde_json::Value>,
    /// The answer.
    pub(super) expect: Expect,
    /// The ids of exactly the policies that decide; `[]` where nothing permits it. Left out: whichever.
    pub(super) by: Option<Vec<String>>,
}

/// Every principal asks for every action on every resource of its kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTable {
    /// What to call it in reports.
    pub(super) name: Option<String>,
    /// Who asks.
    pub(super) principals: Several<WrittenPrincipal>,
    /// For what: actions of the vocabulary, and groups of them.
    pub(super) actions: Several<String>,
    /// On what, as policies write it.
    pub(super) resources: Several<String>,
    /// Everything else that is known. Each action takes the attributes that it has.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub(super) context: Entries<serde_json::Value>,
    /// The answer wherever no line of `allow` or `deny` says another; `deny` if left out.
    pub(super) expect: Option<Expect>,
    /// The ids of exactly the policies that decide there; `[]` where nothing permits it. Left out: whichever.
    pub(super) by: Option<Vec<String>>,
    /// What is allowed.
    #[serde(default)]
    pub(super) allow: Vec<WrittenCells>,
    /// What is denied.
    #[serde(default)]
    pub(super) deny: Vec<WrittenCells>,
}

/// Some cells of a table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCells {
    /// Of these principals; all of the table's if left out.
    pub(super) principals: Option<Several<WrittenPrincipal>>,
    /// Of these actions and groups of them; all of the table's if left out.
    pub(super) actions: Option<Several<String>>,
    /// Of these resources; all of the table's if left out.
    pub(super) resources: Option<Several<String>>,
    /// The ids of exactly the policies that decide; left out: whichever.
    pub(super) by: Option<Vec<String>>,
}

/// The bounds of some principals.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBounds {
    /// What to call it in reports.
    pub(super) name: Option<String>,
    /// Whose.
    pub(super) principals: Several<WrittenPrincipal>,
    /// Some bounds: `growMemory: 4 MiB`, `elapse: 500 ms`, `returnRows: 100`, `growLog: 0`, `elapse: unbounded`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, WrittenBound>")]
    pub(super) meters: Entries<WrittenBound>,
    /// All bounds: a meter that is not listed is 0.
    #[schemars(with = "Option<BTreeMap<String, WrittenBound>>")]
    pub(super) only: Option<Entries<WrittenBound>>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expect {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
}

/// A profile's name, or a guest in one.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum WrittenPrincipal {
    /// The profile itself.
    Profile(String),
    /// A module or a caller.
    Guest(WrittenGuest),
}

/// A guest in a profile: `{caller: guest, in: walkin}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenGuest {
    /// A caller's id.
    pub(super) caller: Option<String>,
    /// The SHA-256 of a module's bytes, in hexadecimal.
    pub(super) module: Option<String>,
    /// The publisher whose signature of the module was verified.
    pub(super) signed_by: Option<String>,
    /// The profile that it runs in.
    #[serde(rename = "in")]
    pub(super) profile: String,
}

/// An amount, or an amount and who sets it.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum WrittenBound {
    /// A plain number in the meter's unit.
    Number(u64),
    /// `4 MiB`, `500 ms`, `unbounded`.
    Text(String),
    /// With the policies that set it.
    Set(WrittenSet),
}

/// An amount and who sets it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSet {
    /// The most that is allowed.
    pub(super) most: WrittenAmount,
    /// The ids of exactly the policies that set it.
    pub(super) by: Vec<String>,
}

/// An amount.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum WrittenAmount {
    /// A plain number in the meter's unit.
    Number(u64),
    /// `4 MiB`, `500 ms`, `unbounded`.
    Text(String),
}

/// One, or a list.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Several<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> Several<T> {
    pub(super) fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A mapping in the order it was written, each key once.
#[derive(Debug, Clone)]
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if entries.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("`{key}` is said twice")));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
            type Value = Several<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one or a list")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(Several::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Several::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Several::Many)
            }
        }
        deserializer.deserialize_any(OneOrMany(PhantomData))
    }
}

impl<'de> Deserialize<'de> for WrittenPrincipal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProfileOrGuest;
        impl<'de> Visitor<'de> for ProfileOrGuest {
            type Value = WrittenPrincipal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a profile's name, or a guest in one: {caller: guest, in: walkin}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(WrittenPrincipal::Profile(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                WrittenGuest::deserialize(MapAccessDeserializer::new(map)).map(WrittenPrincipal::Guest)
            }
        }
        deserializer.deserialize_any(ProfileOrGuest)
    }
}

impl<'de> Deserialize<'de> for WrittenBound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountOrSet;
        impl<'de> Visitor<'de> for AmountOrSet {
            type Value = WrittenBound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as `4 MiB`, or {most: 4 MiB, by: [policies]}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(WrittenBound::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(WrittenBound::Number(number))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                WrittenSet::deserialize(MapAccessDeserializer::new(map)).map(WrittenBound::Set)
            }
        }
        deserializer.deserialize_any(AmountOrSet)
    }
}

impl<'de> Deserialize<'de> for WrittenAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = WrittenAmount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as `4 MiB`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(WrittenAmount::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(WrittenAmount::Number(number))
            }
        }
        deserializer.deserialize_any(Amount)
    }
}
