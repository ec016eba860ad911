//! The list of tests that may fail, in `docs/SEMANTICS.md`: rows of a table, with the suite, names of tests, and the reason.

use std::collections::BTreeSet;
use std::path::Path;

/// Which tests of a suite passed, and which did not.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
}

/// The names of a suite's tests that may fail. `*` in them stands for any text.
fn listed(suite: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SEMANTICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| suite | tests | reason |\n|---|---|---|\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| "));
    let of_suite = rows.filter_map(|row| row.strip_prefix(suite)?.strip_prefix(" | "));
    let names = of_suite.filter_map(|row| row.split(" | ").next());
    names.flat_map(|names| names.split('`').skip(1).step_by(2)).map(String::from).collect()
}

/// True if a name of the list stands for this test.
fn stands_for(name: &str, test: &str) -> bool {
    let mut parts = name.split('*');
    let Some(mut rest) = test.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        last = Some(part);
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    match last {
        None => rest.is_empty(),
        Some(part) => test.ends_with(part),
    }
}

impl Outcome {
    /// Fails if a test failed here that neither is listed nor failed on tmpfs.
    pub(crate) fn check(&self, suite: &str, place: &str, on_tmpfs: &Outcome, said: &str) {
        let listed = listed(suite);
        let is_listed = |test: &&String| listed.iter().any(|name| stands_for(name, test));
        let new: Vec<&String> =
            self.failed.difference(&on_tmpfs.failed).filter(|test| !is_listed(test)).collect();
        assert!(new.is_empty(), "{suite}, {place}: these tests fail, and not on tmpfs: {new:#?}\n{said}");
    }

    /// Names in a suite's list that stand for no test that failed.
    pub(crate) fn without_use(&self, suite: &str) -> Vec<String> {
        let has_failed = |name: &String| self.failed.iter().any(|test| stands_for(name, test));
        listed(suite).into_iter().filter(|name| !has_failed(name)).collect()
    }
}

#[test]
fn names_in_the_list_stand_for_tests() {
    assert!(stands_for("a::b", "a::b") && !stands_for("a::b", "a::bc"));
    assert!(stands_for("*::fifo", "chmod::x::fifo") && !stands_for("*::fifo", "chmod::fifo::x"));
    assert!(stands_for("link::*::regular", "link::a::regular") && !stands_for("link::*", "unlink::a"));
    assert!(stands_for("*::eloop_*", "chmod::eloop_comp") && !stands_for("*::eloop_*", "chmod::comp"));
}

#[test]
fn the_list_has_tests_of_each_suite_that_it_is_for() {
    for suite in ["pjdfstest", "CPython"] {
        assert!(!listed(suite).is_empty(), "{suite}");
    }
    assert!(listed("no suite").is_empty());
}
