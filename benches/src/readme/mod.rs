//! README's section of figures and its plots, made from a run: no figure in them is typed by hand.

mod tables;
mod verdict;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::model::Run;
use crate::plot;

/// Between these lines the file is this program's.
const BEGIN: &str = "<!-- figures: made by scripts/figures, not by hand -->";
const END: &str = "<!-- end of figures -->";

/// Writes the section into `readme` and the plots beside `json`; or, to check, says if they differ.
pub fn make(run: &Run, json: &Path, readme: &Path, check: bool) -> Result<()> {
    ensure!(run.complete, "{} is not a complete run", json.display());
    let folder = json.parent().context("where plots go")?;
    let text = fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    let mut files = vec![(readme.to_owned(), replaced(&text, &section(run, folder))?)];
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
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", section.trim_end()))
}

/// All of it.
fn section(run: &Run, folder: &Path) -> String {
    let plot = |name: &str, says: &str| format!("![{says}]({})\n\n", folder.join(name).display());
    [
        tables::conditions(run),
        tables::one_way(run),
        plot("oneway.svg", "One process sends, another receives: time for a message, by its size"),
        tables::round_trip(run),
        plot("roundtrip.svg", "A message to another process and back: p50, p99, p99.9"),
        tables::other_work(run),
        verdict::verdict(run),
        tables::growth(run),
        plot("growth.svg", "A send and a receive, however many messages, readers, mailboxes there are"),
        tables::requests(run),
        tables::rest(run),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_replaced() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("above\n{BEGIN}\n\nnew\n{END}\nbelow\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("none", "new").is_err());
    }
}
