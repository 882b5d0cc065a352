//! SQL guests on SQLite.
//!
//! [`keywords`] looks at a script's words before SQLite does, where a [`glance`] finds any. [`session`] opens a database inside a plan and runs scripts on
//! it, [`statement`] by statement, and hands back [`rows`]; [`hooks`] are the two callbacks that SQLite makes while it does,
//! [`authorizer`] judges what it reports and [`unreported`] what it does not, of which some is in [`indexes`], and
//! [`refusal`] reads a cause out of SQLite's answer. [`answers`] recalls what was allowed before, and [`kept`] has the scripts
//! that are compiled already. [`build`] asks how SQLite was compiled, and [`files`] has it ask for its files. What one opcode does inside itself none of these can interrupt: [`functions`] bounds
//! the functions that could be given a minute's work, and for the rest there is the worker process.

mod answers;
mod authorizer;
mod build;
mod files;
mod functions;
mod glance;
mod hooks;
mod indexes;
mod kept;
pub(crate) mod keywords;
mod limits;
pub mod measure;
mod refusal;
mod rows;
mod session;
mod statement;
mod tokens;
mod unreported;

pub(crate) use build::{missing_from_build, version};
pub(crate) use files::ask_for_files;
pub(crate) use glance::Glanced;
pub(crate) use limits::set_heap;
pub(crate) use rows::owned;
pub(crate) use session::{Cut, Session, Stop};
pub(crate) use statement::Statement;
