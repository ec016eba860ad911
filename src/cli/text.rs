//! What is printed: names made safe for a terminal, aligned tables, and output that survives a closed pipe.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Prints on standard output. A reader that has left (`ipcfs status | head -1`) is no error.
pub(super) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write to standard output: {}", reason(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error what went wrong. There is nobody left to tell if that fails.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "ipcfs: {message}");
}

/// A system error in words, without the number Rust puts behind it.
pub(super) fn reason(error: &io::Error) -> String {
    without_number(&error.to_string())
}

/// As [`reason`], for an error that is words already, with more behind it perhaps.
pub(super) fn without_number(text: &str) -> String {
    let cut = || {
        let (before, rest) = text.split_once(" (os error ")?;
        let (_number, after) = rest.split_once(')')?;
        Some(format!("{before}{after}"))
    };
    cut().unwrap_or_else(|| text.to_owned())
}

/// A name for a terminal: control characters, backslashes and bytes that are not UTF-8 are escaped.
pub(super) fn name(name: impl AsRef<OsStr>) -> String {
    let bytes = name.as_ref().as_bytes();
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    escape(&mut shown, c.encode_utf8(&mut utf8).as_bytes());
                }
                c => shown.push(c),
            }
        }
        escape(&mut shown, chunk.invalid());
    }
    shown
}

/// A name as a word of a shell command that the reader may copy.
pub(super) fn word(name: impl AsRef<OsStr>) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:,=%".contains(byte);
    let name = name.as_ref();
    let shown = self::name(name);
    if !name.is_empty() && name.as_bytes().iter().all(plain) {
        return shown;
    }
    if name.as_bytes() == shown.as_bytes() {
        return format!("'{}'", shown.replace('\'', "'\\''"));
    }
    // bash, zsh, ksh and busybox understand this form, and the escapes made above.
    format!("$'{}'", shown.replace('\'', "\\'"))
}

/// Lines with their columns aligned: the first row is the heading, `right` marks the columns of numbers.
pub(super) fn table(right: &[bool], rows: &[Vec<String>]) -> String {
    let mut widths = vec![0; right.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(right) {
            let _ = match right {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn escape(shown: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(shown, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_move_the_cursor() {
        assert_eq!(name("plain name é"), "plain name é");
        assert_eq!(name("a\nb\t\x1b[31m\\"), "a\\nb\\t\\x1b[31m\\\\");
        assert_eq!(name(OsStr::from_bytes(b"bad\xff\xfe")), "bad\\xff\\xfe");
        assert_eq!(name("\u{9b}31m"), "\\xc2\\x9b31m");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(word("/mnt/ipc"), "/mnt/ipc");
        assert_eq!(word("/mnt/my ipc"), "'/mnt/my ipc'");
        assert_eq!(word("it's"), "'it'\\''s'");
        assert_eq!(word("a\nb'"), "$'a\\nb\\''");
        assert_eq!(word(""), "''");
    }

    #[test]
    fn columns_align() {
        let rows = [["NAME", "N"], ["é", "10"], ["long", "7"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&[false, true], &rows), "NAME   N\né     10\nlong   7\n");
    }

    #[test]
    fn reasons_have_no_numbers() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(without_number("refused: No (os error 1) (as ever)"), "refused: No (as ever)");
        assert_eq!(without_number("refused (os error"), "refused (os error");
    }
}
