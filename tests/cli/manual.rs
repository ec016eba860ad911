//! The manual pages and completions that `ipcfs manual` writes.

use std::fs;
use std::process::Command;

use crate::common::have;
use crate::place::{ipcfs, run};

/// The files by their paths, with their texts.
fn written() -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let outcome = ipcfs(["manual".as_ref(), dir.path().as_os_str()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    let mut files = Vec::new();
    for folder in ["man1", "man5", "man8", "completions"] {
        for entry in fs::read_dir(dir.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn there_is_a_page_for_each_subcommand_and_nothing_hidden_in_any_file() {
    let files = written();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for subcommand in ["", "-mount", "-umount", "-status", "-doctor"] {
        let page = format!("man1/ipcfs{subcommand}.1");
        assert!(names.contains(&page.as_str()), "{page} is missing in {names:?}");
    }
    for name in [
        "man5/ipcfs.5",
        "man8/mount.ipcfs.8",
        "completions/ipcfs",
        "completions/_ipcfs",
        "completions/ipcfs.fish",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    for (name, text) in &files {
        for hidden in ["ready", "ipcfs-manual", "Questions"] {
            assert!(!text.replace("already", "").contains(&format!("--{hidden}")), "{name} shows {hidden}");
        }
        assert!(
            !text.contains("ipcfs-ask") && !text.contains("ipcfs__ask"),
            "{name} shows a hidden subcommand"
        );
    }
}

#[test]
fn the_pages_have_every_option_and_every_file_of_control() {
    let files = written();
    let text = |wanted: &str| {
        let (_, text) = files.iter().find(|(name, _)| name == wanted).unwrap();
        // Hyphens are escaped in roff.
        text.replace("\\-", "-")
    };
    let help = ipcfs(["mount", "--help"]).stdout;
    let options: Vec<&str> =
        help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 4).collect();
    assert!(options.len() > 10, "{options:?}");
    for option in options {
        let option = option.split(['=', ',', '.', ';', '`']).next().unwrap();
        assert!(text("man1/ipcfs-mount.1").contains(option), "ipcfs-mount(1) lacks {option}");
        let listed = option.trim_start_matches('-').replace('-', "_");
        if !["help", "foreground"].contains(&listed.as_str()) {
            assert!(
                text("man8/mount.ipcfs.8").contains(&format!("fB{listed}")),
                "mount.ipcfs(8) lacks {listed}"
            );
        }
    }
    for file in ipcfs::control::reference() {
        let path = format!("{}{}", file.folder, file.path);
        assert!(text("man5/ipcfs.5").contains(&path), "ipcfs(5) lacks {path}");
    }
}

#[test]
fn man_takes_the_pages_without_a_warning() {
    if !have("man") || !have("groff") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pages =
        written().into_iter().filter(|(name, text)| name.starts_with("man") && !text.starts_with(".so"));
    for (name, text) in pages {
        let path = dir.path().join(name.split('/').next_back().unwrap());
        fs::write(&path, text).unwrap();
        let mut man = Command::new("man");
        let outcome = run(man
            .args(["--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"])
            .arg(&path)
            .env("MANWIDTH", "80"));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{name}");
    }
}

#[test]
fn bash_completes_subcommands_and_options() {
    let (_, script) = written().into_iter().find(|(name, _)| name == "completions/ipcfs").unwrap();
    let ask = |words: &[&str]| {
        let last = words.len() - 1;
        let words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let script = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={last}
            _ipcfs ipcfs \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        run(Command::new("bash").args(["-c", &script])).stdout
    };
    assert_eq!(ask(&["ipcfs", "mo"]), "mount\n");
    assert_eq!(ask(&["ipcfs", "umount", "--la"]), "--lazy\n");
    assert_eq!(ask(&["ipcfs", "mount", "--transport", ""]), "auto dev uring\n");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    ipcfs(["manual", "/proc/nowhere"]).failed("cannot write to /proc/nowhere", &["choose a directory"]);
}
