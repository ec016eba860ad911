//! `control/metrics`: a text that monitoring systems take, with the figures that `status` has, for the reader's eyes.

#![allow(clippy::float_cmp)] // whole numbers

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::create;
use crate::common::{self, Mount, USER, have, sh};

/// Most mailboxes with lines of their own.
const SHOWN: usize = 100;

/// Each line's value by its name with its label. Fails on what is not `OpenMetrics`, or not the older format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let (mut families, mut family) = (BTreeSet::new(), String::new());
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no mark of the end: {text}"));
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(kind == "HELP" || (kind == "TYPE" && ["gauge", "histogram"].contains(&rest)), "{line}");
            if name != family {
                assert!(families.insert(name.to_owned()), "{name} is in two places");
                name.clone_into(&mut family);
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let parts = ["", "_bucket", "_sum", "_count"];
        let known = parts.iter().any(|part| bare.strip_suffix(part) == Some(&family));
        assert!(known, "a value without its family: {line}");
        assert!(bare.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{line}");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(values.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    values
}

fn metrics(mount: &Mount) -> BTreeMap<String, f64> {
    parse(&fs::read_to_string(mount.path("control/metrics")).unwrap())
}

fn of_mailbox(name: &str, label: &str) -> String {
    format!("ipcfs_mailbox_{name}{{mailbox=\"{label}\"}}")
}

#[test]
fn figures_are_those_of_status() {
    let Some(mount) = common::mount() else { return };
    let dir = mount.dir().display().to_string();
    sh(&format!(
        "cd {dir} && mkdir mailboxes/team && echo one > mailboxes/team/a && echo two > mailboxes/team/a &&
         cat mailboxes/team/a && echo three > control/mailboxes/team/a/priority/9 && touch mailboxes/idle"
    ));
    let values = metrics(&mount);
    for key in ["depth", "bytes", "waiting_readers", "waiting_writers", "leased", "requests", "serving"] {
        let figure = mount.figure("mailboxes/team/a/status", key) as f64;
        assert_eq!(values[&of_mailbox(key, "team/a")], figure, "{key}");
        assert_eq!(values[&format!("ipcfs_mount_{key}")], figure, "{key}");
        assert_eq!(values[&of_mailbox(key, "idle")], 0.0, "{key}");
    }
    for key in
        ["sent", "received", "redelivered", "expired", "dropped", "dead_lettered", "removed", "replied"]
    {
        let figure = mount.figure("mailboxes/team/a/status", key) as f64;
        assert_eq!(values[&of_mailbox(&format!("{key}_total"), "team/a")], figure, "{key}");
        assert_eq!(values[&format!("ipcfs_mount_{key}_total")], figure, "{key}");
    }
    assert!(values[&of_mailbox("oldest_age_seconds", "team/a")] >= 0.0);
    assert!(!values.contains_key(&of_mailbox("oldest_age_seconds", "idle")), "it has no oldest message");
    assert_eq!(values["ipcfs_mount_mailboxes"], 2.0);
    // Counters never fall.
    fs::remove_file(mount.mailbox("team/a")).unwrap();
    let after = metrics(&mount);
    assert_eq!((after["ipcfs_mount_sent_total"], after["ipcfs_mount_received_total"]), (3.0, 1.0));
    assert_eq!((after["ipcfs_mount_depth"], after["ipcfs_mount_discarded_total"]), (0.0, 2.0));
    assert!(!after.contains_key(&of_mailbox("depth", "team/a")));
}

#[test]
fn waiting_times_are_a_histogram() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    mount.make_mailbox("idle", &[]);
    (0..3).for_each(|_| fs::write(&path, "message").unwrap());
    let before = metrics(&mount);
    assert!(!before.keys().any(|name| name.contains("waited")), "none was received");
    (0..2).for_each(|_| assert_eq!(fs::read(&path).unwrap(), b"message"));
    let values = metrics(&mount);
    let of = |part: &str| values[&of_mailbox(&format!("waited_seconds_{part}"), "box")];
    assert_eq!(of("count"), 2.0);
    assert!(of("sum") > 0.0);
    let buckets: Vec<f64> = ["0.0001", "0.0005", "1.0", "5.0", "10000.0", "+Inf"]
        .iter()
        .map(|bound| {
            values[&format!("ipcfs_mailbox_waited_seconds_bucket{{mailbox=\"box\",le=\"{bound}\"}}")]
        })
        .collect();
    assert!(buckets.is_sorted(), "each has those before it: {buckets:?}");
    assert_eq!(buckets.last(), Some(&2.0));
    assert!(!values.keys().any(|name| name.contains("waited") && name.contains("idle")));
}

#[test]
fn the_largest_have_lines_and_the_others_a_sum() {
    let Some(mount) = common::mount() else { return };
    for number in 1..=130_usize {
        let path = mount.make_mailbox(&format!("b{number}"), &[]);
        // As many messages as its number says, each of two bytes.
        let lines = "x\n".repeat(number);
        fs::write(mount.path(&format!("control/mailboxes/b{number}/stream")), lines).unwrap();
        assert!(path.exists());
    }
    mount.wait_for_figure("b130", "depth", 130);
    let values = metrics(&mount);
    let shown: Vec<&String> = values.keys().filter(|name| name.starts_with("ipcfs_mailbox_depth{")).collect();
    assert_eq!(shown.len(), SHOWN);
    let all: usize = (1..=130).sum();
    let others: usize = (1..=30).sum();
    assert!((31..=130).all(|number| values[&of_mailbox("depth", &format!("b{number}"))] == number as f64));
    assert_eq!(values["ipcfs_other_mailboxes"], 30.0);
    assert_eq!(values["ipcfs_other_mailboxes_depth"], others as f64);
    assert_eq!(values["ipcfs_other_mailboxes_bytes"], 2.0 * others as f64);
    assert_eq!(values["ipcfs_mount_depth"], all as f64);
}

#[test]
fn any_name_is_a_label_of_its_own_and_long_ones_are_summed() {
    let Some(mount) = common::mount() else { return };
    let odd: [&[u8]; 7] =
        [b"a\"b", b"a\\b", b"new\nline", b"\xff\xfe", b"\\xff\\xfe", b"{x=\"1\"} 5", b"\x1b[31m"];
    for name in odd {
        create(&mount.path("mailboxes").join(OsStr::from_bytes(name))).unwrap();
    }
    let values = metrics(&mount);
    assert_eq!(values.keys().filter(|name| name.starts_with("ipcfs_mailbox_depth{")).count(), odd.len());
    assert!(values.contains_key(&of_mailbox("depth", "a\\\"b")));

    // Names as long as they can be, of bytes that need most room: more than the text can have.
    let folder = mount.path("mailboxes").join(OsStr::from_bytes(&[1; 250]));
    fs::create_dir(&folder).unwrap();
    for number in 0..90_u8 {
        let mut name = vec![2; 250];
        name.push(b'0' + number);
        create(&folder.join(OsStr::from_bytes(&name))).unwrap();
    }
    let path = mount.path("control/metrics");
    let text = fs::read(&path).unwrap();
    assert!(text.len() as u64 <= fs::metadata(&path).unwrap().len(), "no longer than the file's size says");
    let values = parse(&String::from_utf8(text).unwrap());
    let shown = values.keys().filter(|name| name.starts_with("ipcfs_mailbox_depth{")).count();
    assert_eq!(shown as f64 + values["ipcfs_other_mailboxes"], 97.0);
}

#[test]
fn a_user_sees_what_the_users_rights_show() {
    let Some(mount) = common::mount_with(&["--allow-other"]) else { return };
    fs::set_permissions(mount.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let chmod = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for folder in ["open", "listable", "searchable"] {
        fs::create_dir(mount.mailbox(folder)).unwrap();
    }
    for (name, mode) in [
        ("none", 0o600),
        ("send", 0o622),
        ("receive", 0o644),
        ("open/in", 0o644),
        ("listable/in", 0o644),
        ("searchable/in", 0o644),
    ] {
        fs::write(mount.mailbox(name), name).unwrap();
        chmod(&mount.mailbox(name), mode);
    }
    chmod(&mount.mailbox("listable"), 0o744);
    chmod(&mount.mailbox("searchable"), 0o711);
    let path = mount.path("control/metrics").display().to_string();
    let read = |cat: &str| {
        let values = parse(&sh(&format!("{cat} {path}")));
        let shown: BTreeSet<String> = values
            .keys()
            .filter_map(|name| name.strip_prefix("ipcfs_mailbox_depth{mailbox=\"")?.strip_suffix("\"}"))
            .map(String::from)
            .collect();
        (shown, values["ipcfs_other_mailboxes"], values["ipcfs_mount_mailboxes"])
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups cat");
    assert_eq!(read(&user), (set(&["open/in", "receive", "send"]), 0.0, 6.0));
    let all = set(&["listable/in", "none", "open/in", "receive", "searchable/in", "send"]);
    assert_eq!(read("cat"), (all, 0.0, 6.0));
}

#[test]
fn a_request_of_http_is_answered_with_them() {
    let Some(mount) = common::mount() else { return };
    fs::write(mount.mailbox("box"), "waits").unwrap();
    let ask = |metrics: &str| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/metrics-http");
        let request = "printf 'GET /metrics HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n'";
        sh(&format!("{request} | METRICS={metrics} {} 2> /dev/null", program.display()))
    };
    let answer = ask(&mount.path("control/metrics").display().to_string());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\nContent-Type: application/openmetrics-text;"), "{head}");
    assert_eq!(parse(body)[&of_mailbox("depth", "box")], 1.0);
    assert!(ask("/nonexistent").starts_with("HTTP/1.0 503 "));
}

#[test]
fn promtool_finds_nothing_to_say() {
    if !have("promtool") {
        return;
    }
    let Some(mount) = common::mount() else { return };
    fs::write(mount.mailbox("box"), "waits").unwrap();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(fs::File::open(mount.path("control/metrics")).unwrap());
    let out = common::output(promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    assert!(out.status.success() && out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
}

#[test]
fn the_dashboard_and_the_document_name_metrics_that_exist() {
    let Some(mount) = common::mount() else { return };
    for text in ["is received", "waits"] {
        fs::write(mount.mailbox("box"), text).unwrap();
    }
    fs::read(mount.mailbox("box")).unwrap();
    let names: BTreeSet<String> =
        metrics(&mount).into_keys().map(|name| name.split('{').next().unwrap().to_owned()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["packaging/grafana/ipcfs.json", "docs/METRICS.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        if file.ends_with("json") {
            let dashboard: Value = serde_json::from_str(&text).unwrap();
            assert!(dashboard["panels"].as_array().unwrap().len() > 5);
        }
        let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let used: BTreeSet<&str> =
            words.filter(|word| word.starts_with("ipcfs_m") || word.starts_with("ipcfs_o")).collect();
        assert!(used.len() > 5, "{file}: {used:?}");
        for word in used {
            // The document names groups, too: `ipcfs_mailbox_…`, and histograms.
            let known = names.contains(word)
                || names.contains(&format!("{word}_bucket"))
                || (word.ends_with('_') && names.iter().any(|name| name.starts_with(word)));
            assert!(known, "{file} names {word}, which is not there");
        }
    }
}
