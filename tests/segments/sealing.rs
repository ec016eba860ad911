//! Seals, the doorbell, and who has a segment open: the operator's side of segments.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::Signal;

use super::sharing::Stopped;
use super::{PAGE, create, errno, is_passthrough, mounts, open};
use crate::common::peer::Peer;
use crate::common::{Mount, wait_for};

fn seal(mount: &Mount, words: &str) -> Option<Errno> {
    errno(fs::write(mount.path("control/segments/s/seal"), words))
}

fn sealed(mount: &Mount) -> String {
    fs::read_to_string(mount.path("control/segments/s/seal")).unwrap()
}

#[test]
fn a_sealed_size_stays() {
    for mount in mounts(&[]) {
        let file = create(&mount.segment("s"));
        file.set_len(2 * PAGE).unwrap();
        assert_eq!(sealed(&mount), "");
        assert_eq!(seal(&mount, "grow\n"), None);
        let grow = |file: &fs::File| {
            [
                errno(file.set_len(3 * PAGE)),
                errno(file.write_all_at(b"x", 2 * PAGE)),
                errno(fallocate(file, FallocateFlags::empty(), PAGE, 2 * PAGE).map_err(std::io::Error::from)),
            ]
        };
        assert_eq!(grow(&file), [Some(Errno::PERM); 3]);
        file.write_all_at(b"within", 2 * PAGE - 6).unwrap();
        file.set_len(PAGE).unwrap();
        assert_eq!(errno(file.set_len(2 * PAGE)), Some(Errno::PERM));
        assert_eq!(seal(&mount, "shrink"), None);
        assert_eq!(sealed(&mount), "grow shrink\n", "one more does not lift the other");
        assert_eq!(errno(file.set_len(0)), Some(Errno::PERM));
        assert_eq!(errno(fs::write(mount.segment("s"), "")), Some(Errno::PERM), "O_TRUNC");
        assert_eq!(file.metadata().unwrap().len(), PAGE);
        file.write_all_at(b"still", 0).unwrap();
    }
}

#[test]
fn what_a_sealed_size_could_not_outgrow_is_written_without_the_daemon() {
    for mount in mounts(&[]).into_iter().filter(is_passthrough) {
        let path = mount.segment("s");
        let before = create(&path);
        before.set_len(2 * PAGE).unwrap();
        assert_eq!(seal(&mount, "grow"), None);
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR");
        // With the first write the kernel asks for the file's capabilities, whose answer it keeps.
        assert_eq!(peer.ask("os.pwrite(fd, b'first', 0)"), "5");
        let stopped = Stopped::new(&mount);
        assert_eq!(peer.ask("os.pwrite(fd, b'native', 4090)"), "6");
        assert_eq!(peer.ask("os.pread(fd, 7, 4090)"), "b'native\\x00'");
        peer.run("ends = os.pipe()");
        assert_eq!(
            peer.ask("os.splice(fd, ends[1], 6, offset_src=4090), os.read(ends[0], 6)"),
            "(6, b'native')"
        );
        assert_eq!(peer.ask("os.pwrite(fd, b'beyond', 8192)"), "EPERM");
        assert_eq!(peer.ask("os.pwrite(fd, b'across', 8190)"), "2", "what fits");
        drop(stopped);
        assert_eq!(peer.ask("os.fstat(fd).st_size"), "8192");
        let mut bytes = [0; 6];
        before.read_exact_at(&mut bytes, 4090).unwrap();
        assert_eq!(&bytes, b"native", "descriptors of before see the same");
        before.write_all_at(b"daemon", 4090).unwrap();
        assert_eq!(peer.ask("os.pread(fd, 6, 4090)"), "b'daemon'");
        before.set_len(PAGE).unwrap();
        assert_eq!(peer.ask("os.pwrite(fd, b'x', 4096)"), "EPERM", "what was cut off is gone for good");
        assert_eq!(mount.figure("segments/s/status", "promised"), PAGE);
    }
}

#[test]
fn sealed_bytes_stay_and_nobody_may_be_able_to_change_them_when_they_are_sealed() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        file.set_len(PAGE).unwrap();
        // SAFETY: the segment is this test's own, and as long as the mapping.
        #[allow(unsafe_code)]
        let mut map = unsafe { MmapMut::map_mut(&file).unwrap() };
        map[..5].copy_from_slice(b"bytes");
        drop(file);
        assert_eq!(seal(&mount, "write"), Some(Errno::BUSY), "a mapping can change them");
        let why = fs::read_to_string(mount.path("control/segments/s/error")).unwrap();
        assert!(why.starts_with("seal: cannot set 'write' while a process has the segment open"), "{why}");
        assert_eq!(sealed(&mount), "");
        drop(map);
        let status = || fs::read_to_string(mount.path("control/segments/s/status")).unwrap();
        wait_for("the mapping to be gone", || status().contains("in_use no\n"));
        assert_eq!(seal(&mount, "write"), None);
        assert_eq!(errno(OpenOptions::new().write(true).open(&path)), Some(Errno::PERM));
        assert_eq!(errno(OpenOptions::new().read(true).write(true).open(&path)), Some(Errno::PERM));
        assert_eq!(&fs::read(&path).unwrap()[..5], b"bytes");
    }
}

#[test]
fn a_seal_that_is_none_is_refused_and_sets_nothing() {
    for mount in mounts(&[]) {
        create(&mount.segment("s"));
        assert_eq!(seal(&mount, "grow everything"), Some(Errno::INVAL));
        let why = fs::read_to_string(mount.path("control/segments/s/error")).unwrap();
        assert_eq!(why, "seal: 'everything' is not one of grow, shrink, write\n");
        assert_eq!(sealed(&mount), "");
    }
}

#[test]
fn everyone_who_waits_hears_the_bell_and_how_often_it_was_rung() {
    for mount in mounts(&[]) {
        create(&mount.segment("s"));
        let bell = mount.path("control/segments/s");
        let ring = || fs::write(bell.join("notify"), "x").unwrap();
        ring();
        let mut late = OpenOptions::new().read(true).write(true).open(bell.join("wait")).unwrap();
        let mut peers: Vec<Peer> = (0..3).filter_map(|_| Peer::start()).collect();
        for peer in &mut peers {
            peer.open("fd", &bell.join("wait"), "O_RDONLY");
            assert_eq!(
                peer.ask("select.select([fd], [], [], 0)"),
                "([], [], [])",
                "not what was rung before"
            );
            peer.tell(
                "[len(part) for part in select.select([fd], [], [], 60)], os.read(fd, 100), os.read(fd, 100)",
            );
        }
        for peer in &peers {
            let pid = peer.pid();
            wait_for("the listener to sleep", || crate::common::state_of(pid) == Some('S'));
        }
        ring();
        for peer in &mut peers {
            assert_eq!(peer.answer(), "([1, 0, 0], b'2\\n', b'')");
        }
        ring();
        ring();
        let mut buffer = [0; 32];
        assert_eq!(late.read(&mut buffer).unwrap(), 2, "the last count, however often it was rung");
        assert_eq!(&buffer[..2], b"4\n");
        for peer in &mut peers {
            assert_eq!(peer.ask("os.read(fd, 100)"), "b'4\\n'");
        }
        assert_eq!(errno(late.write(b"x")), Some(Errno::BADF), "the bell is rung elsewhere");
    }
}

#[test]
fn who_listens_is_interrupted_killed_and_told_of_removal() {
    for mount in mounts(&[]) {
        create(&mount.segment("s"));
        let wait = mount.path("control/segments/s/wait");
        let (Some(mut signalled), Some(mut killed), Some(mut told)) =
            (Peer::start(), Peer::start(), Peer::start())
        else {
            return;
        };
        for peer in [&mut signalled, &mut killed, &mut told] {
            peer.open("fd", &wait, "O_RDONLY");
            peer.tell("os.read(fd, 100)");
            let pid = peer.pid();
            wait_for("the listener to sleep", || crate::common::state_of(pid) == Some('S'));
        }
        signalled.signal(Signal::USR1);
        assert_eq!(signalled.answer(), "Signalled()");
        killed.kill();
        fs::remove_file(mount.segment("s")).unwrap();
        assert_eq!(told.answer(), "EIDRM");
    }
}

#[test]
fn who_listens_is_told_when_the_segment_goes_with_its_last_close() {
    for mount in mounts(&[]) {
        let Some(mut peer) = Peer::start() else { return };
        let file = create(&mount.segment("s"));
        fs::write(mount.path("control/segments/s/config/lifetime"), "last-close").unwrap();
        peer.open("fd", &mount.path("control/segments/s/wait"), "O_RDONLY");
        peer.tell("os.read(fd, 100)");
        let pid = peer.pid();
        wait_for("the listener to sleep", || crate::common::state_of(pid) == Some('S'));
        drop(file);
        assert_eq!(peer.answer(), "EIDRM");
        assert!(!mount.segment("s").exists());
    }
}

#[test]
fn a_write_that_is_refused_changes_no_time() {
    for mount in mounts(&[]) {
        let file = create(&mount.segment("s"));
        assert_eq!(seal(&mount, "grow"), None);
        let before = file.metadata().unwrap().modified().unwrap();
        assert_eq!(errno(file.write_all_at(b"x", 0)), Some(Errno::PERM));
        assert_eq!(file.metadata().unwrap().modified().unwrap(), before);
    }
}

#[test]
fn status_says_who_has_it_open_and_for_what() {
    for mount in mounts(&[]) {
        let file = create(&mount.segment("s"));
        let status = || fs::read_to_string(mount.path("control/segments/s/status")).unwrap();
        let line = format!("opener pid {} uid 0 mode rw\n", rustix::thread::gettid().as_raw_nonzero());
        assert!(status().contains(&line), "{}", status());
        let reader = fs::File::open(mount.segment("s")).unwrap();
        assert_eq!(mount.figure("segments/s/status", "openers"), 2);
        assert!(status().contains(" mode r\n"));
        drop((file, reader));
        wait_for("both to be closed", || mount.figure("segments/s/status", "openers") == 0);
        assert!(!status().contains("opener pid"));
        drop(open(&mount.segment("s")));
    }
}
