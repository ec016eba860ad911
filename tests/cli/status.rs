//! `ipcfs status`: tables for people, JSON for programs, and mounts that do not answer.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{self, state_of, transport, wait_for};
use crate::place::{Background, Outcome, Place, ipcfs, run, signal};

/// The lines of a table, each split into its columns.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// The line of the list of mounts that is this place's. The list has other tests' mounts in it.
fn line_of(place: &Place) -> Option<Vec<String>> {
    let outcome = ipcfs(["status"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let rows = rows(&outcome.stdout);
    let row = rows.into_iter().find(|row| row[0] == place.name())?;
    Some(row.into_iter().map(str::to_owned).collect())
}

fn json(words: &[&str]) -> (Outcome, Value) {
    let outcome = ipcfs(words);
    let value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome:?}"));
    (outcome, value)
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let list = list.as_array().unwrap();
    list.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name} in {list:?}"))
}

/// Mailboxes in folders and with odd names, messages in some, and segments.
fn fill(place: &Place) {
    place.sh("cd $DIR && mkdir -p mailboxes/team/deep segments/team && echo hello > mailboxes/jobs &&
        echo one > mailboxes/jobs && cat mailboxes/jobs > /dev/null && : > mailboxes/team/deep/empty &&
        echo x > 'mailboxes/two words' && chmod 0622 mailboxes/team/deep/empty &&
        truncate -s 1M segments/team/frame && printf 12345 > segments/small");
    for odd in [&b"new\nline"[..], b"not\xffutf8", b"esc\x1b[31m", b"back\\slash"] {
        fs::write(place.path("mailboxes").join(std::ffi::OsStr::from_bytes(odd)), "odd\n").unwrap();
    }
}

#[test]
fn the_list_has_a_line_for_each_mount() {
    let (Some(one), Some(two)) = (Place::new(), Place::new()) else { return };
    assert_eq!((line_of(&one), line_of(&two)), (None, None));
    one.mount(&[]);
    two.mount(&[]);
    one.sh("echo hi > $DIR/mailboxes/a; echo hi > $DIR/mailboxes/a; : > $DIR/mailboxes/b");
    let version = env!("CARGO_PKG_VERSION");
    let line = line_of(&one).unwrap();
    assert_eq!(line[1..6], ["live", version, transport().as_str(), "2", "2"]);
    assert_eq!(line_of(&two).unwrap()[1..6], ["live", version, transport().as_str(), "0", "0"]);
    one.sh("$IPCFS umount $DIR");
    assert_eq!(line_of(&one), None);
    assert!(line_of(&two).is_some());
}

#[test]
fn where_nothing_is_mounted_it_says_so() {
    let Some(place) = Place::alone() else { return };
    // A namespace of mounts without any of ours.
    let script = "grep ' fuse[. ].* ipcfs ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r dir; do umount -l $dir; done
        $IPCFS status && $IPCFS status --json";
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("IPCFS", common::ipcfs().get_program());
    assert_eq!(run(&mut command).stdout, "no ipcfs mounts\n[]\n");
    let what = format!("{} is not an ipcfs mount: nothing is mounted there", place.name());
    place.ipcfs(&["status"]).failed(&what, &["ipcfs status"]);
}

#[test]
fn a_mounts_table_has_every_mailbox_and_segment_whatever_its_name() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--memory", "8M", "--segment-memory", "16M"]);
    fill(&place);
    let reader = Background::start(&mut place.script("exec cat $DIR/mailboxes/team/deep/empty"));
    wait_for("the reader to wait", || {
        let status = fs::read_to_string(place.path("control/mailboxes/team/deep/empty/status")).unwrap();
        status.contains("waiting_readers 1\n")
    });

    let outcome = place.ipcfs(&["status"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let table = &outcome.stdout;
    // `depth bytes readers writers sent received owner mode` behind each name.
    for line in [
        "jobs 1 4 0 0 2 1 root 0644",
        "two words 1 2 0 0 1 0 root 0644",
        "team/deep/empty 0 0 1 0 0 0 root 0622",
        "new\\nline 1 4 0 0 1 0 root 0644",
        "not\\xffutf8 1 4 0 0 1 0 root 0644",
        "esc\\x1b[31m 1 4 0 0 1 0 root 0644",
        "back\\\\slash 1 4 0 0 1 0 root 0644",
    ] {
        assert!(rows(table).iter().any(|row| row.join(" ") == line), "no {line:?} in\n{table}");
    }
    let rows = rows(table);
    assert!(rows.contains(&vec!["team/frame", "1M", "0", "root", "0644"]), "{table}");
    assert!(rows.contains(&vec!["small", "5", "4K", "root", "0644"]), "{table}");
    assert!(
        rows[1].starts_with(&[place.name(), "live", env!("CARGO_PKG_VERSION"), &transport(), "7", "6"]),
        "{table}"
    );
    let memory = table.lines().nth(2).unwrap();
    assert!(
        memory.starts_with("memory ") && memory.contains(" of 8M for messages, 1M of 16M for segments ("),
        "{memory}"
    );
    assert!(
        table.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()),
        "safe for a terminal: {table:?}"
    );

    place.sh("echo bye > $DIR/mailboxes/team/deep/empty");
    assert_eq!(reader.finish().stdout, "bye\n");
}

#[test]
fn an_empty_mounts_table_says_that_there_is_nothing() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    let outcome = place.ipcfs(&["status"]);
    assert!(
        outcome.stdout.contains("\nno mailboxes\n") && outcome.stdout.ends_with("\nno segments\n"),
        "{outcome:?}"
    );
}

#[test]
fn json_has_the_numbers_of_a_mount() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--memory", "8M", "--segment-memory", "16M", "--segments", "cached", "--threads", "3"]);
    fill(&place);
    let (outcome, whole) = json(&["status", "--json", place.name()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    for (key, value) in [
        ("dir", Value::from(place.name())),
        ("state", "live".into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("pid", place.daemon().into()),
        ("transport", transport().into()),
        ("segment_path", "cached".into()),
        ("threads", 3.into()),
        ("mailboxes", 7.into()),
        ("segments", 2.into()),
        ("folders", 3.into()),
        ("messages", 6.into()),
        ("bytes", 22.into()),
        ("sent", 7.into()),
        ("received", 1.into()),
        ("memory_max", (8 << 20).into()),
        ("segment_max", (16 << 20).into()),
        ("segment_used", ((1 << 20) + 4096).into()),
        ("unreadable", 0.into()),
    ] {
        assert_eq!(whole[key], value, "{key} in {whole:#}");
    }
    assert!(whole["uptime"].is_number(), "{whole:#}");
    let mailboxes = &whole["mailbox_list"];
    assert_eq!(mailboxes.as_array().unwrap().len(), 7);
    let jobs = named(mailboxes, "jobs");
    for (key, value) in [("depth", 1), ("bytes", 4), ("sent", 2), ("received", 1), ("dropped", 0), ("uid", 0)]
    {
        assert_eq!(jobs[key], value, "{key} in {jobs:#}");
    }
    assert_eq!((&jobs["owner"], &jobs["mode"]), (&"root".into(), &"0644".into()));
    // Names are themselves where JSON can say them.
    for name in ["two words", "new\nline", "esc\x1b[31m", "back\\slash", "team/deep/empty"] {
        assert!(named(mailboxes, name)["depth"].is_number());
    }
    let mut others = mailboxes.as_array().unwrap().iter().filter(|mailbox| mailbox.get("name").is_none());
    assert_eq!(others.next().unwrap()["name_base64"], "bm90/3V0Zjg=", "the bytes not\\xffutf8");
    let frame = named(&whole["segment_list"], "team/frame");
    assert_eq!((&frame["size"], &frame["resident"]), (&(1 << 20).into(), &0.into()));

    let (_, list) = json(&["status", "--json"]);
    let line = list.as_array().unwrap().iter().find(|line| line["dir"] == place.name()).unwrap().clone();
    assert_eq!((&line["state"], &line["messages"], &line["pid"]), (&"live".into(), &6.into(), &whole["pid"]));
}

#[test]
fn a_dead_mount_is_shown_as_dead() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.kill_daemon();
    assert_eq!(line_of(&place).unwrap()[1..], ["dead", "-", "-", "-", "-", "-"]);
    let outcome = place.ipcfs(&["status"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(rows(&outcome.stdout)[1][..2], [place.name(), "dead"]);
    outcome.said(&format!("cannot access {}: its daemon has exited", place.name()), &["ipcfs umount"]);

    let (outcome, whole) = json(&["status", "--json", place.name()]);
    assert_eq!((outcome.code, &whole["state"], &whole["pid"]), (Some(1), &"dead".into(), &Value::Null));
    assert_eq!(whole["mailbox_list"], Value::Array(Vec::new()));
}

#[test]
fn a_stopped_daemon_does_not_hang_status() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("echo hi > $DIR/mailboxes/a");
    let daemon = place.daemon();
    signal(daemon, Signal::STOP);
    wait_for("the daemon to stop", || state_of(daemon) == Some('T'));

    assert_eq!(line_of(&place).unwrap()[1..], ["silent", "-", "-", "-", "-", "-"]);
    let outcome = place.ipcfs(&["status"]);
    assert_eq!(outcome.code, Some(1));
    outcome.said(
        &format!("the daemon of {} runs but does not respond", place.name()),
        &["kill -CONT", "--lazy"],
    );
    // A name within it cannot be asked about without asking it.
    assert_eq!(ipcfs(["status".as_ref(), place.path("mailboxes").as_os_str()]).code, Some(1));

    signal(daemon, Signal::CONT);
    assert_eq!(line_of(&place).unwrap()[1], "live");
    assert_eq!(place.sh("cat $DIR/mailboxes/a"), "hi\n");
}

#[test]
fn status_of_a_mount_in_use_changes_nothing_in_it() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    fill(&place);
    let file = File::open(place.path("segments/small")).unwrap();
    let before = place.ipcfs(&["status"]).stdout;
    let after = place.ipcfs(&["status"]).stdout;
    let without_uptime = |table: &str| table.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_uptime(&before), without_uptime(&after));
    drop(file);
    assert_eq!(place.sh("cat $DIR/mailboxes/jobs"), "one\n");
}

#[test]
fn one_mailbox_topic_or_segment_is_shown_by_its_path() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("cd $DIR && mkdir mailboxes/team && echo 1 > mailboxes/team/box && touch topics/news && echo 12345 > segments/frame");
    for (path, line) in
        [("mailboxes/team/box", "depth 1"), ("topics/news", "unheard 0"), ("segments/frame", "size 6")]
    {
        let outcome = ipcfs(["status".as_ref(), place.path(path).as_os_str()]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        let file = fs::read_to_string(place.path("control").join(path).join("status")).unwrap();
        // Only the age of the oldest message changes by itself.
        let lasting = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("oldest_age ")).map(str::to_owned).collect()
        };
        assert_eq!(lasting(&outcome.stdout), lasting(&file));
        assert!(outcome.stdout.lines().any(|shown| shown == line), "{line} is missing in {outcome:?}");
    }
    let json = place.sh("cd $DIR && $IPCFS status --json mailboxes/team/box");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["depth"], 1);
    for path in ["mailboxes/team", "mailboxes/none"] {
        let path = place.path(path).display().to_string();
        ipcfs(["status", &path])
            .failed(&format!("cannot see the status of {path}: No such file"), &["ipcfs status"]);
    }
}

#[test]
fn watching_shows_what_changes_until_the_reader_leaves() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    place.sh("echo 1 > $DIR/mailboxes/box");
    let mut command = common::ipcfs();
    command.args(["status", "--watch=1"]).arg(place.dir()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let depth =
        |line: &String| line.starts_with("box ").then(|| line.split_whitespace().nth(1).unwrap().to_owned());
    assert_eq!(lines.find_map(|line| depth(&line)).unwrap(), "1");
    place.sh("echo 2 > $DIR/mailboxes/box");
    assert!(lines.by_ref().filter_map(|line| depth(&line)).any(|depth| depth == "2"));
    drop(lines);
    let outcome = Outcome::from(common::output(child));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let dead = common::ipcfs().args(["status", "--watch=0"]).output().unwrap();
    assert_eq!(dead.status.code(), Some(2));
}
