//! Reports of shards, the report that they are merged to, and a claim of it.

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use stockade_conformance::{
    CLAIM_VERSION, CaseReport, Claim, Claimed, Expected, Machine, REPORT_VERSION, Report, Rigour, Shard, Suite, Threat,
    Trial, TrialReport, Verdict,
};
use stockade_runtime::{Class, Event, Layer};

/// Writes shards of a replay and reads them, merges them, and claims what came of them.
///
/// # Panics
/// Where something is read that was not written, or a whole is not the sum of its parts.
#[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
pub(super) fn reports(input: &mut Unstructured<'_>) -> Result<()> {
    let (suite, machine) = (suite(input)?, machine(input)?);
    let subject = input.arbitrary::<String>()?;
    let cases = case_reports(input)?;
    let of = input.int_in_range(1..=4usize)?;
    let mut shards = Vec::new();
    for index in 1..=of {
        let shard = Shard { index, of };
        let part = cases.iter().enumerate().filter(|(place, _)| shard.has(*place));
        let part = part.map(|(_, case)| case.clone()).collect();
        let took = Duration::from_millis(input.arbitrary()?);
        let mut report = Report::of(subject.clone(), suite.clone(), part, took);
        report.machine = machine.clone();
        report.shard = Some(shard);
        reads_back(&report);
        shards.push((format!("{index}.json"), report));
    }
    let took = shards
        .iter()
        .fold(0, |sum: u64, (_, report)| sum.saturating_add(report.total_ms));
    // Shards come in any order.
    let first = input.choose_index(of)?;
    shards.rotate_left(first);
    let merged = match Report::merged(shards) {
        Ok(merged) => merged,
        Err(error) => panic!("the shards do not go together: {error}"),
    };
    let mut whole = Report::of(subject, suite, cases, Duration::from_millis(took));
    whole.machine = machine;
    assert_eq!(merged, whole, "the shards are not the whole");
    reads_back(&merged);
    claims(input, &merged)
}

fn reads_back(report: &Report) {
    let text = serde_json::to_string(report).unwrap_or_default();
    let read = Report::parse("fuzz.json", &text).map_err(|error| error.to_string());
    assert_eq!(read.as_ref(), Ok(report), "\n{text}");
}

fn claims(input: &mut Unstructured<'_>, report: &Report) -> Result<()> {
    let verdict = |case: &CaseReport| match case.trials.as_slice() {
        [] => Claimed::Unknown,
        _ if case.passed() => Claimed::Passed,
        trials => Claimed::Failed(trials.iter().map(|trial| trial.trial.name()).collect()),
    };
    let claim = Claim {
        claim: CLAIM_VERSION,
        date: input.arbitrary()?,
        subject: report.subject.clone(),
        suite: report.suite.clone(),
        machine: report.machine.clone(),
        conformant: input.arbitrary()?,
        because: vec![input.arbitrary()?],
        verdicts: report
            .cases
            .iter()
            .map(|case| (case.id.clone(), verdict(case)))
            .collect(),
    };
    let text = serde_json::to_string(&claim).unwrap_or_default();
    let read = Claim::parse("fuzz.json", &text).map_err(|error| error.to_string());
    assert_eq!(read.as_ref(), Ok(&claim), "\n{text}");
    assert!(claim.differences(&claim).is_empty(), "it differs from itself");
    if let Some((id, _)) = claim.verdicts.first_key_value() {
        let mut other = claim.clone();
        other.verdicts.remove(id);
        assert!(!claim.differences(&other).is_empty(), "a verdict less is no difference");
    }
    Ok(())
}

fn suite(input: &mut Unstructured<'_>) -> Result<Suite> {
    Ok(Suite {
        report: REPORT_VERSION,
        version: input.arbitrary()?,
        corpus: input.arbitrary()?,
        rigour: *input.choose(&[Rigour::Standard, Rigour::Proof, Rigour::Undefended])?,
        repeat: input.arbitrary()?,
    })
}

fn machine(input: &mut Unstructured<'_>) -> Result<Machine> {
    Ok(Machine {
        kernel: input.arbitrary()?,
        layers: vec![layer(input)?],
    })
}

/// Sorted, each id once, as a corpus is.
fn case_reports(input: &mut Unstructured<'_>) -> Result<Vec<CaseReport>> {
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for _ in 0..input.int_in_range(0..=6)? {
        ids.insert(input.arbitrary()?);
    }
    ids.into_iter().map(|id| case_report(input, id)).collect()
}

fn case_report(input: &mut Unstructured<'_>, id: String) -> Result<CaseReport> {
    let threats = [Threat::Files, Threat::Time, Threat::Storage, Threat::Host];
    let threat = input
        .arbitrary::<bool>()?
        .then(|| input.choose(&threats).copied())
        .transpose()?;
    let expect = if input.ratio(1, 8)? {
        Expected::Unusable
    } else {
        Expected::Class(class(input)?)
    };
    let mut trials = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        trials.push(trial_report(input)?);
    }
    Ok(CaseReport {
        id,
        why: input.arbitrary()?,
        threat,
        is_regression: input.arbitrary()?,
        expect,
        trials,
    })
}

fn trial_report(input: &mut Unstructured<'_>) -> Result<TrialReport> {
    let layer_of_trial = layer(input)?;
    let trials = [
        Trial::Fenced,
        Trial::Control,
        Trial::Alone(layer_of_trial),
        Trial::Without(layer_of_trial),
        Trial::Missing,
        Trial::Undefended,
    ];
    let verdict = match input.int_in_range(0..=3)? {
        0 => Verdict::Unknown(input.arbitrary()?),
        1 => Verdict::Failed(vec![input.arbitrary()?]),
        _ => Verdict::Passed,
    };
    let class = input.arbitrary::<bool>()?.then(|| class(input)).transpose()?;
    let stopped = input.arbitrary::<bool>()?.then(|| layer(input)).transpose()?;
    let mut trail = Vec::new();
    for _ in 0..input.int_in_range(0..=2)? {
        trail.push(event(input)?);
    }
    Ok(TrialReport {
        trial: *input.choose(&trials)?,
        verdict,
        class,
        layer: stopped,
        guest_ms: input.arbitrary()?,
        total_ms: input.arbitrary()?,
        trail,
    })
}

fn event(input: &mut Unstructured<'_>) -> Result<Event> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Event::Started,
        1 => Event::Refused {
            class: class(input)?,
            layer: Some(layer(input)?),
        },
        2 => Event::Called {
            function: input.arbitrary()?,
            calls: input.arbitrary()?,
            bytes: input.arbitrary()?,
        },
        _ => Event::Decided {
            action: input.arbitrary()?,
            resource: input.arbitrary()?,
            allowed: input.arbitrary()?,
            policies: vec![input.arbitrary()?],
        },
    })
}

fn class(input: &mut Unstructured<'_>) -> Result<Class> {
    input.choose(Class::ALL).copied()
}

fn layer(input: &mut Unstructured<'_>) -> Result<Layer> {
    input.choose(Layer::ALL).copied()
}
