//! From text to entries.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::text::quoted;
use super::super::users::Names;
use super::entry::{At, Entry, Kind, Wrong};
use crate::config::{NAME_MAX, parse_size};

/// Finds the line of a place in the text.
struct Lines<'a>(&'a str);

/// What the values of an entry are read with.
struct Reader<'a> {
    lines: Lines<'a>,
    users: Names,
    groups: Names,
}

/// Entries in the order of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Wrong> {
    let lines = Lines(text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = lines.at(error.span().map_or(0, |span| span.start));
        Wrong::new(
            line,
            error.message().lines().next().unwrap_or("no TOML"),
            "see https://toml.io for the form",
        )
    })?;
    let reader = Reader { lines, users: Names::users(), groups: Names::groups() };
    let mut entries = Vec::new();
    for (section, value) in sorted(table.get_ref()) {
        let line = reader.line(section);
        let known = Kind::ALL.into_iter().find(|kind| kind.section() == section.get_ref());
        let Some(kind) = known else {
            let why = format!("there is no section {}", quoted(&**section.get_ref()));
            let names = Kind::ALL.map(Kind::section).join(", ");
            return Err(Wrong::new(line, &why, &format!("there are {names}")));
        };
        for (name, value) in sorted(reader.table(kind.section(), value)?) {
            entries.push(reader.entry(kind, name, value)?);
        }
    }
    entries.sort_by_key(|entry| entry.line);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for entry in &entries {
        if let Some(first) = seen.insert(&entry.path, entry.line) {
            let why = format!("{} is in line {first} as well", quoted(&entry.path));
            return Err(Wrong::new(entry.line, &why, "a name is a folder or a file, not both"));
        }
    }
    Ok(entries)
}

/// In the order of the text.
fn sorted<'a, 'b>(
    table: &'a DeTable<'b>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'b, str>>, &'a Spanned<DeValue<'b>>)> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

impl Lines<'_> {
    fn at(&self, offset: usize) -> usize {
        let before = &self.0.as_bytes()[..offset.min(self.0.len())];
        1 + memchr::memchr_iter(b'\n', before).count()
    }
}

impl Reader<'_> {
    fn line<T>(&self, spanned: &Spanned<T>) -> usize {
        self.lines.at(spanned.span().start)
    }

    fn table<'a, 'b>(&self, name: &str, value: &'a Spanned<DeValue<'b>>) -> Result<&'a DeTable<'b>, Wrong> {
        value.get_ref().as_table().ok_or_else(|| {
            let why = format!("{} is {}, not a table", quoted(name), value.get_ref().type_str());
            Wrong::new(self.line(value), &why, "write its settings below a line [section.NAME]")
        })
    }

    fn entry(
        &self,
        kind: Kind,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Entry, Wrong> {
        let line = self.line(name);
        let path = path(kind, name.get_ref()).map_err(|(why, advice)| {
            Wrong::new(line, &format!("{}: {why}", quoted(&**name.get_ref())), advice)
        })?;
        let mut entry = Entry {
            kind,
            path,
            line,
            owner: None,
            group: None,
            mode: None,
            size: None,
            settings: Vec::new(),
        };
        let known = kind.settings(&entry.path);
        for (key, value) in sorted(self.table(name.get_ref(), value)?) {
            let (line, key) = (self.line(key), key.get_ref().as_ref());
            let value = value.get_ref();
            match key {
                "owner" => entry.owner = Some(At { line, value: id(&self.users, "user", value, line)? }),
                "group" => entry.group = Some(At { line, value: id(&self.groups, "group", value, line)? }),
                "mode" => entry.mode = Some(At { line, value: mode(value, line)? }),
                "size" if kind == Kind::Segment => {
                    entry.size = Some(At { line, value: size(value, line)? });
                }
                _ if !known.contains(&key) => return Err(unknown(key, value, kind, &known, line)),
                _ => {
                    let value = setting(key, value, line)?;
                    entry.settings.push((key.to_owned(), At { line, value }));
                }
            }
        }
        Ok(entry)
    }
}

fn unknown(key: &str, value: &DeValue<'_>, kind: Kind, known: &[&str], line: usize) -> Wrong {
    let why = format!("there is no setting {}", quoted(key));
    let advice = if value.is_table() {
        format!("write a name with slashes in quotes: [{}.\"folder/name\"]", kind.section())
    } else {
        let size = (kind == Kind::Segment).then_some("size");
        let all: Vec<&str> =
            ["owner", "group", "mode"].into_iter().chain(size).chain(known.iter().copied()).collect();
        format!("there are {}", all.join(", "))
    };
    Wrong::new(line, &why, &advice)
}

/// The path below the mount point, or why a name is none and what to write.
fn path(kind: Kind, name: &str) -> Result<String, (String, &'static str)> {
    for part in name.split('/') {
        if ["", ".", ".."].contains(&part) || part.len() > NAME_MAX || part.contains('\0') {
            return Err((
                String::from("it is no path of a file"),
                "write names with single slashes between them",
            ));
        }
    }
    let first = name.split('/').next();
    if kind == Kind::Folder {
        let kinds = ["mailboxes", "topics", "segments"];
        return if first.is_some_and(|first| kinds.contains(&first)) {
            Ok(name.to_owned())
        } else {
            Err((String::from("it is in none of the mount's folders"), "write [folders.\"mailboxes/NAME\"]"))
        };
    }
    Ok(format!("{}/{name}", kind.section()))
}

/// A user's or group's number, by name or number.
fn id(names: &Names, what: &str, value: &DeValue<'_>, line: usize) -> Result<u32, Wrong> {
    let text = match value {
        DeValue::String(name) => name.as_ref(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        _ => "",
    };
    names.id(text).ok_or_else(|| {
        let why = format!("there is no {what} {}", quoted(text));
        Wrong::new(line, &why, &format!("write the name of a {what} of this machine, or a number"))
    })
}

fn mode(value: &DeValue<'_>, line: usize) -> Result<u32, Wrong> {
    let digits = match value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) if number.radix() == 8 => number.as_str(),
        _ => "",
    };
    let octal = digits.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o7777);
    mode.ok_or_else(|| {
        Wrong::new(line, "mode is no mode", "write it in octal and in quotes: mode = \"0620\"")
    })
}

fn size(value: &DeValue<'_>, line: usize) -> Result<u64, Wrong> {
    let size = match value {
        DeValue::String(text) => parse_size(text),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    };
    let size = size.filter(|size| i64::try_from(*size).is_ok());
    size.ok_or_else(|| {
        Wrong::new(line, "size is no size", "write a number of bytes, or \"64K\", \"1M\", \"2G\"")
    })
}

/// The text that is written to the file of this name; the mount decides whether it is valid.
fn setting(key: &str, value: &DeValue<'_>, line: usize) -> Result<String, Wrong> {
    if key == "lifetime" && value.as_str() == Some("last-close") {
        let why = "a segment that ends with its last user cannot be made before its first one";
        return Err(Wrong::new(
            line,
            why,
            "let the program that uses it make it, or write lifetime = \"keep\"",
        ));
    }
    match value {
        DeValue::String(text) if !text.contains(['\n', '\0']) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        _ => {
            let why = format!("{key} is {}", value.type_str());
            Err(Wrong::new(line, &why, "write a number, or one line of text in quotes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> (usize, String) {
        let wrong = parse(text).unwrap_err();
        (wrong.line, wrong.why)
    }

    #[test]
    fn a_file_is_read_in_its_order() {
        let text = "# a comment\n[mailboxes.\"shop/orders\"]\nmaxmsg = 1_000\nfull = \"fail\"\nowner = 7\nmode = \"0620\"\n\n\
            [folders.\"mailboxes/shop\"]\ngroup = \"root\"\nmode = 0o770\n[segments]\nboard.size = \"4K\"\n";
        let entries = parse(text).unwrap();
        let shown: Vec<_> = entries.iter().map(|entry| (entry.path.as_str(), entry.line)).collect();
        assert_eq!(shown, [("mailboxes/shop/orders", 2), ("mailboxes/shop", 8), ("segments/board", 12)]);
        let [orders, shop, board] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((orders.owner.as_ref().unwrap().value, orders.mode.as_ref().unwrap().value), (7, 0o620));
        let at = |line, value: &str| At { line, value: value.to_owned() };
        assert_eq!(
            orders.settings,
            [("maxmsg".to_owned(), at(3, "1000")), ("full".to_owned(), at(4, "fail"))]
        );
        assert_eq!((shop.group.as_ref().unwrap().value, shop.mode.as_ref().unwrap().value), (0, 0o770));
        assert_eq!(board.size.as_ref().unwrap().value, 4096);
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, line, why) in [
            ("[mailboxes.a]\nmaxmsg = ", 2, ""),
            ("[mailboxes.a]\nmaxmsg = 1\nmaxmsg = 2", 3, "duplicate key"),
            ("\n[boxes.a]", 2, "there is no section boxes\n  there are folders, mailboxes, topics, segments"),
            ("mailboxes = 3", 1, "mailboxes is integer, not a table"),
            (
                "[mailboxes.a]\nmaxmesg = 1",
                2,
                "there is no setting maxmesg\n  there are owner, group, mode, msgsize,",
            ),
            (
                "[mailboxes.a.b]\nmaxmsg = 1",
                1,
                "there is no setting b\n  write a name with slashes in quotes",
            ),
            ("[mailboxes.a]\nmaxmsg = [1]", 2, "maxmsg is array"),
            ("[mailboxes.a]\nowner = \"no such user\"", 2, "there is no user 'no such user'"),
            ("[mailboxes.a]\nmode = 620", 2, "mode is no mode"),
            ("[mailboxes.a]\nmode = \"+77\"", 2, "mode is no mode"),
            ("[mailboxes.\"../a\"]", 1, "../a: it is no path"),
            ("[mailboxes.\"/a\"]", 1, "/a: it is no path"),
            ("[folders.shop]", 1, "shop: it is in none of the mount's folders"),
            (
                "[folders.\"topics/a\"]\nmaxmsg = 1",
                2,
                "there is no setting maxmsg\n  there are owner, group, mode",
            ),
            ("[folders.mailboxes]\ndead_letter = \"a\"", 2, "there is no setting dead_letter"),
            ("[segments.a]\nsize = \"big\"", 2, "size is no size"),
            ("[segments.a]\nlifetime = \"last-close\"", 2, "a segment that ends with its last user"),
            ("[topics.a]\nsize = 1", 2, "there is no setting size"),
            ("[mailboxes.x]\n[folders.\"mailboxes/x\"]", 2, "mailboxes/x is in line 1 as well"),
        ] {
            let (found, said) = wrong(text);
            assert_eq!(found, line, "{text}: {said}");
            assert!(said.starts_with(why) && said.contains("\n  "), "{text}: {said}");
        }
    }
}
