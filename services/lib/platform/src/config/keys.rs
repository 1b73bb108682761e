//! Every key, with its default and what it means: the reference is printed from this, and unknown keys are found by it.

/// A key of the file.
pub(super) struct Key {
    /// Its path, with dots.
    pub(super) path: &'static str,
    /// Its default, as TOML.
    pub(super) default: &'static str,
    /// What it means.
    pub(super) doc: &'static str,
}

const fn key(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { path, default, doc }
}

/// All of them, in the order of the reference.
pub(super) const KEYS: &[Key] = &[
    key(
        "server_name",
        "\"localhost\"",
        "The first tenant: what stands behind the colon of its users. It can't be changed later.",
    ),
    key("public_baseurl", "\"\"", "Where clients find this server. Default: the client listener."),
    key("data_dir", "\"./polity-data\"", "Signing keys and the embedded store live here; made at the first start."),
    key("shutdown_timeout_s", "30", "How long requests under way may take after SIGTERM."),
    key("listeners.client.bind", "\"127.0.0.1:8008\"", "Where clients connect."),
    key("listeners.ops.bind", "\"127.0.0.1:9008\"", "/health/live, /health/ready and /metrics; never public."),
    key("store.kind", "\"embedded\"", "\"embedded\" (on disk) or \"memory\" (gone with the process)."),
    key("cluster.node_name", "\"\"", "This process's name. Default: the host's name and the port."),
    key("registration.enabled", "false", "Whether anybody may make an account."),
    key("registration.shared_secret", "\"\"", "Whoever has it may make accounts: /_synapse/admin/v1/register."),
    key("registration.shared_secret_file", "\"\"", "A file that holds it, instead."),
    key("passwords.cheap_hash_for_tests", "false", "Hashes that protect nothing. For tests only."),
    key("rate_limits.enabled", "true", "Whether clients that ask too often are told to wait."),
    key("rate_limits.messages_per_s", "10.0", "Events that a user may send, in the long run."),
    key("rate_limits.messages_burst", "100", "Events that a user may send at once."),
    key("rate_limits.logins_per_s", "0.5", "Logins and registrations from one address, in the long run."),
    key("rate_limits.logins_burst", "20", "Logins and registrations from one address at once."),
    key("rooms.default_version", "\"12\"", "The version of new rooms: 10, 11 or 12."),
    key("rooms.public_list_without_auth", "false", "Whether the list of public rooms is shown without a login."),
    key("log.level", "\"info\"", "error, warn, info, debug or trace."),
    key("log.format", "\"text\"", "\"text\" or \"json\"."),
    key("log.file", "\"\"", "Where the log goes. Default: standard error."),
];

/// The annotated default file.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from("# Polity's settings, with their defaults.\n\n");
    let mut section = "";
    for Key { path, default, doc } in KEYS {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        if parent != section {
            section = parent;
            out.push_str(&format!("\n[{section}]\n"));
        }
        out.push_str(&format!("# {doc}\n{name} = {default}\n"));
    }
    out
}
