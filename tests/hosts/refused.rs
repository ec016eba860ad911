//! Servers that cannot be used: the mount fails, and says what is missing and how to get it.

use std::fs;

use super::common;
use super::servers::{refusal, servers, servers_with};

#[test]
fn without_a_server_the_mount_fails() {
    if !common::fuse_is_here() {
        return;
    }
    let why = refusal("nats://127.0.0.1:1", &[]);
    assert!(why.contains("no NATS server answers (127.0.0.1:1)") && why.contains("nats-server -js"), "{why}");
    for bad in ["http://host", "nats://", "nats://a,", "nats://host:port"] {
        let why = refusal(bad, &[]);
        assert!(why.contains("write nats://HOST[:PORT]"), "{bad}: {why}");
    }
    let why = refusal("nats://127.0.0.1:1", &["--engine-credentials=/nowhere"]);
    assert!(why.contains("/nowhere"), "{why}");
    let why = refusal("nats://127.0.0.1:1", &["--engine-ca=/nowhere"]);
    assert!(why.contains("/nowhere"), "{why}");
}

#[test]
fn a_server_without_jetstream_is_refused() {
    let Some(servers) = servers_with(1, "") else { return };
    let why = servers.refusal(&[]);
    assert!(why.contains("has no JetStream") && why.contains("-js"), "{why}");
}

#[test]
fn an_account_without_jetstream_is_refused() {
    let config = "jetstream { store_dir: \"STORE\" }
        accounts { A { users: [ { user: a, password: a } ] } }
        no_auth_user: a";
    let Some(servers) = servers_with(1, config) else { return };
    let why = servers.refusal(&[]);
    assert!(why.contains("has no JetStream for this account") && why.contains("jetstream: enabled"), "{why}");
}

#[test]
fn wrong_credentials_are_refused() {
    let config = "jetstream { store_dir: \"STORE\" }
        authorization { user: a, password: secret }";
    let Some(servers) = servers_with(1, config) else { return };
    for url in [servers.url(), servers.url().replace("nats://", "nats://a:wrong@")] {
        let why = refusal(&url, &[]);
        assert!(why.contains("refuses the credentials") && why.contains("--engine-credentials"), "{why}");
        assert!(!why.contains("wrong@"), "{why}");
    }
    let right = format!("--engine={}", servers.url().replace("nats://", "nats://a:secret@"));
    drop(common::mount_with(&[&right, "--space=test"]));
}

#[test]
fn a_server_that_takes_shorter_messages_is_refused_or_the_mount_takes_no_longer_ones() {
    let config = "jetstream { store_dir: \"STORE\" }
        max_payload: 65536";
    let Some(servers) = servers_with(1, config) else { return };
    let why = servers.refusal(&[]);
    assert!(why.contains("max_payload") && why.contains("--msgsize=61440"), "{why}");
    drop(servers.mount_with(&["--msgsize=61440"]));
}

#[test]
fn a_space_of_another_version_is_refused() {
    let Some(servers) = servers(1) else { return };
    drop(servers.mount());
    // As a later version would have written it.
    let port = servers.url().rsplit_once(':').unwrap().1.to_owned();
    common::sh(&format!(
        "printf 'CONNECT {{\"verbose\":false}}\\r\\nPUB $KV.ipcfs-test.version 1\\r\\n9\\r\\nPING\\r\\n' > {0}/in
        python3 -c 'import socket; s=socket.create_connection((\"127.0.0.1\",{port})); s.sendall(open(\"{0}/in\",\"rb\").read())
buffer=b\"\"
while b\"PONG\" not in buffer: buffer+=s.recv(4096)'",
        servers.folder().display()
    ));
    let why = servers.refusal(&[]);
    assert!(why.contains("it has version 9, and this program has version 2"), "{why}");
    drop(servers.mount_with(&["--space=other"]));
}

#[test]
fn an_old_server_is_refused() {
    // Debian's, for one.
    let Some(old) = std::env::var_os("NATS_SERVER_OLD") else {
        eprintln!("SKIP: NATS_SERVER_OLD names no server older than 2.12");
        return;
    };
    if !common::fuse_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = std::process::Command::new(old)
        .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    common::wait_for("a server to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let why = refusal(&format!("nats://127.0.0.1:{port}"), &[]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(why.contains("ipcfs needs 2.12 or newer") && why.contains("https://nats.io/download"), "{why}");
}

#[test]
fn a_mount_with_an_engine_is_not_upgraded_and_goes_on() {
    let Some(servers) = servers(1) else { return };
    let mount = servers.mount();
    super::share(&mount, "shared");
    super::send_new(&mount.mailbox("shared/q"), "kept");
    let out = common::ipcfs().arg("upgrade").arg(mount.dir()).output().unwrap();
    let why = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(1) && why.contains("--engine"), "{why}");
    assert_eq!(fs::read_to_string(mount.mailbox("shared/q")).unwrap(), "kept");
}
