//! Replays attacks against a runtime and judges what happened.
//!
//! A [`Case`] says what a guest tries, what must become of it and what it does when nobody stops it. A [`Subject`] runs
//! it on a [`Stage`]; what is [`Observed`] there, from outside, the [`oracle`] judges. [`replay`] does that for a whole
//! [`Corpus`], [`endure`] for thousands of attacks in random order; a [`Matrix`] shows which layer stops which attack. [`variants`] writes an attack in other words, and
//! [`boundary`] walks up to a bound and one step past it, and [`grants`] takes away one action at a time. Behind the protocol
//! of [`wire`], runtimes in any language are subjects, and [`score`] says where they stand; [`Gaps`] hold what they are known to
//! fail. [`overhead`] holds what the fence costs against what was promised.
//!
//! A program that replays must call [`enter`] as the first line of its `main`.

pub mod boundary;
mod case;
mod claim;
mod corpus;
mod damage;
mod dice;
mod effect;
mod endurance;
mod gaps;
pub mod grants;
mod hold;
mod janitor;
mod made;
mod matrix;
mod needs;
mod neighbour;
pub mod oracle;
pub mod overhead;
mod replay;
mod report;
mod scoreboard;
mod stage;
mod subject;
mod suite;
mod variant;
pub mod wire;

pub use case::{Attack, Benign, Case, CaseError, Code, Expected, Kind, Modules, Program, Regression, Threat};
pub use claim::{CLAIM_VERSION, Claim, Claimed};
pub use corpus::{Corpus, CorpusError};
pub use damage::Damage;
pub use effect::{After, Cell, Effects, Returns, Sighting};
pub use endurance::{Endurance, EnduranceError, endure};
pub use gaps::{Day, Gap, Gaps, GapsError};
pub use hold::hold;
pub use made::Measures;
pub use matrix::{Matrix, Row, Worth};
pub use replay::{Manner, Played, Progress, Rigour, Trial, TrialError, play, replay};
pub use report::{CaseReport, Report, ReportError, Summary, Tally, TrialReport, Verdict};
pub use scoreboard::{Score, Stand, Standing, Standings, score, score_reference, stand};
pub use stage::{Stage, StageError};
pub use subject::{Ablation, Laboratory, Observed, Reference, Subject, SubjectError, WhatEnded};
pub use suite::{Machine, REPORT_VERSION, Shard, Suite};
pub use variant::variants;

/// Makes this process a worker, a janitor or an adapter if it was started as one; returns at once if not.
///
/// Must be the first line of `main`.
pub fn enter() {
    janitor::enter();
    wire::enter();
    stockade_runtime::worker::enter();
}
