//! A mailbox as a file: what stat says, and what is no use on it.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

use rustix::fs::{copy_file_range, ftruncate, sendfile};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::common;
use crate::tools::{
    APPEND, BOTH, LONGEST, NOWAIT, READ, TRUNC, WRITE, noise, open, receive, run, send, set, shell,
    try_receive,
};

#[test]
fn truncating_and_appending_lose_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"first");
    for flags in [WRITE | TRUNC, WRITE | APPEND, WRITE | TRUNC | APPEND, BOTH | TRUNC] {
        assert_eq!(rustix::io::write(open(&path, flags), b"next"), Ok(4));
    }
    ftruncate(open(&path, WRITE), 0).unwrap();
    ftruncate(open(&path, WRITE), 1 << 40).unwrap();
    File::create(&path).unwrap();
    run(": > \"$1\"; truncate -s 0 \"$1\"; truncate -s 1G \"$1\"", &path);
    assert_eq!(receive(&path), b"first");
    (0..4).for_each(|_| assert_eq!(receive(&path), b"next"));
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
    // One descriptor, several messages, each of which begins anew.
    let appending = open(&path, WRITE | APPEND);
    (0..3).for_each(|_| assert_eq!(rustix::io::write(&appending, b"line"), Ok(4)));
    (0..3).for_each(|_| assert_eq!(receive(&path), b"line"));
}

#[test]
fn stat_shows_the_bound_the_backlog_and_the_last_send_and_receive() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let stat = || fs::metadata(&path).unwrap();
    let times = || {
        (
            stat().mtime() * 1_000_000_000 + stat().mtime_nsec(),
            stat().atime() * 1_000_000_000 + stat().atime_nsec(),
        )
    };
    let created = times();
    assert_eq!((stat().size(), stat().blocks(), stat().nlink()), (LONGEST as u64, 0, 1));
    send(&path, &[0; 1000]);
    let sent = times();
    assert!(sent.0 > created.0 && sent.1 == created.1, "mtime is the last send: {created:?} {sent:?}");
    assert_eq!((stat().size(), stat().blocks()), (LONGEST as u64, 2));
    send(&path, &[0; 25]);
    assert_eq!(stat().blocks(), 3, "the backlog in units of 512 bytes");
    let sent = times();
    receive(&path);
    receive(&path);
    let received = times();
    assert!(received.0 == sent.0 && received.1 > sent.1, "atime is the last receive: {sent:?} {received:?}");
    assert_eq!(stat().blocks(), 0);
    for (msgsize, blksize) in [(LONGEST, 1 << 20), (65_536, 131_072), (65_535, 65_536), (1, 2)] {
        set(&mount, "box", "msgsize", &msgsize.to_string());
        assert_eq!((stat().size(), stat().blksize()), (msgsize as u64, blksize));
        // Through a descriptor, whatever its node's age.
        let open = File::from(open(&path, READ)).metadata().unwrap();
        assert_eq!((open.size(), open.blksize()), (msgsize as u64, blksize));
    }
}

#[test]
fn cat_of_a_file_into_a_mailbox_is_one_message_or_an_error() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let source = mount.dir().with_extension("file");
    let script = format!("exec cat {} > \"$1\"", source.display());
    for length in [1, 4096, 131_073, LONGEST] {
        let body = noise(length, 1);
        fs::write(&source, &body).unwrap();
        run(&script, &path);
        assert!(receive(&path) == body, "{length} bytes");
    }
    fs::write(&source, noise(LONGEST + 1, 1)).unwrap();
    let out = common::output(shell(&script, &path));
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("Message too long"));
    assert_eq!(try_receive(&path), Err(Errno::AGAIN));
}

/// mmap(2), shared with other processes, for reading.
#[allow(unsafe_code)]
fn map_shared(file: &File) -> std::io::Result<()> {
    // SAFETY: nothing looks at the mapping, which ends here.
    unsafe { memmap2::MmapOptions::new().len(4096).map(file) }.map(drop)
}

/// mmap(2) of a private mapping with `MAP_POPULATE`, which reads ahead all of it.
#[allow(unsafe_code)]
fn populate(file: &File) -> std::io::Result<()> {
    // SAFETY: nothing looks at the mapping, which ends here.
    unsafe { memmap2::MmapOptions::new().len(8192).populate().map_copy_read_only(file) }.map(drop)
}

#[test]
fn a_private_mapping_ends_whatever_it_reads_ahead_and_takes_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let segment = mount.segment("segment");
    fs::write(&segment, [7; 4096]).unwrap();
    send(&path, b"here");
    let topic = mount.path("topics/topic");
    File::create(&topic).unwrap();
    let control = |name: &str| mount.path("control").join(name);
    for file in [&path, &topic, &control("status"), &control("mailboxes/box/peek"), &segment] {
        let file = File::open(file).unwrap();
        let mapped = std::thread::spawn(move || populate(&file));
        common::wait_for("mmap(2) to return", || mapped.is_finished());
        mapped.join().unwrap().unwrap();
    }
    assert_eq!(receive(&path), b"here");
    // The descriptor is as it was.
    let file = open(&path, BOTH);
    send(&path, b"again");
    let mapped = populate(&File::from(file.try_clone().unwrap()));
    assert!(mapped.is_ok(), "{mapped:?}");
    let mut buffer = [0; 9];
    assert_eq!(rustix::io::read(&file, &mut buffer), Ok(5));
    assert_eq!(rustix::io::write(&file, b"back"), Ok(4));
    assert_eq!(receive(&path), b"back");
}

#[test]
fn a_mailbox_cannot_be_mapped() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    send(&path, b"here");
    for writes in [false, true] {
        let file = OpenOptions::new().read(true).write(writes).open(&path).unwrap();
        let error = map_shared(&file).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NODEV));
    }
    assert_eq!(receive(&path), b"here");
}

#[test]
fn the_kernels_own_copying_is_refused_and_takes_nothing() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let other = mount.make_mailbox("other", &[]);
    let segment = mount.segment("segment");
    let plain = mount.dir().with_extension("file");
    File::create(&segment).unwrap();
    File::create(&plain).unwrap();
    send(&path, b"to be copied");
    let (out, into) = pipe().unwrap();
    for flags in [READ, BOTH] {
        let from = open(&path, flags | NOWAIT);
        let refused = |what: &str, result: Result<usize, Errno>| {
            let known = [Errno::INVAL, Errno::OPNOTSUPP, Errno::XDEV, Errno::SPIPE];
            assert!(result.is_err_and(|error| known.contains(&error)), "{what}, {flags:?}: {result:?}");
        };
        refused("splice", splice(&from, None, &into, None, 4096, SpliceFlags::empty()));
        refused("sendfile to a pipe", sendfile(&into, &from, None, 4096));
        for target in [&plain, &segment, &other] {
            let to = open(target, WRITE);
            refused("sendfile", sendfile(&to, &from, None, 4096));
            refused("copy_file_range", copy_file_range(&from, None, &to, None, 4096));
        }
    }
    assert_eq!(receive(&path), b"to be copied");
    drop(into);
    let mut copied = Vec::new();
    File::from(out).read_to_end(&mut copied).unwrap();
    assert!(copied.is_empty() && try_receive(&other) == Err(Errno::AGAIN));
    assert_eq!([&plain, &segment].map(|target| fs::metadata(target).unwrap().len()), [0, 0]);
}

#[test]
fn programs_that_try_the_kernels_copying_first_fall_back_to_reading() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[]);
    let copy = mount.dir().with_extension("copy");
    let all = [
        ("cat", "exec cat \"$1\""),
        ("busybox", "exec busybox cat \"$1\""),
        ("cp", "cp --sparse=never \"$1\" \"$1.copy\" && cat \"$1.copy\""),
        ("dd", "dd if=\"$1\" bs=4M status=none"),
        ("head", "head -c 100 \"$1\""),
    ];
    for (program, script) in all {
        if common::have(program) {
            send(&path, b"for everyone\n");
            let script = script.replace("$1.copy", &copy.display().to_string());
            assert_eq!(run(&script, &path), "for everyone\n", "{program}");
        }
    }
}

#[test]
fn all_opens_of_a_mailbox_show_one_inode_number() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "1")]);
    let number = |path: &Path| fs::metadata(path).unwrap().ino();
    let first = number(&path);
    let opens: Vec<_> =
        (0..30).map(|place| open(&path, [READ, WRITE, BOTH, WRITE | TRUNC][place % 4])).collect();
    for file in &opens {
        assert_eq!(rustix::fs::fstat(file).unwrap().st_ino, first);
        assert_eq!(number(&path), first);
    }
    let listed = fs::read_dir(mount.path("mailboxes")).unwrap().map(|entry| entry.unwrap());
    assert_eq!(listed.map(|entry| entry.ino()).collect::<Vec<_>>(), [first]);
    assert_ne!(number(&mount.make_mailbox("other", &[])), first);
    fs::rename(&path, mount.mailbox("moved")).unwrap();
    assert_eq!(number(&mount.mailbox("moved")), first);
    drop(opens);
    assert_eq!(number(&mount.mailbox("moved")), first);
}
