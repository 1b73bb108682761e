//! The command line.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use polity_platform::{
    config::{self, Config},
    lifecycle::exit,
};

use tokio::runtime::Runtime;

use crate::{failure::Failure, run};

/// Polity: a Matrix homeserver.
#[derive(Parser)]
#[command(name = "polity", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything in one process (the default).
    Serve {
        /// The configuration; without one: embedded store, ./polity-data, port 8008.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Serves more than one name from one store.
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum TenantCommand {
    /// Makes a tenant beside the one that the configuration names. The server must not run; it serves the tenant from its next start.
    Create {
        /// What stands behind the colon of its users.
        server_name: String,
        /// Where its clients find it. Default: https:// and the server name.
        #[arg(long)]
        public_baseurl: Option<String>,
        /// The configuration.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Prints every fault at once.
    Check {
        /// The file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Prints the annotated default file.
    Reference,
}

/// The process: parses the command line, does what it says, gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match arguments.command.unwrap_or(Command::Serve { config: None }) {
        Command::Serve { config } => serve(config.as_deref()),
        Command::Tenant { command: TenantCommand::Create { server_name, public_baseurl, config } } => {
            create_tenant(config.as_deref(), &server_name, public_baseurl.as_deref())
        }
        Command::Config { command: ConfigCommand::Check { config } } => {
            load(Some(&config)).map(|_| say("the configuration is good"))
        }
        Command::Config { command: ConfigCommand::Reference } => {
            say(config::reference().trim_end());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The log may go elsewhere: whoever started the process must see this.
            let _ = writeln!(std::io::stderr(), "polity: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Prints for people.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn load(file: Option<&Path>) -> Result<Config, Failure> {
    // Registration that only this opens is closed again when others can reach the listener.
    let base = if file.is_none() { Config::single_binary_default() } else { Config::default() };
    config::load(file, std::env::vars(), base).map_err(|faults| Failure::new(exit::USAGE, faults))
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::software)
}

fn serve(file: Option<&Path>) -> Result<(), Failure> {
    let config = load(file)?;
    runtime()?.block_on(run::run(&config))
}

fn create_tenant(file: Option<&Path>, name: &str, public_baseurl: Option<&str>) -> Result<(), Failure> {
    let config = load(file)?;
    runtime()?.block_on(run::create_tenant(&config, name, public_baseurl))?;
    say(&format!("the tenant {name} is made"));
    Ok(())
}
