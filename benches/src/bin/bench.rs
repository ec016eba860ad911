//! `scripts/bench`: measures, and shows what was measured.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ipcfs_bench::model::{Run, Settings};
use ipcfs_bench::run::{Outcome, Plan};
use ipcfs_bench::{compare, plot, readme, report, run, scale, worker};

/// Measures ipcfs beside what people would pick instead
#[derive(Debug, Parser)]
#[command(name = "scripts/bench", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// In less than two minutes: fewer rounds, shorter ones, less growth
    #[arg(long)]
    quick: bool,

    /// Cases whose names contain one of these, for example oneway,depth
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    only: Vec<String>,

    /// Rounds of each case, instead of 9 and 3 of what grows (quick: 3 of all)
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Where the results are kept, after each case
    #[arg(long, value_name = "FILE", default_value = "target/bench/bench.json", overrides_with = "json")]
    json: PathBuf,

    /// Go on with the run that --json names, where it was interrupted, with its settings
    #[arg(long, conflicts_with_all = ["quick", "rounds"])]
    resume: bool,

    /// Say what got slower than in that run, by more than the noise; exit with 1 if something did
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,

    /// Also draw plots of it into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,

    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/ipcfs", overrides_with = "program")]
    program: PathBuf,

    /// Of which commit the program is
    #[arg(long, value_name = "COMMIT", hide = true)]
    commit: Option<String>,

    /// A FUSE server that does nothing, to measure beside it
    #[arg(long, value_name = "FILE", hide = true)]
    null: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a run again
    Show { json: PathBuf },
    /// Compare two runs, the older one first
    Compare { old: PathBuf, new: PathBuf },
    /// Make README's figures and its plots from a run
    Readme {
        json: PathBuf,
        /// The file with the section
        #[arg(long, default_value = "README.md")]
        readme: PathBuf,
        /// Write nothing; fail if they are not those of the run
        #[arg(long)]
        check: bool,
    },
    /// A process of a run
    #[command(hide = true)]
    Worker { job: String },
}

fn main() -> ExitCode {
    match begin(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("scripts/bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(args: &Args) -> Result<ExitCode> {
    match &args.command {
        None => measure(args),
        Some(Command::Worker { job }) => worker::run(job).map(|()| ExitCode::SUCCESS),
        Some(Command::Show { json }) => Ok(show(&Run::load(json)?)),
        Some(Command::Compare { old, new }) => Ok(show_changes(&Run::load(old)?, &Run::load(new)?)),
        Some(Command::Readme { json, readme, check }) => {
            readme::make(&Run::load(json)?, json, readme, *check).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn measure(args: &Args) -> Result<ExitCode> {
    let mut settings = if args.quick { Settings::quick() } else { Settings::full() };
    if let Some(rounds) = args.rounds {
        settings.rounds = rounds;
        settings.growth_rounds = rounds;
    }
    if let Some(dir) = args.json.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Read before it may be written over.
    let old = args.compare.as_deref().map(Run::load).transpose()?;
    let Outcome { run, interrupted, kept } = run::run(&Plan {
        program: args.program.clone(),
        null: args.null.clone(),
        commit: args.commit.clone(),
        json: args.json.clone(),
        settings,
        only: args.only.clone(),
        resume: args.resume,
    })?;
    let mut code = show(&run);
    if kept {
        println!("\nKept in {}", args.json.display());
    }
    if let Some(dir) = &args.plots {
        draw(&run, dir)?;
    }
    if let Some(old) = old {
        println!();
        code = show_changes(&old, &run);
    }
    Ok(if kept && !interrupted { code } else { ExitCode::FAILURE })
}

fn show(run: &Run) -> ExitCode {
    print!("{}", report::report(run));
    let (growth, holds) = scale::report(run);
    print!("\n{growth}");
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show_changes(old: &Run, new: &Run) -> ExitCode {
    let (text, worse) = compare::report(old, new);
    print!("{text}");
    if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn draw(run: &Run, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for (name, svg) in plot::all(run)? {
        std::fs::write(dir.join(name), svg)?;
    }
    println!("Plots are in {}", dir.display());
    Ok(())
}
