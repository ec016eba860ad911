//! pjdfstest: what POSIX says of names, modes, owners and times.

use std::path::Path;
use std::process::Command;

use crate::common::have;
use crate::expected::Outcome;
use crate::suite::{PATHS, on_tmpfs, place, run};

/// Users and groups that every system has, and features of Linux.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
[dummy_auth]
entries = [["daemon", "daemon"], ["bin", "bin"], ["mail", "mail"]]
"#;

fn outcome(config: &Path, folder: &Path) -> (Outcome, String) {
    let mut command = Command::new("pjdfstest");
    command.arg("-c").arg(config).arg("-p").arg(folder).env("RUST_BACKTRACE", "0").env("NO_COLOR", "1");
    let (_, said) = run(&mut command);
    let mut outcome = Outcome::default();
    for line in said.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [test, "ok"] => drop(outcome.passed.insert(test.to_owned())),
            [test, "FAILED"] => drop(outcome.failed.insert(test.to_owned())),
            _ => {}
        }
    }
    assert!(said.contains("Summary: ") && outcome.passed.len() > 100, "{said}");
    (outcome, said)
}

#[test]
fn names_modes_owners_and_times_are_those_of_posix() {
    if !have("pjdfstest") {
        return;
    }
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), CONFIG).unwrap();
    let plain = on_tmpfs();
    let (on_tmpfs, _) = outcome(config.path(), plain.path());
    let mut all = Outcome::default();
    for path in PATHS {
        let Some(place) = place(path) else { return };
        let (here, said) = outcome(config.path(), &place.folder);
        here.check("pjdfstest", path, &on_tmpfs, &said);
        place.clean();
        all.failed.extend(here.failed);
    }
    // Everybody has this version, so that nothing else is listed.
    assert_eq!(
        all.without_use("pjdfstest"),
        Vec::<String>::new(),
        "docs/SEMANTICS.md lists what does not fail"
    );
}
