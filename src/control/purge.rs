//! What is written to the file `purge` of a mailbox.

use super::{Refusal, value};
use crate::config::{NAME_MAX, NO_LIMIT};
use crate::mailbox::Purge;
use crate::op::Error;

/// Parses which messages to remove. `Invalid` for what is none of these, `Range` for a value out of range.
pub fn purge(text: &[u8]) -> Result<Purge, Refusal> {
    // One newline ends the text; any other byte may be part of a tag.
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.trim_ascii() == b"all" {
        return Ok(Purge::All);
    }
    if let Some(tag) = text.strip_prefix(b"tag ").filter(|tag| !tag.is_empty()) {
        return if tag.len() <= NAME_MAX {
            Ok(Purge::Tag(tag.into()))
        } else {
            Err(refuse(Error::Range, format!("the tag has more than {NAME_MAX} bytes")))
        };
    }
    let text = String::from_utf8_lossy(text);
    if let Some(uid) = text.strip_prefix("from ") {
        let uid = uid.trim();
        if uid.is_empty() || !uid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse(Error::Invalid, "a user is a number"));
        }
        let uid = uid.parse().map_err(|_| refuse(Error::Range, "no user has such a number"))?;
        return Ok(Purge::From(uid));
    }
    if let Some(time) = text.strip_prefix("older ") {
        let age = value::time("purge older", time)?;
        if age != NO_LIMIT {
            return Ok(Purge::Older(age));
        }
    }
    Err(refuse(Error::Invalid, "write all, tag <tag>, from <uid> or older <time>"))
}

fn refuse(error: Error, why: impl std::fmt::Display) -> Refusal {
    Refusal { error, why: format!("purge: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_taken_as_they_are_written() {
        let tag = |tag: &[u8]| Ok(Purge::Tag(tag.into()));
        for (text, expected) in [
            (&b"all"[..], Ok(Purge::All)),
            (b" all \n", Ok(Purge::All)),
            (b"tag red\n", tag(b"red")),
            (b"tag  a\xffb \n\n", tag(b" a\xffb \n")),
            (b"tag all", tag(b"all")),
            (b"from 0\n", Ok(Purge::From(0))),
            (b"from 4294967295", Ok(Purge::From(u32::MAX))),
            (b"older 90\n", Ok(Purge::Older(90_000_000_000))),
            (b"older 1m 30s", Ok(Purge::Older(90_000_000_000))),
        ] {
            assert_eq!(purge(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_refused_is_explained() {
        let long = [b"tag ", &[b'x'; NAME_MAX + 1][..]].concat();
        for (text, error) in [
            (&b""[..], Error::Invalid),
            (b"\n", Error::Invalid),
            (b"everything", Error::Invalid),
            (b"all of it", Error::Invalid),
            (b"tag", Error::Invalid),
            (b"tag \n", Error::Invalid),
            (b"from root", Error::Invalid),
            (b"from ", Error::Invalid),
            (b"from 1K", Error::Invalid),
            (b"from 4294967296", Error::Range),
            (b"older", Error::Invalid),
            (b"older max", Error::Invalid),
            (b"older soon", Error::Invalid),
            (b"older 0", Error::Range),
            (b"older 11years", Error::Range),
            (&long, Error::Range),
        ] {
            let refusal = purge(text).unwrap_err();
            assert_eq!(refusal.error, error, "{}", text.escape_ascii());
            assert!(refusal.why.starts_with("purge"), "{}", refusal.why);
        }
    }
}
