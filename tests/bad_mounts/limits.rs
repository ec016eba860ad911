//! Low limits of an ordinary user, who may not raise them.

use crate::sandbox::Sandbox;

#[test]
fn an_ordinary_users_mount_starts_under_low_limits() {
    for limit in ["-n 32", "-l 0", "-s 128", "-v 150000", "-d 150000"] {
        for transport in ["auto", "dev"] {
            let Some(sandbox) = Sandbox::new() else { return };
            let script = format!(
                "as_ann sh -c 'ulimit {limit}; exec $IPCFS mount --transport {transport} $DIR'
                as_ann sh -c 'echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a; echo 12 > $DIR/segments/s'
                as_ann cat $DIR/segments/s; as_ann $IPCFS umount $DIR"
            );
            assert_eq!(sandbox.works(&script), "hi\n12\n", "{limit} {transport}");
        }
    }
}

#[test]
fn any_number_of_processes_is_enough_or_refused() {
    let Some(sandbox) = Sandbox::new() else { return };
    for transport in ["auto", "dev"] {
        // Up to as many as it takes. Other tests run as this user, too.
        for processes in 1..=40 {
            let script = format!(
                "as_ann prlimit --nproc={processes} $IPCFS mount --threads 8 --transport {transport} $DIR || exit 1
                as_ann ls $DIR; grep \" $DIR \" /proc/self/mountinfo > $T/mounted; umount -l $DIR; test -s $T/mounted"
            );
            let outcome = sandbox.run(&script);
            if outcome.code != Some(0) {
                outcome.failed(&format!("cannot mount on {}", sandbox.place.name()), &["ulimit -u"]);
            }
            sandbox.place.assert_nothing_left();
        }
    }
}

#[test]
fn a_file_size_limit_that_cannot_be_raised_ends_no_mount() {
    for how in ["auto", "cached"] {
        let Some(sandbox) = Sandbox::new() else { return };
        let script = format!(
            "as_ann sh -c 'ulimit -f 1024; exec $IPCFS mount --segments {how} $DIR'
            as_ann sh -c 'echo precious > $DIR/mailboxes/jobs; : > $DIR/segments/big'
            as_ann truncate -s 100M $DIR/segments/big 2> $T/said && exit 9
            grep -o 'File too large' $T/said
            as_ann $IPCFS upgrade $DIR 2> $T/said && exit 9
            grep -o 'ulimit -f' $T/said
            as_ann cat $DIR/mailboxes/jobs; as_ann $IPCFS umount $DIR"
        );
        assert_eq!(sandbox.works(&script), "File too large\nulimit -f\nprecious\n", "{how}");
    }
}
