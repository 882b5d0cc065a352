//! What a case needs a subject to be able to express.

use std::collections::BTreeSet;
use std::sync::Arc;

use stockade_policies::Meter;
use stockade_runtime::{Class, Event, Layer, Layers};

use crate::case::{Attack, Case, Kind, Program};
use crate::corpus::Corpus;
use crate::replay::TrialError;
use crate::stage::Stage;
use crate::subject::{Ablation, Laboratory, Subject as _};
use crate::wire::{GuestKind, Hello};

/// What `subject` would have to express to be put to this test, and does not claim to; `None` where it claims all of it.
///
/// # Errors
/// [`TrialError`] where the reference cannot say which action the case is about.
pub(crate) fn unmet(
    case: &Case,
    subject: &Hello,
    corpus: &Corpus,
    laboratory: &Arc<Laboratory>,
) -> Result<Option<String>, TrialError> {
    let kind = kind(case);
    if !subject.kinds.contains(&kind) {
        return Ok(Some(match kind {
            GuestKind::Sql => "to run SQL".to_owned(),
            GuestKind::Wasm => "to run modules".to_owned(),
        }));
    }
    let Some(class) = case.expect.class() else {
        return Ok(None);
    };
    let Kind::Attack(attack) = &case.kind else {
        // What must be cut needs whoever can cut it.
        return Ok(unclaimed(subject, class.meters()));
    };
    if class == Class::DeniedProvenance {
        return Ok(Some("signatures of modules".to_owned()));
    }
    let meters = meters(class, attack, kind);
    if let Some(needs) = unclaimed(subject, &meters) {
        return Ok(Some(needs));
    }
    if !attack.stopped_by.contains(&Layer::Authorizer) {
        return Ok(None);
    }
    Ok(match denied(case, corpus, laboratory)? {
        Some(action) if !subject.actions.contains(&action) => Some(format!("to deny `{action}`")),
        None if subject.actions.is_empty() => Some("to deny actions".to_owned()),
        _ => None,
    })
}

/// What is missing of a subject that bounds none of these, where there are any.
fn unclaimed(subject: &Hello, meters: &[Meter]) -> Option<String> {
    let is_claimed = |meter: &Meter| subject.meters.contains(meter.action());
    if meters.is_empty() || meters.iter().any(is_claimed) {
        return None;
    }
    let names: Vec<_> = meters.iter().map(|meter| format!("`{}`", meter.action())).collect();
    Some(format!("to bound {}", names.join(" or ")))
}

/// The kind of a case's guest.
const fn kind(case: &Case) -> GuestKind {
    match case.program {
        Program::Sql(_) => GuestKind::Sql,
        Program::Module { .. } => GuestKind::Wasm,
    }
}

/// The meters one of which ends such a guest: those of its class, the clock of whoever runs on, and of a script that fills
/// memory the heap. What fills memory beside a module's own is bounded by no meter of memory.
fn meters(class: Class, attack: &Attack, kind: GuestKind) -> Vec<Meter> {
    let control = &attack.control;
    let of_class = class.meters();
    if of_class.is_empty() {
        return Vec::new();
    }
    let of_time = control
        .still_running_after_ms
        .map_or(&[][..], |_| Class::LimitTime.meters());
    let of_heap = control.peak_rss_mib.filter(|_| kind == GuestKind::Sql);
    let of_memory = of_heap.map_or(&[][..], |_| Class::LimitMemory.meters());
    let is_about_compiling = control.still_compiling_after_ms.is_some();
    let is_meant = |meter: &Meter| match meter {
        Meter::Compile => is_about_compiling,
        Meter::Elapse => !is_about_compiling,
        Meter::GrowHeap => kind == GuestKind::Sql,
        Meter::GrowMemory | Meter::Allocate | Meter::HoldAllocations => kind == GuestKind::Wasm,
        _ => true,
    };
    let all = of_class.iter().chain(of_time).chain(of_memory).copied();
    let meters: BTreeSet<Meter> = all.filter(is_meant).collect();
    meters.into_iter().collect()
}

/// The action that the plan denies the guest, as the reference reports it with nothing but its authorizer in force.
fn denied(case: &Case, corpus: &Corpus, laboratory: &Arc<Laboratory>) -> Result<Option<String>, TrialError> {
    let stage = Stage::set(case, corpus)?;
    let layers = Layers::from_iter([Layer::Authorizer]);
    let observed = Ablation::new(laboratory, "authorizer", layers).run(case, &stage)?;
    let events = observed.outcome().map_or(&[][..], |outcome| outcome.trail.events());
    Ok(events.iter().find_map(|event| match event {
        Event::Decided {
            allowed: false, action, ..
        } => Some(action.clone()),
        _ => None,
    }))
}
