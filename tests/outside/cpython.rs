//! Python's own tests, with their temporary folder in `segments/`, and those of `multiprocessing` with `/dev/shm` there, too.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{have, skip};
use crate::expected::Outcome;
use crate::suite::{PATHS, is_full, on_tmpfs, place, run};

/// What depends on the data path: contents, mappings, locks, databases.
const CONTENTS: [&str; 8] = [
    "test_mmap",
    "test_fcntl",
    "test_fileio",
    "test_bufio",
    "test_mailbox",
    "test_sqlite",
    "test_sqlite3",
    "test_dbm",
];

/// What does not: names and attributes.
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

/// What takes minutes, or gigabytes.
const LONG: [&str; 7] = [
    "test_largefile",
    "test_zipfile",
    "test_io",
    "test_gzip",
    "test_compileall",
    "test_dbm_dumb",
    "test_dbm_sqlite3",
];

/// Those of `test_tarfile` that repeat others with compression.
const REPEATED: [&str; 4] = ["*Gzip*", "*Bz2*", "*LZMA*", "*Lzma*"];

/// Those of `multiprocessing` that have memory or a semaphore in `/dev/shm`, and no socket.
const SHARED: [&str; 9] = [
    "*ProcessesTestArray*",
    "*ProcessesTestBarrier*",
    "*ProcessesTestCondition*",
    "*ProcessesTestHeap*",
    "*ProcessesTestLock*",
    "*ProcessesTestSemaphore*",
    "*ProcessesTestSharedCTypes*",
    "*ProcessesTestSharedMemory*",
    "*ProcessesTestValue*",
];

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
        skip("Python's own tests are not installed");
    }
    found
}

/// Those of the files of tests that this version of Python has.
fn known(python: &str, tests: &[&str]) -> Vec<String> {
    let script = "import importlib.util, sys\nprint(*(t for t in sys.argv[1:] if importlib.util.find_spec('test.' + t)))";
    let (code, said) = run(Command::new(python).args(["-c", script]).args(tests));
    assert_eq!(code, Some(0), "{said}");
    said.split_whitespace().map(String::from).collect()
}

/// Python's own tests in a folder, without their names.
fn tests_in(python: &str, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "test", "-u", "largefile", "--tempdir"]).arg(folder);
    command.env("TMPDIR", folder).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder);
    command
}

/// Runs a file of tests.
fn outcome(mut command: Command, test: &str) -> (Outcome, String) {
    let report = tempfile::NamedTempFile::new().unwrap();
    command.arg("--junit-xml").arg(report.path()).arg(test);
    let (code, said) = run(&mut command);
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

/// Runs a file of tests on a mount of its own, and on tmpfs what fails there.
fn check(test: &str, path: &'static str, command: impl Fn(&Path) -> Command) -> Option<Outcome> {
    let place = place(path)?;
    let (here, said) = outcome(command(&place.folder), test);
    let plain =
        if here.failed.is_empty() { Outcome::default() } else { outcome(command(on_tmpfs().path()), test).0 };
    here.check("CPython", path, &plain, &said);
    place.clean();
    Some(here)
}

/// Runs files of tests.
fn check_all(python: &str, tests: &[&str], path: &'static str) {
    for test in known(python, tests) {
        check(&test, path, |folder| {
            let mut command = tests_in(python, folder);
            if !is_full() {
                command.args(REPEATED.iter().flat_map(|name| ["-i", name]));
            }
            command
        });
    }
}

#[test]
fn pythons_own_tests_of_contents_pass_in_both_data_paths() {
    let Some(python) = python() else { return };
    for path in PATHS {
        check_all(python, &CONTENTS, path);
    }
}

#[test]
fn pythons_own_tests_of_names_pass() {
    let Some(python) = python() else { return };
    check_all(python, &NAMES, "passthrough");
    if is_full() {
        check_all(python, &LONG, "passthrough");
    }
}

#[test]
fn pythons_memory_and_semaphores_pass_their_own_tests_on_segments() {
    let Some(python) = python().filter(|_| have("unshare")) else { return };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside/python");
    let starts: &[&str] = if is_full() { &["fork", "spawn", "forkserver"] } else { &["fork"] };
    for (path, start) in PATHS.into_iter().flat_map(|path| starts.iter().map(move |start| (path, start))) {
        let command = |folder: &Path| {
            let mut command = Command::new("unshare");
            let bind = "mount --bind \"$0\" /dev/shm && exec \"$@\"";
            // What others unmount does not stay mounted here.
            command.args(["--mount", "--propagation=slave", "sh", "-c", bind]).arg(folder).arg(python);
            // Their other files are elsewhere: what listens needs sockets.
            command.args(["-m", "test", "--testdir"]).arg(&scripts);
            if !is_full() {
                command.args(SHARED.iter().flat_map(|name| ["-m", name]));
            }
            command.env("START", start).env("PYTHONPATH", &scripts).env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        let Some(outcome) = check("test_shared", path, command) else { return };
        assert!(outcome.passed.len() > 30, "{outcome:?}");
    }
}
