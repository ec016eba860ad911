//! Listings: complete, each name once, at a cost that grows with the number of names and no faster.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Dir, FileType, OFlags};

use super::{KINDS, create};
use crate::common;

fn open_dir(path: &Path) -> Dir {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    Dir::read_from(fd.as_fd()).unwrap()
}

fn count(dir: &mut Dir) -> HashMap<String, u32> {
    let mut seen = HashMap::new();
    while let Some(entry) = dir.read() {
        let name = String::from_utf8(entry.unwrap().file_name().to_bytes().to_vec()).unwrap();
        *seen.entry(name).or_insert(0) += 1;
    }
    seen
}

/// Files that nothing is written to, made in the cheapest way.
fn make_many(dir: &Path, numbers: std::ops::Range<u32>) {
    let fd = rustix::fs::open(dir, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for n in numbers {
        let name = format!("name{n:06}");
        rustix::fs::mknodat(&fd, name, FileType::RegularFile, rustix::fs::Mode::from(0o600), 0).unwrap();
    }
}

#[test]
fn a_hundred_thousand_names_are_each_listed_once_while_others_come_and_go() {
    const ALL: u32 = 100_000;
    let Some(mount) = common::mount() else { return };
    let dir = mount.path("mailboxes");
    make_many(&dir, 0..ALL);
    let mut listing = open_dir(&dir);
    let mut seen: HashMap<String, u32> = HashMap::new();
    let (mut removed, mut steps) = (HashSet::new(), 0_u32);
    while let Some(entry) = listing.read() {
        let name = String::from_utf8(entry.unwrap().file_name().to_bytes().to_vec()).unwrap();
        *seen.entry(name).or_insert(0) += 1;
        steps += 1;
        if steps.is_multiple_of(100) {
            // Something already listed, something to come, and something new.
            for gone in [steps / 2 - 50, steps.midpoint(ALL)] {
                let name = format!("name{:06}", gone / 10 * 10 + 3);
                if gone < ALL - 10 && removed.insert(name.clone()) {
                    fs::remove_file(dir.join(&name)).unwrap();
                }
            }
            create(&dir.join(format!("new{steps}"))).unwrap();
            if steps.is_multiple_of(5000) {
                // A name that moves is there under the one or the other.
                fs::rename(dir.join("name000001"), dir.join("moved")).unwrap();
                fs::rename(dir.join("moved"), dir.join("name000001")).unwrap();
            }
        }
        assert!(steps < 3 * ALL, "a listing ends even if names are added all the time");
    }
    assert!(removed.len() > 500);
    for n in (0..ALL).filter(|n| *n != 1) {
        let name = format!("name{n:06}");
        let times = seen.get(&name).copied().unwrap_or(0);
        let there_all_along = !removed.contains(&name);
        assert!(times == 1 || (times == 0 && !there_all_along), "{name} {times} times");
    }
    assert!(seen.iter().all(|(name, times)| *times == 1 || name == "name000001"));

    listing.rewind();
    let seen = count(&mut listing);
    assert_eq!(seen.len(), fs::read_dir(&dir).unwrap().count() + 2);
    assert!(seen.contains_key(".") && seen.contains_key(".."));
    assert_eq!(mount.figure("status", "mailboxes"), seen.len() as u64 - 2);
    let mirrored = fs::read_dir(mount.path("control/mailboxes")).unwrap().count();
    assert_eq!(mirrored, seen.len() - 2 + 1, "and config, of the folder");
}

#[test]
fn a_listing_starts_again_from_where_it_is_told() {
    let Some(mount) = common::mount() else { return };
    let dir = mount.path("segments");
    fs::create_dir(dir.join("folder")).unwrap();
    make_many(&dir, 0..300);
    let mut listing = open_dir(&dir);
    let first: Vec<_> = std::iter::from_fn(|| listing.read()).map(Result::unwrap).collect();
    assert_eq!(first.len(), 303);
    listing.rewind();
    make_many(&dir, 300..301);
    let second: Vec<_> = std::iter::from_fn(|| listing.read()).map(Result::unwrap).collect();
    assert_eq!(second.len(), 304, "rewound, it shows what is there now");
    for at in [0, 1, 100, 301] {
        listing.seek(first[at].offset()).unwrap();
        let next = listing.read().unwrap().unwrap();
        assert_eq!(next.file_name(), first[at + 1].file_name());
    }
}

#[test]
fn entries_say_what_they_are_and_have_the_inode_that_stat_shows() {
    let Some(mount) = common::mount() else { return };
    for kind in KINDS {
        fs::create_dir(mount.path(kind).join("folder")).unwrap();
        create(&mount.path(kind).join("file")).unwrap();
    }
    let mut folders = vec![mount.dir().to_path_buf()];
    let mut inodes = HashSet::new();
    while let Some(folder) = folders.pop() {
        let mut listing = open_dir(&folder);
        while let Some(entry) = listing.read() {
            let entry = entry.unwrap();
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            let path = folder.join(name);
            let stat = rustix::fs::lstat(&path).unwrap();
            assert_eq!(FileType::from_raw_mode(stat.st_mode), entry.file_type(), "{path:?}");
            if name == "." || name == ".." {
                continue;
            }
            assert_eq!(stat.st_ino, entry.ino(), "{path:?}");
            assert!(inodes.insert(entry.ino()), "{path:?} shares an inode");
            if entry.file_type() == FileType::Directory {
                folders.push(path);
            }
        }
    }
    assert!(inodes.len() > 20);
    let found = common::sh(&format!("find {} -type f | wc -l", mount.path("mailboxes").display()));
    assert_eq!(found, "1\n");
}

#[test]
fn a_listing_ends_though_each_name_is_renamed_or_made_anew_when_it_is_shown() {
    const FILES: usize = 300;
    let Some(mount) = common::mount() else { return };
    for kind in ["mailboxes", "topics", "segments"] {
        let ways: [&dyn Fn(&Path); 2] =
            [&|path| fs::rename(path, path.with_extension("renamed")).unwrap(), &|path| {
                fs::remove_file(path).unwrap();
                create(path).unwrap();
            }];
        for (number, act) in ways.into_iter().enumerate() {
            let dir = mount.path(kind).join(format!("folder{number}"));
            fs::create_dir(&dir).unwrap();
            make_many(&dir, 0..FILES as u32);
            let mut shown = 0;
            for entry in fs::read_dir(&dir).unwrap() {
                shown += 1;
                assert!(shown <= FILES, "{kind}: a name that came later is shown");
                act(&entry.unwrap().path());
            }
            assert_eq!(fs::read_dir(&dir).unwrap().count(), FILES);
        }
    }
    let path = mount.make_mailbox("box", &[]);
    for n in 0..FILES {
        fs::write(&path, n.to_string()).unwrap();
    }
    let messages = mount.path("control/mailboxes/box/messages");
    let mut shown = 0;
    for entry in fs::read_dir(&messages).unwrap() {
        shown += 1;
        assert!(shown <= FILES, "a message that came later is shown");
        fs::remove_file(entry.unwrap().path()).unwrap();
        fs::write(&path, "another").unwrap();
    }
    assert_eq!(fs::read_dir(&messages).unwrap().count(), FILES);
}
