//! Amounts as people write them: `4 MiB`, `500 ms`, `10000 rows`, `nothing`.

use crate::vocabulary::Unit;

/// The amount, in the unit.
pub(super) fn amount(text: &str, unit: Unit) -> Result<i64, String> {
    let text = text.trim();
    if text == "nothing" {
        return Ok(0);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').len();
    let (number, written) = text.split_at_checked(digits).unwrap_or((text, ""));
    let number: i64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| format!("`{text}` is no amount; write it as {}", example(unit)))?;
    let factor = factor(written.trim(), unit).ok_or_else(|| {
        format!(
            "`{text}` is not counted in {}; write it as {}",
            unit.name(),
            example(unit)
        )
    })?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("`{text}` is more than {}", i64::MAX))
}

fn factor(written: &str, unit: Unit) -> Option<i64> {
    match (unit, written) {
        (Unit::Bytes, "KiB") => Some(1 << 10),
        (Unit::Bytes, "MiB") => Some(1 << 20),
        (Unit::Bytes, "GiB") => Some(1 << 30),
        (Unit::Millis, "s") => Some(1000),
        (Unit::Millis, "ms") | (_, "") => Some(1),
        (unit, written) if written == unit.name() => Some(1),
        _ => None,
    }
}

fn example(unit: Unit) -> String {
    match unit {
        Unit::Bytes => "`4 MiB`, `512 KiB` or `1000 bytes`".to_owned(),
        Unit::Millis => "`500 ms` or `2 s`".to_owned(),
        other => format!("`100 {}` or `nothing`", other.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(amount("4 MiB", Unit::Bytes), Ok(4_194_304));
        assert_eq!(amount("1KiB", Unit::Bytes), Ok(1024));
        assert_eq!(amount("1_000_000 bytes", Unit::Bytes), Ok(1_000_000));
        assert_eq!(amount("500 ms", Unit::Millis), Ok(500));
        assert_eq!(amount("2 s", Unit::Millis), Ok(2000));
        assert_eq!(amount("10000 rows", Unit::Rows), Ok(10_000));
        assert_eq!(amount("3", Unit::Count), Ok(3));
        assert_eq!(amount("nothing", Unit::Ops), Ok(0));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for (text, unit) in [
            ("4 MB", Unit::Bytes),
            ("4 ms", Unit::Bytes),
            ("2 m", Unit::Millis),
            ("-1", Unit::Count),
            ("", Unit::Count),
            ("many", Unit::Rows),
            ("9223372036854775807 s", Unit::Millis),
            ("99999999999999999999", Unit::Count),
        ] {
            assert!(amount(text, unit).is_err(), "{text}");
        }
    }
}
