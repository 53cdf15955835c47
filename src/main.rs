//! The binary `orchestrator`.

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use detector_orchestrator::cli::{self, Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let asked = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind());
            return if asked { cli::exit::OK } else { cli::exit::USAGE }.into();
        }
    };
    match cli.command {
        None => detector_orchestrator::app::serve(&cli.serve),
        Some(Command::Serve(args)) => detector_orchestrator::app::serve(&args),
        Some(command) => cli::run(command),
    }
    .into()
}
