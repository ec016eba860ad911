//! The machine lacks something that a mount needs, or does not allow it.

use crate::common;
use crate::sandbox::Sandbox;

#[test]
fn without_the_device_the_module_is_to_be_loaded() {
    let Some(sandbox) = Sandbox::new() else { return };
    let advice = ["modprobe fuse", "--device /dev/fuse"];
    for user in ["", "as_ann "] {
        let script = format!("rm /dev/fuse; {user}$IPCFS mount $DIR");
        sandbox.refused(&script, "/dev/fuse does not exist", &advice);
        let script = format!("rm /dev/fuse; {user}$IPCFS mount -f $DIR");
        sandbox.refused(&script, "/dev/fuse does not exist", &advice);
    }
    let did = sandbox.run("rm /dev/fuse; $IPCFS doctor");
    assert_eq!((did.code, did.stderr.as_str()), (Some(1), ""));
    assert!(did.stdout.contains("missing  /dev/fuse         not there (needed)"), "{did:?}");
    assert!(
        did.stdout.ends_with("This user cannot mount ipcfs here: something marked \"needed\" is missing.\n")
    );
}

#[test]
fn a_device_that_does_not_open_is_told_with_the_reason() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "/dev/fuse cannot be opened: Permission denied";
    sandbox.refused("chmod 0600 /dev/fuse; as_ann $IPCFS mount $DIR", why, &["chmod 0666 /dev/fuse"]);
    // A node of a driver that is not loaded.
    let script = "rm /dev/fuse; mknod /dev/fuse c 250 250; $IPCFS mount $DIR";
    sandbox.refused(script, "/dev/fuse cannot be opened: No such device", &["modprobe fuse"]);
    let did = sandbox.run("chmod 0600 /dev/fuse; as_ann $IPCFS doctor");
    assert_eq!(did.code, Some(1));
    assert!(did.stdout.contains("does not open: Permission denied (needed)"), "{did:?}");
}

/// Takes fusermount3 away, wherever it is looked for.
const WITHOUT_FUSERMOUNT: &str = "d=$(dirname \"$(readlink -f \"$(command -v fusermount3)\")\")
    mkdir $T/all $T/some && mount --bind $d $T/all && ln -s $T/all/* $T/some/ && rm $T/some/fusermount*
    mount --bind $T/some $d && hash -r";

#[test]
fn without_fusermount3_only_root_mounts() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why =
        "only root may mount by itself, and fusermount3, which does it for everyone else, is not installed";
    sandbox.refused(
        &format!("{WITHOUT_FUSERMOUNT}; as_ann $IPCFS mount $DIR"),
        why,
        &["apt-get install fuse3"],
    );
    // A fresh one: the last has left its folders behind.
    let Some(sandbox) = Sandbox::new() else { return };
    let script = format!("{WITHOUT_FUSERMOUNT}; $IPCFS mount $DIR && ls $DIR && $IPCFS umount $DIR");
    assert_eq!(sandbox.works(&script), "control\nmailboxes\nsegments\ntopics\n");
}

#[test]
fn a_path_without_fusermount3_is_no_hindrance_neither_to_mounting_nor_to_unmounting() {
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
fn a_user_without_a_name_is_told_so() {
    let Some(sandbox) = Sandbox::new() else { return };
    let script = "chown 4713 $DIR; as 4713 $IPCFS mount $DIR";
    sandbox.refused(script, "this user has no name", &["/etc/passwd"]);
}

#[test]
fn allow_other_is_for_ordinary_users_only_where_the_configuration_says_so() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "--allow-other is kept from ordinary users by /etc/fuse.conf";
    sandbox.refused(
        "as_ann $IPCFS mount --allow-other $DIR",
        why,
        &["echo user_allow_other >> /etc/fuse.conf"],
    );
    // Without it, others stay out.
    let did = sandbox.run("as_ann $IPCFS mount $DIR || exit 9; as_bob ls $DIR || ls $DIR");
    assert_eq!((did.code, did.stdout.as_str()), (Some(2), ""), "{did:?}");

    let sandbox = sandbox.with_conf("user_allow_other");
    let script = "as_ann $IPCFS mount --allow-other $DIR
        as_bob sh -c 'umask 0; echo from bob > $DIR/mailboxes/a; echo shared > $DIR/segments/s'
        as_ann cat $DIR/mailboxes/a
        cat $DIR/segments/s
        stat -c '%a %u' $DIR/mailboxes $DIR/segments $DIR/mailboxes/a
        as_ann $IPCFS umount $DIR";
    assert_eq!(sandbox.works(script), "from bob\nshared\n1777 4711\n1777 4711\n666 4712\n");
}

#[test]
fn root_needs_nobodys_leave_to_let_others_in() {
    let Some(sandbox) = Sandbox::new() else { return };
    let script =
        "$IPCFS mount --allow-other $DIR; as_bob sh -c 'echo hi > $DIR/mailboxes/a && cat $DIR/mailboxes/a'";
    assert_eq!(sandbox.works(script), "hi\n");
}

#[test]
fn passthrough_is_refused_to_ordinary_users_who_get_the_page_cache_by_themselves() {
    let Some(sandbox) = Sandbox::new() else { return };
    let why = "--segments=passthrough is not to be had: ";
    sandbox.refused(
        "as_ann $IPCFS mount --segments=passthrough $DIR",
        why,
        &["CAP_SYS_ADMIN", "--segments=auto"],
    );
    let script =
        "as_ann $IPCFS mount $DIR; as_ann grep segment_path $DIR/control/status; as_ann $IPCFS umount $DIR";
    assert_eq!(sandbox.works(script), "segment_path cached\n");
}

/// What keeps a mount from `io_uring`: how the machine is made so, and what is said of it.
const OBSTACLES: [(&str, &str); 5] = [
    (
        "echo N > $T/off; mount --bind $T/off /sys/module/fuse/parameters/enable_uring;",
        "FUSE over io_uring is off",
    ),
    ("mount -t tmpfs none /sys/module/fuse/parameters;", "this kernel has no FUSE over io_uring"),
    ("hide() { taskset -c 0 \"$@\"; }; ", "this process may not run on all CPUs"),
    ("hide() { unshare -pf \"$@\"; }; ", "processes of other PID namespaces are not visible"),
    ("hide() { sh -c 'ulimit -v 60000; exec \"$@\"' sh \"$@\"; }; ", "io_uring cannot be set up: "),
];

#[test]
fn where_io_uring_cannot_be_had_the_device_serves_and_who_insists_is_told_why() {
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
        let why = format!("--transport=uring is not to be had: {why}");
        sandbox.refused(
            &format!("{make} hide $IPCFS mount --transport=uring $DIR"),
            &why,
            &["ipcfs doctor", "--transport=auto"],
        );
        let Some(sandbox) = Sandbox::new() else { return };
        let script = format!("{make}
            hide $IPCFS mount -f --ready-stdout --transport=auto $DIR > $T/ready 2> $T/said &
            timeout 20 sh -c 'until grep -q ready $T/ready; do sleep 0.01; done'
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

/// The kernel charges rings to the memory that an ordinary user may lock.
#[test]
fn with_no_memory_to_lock_the_device_serves_and_who_insists_is_told_why() {
    const TIGHT: &str = "tight() { as_ann prlimit --memlock=0 \"$@\"; }; ";
    if common::transport() != "uring" {
        eprintln!("SKIP: FUSE over io_uring is not offered, or not wanted");
        return;
    }
    let Some(sandbox) = Sandbox::new() else { return };
    sandbox.refused(
        &format!("{TIGHT} tight $IPCFS mount --transport=uring $DIR"),
        "--transport=uring is not to be had: io_uring cannot be set up: Cannot allocate memory (its rings are locked memory, which is limited to 0 KiB for this user)",
        &["ipcfs doctor", "--transport=auto"],
    );
    let did = sandbox.run(&format!("{TIGHT} tight $IPCFS doctor"));
    assert!(did.stdout.contains("fix: a memlock limit of 8192 (ulimit -l, limits.conf(5))\n"), "{did:?}");
    let Some(sandbox) = Sandbox::new() else { return };
    let script = format!(
        "{TIGHT}
        tight $IPCFS mount --transport=auto $DIR
        as_ann sh -c 'grep transport $DIR/control/status; echo hi > $DIR/mailboxes/a; cat $DIR/mailboxes/a'
        as_ann $IPCFS umount $DIR"
    );
    assert_eq!(sandbox.works(&script), "transport dev\nhi\n");
}
