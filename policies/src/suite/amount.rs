//! Amounts as people write them: `4 MiB`, `500 ms`, `10000 rows`, `unbounded`.

use crate::plan::Bound;
use crate::vocabulary::Unit;

/// Reads an amount of this unit.
pub(super) fn read(text: &str, unit: Unit) -> Result<Bound, String> {
    let text = text.trim();
    if text == "unbounded" {
        return Ok(Bound::Unbounded);
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
            "`{text}` is no amount of {}; write a whole number{}, or `unbounded`",
            unit.name(),
            examples(unit),
        )),
    }
}

/// A plain number in the unit.
pub(super) fn number(number: u64) -> Result<Bound, String> {
    limited(Some(number), &number.to_string())
}

/// A bound as [`read`] reads it.
pub(super) fn show(bound: Bound, unit: Unit) -> String {
    let Bound::Limited(most) = bound else {
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

fn examples(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => ", `64 KiB`, `4 MiB`",
        Unit::Millis => ", `500 ms`, `2 s`",
        _ => "",
    }
}

#[cfg(test)]
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
            (0, Unit::Bytes, "0 bytes"),
            (2000, Unit::Millis, "2000 ms"),
            (7, Unit::Depth, "7 depth"),
        ] {
            assert_eq!(show(Bound::Limited(most), unit), text);
            assert_eq!(read(text, unit), Ok(Bound::Limited(most)));
        }
        assert_eq!(show(Bound::Unbounded, Unit::Bytes), "unbounded");
    }
}
