//! Memory is promised when a segment grows, refused there and then, and given back.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{PAGE, create, errno, is_passthrough, mounts, sharing};
use crate::common::peer::Peer;
use crate::common::{self, Mount, wait_for};

/// What the mounts here have for all segments.
const ALL: u64 = 1 << 20;
const OPTION: &str = "--segment-memory=1M";

/// An ordinary user with a name, as fusermount3 wants one.
const NOBODY: u32 = 65_534;

fn used(mount: &Mount) -> u64 {
    mount.figure("status", "segment_used")
}

fn wait_for_used(mount: &Mount, bytes: u64) {
    wait_for(&format!("{bytes} bytes to be promised"), || used(mount) == bytes);
}

fn refused(result: std::io::Result<impl Sized>) {
    assert_eq!(errno(result), Some(Errno::NOSPC));
}

#[test]
fn what_the_mount_has_not_is_refused_at_the_call_and_changes_nothing() {
    for mount in mounts(&[OPTION]) {
        let (path, other) = (mount.segment("s"), mount.segment("other"));
        let file = create(&path);
        let fallocate =
            |file: &File, mode, at, len| fallocate(file, mode, at, len).map_err(std::io::Error::from);
        refused(file.set_len(ALL + 1));
        refused(fallocate(&file, FallocateFlags::empty(), 0, ALL + 1));
        refused(fallocate(&file, FallocateFlags::KEEP_SIZE, ALL, 1));
        refused(fallocate(&file, FallocateFlags::ZERO_RANGE, 1, ALL));
        refused(file.write_at(b"x", ALL));
        refused(file.write_at(&[1; 8193], ALL - 8192));
        let truncated =
            std::process::Command::new("truncate").args(["-s", "2M"]).arg(&path).output().unwrap();
        assert!(String::from_utf8_lossy(&truncated.stderr).contains("No space left"), "{truncated:?}");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.blocks(), used(&mount)), (0, 0, 0));

        file.set_len(ALL - PAGE).unwrap();
        assert_eq!(used(&mount), ALL - PAGE, "holes count");
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0), "nothing of what was refused");
        let second = create(&other);
        second.write_all_at(b"x", 0).unwrap();
        assert_eq!(used(&mount), ALL);
        refused(second.write_at(b"y", PAGE));
        refused(file.set_len(ALL));
        assert_eq!(fs::read(&other).unwrap(), b"x");
        second.write_all_at(&[2; PAGE as usize], 0).unwrap();
        file.write_all_at(&vec![3; (ALL - PAGE) as usize], 0).unwrap();
        assert_eq!(used(&mount), ALL, "what was promised is there");

        file.set_len(1).unwrap();
        assert_eq!(used(&mount), 2 * PAGE);
        second.write_all_at(b"y", PAGE).unwrap();
        fs::write(&other, b"").unwrap();
        assert_eq!(used(&mount), PAGE);
        fs::remove_file(&path).unwrap();
        assert_eq!(used(&mount), PAGE, "still open");
        drop(file);
        wait_for_used(&mount, 0);
    }
}

#[test]
fn a_write_that_extends_is_charged_whatever_it_comes_through() {
    for mount in mounts(&[OPTION]) {
        let path = mount.segment("s");
        let quoted = path.display();
        let last = |bytes: u64| assert_eq!(used(&mount), bytes);
        fs::write(&path, vec![1; 5000]).unwrap();
        last(2 * PAGE);
        common::sh(&format!("head -c 5000 /dev/zero >> {quoted}"));
        last(3 * PAGE);
        common::sh(&format!("dd if=/dev/zero of={quoted} bs=4k seek=9 count=1 conv=notrunc status=none"));
        last(10 * PAGE);
        let Some(mut peer) = Peer::start() else { return };
        peer.open("reader", &path, "O_RDONLY");
        peer.open("fd", &path, "O_RDWR");
        assert_eq!(peer.ask("os.pwritev(fd, [b'a' * 4096, b'b' * 4096], 40960)"), "8192");
        last(12 * PAGE);
        peer.run("zero = os.open('/dev/zero', os.O_RDONLY)");
        assert_eq!(peer.ask("os.lseek(fd, 0, os.SEEK_END)"), "49152");
        peer.run(&format!("source = os.open({path:?}, os.O_RDONLY)"));
        assert_eq!(peer.ask("os.sendfile(fd, source, 0, 4096)"), "4096");
        last(13 * PAGE);
        peer.run("pipe = os.pipe()");
        assert_eq!(peer.ask("os.write(pipe[1], b'z' * 4096)"), "4096");
        assert_eq!(peer.ask("os.splice(pipe[0], fd, 4096)"), "4096");
        last(14 * PAGE);
        assert_eq!(peer.ask("os.copy_file_range(source, fd, 4096, 0, 57344)"), "4096");
        last(15 * PAGE);
        assert_eq!(peer.ask("os.pwrite(fd, b'x' * 4097, (1 << 20) - 4096)"), "ENOSPC");
        last(15 * PAGE);
        assert_eq!(peer.ask("os.pwrite(fd, b'x' * 4096, (1 << 20) - 4096)"), "4096");
        last(ALL);
        assert_eq!(peer.ask("os.lseek(fd, 0, os.SEEK_END)"), ALL.to_string());
        for call in [
            "os.write(fd, b'x')",
            "os.sendfile(fd, source, 0, 4096)",
            "os.copy_file_range(source, fd, 1, 0, 1 << 20)",
        ] {
            assert_eq!(peer.ask(call), "ENOSPC", "{call}");
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), ALL);
        last(ALL);
    }
}

#[test]
fn a_write_across_the_bound_is_refused_or_short() {
    for mount in mounts(&[OPTION]) {
        let path = mount.segment("s");
        let file = create(&path);
        let written = file.write_at(&[1; 4096], ALL - 4000);
        if is_passthrough(&mount) {
            refused(written);
            assert_eq!((file.metadata().unwrap().len(), used(&mount)), (0, 0));
        } else {
            // The page cache divides a write that begins within a page. What was written before the end of the space
            // counts, as on tmpfs.
            let end = ALL - 4000 + written.unwrap() as u64;
            assert!(end <= ALL && file.metadata().unwrap().len() == end);
        }
        let (mut appends, mut all) = (OpenOptions::new().append(true).open(&path).unwrap(), 0);
        while all < 2 * ALL {
            match std::io::Write::write(&mut appends, &[2; 10_000]) {
                Ok(written) => all += written as u64,
                failed => {
                    refused(failed);
                    break;
                }
            }
        }
        let len = file.metadata().unwrap().len();
        assert!(len <= ALL && len > ALL - 10_000, "{len}");
        assert_eq!(used(&mount), len.next_multiple_of(PAGE));
    }
}

#[test]
fn no_store_into_what_was_promised_fails() {
    for mount in mounts(&[OPTION]) {
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &mount.segment("s"), "O_RDWR | os.O_CREAT");
        peer.run(&format!("os.ftruncate(fd, {ALL})"));
        peer.run(&format!("map = mmap.mmap(fd, {ALL})"));
        peer.run(&format!("map[:] = b'x' * {ALL}"));
        peer.run("map.flush()");
        assert_eq!(peer.ask("os.pread(fd, 3, (1 << 20) - 3)"), "b'xxx'");
        assert_eq!(used(&mount), ALL);
        refused(create(&mount.segment("other")).write_at(b"x", 0));
    }
}

#[test]
fn many_who_grow_at_once_never_get_more_than_there_is() {
    for mount in mounts(&[OPTION]) {
        let mut peers = Vec::new();
        for n in 0..4 {
            let Some(mut peer) = Peer::start() else { return };
            peer.open("fd", &mount.segment(&format!("s{n}")), "O_RDWR | os.O_CREAT");
            peers.push(peer);
        }
        for peer in &mut peers {
            // A page after the other, until one is refused.
            let loop_ = "n = 0\ntry:\n  while n < 300: n += os.pwrite(fd, b'x', n * 4096)\nexcept OSError as e: why = e.errno";
            peer.tell(&format!("exec({loop_:?})"));
        }
        let mut pages = 0;
        for peer in &mut peers {
            assert_eq!(peer.answer(), "None");
            pages += peer.ask("n").parse::<u64>().unwrap();
            assert_eq!(peer.ask("why == errno.ENOSPC"), "True");
        }
        assert_eq!(pages * PAGE, ALL);
        assert_eq!(used(&mount), ALL);
    }
}

#[test]
fn a_segments_own_bound_holds_for_every_way_to_grow() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let bound = mount.path("control/segments/s/config/size_max");
        fs::write(&bound, "8K\n").unwrap();
        assert_eq!(fs::read_to_string(&bound).unwrap(), "8192\n");
        refused(file.set_len(8193));
        refused(file.write_at(b"x", 8192));
        refused(fallocate(&file, FallocateFlags::empty(), 0, 8193).map_err(std::io::Error::from));
        refused(fallocate(&file, FallocateFlags::KEEP_SIZE, 8192, 1).map_err(std::io::Error::from));
        file.write_all_at(b"x", 8191).unwrap();
        fs::write(&bound, "1").unwrap();
        file.write_all_at(b"y", 8191).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8192, "what is longer already stays so");
        refused(file.set_len(8193));
        fs::write(&bound, "max").unwrap();
        file.set_len(8193).unwrap();
    }
}

#[test]
fn what_is_removed_while_mapped_lives_until_the_last_mapping_is_gone() {
    for mount in mounts(&[OPTION]) {
        for end in ["unmaps", "exits", "is killed"] {
            let path = mount.segment("s");
            drop(create(&path));
            let (Some(mut one), Some(mut two)) = (Peer::start(), Peer::start()) else { return };
            for peer in [&mut one, &mut two] {
                peer.open("fd", &path, "O_RDWR");
                peer.run("os.ftruncate(fd, 65536)");
                peer.run("map = mmap.mmap(fd, 65536)");
                peer.run("os.close(fd)");
            }
            one.run("map[60000] = 5");
            fs::remove_file(&path).unwrap();
            assert!(fs::read_dir(mount.path("segments")).unwrap().next().is_none());
            assert_eq!(two.ask("map[60000]"), "5");
            two.kill();
            one.run("map[1] = 6");
            assert_eq!(one.ask("map[1] + map[60000]"), "11");
            assert_eq!(used(&mount), 65536);
            match end {
                // Python keeps a descriptor of its own for a mapping, and closes it with it.
                "unmaps" => one.run("map.close()"),
                "exits" => drop(one.exit()),
                _ => drop(one.kill()),
            }
            wait_for_used(&mount, 0);
        }
    }
}

#[test]
fn memory_comes_back_when_others_only_looked_at_what_is_removed() {
    for mount in mounts(&[OPTION]) {
        let (Some(mut one), Some(mut two)) = (Peer::start(), Peer::start()) else { return };
        for n in 0..20 {
            let path = mount.segment(&format!("s{n}"));
            create(&path).set_len(ALL / 2).unwrap();
            for peer in [&mut one, &mut two] {
                assert_eq!(peer.ask(&format!("os.stat({path:?}).st_size")), (ALL / 2).to_string());
            }
            fs::remove_file(&path).unwrap();
            wait_for_used(&mount, 0);
        }
    }
}

/// A new segment that goes with its last close, open.
fn live_until_last_close(mount: &Mount, path: &Path) -> File {
    let file = create(path);
    let name = path.file_name().unwrap().to_str().unwrap();
    fs::write(mount.path(&format!("control/segments/{name}/config/lifetime")), "last-close\n").unwrap();
    file
}

#[test]
fn a_segment_that_lives_until_its_last_close_goes_with_it() {
    for mount in mounts(&[OPTION]) {
        let path = mount.segment("s");
        for end in ["closes", "unmaps", "exits", "is killed", "is killed unmapped"] {
            let file = live_until_last_close(&mount, &path);
            let (Some(mut one), Some(mut two)) = (Peer::start(), Peer::start()) else { return };
            one.open("fd", &path, "O_RDWR");
            two.open("fd", &path, "O_RDONLY");
            drop(file);
            one.run("os.ftruncate(fd, 4096)");
            if end != "closes" && end != "is killed unmapped" {
                one.run("map = mmap.mmap(fd, 4096)");
                one.run("os.close(fd)");
            }
            two.run("os.close(fd)");
            two.run(&format!("os.stat({path:?}) and None"));
            match end {
                "closes" => one.run("os.close(fd)"),
                "unmaps" => one.run("map.close()"),
                "exits" => drop(one.exit()),
                _ => drop(one.kill()),
            }
            wait_for(&format!("the segment to go when its user {end}"), || !path.exists());
            wait_for_used(&mount, 0);
            assert_eq!(mount.figure("status", "segments"), 0);
        }
        // And one that nobody ever opened again can be told to stay.
        let file = live_until_last_close(&mount, &path);
        fs::write(mount.path("control/segments/s/config/lifetime"), "keep").unwrap();
        drop(file);
        drop(super::open(&path));
        assert!(path.exists());
    }
}

#[test]
fn space_left_is_what_df_shows() {
    for mount in mounts(&[OPTION]) {
        let file = create(&mount.segment("s"));
        let left = || {
            let space = rustix::fs::statvfs(mount.dir()).unwrap();
            (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)
        };
        assert_eq!(left(), (ALL, ALL));
        let mapped = sharing::map(&file, 5 * PAGE);
        assert_eq!(left(), (ALL, ALL - 5 * PAGE));
        drop((mapped, file));
        fs::remove_file(mount.segment("s")).unwrap();
        wait_for("the space to come back", || left() == (ALL, ALL));
    }
}

#[test]
fn passthrough_that_is_not_to_be_had_is_an_error_at_mount() {
    if !common::fuse_is_here() || !common::have_fusermount() {
        return;
    }
    fs::set_permissions("/dev/fuse", std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dir = temp.path().join("mnt");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = common::ipcfs_as(NOBODY);
    command.args(["mount", "-f", "--segments=passthrough"]).arg(&dir);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let out = common::output(command.spawn().unwrap());
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("--segments=passthrough") && said.contains("--segments=auto"), "{said}");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&format!(" {} ", dir.display())), "nothing stays mounted");
}
