//! Many processes that open one mailbox at once never see how it is shared out among the kernel's nodes.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::common::{self, reap};
use crate::tools::{READ, again, aside, finish, open, role};

const PROCESSES: usize = 8;
const ROUNDS: usize = 2_000;

/// What a process does that opens a mailbox again and again, each time a little differently.
const TEST: &str = "nodes::opening_writing_and_closing_at_once_never_fails";
const CREATING_TEST: &str = "nodes::creating_opening_and_removing_at_once_gives_only_errors_that_say_so";

fn open_write_close(path: &Path, round: usize, create: bool) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(round % 4 == 1).read(round % 4 == 2).append(round % 4 == 3).create(create);
    let file = options.mode(0o600).open(path)?;
    rustix::io::write(&file, b"message")?;
    Ok(())
}

/// Plays the process, if this is one; it does not return then.
fn play(tolerated: &[Errno]) {
    let Some(path) = role().map(PathBuf::from) else { return };
    let create = !tolerated.is_empty();
    for round in 0..ROUNDS {
        if let Err(error) = open_write_close(&path, round, create)
            && !Errno::from_io_error(&error).is_some_and(|errno| tolerated.contains(&errno))
        {
            eprintln!("round {round}: {error}");
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}

#[test]
fn opening_writing_and_closing_at_once_never_fails() {
    play(&[]);
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "max")]);
    let ino = fs::metadata(&path).unwrap().ino();
    let done = Arc::new(AtomicBool::new(false));
    // Others look at the file and change it, which takes its nodes' locks.
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (path, done) = (path.clone(), Arc::clone(&done));
            aside(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(fs::metadata(&path).unwrap().ino(), ino);
                    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                }
            })
        })
        .collect();
    let start = |_| again(TEST, path.to_str().unwrap()).spawn().unwrap();
    let mut openers: Vec<_> = (0..PROCESSES).map(start).collect();
    let failed = openers.iter_mut().map(reap).filter(|status| !status.success()).count();
    done.store(true, Ordering::Relaxed);
    for other in others {
        finish("a thread that looks on", other);
    }
    assert_eq!(failed, 0, "their errors are above");
    assert_eq!(mount.figure("mailboxes/box/status", "sent"), (PROCESSES * ROUNDS) as u64);
}

#[test]
fn creating_opening_and_removing_at_once_gives_only_errors_that_say_so() {
    // Between open and write the mailbox may be gone.
    play(&[Errno::IDRM]);
    let Some(mount) = common::mount() else { return };
    let path = mount.mailbox("box");
    let done = Arc::new(AtomicBool::new(false));
    let remover = aside({
        let (path, done) = (path.clone(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                if let Err(error) = fs::remove_file(&path) {
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                }
            }
        }
    });
    let start = |_| again(CREATING_TEST, path.to_str().unwrap()).spawn().unwrap();
    let mut openers: Vec<_> = (0..PROCESSES).map(start).collect();
    let failed = openers.iter_mut().map(reap).filter(|status| !status.success()).count();
    done.store(true, Ordering::Relaxed);
    finish("the one who removes", remover);
    assert_eq!(failed, 0, "their errors are above");
}

/// Closing a file takes its locks away, and those of no other: not even of one that was opened meanwhile and got the
/// closed one's place.
#[test]
fn a_lock_outlasts_the_closing_of_other_files() {
    let Some(mount) = common::mount() else { return };
    let paths = ["box", "other"].map(|name| mount.make_mailbox(name, &[]));
    let done = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (path, done) = (paths[1].clone(), Arc::clone(&done));
            aside(move || {
                while !done.load(Ordering::Relaxed) {
                    open(&path, READ);
                }
            })
        })
        .collect();
    for round in 0..5_000 {
        let (first, second) = (open(&paths[0], READ), open(&paths[0], READ));
        flock(&first, FlockOperation::NonBlockingLockExclusive).unwrap();
        let result = flock(&second, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(result, Err(Errno::AGAIN), "round {round}");
        // By itself it goes a moment after the last close.
        flock(&first, FlockOperation::Unlock).unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for other in others {
        finish("a thread that opens and closes", other);
    }
}
