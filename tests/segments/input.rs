//! What nobody should ask of a segment, and what they get.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{PAGE, create, errno, mounts};
use crate::common::peer::Peer;
use crate::common::{ipcfs, wait_for};

/// The last offset a file can have.
const LAST: u64 = i64::MAX as u64;

#[test]
fn absurd_sizes_and_offsets_are_refused_and_change_nothing() {
    for mount in mounts(&["--segment-memory=1M"]) {
        let path = mount.segment("s");
        create(&path).set_len(3).unwrap();
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR");
        let asked = [
            ("os.ftruncate(fd, -1)", "EINVAL"),
            ("os.ftruncate(fd, 1 << 50)", "ENOSPC"),
            ("os.ftruncate(fd, (1 << 63) - 1)", "ENOSPC"),
            ("os.posix_fallocate(fd, -1, 1)", "EINVAL"),
            ("os.posix_fallocate(fd, 0, 0)", "EINVAL"),
            ("os.posix_fallocate(fd, 0, -4096)", "EINVAL"),
            ("os.posix_fallocate(fd, 0, 1 << 50)", "ENOSPC"),
            ("os.posix_fallocate(fd, 1 << 62, 1 << 62)", "EFBIG"),
            ("os.pwrite(fd, b'x', -1)", "EINVAL"),
            ("os.pwrite(fd, b'x', 1 << 50)", "ENOSPC"),
            ("os.pwrite(fd, b'x', (1 << 63) - 2)", "ENOSPC"),
            ("os.pwrite(fd, b'x', (1 << 63) - 1)", "EINVAL"),
            ("os.pwrite(fd, b'', 1 << 50)", "0"),
            ("os.pread(fd, 1, -1)", "EINVAL"),
            ("os.pread(fd, 1, 3)", "b''"),
            ("os.pread(fd, 9, 2)", "b'\\x00'"),
            ("os.pread(fd, 1, (1 << 63) - 2)", "b''"),
            ("os.pread(fd, 1, (1 << 63) - 1)", "EINVAL"),
            ("os.lseek(fd, -1, os.SEEK_SET)", "EINVAL"),
            ("os.lseek(fd, -4, os.SEEK_END)", "EINVAL"),
            ("os.lseek(fd, 3, os.SEEK_DATA)", "ENXIO"),
            ("os.lseek(fd, 1 << 62, os.SEEK_HOLE)", "ENXIO"),
        ];
        for (call, answer) in asked {
            assert_eq!(peer.ask(call), answer, "{call}");
        }
        assert_eq!(fs::read(&path).unwrap(), [0; 3]);
        assert_eq!(mount.figure("segments/s/status", "promised"), PAGE);
    }
}

#[test]
fn the_greatest_budget_is_one_sparse_segments() {
    for mount in mounts(&["--segment-memory=1024T"]) {
        let file = create(&mount.segment("s"));
        let all = 1 << 50;
        file.set_len(all).unwrap();
        assert_eq!(file.write_at(b"x", all - 1).unwrap(), 1);
        let mut byte = [0];
        file.read_exact_at(&mut byte, all - 1).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(errno(file.write_at(b"x", all)), Some(Errno::NOSPC));
        assert_eq!(fallocate(&file, FallocateFlags::empty(), LAST, 1).unwrap_err(), Errno::FBIG);
        assert_eq!(errno(create(&mount.segment("other")).set_len(1)), Some(Errno::NOSPC));
        file.set_len(0).unwrap();
        assert_eq!(mount.figure("status", "segment_used"), 0);
    }
}

#[test]
fn the_least_budget_is_a_page_and_none_is_an_error_at_mount() {
    for mount in mounts(&["--segment-memory=4K"]) {
        let path = mount.segment("s");
        let file = create(&path);
        assert_eq!(errno(file.set_len(PAGE + 1)), Some(Errno::NOSPC));
        assert_eq!(errno(file.write_at(b"x", PAGE)), Some(Errno::NOSPC));
        assert_eq!(fallocate(&file, FallocateFlags::KEEP_SIZE, PAGE, 1).unwrap_err(), Errno::NOSPC);
        file.write_all_at(b"x", PAGE - 1).unwrap();
        assert_eq!(errno(create(&mount.segment("other")).write_at(b"x", 0)), Some(Errno::NOSPC));
    }
    let temp = tempfile::tempdir().unwrap();
    let out = ipcfs().args(["mount", "--segment-memory=0"]).arg(temp.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("--segment-memory") && said.contains("4K to 1024T"), "{said}");
}

#[test]
fn what_is_removed_can_be_mapped_by_who_has_it_open_and_by_nobody_else() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR | os.O_CREAT");
        peer.run("os.ftruncate(fd, 4096)");
        fs::remove_file(&path).unwrap();
        assert_eq!(errno(OpenOptions::new().read(true).open(&path)), Some(Errno::NOENT));
        peer.run("map = mmap.mmap(fd, 4096)");
        peer.run("map[0] = 7");
        assert_eq!(peer.ask("os.pread(fd, 1, 0)"), "b'\\x07'");
        peer.run("os.ftruncate(fd, 8192)");
        assert_eq!(mount.figure("status", "segment_used"), 2 * PAGE, "as long as it is open, it is charged");
        peer.exit();
        wait_for("the memory to be given back", || mount.figure("status", "segment_used") == 0);
    }
}

#[test]
fn a_mapping_is_refused_what_its_descriptor_may_not_do() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        create(&path).set_len(PAGE).unwrap();
        let Some(mut peer) = Peer::start() else { return };
        for (name, flags) in [("readonly", "O_RDONLY"), ("writeonly", "O_WRONLY")] {
            peer.open(name, &path, flags);
        }
        assert_eq!(peer.ask("mmap.mmap(readonly, 4096, mmap.MAP_SHARED)"), "EACCES");
        assert_eq!(peer.ask("mmap.mmap(writeonly, 4096, mmap.MAP_SHARED)"), "EACCES");
        assert_eq!(peer.ask("mmap.mmap(readonly, 4096, mmap.MAP_SHARED, mmap.PROT_READ)[0]"), "0");
        assert_eq!(peer.ask("mmap.mmap(readonly, 4096, mmap.MAP_PRIVATE)[0]"), "0");
        let beyond = "mmap.mmap(readonly, 4096, mmap.MAP_SHARED, mmap.PROT_READ, offset=1 << 62)";
        assert!(["ValueError", "EOVERFLOW"].iter().any(|why| peer.ask(beyond).starts_with(why)));
        peer.run(&format!("os.chmod({path:?}, 0)"));
    }
}
