//! What was asked, decided and refused, in order.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// Events kept. What comes after is counted, not kept: a guest must not grow the trail at will.
const MOST_EVENTS: usize = 4096;

/// One entry of a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The plan was made and the guest admitted. Always first.
    Admitted {
        /// The profile whose member the guest is.
        profile: String,
        /// Digest of the plan.
        plan: String,
    },
    /// The first guest byte is about to be executed.
    Started,
    /// The plan was asked.
    Decided {
        /// The action's id in the vocabulary.
        action: String,
        /// The resource, as Cedar writes it.
        resource: String,
        /// The answer.
        allowed: bool,
        /// The policies that decided; none where nothing permits.
        policies: Vec<String>,
    },
    /// The guest called a host function. Written once for each when the guest has ended, however often it called.
    Called {
        /// The import: `stockade#log`.
        function: String,
        /// How often, calls that were refused included.
        calls: u64,
        /// Bytes that all calls together said their arguments have.
        bytes: u64,
    },
    /// The guest ended with buffers of answers that it had not given back.
    Held {
        /// How many.
        buffers: u64,
        /// Bytes of them together.
        bytes: u64,
    },
    /// A layer stopped the guest.
    Refused {
        /// Why.
        class: Class,
        /// By what; `None` when the guest failed by itself.
        layer: Option<Layer>,
    },
}

/// What was asked, decided and refused, in order. Cheap to clone: guests that do the same leave the same trail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trail {
    #[serde(serialize_with = "as_list", deserialize_with = "from_list")]
    events: Arc<Vec<Event>>,
    dropped: u64,
}

impl Trail {
    /// The events, oldest first. The same question with the same answer is kept once.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many events came after the trail was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds an event. A refusal is always kept.
    pub fn push(&mut self, event: Event) {
        let must_keep = matches!(event, Event::Refused { .. });
        if self.events.len() < MOST_EVENTS || must_keep {
            Arc::make_mut(&mut self.events).push(event);
        } else {
            self.dropped += 1;
        }
    }

    /// Counts events that were not kept elsewhere.
    pub(crate) fn drop_more(&mut self, events: u64) {
        self.dropped += events;
    }

    /// Adds a refusal.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.push(Event::Refused {
            class: refusal.class,
            layer: refusal.layer,
        });
    }
}

fn as_list<S: Serializer>(events: &Arc<Vec<Event>>, serializer: S) -> Result<S::Ok, S::Error> {
    events.as_ref().serialize(serializer)
}

fn from_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Vec<Event>>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_trail_counts_what_it_drops_and_keeps_the_refusal() {
        let mut trail = Trail::default();
        for _ in 0..MOST_EVENTS + 3 {
            trail.push(Event::Started);
        }
        trail.refused(&Refusal::own_failure(Class::Trap, ""));
        assert_eq!(trail.dropped(), 3);
        assert!(matches!(
            trail.events().last(),
            Some(Event::Refused {
                class: Class::Trap,
                layer: None
            })
        ));
    }
}
