//! Requests on much memory: done in steps, and undone if they are ended before.

use std::fs;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::Signal;

use super::{create, mounts};
use crate::common::peer::Peer;
use crate::common::wait_for;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

#[test]
fn much_memory_is_allocated_cleared_cut_and_freed() {
    for mount in mounts(&["--segment-memory=300M"]) {
        let path = mount.segment("s");
        let file = create(&path);
        let figure = |key| mount.figure("segments/s/status", key);
        fallocate(&file, FallocateFlags::empty(), 0, 200 * MIB).unwrap();
        assert_eq!(
            (figure("size"), figure("promised"), figure("resident")),
            (200 * MIB, 200 * MIB, 200 * MIB)
        );
        file.write_all_at(b"first", 0).unwrap();
        file.write_all_at(b"last", 200 * MIB - 4).unwrap();
        fallocate(&file, FallocateFlags::ZERO_RANGE, 5, 250 * MIB - 5).unwrap();
        assert_eq!((figure("size"), figure("promised")), (250 * MIB, 250 * MIB));
        let mut bytes = [7; 10];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, *b"first\0\0\0\0\0");
        file.read_exact_at(&mut bytes, 200 * MIB - 10).unwrap();
        assert_eq!(bytes, [0; 10]);
        fallocate(&file, FallocateFlags::empty(), 0, 301 * MIB).unwrap_err();
        assert_eq!((figure("size"), figure("promised")), (250 * MIB, 250 * MIB), "nothing changes");
        file.set_len(3).unwrap();
        assert_eq!((figure("size"), figure("promised"), figure("resident")), (3, 4096, 4096));
        assert_eq!(fs::read(&path).unwrap(), b"fir");
        fallocate(&file, FallocateFlags::empty(), 0, 280 * MIB).unwrap();
        drop(file);
        fs::remove_file(&path).unwrap();
        wait_for("the memory to be nobody's", || mount.figure("status", "segment_used") == 0);
        fallocate(create(&path), FallocateFlags::empty(), 0, 280 * MIB).unwrap();
    }
}

#[test]
fn a_process_that_is_killed_in_a_long_fallocate_dies_and_leaves_nothing() {
    for mount in mounts(&["--segment-memory=1G"]) {
        let path = mount.segment("s");
        let file = create(&path);
        for signal in [Signal::KILL, Signal::TERM, Signal::USR1] {
            let Some(mut peer) = Peer::start() else { return };
            peer.open("fd", &path, "O_RDWR");
            peer.tell(&format!("os.posix_fallocate(fd, 0, {GIB})"));
            wait_for("the memory to be promised", || mount.figure("status", "segment_used") == GIB);
            peer.signal(signal);
            match signal {
                Signal::USR1 => assert_eq!(peer.answer(), "Signalled()"),
                _ => drop(peer.wait()),
            }
            wait_for("the memory to be free", || mount.figure("status", "segment_used") == 0);
            wait_for("the pages to be free", || mount.figure("segments/s/status", "resident") == 0);
            assert_eq!(file.metadata().unwrap().len(), 0, "{signal:?}");
        }
    }
}
