//! The command line.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use polity_platform::{
    config::{self, Config},
    lifecycle::exit,
};

use tokio::runtime::Runtime;

use crate::{failure::Failure, health, restored, run, schema, tenants, tier::Tier};

/// Polity: a Matrix homeserver.
#[derive(Parser)]
#[command(name = "polity", version)]
struct Everything {
    #[command(subcommand)]
    command: Option<Command>,
}

/// A part of Polity, a Matrix homeserver.
#[derive(Parser)]
#[command(version)]
struct Part {
    #[command(subcommand)]
    command: PartCommand,
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
    /// Asks the running process whether it is ready; ends with 1 if it isn't. For containers, which have nothing else to ask with.
    Health {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Looks at the tables of a shared store, makes them, or takes a store into use that was put back from a backup.
    Schema {
        #[command(subcommand)]
        command: SchemaCommand,
    },
}

#[derive(Subcommand)]
enum PartCommand {
    /// Runs this part, beside the others.
    Serve {
        /// The configuration: one file for all parts.
        #[arg(long)]
        config: PathBuf,
    },
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Asks the running process whether it is ready; ends with 1 if it isn't. For containers, which have nothing else to ask with.
    Health {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
enum TenantCommand {
    /// Makes a tenant beside the one that the configuration names. With an embedded store the server must not run. Processes serve
    /// the tenant from their next start.
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

#[derive(Subcommand)]
enum SchemaCommand {
    /// Says what the tables are and what is missing, and changes nothing.
    Status {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Makes what is missing. Nothing is ever changed or removed, so that an older version goes on beside a newer one.
    Apply {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// After a store was put back from a backup, and before anything starts on it: finishes what the backup caught under way, and begins
    /// another life of the store, in which sync tokens and one-time keys of the one before are void. May be repeated. No process may run.
    Restored {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
}

/// A process of this tier: parses the command line, does what it says, gives the exit code.
#[must_use]
pub fn main(tier: Tier) -> ExitCode {
    let command = match parse(tier, std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match carry_out(tier, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The log may go elsewhere: whoever started the process must see this.
            let _ = writeln!(std::io::stderr(), "{}: {failure}", tier.program());
            ExitCode::from(failure.code)
        }
    }
}

fn parse(tier: Tier, arguments: impl Iterator<Item = OsString>) -> Result<Command, clap::Error> {
    if tier == Tier::All {
        return Ok(Everything::try_parse_from(arguments)?.command.unwrap_or(Command::Serve { config: None }));
    }
    let matches = Part::command().name(tier.program()).try_get_matches_from(arguments)?;
    Ok(match Part::from_arg_matches(&matches)?.command {
        PartCommand::Serve { config } => Command::Serve { config: Some(config) },
        PartCommand::Config { command } => Command::Config { command },
        PartCommand::Health { config } => Command::Health { config },
    })
}

fn carry_out(tier: Tier, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { config } => serve(tier, config.as_deref()),
        Command::Tenant { command: TenantCommand::Create { server_name, public_baseurl, config } } => {
            create_tenant(config.as_deref(), &server_name, public_baseurl.as_deref())
        }
        Command::Config { command: ConfigCommand::Check { config } } => {
            load(tier, Some(&config)).map(|_| say("the configuration is good"))
        }
        Command::Config { command: ConfigCommand::Reference } => {
            say(config::reference().trim_end());
            Ok(())
        }
        Command::Health { config } => health::ask(&load(tier, Some(&config))?),
        Command::Schema { command: SchemaCommand::Status { config } } => {
            runtime()?.block_on(schema::status(&load(tier, Some(&config))?))
        }
        Command::Schema { command: SchemaCommand::Apply { config } } => {
            runtime()?.block_on(schema::apply(&load(tier, Some(&config))?))
        }
        Command::Schema { command: SchemaCommand::Restored { config } } => {
            runtime()?.block_on(restored::restored(&load(tier, Some(&config))?))
        }
    }
}

/// Prints for people.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn load(tier: Tier, file: Option<&Path>) -> Result<Config, Failure> {
    // Registration that only this opens is closed again when others can reach the listener.
    let base = if file.is_none() { Config::single_binary_default() } else { Config::default() };
    let loaded = config::load(file, std::env::vars(), base);
    let config = loaded.map_err(|faults| Failure::new(exit::USAGE, faults))?;
    let faults = tier.faults(&config);
    if faults.is_empty() { Ok(config) } else { Err(Failure::new(exit::USAGE, config::Faults(faults))) }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::software)
}

fn serve(tier: Tier, file: Option<&Path>) -> Result<(), Failure> {
    let config = load(tier, file)?;
    runtime()?.block_on(run::run(tier, &config))
}

fn create_tenant(file: Option<&Path>, name: &str, public_baseurl: Option<&str>) -> Result<(), Failure> {
    let config = load(Tier::All, file)?;
    runtime()?.block_on(tenants::create(&config, name, public_baseurl))?;
    say(&format!("the tenant {name} is made"));
    Ok(())
}
