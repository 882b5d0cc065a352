//! Decides whether what happened is what had to happen.
//!
//! [`judge`] holds a run against its case. [`laws`] hold for any guest at all, so fuzzing uses them too.

use stockade_policies::{Action, Bound, Meter, Plan};
use stockade_runtime::{Class, Event, KILL_GRACE, Layer, Outcome, Product, SqlValue, StatementResult, WORKER_MEMORY};

use crate::case::{Attack, Benign, Case, Expected, Kind, Regression};
use crate::effect::Sighting;
use crate::stage::{Stage, StageError};
use crate::subject::{Observed, WhatEnded};

/// How far past its deadline a run may end before a law is broken: what a starved machine takes to schedule a kill.
/// How punctual the kill is on a quiet machine is a figure for a bench, not a test.
pub const DEADLINE_GRACE_MS: u64 = 1000;

/// What must not be, in words; empty when all is well.
pub type Faults = Vec<String>;

/// Holds a fenced run against its case.
///
/// # Errors
/// [`StageError`] where the stage cannot be looked at: then nobody knows.
pub fn judge(case: &Case, plan: &Plan, observed: &Observed, stage: &Stage) -> Result<Faults, StageError> {
    let Some(outcome) = observed.outcome() else {
        let is_expected = case.expect == Expected::Unusable && matches!(observed.ended, WhatEnded::Unusable(_));
        return Ok(if is_expected {
            Vec::new()
        } else {
            vec![no_outcome(observed)]
        });
    };
    let mut faults = laws(plan, outcome);
    if case.expect.class() != Some(outcome.class) {
        faults.push(format!("expected `{}`, got {}", case.expect, described(outcome)));
    }
    faults.extend(stage.disturbed()?);
    match &case.kind {
        Kind::Attack(attack) => {
            faults.extend(stopper_fault(attack, outcome));
            faults.extend(harm(attack, observed, stage)?);
        }
        Kind::Benign(Benign { returns }) | Kind::Regression(Regression { returns }) => {
            faults.extend(returns.missing(&outcome.product, stage)?);
        }
    }
    Ok(faults)
}

/// Holds an undefended run against its case: the harm must be there.
///
/// # Errors
/// As [`judge`].
pub fn judge_control(case: &Case, observed: &Observed, stage: &Stage) -> Result<Faults, StageError> {
    match &case.kind {
        Kind::Attack(attack) => {
            let sightings = attack.control.look(observed, stage)?;
            Ok(unseen(&sightings, observed))
        }
        Kind::Benign(Benign { returns }) => match observed.outcome() {
            // What a bound cuts is whole where there is none.
            Some(_) if case.expect.class() == Some(Class::Truncated) => Ok(Vec::new()),
            Some(outcome) if outcome.class.is_completed() => returns.missing(&outcome.product, stage),
            Some(outcome) => Ok(vec![format!(
                "an honest guest failed by itself: {}",
                described(outcome)
            )]),
            None => Ok(vec![no_outcome(observed)]),
        },
        // SQLite is mended, or was never at fault: whatever else becomes of it, the process lives.
        Kind::Regression(_) => Ok(match &observed.ended {
            WhatEnded::Outcome(_) | WhatEnded::Unusable(_) => Vec::new(),
            WhatEnded::Stopped(_) | WhatEnded::Crashed { .. } => vec![no_outcome(observed)],
        }),
    }
}

/// Holds a run with one layer only against its case: that layer must stop the attack, and no harm be done.
///
/// # Errors
/// As [`judge`].
pub fn judge_alone(case: &Case, layer: Layer, observed: &Observed, stage: &Stage) -> Result<Faults, StageError> {
    let Kind::Attack(attack) = &case.kind else {
        return Ok(Vec::new());
    };
    let mut faults = harm(attack, observed, stage)?;
    match observed.outcome() {
        Some(outcome) if outcome.layer == Some(layer) => {}
        Some(outcome) => faults.push(format!("`{layer}` alone should stop it, got {}", described(outcome))),
        None => faults.push(no_outcome(observed)),
    }
    Ok(faults)
}

/// Holds a run without one of the layers that stop an attack against its case: another must stop it, and no harm be done.
///
/// # Errors
/// As [`judge`].
pub fn judge_without(case: &Case, layer: Layer, observed: &Observed, stage: &Stage) -> Result<Faults, StageError> {
    let Kind::Attack(attack) = &case.kind else {
        return Ok(Vec::new());
    };
    let mut faults = harm(attack, observed, stage)?;
    match observed.outcome() {
        Some(outcome) if outcome.layer == Some(layer) => faults.push(format!("`{layer}` was missing, and stopped it")),
        Some(outcome) => faults.extend(stopper_fault(attack, outcome)),
        None => faults.push(no_outcome(observed)),
    }
    Ok(faults)
}

/// Holds a run without any of the layers that stop an attack against its case: nothing else may stop it, or the case
/// does not say all that is true.
///
/// # Errors
/// As [`judge`].
pub fn judge_missing(case: &Case, observed: &Observed, stage: &Stage) -> Result<Faults, StageError> {
    let mut faults = judge_control(case, observed, stage)?;
    if let Some(layer) = observed.outcome().and_then(|outcome| outcome.layer)
        && !faults.is_empty()
    {
        faults.push(format!("`{layer}` stopped it too, and `stopped_by` does not name it"));
    }
    Ok(faults)
}

/// What holds for any outcome of any guest.
#[must_use]
pub fn laws(plan: &Plan, outcome: &Outcome) -> Faults {
    let checks = [
        admitted_first(outcome),
        nothing_granted_nowhere(plan, outcome),
        nothing_after_a_refusal(outcome),
        a_refusal_has_its_reason(outcome),
        a_denial_ends_the_guest(outcome),
        nothing_is_kept_of_a_refused_guest(outcome),
        in_time(plan, outcome),
    ];
    let mut faults: Faults = checks.into_iter().flatten().collect();
    faults.extend(within_bounds(plan, outcome));
    faults
}

/// "Decide, then run": no guest code before the first decision.
fn admitted_first(outcome: &Outcome) -> Option<String> {
    let events = outcome.trail.events();
    let is_admitted = matches!(events.first(), Some(Event::Admitted { .. }));
    let ran = outcome.wall_us > 0 || outcome.class.is_completed();
    let has_started = events.iter().any(|event| matches!(event, Event::Started));
    (!is_admitted || (ran && !has_started)).then(|| "guest code ran before it was admitted".to_owned())
}

/// "What is not granted is denied": the plan decides, not whoever asks it.
fn nothing_granted_nowhere(plan: &Plan, outcome: &Outcome) -> Option<String> {
    outcome.trail.events().iter().find_map(|event| match event {
        Event::Decided {
            action,
            resource,
            allowed: true,
            ..
        } => {
            let is_granted_nowhere = plan.bit(Action::from_id(action)?) == Some(false);
            is_granted_nowhere.then(|| format!("`{action}` on `{resource}` was allowed, which the plan grants nowhere"))
        }
        _ => None,
    })
}

/// What holds besides, where the authorizer is in force: rows that came back and rows that were changed are those of statements that
/// somebody was asked about. SQLite does not ask about those that do nothing (`drop table if exists`), and not about every
/// explanation. Where the trail was too short for everything, it says so.
#[must_use]
pub fn was_asked(outcome: &Outcome) -> Option<String> {
    let is_explanation = |statement: &StatementResult| statement.columns.iter().any(|name| name == "opcode");
    let did_something =
        |statement: &StatementResult| statement.changes > 0 || !statement.rows.is_empty() && !is_explanation(statement);
    let is_asked = |event: &Event| matches!(event, Event::Decided { .. });
    let has_asked = outcome.trail.dropped() > 0 || outcome.trail.events().iter().any(is_asked);
    (!has_asked && outcome.product.statements.iter().any(did_something))
        .then(|| "a statement ran that nobody was asked about".to_owned())
}

fn nothing_after_a_refusal(outcome: &Outcome) -> Option<String> {
    let events = outcome.trail.events();
    let refused = events.iter().position(|event| matches!(event, Event::Refused { .. }))?;
    let after = events.get(refused + 1..).unwrap_or_default();
    let allowed = after
        .iter()
        .any(|event| !matches!(event, Event::Decided { allowed: false, .. }));
    allowed.then(|| "something was allowed after a refusal".to_owned())
}

fn a_refusal_has_its_reason(outcome: &Outcome) -> Option<String> {
    let refused = outcome.trail.events().iter().find_map(|event| match event {
        Event::Refused { class, layer } => Some((*class, *layer)),
        _ => None,
    });
    let fits = match refused {
        Some(reason) => reason == (outcome.class, outcome.layer),
        None => outcome.class.is_completed(),
    };
    (!fits).then(|| format!("the trail says {refused:?}, the outcome {}", described(outcome)))
}

fn a_denial_ends_the_guest(outcome: &Outcome) -> Option<String> {
    let denied = outcome
        .trail
        .events()
        .iter()
        .any(|event| matches!(event, Event::Decided { allowed: false, .. }));
    (denied && outcome.class.is_completed()).then(|| "a guest completed that was denied something".to_owned())
}

fn nothing_is_kept_of_a_refused_guest(outcome: &Outcome) -> Option<String> {
    let is_kept = !outcome.class.is_completed() && !outcome.product.state.is_empty();
    is_kept.then(|| "a guest changed its namespace that did not complete".to_owned())
}

fn in_time(plan: &Plan, outcome: &Outcome) -> Option<String> {
    let Bound::Limited(most) = plan.bound(Meter::Elapse) else {
        return None;
    };
    let grace = u64::try_from(KILL_GRACE.as_millis()).unwrap_or(u64::MAX);
    let latest = most.saturating_add(grace).saturating_add(DEADLINE_GRACE_MS);
    let wall_ms = outcome.wall_us / 1000;
    (wall_ms > latest).then(|| format!("it ran for {wall_ms} ms with {most} ms allowed"))
}

fn within_bounds(plan: &Plan, outcome: &Outcome) -> Faults {
    let product = &outcome.product;
    let rows: usize = product.statements.iter().map(|statement| statement.rows.len()).sum();
    let log: usize = product.log.iter().map(|line| line.len() + 1).sum();
    let memory = [(Meter::GrowMemory, 1), (Meter::GrowHeap, 1), (Meter::GrowState, 3)]
        .into_iter()
        .try_fold(WORKER_MEMORY, |sum, (meter, times)| match plan.bound(meter) {
            Bound::Limited(most) => sum.checked_add(most.checked_mul(times)?),
            Bound::Unbounded => None,
        });
    let used = [
        (Meter::ReturnRows, rows as u64),
        (Meter::GrowLog, log as u64),
        (Meter::ReturnOutput, product.output.len() as u64),
        (Meter::AddMetric, product.metrics.len() as u64),
        (Meter::ReturnBytes, returned_bytes(product)),
        // The call that is one too many is counted, and refused.
        (Meter::CallHost, calls(outcome).saturating_sub(1)),
    ];
    let mut faults: Faults = used
        .into_iter()
        .filter(|&(meter, amount)| !plan.bound(meter).permits(amount))
        .map(|(meter, amount)| format!("`{}` reached {amount}", meter.action()))
        .collect();
    // Looked at every few milliseconds: a fast allocation is seen a little late.
    let slack = 64 << 20;
    if memory.is_some_and(|most| outcome.peak_rss_bytes > most + slack) {
        faults.push(format!("the process held {} MiB", outcome.peak_rss_bytes >> 20));
    }
    faults
}

/// Bytes of rows and of the names of their columns.
fn returned_bytes(product: &Product) -> u64 {
    let size = |value: &SqlValue| match value {
        SqlValue::Null => 1,
        SqlValue::Integer(_) | SqlValue::Real(_) => 8,
        SqlValue::Text(text) => text.len(),
        SqlValue::Blob(bytes) => bytes.len(),
    };
    let bytes = product.statements.iter().map(|statement| {
        let names: usize = statement.columns.iter().map(String::len).sum();
        names + statement.rows.iter().flatten().map(size).sum::<usize>()
    });
    bytes.sum::<usize>() as u64
}

fn calls(outcome: &Outcome) -> u64 {
    let calls = outcome.trail.events().iter().map(|event| match event {
        Event::Called { calls, .. } => *calls,
        _ => 0,
    });
    calls.sum()
}

fn stopper_fault(attack: &Attack, outcome: &Outcome) -> Option<String> {
    match outcome.layer {
        None => Some("no layer stopped it".to_owned()),
        Some(layer) if attack.stopped_by.contains(&layer) => None,
        Some(layer) => Some(format!("it was stopped by `{layer}`, which `stopped_by` does not name")),
    }
}

/// The harm that was done.
pub(crate) fn harm(attack: &Attack, observed: &Observed, stage: &Stage) -> Result<Faults, StageError> {
    let sightings = attack.control.look(observed, stage)?;
    Ok(sightings
        .into_iter()
        .filter(|sighting| sighting.seen)
        .map(|sighting| format!("harm was done: {}", sighting.what))
        .collect())
}

fn unseen(sightings: &[Sighting], observed: &Observed) -> Faults {
    let seen_instead = || match &observed.ended {
        WhatEnded::Outcome(outcome) => described(outcome),
        WhatEnded::Stopped(_) | WhatEnded::Crashed { .. } | WhatEnded::Unusable(_) => no_outcome(observed),
    };
    sightings
        .iter()
        .filter(|sighting| !sighting.seen)
        .map(|sighting| {
            format!(
                "the harm was not seen: {}; got {}, {} ms, {} MiB",
                sighting.what,
                seen_instead(),
                observed.wall.as_millis(),
                observed.peak_rss_bytes >> 20
            )
        })
        .collect()
}

pub(crate) fn no_outcome(observed: &Observed) -> String {
    match &observed.ended {
        WhatEnded::Outcome(outcome) => described(outcome),
        WhatEnded::Stopped(why) => format!("hung: the harness had to stop it ({why:?})"),
        WhatEnded::Crashed { status } => format!("crashed: {status}"),
        WhatEnded::Unusable(reason) => format!("the database cannot be used: {reason}"),
    }
}

fn described(outcome: &Outcome) -> String {
    let by = outcome.layer.map_or(String::new(), |layer| format!(" by `{layer}`"));
    let detail = if outcome.detail.is_empty() {
        String::new()
    } else {
        format!(" ({})", outcome.detail)
    };
    format!("`{}`{by}{detail}", outcome.class)
}

#[cfg(test)]
mod tests {
    //! Each law is broken once, by hand, and must say so.

    use stockade_policies::{PolicyStore, Principal};
    use stockade_runtime::{Request, Runtime, Trail};

    use super::*;

    fn plan() -> Plan {
        PolicyStore::stock()
            .unwrap()
            .plan(&Principal::profile("walkin"))
            .unwrap()
    }

    fn outcome_of(script: &str) -> Outcome {
        Runtime::in_process(PolicyStore::stock().unwrap())
            .run(&Request::sql("walkin", script))
            .unwrap()
    }

    fn with_events(mut outcome: Outcome, events: impl IntoIterator<Item = Event>) -> Outcome {
        outcome.trail = Trail::default();
        events.into_iter().for_each(|event| outcome.trail.push(event));
        outcome
    }

    fn decided(allowed: bool) -> Event {
        Event::Decided {
            action: "select".to_owned(),
            resource: "Database::\"main\"".to_owned(),
            allowed,
            policies: Vec::new(),
        }
    }

    #[track_caller]
    fn assert_breaks(outcome: &Outcome, law: &str) {
        let faults = laws(&plan(), outcome);
        assert!(faults.iter().any(|fault| fault.contains(law)), "{faults:?}");
    }

    #[test]
    fn real_outcomes_break_no_law() {
        for script in ["select 1", "attach '/etc/passwd' as x", "selekt", "select abs(1), *"] {
            assert_eq!(laws(&plan(), &outcome_of(script)), Faults::new(), "{script}");
        }
    }

    #[test]
    fn a_guest_that_ran_before_it_was_admitted() {
        let outcome = outcome_of("select 1");
        let events = outcome.trail.events().to_vec();
        let without = |dropped: fn(&Event) -> bool| {
            with_events(outcome.clone(), events.iter().filter(|event| !dropped(event)).cloned())
        };
        assert_breaks(
            &without(|event| matches!(event, Event::Admitted { .. })),
            "before it was admitted",
        );
        assert_breaks(
            &without(|event| matches!(event, Event::Started)),
            "before it was admitted",
        );
    }

    #[test]
    fn something_that_the_plan_grants_nowhere() {
        let outcome = outcome_of("select 1");
        let mut events = outcome.trail.events().to_vec();
        events.push(Event::Decided {
            action: "attach".to_owned(),
            resource: "Path::\"/etc/passwd\"".to_owned(),
            allowed: true,
            policies: Vec::new(),
        });
        assert_breaks(&with_events(outcome, events), "which the plan grants nowhere");
    }

    #[test]
    fn a_statement_that_nobody_was_asked_about() {
        let outcome = outcome_of("select 1");
        let mut events = outcome.trail.events().to_vec();
        events.retain(|event| !matches!(event, Event::Decided { .. }));
        assert_eq!(was_asked(&outcome), None);
        assert!(was_asked(&with_events(outcome, events)).is_some());
        for script in [
            "drop table if exists nope",
            "reindex nocase",
            "explain vacuum",
            "create table t(x); insert into t values (1)",
        ] {
            assert_eq!(was_asked(&outcome_of(script)), None, "{script}");
        }
    }

    #[test]
    fn something_allowed_after_a_refusal() {
        let outcome = outcome_of("attach '/etc/passwd' as x");
        let events = outcome
            .trail
            .events()
            .iter()
            .cloned()
            .chain([decided(true)])
            .collect::<Vec<_>>();
        assert_breaks(&with_events(outcome, events), "after a refusal");
    }

    #[test]
    fn a_refusal_that_the_trail_does_not_know() {
        let mut outcome = outcome_of("attach '/etc/passwd' as x");
        outcome.class = Class::LimitTime;
        assert_breaks(&outcome, "the trail says");
        let mut completed = outcome_of("select 1");
        completed.class = Class::Trap;
        assert_breaks(&completed, "the trail says");
    }

    #[test]
    fn a_guest_that_completed_though_it_was_denied() {
        let outcome = outcome_of("select 1");
        let events = outcome
            .trail
            .events()
            .iter()
            .cloned()
            .chain([decided(false)])
            .collect::<Vec<_>>();
        assert_breaks(&with_events(outcome, events), "completed that was denied");
    }

    #[test]
    fn a_namespace_that_a_refused_guest_changed() {
        let mut outcome = outcome_of("attach '/etc/passwd' as x");
        outcome.product.state = [("key".to_owned(), Some(Vec::new()))].into_iter().collect();
        assert_breaks(&outcome, "that did not complete");
    }

    #[test]
    fn a_guest_that_outlived_its_deadline_or_outgrew_its_bounds() {
        let mut outcome = outcome_of("select 1");
        outcome.wall_us = 60_000_000;
        assert_breaks(&outcome, "it ran for 60000 ms");
        let mut outcome = outcome_of("select 1");
        outcome.product.log.push("x".repeat(1 << 20));
        assert_breaks(&outcome, "`growLog` reached");
        let mut outcome = outcome_of("select 1");
        outcome.product.metrics.insert("one_too_many".to_owned(), 1);
        assert_breaks(&outcome, "`addMetric` reached");
        let mut outcome = outcome_of("select 1");
        outcome.product.statements[0].rows[0][0] = SqlValue::Blob(vec![0; 64 << 20]);
        assert_breaks(&outcome, "`returnBytes` reached 67108865");
        let mut outcome = outcome_of("select 1");
        outcome.trail.push(Event::Called {
            function: "stockade#log".to_owned(),
            calls: 1 << 40,
            bytes: 0,
        });
        assert_breaks(&outcome, "`callHost` reached");
        let mut outcome = outcome_of("select 1");
        outcome.peak_rss_bytes = 1 << 40;
        assert_breaks(&outcome, "the process held");
    }
}
