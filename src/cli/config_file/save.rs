//! From the mounted tree to a configuration file.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::config_dir;
use super::super::text::{quoted, reason};
use super::super::users::Names;
use super::entry::Kind;

/// Keys and values of `config/`.
type Settings = Vec<(String, String)>;

/// The text of a file that gives a new mount the folders, mailboxes, topics and segments of this one. Of a mailbox and of a
/// folder of mailboxes it has the settings that differ from those of the folder above. Symbolic links are left out, and what is in
/// folders that several hosts share.
pub(in super::super) fn saved(point: &Path) -> Result<String, String> {
    let names = (Names::users(), Names::groups());
    let mut text = format!("# Made by: ipcfs config --save {}\n", quoted(point));
    for kind in [Kind::Mailbox, Kind::Topic, Kind::Segment] {
        // Folders that were found, each with the settings that it inherits.
        let mut folders = vec![(kind.section().to_owned(), Settings::new())];
        while let Some((folder, inherited)) = folders.pop() {
            let settings = write(&mut text, Kind::Folder, point, &folder, &inherited, &names)?;
            // The engine has what is in it, and each host finds it there.
            if settings.iter().any(|(key, value)| key == "engine" && value != "local") {
                continue;
            }
            let mut inner = Vec::new();
            for name in sorted_names(&point.join(&folder))? {
                let path = format!("{folder}/{name}");
                let file = metadata(&point.join(&path))?;
                if file.is_dir() {
                    inner.push((path, settings.clone()));
                } else if !file.is_symlink() {
                    write(&mut text, kind, point, &path, &settings, &names)?;
                }
            }
            folders.extend(inner.into_iter().rev());
        }
    }
    Ok(text)
}

/// Adds a section; the settings that the object has.
fn write(
    text: &mut String,
    kind: Kind,
    point: &Path,
    path: &str,
    inherited: &Settings,
    names: &(Names, Names),
) -> Result<Settings, String> {
    let file = metadata(&point.join(path))?;
    let keys = kind.settings(path);
    let settings = if keys.is_empty() {
        Settings::new()
    } else {
        let config = point.join("control").join(path).join("config");
        let text = |(key, value): (String, Vec<u8>)| match String::from_utf8(value) {
            Ok(value) => Ok((key, value)),
            Err(_) => Err(format!(
                "cannot save {}: its {key} is not UTF-8, as all text in TOML is\n  change it",
                quoted(point.join(path))
            )),
        };
        config_dir::values(&config)?.into_iter().map(text).collect::<Result<Settings, String>>()?
    };
    if let Some(key) = keys.iter().find(|key| !settings.iter().any(|(known, _)| known == *key)) {
        let why = format!("cannot save {}: this user may not read its {key}", quoted(point.join(path)));
        return Err(format!("{why}\n  run this as root, or as its owner"));
    }
    let has = |key: &str, value: &str| settings.iter().any(|setting| setting.0 == key && setting.1 == value);
    if has("lifetime", "last-close") {
        // It ends with its last user, who makes it again.
        return Ok(settings);
    }
    let name = if kind == Kind::Folder { path } else { path.split_once('/').map_or(path, |(_, name)| name) };
    let _ = writeln!(text, "\n[{}.{}]", kind.section(), key(name));
    let _ = writeln!(text, "owner = {}", string(&names.0.name(file.uid())));
    let _ = writeln!(text, "group = {}", string(&names.1.name(file.gid())));
    let _ = writeln!(text, "mode = \"{:04o}\"", file.mode() & 0o7777);
    if kind == Kind::Segment {
        let _ = writeln!(text, "size = {}", file.len());
    }
    for setting in &settings {
        let default = setting.0 == "dead_letter" && setting.1.is_empty();
        if !inherited.contains(setting) && !default {
            let _ = writeln!(text, "{} = {}", key(&setting.0), value(&setting.1));
        }
    }
    Ok(settings)
}

fn metadata(path: &Path) -> Result<Metadata, String> {
    fs::symlink_metadata(path).map_err(|error| cannot_read(path, &error))
}

/// The names in a folder, in the order of the alphabet.
fn sorted_names(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error: io::Error| cannot_read(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.into_string().map_err(|name| {
            format!(
                "cannot save {}: its name is not UTF-8, as all text in TOML is\n  rename it",
                quoted(folder.join(name))
            )
        })?);
    }
    names.sort();
    Ok(names)
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot save {}: {}\n  run this as root, or as its owner", quoted(path), reason(error))
}

/// A name before `=` or in brackets: as it is, or in quotes.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { string(name) }
}

fn value(text: &str) -> String {
    // Not "007", which may be a name.
    let number = text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
    if number { text.to_owned() } else { string(text) }
}

/// In quotes, with the escapes of TOML.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    #[test]
    fn any_name_comes_back() {
        for name in ["plain", "two words", "it's", "a\"b\\c", "line\nend\u{7f}\u{85}", "ö/ä", "3.5", "-"] {
            let entries =
                parse(&format!("[mailboxes.{}]\nfull = {}\n", key(name), value(name))).unwrap_or_default();
            if name.contains('\n') {
                // A name may have it, a value may not.
                let entries = parse(&format!("[mailboxes.{}]\n", key(name))).unwrap();
                assert_eq!(entries[0].path, format!("mailboxes/{name}"));
            } else {
                assert_eq!(entries[0].path, format!("mailboxes/{name}"));
                assert_eq!(entries[0].settings[0].1.value, name);
            }
        }
        assert_eq!((value("10000"), value("007")), ("10000".into(), "\"007\"".into()));
        assert_eq!(value("1m 30s"), "\"1m 30s\"");
    }
}
