//! What is said about one guest, and whose turn it is: the protocol without the process.

use stockade_policies::{Action, Meter, Plan};
use stockade_runtime::{Class, Product};

use super::granted::decided;
use super::lines::{Lines, beginning};
use super::message::{Done, FromAdapter, Hello, PROTOCOL, ToAdapter};
use super::process::AdapterFault;
use super::subject::Allowance;

/// The most characters that are quoted of a name that is not the right one, and of a number that is none.
const MOST_QUOTED: usize = 80;

/// What follows from what an adapter said.
#[derive(Debug)]
pub(super) enum Next {
    /// The guest runs from here on.
    Started,
    /// It wants this answer.
    Say(ToAdapter),
    /// The guest has ended.
    Done(Class, String, Box<Product>),
    /// It was not run, because of what the subject lacks.
    Unsupported(String),
}

/// A conversation about one guest, after `hello`.
pub(super) struct Conversation<'a> {
    case: &'a str,
    plan: &'a Plan,
    has_started: bool,
}

impl<'a> Conversation<'a> {
    pub(super) const fn new(case: &'a str, plan: &'a Plan) -> Self {
        Self {
            case,
            plan,
            has_started: false,
        }
    }

    /// What follows from a message.
    ///
    /// # Errors
    /// [`AdapterFault`] for one that does not come now, is about another case, or hands back what nobody can read.
    pub(super) fn heard(&mut self, message: FromAdapter) -> Result<Next, AdapterFault> {
        match message {
            FromAdapter::Started { case } => {
                self.is_about_this(&case)?;
                if self.has_started {
                    return Err(AdapterFault::OutOfTurn { said: "started" });
                }
                self.has_started = true;
                Ok(Next::Started)
            }
            FromAdapter::Ask(ask) => {
                self.is_about_this(&ask.case)?;
                let granted = decided(self.plan, &ask);
                Ok(Next::Say(ToAdapter::Decision { granted }))
            }
            FromAdapter::Done(done) => {
                self.is_about_this(&done.case)?;
                let product = product(&done)?;
                Ok(Next::Done(done.class, done.detail, Box::new(product)))
            }
            FromAdapter::Unsupported { case, needs } => {
                self.is_about_this(&case)?;
                Ok(Next::Unsupported(needs))
            }
            other @ FromAdapter::Hello(_) => Err(AdapterFault::OutOfTurn { said: name(&other) }),
        }
    }

    fn is_about_this(&self, theirs: &str) -> Result<(), AdapterFault> {
        if theirs == self.case {
            return Ok(());
        }
        Err(AdapterFault::OtherCase {
            theirs: beginning(theirs, MOST_QUOTED),
        })
    }
}

fn product(done: &Done) -> Result<Product, AdapterFault> {
    done.product().map_err(|reason| AdapterFault::Garbage {
        line: "done".to_owned(),
        reason: beginning(&reason, MOST_QUOTED),
    })
}

/// The hello that must come first.
///
/// # Errors
/// [`AdapterFault`] for anything else, for another version, and for a claim that is no word of the vocabulary.
pub(super) fn introduced(message: FromAdapter) -> Result<Hello, AdapterFault> {
    let hello = match message {
        FromAdapter::Hello(hello) => hello,
        other => return Err(AdapterFault::OutOfTurn { said: name(&other) }),
    };
    if hello.protocol != PROTOCOL {
        return Err(AdapterFault::Version { theirs: hello.protocol });
    }
    let mut meters = hello.meters.iter();
    let mut actions = hello.actions.iter();
    let unknown = meters
        .find(|meter| Meter::from_action(meter).is_none())
        .or_else(|| actions.find(|action| Action::from_id(action).is_none()));
    match unknown {
        Some(claim) => Err(AdapterFault::Claim(beginning(claim, MOST_QUOTED))),
        None => Ok(hello),
    }
}

/// Nothing comes behind `done`.
///
/// # Errors
/// [`AdapterFault::OutOfTurn`] where something did.
pub(super) fn nothing_behind(lines: &Lines) -> Result<(), AdapterFault> {
    if lines.is_read() {
        return Ok(());
    }
    Err(AdapterFault::OutOfTurn {
        said: "something after `done`",
    })
}

fn name(message: &FromAdapter) -> &'static str {
    match message {
        FromAdapter::Hello(_) => "hello",
        FromAdapter::Started { .. } => "started",
        FromAdapter::Ask(_) => "ask",
        FromAdapter::Done(_) => "done",
        FromAdapter::Unsupported { .. } => "unsupported",
    }
}

/// What a transcript comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Overheard {
    /// The guest ended.
    Done {
        /// How.
        class: Class,
        /// What it handed back.
        product: Box<Product>,
    },
    /// It was not run.
    Unsupported {
        /// What it would have needed.
        needs: String,
    },
    /// It is still running, or has not begun: there is more to come.
    NotYet,
}

/// Follows what an adapter said, from `hello` on, about a guest with this plan, without an adapter: what a run would come to, and
/// the answers that it was given to what it asked. It came in chunks, as streams do.
///
/// # Errors
/// [`AdapterFault`] where an adapter must not say that.
pub fn overhear<'c>(
    case: &str,
    plan: &Plan,
    allowance: &Allowance,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Result<(Overheard, Vec<ToAdapter>), AdapterFault> {
    let mut lines = Lines::new(allowance);
    let mut conversation = Conversation::new(case, plan);
    let mut is_introduced = false;
    let mut answers = Vec::new();
    let mut chunks = chunks.into_iter();
    while let Some(chunk) = chunks.next() {
        lines.take(chunk)?;
        while let Some(message) = lines.next_message()? {
            if !is_introduced {
                introduced(message)?;
                is_introduced = true;
                continue;
            }
            match conversation.heard(message)? {
                Next::Started => {}
                Next::Say(answer) => answers.push(answer),
                Next::Done(class, _, product) => {
                    chunks.try_for_each(|rest| lines.take(rest))?;
                    nothing_behind(&lines)?;
                    return Ok((Overheard::Done { class, product }, answers));
                }
                Next::Unsupported(needs) => return Ok((Overheard::Unsupported { needs }, answers)),
            }
        }
    }
    Ok((Overheard::NotYet, answers))
}

#[cfg(test)]
mod tests {
    use stockade_policies::{PolicyStore, Principal};

    use super::*;

    const HELLO: &str =
        r#"{"type":"hello","protocol":1,"subject":"s","version":"1","kinds":[],"meters":[],"actions":[]}"#;

    fn overheard(lines: &[&str]) -> Result<(Overheard, Vec<ToAdapter>), AdapterFault> {
        let plan = PolicyStore::stock()
            .unwrap()
            .plan(&Principal::profile("database-only"))
            .unwrap();
        let said: String = lines.iter().map(|line| format!("{line}\n")).collect();
        overhear("c", &plan, &Allowance::default(), said.as_bytes().chunks(7))
    }

    #[test]
    fn what_was_asked_is_answered_and_what_came_last_is_what_became_of_the_guest() {
        let (overheard, answers) = overheard(&[
            HELLO,
            r#"{"type":"started","case":"c"}"#,
            r#"{"type":"ask","case":"c","action":"read","resource":["main","notes","body"]}"#,
            r#"{"type":"ask","case":"c","action":"read","resource":["other","notes","body"]}"#,
            r#"{"type":"done","case":"c","class":"completed"}"#,
        ])
        .unwrap();
        let answered = [true, false].map(|granted| ToAdapter::Decision { granted });
        assert_eq!(answers, answered);
        assert!(matches!(
            overheard,
            Overheard::Done {
                class: Class::Completed,
                ..
            }
        ));
    }

    #[test]
    fn nothing_comes_before_hello_and_nothing_behind_done() {
        let done = r#"{"type":"done","case":"c","class":"completed"}"#;
        assert!(matches!(overheard(&[HELLO]), Ok((Overheard::NotYet, _))));
        assert!(matches!(
            overheard(&[done]),
            Err(AdapterFault::OutOfTurn { said: "done" })
        ));
        let behind = overheard(&[HELLO, done, done]);
        assert!(matches!(behind, Err(AdapterFault::OutOfTurn { .. })), "{behind:?}");
    }

    #[test]
    fn a_fault_quotes_no_more_than_its_beginning() {
        let long = "x".repeat(1 << 20);
        for line in [
            long.clone(),
            format!(r#"{{"type":"done","case":"c","class":"{long}"}}"#),
            format!(r#"{{"type":"started","case":"{long}"}}"#),
            format!(r#"{{"type":"done","case":"c","class":"completed","results":[{{"i32":"{long}"}}]}}"#),
        ] {
            let fault = overheard(&[HELLO, &line]).unwrap_err().to_string();
            assert!(fault.len() < 600, "{} bytes", fault.len());
        }
    }
}
