//! Modules that run one after the other, each on what the one before handed over.

use crate::error::RuntimeError;
use crate::outcome::Outcome;
use crate::request::{Guest, Request};

/// Whether these can be a chain.
///
/// # Errors
/// [`RuntimeError::Request`], which says why not.
pub(crate) fn check(modules: &[Request]) -> Result<(), RuntimeError> {
    let wrong = |reason: String| Err(RuntimeError::Request(reason));
    if modules.is_empty() {
        return wrong("a chain has at least one module".to_owned());
    }
    for (number, module) in (1..).zip(modules) {
        if matches!(module.guest, Guest::Sql(_)) {
            return wrong(format!(
                "guest {number} of the chain is SQL: only modules hand bytes on"
            ));
        }
        if number > 1 && !module.input.is_empty() {
            return wrong(format!(
                "module {number} of the chain was given input: it takes what module {} hands over",
                number - 1
            ));
        }
    }
    Ok(())
}

/// `module`, on what the one before handed over.
pub(crate) fn taking(module: &Request, before: &Outcome) -> Request {
    let mut module = module.clone();
    module.input.clone_from(&before.product.output);
    module
}
