//! The command `ipcfs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipcfs::cli::run()
}
