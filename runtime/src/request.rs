//! What a caller asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::module::Module;
use crate::state::State;

/// Code that nobody trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guest {
    /// An SQL script: any number of statements.
    Sql(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A WebAssembly module, in binary or text format.
    Wasm(Module),
}

impl Guest {
    /// The guest's own bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sql(script) => script,
            Self::Wasm(module) => module.bytes(),
        }
    }
}

/// One guest to run, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// On whose behalf it is asked, by a name that the host chooses. It decides whose turn it is where workers are scarce
    /// ([`crate::worker::Pool`]), and nothing else: what a guest may do, its profile says. The worker is not told. `None` is
    /// one tenant too, of all requests that name nobody.
    pub tenant: Option<String>,
    /// The profile whose member the guest is.
    pub profile: String,
    /// The guest.
    pub guest: Guest,
    /// The database that SQL runs on; `None` is an empty one in memory.
    pub database: Option<PathBuf>,
    /// The export to call; `None` calls `run`, else `_start`, else nothing.
    pub invoke: Option<String>,
    /// Arguments of the export, written as decimal numbers.
    pub arguments: Vec<String>,
    /// Bytes for a guest that follows the input/output contract.
    #[serde(with = "serde_bytes")]
    pub input: Vec<u8>,
    /// The namespace that a module reads and writes. What it changed is in the outcome, for the caller to keep.
    #[serde(default)]
    pub state: State,
    /// Variables that a module may ask for, each where its policies grant it by its name. They are the caller's to choose, and
    /// none are taken from any process.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// A publisher's Ed25519 signature of the module, 64 bytes; `None` is a module that nobody vouches for. What is signed is
    /// the text `stockade-module-sha256:`, and the SHA-256 of the module's bytes as 64 hexadecimal digits in lower case.
    #[serde(default, with = "serde_bytes")]
    pub signature: Option<Vec<u8>>,
}

impl Request {
    /// An SQL script to run as a member of `profile`.
    pub fn sql(profile: impl Into<String>, script: impl Into<Vec<u8>>) -> Self {
        Self::new(profile.into(), Guest::Sql(script.into()))
    }

    /// A WebAssembly module, binary or text, to run as a member of `profile`. Who runs it again passes a clone of one
    /// [`Module`], whose digest is computed once.
    pub fn wasm(profile: impl Into<String>, module: impl Into<Module>) -> Self {
        Self::new(profile.into(), Guest::Wasm(module.into()))
    }

    fn new(profile: String, guest: Guest) -> Self {
        Self {
            tenant: None,
            profile,
            guest,
            database: None,
            invoke: None,
            arguments: Vec::new(),
            input: Vec::new(),
            state: State::default(),
            environment: BTreeMap::new(),
            signature: None,
        }
    }

    /// The same request on behalf of `tenant`.
    #[must_use]
    pub fn for_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The same request with a publisher's signature of the module.
    #[must_use]
    pub fn signed(mut self, signature: impl Into<Vec<u8>>) -> Self {
        self.signature = Some(signature.into());
        self
    }

    /// The same request with a namespace to read and write.
    #[must_use]
    pub fn with_state(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    /// The same request on the database at `path`, which must exist.
    #[must_use]
    pub fn on_database(mut self, path: impl Into<PathBuf>) -> Self {
        self.database = Some(path.into());
        self
    }
}
