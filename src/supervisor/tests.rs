//! A supervisor is a process, and so are its daemons: this program, with one of the tests below that are ignored otherwise.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdout, Command, Stdio, exit};
use std::thread;

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::process::{getpid, getppid};
use signal_hook::iterator::Signals;

use super::*;

/// What the daemon shall do.
const SCRIPT: &str = "SUPERVISOR_TEST";

/// A supervisor that runs, and what it and its daemons print.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
}

fn this_program(test: &str) -> Vec<OsString> {
    let name = format!("supervisor::tests::{test}");
    ["test", "--exact", &name, "--ignored", "--nocapture"].map(OsString::from).to_vec()
}

fn exe() -> OwnedFd {
    open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Running {
    fn start(script: &str) -> Running {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(&this_program("supervisor")[1..]).env(SCRIPT, script).stdout(Stdio::piped());
        child::start_with_blocked(&mut command, &SIGNALS);
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Running { process, output }
    }

    /// The rest of the next line that a daemon prints, and all daemons up to then.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // Test programs print lines of their own, and not always whole ones.
            if let Some((_, said)) = line.trim_end().split_once("@@ ") {
                return Some(said.to_owned());
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, said: &str) {
        assert_eq!(self.next().as_deref(), Some(said));
    }

    fn kill(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for its end. Nothing more may have been said.
    #[track_caller]
    fn status(mut self) -> i32 {
        assert_eq!(self.next(), None);
        self.process.wait().unwrap().code().unwrap()
    }
}

fn tell(text: &str) {
    println!("@@ {text}");
}

fn kill_self() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    exit(99)
}

fn memory(byte: u8) -> OwnedFd {
    let memory = File::from(memfd_create("kept", MemfdFlags::CLOEXEC).unwrap());
    memory.write_all_at(&[byte], 0).unwrap();
    memory.into()
}

fn byte(of: &OwnedFd) -> u8 {
    let mut byte = [0];
    rustix::io::pread(of, &mut byte, 0).unwrap();
    byte[0]
}

#[test]
#[ignore = "a process that other tests start"]
fn supervisor() {
    let setup = Setup {
        program: exe(),
        arguments: Arguments::new(this_program("daemon")).unwrap(),
        most_kept: 5000,
        never_gives_up: false,
        output: None,
    };
    exit(i32::from(run(setup).unwrap()));
}

#[test]
#[ignore = "a process that other tests start"]
fn daemon() {
    let Ok(script) = env::var(SCRIPT) else { return };
    let supervised = Supervised::new(child::inherited_socket().unwrap());
    if let Some(predecessor) = script.strip_prefix("successor of ") {
        return successor(&supervised, predecessor);
    }
    let Kept { mut descriptors, deaths } = supervised.kept().unwrap();
    match (script.as_str(), deaths) {
        ("counts", 0) => {
            assert!(descriptors.is_empty());
            for number in [0, 7, 4999] {
                supervised.keep(number, memory(number as u8).as_fd()).unwrap();
            }
            supervised.keep(7, memory(70).as_fd()).unwrap();
            supervised.keep(1, memory(1).as_fd()).unwrap();
            supervised.let_go(1).unwrap();
            supervised.let_go(2).unwrap();
            // There is no such place.
            supervised.keep(5000, memory(1).as_fd()).unwrap();
            kill_self();
        }
        ("counts", deaths) => {
            let kept: Vec<_> = descriptors.iter().map(|(number, kept)| (*number, byte(kept))).collect();
            tell(&format!("{kept:?}"));
            let first = File::from(descriptors.remove(0).1);
            first.write_all_at(&[deaths as u8], 0).unwrap();
            if deaths < 2 {
                kill_self();
            }
            exit(7);
        }
        ("early", _) => {
            tell("early");
            kill_self();
        }
        ("dies", deaths) => {
            supervised.keep(0, memory(0).as_fd()).unwrap();
            tell(&format!("dies {deaths}"));
            kill_self();
        }
        ("signals", deaths) => {
            let signals = Signals::new(PASSED_ON).unwrap();
            supervised.keep(0, memory(0).as_fd()).unwrap();
            supervised.ready().unwrap();
            tell(&format!("ready {deaths}"));
            listen(signals);
        }
        ("slow", _) => {
            supervised.keep(0, memory(0).as_fd()).unwrap();
            // Until this process can take them, signals wait at the supervisor.
            tell("slow");
            let mut line = String::new();
            io::stdin().read_line(&mut line).unwrap();
            let signals = Signals::new(PASSED_ON).unwrap();
            supervised.ready().unwrap();
            listen(signals);
        }
        ("silent", 0) => {
            let kept = memory(1);
            for number in 0..900 {
                supervised.keep(number, kept.as_fd()).unwrap();
            }
            kill_self();
        }
        ("silent", _) => {
            assert_eq!(descriptors.len(), 900);
            // Asks again, and does not listen.
            wire::send(supervised.socket(), ToSupervisor::Give, None).unwrap();
            let signals = Signals::new(PASSED_ON).unwrap();
            supervised.ready().unwrap();
            tell("asked");
            listen(signals);
        }
        ("upgrade", 0) => {
            let socket = supervised.socket().as_fd();
            supervised.keep(3, memory(3).as_fd()).unwrap();
            let mut next = Command::new(env::current_exe().unwrap());
            next.args(&this_program("daemon")[1..])
                .env(SCRIPT, format!("successor of {}", std::process::id()));
            child::start_with_socket(&mut next, socket);
            let next = next.spawn().unwrap();
            supervised.set_program(exe().as_fd()).unwrap();
            supervised.set_daemon(next.id()).unwrap();
            exit(0);
        }
        ("upgrade", _) => {
            tell(&format!("after {} {:?}", descriptors.len(), descriptors.first().map(|kept| byte(&kept.1))));
            exit(5);
        }
        _ => exit(98),
    }
}

/// When its predecessor has exited, it is the supervisor's child.
fn successor(supervised: &Supervised, predecessor: &str) {
    supervised.ready().unwrap();
    while getppid().is_some_and(|parent| parent.to_string() == predecessor) {
        thread::yield_now();
    }
    tell("serves");
    kill_self();
}

fn listen(mut signals: Signals) -> ! {
    for signal in signals.forever() {
        tell(&format!("signal {signal}"));
        if signal == libc::SIGTERM {
            exit(0);
        }
    }
    exit(97)
}

#[test]
fn what_is_kept_survives_and_the_status_of_an_exit_is_passed_on() {
    let mut running = Running::start("counts");
    running.expect("[(0, 0), (7, 70), (4999, 135)]");
    running.expect("[(0, 1), (7, 70), (4999, 135)]");
    assert_eq!(running.status(), 7);
}

#[test]
fn after_three_deaths_the_mount_is_ended() {
    let mut running = Running::start("dies");
    for deaths in 0..3 {
        running.expect(&format!("dies {deaths}"));
    }
    assert_eq!(running.status(), i32::from(GIVEN_UP));
}

#[test]
fn a_daemon_that_has_nothing_yet_is_not_started_again() {
    let mut running = Running::start("early");
    running.expect("early");
    assert_eq!(running.status(), i32::from(GIVEN_UP));
}

#[test]
fn signals_reach_the_daemon_that_lives() {
    let mut running = Running::start("signals");
    running.expect("ready 0");
    running.kill(Signal::USR1);
    running.expect(&format!("signal {}", libc::SIGUSR1));
    running.kill(Signal::HUP);
    running.expect(&format!("signal {}", libc::SIGHUP));
    running.kill(Signal::TERM);
    running.expect(&format!("signal {}", libc::SIGTERM));
    assert_eq!(running.status(), 0);
}

#[test]
fn a_signal_that_comes_too_early_waits_for_the_daemon() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(&this_program("supervisor")[1..]).env(SCRIPT, "slow");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    child::start_with_blocked(&mut command, &SIGNALS);
    let mut process = command.spawn().unwrap();
    let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    let mut running = Running { process, output: BufReader::new(output) };
    running.expect("slow");
    running.kill(Signal::TERM);
    // The daemon goes on once the signal is at the supervisor.
    drop(input);
    running.expect(&format!("signal {}", libc::SIGTERM));
    assert_eq!(running.status(), 0);
}

#[test]
fn a_daemon_that_does_not_listen_holds_nothing_up() {
    let mut running = Running::start("silent");
    running.expect("asked");
    running.kill(Signal::TERM);
    running.expect(&format!("signal {}", libc::SIGTERM));
    assert_eq!(running.status(), 0);
}

#[test]
fn the_successor_of_a_daemon_is_watched_like_it() {
    let mut running = Running::start("upgrade");
    running.expect("serves");
    running.expect("after 1 Some(3)");
    assert_eq!(running.status(), 5);
}
