//! Programs that treat a mailbox as a file: what they would lose by accident is still there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::common::{self, Mount, have, output};
use crate::tools::{READ, open, receive_text, send, set, try_receive};

const BODIES: [&str; 3] = ["first\n", "second\n", "third\n"];

/// A mailbox `team/box` with three messages, and a topic.
fn filled(mount: &Mount) {
    let _ = fs::remove_dir_all(mount.mailbox("team"));
    fs::create_dir(mount.mailbox("team")).unwrap();
    let path = mount.make_mailbox("team/box", &[]);
    for body in BODIES {
        send(&path, body.as_bytes());
    }
    drop(fs::File::create(mount.path("topics/news")).unwrap());
}

/// What waits, in order.
fn left(mount: &Mount) -> Vec<String> {
    let path = mount.mailbox("team/box");
    std::iter::from_fn(|| try_receive(&path).ok()).map(|body| String::from_utf8(body).unwrap()).collect()
}

/// Runs a script in the mount, with the folder `elsewhere` as `$1`; whether it succeeded.
fn succeeds(mount: &Mount, script: &str, elsewhere: &Path) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(elsewhere).current_dir(mount.dir());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    output(child).status.success()
}

#[test]
fn programs_that_go_through_folders_take_nothing_and_do_not_wait() {
    let Some(mount) = common::mount() else { return };
    for (program, script) in [
        ("mv", "mv mailboxes/team/box $1"),
        ("mv", "mv mailboxes/team $1"),
        ("mv", "mv mailboxes/team/box segments"),
        ("cp", "cp -r mailboxes/team $1"),
        ("cp", "cp -a mailboxes/team/box $1"),
        ("cp", "cp -r topics control/mailboxes $1"),
        ("tar", "tar cf $1/tar mailboxes topics"),
        ("tar", "tar cf $1/tar control/mailboxes/team/box/stream control/mailboxes/team/box/lease.json"),
        ("tar", "tar cf $1/tar --remove-files mailboxes/team"),
        ("grep", "grep -r nothing mailboxes topics"),
        ("rsync", "rsync -a mailboxes/team $1"),
        ("rsync", "rsync -a --remove-source-files mailboxes/team $1"),
    ] {
        if !have(program) {
            continue;
        }
        let elsewhere = tempfile::tempdir().unwrap();
        filled(&mount);
        assert!(!succeeds(&mount, script, elsewhere.path()), "{script}: it says that it did not do it");
        assert_eq!(left(&mount), BODIES, "{script}");
        // Nor does it wait where nothing is.
        assert!(!succeeds(&mount, script, elsewhere.path()), "{script}");
    }
}

#[test]
fn programs_that_read_a_file_and_remove_or_replace_it_do_not_remove_what_still_waits() {
    let Some(mount) = common::mount() else { return };
    for (program, script, copied) in [
        (
            "python3",
            "python3 -c 'import shutil, sys; shutil.move(\"mailboxes/team/box\", sys.argv[1])' $1",
            true,
        ),
        ("python3", "python3 -c 'import shutil, sys; shutil.move(\"mailboxes/team\", sys.argv[1])' $1", true),
        ("busybox", "busybox mv mailboxes/team/box $1", true),
        ("sed", "sed -i s/i/o/ mailboxes/team/box", false),
        ("perl", "perl -pi -e s/i/o/ mailboxes/team/box", false),
    ] {
        if !have(program) {
            continue;
        }
        let elsewhere = tempfile::tempdir().unwrap();
        filled(&mount);
        assert!(!succeeds(&mount, script, elsewhere.path()), "{script}: it says that it did not do it");
        assert_eq!(left(&mount), BODIES[1..], "{script}");
        let copies = ["box", "team/box"].map(|name| fs::read_to_string(elsewhere.path().join(name)));
        assert_eq!(
            copies.iter().any(|copy| copy.as_deref().ok() == Some(BODIES[0])),
            copied,
            "{script}: {copies:?}"
        );
        let elsewhere = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(mount.mailbox("team")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        drop(mount.make_mailbox("team/box", &[]));
        send(&mount.mailbox("team/box"), b"only\n");
        assert!(succeeds(&mount, script, elsewhere.path()), "{script}: one message can be moved");
    }
}

#[test]
fn programs_that_receive_do_so_as_ever() {
    let Some(mount) = common::mount() else { return };
    for (program, script) in [
        ("cat", "cat mailboxes/team/box"),
        ("cp", "cp mailboxes/team/box $1/copy && cat $1/copy"),
        ("head", "head -n 1 mailboxes/team/box"),
        ("dd", "dd if=mailboxes/team/box status=none"),
        ("grep", "grep first mailboxes/team/box"),
        ("python3", "python3 -c 'print(open(\"mailboxes/team/box\").read(), end=\"\")'"),
        ("busybox", "busybox cat mailboxes/team/box"),
        ("sh", "read line < mailboxes/team/box && echo \"$line\""),
        ("find", "find mailboxes/team -name box -exec cat {} +"),
    ] {
        if !have(program) {
            continue;
        }
        let elsewhere = tempfile::tempdir().unwrap();
        filled(&mount);
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(elsewhere.path()).current_dir(mount.dir());
        let out = output(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        assert_eq!(
            (String::from_utf8(out.stdout).unwrap().as_str(), out.status.success()),
            (BODIES[0], true),
            "{script}"
        );
        assert_eq!(left(&mount), BODIES[1..], "{script}");
    }
}

/// A program that copies asks the kernel to do it first (sendfile(2)). It gets one message, however far it reads.
#[test]
fn a_copy_is_one_message_and_a_descriptor_can_be_copied_again() {
    let Some(mount) = common::mount() else { return };
    if have("python3") {
        let elsewhere = tempfile::tempdir().unwrap();
        filled(&mount);
        let script = "python3 -c 'import shutil, sys; shutil.copytree(\"mailboxes/team\", sys.argv[1] + \"/team\")' $1";
        assert!(succeeds(&mount, script, elsewhere.path()));
        assert_eq!(fs::read_to_string(elsewhere.path().join("team/box")).unwrap(), BODIES[0]);
        assert_eq!(left(&mount), BODIES[1..]);
    }
    if have("busybox") {
        filled(&mount);
        let script = "cd \"$1\"; exec 3< team/box; busybox cat <&3; busybox cat <&3; busybox cat <&3";
        assert_eq!(crate::tools::run(script, mount.path("mailboxes")), BODIES.concat());
    }
}

#[test]
fn no_follow_is_for_those_who_do_not_receive() {
    let Some(mount) = common::mount() else { return };
    filled(&mount);
    let path = mount.mailbox("team/box");
    let try_open = |path: &Path, flags: OFlags| {
        rustix::fs::open(path, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK, rustix::fs::Mode::empty())
            .map(drop)
    };
    assert_eq!(try_open(&path, OFlags::RDONLY), Err(Errno::PERM));
    assert_eq!(try_open(&path, OFlags::RDONLY), Err(Errno::PERM), "nor at the second attempt");
    assert_eq!(try_open(&path, OFlags::RDWR), Ok(()));
    assert_eq!(try_open(&path, OFlags::WRONLY), Ok(()));
    for file in ["stream", "peek", "json", "lease", "lease.json", "rpc", "serve", "tag/x", "from/0"] {
        let door = mount.path("control/mailboxes/team/box").join(file);
        assert_eq!(try_open(&door, OFlags::RDONLY), Err(Errno::PERM), "{file}");
    }
    for file in ["status", "config/maxmsg"] {
        let file = mount.path("control/mailboxes/team/box").join(file);
        assert_eq!(try_open(&file, OFlags::RDONLY), Ok(()), "{file:?}: it takes nothing");
    }
    assert_eq!(try_open(&mount.path("topics/news"), OFlags::RDONLY), Err(Errno::PERM));
    fs::write(mount.segment("s"), "text").unwrap();
    assert_eq!(try_open(&mount.segment("s"), OFlags::RDONLY), Ok(()));
    assert_eq!(try_open(&mount.path("control/segments/s/wait"), OFlags::RDONLY), Err(Errno::PERM));
    assert_eq!(left(&mount), BODIES);
}

#[test]
fn config_remove_says_who_may_remove_a_mailbox_in_which_messages_wait() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let other = mount.mailbox("other");
    let fill = |count: u32| (0..count).for_each(|n| send(&path, n.to_string().as_bytes()));
    let remove = || rustix::fs::unlink(&path);
    let replace = || {
        drop(fs::File::create(&other).unwrap());
        rustix::fs::rename(&other, &path)
    };
    fill(3);
    assert_eq!(receive_text(&path), "0");
    assert_eq!((remove(), replace()), (Err(Errno::BUSY), Err(Errno::BUSY)), "this thread would lose two");
    fs::create_dir(mount.mailbox("folder")).unwrap();
    let inside = mount.mailbox("folder/box");
    rustix::fs::rename(&path, &inside).unwrap();
    rustix::fs::rename(&inside, &path).unwrap();
    assert_eq!(std::thread::scope(|scope| scope.spawn(remove).join().unwrap()), Ok(()), "another says so");
    drop(mount.make_mailbox("box", &[]));
    fill(1);
    assert_eq!(receive_text(&path), "0");
    assert_eq!(replace(), Ok(()), "nothing waits");
    fill(2);
    set(&mount, "box", "remove", "empty");
    let anybody = || std::thread::scope(|scope| scope.spawn(|| (remove(), replace())).join().unwrap());
    assert_eq!(anybody(), (Err(Errno::BUSY), Err(Errno::BUSY)));
    assert_eq!(receive_text(&path), "0");
    set(&mount, "box", "remove", "any");
    assert_eq!(remove(), Ok(()));
    // What is delayed waits, too. Whoever opens it for more than reading is no program that copies files.
    drop(mount.make_mailbox("box", &[("remove", "empty")]));
    send(&mount.path("control/mailboxes/box/delay/1h"), b"later");
    assert_eq!(remove(), Err(Errno::BUSY));
    set(&mount, "box", "remove", "guarded");
    drop(open(&path, OFlags::RDWR));
    assert_eq!(remove(), Ok(()));
    drop(mount.make_mailbox("box", &[]));
    fill(1);
    drop(open(&path, READ));
    assert_eq!(remove(), Err(Errno::BUSY));
    set(&mount, "box", "remove", "any");
    assert_eq!(replace(), Ok(()));
}
