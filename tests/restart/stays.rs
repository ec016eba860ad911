//! What stays as it is when another process serves the mount.

use std::fs::{self, File};

use rustix::process::Signal;

use crate::common::peer::Peer;
use crate::common::wait_for;
use crate::{figure, make, mount, upgrade, waits};

#[test]
fn messages_settings_and_names_stay() {
    let Some(place) = mount(&[]) else { return };
    let script = "cd $DIR; mkdir mailboxes/team; echo one > mailboxes/team/q; echo two > control/mailboxes/team/q/priority/7;
        echo 5 > control/mailboxes/team/q/config/maxmsg; chmod 0640 mailboxes/team/q; echo text > segments/s; touch topics/t
        setfattr -n user.color -v red mailboxes/team/q 2> /dev/null || true";
    place.sh(script);
    let look = "cd $DIR; find mailboxes segments topics | sort; stat -c '%i %s %a %u %y' mailboxes/team/q segments/s
        cat control/mailboxes/team/q/config/*; ls -l control/mailboxes/team/q/messages; cat control/mailboxes/team/q/peek segments/s";
    let before = place.sh(look);
    upgrade(&place);
    assert_eq!(place.sh(look), before);
    assert_eq!(place.sh("cat $DIR/mailboxes/team/q $DIR/mailboxes/team/q"), "two\none\n");
    place.sh("$IPCFS umount $DIR");
    place.assert_nothing_left();
}

#[test]
fn calls_that_wait_go_on_waiting_and_are_answered_in_order() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let mut readers = Vec::new();
    for count in 1..=3 {
        let Some(mut reader) = Peer::start() else { return };
        reader.open("fd", &path, "O_RDONLY");
        reader.tell("os.read(fd, 100)");
        waits(&place, "q", "waiting_readers", count);
        readers.push(reader);
    }
    let full = make(&place, "full");
    fs::write(place.path("control/mailboxes/full/config/maxmsg"), "1").unwrap();
    fs::write(&full, "first").unwrap();
    let mut writer = Peer::start().unwrap();
    writer.open("fd", &full, "O_WRONLY");
    writer.tell("os.write(fd, b'second')");
    waits(&place, "full", "waiting_writers", 1);
    for _ in 0..3 {
        upgrade(&place);
    }
    waits(&place, "q", "waiting_readers", 3);
    for (number, reader) in readers.iter_mut().enumerate() {
        fs::write(&path, number.to_string()).unwrap();
        assert_eq!(reader.answer(), format!("b'{number}'"));
    }
    assert_eq!(fs::read(&full).unwrap(), b"first");
    assert_eq!(writer.answer(), "6");
    assert_eq!(fs::read(&full).unwrap(), b"second");
}

#[test]
fn many_leases_keys_and_rounds_go_over() {
    let Some(place) = mount(&[]) else { return };
    let (path, grave) = (make(&place, "q"), make(&place, "grave"));
    let control = |name: &str| place.path("control/mailboxes/q").join(name);
    fs::write(control("config/max_rounds"), "1").unwrap();
    fs::write(control("config/dead_letter"), "grave").unwrap();
    (0..4).for_each(|n| fs::write(&path, n.to_string()).unwrap());
    let Some(mut worker) = Peer::start() else { return };
    worker.open("fd", &control("lease.json"), "O_RDWR");
    worker.run("import json");
    worker.run("ids = [json.loads(os.read(fd, 10000))['id'] for _ in range(4)]");
    fs::write(control("once/key"), "once").unwrap();
    upgrade(&place);
    assert_eq!(worker.ask("os.write(fd, b'ack %d %d' % (ids[1], ids[0])) > 0"), "True");
    assert_eq!(worker.ask("os.write(fd, b'reject %d' % ids[2]) > 0"), "True");
    upgrade(&place);
    fs::write(control("once/key"), "once").unwrap();
    assert_eq!(figure(&place, "mailboxes/q/status", "duplicates"), 1);
    let letter = place.sh("cd $DIR/control/mailboxes/grave/messages; echo *");
    let (from, to) = (place.path("control/mailboxes/grave/messages"), control("messages"));
    let back = fs::rename(from.join(letter.trim()), to.join(letter.trim()));
    assert_eq!(
        back.unwrap_err().raw_os_error(),
        Some(rustix::io::Errno::PERM.raw_os_error()),
        "it has stopped"
    );
    assert_eq!(worker.ask("os.close(fd)"), "None");
    waits(&place, "q", "depth", 2);
    assert_eq!([&path, &path, &grave].map(|path| fs::read(path).unwrap()), [&b"3"[..], b"once", b"2"]);
}

#[test]
fn a_call_that_waits_can_be_interrupted_and_killed_afterwards() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let (Some(mut one), Some(mut other)) = (Peer::start(), Peer::start()) else { return };
    for peer in [&mut one, &mut other] {
        peer.open("fd", &path, "O_RDONLY");
        peer.tell("os.read(fd, 100)");
    }
    waits(&place, "q", "waiting_readers", 2);
    upgrade(&place);
    one.signal(Signal::USR1);
    assert_eq!(one.answer(), "Signalled()");
    other.kill();
    waits(&place, "q", "waiting_readers", 0);
    fs::write(&path, "nobody took it").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"nobody took it");
}

#[test]
fn a_reader_is_where_it_was_in_its_message() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let Some(mut peer) = Peer::start() else { return };
    fs::write(&path, "begin and end").unwrap();
    peer.open("fd", &path, "O_RDONLY");
    assert_eq!(peer.ask("os.read(fd, 5)"), "b'begin'");
    upgrade(&place);
    assert_eq!(peer.ask("os.read(fd, 100)"), "b' and end'");
    assert_eq!(peer.ask("os.read(fd, 100)"), "b''");
}

#[test]
fn leases_requests_and_subscriptions_stay() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let calls = make(&place, "calls");
    let topic = place.path("topics/t");
    drop(File::create(&topic).unwrap());
    let (Some(mut peer), Some(mut client)) = (Peer::start(), Peer::start()) else { return };
    let door = |mailbox: &str, door: &str| place.path(format!("control/mailboxes/{mailbox}/{door}"));
    fs::write(&path, "leased").unwrap();
    peer.open("lease", &door("q", "lease"), "O_RDWR");
    assert_eq!(peer.ask("os.read(lease, 100)"), "b'leased'");
    peer.open("topic", &topic, "O_RDONLY");
    fs::write(&topic, "before").unwrap();
    client.open("rpc", &door("calls", "rpc"), "O_RDWR");
    client.run("os.write(rpc, b'question') and None");
    client.tell("sure(os.read, rpc, 100)");
    peer.open("serve", &door("calls", "serve"), "O_RDWR");
    assert_eq!(peer.ask("os.read(serve, 100)"), "b'question'");
    upgrade(&place);
    fs::write(&topic, "after").unwrap();
    assert_eq!(peer.ask("os.read(topic, 100)"), "b'before'");
    assert_eq!(peer.ask("os.read(topic, 100)"), "b''");
    assert_eq!(peer.ask("os.read(topic, 100)"), "b'after'");
    assert_eq!(peer.ask("os.write(serve, b'answer')"), "6");
    assert_eq!(client.answer(), "b'answer'");
    assert_eq!(figure(&place, "mailboxes/q/status", "leased"), 1);
    // It comes back when its holder is gone, though that one leased it from another process.
    peer.kill();
    waits(&place, "q", "leased", 0);
    assert_eq!(fs::read(&path).unwrap(), b"leased");
    assert!(calls.exists());
}

#[test]
fn locks_are_held_awaited_and_released_by_death() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let (Some(mut holder), Some(mut waiter)) = (Peer::start(), Peer::start()) else { return };
    for peer in [&mut holder, &mut waiter] {
        peer.open("fd", &path, "O_RDWR");
    }
    holder.run("fcntl.flock(fd, fcntl.LOCK_EX)");
    holder.run("fcntl.lockf(fd, fcntl.LOCK_EX, 10, 5)");
    waiter.tell("fcntl.flock(fd, fcntl.LOCK_EX)");
    wait_for("the waiter to wait", || figure(&place, "status", "waiting_locks") == 1);
    upgrade(&place);
    let Some(mut third) = Peer::start() else { return };
    third.open("fd", &path, "O_RDWR");
    assert_eq!(third.ask("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)"), "EAGAIN");
    assert_eq!(third.ask("fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)"), "EAGAIN");
    holder.kill();
    assert_eq!(waiter.answer(), "None");
    third.run("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)");
}

#[test]
fn pollers_wake_up() {
    let Some(place) = mount(&[]) else { return };
    let path = make(&place, "q");
    let Some(mut peer) = Peer::start() else { return };
    peer.open("fd", &path, "O_RDONLY | os.O_NONBLOCK");
    peer.run("poll = select.epoll()");
    peer.run("poll.register(fd, select.EPOLLIN)");
    assert_eq!(peer.ask("poll.poll(0)"), "[]");
    peer.tell("len(poll.poll())");
    upgrade(&place);
    fs::write(&path, "message").unwrap();
    assert_eq!(peer.answer(), "1");
    assert_eq!(peer.ask("os.read(fd, 100)"), "b'message'");
}

#[test]
fn a_mapped_segment_stays_mapped_and_its_doorbell_rings() {
    for path in ["auto", "cached"] {
        let Some(place) = mount(&["--segments", path]) else { return };
        let segment = place.path("segments/s");
        let Some(mut peer) = Peer::start() else { return };
        peer.open("fd", &segment, "O_RDWR | os.O_CREAT");
        peer.run("os.ftruncate(fd, 8192)");
        peer.run("map = mmap.mmap(fd, 8192)");
        peer.run("map[5:9] = b'here'");
        peer.open("bell", &place.path("control/segments/s/wait"), "O_RDONLY");
        peer.tell("sure(os.read, bell, 100)");
        upgrade(&place);
        fs::write(place.path("control/segments/s/notify"), "1").unwrap();
        assert_eq!(peer.answer(), "b'1\\n'");
        assert_eq!(peer.ask("map[5:9]"), "b'here'");
        peer.run("map[6000:6003] = b'end'");
        peer.run("map.flush()");
        assert_eq!(fs::read(&segment).unwrap()[6000..6003], *b"end");
        peer.run("os.ftruncate(fd, 12288)");
        assert_eq!(fs::metadata(&segment).unwrap().len(), 12288);
        fs::remove_file(&segment).unwrap();
        assert_eq!(peer.ask("map[6000:6003]"), "b'end'");
        let name = place.path("segments/new");
        fs::write(&name, "new").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"new");
    }
}
