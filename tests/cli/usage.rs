//! Help, wrong usage, and what `doctor` says.

use std::path::Path;
use std::process::Stdio;

use crate::common;
use crate::place::{Outcome, Place, ipcfs, run};

/// Options of `mount` with a bad value each, and what the refusal has to name besides the value: bounds and unit.
const BAD: [(&str, &str, &[&str]); 28] = [
    ("--msgsize", "0", &["0 bytes", "1 to 1020K bytes"]),
    ("--msgsize", "1044481", &["1044481 bytes", "1 to 1020K bytes"]),
    ("--msgsize", "-1", &["1 to 1020K bytes"]),
    ("--msgsize", "1.5K", &["1 to 1020K bytes"]),
    ("--msgsize", "max", &["1 to 1020K bytes"]),
    ("--msgsize", "1Q", &["1 to 1020K bytes", "K, M, G and T"]),
    ("--maxmsg", "0", &["a whole number", "1 or more", "max for no limit"]),
    ("--maxmsg", "1K", &["a whole number", "1 or more", "max for no limit"]),
    ("--maxmsg", "18446744073709551615", &["1 or more", "max for no limit"]),
    ("--maxbytes", "0", &["0 bytes", "1 or more bytes", "max for no limit"]),
    ("--maxbytes", "lots", &["1 or more bytes", "max for no limit"]),
    ("--memory", "2097151", &["2097151 bytes", "2M to 1024T bytes"]),
    ("--memory", "1025T", &["1126999418470400 bytes", "2M to 1024T bytes"]),
    ("--memory", "99999999999999999999", &["2M to 1024T bytes"]),
    ("--memory", "max", &["2M to 1024T bytes"]),
    ("--segment-memory", "4095", &["4095 bytes", "4K to 1024T bytes"]),
    ("--segment-memory", "1125899906842625", &["1125899906842625 bytes", "4K to 1024T bytes"]),
    ("--segment-memory", "", &["4K to 1024T bytes"]),
    ("--max-files", "0", &["a whole number", "1 to 4294967295"]),
    ("--max-files", "4294967296", &["4294967296", "1 to 4294967295"]),
    ("--max-files", "1M", &["a whole number", "1 to 4294967295"]),
    ("--threads", "0", &["a whole number", "1 to 64"]),
    ("--threads", "65", &["65", "1 to 64"]),
    ("--threads", "-3", &["a whole number", "1 to 64"]),
    ("--threads", "two", &["a whole number", "1 to 64"]),
    ("--segments", "fast", &["auto", "passthrough", "cached"]),
    ("--segments", "", &["auto", "passthrough", "cached"]),
    ("--log", "", &["<FILE>"]),
];

/// Wrong usage: exit code 2, nothing on standard output, and where help is.
fn refused(words: &[&str], says: &[&str]) {
    let outcome = ipcfs(words);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{words:?}: {outcome:?}");
    for said in says.iter().chain(&["--help"]) {
        assert!(outcome.stderr.contains(said), "{words:?}: {:?} does not say {said:?}", outcome.stderr);
    }
}

/// What `words` print on standard output, with exit code 0.
fn printed(words: &[&str]) -> String {
    let outcome = ipcfs(words);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{words:?}");
    outcome.stdout
}

#[test]
fn help_names_every_subcommand() {
    let help = printed(&["--help"]);
    for subcommand in ["mount", "umount", "status", "send", "recv", "config", "doctor"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{subcommand} "))), "{help}");
    }
    assert_eq!(printed(&["-h"]), help);
    assert_eq!(printed(&["help"]), help);
}

#[test]
fn each_subcommand_has_help_with_its_options() {
    let mount: Vec<&str> = BAD
        .iter()
        .map(|(option, ..)| *option)
        .chain(["--foreground", "--allow-other", "--noexec", "--source", "-o <OPTIONS>"])
        .collect();
    let cases: [(&str, &[&str]); 7] = [
        ("mount", &mount),
        ("umount", &["<DIR>", "-l, --lazy", "-f, --force", "--if-empty"]),
        ("status", &["[DIR]", "--json", "--watch"]),
        ("send", &["<PATH>", "[TEXTS]...", "--timeout", "--priority", "--tag"]),
        ("recv", &["<PATH>", "--timeout", "--count", "--tag", "--json"]),
        ("config", &["<DIR>", "[NAME]", "[KEY=VALUE]..."]),
        ("doctor", &["Usage: ipcfs doctor"]),
    ];
    for (subcommand, options) in cases {
        let help = printed(&[subcommand, "--help"]);
        assert!(help.contains(&format!("Usage: ipcfs {subcommand}")), "{help}");
        for option in options {
            assert!(help.contains(option), "{option} is missing in {help}");
        }
        assert_eq!(printed(&["help", subcommand]), help);
    }
}

#[test]
fn help_tells_the_bounds_of_every_number() {
    let help = printed(&["mount", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for (option, bounds) in [
        ("--msgsize <SIZE>", "1 to 1020K"),
        ("--maxmsg <N>", "1 or more, or max"),
        ("--maxbytes <SIZE>", "1 or more, or max"),
        ("--memory <SIZE>", "2M or more"),
        ("--segment-memory <SIZE>", "4K or more"),
        ("--max-files <N>", "1 or more"),
        ("--threads <N>", "1 to 64"),
    ] {
        let about = help.split_once(option).unwrap_or_else(|| panic!("no {option} in {help}")).1;
        let about = about.split(" --").next().unwrap();
        assert!(about.contains(bounds) && about.contains("[default: "), "{option}: {about}");
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(printed(&["--version"]), format!("ipcfs {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn unknown_words_and_missing_ones_are_wrong_usage() {
    refused(&["moutn"], &["'moutn'", "mount"]);
    refused(&["mount"], &["<DIR>"]);
    refused(&["umount"], &["<DIR>"]);
    refused(&["mount", "a", "b"], &["'b'"]);
    refused(&["umount", "a", "b"], &["'b'"]);
    refused(&["doctor", "all"], &["'all'"]);
    refused(&["mount", "--frobnicate", "a"], &["--frobnicate"]);
    refused(&["umount", "--forced", "a"], &["--force"]);
    refused(&["status", "--jso"], &["--jso"]);
    refused(&["mount", "--lazy", "a"], &["--lazy"]);
    refused(&["mount", "--threads", "1", "--threads", "2", "a"], &["--threads"]);
    refused(&["mount", ""], &["<DIR>"]);
    let outcome = ipcfs([""; 0]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    assert!(outcome.stderr.contains("Usage: ipcfs <COMMAND>"), "{outcome:?}");
}

#[test]
fn values_out_of_bounds_are_refused_with_value_bounds_and_unit() {
    for (option, value, says) in BAD {
        let given = format!("{option}={value}");
        let mut says = says.to_vec();
        says.push(option);
        if !value.is_empty() {
            says.push(value);
        }
        // A directory that cannot be mounted on: were the value taken, the exit code would be 1.
        refused(&["mount", &given, "/nonexistent"], &says);
    }
}

#[test]
fn values_on_the_bounds_are_taken() {
    for given in [
        "--msgsize=1",
        "--msgsize=1044480",
        "--msgsize=1020KiB",
        "--maxmsg=1",
        "--maxmsg=max",
        "--maxmsg=18446744073709551614",
        "--maxbytes=1",
        "--maxbytes=max",
        "--memory=2097152",
        "--memory=1024T",
        "--segment-memory=4096",
        "--segment-memory=1024TB",
        "--max-files=1",
        "--max-files=4294967295",
        "--threads=1",
        "--threads=64",
        "--segments=cached",
        "--transport=dev",
    ] {
        let outcome = ipcfs(["mount", given, "/nonexistent/dir"]);
        outcome.failed("cannot mount on /nonexistent/dir: no such directory", &["mkdir -p /nonexistent/dir"]);
    }
}

#[test]
fn the_variable_for_the_transport_is_named_if_it_is_wrong_and_nothing_if_it_is_empty() {
    let Some(place) = Place::new() else { return };
    let mount =
        |value: &str| run(common::ipcfs().arg("mount").arg(place.dir()).env("IPCFS_TRANSPORT", value));
    let what = format!("cannot mount on {}: the environment variable IPCFS_TRANSPORT is foo,", place.name());
    mount("foo").failed(&what, &["set it to auto, dev or uring"]);
    place.assert_nothing_left();
    let outcome = mount("");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn doctor_names_every_check_and_finds_this_machine_fit() {
    if !common::fuse_is_here() {
        return;
    }
    let report = printed(&["doctor"]);
    for check in [
        "kernel",
        "/dev/fuse",
        "fusermount3",
        "allow_other",
        "passthrough",
        "io_uring",
        "longest message",
        "request timeout",
        "open files",
        "memory",
        "threads",
        "mounts",
    ] {
        let line = report.lines().find(|line| line.get(9..).is_some_and(|rest| rest.starts_with(check)));
        let line = line.unwrap_or_else(|| panic!("no {check} in {report}"));
        let verdict = line.split(' ').next().unwrap();
        assert!(["ok", "off", "missing", "warning"].contains(&verdict), "{line}");
    }
    let allow_other = report.lines().find(|line| line.contains(" allow_other ")).unwrap();
    assert!(allow_other.starts_with("ok "), "root needs no leave: {allow_other}");
    // Whatever is not as it could be comes with the command that makes it so.
    let lines: Vec<&str> = report.lines().collect();
    for (line, next) in lines.iter().zip(&lines[1..]).filter(|(line, _)| line.starts_with("off")) {
        assert!(next.trim_start().starts_with("fix: "), "{line}\n{next}");
    }
    assert!(report.ends_with("This user can mount ipcfs here.\n"), "{report}");
}

#[test]
fn doctor_warns_of_a_mount_where_indexers_look() {
    let Some(mount) = common::mount() else { return };
    let report = |home: &Path| {
        let out = common::ipcfs().arg("doctor").env("HOME", home).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let warning = format!("warning  mounts            {} is below a home folder", mount.dir().display());
    let told = report(mount.dir().parent().unwrap());
    assert!(told.contains(&warning), "{told}");
    let told = report(Path::new("/var/empty"));
    assert!(!told.contains(&warning), "{told}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    if !common::fuse_is_here() {
        return;
    }
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let child = common::ipcfs().arg("doctor").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let outcome = Outcome::from(common::output(child));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}
