//! Where NATS is, and how a process shows who it is.

use std::path::PathBuf;

/// How to reach NATS.
#[derive(Debug, Clone, Default)]
pub struct NatsConfig {
    /// The servers: `nats://host:port`, or `tls://host:port`. One is picked, the others stand in when it fails.
    pub urls: Vec<String>,
    /// The first token of all subjects: clusters that share a NATS take different ones.
    pub prefix: String,
    /// The name under which the connection shows in NATS's own lists.
    pub name: String,
    /// Who this process is.
    pub credentials: Credentials,
    /// TLS beyond what the URLs ask for.
    pub tls: NatsTls,
}

/// How a process shows who it is.
#[derive(Clone, Default)]
pub enum Credentials {
    /// It doesn't.
    #[default]
    None,
    /// A name and a password.
    Password(String, String),
    /// A shared token.
    Token(String),
    /// A `.creds` file with a JWT and its NKey, read for each connection.
    File(PathBuf),
}

/// TLS towards NATS. The files are read for each connection.
#[derive(Debug, Clone, Default)]
pub struct NatsTls {
    /// Refuses a server that doesn't speak it.
    pub required: bool,
    /// A CA, in PEM, that is trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key, in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for Credentials {
    // Secrets stay out of logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Password(..) => "Password",
            Self::Token(_) => "Token",
            Self::File(_) => "File",
        })
    }
}
