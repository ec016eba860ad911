//! `ipcfs top`: one frame as text, and the full screen in a terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::common::{self, have, wait_for};
use crate::place::{Background, Place, run, signal};

/// A mount with two mailboxes, three messages, and a reader who waits.
fn place() -> Option<(Place, Background)> {
    let place = Place::new()?;
    place.mount(&[]);
    place.sh("mkdir $DIR/mailboxes/shop && for i in 1 2 3; do echo $i > $DIR/mailboxes/shop/orders; done; touch $DIR/mailboxes/mail");
    let reader = Background::start(&mut place.script("exec cat $DIR/mailboxes/mail"));
    wait_for("the reader to wait", || {
        let status = fs::read_to_string(place.path("control/mailboxes/mail/status")).unwrap();
        status.contains("waiting_readers 1\n")
    });
    Some((place, reader))
}

/// The lines of one frame.
fn frame(place: &Place, words: &[&str]) -> Vec<String> {
    let command = [&["top", "--once", "--every=100ms"], words].concat();
    let outcome = run(common::ipcfs().args(&command[..1]).arg(place.dir()).args(&command[1..]));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    outcome.stdout.lines().map(str::to_owned).collect()
}

/// The first words of lines that begin with the name of a mailbox.
fn names(lines: &[String]) -> Vec<&str> {
    let first = lines.iter().filter_map(|line| line.split(' ').next());
    first.filter(|word| ["shop/orders", "mail"].contains(word)).collect()
}

#[test]
fn one_frame_has_the_mailboxes_in_the_order_that_was_asked_for() {
    let Some((place, _reader)) = place() else { return };
    let lines = frame(&place, &[]);
    assert!(lines[0].starts_with(&format!("{}   up ", place.name())), "{lines:?}");
    assert!(lines[1].starts_with("2 mailboxes   3 messages   memory "), "{lines:?}");
    assert_eq!(names(&lines), ["shop/orders", "mail"]);
    let orders: Vec<&str> = lines[4].split_whitespace().collect();
    assert_eq!(orders[..3], ["shop/orders", "3", "6"], "{lines:?}");
    assert!(orders.contains(&"0"), "rates are known: {lines:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    assert_eq!(names(&frame(&place, &["--sort=readers"])), ["mail", "shop/orders"]);
    let filtered = frame(&place, &["--filter", "shop/"]);
    assert_eq!(names(&filtered), ["shop/orders"]);
    assert!(filtered[1].starts_with("1 of 2 mailboxes, with shop/"), "{filtered:?}");
}

#[test]
fn one_mailbox_shows_who_waits_there() {
    let Some((place, reader)) = place() else { return };
    let lines = frame(&place, &["mail"]);
    let pid = reader.id().to_string();
    let waits =
        |line: &String| line.starts_with("receiver ") && line.split_whitespace().any(|word| word == pid);
    assert!(lines.iter().any(waits), "{lines:?}");
}

#[test]
fn what_is_no_mount_or_no_terminal_is_said() {
    let Some((place, reader)) = place() else { return };
    // It could not be killed while the daemon is stopped.
    drop(reader);
    place.ipcfs(&["top"]).failed("standard output is no terminal", &["ipcfs top --once DIR"]);
    place.sh("kill -STOP $(sed -n 's/^pid //p' $DIR/control/status)");
    place
        .ipcfs(&["top", "--once"])
        .failed(&format!("the daemon of {} runs but does not respond", place.name()), &[]);
}

/// The program in a terminal of 80 by 24, once it shows a mailbox, and what the terminal shows.
fn screen(place: &Place) -> (Child, PathBuf) {
    let typescript = place.beside("typescript");
    let inside = "stty rows 24 cols 80; $IPCFS top $DIR --every 100ms; echo code $?; stty -a";
    let mut script = place.script(&format!("exec script -qfc '{inside}' $T/typescript"));
    let child = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the screen to show a mailbox", || shown(&typescript).contains("shop/orders"));
    (child, typescript)
}

fn shown(typescript: &Path) -> String {
    String::from_utf8_lossy(&fs::read(typescript).unwrap_or_default()).into_owned()
}

/// Checks that the terminal is as it was before.
fn assert_restored(child: &mut Child, typescript: &Path, code: &str) {
    common::reap(child);
    let text = shown(typescript);
    let (_, after) =
        text.rsplit_once("\x1b[?1049l").unwrap_or_else(|| panic!("the screen was not left: {text}"));
    assert!(after.contains(code), "{after}");
    assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
}

/// A terminal that a test can look at, by tmux.
struct Terminal<'a>(&'a Place);

impl Terminal<'_> {
    fn tmux(&self, words: &[&str]) -> String {
        let socket = self.0.beside("tmux");
        let outcome = run(Command::new("tmux").arg("-S").arg(socket).args(words).env_remove("TMUX"));
        assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:?}");
        outcome.stdout
    }

    /// Presses keys, and waits until the screen has the text.
    fn press(&self, keys: &[&str], text: &str) {
        self.tmux(&[&["send-keys"], keys].concat());
        wait_for(text, || self.tmux(&["capture-pane", "-p"]).contains(text));
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(self.0.beside("tmux")).arg("kill-server").status();
    }
}

#[test]
fn keys_select_sort_filter_and_quit() {
    let Some((place, _reader)) = place() else { return };
    if !have("tmux") {
        return;
    }
    let terminal = Terminal(&place);
    let program = common::ipcfs().get_program().to_str().unwrap().to_owned();
    let command = format!("{program} top {} --every 100ms; exec cat", place.name());
    terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
    terminal.press(&[], "shop/orders ");
    terminal.press(&["/nothing"], "0 of 2 mailboxes, with nothing");
    terminal.press(&["Escape"], "\n2 mailboxes ");
    terminal.press(&["j", "Enter"], " shop/orders: 3 waiting, 0 receiving and 0 sending wait, 0 leased ");
    terminal.press(&["j"], " mail: 0 waiting, 1 receiving and 0 sending wait, 0 leased ");
    terminal.press(&["s"], "BYTES▼");
    terminal.press(&["r"], "BYTES▲");
    terminal.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    terminal.press(&[], "receiver ");
    terminal.tmux(&["send-keys", "q"]);
    wait_for("the screen to be left", || !terminal.tmux(&["capture-pane", "-p"]).contains("orders"));
}

#[test]
fn a_signal_and_the_end_of_the_mount_leave_the_terminal_as_it_was() {
    let Some((place, reader)) = place() else { return };
    if !have("script") {
        return;
    }
    let (mut child, typescript) = screen(&place);
    let daemon = place.daemon();
    let top = place.processes().into_iter().find(|pid| *pid != daemon && *pid != child.id()).unwrap();
    signal(top, Signal::TERM);
    assert_restored(&mut child, &typescript, "code 143");

    fs::remove_file(&typescript).unwrap();
    let (mut child, typescript) = screen(&place);
    drop(reader);
    place.kill_daemon();
    assert_restored(&mut child, &typescript, "code 1");
    assert!(shown(&typescript).contains("ipcfs: cannot "), "{}", shown(&typescript));
}
