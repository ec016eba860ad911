//! Who may do what through `control/`: the rights are the mailbox's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::common::{self, Mount, OTHER, USER, peer::Peer};
use crate::ways::side;

/// A mount that lets everyone in, a mailbox of the one user, and both users.
fn inbox() -> Option<(Mount, Peer, Peer)> {
    let mount = common::mount_with(&["--allow-other"])?;
    fs::set_permissions(mount.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mut owner, other) = (Peer::start_as(USER)?, Peer::start_as(OTHER)?);
    owner.run(&opened(&mount.mailbox("inbox"), "O_CREAT | os.O_WRONLY"));
    Some((mount, owner, other))
}

fn opened(path: &Path, flags: &str) -> String {
    format!("os.close(os.open({path:?}, os.{flags} | os.O_NONBLOCK))")
}

fn chmod(owner: &mut Peer, mount: &Mount, mode: u32) {
    owner.run(&format!("os.chmod({:?}, {mode})", mount.mailbox("inbox")));
}

/// What the two rights open: doors with the flags they are opened with.
const SENDS: [(&str, &str); 8] = [
    ("stream", "O_WRONLY"),
    ("whole", "O_WRONLY"),
    ("priority/7", "O_WRONLY"),
    ("tag/x", "O_WRONLY"),
    ("once/x", "O_WRONLY"),
    ("rpc", "O_WRONLY"),
    ("rpc", "O_RDWR"),
    ("rpc", "O_RDONLY"),
];
const RECEIVES: [(&str, &str); 11] = [
    ("stream", "O_RDONLY"),
    ("peek", "O_RDONLY"),
    ("json", "O_RDONLY"),
    ("tag/x", "O_RDONLY"),
    ("from/0", "O_RDONLY"),
    ("lease", "O_RDONLY"),
    ("lease", "O_RDWR"),
    ("lease", "O_WRONLY"),
    ("lease.json", "O_RDWR"),
    ("serve", "O_RDWR"),
    ("serve", "O_RDONLY"),
];

#[test]
fn doors_ask_for_the_right_to_send_or_to_receive() {
    let Some((mount, mut owner, mut other)) = inbox() else { return };
    for (mode, sends, receives) in [
        (0o622, "None", "EACCES"),
        (0o644, "EACCES", "None"),
        (0o600, "EACCES", "EACCES"),
        (0o666, "None", "None"),
        (0o660, "EACCES", "EACCES"),
    ] {
        chmod(&mut owner, &mount, mode);
        for (door, flags) in SENDS {
            let open = opened(&side(&mount, "inbox", door), flags);
            assert_eq!(other.ask(&open), sends, "{mode:o} {door} {flags}");
            owner.run(&open);
        }
        for (door, flags) in RECEIVES {
            let open = opened(&side(&mount, "inbox", door), flags);
            assert_eq!(other.ask(&open), receives, "{mode:o} {door} {flags}");
            owner.run(&open);
        }
        let both = if sends == receives { sends } else { "EACCES" };
        for door in ["stream", "tag/x"] {
            assert_eq!(other.ask(&opened(&side(&mount, "inbox", door), "O_RDWR")), both, "{mode:o} {door}");
        }
    }
}

#[test]
fn whoever_may_only_send_sends_through_each_door_and_sees_nothing() {
    let Some((mount, mut owner, mut other)) = inbox() else { return };
    chmod(&mut owner, &mount, 0o622);
    for door in ["stream", "whole", "priority/7", "tag/x"] {
        let path = side(&mount, "inbox", door);
        other.run(&format!("open({path:?}, 'w').write('by {door}\\n') and None"));
    }
    let messages = side(&mount, "inbox", "messages");
    assert_eq!(other.ask(&format!("os.listdir({messages:?})")), "EACCES");
    let number = owner.ask(&format!("sorted(os.listdir({messages:?}))[0]"));
    let message = messages.join(&number);
    for call in ["os.stat", "os.unlink", "open", "os.listxattr"] {
        assert_eq!(other.ask(&format!("{call}({message:?})")), "EACCES", "{call}");
    }
    assert_eq!(owner.ask(&format!("os.stat({message:?}).st_uid")), OTHER.to_string());
    let path = mount.mailbox("inbox");
    let texts: Vec<String> = (0..4).map(|_| owner.ask(&format!("open({path:?}).read()"))).collect();
    assert_eq!(texts, ["by priority/7\\n", "by stream\\n", "by whole\\n", "by tag/x\\n"]);
}

#[test]
fn single_messages_are_removed_and_moved_by_those_with_both_rights() {
    let Some((mount, mut owner, mut other)) = inbox() else { return };
    let mine = mount.mailbox("mine");
    other.run(&opened(&mine, "O_CREAT | os.O_WRONLY"));
    let inbox = mount.mailbox("inbox");
    let first = |peer: &mut Peer, mailbox: &str| -> PathBuf {
        let folder = side(&mount, mailbox, "messages");
        folder.join(peer.ask(&format!("sorted(os.listdir({folder:?}), key=int)[0]")))
    };
    let to = |mailbox: &str, message: &Path| -> PathBuf {
        side(&mount, mailbox, "messages").join(message.file_name().unwrap())
    };
    for _ in 0..3 {
        owner.run(&format!("open({inbox:?}, 'w').write('text') and None"));
    }
    chmod(&mut owner, &mount, 0o644);
    let message = first(&mut other, "inbox");
    assert_eq!(other.ask(&format!("open({message:?}).read()")), "text", "to receive is to look");
    assert_eq!(other.ask(&format!("os.getxattr({message:?}, 'user.ipcfs.priority')")), "b'0'");
    assert_eq!(other.ask(&format!("os.unlink({message:?})")), "EACCES");
    assert_eq!(other.ask(&format!("os.rename({message:?}, {:?})", to("mine", &message))), "EACCES");
    chmod(&mut owner, &mount, 0o666);
    other.run(&format!("os.unlink({message:?})"));
    let message = first(&mut other, "inbox");
    other.run(&format!("os.rename({message:?}, {:?})", to("mine", &message)));
    assert_eq!(other.ask(&format!("open({mine:?}).read()")), "text");
    // Into a mailbox that one may only send to: that would be telling whether a message of this number is there.
    chmod(&mut owner, &mount, 0o622);
    other.run(&format!("open({mine:?}, 'w').write('mine') and None"));
    let message = first(&mut other, "mine");
    assert_eq!(other.ask(&format!("os.rename({message:?}, {:?})", to("inbox", &message))), "EACCES");
    assert_eq!(other.ask(&format!("open({mine:?}).read()")), "mine");
}

#[test]
fn a_mailbox_for_the_dead_is_one_that_its_owner_may_send_to() {
    let Some((mount, mut owner, mut other)) = inbox() else { return };
    let mine = mount.mailbox("mine");
    other.run(&opened(&mine, "O_CREAT | os.O_WRONLY"));
    let dead = side(&mount, "mine", "config/dead_letter");
    let set = |to: &str| format!("os.write(os.open({dead:?}, os.O_WRONLY), b'{to}')");
    chmod(&mut owner, &mount, 0o644);
    assert_eq!(other.ask(&set("inbox")), "EACCES");
    let error = other.ask(&format!("open({:?}).read()", side(&mount, "mine", "error")));
    assert_eq!(error, "dead_letter: you may not send to 'inbox'\\n");
    chmod(&mut owner, &mount, 0o622);
    assert_eq!(other.ask(&set("inbox")), "5");
    assert_eq!(other.ask(&format!("open({dead:?}).read()")), "inbox\\n");
    // In a folder that is closed to the caller, it might as well not be there.
    let folder = mount.mailbox("private");
    owner.run(&format!("os.mkdir({folder:?}, 0o700)"));
    owner.run(&opened(&folder.join("box"), "O_CREAT | os.O_WRONLY"));
    owner.run(&format!("os.chmod({:?}, 0o666)", folder.join("box")));
    for name in ["private/box", "private/nothing"] {
        assert_eq!(other.ask(&set(name)), "EACCES", "{name}");
    }
    // The mailbox of others is not the caller's to change.
    assert_eq!(owner.ask(&set("")), "EACCES");
}

#[test]
fn senders_are_told_apart_by_the_kernel() {
    let Some((mount, mut owner, mut other)) = inbox() else { return };
    chmod(&mut owner, &mount, 0o622);
    let (path, stream) = (mount.mailbox("inbox"), side(&mount, "inbox", "stream"));
    owner.run(&format!("open({path:?}, 'w').write('1') and None"));
    other.run(&format!("open({stream:?}, 'w').write('2\\n3\\n') and None"));
    owner.run(&format!("open({path:?}, 'w').write('4') and None"));
    let from = |uid: u32| side(&mount, "inbox", &format!("from/{uid}"));
    let read = |uid: u32| format!("open({:?}).read()", from(uid));
    assert_eq!(owner.ask(&read(OTHER)), "2\\n");
    assert_eq!(owner.ask(&read(USER)), "1");
    assert_eq!(owner.ask(&read(OTHER)), "3\\n");
    assert_eq!(
        owner.ask(&format!("os.read(os.open({:?}, os.O_RDONLY | os.O_NONBLOCK), 9)", from(OTHER))),
        "EAGAIN"
    );
    let json = side(&mount, "inbox", "json");
    let shown = owner.ask(&format!("os.read(os.open({json:?}, os.O_RDONLY), 4096).decode()"));
    assert!(shown.contains(&format!("\"uid\":{USER},\"gid\":{USER},\"pid\":{}", owner.pid())), "{shown}");
}
