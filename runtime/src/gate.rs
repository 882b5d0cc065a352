//! The one place where a guest's request meets a policy decision.
//!
//! Host functions and the SQL authorizer ask here and nowhere else. The gate never executes anything: it answers, and
//! it writes the answer to the trail. The first refusal ends the guest, so after one nothing is allowed any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade_policies::{Action, Bound, Decision, Meter, Plan, Question, Resource, Value};

#[cfg(feature = "wasm")]
use crate::code::Compiled;
use crate::execute::Listener;
use crate::layer::{Layer, Layers};
use crate::outcome::Refusal;
use crate::trail::{Event, Trail};

/// Remembers what can be written to the trail, so that a million reads of one column are one line.
/// Bounded, because resource names come from guests.
const MOST_REMEMBERED: usize = 4096;

/// A question that the plan allowed, by the line that it is in the trail. Good until the gate
/// forgets it: [`Gate::admit_another`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed(usize);

impl Allowed {
    /// A line for which there was no room: it is counted, not kept.
    const BEYOND: Self = Self(usize::MAX);
}

/// Answers from a plan, and keeps the trail of one run at a time.
pub(crate) struct Gate {
    plan: Plan,
    layers: Layers,
    /// Whether the book has a refusal, for those who ask often.
    is_refused: AtomicBool,
    /// Whether a guest was admitted whose run the book has not begun yet.
    is_another: AtomicBool,
    /// Whether the book has as many lines as it may have.
    is_full: AtomicBool,
    book: Mutex<Book>,
    listener: Box<dyn Listener>,
    is_ending: AtomicBool,
}

/// Lines are written once and numbered, and the trail of a run is a list of numbers until somebody wants to read it.
struct Book {
    lines: Vec<Line>,
    questions: HashMap<(Action, String), usize>,
    /// Counts the runs, so that a line knows whether it is in this one's trail.
    run: u64,
    trail: Vec<usize>,
    dropped: u64,
    refusal: Option<Refusal>,
    /// What is said of the run as a whole when it has ended.
    closing: Vec<Event>,
    /// The trail that was read last, and its numbers.
    read: (Vec<usize>, Trail),
}

struct Line {
    event: Event,
    written_in: u64,
}

/// The numbers of the lines that every gate has.
const ADMITTED: usize = 0;
const STARTED: usize = 1;

impl Book {
    fn line(&mut self, event: Event) -> usize {
        self.lines.push(Line { event, written_in: 0 });
        self.lines.len() - 1
    }

    /// Begins the run of another guest: nothing of the one before is in its trail or held against it.
    fn begin(&mut self) {
        self.run += 1;
        self.trail.clear();
        self.dropped = 0;
        self.refusal = None;
        self.closing.clear();
        self.write(ADMITTED);
        self.write(STARTED);
    }

    /// Writes a line to the trail, unless it is there.
    fn write(&mut self, number: usize) {
        match self.lines.get_mut(number) {
            Some(line) if line.written_in == self.run => {}
            Some(line) => {
                line.written_in = self.run;
                self.trail.push(number);
            }
            None => self.dropped += 1,
        }
    }

    /// The trail. One that is like the one read before is that one.
    fn read_trail(&mut self) -> Trail {
        let is_plain = self.refusal.is_none() && self.closing.is_empty() && self.dropped == 0;
        if is_plain && self.trail == self.read.0 && !self.trail.is_empty() {
            return self.read.1.clone();
        }
        let trail = self.as_trail();
        if is_plain {
            self.read = (self.trail.clone(), trail.clone());
        }
        trail
    }

    fn as_trail(&self) -> Trail {
        let mut trail = Trail::default();
        for line in self.trail.iter().filter_map(|&number| self.lines.get(number)) {
            trail.push(line.event.clone());
        }
        for event in &self.closing {
            trail.push(event.clone());
        }
        trail.drop_more(self.dropped);
        if let Some(refusal) = &self.refusal {
            trail.refused(refusal);
        }
        trail
    }
}

impl Gate {
    pub(crate) fn new(plan: Plan, layers: Layers, listener: Box<dyn Listener>) -> Self {
        let mut book = Book {
            lines: Vec::new(),
            questions: HashMap::new(),
            run: 1,
            trail: Vec::new(),
            dropped: 0,
            refusal: None,
            closing: Vec::new(),
            read: Default::default(),
        };
        for event in [
            Event::Admitted {
                profile: plan.principal().profile.clone(),
                plan: plan.digest().to_owned(),
            },
            Event::Started,
        ] {
            book.line(event);
        }
        book.write(ADMITTED);
        Self {
            plan,
            layers,
            is_refused: AtomicBool::new(false),
            is_another: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            book: Mutex::new(book),
            listener,
            is_ending: AtomicBool::new(false),
        }
    }

    /// Begins the run of another guest inside the same plan, and writes that it is about to start: nothing of the one before is
    /// in its trail or held against it. Where there were too many questions, all are forgotten; then this is true, and what was
    /// [`Allowed`] before must not be repeated.
    #[cfg(feature = "sql")]
    pub(crate) fn admit_another(&self) -> bool {
        self.is_refused.store(false, Ordering::Release);
        // Whoever opens the book next begins the run in it: most runs open it once, at their end.
        self.is_another.store(true, Ordering::Release);
        let is_full = self.is_full.load(Ordering::Acquire);
        if is_full {
            let mut book = self.book();
            self.is_full.store(false, Ordering::Release);
            book.lines.truncate(STARTED + 1);
            book.questions.clear();
            book.read = Default::default();
        }
        is_full
    }

    /// Whether `layer` is in force in this run.
    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.layers.contains(layer)
    }

    /// The layers in force.
    pub(crate) fn layers(&self) -> Layers {
        self.layers
    }

    /// The plan that answers.
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
    ) -> Result<Allowed, String> {
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
        let key = (action, shown(resource));
        let known = book.questions.get(&key).copied();
        let number = match known {
            Some(number) if decision.allowed => number,
            None if decision.allowed && book.questions.len() >= MOST_REMEMBERED => Allowed::BEYOND.0,
            _ => {
                let number = book.line(Event::Decided {
                    action: action.id().to_owned(),
                    resource: key.1.clone(),
                    allowed: decision.allowed,
                    policies: decision.policies,
                });
                if book.lines.len() >= MOST_REMEMBERED {
                    self.is_full.store(true, Ordering::Release);
                }
                if decision.allowed {
                    book.questions.insert(key, number);
                }
                number
            }
        };
        book.write(number);
        why.map_or(Ok(Allowed(number)), Err)
    }

    /// Writes to the trail what the plan allowed before, when the same is done again without asking.
    #[cfg(feature = "sql")]
    pub(crate) fn repeat(&self, allowed: &[Allowed]) {
        let mut book = self.book();
        for &Allowed(number) in allowed {
            book.write(number);
        }
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

    /// Tells what was compiled, to be kept.
    #[cfg(feature = "wasm")]
    pub(crate) fn compiled(&self, compiled: Compiled) {
        self.listener.compiled(compiled);
    }

    /// Writes and tells that the first guest byte is about to be executed.
    pub(crate) fn started(&self) {
        self.book().write(STARTED);
        self.listener.started();
    }

    /// Tells that no more of the guest is executed: it ended, or a layer stops it now.
    pub(crate) fn ending(&self) {
        // Looking costs less than swapping, and every run of a session but the first finds it set.
        if !self.is_ending.load(Ordering::Relaxed) && !self.is_ending.swap(true, Ordering::Relaxed) {
            self.listener.ending();
        }
    }

    /// Writes what there is to say of the run as a whole. It comes before the refusal, where there was one.
    #[cfg(feature = "wasm")]
    pub(crate) fn close(&self, events: impl IntoIterator<Item = Event>) {
        self.book().closing.extend(events);
    }

    /// Ends the guest. Only the first refusal counts: later ones are its echo.
    pub(crate) fn refuse(&self, mut refusal: Refusal) {
        // Where a layer is off, what it would have said is said by SQLite's or wasmtime's own ceilings, or by the contract.
        refusal.layer = refusal.layer.filter(|layer| self.has(*layer));
        let mut book = self.book();
        if book.refusal.is_none() {
            book.refusal = Some(refusal);
            self.is_refused.store(true, Ordering::Release);
        }
        drop(book);
        self.ending();
    }

    /// Whether the guest was ended.
    #[cfg(feature = "wasm")]
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }

    /// Why the guest was ended, if it was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if !self.is_refused.load(Ordering::Acquire) {
            return None;
        }
        self.book().refusal.clone()
    }

    /// The trail of this run.
    pub(crate) fn trail(&self) -> Trail {
        self.book().read_trail()
    }

    /// Whether nothing was asked, written or refused since another guest was admitted.
    #[cfg(feature = "sql")]
    pub(crate) fn is_untouched(&self) -> bool {
        self.is_another.load(Ordering::Acquire)
    }

    /// The trail of this run, with what the plan allowed before and was done again: [`Gate::repeat`].
    #[cfg(feature = "sql")]
    pub(crate) fn trail_with(&self, allowed: &[Allowed]) -> Trail {
        let mut book = self.book();
        for &Allowed(number) in allowed {
            book.write(number);
        }
        book.read_trail()
    }

    // A panic while the book was open leaves at worst a missing line; the refusal it guards stays readable.
    fn book(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_another.load(Ordering::Acquire) {
            self.is_another.store(false, Ordering::Release);
            book.begin();
        }
        book
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
