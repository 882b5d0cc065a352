//! What was allowed before, by what SQLite reports.
//!
//! Statements of a kind report the same things in the same order, over and over. So what the plan allowed is found again by
//! comparing what SQLite points to with what it pointed to then, byte by byte, and mostly at the first try: nothing is
//! copied, hashed or allocated. Only what was allowed is here; what is denied ends the guest.

use std::collections::HashMap;
use std::ffi::{CStr, CString};

use crate::gate::Allowed;

/// Enough for the columns of any statement that the limits let through. Guests choose the names, so there is an end to it.
const MOST: usize = 1024;
/// A report with a longer string is asked about every time.
const LONGEST: usize = 128;

/// One call of SQLite's authorizer, where SQLite keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report<'r> {
    pub code: i32,
    /// The first and second argument, the database and the accessor.
    pub arguments: [Option<&'r CStr>; 4],
}

/// What was allowed before.
#[derive(Debug, Default)]
pub(super) struct Answers {
    entries: Vec<Entry>,
    by_key: HashMap<Key, usize>,
    /// The entry that was found last, and the one that came first in the last statement.
    last: Option<usize>,
    first: usize,
}

type Key = (i32, [Option<CString>; 4]);

#[derive(Debug)]
struct Entry {
    code: i32,
    arguments: [Option<CString>; 4],
    allowed: Vec<Allowed>,
    /// The entry that came after this one the last time.
    next: usize,
}

impl Entry {
    fn is(&self, report: &Report<'_>) -> bool {
        let kept = self.arguments.iter().map(Option::as_deref);
        self.code == report.code && kept.eq(report.arguments.iter().copied())
    }
}

impl Answers {
    /// Tells that the next report is a statement's first.
    pub(super) fn next_statement(&mut self) {
        self.last = None;
    }

    /// What the plan allowed when the same was reported before.
    pub(super) fn recall(&mut self, report: &Report<'_>) -> Option<&[Allowed]> {
        let guess = match self.last {
            Some(last) => self.entries.get(last)?.next,
            None => self.first,
        };
        let found = match self.entries.get(guess) {
            Some(entry) if entry.is(report) => guess,
            _ => *self.by_key.get(&key(report))?,
        };
        self.follow(found);
        self.entries.get(found).map(|entry| entry.allowed.as_slice())
    }

    /// Remembers what the plan allowed.
    pub(super) fn remember(&mut self, report: &Report<'_>, allowed: Vec<Allowed>) {
        let is_long = |argument: &&CStr| argument.count_bytes() > LONGEST;
        if report.arguments.iter().flatten().any(is_long) {
            return;
        }
        if self.entries.len() >= MOST {
            self.forget();
        }
        let number = self.entries.len();
        let key = key(report);
        self.entries.push(Entry {
            code: key.0,
            arguments: key.1.clone(),
            allowed,
            next: number,
        });
        self.by_key.insert(key, number);
        self.follow(number);
    }

    /// Forgets everything: what is asked next is asked of the plan.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn follow(&mut self, found: usize) {
        match self.last.and_then(|last| self.entries.get_mut(last)) {
            Some(last) => last.next = found,
            None => self.first = found,
        }
        self.last = Some(found);
    }
}

fn key(report: &Report<'_>) -> Key {
    (
        report.code,
        report.arguments.map(|argument| argument.map(CStr::to_owned)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;
    use crate::layer::Layers;
    use stockade_policies::{Action, PolicyStore, Principal, Resource, SqlAction};

    fn report<'r>(code: i32, column: Option<&'r CStr>, accessor: Option<&'r CStr>) -> Report<'r> {
        Report {
            code,
            arguments: [Some(c"notes"), column, Some(c"main"), accessor],
        }
    }

    fn allowed() -> Vec<Allowed> {
        let plan = PolicyStore::stock()
            .unwrap()
            .plan(&Principal::caller("guest", "walkin"));
        let gate = Gate::new(plan.unwrap(), Layers::ALL, Box::new(()));
        let answer = gate.ask(Action::Sql(SqlAction::Select), &Resource::database("main"), &[]);
        vec![answer.unwrap()]
    }

    #[test]
    fn only_what_is_the_same_in_every_byte_is_recalled() {
        let mut answers = Answers::default();
        let asked = report(20, Some(c"body"), None);
        assert_eq!(answers.recall(&asked), None);
        answers.remember(&asked, allowed());
        for other in [
            report(23, Some(c"body"), None),
            report(20, Some(c"bodY"), None),
            report(20, Some(c"bod"), None),
            report(20, Some(c""), None),
            report(20, None, None),
            report(20, Some(c"body"), Some(c"view")),
            report(20, Some(c"body"), Some(c"")),
        ] {
            answers.next_statement();
            assert_eq!(answers.recall(&other), None, "{other:?}");
        }
        answers.next_statement();
        assert_eq!(answers.recall(&asked), Some(allowed().as_slice()));
    }

    #[test]
    fn a_wrong_guess_is_found_all_the_same() {
        let mut answers = Answers::default();
        let names = [c"a", c"b", c"c"];
        for name in names {
            answers.remember(&report(20, Some(name), None), allowed());
        }
        for order in [[2, 1, 0], [0, 2, 1], [1, 1, 1]] {
            answers.next_statement();
            for index in order {
                assert!(
                    answers.recall(&report(20, Some(names[index]), None)).is_some(),
                    "{order:?}"
                );
            }
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut answers = Answers::default();
        let name = |number: usize| CString::new(format!("c{number}")).unwrap();
        for number in 0..=MOST {
            answers.remember(&report(20, Some(&name(number)), None), Vec::new());
        }
        assert_eq!(answers.entries.len(), 1);
        assert!(answers.recall(&report(20, Some(&name(0)), None)).is_none());
        let long = CString::new("x".repeat(LONGEST + 1)).unwrap();
        answers.remember(&report(20, Some(&long), None), Vec::new());
        assert_eq!(answers.entries.len(), 1);
    }
}
