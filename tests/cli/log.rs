//! `--log` and `RUST_LOG`.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

use crate::common::{self, wait_for};
use crate::place::{Background, Place, run};

/// In no name and no other figure.
const BODY: &str = "Zyzzyva-7319";

/// Mounts with a log of that level in `log`.
fn mount(place: &Place, level: &str) {
    let outcome = run(common::ipcfs()
        .args(["mount", "--log"])
        .arg(place.beside("log"))
        .arg(place.dir())
        .env("RUST_LOG", level));
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
}

fn log(place: &Place) -> String {
    String::from_utf8_lossy(&fs::read(place.beside("log")).unwrap()).into_owned()
}

fn figure(place: &Place, key: &str) -> u64 {
    let status = fs::read_to_string(place.path("control/mailboxes/box/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap().parse().unwrap()
}

/// As bytes may be shown: as text, as numbers, in hexadecimal.
fn renderings(body: &str) -> [String; 4] {
    let join = |show: fn(u8) -> String, by: &str| body.bytes().map(show).collect::<Vec<_>>().join(by);
    [
        body.to_owned(),
        join(|byte| byte.to_string(), ", "),
        join(|byte| format!("{byte:02x}"), ""),
        join(|byte| format!("{byte:02x}"), " "),
    ]
}

#[test]
fn the_log_goes_to_its_file_with_what_was_asked_for() {
    let Some(place) = Place::new() else { return };
    fs::write(place.beside("log"), "before\n").unwrap();
    mount(&place, "info");
    place.sh("$IPCFS umount $DIR");
    let text = log(&place);
    assert!(text.starts_with("before\n"), "appended to: {text}");
    let mounted = format!("mounted on {}\n", place.name());
    assert_eq!(text.matches(&mounted).count(), 1, "{text}");
    assert!(text.contains("INFO") && text.ends_with("unmounted\n"), "{text}");
    assert!(!text.contains("DEBUG"), "{text}");

    fs::remove_file(place.beside("log")).unwrap();
    mount(&place, "error");
    place.sh("$IPCFS umount $DIR");
    assert_eq!(log(&place), "", "nothing went wrong");
    let mode = fs::metadata(place.beside("log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_a_file_the_log_is_on_standard_error_until_the_terminal_is_left() {
    let Some(place) = Place::new() else { return };
    let outcome = run(common::ipcfs().arg("mount").arg(place.dir()).env("RUST_LOG", "info"));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""));
    assert!(outcome.stderr.contains(&format!("mounted on {}", place.name())), "{outcome:?}");
    // The daemon holds none of it any more: `run` has seen the end of both.
    place.sh("echo hi > $DIR/mailboxes/a");
}

#[test]
fn no_message_body_is_ever_logged() {
    let Some(place) = Place::new() else { return };
    mount(&place, "trace");
    let waiting = |key: &str| wait_for(key, || figure(&place, key) == 1);
    let box_ = place.path("mailboxes/box");
    let sent = format!("{BODY}\n");

    // Each way to send.
    place.sh(&format!(
        "cd $DIR/mailboxes && echo {BODY} > box && echo {BODY} >> box && echo {BODY} | dd of=box status=none &&
        echo {BODY} 1<> box && echo {BODY} | tee box"
    ));
    // Each way to receive: by one read, by many, seeking back, without waiting, and not at all.
    place.sh("cd $DIR/mailboxes && cat box && dd if=box bs=3 status=none && read -r line < box");
    let stream = rustix::fs::open(&box_, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let mut buffer = [0; 5];
    assert_eq!(rustix::io::read(&stream, &mut buffer).unwrap(), 5);
    poll(&mut [PollFd::new(&stream, PollFlags::IN)], None).unwrap();
    drop(stream);
    place.sh("timeout 60 head -c 4 $DIR/mailboxes/box");

    // A reader and a writer who wait, and those who are refused.
    let reader = Background::start(&mut place.script("exec cat $DIR/mailboxes/box"));
    waiting("waiting_readers");
    place.sh(&format!("echo {BODY} > $DIR/mailboxes/box; echo 1 > $DIR/control/mailboxes/box/config/maxmsg"));
    assert_eq!(reader.finish().stdout, sent);
    place.sh(&format!("echo {BODY} > $DIR/mailboxes/box"));
    let writer = Background::start(&mut place.script(&format!("echo {BODY} > $DIR/mailboxes/box")));
    waiting("waiting_writers");
    let mut refused = OpenOptions::new();
    refused.write(true);
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut refused, OFlags::NONBLOCK.bits() as i32);
    let refused = std::io::Write::write(&mut refused.open(&box_).unwrap(), sent.as_bytes());
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    place.sh("cat $DIR/mailboxes/box");
    assert_eq!(writer.finish().code, Some(0));
    place.sh(&format!(
        "echo 4 > $DIR/control/mailboxes/box/config/msgsize; ! echo {BODY} > $DIR/mailboxes/box"
    ));

    // A segment's bytes are as private, and so is what stands in an attribute.
    place.sh(&format!("echo {BODY} > $DIR/segments/s && cat $DIR/segments/s && rm $DIR/segments/s"));
    let attribute = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&box_, "user.note", BODY.as_bytes(), attribute).unwrap();
    assert_eq!(rustix::fs::getxattr(&box_, "user.note", &mut [0; 64]).unwrap(), BODY.len());

    // Gone with its mailbox, and on into a mount that ends.
    place.sh(&format!("rm $DIR/mailboxes/box && echo {BODY} > $DIR/mailboxes/last"));
    place.sh("$IPCFS umount $DIR");

    let mut text = String::new();
    fs::File::open(place.beside("log")).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("DEBUG") && text.contains("Write"), "the requests were logged: {text}");
    for rendering in renderings(BODY) {
        let line = text.lines().find(|line| line.contains(&rendering));
        assert_eq!(line, None, "a body as {rendering}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_said_before_anything_is_mounted() {
    let Some(place) = Place::new() else { return };
    let log = place.beside("no/such/dir/log");
    for how in [&[][..], &["-f"]] {
        let options = [how, &["--log", log.to_str().unwrap()]].concat();
        let what = format!("cannot open the log file {}: No such file or directory", log.display());
        place.try_mount(&options).failed(&what, &["ipcfs mount --log FILE DIR"]);
        place.assert_nothing_left();
    }
    let what = format!("cannot open the log file {}: Is a directory", place.name());
    place.try_mount(&["--log", place.name()]).failed(&what, &[]);
    place.assert_nothing_left();
}

#[test]
fn a_wrong_level_is_said_before_anything_is_mounted() {
    let Some(place) = Place::new() else { return };
    let outcome = run(common::ipcfs().arg("mount").arg(place.dir()).env("RUST_LOG", "warn,ipcfs=loud"));
    let what = format!("cannot mount on {}: the environment variable RUST_LOG has loud,", place.name());
    outcome.failed(&what, &["set it to error, warn, info, debug"]);
    place.assert_nothing_left();
}

/// What is sent to the sockets of the journal and of syslog while a script mounts and unmounts, in a namespace that has those
/// of them that are named.
fn sent_to_the_system(place: &Place, there: &[&str], script: &str) -> [Vec<String>; 2] {
    let sockets = ["journal", "syslog"].map(|name| {
        let socket = UnixDatagram::bind(place.beside(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let here = |name: &str, path: &str| {
        let bind = format!("mkdir -p $(dirname {path}) && touch {path} && mount --bind $T/{name} {path} && ");
        if there.contains(&name) { bind } else { String::new() }
    };
    let script = format!(
        "mkdir -p $T/dev && mount -t tmpfs none $T/dev && cp -a /dev/null /dev/fuse $T/dev && mount --bind $T/dev /dev &&
         mount -t tmpfs none /run && {}{} export RUST_LOG=info && {script}",
        here("journal", "/run/systemd/journal/socket"),
        here("syslog", "/dev/log")
    );
    let script = place.script(&script);
    let mut unshared = Command::new("unshare");
    unshared.arg("-m").arg(script.get_program()).args(script.get_args());
    unshared.envs(script.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let outcome = run(&mut unshared);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    // Nothing more comes: the daemon has ended.
    sockets.map(|socket| {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        messages
    })
}

const IN_THE_BACKGROUND: &str =
    "$IPCFS mount $DIR 2> $T/early && $IPCFS upgrade $DIR && $IPCFS upgrade $DIR && $IPCFS umount $DIR";

#[test]
fn a_daemon_in_the_background_logs_to_the_journal() {
    let Some(place) = Place::alone() else { return };
    let [journal, syslog] = sent_to_the_system(&place, &["journal", "syslog"], IN_THE_BACKGROUND);
    let unmounted = journal.iter().find(|message| message.ends_with("\nMESSAGE=unmounted\n"));
    let unmounted = unmounted.unwrap_or_else(|| panic!("{journal:?}"));
    let dir = format!("\nIPCFS_DIR={}\n", place.name());
    for field in ["PRIORITY=6\n", "\nSYSLOG_IDENTIFIER=ipcfs\n", &dir, "\nCODE_MODULE=ipcfs::daemon"] {
        assert!(unmounted.contains(field), "{field} is missing in {unmounted}");
    }
    let upgrades = journal.iter().filter(|message| message.contains("\nMESSAGE=serving the mount on "));
    assert_eq!(upgrades.count(), 2, "{journal:?}");
    assert_eq!(syslog, [""; 0], "once is enough");
    let early = fs::read_to_string(place.beside("early")).unwrap();
    assert!(
        early.contains("mounted on") && !early.contains("unmounted"),
        "the terminal has the beginning: {early}"
    );
}

#[test]
fn without_a_journal_it_logs_to_syslog() {
    let Some(place) = Place::alone() else { return };
    let [journal, syslog] = sent_to_the_system(&place, &["syslog"], IN_THE_BACKGROUND);
    assert_eq!(journal, [""; 0]);
    let line =
        syslog.iter().find(|line| line.ends_with("]: unmounted")).unwrap_or_else(|| panic!("{syslog:?}"));
    assert!(line.starts_with("<30>ipcfs["), "{line}");
}

#[test]
fn a_service_logs_to_the_journal_from_the_beginning() {
    let Some(place) = Place::alone() else { return };
    let script = "touch $T/early && mkfifo $T/ready && stream=$(stat -c %d:%i $T/early) &&
        { JOURNAL_STREAM=$stream $IPCFS mount -f $DIR > $T/ready 2> $T/early & } &&
        read -r ready < $T/ready && $IPCFS umount $DIR && wait";
    let [journal, _] = sent_to_the_system(&place, &["journal"], script);
    for message in [format!("\nMESSAGE=mounted on {}\n", place.name()), String::from("\nMESSAGE=unmounted\n")]
    {
        assert!(journal.iter().any(|sent| sent.ends_with(&message)), "{message} is missing in {journal:?}");
    }
    assert_eq!(fs::read_to_string(place.beside("early")).unwrap(), "");
}

#[test]
fn names_in_the_log_are_text() {
    let Some(place) = Place::new() else { return };
    mount(&place, "debug");
    place.sh("cd $DIR/mailboxes && mkdir folder && touch folder/one && mv folder/one other && rm other");
    let text = log(&place);
    for named in ["Mkdir \"folder\"", "Unlink \"other\"", "Lookup \"mailboxes\""] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
}
