//! Segments with several names, or none.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

use super::{PAGE, create, errno, mounts};
use crate::common::{Mount, have, wait_for};

fn used(mount: &Mount) -> u64 {
    mount.figure("status", "segment_used")
}

fn nlink(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().nlink()
}

#[test]
fn a_segment_has_several_names_and_goes_with_the_last() {
    for mount in mounts(&[]) {
        let (one, two, three) = (mount.segment("one"), mount.segment("folder/two"), mount.segment("three"));
        fs::create_dir(mount.segment("folder")).unwrap();
        fs::write(&one, "text").unwrap();
        fs::hard_link(&one, &two).unwrap();
        fs::hard_link(&two, &three).unwrap();
        assert_eq!(errno(fs::hard_link(&one, &three)), Some(Errno::EXIST));
        for path in [&one, &two, &three] {
            assert_eq!(
                (nlink(path), fs::metadata(path).unwrap().ino()),
                (3, fs::metadata(&one).unwrap().ino())
            );
        }
        fs::OpenOptions::new().append(true).open(&three).unwrap().write_all(b" more").unwrap();
        assert_eq!(fs::read(&one).unwrap(), b"text more");
        // It counts as one segment, whose folder in control/ has its first name.
        assert_eq!(mount.figure("status", "segments"), 1);
        let shown = |name: &str| mount.path("control/segments").join(name).exists();
        assert!(shown("one") && !shown("folder/two") && !shown("three"));
        assert_eq!(fs::read_dir(mount.path("control/segments/folder")).unwrap().count(), 0);
        fs::remove_file(&one).unwrap();
        assert!(shown("folder/two") && !shown("three"));
        assert_eq!(fs::read_dir(mount.path("control/segments/folder")).unwrap().count(), 1);
        assert_eq!(nlink(&two), 2);
        // rename(2): one name onto another of the same file does nothing.
        fs::rename(&two, &three).unwrap();
        assert!(two.exists() && three.exists());
        fs::rename(&three, mount.segment("folder/moved")).unwrap();
        assert!(shown("folder/two") && !shown("folder/moved"));
        fs::rename(&two, &one).unwrap();
        assert!(shown("one") && !shown("folder/moved"));
        create(&three).write_all_at(b"other", 0).unwrap();
        fs::rename(&three, mount.segment("folder/moved")).unwrap();
        assert_eq!((nlink(&one), fs::read(mount.segment("folder/moved")).unwrap()), (1, b"other".to_vec()));
        let mut open = File::open(&one).unwrap();
        fs::remove_file(&one).unwrap();
        assert_eq!(open.metadata().unwrap().nlink(), 0);
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text more");
        drop(open);
        fs::remove_file(mount.segment("folder/moved")).unwrap();
        wait_for("the memory to be free", || used(&mount) == 0);
        assert_eq!(mount.figure("status", "segments"), 0);
    }
}

#[test]
fn only_segments_get_further_names_and_only_in_segments() {
    for mount in mounts(&["--max-files=6"]) {
        mount.make_mailbox("box", &[]);
        File::create(mount.path("topics/topic")).unwrap();
        create(&mount.segment("one"));
        symlink("one", mount.segment("link")).unwrap();
        assert_eq!(errno(fs::hard_link(mount.mailbox("box"), mount.mailbox("other"))), Some(Errno::PERM));
        assert_eq!(
            errno(fs::hard_link(mount.path("topics/topic"), mount.path("topics/t"))),
            Some(Errno::PERM)
        );
        assert_eq!(errno(fs::hard_link(mount.segment("link"), mount.segment("l"))), Some(Errno::PERM));
        assert_eq!(errno(fs::hard_link(mount.path("control/status"), mount.segment("s"))), Some(Errno::PERM));
        assert_eq!(errno(fs::hard_link(mount.segment("one"), mount.mailbox("one"))), Some(Errno::XDEV));
        assert_eq!(errno(fs::hard_link(mount.segment("one"), mount.path("control/one"))), Some(Errno::PERM));
        assert_eq!(errno(fs::hard_link(mount.segment("one"), mount.path("one"))), Some(Errno::PERM));
        assert_eq!(nlink(&mount.segment("one")), 1);
        fs::hard_link(mount.segment("one"), mount.segment("two")).unwrap();
        fs::hard_link(mount.segment("one"), mount.segment("three")).unwrap();
        let full = fs::hard_link(mount.segment("one"), mount.segment("four"));
        assert_eq!(errno(full), Some(Errno::NOSPC), "names count as files");
    }
    let Some(mount) = mounts(&[]).into_iter().next() else { return };
    create(&mount.segment("one"));
    let name = |number: usize| mount.segment(&format!("name{number}"));
    for number in 1..1000 {
        fs::hard_link(mount.segment("one"), name(number)).unwrap();
    }
    assert_eq!(errno(fs::hard_link(mount.segment("one"), name(1000))), Some(Errno::MLINK));
    // All of them go with a segment that lives until its last close.
    let open = File::open(name(500)).unwrap();
    fs::write(mount.path("control/segments/one/config/lifetime"), "last-close").unwrap();
    drop(open);
    wait_for("all names to go", || fs::read_dir(mount.segment("")).unwrap().count() == 0);
}

#[test]
fn a_segment_without_a_name_gets_one_or_goes_with_its_descriptor() {
    for mount in mounts(&[]) {
        let nameless = || {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            File::from(openat(CWD, mount.segment(""), flags, Mode::from(0o640)).unwrap())
        };
        let file = nameless();
        assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().mode() & 0o777), (0, 0o640));
        file.write_all_at(b"text", PAGE).unwrap();
        assert_eq!((used(&mount), mount.figure("status", "segments")), (2 * PAGE, 0));
        assert_eq!(fs::read_dir(mount.segment("")).unwrap().count(), 0);
        let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, &magic, CWD, mount.segment("named"), AtFlags::SYMLINK_FOLLOW).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 1);
        drop(file);
        assert_eq!(fs::read(mount.segment("named")).unwrap()[PAGE as usize..], *b"text");
        assert!(mount.path("control/segments/named/status").exists());
        fs::remove_file(mount.segment("named")).unwrap();
        wait_for("the memory to be free", || used(&mount) == 0);
        let file = nameless();
        file.set_len(10 * PAGE).unwrap();
        assert_eq!(used(&mount), 10 * PAGE);
        drop(file);
        wait_for("the memory to be free", || used(&mount) == 0);
        wait_for("its account to be free", || {
            let text = fs::read_to_string(mount.path("control/users/0")).unwrap();
            text.contains("files_used 0\n")
        });
    }
}

/// glibc makes a named semaphore under another name and links it to its own.
#[test]
fn named_semaphores_of_glibc_work_in_segments() {
    if !have("unshare") || !have("python3") {
        return;
    }
    let script = "\
        import ctypes, os\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        libc.sem_open.restype = ctypes.c_void_p\n\
        made = libc.sem_open(b'/semaphore', os.O_CREAT | os.O_EXCL, 0o600, 3)\n\
        again = libc.sem_open(b'/semaphore', 0)\n\
        assert made and made == again, os.strerror(ctypes.get_errno())\n\
        if os.fork() == 0:\n    libc.sem_wait(ctypes.c_void_p(made)); os._exit(0)\n\
        os.wait()\n\
        value = ctypes.c_int()\n\
        libc.sem_getvalue(ctypes.c_void_p(made), ctypes.byref(value))\n\
        print(value.value, os.listdir('/dev/shm'))\n\
        assert libc.sem_unlink(b'/semaphore') == 0 and libc.sem_unlink(b'/semaphore') == -1\n";
    for mount in mounts(&[]) {
        let bound =
            format!("mount --bind {} /dev/shm && exec python3 -c \"$0\"", mount.segment("").display());
        let out = Command::new("unshare").args(["--mount", "sh", "-c", &bound, script]).output().unwrap();
        let (said, complaint) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(said, "2 ['sem.semaphore']\n", "{complaint}");
        wait_for("the memory to be free", || used(&mount) == 0);
    }
}
