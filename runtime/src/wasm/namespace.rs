//! Keys and values, as one guest sees and changes them. Nothing outside changes until it has completed.

use std::collections::BTreeMap;
use std::sync::Arc;

use stockade_policies::Meter;
use wasmtime::Caller;

use super::bridge::Bridge;
use super::handover::hand_over;
use super::host::{Host, bounded, call, code, memory};
use super::linker::HostFunction;
use crate::gate::Gate;
use crate::outcome::{Class, Refusal};
use crate::state::{State, StateChanges};

/// The namespace of one run.
#[derive(Debug)]
pub(super) struct Namespace {
    given: State,
    /// What the guest wrote, and what it removed.
    changed: BTreeMap<String, Option<Vec<u8>>>,
    keys: u64,
    bytes: u64,
}

impl Namespace {
    pub(super) fn of(given: State) -> Self {
        let keys = given.iter().count() as u64;
        let bytes = given.iter().map(|(key, value)| weight(key, value.len())).sum();
        Self {
            given,
            changed: BTreeMap::new(),
            keys,
            bytes,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.given.namespace()
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        match self.changed.get(key) {
            Some(change) => change.as_deref(),
            None => self.given.get(key),
        }
    }

    /// Asks whether `key` may have a value of `length` bytes, with what there would be then.
    fn admit(&self, gate: &Gate, key: &str, length: usize) -> Result<(u64, u64), Refusal> {
        let (keys, bytes) = match self.get(key) {
            Some(before) => (self.keys, self.bytes - weight(key, before.len())),
            None => (self.keys + 1, self.bytes),
        };
        let bytes = bytes + weight(key, length);
        for (meter, total) in [
            (Meter::StoreValue, length as u64),
            (Meter::AddKey, keys),
            (Meter::GrowState, bytes),
        ] {
            bounded(gate, meter, total, Class::LimitState)?;
        }
        Ok((keys, bytes))
    }

    fn set(&mut self, gate: &Gate, key: String, value: Vec<u8>) -> Result<(), Refusal> {
        (self.keys, self.bytes) = self.admit(gate, &key, value.len())?;
        self.changed.insert(key, Some(value));
        Ok(())
    }

    /// Whether it was there.
    fn remove(&mut self, key: &str) -> bool {
        let Some(before) = self.get(key) else {
            return false;
        };
        self.bytes -= weight(key, before.len());
        self.keys -= 1;
        if self.given.get(key).is_some() {
            self.changed.insert(key.to_owned(), None);
        } else {
            self.changed.remove(key);
        }
        true
    }

    /// What is another now than it was given.
    pub(super) fn into_changes(self) -> StateChanges {
        let Self { given, changed, .. } = self;
        changed
            .into_iter()
            .filter(|(key, change)| given.get(key) != change.as_deref())
            .collect()
    }
}

fn weight(key: &str, length: usize) -> u64 {
    key.len() as u64 + length as u64
}

/// Hands the value of a key over.
pub(super) fn state_get(
    caller: Caller<'_, Host>,
    key: u32,
    key_length: u32,
    result: u32,
    result_length: u32,
) -> wasmtime::Result<i32> {
    call(caller, HostFunction::StateGet, key_length, |caller| {
        let gate = Arc::clone(&caller.data().gate);
        let bridge = Bridge {
            gate: &gate,
            memory: memory(caller)?,
        };
        let key = bridge.read_text(&mut *caller, key, key_length)?;
        let Some(value) = caller.data().namespace.get(&key).map(<[u8]>::to_vec) else {
            return Ok(code::ABSENT);
        };
        hand_over(caller, &value, result, result_length)
    })
}

/// Writes the value of a key.
pub(super) fn state_set(
    caller: Caller<'_, Host>,
    key: u32,
    key_length: u32,
    value: u32,
    value_length: u32,
) -> wasmtime::Result<i32> {
    let bytes = key_length.saturating_add(value_length);
    call(caller, HostFunction::StateSet, bytes, |caller| {
        let gate = Arc::clone(&caller.data().gate);
        let bridge = Bridge {
            gate: &gate,
            memory: memory(caller)?,
        };
        let key = bridge.read_text(&mut *caller, key, key_length)?;
        // Asked before the copy.
        caller.data().namespace.admit(&gate, &key, value_length as usize)?;
        let value = bridge.read(&mut *caller, value, value_length)?;
        caller.data_mut().namespace.set(&gate, key, value)?;
        Ok(code::DONE)
    })
}

/// Removes a key and its value.
pub(super) fn state_remove(caller: Caller<'_, Host>, key: u32, key_length: u32) -> wasmtime::Result<i32> {
    call(caller, HostFunction::StateRemove, key_length, |caller| {
        let gate = Arc::clone(&caller.data().gate);
        let bridge = Bridge {
            gate: &gate,
            memory: memory(caller)?,
        };
        let key = bridge.read_text(&mut *caller, key, key_length)?;
        let was_there = caller.data_mut().namespace.remove(&key);
        Ok(if was_there { code::DONE } else { code::ABSENT })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_policies::{PolicyStore, Principal};

    use super::*;
    use crate::layer::Layers;

    fn gate() -> Gate {
        let plan = PolicyStore::stock()
            .unwrap()
            .plan(&Principal::caller("guest", "standard"))
            .unwrap();
        Gate::new(plan, Layers::ALL, Box::new(()))
    }

    proptest! {
        /// Whatever a guest does, what it reads is what a map would hold, the sums are those of the map, and the changes make
        /// of what was given what the guest last saw.
        #[test]
        fn it_is_a_map(given in entries(), deeds in prop::collection::vec((key(), prop::option::of(value())), 0..20)) {
            let gate = gate();
            let mut state = State::default();
            for (key, value) in &given {
                state.set(key.as_str(), value.clone());
            }
            let (mut map, mut namespace) = (given, Namespace::of(state.clone()));
            for (key, deed) in deeds {
                match deed {
                    Some(value) => {
                        map.insert(key.clone(), value.clone());
                        prop_assert!(namespace.set(&gate, key, value).is_ok());
                    }
                    None => prop_assert_eq!(namespace.remove(&key), map.remove(&key).is_some()),
                }
                for key in KEYS {
                    prop_assert_eq!(namespace.get(key), map.get(*key).map(Vec::as_slice));
                }
                let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
                prop_assert_eq!((namespace.keys, namespace.bytes), (map.len() as u64, bytes as u64));
            }
            let changes = namespace.into_changes();
            for (key, change) in changes.iter() {
                prop_assert_ne!(state.get(key), change, "what is as before is no change");
            }
            state.apply(&changes);
            let seen: BTreeMap<String, Vec<u8>> =
                state.iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
            prop_assert_eq!(seen, map);
        }
    }

    const KEYS: &[&str] = &["", "a", "b", "ab"];

    fn key() -> impl Strategy<Value = String> {
        prop::sample::select(KEYS).prop_map(str::to_owned)
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..3)
    }

    fn entries() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
        prop::collection::btree_map(key(), value(), 0..4)
    }
}
