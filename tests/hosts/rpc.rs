//! Questions and answers between hosts: `rpc` and `serve`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::common::{Mount, peer::Peer, wait_for};
use super::servers::servers_with;
use super::{appears, error_of, is_gone, make, nonblocking, received, send, share, two_hosts};

fn path(mount: &Mount, door: &str) -> std::path::PathBuf {
    mount.path(&format!("control/mailboxes/shared/q/{door}"))
}

fn open(mount: &Mount, door: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path(mount, door)).unwrap()
}

fn open_nowait(mount: &Mount, door: &str) -> File {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path(mount, door)).unwrap()
}

fn read(file: &mut File) -> String {
    let mut buffer = [0; 99];
    let length = file.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn write(file: &mut File, text: &str) {
    assert_eq!(file.write(text.as_bytes()).unwrap(), text.len());
}

fn figure(mount: &Mount, name: &str) -> u64 {
    mount.figure("mailboxes/shared/q/status", name)
}

fn is_ready(file: &File, flag: PollFlags) -> bool {
    let mut poller = [PollFd::new(file, flag)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut poller, Some(&now)).unwrap();
    poller[0].revents().contains(flag)
}

/// Serves a question on this host, by its reverse.
fn serve_one(server: &mut File) {
    let answer: String = read(server).chars().rev().collect();
    write(server, &answer);
}

#[test]
fn a_question_is_answered_on_another_host() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let (mut client, mut server) = (open(&here, "rpc"), open(&there, "serve"));
    assert_eq!(error_of(client.read(&mut [0; 9])), Some(Errno::NOMSG), "it has asked nothing");
    assert_eq!(error_of(server.write(b"x")), Some(Errno::NOMSG), "nobody has asked");
    for (question, answer) in [("one", "eno"), ("two", "owt")] {
        write(&mut client, question);
        assert_eq!(error_of(client.write(b"more")), Some(Errno::BUSY), "one at a time");
        assert!(!is_ready(&client, PollFlags::OUT) && !is_ready(&client, PollFlags::IN));
        assert_eq!((read(&mut server), read(&mut server)), (question.into(), String::new()));
        assert_eq!((figure(&here, "requests"), figure(&there, "serving")), (1, 1));
        assert_eq!(error_of(server.write(&vec![b'x'; 1_044_481])), Some(Errno::MSGSIZE));
        write(&mut server, answer);
        assert_eq!(error_of(server.write(b"again")), Some(Errno::NOMSG), "once is all");
        assert!(is_ready(&client, PollFlags::IN) && is_ready(&client, PollFlags::OUT));
        assert_eq!((read(&mut client), read(&mut client)), (answer.into(), String::new()));
    }
    // On the host itself, too; and a client may ask without having read to the end.
    let mut server = open(&here, "serve");
    write(&mut client, "three");
    serve_one(&mut server);
    let mut part = [0; 2];
    assert_eq!((client.read(&mut part).unwrap(), part), (2, *b"ee"));
    write(&mut client, "four");
    serve_one(&mut server);
    assert_eq!(read(&mut client), "ruof");
    assert_eq!((figure(&here, "replied"), figure(&there, "replied")), (2, 2));
    assert_eq!((figure(&here, "requests"), figure(&here, "sent"), figure(&there, "serving")), (0, 0, 0));
}

#[test]
fn answers_of_many_servers_reach_whoever_of_many_clients_asked() {
    const EACH: usize = 25;
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (mailbox, theirs) = make(&here, &there, "q");
    let servers: Vec<_> = [&here, &there, &there]
        .into_iter()
        .map(|mount| {
            let mut server = open(mount, "serve");
            thread::spawn(move || {
                let mut buffer = [0; 99];
                loop {
                    let length = match server.read(&mut buffer) {
                        Ok(length) => length,
                        Err(error) => return Errno::from_io_error(&error),
                    };
                    buffer[..length].reverse();
                    assert_eq!(server.write(&buffer[..length]).unwrap(), length);
                    assert_eq!(server.read(&mut [0; 0]).unwrap(), 0);
                }
            })
        })
        .collect();
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let mut client = open(if number % 2 == 0 { &here } else { &there }, "rpc");
            thread::spawn(move || {
                for turn in 0..EACH {
                    let question = format!("question {turn} of {number}");
                    write(&mut client, &question);
                    let answer: String = question.chars().rev().collect();
                    assert_eq!((read(&mut client), read(&mut client)), (answer, String::new()));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(figure(&here, "replied") + figure(&there, "replied"), 6 * EACH as u64);
    fs::remove_file(mailbox).unwrap();
    is_gone(&theirs);
    for server in servers {
        assert_eq!(server.join().unwrap(), Some(Errno::IDRM));
    }
}

#[test]
fn a_question_whose_server_dies_goes_to_another_at_once() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let Some(mut peer) = Peer::start() else { return };
    peer.open("fd", &path(&here, "serve"), "O_RDWR");
    let mut client = open(&there, "rpc");
    write(&mut client, "question");
    assert_eq!(peer.ask("os.read(fd, 3)"), "b'que'");
    let mut server = open(&there, "serve");
    let served = thread::spawn(move || serve_one(&mut server));
    there.wait_for_figure("shared/q", "waiting_readers", 1);
    peer.kill();
    served.join().unwrap();
    assert_eq!(read(&mut client), "noitseuq");
    assert_eq!(figure(&here, "returned"), 1);
}

#[test]
fn a_question_whose_server_has_no_host_any_more_goes_to_another() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    // Of which the consumer of questions learns, too.
    let mut first = open(&here, "serve");
    let mut client = open(&there, "rpc");
    write(&mut client, "first");
    serve_one(&mut first);
    assert_eq!(read(&mut client), "tsrif");
    fs::write(path(&there, "config/lease_time"), "2s").unwrap();
    wait_for("the time to be known", || {
        fs::read_to_string(path(&here, "config/lease_time")).is_ok_and(|text| text == "2s\n")
    });
    write(&mut client, "question");
    assert_eq!(read(&mut first), "question");
    here.signal(Signal::KILL);
    serve_one(&mut open(&there, "serve"));
    assert_eq!(read(&mut client), "noitseuq");
}

#[test]
fn nobody_works_for_a_client_that_is_gone() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let mut server = open_nowait(&there, "serve");
    // Killed before a server took its question, and with it in a server's hands; waiting for the answer or not.
    for (taken, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let Some(mut client) = Peer::start() else { return };
        client.open("fd", &path(&here, "rpc"), "O_RDWR");
        assert_eq!(client.ask("os.write(fd, b'question')"), "8");
        if taken {
            assert_eq!(read(&mut server), "question");
        }
        if waits {
            client.tell("os.read(fd, 100)");
            here.wait_for_figure("shared/q", "waiting_readers", 1);
        }
        client.kill();
        here.wait_for_figure("shared/q", "requests", 0);
        here.wait_for_figure("shared/q", "waiting_readers", 0);
        if taken {
            assert_eq!(error_of(server.write(b"answer")), Some(Errno::CANCELED));
        }
        // The servers are told a moment later than close(2) returns; a server may still get it, and learns so.
        wait_for("the question to go", || {
            let result = server.read(&mut [0; 9]);
            if result.is_ok() {
                assert_eq!(error_of(server.write(b"answer")), Some(Errno::CANCELED));
            }
            result.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::AGAIN))
        });
    }
    assert_eq!((figure(&there, "serving"), figure(&there, "replied")), (0, 0));
}

#[test]
fn the_host_of_a_client_dies_and_its_server_learns_it() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    fs::write(path(&there, "config/lease_time"), "1s").unwrap();
    let mut client = open(&here, "rpc");
    let mut others = open(&here, "rpc");
    write(&mut client, "question");
    write(&mut others, "another");
    let mut server = open(&there, "serve");
    assert_eq!(read(&mut server), "question");
    here.signal(Signal::KILL);
    // After the time for which a host may say nothing; what else it has asked, nobody need work on.
    assert_eq!(error_of(server.write(b"answer")), Some(Errno::CANCELED));
    let mut client = open(&there, "rpc");
    write(&mut client, "mine");
    serve_one(&mut server);
    assert_eq!(read(&mut client), "enim");
}

#[test]
fn the_first_answer_counts() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (mailbox, _) = make(&here, &there, "q");
    fs::write(path(&here, "config/lease_time"), "1s").unwrap();
    wait_for("the time to be known", || {
        fs::read_to_string(path(&there, "config/lease_time")).is_ok_and(|text| text == "1s\n")
    });
    let mut client = open(&here, "rpc");
    write(&mut client, "question");
    let mut slow = open(&there, "serve");
    assert_eq!(read(&mut slow), "question");
    // Its host says nothing for too long, so that another gets the question.
    there.signal(Signal::STOP);
    let mut server = open(&here, "serve");
    serve_one(&mut server);
    there.signal(Signal::CONT);
    assert_eq!(error_of(slow.write(b"late")), Some(Errno::CANCELED));
    assert_eq!((read(&mut client), read(&mut client)), ("noitseuq".into(), String::new()));
    drop(mailbox);
}

#[test]
fn answers_wait_for_a_connection_and_a_lost_question_is_asked_again() {
    let Some((mut servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let (mut client, mut server) = (open(&here, "rpc"), open(&there, "serve"));
    write(&mut client, "question");
    assert_eq!(read(&mut server), "question");
    // Two more servers with a question, of which one must not wait, and one gets a signal.
    let mut others = [open(&here, "rpc"), open(&here, "rpc")];
    write(&mut others[0], "one");
    let mut nowait = open_nowait(&there, "serve");
    wait_for("a question", || nowait.read(&mut [0; 99]).is_ok());
    write(&mut others[1], "two");
    let Some(mut peer) = Peer::start() else { return };
    peer.open("fd", &path(&there, "serve"), "O_RDWR");
    assert_eq!(peer.ask("os.read(fd, 9)"), "b'two'");
    let waits = thread::spawn(move || (read(&mut client), client));
    here.wait_for_figure("shared/q", "waiting_readers", 1);
    let is_connected = |mount: &Mount| {
        fs::read_to_string(mount.path("control/status")).unwrap().contains("engine connected\n")
    };
    servers.kill(0);
    wait_for("both to notice", || !is_connected(&here) && !is_connected(&there));
    // What must not wait does not. All else waits on.
    let mut asks = open_nowait(&here, "rpc");
    assert_eq!(error_of(asks.write(b"x")), Some(Errno::AGAIN));
    assert_eq!(error_of(nowait.write(b"eno")), Some(Errno::AGAIN));
    peer.tell("os.write(fd, b'owt')");
    there.wait_for_figure("shared/q", "waiting_writers", 1);
    peer.signal(Signal::USR1);
    assert_eq!(peer.answer(), "Signalled()");
    let answers = thread::spawn(move || {
        write(&mut server, "answer");
        server
    });
    there.wait_for_figure("shared/q", "waiting_writers", 1);
    servers.run(0);
    let mut server = answers.join().unwrap();
    let (answer, mut client) = waits.join().unwrap();
    assert_eq!(answer, "answer");
    // Those who could not answer then, can now.
    wait_for("the connection", || is_connected(&there));
    assert_eq!(peer.ask("os.write(fd, b'owt')"), "3");
    wait_for("the answer to go", || nowait.write(b"eno").is_ok());
    assert_eq!((read(&mut others[0]), read(&mut others[1])), ("eno".into(), "owt".into()));
    // Another program removes a question from the servers. The next loss of the connection shows it.
    write(&mut client, "lost");
    let names = servers.ask("$JS.API.STREAM.NAMES");
    let stream = names.split('"').find(|word| word.starts_with("ipcfs-test-")).unwrap();
    let purged = servers.ask(&format!("$JS.API.STREAM.PURGE.{stream}"));
    assert!(purged.contains("\"success\":true"), "{purged}");
    let waits = thread::spawn(move || read(&mut client));
    servers.kill(0);
    wait_for("both to notice", || !is_connected(&here) && !is_connected(&there));
    servers.run(0);
    serve_one(&mut server);
    assert_eq!(waits.join().unwrap(), "tsol");
}

#[test]
fn questions_count_and_wait_for_room_as_messages_do() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    fs::write(here.path("control/mailboxes/shared/config/maxmsg"), "1").unwrap();
    let (mailbox, theirs) = make(&here, &there, "q");
    let mut first = open(&here, "rpc");
    write(&mut first, "first");
    assert_eq!(error_of(nonblocking(&theirs, true).write(b"x")), Some(Errno::AGAIN), "it takes a place");
    let mut second = open_nowait(&there, "rpc");
    assert_eq!(error_of(second.write(b"second")), Some(Errno::AGAIN));
    assert_eq!(error_of(second.read(&mut [0; 9])), Some(Errno::NOMSG), "it has asked nothing");
    let Some(mut client) = Peer::start() else { return };
    client.open("fd", &path(&there, "rpc"), "O_RDWR");
    client.tell("os.write(fd, b'third')");
    there.wait_for_figure("shared/q", "waiting_writers", 1);
    client.signal(Signal::USR1);
    assert_eq!(client.answer(), "Signalled()");
    assert_eq!(client.ask("os.read(fd, 9)"), "ENOMSG");
    client.tell("os.write(fd, b'fourth')");
    there.wait_for_figure("shared/q", "waiting_writers", 1);
    let mut server = open(&here, "serve");
    serve_one(&mut server);
    assert_eq!(client.answer(), "6");
    serve_one(&mut server);
    assert_eq!((read(&mut first), client.ask("os.read(fd, 9)")), ("tsrif".into(), "b'htruof'".into()));
    // A reader gets none of them.
    send(&mailbox, "message");
    assert_eq!(received(&theirs), "message");
}

#[test]
fn questions_are_none_of_the_messages() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (mailbox, theirs) = make(&here, &there, "q");
    // Neither do they expire.
    fs::write(path(&here, "config/ttl"), "100ms").unwrap();
    wait_for("the time to be known", || {
        fs::read_to_string(path(&there, "config/ttl")).is_ok_and(|text| text == "100ms\n")
    });
    let mut client = open(&here, "rpc");
    write(&mut client, "question");
    send(&mailbox, "expires");
    let list = |mount: &Mount| fs::read_dir(path(mount, "messages")).unwrap().count();
    wait_for("the message to expire", || list(&there) == 0);
    assert_eq!(error_of(nonblocking(&theirs, false).read(&mut [0; 9])), Some(Errno::AGAIN));
    assert_eq!(error_of(nonblocking(&path(&there, "peek"), false).read(&mut [0; 9])), Some(Errno::AGAIN));
    assert_eq!(error_of(fs::metadata(path(&here, "messages/1"))), Some(Errno::NOENT));
    fs::write(path(&here, "config/ttl"), "max").unwrap();
    for (priority, text) in [(0, "a"), (7, "b")] {
        fs::write(path(&here, &format!("priority/{priority}")), text).unwrap();
    }
    assert_eq!(list(&here), 2);
    for how in ["from 0", "all"] {
        let mut purge = open(&there, "purge");
        write(&mut purge, how);
        assert_eq!(read(&mut purge), if how == "all" { "0\n" } else { "2\n" });
    }
    serve_one(&mut open(&there, "serve"));
    assert_eq!(read(&mut client), "noitseuq");
    for text in ["c", "d"] {
        send(&mailbox, text);
    }
    write(&mut client, "kept");
    let mut purge = open(&there, "purge");
    write(&mut purge, "all");
    assert_eq!(read(&mut purge), "2\n");
    serve_one(&mut open(&there, "serve"));
    assert_eq!(read(&mut client), "tpek");
}

#[test]
fn long_questions_and_answers_are_whole() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let noise = |seed: u32, length: u32| -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8).collect()
    };
    let (question, answer) = (noise(1, 1_044_480), noise(2, 1_000_000));
    let (mut client, mut server) = (open(&here, "rpc"), open(&there, "serve"));
    let all = |file: &mut File| {
        let (mut all, mut part) = (Vec::new(), vec![0; 70_000]);
        loop {
            match file.read(&mut part).unwrap() {
                0 => return all,
                length => all.extend_from_slice(&part[..length]),
            }
        }
    };
    assert_eq!(client.write(&question).unwrap(), question.len());
    assert!(all(&mut server) == question);
    assert_eq!(server.write(&answer).unwrap(), answer.len());
    assert!(all(&mut client) == answer);
}

#[test]
fn a_server_that_waits_is_told_by_poll_and_learns_who_has_asked() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    make(&here, &there, "q");
    let Some(mut peer) = Peer::start() else { return };
    peer.open("fd", &path(&there, "serve"), "O_RDWR|os.O_NONBLOCK");
    assert_eq!(peer.ask("os.read(fd, 99)"), "EAGAIN");
    peer.ask("p = select.epoll()");
    peer.ask("p.register(fd, select.EPOLLIN)");
    peer.tell("len(p.poll())");
    let mut client = open(&here, "rpc");
    write(&mut client, "question");
    assert_eq!(peer.answer(), "1");
    assert_eq!(peer.ask("os.read(fd, 99)"), "b'question'");
    assert_eq!(peer.ask("os.getxattr(fd, 'user.ipcfs.uid')"), "b'0'");
    // With one in hand, it is told of no other.
    let mut other = open(&here, "rpc");
    write(&mut other, "other");
    assert_eq!(peer.ask("os.read(fd, 99)"), "b''");
    assert_eq!(peer.ask("len(p.poll(0))"), "0");
    assert_eq!(peer.ask("os.write(fd, b'answer')"), "6");
    assert_eq!(peer.ask("len(p.poll())"), "1");
    assert_eq!(peer.ask("os.read(fd, 99)"), "b'other'");
    assert_eq!(read(&mut client), "answer");
}

#[test]
fn whoever_may_send_asks_and_whoever_may_receive_answers() {
    let Some((_servers, here, there)) = two_hosts() else { return };
    let (mailbox, _) = make(&here, &there, "q");
    fs::set_permissions(mailbox, fs::Permissions::from_mode(0o642)).unwrap();
    let mode = |door: &str| fs::metadata(path(&here, door)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("rpc"), mode("serve")), (0o606, 0o660));
}

#[test]
fn an_account_that_may_not_listen_for_answers_is_told_so() {
    let config = |more: &str, listens: &str| {
        format!(
            "jetstream {{ store_dir: \"STORE\" }}
            authorization {{ users: [ {{ user: a, password: a, permissions: {{
                publish: [\"$JS.API.>\", \"$JS.ACK.>\", \"ipcfs.test.>\", \"$KV.ipcfs-test.>\"{more}],
                subscribe: [\"_INBOX.>\"{listens}] }} }} ] }}"
        )
    };
    let (confirms, hears) = (", \"_INBOX.>\"", ", \"ipcfs.test.replies.>\"");
    for (more, listens, may) in [(confirms, hears, true), (confirms, "", false), ("", hears, false)] {
        let Some(servers) = servers_with(1, &config(more, listens)) else { return };
        let url = format!("--engine={}", servers.url().replace("nats://", "nats://a:a@"));
        let mount = super::common::mount_with(&[&url, "--space=test"]).unwrap();
        share(&mount, "shared");
        fs::write(mount.mailbox("shared/q"), "x").unwrap();
        assert_eq!(received(&mount.mailbox("shared/q")), "x");
        let mut client = open(&mount, "rpc");
        if may {
            write(&mut client, "question");
            serve_one(&mut open(&mount, "serve"));
            assert_eq!(read(&mut client), "noitseuq");
        } else {
            assert_eq!(error_of(client.write(b"question")), Some(Errno::ACCESS));
        }
    }
}

#[test]
fn questions_and_answers_survive_three_servers_that_die_in_turn() {
    let Some(mut servers) = super::servers::servers(3) else { return };
    let (here, there) = (servers.mount(), servers.mount());
    share(&here, "shared");
    appears(&there.mailbox("shared"));
    make(&here, &there, "q");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let server = {
        let mut server = open(&there, "serve");
        thread::spawn(move || {
            let mut buffer = [0; 99];
            loop {
                let length = server.read(&mut buffer).unwrap();
                if length == 0 {
                    continue;
                }
                let question = buffer[..length].to_vec();
                // Nobody waits for an answer that a question has had before it came again.
                match server.write(&question) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(Errno::from_io_error(&error), Some(Errno::CANCELED)),
                }
                if question == b"end" {
                    return;
                }
            }
        })
    };
    let client = {
        let (mut client, stop) = (open(&here, "rpc"), std::sync::Arc::clone(&stop));
        thread::spawn(move || {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let question = format!("question {number}");
                write(&mut client, &question);
                assert_eq!((read(&mut client), read(&mut client)), (question, String::new()));
                number += 1;
            }
            write(&mut client, "end");
            assert_eq!(read(&mut client), "end");
        })
    };
    let replied = || figure(&there, "replied");
    for index in 0..3 {
        let before = replied();
        wait_for("questions to be answered", || replied() > before + 20);
        servers.kill(index);
        let before = replied();
        wait_for("questions to be answered without a server", || replied() > before + 20);
        servers.run(index);
        wait_for("the cluster to be whole", || servers.is_whole());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    client.join().unwrap();
    server.join().unwrap();
}
