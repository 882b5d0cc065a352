//! A governed connection that stays open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use stockade_policies::{Meter, Plan};

use crate::deadline::Deadline;
use crate::error::RuntimeError;
use crate::execute::{Ended, outcome, run_script};
use crate::gate::Gate;
use crate::layer::{Layer, Layers};
use crate::outcome::{Class, Outcome, Product, Refusal, StatementResult};
use crate::runtime::admitted;
use crate::screen;
use crate::sql::{Glanced, Session};
use crate::ticker;

/// A governed connection that stays open: [`Runtime::open`](crate::Runtime::open).
///
/// Every call of [`run`](Self::run) is a guest of its own, inside the plan that the session was opened with: it has the whole
/// deadline and all quotas, and its outcome the trail of what it did. A refusal ends that guest, and the next one is none the
/// worse. What a guest leaves on the connection, the next one finds: temporary tables, attached files, `pragma` settings that
/// the plan grants. So a session is for one tenant. A transaction that a call leaves open is rolled back at its end.
///
/// A script that comes again is kept compiled. It was judged when it was compiled, and what was decided then is in the trail of
/// every run. When the schema changes, by whomever, it is judged again. New policies make a new runtime and with it
/// new sessions: an open one keeps its plan.
///
/// ```
/// use stockade_policies::PolicyStore;
/// use stockade_runtime::{Class, Runtime};
///
/// let runtime = Runtime::in_process(PolicyStore::stock()?);
/// let mut session = runtime.open("walkin", None)?;
/// assert_eq!(session.run("select 6 * 7")?.class, Class::Completed);
/// assert_eq!(session.run("attach '/etc/passwd' as x")?.class, Class::DeniedSqlAction);
/// assert_eq!(session.run("select 6 * 7")?.class, Class::Completed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqlSession {
    session: Session,
    gate: Arc<Gate>,
    clock: ticker::User,
    /// Why its plan lets no script run at all, if so.
    refusal: Option<Refusal>,
    /// A guard failed, and nobody knows what it left undone.
    is_broken: bool,
}

// A host hands it from thread to thread.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<SqlSession>();
};

impl SqlSession {
    pub(crate) fn open(plan: Plan, layers: Layers, database: Option<&Path>) -> Result<Self, RuntimeError> {
        let clock = ticker::Ticker::of_process().map_err(RuntimeError::Spawn)?;
        let gate = Arc::new(Gate::new(plan, layers, Box::new(())));
        // Opening runs nothing of a guest's. The first guest has a deadline of its own.
        let opening = Deadline::start(stockade_policies::Bound::Unbounded);
        Ok(Self {
            session: Session::open(database, &gate, opening)?,
            refusal: screen::statement_refusal(gate.plan()),
            gate,
            clock,
            is_broken: false,
        })
    }

    /// Runs a script, of any number of statements, to its end.
    ///
    /// Its deadline and [`Outcome::wall_us`] go by a clock that ticks every 10 ms: it may take that much longer than `elapse`
    /// says. There is no hard deadline in process: one function of SQLite's can take far longer.
    ///
    /// # Errors
    /// [`RuntimeError`] where we do not know what the guest did: the database is busy or corrupt. The session can go on.
    pub fn run(&mut self, script: &str) -> Result<Outcome, RuntimeError> {
        let script = &Glanced::of(script);
        let screened = if self.session.has_just_run(script.text()) || !self.gate.has(Layer::Screen) {
            None
        } else {
            screen::script_refusal(script, self.gate.plan()).or_else(|| self.refusal.clone())
        };
        let mut outcome = match screened {
            Some(refusal) => Outcome::refused(refusal, admitted(self.gate.plan())),
            None => self.run_screened(script)?,
        };
        outcome.absent = Layers::ALL.minus(self.gate.layers());
        Ok(outcome)
    }

    fn run_screened(&mut self, script: &Glanced<'_>) -> Result<Outcome, RuntimeError> {
        let mut product = Product::default();
        let guarded = || self.run_guest(script, &mut product.statements);
        let run = if self.is_broken {
            None
        } else {
            catch_unwind(AssertUnwindSafe(guarded)).ok()
        };
        let refusal = match run {
            Some(Ok(Ok(ended))) => return Ok(outcome(&self.gate, ended, product, || self.session.trail())),
            Some(Ok(Err(refusal))) => refusal,
            Some(Err(unknown)) => return Err(unknown),
            None => {
                self.is_broken = true;
                Refusal::own_failure(Class::HostInternal, "the guard failed while a guest of the session ran")
            }
        };
        Ok(Outcome::refused(refusal, admitted(self.gate.plan())))
    }

    /// How the guest ended, or why it must not begin: the clock is dead.
    fn run_guest(
        &self,
        script: &Glanced<'_>,
        results: &mut Vec<StatementResult>,
    ) -> Result<Result<Ended, Refusal>, RuntimeError> {
        let deadline = Deadline::start_by(self.clock.ticker(), self.gate.bound(Meter::Elapse));
        if let Some(refusal) = self.session.admit(deadline)? {
            return Ok(Err(refusal));
        }
        let ended = run_script(&self.session, script, &self.gate, deadline, results);
        let rolled_back = self.session.roll_back();
        let ended = ended?;
        rolled_back?;
        Ok(Ok(ended))
    }
}
