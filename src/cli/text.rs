//! Output: names that are safe for a terminal, aligned tables, and printing to a pipe that may be closed.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Prints on standard output. A closed pipe (`ipcfs status | head -1`) is no error.
pub(super) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("cannot write to standard output: {}", reason(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Prints a message on standard error. If that fails, nothing can be done.
pub(super) fn report(message: &str) {
    let _ = writeln!(io::stderr(), "ipcfs: {message}");
}

/// A system error as text, without the number that Rust appends.
pub(super) fn reason(error: &io::Error) -> String {
    without_number(&error.to_string())
}

/// As [`reason`], for an error that is text already; text may follow the number.
pub(super) fn without_number(text: &str) -> String {
    let cut = || {
        let (before, rest) = text.split_once(" (os error ")?;
        let (_number, after) = rest.split_once(')')?;
        Some(format!("{before}{after}"))
    };
    cut().unwrap_or_else(|| text.to_owned())
}

/// A name that is safe for a terminal: control characters, backslashes and bytes that are not UTF-8 are escaped.
pub(super) fn escaped(name: impl AsRef<OsStr>) -> String {
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

/// A name quoted for a shell, so that the reader may copy the command.
pub(super) fn quoted(name: impl AsRef<OsStr>) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:,=%".contains(byte);
    let name = name.as_ref();
    let shown = escaped(name);
    if !name.is_empty() && name.as_bytes().iter().all(plain) {
        return shown;
    }
    if name.as_bytes() == shown.as_bytes() {
        return format!("'{}'", shown.replace('\'', "'\\''"));
    }
    // bash, zsh, ksh and busybox accept this form and the escapes of `name`.
    format!("$'{}'", shown.replace('\'', "\\'"))
}

/// Aligned columns: the first row is the heading; `right` marks the right-aligned columns.
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
        assert_eq!(escaped("plain name é"), "plain name é");
        assert_eq!(escaped("a\nb\t\x1b[31m\\"), "a\\nb\\t\\x1b[31m\\\\");
        assert_eq!(escaped(OsStr::from_bytes(b"bad\xff\xfe")), "bad\\xff\\xfe");
        assert_eq!(escaped("\u{9b}31m"), "\\xc2\\x9b31m");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("/mnt/ipc"), "/mnt/ipc");
        assert_eq!(quoted("/mnt/my ipc"), "'/mnt/my ipc'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("a\nb'"), "$'a\\nb\\''");
        assert_eq!(quoted(""), "''");
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
