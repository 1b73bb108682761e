//! Passwords: argon2id, off the threads that serve requests, a few at a time.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::Error;

/// Passwords hashed at once: each takes some 20 MiB and a core.
const AT_ONCE: usize = 2;
/// Logins that may wait for that.
const WAITING: usize = 256;

/// Makes and checks hashes.
#[derive(Clone)]
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    /// Hashing takes no time that matters: no other thread is needed.
    cheap: bool,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Checked for users that don't exist, so that they take as long.
    decoy: Arc<str>,
}

impl Passwords {
    /// `cheap` is for tests only.
    pub(crate) fn new(cheap: bool) -> Result<Self, Error> {
        // OWASP's recommendation for argon2id: 19 MiB, two passes.
        let params = if cheap { Params::new(8, 1, 1, None) } else { Params::new(19 * 1024, 2, 1, None) };
        let params = params.map_err(|error| Error::Internal(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash(&argon2, "decoy")?.into();
        Ok(Self {
            argon2,
            cheap,
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            decoy,
        })
    }

    pub(crate) async fn hash(&self, password: String) -> Result<String, Error> {
        let argon2 = self.argon2.clone();
        self.off_thread(move || hash(&argon2, &password)).await?
    }

    /// Whether the password is the hash's. Takes as long without a hash.
    pub(crate) async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, Error> {
        let (argon2, decoy) = (self.argon2.clone(), Arc::clone(&self.decoy));
        self.off_thread(move || {
            let exists = stored.is_some();
            let text = stored.as_deref().unwrap_or(&decoy);
            let parsed = PasswordHash::new(text).map_err(|error| Error::Internal(error.to_string()))?;
            Ok(argon2.verify_password(password.as_bytes(), &parsed).is_ok() && exists)
        })
        .await?
    }

    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        if self.cheap {
            return Ok(work());
        }
        let _waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Error::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Error::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let _running = running;
            work()
        });
        done.await.map_err(|error| Error::Internal(error.to_string()))
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String, Error> {
    let hash = argon2.hash_password(password.as_bytes()).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(hash.to_string())
}
