//! `scripts/soak`: all operations at once, from many processes that are killed at random.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ipcfs_bench::soak::{self, Restarts};

/// Mixes all operations from many processes that are killed at random, and checks that nothing is lost, doubled or
/// leaked; a line a minute
#[derive(Debug, Parser)]
#[command(name = "scripts/soak", subcommand_negates_reqs = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// How many minutes, on each transport
    #[arg(required = true)]
    minutes: Option<usize>,

    /// On these transports only
    #[arg(long, value_delimiter = ',', default_values = ["dev", "uring"])]
    transport: Vec<String>,

    /// Replaces the daemon twice a second, while it is in use
    #[arg(long)]
    restarts: bool,

    /// Kills the daemon twice a second, which is started again (mount --restart)
    #[arg(long, conflicts_with = "restarts")]
    deaths: bool,

    /// How long of each minute is work, if not 58 seconds: for trying it out
    #[arg(long, hide = true)]
    work_seconds: Option<u64>,

    /// The program to test
    #[arg(long, value_name = "FILE", default_value = "target/release/ipcfs", overrides_with = "program")]
    program: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One actor
    #[command(hide = true)]
    Actor { role: String, instance: u64, dir: PathBuf },
}

fn main() -> ExitCode {
    match begin(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripts/soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(args: &Args) -> Result<()> {
    if let Some(Command::Actor { role, instance, dir }) = &args.command {
        return soak::actor::run(role, *instance, dir);
    }
    let work = args.work_seconds.map(Duration::from_secs);
    let restarts = match (args.restarts, args.deaths) {
        (true, _) => Some(Restarts::Upgrades),
        (_, true) => Some(Restarts::Deaths),
        _ => None,
    };
    for transport in &args.transport {
        soak::run(&args.program, transport, args.minutes.unwrap_or(1), work, restarts)?;
    }
    Ok(())
}
