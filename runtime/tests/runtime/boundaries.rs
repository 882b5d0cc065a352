//! Boundary pairs: at the bound a guest completes, one past it is stopped by the class and layer that were promised.
//!
//! Each guest past a bound also runs where that bound is generous, and completes: nothing else stops it.

use libtest_mimic::Trial;
use stockade_policies::Meter;
use stockade_runtime::{Class, Layer, Request, Runtime};
use tempfile::TempDir;

use crate::support::{assert_completed, assert_stopped, in_workers, named, roomy, run};
use crate::{sql_pairs, wasm_pairs};

/// Two guests and the bound between them.
pub struct Pair {
    pub meter: Meter,
    pub name: &'static str,
    pub most: u64,
    pub at: Request,
    pub past: Request,
    pub class: Class,
    pub layer: Layer,
    /// Kept until the guests have run.
    pub stage: Option<TempDir>,
}

/// Meters without a pair, and why.
const WITHOUT_PAIR: &[(Meter, &str)] = &[
    (
        Meter::SqlWorkerThreads,
        "helper threads are simply never started: nothing is there to be stopped",
    ),
    (
        Meter::AddInstance,
        "a run has exactly one instance, so only a bound of zero can stop it: zero::nothing_passes_a_bound_of_zero",
    ),
];

fn pairs() -> Vec<Pair> {
    let mut pairs = sql_pairs::pairs();
    pairs.extend(wasm_pairs::pairs());
    pairs
}

pub fn trials() -> Vec<Trial> {
    let mut trials = named![every_meter_has_a_pair_or_a_reason, names_are_unique];
    trials.extend(pairs().into_iter().map(|pair| {
        let name = format!("boundaries::{}::{}", pair.meter.action(), pair.name);
        Trial::test(name, move || {
            holds(&pair);
            Ok(())
        })
    }));
    trials
}

fn holds(pair: &Pair) {
    assert!(
        pair.class.meters().contains(&pair.meter),
        "`{}` does not speak of this meter",
        pair.class
    );
    let narrow = roomy(&[(pair.meter, pair.most)]);
    let narrow = match pair.layer {
        // On a busy machine a worker may be killed before it has looked at its own clock.
        Layer::Deadline => Runtime::in_process(narrow),
        _ => in_workers(narrow),
    };
    assert_completed(&run(&narrow, &pair.at));
    assert_stopped(&run(&narrow, &pair.past), pair.class, pair.layer);
    assert_completed(&run(&in_workers(roomy(&[])), &pair.past));
}

fn every_meter_has_a_pair_or_a_reason() {
    let pairs = pairs();
    for &meter in Meter::ALL {
        let is_paired = pairs.iter().any(|pair| pair.meter == meter);
        let is_excused = WITHOUT_PAIR.iter().any(|&(without, _)| without == meter);
        assert!(is_paired != is_excused, "{}", meter.action());
    }
}

fn names_are_unique() {
    let mut names: Vec<_> = pairs().iter().map(|pair| (pair.meter, pair.name)).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
