//! Reading the file and the environment.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use toml::{Table, Value};

use super::{
    Config,
    reference::keys,
    settings::{Key, Raw, Section as _},
};

/// The beginning of variables that are ours.
const PREFIX: &str = "POLITY__";

/// Everything that is wrong, at once: one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// A value, and the name under which its giver knows it.
type Given = BTreeMap<String, (String, Raw)>;

/// Reads the file (if there is one), then the environment over it; what neither sets is as in `base`.
///
/// Registration that only `base` opens is closed again when the client listener can be reached from other machines.
///
/// # Errors
/// All faults at once.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    base: Config,
) -> Result<Config, Faults> {
    let (mut faults, mut given, known) = (Vec::new(), Given::new(), keys());
    match file.map(read).transpose() {
        Ok(table) => flatten(&table.unwrap_or_default(), "", &known, &mut given),
        Err(fault) => faults.push(fault),
    }
    for (name, value) in environment {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let path = rest.to_ascii_lowercase().replace("__", ".");
            given.insert(path, (name, Raw::Environment(value)));
        }
    }
    let mut config = base;
    let registration_was_asked_for = given.contains_key("registration.enabled");
    for (path, (name, raw)) in given {
        match config.set(&path, &raw) {
            Some(Ok(())) => {}
            Some(Err(fault)) => faults.push(format!("{name}: {fault}")),
            None => faults.push(unknown(&path, &name, matches!(raw, Raw::Environment(_)), &known)),
        }
    }
    for (key, secret, file) in config.secrets() {
        if let Err(fault) = secret.resolve(file) {
            faults.push(format!("{key}: {fault}"));
        }
    }
    if !registration_was_asked_for && !config.listeners.client.bind.ip().is_loopback() {
        config.registration.enabled = false;
    }
    config.all_faults("", &mut faults);
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}

fn read(path: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse::<Table>().map_err(|error| format!("{}: {error}", path.display()))
}

/// Tables to paths. A table that is no section stays whole: it is one fault, not one for each of its keys.
fn flatten(table: &Table, prefix: &str, known: &[Key], given: &mut Given) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        let inner = format!("{path}.");
        match value {
            Value::Table(table) if known.iter().any(|key| key.path.starts_with(&inner)) => {
                flatten(table, &inner, known, given);
            }
            value => drop(given.insert(path.clone(), (path, Raw::File(value.clone())))),
        }
    }
}

/// What is said about a key that isn't one: the nearest that is, spelled as the giver spells them.
fn unknown(path: &str, name: &str, environment: bool, known: &[Key]) -> String {
    if known.iter().any(|key| key.path.starts_with(&format!("{path}."))) {
        return format!("{name}: is a section, not a key");
    }
    let nearest = known.iter().map(|key| key.path.as_str()).min_by_key(|key| distance(key, path));
    let spelled = nearest.map(|key| {
        if environment { format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")) } else { key.to_owned() }
    });
    format!("{name}: unknown key (the nearest known one is {})", spelled.unwrap_or_default())
}

/// How far apart two paths are: a good name in the wrong section is nearer than another name in the right one.
fn distance(known: &str, path: &str) -> usize {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    strsim::damerau_levenshtein(known, path) + 2 * strsim::damerau_levenshtein(&last(known), &last(path))
}
