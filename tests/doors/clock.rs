//! Somebody sets the clock of the machine. Only the daemon sees it set here, so that no other program is disturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::common::{self, Mount};
use crate::tools::{BOTH, READ, open, read, receive_text, send};

const DAY: i64 = 86_400;

/// A mount whose daemon sees a clock that can be set.
struct Clock {
    mount: Mount,
    temp: tempfile::TempDir,
}

impl Clock {
    /// None where there is no C compiler.
    fn new() -> Option<Clock> {
        if !common::fuse_is_here() || !common::have("cc") {
            return None;
        }
        let temp = tempfile::tempdir().unwrap();
        let library = temp.path().join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doors/clock.c");
        let mut compile = Command::new("cc");
        compile.args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).args([&library, &source]);
        assert!(compile.status().unwrap().success());
        fs::write(temp.path().join("SET"), 0_i64.to_ne_bytes()).unwrap();
        let mount = common::mount_in(("LD_PRELOAD", &library), &[])?;
        Some(Clock { mount, temp })
    }

    /// Sets it forward, or back, by so many seconds from what it is.
    fn set(&self, seconds: i64) {
        // Into the same file, which the daemon has mapped.
        let file = fs::File::options().write(true).open(self.temp.path().join("SET")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).unwrap();
    }

    fn figure(&self, key: &str) -> u64 {
        self.mount.figure("mailboxes/jobs/status", key)
    }

    /// In seconds.
    fn span(&self, key: &str) -> f64 {
        let status = fs::read_to_string(self.door("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    fn door(&self, name: &str) -> PathBuf {
        self.mount.path(&format!("control/mailboxes/jobs/{name}"))
    }
}

/// Seconds by the clock of the machine.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn a_clock_that_is_set_forward_ends_nothing_before_its_time() {
    let Some(clock) = Clock::new() else { return };
    let path = clock.mount.make_mailbox("jobs", &[("ttl", "1h"), ("lease_time", "1h")]);
    send(&path, b"leased");
    let lease = open(&clock.door("lease"), BOTH);
    assert_eq!(read(&lease, 99), Ok(b"leased".to_vec()));
    send(&path, b"lives");
    send(&clock.door("delay/1h"), b"later");
    clock.set(2 * DAY);
    // Two steps of the timer's, which would have ended everything that was due by then.
    send(&clock.door("ttl/1ms"), b"gone");
    clock.mount.wait_for_figure("jobs", "expired", 1);
    send(&clock.door("ttl/1ms"), b"gone");
    clock.mount.wait_for_figure("jobs", "expired", 2);
    assert_eq!(["depth", "leased", "delayed"].map(|key| clock.figure(key)), [1, 1, 1]);
    assert!(clock.span("oldest_age") < 3600.0);
    assert_eq!(rustix::io::write(&lease, b"ack"), Ok(3));
    assert_eq!(receive_text(&path), "lives");
    assert!(clock.span("waited_p99") < 3600.0);
}

#[test]
fn a_clock_that_is_set_back_keeps_nothing_beyond_its_time() {
    let Some(clock) = Clock::new() else { return };
    let path = clock.mount.make_mailbox("jobs", &[("ttl", "1h"), ("lease_time", "50ms")]);
    send(&path, b"leased");
    let lease = open(&clock.door("lease"), BOTH);
    assert_eq!(read(&lease, 99), Ok(b"leased".to_vec()));
    send(&clock.door("ttl/50ms"), b"short");
    send(&clock.door("delay/50ms"), b"later");
    clock.set(-2 * DAY);
    clock.mount.wait_for_figure("jobs", "leased", 0);
    clock.mount.wait_for_figure("jobs", "delayed", 0);
    clock.mount.wait_for_figure("jobs", "expired", 1);
    assert_eq!(rustix::io::write(&lease, b"ack"), Err(Errno::NOMSG));
    assert_eq!(clock.figure("depth"), 2);
}

#[test]
fn times_that_people_see_are_those_of_the_clock() {
    let Some(clock) = Clock::new() else { return };
    let path = clock.mount.make_mailbox("jobs", &[]);
    let door = open(&clock.door("json"), READ);
    let mut sent = Vec::new();
    for set in [0, 30 * DAY, -30 * DAY] {
        clock.set(set);
        send(&path, b"x");
        let json = String::from_utf8(read(&door, 4096).unwrap()).unwrap();
        let (_, rest) = json.split_once("\"sent\":").unwrap();
        let (seconds, _) = rest.split_once('.').unwrap();
        sent.push(seconds.parse::<i64>().unwrap() - now());
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64;
        assert!((modified - now() - set).abs() < DAY, "{modified}");
    }
    assert!(sent.iter().zip([0, 30, -30]).all(|(sent, days)| (sent - days * DAY).abs() < DAY), "{sent:?}");
}
