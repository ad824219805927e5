#![allow(clippy::unwrap_used)]
use rusqlite::Connection;

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
        self.open_with(key(1), &options()).unwrap()
    }

    /// Whatever a store may do, from now on the table takes no new row.
    pub(crate) fn refuse_rows(&self, table: &str) {
        self.execute(&format!(
            "CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
        ));
    }

    /// It does again.
    pub(crate) fn accept_rows(&self, table: &str) {
        self.execute(&format!("DROP TRIGGER refuse_{table}"));
    }

    /// The records of a kind cannot be decrypted any more.
    pub(crate) fn damage(&self, kind: &str) {
        self.execute(&format!(
            "UPDATE records SET sealed = zeroblob(100) WHERE kind = '{kind}'"
        ));
    }

    /// Past the store.
    fn execute(&self, sql: &str) {
        Connection::open(self.0.join(DATABASE))
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    /// Whose records have room for `max_bytes`.
    pub(crate) fn open_small(&self, max_bytes: u64) -> Store {
        let small = Options { max_bytes, ..options() };
        self.open_with(key(1), &small).unwrap()
    }

    fn open_with(&self, key: StorageKey, options: &Options) -> Result<Store, StoreError> {
        Store::open(&self.0, key, options)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Room for everything, and no waiting for the disk.
pub(crate) fn options() -> Options {
    Options {
        identity: Arc::new(Identity::from_seed(&[1; 32])),
        sync: Durability::Process,
        max_bytes: 1 << 30,
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
    let refused = scratch.open_with(key(2), &options()).unwrap_err();
    assert_eq!(refused, StoreError::WrongKey(scratch.path().to_owned()));
    assert!(scratch.open_with(key(1), &options()).is_ok());
}

#[test]
fn a_second_node_on_the_directory_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let refused = scratch.open_with(key(1), &options()).unwrap_err();
    assert_eq!(refused, StoreError::InUse(scratch.path().to_owned()));
    assert!(refused.to_string().contains("in use by another node"));
    drop(store);
    assert!(scratch.open_with(key(1), &options()).is_ok());
}

#[test]
fn a_later_schema_is_refused() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    connection
        .execute(
            "UPDATE meta SET value = ?1 WHERE name = 'schema'",
            [3_i64.to_le_bytes()],
        )
        .unwrap();
    drop(connection);
    assert!(matches!(
        scratch.open_with(key(1), &options()).unwrap_err(),
        StoreError::Newer(_, 3)
    ));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("node.db"), "x".repeat(10_000)).unwrap();
    let refused = scratch.open_with(key(1), &options()).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(..)), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("node.db is damaged") && text.contains("fdrtd restore"),
        "{text}"
    );
    // Nothing is written over.
    assert_eq!(
        std::fs::read(scratch.path().join("node.db")).unwrap(),
        "x".repeat(10_000).into_bytes()
    );
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
        store.send(Command::Commits(answer));
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
    for index in 0..3 * writer::MAX_BATCH {
        drop(store.put("kv", index.to_string(), vec![0; 1000], u64::MAX));
    }
    store.flush().await.unwrap();
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    let count: i64 = connection
        .query_row("SELECT count(*) FROM records", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 3 * writer::MAX_BATCH as i64);
}

impl Store {
    fn send(&self, command: Command) {
        match &self.kept {
            Kept::Disk(inner) => inner.send(command).unwrap(),
            Kept::Memory(_) => unreachable!("a store on the disk"),
        }
    }
}

fn note(action: &'static str) -> Note {
    Note::new(7, "token:anna", action, None, &serde_json::json!({"n": 1}))
}

/// What this program wrote when the schema had version 1: everything under the storage key itself, no audit.
fn version_1(scratch: &Scratch, records: &[(&str, &str, &[u8])]) {
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
             CREATE TABLE records (
                 kind TEXT NOT NULL, id TEXT NOT NULL, expires_at INTEGER NOT NULL, sealed BLOB NOT NULL,
                 PRIMARY KEY (kind, id)
             ) STRICT;
             CREATE INDEX records_by_expiry ON records (expires_at);",
        )
        .unwrap();
    let meta = |name: &str, value: &[u8]| {
        let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
        connection.execute(insert, rusqlite::params![name, value]).unwrap();
    };
    meta("schema", &1_i64.to_le_bytes());
    meta("key", &seal::seal_version_1(&key(1), "meta", "key", b"fdrtd"));
    for (kind, id, bytes) in records {
        let sealed = seal::seal_version_1(&key(1), kind, id, bytes);
        connection
            .execute(
                "INSERT INTO records (kind, id, sealed, expires_at) VALUES (?1, ?2, ?3, 99)",
                rusqlite::params![kind, id, sealed],
            )
            .unwrap();
    }
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_to_date() {
    let scratch = Scratch::new();
    version_1(
        &scratch,
        &[("kv", "a", b"one"), ("kv", "b", b"two"), ("task", "a", b"three")],
    );
    Connection::open(scratch.path().join("node.db"))
        .unwrap()
        .execute("UPDATE records SET sealed = x'0102' WHERE id = 'b'", [])
        .unwrap();
    let wrong = scratch.open_with(key(2), &options()).unwrap_err();
    assert_eq!(wrong, StoreError::WrongKey(scratch.path().to_owned()));
    for _ in 0..2 {
        let store = scratch.open();
        let loaded = store.load("kv").unwrap();
        assert_eq!(loaded.unreadable, 1);
        assert_eq!(
            (&*loaded.records[0].id, &loaded.records[0].bytes[..]),
            ("a", &b"one"[..])
        );
        assert_eq!(loaded.records[0].expires_at, 99);
        assert_eq!(store.load("task").unwrap().records[0].bytes[..], b"three"[..]);
        store.commit(Write::note(note("a"))).await.unwrap();
    }
    // Sealed in the new way now, and the audit has begun.
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    let query = "SELECT sealed FROM records WHERE kind = 'kv' AND id = 'a'";
    let sealed: Vec<u8> = connection.query_row(query, [], |row| row.get(0)).unwrap();
    assert!(seal::open_version_1(&key(1), "kv", "a", &sealed).is_none());
    assert_eq!(schema::version(&connection).unwrap(), Some(2));
    assert_eq!(log::head(&connection).unwrap().0, 2);
}

#[tokio::test]
async fn a_database_in_the_middle_of_its_migration_is_as_it_was() {
    let scratch = Scratch::new();
    version_1(&scratch, &[("kv", "a", b"one")]);
    // The audit's table is there already: what comes last fails.
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    connection.execute_batch("CREATE TABLE audit (x)").unwrap();
    assert!(scratch.open_with(key(1), &options()).is_err());
    let query = "SELECT sealed FROM records WHERE id = 'a'";
    let sealed: Vec<u8> = connection.query_row(query, [], |row| row.get(0)).unwrap();
    assert!(seal::open_version_1(&key(1), "kv", "a", &sealed).is_some());
    assert_eq!(schema::version(&connection).unwrap(), Some(1));
    connection.execute_batch("DROP TABLE audit").unwrap();
    drop(connection);
    assert_eq!(ids(&scratch.open(), "kv"), ["a"]);
}

#[tokio::test]
async fn a_write_and_its_entry_are_kept_together_or_not_at_all() {
    let scratch = Scratch::new();
    let small = Options {
        max_bytes: 1_000,
        ..options()
    };
    let store = scratch.open_with(key(1), &small).unwrap();
    let put = |id: &str, length| Write::put("kv", id.into(), vec![1; length], u64::MAX).noting([note("put")]);
    store.commit(put("a", 500)).await.unwrap();
    let full = store.commit(put("b", 500)).await.unwrap_err();
    assert!(matches!(full, StoreError::Full(_)), "{full:?}");
    assert_eq!(store.audit(0, 10).await.unwrap().len(), 1);
    assert_eq!(ids(&store, "kv"), ["a"]);
}

#[tokio::test]
async fn the_quota_counts_what_is_there() {
    let scratch = Scratch::new();
    let small = Options {
        max_bytes: 10_000,
        ..options()
    };
    let mut store = scratch.open_with(key(1), &small).unwrap();
    let full = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Full(_)));
    store.put("kv", "a".into(), vec![0; 4_000], 5).await.unwrap();
    store.put("kv", "b".into(), vec![0; 4_000], 9).await.unwrap();
    assert!(full(store.put("kv", "c".into(), vec![0; 4_000], 9).await));
    // In one batch, too: what fits is written, what does not is refused alone.
    let (first, second) = (
        store.put("kv", "d".into(), vec![0; 4_000], 9),
        store.put("kv", "e".into(), vec![0; 100], 9),
    );
    assert!(full(first.await));
    second.await.unwrap();
    // Shorter than before always fits, longer does not.
    assert!(full(store.put("kv", "a".into(), vec![0; 8_000], 5).await));
    store.put("kv", "a".into(), vec![0; 3_000], 5).await.unwrap();
    // After a restart the same.
    drop(store);
    store = scratch.open_with(key(1), &small).unwrap();
    assert!(full(store.put("kv", "c".into(), vec![0; 4_000], 9).await));
    store.delete("kv", "b".into()).await.unwrap();
    store.put("kv", "c".into(), vec![0; 4_000], 9).await.unwrap();
    assert!(full(store.put("kv", "f".into(), vec![0; 4_000], 9).await));
    assert_eq!(store.purge(5).await.unwrap(), 1);
    store.put("kv", "f".into(), vec![0; 4_000], 9).await.unwrap();
    // The end of a task is kept all the same.
    let beyond = Write::put("task", "t".into(), vec![0; 9_000], 9).beyond_the_quota();
    store.commit(beyond).await.unwrap();
    assert_eq!(ids(&store, "kv"), ["c", "e", "f"]);
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.put("kv", "a".into(), vec![1; 10_000], u64::MAX).await.unwrap();
    store.send(Command::FillDisk(1));
    // A small one beside it is written, an entry too: they fit into what the file has.
    let big = store.commit(Write::put("kv", "b".into(), vec![1; 1_000_000], u64::MAX).noting([note("big")]));
    let small = store.put("kv", "a".into(), b"smaller".to_vec(), u64::MAX);
    let refused = big.await.unwrap_err();
    assert_eq!(refused, StoreError::DiskFull);
    small.await.unwrap();
    let problem = Problem::from(refused);
    assert_eq!((problem.status, problem.code), (507, "STORAGE_FULL"));
    store.send(Command::FillDisk(1_000_000));
    store
        .commit(Write::put("kv", "b".into(), vec![1; 1_000_000], u64::MAX).noting([note("big")]))
        .await
        .unwrap();
    drop(store);
    let store = scratch.open();
    assert_eq!(store.load("kv").unwrap().records[0].bytes[..], b"smaller"[..]);
    assert_eq!(ids(&store, "kv"), ["a", "b"]);
    let entries = store.audit(0, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    crate::chain::Verifier::default().take(&entries[0]).unwrap();
}

#[tokio::test]
async fn damage_anywhere_is_noticed_at_the_start() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for id in 0..50 {
        store.put("kv", id.to_string(), vec![1; 5_000], u64::MAX).await.unwrap();
    }
    drop(store);
    let path = scratch.path().join("node.db");
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > 200_000);
    // Cut off, and a page of the tree overwritten.
    let mut overwritten = whole.clone();
    overwritten[4096..8192].fill(0x5a);
    for damaged in [&whole[..whole.len() / 2], &overwritten] {
        std::fs::write(&path, damaged).unwrap();
        let refused = scratch.open_with(key(1), &options()).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt(..)), "{refused:?}");
        assert!(std::fs::read(&path).unwrap() == *damaged);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(ids(&scratch.open(), "kv").len(), 50);
}

#[tokio::test]
async fn the_audit_is_append_only_and_goes_on_after_a_restart() {
    let scratch = Scratch::new();
    for _ in 0..3 {
        let store = scratch.open();
        for action in ["one", "two"] {
            drop(store.commit(Write::note(note(action))));
        }
        store.flush().await.unwrap();
    }
    let store = scratch.open();
    let entries = store.audit(0, 100).await.unwrap();
    let mut verifier = crate::chain::Verifier::new(Some(options().identity.key()));
    for entry in &entries {
        verifier.take(entry).unwrap();
    }
    assert_eq!(verifier.head().0, 6);
    assert_eq!(store.audit(4, 1).await.unwrap(), entries[4..5]);
    let connection = Connection::open(scratch.path().join("node.db")).unwrap();
    for statement in [
        "UPDATE audit SET who = 'x' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 6",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT seq + 7, time, who, action, task, detail, previous, hash, key, signature FROM audit WHERE seq = 1",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1",
    ] {
        let refused = connection.execute(statement, []).unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    assert_eq!(store.audit(0, 100).await.unwrap(), entries);
}

#[tokio::test]
async fn a_stopped_nodes_audit_can_be_continued() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.commit(Write::note(note("one"))).await.unwrap();
    let identity = options().identity;
    drop(store);
    append_locked(scratch.path(), identity, &note("two")).unwrap();
    let store = scratch.open();
    store.commit(Write::note(note("three"))).await.unwrap();
    let mut verifier = crate::chain::Verifier::default();
    for entry in store.audit(0, 10).await.unwrap() {
        verifier.take(&entry).unwrap();
    }
    assert_eq!(verifier.head().0, 3);
    let nowhere = append_locked(&scratch.path().join("nowhere"), options().identity, &note("x"));
    assert!(matches!(nowhere, Err(StoreError::File(..))));
}

#[tokio::test]
async fn an_ephemeral_node_has_its_audit_in_memory() {
    let store = Store::in_memory(options().identity);
    store
        .commit(Write::delete("kv", "a".into()).noting([note("one")]))
        .await
        .unwrap();
    drop(store.commit(Write::note(note("two"))));
    let entries = store.clone().audit(0, 10).await.unwrap();
    let mut verifier = crate::chain::Verifier::new(Some(options().identity.key()));
    for entry in &entries {
        verifier.take(entry).unwrap();
    }
    assert_eq!(store.audit(1, 10).await.unwrap(), entries[1..]);
    for _ in 0..10_000 {
        drop(store.commit(Write::note(note("more"))));
    }
    let last = store.audit(0, 100_000).await.unwrap();
    assert_eq!((last.len(), last[0].seq), (10_000, 3));
    assert!(Store::ephemeral().audit(0, 10).await.unwrap().is_empty());
}
