//! Who a plan is for.

use serde::{Deserialize, Serialize};

/// What kind of entity the principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PrincipalKind {
    /// A WebAssembly module, known by its digest.
    Module,
    /// Whoever asks the host to run something.
    Caller,
    /// A profile itself: what any guest in it may do.
    Profile,
}

impl PrincipalKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Module, Self::Caller, Self::Profile];

    /// The entity type of the schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Module => "Module",
            Self::Caller => "Caller",
            Self::Profile => "Profile",
        }
    }
}

/// No file has this digest.
const ANY_MODULE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ANY_CALLER: &str = "anybody";

/// Who a plan is for: an entity, and the profile that the host runs it in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// What kind of entity it is.
    pub kind: PrincipalKind,
    /// The entity's id: a digest, a caller's name or the profile's.
    pub id: String,
    /// The profile that the host runs it in.
    pub profile: String,
    /// The digest of the module's bytes, in hexadecimal.
    pub sha256: Option<String>,
    /// The publisher whose signature of the module was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
}

impl Principal {
    /// A module, known by the digest of its bytes.
    #[must_use]
    pub fn module(sha256: &str, profile: &str) -> Self {
        Self {
            kind: PrincipalKind::Module,
            id: sha256.to_owned(),
            profile: profile.to_owned(),
            sha256: Some(sha256.to_owned()),
            publisher: None,
        }
    }

    /// The same module, signed by this publisher: it is in it. Whoever says so has verified the signature.
    #[must_use]
    pub fn signed_by(self, publisher: &str) -> Self {
        Self {
            publisher: Some(publisher.to_owned()),
            ..self
        }
    }

    /// Somebody who asks the host to run something.
    #[must_use]
    pub fn caller(id: &str, profile: &str) -> Self {
        Self {
            kind: PrincipalKind::Caller,
            id: id.to_owned(),
            profile: profile.to_owned(),
            sha256: None,
            publisher: None,
        }
    }

    /// A profile itself.
    #[must_use]
    pub fn profile(name: &str) -> Self {
        Self {
            kind: PrincipalKind::Profile,
            id: name.to_owned(),
            profile: name.to_owned(),
            sha256: None,
            publisher: None,
        }
    }

    /// A module that no policy names.
    pub(crate) fn any_module(profile: &str) -> Self {
        Self::module(ANY_MODULE, profile)
    }

    /// A caller that no policy names.
    pub(crate) fn any_caller(profile: &str) -> Self {
        Self::caller(ANY_CALLER, profile)
    }

    /// It stands for every module or caller that no policy names.
    #[must_use]
    pub fn is_anybody(&self) -> bool {
        match self.kind {
            PrincipalKind::Module => self.id == ANY_MODULE,
            PrincipalKind::Caller => self.id == ANY_CALLER,
            PrincipalKind::Profile => false,
        }
    }
}
