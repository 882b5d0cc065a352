//! What a user would pick instead, doing the same things.

mod interpreter;
mod policy;
mod python;

pub use interpreter::Interpreted;
pub use policy::{Casbin, Cedar, CedarWish, Rego, round};
pub use python::{Peer, versions_in_python};
