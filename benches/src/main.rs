//! `load`: the load generator.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use polity_benches::cli::Cli;
use polity_benches::error::LoadError;

fn run(cli: &Cli) -> Result<(), LoadError> {
    // One thread: it shares the machine with the server it loads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cli.run())
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when even this can't be written.
            let _ = writeln!(std::io::stderr(), "load: {error}");
            ExitCode::FAILURE
        }
    }
}
