//! A machine that lacks something, without touching this one: a private mount namespace with a /dev, /etc/passwd and
//! /etc/fuse.conf of its own. Its mounts end with its last process.

use std::process::Command;

use crate::common;
use crate::place::{Outcome, Place, run};

/// Made before the script of each sandbox. `as_ann` and `as_bob` run a program as an ordinary user; `end` unmounts. What such a
/// user needs is there whatever the machine is like: /etc/mtab, and the program where every user can execute it.
const PRELUDE: &str = r#"
set -e
cp /etc/passwd "$T/passwd"
printf 'ann:x:4711:4711::/:/bin/sh\nbob:x:4712:4712::/:/bin/sh\n' >> "$T/passwd"
echo "$CONF" > "$T/fuse.conf"
mount -t tmpfs tmpfs /dev
mknod -m 0666 /dev/null c 1 3
mknod -m 0666 /dev/fuse c 10 229
[ -e /etc/mtab ] || { cp -a /etc /dev/etc; ln -s /proc/self/mounts /dev/etc/mtab; mount --bind /dev/etc /etc; }
mount --bind "$T/passwd" /etc/passwd
mount --bind "$T/fuse.conf" /etc/fuse.conf
touch /dev/ipcfs
mount --bind "$IPCFS" /dev/ipcfs
IPCFS=/dev/ipcfs
chown 4711:4711 "$DIR"
as() { user=$1; shift; setpriv --reuid "$user" --regid "$user" --clear-groups "$@"; }
as_ann() { as 4711 "$@"; }
as_bob() { as 4712 "$@"; }
trap 'while umount -l "$DIR" 2>/dev/null; do :; done' EXIT
set +e
"#;

/// A machine of its own around a place.
pub(crate) struct Sandbox {
    pub(crate) place: Place,
    conf: &'static str,
}

impl Sandbox {
    /// With an openable /dev/fuse and an /etc/fuse.conf that allows nothing; `None`, after saying so, where there cannot
    /// be one.
    pub(crate) fn new() -> Option<Sandbox> {
        let has_programs = ["unshare", "setpriv", "mknod", "fusermount3"].into_iter().all(common::have);
        if !has_programs || !std::path::Path::new("/etc/fuse.conf").exists() {
            eprintln!("SKIP: needs fuse3 and util-linux");
            return None;
        }
        Place::alone().map(|place| Sandbox { place, conf: "" })
    }

    /// With that /etc/fuse.conf.
    pub(crate) fn with_conf(self, conf: &'static str) -> Sandbox {
        Sandbox { conf, ..self }
    }

    /// Runs a script as root; its exit code is the script's last.
    pub(crate) fn run(&self, script: &str) -> Outcome {
        let inner = self.place.script("");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c"]).arg(format!("{PRELUDE}\n{script}")).env("CONF", self.conf);
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        run(&mut command)
    }

    /// Runs a script whose every command must work; what it prints.
    pub(crate) fn works(&self, script: &str) -> String {
        let outcome = self.run(&format!("set -e\n{script}"));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{script}\n{outcome:?}");
        outcome.stdout
    }

    /// Runs a script whose last command must fail to mount on the place, leaving nothing behind.
    pub(crate) fn refused(&self, script: &str, why: &str, words: &[&str]) {
        // The count is taken where the mount would be.
        let script = format!("{script}\nrc=$?; grep -c \" $DIR \" /proc/self/mountinfo >&2; exit $rc");
        let mut outcome = self.run(&script);
        let (said, mounts) = outcome.stderr.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(mounts, "0", "mounted all the same: {outcome:?}");
        outcome.stderr = format!("{said}\n");
        outcome.failed(&format!("cannot mount on {}: {why}", self.place.name()), words);
        self.place.assert_nothing_left();
    }
}
