//! Which file imports which, as the `use` lines and the paths in the code say.

use std::collections::{BTreeMap, BTreeSet};

/// A crate's files by module path: `["tree", "names"]` for `tree/names/mod.rs`.
pub(crate) struct Crate {
    files: BTreeMap<Vec<String>, File>,
}

struct File {
    path: String,
    /// A folder's `mod.rs`, or the root: what it imports is for its folder, and nothing that is defined in it makes a circle.
    is_mod: bool,
    imports: Vec<Vec<String>>,
}

impl Crate {
    /// Of files and their texts below `root`, tests left out.
    pub(crate) fn read(root: &str, texts: impl Iterator<Item = (String, String)>) -> Crate {
        let mut files = BTreeMap::new();
        for (path, text) in texts {
            let Some(inner) = path.strip_prefix(root).and_then(|inner| inner.strip_suffix(".rs")) else {
                continue;
            };
            let mut module: Vec<String> =
                inner.trim_start_matches('/').split('/').map(String::from).collect();
            let last = module.last().cloned().unwrap_or_default();
            let is_mod = ["mod", "lib", "main"].contains(&last.as_str());
            if is_mod {
                module.pop();
            }
            let imports = paths(&text, &module, is_mod);
            files.insert(module, File { path, is_mod, imports });
        }
        Crate { files }
    }

    /// The files that each file imports.
    pub(crate) fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in self.files.values().filter(|file| !file.is_mod) {
            let targets = file.imports.iter().filter_map(|import| self.resolve(import, 0));
            edges.entry(&file.path).or_default().extend(targets.filter(|target| *target != file.path));
        }
        edges
    }

    /// The file that has what a path names, if that is not a `mod.rs`.
    fn resolve(&self, import: &[String], depth: usize) -> Option<&str> {
        let (module, file) = (0..=import.len()).rev().find_map(|end| {
            let file = self.files.get(&import[..end])?;
            Some((&import[..end], file))
        })?;
        if !file.is_mod {
            return Some(&file.path);
        }
        // What a `mod.rs` only passes on belongs to the file that it takes it from.
        let name = import.get(module.len())?;
        let passed_on = file.imports.iter().find(|other| other.last() == Some(name) && *other != import)?;
        if depth < 4 { self.resolve(passed_on, depth + 1) } else { None }
    }

    /// A circle of files, if there is one.
    pub(crate) fn circle(&self) -> Option<Vec<String>> {
        let edges = self.edges();
        let mut done = BTreeSet::new();
        edges.keys().find_map(|start| walk(start, &edges, &mut Vec::new(), &mut done))
    }
}

fn walk<'a>(
    file: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    above: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(at) = above.iter().position(|other| *other == file) {
        return Some(above[at..].iter().chain([&file]).map(|file| (*file).to_owned()).collect());
    }
    if done.contains(file) {
        return None;
    }
    above.push(file);
    for next in edges.get(file).into_iter().flatten() {
        if let Some(circle) = walk(next, edges, above, done) {
            return Some(circle);
        }
    }
    above.pop();
    done.insert(file);
    None
}

/// The paths into its own crate that a text has, `use` lines and others, as they are from the crate's root.
fn paths(text: &str, module: &[String], is_mod: bool) -> Vec<Vec<String>> {
    // Test modules stand at the end of their file.
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let code: String = text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).fold(
        String::new(),
        |mut code, line| {
            code.push_str(line);
            code.push('\n');
            code
        },
    );
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("::") {
        let start =
            rest[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |before| before + 1);
        let first = &rest[start..at];
        let in_use = rest[..start].trim_end().ends_with("use");
        let (length, leaves) = tree(&rest[start..]);
        let own = ["crate", "super", "self"].contains(&first);
        // In a `mod.rs`, `use text::Text` begins with a module of its own.
        if own || (in_use && is_mod) {
            for leaf in leaves {
                found.extend(absolute(&leaf, module, is_mod, own));
            }
        }
        rest = &rest[start + length.max(first.len() + 2)..];
    }
    found
}

/// A path from the root, of one from here.
fn absolute(path: &[String], module: &[String], is_mod: bool, own: bool) -> Option<Vec<String>> {
    let mut from = module.to_vec();
    let mut steps = path.iter().peekable();
    if !own {
        from.extend(steps.cloned());
        return Some(from);
    }
    if steps.next_if(|step| *step == "crate").is_some() {
        from.clear();
    } else if steps.next_if(|step| *step == "self").is_none() && !is_mod {
        // `super` of a plain file is the module that it stands in.
        from.pop();
        steps.next();
    }
    while steps.next_if(|step| *step == "super").is_some() {
        from.pop()?;
    }
    from.extend(steps.cloned());
    Some(from)
}

/// Reads a path with its groups in braces: how long it is, and each of its leaves.
fn tree(text: &str) -> (usize, Vec<Vec<String>>) {
    let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (mut at, mut path) = (0, Vec::new());
    loop {
        let length = word(&text[at..]);
        if length > 0 {
            path.push(text[at..at + length].to_owned());
            at += length;
        } else if text[at..].starts_with('*') {
            return (at + 1, vec![path]);
        } else if text[at..].starts_with('{') {
            at += 1;
            let mut leaves = Vec::new();
            loop {
                at += text[at..].find(|c: char| !c.is_whitespace() && c != ',').unwrap_or(text.len() - at);
                if at >= text.len() || text[at..].starts_with('}') {
                    return (at + 1, leaves);
                }
                let (length, inner) = tree(&text[at..]);
                if length == 0 {
                    return (at + 1, leaves);
                }
                leaves.extend(inner.into_iter().map(|leaf| {
                    let leaf = leaf.into_iter().filter(|step| step != "self");
                    path.iter().cloned().chain(leaf).collect()
                }));
                at += length;
                // `as name`
                at += text[at..].find([',', '}']).unwrap_or(0);
            }
        }
        if !text[at..].starts_with("::") {
            return (at, vec![path]);
        }
        at += 2;
    }
}
