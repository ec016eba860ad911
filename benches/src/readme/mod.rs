//! The section of figures in README, `docs/FIGURES.md` and the plots, made from a run: no figure in them is typed by hand.

mod durable;
mod segments;
mod tables;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::model::Run;
use crate::plot;

/// The lines of README that enclose the generated section.
const BEGIN: &str = "<!-- figures: made by scripts/figures, not by hand -->";
const END: &str = "<!-- end of figures -->";

/// The document with everything that README omits.
const DETAILS: &str = "docs/FIGURES.md";

/// Writes the section of README, the document with the details, and the plots, which go into the folder of `json`. With
/// `check`, writes nothing and fails if one of them differs. All paths are relative to the root of the repository, which
/// is the current directory.
pub fn make(run: &Run, json: &Path, readme: &Path, check: bool) -> Result<()> {
    ensure!(run.complete, "{} is not a complete run", json.display());
    let folder = json.parent().context("finding the folder for the plots")?;
    let text = fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    let text = replaced(&text, &section(run, folder))?;
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
            bail!("{} does not match {}: run scripts/figures", path.display(), json.display());
        }
        fs::write(&path, wanted).with_context(|| format!("writing {}", path.display()))?;
        println!("made {}", path.display());
    }
    Ok(())
}

/// The text with a new section between its marks.
fn replaced(text: &str, section: &str) -> Result<String> {
    let around = || {
        let (before, rest) = text.split_once(BEGIN)?;
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    };
    let (before, after) = around().with_context(|| format!("there are no lines `{BEGIN}` and `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", section.trim_end()))
}

fn picture(path: &Path, caption: &str) -> String {
    format!("![{caption}]({})\n\n", path.display())
}

/// For README: one table and one picture.
fn section(run: &Run, folder: &Path) -> String {
    [
        tables::conditions(run),
        tables::one_way(run),
        durable::in_short(run),
        format!("[{DETAILS}]({DETAILS}) has the rest of the run: round trips, the shell, segments, growth, memory, and \
                 when something else is faster.\n\n"),
        picture(&folder.join("oneway.svg"), "Time per message from one process to another, by size"),
    ]
    .concat()
}

/// Everything that README omits. Its pictures are in a folder beside it.
fn details(run: &Run) -> String {
    let plot = |name: &str, caption: &str| picture(&Path::new("figures").join(name), caption);
    [
        "# Figures\n\n".to_owned(),
        tables::method(run),
        "## A message to another process and back\n\n".to_owned(),
        plot("roundtrip.svg", "Time of a message to another process and back: p50, p99, p99.9"),
        tables::round_trip(run),
        "## When something else is faster\n\n".to_owned(),
        verdict::verdict(run),
        "## Other work\n\n".to_owned(),
        tables::other_work(run),
        tables::languages(run),
        "## Growth\n\n".to_owned(),
        plot("growth.svg", "Time of a send and a receive, by the number of messages, readers and mailboxes"),
        tables::growth(run),
        "## Memory\n\n".to_owned(),
        tables::memory(run),
        "## Durable mailboxes\n\n".to_owned(),
        durable::tables(run),
        "## Segments\n\n".to_owned(),
        segments::segments(run),
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
    fn the_section_between_the_marks_is_replaced() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("no marks", "new").is_err());
    }
}
