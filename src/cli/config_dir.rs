//! The values in the `config/` of a mailbox, topic, segment or folder, read and written through the mount.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::io::Errno;

use super::text::{escaped, quoted, reason};

/// Keys, and values without the newline that ends them, in the order of the alphabet. What only the owner may read is left out for others.
pub(super) fn values(config: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let failed = |error: io::Error| cannot("read", config, &error);
    let mut values = Vec::new();
    for entry in fs::read_dir(config).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == "error" {
            continue;
        }
        if let Ok(mut value) = fs::read(entry.path()) {
            value.pop_if(|last| *last == b'\n');
            values.push((escaped(entry.file_name()), value));
        }
    }
    values.sort();
    Ok(values)
}

/// Writes one value, or says why it was refused, and on a second line what to do.
pub(super) fn store(config: &Path, key: &str, value: &str) -> Result<(), String> {
    let file = config.join(key);
    // Not made, and not by a path that leads elsewhere.
    let known = !key.is_empty() && !key.contains('/') && key != "error";
    if !known || (config.exists() && !file.exists()) {
        let keys: Vec<String> = values(config)?.into_iter().map(|(key, _)| key).collect();
        return Err(format!("there is no setting {}\n  there are {}", quoted(key), keys.join(", ")));
    }
    let opened = OpenOptions::new().write(true).open(&file);
    // An empty value needs a line to be written at all.
    match opened.and_then(|mut file| file.write_all(format!("{value}\n").as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::RANGE)) => {
            let why = [config.join("error"), config.with_file_name("error")]
                .into_iter()
                .find_map(|error| fs::read_to_string(error).ok());
            let why = why.filter(|why| !why.is_empty()).unwrap_or_else(|| reason(&error));
            Err(format!("{} was refused\n  {}", quoted(format!("{key}={value}")), escaped(why.trim_end())))
        }
        Err(error) => Err(cannot("change", &file, &error)),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "see the names: ipcfs status DIR",
        Some(Errno::ACCESS) => "only its owner and root may change it",
        _ => "see its state: ipcfs status DIR",
    };
    format!("cannot {what} {}: {}\n  {advice}", quoted(path), reason(error))
}
