//! README's section of figures, its plots, and `docs/FIGURES.md`, made from a run: no figure in them is typed by hand.

mod segments;
mod tables;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::model::Run;
use crate::plot;

/// Between two lines of that name the file is this program's.
fn marks(name: &str) -> [String; 2] {
    [format!("<!-- {name}: made by scripts/figures, not by hand -->"), format!("<!-- end of {name} -->")]
}

/// Where the tables are that README has no room for.
const DETAILS: &str = "docs/FIGURES.md";

/// Writes README's section, the document with the details, and the plots, which stand beside `json`; or, to check, says
/// if they differ. All paths are from the repository's root, where this runs.
pub fn make(run: &Run, json: &Path, readme: &Path, check: bool) -> Result<()> {
    ensure!(run.complete, "{} is not a complete run", json.display());
    let folder = json.parent().context("where plots go")?;
    let text = fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    let text = replaced(&text, "figures", &section(run, folder))?;
    let text = replaced(&text, "segments", &segments::section(run))?;
    let mut files = vec![(readme.to_owned(), text), (PathBuf::from(DETAILS), details(run))];
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
fn replaced(text: &str, name: &str, section: &str) -> Result<String> {
    let [begin, end] = marks(name);
    let around = || {
        let (before, rest) = text.split_once(&begin)?;
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    };
    let (before, after) = around().with_context(|| format!("there are no lines `{begin}` and `{end}`"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", section.trim_end()))
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
        "## Segments\n\n".to_owned(),
        segments::all(run),
        tables::about(&["segments"]),
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
        let [begin, end] = marks("test");
        let text = format!("above\n{begin}\nold\n{end}\nbelow\n");
        let new = replaced(&text, "test", "new\n").unwrap();
        assert_eq!(new, format!("above\n{begin}\n\nnew\n\n{end}\nbelow\n"));
        assert_eq!(replaced(&new, "test", "new\n").unwrap(), new);
        assert!(replaced(&new, "other", "new").is_err());
    }
}
