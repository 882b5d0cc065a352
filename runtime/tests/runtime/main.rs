//! The runtime as its callers see it: policies and requests go in, outcomes come out, and workers die in between.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a trial reports"
)]

mod boundaries;
mod chains;
mod host_functions;
mod module_cache;
mod modules;
mod outcomes;
mod outer;
mod pool;
mod provenance;
mod remains;
mod requests;
mod schemas;
mod sessions;
mod sql_pairs;
mod support;
mod tenants;
mod wasm_pairs;
mod workers;
mod zero;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    stockade_runtime::worker::enter();
    let arguments = Arguments::from_args();
    let trials = [
        boundaries::trials(),
        zero::trials(),
        workers::trials(),
        outer::trials(),
        provenance::trials(),
        tenants::trials(),
        pool::trials(),
        outcomes::trials(),
        remains::trials(),
        requests::trials(),
        modules::trials(),
        chains::trials(),
        host_functions::trials(),
        module_cache::trials(),
        schemas::trials(),
        sessions::trials(),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    support::end_pool();
    conclusion.exit_code()
}
