//! `ipcfs send`, `ipcfs recv` and `ipcfs config`, as scripts use them.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::common::{self, wait_for};
use crate::place::{Background, Outcome, Place, run};

/// A mount with a mailbox.
fn place() -> Option<(Place, String)> {
    let place = Place::new()?;
    place.mount(&[]);
    place.sh("touch $DIR/mailboxes/box");
    let mailbox = place.path("mailboxes/box").display().to_string();
    Some((place, mailbox))
}

/// `ipcfs SUBCOMMAND PATH WORDS`
fn ipcfs(subcommand: &str, path: &str, words: &[&str]) -> Outcome {
    run(common::ipcfs().arg(subcommand).arg(path).args(words))
}

/// What a command prints that succeeds and complains of nothing.
#[track_caller]
fn printed(subcommand: &str, path: &str, words: &[&str]) -> String {
    let outcome = ipcfs(subcommand, path, words);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{words:?}");
    outcome.stdout
}

/// The exit code of one whose time was over, which says nothing.
#[track_caller]
fn timed_out(outcome: &Outcome) {
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(3), "", ""));
}

#[test]
fn each_text_is_a_message_and_so_is_standard_input() {
    let Some((place, mailbox)) = place() else { return };
    printed("send", &mailbox, &["one", "two words", "--", "-three"]);
    assert_eq!(printed("recv", &mailbox, &[]), "one");
    assert_eq!(printed("recv", &mailbox, &["--count", "2"]), "two words-three");
    let mut send = common::ipcfs();
    let mut child = send.args(["send", &mailbox]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"line 1\nline 2\n").unwrap();
    assert!(common::reap(&mut child).success());
    assert_eq!(place.sh("head -n 1 $DIR/control/mailboxes/box/status"), "depth 1\n");
    assert_eq!(printed("recv", &mailbox, &["--timeout=0"]), "line 1\nline 2\n");
}

#[test]
fn time_limits_have_an_exit_code_and_lose_nothing() {
    let Some((place, mailbox)) = place() else { return };
    for timeout in ["0", "0.05", "50ms"] {
        timed_out(&ipcfs("recv", &mailbox, &["--timeout", timeout]));
    }
    place.sh("echo 1 > $DIR/control/mailboxes/box/config/maxmsg");
    printed("send", &mailbox, &["--timeout=0", "first"]);
    for timeout in ["0", "50ms"] {
        timed_out(&ipcfs("send", &mailbox, &["--timeout", timeout, "second"]));
    }
    // One that waits is served as soon as there is room, and the other way round.
    let sender = Background::start(common::ipcfs().args(["send", &mailbox, "--timeout=1m", "second"]));
    assert_eq!(printed("recv", &mailbox, &["--timeout=1m"]), "first");
    assert_eq!(printed("recv", &mailbox, &["--timeout=1m"]), "second");
    assert_eq!(sender.finish().code, Some(0));
    let receiver = Background::start(common::ipcfs().args(["recv", &mailbox, "--timeout=1m", "--count=2"]));
    printed("send", &mailbox, &["--timeout=1m", "third", "fourth"]);
    let received = receiver.finish();
    assert_eq!((received.code, received.stdout.as_str()), (Some(0), "thirdfourth"));
    timed_out(&ipcfs("recv", &mailbox, &["--timeout=0"]));
}

#[test]
fn without_a_limit_it_waits_like_cat() {
    let Some((place, mailbox)) = place() else { return };
    let receiver = Background::start(common::ipcfs().args(["recv", &mailbox]));
    wait_for("the receiver to wait", || {
        let status = fs::read_to_string(place.path("control/mailboxes/box/status")).unwrap();
        status.contains("waiting_readers 1\n")
    });
    printed("send", &mailbox, &["at last"]);
    assert_eq!(receiver.finish().stdout, "at last");
    let receiver = Background::start(common::ipcfs().args(["recv", &mailbox]));
    wait_for("the receiver to wait", || {
        let status = fs::read_to_string(place.path("control/mailboxes/box/status")).unwrap();
        status.contains("waiting_readers 1\n")
    });
    fs::remove_file(&mailbox).unwrap();
    let what = format!("cannot receive from {mailbox}: Identifier removed");
    receiver.finish().failed(&what, &["it was removed meanwhile"]);
}

#[test]
fn priorities_tags_and_json_are_those_of_the_doors() {
    let Some((place, mailbox)) = place() else { return };
    printed("send", &mailbox, &["--tag=blue", "for later"]);
    printed("send", &mailbox, &["usual"]);
    printed("send", &mailbox, &["--priority=9", "urgent"]);
    timed_out(&ipcfs("recv", &mailbox, &["--tag=red", "--timeout=0"]));
    let json = |count: &str| -> Vec<Value> {
        let text = printed("recv", &mailbox, &["--json", "--count", count, "--timeout=0"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // Of several that wait, it takes as many as were asked for.
    let first = json("1");
    assert_eq!(place.sh("head -n 1 $DIR/control/mailboxes/box/status"), "depth 2\n");
    assert_eq!((&first[0]["body"], &first[0]["priority"]), (&Value::from("urgent"), &Value::from(9)));
    printed("send", &mailbox, &["last"]);
    assert_eq!(printed("recv", &mailbox, &["--tag=blue"]), "for later");
    let rest: Vec<Value> = json("2").into_iter().map(|object| object["body"].clone()).collect();
    assert_eq!(rest, ["usual", "last"]);
}

#[test]
fn a_topic_takes_them_as_well() {
    let Some((place, _)) = place() else { return };
    place.sh("touch $DIR/topics/news");
    let topic = place.path("topics/news").display().to_string();
    let receiver = Background::start(common::ipcfs().args(["recv", &topic, "--count=2"]));
    wait_for("the receiver to wait", || {
        let status = fs::read_to_string(place.path("control/topics/news/status")).unwrap();
        status.contains("waiting_readers 1\n")
    });
    printed("send", &topic, &["one", "two"]);
    assert_eq!(receiver.finish().stdout, "onetwo");
    let what = format!("{topic} is not in the folder mailboxes/ of an ipcfs mount");
    ipcfs("send", &topic, &["--tag=x", "y"]).failed(&what, &["ipcfs status"]);
}

#[test]
fn what_cannot_be_sent_is_said() {
    let Some((place, mailbox)) = place() else { return };
    let missing = place.path("mailboxes/missing").display().to_string();
    let what = format!("cannot send to {missing}: No such file or directory");
    ipcfs("send", &missing, &["x"]).failed(&what, &["touch"]);
    assert!(!fs::exists(&missing).unwrap(), "it is not made");
    ipcfs("send", "/etc/passwd", &["x"])
        .failed("/etc/passwd is not in the folder mailboxes/ or topics/", &[]);
    ipcfs("send", &mailbox, &[""]).failed(&format!("cannot send to {mailbox}: the message is empty"), &[]);
    place.sh("echo 3 > $DIR/control/mailboxes/box/config/msgsize");
    let what = format!("cannot send to {mailbox}: Message too long");
    ipcfs("send", &mailbox, &["long"]).failed(&what, &["config/msgsize"]);
    place.sh("cd $DIR/control/mailboxes/box/config && echo 1 > maxmsg && echo fail > full && echo x > $DIR/mailboxes/box");
    let what = format!("cannot send to {mailbox}: No space left on device");
    ipcfs("send", &mailbox, &["x"]).failed(&what, &["config/full"]);
    for words in [&["--priority=32768", "x"][..], &["--timeout=soon"], &["--tag=a", "--priority=1"]] {
        assert_eq!(ipcfs("send", &mailbox, words).code, Some(2), "{words:?}");
    }
    for words in [&["--count=0"][..], &["--tag=a", "--json"]] {
        assert_eq!(ipcfs("recv", &mailbox, words).code, Some(2), "{words:?}");
    }
}

#[test]
fn settings_are_shown_changed_and_refused_with_the_reason() {
    let Some((place, _)) = place() else { return };
    let dir = place.name();
    let shown = printed("config", dir, &["box"]);
    for line in ["full wait", "maxmsg 10000", "dead_letter", "ttl max"] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is missing in {shown}");
    }
    place.sh("touch $DIR/mailboxes/failed $DIR/topics/news $DIR/segments/frame; mkdir $DIR/mailboxes/team");
    assert_eq!(printed("config", dir, &["box", "maxmsg=5", "full=fail", "dead_letter=failed"]), "");
    let now = "cd $DIR/control/mailboxes/box/config && cat maxmsg full dead_letter";
    assert_eq!(place.sh(now), "5\nfail\nfailed\n");
    printed("config", dir, &["box", "dead_letter="]);
    assert_eq!(place.sh(now), "5\nfail\n");
    // Without a name: what new mailboxes begin with. With a kind: other objects.
    printed("config", dir, &["maxmsg=7"]);
    assert!(printed("config", dir, &[]).contains("maxmsg 7\n"));
    printed("config", dir, &["team", "maxmsg=8"]);
    assert_eq!(
        place.sh("cat $DIR/control/mailboxes/config/maxmsg $DIR/control/mailboxes/team/config/maxmsg"),
        "7\n8\n"
    );
    printed("config", dir, &["topics/news", "backlog=9"]);
    assert!(printed("config", dir, &["topics/news"]).contains("backlog 9\n"));
    assert_eq!(printed("config", dir, &["segments/frame", "size_max=4K"]), "");

    ipcfs("config", dir, &["box", "maxmsg=0"]).failed("maxmsg=0 was refused\n  maxmsg: ", &[]);
    ipcfs("config", dir, &["full=foo"]).failed("full=foo was refused\n  full: 'foo' is not one of wait", &[]);
    ipcfs("config", dir, &["box", "maxmsgs=1"])
        .failed("there is no setting maxmsgs\n  there are dead_letter, ", &[]);
    ipcfs("config", dir, &["box", "../../failed/config/maxmsg=1"]).failed("there is no setting ../../", &[]);
    ipcfs("config", dir, &["box", "maxmsg"]).failed("maxmsg is no setting", &["KEY=VALUE"]);
    ipcfs("config", dir, &["none"]).failed("cannot read ", &["No such file", "ipcfs status"]);
    assert_eq!(place.sh(now), "5\nfail\n", "nothing has changed");
}
