//! `ttl`, `lease_time`, `max_deliver`, `dead_letter`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::Signal;

use super::common::{self, Mount, wait_for};
use super::servers::servers;
use super::{appears, error_of, make, nonblocking, received, send, share, two_hosts};

fn config(mount: &Mount, mailbox: &str, key: &str) -> std::path::PathBuf {
    mount.path(&format!("control/mailboxes/shared/{mailbox}/config/{key}"))
}

fn lease(mount: &Mount, mailbox: &str) -> File {
    let path = mount.path(&format!("control/mailboxes/shared/{mailbox}/lease"));
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn read(file: &mut File) -> String {
    let mut buffer = [0; 9];
    let length = file.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// Sets it on one host, and waits until the other knows it.
fn set(here: &Mount, there: &Mount, (mailbox, key): (&str, &str), value: &str) {
    fs::write(config(here, mailbox, key), value).unwrap();
    wait_for(&format!("{key} to be known"), || {
        fs::read_to_string(config(there, mailbox, key)).unwrap().trim_end() == value.trim_end()
    });
}

fn is_empty(path: &std::path::Path) -> bool {
    nonblocking(path, false).read(&mut [0; 9]).is_err()
}

#[test]
fn settings_come_from_the_folder_and_change_for_all_hosts() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    for (key, value) in [("ttl", "1h"), ("lease_time", "10s"), ("max_deliver", "3")] {
        fs::write(here.path(&format!("control/mailboxes/shared/config/{key}")), value).unwrap();
    }
    make(&here, &there, "q");
    let shown = |key: &str| fs::read_to_string(config(&there, "q", key)).unwrap();
    assert_eq!(
        (shown("ttl"), shown("lease_time"), shown("max_deliver")),
        ("1h\n".into(), "10s\n".into(), "3\n".into())
    );
    set(&there, &here, ("q", "max_deliver"), "5");
    set(&there, &here, ("q", "ttl"), "max");
    make(&here, &there, "dead");
    set(&here, &there, ("q", "dead_letter"), "shared/dead");
    // What cannot be taken changes nothing, and says why.
    fs::write(here.mailbox("own"), "x").unwrap();
    for (key, value) in
        [("max_deliver", "0"), ("dead_letter", "own"), ("dead_letter", "shared/q"), ("dead_letter", "none")]
    {
        let error = error_of(fs::write(config(&here, "q", key), value));
        assert!(matches!(error, Some(Errno::INVAL | Errno::RANGE)), "{key} {value}: {error:?}");
        let why = fs::read_to_string(here.path("control/mailboxes/shared/q/error")).unwrap();
        assert!(why.starts_with(key), "{why}");
    }
    assert_eq!(fs::read_to_string(config(&here, "q", "dead_letter")).unwrap(), "shared/dead\n");
    assert_eq!(error_of(fs::write(config(&here, "q", "maxmsg"), "1")), Some(Errno::ACCESS));
}

#[test]
fn a_message_that_is_too_old_is_gone() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    send(&sends, "old");
    set(&here, &there, ("q", "ttl"), "200ms");
    wait_for("it to be gone", || {
        // Another is not.
        send(&sends, "new");
        let got = received(&receives);
        assert!(got == "old" || got == "new", "{got}");
        if got == "old" {
            send(&sends, "old");
            std::thread::sleep(std::time::Duration::from_millis(400));
        }
        got == "new"
    });
}

#[test]
fn a_message_that_was_leased_too_often_or_rejected_is_a_dead_letter() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    let (dead, _) = make(&here, &there, "dead");
    set(&here, &there, ("q", "dead_letter"), "shared/dead");
    set(&here, &there, ("q", "max_deliver"), "2");
    send(&sends, "bad");
    for mount in [&here, &there] {
        let mut worker = lease(mount, "q");
        assert_eq!(read(&mut worker), "bad");
        worker.write_all(b"nack").unwrap();
    }
    assert_eq!(received(&dead), "bad");
    assert_eq!(there.figure("mailboxes/shared/q/status", "dead_lettered"), 1);
    send(&sends, "rejected");
    let mut worker = lease(&here, "q");
    assert_eq!(read(&mut worker), "rejected");
    worker.write_all(b"reject").unwrap();
    assert_eq!(received(&dead), "rejected");
    assert!(is_empty(&receives));
    // Without such a mailbox it is dropped, and counted.
    set(&here, &there, ("q", "dead_letter"), "\n");
    send(&sends, "dropped");
    assert_eq!(read(&mut worker), "dropped");
    worker.write_all(b"reject").unwrap();
    assert_eq!(here.figure("mailboxes/shared/q/status", "dropped"), 1);
    assert!(is_empty(&receives) && is_empty(&dead));
}

#[test]
fn dead_letters_are_sent_with_the_rights_of_whoever_set_the_mailbox() {
    let Some(servers) = servers(1) else { return };
    let (here, there) = (servers.mount_with(&["--allow-other"]), servers.mount());
    fs::set_permissions(here.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    share(&here, "shared");
    appears(&there.mailbox("shared"));
    let (sends, _) = make(&here, &there, "q");
    let (dead, far) = make(&here, &there, "dead");
    chown(&sends, Some(common::USER), None).unwrap();
    let let_others_send = |mode: u32| {
        fs::set_permissions(&dead, fs::Permissions::from_mode(mode)).unwrap();
        wait_for("the mode to be known", || fs::metadata(&far).unwrap().mode() & 0o777 == mode);
    };
    let set_as_user = |value: &str| {
        let set = format!("echo {value} > {}", config(&here, "q", "dead_letter").display());
        let mut user = Command::new("sh");
        user.args(["-c", &set]).uid(common::USER).gid(common::USER).stderr(std::process::Stdio::null());
        user.status().unwrap().success()
    };
    let mut worker = lease(&here, "q");
    let mut reject = |text: &str| {
        send(&sends, text);
        assert_eq!(read(&mut worker), text);
        worker.write_all(b"reject").unwrap();
    };
    let dropped = || here.figure("mailboxes/shared/q/status", "dropped");
    let_others_send(0o600);
    assert!(!set_as_user("shared/dead"));
    let_others_send(0o622);
    assert!(set_as_user("shared/dead"));
    reject("x");
    assert_eq!((received(&dead), dropped()), (String::from("x"), 0));
    // The right is used each time.
    let_others_send(0o600);
    reject("y");
    assert!(dropped() == 1 && is_empty(&dead));
    // A full one takes nothing, and it is dropped.
    fs::create_dir(here.mailbox("shared/small")).unwrap();
    fs::write(here.path("control/mailboxes/shared/small/config/maxmsg"), "1").unwrap();
    let (small, _) = make(&here, &there, "small/q");
    send(&small, "first");
    set(&here, &there, ("q", "dead_letter"), "shared/small/q");
    reject("z");
    assert_eq!((received(&small), dropped()), (String::from("first"), 2));
}

#[test]
fn a_lease_outlasts_its_time_while_its_host_lives_and_no_longer() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (sends, receives) = make(&here, &there, "q");
    set(&here, &there, ("q", "lease_time"), "1s");
    send(&sends, "job");
    let mut worker = lease(&here, "q");
    assert_eq!(read(&mut worker), "job");
    // Others get what was sent after it meanwhile; it does not come to them.
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(4) {
        send(&sends, "other");
        assert_eq!(received(&receives), "other");
    }
    here.signal(Signal::KILL);
    assert_eq!(received(&receives), "job");
    drop(worker);
}

#[test]
fn a_message_that_ends_each_host_is_a_dead_letter() {
    let Some((servers, here, there)) = two_hosts() else { return };
    let (sends, _) = make(&here, &there, "q");
    let (_, dead) = make(&here, &there, "dead");
    set(&here, &there, ("q", "dead_letter"), "shared/dead");
    set(&here, &there, ("q", "max_deliver"), "1");
    set(&here, &there, ("q", "lease_time"), "1s");
    send(&sends, "poison");
    let mut worker = lease(&here, "q");
    assert_eq!(read(&mut worker), "poison");
    here.signal(Signal::KILL);
    drop(worker);
    // Its next reader does not get it.
    let new = servers.mount();
    appears(&new.mailbox("shared/q"));
    let mut reader = super::cat(&new.mailbox("shared/q"));
    assert_eq!(received(&dead), "poison");
    reader.kill().unwrap();
    common::reap(&mut reader);
}

#[test]
fn a_folder_of_its_own_has_rules_of_its_own() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    share(&there, "more");
    appears(&here.mailbox("more"));
    fs::write(there.path("control/mailboxes/more/config/max_deliver"), "7").unwrap();
    wait_for("the folder's rule to be known", || {
        fs::read_to_string(here.path("control/mailboxes/more/config/max_deliver")).unwrap() == "7\n"
    });
    File::create(here.mailbox("more/q")).unwrap();
    appears(&there.mailbox("more/q"));
    assert_eq!(fs::read_to_string(there.path("control/mailboxes/more/q/config/max_deliver")).unwrap(), "7\n");
}
