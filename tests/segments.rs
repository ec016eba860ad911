//! Segments through a mount: files of memory, in both data paths.
//!
//! Every test makes its mounts with [`mounts`] and so is run in passthrough, where the kernel reaches the memory by
//! itself, and in the kernel's page cache: what a user sees must be the same.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

#[path = "segments/budget.rs"]
mod budget;
#[path = "segments/exerciser.rs"]
mod exerciser;
#[path = "segments/input.rs"]
mod input;
#[path = "segments/long.rs"]
mod long;
#[path = "segments/mapped.rs"]
mod mapped;
#[path = "segments/names.rs"]
mod names;
#[path = "segments/sealing.rs"]
mod sealing;
#[path = "segments/sharing.rs"]
mod sharing;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use common::Mount;
use common::peer::Peer;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

const PAGE: u64 = 4096;

/// A mount for each data path, with further options.
fn mounts(options: &[&str]) -> Vec<Mount> {
    let mounts = ["passthrough", "cached"].map(|path| {
        let mount = common::mount_with(&[&[format!("--segments={path}").as_str()], options].concat())?;
        let status = fs::read_to_string(mount.path("control/status")).unwrap();
        assert!(status.contains(&format!("segment_path {path}\n")), "{status}");
        Some(mount)
    });
    mounts.into_iter().flatten().collect()
}

fn is_passthrough(mount: &Mount) -> bool {
    fs::read_to_string(mount.path("control/status")).unwrap().contains("segment_path passthrough\n")
}

/// A new segment, open for reading and writing.
fn create(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap()
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn errno(result: std::io::Result<impl Sized>) -> Option<Errno> {
    result.err().map(|error| Errno::from_io_error(&error).unwrap())
}

#[test]
fn bytes_are_read_where_they_were_written_and_the_rest_is_zero() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        assert_eq!(file.metadata().unwrap().len(), 0);
        file.write_all_at(b"far", 3 * PAGE + 1).unwrap();
        file.write_all_at(b"near", 0).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 * PAGE + 4);
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.split_off(3 * PAGE as usize + 1), b"far");
        assert_eq!(bytes.split_off(4), vec![0; 3 * PAGE as usize - 3]);
        assert_eq!(bytes, b"near");
        let mut buffer = [7; 10];
        assert_eq!(file.read_at(&mut buffer, 3 * PAGE + 2).unwrap(), 2, "a read ends where the file does");
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
    }
}

#[test]
fn a_segment_is_cut_and_extended_with_zeroes() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        file.write_all_at(&[1; 10_000], 0).unwrap();
        file.set_len(5_000).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [1; 5_000]);
        file.set_len(9_000).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 9_000);
        assert!(bytes[..5_000].iter().all(|byte| *byte == 1) && bytes[5_000..].iter().all(|byte| *byte == 0));
        common::sh(&format!("truncate -s 1M {0} && test $(stat -c %s {0}) = 1048576", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    }
}

#[test]
fn opening_with_o_trunc_empties_it_and_o_append_writes_at_the_end() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let quoted = path.display();
        assert_eq!(
            common::sh(&format!("echo first > {quoted}; echo second >> {quoted}; cat {quoted}")),
            "first\nsecond\n"
        );
        assert_eq!(common::sh(&format!("echo third > {quoted}; cat {quoted}")), "third\n");
        let mut one = OpenOptions::new().append(true).open(&path).unwrap();
        let mut two = OpenOptions::new().append(true).open(&path).unwrap();
        one.write_all(b"1").unwrap();
        two.write_all(b"2").unwrap();
        one.write_all(b"3").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third\n123");
        assert_eq!(mount.figure("segments/s/status", "size"), 9);
        fs::write(&path, b"").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(mount.figure("segments/s/status", "promised"), 0);
    }
}

#[test]
fn processes_that_append_at_once_lose_nothing() {
    for mount in mounts(&[]) {
        let path = mount.segment("log");
        File::create(&path).unwrap();
        let mut peers = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let Some(mut peer) = Peer::start() else { return };
            peer.open("fd", &path, "O_WRONLY | os.O_APPEND");
            peer.tell(&format!("[os.write(fd, b'{name}%05d\\n' % n) for n in range(300)] and None"));
            peers.push((name, peer));
        }
        for (_, peer) in &mut peers {
            assert_eq!(peer.answer(), "None");
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1200);
        for (name, _) in &peers {
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
            let wanted: Vec<String> = (0..300).map(|n| format!("{name}{n:05}")).collect();
            assert_eq!(lines, wanted);
        }
    }
}

#[test]
fn fallocate_has_the_modes_of_tmpfs_and_zero_range() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let size = || fs::metadata(&path).unwrap().len();
        let all = || fs::read(&path).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, 2 * PAGE).unwrap();
        assert_eq!(size(), 2 * PAGE);
        assert_eq!(all(), vec![0; 2 * PAGE as usize]);
        fallocate(&file, FallocateFlags::KEEP_SIZE, 2 * PAGE, PAGE).unwrap();
        assert_eq!(size(), 2 * PAGE);
        assert_eq!(fs::metadata(&path).unwrap().blocks(), 3 * PAGE / 512, "set aside behind the end");

        file.write_all_at(&[5; 2 * PAGE as usize], 0).unwrap();
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 100, PAGE).unwrap();
        let mut wanted = vec![5; 2 * PAGE as usize];
        wanted[100..100 + PAGE as usize].fill(0);
        assert!(all() == wanted);
        fallocate(&file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, PAGE, 4 * PAGE).unwrap();
        wanted[PAGE as usize..].fill(0);
        assert!(all() == wanted);
        fallocate(&file, FallocateFlags::ZERO_RANGE, PAGE, 4 * PAGE).unwrap();
        wanted.resize(5 * PAGE as usize, 0);
        assert!(all() == wanted);

        for mode in [
            FallocateFlags::PUNCH_HOLE,
            FallocateFlags::COLLAPSE_RANGE,
            FallocateFlags::INSERT_RANGE,
            FallocateFlags::UNSHARE_RANGE,
        ] {
            assert_eq!(fallocate(&file, mode, 0, PAGE).unwrap_err(), Errno::OPNOTSUPP, "{mode:?}");
        }
        assert_eq!(fallocate(&file, FallocateFlags::empty(), 0, 0).unwrap_err(), Errno::INVAL);
        let reader = File::open(&path).unwrap();
        assert_eq!(fallocate(&reader, FallocateFlags::empty(), 0, PAGE).unwrap_err(), Errno::BADF);
        assert!(all() == wanted, "what is refused changes nothing");
    }
}

#[test]
fn holes_are_never_said_to_be_where_data_is() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let mut mapped = sharing::map(&file, 8 * PAGE);
        file.write_all_at(b"written", 2 * PAGE).unwrap();
        mapped[5 * PAGE as usize] = b'm';
        let find = |whence: fn(u64) -> rustix::fs::SeekFrom, at| rustix::fs::seek(&file, whence(at));
        let data = |at| find(rustix::fs::SeekFrom::Data, at);
        let hole = |at| find(rustix::fs::SeekFrom::Hole, at);
        for page in [2, 5] {
            assert_eq!(data(page * PAGE), Ok(page * PAGE), "data is where it was stored");
            assert!(hole(page * PAGE).unwrap() >= (page + 1) * PAGE);
        }
        assert!(data(0).unwrap() <= 2 * PAGE && data(3 * PAGE).unwrap() <= 5 * PAGE);
        assert_eq!(data(8 * PAGE), Err(Errno::NXIO));
        assert_eq!(hole(8 * PAGE), Err(Errno::NXIO));
        assert!(hole(7 * PAGE).unwrap() <= 8 * PAGE, "the end counts as one");
        if is_passthrough(&mount) {
            assert_eq!((data(0), hole(0)), (Ok(2 * PAGE), Ok(0)));
            assert_eq!((data(3 * PAGE), hole(2 * PAGE)), (Ok(5 * PAGE), Ok(3 * PAGE)));
            assert_eq!((data(6 * PAGE), hole(5 * PAGE)), (Err(Errno::NXIO), Ok(6 * PAGE)));
        }
        drop(mapped);
        // What a copy that trusts holes makes of it.
        let copy = tempfile::NamedTempFile::new().unwrap();
        common::sh(&format!("cp --sparse=always {} {}", path.display(), copy.path().display()));
        assert!(fs::read(copy.path()).unwrap() == fs::read(&path).unwrap());
    }
}

#[test]
fn blocks_are_the_memory_it_takes() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let blocks = || fs::metadata(&path).unwrap().blocks() * 512;
        file.set_len(100 * PAGE).unwrap();
        assert_eq!(blocks(), 0, "holes take none");
        file.write_all_at(b"x", 50 * PAGE).unwrap();
        file.sync_all().unwrap();
        assert_eq!(blocks(), PAGE);
        fallocate(&file, FallocateFlags::empty(), 0, 10 * PAGE).unwrap();
        assert_eq!(blocks(), 11 * PAGE);
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 60 * PAGE).unwrap();
        assert_eq!(blocks(), 0);
        assert_eq!(mount.figure("segments/s/status", "resident"), 0);
        assert_eq!(common::sh(&format!("du -B1 {} | cut -f1", path.display())), "0\n");
    }
}

#[test]
fn times_follow_what_was_done() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
        let modified = |what: &str, change: &dyn Fn()| {
            file.set_times(times).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_000_000_000);
            change();
            assert!(fs::metadata(&path).unwrap().mtime() > 1_000_000_000, "{what}");
        };
        modified("write", &|| file.write_all_at(b"x", 0).unwrap());
        modified("ftruncate", &|| file.set_len(PAGE).unwrap());
        modified("fallocate", &|| fallocate(&file, FallocateFlags::empty(), 0, PAGE).unwrap());
        modified("O_TRUNC", &|| drop(OpenOptions::new().write(true).truncate(true).open(&path).unwrap()));
    }
}

#[test]
fn readers_and_writers_open_one_segment_in_any_order_and_see_the_same() {
    for mount in mounts(&[]) {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for (n, order) in orders.into_iter().enumerate() {
            let path = mount.segment(&format!("s{n}"));
            create(&path).set_len(PAGE).unwrap();
            let mut files: Vec<(i32, File)> = Vec::new();
            for mode in order {
                let mut options = OpenOptions::new();
                options.read(mode != 1).write(mode != 0).custom_flags(0);
                files.push((mode, options.open(&path).unwrap()));
            }
            let mapped = sharing::map(&files.iter().find(|file| file.0 == 2).unwrap().1, PAGE);
            for (round, (_, writer)) in files.iter().enumerate().filter(|(_, file)| file.0 != 0) {
                writer.write_all_at(&[round as u8 + 1; 100], 1000).unwrap();
                for (_, reader) in files.iter().filter(|file| file.0 != 1) {
                    let mut bytes = [0; 100];
                    reader.read_exact_at(&mut bytes, 1000).unwrap();
                    assert_eq!(bytes, [round as u8 + 1; 100], "{order:?}");
                }
                assert_eq!(mapped[1000..1100], [round as u8 + 1; 100]);
            }
            // Growth by one is seen by all.
            let writer = &files.iter().find(|file| file.0 == 1).unwrap().1;
            writer.write_all_at(b"beyond", 2 * PAGE).unwrap();
            for (_, reader) in files.iter_mut().filter(|file| file.0 != 1) {
                reader.seek(SeekFrom::Start(2 * PAGE)).unwrap();
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                assert_eq!(text, "beyond");
                assert_eq!(reader.metadata().unwrap().len(), 2 * PAGE + 6);
                assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 2 * PAGE + 6);
            }
        }
    }
}

#[test]
fn a_segment_is_renamed_chmodded_and_replaced_while_mapped() {
    for mount in mounts(&[]) {
        let (path, other) = (mount.segment("s"), mount.segment("other"));
        let file = create(&path);
        let mut mapped = sharing::map(&file, PAGE);
        mapped[0] = 1;
        fs::rename(&path, &other).unwrap();
        fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o7777, 0o400);
        mapped[1] = 2;
        assert_eq!(fs::read(&other).unwrap()[..2], [1, 2]);
        fs::write(&path, b"new").unwrap();
        fs::rename(&path, &other).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"new");
        mapped[2] = 3;
        assert_eq!(mapped[..3], [1, 2, 3], "what is mapped stays what it was");
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [1, 2, 3]);
        assert_eq!(file.metadata().unwrap().nlink(), 0);
    }
}

#[test]
fn programs_copy_segments_as_any_file() {
    for mount in mounts(&[]) {
        let (from, to) = (mount.segment("from"), mount.segment("to"));
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        fs::write(&from, &body).unwrap();
        common::sh(&format!("cp {} {}", from.display(), to.display()));
        assert!(fs::read(&to).unwrap() == body);
        fs::remove_file(&to).unwrap();
        assert_eq!(fs::copy(&from, &to).unwrap(), 3_000_000);
        assert!(fs::read(&to).unwrap() == body);
        common::sh(&format!("dd if={} of={} bs=4k conv=notrunc status=none", from.display(), to.display()));
        common::sh(&format!(
            "cmp {} {} && cat {} | cmp - {}",
            from.display(),
            to.display(),
            from.display(),
            to.display()
        ));
        assert_eq!(errno(fs::copy(&from, mount.mailbox("box"))), Some(Errno::MSGSIZE));
    }
}

#[test]
fn a_descriptor_gives_only_the_access_it_was_opened_with() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        fs::write(&path, b"bytes").unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(errno(reader.write_at(b"x", 0)), Some(Errno::BADF));
        assert_eq!(errno(reader.set_len(0)), Some(Errno::INVAL));
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(errno(writer.read_at(&mut [0], 0)), Some(Errno::BADF));
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDONLY");
        assert_eq!(peer.ask("mmap.mmap(fd, 5)"), "EACCES");
        assert_eq!(peer.ask("mmap.mmap(fd, 5, mmap.MAP_SHARED, mmap.PROT_READ)[:]"), "b'bytes'");
        assert_eq!(peer.ask("mmap.mmap(fd, 5, mmap.MAP_PRIVATE)[:]"), "b'bytes'");
        drop(open(&path));
    }
}
