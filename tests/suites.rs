//! Segments held to the suites of others, in both data paths: Python's own tests, fsx, fio and stress-ng, each working
//! in a folder in `segments/` as it would in any other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Mount, have};

/// Seconds that one program may take: many times what it needs.
const LIMIT: u64 = 300;

/// Both data paths, each with a folder in `segments/` to work in.
fn folders() -> Vec<(&'static str, Mount, PathBuf)> {
    let made = ["passthrough", "cached"].map(|path| {
        // Enough for the sparse files of six gigabytes that Python maps.
        let options = [&format!("--segments={path}"), "--segment-memory=8G"];
        let mount = common::mount_with(&options)?;
        let folder = mount.segment("work");
        fs::create_dir(&folder).unwrap();
        Some((path, mount, folder))
    });
    made.into_iter().flatten().collect()
}

/// Runs a program to its end: whether it succeeded, and what it said.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let stream = || Stdio::from(File::options().append(true).open(said.path()).unwrap());
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=10", &LIMIT.to_string()]).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    limited.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    let status = limited.stdin(Stdio::null()).stdout(stream()).stderr(stream()).status().unwrap();
    (status.code(), String::from_utf8_lossy(&fs::read(said.path()).unwrap()).into_owned())
}

#[track_caller]
fn passes(what: &str, command: &mut Command) -> String {
    let (code, said) = run(command);
    assert_eq!(code, Some(0), "{what}\n{command:?}\n{said}");
    said
}

/// What a suite left behind, which is nothing.
fn assert_clean(mount: &Mount, folder: &Path) {
    let left: Vec<OsString> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    common::wait_for("all memory to come back", || mount.figure("status", "segment_used") == 0);
}

/// A Python that has its own tests with it, which distributions pack apart (`libpython3.*-testsuite`).
fn python() -> Option<&'static str> {
    let has_tests = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import test.test_mmap, test._test_multiprocessing"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_tests);
    if found.is_none() {
        assert!(
            std::env::var_os("REQUIRE_TOOLS").is_none(),
            "REQUIRE_TOOLS is set, but Python's tests are missing"
        );
        eprintln!("SKIP: Python's own tests are not installed");
    }
    found
}

#[test]
fn pythons_own_tests_pass_with_their_temporary_directory_in_segments() {
    let Some(python) = python() else { return };
    let tests = [
        "test_mmap",
        "test_fcntl",
        "test_fileio",
        "test_tempfile",
        "test_shutil",
        "test_mailbox",
        "test_posix",
        "test_os",
        "test_dbm",
    ];
    let command = |test: &str, folder: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "test", "-u", "largefile", "--tempdir"]).arg(folder).arg(test);
        command.env("TMPDIR", folder).current_dir(folder);
        command
    };
    for (path, mount, folder) in folders() {
        for test in tests {
            let (code, said) = run(&mut command(test, &folder));
            if code == Some(0) {
                continue;
            }
            let plain = tempfile::tempdir().unwrap();
            assert_ne!(run(&mut command(test, plain.path())).0, Some(0), "{path}: {test}\n{said}");
            eprintln!("SKIP: {test} does not pass in an ordinary folder of this machine either");
        }
        drop(fs::remove_dir_all(&folder));
        fs::create_dir(&folder).unwrap();
        assert_clean(&mount, &folder);
    }
}

#[test]
fn pythons_shared_memory_passes_its_own_tests_on_segments() {
    let Some(python) = python() else { return };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites");
    for (path, mount, folder) in folders() {
        let mut command = Command::new(python);
        command.arg(scripts.join("shared_memory.py")).args(["-v", "-k", "SharedMemory"]);
        command.env("SHM_FOLDER", &folder).env("PYTHONPATH", &scripts).env("PYTHONDONTWRITEBYTECODE", "1");
        let said = passes(path, &mut command);
        assert!(!said.contains("Ran 0 tests"), "{said}");
        assert_clean(&mount, &folder);
    }
}

/// Which random operations fsx does: `FSX_PIECE`, a number. Sixty pieces are an hour's worth.
fn piece() -> u64 {
    std::env::var("FSX_PIECE").map_or(0, |piece| piece.parse().expect("FSX_PIECE is a number"))
}

#[test]
fn fsx_finds_every_byte_where_it_put_it() {
    const OPERATIONS: u32 = 20_000;
    if !have("fsx") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    for (path, mount, folder) in folders() {
        // Descriptors that may write are none to splice from, in passthrough.
        let sendfile = u8::from(path == "cached");
        let more = format!(
            "[weights]\nclose_open = 1\ninvalidate = 1\nfsync = 1\nfdatasync = 1\nposix_fallocate = 1\n\
             punch_hole = 1\nposix_fadvise = 1\ncopy_file_range = 2\nsendfile = {sendfile}\n"
        );
        let syncing = "[opsize]\nmax = 65536\n".to_owned();
        let configs = [syncing, format!("nomsyncafterwrite = true\nflen = 1048576\n{more}")];
        for (number, config) in (0..).zip(configs) {
            let file = temp.path().join("fsx.toml");
            fs::write(&file, config).unwrap();
            let seed = (2 * piece() + number).to_string();
            let mut command = Command::new("fsx");
            command.args(["-N", &OPERATIONS.to_string(), "-S", &seed, "-f"]).arg(&file);
            command.arg("-P").arg(temp.path()).arg(folder.join("file"));
            passes(&format!("{path}, seed {seed}"), &mut command);
            drop(fs::remove_file(folder.join("file")));
        }
        assert_clean(&mount, &folder);
    }
}

#[test]
fn fio_reads_what_it_wrote() {
    if !have("fio") {
        return;
    }
    for (path, mount, folder) in folders() {
        for engine in ["mmap", "psync", "pvsync2", "libaio", "posixaio"] {
            let mut command = Command::new("fio");
            command.args(["--name=file", "--rw=randrw", "--bsrange=512-16k", "--size=16m", "--loops=3"]);
            command.args([
                "--numjobs=2",
                "--iodepth=8",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--group_reporting",
            ]);
            command.arg(format!("--ioengine={engine}")).arg(format!("--directory={}", folder.display()));
            let said = passes(&format!("{path}, {engine}"), command.current_dir("/tmp"));
            assert!(said.contains("err= 0"), "{said}");
        }
        for job in 0..2 {
            fs::remove_file(folder.join(format!("file.{job}.0"))).unwrap();
        }
        assert_clean(&mount, &folder);
    }
}

/// Each group at once, for some seconds, checking what it reads.
fn stress(group: &str) {
    const SECONDS: &str = "6";
    if !have("stress-ng") {
        return;
    }
    for (path, mount, folder) in folders() {
        let mut command = Command::new("stress-ng");
        command.args(["--verify", "--timeout", SECONDS, "--temp-path"]).arg(&folder);
        command.args(group.split_whitespace());
        let said = passes(path, &mut command);
        assert!(!said.contains("skipping"), "{said}");
        assert_clean(&mount, &folder);
    }
}

#[test]
fn mappings_stand_stress() {
    stress(
        "--mmap 1 --mmap-file --mmap-bytes 16M --mremap 1 --mremap-bytes 8M --msync 1 --msync-bytes 8M --madvise 1 \
         --mmapmany 1 --fpunch 1 --fallocate 1 --fallocate-bytes 32M",
    );
}

#[test]
fn locks_stand_stress() {
    stress("--flock 2 --lockf 2 --lockofd 2 --locka 2");
}

#[test]
fn names_and_attributes_stand_stress() {
    stress(
        "--rename 2 --dentry 1 --dentries 500 --dir 1 --dir-dirs 500 --filename 1 --chmod 1 --chown 1 --utime 1 \
         --fstat 1 --getdent 1 --open 1 --access 1 --xattr 1 --symlink 1 --link 1",
    );
}

#[test]
fn reads_and_writes_stand_stress() {
    stress(
        "--seek 1 --seek-size 4M --sendfile 1 --sendfile-size 1M --copy-file 1 --copy-file-bytes 128M --hdd 1 \
         --hdd-bytes 16M --iomix 1 --iomix-bytes 16M --revio 1 --revio-bytes 16M --readahead 1 --readahead-bytes 16M \
         --sync-file 1 --sync-file-bytes 16M --aio 1",
    );
}
