//! The command line of `load`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::compare;
use crate::error::LoadError;
use crate::procs;
use crate::report::{self, Row};
use crate::scenario::Scenario;
use crate::target::{Beside, Target};

/// Loads a Matrix homeserver and reports what that cost it.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub struct Cli {
    /// The server's base URL: http://host:port.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8008")]
    url: String,
    /// The name in the report.
    #[arg(long, global = true, default_value = "server")]
    name: String,
    /// A process of the server, its children included; may be repeated.
    #[arg(long, global = true)]
    pid: Vec<u32>,
    /// Adds the process that listens on this port of this machine; may be repeated.
    #[arg(long, global = true)]
    pid_of_port: Vec<u16>,
    /// A process that the server uses, whose CPU is told apart: name=pid; may be repeated.
    #[arg(long, global = true)]
    beside: Vec<Beside>,
    /// The secret of the shared-secret registration, where open registration is off.
    #[arg(long, global = true)]
    secret: Option<String>,
    /// Also writes the rows to this file, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    One(Scenario),
    /// A sensible set of scenarios.
    All(Extent),
    /// The same set against two targets, turn by turn.
    Compare(Pair),
}

#[derive(Args, Debug)]
struct Extent {
    /// Small sizes, for a slow peer or a first look.
    #[arg(long)]
    quick: bool,
}

#[derive(Args, Debug)]
struct Pair {
    /// name=url,pid,pid…; to be given twice.
    #[arg(long, required = true)]
    target: Vec<String>,
    #[command(flatten)]
    extent: Extent,
}

impl Cli {
    /// Does what the arguments say and prints the report.
    ///
    /// # Errors
    /// When the server can't be loaded, or any operation failed.
    pub async fn run(&self) -> Result<(), LoadError> {
        let (rows, text) = match &self.command {
            Command::Compare(pair) => self.compare(pair).await?,
            Command::All(extent) => self.one(&Scenario::all(extent.quick)).await?,
            Command::One(scenario) => self.one(std::slice::from_ref(scenario)).await?,
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        for row in rows.iter().filter(|row| row.errors > 0) {
            let first = row.first_error.as_deref().unwrap_or_default();
            writeln!(out, "{} {}: {} errors, the first: {first}", row.target, row.scenario, row.errors)?;
        }
        if let Some(file) = &self.json {
            std::fs::write(file, serde_json::to_vec_pretty(&rows).map_err(std::io::Error::from)?)?;
        }
        match rows.iter().map(|row| row.errors).sum() {
            0 => Ok(()),
            errors => Err(LoadError::Failed(errors)),
        }
    }

    async fn one(&self, scenarios: &[Scenario]) -> Result<(Vec<Row>, String), LoadError> {
        let mut pids = self.pid.clone();
        for port in &self.pid_of_port {
            pids.extend(procs::listening_on(*port)?);
        }
        let mut target = Target::new(&self.name, &self.url, pids, self.secret.clone())?;
        target.beside.clone_from(&self.beside);
        let mut rows = Vec::new();
        for scenario in scenarios {
            rows.extend(scenario.run(&target).await?);
        }
        let text = report::table(&rows);
        Ok((rows, text))
    }

    async fn compare(&self, pair: &Pair) -> Result<(Vec<Row>, String), LoadError> {
        let [first, second] = pair.target.as_slice() else {
            return Err(LoadError::Argument("compare needs --target twice".into()));
        };
        let first = Target::parse(first, self.secret.clone())?;
        let second = Target::parse(second, self.secret.clone())?;
        let (mut rows, others) = compare::alternate(&Scenario::all(pair.extent.quick), &first, &second).await?;
        let text = compare::tables(&rows, &others);
        rows.extend(others);
        Ok((rows, text))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["load", "grow-room", "--events", "10,20", "--pid", "3", "--pid", "4"]).is_ok());
        assert!(Cli::try_parse_from(["load", "compare", "--quick"]).is_err());
    }
}
