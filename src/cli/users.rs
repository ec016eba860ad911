//! The names of users and groups in `/etc/passwd` and `/etc/group`. Others have numbers alone.

use std::fs;

use super::text::escaped;

/// Names with their numbers, in the order of their file.
pub(super) struct Names(Vec<(String, u32)>);

impl Names {
    pub(super) fn users() -> Names {
        Names::read("/etc/passwd")
    }

    pub(super) fn groups() -> Names {
        Names::read("/etc/group")
    }

    /// Nobody has a name.
    pub(super) fn none() -> Names {
        Names(Vec::new())
    }

    fn read(path: &str) -> Names {
        Names::parse(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()))
    }

    /// Both files have the name first and the number third.
    fn parse(text: &str) -> Names {
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((escaped(name), fields.nth(1)?.parse().ok()?))
        };
        Names(text.lines().filter_map(entry).collect())
    }

    /// The name of a number, or the number. Of several names, the first, as `ls` shows it.
    pub(super) fn name(&self, id: u32) -> String {
        let found = self.0.iter().find(|(_, known)| *known == id);
        found.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }

    /// The number of a name; a number stands for itself.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, id)| *id).or_else(|| name.parse().ok().filter(|id| *id != u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names() {
        let users =
            Names::parse("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nbroken\nann:x:1000:1000::/:\n");
        assert_eq!([users.name(0), users.name(1000), users.name(7)], ["root", "ann", "7"]);
        assert_eq!(["toor", "ann", "7"].map(|name| users.id(name)), [Some(0), Some(1000), Some(7)]);
        assert_eq!(["bob", "-1", "4294967295", ""].map(|name| users.id(name)), [None; 4]);
    }
}
