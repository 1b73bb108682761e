//! A `.creds` file: a JWT that says who a user is, and the key that proves it. Read whenever a connection is made, so that one that
//! was replaced counts from the next connection on.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_nats::{Auth, AuthError};
use nkeys::KeyPair;

/// What such a file holds.
pub(crate) struct User {
    jwt: String,
    key: KeyPair,
}

// === impl User ===

impl User {
    /// Reads a file.
    pub(crate) async fn read(path: &Path) -> io::Result<Self> {
        let text = tokio::fs::read_to_string(path).await?;
        let part = |name| {
            let found = section(&text, name);
            found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("there is no {name} in it")))
        };
        let key = KeyPair::from_seed(part("USER NKEY SEED")?);
        Ok(Self {
            jwt: part("NATS USER JWT")?.to_owned(),
            key: key.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        })
    }

    /// The answer to a server's challenge.
    fn answer(self, nonce: &[u8]) -> Result<Auth, nkeys::error::Error> {
        let mut auth = Auth::new();
        auth.signature = Some(self.key.sign(nonce)?);
        auth.jwt = Some(self.jwt);
        Ok(auth)
    }
}

/// Who this process is, by the file as it is now.
pub(crate) async fn answer(path: PathBuf, nonce: Vec<u8>) -> Result<Auth, AuthError> {
    let unusable = |error: &dyn std::fmt::Display| {
        tracing::warn!(path = %path.display(), %error, "bus.nats.credentials_file can't be used; it is read again");
        AuthError::new(error)
    };
    let user = User::read(&path).await.map_err(|error| unusable(&error))?;
    user.answer(&nonce).map_err(|error| unusable(&error))
}

/// The line between `-----BEGIN NAME-----` and the end of that section.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = |line: &&str| line.starts_with("---") && line.contains("BEGIN") && line.contains(name);
    let line = text.lines().skip_while(|line| !begin(line)).nth(1)?.trim();
    (!line.is_empty() && !line.starts_with('-')).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_their_names() {
        let text = "-----BEGIN NATS USER JWT-----\r\nabc.def-\r\n------END NATS USER JWT------\r\n\n*** IMPORTANT ***\n\
                    -----BEGIN USER NKEY SEED-----\nSUA\n------END USER NKEY SEED------\n";
        assert_eq!(section(text, "NATS USER JWT"), Some("abc.def-"));
        assert_eq!(section(text, "USER NKEY SEED"), Some("SUA"));
        for without in
            ["", "SUA", "-----BEGIN USER NKEY SEED-----", "---BEGIN USER NKEY SEED---\n---END USER NKEY SEED---"]
        {
            assert_eq!(section(without, "USER NKEY SEED"), None, "{without:?}");
        }
    }
}
