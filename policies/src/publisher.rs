//! Who can vouch for a module: publishers that have a key.
//!
//! A module that a publisher signed is in that publisher, besides where it is declared to be. Signatures are the runtime's
//! to verify; here is whose keys there are.

use std::collections::HashMap;

use cedar_policy::{Entities, Entity};

use crate::compile::Ready;
use crate::entities::{hexadecimal, text_of};
use crate::finding::{Code, Finding};
use crate::schema::{id, type_of};

/// The entity type of the schema.
pub(crate) const PUBLISHER: &str = "Publisher";

/// The attribute that holds the public key.
const KEY: &str = "ed25519";

/// A publisher's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherKey {
    /// The publisher's id.
    pub publisher: String,
    /// Its Ed25519 public key. Whether it is a point of the curve is not looked at here.
    pub ed25519: [u8; 32],
}

/// The keys that are declared, sorted by publisher.
pub(crate) fn keys(entities: &Entities) -> Vec<PublisherKey> {
    let key_of = |entity: &Entity| {
        Some(PublisherKey {
            publisher: id(&entity.uid()).to_owned(),
            ed25519: hexadecimal(&stated_key(entity)?).ok()?,
        })
    };
    let mut keys: Vec<PublisherKey> = entities.iter().filter_map(key_of).collect();
    keys.sort_unstable_by(|one, other| one.publisher.cmp(&other.publisher));
    keys
}

/// Publishers that have a key and that some policy names: for the others it makes no difference who signed.
pub(crate) fn signers(ready: &Ready) -> Vec<String> {
    let is_named = |publisher: &str| {
        ready
            .policies
            .iter()
            .any(|policy| policy.named(PUBLISHER).iter().any(|name| name == publisher))
    };
    let publishers = keys(&ready.entities).into_iter().map(|key| key.publisher);
    publishers.filter(|publisher| is_named(publisher)).collect()
}

/// Finds keys that are none, or that were declared before. One key is one publisher's: else a signature by it would be two
/// publishers' word.
#[derive(Default)]
pub(crate) struct KeyRing(HashMap<String, String>);

impl KeyRing {
    /// What is wrong with this entity's key, if it is a publisher that has one.
    pub(crate) fn fault(&mut self, entity: &Entity) -> Option<Finding> {
        let key = stated_key(entity)?;
        let uid = entity.uid();
        if let Err(wrong) = hexadecimal::<32>(&key) {
            let help = "write the 32 bytes of the public key as 64 hexadecimal digits in lower case";
            let finding = Finding::error(Code::PublisherKey, format!("`{KEY}` of `{uid}` is no key: {wrong}"));
            return Some(finding.with_help(help));
        }
        let other = self.0.insert(key, uid.to_string())?;
        let message = format!("`{uid}` has the key of `{other}`");
        Some(Finding::error(Code::PublisherKey, message).with_help("give each publisher a key of its own"))
    }
}

fn stated_key(entity: &Entity) -> Option<String> {
    (type_of(&entity.uid()) == PUBLISHER).then(|| text_of(entity, KEY))?
}
