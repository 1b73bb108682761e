//! A text that no log shows and no memory keeps.

use std::{fmt, fs, path::Path};

use zeroize::Zeroize;

/// A secret of the file or of a file of its own. Its `Debug` says only whether there is one; its memory is overwritten at the end.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }

    /// Reads it from the file beside its key, if one is named. White space at the end of the file isn't part of it.
    pub(super) fn resolve(&mut self, file: &Path) -> Result<(), String> {
        if file.as_os_str().is_empty() {
            return Ok(());
        }
        if !self.is_empty() {
            return Err("the secret is given twice, here and in the file".to_owned());
        }
        let mut text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        self.0 = text.trim_end().to_owned();
        text.zeroize();
        if self.is_empty() { Err(format!("{}: the file is empty", file.display())) } else { Ok(()) }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(set)" })
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
