//! Keys and values that outlive a run. They travel with it: a worker has no file to keep them in.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

type Entries = BTreeMap<String, ByteBuf>;

/// One namespace: its keys and values. A guest sees this one, and of others neither values nor keys. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    namespace: String,
    #[serde(serialize_with = "as_map", deserialize_with = "from_map")]
    entries: Arc<Entries>,
}

impl State {
    /// An empty namespace. Policies know it by this name: `Namespace::"orders"`.
    #[must_use]
    pub fn of(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            entries: Arc::default(),
        }
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(|value| value.as_slice())
    }

    /// Sets the value of `key`.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        Arc::make_mut(&mut self.entries).insert(key.into(), ByteBuf::from(value.into()));
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Makes the changes of a run.
    pub fn apply(&mut self, changes: &StateChanges) {
        if changes.is_empty() {
            return;
        }
        let entries = Arc::make_mut(&mut self.entries);
        for (key, change) in changes.iter() {
            match change {
                Some(value) => entries.insert(key.to_owned(), ByteBuf::from(value)),
                None => entries.remove(key),
            };
        }
    }
}

impl Default for State {
    /// An empty namespace by the name of `main`.
    fn default() -> Self {
        Self::of("main")
    }
}

/// What a run changed in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateChanges(BTreeMap<String, Option<ByteBuf>>);

impl StateChanges {
    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each key that was changed, with its value, or with nothing where it was removed.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_ref().map(|value| value.as_slice())))
    }
}

impl FromIterator<(String, Option<Vec<u8>>)> for StateChanges {
    fn from_iter<I: IntoIterator<Item = (String, Option<Vec<u8>>)>>(changes: I) -> Self {
        Self(
            changes
                .into_iter()
                .map(|(key, value)| (key, value.map(ByteBuf::from)))
                .collect(),
        )
    }
}

fn as_map<S: Serializer>(entries: &Arc<Entries>, serializer: S) -> Result<S::Ok, S::Error> {
    entries.as_ref().serialize(serializer)
}

fn from_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Entries>, D::Error> {
    Entries::deserialize(deserializer).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_set_and_remove_and_leave_the_rest() {
        let mut state = State::default();
        for (key, value) in [("kept", "1"), ("set", "2"), ("removed", "3")] {
            state.set(key, value);
        }
        let before = state.clone();
        state.apply(&StateChanges::default());
        assert_eq!(state, before);
        let changes = StateChanges::from_iter([
            ("set".to_owned(), Some(b"4".to_vec())),
            ("removed".to_owned(), None),
            ("never there".to_owned(), None),
            ("new".to_owned(), Some(Vec::new())),
        ]);
        state.apply(&changes);
        let seen: Vec<_> = state.iter().collect();
        assert_eq!(seen, [("kept", &b"1"[..]), ("new", b""), ("set", b"4")]);
        assert_eq!(before.get("removed"), Some(&b"3"[..]), "a clone is not changed");
    }
}
