//! fsx, fio and stress-ng: programs that put files under load and check what they read.

use std::fs;
use std::process::Command;

use crate::common::have;
use crate::suite::{PATHS, is_full, place};

/// Which random operations fsx does: `FSX_PIECE`, a number.
fn piece() -> u64 {
    std::env::var("FSX_PIECE").map_or(0, |piece| piece.parse().expect("FSX_PIECE is a number"))
}

#[test]
fn fsx_finds_every_byte_where_it_put_it() {
    const OPERATIONS: &str = "20000";
    if !have("fsx") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    // Sixty pieces are an hour's worth.
    let pieces = if is_full() { 5 } else { 1 };
    for (path, piece) in
        PATHS.iter().flat_map(|path| (piece()..).take(pieces).map(move |piece| (path, piece)))
    {
        let Some(place) = place(path) else { return };
        // Descriptors that may write are none to splice from, in passthrough.
        let sendfile = u8::from(*path == "cached");
        let more = format!(
            "[weights]\nclose_open = 1\ninvalidate = 1\nfsync = 1\nfdatasync = 1\nposix_fallocate = 1\n\
             punch_hole = 1\nposix_fadvise = 1\ncopy_file_range = 2\nsendfile = {sendfile}\n"
        );
        let syncing = "[opsize]\nmax = 65536\n".to_owned();
        let configs = [syncing, format!("nomsyncafterwrite = true\nflen = 1048576\n{more}")];
        for (number, text) in (0..).zip(configs) {
            let config = temp.path().join("fsx.toml");
            fs::write(&config, text).unwrap();
            let seed = (2 * piece + number).to_string();
            place.passes(&format!("fsx with seed {seed}"), |folder| {
                let mut command = Command::new("fsx");
                command.args(["-N", OPERATIONS, "-S", &seed, "-f"]).arg(&config);
                command.arg("-P").arg(temp.path()).arg(folder.join("file"));
                command
            });
            drop(fs::remove_file(place.folder.join("file")));
        }
        place.assert_clean();
    }
}

#[test]
fn fio_reads_what_it_wrote() {
    if !have("fio") {
        return;
    }
    let size = if is_full() { ["--size=64m", "--loops=5"] } else { ["--size=16m", "--loops=3"] };
    for path in PATHS {
        let Some(place) = place(path) else { return };
        for engine in ["mmap", "psync", "pvsync2", "libaio", "posixaio"] {
            let said = place.passes(&format!("fio with {engine}"), |folder| {
                let mut command = Command::new("fio");
                command.args([
                    "--name=file",
                    "--rw=randrw",
                    "--bsrange=512-16k",
                    "--numjobs=2",
                    "--iodepth=8",
                ]);
                command.args(["--verify=crc32c", "--verify_fatal=1", "--group_reporting"]).args(size);
                command.arg(format!("--ioengine={engine}")).arg(format!("--directory={}", folder.display()));
                command.current_dir("/tmp");
                command
            });
            assert!(said.is_none_or(|said| said.contains("err= 0")), "{path}, {engine}");
        }
        for job in 0..2 {
            drop(fs::remove_file(place.folder.join(format!("file.{job}.0"))));
        }
        place.assert_clean();
    }
}

/// Stressors at once, each with so many operations and with options, checking what they read. The limit of time is for a busy
/// machine.
fn stress(stressors: &[(&str, u32, &str)]) {
    if !have("stress-ng") {
        return;
    }
    let (times, seconds) = if is_full() { (10, "120") } else { (1, "12") };
    for path in PATHS {
        let Some(place) = place(path) else { return };
        let said = place.passes("stress-ng", |folder| {
            let mut command = Command::new("stress-ng");
            command.args(["--verify", "--timeout", seconds, "--temp-path"]).arg(folder);
            for (name, operations, options) in stressors {
                command.args([format!("--{name}"), "1".into()]);
                command.args([format!("--{name}-ops"), (operations * times).to_string()]);
                command.args(options.split_whitespace());
            }
            command
        });
        assert!(said.is_none_or(|said| !said.contains("skipping")), "{path}: not all could run");
        place.assert_clean();
    }
}

#[test]
fn mappings_stand_stress() {
    stress(&[
        ("mmap", 2, "--mmap-file --mmap-bytes 16M"),
        ("mremap", 20, "--mremap-bytes 8M"),
        ("msync", 2_000, "--msync-bytes 8M"),
        ("madvise", 10, ""),
        ("mmapmany", 8_000, ""),
        ("fpunch", 100, ""),
        ("fallocate", 4, "--fallocate-bytes 32M"),
    ]);
}

#[test]
fn locks_stand_stress() {
    stress(&[
        ("flock", 20_000, ""),
        ("lockf", 4_000, ""),
        ("lockofd", 6_000, ""),
        ("locka", 8_000, ""),
        ("lease", 20, ""),
        ("fcntl", 800, ""),
    ]);
}

#[test]
fn names_and_attributes_stand_stress() {
    stress(&[
        ("rename", 150, ""),
        ("dentry", 60, "--dentries 500"),
        ("dir", 500, "--dir-dirs 500"),
        ("dirdeep", 500, ""),
        ("dirmany", 2_000, ""),
        ("filename", 100, ""),
        ("touch", 5_000, ""),
        ("chmod", 20, ""),
        ("chown", 40, ""),
        ("utime", 800, ""),
        ("fstat", 800, ""),
        ("open", 3_000, ""),
        ("access", 20, ""),
        ("xattr", 1, ""),
        ("inotify", 3, ""),
        ("dnotify", 100, ""),
        ("symlink", 1, ""),
        ("link", 1, ""),
    ]);
}

#[test]
fn reads_and_writes_stand_stress() {
    stress(&[
        ("seek", 300, "--seek-size 4M"),
        ("sendfile", 4_000, "--sendfile-size 1M"),
        ("copy-file", 100, "--copy-file-bytes 128M"),
        ("hdd", 600, "--hdd-bytes 16M"),
        ("iomix", 600, "--iomix-bytes 16M"),
        ("revio", 2_000, "--revio-bytes 16M"),
        ("readahead", 4_000, "--readahead-bytes 16M"),
        ("sync-file", 15, "--sync-file-bytes 16M"),
        ("aio", 4_000, ""),
        ("aiol", 80, ""),
        ("file-ioctl", 400, ""),
    ]);
}
