//! A store that is damaged, in use, out of reach or out of room: one clear error, and nothing overwritten.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use polity_core::{SystemClock, SystemRandom};
use polity_store::{
    Bounds, Consistency, Durability, Row, Store, StoreError, Values, Write, WriteKind, schema, values_of,
};
use polity_store_local::{LocalStore, OpenError, Options};

fn open(path: &Path) -> Result<Arc<LocalStore>, OpenError> {
    let options = Options { write_buffer_bytes: 64 << 10, ..Options::default() };
    LocalStore::open(path, &options, Arc::new(SystemClock::new()), &SystemRandom)
}

fn filter(number: usize) -> Write {
    let value: Vec<u8> = (0..1000).map(|at| (number * 31 + at * 7) as u8).collect();
    Write {
        table: &schema::FILTERS,
        partition: values_of![1_i64, "@a:x"],
        row: Row::new(values_of![format!("{number:06}")], value.into()),
        kind: WriteKind::Plain { ttl_s: 0 },
    }
}

async fn fill(store: &dyn Store, numbers: std::ops::Range<usize>) {
    for number in numbers {
        store.put(vec![filter(number)], Durability::Acknowledged).await.unwrap();
    }
}

/// How many of the rows are there, from the first one without a gap.
async fn count(store: &dyn Store) -> Result<usize, StoreError> {
    let (mut rows, mut bounds) = (Vec::new(), Bounds::all());
    loop {
        let partition: Values = values_of![1_i64, "@a:x"];
        let page = store.scan(&schema::FILTERS, partition, bounds, 100, Consistency::Quorum).await?;
        rows.extend(page.rows);
        match rows.last() {
            Some(last) if page.more => {
                bounds = Bounds { from: std::ops::Bound::Excluded(last.key.clone()), ..Bounds::all() };
            }
            _ => break,
        }
    }
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(*row, filter(number).row);
    }
    Ok(rows.len())
}

fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

/// The error of opening, which leaves every file as it was.
fn refused(path: &Path) -> OpenError {
    let before = files(path);
    let error = open(path).err().expect("a refusal");
    assert!(files(path) == before, "files were changed by: {error}");
    assert!(!error.to_string().contains('\n') && error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

fn journal(path: &Path) -> PathBuf {
    files(path).into_keys().rfind(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap()
}

#[tokio::test]
async fn a_store_in_use_or_out_of_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open(&path).unwrap();
    fill(&*store, 0..3).await;
    assert!(matches!(refused(&path), OpenError::InUse(_)));
    drop(store);
    assert_eq!(count(&*open(&path).unwrap()).await.unwrap(), 3);
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(matches!(open(&file.join("store")), Err(OpenError::Io { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[tokio::test]
async fn a_journal_that_is_damaged_before_its_end_is_not_cut_off_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fill(&*open(&path).unwrap(), 0..20).await;
    let journal = journal(&path);
    let whole = fs::read(&journal).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let whole = &whole[..end];
    // Anywhere: in a head, a length, a key, a value, a checksum.
    for at in (0..end - 2000).step_by(461) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x5a;
        fs::write(&journal, bytes).unwrap();
        match open(&path) {
            Err(OpenError::Damaged { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
            // A byte that says nothing (of what is in a file already).
            Ok(store) => assert_eq!(count(&*store).await.unwrap(), 20, "byte {at}"),
        }
    }
    fs::write(&journal, whole).unwrap();
    assert_eq!(count(&*open(&path).unwrap()).await.unwrap(), 20);
}

#[tokio::test]
async fn what_a_crash_cut_off_is_cut_off_and_the_rest_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let noted = path.join("acknowledged");
    let store = open(&path).unwrap();
    fill(&*store, 0..19).await;
    let before_the_last = fs::read(&noted).unwrap();
    fill(&*store, 19..20).await;
    let after_the_last = fs::read(&noted).unwrap();
    drop(store);
    let journal = journal(&path);
    let whole = fs::read(&journal).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for missing in [1, 5, 13, 500, 900] {
        // Of a write that was acknowledged nothing may be missing.
        fs::write(&noted, &after_the_last).unwrap();
        fs::write(&journal, &whole[..end - missing]).unwrap();
        assert!(matches!(refused(&path), OpenError::Damaged { .. }));
        fs::write(&noted, &before_the_last).unwrap();
        // Also what stands behind it in a file that was made longer beforehand.
        let mut bytes = whole[..end - missing].to_vec();
        bytes.resize(end + 100_000, 0);
        fs::write(&journal, bytes).unwrap();
        assert_eq!(count(&*open(&path).unwrap()).await.unwrap(), 19, "{missing} bytes missing");
    }
}

#[tokio::test]
async fn a_journal_that_is_lost_whole_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fill(&*open(&path).unwrap(), 0..20).await;
    let journal = journal(&path);
    let whole = fs::read(&journal).unwrap();
    for lost in [Vec::new(), vec![0; whole.len()], vec![0xff; whole.len()]] {
        fs::write(&journal, lost).unwrap();
        assert!(matches!(open(&path), Err(OpenError::Damaged { .. })));
        fs::write(&journal, &whole).unwrap();
    }
    fs::remove_file(&journal).unwrap();
    assert!(matches!(refused(&path), OpenError::Damaged { .. }));
    fs::write(&journal, &whole).unwrap();
    assert_eq!(count(&*open(&path).unwrap()).await.unwrap(), 20);
}

#[tokio::test]
async fn missing_and_garbled_files_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    {
        let store = open(&path).unwrap();
        fill(&*store, 0..2000).await;
    }
    let whole = files(&path);
    let tables: Vec<&PathBuf> =
        whole.keys().filter(|path| path.parent().is_some_and(|p| p.ends_with("tables"))).collect();
    assert!(tables.iter().any(|path| path.to_str().unwrap().contains("/1/")), "{tables:?}");
    for missing in [path.join("version"), path.join("keyspaces/0/current"), path.join("keyspaces/1/current")] {
        let content = fs::read(&missing).unwrap();
        fs::remove_file(&missing).unwrap();
        let error = refused(&path);
        assert!(matches!(error, OpenError::Damaged { .. }), "{}: {error}", missing.display());
        fs::write(&missing, content).unwrap();
    }
    fs::write(path.join("version"), b"FJL\x63").unwrap();
    assert!(matches!(refused(&path), OpenError::Format { .. } | OpenError::Damaged { .. }));
    fs::write(path.join("version"), &whole[&path.join("version")]).unwrap();
    for table in tables {
        for garbled in [whole[table][..whole[table].len() / 2].to_vec(), garble(&whole[table])] {
            fs::write(table, garbled).unwrap();
            match open(&path) {
                Err(OpenError::Damaged { .. }) => {}
                Err(other) => panic!("{}: {other}", table.display()),
                Ok(store) => match count(&*store).await {
                    Err(StoreError::Corrupt { .. }) => {}
                    other => assert_eq!(other.unwrap(), 2000, "{}", table.display()),
                },
            }
            fs::write(table, &whole[table]).unwrap();
        }
    }
}

fn garble(bytes: &[u8]) -> Vec<u8> {
    let (mut bytes, middle) = (bytes.to_vec(), bytes.len() / 2);
    bytes[middle..].iter_mut().take(64).for_each(|byte| *byte ^= 0xff);
    bytes
}

#[tokio::test]
async fn the_first_start_may_be_cut_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::create_dir_all(path.join("keyspaces")).unwrap();
    fs::write(path.join("lock"), "").unwrap();
    fs::write(path.join("0.jnl"), vec![0; 70_000]).unwrap();
    let store = open(&path).unwrap();
    fill(&*store, 0..3).await;
    assert_eq!(count(&*store).await.unwrap(), 3);
}

/// Ends a mount when the test does.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Runs a test again as root of a namespace of its own, where anybody may mount.
fn in_a_namespace(test: &str, why: &str) {
    const INSIDE: &str = "POLITY_IN_A_NAMESPACE";
    assert!(std::env::var_os(INSIDE).is_none(), "a small file system can't be mounted, not even in a namespace: {why}");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap()).args(["--exact", test]);
    let output = again.env(INSIDE, "1").output().expect("unshare, for who isn't root");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{why}; {output:?}");
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path()).output();
    if !mount.as_ref().is_ok_and(|output| output.status.success()) {
        return in_a_namespace("a_full_disk_is_said_and_loses_nothing_acknowledged", &format!("{mount:?}"));
    }
    let _mounted = Mounted(folder.path().to_path_buf());
    let path = folder.path().join("store");
    let store = open(&path).unwrap();
    let mut written = 0;
    let failed = loop {
        match store.put(vec![filter(written)], Durability::Acknowledged).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk isn't full");
    };
    assert!(matches!(failed, StoreError::Unknown(_) | StoreError::Unavailable(_)), "{failed}");
    let reason = tokio::time::timeout(Duration::from_secs(5), store.failed()).await.unwrap();
    assert!(!reason.is_empty());
    for _ in 0..3 {
        let refused = store.put(vec![filter(written)], Durability::Acknowledged).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert!(count(&*store).await.unwrap() >= written);
    let began = std::time::Instant::now();
    drop(store);
    assert!(began.elapsed() < Duration::from_secs(5), "it ends");
    let remount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "remount,size=64m", "tmpfs"]).arg(folder.path()).status();
    assert!(remount.unwrap().success());
    let store = open(&path).unwrap();
    assert!(count(&*store).await.unwrap() >= written, "{written} were acknowledged");
    fill(&*store, written..written + 3).await;
}
