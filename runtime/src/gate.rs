//! The one place where a guest's request meets a policy decision.
//!
//! Host functions and the SQL authorizer ask here and nowhere else. The gate never executes anything: it answers, and
//! it writes the answer to the trail. The first refusal ends the guest, so after one nothing is allowed any more.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade_policies::{Action, Bound, Decision, Meter, Plan, Question, Resource, Value};

use crate::layer::{Layer, Layers};
use crate::outcome::Refusal;
use crate::trail::{Event, Trail};

/// Remembers what was written to the trail, so that a million reads of one column are one line.
/// Bounded, because resource names come from guests.
const MOST_REMEMBERED: usize = 4096;

/// Answers from a plan, and keeps the trail of one run.
pub(crate) struct Gate {
    plan: Plan,
    layers: Layers,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    trail: Trail,
    refusal: Option<Refusal>,
    written: HashSet<(Action, String)>,
}

impl Gate {
    pub(crate) fn new(plan: Plan, layers: Layers) -> Self {
        let mut trail = Trail::default();
        trail.push(Event::Admitted {
            profile: plan.principal().profile.clone(),
            plan: plan.digest().to_owned(),
        });
        Self {
            plan,
            layers,
            book: Mutex::new(Book {
                trail,
                ..Book::default()
            }),
        }
    }

    /// Whether `layer` is in force in this run.
    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.layers.contains(layer)
    }

    /// The plan that is asked.
    #[cfg(all(feature = "sql", feature = "wasm"))]
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The most of `meter` that the plan allows.
    pub(crate) fn bound(&self, meter: Meter) -> Bound {
        self.plan.bound(meter)
    }

    /// Asks the plan, and writes the answer to the trail. Allows nothing after the first refusal.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub(crate) fn ask(
        &self,
        action: Action,
        resource: &Resource,
        context: &[(&'static str, Value)],
    ) -> Result<(), String> {
        let mut book = self.book();
        if book.refusal.is_some() {
            return Err("the guest was refused before".to_owned());
        }
        let decision = self.plan.decide(&Question {
            action,
            resource,
            context,
        });
        let why = (!decision.allowed).then(|| denial(action, resource, &decision));
        let shown = shown(resource);
        let is_news = book.written.len() < MOST_REMEMBERED && book.written.insert((action, shown.clone()));
        if is_news || !decision.allowed {
            book.trail.push(Event::Decided {
                action: action.id().to_owned(),
                resource: shown,
                allowed: decision.allowed,
                policies: decision.policies,
            });
        }
        why.map_or(Ok(()), Err)
    }

    /// Whether the plan would allow `action`, without asking on the guest's behalf: nothing is written to the trail.
    pub(crate) fn would_allow(&self, action: Action, resource: &Resource, context: &[(&'static str, Value)]) -> bool {
        self.plan
            .decide(&Question {
                action,
                resource,
                context,
            })
            .allowed
    }

    /// Writes that the first guest byte is about to be executed.
    pub(crate) fn started(&self) {
        self.book().trail.push(Event::Started);
    }

    /// Ends the guest. Only the first refusal counts: later ones are its echo.
    pub(crate) fn refuse(&self, mut refusal: Refusal) {
        // Where a layer is off, what it would have said is said by SQLite's or wasmtime's own ceilings, or by the contract.
        refusal.layer = refusal.layer.filter(|layer| self.has(*layer));
        let mut book = self.book();
        if book.refusal.is_none() {
            book.trail.refused(&refusal);
            book.refusal = Some(refusal);
        }
    }

    /// Why the guest was ended, if it was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.book().refusal.clone()
    }

    /// The trail, for the outcome. The gate is of no use after this.
    pub(crate) fn take_trail(&self) -> Trail {
        std::mem::take(&mut self.book().trail)
    }

    // A panic while the book was open leaves at worst a missing line; the refusal it guards stays readable.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resource for the trail. Names come from guests, and a name can be as long as a value: what is kept of it is not.
fn shown(resource: &Resource) -> String {
    const LONGEST: usize = 256;
    let mut shown = resource.to_string();
    if let Some((cut, _)) = shown.char_indices().nth(LONGEST) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

/// A sentence for a question that was denied. It names the policies that forbid; where none does, nothing permits.
fn denial(action: Action, resource: &Resource, decision: &Decision) -> String {
    let by: Vec<String> = decision.policies.iter().map(|policy| format!("`{policy}`")).collect();
    let asked = format!("`{}` on `{}`", action.id(), shown(resource));
    if let Some(error) = decision.errors.first() {
        format!("{asked} cannot be decided: {error}")
    } else if by.is_empty() {
        format!("{asked} is not granted")
    } else {
        format!("{asked} is forbidden by {}", by.join(", "))
    }
}

/// A sentence for a bound that was met.
pub(crate) fn beyond(meter: Meter, bound: Bound) -> String {
    match bound {
        Bound::Limited(most) => format!("`{}` is bounded at {most} {}", meter.action(), meter.unit().name()),
        Bound::Unbounded => format!("`{}` is unbounded", meter.action()),
    }
}
