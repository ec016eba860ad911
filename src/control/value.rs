//! Parsing and formatting of the values in control files.

use std::time::Duration;

use super::Refusal;
use crate::config::{NO_LIMIT, SPANS, parse_size, parse_time};
use crate::op::Error;

/// Parses a number from `low` to `high`, with an optional unit suffix. `max` is accepted if `unlimited`.
pub(super) fn number(
    name: &str,
    unit: &str,
    text: &str,
    low: u64,
    high: u64,
    unlimited: bool,
) -> Result<u64, Refusal> {
    let text = text.trim();
    if unlimited && text == "max" {
        return Ok(NO_LIMIT);
    }
    let max = if unlimited { ", or max" } else { "" };
    let bounds = if high >= NO_LIMIT - 1 { format!("{low} or more") } else { format!("{low} to {high}") };
    let Some(number) = parse_size(text) else {
        let why = format!(
            "{name}: '{}' is not a number of {unit} ({bounds}{max}; suffixes K, M, G, T)",
            shown(text)
        );
        return Err(Refusal { error: Error::Invalid, why });
    };
    if number < low || number > high {
        let why = format!("{name}: {number} is out of range: {bounds} {unit}{max}");
        return Err(Refusal { error: Error::Range, why });
    }
    Ok(number)
}

/// Parses a duration: `10s`, `1h 30m`, or a number of seconds; `max` for no limit. Returns nanoseconds.
pub(super) fn time(name: &str, text: &str) -> Result<u64, Refusal> {
    let text = text.trim();
    if text == "max" {
        return Ok(NO_LIMIT);
    }
    let Some(nanos) = parse_time(text) else {
        let why =
            format!("{name}: '{}' is not a duration (for example 500ms, 10s, 1h 30m, or max)", shown(text));
        return Err(Refusal { error: Error::Invalid, why });
    };
    if !SPANS.contains(&nanos) {
        let time = humantime::format_duration(Duration::from_nanos(nanos));
        let why = format!("{name}: {time} is out of range: 1ms to 10years, or max");
        return Err(Refusal { error: Error::Range, why });
    }
    Ok(nanos)
}

/// As [`time`], but there is no `max`.
pub(super) fn limited_time(name: &str, text: &str) -> Result<u64, Refusal> {
    let nanos = time(name, text)?;
    if nanos == NO_LIMIT {
        let why = format!("{name}: there must be an end: 1ms to 10years");
        return Err(Refusal { error: Error::Range, why });
    }
    Ok(nanos)
}

/// Formats a duration of `nanos` nanoseconds.
pub(super) fn show_time(nanos: u64) -> String {
    if nanos == NO_LIMIT {
        String::from("max")
    } else {
        humantime::format_duration(Duration::from_nanos(nanos)).to_string()
    }
}

/// Parses one of several words.
pub(super) fn one_of<T: Copy>(name: &str, words: &[(&str, T)], text: &str) -> Result<T, Refusal> {
    let text = text.trim();
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Refusal {
            error: Error::Invalid,
            why: format!("{name}: '{}' is not one of {}", shown(text), all.join(", ")),
        }
    })
}

/// The word for a value.
pub(super) fn name_of<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| word)
}

/// Formats a number.
pub(super) fn show(number: u64) -> String {
    if number == NO_LIMIT { String::from("max") } else { number.to_string() }
}

/// The beginning of a written value, escaped for printing.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bounded_and_the_refusal_says_by_what() {
        assert_eq!(number("maxmsg", "messages", "10\n", 1, 99, true), Ok(10));
        assert_eq!(number("maxmsg", "messages", "max\n", 1, 99, true), Ok(NO_LIMIT));
        assert_eq!(number("msgsize", "bytes", "64K", 1, 1 << 20, false), Ok(65536));
        let refusal = number("msgsize", "bytes", "2M", 1, 1_044_480, false).unwrap_err();
        assert_eq!(refusal.error, Error::Range);
        assert_eq!(refusal.why, "msgsize: 2097152 is out of range: 1 to 1044480 bytes");
        let refusal = number("maxmsg", "messages", "ten\u{7}", 1, NO_LIMIT - 1, true).unwrap_err();
        assert_eq!(refusal.error, Error::Invalid);
        assert_eq!(
            refusal.why,
            "maxmsg: 'ten\\u{7}' is not a number of messages (1 or more, or max; suffixes K, M, G, T)"
        );
    }

    #[test]
    fn times_take_units_and_read_back_in_them() {
        for (text, shown) in
            [("10", "10s"), ("90s\n", "1m 30s"), ("250ms", "250ms"), ("1h", "1h"), ("max", "max")]
        {
            assert_eq!(time("ttl", text).map(show_time).as_deref(), Ok(shown), "{text}");
        }
        assert_eq!(time("ttl", "soon").unwrap_err().error, Error::Invalid);
        assert_eq!(time("ttl", "-1s").unwrap_err().error, Error::Invalid);
        let refusal = time("ttl", "0").unwrap_err();
        assert_eq!(
            (refusal.error, refusal.why.as_str()),
            (Error::Range, "ttl: 0s is out of range: 1ms to 10years, or max")
        );
        assert_eq!(time("ttl", "11years").unwrap_err().error, Error::Range);
    }

    #[test]
    fn words_are_taken_whole() {
        let words = [("keep", 1), ("last-close", 2)];
        assert_eq!(one_of("lifetime", &words, "last-close\n"), Ok(2));
        let why = one_of("lifetime", &words, "last").unwrap_err().why;
        assert_eq!(why, "lifetime: 'last' is not one of keep, last-close");
    }
}
