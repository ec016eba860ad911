//! Owners, modes, times and extended attributes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags, getxattr, listxattr, removexattr, setxattr,
    utimensat,
};
use rustix::io::Errno;

use super::{KINDS, create};
use crate::common::peer::Peer;
use crate::common::{self, Mount};

/// A mailbox, a segment and a folder of each kind.
fn one_of_each(mount: &Mount) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for kind in KINDS {
        let (file, folder) = (mount.path(kind).join("file"), mount.path(kind).join("folder"));
        create(&file).unwrap();
        fs::create_dir(&folder).unwrap();
        all.extend([file, folder]);
    }
    all
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn changed(path: &Path) -> (i64, i64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.ctime(), metadata.ctime_nsec())
}

#[test]
fn owner_mode_and_times_are_as_set() {
    let Some(mount) = common::mount() else { return };
    for path in one_of_each(&mount) {
        for bits in [0o000, 0o622, 0o755, 0o1777, 0o4755, 0o2770] {
            let before = changed(&path);
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(mode(&path), bits, "{path:?}");
            assert!(changed(&path) >= before);
        }
        chown(&path, Some(common::USER), Some(common::OTHER)).unwrap();
        chown(&path, None, Some(99)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (common::USER, 99));
        let (old, older) =
            (SystemTime::UNIX_EPOCH + Duration::new(1_000_000_007, 123_456_789), SystemTime::UNIX_EPOCH);
        let file = fs::File::open(path.parent().unwrap()).unwrap();
        drop(file);
        common::sh(&format!("touch -m -d @1000000007.123456789 {0}; touch -a -d @0 {0}", path.display()));
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.modified().unwrap(), metadata.accessed().unwrap()), (old, older));
        assert!(metadata.ctime() > 1_600_000_000);
        common::sh(&format!("touch {}", path.display()));
        assert!(fs::metadata(&path).unwrap().mtime() > 1_600_000_000);
    }
}

/// The kernel believes what a look-up tells it for some milliseconds; not beyond a change.
#[test]
fn what_a_descriptor_shows_is_never_older_than_the_last_change() {
    let Some(mount) = common::mount() else { return };
    let path = mount.path("mailboxes/box");
    create(&path).unwrap();
    let mut sender = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for round in 0..300 {
        // Each opening looks the name up, and is followed at once by a change through another node.
        let (one, other) = (fs::File::open(&path).unwrap(), fs::File::open(&path).unwrap());
        assert_eq!(one.metadata().unwrap().blocks(), 0);
        sender.write_all(&[0; 1000]).unwrap();
        assert_eq!(one.metadata().unwrap().blocks(), 2, "round {round}: sent");
        let bits = 0o600 + round % 0o100;
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        for file in [&one, &other, &sender] {
            assert_eq!(file.metadata().unwrap().mode() & 0o7777, bits, "round {round}: chmod");
        }
        assert_eq!((&other).read(&mut [0; 2000]).unwrap(), 1000);
        assert_eq!(one.metadata().unwrap().blocks(), 0, "round {round}: received");
        assert_eq!(fs::metadata(&path).unwrap().blocks(), 0);
    }
}

#[test]
fn a_change_of_owner_or_contents_takes_set_user_id_away() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let path = mount.path(kind).join("file");
        create(&path).unwrap();
        let arm = || fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
        arm();
        chown(&path, Some(common::USER), None).unwrap();
        assert_eq!(mode(&path), 0o777);
    }
    // Root may write without losing it; another user's write takes it away.
    let path = mount.segment("file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
    assert_eq!(mode(&path), 0o6777);
}

#[test]
fn chown_that_names_nobody_takes_set_id_bits_away_too() {
    let Some(mount) = common::mount() else { return };
    let plain = tempfile::NamedTempFile::new().unwrap();
    for path in
        KINDS.map(|kind| mount.path(kind).join("file")).iter().map(PathBuf::as_path).chain([plain.path()])
    {
        drop(create(path));
        for (before, after) in [(0o6755, 0o0755), (0o2745, 0o2745), (0o6711, 0o0711), (0o0644, 0o0644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(before)).unwrap();
            chown(path, None, None).unwrap();
            assert_eq!(mode(path), after, "{path:?}, {before:o}");
        }
    }
}

#[test]
fn no_file_has_an_ioctl() {
    const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
    const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
    let Some(mount) = common::mount() else { return };
    let Some(mut peer) = Peer::start() else { return };
    for path in one_of_each(&mount).into_iter().chain([mount.path("control/status")]) {
        peer.open("fd", &path, "O_RDONLY | os.O_NONBLOCK");
        for number in [FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, 0x5401, 0x1234_5678, 0x8008_1234] {
            let answer = peer.ask(&format!("fcntl.ioctl(fd, {number}, b'\\0' * 64)"));
            assert_eq!(answer, "ENOTTY", "{number:#x} of {path:?}");
        }
        peer.run("os.close(fd)");
    }
}

#[test]
fn the_umask_holds_for_files_and_folders() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let dir = mount.path(kind);
        common::sh(&format!(
            "cd {} && umask 027 && touch file && mkdir folder && : > created",
            dir.display()
        ));
        assert_eq!([mode(&dir.join("file")), mode(&dir.join("folder"))], [0o640, 0o750]);
        common::sh(&format!("cd {} && umask 0 && : > open && mkdir -m 700 private", dir.display()));
        assert_eq!([mode(&dir.join("open")), mode(&dir.join("private"))], [0o666, 0o700]);
    }
}

#[test]
fn what_is_made_in_a_setgid_folder_has_its_group() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let folder = mount.path(kind).join("folder");
        fs::create_dir(&folder).unwrap();
        chown(&folder, None, Some(99)).unwrap();
        create(&folder.join("before")).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o2775)).unwrap();
        create(&folder.join("file")).unwrap();
        fs::create_dir(folder.join("inner")).unwrap();
        let gid = |name: &str| fs::metadata(folder.join(name)).unwrap().gid();
        assert_eq!([gid("before"), gid("file"), gid("inner")], [0, 99, 99]);
        assert_eq!(mode(&folder.join("inner")) & 0o2000, 0o2000, "handed down");
        assert_eq!(mode(&folder.join("file")) & 0o2000, 0);
    }
}

#[test]
fn the_shared_folders_are_sticky_with_allow_other_and_the_owners_without() {
    let Some(own) = common::mount() else { return };
    let Some(shared) = common::mount_with(&["--allow-other"]) else { return };
    for kind in KINDS {
        assert_eq!(mode(&own.path(kind)), 0o755);
        assert_eq!(mode(&shared.path(kind)), 0o777);
    }
    for mount in [own, shared] {
        for dir in [mount.dir().to_path_buf(), mount.path("control")] {
            assert_eq!(mode(&dir) & 0o222 & !0o200, 0, "{dir:?}");
        }
        let metadata = fs::metadata(mount.dir()).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
    }
}

#[test]
fn times_of_files_are_as_on_tmpfs_before_1970_and_ever_after() {
    let Some(mount) = common::mount() else { return };
    let beside = tempfile::tempdir_in("/dev/shm").unwrap();
    let times =
        [(-1, 999_999_999), (-86_400 * 365 * 300, 1), (1 << 35, 2), (i64::MIN + 1, 4), (i64::MAX - 1, 5)];
    for path in one_of_each(&mount).into_iter().chain([beside.path().to_path_buf()]) {
        for (tv_sec, tv_nsec) in times {
            let access = Timespec { tv_sec, tv_nsec };
            let modification = Timespec { tv_sec: tv_sec / 2, tv_nsec };
            let set = Timestamps { last_access: access, last_modification: modification };
            utimensat(CWD, &path, &set, AtFlags::empty()).unwrap();
            let told = fs::metadata(&path).unwrap();
            assert_eq!((told.atime(), told.atime_nsec()), (tv_sec, tv_nsec), "{path:?}");
            assert_eq!((told.mtime(), told.mtime_nsec()), (tv_sec / 2, tv_nsec), "{path:?}");
        }
    }
}

#[test]
fn a_folders_links_and_times_follow_its_names() {
    let Some(mount) = common::mount() else { return };
    let old = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    for kind in KINDS {
        let dir = mount.path(kind).join("dir");
        fs::create_dir(&dir).unwrap();
        let touched = |what: &str, links: u64, change: &dyn Fn()| {
            fs::File::open(&dir).unwrap().set_times(old).unwrap();
            assert_eq!(fs::metadata(&dir).unwrap().mtime(), 0);
            let before = changed(&dir);
            change();
            let metadata = fs::metadata(&dir).unwrap();
            assert!(metadata.mtime() > 1_600_000_000, "{what}");
            assert!(changed(&dir) >= before, "{what}");
            assert_eq!(metadata.nlink(), links, "{what}");
        };
        touched("create", 2, &|| drop(create(&dir.join("file")).unwrap()));
        touched("mkdir", 3, &|| fs::create_dir(dir.join("one")).unwrap());
        touched("mkdir", 4, &|| fs::create_dir(dir.join("two")).unwrap());
        touched("rename", 4, &|| fs::rename(dir.join("file"), dir.join("other")).unwrap());
        touched("rename over", 3, &|| fs::rename(dir.join("one"), dir.join("two")).unwrap());
        touched("unlink", 3, &|| fs::remove_file(dir.join("other")).unwrap());
        touched("rename away", 2, &|| fs::rename(dir.join("two"), mount.path(kind).join("away")).unwrap());
        assert_eq!(fs::metadata(mount.path(kind)).unwrap().nlink(), 4);
        create(&dir.join("file")).unwrap();
        let path = dir.join("file");
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
        let (file, before) = (fs::File::open(&path).unwrap(), changed(&path));
        common::wait_for("the clock to go on", || {
            fs::rename(&path, dir.join("x")).unwrap();
            fs::rename(dir.join("x"), &path).unwrap();
            changed(&path) > before
        });
        fs::remove_file(&path).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
    }
}

#[test]
fn extended_attributes_are_kept_on_mailboxes_segments_and_folders() {
    let Some(mount) = common::mount() else { return };
    let Some(mut peer) = Peer::start() else { return };
    for path in one_of_each(&mount) {
        let path = path.as_path();
        let get = |name: &str, room: usize| {
            let mut value = vec![0; room];
            getxattr(path, name, &mut value[..]).map(|len| {
                value.truncate(len);
                value
            })
        };
        assert_eq!(get("user.none", 10), Err(Errno::NODATA));
        assert_eq!(removexattr(path, "user.none"), Err(Errno::NODATA));
        setxattr(path, "user.one", b"\0binary\xff", XattrFlags::CREATE).unwrap();
        setxattr(path, "user.empty", b"", XattrFlags::empty()).unwrap();
        assert_eq!(get("user.one", 100).unwrap(), b"\0binary\xff");
        assert_eq!(get("user.empty", 100).unwrap(), b"");
        assert_eq!(
            peer.ask(&format!("libc.getxattr({path:?}.encode(), b'user.one', None, 0)")),
            "8",
            "the length"
        );
        assert_eq!(get("user.one", 7), Err(Errno::RANGE));
        assert_eq!(setxattr(path, "user.one", b"x", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(setxattr(path, "user.two", b"x", XattrFlags::REPLACE), Err(Errno::NODATA));
        setxattr(path, "user.one", b"new", XattrFlags::REPLACE).unwrap();
        assert_eq!(get("user.one", 100).unwrap(), b"new");
        let mut list = [0; 100];
        let len = listxattr(path, &mut list).unwrap();
        let mut listed: Vec<&[u8]> =
            list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        listed.sort_unstable();
        assert_eq!(listed, [b"user.empty".as_slice(), b"user.one"]);
        assert_eq!(listxattr(path, &mut [0; 5]), Err(Errno::RANGE));

        for name in ["trusted.x", "security.x", "system.x"] {
            assert_eq!(setxattr(path, name, b"x", XattrFlags::empty()), Err(Errno::OPNOTSUPP), "{name}");
        }
        assert_eq!(setxattr(path, "user.", b"x", XattrFlags::empty()), Err(Errno::INVAL), "as on tmpfs");
        for name in ["security.selinux", "system.posix_acl_access", "system.posix_acl_default"] {
            assert!(matches!(get(name, 100), Err(Errno::OPNOTSUPP | Errno::NODATA)), "{name}");
        }

        let whole = vec![7; 65_536 - "user.big".len() - "user.onenew".len() - "user.empty".len()];
        assert_eq!(
            setxattr(path, "user.big", &[&whole[..], b"x"].concat(), XattrFlags::empty()),
            Err(Errno::NOSPC)
        );
        setxattr(path, "user.big", &whole, XattrFlags::empty()).unwrap();
        assert_eq!(setxattr(path, "user.more", b"", XattrFlags::empty()), Err(Errno::NOSPC));
        setxattr(path, "user.big", b"small again", XattrFlags::empty()).unwrap();
        setxattr(path, "user.more", b"", XattrFlags::empty()).unwrap();
        removexattr(path, "user.one").unwrap();
        assert_eq!(get("user.one", 10), Err(Errno::NODATA));
        let moved = path.with_file_name("moved");
        fs::rename(path, &moved).unwrap();
        let mut value = [0; 20];
        assert_eq!(getxattr(&moved, "user.big", &mut value), Ok(11), "they move along");
        fs::remove_dir(&moved).or_else(|_| fs::remove_file(&moved)).unwrap();
    }
    assert_eq!(
        setxattr(mount.path("control/status"), "user.x", b"x", XattrFlags::empty()),
        Err(Errno::OPNOTSUPP)
    );
}

#[test]
fn ls_and_cp_have_nothing_to_say_about_attributes() {
    let Some(mount) = common::mount() else { return };
    let paths = one_of_each(&mount);
    setxattr(&paths[2], "user.kept", b"value", XattrFlags::empty()).unwrap();
    let said = common::sh(&format!(
        "ls -laR {0} 2>&1 >/dev/null; ls -l {0}/mailboxes | tail -n +2",
        mount.dir().display()
    ));
    assert!(said.contains(" file\n") && said.contains(" folder\n") && said.lines().count() == 2, "{said}");
    assert!(said.lines().all(|line| !line.contains("+ ")), "no sign of an ACL: {said}");
    let (from, to) = (paths[2].display(), mount.segment("copy"));
    assert_eq!(common::sh(&format!("cp -a {from} {} 2>&1", to.display())), "");
    let mut value = [0; 10];
    assert_eq!(getxattr(&to, "user.kept", &mut value), Ok(5));
    let times = [&paths[2], &to].map(|path| fs::metadata(path).unwrap().modified().unwrap());
    assert_eq!(times[0], times[1]);
}

#[test]
fn a_new_file_has_the_set_id_bits_that_it_is_made_with() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        for bits in [0o2700, 0o4700, 0o6700, 0o2600, 0o6600, 0o2000] {
            for flags in [OFlags::EXCL | OFlags::RDWR, OFlags::TRUNC | OFlags::WRONLY] {
                let path = mount.path(kind).join("file");
                drop(rustix::fs::open(&path, OFlags::CREATE | flags, Mode::from_raw_mode(bits)).unwrap());
                assert_eq!(mode(&path), bits, "{kind} {bits:o} {flags:?}");
                fs::remove_file(&path).unwrap();
            }
        }
    }
}
