//! Looks at a store's files before the engine does.
//!
//! The engine takes whatever it can't read at a journal's end for a write that a crash has cut, and cuts it off; it makes anew what is
//! missing, and removes what nothing refers to. After a crash that is right. After damage it would destroy what was acknowledged: so
//! damage is told apart here, and nothing is touched then.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::acknowledged;

/// The engine's names for its files.
const VERSION: &str = "version";
const LOCK: &str = "lock";
const KEYSPACES: &str = "keyspaces";
const CURRENT: &str = "current";
const TABLES: &str = "tables";
const JOURNAL: &str = "jnl";

/// A journal's entries: <https://docs.rs/fjall>, version 3. A batch is a start, its items, and an end with these last bytes.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8; 4] = b"FJL\x03";
/// What a crash of the machine leaves unwritten, it leaves in whole pages.
const PAGE: u64 = 4096;
const CHUNK: usize = 64 * 1024;
static ZEROES: [u8; CHUNK] = [0; CHUNK];

/// Why the engine may not open it.
#[derive(Debug)]
pub(crate) enum Fault {
    InUse,
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Fails if the engine would do harm. Finishes what a crash during the making of a store has left. `noted`: how many synced writes
/// there were at least.
pub(crate) fn inspect(path: &Path, noted: u64) -> Result<(), Fault> {
    if !path.try_exists()? {
        return Ok(());
    }
    let lost = |writes: u64| Fault::Damaged(format!("{writes} writes that were acknowledged are missing"));
    check_lock(&path.join(LOCK))?;
    let journals = journals(path)?;
    if !path.join(VERSION).try_exists()? {
        return unmade(path, &journals);
    }
    let (trees, headless) = trees(path)?;
    if let Some(tree) = headless.first() {
        return Err(Fault::Damaged(format!("{} has files but doesn't say which", tree.display())));
    }
    if !trees.is_empty() && !trees.iter().any(|tree| tree.ends_with("0")) {
        return Err(Fault::Damaged("the list of its tables is missing".to_owned()));
    }
    if noted > 0 && journals.is_empty() {
        return Err(Fault::Damaged("its journal is missing".to_owned()));
    }
    let mut newest = 0;
    for (at, journal) in journals.iter().enumerate() {
        let damage = scan(journal, at + 1 == journals.len(), &mut newest)?;
        if let Some(at) = damage {
            let name = journal.file_name().unwrap_or_default().display();
            return Err(Fault::Damaged(format!("{name} can't be read from byte {at} on, but goes on after that")));
        }
    }
    // Journals that hold no number may have been emptied into tables: those are asked once they are open.
    if newest > 0 && newest < noted { Err(lost(noted - newest)) } else { Ok(()) }
}

fn check_lock(lock: &Path) -> Result<(), Fault> {
    match File::options().read(true).write(true).open(lock) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => Err(Fault::InUse),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The journals, oldest first; the last one is written to.
fn journals(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == JOURNAL) {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let number = number.ok_or_else(|| Fault::Damaged(format!("{} is no journal's name", path.display())))?;
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The trees that say what they hold, and those that hold something without saying so.
fn trees(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Fault> {
    let (mut whole, mut headless) = (Vec::new(), Vec::new());
    for tree in entries(&path.join(KEYSPACES))? {
        if tree.join(CURRENT).try_exists()? {
            whole.push(tree);
        } else if !entries(&tree.join(TABLES))?.is_empty() {
            headless.push(tree);
        }
    }
    Ok((whole, headless))
}

/// What is in a folder, if there is one.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The version file is written last: without it the store was never used, or is damaged.
fn unmade(path: &Path, journals: &[PathBuf]) -> Result<(), Fault> {
    let missing = || Fault::Damaged("its version file is missing".to_owned());
    let (trees, headless) = trees(path)?;
    if !trees.is_empty() || !headless.is_empty() {
        return Err(missing());
    }
    for journal in journals {
        if rest_ends_at(&mut BufReader::new(File::open(journal)?), 0)? != 0 {
            return Err(missing());
        }
    }
    // An empty journal of the first start, which was cut: in the way of the next.
    for journal in journals {
        fs::remove_file(journal)?;
    }
    Ok(())
}

/// Where a journal is damaged, if it is. What a crash cut off at the end of the last one is no damage.
fn scan(journal: &Path, is_last: bool, newest: &mut u64) -> Result<Option<u64>, Fault> {
    let mut reader = BufReader::with_capacity(CHUNK, File::open(journal)?);
    let mut whole = 0;
    while let Some(number) = batch(&mut reader)? {
        whole = reader.stream_position()?;
        *newest = number.unwrap_or(*newest);
    }
    let end = rest_ends_at(&mut reader, whole)?;
    if end == whole || (is_last && is_cut_off(&mut reader, whole, end)?) { Ok(None) } else { Ok(Some(whole)) }
}

/// Passes one whole batch and gives the number of the synced write that it is, if it is one; none: there is no whole batch.
fn batch(reader: &mut BufReader<File>) -> io::Result<Option<Option<u64>>> {
    match try_batch(reader) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read,
    }
}

fn try_batch(reader: &mut BufReader<File>) -> io::Result<Option<Option<u64>>> {
    let [tag] = bytes(reader)?;
    if tag != START {
        return Ok(None);
    }
    let items = u32::from_le_bytes(bytes(reader)?);
    let _number: [u8; 8] = bytes(reader)?;
    let mut synced = None;
    for _ in 0..items {
        match bytes(reader)? {
            [ITEM] => synced = item(reader)?.or(synced),
            [CLEAR] => {
                let _tree: [u8; 8] = bytes(reader)?;
            }
            _ => return Ok(None),
        }
    }
    let end: [u8; 13] = bytes(reader)?;
    Ok((end[0] == END && end[9..] == *MAGIC).then_some(synced))
}

/// Passes one item; the number of synced writes, if it is that.
fn item(reader: &mut BufReader<File>) -> io::Result<Option<u64>> {
    // The kind of write, the compression, the tree.
    let _head: [u8; 10] = bytes(reader)?;
    let key = u16::from_le_bytes(bytes(reader)?);
    let _length: [u8; 4] = bytes(reader)?;
    let stored = u32::from_le_bytes(bytes(reader)?);
    if usize::from(key) == acknowledged::KEY.len() && stored == 8 {
        let key: [u8; acknowledged::KEY.len()] = bytes(reader)?;
        let number = u64::from_be_bytes(bytes(reader)?);
        return Ok((key == acknowledged::KEY).then_some(number));
    }
    reader.seek_relative(i64::from(key) + i64::from(stored))?;
    Ok(None)
}

fn bytes<const N: usize>(reader: &mut BufReader<File>) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Where the last byte after `begin` that isn't zero ends: the file is made longer than what is written.
fn rest_ends_at(reader: &mut BufReader<File>, begin: u64) -> io::Result<u64> {
    let (mut at, mut end) = (reader.seek(SeekFrom::Start(begin))?, begin);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(end);
        }
        let length = chunk.len();
        // Most are empty: told at the speed of memory.
        if *chunk != ZEROES[..length] {
            end = at + chunk.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        }
        reader.consume(length);
        at += length as u64;
    }
}

/// Whether a crash explains what stands between `begin` and `end`. A process that was killed leaves the beginning of one batch. A machine
/// may have written later pages and not earlier ones, which are empty then.
fn is_cut_off(reader: &mut BufReader<File>, begin: u64, end: u64) -> io::Result<bool> {
    reader.seek(SeekFrom::Start(begin))?;
    let mut rest = Vec::new();
    reader.take(end - begin).read_to_end(&mut rest)?;
    let ends = |at: usize| rest[at] == END && rest[at + 9..].starts_with(MAGIC);
    let Some(last) = (0..rest.len().saturating_sub(12)).rev().find(|at| ends(*at)) else { return Ok(true) };
    let skew = usize::try_from(begin.next_multiple_of(PAGE) - begin).unwrap_or(usize::MAX);
    let mut pages = rest.get(skew..last).unwrap_or_default().chunks_exact(4096);
    Ok(pages.any(|page| page.iter().all(|byte| *byte == 0)))
}
