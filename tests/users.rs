//! Ordinary users: mounting as one, keeping others out or letting them in, and who may do what to whose.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::peer::Peer;
use common::{Mount, OTHER, USER, wait_for};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// An ordinary user with a name: fusermount3 mounts for no others.
const NOBODY: u32 = 65_534;

/// A mount of an ordinary user's, through fusermount3, which only works where users may open the device.
fn mount_as_user(options: &[&str]) -> Option<Mount> {
    if !common::fuse_is_here() || !common::have_fusermount() {
        return None;
    }
    fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
    let mount = common::mount_as(NOBODY, options)?;
    assert!(mount.in_table());
    Some(mount)
}

/// A mount of root's that lets everyone in.
fn mount_for_all() -> Option<Mount> {
    let mount = common::mount_with(&["--allow-other"])?;
    fs::set_permissions(mount.dir().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    Some(mount)
}

/// Two ordinary users' processes.
fn users() -> Option<[Peer; 2]> {
    Some([Peer::start_as(USER)?, Peer::start_as(OTHER)?])
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn opened(path: &Path, flags: &str) -> String {
    format!("os.close(os.open({path:?}, os.{flags}))")
}

#[test]
fn an_ordinary_user_mounts_and_uses_it_and_nobody_else_gets_in() {
    let Some(mut mount) = mount_as_user(&[]) else { return };
    let (Some(mut user), Some(mut other)) = (Peer::start_as(NOBODY), Peer::start_as(OTHER)) else { return };
    let (mailbox, segment) = (mount.mailbox("box"), mount.segment("segment"));
    for kind in ["mailboxes", "segments", "control"] {
        let stat = user.ask(&format!(
            "(lambda s: (s.st_uid, s.st_gid, oct(s.st_mode)))(os.stat({:?}))",
            mount.path(kind)
        ));
        let mode = if kind == "control" { "0o40555" } else { "0o40755" };
        assert_eq!(stat, format!("({NOBODY}, {NOBODY}, '{mode}')"), "{kind}");
    }
    user.open("fd", &mailbox, "O_RDWR | os.O_CREAT");
    assert_eq!(user.ask("os.write(fd, b'hello'), os.read(fd, 100)"), "(5, b'hello')");
    user.open("seg", &segment, "O_RDWR | os.O_CREAT");
    user.run("os.ftruncate(seg, 8192)");
    user.run("map = mmap.mmap(seg, 8192)");
    user.run("map[5000] = 7");
    assert_eq!(user.ask("os.pread(seg, 1, 5000)"), "b'\\x07'");
    assert_eq!(
        user.ask(&format!("open({:?}).read().count('segment_path cached')", mount.path("control/status"))),
        "1"
    );

    for path in [mount.dir().to_path_buf(), mailbox, mount.path("control/status")] {
        assert_eq!(other.ask(&format!("os.stat({path:?})")), "EACCES");
        assert_eq!(fs::metadata(&path).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied, "root too");
    }
    user.run("map.close(); os.close(seg); os.close(fd)");
    mount.signal(rustix::process::Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
    assert!(!mount.in_table());
}

#[test]
fn an_ordinary_users_mount_ends_by_fusermount() {
    let Some(mut mount) = mount_as_user(&[]) else { return };
    let status =
        Command::new("fusermount3").arg("-u").arg(mount.dir()).uid(NOBODY).gid(NOBODY).status().unwrap();
    assert!(status.success());
    assert_eq!(mount.wait(), Some(0));
    assert!(!mount.in_table());
}

#[test]
fn letting_others_in_takes_roots_permission() {
    if !common::fuse_is_here() || !common::have_fusermount() {
        return;
    }
    fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
    let permitted = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if permitted.lines().any(|line| line.trim() == "user_allow_other") {
        eprintln!("SKIP: /etc/fuse.conf permits it to everyone");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    chmod(temp.path(), 0o755);
    let dir = temp.path().join("mnt");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = common::ipcfs_as(NOBODY);
    command.args(["mount", "-f", "--allow-other"]).arg(&dir);
    let out = common::output(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("--allow-other") && said.contains("user_allow_other >> /etc/fuse.conf"), "{said}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(dir.to_str().unwrap()));
}

#[test]
fn w_is_the_right_to_send_and_r_the_right_to_receive() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let path = mount.mailbox("inbox");
    owner.run(&opened(&path, "O_CREAT | os.O_WRONLY"));
    for (mode, sends, receives) in [
        (0o622, "None", "EACCES"),
        (0o644, "EACCES", "None"),
        (0o600, "EACCES", "EACCES"),
        (0o666, "None", "None"),
        (0o606, "None", "None"),
        (0o660, "EACCES", "EACCES"),
    ] {
        owner.run(&format!("os.chmod({path:?}, {mode})"));
        assert_eq!(other.ask(&opened(&path, "O_WRONLY")), sends, "{mode:o}");
        assert_eq!(other.ask(&opened(&path, "O_RDONLY")), receives, "{mode:o}");
        let both = if sends == receives { sends } else { "EACCES" };
        assert_eq!(other.ask(&opened(&path, "O_RDWR")), both, "{mode:o}");
        owner.run(&opened(&path, "O_RDWR"));
    }
    owner.run(&format!("os.chmod({path:?}, 0o622)"));
    other.open("fd", &path, "O_WRONLY");
    assert_eq!(other.ask("os.write(fd, b'from the other')"), "14");
    owner.open("fd", &path, "O_RDONLY");
    assert_eq!(owner.ask("os.read(fd, 100)"), "b'from the other'");
    assert_eq!(other.ask("os.read(fd, 100)"), "EBADF");
    // A right is asked for at open, and lasts as long as the descriptor.
    owner.run(&format!("os.chmod({path:?}, 0o600)"));
    assert_eq!(other.ask("os.write(fd, b'x')"), "1");
    assert_eq!(other.ask(&opened(&path, "O_WRONLY")), "EACCES");
    for call in [
        format!("os.chmod({path:?}, 0o666)"),
        format!("os.utime({path:?}, (1, 1))"),
        format!("os.chown({path:?}, {OTHER}, -1)"),
    ] {
        assert_eq!(other.ask(&call), "EPERM", "{call}");
    }
}

#[test]
fn a_new_mailbox_has_the_mode_that_the_umask_leaves() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, _]) = users() else { return };
    for (umask, mode) in [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o055, 0o622), (0, 0o666)] {
        owner.run(&format!("(os.umask({umask}), None)[1]"));
        for folder in ["mailboxes", "topics", "segments"] {
            let path = mount.path(folder).join(format!("{umask:o}"));
            owner.run(&format!("open({path:?}, 'w').close()"));
            assert_eq!(
                owner.ask(&format!("os.stat({path:?}).st_mode & 0o7777")),
                mode.to_string(),
                "{path:?}"
            );
        }
    }
}

#[test]
fn stat_shows_of_everything_in_control_what_one_may_do_with_it() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let path = mount.mailbox("box");
    owner.run(&opened(&path, "O_CREAT | os.O_WRONLY"));
    let folder = mount.path("control/mailboxes/box");
    let list = |below: &str| fs::read_dir(folder.join(below)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = list("").chain(list("config")).filter(|path| path.is_file()).collect();
    files.extend(
        ["priority/1", "tag/x", "from/0", "ttl/1s", "delay/1s", "once/x"].map(|door| folder.join(door)),
    );
    assert!(files.len() > 30, "{files:?}");
    for mode in [0o600, 0o644, 0o622, 0o666, 0o606, 0o640, 0o200, 0o400] {
        owner.run(&format!("os.chmod({path:?}, {mode})"));
        for file in &files {
            let shown = fs::metadata(file).unwrap().mode();
            for (peer, shift) in [(&mut owner, 6), (&mut other, 0)] {
                for (flags, bits) in [("O_RDONLY", 4), ("O_WRONLY", 2), ("O_RDWR", 6)] {
                    let may = (shown >> shift) & bits == bits;
                    let told = peer.ask(&opened(file, flags));
                    assert_eq!(
                        told,
                        if may { "None" } else { "EACCES" },
                        "{mode:o}: {file:?} has {shown:o}, {flags}"
                    );
                }
            }
        }
    }
}

#[test]
fn segments_keep_to_their_modes_and_to_the_rights_of_each_descriptor() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let path = mount.segment("s");
    owner.open("fd", &path, "O_CREAT | os.O_RDWR");
    owner.run("os.ftruncate(fd, 4096)");
    owner.run(&format!("os.chmod({path:?}, 0o644)"));
    assert_eq!(other.ask(&opened(&path, "O_RDWR")), "EACCES");
    assert_eq!(other.ask(&format!("os.truncate({path:?}, 0)")), "EACCES");
    other.open("fd", &path, "O_RDONLY");
    assert_eq!(other.ask("mmap.mmap(fd, 4096)"), "EACCES", "a shared mapping that can be written");
    other.run("map = mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)");
    owner.run("map = mmap.mmap(fd, 4096)");
    owner.run("map[9] = 9");
    assert_eq!(other.ask("map[9], os.pread(fd, 1, 9)"), "(9, b'\\t')");
    owner.run(&format!("os.chmod({path:?}, 0o600)"));
    assert_eq!(other.ask(&opened(&path, "O_RDONLY")), "EACCES");
    // What a write takes away, it takes from others' files too.
    owner.run(&format!("os.chmod({path:?}, 0o6777)"));
    other.open("fd", &path, "O_WRONLY");
    assert_eq!(other.ask("os.write(fd, b'x')"), "1");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
}

#[test]
fn in_the_shared_folders_everyone_removes_only_what_is_his() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    for kind in ["mailboxes", "segments"] {
        let (path, theirs) = (mount.path(kind).join("file"), mount.path(kind).join("theirs"));
        owner.run(&opened(&path, "O_CREAT | os.O_RDWR"));
        other.run(&opened(&theirs, "O_CREAT | os.O_RDWR"));
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, USER));
        for call in [
            format!("os.unlink({path:?})"),
            format!("os.rename({path:?}, {theirs:?})"),
            format!("os.rename({theirs:?}, {path:?})"),
        ] {
            assert_eq!(other.ask(&call), "EPERM", "{call}");
        }
        owner.run(&format!("os.unlink({path:?})"));
        other.run(&format!("os.rename({theirs:?}, {path:?})"));
        other.run(&format!("os.unlink({path:?})"));
        // In a folder of one's own, its mode decides.
        let folder = mount.path(kind).join("folder");
        owner.run(&format!("os.mkdir({folder:?}, 0o755)"));
        assert_eq!(other.ask(&opened(&folder.join("x"), "O_CREAT | os.O_RDWR")), "EACCES");
        owner.run(&format!("os.chmod({folder:?}, 0o777)"));
        other.run(&opened(&folder.join("x"), "O_CREAT | os.O_RDWR"));
        owner.run(&format!("os.unlink({:?})", folder.join("x")));
        assert_eq!(other.ask(&format!("os.rmdir({folder:?})")), "EPERM");
    }
    assert_eq!(
        owner.ask(&format!("os.mkdir({:?})", mount.path("new"))),
        "EACCES",
        "the root is the mounter's"
    );
}

#[test]
fn a_symbolic_link_in_a_shared_folder_leads_nobody_astray() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut user, mut other]) = users() else { return };
    let link = |target: &str, at: &Path| format!("os.symlink({target:?}, {at:?})");
    for kind in ["mailboxes", "topics", "segments"] {
        let dir = mount.path(kind);
        for target in ["/etc/passwd", "..", "../segments/x", "a/../x", "a/..", "/"] {
            assert_eq!(user.ask(&link(target, &dir.join("link"))), "EPERM", "{target}");
        }
        // In a folder of one's own it leads anywhere; and cannot be moved to where it could not be made.
        user.run(&format!("os.mkdir({:?}, 0o755)", dir.join("own")));
        user.run(&link("/etc/hostname", &dir.join("own/away")));
        assert_eq!(
            user.ask(&format!("os.rename({:?}, {:?})", dir.join("own/away"), dir.join("away"))),
            "EPERM"
        );
        user.run(&link("file", &dir.join("alias")));
        user.run(&format!("os.close(os.open({:?}, os.O_CREAT | os.O_WRONLY, 0o666))", dir.join("file")));
        let stat = format!("os.stat({:?}).st_uid", dir.join("alias"));
        assert_eq!(other.ask(&stat), USER.to_string(), "one name is followed by all");
        // By way of a folder below, where anything may be, only its owner follows, and whoever owns the shared folder leads.
        user.run(&link("own/away", &dir.join("astray")));
        assert_eq!(other.ask(&format!("os.readlink({:?})", dir.join("astray"))), "EACCES");
        assert_eq!(other.ask(&format!("os.stat({:?})", dir.join("astray"))), "EACCES");
        assert_eq!(
            fs::metadata(dir.join("astray")).unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
        assert_eq!(user.ask(&format!("os.readlink({:?})", dir.join("astray"))), "own/away");
        std::os::unix::fs::symlink("own/x", dir.join("roots")).unwrap();
        assert_eq!(other.ask(&format!("os.readlink({:?})", dir.join("roots"))), "own/x");
        // Only its owner removes it, as anything in a shared folder.
        assert_eq!(other.ask(&format!("os.unlink({:?})", dir.join("alias"))), "EPERM");
        assert_eq!(other.ask(&format!("os.rename({0:?}, {0:?} + 'x')", dir.join("alias"))), "EPERM");
        user.run(&format!("os.unlink({:?})", dir.join("alias")));
    }
}

#[test]
fn a_private_folder_hides_what_is_in_it_and_so_does_its_mirror_in_control() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    for (kind, config) in [("mailboxes", "maxmsg"), ("segments", "size_max")] {
        let (folder, mirror) =
            (mount.path(kind).join("private"), mount.path("control").join(kind).join("private"));
        owner.run(&format!("os.mkdir({folder:?}, 0o700)"));
        owner.run(&opened(&folder.join("secret"), "O_CREAT | os.O_RDWR"));
        owner.run(&format!("os.chmod({:?}, 0o666)", folder.join("secret")));
        let all = if kind == "mailboxes" { "['secret', 'config']" } else { "['secret']" };
        for (dir, listed) in [(&folder, "['secret']"), (&mirror, all)] {
            assert_eq!(owner.ask(&format!("os.listdir({dir:?})")), listed);
            for call in [format!("os.listdir({dir:?})"), format!("os.stat({:?})", dir.join("secret"))] {
                assert_eq!(other.ask(&call), "EACCES", "{call}");
            }
        }
        for file in [format!("secret/config/{config}"), String::from("secret/status")] {
            assert_eq!(other.ask(&opened(&mirror.join(&file), "O_RDONLY")), "EACCES");
            owner.run(&opened(&mirror.join(&file), "O_RDONLY"));
        }
        owner.run(&format!("os.chmod({folder:?}, 0o711)"));
        other.run(&opened(&folder.join("secret"), "O_RDWR"));
        for dir in [&folder, &mirror] {
            assert_eq!(other.ask(&format!("os.listdir({dir:?})")), "EACCES");
            other.run(&format!("os.stat({:?}) and None", dir.join("secret")));
        }
    }
}

#[test]
fn only_the_owner_changes_the_settings() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    for (file, config) in [("mailboxes/m", "maxmsg"), ("segments/s", "size_max")] {
        let (path, config) = (mount.path(file), mount.path("control").join(file).join("config").join(config));
        owner.run(&opened(&path, "O_CREAT | os.O_RDWR"));
        owner.run(&format!("os.chmod({path:?}, 0o666)"));
        let set = |value: &str| format!("open({config:?}, 'w').write('{value}')");
        assert_eq!(owner.ask(&set("77\\n")), "3");
        assert_eq!(other.ask(&set("88\\n")), "EACCES");
        assert_eq!(other.ask(&format!("open({config:?}).read()")), "77\\n");
        for call in [format!("os.chmod({config:?}, 0o666)"), format!("os.chown({config:?}, {OTHER}, -1)")] {
            assert_eq!(other.ask(&call), "EPERM");
        }
        chown(&path, Some(OTHER), None).unwrap();
        assert_eq!(other.ask(&set("88\\n")), "3", "they go with the object to its new owner");
        assert_eq!(owner.ask(&set("77\\n")), "EACCES");
    }
}

#[test]
fn status_names_who_waits() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let path = mount.make_mailbox("m", &[("maxmsg", "1")]);
    chmod(&path, 0o666);
    owner.open("fd", &path, "O_RDONLY");
    owner.tell("os.read(fd, 10)");
    mount.wait_for_figure("m", "waiting_readers", 1);
    let status = || fs::read_to_string(mount.path("control/mailboxes/m/status")).unwrap();
    let line =
        |role: &str, peer: &Peer, uid: u32| format!("\nwaiting {role} pid {} uid {uid} since ", peer.pid());
    assert!(status().contains(&line("reader", &owner, USER)), "{}", status());
    other.open("fd", &path, "O_WRONLY");
    assert_eq!(other.ask("os.write(fd, b'taken')"), "5");
    assert_eq!(owner.answer(), "b'taken'");
    assert!(!status().contains("waiting reader pid"));
    assert_eq!(other.ask("os.write(fd, b'waits')"), "5");
    other.tell("os.write(fd, b'more')");
    mount.wait_for_figure("m", "waiting_writers", 1);
    assert!(status().contains(&line("writer", &other, OTHER)), "{}", status());
    let since =
        status().lines().find_map(|line| line.rsplit_once(" since ").map(|(_, at)| at.to_owned())).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let since: f64 = since.parse().unwrap();
    assert!(since <= now && since > now - common::PATIENCE.as_secs_f64(), "{since}, {now}");
    fs::read(&path).unwrap();
    assert_eq!(other.answer(), "4");
}

/// The descriptor `fd` of a process, in this one, which is root's: as if a set-uid program had inherited it.
fn inherited(peer: &Peer, fd: &str) -> fs::File {
    let process = pidfd_open(Pid::from_raw(peer.pid() as i32).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, fd.parse().unwrap(), PidfdGetfdFlags::empty()).unwrap().into()
}

#[test]
fn who_opened_a_file_is_the_sender_of_what_is_written_through_it() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let (path, private) = (mount.mailbox("box"), mount.mailbox("private"));
    owner.run(&opened(&path, "O_CREAT | os.O_WRONLY"));
    other.run(&format!("os.close(os.open({private:?}, os.O_CREAT | os.O_WRONLY, 0o600))"));
    let side = mount.path("control/mailboxes/box");
    for door in ["", "stream", "whole", "tag/x", "priority/3"] {
        let path = if door.is_empty() { path.clone() } else { side.join(door) };
        let fd = owner.ask(&format!("os.open({path:?}, os.O_WRONLY)"));
        let mut written_by_root = inherited(&owner, &fd);
        written_by_root.write_all(b"text\n").unwrap();
        drop(written_by_root);
        owner.run(&format!("os.close({fd})"));
        let mut line = vec![0; 4096];
        let length = fs::File::open(side.join("json")).unwrap().read(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        assert!(line.contains(&format!("\"uid\":{USER},\"gid\":{USER},\"pid\":")), "{door}: {line}");
    }
    let fd = owner.ask(&format!("os.open({:?}, os.O_WRONLY)", side.join("config/dead_letter")));
    let refused = inherited(&owner, &fd).write_all(b"private").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(fs::read_to_string(side.join("config/dead_letter")).unwrap(), "");
}

#[test]
fn a_dead_letter_goes_only_where_its_setter_may_send_now_and_where_there_is_room() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let (from, to) = (mount.mailbox("from"), mount.mailbox("to"));
    owner.run(&opened(&from, "O_CREAT | os.O_WRONLY"));
    other.run(&opened(&to, "O_CREAT | os.O_WRONLY"));
    other.run(&format!("os.chmod({to:?}, 0o622)"));
    let set = |peer: &mut Peer, name: &str, key: &str, value: &str| {
        let file = mount.path("control/mailboxes").join(name).join("config").join(key);
        peer.run(&format!("f = open({file:?}, 'w'); f.write({value:?}); f.close()"));
    };
    set(&mut other, "to", "maxmsg", "2");
    set(&mut other, "to", "msgsize", "9");
    set(&mut owner, "from", "dead_letter", "to");
    set(&mut owner, "from", "ttl", "1ms");
    let gone = |count: u64| {
        wait_for("messages to expire", || mount.figure("mailboxes/from/status", "expired") == count);
        mount.figure("mailboxes/to/status", "moved_in")
    };
    owner.run(&format!("f = os.open({from:?}, os.O_WRONLY); n = os.write(f, b'longer than nine')"));
    assert_eq!(gone(1), 0, "longer than msgsize");
    for (sent, arrived) in [(2, 1), (3, 2), (4, 2)] {
        owner.run("n = os.write(f, b'x')");
        assert_eq!(gone(sent), arrived, "at most maxmsg");
    }
    other.run(&format!("g = os.read(os.open({to:?}, os.O_RDONLY), 9)"));
    other.run(&format!("os.chmod({to:?}, 0o600)"));
    owner.run("n = os.write(f, b'x')");
    assert_eq!(gone(5), 2, "the right was withdrawn");
    let closed = mount.mailbox("closed");
    other.run(&format!("os.chmod({to:?}, 0o622); os.mkdir({closed:?}, 0o700)"));
    other.run(&format!("os.rename({to:?}, {:?})", closed.join("to")));
    owner.run("n = os.write(f, b'x')");
    wait_for("messages to expire", || mount.figure("mailboxes/from/status", "expired") == 6);
    assert_eq!(mount.figure("mailboxes/closed/to/status", "moved_in"), 2, "the way is closed");
}

#[test]
fn dead_letters_do_not_go_round() {
    let Some(mount) = common::mount() else { return };
    for (name, next) in [("a", "b"), ("b", "c"), ("c", "a")] {
        mount.make_mailbox(name, &[("ttl", "1ms")]);
        mount.make_mailbox(next, &[]);
        let file = mount.path("control/mailboxes").join(name).join("config/dead_letter");
        fs::write(file, next).unwrap();
    }
    fs::write(mount.mailbox("a"), "x").unwrap();
    wait_for("the message to be dropped", || mount.figure("mailboxes/c/status", "expired") == 1);
    wait_for("nothing to be left", || mount.figure("status", "memory_used") == 0);
    assert_eq!(mount.figure("mailboxes/a/status", "moved_in"), 0, "where it died it does not come back");
    // Whoever receives it in between may give it back as often as it likes.
    fs::write(mount.path("control/mailboxes/a/config/ttl"), "max").unwrap();
    let side = mount.path("control/mailboxes/a");
    fs::write(side.join("config/dead_letter"), "").unwrap();
    fs::write(mount.mailbox("a"), "y").unwrap();
    assert_eq!(fs::read(mount.mailbox("a")).unwrap(), b"y");
}

#[test]
fn nothing_but_its_name_is_told_of_what_one_may_neither_read_nor_write() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    for kind in ["mailboxes", "topics", "segments"] {
        let path = mount.path(kind).join("private");
        owner.run(&format!("os.close(os.open({path:?}, os.O_CREAT | os.O_RDWR, 0o600))"));
        let side = mount.path("control").join(kind).join("private");
        let config = match kind {
            "mailboxes" => "config/ttl",
            "topics" => "config/backlog",
            _ => "config/size_max",
        };
        let readable = |other: &mut Peer, expected: &str| {
            for file in ["status", "error", config] {
                let got = other.ask(&opened(&side.join(file), "O_RDONLY"));
                assert_eq!(got, expected, "{kind} {file}");
            }
        };
        readable(&mut owner, "None");
        readable(&mut other, "EACCES");
        for mode in ["0o602", "0o604"] {
            owner.run(&format!("os.chmod({path:?}, {mode})"));
            readable(&mut other, "None");
        }
    }
    // Where dead letters go is the owner's matter: it may be a name in a folder that others may not search.
    let file = mount.path("control/mailboxes/private/config/dead_letter");
    assert_eq!(other.ask(&opened(&file, "O_RDONLY")), "EACCES");
    assert_eq!(owner.ask(&opened(&file, "O_RDONLY")), "None");
}

/// Sets a kernel parameter, and puts it back.
struct Parameter(&'static str, String);

impl Parameter {
    fn set(path: &'static str, value: &str) -> Option<Parameter> {
        let old = fs::read_to_string(path).ok()?;
        fs::write(path, value).ok()?;
        Some(Parameter(path, old))
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        let _ = fs::write(self.0, &self.1);
    }
}

#[test]
fn shells_may_send_to_others_mailboxes_where_sticky_folders_are_protected() {
    let Some(mount) = mount_for_all() else { return };
    let Some([mut owner, mut other]) = users() else { return };
    let (path, own) = (mount.mailbox("box"), mount.mailbox("own"));
    owner.run(&opened(&path, "O_CREAT | os.O_WRONLY"));
    owner.run(&format!("os.chmod({path:?}, 0o622)"));
    let as_a_shell = format!("os.close(os.open({path:?}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))");
    let protected = Parameter::set("/proc/sys/fs/protected_regular", "2");
    let sent = other.ask(&as_a_shell);
    let by_root = fs::write(&path, "x");
    drop(protected);
    assert_eq!(sent, "None");
    by_root.unwrap();
    // Only the owner removes, renames and replaces, as in a sticky folder.
    other.run(&opened(&own, "O_CREAT | os.O_WRONLY"));
    for call in [
        format!("os.unlink({path:?})"),
        format!("os.rename({path:?}, {:?})", mount.mailbox("elsewhere")),
        format!("os.rename({own:?}, {path:?})"),
    ] {
        assert_eq!(other.ask(&call), "EPERM", "{call}");
    }
    let shared = mount.path("mailboxes");
    for call in ["os.setxattr({}, 'user.a', b'')", "os.removexattr({}, 'user.a')"] {
        assert_eq!(other.ask(&call.replace("{}", &format!("{shared:?}"))), "EPERM", "{call}");
    }
    let folder = mount.mailbox("folder");
    owner.run(&format!("os.mkdir({folder:?}); os.chmod({folder:?}, 0o777)"));
    other.run(&format!("os.setxattr({folder:?}, 'user.a', b'')"));
    assert_eq!(other.ask(&format!("os.rmdir({folder:?})")), "EPERM");
    let inside = folder.join("inside");
    owner.run(&opened(&inside, "O_CREAT | os.O_WRONLY"));
    other.run(&format!("os.unlink({inside:?})"));
    owner.run(&format!("os.rename({path:?}, {:?}); os.rmdir({folder:?})", mount.mailbox("renamed")));
    fs::remove_file(mount.mailbox("renamed")).unwrap();
}
