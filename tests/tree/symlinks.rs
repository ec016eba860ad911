//! Symbolic links, which the kernel follows, in all three kinds of folders.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;

use super::{KINDS, create, errno, names};

#[test]
fn symbolic_links_are_made_read_listed_moved_and_removed() {
    let Some(mount) = crate::common::mount() else { return };
    for kind in KINDS {
        let dir = mount.path(kind);
        create(&dir.join("file")).unwrap();
        let link = dir.join("link");
        symlink("file", &link).unwrap();
        assert_eq!(errno(symlink("other", &link)), Some(Errno::EXIST));
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("file"));
        assert_eq!(errno(fs::read_link(dir.join("file"))), Some(Errno::INVAL));
        let metadata = fs::symlink_metadata(&link).unwrap();
        assert!(metadata.is_symlink() && !metadata.file_type().is_fifo());
        assert_eq!((metadata.mode() & 0o7777, metadata.len(), metadata.nlink()), (0o777, 4, 1));
        assert_eq!(fs::metadata(&link).unwrap().ino(), fs::metadata(dir.join("file")).unwrap().ino());
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.file_type().unwrap().is_symlink(), entry.file_name() == "link");
        }
        assert!(crate::common::sh(&format!("ls -l {}", dir.display())).contains(" link -> file\n"));
        // A link to a folder is no folder to what removes and makes.
        fs::create_dir(dir.join("folder")).unwrap();
        symlink("folder", dir.join("to-folder")).unwrap();
        create(&dir.join("to-folder/inner")).unwrap();
        assert_eq!(names(&dir.join("folder")), ["inner"]);
        assert_eq!(errno(fs::remove_dir(dir.join("to-folder"))), Some(Errno::NOTDIR));
        assert_eq!(errno(fs::create_dir(dir.join("to-folder"))), Some(Errno::EXIST));
        fs::rename(&link, dir.join("folder/moved")).unwrap();
        assert_eq!(fs::read_link(dir.join("folder/moved")).unwrap(), Path::new("file"));
        assert_eq!(errno(fs::metadata(dir.join("folder/moved"))), Some(Errno::NOENT), "it is relative");
        fs::rename(dir.join("folder/moved"), dir.join("file")).unwrap();
        assert_eq!(errno(fs::File::open(dir.join("file"))), Some(Errno::LOOP), "it leads to itself");
        fs::remove_file(dir.join("file")).unwrap();
        fs::remove_file(dir.join("to-folder")).unwrap();
        assert_eq!(names(&dir), ["folder"]);
        fs::remove_file(dir.join("folder/inner")).unwrap();
        fs::remove_dir(dir.join("folder")).unwrap();
    }
    assert_eq!(errno(symlink("control", mount.path("link"))), Some(Errno::PERM));
    assert_eq!(errno(symlink("status", mount.path("control/link"))), Some(Errno::PERM));
}

#[test]
fn a_symbolic_link_leads_anywhere_from_a_folder_of_ones_own() {
    let Some(mount) = crate::common::mount() else { return };
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "outside").unwrap();
    symlink(outside.path(), mount.segment("out")).unwrap();
    assert_eq!(fs::read(mount.segment("out/file")).unwrap(), b"outside");
    symlink("../mailboxes/box", mount.segment("box")).unwrap();
    assert_eq!(errno(fs::write(mount.path("segments/none/x"), "")), Some(Errno::NOENT));
    fs::write(mount.segment("box"), "hello").unwrap();
    assert_eq!(fs::read(mount.mailbox("box")).unwrap(), b"hello", "where nothing was, what it names is made");
    let long = "x/".repeat(2047) + "y";
    symlink(&long, mount.segment("long")).unwrap();
    assert_eq!(fs::read_link(mount.segment("long")).unwrap(), Path::new(&long));
    assert_eq!(errno(symlink("x".repeat(4096), mount.segment("longer"))), Some(Errno::NAMETOOLONG));
    // Owner and times are those of the link.
    std::os::unix::fs::lchown(mount.segment("long"), Some(7), Some(8)).unwrap();
    let metadata = fs::symlink_metadata(mount.segment("long")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
}

#[test]
fn control_shows_nothing_of_symbolic_links_but_how_many_there_are() {
    let Some(mount) = crate::common::mount_with(&["--max-files=10"]) else { return };
    mount.make_mailbox("box", &[]);
    symlink("box", mount.mailbox("alias")).unwrap();
    symlink("nowhere", mount.mailbox("before")).unwrap();
    mount.make_mailbox("last", &[]);
    assert_eq!(names(&mount.path("mailboxes")), ["alias", "before", "box", "last"]);
    assert_eq!(names(&mount.path("control/mailboxes")), ["box", "config", "last"]);
    assert_eq!(errno(fs::metadata(mount.path("control/mailboxes/alias"))), Some(Errno::NOENT));
    assert_eq!((mount.figure("status", "mailboxes"), mount.figure("status", "symlinks")), (2, 2));
    let used = mount.figure("status", "memory_used");
    assert_eq!(used, 3 + 7, "the targets");
    for number in 0..6 {
        symlink("box", mount.mailbox(&format!("alias{number}"))).unwrap();
    }
    assert_eq!(errno(symlink("box", mount.mailbox("more"))), Some(Errno::NOSPC));
    for entry in fs::read_dir(mount.path("mailboxes")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    mount.wait_for_free_memory();
    assert_eq!((mount.figure("status", "mailboxes"), mount.figure("status", "symlinks")), (0, 0));
}

#[test]
fn many_open_a_mailbox_by_an_alias_at_once_and_all_get_in() {
    const SENDERS: usize = 48;
    const EACH: usize = 20;
    let Some(mount) = crate::common::mount() else { return };
    mount.make_mailbox("jobs", &[]);
    symlink("jobs", mount.mailbox("alias")).unwrap();
    symlink("alias", mount.mailbox("second")).unwrap();
    let script = format!(
        "for i in $(seq {EACH}); do echo a > {} || exit 1; echo b >> {} || exit 1; done",
        mount.mailbox("alias").display(),
        mount.mailbox("second").display()
    );
    let start = || Command::new("sh").arg("-c").arg(&script).stderr(Stdio::piped()).spawn().unwrap();
    let senders: Vec<_> = (0..SENDERS).map(|_| start()).collect();
    for mut sender in senders {
        let mut complaint = String::new();
        sender.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(crate::common::reap(&mut sender).success(), "{complaint}");
    }
    assert_eq!(mount.figure("mailboxes/jobs/status", "depth"), (2 * SENDERS * EACH) as u64);
    assert_eq!(fs::read(mount.mailbox("second")).unwrap().len(), 2);
}
