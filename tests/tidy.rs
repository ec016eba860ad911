//! The house rules, held to: which layer may know which, where `unsafe` and errno may stand, what documents must say.

#![allow(clippy::unwrap_used, clippy::panic, clippy::case_sensitive_file_extension_comparisons)] // a test's helpers

#[path = "tidy/imports.rs"]
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// A line of the sources, with its place.
struct Line {
    path: String,
    number: usize,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder whose names end so, as paths from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                // What was built is nobody's text.
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} files in {folder}");
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The program's own lines: `src/` without its tests and without comments.
fn code() -> Vec<Line> {
    let mut lines = Vec::new();
    for path in files("src", ".rs") {
        if path.contains("/tests") {
            continue;
        }
        for (index, text) in read(&path).lines().enumerate() {
            // Test modules stand at the end of their file.
            if text.trim_start().starts_with("#[cfg(test)]")
                && !read(&path).lines().nth(index + 1).is_some_and(is_declaration)
            {
                break;
            }
            if !text.trim_start().starts_with("//") {
                lines.push(Line { path: path.clone(), number: index + 1, text: text.to_owned() });
            }
        }
    }
    lines
}

/// `mod tests;`, or a function for tests alone, rather than a module that ends the file.
fn is_declaration(line: &str) -> bool {
    line.trim_end().ends_with(';') || line.contains("fn ")
}

/// Fails with the place of every line that a rule forbids.
#[track_caller]
fn forbid(rule: &str, wrong: impl Fn(&Line) -> bool) {
    let found: Vec<String> = code()
        .iter()
        .filter(|line| wrong(line))
        .map(|line| format!("{}:{}: {}", line.path, line.number, line.text.trim()))
        .collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

fn under(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(&format!("src/{folder}")))
}

#[test]
fn the_domain_does_no_io_and_has_no_clock() {
    let system =
        ["std::fs", "std::net", "std::thread", "std::process", "SystemTime", "Instant", "rustix", "libc::"];
    forbid("mailbox, segment, locks, control, tree and op know no system", |line| {
        under(&line.path, &["mailbox", "remote", "segment", "locks", "control", "tree", "op", "config"])
            && system.iter().any(|word| line.text.contains(word))
    });
}

#[test]
fn layers_know_only_what_is_below_them() {
    let rules: [(&[&str], &[&str]); 4] = [
        (
            &["mailbox/", "remote/", "segment/", "locks/", "op/", "config"],
            &["kernel", "tree", "control", "cli", "daemon", "sys"],
        ),
        (&["control/"], &["kernel", "tree", "cli", "daemon", "sys", "locks"]),
        (&["tree/"], &["kernel", "cli", "daemon", "sys"]),
        (&["kernel/"], &["cli", "daemon", "mailbox", "locks", "control"]),
    ];
    // Of `sys`, everyone may use what is memory and no system.
    let memory = "crate::sys::bytes::";
    for (layers, above) in rules {
        forbid(&format!("{layers:?} may not know {above:?}"), |line| {
            under(&line.path, layers)
                && above.iter().any(|module| line.text.contains(&format!("crate::{module}::")))
                && !line.text.contains(memory)
        });
    }
}

fn imports_of(root: &str) -> imports::Crate {
    let own = files(root, ".rs").into_iter().filter(|path| !path.contains("/tests"));
    imports::Crate::read(root, own.map(|path| (path.clone(), read(&path))))
}

#[test]
fn files_import_each_other_in_one_direction() {
    for root in ["src", "benches/src", "benches/null-fuse/src"] {
        let circle = imports_of(root).circle();
        assert!(circle.is_none(), "files import each other in a circle: {}", circle.unwrap().join(" -> "));
    }
}

#[test]
fn a_circle_is_found_and_named() {
    let files = [
        ("src/a/mod.rs", "mod one;\nmod two;\npub use two::Two;\n"),
        ("src/a/one.rs", "use std::fmt;\nuse super::{Two as Second, fmt::{self, Debug}};\n"),
        ("src/a/two.rs", "fn f() { crate::b::g() }\n"),
        ("src/b.rs", "use crate::{\n    a::{one::One},\n};\n"),
    ];
    let named = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    let circle = imports::Crate::read("src", named.clone()).circle().unwrap();
    assert_eq!(circle, ["src/a/one.rs", "src/a/two.rs", "src/b.rs", "src/a/one.rs"]);
    assert_eq!(imports::Crate::read("src", named.take(3)).circle(), None);
}

#[test]
fn the_folders_of_the_tree_import_in_one_direction() {
    for (folder, above) in [("names", &["kinds", "waiting"][..]), ("waiting", &["kinds"])] {
        for (file, imports) in imports_of("src").edges() {
            let wrong = imports
                .iter()
                .find(|path| above.iter().any(|above| path.starts_with(&format!("src/tree/{above}/"))));
            let inside = file.starts_with(&format!("src/tree/{folder}/"));
            assert!(!inside || wrong.is_none(), "{file} imports {}", wrong.unwrap());
        }
    }
}

#[test]
fn unsafe_stands_in_sys_alone_and_is_argued() {
    forbid("unsafe belongs into src/sys", |line| {
        line.text.contains("unsafe ") && !line.text.contains("unsafe_code") && !under(&line.path, &["sys/"])
    });
    for path in files("src/sys", ".rs") {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate() {
            if !line.contains("unsafe {") || line.starts_with("//") {
                continue;
            }
            let above = lines[..index].iter().rev().take_while(|line| line.starts_with("//"));
            let argued = above.into_iter().any(|line| line.starts_with("// SAFETY:"));
            assert!(argued, "{path}:{}: an unsafe block without its argument", index + 1);
        }
    }
}

#[test]
fn siblings_know_nothing_of_each_others_insides() {
    let siblings = ["mailbox", "segment", "locks", "control"];
    forbid("what a module does not export at its top is its own", |line| {
        siblings.iter().any(|module| {
            let inside = line.text.split(&format!("crate::{module}::")).nth(1);
            let reaches_in = inside.is_some_and(|path| path.starts_with(|first: char| first.is_lowercase()));
            reaches_in && !under(&line.path, &[&format!("{module}/")])
        })
    });
}

#[test]
fn fuser_is_known_to_the_session_alone() {
    forbid("fuser belongs into src/kernel/session.rs", |line| {
        line.text.contains("fuser::") && line.path != "src/kernel/session.rs"
    });
}

#[test]
fn numbers_of_errors_stand_at_the_edges_alone() {
    let transports = ["kernel/dev.rs", "kernel/left.rs", "kernel/transport.rs", "kernel/uring.rs"];
    let edges =
        ["kernel/errno.rs", "kernel/reply.rs", "sys/", "cli/", "daemon/", "supervisor/", "journal/disk.rs"];
    forbid("errno belongs into src/kernel/errno.rs and where system calls are made", |line| {
        line.text.contains("Errno::") && !under(&line.path, &edges) && !under(&line.path, &transports)
    });
}

#[test]
fn nothing_gives_up_on_what_the_outside_does() {
    let words = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];
    forbid("an error, please", |line| words.iter().any(|word| line.text.contains(word)));
}

#[test]
fn no_file_is_too_long_to_read() {
    for path in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        let lines = read(&path).lines().count();
        assert!(lines <= 700, "{path} has {lines} lines: look for its second subject");
    }
}

#[test]
fn the_code_map_names_every_module() {
    assert!(read("README.md").lines().count() < 250, "README.md is to be read once");
    let map = read("docs/ARCHITECTURE.md");
    assert!(map.lines().count() < 200, "docs/ARCHITECTURE.md is to be read in ten minutes");
    for path in files("src", ".rs") {
        let path = Path::new(&path).strip_prefix("src").unwrap();
        let (folder, file) =
            (path.parent().unwrap().to_string_lossy(), path.file_name().unwrap().to_string_lossy());
        let whole = [
            "cli", "op", "engine", "journal", "locks", "sys", "control", "mailbox", "segment", "state",
            "daemon",
        ]
        .iter()
        .chain(&["supervisor", "history"])
        .any(|all| folder.starts_with(all));
        let named = if whole { format!("`{}/", folder.split('/').next().unwrap()) } else { file.to_string() };
        let known = ["lib.rs", "main.rs", "mod.rs"].contains(&&*file)
            || folder.contains("tests")
            || file == "tests.rs";
        assert!(known || map.contains(&named), "docs/ARCHITECTURE.md does not name {}", path.display());
    }
}

#[test]
fn every_suite_is_explained_and_every_explained_suite_is_there() {
    let readme = read("tests/README.md");
    for path in files("tests", ".rs") {
        let name = path.strip_prefix("tests/").unwrap();
        assert!(
            name.contains('/') || readme.contains(&format!("`{name}`")),
            "tests/README.md does not name {path}"
        );
    }
    for name in readme.split('`').filter(|word| word.ends_with(".rs") && !word.contains(' ')) {
        assert!(root().join("tests").join(name).exists(), "tests/README.md names {name}, which is not there");
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/ARCHITECTURE.md",
        "docs/FIGURES.md",
        "docs/HOSTS.md",
        "docs/INSTALL.md",
        "docs/METRICS.md",
        "docs/PERFORMANCE.md",
        "docs/SEMANTICS.md",
        "docs/TOOLS.md",
        "examples/README.md",
        "tests/README.md",
    ] {
        for link in
            read(document).split("](").skip(1).filter_map(|rest| rest.split(')').next().map(str::to_owned))
        {
            let target: PathBuf =
                root().join(document).parent().unwrap().join(link.split('#').next().unwrap());
            assert!(link.starts_with("http") || target.exists(), "{document}: {link} leads nowhere");
        }
    }
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // In two parts, so that this file does not break its own rule.
    let words = [
        concat!("/wo", "rk/"),
        concat!("crates", ".io"),
        concat!("py", "pi"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let texts = ["src", "tests", "docs", "scripts", "packaging", "benches", "fuzz/fuzz_targets"]
        .into_iter()
        .flat_map(|folder| files(folder, ""))
        // What cargo writes.
        .filter(|path| !path.ends_with("Cargo.lock"));
    for path in texts.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Cargo.toml"].map(String::from))
    {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for word in words {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
}

#[test]
fn the_reference_of_control_is_that_of_the_program() {
    let described: Vec<String> = ipcfs::control::reference()
        .iter()
        .map(|file| format!("| `{}{}` | {} |", file.folder, file.path, file.help))
        .collect();
    let text = read("docs/SEMANTICS.md");
    let (_, after) = text.split_once("| file below `control/` | what it is |\n|---|---|\n").unwrap();
    let rows: Vec<&str> = after.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows, described, "write:\n{}", described.join("\n"));
}
