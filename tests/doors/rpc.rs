//! Requests and answers: through `rpc` and `serve`.

use std::fs;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::{self, Mount, peer::Peer};
use crate::tools::{BOTH, NOWAIT, aside, finish, noise, open, read, set};
use crate::ways::{ready, side};

fn figure(mount: &Mount, key: &str) -> u64 {
    mount.figure("mailboxes/box/status", key)
}

#[test]
fn answers_of_many_servers_reach_whoever_of_many_clients_asked() {
    const CLIENTS: usize = 8;
    const QUESTIONS: usize = 100;
    let Some(mount) = common::mount() else { return };
    let path = mount.make_mailbox("box", &[("maxmsg", "3")]);
    let servers: Vec<_> = (0..3)
        .map(|_| {
            let server = open(&side(&mount, "box", "serve"), BOTH);
            aside(move || {
                let mut served = 0;
                loop {
                    match read(&server, 4096) {
                        Ok(mut question) => {
                            question.reverse();
                            assert_eq!(rustix::io::write(&server, &question), Ok(question.len()));
                            served += 1;
                        }
                        Err(error) => return (error, served),
                    }
                }
            })
        })
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let file = open(&side(&mount, "box", "rpc"), BOTH);
            aside(move || {
                for n in 0..QUESTIONS {
                    let question = format!("question {n} of client {client}");
                    assert_eq!(rustix::io::write(&file, question.as_bytes()), Ok(question.len()));
                    let answer: Vec<u8> = question.bytes().rev().collect();
                    assert_eq!(read(&file, 4096), Ok(answer));
                    assert_eq!(read(&file, 4096), Ok(vec![]), "its end");
                }
            })
        })
        .collect();
    for client in clients {
        finish("a client", client);
    }
    let all = (CLIENTS * QUESTIONS) as u64;
    assert_eq!(
        (figure(&mount, "replied"), figure(&mount, "requests"), figure(&mount, "serving")),
        (all, 0, 0)
    );
    fs::remove_file(path).unwrap();
    let ends = servers.into_iter().map(|server| finish("a server", server));
    let served: u64 = ends.map(|(error, served)| if error == Errno::IDRM { served } else { 0 }).sum();
    assert_eq!(served, all);
    mount.wait_for_free_memory();
}

#[test]
fn a_request_outlives_its_server() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let (Some(mut first), Some(mut second), Some(mut client)) = (Peer::start(), Peer::start(), Peer::start())
    else {
        return;
    };
    for server in [&mut first, &mut second] {
        server.open("fd", &side(&mount, "box", "serve"), "O_RDWR");
    }
    client.open("fd", &side(&mount, "box", "rpc"), "O_RDWR");
    assert_eq!(client.ask("os.write(fd, b'question')"), "8");
    assert_eq!(first.ask("os.read(fd, 3)"), "b'que'");
    client.tell("os.read(fd, 100)");
    mount.wait_for_figure("box", "waiting_readers", 1);
    second.tell("os.read(fd, 100)");
    mount.wait_for_figure("box", "waiting_readers", 2);
    first.kill();
    assert_eq!(second.answer(), "b'question'", "all of it");
    assert_eq!(figure(&mount, "redelivered"), 1);
    assert_eq!(second.ask("os.write(fd, b'answer')"), "6");
    assert_eq!(client.answer(), "b'answer'");
}

#[test]
fn nobody_works_for_a_client_who_is_gone() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let server = open(&side(&mount, "box", "serve"), BOTH | NOWAIT);
    // Killed before a server took its request, and with it in a server's hands; waiting for the answer or not.
    for (taken, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let Some(mut client) = Peer::start() else { return };
        client.open("fd", &side(&mount, "box", "rpc"), "O_RDWR");
        assert_eq!(client.ask("os.write(fd, b'question')"), "8");
        if taken {
            assert_eq!(read(&server, 99), Ok(b"question".to_vec()));
        }
        if waits {
            client.tell("os.read(fd, 100)");
            mount.wait_for_figure("box", "waiting_readers", 1);
        }
        client.kill();
        mount.wait_for_figure("box", "requests", 0);
        mount.wait_for_figure("box", "waiting_readers", 0);
        if taken {
            assert_eq!(rustix::io::write(&server, b"answer"), Err(Errno::CANCELED));
        }
        assert_eq!(read(&server, 99), Err(Errno::AGAIN));
    }
    assert_eq!((figure(&mount, "serving"), figure(&mount, "replied")), (0, 0));
    mount.wait_for_free_memory();
}

#[test]
fn a_request_whose_client_and_server_are_gone_is_nobodys() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let client = open(&side(&mount, "box", "rpc"), BOTH);
    let server = open(&side(&mount, "box", "serve"), BOTH);
    assert_eq!(rustix::io::write(&client, b"question"), Ok(8));
    assert_eq!(read(&server, 99), Ok(b"question".to_vec()));
    drop(client);
    // The number of an open file may be another's by now.
    let other = open(&side(&mount, "box", "rpc"), BOTH | NOWAIT);
    assert_eq!(rustix::io::write(&other, b"another"), Ok(7));
    mount.wait_for_figure("box", "requests", 1);
    assert_eq!(rustix::io::write(&server, b"answer"), Err(Errno::CANCELED));
    assert_eq!(read(&other, 99), Err(Errno::AGAIN), "no answer is for it");
    assert_eq!(read(&server, 99), Ok(b"another".to_vec()));
    drop(other);
    drop(server);
    mount.wait_for_figure("box", "serving", 0);
    assert_eq!(figure(&mount, "requests"), 0);
    mount.wait_for_free_memory();
}

#[test]
fn whoever_speaks_out_of_turn_is_told_so() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[("msgsize", "100")]);
    let client = open(&side(&mount, "box", "rpc"), BOTH | NOWAIT);
    let server = open(&side(&mount, "box", "serve"), BOTH | NOWAIT);
    assert_eq!(rustix::io::write(&server, b"answer"), Err(Errno::NOMSG), "nobody has asked");
    assert_eq!(read(&client, 9), Err(Errno::NOMSG), "it has not asked");
    assert_eq!(rustix::io::write(&client, &[b'x'; 101]), Err(Errno::MSGSIZE));
    assert_eq!(rustix::io::write(&client, &[b'x'; 100]), Ok(100));
    assert_eq!(rustix::io::write(&client, b"more"), Err(Errno::BUSY), "one question at a time");
    assert_eq!(read(&server, 999).map(|question| question.len()), Ok(100));
    assert_eq!(rustix::io::write(&server, &[b'x'; 101]), Err(Errno::MSGSIZE));
    assert_eq!(rustix::io::write(&server, b"answer"), Ok(6), "it can do better");
    assert_eq!(rustix::io::write(&server, b"answer"), Err(Errno::NOMSG), "once is all");
    assert_eq!(read(&client, 3), Ok(b"ans".to_vec()));
    assert_eq!(rustix::io::write(&client, b"next"), Ok(4), "without having read to the end");
    assert_eq!(read(&server, 99), Ok(b"next".to_vec()));
    assert_eq!(rustix::io::write(&server, b"other"), Ok(5));
    assert_eq!(read(&client, 99), Ok(b"other".to_vec()), "the answer to that, and nothing of the one before");
}

#[test]
fn long_questions_and_answers_are_whole() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[]);
    let (question, answer) = (noise(1_044_480, 1), noise(1_000_000, 2));
    let client = open(&side(&mount, "box", "rpc"), BOTH);
    let server = open(&side(&mount, "box", "serve"), BOTH);
    assert_eq!(rustix::io::write(&client, &question), Ok(question.len()));
    let all = |file| {
        let mut all = Vec::new();
        loop {
            let part = read(file, 70_000).unwrap();
            if part.is_empty() {
                return all;
            }
            all.extend(part);
        }
    };
    assert!(all(&server) == question);
    assert_eq!(rustix::io::write(&server, &answer), Ok(answer.len()));
    assert!(all(&client) == answer);
    assert!(ready(&client).contains(PollFlags::OUT));
}

#[test]
fn a_client_who_waits_for_room_changes_its_mind() {
    let Some(mount) = common::mount() else { return };
    mount.make_mailbox("box", &[("maxmsg", "1")]);
    let first = open(&side(&mount, "box", "rpc"), BOTH);
    assert_eq!(rustix::io::write(&first, b"first"), Ok(5));
    let Some(mut client) = Peer::start() else { return };
    client.open("fd", &side(&mount, "box", "rpc"), "O_RDWR");
    client.tell("os.write(fd, b'second')");
    mount.wait_for_figure("box", "waiting_writers", 1);
    client.signal(Signal::USR1);
    assert_eq!(client.answer(), "Signalled()");
    assert_eq!(client.ask("os.read(fd, 9)"), "ENOMSG", "it has asked nothing");
    set(&mount, "box", "maxmsg", "2");
    assert_eq!(client.ask("os.write(fd, b'third')"), "5");
    let server = open(&side(&mount, "box", "serve"), BOTH | NOWAIT);
    for (question, answer) in [("first", "one"), ("third", "three")] {
        assert_eq!(read(&server, 99), Ok(question.as_bytes().to_vec()));
        assert_eq!(rustix::io::write(&server, answer.as_bytes()), Ok(answer.len()));
    }
    assert_eq!(client.ask("os.read(fd, 99)"), "b'three'");
    assert_eq!(read(&first, 99), Ok(b"one".to_vec()));
}
