//! What an adapter may say: bytes, and lines that are nearly those of the protocol.

use std::fmt::Write as _;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use stockade_conformance::wire::{Allowance, Overheard, ToAdapter, overhear};
use stockade_policies::{Plan, PolicyStore, Principal};
use stockade_runtime::Class;

use crate::is_planted;

const CASE: &str = "sql/fuzz";

/// The longest line and the most of all, in bytes: little, so that inputs reach it.
const MOST_OF_LINE: usize = 600;
const MOST: usize = 2000;

/// The most characters that a fault is told in.
const MOST_OF_FAULT: usize = 600;

/// Follows a transcript. Whatever it is, it comes to an outcome or a fault that says what is wrong, the same however it was cut
/// into chunks, and nothing comes of it that was not said last.
///
/// # Panics
/// Where one of these does not hold.
pub fn wire(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let size = input.int_in_range(1..=64).unwrap_or(1);
    let said = transcript(&mut input).unwrap_or_else(|_| data.to_vec());
    let whole = heard(&said, said.len().max(1));
    let in_pieces = heard(&said, size);
    // Who says too much is found out sooner or later.
    if said.len() <= MOST {
        assert_eq!(shown(&whole), shown(&in_pieces), "it depends on how it was cut");
    }
    match whole {
        Ok((Overheard::NotYet, _)) => {}
        Ok((overheard, _)) => {
            let last = said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
            let is_last = last.is_some_and(|last| String::from_utf8_lossy(last).contains(CASE));
            let is_unsupported = matches!(overheard, Overheard::Unsupported { .. });
            assert!(is_last || is_unsupported, "it comes of no last word");
            let is_sought = matches!(
                overheard,
                Overheard::Done {
                    class: Class::Truncated,
                    ..
                }
            );
            assert!(!(is_planted() && is_sought), "planted: a result that was cut");
        }
        Err(fault) => {
            let length = fault.chars().count();
            assert!((1..=MOST_OF_FAULT).contains(&length), "a fault of {length} characters");
        }
    }
}

type Heard = std::result::Result<(Overheard, Vec<ToAdapter>), String>;

fn heard(said: &[u8], size: usize) -> Heard {
    let allowance = Allowance {
        line_bytes: MOST_OF_LINE,
        heard_bytes: MOST,
        ..Allowance::default()
    };
    overhear(CASE, plan(), &allowance, said.chunks(size)).map_err(|fault| fault.to_string())
}

/// What is compared: not a number is equal to nothing.
fn shown(heard: &Heard) -> String {
    format!("{heard:?}")
}

#[expect(clippy::expect_used, reason = "without a plan there is nothing to be asked")]
fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let policies = PolicyStore::stock().expect("the stock policies load");
        policies
            .plan(&Principal::profile("database-only"))
            .expect("the profile has a plan")
    })
}

/// Lines, most of which are messages; the last may go without its end.
fn transcript(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    if input.ratio(7, 8)? {
        said.extend(hello(input)?.into_bytes());
        said.push(b'\n');
    }
    for _ in 0..input.int_in_range(0..=5)? {
        said.extend(line(input)?);
        if input.ratio(15, 16)? {
            said.push(b'\n');
        }
    }
    Ok(said)
}

fn hello(input: &mut Unstructured<'_>) -> Result<String> {
    let protocol = if input.ratio(7, 8)? {
        1
    } else {
        input.arbitrary::<u32>()?
    };
    let meter = input.choose(&["elapse", "growHeap", "elapze", "attach"])?;
    let action = input.choose(&["attach", "read", "write", "elapse"])?;
    Ok(format!(
        r#"{{"type":"hello","protocol":{protocol},"subject":"fuzz","version":"1","kinds":["sql"],"meters":["{meter}"],"actions":["{action}"]}}"#
    ))
}

fn line(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let case = if input.ratio(15, 16)? { CASE } else { "sql/another" };
    Ok(match input.int_in_range(0..=7)? {
        0 => format!(r#"{{"type":"started","case":"{case}"}}"#).into_bytes(),
        1 | 2 => ask(input, case)?.into_bytes(),
        3..=5 => done(input, case)?.into_bytes(),
        6 => format!(r#"{{"type":"unsupported","case":"{case}","needs":{}}}"#, text(input)?).into_bytes(),
        _ => {
            let length = input.arbitrary_len::<u8>()?;
            input.bytes(length.min(700))?.to_vec()
        }
    })
}

fn ask(input: &mut Unstructured<'_>, case: &str) -> Result<String> {
    let action = input.choose(&["read", "attach", "callFunction", "pragma", "delete", "peruse"])?;
    let mut resource = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        resource.push(text(input)?);
    }
    let context = if input.ratio(1, 2)? {
        let name = input.choose(&["argument", "trigger", "file", "name"])?;
        format!(r#","context":{{"{name}":{}}}"#, text(input)?)
    } else {
        String::new()
    };
    let resource = resource.join(",");
    Ok(format!(
        r#"{{"type":"ask","case":"{case}","action":"{action}","resource":[{resource}]{context}}}"#
    ))
}

fn done(input: &mut Unstructured<'_>, case: &str) -> Result<String> {
    let class = input.choose(Class::ALL)?.name();
    let class = if input.ratio(15, 16)? { class } else { "fine" };
    let mut line = format!(r#"{{"type":"done","case":"{case}","class":"{class}""#);
    for _ in 0..input.int_in_range(0..=2)? {
        let field = match input.int_in_range(0..=4)? {
            0 => format!(r#","detail":{}"#, text(input)?),
            1 => format!(r#","statements":[{{"columns":["x"],"rows":[[{}]]}}]"#, value(input)?),
            2 => format!(r#","results":[{}]"#, number(input)?),
            3 => format!(r#","output":{}"#, text(input)?),
            _ => format!(r#","log":[{}]"#, text(input)?),
        };
        line.write_str(&field).unwrap_or_default();
    }
    line.push('}');
    Ok(line)
}

fn value(input: &mut Unstructured<'_>) -> Result<String> {
    let kind = input.choose(&["integer", "real", "text", "blob"])?;
    Ok(match input.int_in_range(0..=3)? {
        0 => r#""null""#.to_owned(),
        1 => format!(r#"{{"{kind}":"{}"}}"#, input.arbitrary::<i64>()?),
        2 => format!(r#"{{"{kind}":{}}}"#, text(input)?),
        _ => format!(r#"{{"{kind}":{}}}"#, input.arbitrary::<i64>()?),
    })
}

fn number(input: &mut Unstructured<'_>) -> Result<String> {
    let kind = input.choose(&["i32", "i64", "f32", "f64"])?;
    Ok(match input.int_in_range(0..=3)? {
        0 => r#""opaque""#.to_owned(),
        1 => format!(r#"{{"{kind}":"{}"}}"#, input.arbitrary::<i64>()?),
        2 => format!(r#"{{"{kind}":"{}"}}"#, input.arbitrary::<f64>()?),
        _ => format!(r#"{{"{kind}":{}}}"#, text(input)?),
    })
}

/// Text as JSON.
fn text(input: &mut Unstructured<'_>) -> Result<String> {
    let text = match input.int_in_range(0..=4)? {
        0 => "main",
        1 => "notes",
        2 => "00ff",
        3 => "nan",
        _ => input.arbitrary()?,
    };
    Ok(serde_json::to_string(text).unwrap_or_default())
}
