//! Segments that somebody has mapped and nobody has open: the mapping keeps the memory, and is counted.

use std::fs;

use memmap2::MmapMut;
use rustix::io::Errno;

use super::{PAGE, create, errno, is_passthrough, mounts};
use crate::common::peer::Peer;
use crate::common::{Mount, wait_for};

/// A new segment of one page, mapped and not open.
fn mapped(mount: &Mount, name: &str) -> MmapMut {
    let file = create(&mount.segment(name));
    file.set_len(PAGE).unwrap();
    // SAFETY: the segment is this test's own, and nobody cuts it.
    #[allow(unsafe_code)]
    let mut map = unsafe { MmapMut::map_mut(&file).unwrap() };
    map[..5].copy_from_slice(b"bytes");
    map
}

fn used(mount: &Mount) -> u64 {
    mount.figure("status", "segment_used")
}

#[test]
fn a_mapping_lives_on_when_the_name_is_gone_and_takes_its_memory_with_it() {
    for mount in mounts(&[]) {
        let mut map = mapped(&mount, "s");
        fs::remove_file(mount.segment("s")).unwrap();
        // Another of the same name is another one.
        drop(create(&mount.segment("s")));
        assert_eq!(&map[..5], b"bytes");
        map[0] = b'B';
        assert_eq!(&map[..5], b"Bytes");
        assert_eq!(used(&mount), PAGE);
        drop(map);
        wait_for("the memory to be given back", || used(&mount) == 0);
    }
}

#[test]
fn a_segment_that_lives_until_its_last_close_lives_until_its_last_mapping_goes() {
    for mount in mounts(&[]) {
        let map = mapped(&mount, "s");
        fs::write(mount.path("control/segments/s/config/lifetime"), "last-close").unwrap();
        // Opened and closed once more meanwhile.
        assert_eq!(&fs::read(mount.segment("s")).unwrap()[..5], b"bytes");
        assert!(mount.segment("s").exists());
        drop(map);
        wait_for("the name to go", || !mount.segment("s").exists());
        wait_for("the memory to be given back", || used(&mount) == 0);
    }
}

#[test]
fn whoever_has_it_mapped_may_be_killed() {
    for mount in mounts(&[]) {
        let Some(mut peer) = Peer::start() else { return };
        let path = mount.segment("s");
        let file = create(&path);
        file.set_len(PAGE).unwrap();
        fs::write(mount.path("control/segments/s/config/lifetime"), "last-close").unwrap();
        peer.run("import ctypes");
        peer.run("libc.mmap.restype = ctypes.c_void_p");
        peer.open("fd", &path, "O_RDWR");
        // Not before: close(2) does not wait for the daemon, to whom this would be the last close.
        drop(file);
        // Python's own mmap keeps a descriptor.
        peer.run("address = libc.mmap(None, ctypes.c_size_t(4096), 3, 1, fd, ctypes.c_long(0))");
        peer.run("os.close(fd)");
        peer.run("ctypes.memset(address, 65, 4096) and None");
        assert!(path.exists());
        peer.kill();
        wait_for("the name to go", || !path.exists());
        wait_for("the memory to be given back", || used(&mount) == 0);
    }
}

#[test]
fn memory_that_only_a_mapping_kept_is_had_by_who_asks_for_it_once_that_is_gone() {
    for mount in mounts(&["--segment-memory=8K"]) {
        let maps = [mapped(&mount, "one"), mapped(&mount, "two")];
        for name in ["one", "two"] {
            fs::remove_file(mount.segment(name)).unwrap();
        }
        let file = create(&mount.segment("three"));
        assert_eq!(errno(file.set_len(2 * PAGE)), Some(Errno::NOSPC), "counted while they are mapped");
        drop(maps);
        wait_for("the memory to be had", || file.set_len(2 * PAGE).is_ok());
    }
}

/// Beyond its bound the kernel would let a process store no faster than the daemon writes back.
#[test]
fn the_kernel_may_keep_as_much_unwritten_as_of_any_file_system_where_root_mounts() {
    for mount in mounts(&[]).into_iter().filter(|mount| !is_passthrough(mount)) {
        let device = rustix::fs::stat(mount.dir()).unwrap().st_dev;
        let folder = format!("/sys/class/bdi/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        for (file, wanted) in [("max_ratio", "100\n"), ("strict_limit", "0\n")] {
            // Before Linux 6.2 there is no strict_limit, and some sandboxes show none of this.
            if let Ok(text) = fs::read_to_string(format!("{folder}/{file}")) {
                assert_eq!(text, wanted, "{file}");
            }
        }
    }
}
