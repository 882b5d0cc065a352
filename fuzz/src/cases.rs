//! Cases, reports and claims by their structure: what is written is read as what was meant, and what contradicts itself is refused.

mod reports;

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};
use stockade_conformance::{
    Attack, Benign, Case, Code, Effects, Expected, Kind, Modules, Program, Regression, Returns, Threat,
};
use stockade_runtime::{Class, Layer};

use crate::is_planted;

/// Writes a case, or reports and a claim, that follow from the bytes, and reads them.
///
/// # Panics
/// Where something else is read than was written, or a contradiction is.
pub fn cases(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // Too few bytes: there is nothing to write.
    let _ = match input.arbitrary() {
        Ok(true) => case(&mut input),
        Ok(false) => reports::reports(&mut input),
        Err(error) => Err(error),
    };
}

/// The kinds of cases, by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Attack,
    Benign,
    Regression,
}

impl Place {
    const fn id(self) -> &'static str {
        match self {
            Self::Attack => "sql/fuzz",
            Self::Benign => "benign/sql/fuzz",
            Self::Regression => "regression/sql/fuzz",
        }
    }
}

/// What is wrong with a case that is sound otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    BlankReason,
    NoGuest,
    TwoGuests,
    UnknownField,
    UnknownClass,
    WrongClass,
    MissingPart,
    DamagedNothing,
}

const FLAWS: [Flaw; 8] = [
    Flaw::BlankReason,
    Flaw::NoGuest,
    Flaw::TwoGuests,
    Flaw::UnknownField,
    Flaw::UnknownClass,
    Flaw::WrongClass,
    Flaw::MissingPart,
    Flaw::DamagedNothing,
];

#[expect(clippy::panic, reason = "a panic is how a fuzz target reports what it found")]
fn case(input: &mut Unstructured<'_>) -> Result<()> {
    let place = *input.choose(&[Place::Attack, Place::Benign, Place::Regression])?;
    let (mut document, meant) = sound(input, place)?;
    let flaw = input.ratio(1, 3)?.then(|| input.choose(&FLAWS).copied()).transpose()?;
    if let Some(flaw) = flaw {
        spoil(&mut document, place, flaw);
    }
    let text = serde_yaml::to_string(&document).unwrap_or_default();
    let read = Case::parse(place.id(), "fuzz.yaml", &text, &Modules::new());
    match (flaw, read) {
        (Some(flaw), Ok(_)) => panic!("{flaw:?} was read:\n{text}"),
        (Some(_), Err(error)) => assert!(!error.to_string().is_empty()),
        (None, Err(error)) => panic!("refused: {error}\n{text}"),
        (None, Ok(case)) => {
            assert_eq!(case, meant, "\n{text}");
            let is_sought = case.expect == Expected::Unusable;
            assert!(!(is_planted() && is_sought), "planted: a case that is unusable\n{text}");
        }
    }
    Ok(())
}

/// A case as it is written, and as it must be read.
fn sound(input: &mut Unstructured<'_>, place: Place) -> Result<(Value, Case)> {
    let why = format!("because {}", input.arbitrary::<&str>()?);
    let source: Vec<String> = many(input, 1)?;
    let profile = input.arbitrary::<String>()?;
    let policies = input.arbitrary::<Option<String>>()?;
    let entities = input.arbitrary::<Option<String>>()?;
    let (guest, program) = guest(input)?;
    let mut document = json!({ "why": why, "profile": profile, "guest": guest });
    put(&mut document, "source", written(input, &source)?);
    for (name, text) in [("policies", &policies), ("entities", &entities)] {
        if let Some(text) = text {
            put(&mut document, name, json!(text));
        }
    }
    let expect = expected(input, place)?;
    put(&mut document, "expect", json!(expect.to_string()));
    let kind = complete(&mut document, input, place)?;
    let case = Case {
        id: place.id().to_owned(),
        why: why.trim().to_owned(),
        source,
        profile,
        policies,
        entities,
        fixture: None,
        damage: Vec::new(),
        program,
        expect,
        kind,
    };
    Ok((document, case))
}

/// Where one thing will do, one or a list of one.
fn written(input: &mut Unstructured<'_>, many: &[String]) -> Result<Value> {
    Ok(match many {
        [one] if input.arbitrary()? => json!(one),
        _ => json!(many),
    })
}

fn many(input: &mut Unstructured<'_>, least: usize) -> Result<Vec<String>> {
    let count = input.int_in_range(least..=3)?;
    (0..count).map(|_| input.arbitrary()).collect()
}

fn guest(input: &mut Unstructured<'_>) -> Result<(Value, Program)> {
    let script = input.arbitrary::<String>()?;
    if input.arbitrary()? {
        return Ok((json!({ "sql": script }), Program::Sql(script)));
    }
    let arguments = many(input, 0)?;
    let fields = input.arbitrary::<Option<String>>()?;
    let given = input.arbitrary::<String>()?;
    // None at all are written as no text.
    let bytes = input.arbitrary::<Option<Vec<u8>>>()?.filter(|bytes| !bytes.is_empty());
    let mut guest = json!({ "arguments": arguments, "input": given });
    let code = match bytes {
        Some(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
            put(&mut guest, "hex", json!(hex));
            Code::Bytes(bytes.into())
        }
        None => {
            put(&mut guest, "wat", json!(script));
            Code::Text(script)
        }
    };
    if let Some(name) = &fields {
        put(&mut guest, "invoke", json!(name));
        put(&mut guest, "state", json!({ name.as_str(): given }));
    }
    let program = Program::Module {
        code,
        invoke: fields.clone(),
        arguments,
        state: fields.into_iter().map(|name| (name, given.clone())).collect(),
        input: given,
        signature: None,
        environment: BTreeMap::new(),
    };
    Ok((guest, program))
}

fn expected(input: &mut Unstructured<'_>, place: Place) -> Result<Expected> {
    if place == Place::Regression && input.ratio(1, 4)? {
        return Ok(Expected::Unusable);
    }
    let fits = |class: &&Class| match place {
        Place::Attack => !class.is_completed(),
        Place::Benign => class.is_completed(),
        Place::Regression => true,
    };
    let classes: Vec<&Class> = Class::ALL.iter().filter(fits).collect();
    Ok(Expected::Class(**input.choose(&classes)?))
}

/// Adds what its kind of case must have.
fn complete(document: &mut Value, input: &mut Unstructured<'_>, place: Place) -> Result<Kind> {
    let output = input.arbitrary::<String>()?;
    let demanded = json!({ "output": output, "results": [input.arbitrary::<i32>()?] });
    let returns = || serde_json::from_value::<Returns>(demanded.clone()).unwrap_or_default();
    Ok(match place {
        Place::Benign => {
            put(document, "returns", demanded.clone());
            Kind::Benign(Benign { returns: returns() })
        }
        Place::Regression => Kind::Regression(Regression {
            returns: Returns::default(),
        }),
        Place::Attack => {
            let attack = attack(input, output)?;
            let layers: Vec<&str> = attack.stopped_by.iter().map(|layer| layer.name()).collect();
            put(document, "threat", json!(attack.threat));
            put(document, "cwe", json!(attack.cwe));
            put(document, "stopped_by", json!(layers));
            put(document, "twin", json!(attack.twin));
            put(document, "control", json!({ "file": attack.control.file }));
            Kind::Attack(attack)
        }
    })
}

fn attack(input: &mut Unstructured<'_>, file: String) -> Result<Attack> {
    let threats = [
        Threat::Files,
        Threat::Code,
        Threat::Time,
        Threat::Data,
        Threat::Contract,
    ];
    let mut stopped_by = Vec::new();
    for _ in 0..input.int_in_range(1..=3)? {
        stopped_by.push(*input.choose(Layer::ALL)?);
    }
    Ok(Attack {
        threat: *input.choose(&threats)?,
        cwe: vec![input.arbitrary()?],
        stopped_by,
        single: None,
        twin: Some(input.arbitrary()?),
        control: Effects {
            file: Some(file),
            ..Effects::default()
        },
    })
}

fn spoil(document: &mut Value, place: Place, flaw: Flaw) {
    let (name, value) = match (flaw, place) {
        (Flaw::BlankReason, _) => ("why", json!(" \n ")),
        (Flaw::NoGuest, _) => ("guest", json!({})),
        (Flaw::TwoGuests, _) => ("guest", json!({ "sql": "select 1", "wat": "(module)" })),
        (Flaw::UnknownField, _) => ("whom", json!("nobody")),
        (Flaw::UnknownClass, _) => ("expect", json!("fine")),
        (Flaw::WrongClass, Place::Attack) => ("expect", json!("completed")),
        (Flaw::WrongClass, Place::Benign) => ("expect", json!("limit.time")),
        (Flaw::WrongClass, Place::Regression) => ("control", json!({ "file": "loot" })),
        (Flaw::MissingPart, Place::Attack) => ("control", json!({})),
        (Flaw::MissingPart, Place::Benign) => ("returns", json!({})),
        (Flaw::MissingPart, Place::Regression) => ("source", json!([])),
        (Flaw::DamagedNothing, _) => ("damage", json!([{ "keep": 10 }])),
    };
    put(document, name, value);
}

fn put(document: &mut Value, name: &str, value: Value) {
    if let Some(fields) = document.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}
