//! Mounting by mount(8), and options in a list.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{self, PATIENCE};
use crate::place::{Outcome, Place, ipcfs, run, signal};

/// A script in a mount namespace whose `/usr/sbin` has the helpers and nothing else. mount(8) looks for them in `/sbin`,
/// which is a link to it where the folders are merged.
fn with_helpers(place: &Place, script: &str) -> Outcome {
    let set_up = "for dir in /sbin /usr/sbin; do
            mount -t tmpfs none $dir && ln -sf $IPCFS $dir/mount.ipcfs && ln -sf $IPCFS $dir/mount.fuse.ipcfs || exit 77
        done\n";
    let script = place.script(&format!("{set_up}{script}"));
    let mut unshared = Command::new("unshare");
    unshared.arg("-m").arg(script.get_program()).args(script.get_args());
    unshared.envs(script.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut unshared)
}

#[test]
fn mount_by_type_with_options_of_ours_and_of_all_file_systems() {
    let Some(place) = Place::alone() else { return };
    for kind in ["ipcfs", "fuse.ipcfs"] {
        let outcome = with_helpers(
            &place,
            &format!(
                "mount -t {kind} none $DIR -o rw,nofail,_netdev,dev,suid,noexec,x-systemd.automount,memory=3M,max_files=9 &&
                 cat $DIR/control/status && grep \" $DIR \" /proc/self/mountinfo && umount $DIR"
            ),
        );
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
        for said in ["memory_max 3145728\n", ",noexec", " - fuse.ipcfs none "] {
            assert!(outcome.stdout.contains(said), "{said} is missing in {}", outcome.stdout);
        }
        place.assert_nothing_left();
    }
}

#[test]
fn the_source_is_a_name_whatever_is_in_the_current_directory() {
    let Some(place) = Place::alone() else { return };
    let script = "mkdir $T/jobs && cd $T && mount -t ipcfs jobs $DIR && grep \" $DIR \" /proc/self/mountinfo && umount $DIR";
    let outcome = with_helpers(&place, script);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains(" - fuse.ipcfs jobs "), "{outcome:?}");
}

#[test]
fn a_line_of_fstab_mounts_once() {
    let Some(place) = Place::alone() else { return };
    let script = r#"
        echo "jobs $DIR ipcfs allow_other,msgsize=64K,nofail,x-systemd.automount 0 0" > $T/fstab
        mount -T $T/fstab -a && echo kept > $DIR/mailboxes/a && mount -T $T/fstab -a && cat $DIR/mailboxes/a &&
        cat $DIR/control/mailboxes/config/msgsize && stat -c %a $DIR/mailboxes && umount $DIR"#;
    let outcome = with_helpers(&place, script);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "kept\n65536\n777\n"), "{outcome:?}");
}

#[test]
fn what_mount_cannot_take_is_named_with_its_exit_codes() {
    let Some(place) = Place::alone() else { return };
    for (options, code, said) in [
        ("-o bogus=1,memory=3M", 1, "mount option 'bogus' is unknown; ipcfs has allow_other, "),
        ("-o memory", 1, "mount option 'memory' needs a value"),
        ("-o memory=1Q", 1, "invalid value '1Q' for '--memory <SIZE>'"),
        ("-o foreground", 1, "mount option 'foreground' is unknown"),
        ("-o ro", 1, "cannot be read-only"),
        ("-o remount", 1, "cannot be changed"),
        ("-o log=/nonexistent/dir/log", 32, "cannot open the log file /nonexistent/dir/log"),
        ("-s -o bogus=1", 0, ""),
        ("-f -o memory=3M", 0, ""),
    ] {
        let outcome = with_helpers(&place, &format!("mount -t ipcfs none $DIR {options}"));
        assert_eq!(outcome.code, Some(code), "{options}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{options}: {outcome:?}");
        assert_eq!(place.mounts(), 0);
    }
}

#[test]
fn a_list_of_options_is_as_good_as_flags() {
    let Some(place) = Place::alone() else { return };
    place.mount(&["-o", "maxmsg=5,max_files=10,exec", "-o", "maxmsg=6,", "--maxbytes=100"]);
    let config = "cd $DIR/control/mailboxes/config && cat maxmsg maxbytes";
    assert_eq!(place.sh(config), "6\n100\n", "the last counts");
    place.sh("$IPCFS umount $DIR && $IPCFS mount -o maxmsg=5 --maxmsg=7 --source jobs $DIR");
    assert_eq!(place.sh(config), "7\n67108864\n", "a flag counts before an option");
    assert!(place.sh("$IPCFS status").contains(place.name()));
    let bad = ipcfs(["mount", "-o", "frobnicate", "/nonexistent"]);
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(2), ""));
    assert!(bad.stderr.contains("mount option 'frobnicate' is unknown"), "{bad:?}");
    let bad = ipcfs(["mount", "--source", "a,b", "/nonexistent"]);
    assert!(bad.code == Some(2) && bad.stderr.contains("without commas"), "{bad:?}");
}

#[test]
fn the_helper_tells_its_own_usage() {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("mount.ipcfs");
    symlink(common::ipcfs().get_program(), &helper).unwrap();
    let help = run(Command::new(&helper).arg("--help"));
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Usage: mount.ipcfs [OPTIONS] <SOURCE> <DIR>"), "{help:?}");
    let nothing = run(&mut Command::new(&helper));
    assert!(nothing.code == Some(1) && nothing.stderr.contains("<SOURCE>"), "{nothing:?}");
}

#[test]
fn the_service_manager_is_told_when_the_tree_answers() {
    let Some(place) = Place::alone() else { return };
    let path = place.beside("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let name = format!("ipcfs-test-{}", std::process::id());
    let abstract_one = {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        UnixDatagram::bind_addr(&address).unwrap()
    };
    for (manager, address) in [(manager, path.into_os_string()), (abstract_one, format!("@{name}").into())] {
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = common::ipcfs();
        command.args(["mount", "-f"]).arg(place.dir()).env("NOTIFY_SOCKET", address);
        let mut daemon = command.stdin(Stdio::null()).spawn().unwrap();
        let mut message = [0; 100];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\n");
        assert!(fs::exists(place.path("control/status")).unwrap(), "it answers");
        signal(daemon.id(), Signal::TERM);
        assert_eq!(common::reap(&mut daemon).code(), Some(0));
        // Nothing more.
        manager.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(manager.recv(&mut message).is_err());
    }
}
