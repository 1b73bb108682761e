//! The annotated default file, made from the sections' own declarations.

use super::{Config, settings::Key, settings::Section as _};

/// Every key, in the order of the reference.
pub(super) fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    Config::keys("", &mut keys);
    keys
}

/// The annotated default file.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Polity's settings, with their defaults. An empty text means: none.\n\
         # Each can be set by the environment too: POLITY__STORE__KIND=memory\n\n",
    );
    let mut section = "";
    let keys = keys();
    for Key { path, default, doc } in &keys {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        if parent != section {
            section = parent;
            out.push_str(&format!("\n[{section}]\n"));
        }
        for line in doc {
            out.push_str(&format!("# {line}\n"));
        }
        out.push_str(&format!("{name} = {default}\n"));
    }
    out
}
