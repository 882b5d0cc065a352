//! A runtime behind an adapter, as a subject.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_policies::{Meter, Plan};
use stockade_runtime::worker::KilledFor;
use stockade_runtime::{Class, Guest, KILL_GRACE, Layers, Outcome, Product, Request, Trail};

use super::conversation::{Conversation, Next, introduced, nothing_behind};
use super::granted::{millis, told};
use super::message::{Hello, PROTOCOL, Run, ToAdapter, WireGuest};
use super::process::{Adapter, AdapterFault, Heard, in_words};
use crate::case::Case;
use crate::oracle::DEADLINE_GRACE_MS;
use crate::stage::Stage;
use crate::subject::{Laboratory, Observed, Subject, SubjectError, WhatEnded, watchdog};

/// What an adapter is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Until it says hello.
    pub hello: Duration,
    /// Until the guest's first instruction, where the plan does not give a compiler more.
    pub prepare: Duration,
    /// Past the guest's deadline, until the harness ends it.
    pub grace: Duration,
    /// The longest line, in bytes.
    pub line_bytes: usize,
    /// All that it says, in bytes.
    pub heard_bytes: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(20),
            prepare: Duration::from_secs(5),
            grace: KILL_GRACE + Duration::from_millis(DEADLINE_GRACE_MS),
            line_bytes: 64 << 20,
            heard_bytes: 96 << 20,
        }
    }
}

/// A runtime behind an adapter. Each run is another process of it.
#[derive(Clone)]
pub struct Wired {
    program: PathBuf,
    hello: Hello,
    laboratory: Arc<Laboratory>,
    allowance: Allowance,
    is_fenced: bool,
}

/// What is clocked of a run.
struct Clock {
    begun: Instant,
    started: Option<Instant>,
    /// Until the guest's first instruction.
    prepare: Duration,
    /// From there to its end; `None` waits for ever.
    run: Option<Duration>,
    /// The most memory beyond what the adapter takes itself, in bytes.
    memory: u64,
}

impl Clock {
    /// For a guest with a plan, or for the control.
    fn of(case: &Case, plan: Option<&Plan>, allowance: &Allowance) -> Self {
        let control = watchdog(case);
        let (prepare, run) = match plan {
            None => (control.prepare, control.run),
            Some(plan) => {
                let after = |meter| {
                    let bound = millis(plan, meter).map(Duration::from_millis);
                    bound.and_then(|bound| bound.checked_add(allowance.grace))
                };
                let prepare = after(Meter::Compile).unwrap_or(control.prepare);
                (prepare.max(allowance.prepare), after(Meter::Elapse).or(control.run))
            }
        };
        Self {
            begun: Instant::now(),
            started: None,
            prepare,
            run,
            memory: control.rss_bytes.unwrap_or(u64::MAX),
        }
    }

    /// Since the guest's first instruction, or since it was handed over.
    fn wall(&self) -> Duration {
        self.started.unwrap_or(self.begun).elapsed()
    }

    fn overdue(&self, memory: u64) -> Option<KilledFor> {
        let is_late = match self.started {
            None => (self.begun.elapsed() > self.prepare).then_some(KilledFor::Preparing),
            Some(started) => self
                .run
                .is_some_and(|most| started.elapsed() > most)
                .then_some(KilledFor::Time),
        };
        is_late.or_else(|| (memory > self.memory).then_some(KilledFor::Memory))
    }
}

impl Wired {
    /// Starts the adapter once, to learn who it is and what it claims.
    ///
    /// # Errors
    /// [`AdapterFault`] where it cannot be started, does not say hello, or claims what nobody knows.
    pub fn introduce(program: &Path, laboratory: &Arc<Laboratory>, allowance: Allowance) -> Result<Self, AdapterFault> {
        let program = std::fs::canonicalize(program).map_err(AdapterFault::Start)?;
        let (_, hello) = greeted(&program, Path::new("/"), allowance)?;
        Ok(Self {
            program,
            hello,
            laboratory: Arc::clone(laboratory),
            allowance,
            is_fenced: true,
        })
    }

    /// The same runtime without a plan: the control.
    #[must_use]
    pub fn undefended(&self) -> Self {
        Self {
            is_fenced: false,
            ..self.clone()
        }
    }

    /// Who it is, and what it claims.
    #[must_use]
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    fn play(&self, case: &Case, stage: &Stage) -> Result<Observed, SubjectError> {
        let request = stage.request(case);
        let plan = self
            .laboratory
            .runtime(case)?
            .plan(&request)
            .map_err(SubjectError::from)?;
        let run = ToAdapter::Run(Box::new(Run {
            case: case.id.clone(),
            guest: guest(&request),
            database: request.database.clone(),
            plan: self.is_fenced.then(|| told(&plan)),
        }));
        // Where a guest that names a file without a folder makes it, it is seen.
        let (mut adapter, _) = greeted(&self.program, &stage.outside(), self.allowance)?;
        adapter.forget_memory();
        let mut clock = Clock::of(case, self.is_fenced.then_some(&plan), &self.allowance);
        adapter.say(&run).map_err(AdapterFault::Reach)?;
        let observed = listen(case, &plan, &mut adapter, &mut clock);
        // Only what is dead does nothing more that would be seen too late.
        adapter.end();
        observed
    }
}

impl Subject for Wired {
    fn name(&self) -> String {
        self.hello.subject.clone()
    }

    fn run(&self, case: &Case, stage: &Stage) -> Result<Observed, SubjectError> {
        self.play(case, stage)
    }
}

/// An adapter that said hello.
fn greeted(program: &Path, folder: &Path, allowance: Allowance) -> Result<(Adapter, Hello), AdapterFault> {
    let mut adapter = Adapter::start(program, folder, allowance)?;
    let begun = Instant::now();
    if let Err(error) = adapter.say(&ToAdapter::Hello { protocol: PROTOCOL }) {
        // It may be gone already, and say why.
        return Err(match adapter.ended() {
            Some(status) => adapter.fault(Some(status)),
            None => error.into(),
        });
    }
    while begun.elapsed() < allowance.hello {
        match adapter.hear()? {
            Heard::NotYet => {}
            Heard::Message(message) => return Ok((adapter, introduced(message)?)),
            Heard::Closed => {
                let status = adapter.ended();
                return Err(adapter.fault(status));
            }
        }
    }
    Err(AdapterFault::Silent)
}

/// Follows a run to its end.
fn listen(case: &Case, plan: &Plan, adapter: &mut Adapter, clock: &mut Clock) -> Result<Observed, SubjectError> {
    let mut conversation = Conversation::new(&case.id, plan);
    loop {
        match adapter.hear()? {
            Heard::NotYet => {}
            Heard::Closed => return ended(adapter, clock),
            Heard::Message(message) => {
                // Before it is read: what a guest handed back may be long.
                let wall = clock.wall();
                match conversation.heard(message)? {
                    Next::Started => clock.started = Some(Instant::now()),
                    Next::Say(answer) => adapter.say(&answer).map_err(AdapterFault::Reach)?,
                    Next::Unsupported(needs) => return Err(SubjectError::Unsupported { needs }),
                    Next::Done(class, detail, product) => {
                        nothing_behind(adapter.lines())?;
                        return Ok(observed(class, detail, *product, wall, adapter.peak()));
                    }
                }
            }
        }
        if let Some(why) = clock.overdue(adapter.peak()) {
            return Ok(Observed {
                ended: WhatEnded::Stopped(why),
                wall: clock.wall(),
                peak_rss_bytes: adapter.peak(),
            });
        }
    }
}

/// A process that a guest brought down is a crash. One that ended by itself says nothing about the guest.
fn ended(adapter: &mut Adapter, clock: &Clock) -> Result<Observed, SubjectError> {
    use std::os::unix::process::ExitStatusExt;

    let wall = clock.wall();
    let peak_rss_bytes = adapter.peak();
    match adapter.ended() {
        Some(status) if status.signal().is_some() => Ok(Observed {
            ended: WhatEnded::Crashed {
                status: in_words(status),
            },
            wall,
            peak_rss_bytes,
        }),
        status => Err(adapter.fault(status).into()),
    }
}

fn observed(class: Class, detail: String, product: Product, wall: Duration, peak_rss_bytes: u64) -> Observed {
    Observed {
        ended: WhatEnded::Outcome(Box::new(Outcome {
            class,
            // Layers are Stockade's: what stopped a guest elsewhere is said in words.
            layer: None,
            detail,
            wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            peak_rss_bytes,
            product,
            trail: Trail::default(),
            absent: Layers::NONE,
            module_cache: None,
        })),
        wall,
        peak_rss_bytes,
    }
}

fn guest(request: &Request) -> WireGuest {
    match &request.guest {
        Guest::Sql(script) => WireGuest::Sql {
            script: String::from_utf8_lossy(script).into_owned(),
        },
        Guest::Wasm(module) => WireGuest::Wasm {
            // Text that is no module is handed over as it is: refusing it is the subject's business.
            module: wat::parse_bytes(module.bytes()).map_or_else(|_| hex(module.bytes()), |bytes| hex(&bytes)),
            invoke: request.invoke.clone(),
            arguments: request.arguments.clone(),
            input: hex(&request.input),
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
