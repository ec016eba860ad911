//! Sizes and counts on the command line: within bounds, or an error that names the value, the bounds and the unit.
//! The syntax of sizes is that of [`parse_size`].

use std::ops::RangeInclusive;

use crate::config::{NO_LIMIT, parse_size};

/// Units, least first; each is 1024 of the one before.
const UNITS: [&str; 5] = ["", "K", "M", "G", "T"];

/// Reads a number of bytes within `bounds`.
pub(super) fn bytes(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let wanted =
        format!("write {} bytes (suffixes K, M, G and T are powers of 1024)", within(&bounds, exact));
    match parse_size(text) {
        Some(size) if bounds.contains(&size) => Ok(size),
        Some(size) => Err(format!("{size} bytes is out of bounds; {wanted}")),
        None => Err(format!("not a size; {wanted}")),
    }
}

/// As [`bytes()`], or `max` for no limit.
pub(super) fn bytes_or_max(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    if text == "max" {
        return Ok(NO_LIMIT);
    }
    bytes(text, bounds).map_err(|why| format!("{why}, or max for no limit"))
}

/// Reads a count within `bounds`; it has no unit.
pub(super) fn count(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let wanted = format!("write a whole number, {}", within(&bounds, |number| number.to_string()));
    match digits(text) {
        Some(number) if bounds.contains(&number) => Ok(number),
        Some(number) => Err(format!("{number} is out of bounds; {wanted}")),
        None => Err(format!("not a whole number; {wanted}")),
    }
}

/// As [`count`], or `max` for no limit.
pub(super) fn count_or_max(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    if text == "max" {
        return Ok(NO_LIMIT);
    }
    count(text, bounds).map_err(|why| format!("{why}, or max for no limit"))
}

/// The size in the greatest unit, with a decimal where that has one or two digits: `1020K`, `5.9G`.
pub(super) fn show(size: u64) -> String {
    let mut unit = 0;
    let mut whole = size;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    let scale = 1_u64 << (10 * unit);
    let tenths = size % scale / (scale / 10).max(1);
    if whole >= 100 || tenths == 0 || unit == 0 {
        return format!("{whole}{}", UNITS[unit]);
    }
    format!("{whole}.{}{}", tenths.min(9), UNITS[unit])
}

fn within(bounds: &RangeInclusive<u64>, show: impl Fn(u64) -> String) -> String {
    let least = show(*bounds.start());
    // The greatest number below `max` has twenty digits and says nothing.
    if *bounds.end() >= NO_LIMIT - 1 {
        format!("{least} or more")
    } else {
        format!("{least} to {}", show(*bounds.end()))
    }
}

/// The size in the greatest unit that shows it exactly.
fn exact(size: u64) -> String {
    let mut unit = 0;
    let mut whole = size;
    while whole >= 1024 && whole.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{whole}{}", UNITS[unit])
}

/// A decimal number without sign or blanks.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sizes_and_counts_are_taken() {
        assert_eq!(bytes("64K", 0..=u64::MAX), Ok(65_536));
        assert_eq!(count("64", 0..=u64::MAX), Ok(64));
        for text in ["", " 1", "-1", "+1", "1.5", "0x10", "1e3", "max", "１", "99999999999999999999"] {
            assert!(bytes(text, 0..=u64::MAX).is_err(), "{text}");
            assert!(count(text, 0..=u64::MAX).is_err(), "{text}");
        }
        assert!(count("1K", 0..=u64::MAX).is_err());
        assert!(bytes_or_max("MAX", 0..=u64::MAX).is_err());
    }

    #[test]
    fn bounds_are_told() {
        let error = bytes("1M", 1..=1_044_480).unwrap_err();
        assert_eq!(
            error,
            "1048576 bytes is out of bounds; write 1 to 1020K bytes (suffixes K, M, G and T are powers of 1024)"
        );
        assert_eq!(count("65", 1..=64).unwrap_err(), "65 is out of bounds; write a whole number, 1 to 64");
        assert_eq!(
            count_or_max("0", 1..=NO_LIMIT - 1).unwrap_err(),
            "0 is out of bounds; write a whole number, 1 or more, or max for no limit"
        );
        assert_eq!(bytes_or_max("max", 1..=2), Ok(NO_LIMIT));
        assert_eq!(count_or_max("max", 1..=2), Ok(NO_LIMIT));
    }

    #[test]
    fn sizes_are_shown_short() {
        for (size, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            (1_044_480, "1020K"),
            (2047 << 10, "1.9M"),
            (12_601_000_000, "11.7G"),
            (u64::MAX, "16777215T"),
        ] {
            assert_eq!(show(size), text);
        }
    }
}
