//! What was played, on what, and which part of it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stockade_runtime::{Layer, presence};

use crate::corpus::Corpus;
use crate::replay::Rigour;

/// The version of the reports that this program writes and reads.
pub const REPORT_VERSION: u32 = 1;

/// What was played: two reports of the same suite can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The version of the report.
    pub report: u32,
    /// The version of Stockade.
    pub version: String,
    /// SHA-256 of the corpus: of every case that was selected, its fixture and its module.
    pub corpus: String,
    /// How each case was played.
    pub rigour: Rigour,
    /// How often.
    pub repeat: u32,
}

impl Suite {
    /// Of these cases, each played so often in these ways.
    #[must_use]
    pub fn of(corpus: &Corpus, rigour: Rigour, repeat: u32) -> Self {
        Self {
            report: REPORT_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            corpus: digest(corpus),
            rigour,
            repeat,
        }
    }
}

/// A case that changes in anything changes this.
fn digest(corpus: &Corpus) -> String {
    let mut digest = Sha256::new();
    for case in corpus.cases() {
        let fixture = case.fixture.as_deref().and_then(|name| corpus.fixture(name));
        // The lengths keep two parts from being read as one.
        for part in [format!("{case:?}"), format!("{fixture:?}")] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    format!("{:x}", digest.finalize())
}

/// What it was played on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The layers that this machine and this build have.
    #[schemars(with = "Vec<String>")]
    pub layers: Vec<Layer>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let absent: Vec<Layer> = presence()
            .iter()
            .filter(|found| !found.is_there)
            .map(|found| found.layer)
            .collect();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            kernel: release.trim().to_owned(),
            layers: Layer::ALL
                .iter()
                .copied()
                .filter(|layer| !absent.contains(layer))
                .collect(),
        }
    }
}

/// One of several parts of a replay: the cases whose place in the corpus leaves this remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which, from 1.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// Whether the case at this place, from 0, is in it.
    #[must_use]
    pub const fn has(self, place: usize) -> bool {
        place % self.of == self.index - 1
    }

    /// Why these are not all shards of one replay, each once; nothing where they are.
    pub(crate) fn missing(shards: &[Option<Self>]) -> Option<String> {
        if let [None] = shards {
            return None;
        }
        let known: Option<Vec<Self>> = shards.iter().copied().collect();
        let Some(known) = known else {
            return Some("only shards can be merged, and one of these is a whole replay".to_owned());
        };
        let of = known.first()?.of;
        if known.iter().any(|shard| shard.of != of) {
            return Some("these are shards of replays that were cut into different numbers of parts".to_owned());
        }
        let absent = (1..=of).find(|index| !known.iter().any(|shard| shard.index == *index));
        absent.map(|index| format!("shard {index}/{of} is missing"))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if index >= 1 && index <= of => Ok(Self { index, of }),
            _ => Err(format!("`{text}` is no shard: write `1/4` for the first of four")),
        }
    }
}
