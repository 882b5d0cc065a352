//! Bounds as people write them: `4 MiB`, `500 ms`, `10000 rows`, `nothing`, `unbounded`.

use crate::plan::Bound;
use crate::vocabulary::Unit;

impl Bound {
    /// As people write it: bytes in the largest binary unit that leaves no rest, time in milliseconds.
    #[must_use]
    pub fn shown(self, unit: Unit) -> String {
        let Self::Limited(most) = self else {
            return "unbounded".to_owned();
        };
        let whole = suffixes(unit)
            .iter()
            .rev()
            .find(|(name, factor)| !name.is_empty() && most >= *factor && most.is_multiple_of(*factor));
        match (unit, whole) {
            (Unit::Bytes, Some((name, factor))) => format!("{} {name}", most / factor),
            (Unit::Millis, _) => format!("{most} ms"),
            (unit, _) => format!("{most} {}", unit.name()),
        }
    }
}

/// Reads a bound in this unit.
#[cfg(feature = "workbench")]
pub(crate) fn read(text: &str, unit: Unit) -> Result<Bound, String> {
    let text = text.trim();
    match text {
        "unbounded" => return Ok(Bound::Unbounded),
        "nothing" => return Ok(Bound::Limited(0)),
        _ => {}
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number: Option<u64> = digits.replace('_', "").parse().ok();
    let factor = suffixes(unit)
        .iter()
        .find(|(name, _)| *name == suffix.trim())
        .map(|(_, factor)| *factor);
    match (number, factor) {
        (Some(number), Some(factor)) => limited(number.checked_mul(factor), text),
        _ => Err(format!(
            "`{text}` is no amount of {}; write a whole number{}, `nothing` or `unbounded`",
            unit.name(),
            examples(unit),
        )),
    }
}

/// A plain number in the unit.
#[cfg(feature = "workbench")]
pub(crate) fn number(number: u64) -> Result<Bound, String> {
    limited(Some(number), &number.to_string())
}

#[cfg(feature = "workbench")]
fn limited(number: Option<u64>, text: &str) -> Result<Bound, String> {
    number
        .filter(|most| *most < i64::MAX.unsigned_abs())
        .map(Bound::Limited)
        .ok_or_else(|| format!("`{text}` is more than a policy can say; write `unbounded`"))
}

/// What may stand behind the number, and how many of the unit that is. Sorted by size.
fn suffixes(unit: Unit) -> &'static [(&'static str, u64)] {
    match unit {
        Unit::Bytes => &[
            ("", 1),
            ("bytes", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
        ],
        Unit::Millis => &[("", 1), ("millis", 1), ("ms", 1), ("s", 1000), ("min", 60_000)],
        Unit::Count => &[("", 1), ("count", 1)],
        Unit::Elements => &[("", 1), ("elements", 1)],
        Unit::Depth => &[("", 1), ("depth", 1)],
        Unit::Rows => &[("", 1), ("rows", 1)],
        Unit::Ops => &[("", 1), ("ops", 1)],
    }
}

#[cfg(feature = "workbench")]
fn examples(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => ", `64 KiB`, `4 MiB`",
        Unit::Millis => ", `500 ms`, `2 s`",
        _ => "",
    }
}

#[cfg(all(test, feature = "workbench"))]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_their_unit() {
        let of = |text: &str, unit| read(text, unit).ok();
        assert_eq!(of("4 MiB", Unit::Bytes), Some(Bound::Limited(4_194_304)));
        assert_eq!(of("4MiB", Unit::Bytes), Some(Bound::Limited(4_194_304)));
        assert_eq!(of("1_000_000", Unit::Bytes), Some(Bound::Limited(1_000_000)));
        assert_eq!(of("2 s", Unit::Millis), Some(Bound::Limited(2000)));
        assert_eq!(of("500 ms", Unit::Millis), Some(Bound::Limited(500)));
        assert_eq!(of("10 rows", Unit::Rows), Some(Bound::Limited(10)));
        assert_eq!(of("0", Unit::Count), Some(Bound::Limited(0)));
        assert_eq!(of("nothing", Unit::Ops), Some(Bound::Limited(0)));
        assert_eq!(of("unbounded", Unit::Rows), Some(Bound::Unbounded));
        for (text, unit) in [
            ("4 MB", Unit::Bytes),
            ("2 s", Unit::Bytes),
            ("4 MiB", Unit::Rows),
            ("", Unit::Rows),
            ("MiB", Unit::Bytes),
            ("-1", Unit::Bytes),
            ("1.5 MiB", Unit::Bytes),
            ("9223372036854775807", Unit::Bytes),
            ("99999999999 GiB", Unit::Bytes),
        ] {
            assert_eq!(of(text, unit), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for (most, unit, text) in [
            (4 << 20, Unit::Bytes, "4 MiB"),
            (1025, Unit::Bytes, "1025 bytes"),
            (1_000_000, Unit::Bytes, "1000000 bytes"),
            (0, Unit::Bytes, "0 bytes"),
            (2000, Unit::Millis, "2000 ms"),
            (7, Unit::Depth, "7 depth"),
        ] {
            assert_eq!(Bound::Limited(most).shown(unit), text);
            assert_eq!(read(text, unit), Ok(Bound::Limited(most)));
        }
        assert_eq!(Bound::Unbounded.shown(Unit::Bytes), "unbounded");
    }
}
