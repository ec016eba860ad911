//! The file of `ipcfs mount --config`: what shall be in a mount when it is ready, in TOML.
//!
//! ```toml
//! [folders."mailboxes/shop"]      # or [folders.mailboxes]: what is made there begins with its settings
//! owner = "shop"
//! mode = "0770"
//!
//! [mailboxes."shop/orders"]       # [topics.NAME] and [segments.NAME] as well
//! mode = "0620"
//! maxmsg = 500
//! dead_letter = "shop/failed"
//! ```
//!
//! [`parse`](parse::parse) finds what is wrong with the text before anything is mounted. [`apply`](apply::apply) then makes
//! what the file names through the mounted tree, as any user would; what is there already only gets its settings, so a
//! second time changes nothing. [`saved`] writes such a file.

mod apply;
mod entry;
mod parse;
mod save;

use std::fs;
use std::path::{Path, PathBuf};

use entry::{Entry, Wrong};

use super::text::{quoted, reason};
pub(super) use save::saved;

/// Greatest size of a file, in bytes: a hundred thousand mailboxes have one that is smaller.
const SIZE_MAX: u64 = 64 << 20;

/// A file that was read and makes sense.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl ConfigFile {
    /// Reads it, or says what is wrong and in which line.
    pub(super) fn read(path: &Path) -> Result<ConfigFile, String> {
        let advice = "name a file in TOML: ipcfs mount --config FILE DIR";
        let failed = |why: String| format!("cannot read {}: {why}\n  {advice}", quoted(path));
        let metadata = fs::metadata(path).map_err(|error| failed(reason(&error)))?;
        if metadata.len() > SIZE_MAX {
            return Err(failed(format!("it is longer than {} MiB", SIZE_MAX >> 20)));
        }
        let text = fs::read_to_string(path).map_err(|error| failed(reason(&error)))?;
        let entries = parse::parse(&text).map_err(|wrong| at(path, &wrong))?;
        Ok(ConfigFile { path: path.to_owned(), entries })
    }

    /// Makes what it names in the mount on `point`, or says what could not be made and in which line it stands.
    pub(super) fn apply(&self, point: &Path) -> Result<(), String> {
        apply::apply(&self.entries, point).map_err(|wrong| at(&self.path, &wrong))
    }
}

fn at(path: &Path, wrong: &Wrong) -> String {
    format!("{}:{}: {}", quoted(path), wrong.line, wrong.why)
}
