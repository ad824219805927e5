#![allow(clippy::unwrap_used)]
use super::*;

/// A directory of its own for a test, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let dir = std::env::temp_dir().join(format!("fdrtd-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&self.0, key(1)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn key(byte: u8) -> StorageKey {
    Zeroizing::new([byte; 32])
}

fn ids(store: &Store, kind: &'static str) -> Vec<String> {
    store
        .load(kind)
        .unwrap()
        .records
        .into_iter()
        .map(|record| record.id)
        .collect()
}

#[tokio::test]
async fn records_survive_a_restart() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.put("kv", "a".into(), b"one".to_vec(), 10).await.unwrap();
    store.put("kv", "b".into(), b"two".to_vec(), u64::MAX).await.unwrap();
    store.put("kv", "a".into(), b"three".to_vec(), 30).await.unwrap();
    store.put("result", "a".into(), b"four".to_vec(), 40).await.unwrap();
    store.delete("kv", "absent".into()).await.unwrap();
    drop(store);
    let loaded = scratch.open().load("kv").unwrap();
    assert_eq!(loaded.unreadable, 0);
    let found: Vec<_> = loaded
        .records
        .iter()
        .map(|record| (&*record.id, &record.bytes[..], record.expires_at))
        .collect();
    assert_eq!(found, [("a", &b"three"[..], 30), ("b", &b"two"[..], i64::MAX as u64)]);
}

#[tokio::test]
async fn the_last_clone_waits_for_the_queue() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for id in 0..10 {
        // The futures are dropped: the writes are queued all the same, and in this order.
        drop(store.put("kv", id.to_string(), b"x".to_vec(), 1));
    }
    drop(store.delete("kv", "3".into()));
    drop(store);
    assert_eq!(
        ids(&scratch.open(), "kv"),
        ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
    );
}

#[test]
fn another_key_is_refused() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let refused = Store::open(scratch.path(), key(2)).unwrap_err();
    assert_eq!(refused, StoreError::WrongKey(scratch.path().to_owned()));
    assert!(Store::open(scratch.path(), key(1)).is_ok());
}

#[test]
fn a_second_node_on_the_directory_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let refused = Store::open(scratch.path(), key(1)).unwrap_err();
    assert_eq!(refused, StoreError::InUse(scratch.path().to_owned()));
    assert!(refused.to_string().contains("in use by another node"));
    drop(store);
    assert!(Store::open(scratch.path(), key(1)).is_ok());
}

#[test]
fn a_later_schema_is_refused() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    connection
        .execute(
            "UPDATE meta SET value = ?1 WHERE name = 'schema'",
            [2_i64.to_le_bytes()],
        )
        .unwrap();
    drop(connection);
    assert!(matches!(
        Store::open(scratch.path(), key(1)).unwrap_err(),
        StoreError::Newer(_, 2)
    ));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("node.db"), "x".repeat(10_000)).unwrap();
    assert!(matches!(
        Store::open(scratch.path(), key(1)).unwrap_err(),
        StoreError::Database(_)
    ));
}

#[tokio::test]
async fn a_damaged_record_is_skipped() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for id in ["a", "b", "c", "d"] {
        store.put("kv", id.into(), b"4711".to_vec(), 1).await.unwrap();
    }
    drop(store);
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    connection
        .execute("UPDATE records SET sealed = x'00' WHERE id = 'b'", [])
        .unwrap();
    connection
        .execute(
            "UPDATE records SET sealed = (SELECT sealed FROM records WHERE id = 'a') WHERE id = 'c'",
            [],
        )
        .unwrap();
    drop(connection);
    let loaded = scratch.open().load("kv").unwrap();
    assert_eq!(loaded.unreadable, 2);
    assert_eq!(
        loaded.records.iter().map(|record| &*record.id).collect::<Vec<_>>(),
        ["a", "d"]
    );
}

#[tokio::test]
async fn a_hundred_queued_writes_are_one_commit() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let commits = || {
        // Without a buffer the writer stands still until the number is taken.
        let (answer, number) = mpsc::sync_channel(0);
        store.inner.as_ref().unwrap().send(Command::Commits(answer)).unwrap();
        number
    };
    let held = commits();
    let writes: Vec<_> = (0..100)
        .map(|id| tokio::spawn(store.put("kv", id.to_string(), b"x".to_vec(), 1)))
        .collect();
    let before = held.recv().unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(commits().recv().unwrap(), before + 1);
    assert_eq!(ids(&store, "kv").len(), 100);
}

#[tokio::test]
async fn purge_deletes_what_has_expired() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for (id, expires_at) in [("a", 99), ("b", 100), ("c", 101), ("d", u64::MAX)] {
        store.put("kv", id.into(), b"x".to_vec(), expires_at).await.unwrap();
    }
    assert_eq!(store.purge(100).await.unwrap(), 2);
    assert_eq!(store.purge(100).await.unwrap(), 0);
    assert_eq!(ids(&store, "kv"), ["c", "d"]);
}

#[tokio::test]
async fn nothing_plain_and_nothing_deleted_is_in_the_files() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let found = |bytes: &[u8]| {
        let files = std::fs::read_dir(scratch.path()).unwrap();
        let mut contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        contents.any(|content| content.windows(bytes.len()).any(|part| part == bytes))
    };
    store
        .put("kv", "name-of-it".into(), b"a private value".to_vec(), 1)
        .await
        .unwrap();
    assert!(found(b"name-of-it") && !found(b"private"));
    store.delete("kv", "name-of-it".into()).await.unwrap();
    // The log is shortened after the answer and before the next command.
    ids(&store, "kv");
    assert!(!found(b"name-of-it"));
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let store = scratch.open();
    store.put("kv", "a".into(), b"x".to_vec(), 1).await.unwrap();
    let mut names = Vec::new();
    for file in std::fs::read_dir(scratch.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            file.path()
        );
        names.push(file.file_name().into_string().unwrap());
    }
    assert!(names.contains(&"node.db".to_owned()) && names.contains(&"node.db-wal".to_owned()));
}

#[tokio::test]
async fn an_ephemeral_store_keeps_nothing() {
    let store = Store::ephemeral();
    assert!(store.is_ephemeral());
    store.put("kv", "a".into(), b"x".to_vec(), 1).await.unwrap();
    store.delete("kv", "a".into()).await.unwrap();
    assert_eq!(store.purge(u64::MAX).await.unwrap(), 0);
    assert!(ids(&store, "kv").is_empty());
}

#[test]
fn a_client_learns_no_path() {
    let problem = Problem::from(StoreError::InUse(PathBuf::from("/secret/path")));
    assert_eq!((problem.status, problem.code), (503, "STORAGE_FAILED"));
    assert!(!problem.body().to_string().contains("secret"));
}

#[tokio::test]
async fn a_flush_waits_for_what_was_queued() {
    let scratch = Scratch::new();
    let store = scratch.open();
    // More than one transaction takes, and nobody waits for any of it.
    for index in 0..3 * MAX_BATCH {
        drop(store.put("kv", index.to_string(), vec![0; 1000], u64::MAX));
    }
    store.flush().await.unwrap();
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    let count: i64 = connection
        .query_row("SELECT count(*) FROM records", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 3 * MAX_BATCH as i64);
}
