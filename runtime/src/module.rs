//! A module as a caller has it: its bytes, and the digest that it is known by.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

/// A WebAssembly module, in binary or text format.
///
/// Policies, publishers and the module cache know a module by the SHA-256 of its bytes. It is computed when it is first asked
/// for, and clones of this have it too: who runs a module again keeps one, and gives each [`Request`](crate::Request) a clone.
#[derive(Clone)]
pub struct Module(Arc<Known>);

struct Known {
    bytes: Vec<u8>,
    sha256: OnceLock<String>,
}

impl Module {
    /// The module with these bytes. They may be anything: what they are is found out when it is run.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Known {
            bytes,
            sha256: OnceLock::new(),
        }))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The SHA-256 of its bytes, as 64 hexadecimal digits in lower case.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.0
            .sha256
            .get_or_init(|| format!("{:x}", Sha256::digest(self.bytes())))
    }
}

impl From<Vec<u8>> for Module {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for Module {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Module {
    fn from(bytes: &[u8; N]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl From<&str> for Module {
    fn from(text: &str) -> Self {
        Self::new(text.into())
    }
}

impl From<String> for Module {
    fn from(text: String) -> Self {
        Self::new(text.into())
    }
}

impl PartialEq for Module {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.bytes() == other.bytes()
    }
}

impl Eq for Module {}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({} bytes)", self.bytes().len())
    }
}

impl Serialize for Module {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.bytes())
    }
}

impl<'de> Deserialize<'de> for Module {
    /// The bytes alone: a digest is never taken on trust.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteBuf::deserialize(deserializer).map(|bytes| Self::new(bytes.into_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values>, SHA-256 of `abc`.
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_module_is_known_by_the_digest_of_its_bytes_and_clones_are_too() {
        let module = Module::from("abc");
        let before = module.clone();
        assert_eq!(module.sha256(), OF_ABC);
        assert!(before.0.sha256.get().is_some() && module.clone().0.sha256.get().is_some());
        assert_eq!(module, Module::from(b"abc"));
        assert_ne!(module, Module::from("abd"));
    }

    #[test]
    fn only_bytes_cross() {
        let module = Module::from("abc");
        let with = serde_json::to_value(&module).unwrap();
        assert_eq!(module.sha256(), OF_ABC);
        assert_eq!(serde_json::to_value(&module).unwrap(), with);
        let again: Module = serde_json::from_value(with).unwrap();
        assert!(again == module && again.0.sha256.get().is_none());
    }
}
