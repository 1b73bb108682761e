//! How many synced writes there were, kept beside the store: what was cut off a store, it can't tell itself.
//!
//! An end of a journal that makes no sense is what a crash leaves in the middle of a write, and is cut off at the next start. The
//! same happens to a journal that was damaged later, or is gone, and then acknowledged writes go with it. So each synced batch
//! carries its number, and that number is noted in a file of its own after the sync and before anybody hears of the write. The
//! note isn't synced (after a power cut it may be old), but it is never ahead: a store with fewer writes than noted has lost some.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The key of the number within the store. No table has the number 0.
pub(crate) const KEY: [u8; 1] = [0];
const NAME: &str = "acknowledged";
/// The number and its complement, so that a damaged note is told from a damaged store.
const LEN: usize = 16;

/// The note of a store in use.
pub(crate) struct Acknowledged(File);

/// What the note of the store in a folder says; nothing of a new one.
pub(crate) fn read(folder: &Path) -> io::Result<u64> {
    let bytes = match std::fs::read(folder.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if bytes.is_empty() {
        // Made, and then the power was cut.
        return Ok(0);
    }
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("the file {NAME} is damaged"));
    let whole: [u8; LEN] = bytes.try_into().map_err(|_| damaged())?;
    let number = u128::from_le_bytes(whole);
    let (number, complement) = ((number & u128::from(u64::MAX)) as u64, (number >> 64) as u64);
    if complement == !number { Ok(number) } else { Err(damaged()) }
}

impl Acknowledged {
    /// Opens the note in a folder, or makes it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(NAME))?;
        Ok(Self(file))
    }

    /// Notes that so many synced writes are done.
    pub(crate) fn note(&self, number: u64) -> io::Result<()> {
        let whole = u128::from(number) | u128::from(!number) << 64;
        self.0.write_all_at(&whole.to_le_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_a_damaged_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), 0);
        let note = Acknowledged::open(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), 0);
        for number in [1, 255, 1 << 40] {
            note.note(number).unwrap();
            assert_eq!(read(folder.path()).unwrap(), number);
        }
        let path = folder.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, &bytes[..7]).unwrap();
        assert!(read(folder.path()).is_err());
    }
}
