//! A temporary folder that goes with its owner, also when nobody is left to remove it.

use std::{
    path::{Path, PathBuf},
    process::Child,
};

use tempfile::TempDir;

use super::process::guardian;

/// Removes the folder that it is given once its input ends, and what is in it has had the time to end, too.
const REMOVES: &str = "cat >/dev/null; sleep 2; rm -rf \"$0\"";

/// See the module.
pub struct Folder {
    folder: Option<TempDir>,
    path: PathBuf,
    guardian: Child,
}

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When there is no place for it.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_path_buf();
        Self { guardian: guardian(REMOVES, path.as_os_str()), path, folder: Some(folder) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it where it is, for somebody to look into.
    pub fn keep(&mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_goes_with_its_owner_or_stays_when_it_is_kept() {
        let (folder, mut kept) = (Folder::new(), Folder::new());
        let (gone, there) = (folder.path().to_owned(), kept.path().to_owned());
        kept.keep();
        drop((folder, kept));
        assert!(!gone.exists() && there.exists());
        std::fs::remove_dir(there).expect("an empty folder");
    }

    #[test]
    fn it_goes_when_its_owners_process_is_gone() {
        let mut folder = Folder::new();
        // What the system does with the pipe when a process ends.
        drop(folder.guardian.stdin.take());
        let began = Instant::now();
        while folder.path().exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
