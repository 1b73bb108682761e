//! Reading the file and the environment.

use std::{fmt, fs, path::Path};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Config, keys::KEYS};

/// The beginning of variables that are ours.
const PREFIX: &str = "POLITY__";

/// Everything that is wrong, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// Reads the file (if there is one), then the environment over it.
///
/// # Errors
/// All faults at once.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    base: Config,
) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let mut table = match file {
        Some(path) => read(path).unwrap_or_else(|fault| {
            faults.push(fault);
            Table::new()
        }),
        None => Table::new(),
    };
    for (name, value) in environment {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let path: Vec<String> = rest.to_ascii_lowercase().split("__").map(str::to_owned).collect();
            set(&mut table, &path, parse(&path.join("."), value));
        }
    }
    check_keys(&table, "", &mut faults);
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    // Numbers and texts of the environment were told apart by the defaults: what is left is a wrong type.
    let mut merged = defaults(&base, file.is_none());
    merge(&mut merged, table);
    let mut config = Config::deserialize(Value::Table(merged)).map_err(|error| Faults(vec![error.to_string()]))?;
    let secret_file = &config.registration.shared_secret_file;
    if !secret_file.as_os_str().is_empty() {
        match fs::read_to_string(secret_file) {
            Ok(secret) => config.registration.shared_secret = secret.trim().to_owned(),
            Err(error) => faults.push(format!("registration.shared_secret_file: {}: {error}", secret_file.display())),
        }
    }
    faults.extend(config.faults());
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}

fn read(path: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse::<Table>().map_err(|error| format!("{}: {error}", path.display()))
}

/// What the base configuration sets beyond the defaults (the single binary without a file opens registration).
fn defaults(base: &Config, without_file: bool) -> Table {
    let mut table = Table::new();
    if without_file && base.registration.enabled {
        set(&mut table, &["registration".to_owned(), "enabled".to_owned()], Value::Boolean(true));
    }
    table
}

/// A text as the type that the key's default has.
fn parse(path: &str, text: String) -> Value {
    let default = KEYS.iter().find(|key| key.path == path).map_or("\"\"", |key| key.default);
    if default.starts_with('"') {
        return Value::String(text);
    }
    format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v")).unwrap_or(Value::String(text))
}

fn set(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        set(inner, rest, value);
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Unknown keys, each with the nearest known one.
fn check_keys(table: &Table, prefix: &str, faults: &mut Vec<String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let is_section = KEYS.iter().any(|key| key.path.starts_with(&format!("{path}.")));
        match value {
            Value::Table(inner) if is_section => check_keys(inner, &path, faults),
            _ if KEYS.iter().any(|key| key.path == path) => {}
            _ => {
                let nearest = KEYS.iter().min_by_key(|key| strsim::levenshtein(key.path, &path));
                let hint = nearest.map(|key| format!(" (the nearest known key is {})", key.path)).unwrap_or_default();
                faults.push(format!("{path}: unknown key{hint}"));
            }
        }
    }
}
