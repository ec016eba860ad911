//! Names through a mount: folders, files, what can be made, moved and removed where; and, in the modules, attributes,
//! listings, `control/` and races.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

#[path = "tree/attributes.rs"]
mod attributes;
#[path = "tree/control.rs"]
mod control;
#[path = "tree/file_handles.rs"]
mod file_handles;
#[path = "tree/listing.rs"]
mod listing;
#[path = "tree/metrics.rs"]
mod metrics;
#[path = "tree/races.rs"]
mod races;
#[path = "tree/symlinks.rs"]
mod symlinks;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use rustix::io::Errno;

fn errno(result: std::io::Result<impl Sized>) -> Option<Errno> {
    result.err().map(|error| Errno::from_io_error(&error).unwrap())
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const KINDS: [&str; 3] = ["mailboxes", "segments", "topics"];

#[test]
fn the_root_has_its_folders_and_takes_no_more() {
    let Some(mount) = common::mount() else { return };
    assert_eq!(names(mount.dir()), ["control", "mailboxes", "segments", "topics"]);
    for dir in [mount.dir().to_path_buf(), mount.path("control"), mount.path("control/mailboxes")] {
        assert_eq!(errno(fs::create_dir(dir.join("new"))), Some(Errno::PERM), "{dir:?}");
        // In `control/`, whoever writes to a name that is not there has mistaken the name.
        let refusal = if dir == mount.dir() { Errno::PERM } else { Errno::NOENT };
        assert_eq!(errno(create(&dir.join("new"))), Some(refusal), "{dir:?}");
    }
    for name in ["control", "mailboxes", "segments", "topics"] {
        let path = mount.path(name);
        assert_eq!(errno(fs::remove_dir(&path)), Some(Errno::PERM), "{name}");
        assert_eq!(errno(fs::rename(&path, mount.path("other"))), Some(Errno::PERM), "{name}");
        assert_eq!(errno(fs::create_dir(&path)), Some(Errno::EXIST), "{name}");
    }
    assert_eq!(errno(fs::remove_file(mount.path("control/status"))), Some(Errno::PERM));
    assert_eq!(errno(fs::rename(mount.path("control/status"), mount.mailbox("status"))), Some(Errno::PERM));
    assert_eq!(errno(fs::rename(mount.mailbox(""), mount.path("segments/m"))), Some(Errno::PERM));
    assert_eq!(names(mount.dir()), ["control", "mailboxes", "segments", "topics"]);
}

#[test]
fn folders_nest_and_go_only_when_they_are_empty() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let top = mount.path(kind).join("a");
        let deep = top.join("b/c/d/e/f");
        fs::create_dir_all(&deep).unwrap();
        create(&deep.join("file")).unwrap();
        assert_eq!(errno(fs::create_dir(&top)), Some(Errno::EXIST));
        assert_eq!(errno(fs::remove_dir(&deep)), Some(Errno::NOTEMPTY));
        assert_eq!(errno(fs::remove_dir(&top)), Some(Errno::NOTEMPTY));
        assert_eq!(errno(fs::remove_dir(deep.join("file"))), Some(Errno::NOTDIR));
        assert_eq!(errno(fs::remove_file(&deep)), Some(Errno::ISDIR));
        assert_eq!(errno(create(&deep.join("file/below"))), Some(Errno::NOTDIR));
        assert_eq!(errno(create(&top.join("missing/file"))), Some(Errno::NOENT));
        assert_eq!(errno(fs::remove_dir(top.join("missing"))), Some(Errno::NOENT));
        assert_eq!(errno(fs::remove_dir(deep.join("."))), Some(Errno::INVAL));
        fs::remove_file(deep.join("file")).unwrap();
        fs::remove_dir(&deep).unwrap();
        assert!(!deep.exists());
        fs::remove_dir_all(&top).unwrap();
        assert!(names(&mount.path(kind)).is_empty());
    }
}

#[test]
fn files_are_made_opened_and_removed_as_on_any_file_system() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let path = mount.path(kind).join("file");
        assert_eq!(errno(File::open(&path)), Some(Errno::NOENT));
        assert_eq!(errno(fs::remove_file(&path)), Some(Errno::NOENT));
        create(&path).unwrap();
        assert_eq!(errno(create(&path)), Some(Errno::EXIST));
        assert!(fs::metadata(&path).unwrap().is_file());
        let directory = rustix::fs::OFlags::DIRECTORY.bits() as i32;
        let as_folder = OpenOptions::new().read(true).custom_flags(directory).open(&path);
        assert_eq!(errno(as_folder), Some(Errno::NOTDIR));
        assert_eq!(errno(OpenOptions::new().write(true).open(path.parent().unwrap())), Some(Errno::ISDIR));
        let nameless = rustix::fs::OFlags::TMPFILE.bits() as i32;
        let nameless = OpenOptions::new().write(true).custom_flags(nameless).open(mount.path(kind));
        assert_eq!(errno(nameless), (kind != "segments").then_some(Errno::OPNOTSUPP));
        fs::remove_file(&path).unwrap();
        assert!(!path.exists());
        mknodat(CWD, &path, FileType::RegularFile, Mode::from(0o640), 0).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777 & !0o022, 0o640);
        assert_eq!(
            common::sh(&format!("cd {} && touch t && test -f t && rm t && ls", mount.path(kind).display())),
            "file\n"
        );
    }
}

#[test]
fn hard_links_and_devices_are_refused() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let (file, new) = (mount.path(kind).join("file"), mount.path(kind).join("new"));
        create(&file).unwrap();
        if kind != "segments" {
            assert_eq!(errno(fs::hard_link(&file, &new)), Some(Errno::PERM));
        }
        for (sort, device) in [
            (FileType::Fifo, 0),
            (FileType::Socket, 0),
            (FileType::CharacterDevice, makedev(1, 3)),
            (FileType::BlockDevice, makedev(7, 0)),
        ] {
            assert_eq!(mknodat(CWD, &new, sort, Mode::from(0o666), device), Err(Errno::PERM), "{sort:?}");
        }
        let socket = std::os::unix::net::UnixListener::bind(&new);
        assert_eq!(errno(socket), Some(Errno::PERM));
        assert_eq!(names(&mount.path(kind)), ["file"]);
    }
}

#[test]
fn names_are_any_bytes_up_to_255() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let dir = mount.path(kind);
        let mut all = vec![
            vec![b'x'; 255],
            b" ".to_vec(),
            b"\n".to_vec(),
            b"-rf".to_vec(),
            b"...".to_vec(),
            vec![0xff],
        ];
        // Bytes of every value, in an order of no meaning, at all lengths.
        let mut state = 4711_u32;
        for len in 1..=255 {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let name: Vec<u8> = (0..len)
                .map(|_| next())
                .map(|byte| if byte == b'/' || byte == 0 { 1 } else { byte })
                .collect();
            all.push(name);
        }
        all.sort();
        all.dedup();
        for name in &all {
            create(&dir.join(OsStr::from_bytes(name))).unwrap();
        }
        let mut listed: Vec<Vec<u8>> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
        listed.sort();
        assert_eq!(listed, all);
        let mirrored = fs::read_dir(mount.path("control").join(kind)).unwrap();
        let mut mirrored: Vec<Vec<u8>> =
            mirrored.map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
        mirrored.retain(|name| name != b"config");
        mirrored.sort();
        assert_eq!(mirrored, all);
        for name in &all {
            fs::remove_file(dir.join(OsStr::from_bytes(name))).unwrap();
        }
        let long = dir.join("x".repeat(256));
        assert_eq!(errno(create(&long)), Some(Errno::NAMETOOLONG));
        assert_eq!(errno(fs::create_dir(&long)), Some(Errno::NAMETOOLONG));
        assert_eq!(errno(fs::metadata(&long)), Some(Errno::NAMETOOLONG));
        create(&dir.join("short")).unwrap();
        assert_eq!(errno(fs::rename(dir.join("short"), &long)), Some(Errno::NAMETOOLONG));
        assert_eq!(names(&dir), ["short"]);
    }
}

#[test]
fn a_mailbox_moves_with_its_messages_and_its_readers() {
    let Some(mount) = common::mount() else { return };
    let from = mount.make_mailbox("from", &[("maxmsg", "7")]);
    fs::write(&from, "hello").unwrap();
    let mut reader = OpenOptions::new().read(true).write(true).open(&from).unwrap();
    let inode = fs::metadata(&from).unwrap().ino();
    fs::create_dir(mount.mailbox("folder")).unwrap();
    let to = mount.mailbox("folder/to");
    fs::rename(&from, &to).unwrap();
    assert!(!from.exists());
    assert_eq!(fs::metadata(&to).unwrap().ino(), inode);
    assert_eq!(fs::read_to_string(mount.path("control/mailboxes/folder/to/config/maxmsg")).unwrap(), "7\n");
    assert_eq!(mount.figure("mailboxes/folder/to/status", "depth"), 1);
    assert_eq!(fs::read(&to).unwrap(), b"hello");
    fs::write(&to, "again").unwrap();
    let mut body = [0; 10];
    assert_eq!(reader.read(&mut body).unwrap(), 5, "what was open before reads on");
    reader.write_all(b"still").unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"still");
}

#[test]
fn renaming_over_a_name_replaces_what_was_there() {
    let Some(mount) = common::mount() else { return };
    let (one, two) = (mount.make_mailbox("one", &[]), mount.make_mailbox("two", &[]));
    fs::write(&one, "1").unwrap();
    fs::write(&two, "2").unwrap();
    let replaced = OpenOptions::new().read(true).write(true).open(&two).unwrap();
    fs::rename(&one, &two).unwrap();
    assert_eq!(names(&mount.path("mailboxes")), ["two"]);
    assert_eq!(errno((&replaced).read(&mut [0])), Some(Errno::IDRM));
    assert_eq!(errno((&replaced).write(b"x")), Some(Errno::IDRM));
    assert_eq!(fs::read(&two).unwrap(), b"1");
    assert_eq!(mount.figure("status", "discarded"), 1);

    fs::write(mount.segment("a"), "a").unwrap();
    fs::write(mount.segment("b"), "bb").unwrap();
    let replaced = File::open(mount.segment("b")).unwrap();
    fs::rename(mount.segment("a"), mount.segment("b")).unwrap();
    assert_eq!(fs::read(mount.segment("b")).unwrap(), b"a");
    assert_eq!(std::io::read_to_string(replaced).unwrap(), "bb");
}

#[test]
fn renaming_obeys_rename_2() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let dir = mount.path(kind);
        let path = |name: &str| dir.join(name);
        create(&path("file")).unwrap();
        fs::rename(path("file"), path("file")).unwrap();
        assert!(path("file").exists(), "onto itself is nothing");
        assert_eq!(errno(fs::rename(path("missing"), path("file"))), Some(Errno::NOENT));
        fs::create_dir_all(path("folder/inner")).unwrap();
        fs::create_dir(path("empty")).unwrap();
        assert_eq!(errno(fs::rename(path("file"), path("empty"))), Some(Errno::ISDIR));
        assert_eq!(errno(fs::rename(path("empty"), path("file"))), Some(Errno::NOTDIR));
        assert_eq!(errno(fs::rename(path("empty"), path("folder"))), Some(Errno::NOTEMPTY));
        assert_eq!(errno(fs::rename(path("folder"), path("folder/inner/x"))), Some(Errno::INVAL));
        assert_eq!(errno(fs::rename(path("folder"), path("folder/inner"))), Some(Errno::INVAL));
        assert_eq!(errno(fs::rename(path("folder/inner"), path("folder"))), Some(Errno::NOTEMPTY));
        fs::rename(path("folder"), path("empty")).unwrap();
        assert_eq!(names(&dir), ["empty", "file"], "an empty folder gives way");
        assert!(path("empty/inner").exists());
        fs::rename(path("file"), path("empty/inner/moved")).unwrap();
        assert_eq!(names(&path("empty/inner")), ["moved"]);
        assert_eq!(fs::metadata(path("empty")).unwrap().nlink(), 3);
        fs::rename(path("empty/inner"), path("up")).unwrap();
        assert_eq!(fs::metadata(path("empty")).unwrap().nlink(), 2);
        assert_eq!(fs::canonicalize(path("up/..")).unwrap(), dir);
        assert_eq!(fs::metadata(path("up/..")).unwrap().ino(), fs::metadata(&dir).unwrap().ino());
    }
}

#[test]
fn rename_can_refuse_to_replace_and_can_exchange() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let dir = mount.path(kind);
        let path = |name: &str| dir.join(name);
        for name in ["one", "two"] {
            create(&path(name)).unwrap();
        }
        fs::create_dir_all(path("folder/inner")).unwrap();
        let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
        let (one, two, folder) = (inode("one"), inode("two"), inode("folder"));
        assert_eq!(rename_with(&path("one"), &path("two"), RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename_with(&path("one"), &path("folder/one"), RenameFlags::NOREPLACE).unwrap();
        assert_eq!((inode("folder/one"), inode("two")), (one, two));

        rename_with(&path("folder/one"), &path("two"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!((inode("folder/one"), inode("two")), (two, one));
        rename_with(&path("two"), &path("folder"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!((inode("two"), inode("folder")), (folder, one));
        assert_eq!(names(&path("two")), ["inner", "one"]);
        assert_eq!(rename_with(&path("two"), &path("missing"), RenameFlags::EXCHANGE), Err(Errno::NOENT));
        assert_eq!(rename_with(&path("two"), &path("two/inner"), RenameFlags::EXCHANGE), Err(Errno::INVAL));
        rename_with(&path("two"), &path("two"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!(rename_with(&path("two"), &path("x"), RenameFlags::WHITEOUT), Err(Errno::INVAL));
    }
}

#[test]
fn nothing_goes_from_one_kind_to_the_other() {
    let Some(mount) = common::mount() else { return };
    let (mailbox, segment) = (mount.make_mailbox("box", &[]), mount.segment("segment"));
    create(&segment).unwrap();
    fs::create_dir(mount.mailbox("folder")).unwrap();
    for (from, to) in [
        (&mailbox, mount.segment("box")),
        (&segment, mount.mailbox("segment")),
        (&mailbox, segment.clone()),
        (&mount.mailbox("folder"), mount.segment("folder")),
    ] {
        assert_eq!(errno(fs::rename(from, to)), Some(Errno::XDEV));
    }
    assert_eq!(rename_with(&mailbox, &segment, RenameFlags::EXCHANGE), Err(Errno::XDEV));
    let outside = tempfile::tempdir().unwrap();
    assert_eq!(errno(fs::rename(&mailbox, outside.path().join("box"))), Some(Errno::XDEV));
    assert_eq!(names(&mount.path("mailboxes")), ["box", "folder"]);
    assert_eq!(names(&mount.path("segments")), ["segment"]);
}

#[test]
fn a_removed_folder_that_is_somebodys_working_directory_is_empty_and_takes_nothing() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        let dir = mount.path(kind).join("folder");
        fs::create_dir(&dir).unwrap();
        let said = common::sh(&format!(
            "cd {0} && rmdir {0} && ls -A && stat -c %h . && ! touch new 2>/dev/null && ! mkdir new 2>/dev/null && \
             mkdir {0} && ! touch new 2>/dev/null && ls {0} && cd .. && echo up",
            dir.display()
        ));
        assert!(said == "0\nup\n" || said == "0\n", "{said}");
        assert!(names(&dir).is_empty());
    }
}

#[test]
fn no_more_files_than_the_mount_was_given() {
    let Some(mount) = common::mount_with(&["--max-files", "10"]) else { return };
    let free = || rustix::fs::statvfs(mount.dir()).map(|space| (space.f_files, space.f_ffree)).unwrap();
    assert_eq!(free(), (10, 10));
    fs::create_dir(mount.mailbox("folder")).unwrap();
    for n in 0..5 {
        create(&mount.mailbox(&format!("folder/{n}"))).unwrap();
    }
    for n in 0..4 {
        create(&mount.segment(&n.to_string())).unwrap();
    }
    assert_eq!(free(), (10, 0));
    assert_eq!(errno(create(&mount.mailbox("more"))), Some(Errno::NOSPC));
    assert_eq!(errno(create(&mount.segment("more"))), Some(Errno::NOSPC));
    assert_eq!(errno(fs::create_dir(mount.mailbox("more"))), Some(Errno::NOSPC));
    fs::rename(mount.segment("0"), mount.segment("1")).unwrap();
    assert_eq!(free(), (10, 1));
    create(&mount.mailbox("more")).unwrap();
    assert_eq!(errno(create(&mount.mailbox("yet more"))), Some(Errno::NOSPC));
    fs::remove_dir_all(mount.mailbox("folder")).unwrap();
    assert_eq!(free(), (10, 6));
}
