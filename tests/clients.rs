//! Programs in the languages people use, with nothing but their stock file APIs: one call receives exactly one message,
//! and one call sends exactly one. The programs are in `tests/clients`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use Gets::{Line, Whole};
use Waits::{Polling, Reading};
use common::Mount;
use tempfile::TempDir;

/// Bytes of the longest message.
const LONGEST: usize = 1_044_480;

/// Goroutines blocked at a time.
const MANY: usize = 500;

/// What a call gets of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gets {
    Whole,
    /// Its first line; the rest goes with the file object's buffer.
    Line,
}

/// How a call waits for a message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Waits {
    /// In a read, which `status` counts.
    Reading,
    /// In poll(2) or epoll(7), before it reads.
    Polling,
}

/// A program of `tests/clients`, ready to be run.
#[derive(Debug)]
struct Client {
    command: Vec<OsString>,
    // Where it was compiled to.
    _dir: Option<TempDir>,
}

impl Client {
    fn interpreted(program: &str, source: &str) -> Client {
        Client { command: vec![program.into(), source_of(source).into()], _dir: None }
    }

    /// `COMPILER... -o OUTPUT SOURCE`
    fn compiled(compiler: &[&str], source: &str) -> Client {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("client");
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).arg("-o").arg(&output).arg(source_of(source));
        compile(&mut command);
        Client { command: vec![output.into()], _dir: Some(dir) }
    }

    fn start(&self, arguments: &[&str], mailbox: &Path, file: Option<&Path>) -> Child {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg(arguments[0]).arg(mailbox).args(&arguments[1..]).args(file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts a call that receives; its output is read meanwhile, as it may be longer than a pipe holds.
    fn receive(&self, api: &str, mailbox: &Path) -> Receiving {
        let mut child = self.start(&[api], mailbox, None);
        let mut stdout = child.stdout.take().unwrap();
        let printed = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        Receiving { child, printed }
    }
}

#[derive(Debug)]
struct Receiving {
    child: Child,
    printed: std::thread::JoinHandle<Vec<u8>>,
}

impl Receiving {
    /// What it printed, after it ended well.
    fn finish(self, what: &str) -> Vec<u8> {
        let out = common::output(self.child);
        assert!(out.status.success(), "{what}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
        self.printed.join().unwrap()
    }
}

/// Each call receives one message and leaves the next, whether it finds them there or has to wait.
fn each_receives_one(client: &Client, calls: &[(&str, Gets, Waits)]) {
    let Some(mount) = common::mount() else { return };
    let long = text(LONGEST);
    let short = String::from("first\nline two\n");
    for &(api, gets, waits) in calls {
        let there = mount.make_mailbox(&format!("{api}-there"), &[]);
        fs::write(&there, &long).unwrap();
        fs::write(&there, "second\n").unwrap();
        let got = client.receive(api, &there).finish(api);
        assert_got(&got, &long, gets, &format!("{api}, a message being there"));
        assert_left(&mount, &format!("{api}-there"));

        let awaited = mount.make_mailbox(&format!("{api}-awaited"), &[]);
        let receiving = client.receive(api, &awaited);
        await_wait(&mount, &receiving.child, &format!("{api}-awaited"), waits);
        fs::write(&awaited, &short).unwrap();
        fs::write(&awaited, "second\n").unwrap();
        let got = receiving.finish(api);
        assert_got(&got, &short, gets, &format!("{api}, having waited"));
        assert_left(&mount, &format!("{api}-awaited"));
    }
}

/// Each call sends a text of `size` bytes as one message. One byte more than the longest message is an error.
fn each_sends_one(client: &Client, size: usize, calls: &[&str]) {
    let Some(mount) = common::mount() else { return };
    let temp = tempfile::tempdir().unwrap();
    let (sendable, too_long) = (temp.path().join("sendable"), temp.path().join("too-long"));
    fs::write(&sendable, text(size)).unwrap();
    fs::write(&too_long, text(LONGEST + 1)).unwrap();
    for api in calls {
        let name = (*api).to_owned();
        let mailbox = mount.make_mailbox(&name, &[]);
        let out = common::output(client.start(&[api], &mailbox, Some(&sendable)));
        assert!(out.status.success(), "{api}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
        assert_eq!(mount.figure(&format!("mailboxes/{name}/status"), "sent"), 1, "messages sent by {api}");
        assert!(take(&mailbox) == text(size).as_bytes(), "{api} sent other bytes");
        if size == LONGEST {
            let out = common::output(client.start(&[api], &mailbox, Some(&too_long)));
            assert!(!out.status.success(), "{api} sent too long a message");
            assert_eq!(mount.figure(&format!("mailboxes/{name}/status"), "sent"), 1, "pieces sent by {api}");
        }
    }
}

fn assert_got(got: &[u8], message: &str, gets: Gets, what: &str) {
    let wanted = match gets {
        Whole => message,
        Line => message.split_inclusive('\n').next().unwrap(),
    };
    let start = String::from_utf8_lossy(&got[..got.len().min(100)]);
    assert!(got == wanted.as_bytes(), "{what}: wanted {} bytes, got {}: {start}", wanted.len(), got.len());
}

fn assert_left(mount: &Mount, name: &str) {
    let status = format!("mailboxes/{name}/status");
    assert_eq!((mount.figure(&status, "received"), mount.figure(&status, "depth")), (1, 1), "{name}");
    assert_eq!(take(&mount.mailbox(name)), b"second\n", "{name}");
}

/// The next message, which is there, by a read that never waits.
fn take(mailbox: &Path) -> Vec<u8> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = fs::File::options().read(true).write(true).custom_flags(flags).open(mailbox).unwrap();
    let mut bytes = vec![0; LONGEST];
    let length = file.read(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// What a program prints, line by line, for [`next`].
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    lines
}

/// The next line; none at the end. The watchdog is that of [`common::wait_for`].
fn next(lines: &Receiver<String>) -> Option<String> {
    match lines.recv_timeout(common::PATIENCE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("waited in vain for a line of output"),
    }
}

/// Waits until a program waits for a message.
fn await_wait(mount: &Mount, child: &Child, name: &str, waits: Waits) {
    match waits {
        Reading => mount.wait_for_figure(name, "waiting_readers", 1),
        Polling => {
            common::wait_for(&format!("{name} to be polled"), || sleeps_on(child.id(), &mount.mailbox(name)));
        }
    }
}

/// All threads of a process sleep while it has a file open: if not in a read, then in a poll.
fn sleeps_on(pid: u32, file: &Path) -> bool {
    let entries = |dir: &str| fs::read_dir(format!("/proc/{pid}/{dir}")).into_iter().flatten().flatten();
    // The kernel calls a name deleted, too, at which it has another node by now.
    let names = [file.to_owned(), format!("{} (deleted)", file.display()).into()];
    let open = entries("fd").any(|fd| fs::read_link(fd.path()).is_ok_and(|path| names.contains(&path)));
    let asleep = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    };
    open && entries("task").all(asleep)
}

/// Lines of text, `size` bytes in all.
fn text(size: usize) -> String {
    let mut text = String::with_capacity(size + 8);
    for number in 0..=size / 8 {
        writeln!(text, "{number:07}").unwrap();
    }
    text.truncate(size - 1);
    text.push('\n');
    text
}

fn source_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn compile(command: &mut Command) {
    let out = common::output(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
}

fn python() -> Option<Client> {
    common::have("python3").then(|| Client::interpreted("python3", "client.py"))
}

fn node() -> Option<Client> {
    common::have("node").then(|| Client::interpreted("node", "client.js"))
}

fn java() -> Option<Client> {
    if !common::have("java") || !common::have("javac") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    compile(Command::new("javac").arg("-d").arg(dir.path()).arg(source_of("Client.java")));
    let command = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"].map(OsString::from);
    let command = command.into_iter().chain([dir.path().into(), "Client".into()]).collect();
    Some(Client { command, _dir: Some(dir) })
}

fn go() -> Option<Client> {
    common::have("go").then(|| Client::compiled(&["go", "build"], "client.go"))
}

fn c() -> Option<Client> {
    common::have("cc").then(|| Client::compiled(&["cc", "-Wall", "-Werror", "-O1"], "client.c"))
}

fn rust() -> Option<Client> {
    common::have("rustc").then(|| Client::compiled(&["rustc", "--edition=2021"], "client.rs"))
}

#[test]
fn python_receives_one_message_a_call() {
    let Some(client) = python() else { return };
    each_receives_one(
        &client,
        &[
            ("open_read", Whole, Reading),
            ("open_read_text", Whole, Reading),
            ("open_read_unbuffered", Whole, Reading),
            ("readline", Line, Reading),
            ("lines", Whole, Reading),
            ("os_read", Whole, Reading),
            ("os_pread", Whole, Reading),
            ("pathlib_bytes", Whole, Reading),
            ("pathlib_text", Whole, Reading),
            ("stream", Whole, Reading),
            ("asyncio_reader", Whole, Polling),
            ("asyncio_thread", Whole, Reading),
            ("select_read", Whole, Polling),
        ],
    );
}

#[test]
fn python_sends_one_message_a_file_object() {
    let Some(client) = python() else { return };
    let calls = [
        "write_text",
        "write_pieces",
        "print_to",
        "write_bytes",
        "write_unbuffered",
        "write_stream",
        "os_write",
    ];
    each_sends_one(&client, LONGEST, &calls);
    each_sends_one(&client, LONGEST, &["pathlib_write"]);
}

#[test]
fn node_receives_one_message_a_call() {
    let Some(client) = node() else { return };
    each_receives_one(
        &client,
        &[
            ("readFile", Whole, Reading),
            ("readFileText", Whole, Reading),
            ("readFileSync", Whole, Reading),
            ("promisesReadFile", Whole, Reading),
            ("readSync", Whole, Reading),
            ("fileHandle", Whole, Reading),
            ("stream", Whole, Reading),
            ("createReadStream", Whole, Reading),
            ("lines", Whole, Reading),
        ],
    );
}

#[test]
fn node_sends_one_message_a_call() {
    let Some(client) = node() else { return };
    let calls =
        ["writeFile", "writeFileSync", "appendFile", "appendFileSync", "writeSync", "createWriteStream"];
    each_sends_one(&client, LONGEST, &calls);
    // These write in pieces of 512 KiB.
    each_sends_one(&client, 512 * 1024, &["promisesWriteFile", "promisesAppendFile"]);
}

#[test]
fn java_receives_one_message_a_call() {
    let Some(client) = java() else { return };
    each_receives_one(
        &client,
        &[
            ("readAllBytes", Whole, Reading),
            ("readString", Whole, Reading),
            ("lines", Whole, Reading),
            ("copy", Whole, Reading),
            ("inputStream", Whole, Reading),
            ("inputStreamAll", Whole, Reading),
            ("transferTo", Whole, Reading),
            ("channel", Whole, Reading),
            ("channelStream", Whole, Reading),
            ("randomAccess", Whole, Reading),
            ("randomAccessStream", Whole, Reading),
            ("bufferedReader", Line, Reading),
            ("scanner", Line, Reading),
        ],
    );
}

#[test]
fn java_sends_one_message_a_call() {
    let Some(client) = java() else { return };
    each_sends_one(&client, LONGEST, &["outputStream", "outputStreamAppend", "channel", "randomAccess"]);
    // These write in pieces of 8 KiB.
    each_sends_one(&client, 8192, &["write", "writeString", "append", "fileWriter", "printWriter"]);
}

#[test]
fn go_receives_one_message_a_call() {
    let Some(client) = go() else { return };
    // Go's runtime asks epoll first, for every file.
    each_receives_one(
        &client,
        &[
            ("readFile", Whole, Polling),
            ("readAll", Whole, Polling),
            ("read", Whole, Polling),
            ("stream", Whole, Polling),
            ("readLine", Line, Polling),
            ("scanner", Whole, Polling),
            ("copy", Whole, Polling),
        ],
    );
}

#[test]
fn go_sends_one_message_a_call() {
    let Some(client) = go() else { return };
    each_sends_one(&client, LONGEST, &["writeFile", "write", "append", "stream", "bufio", "fprint"]);
}

#[test]
fn blocked_goroutines_hold_no_threads_and_each_receives_one_message() {
    let (Some(client), Some(mount)) = (go(), common::mount()) else { return };
    let mailbox = mount.make_mailbox("many", &[]);
    let mut child = client.start(&["many", &MANY.to_string()], &mailbox, None);
    let lines = lines_of(child.stdout.take().unwrap());
    assert_eq!(next(&lines), Some(MANY.to_string()), "goroutines that wait without a thread");
    let mut wanted: Vec<String> = (0..MANY).map(|number| format!("message {number:03}")).collect();
    for message in &wanted {
        fs::write(&mailbox, format!("{message}\n")).unwrap();
    }
    assert!(common::reap(&mut child).success());
    let mut got: Vec<String> = std::iter::from_fn(|| next(&lines)).collect();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
}

#[test]
fn a_go_read_deadline_passes_and_takes_nothing() {
    let (Some(client), Some(mount)) = (go(), common::mount()) else { return };
    let mailbox = mount.make_mailbox("deadline", &[]);
    let mut child = client.start(&["deadline"], &mailbox, None);
    let lines = lines_of(child.stderr.take().unwrap());
    assert_eq!(next(&lines).as_deref(), Some("passed"));
    fs::write(&mailbox, "later\n").unwrap();
    let out = common::output(child);
    assert_eq!((out.status.success(), out.stdout.as_slice()), (true, b"later\n".as_slice()));
}

#[test]
fn c_receives_one_message_a_call() {
    let Some(client) = c() else { return };
    each_receives_one(
        &client,
        &[
            ("read", Whole, Reading),
            ("read_small", Whole, Reading),
            ("pread", Whole, Reading),
            ("stream", Whole, Reading),
            ("poll", Whole, Polling),
            ("fread", Whole, Reading),
            ("fgets", Line, Reading),
            ("getline", Whole, Reading),
            ("fgetc", Whole, Reading),
        ],
    );
}

#[test]
fn c_sends_one_message_a_call_or_a_buffer() {
    let Some(client) = c() else { return };
    each_sends_one(&client, LONGEST, &["write", "append", "stream"]);
    // The library's buffer is flushed as one message: of 4 or 8 KiB, or as great as it is made.
    each_sends_one(&client, 4000, &["dprintf", "fprintf", "fprintf_append", "fputc", "fwrite"]);
    each_sends_one(&client, LONGEST, &["setvbuf"]);
}

#[test]
fn rust_receives_one_message_a_call() {
    let Some(client) = rust() else { return };
    each_receives_one(
        &client,
        &[
            ("fs_read", Whole, Reading),
            ("read_to_string", Whole, Reading),
            ("read", Whole, Reading),
            ("stream", Whole, Reading),
            ("read_line", Line, Reading),
            ("lines", Whole, Reading),
            ("io_copy", Whole, Reading),
            ("io_copy_out", Whole, Reading),
            ("fs_copy", Whole, Reading),
        ],
    );
}

#[test]
fn rust_sends_one_message_a_call() {
    let Some(client) = rust() else { return };
    each_sends_one(&client, LONGEST, &["fs_write", "write_all", "append", "stream", "buf_writer"]);
}

/// A mailbox in which messages wait.
fn filled(mount: &Mount, name: &str, messages: &[&str]) -> PathBuf {
    let mailbox = mount.make_mailbox(name, &[]);
    for message in messages {
        fs::write(&mailbox, message).unwrap();
    }
    mailbox
}

/// What reads through `io_uring` get, one after the other: the length, and the bytes if they are few.
fn ring_reads(client: &Client, file: &Path, arguments: &[&str], wanted: &[&str]) {
    let count = wanted.len().to_string();
    let mut arguments: Vec<&str> = arguments.to_vec();
    arguments.insert(3, &count);
    let mut command = Command::new(&client.command[0]);
    command.arg(file).args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = common::output(command.spawn().unwrap());
    assert!(out.status.success(), "{arguments:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    let got = String::from_utf8_lossy(&out.stdout).replace('\n', "|");
    assert_eq!(got, wanted.join("|") + "|", "{} {arguments:?}", file.display());
}

fn ring() -> Option<Client> {
    common::have("cc").then(|| Client::compiled(&["cc", "-Wall", "-Werror", "-O1"], "ring.c"))
}

/// `io_uring` reads on after a short read, at the same offset.
#[test]
fn a_read_through_io_uring_gets_one_message() {
    let (Some(client), Some(mount)) = (ring(), common::mount()) else { return };
    for how in ["", "sqpoll"] {
        let with = |arguments: [&'static str; 3]| {
            let mut arguments = arguments.to_vec();
            arguments.extend(Some(how).filter(|how| !how.is_empty()));
            arguments
        };
        let file = filled(&mount, &format!("box{how}"), &["hello", "second", "third", "fourth"]);
        // At the position, where readers do not say an offset; and at the offset where the read before ended.
        ring_reads(&client, &file, &with(["r", "position", "100"]), &["5 hello", "0 ", "6 second", "0 "]);
        ring_reads(&client, &file, &with(["r", "on", "100"]), &["5 third", "0 "]);
        fs::write(&file, "fifth").unwrap();
        ring_reads(&client, &file, &with(["rw", "position", "100"]), &["6 fourth", "5 fifth"]);
        assert_eq!(mount.figure(&format!("mailboxes/box{how}/status"), "depth"), 0);
        // A buffer shorter than the message, and as long.
        fs::write(&file, "abcde").unwrap();
        fs::write(&file, "abcde").unwrap();
        ring_reads(&client, &file, &with(["r", "position", "2"]), &["2 ab", "2 cd", "1 e", "0 "]);
        ring_reads(&client, &file, &with(["r", "position", "5"]), &["5 abcde", "0 "]);
        fs::write(&file, "abcde").unwrap();
        ring_reads(&client, &file, &with(["rw", "position", "2"]), &["2 ab", "2 cd", "1 e"]);
        // Longer than a request of the kernel's carries.
        for length in [131_072, 131_101, 300_000, LONGEST] {
            fs::write(&file, vec![b'x'; length]).unwrap();
            fs::write(&file, "next").unwrap();
            let (size, got) = ((length + 1).to_string(), format!("{length} "));
            let mut arguments = vec!["r", "position", size.as_str()];
            arguments.extend(Some(how).filter(|how| !how.is_empty()));
            ring_reads(&client, &file, &arguments, &[&got, "0 ", "4 next", "0 "]);
        }
        let segment = mount.path(&format!("segments/segment{how}"));
        fs::write(&segment, "hello").unwrap();
        for mode in ["r", "rw"] {
            ring_reads(&client, &segment, &with([mode, "0", "100"]), &["5 hello", "5 hello"]);
            ring_reads(&client, &segment, &with([mode, "2", "2"]), &["2 ll", "2 ll"]);
        }
        // Texts that are read to their end, and the message of a file.
        fs::write(&file, "waits").unwrap();
        let messages = fs::read_dir(mount.path(&format!("control/mailboxes/box{how}/messages"))).unwrap();
        let message = messages.last().unwrap().unwrap().path();
        ring_reads(&client, &message, &with(["r", "position", "100"]), &["5 waits", "0 "]);
        ring_reads(&client, &message, &with(["r", "on", "100"]), &["5 waits", "0 "]);
        let text = mount.path(&format!("control/mailboxes/box{how}/config/order"));
        ring_reads(&client, &text, &with(["r", "position", "100"]), &["9 priority|", "0 "]);
    }
    // In a thread that may wait, each read is as read(2): the position stays, so a program must say offsets.
    let file = filled(&mount, "async", &["hello", "second"]);
    ring_reads(&client, &file, &["r", "on", "100", "async"], &["5 hello", "0 ", "6 second", "0 "]);
}

#[test]
fn readers_through_io_uring_wait_compete_and_are_killed() {
    let (Some(client), Some(mount)) = (ring(), common::mount()) else { return };
    for mode in ["r", "rw"] {
        let file = mount.make_mailbox(mode, &[]);
        let name = format!("mailboxes/{mode}/status");
        let start = |how: &str| {
            let mut command = Command::new(&client.command[0]);
            command
                .arg(&file)
                .args([mode, "position", "100", "1"])
                .args(Some(how).filter(|how| !how.is_empty()));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut readers: Vec<Child> = ["", "", "", "sqpoll", "sqpoll", "async", "async"].map(start).into();
        for reader in &readers {
            common::wait_for("a reader to sleep", || sleeps_on(reader.id(), &file));
        }
        let mut killed = [start(""), start("async"), start("sqpoll")];
        for reader in &mut killed {
            common::wait_for("a reader to sleep", || sleeps_on(reader.id(), &file));
            reader.kill().unwrap();
            common::reap(reader);
        }
        let wanted: Vec<String> = (0..readers.len()).map(|number| format!("message{number}")).collect();
        for message in &wanted {
            fs::write(&file, message).unwrap();
        }
        let got = readers.drain(..).map(|reader| String::from_utf8(common::output(reader).stdout).unwrap());
        let mut got: Vec<String> = got.collect();
        got.sort();
        assert_eq!(got, wanted.iter().map(|message| format!("8 {message}\n")).collect::<Vec<_>>());
        assert_eq!((mount.figure(&name, "received"), mount.figure(&name, "depth")), (7, 0));
    }
}

/// Node reads files through `io_uring` if it is told to.
#[test]
fn node_receives_one_message_through_io_uring() {
    let (Some(mut client), Some(mount)) = (node(), common::mount()) else { return };
    client.command.insert(0, "env".into());
    client.command.insert(1, "UV_USE_IO_URING=1".into());
    for api in
        ["readFile", "readFileText", "promisesReadFile", "fileHandle", "stream", "createReadStream", "lines"]
    {
        let file = filled(&mount, api, &["first\n", "second\n"]);
        assert_eq!(client.receive(api, &file).finish(api), b"first\n", "{api}");
        assert_eq!(client.receive(api, &file).finish(api), b"second\n", "{api}");
        assert_eq!(mount.figure(&format!("mailboxes/{api}/status"), "depth"), 0, "{api}");
    }
}
