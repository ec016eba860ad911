//! What a user writes in a shell, and a server in Python.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{self, Mount, have, output, reap, wait_for};
use crate::tools::{receive_text, run, send};
use crate::ways::side;

/// Starts a script in `control/mailboxes/`, as a user's terminal would stand there.
fn start(mount: &Mount, interpreter: &[&str], script: &str) -> Child {
    let mut command = Command::new(interpreter[0]);
    command.args(&interpreter[1..]).arg(script).current_dir(mount.path("control/mailboxes"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn bash(mount: &Mount, script: &str) -> String {
    let out = output(start(mount, &["bash", "-euc"], script));
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A worker takes a job, does it, and says so; one that fails gives it back, and what fails twice is set aside.
const WORKER: &str = r#"
exec 3<> jobs/lease
while job=$(cat <&3); do
    if test "$job" = poison; then echo nack >&3; else echo "$job done" > ../../mailboxes/results; echo ack >&3; fi
done
"#;

fn bodies(mount: &Mount, mailbox: &str, count: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..count).map(|_| receive_text(&mount.mailbox(mailbox))).collect();
    all.sort_unstable();
    all
}

fn stop(mut child: Child) {
    // Not by its name: the processes it has started end when they find its mailbox gone.
    child.kill().unwrap();
    reap(&mut child);
}

#[test]
fn a_pool_of_workers_in_shell() {
    let Some(mount) = common::mount() else { return };
    if !have("bash") {
        return;
    }
    for name in ["jobs", "results", "failed"] {
        mount.make_mailbox(name, &[]);
    }
    bash(&mount, "echo 2 > jobs/config/max_deliver; echo failed > jobs/config/dead_letter");
    let workers: Vec<Child> = (0..3).map(|_| start(&mount, &["bash", "-c"], WORKER)).collect();
    bash(&mount, "seq 20 > jobs/stream; echo poison > ../../mailboxes/jobs");
    mount.wait_for_figure("results", "depth", 20);
    mount.wait_for_figure("failed", "depth", 1);
    let mut expected: Vec<String> = (1..=20).map(|n| format!("{n} done\n")).collect();
    expected.sort_unstable();
    assert_eq!(bodies(&mount, "results", 20), expected);
    // The failed one is looked at, and tried again by moving it back; then it is thrown away.
    assert_eq!(bash(&mount, "cat failed/messages/*"), "poison\n");
    bash(&mount, "mv failed/messages/* jobs/messages/");
    mount.wait_for_figure("failed", "depth", 1);
    bash(&mount, "rm failed/messages/*; test -z \"$(ls failed/messages)\"");
    std::fs::remove_file(mount.mailbox("jobs")).unwrap();
    workers.into_iter().for_each(stop);
}

#[test]
fn a_round_trip_of_dead_letters_by_mv() {
    let Some(mount) = common::mount() else { return };
    if !have("bash") {
        return;
    }
    mount.make_mailbox("orders", &[]);
    mount.make_mailbox("failed", &[]);
    let said = bash(
        &mount,
        r"
echo failed > orders/config/dead_letter
echo 'two teas' > orders/tag/kitchen
exec 3<> orders/lease
read -r order <&3
echo reject >&3
exec 3>&-
ls failed/messages | wc -l
mv failed/messages/* orders/messages/
cat orders/tag/kitchen
",
    );
    assert_eq!(said, "1\ntwo teas\n");
    assert_eq!(mount.figure("status", "messages"), 0);
}

/// What a server does with a request: waits while the file `hold` is there, and says by a file `held` that it does.
const HOLD: &str = r#": > "$HOLD/held"; while [ -e "$HOLD/hold" ]; do sleep 0.01; done"#;

fn of_the_project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The servers that the documents show, as programs that run in `control/mailboxes/`: README.md's function in each shell, and
/// the one in Python. `hold` is the directory in which they look for what holds them.
fn servers(hold: &Path) -> Vec<Command> {
    let readme = std::fs::read_to_string(of_the_project("README.md")).unwrap();
    let function =
        readme.lines().find_map(|line| line.strip_prefix("$ server()")).expect("README.md has a server");
    // README's shell stands in the mount.
    let script = format!("cd ../..; server(){function}\nserver 2>> \"$HOLD/errors\"");
    let tr = hold.join("tr");
    std::fs::write(&tr, format!("#!/bin/sh\n{HOLD}\nexec /usr/bin/tr \"$@\"\n")).unwrap();
    std::fs::set_permissions(&tr, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", hold.display(), std::env::var("PATH").unwrap());
    let shells = [&["bash"][..], &["dash"], &["zsh"], &["busybox", "sh"]];
    let mut servers: Vec<Command> = Vec::new();
    for shell in shells.into_iter().filter(|shell| have(shell[0])) {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", &script]).env("PATH", &path);
        servers.push(command);
    }
    if have("python3") {
        let held = format!(
            "import subprocess, upper\nanswer = upper.answer\ndef hold(request):\n    subprocess.check_call({HOLD:?}, shell=True)\n    \
             return answer(request)\nupper.answer = hold\nupper.main('../..', 'upper')"
        );
        let mut command = Command::new("python3");
        command.args(["-Bc", &held]).env("PYTHONPATH", of_the_project("examples"));
        servers.push(command);
    }
    servers
}

/// Asks once; the answer.
const CLIENT: &str = r#"exec 3<> upper/rpc; printf '%s' "$QUESTION" >&3; cat <&3"#;

fn ask(mount: &Mount, question: &str) -> Child {
    let mut command = Command::new("bash");
    command.args(["-euc", CLIENT]).env("QUESTION", question).current_dir(mount.path("control/mailboxes"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_servers_of_the_documents_survive_a_client_who_leaves() {
    let Some(mount) = common::mount() else { return };
    let temp = tempfile::tempdir().unwrap();
    let (hold, held) = (temp.path().join("hold"), temp.path().join("held"));
    for mut server in servers(temp.path()) {
        let path = mount.make_mailbox("upper", &[]);
        let shown = format!("{server:?}");
        server.env("HOLD", temp.path()).current_dir(mount.path("control/mailboxes"));
        let server =
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::fs::write(&hold, "").unwrap();
        let mut client = File::options().read(true).write(true).open(side(&mount, "upper", "rpc")).unwrap();
        client.write_all(b"I shall not wait").unwrap();
        wait_for(&format!("a request to be in hand of {shown}"), || held.exists());
        drop(client);
        std::fs::remove_file(&hold).unwrap();
        let clients: Vec<Child> = (0..10).map(|n| ask(&mount, &format!("question {n}"))).collect();
        for (n, client) in clients.into_iter().enumerate() {
            let out = output(client);
            assert_eq!(String::from_utf8_lossy(&out.stdout).trim_end(), format!("QUESTION {n}"), "{shown}");
        }
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(&held).unwrap();
        stop(server);
    }
    wait_for("all to have left", || mount.figure("status", "waiting_readers") == 0);
}

#[test]
fn following_a_mailbox_as_json() {
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("log", &[]);
    send(&path, b"say \"hi\"\n");
    send(&side(&mount, "log", "tag/news"), b"{\"a\":1}");
    let lines = run("head -n 2 \"$1\"", side(&mount, "log", "json"));
    assert_parses(&lines);
    let bodies: Vec<&str> = lines.lines().filter_map(|line| line.split("\"body\":").nth(1)).collect();
    assert_eq!(bodies, [r#""say \"hi\"\n"}"#, r#""{\"a\":1}"}"#]);
}

/// Each line is JSON, as Python has it.
fn assert_parses(lines: &str) {
    if have("python3") {
        let temp = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(temp.path(), lines).unwrap();
        let path: &Path = temp.path();
        run("python3 -c 'import json, sys; [json.loads(l) for l in open(sys.argv[1])]' \"$1\"", path);
    }
}
