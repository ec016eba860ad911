//! Python's own tests, with their temporary folder in `segments/`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::expected::Outcome;
use crate::suite::{PATHS, is_full, on_tmpfs, passes, place, places, run};

/// What depends on the data path.
const CONTENTS: [&str; 9] = [
    "test_mmap",
    "test_fcntl",
    "test_fileio",
    "test_largefile",
    "test_bufio",
    "test_mailbox",
    "test_sqlite",
    "test_sqlite3",
    "test_dbm",
];

/// What does not.
const NAMES: [&str; 13] = [
    "test_tempfile",
    "test_shutil",
    "test_posix",
    "test_posixpath",
    "test_os",
    "test_pathlib",
    "test_glob",
    "test_file",
    "test_fileinput",
    "test_filecmp",
    "test_genericpath",
    "test_tarfile",
    "test_shelve",
];

/// What takes minutes.
const LONG: [&str; 6] =
    ["test_zipfile", "test_io", "test_gzip", "test_compileall", "test_dbm_dumb", "test_dbm_sqlite3"];

/// Those of `test_tarfile` that repeat others with compression.
const REPEATED: [&str; 4] = ["*Gzip*", "*Bz2*", "*LZMA*", "*Lzma*"];

/// A Python that has its own tests with it, which distributions pack apart (`libpython3.*-testsuite`).
fn python() -> Option<&'static str> {
    let has_tests = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import test.test_mmap, test._test_multiprocessing"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_tests);
    if found.is_none() {
        assert!(
            std::env::var_os("REQUIRE_TOOLS").is_none(),
            "REQUIRE_TOOLS is set, but Python's tests are missing"
        );
        eprintln!("SKIP: Python's own tests are not installed");
    }
    found
}

/// Those of the files of tests that this version of Python has.
fn known(python: &str, tests: &[&str]) -> Vec<String> {
    let script = "import importlib.util, sys\nprint(*(t for t in sys.argv[1:] if importlib.util.find_spec('test.' + t)))";
    let said = passes("which tests there are", Command::new(python).args(["-c", script]).args(tests));
    said.split_whitespace().map(String::from).collect()
}

/// Runs a file of tests.
fn outcome(python: &str, test: &str, folder: &Path) -> (Outcome, String) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(python);
    command.args(["-m", "test", "-u", "largefile", "--tempdir"]).arg(folder);
    command.arg("--junit-xml").arg(report.path()).arg(test);
    if !is_full() {
        command.args(REPEATED.iter().flat_map(|name| ["-i", name]));
    }
    let (code, said) = run(command.env("TMPDIR", folder).current_dir(folder));
    let mut outcome = Outcome::default();
    // One element a test, in which that of a failure is.
    for case in std::fs::read_to_string(report.path()).unwrap().split("<testcase ").skip(1) {
        let name = case.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let failed = case.contains("<failure") || case.contains("<error");
        let set = if failed { &mut outcome.failed } else { &mut outcome.passed };
        set.insert(name.to_owned());
    }
    if code != Some(0) && outcome.failed.is_empty() {
        // It failed as a whole.
        outcome.failed.insert(test.to_owned());
    }
    (outcome, said)
}

/// Runs files of tests, each on a mount of its own.
fn check(python: &str, tests: &[&str], path: &'static str) {
    for test in known(python, tests) {
        let Some(place) = place(path) else { return };
        let (here, said) = outcome(python, &test, &place.folder);
        let plain = if here.failed.is_empty() {
            Outcome::default()
        } else {
            outcome(python, &test, on_tmpfs().path()).0
        };
        here.check("CPython", path, &plain, &said);
        place.clean();
    }
}

#[test]
fn pythons_own_tests_of_contents_pass_in_both_data_paths() {
    let Some(python) = python() else { return };
    for path in PATHS {
        check(python, &CONTENTS, path);
    }
}

#[test]
fn pythons_own_tests_of_names_pass() {
    let Some(python) = python() else { return };
    check(python, &NAMES, "passthrough");
    if is_full() {
        check(python, &LONG, "passthrough");
    }
}

#[test]
fn pythons_shared_memory_passes_its_own_tests_on_segments() {
    let Some(python) = python() else { return };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside");
    for place in places() {
        let mut command = Command::new(python);
        command.arg(scripts.join("shared_memory.py")).args(["-v", "-k", "SharedMemory"]);
        command.env("SHM_FOLDER", &place.folder).env("PYTHONPATH", &scripts);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let said = passes(place.path, &mut command);
        assert!(!said.contains("Ran 0 tests"), "{said}");
        place.assert_clean();
    }
}
