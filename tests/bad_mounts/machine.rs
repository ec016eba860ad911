//! The machine lacks something that a mount needs, or does not permit it.

use crate::common;
use crate::sandbox::Sandbox;

#[test]
fn without_the_device_the_advice_is_to_load_the_module() {
    let Some(sandbox) = Sandbox::new() else { return };
    let advice = ["modprobe fuse", "--device /dev/fuse"];
    for user in ["", "as_ann "] {
        let script = format!("rm /dev/fuse; {user}$IPCFS mount $DIR");
        sandbox.refused(&script, "/dev/fuse does not exist", &advice);
        let script = format!("rm /dev/fuse; {user}$IPCFS mount -f $DIR");
        sandbox.refused(&script, "/dev/fuse does not exist", &advice);
    }
    let outcome = sandbox.run("rm /dev/fuse; $IPCFS doctor");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    assert!(outcome.stdout.contains("missing  /dev/fuse         does not exist (needed)"), "{outcome:?}");
    assert!(
        outcome
            .stdout
            .ends_with("This user cannot mount ipcfs here: something marked \"needed\" is missing.\n")
    );
}

#[test]
fn a_device_that_cannot_be_opened_is_reported_with_the_reason() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "/dev/fuse cannot be opened: Permission denied";
    sandbox.refused("chmod 0600 /dev/fuse; as_ann $IPCFS mount $DIR", why, &["chmod 0666 /dev/fuse"]);
    // A node of a driver that is not loaded.
    let script = "rm /dev/fuse; mknod /dev/fuse c 250 250; $IPCFS mount $DIR";
    sandbox.refused(script, "/dev/fuse cannot be opened: No such device", &["modprobe fuse"]);
    let outcome = sandbox.run("chmod 0600 /dev/fuse; as_ann $IPCFS doctor");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("cannot be opened: Permission denied (needed)"), "{outcome:?}");
}

/// Hides fusermount3 in every directory that is searched for it.
const WITHOUT_FUSERMOUNT: &str = "d=$(dirname \"$(readlink -f \"$(command -v fusermount3)\")\")
    mkdir $T/all $T/some && mount --bind $d $T/all && ln -s $T/all/* $T/some/ && rm $T/some/fusermount*
    mount --bind $T/some $d && hash -r";

#[test]
fn without_fusermount3_only_root_mounts() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "users other than root need fusermount3 to mount, and it is not installed";
    sandbox.refused(
        &format!("{WITHOUT_FUSERMOUNT}; as_ann $IPCFS mount $DIR"),
        why,
        &["apt-get install fuse3"],
    );
    // A fresh one: the last has left its folders behind.
    drop(sandbox);
    let Some(sandbox) = Sandbox::new() else { return };
    let script = format!("{WITHOUT_FUSERMOUNT}; $IPCFS mount $DIR && ls $DIR && $IPCFS umount $DIR");
    assert_eq!(sandbox.works(&script), "control\nmailboxes\nsegments\ntopics\n");
}

/// Takes /etc/mtab away from a copy of /etc.
const WITHOUT_MTAB: &str = "mount -t tmpfs none $T && mkdir $T/upper $T/work $T/mnt && chown 4711 $T/mnt
    printf 'ann:x:4711:4711::/:/bin/sh\\n' > $T/passwd
    mount -t overlay none /etc -o lowerdir=/etc,upperdir=$T/upper,workdir=$T/work || exit 77
    cp $T/passwd /etc/passwd; rm /etc/mtab; ";

#[test]
fn without_mtab_an_ordinary_user_is_told_how_to_make_it() {
    let Some(sandbox) = Sandbox::new() else { return };
    let outcome = sandbox.run(&format!(
        "{WITHOUT_MTAB} as_ann $IPCFS mount $DIR; as_ann $IPCFS umount $DIR; as_ann $IPCFS doctor
        ln -s /proc/self/mounts /etc/mtab; as_ann $IPCFS umount $DIR && as_ann $IPCFS doctor"
    ));
    assert_eq!(outcome.code, Some(0), "the advice works: {outcome:?}");
    let said = "make it, as root: ln -s /proc/self/mounts /etc/mtab\n";
    assert!(
        outcome.stderr.starts_with("ipcfs: cannot unmount ") && outcome.stderr.ends_with(said),
        "{outcome:?}"
    );
    assert_eq!(
        outcome.stdout.matches("cannot unmount: /etc/mtab does not exist\n").count(),
        1,
        "{outcome:?}"
    );
    assert_eq!(outcome.stdout.matches("fix: ln -s /proc/self/mounts /etc/mtab\n").count(), 1, "{outcome:?}");
}

#[test]
fn mounting_and_unmounting_work_with_a_path_that_lacks_fusermount3() {
    let Some(sandbox) = Sandbox::new() else { return };
    // Once by `umount`, once by the daemon itself.
    sandbox.works(
        "as_ann env PATH=/nonexistent $IPCFS mount $DIR
        as_ann env PATH=/nonexistent $IPCFS umount $DIR
        ! grep \" $DIR \" /proc/self/mountinfo
        as_ann env PATH=/nonexistent $IPCFS mount $DIR
        pid=$(as_ann sed -n 's/^pid //p' $DIR/control/status)
        kill $pid
        while [ -e /proc/$pid/exe ]; do :; done
        ! grep \" $DIR \" /proc/self/mountinfo",
    );
}

#[test]
fn a_user_without_a_passwd_entry_is_told_so() {
    let Some(sandbox) = Sandbox::new() else { return };
    let script = "chown 4713 $DIR; as 4713 $IPCFS mount $DIR";
    sandbox.refused(script, "this user has no entry in /etc/passwd", &["/etc/passwd"]);
}

#[test]
fn allow_other_is_for_ordinary_users_only_where_the_configuration_says_so() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "/etc/fuse.conf does not permit --allow-other to users other than root";
    sandbox.refused(
        "as_ann $IPCFS mount --allow-other $DIR",
        why,
        &["echo user_allow_other >> /etc/fuse.conf"],
    );
    // Without it, others stay out.
    let outcome = sandbox.run("as_ann $IPCFS mount $DIR || exit 9; as_bob ls $DIR || ls $DIR");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:?}");

    let sandbox = sandbox.with_conf("user_allow_other");
    let script = "as_ann $IPCFS mount --allow-other $DIR
        as_bob sh -c 'umask 0; echo from bob > $DIR/mailboxes/a; echo shared > $DIR/segments/s'
        as_ann cat $DIR/mailboxes/a
        cat $DIR/segments/s
        stat -c '%a %u' $DIR/mailboxes $DIR/segments $DIR/mailboxes/a
        as_ann $IPCFS umount $DIR";
    assert_eq!(sandbox.works(script), "from bob\nshared\n777 4711\n777 4711\n666 4712\n");
}

#[test]
fn root_may_always_use_allow_other() {
    let Some(sandbox) = Sandbox::new() else { return };
    let script =
        "$IPCFS mount --allow-other $DIR; as_bob sh -c 'echo hi > $DIR/mailboxes/a && cat $DIR/mailboxes/a'";
    assert_eq!(sandbox.works(script), "hi\n");
}

#[test]
fn ordinary_users_get_the_page_cache_and_an_error_if_they_demand_passthrough() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "--segments=passthrough is unavailable: ";
    sandbox.refused(
        "as_ann $IPCFS mount --segments=passthrough $DIR",
        why,
        &["CAP_SYS_ADMIN", "--segments=auto"],
    );
    let script =
        "as_ann $IPCFS mount $DIR; as_ann grep segment_path $DIR/control/status; as_ann $IPCFS umount $DIR";
    assert_eq!(sandbox.works(script), "segment_path cached\n");
}

/// What makes `io_uring` unavailable: a script that brings it about, and the reason in the error message.
const OBSTACLES: [(&str, &str); 5] = [
    (
        "echo N > $T/off; mount --bind $T/off /sys/module/fuse/parameters/enable_uring;",
        "FUSE over io_uring is off",
    ),
    ("mount -t tmpfs none /sys/module/fuse/parameters;", "this kernel has no FUSE over io_uring"),
    ("hide() { taskset -c 0 \"$@\"; }; ", "this process may not run on all CPUs"),
    ("hide() { unshare -pf \"$@\"; }; ", "processes of other PID namespaces are not visible"),
    ("hide() { sh -c 'ulimit -v 100000; exec \"$@\"' sh \"$@\"; }; ", "io_uring cannot be set up: "),
];

#[test]
fn without_io_uring_auto_uses_the_device_and_uring_fails_with_the_reason() {
    let offered =
        std::fs::read_to_string("/sys/module/fuse/parameters/enable_uring").is_ok_and(|on| on.trim() == "Y");
    let two_cpus = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    for (n, (make, why)) in OBSTACLES.into_iter().enumerate() {
        if n >= 2 && !offered || make.contains("taskset") && !two_cpus {
            eprintln!("SKIP: {why}: not to be made here");
            continue;
        }
        let Some(sandbox) = Sandbox::new() else { return };
        let make =
            if make.contains("hide()") { make.to_owned() } else { format!("{make} hide() {{ \"$@\"; }}; ") };
        let why = format!("--transport=uring is unavailable: {why}");
        // `doctor` has a command where one helps.
        let advice = if n == 0 { "ipcfs doctor shows how to enable it; or use" } else { "\n  use" };
        sandbox.refused(
            &format!("{make} hide $IPCFS mount --transport=uring $DIR"),
            &why,
            &[&format!("{advice} --transport=auto")],
        );
        drop(sandbox);
        let Some(sandbox) = Sandbox::new() else { return };
        let script = format!("{make}
            hide $IPCFS mount -f --ready-stdout --transport=auto $DIR > $T/ready 2> $T/said &
            timeout 20 sh -c 'until grep -qs ready $T/ready; do sleep 0.01; done'
            grep transport $DIR/control/status; echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a; umount $DIR; wait");
        assert_eq!(sandbox.works(&script), "transport dev\nhi\n", "{why}");
    }
}

#[test]
fn an_ordinary_user_has_the_transport_that_root_has() {
    let Some(sandbox) = Sandbox::new() else { return };
    let transport = common::transport();
    let script = "as_ann $IPCFS mount $DIR; as_ann grep transport $DIR/control/status
        as_ann sh -c 'echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a'; as_ann $IPCFS umount $DIR";
    assert_eq!(sandbox.works(script), format!("transport {transport}\nhi\n"));
}

/// The kernel counts rings as locked memory of an ordinary user.
#[test]
fn without_locked_memory_auto_uses_the_device_and_uring_fails_with_the_reason() {
    const TIGHT: &str = "tight() { as_ann prlimit --memlock=0 \"$@\"; }; ";
    if common::transport() != "uring" {
        eprintln!("SKIP: FUSE over io_uring is not offered, or not wanted");
        return;
    }
    let Some(sandbox) = Sandbox::new() else { return };
    sandbox.refused(
        &format!("{TIGHT} tight $IPCFS mount --transport=uring $DIR"),
        "--transport=uring is unavailable: io_uring cannot be set up: Cannot allocate memory (its rings are locked memory, which is limited to 0 KiB for this user)",
        &["ipcfs doctor", "--transport=auto"],
    );
    let outcome = sandbox.run(&format!("{TIGHT} tight $IPCFS doctor"));
    assert!(outcome.stdout.contains("fix: ulimit -l 8192 (or memlock in limits.conf(5))\n"), "{outcome:?}");
    drop(sandbox);
    let Some(sandbox) = Sandbox::new() else { return };
    let script = format!(
        "{TIGHT}
        tight $IPCFS mount --transport=auto $DIR
        as_ann sh -c 'grep transport $DIR/control/status; echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a'
        as_ann $IPCFS umount $DIR"
    );
    assert_eq!(sandbox.works(&script), "transport dev\nhi\n");
}
