//! File handles, by which NFS and `open_by_handle_at(2)` find a file that the kernel has forgotten.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount_remount};

use super::create;
use crate::common::peer::Peer;

const PYTHON: &str = "\
class Handle(ctypes.Structure): _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
def handle(path):
    made, number = Handle(bytes=128), ctypes.c_int()
    checked(libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(made), ctypes.byref(number), 0))
    return made
def found(made):
    fd = checked(libc.open_by_handle_at(mount, ctypes.byref(made), os.O_PATH))
    try: return os.readlink('/proc/self/fd/%d' % fd) + ' ' + str(os.fstat(fd).st_ino)
    finally: os.close(fd)
";

#[test]
fn a_file_handle_leads_to_its_file_after_the_kernel_has_forgotten_it() {
    let Some(mount) = crate::common::mount() else { return };
    let Some(mut peer) = Peer::start() else { return };
    peer.run(&format!("exec({PYTHON:?})"));
    peer.run(&format!("mount = os.open({:?}, os.O_RDONLY)", mount.dir()));
    for kind in ["mailboxes", "segments", "topics"] {
        fs::create_dir_all(mount.path(kind).join("folder/inner")).unwrap();
        create(&mount.path(kind).join("folder/inner/file")).unwrap();
        symlink("file", mount.path(kind).join("folder/inner/link")).unwrap();
    }
    // A mailbox has many nodes, each made when it is needed.
    let lasting = [
        "segments/folder/inner/file",
        "segments/folder/inner",
        "segments/folder/inner/link",
        "topics/folder/inner/file",
        "topics/folder/inner",
        "mailboxes/folder/inner",
        "mailboxes/folder/inner/link",
        "mailboxes",
        "control/status",
        "control/mailboxes/folder/inner/file/config/maxmsg",
    ];
    let stale = ["mailboxes/folder/inner/file", "control/mailboxes/folder/inner/file/lease"];
    let handle = |peer: &mut Peer, path: &Path| peer.run(&format!("handles.append(handle({path:?}))"));
    peer.run("handles = []");
    let mut expected = Vec::new();
    for path in lasting.iter().chain(&stale) {
        let path = mount.path(path);
        handle(&mut peer, &path);
        expected.push(peer.ask(&format!("str(os.stat({path:?}, follow_symlinks=False).st_ino)")));
    }
    let inode = |answer: &str| answer.rsplit(' ').next().unwrap_or_default().to_owned();
    for (index, ino) in expected.iter().enumerate().take(lasting.len()) {
        assert_eq!(inode(&peer.ask(&format!("found(handles[{index}])"))), *ino, "{index}, at once");
    }
    // Whatever is not in use is forgotten.
    let forget = || mount_remount(mount.dir(), MountFlags::empty(), "").unwrap();
    forget();
    for index in 0..lasting.len() {
        assert_eq!(
            inode(&peer.ask(&format!("found(handles[{index}])"))),
            expected[index],
            "{}",
            lasting[index]
        );
        forget();
    }
    for index in lasting.len()..expected.len() {
        assert_eq!(peer.ask(&format!("found(handles[{index}])")), "ESTALE");
    }
    fs::remove_dir_all(mount.path("segments/folder")).unwrap();
    fs::create_dir_all(mount.path("segments/folder/inner")).unwrap();
    forget();
    for index in 0..3 {
        assert_eq!(peer.ask(&format!("found(handles[{index}])")), "ESTALE", "removed");
    }
}
