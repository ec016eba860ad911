//! Two mounts on one directory at the same time, and users who pretend that there are two.

use crate::common;
use crate::sandbox::Sandbox;

/// `spy` stands in for fusermount3: it fails, after it has noted the name under which the directory is claimed. `bind`
/// listens under this name as the user that runs it, or only binds it.
const TOOLS: &str = r#"
    cat > "$T/spy" << 'END'
#!/bin/sh
readlink /proc/$PPID/fd/* | sed -n 's/^socket:\[\(.*\)\]$/ \1 @ipcfs-mount-/p' > "$T/sockets"
grep -aFf "$T/sockets" /proc/net/unix | sed 's/.*@//' > "$T/claim"
exit 1
END
    chmod 755 "$T/spy"; : > "$T/claim"; : > "$T/sockets"; chmod 666 "$T/claim" "$T/sockets"
    as_ann env FUSERMOUNT_PATH="$T/spy" $IPCFS mount $DIR 2> /dev/null
    [ -s "$T/claim" ] || exit 9
    cat > "$T/bind.pl" << 'END'
use Socket;
my ($name, $listen, $ready) = @ARGV;
socket(S, AF_UNIX, SOCK_STREAM, 0) and bind(S, pack_sockaddr_un("\0$name")) or die "$name: $!";
$listen eq 'no' or listen(S, 1) or die;
open(R, '>', $ready); close(R);
<STDIN>;
END
    hold() { # USER LISTEN
        mkfifo "$T/ready" "$T/hold"; chmod 666 "$T/ready"
        as "$1" perl "$T/bind.pl" "$(cat "$T/claim")" "$2" "$T/ready" < "$T/hold" &
        exec 8> "$T/hold"; timeout 20 cat "$T/ready" || exit 9
    }
    let_go() { exec 8>&-; wait; rm "$T/ready" "$T/hold"; }
"#;

fn sandbox() -> Option<Sandbox> {
    if !common::have("perl") {
        eprintln!("SKIP: needs perl");
        return None;
    }
    Sandbox::new()
}

#[test]
fn no_other_user_keeps_anybody_from_mounting() {
    let Some(sandbox) = sandbox() else { return };
    for listen in ["yes", "no"] {
        let script = format!(
            "{TOOLS} hold 4712 {listen}
            as_ann $IPCFS mount $DIR 2> $T/said && as_ann ls $DIR && as_ann $IPCFS umount $DIR; let_go; rm $T/said"
        );
        let outcome = sandbox.run(&script);
        assert_eq!(outcome.stdout, "control\nmailboxes\nsegments\ntopics\n", "{listen}: {outcome:?}");
    }
}

#[test]
fn a_mount_of_the_same_user_that_is_in_progress_is_waited_for_by_the_user() {
    let Some(sandbox) = sandbox() else { return };
    let outcome =
        sandbox.run(&format!("{TOOLS} hold 4711 yes; as_ann $IPCFS mount $DIR; rc=$?; let_go; exit $rc"));
    let what = format!("cannot mount on {}: another ipcfs mount is in progress there", sandbox.place.name());
    outcome.failed(&what, &["ipcfs status"]);
}

#[test]
fn of_mounts_at_the_same_time_one_succeeds() {
    let Some(sandbox) = sandbox() else { return };
    let script = "for n in 1 2 3 4 5 6; do
            $IPCFS mount $DIR 2> /dev/null && echo mounted & as_ann $IPCFS mount $DIR 2> /dev/null && echo mounted &
        done; wait; grep -c \" $DIR \" /proc/self/mountinfo; $IPCFS umount $DIR";
    assert_eq!(sandbox.works(script), "mounted\n1\n");
}
