//! README's section of figures, its plots, and `docs/FIGURES.md`, made from a run: no figure in them is typed by hand.

mod tables;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::model::Run;
use crate::plot;

/// Between these lines the file is this program's.
const BEGIN: &str = "<!-- figures: made by scripts/figures, not by hand -->";
const END: &str = "<!-- end of figures -->";

/// Where the tables are that README has no room for.
const DETAILS: &str = "docs/FIGURES.md";

/// Writes README's section, the document with the details, and the plots, which stand beside `json`; or, to check, says
/// if they differ. All paths are from the repository's root, where this runs.
pub fn make(run: &Run, json: &Path, readme: &Path, check: bool) -> Result<()> {
    ensure!(run.complete, "{} is not a complete run", json.display());
    let folder = json.parent().context("where plots go")?;
    let text = fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    let mut files = vec![
        (readme.to_owned(), replaced(&text, &section(run, folder))?),
        (PathBuf::from(DETAILS), details(run)),
    ];
    for (name, svg) in plot::all(run)? {
        files.push((folder.join(name), svg));
    }
    for (path, wanted) in files {
        let found = fs::read_to_string(&path).unwrap_or_default();
        if found == wanted {
            continue;
        }
        if check {
            bail!("{} is not what {} makes of it: run scripts/figures", path.display(), json.display());
        }
        fs::write(&path, wanted).with_context(|| format!("writing {}", path.display()))?;
        println!("made {}", path.display());
    }
    Ok(())
}

/// The text with another section between the marks.
fn replaced(text: &str, section: &str) -> Result<String> {
    let marks = || {
        let (before, rest) = text.split_once(BEGIN)?;
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    };
    let (before, after) = marks().with_context(|| format!("there are no lines `{BEGIN}` and `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", section.trim_end()))
}

/// README's: what it costs, and when to take something else.
fn section(run: &Run, folder: &Path) -> String {
    let plot = |name: &str, says: &str| format!("![{says}]({})\n\n", folder.join(name).display());
    [
        tables::conditions(run),
        tables::one_way(run),
        plot("oneway.svg", "One process sends, another receives: time for a message, by its size"),
        plot("roundtrip.svg", "A message to another process and back: p50, p99, p99.9"),
        verdict::verdict(run),
        plot("growth.svg", "A send and a receive, however many messages, readers, mailboxes there are"),
        tables::memory(run),
        format!("[{DETAILS}]({DETAILS}) has the rest of the run: percentiles, many senders and receivers, the shell, growth \
                 of each operation, requests to the daemon, and what was not measured.\n"),
    ]
    .concat()
}

/// All that README leaves out.
fn details(run: &Run) -> String {
    let head =
        "# Figures\n\nMade by `scripts/figures` from the same run as README's section, not by hand.\n\n"
            .to_owned();
    [
        head,
        "## A message to another process and back\n\n".to_owned(),
        tables::round_trip(run),
        "## Other work\n\n".to_owned(),
        tables::other_work(run),
        "## Growth\n\n".to_owned(),
        tables::growth(run),
        "## Requests\n\n".to_owned(),
        tables::requests(run),
        "## Servers\n\n".to_owned(),
        tables::servers(run),
        "## CPUs\n\n".to_owned(),
        tables::cpus(run),
        "## Not measured\n\n".to_owned(),
        tables::left_out(run),
    ]
    .concat()
    .trim_end()
    .to_owned()
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_replaced() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("none", "new").is_err());
    }
}
