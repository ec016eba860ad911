//! A daemon that inherits low limits: it starts, or says which limit is too low, and it outlives what exceeds them.

use std::fs::{self, File};

use rustix::io::Errno;

use crate::place::{Place, run};

/// Mounts below these limits of the shell, and uses the mount.
fn works(place: &Place, limit: &str, options: &str) {
    place.sh(&format!("{limit}; exec $IPCFS mount {options} $DIR"));
    assert_eq!(place.sh("echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a"), "hi\n", "{limit} {options}");
    let script = "printf 12345 > $DIR/segments/s && cat $DIR/segments/s && $IPCFS umount $DIR";
    assert_eq!(place.sh(script), "12345", "{limit} {options}");
    place.assert_nothing_left();
}

fn is_refused(place: &Place, limit: &str, why: &str, advice: &str) {
    let outcome = run(&mut place.script(&format!("{limit}; exec $IPCFS mount $DIR")));
    outcome.failed(&format!("cannot mount on {}: {why}", place.name()), &[advice]);
    place.assert_nothing_left();
}

#[test]
fn a_mount_starts_under_low_limits() {
    let Some(place) = Place::new() else { return };
    for limit in ["-n 32", "-s 64", "-l 0", "-v 150000", "-d 150000", "-v 400000", "-c unlimited", "-t 60"] {
        works(&place, &format!("ulimit {limit}"), "--transport auto");
        works(&place, &format!("ulimit {limit}"), "--transport dev");
    }
}

#[test]
fn a_limit_that_is_too_low_is_named_before_anything_is_mounted() {
    let Some(place) = Place::new() else { return };
    let files = "the limit of open files is 16, and the daemon needs 32";
    is_refused(&place, "ulimit -n 16", files, "raise the limit: ulimit -n 1024");
    let space = "the limit of address space (ulimit -v) is 50M, and the daemon needs ";
    is_refused(&place, "ulimit -v 51200", space, "raise the limit: ulimit -v unlimited");
    let data = "the limit of data memory (ulimit -d) is 20M, and the daemon needs ";
    is_refused(&place, "ulimit -d 20480", data, "raise the limit: ulimit -d unlimited");
    let outcome = run(&mut place.script("ulimit -v 200000; exec $IPCFS mount --memory 1G $DIR"));
    let what =
        format!("cannot mount on {}: --memory 1G does not fit: the limit of address space", place.name());
    outcome.failed(&what, &["use --memory ", "raise the limit: ulimit -v unlimited"]);
    let outcome = run(&mut place.script("exec $IPCFS mount --memory 1000T $DIR"));
    let what = format!("cannot mount on {}: --memory 1000T is more than this machine has", place.name());
    outcome.failed(&what, &["use --memory "]);
    place.assert_nothing_left();
}

#[test]
fn any_address_space_is_enough_or_refused() {
    let Some(place) = Place::new() else { return };
    for transport in ["auto", "dev"] {
        for kib in (40_000..260_000).step_by(10_000) {
            for limit in ["-v", "-d"] {
                let script = format!("ulimit {limit} {kib}; exec $IPCFS mount --transport {transport} $DIR");
                let outcome = run(&mut place.script(&script));
                if outcome.code == Some(0) {
                    assert_eq!(place.sh("echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a"), "hi\n");
                    place.sh("$IPCFS umount $DIR");
                } else {
                    outcome.failed(&format!("cannot mount on {}: the limit of ", place.name()), &[" needs "]);
                }
                place.assert_nothing_left();
            }
        }
    }
}

#[test]
fn a_limit_of_file_size_ends_no_mount() {
    let Some(place) = Place::new() else { return };
    for how in ["auto", "cached"] {
        // The hard limit, too. Only a process that may not raise it gets an error, and it must still serve.
        place.sh(&format!("ulimit -f 1024; exec $IPCFS mount --segments {how} $DIR"));
        place.sh("echo precious > $DIR/mailboxes/jobs");
        let _ =
            run(&mut place
                .script("truncate -s 4M $DIR/segments/big; head -c 4M /dev/zero > $DIR/segments/big"));
        assert_eq!(place.sh("cat $DIR/mailboxes/jobs; $IPCFS umount $DIR"), "precious\n", "{how}");
        place.assert_nothing_left();
    }
}

#[test]
fn without_memory_calls_fail_and_removing_files_makes_room() {
    let Some(place) = Place::new() else { return };
    place.sh("ulimit -v 100000; exec $IPCFS mount --transport dev --max-files 1000000 $DIR");
    let daemon = place.daemon();
    let path = |number: usize| place.path(format!("mailboxes/{number}"));
    let mut made = 0;
    let error = loop {
        match File::options().write(true).create_new(true).open(path(made)) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 1_000_000, "the limit is without effect");
    };
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOMEM), "after {made} files: {error}");
    for number in 0..made / 2 {
        fs::remove_file(path(number)).unwrap();
    }
    assert_eq!(place.sh("echo again > $DIR/mailboxes/again; cat $DIR/mailboxes/again"), "again\n");
    assert_eq!(place.daemon(), daemon);
    place.sh("$IPCFS umount $DIR");
}

#[test]
fn by_default_memory_limits_bound_the_number_of_files() {
    let Some(place) = Place::new() else { return };
    place.sh("ulimit -v 100000; exec $IPCFS mount --transport dev $DIR");
    let error = (0..100_000)
        .find_map(|number| File::create(place.path(format!("mailboxes/{number}"))).err())
        .expect("more files than fit");
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{error}");
    place.sh("rm $DIR/mailboxes/0; echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a");
}
