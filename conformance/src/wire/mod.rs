//! Runtimes in any language, judged through an adapter: a program that speaks lines of JSON on its standard streams.
//!
//! `docs/put-a-runtime-to-the-test.md` is the page for who writes an adapter. An adapter is believed in what a guest was
//! handed and why it ended. What the guest did, how long it ran and what memory it took is seen from outside, and an adapter
//! that hangs, floods or dies costs its case only: each case has a process group of its own.

mod conversation;
mod granted;
mod lines;
mod message;
mod process;
mod subject;
mod warden;

pub use conversation::{Overheard, overhear};
pub use message::{
    Ask, Done, FromAdapter, Grant, GuestKind, Hello, PROTOCOL, Run, Statement, ToAdapter, WireGuest, WireNumber,
    WirePlan, WireValue, schema,
};
pub use process::AdapterFault;
pub use subject::{Allowance, Wired};
pub(crate) use warden::enter;
