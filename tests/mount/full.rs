//! A full mailbox: whoever waits for room holds up nobody else.

use std::fs::{self, File, OpenOptions};

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};

use crate::common::{self, Mount, reap};
use crate::tools::{
    APPEND, BOTH, NOWAIT, READ, TRUNC, WRITE, open, promptly, read, receive_text, run, send, shell, waiting,
};

/// How shells and programs send; `$1` is the mailbox, `$2` the message.
const WAYS: [&str; 4] = [
    "echo \"$2\" > \"$1\"",
    "echo \"$2\" >> \"$1\"",
    "echo \"$2\" | dd of=\"$1\" status=none",
    "echo \"$2\" 1<> \"$1\"",
];

fn writer(path: &Path, way: usize, message: &str) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(WAYS[way % WAYS.len()]).arg("sh").arg(path).arg(message);
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A full mailbox with the message `0` in it, for which `count` writers wait, with the messages `1`, `2`, … in that order.
fn full(mount: &Mount, name: &str, count: usize) -> Vec<Child> {
    let path = mount.make_mailbox(name, &[("maxmsg", "1")]);
    send(&path, b"0\n");
    (1..=count)
        .map(|place| {
            let writer = writer(&path, place, &place.to_string());
            mount.wait_for_figure(name, "waiting_writers", place as u64);
            writer
        })
        .collect()
}

/// Everything else that is done with a mailbox.
fn use_otherwise(mount: &Mount, path: &Path) {
    let folder = mount.path("mailboxes");
    for script in [
        "stat \"$1\"",
        "ls -l \"$1\"",
        "chmod 640 \"$1\" && chmod 600 \"$1\"",
        "chown 12:34 \"$1\"",
        "touch \"$1\"",
        "truncate -s 0 \"$1\"",
        "mv \"$1\" \"$1.away\" && mv \"$1.away\" \"$1\"",
        ": > \"$1\"",
        ": >> \"$1\"",
        "test -w \"$1\" && test -r \"$1\"",
        "exec 3< \"$1\" && exec 3<&-",
    ] {
        run(script, path);
    }
    run("ls -l \"$1\"", folder);
    // Through descriptors of one's own, of each kind.
    for flags in [READ, WRITE, WRITE | APPEND, WRITE | TRUNC, BOTH] {
        let path = path.to_owned();
        promptly(&format!("changes through a descriptor opened {flags:?}"), move || {
            let file = File::from(open(&path, flags | NOWAIT));
            file.metadata().unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
            if flags.intersects(WRITE | BOTH) {
                ftruncate(&file, 0).unwrap();
                assert_eq!(rustix::io::write(&file, b"no room"), Err(Errno::AGAIN));
            }
            if flags == READ {
                seek(&file, SeekFrom::End(0)).unwrap();
            }
        });
    }
}

#[test]
fn writers_who_wait_hold_up_nobody() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    // Open before anyone waits, as a server's descriptors are.
    let early = open(&path, READ | NOWAIT);
    send(&path, b"0\n");
    let mut writers = Vec::new();
    for place in 1..=20 {
        writers.push(writer(&path, place, &place.to_string()));
        mount.wait_for_figure("box", "waiting_writers", place as u64);
        if [1, 2, 3, 7, 20].contains(&place) {
            use_otherwise(&mount, &path);
        }
    }
    let early = promptly("lseek and read on an early descriptor", move || {
        seek(&early, SeekFrom::End(0)).unwrap();
        seek(&early, SeekFrom::Start(0)).unwrap();
        read(&early, 99)
    });
    assert_eq!(early, Ok(b"0\n".to_vec()), "another reader reads, and nothing was lost to > and truncate");
    assert_eq!(run("cat \"$1\"", &path), "1\n");
    for place in 2..=20 {
        assert_eq!(receive_text(&path), format!("{place}\n"));
    }
    for mut writer in writers {
        assert!(reap(&mut writer).success());
    }
}

#[test]
fn a_full_mailbox_can_be_removed_and_replaced() {
    let Some(mount) = common::mount() else { return };
    for (round, script) in ["rm \"$1\"", "touch \"$1.new\" && mv \"$1.new\" \"$1\""].into_iter().enumerate() {
        let name = format!("box{round}");
        let writers = full(&mount, &name, 10);
        run(script, mount.mailbox(&name));
        for mut writer in writers {
            assert!(!reap(&mut writer).success(), "{script}");
        }
        assert_eq!(fs::exists(mount.mailbox(&name)).unwrap(), round == 1);
    }
}

#[test]
fn any_of_many_waiting_writers_can_be_killed() {
    let Some(mount) = common::mount() else { return };
    let writers = full(&mount, "box", 12);
    let pids = waiting(&mount, "box", "writer");
    // From the middle to the ends, so that first, last and others are among them.
    for (left, place) in [(11, 6), (10, 0), (9, 11), (8, 5), (7, 1), (6, 10)] {
        kill_process(pids[place], Signal::KILL).unwrap();
        mount.wait_for_figure("box", "waiting_writers", left);
    }
    let path = mount.mailbox("box");
    for expected in ["0", "3", "4", "5", "8", "9", "10"] {
        assert_eq!(receive_text(&path), format!("{expected}\n"), "and the others keep their places");
    }
    for mut writer in writers {
        reap(&mut writer);
    }
}

#[test]
fn processes_that_inherited_one_descriptor_wait_side_by_side() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    send(&path, b"full");
    // As `(one & two &) > box` and programs that open it for both do.
    let mut options = OpenOptions::new();
    let ways = [options.write(true).truncate(true).clone(), options.read(true).truncate(false).clone()];
    for way in ways {
        let file = way.open(&path).unwrap();
        let start = || {
            let mut command = Command::new("sh");
            command.arg("-c").arg("echo mine").stdout(file.try_clone().unwrap()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let mut both = [start(), start()];
        mount.wait_for_figure("box", "waiting_writers", 2);
        promptly("stat through the descriptor they wait on", {
            let file = file.try_clone().unwrap();
            move || file.metadata().unwrap()
        });
        // The second first: it must not need the first one's end.
        for (left, process) in [(1, 1), (0, 0)] {
            both[process].kill().unwrap();
            reap(&mut both[process]);
            mount.wait_for_figure("box", "waiting_writers", left);
        }
    }
    assert_eq!(receive_text(&path), "full");
}

#[test]
fn dev_stdout_and_proc_self_fd_reach_a_mailbox_that_is_open_for_writing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    run("exec > \"$1\"; echo 1 > /dev/stdout; echo 2 > /proc/self/fd/1; echo 3 >> /dev/fd/1; echo 4", &path);
    run("exec 5<> \"$1\"; echo 5 > /proc/self/fd/5; echo 6 | tee /dev/fd/5 > /dev/null", &path);
    run("exec 6>> \"$1\"; for n in 7 8 9; do sh -c \"echo $n > /dev/fd/6\"; done", &path);
    for expected in 1..=9 {
        assert_eq!(receive_text(&path), format!("{expected}\n"));
    }
}

#[test]
fn a_writer_on_dev_stdout_does_not_wait_and_holds_up_nobody() {
    let Some(mount) = common::mount() else { return };
    let writers = full(&mount, "box", 1);
    let path = mount.mailbox("box");
    let mut reopened = shell("exec > \"$1\"; echo 2 > /dev/stdout", &path);
    assert!(!reap(&mut reopened).success());
    use_otherwise(&mount, &path);
    assert_eq!([receive_text(&path), receive_text(&path)], ["0\n", "1\n"]);
    for mut writer in writers {
        assert!(reap(&mut writer).success());
    }
}
