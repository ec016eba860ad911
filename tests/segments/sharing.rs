//! Memory shared between processes: mappings, futexes, locks of pthreads.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use memmap2::MmapMut;
use rustix::process::Signal;

use super::{PAGE, create, is_passthrough, mounts};
use crate::common::peer::Peer;
use crate::common::{Mount, have, output, state_of, wait_for};

/// Extends `file` to `size` bytes if it is shorter, and maps them, shared.
#[allow(unsafe_code)]
pub fn map(file: &File, size: u64) -> MmapMut {
    if file.metadata().unwrap().len() < size {
        file.set_len(size).unwrap();
    }
    // SAFETY: other processes change these bytes, which are only ever looked at as single bytes or compared, between
    // points where those processes have answered. No test cuts the file below what it has mapped and still uses.
    unsafe { memmap2::MmapOptions::new().len(size as usize).map_mut(file).unwrap() }
}

#[test]
fn stores_of_each_process_are_seen_by_the_other() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let mut mapped = map(&file, 2 * PAGE);
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR");
        peer.run("map = mmap.mmap(fd, 8192)");
        for round in 1..=50_u8 {
            let at = usize::from(round) * 150;
            mapped[at] = round;
            assert_eq!(peer.ask(&format!("map[{at}]")), round.to_string());
            peer.run(&format!("map[{}] = {round}", at + 1));
            assert_eq!(mapped[at + 1], round);
        }
    }
}

#[test]
fn stores_are_seen_by_read_and_writes_by_mappings() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        let mut mapped = map(&file, 2 * PAGE);
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR");
        peer.open("readonly", &path, "O_RDONLY");
        for round in 1..=20_u8 {
            let at = u64::from(round) * 400;
            mapped[at as usize] = round;
            for fd in ["fd", "readonly"] {
                assert_eq!(peer.ask(&format!("os.pread({fd}, 1, {at})[0]")), round.to_string());
            }
            assert_eq!(fs::read(&path).unwrap()[at as usize], round);
            assert_eq!(peer.ask(&format!("os.pwrite(fd, bytes([{round}]) * 3, {})", at + 1)), "3");
            assert_eq!(mapped[at as usize + 1..at as usize + 4], [round; 3]);
        }
        mapped.flush().unwrap();
        mapped.flush_async().unwrap();
        peer.run("map = mmap.mmap(fd, 8192)");
        peer.run("map[0] = 9");
        peer.run("map.flush()");
        assert_eq!(fs::read(&path).unwrap()[0], 9);
        drop(mapped);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 400).unwrap();
        assert_eq!(byte, [1], "stores outlive their mapping");
    }
}

/// The kernel asks once which kinds of copies there are; those who are the first, at the same moment, get theirs.
#[test]
fn the_first_copies_of_a_mount_may_come_at_once() {
    const COUNT: usize = 8;
    for _ in 0..5 {
        for mount in mounts(&[]) {
            let files: Vec<_> = (0..2 * COUNT).map(|n| create(&mount.segment(&n.to_string()))).collect();
            let start = std::sync::Barrier::new(COUNT);
            std::thread::scope(|scope| {
                for pair in files.chunks(2) {
                    pair[0].write_all_at(b"bytes", 0).unwrap();
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..3 {
                            let copied = rustix::fs::copy_file_range(
                                &pair[0],
                                Some(&mut 0),
                                &pair[1],
                                Some(&mut 0),
                                5,
                            );
                            assert_eq!(copied, Ok(5));
                        }
                        let mut bytes = [0; 5];
                        pair[1].read_exact_at(&mut bytes, 0).unwrap();
                        assert_eq!(&bytes, b"bytes");
                    });
                }
            });
        }
    }
}

/// In passthrough the page cache has nothing of a segment's bytes, or what they were.
#[test]
fn no_copy_within_the_kernel_shows_what_the_bytes_were() {
    for mount in mounts(&[]) {
        let (path, target) = (mount.segment("s"), mount.segment("target"));
        let file = create(&path);
        let mut mapped = map(&file, PAGE);
        let Some(mut peer) = Peer::start() else { return };
        for (name, flags) in [("both", "O_RDWR"), ("readonly", "O_RDONLY")] {
            peer.open(name, &path, flags);
        }
        peer.open("target", &target, "O_RDWR | os.O_CREAT");
        peer.run("ends = os.pipe()");
        for round in 1..=3_u8 {
            for store in [true, false] {
                let byte = round * 2 + u8::from(store);
                if store {
                    mapped[..10].fill(byte);
                } else {
                    file.write_all_at(&[byte; 10], 0).unwrap();
                }
                let wanted = format!("{byte}");
                for fd in ["both", "readonly"] {
                    assert_eq!(peer.ask(&format!("os.copy_file_range({fd}, target, 10, 0, 0)")), "10");
                    assert_eq!(peer.ask("os.pread(target, 1, 9)[0]"), wanted, "copied from {fd}");
                    let spliced = peer.ask(&format!("os.splice({fd}, ends[1], 10, offset_src=0)"));
                    if spliced == "10" {
                        assert_eq!(peer.ask("os.read(ends[0], 10)[0]"), wanted, "spliced from {fd}");
                    } else {
                        assert_eq!((spliced.as_str(), fd, is_passthrough(&mount)), ("EINVAL", "both", true));
                    }
                    let sent = peer.ask(&format!("os.sendfile(ends[1], {fd}, 0, 10)"));
                    if sent == "10" {
                        assert_eq!(peer.ask("os.read(ends[0], 10)[0]"), wanted, "sent from {fd}");
                    } else {
                        assert_eq!((sent.as_str(), fd, is_passthrough(&mount)), ("EINVAL", "both", true));
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_stored_is_there_for_who_comes_later() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR | os.O_CREAT");
        peer.run("os.ftruncate(fd, 1 << 20)");
        peer.run("map = mmap.mmap(fd, 1 << 20)");
        peer.run("map[:] = bytes(range(256)) * 4096");
        peer.kill();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        let file = super::open(&path);
        assert_eq!(map(&file, 1 << 20)[257], 1);
    }
}

/// The daemon stands still until this is dropped.
pub struct Stopped<'a>(&'a Mount);

impl Stopped<'_> {
    pub fn new(mount: &Mount) -> Stopped<'_> {
        mount.signal(Signal::STOP);
        wait_for("the daemon to stop", || state_of(mount.pid()) == Some('T'));
        Stopped(mount)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

#[test]
fn in_passthrough_mappings_and_readers_need_no_daemon() {
    for mount in mounts(&[]).into_iter().filter(is_passthrough) {
        let path = mount.segment("s");
        create(&path).set_len(100 * PAGE).unwrap();
        let (Some(mut writer), Some(mut reader)) = (Peer::start(), Peer::start()) else { return };
        writer.open("fd", &path, "O_RDWR");
        reader.open("fd", &path, "O_RDONLY");
        // Mapped first, because Python asks for the size.
        writer.run("map = mmap.mmap(fd, 409600)");
        reader.run("map = mmap.mmap(fd, 409600, mmap.MAP_SHARED, mmap.PROT_READ)");
        let stopped = Stopped::new(&mount);
        writer.run("for at in range(0, 409600, 4096): map[at] = 7");
        let page = "os.pread(fd, 4096, 4096 * 50)[0]";
        assert_eq!(reader.ask(page), "7");
        assert_eq!(reader.ask("sum(map[at] for at in range(0, 409600, 4096))"), "700");
        drop(stopped);
        assert_eq!(writer.ask("os.pwrite(fd, b'w', 0)"), "1");
        assert_eq!(reader.ask("map[0], os.pread(fd, 1, 0)"), "(119, b'w')");
    }
}

#[test]
fn touching_a_mapping_behind_the_end_is_sigbus_for_that_process_alone() {
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        let file = create(&path);
        file.set_len(4 * PAGE).unwrap();
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &path, "O_RDWR");
        peer.run("map = mmap.mmap(fd, 16384)");
        peer.run("map[0] = map[12288] = 1");
        file.set_len(PAGE).unwrap();
        assert_eq!(peer.ask("map[0]"), "1");
        peer.tell("map[12288]");
        let status = peer.wait();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGBUS));
        file.set_len(4 * PAGE).unwrap();
        assert!(fs::read(&path).unwrap()[1..].iter().all(|byte| *byte == 0), "what was cut off is gone");
    }
}

/// One process plays two parts of the program, `one` and `two`, which meet in a mapped segment.
const PARTNERS: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 20000
struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int turn;
    long long count;
    int word[2];
};

static void check(int failed, const char *what) {
    if (failed) { fprintf(stderr, "%s: %s\n", what, strerror(errno)); _exit(1); }
}

int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR), me = argv[2][0] == '2';
    check(argc != 3 || fd < 0, "open");
    struct shared *s = mmap(0, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(s == MAP_FAILED, "mmap");
    if (argv[2][0] == 'i') {
        pthread_mutexattr_t ma; pthread_condattr_t ca;
        pthread_mutexattr_init(&ma); pthread_condattr_init(&ca);
        pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
        pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
        check(pthread_mutex_init(&s->mutex, &ma) || pthread_cond_init(&s->cond, &ca), "init");
        return 0;
    }
    if (argv[2][0] == 'h') {                     /* holds the mutex until it is killed */
        check(pthread_mutex_lock(&s->mutex), "lock");
        puts("held");
        fflush(stdout);
        for (;;) pause();
    }
    if (argv[2][0] == 'r') {                     /* waits, and recovers what the dead left */
        check(pthread_mutex_lock(&s->mutex) != EOWNERDEAD, "not told that the owner died");
        check(pthread_mutex_consistent(&s->mutex) || pthread_mutex_unlock(&s->mutex), "recover");
        check(pthread_mutex_lock(&s->mutex) || pthread_mutex_unlock(&s->mutex), "lock again");
        return 0;
    }
    if (argv[2][0] == 'f') {                     /* waits for word[0] to change */
        while (!__atomic_load_n(&s->word[0], __ATOMIC_SEQ_CST)) syscall(SYS_futex, &s->word[0], FUTEX_WAIT, 0, 0, 0, 0);
        return 0;
    }
    if (argv[2][0] == 'w') {                     /* changes it, and wakes one */
        __atomic_store_n(&s->word[0], 1, __ATOMIC_SEQ_CST);
        printf("%ld\n", syscall(SYS_futex, &s->word[0], FUTEX_WAKE, 1, 0, 0, 0));
        return 0;
    }
    for (int i = 0; i < ROUNDS; i++) {           /* exclusion */
        check(pthread_mutex_lock(&s->mutex), "lock");
        s->count = s->count + 1;
        check(pthread_mutex_unlock(&s->mutex), "unlock");
    }
    for (int i = 0; i < 500; i++) {              /* turns, by condition variable */
        check(pthread_mutex_lock(&s->mutex), "lock");
        while (s->turn != me) check(pthread_cond_wait(&s->cond, &s->mutex), "wait");
        s->turn = !me;
        check(pthread_cond_broadcast(&s->cond) || pthread_mutex_unlock(&s->mutex), "broadcast");
    }
    for (int i = 1; i <= 500; i++) {             /* turns, by futex */
        int *mine = &s->word[me], *theirs = &s->word[!me];
        __atomic_store_n(mine, i, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, mine, FUTEX_WAKE, 1, 0, 0, 0);
        for (int seen; (seen = __atomic_load_n(theirs, __ATOMIC_SEQ_CST)) < i;) {
            long r = syscall(SYS_futex, theirs, FUTEX_WAIT, seen, 0, 0, 0);
            check(r && errno != EAGAIN && errno != EINTR, "futex");
        }
    }
    printf("%d\n", me);
    return 0;
}
"#;

/// The program, compiled; `None`, said aloud, where there is no compiler.
fn partners(dir: &Path) -> Option<PathBuf> {
    if !have("gcc") {
        return None;
    }
    let (source, program) = (dir.join("partners.c"), dir.join("partners"));
    fs::write(&source, PARTNERS).unwrap();
    let compiled =
        Command::new("gcc").args(["-O1", "-pthread", "-o"]).arg(&program).arg(&source).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(program)
}

#[test]
fn futexes_and_process_shared_locks_of_pthreads_work_in_a_segment() {
    each_with_program(|path, play| {
        let (one, two) = (play("1"), play("2"));
        assert_eq!((succeeds(one), succeeds(two)), ("0\n".into(), "1\n".into()));
        let bytes = fs::read(path).unwrap();
        let counted = bytes.windows(8).any(|bytes| bytes == 40_000_u64.to_ne_bytes());
        assert!(counted, "20,000 times each");
    });
}

/// Waits until a process sleeps in futex(2).
fn wait_for_futex(child: &Child) {
    let call = format!("/proc/{}/syscall", child.id());
    let number = format!("{} ", libc::SYS_futex);
    wait_for("the process to wait", || {
        fs::read_to_string(&call).is_ok_and(|call| call.starts_with(&number))
            && state_of(child.id()) == Some('S')
    });
}

/// Both data paths with a segment, and how to start the program in one of its parts on it.
fn each_with_program(test: impl Fn(&Path, &dyn Fn(&str) -> Child)) {
    let temp = tempfile::tempdir().unwrap();
    let Some(program) = partners(temp.path()) else { return };
    for mount in mounts(&[]) {
        let path = mount.segment("s");
        create(&path).set_len(PAGE).unwrap();
        let play = |part: &str| {
            let mut command = Command::new(&program);
            command.arg(&path).arg(part).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        assert!(output(play("init")).status.success());
        test(&path, &play);
    }
}

fn succeeds(child: Child) -> String {
    let out = output(child);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn who_waits_for_a_robust_mutex_is_told_when_its_holder_is_killed() {
    each_with_program(|_, play| {
        let mut holder = play("hold");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let waiter = play("recover");
        wait_for_futex(&waiter);
        holder.kill().unwrap();
        crate::common::reap(&mut holder);
        succeeds(waiter);
    });
}

#[test]
fn a_process_killed_while_it_waits_for_a_futex_takes_no_wake_up_with_it() {
    each_with_program(|_, play| {
        let (mut killed, other) = (play("futex"), play("futex"));
        wait_for_futex(&killed);
        wait_for_futex(&other);
        killed.kill().unwrap();
        crate::common::reap(&mut killed);
        assert_eq!(succeeds(play("wake")), "1\n");
        succeeds(other);
    });
}
