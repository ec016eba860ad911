//! Servers of NATS of a test's own, on loopback.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::common::{self, Mount, wait_for};

/// Servers that know each other. They end with the test.
pub struct Servers {
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    /// Where they say how they are.
    monitors: Vec<u16>,
    running: Vec<Option<Child>>,
}

/// `None`, after saying so, where there is no FUSE or no nats-server. With `REQUIRE_FUSE`, both must be there.
pub fn servers(count: usize) -> Option<Servers> {
    servers_with(count, "jetstream { store_dir: \"STORE\", sync_interval: always }")
}

/// As [`servers`], with more of a configuration. `STORE` in it is a folder of each server's own.
pub fn servers_with(count: usize, config: &str) -> Option<Servers> {
    if !common::fuse_is_here() {
        return None;
    }
    let here = common::have("nats-server");
    assert!(
        here || std::env::var_os("REQUIRE_FUSE").is_none(),
        "REQUIRE_FUSE is set, but nats-server is missing"
    );
    here.then(|| Servers::start(count, config))
}

impl Servers {
    fn start(count: usize, config: &str) -> Servers {
        let folder = tempfile::tempdir().unwrap();
        // All at the same time, so that none is given out twice.
        let taken: Vec<_> = (0..3 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let free: Vec<u16> = taken.iter().map(|port| port.local_addr().unwrap().port()).collect();
        drop(taken);
        let (ports, others) = free.split_at(count);
        let (routes, monitors) = others.split_at(count);
        for (index, (port, route)) in ports.iter().zip(routes).enumerate() {
            let monitor = monitors[index];
            let store = folder.path().join(format!("store-{index}"));
            let own = config.replace("STORE", store.to_str().unwrap());
            let all: Vec<_> = routes.iter().map(|route| format!("nats://127.0.0.1:{route}")).collect();
            let cluster = format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                all.join(", ")
            );
            let cluster = if count > 1 { &cluster[..] } else { "" };
            let text = format!(
                "server_name: n{index}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n{cluster}{own}\n"
            );
            fs::write(folder.path().join(format!("{index}.conf")), text).unwrap();
        }
        let (ports, monitors, running) =
            (ports.to_vec(), monitors.to_vec(), (0..count).map(|_| None).collect());
        let mut servers = Servers { folder, ports, monitors, running };
        (0..count).for_each(|index| servers.run(index));
        // One alone has nothing to agree on.
        if count > 1 {
            wait_for("the cluster to be whole", || servers.is_whole());
        }
        servers
    }

    /// Starts a server.
    pub fn run(&mut self, index: usize) {
        let config = self.folder.path().join(format!("{index}.conf"));
        let log = self.folder.path().join(format!("{index}.log"));
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(config).arg("-l").arg(&log).stdout(Stdio::null()).stderr(Stdio::null());
        self.running[index] = Some(command.spawn().unwrap());
        let port = self.ports[index];
        // A connection alone proves nothing: one to a free port may be to itself.
        wait_for("a server to greet", || {
            let mut greeting = [0; 4];
            TcpStream::connect(("127.0.0.1", port))
                .is_ok_and(|mut server| server.read_exact(&mut greeting).is_ok() && &greeting == b"INFO")
        });
    }

    /// Ends a server as a power cut does.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut server) = self.running[index].take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Each server has all that the others have.
    pub fn is_whole(&self) -> bool {
        self.monitors.iter().all(|port| {
            let mut answer = String::new();
            TcpStream::connect(("127.0.0.1", *port)).is_ok_and(|mut server| {
                server.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").is_ok()
                    && server.read_to_string(&mut answer).is_ok()
                    && answer.starts_with("HTTP/1.0 200")
            })
        })
    }

    /// What the first server answers to a request, as another program makes it.
    pub fn ask(&self, subject: &str) -> String {
        let mut server = TcpStream::connect(("127.0.0.1", self.ports[0])).unwrap();
        server
            .write_all(format!("CONNECT {{}}\r\nSUB here 1\r\nPUB {subject} here 0\r\n\r\n").as_bytes())
            .unwrap();
        let mut lines = BufReader::new(server).lines().map(Result::unwrap);
        lines.find(|line| line.starts_with("MSG here")).unwrap();
        lines.next().unwrap()
    }

    /// What `--engine` is told.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("nats://{}", hosts.join(","))
    }

    /// A mount of the space, as another host has it.
    pub fn mount(&self) -> Mount {
        self.mount_with(&[])
    }

    pub fn mount_with(&self, options: &[&str]) -> Mount {
        let engine = format!("--engine={}", self.url());
        let has_space = options.iter().any(|option| option.starts_with("--space"));
        let space: &[&str] = if has_space { &[] } else { &["--space=test"] };
        common::mount_with(&[&[&engine[..]], space, options].concat()).unwrap()
    }

    /// What mounting says that must fail.
    pub fn refusal(&self, options: &[&str]) -> String {
        refusal(&self.url(), options)
    }

    /// A folder for what a test needs.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|index| self.kill(index));
    }
}

/// What mounting with that engine says, which must fail.
pub fn refusal(url: &str, options: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = common::ipcfs();
    command.arg("mount").arg(format!("--engine={url}")).args(options).arg(dir.path());
    if !options.iter().any(|option| option.starts_with("--space")) {
        command.arg("--space=test");
    }
    let out = common::output(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(out.stdout.is_empty(), "{out:?}");
    String::from_utf8(out.stderr).unwrap()
}
