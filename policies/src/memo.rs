//! Answers that were given before.
//!
//! An answer is remembered by what it depends on: the action, the resource, and what the policies that are left read of
//! the context. A statement that differs only in an attribute that no policy looks at is not asked about again.
//!
//! Guests choose the names that they ask about, so the memo has a size and forgets everything when it is full. Keys are
//! kept whole and compared: a guest that finds two names with one hash gains a slow answer, not a wrong one.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;

use crate::condition::Reads;
use crate::plan::Decision;
use crate::vocabulary::{Action, Question, Resource, Value};

/// Enough for the tables, columns and functions of any statement that the limits let through.
const MOST_ENTRIES: usize = 4096;
/// A question with longer strings is answered afresh every time.
const LONGEST_KEY: usize = 512;

#[derive(Default)]
pub(crate) struct Memo {
    hasher: RandomState,
    entries: Mutex<HashMap<u64, Entry>>,
}

struct Entry {
    action: Action,
    resource: Resource,
    context: Vec<(&'static str, Value)>,
    decision: Decision,
}

impl Entry {
    fn answers(&self, question: &Question<'_>, read: &[(&'static str, &Value)]) -> bool {
        let kept = self.context.iter().map(|(name, value)| (*name, value));
        self.action == question.action && self.resource == *question.resource && kept.eq(read.iter().copied())
    }
}

impl Memo {
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.entries.lock().map_or(0, |entries| entries.len())
    }

    /// What was answered before, or what `answer` says now. The question must be well formed: what is not read is not
    /// looked at.
    pub(crate) fn recall(&self, question: &Question<'_>, reads: &Reads, answer: impl FnOnce() -> Decision) -> Decision {
        let all = question.context.iter().map(|(name, value)| (*name, value));
        let read: Vec<(&'static str, &Value)> = all.filter(|(name, _)| reads.reads(name)).collect();
        if length(question.resource, &read) > LONGEST_KEY {
            return answer();
        }
        let hash = self.hasher.hash_one((question.action, question.resource, &read));
        // A lock that another thread poisoned costs time, not safety: the question is asked afresh.
        if let Ok(entries) = self.entries.lock()
            && let Some(entry) = entries.get(&hash).filter(|entry| entry.answers(question, &read))
        {
            return entry.decision.clone();
        }
        let decision = answer();
        if let Ok(mut entries) = self.entries.lock() {
            if entries.len() >= MOST_ENTRIES {
                entries.clear();
            }
            entries.insert(
                hash,
                Entry {
                    action: question.action,
                    resource: question.resource.clone(),
                    context: read.into_iter().map(|(name, value)| (name, value.clone())).collect(),
                    decision: decision.clone(),
                },
            );
        }
        decision
    }
}

/// The bytes of a key that the asker chose.
fn length(resource: &Resource, read: &[(&'static str, &Value)]) -> usize {
    let in_context = read.iter().map(|(name, value)| {
        name.len()
            + match value {
                Value::Text(text) => text.len(),
                Value::Long(_) => size_of::<i64>(),
            }
    });
    let in_resource = match resource {
        Resource::HostFunction(name)
        | Resource::Database(name)
        | Resource::SqlFunction(name)
        | Resource::Pragma(name)
        | Resource::Path(name)
        | Resource::Namespace(name)
        | Resource::Variable(name) => name.len(),
        Resource::Table { database, table } => database.len() + table.len(),
        Resource::Column {
            database,
            table,
            column,
        } => database.len() + table.len() + column.len(),
    };
    in_context.sum::<usize>() + in_resource
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::vocabulary::SqlAction;

    fn ask(memo: &Memo, resource: &Resource, asked: &Cell<usize>) -> Decision {
        let question = Question {
            action: Action::Sql(SqlAction::Read),
            resource,
            context: &[],
        };
        memo.recall(&question, &Reads::Everything, || {
            asked.set(asked.get() + 1);
            Decision {
                allowed: true,
                ..Decision::default()
            }
        })
    }

    #[test]
    fn the_second_time_is_remembered() {
        let (memo, asked) = (Memo::default(), Cell::new(0));
        let column = Resource::column("main", "t", "c");
        assert!(ask(&memo, &column, &asked).allowed);
        assert!(ask(&memo, &column, &asked).allowed);
        assert_eq!(asked.get(), 1);
        ask(&memo, &Resource::column("main", "t", "d"), &asked);
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn what_no_policy_reads_is_not_part_of_the_key() {
        let only = |name: &str| Reads::Only([name.to_owned()].into());
        let asked = Cell::new(0);
        let ask = |memo: &Memo, reads: &Reads, trigger: &str, database: &str| {
            let question = Question {
                action: Action::Sql(SqlAction::Read),
                resource: &Resource::column("main", "t", "c"),
                context: &[
                    ("trigger", Value::Text(trigger.to_owned())),
                    ("database", Value::Text(database.to_owned())),
                ],
            };
            memo.recall(&question, reads, || {
                asked.set(asked.get() + 1);
                Decision {
                    allowed: trigger == "good",
                    ..Decision::default()
                }
            })
        };
        let (memo, reads) = (Memo::default(), only("trigger"));
        assert!(ask(&memo, &reads, "good", "main").allowed);
        assert!(ask(&memo, &reads, "good", "temp").allowed);
        assert_eq!(asked.get(), 1);
        assert!(!ask(&memo, &reads, "bad", "temp").allowed);
        assert_eq!(asked.get(), 2);
        let long = "x".repeat(2 * LONGEST_KEY);
        assert!(ask(&memo, &reads, "good", &long).allowed);
        assert_eq!(asked.get(), 2);
        ask(&memo, &Reads::Everything, "good", "main");
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn many_names_do_not_grow_it_for_ever() {
        let (memo, asked) = (Memo::default(), Cell::new(0));
        for index in 0..3 * MOST_ENTRIES {
            ask(&memo, &Resource::column("main", "t", &format!("c{index}")), &asked);
        }
        assert_eq!(asked.get(), 3 * MOST_ENTRIES);
        assert!(memo.entries.lock().unwrap().len() <= MOST_ENTRIES);
    }

    #[test]
    fn long_names_are_not_kept() {
        let (memo, asked) = (Memo::default(), Cell::new(0));
        let column = Resource::column("main", "t", &"c".repeat(LONGEST_KEY));
        ask(&memo, &column, &asked);
        ask(&memo, &column, &asked);
        assert_eq!(asked.get(), 2);
        assert!(memo.entries.lock().unwrap().is_empty());
    }
}
