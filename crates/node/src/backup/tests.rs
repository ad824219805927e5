#![allow(clippy::unwrap_used)]
use super::*;
use crate::chain::Verifier;
use crate::store::tests::{Scratch, options};
use crate::store::{Options, Store};

/// A data directory with an identity, a key and some records.
async fn directory(scratch: &Scratch) -> (PathBuf, Store) {
    let dir = scratch.path().join("data");
    make_directory(&dir).unwrap();
    let options = Options {
        identity: Arc::new(Identity::open(&dir).unwrap()),
        ..options()
    };
    let store = Store::open(&dir, load_or_create_key(&dir.join(STORAGE_KEY)).unwrap(), &options).unwrap();
    fs::copy(dir.join(KEY_FILE), dir.join("operator.token")).unwrap();
    for id in 0..20 {
        store
            .put("kv", id.to_string(), format!("value {id}").into_bytes(), u64::MAX)
            .await
            .unwrap();
    }
    note(&store, "before").await;
    (dir, store)
}

async fn note(store: &Store, action: &'static str) {
    let audit = Audit::new(store.clone());
    let who = Principal::operator();
    audit.noted(&who, action, None, &serde_json::json!({})).await.unwrap();
}

fn open(dir: &Path, key_file: &Path) -> Store {
    let options = Options {
        identity: Arc::new(Identity::open(dir).unwrap()),
        ..options()
    };
    Store::open(dir, load_or_create_key(key_file).unwrap(), &options).unwrap()
}

fn ids(store: &Store) -> usize {
    store.load("kv").unwrap().records.len()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_beside_a_running_node_comes_back() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    let file = scratch.path().join("backup");
    let header = backup(&dir, &dir.join(STORAGE_KEY), &file, true).unwrap();
    assert!(header.has_key());
    // After the backup: gone with the old directory.
    store.put("kv", "late".into(), b"x".to_vec(), u64::MAX).await.unwrap();
    store.delete("kv", "0".into()).await.unwrap();
    note(&store, "after").await;
    assert!(matches!(
        restore(&file, &dir, None, true),
        Err(BackupError::Store(StoreError::InUse(_)))
    ));
    drop(store);
    assert!(matches!(
        restore(&file, &dir, None, false),
        Err(BackupError::NotEmpty(_))
    ));
    let restored = restore(&file, &dir, None, true).unwrap();
    assert_eq!(restored.header, header);
    assert!(restored.key_inside);
    let aside = restored.replaced.unwrap();
    assert_eq!(ids(&open(&aside, &aside.join(STORAGE_KEY))), 20);
    let store = open(&dir, &dir.join(STORAGE_KEY));
    assert_eq!(ids(&store), 20, "what was deleted is back, what came later is gone");
    note(&store, "on").await;
    let entries = store.audit(0, 10).await.unwrap();
    let mut verifier = Verifier::new(Some(header.key));
    entries.iter().for_each(|entry| verifier.take(entry).unwrap());
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["before", "node.restore", "on"]);
    assert_eq!(entries[1].detail["backup"], header.time);
    assert!(dir.join("operator.token").exists());
    // Nothing is left lying about.
    assert_eq!(names(scratch.path()).len(), 3, "{:?}", names(scratch.path()));
}

#[tokio::test]
async fn without_the_key_the_backup_needs_it() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    drop(store);
    let elsewhere = scratch.path().join("elsewhere.key");
    fs::copy(dir.join(STORAGE_KEY), &elsewhere).unwrap();
    let file = scratch.path().join("backup");
    let header = backup(&dir, &elsewhere, &file, false).unwrap();
    assert!(!header.has_key());
    let key = fs::read(&elsewhere).unwrap();
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(32).any(|part| part == key));
    let new = scratch.path().join("new");
    assert!(matches!(restore(&file, &new, None, false), Err(BackupError::NoKey(_))));
    let other = scratch.path().join("other.key");
    load_or_create_key(&other).unwrap();
    assert!(matches!(
        restore(&file, &new, Some(&other), false),
        Err(BackupError::Damaged(_))
    ));
    assert!(!new.exists());
    let restored = restore(&file, &new, Some(&elsewhere), false).unwrap();
    assert!(!restored.key_inside && restored.replaced.is_none());
    assert!(!new.join(STORAGE_KEY).exists());
    assert_eq!(ids(&open(&new, &elsewhere)), 20);
    // In place, the key that lies there is taken along.
    assert!(restore(&file, &dir, None, true).unwrap().key_inside);
    assert_eq!(ids(&open(&dir, &dir.join(STORAGE_KEY))), 20);
}

#[tokio::test]
async fn every_changed_byte_and_every_cut_is_noticed_and_nothing_is_replaced() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    drop(store);
    let file = scratch.path().join("backup");
    backup(&dir, &dir.join(STORAGE_KEY), &file, false).unwrap();
    let whole = fs::read(&file).unwrap();
    let header_end = 17 + usize::try_from(u32::from_le_bytes(whole[13..17].try_into().unwrap())).unwrap();
    let before = names(&dir);
    let attempt = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        restore(&file, &dir, None, true).unwrap_err()
    };
    let places = (0..header_end)
        .chain((header_end..whole.len()).step_by(997))
        .chain(whole.len() - 40..whole.len());
    for place in places {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        attempt(&changed);
    }
    for length in (0..whole.len()).step_by(1499).chain([whole.len() - 1]) {
        attempt(&whole[..length]);
    }
    attempt(&[&whole[..], &[0]].concat());
    assert_eq!(names(&dir), before);
    assert_eq!(names(scratch.path()), ["backup", "data"]);
    fs::write(&file, &whole).unwrap();
    restore(&file, &dir, None, true).unwrap();
}

/// A backup with such a header and a tag that holds.
fn forge(scratch: &Scratch, key: &StorageKey, header: &str, content: &[u8]) -> PathBuf {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content);
    let tag = blake3::keyed_hash(&store::authenticator(key).unwrap(), &bytes);
    bytes.extend_from_slice(tag.as_bytes());
    let file = scratch.path().join("forged");
    fs::write(&file, bytes).unwrap();
    file
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    drop(store);
    let key = load_or_create_key(&dir.join(STORAGE_KEY)).unwrap();
    let identity = Identity::open(&dir).unwrap().key();
    for name in ["../x", "/x", "a/b", ".hidden", "", "node.db", "identity.key", "a\u{0}b"] {
        let header = serde_json::json!({
            "version": 1, "time": 1, "fdrtd": "0", "key": identity,
            "files": [{"name": "node.db", "bytes": 1}, {"name": "identity.key", "bytes": 1}, {"name": name, "bytes": 1}],
        });
        let file = forge(&scratch, &key, &header.to_string(), b"abc");
        let refused = restore(&file, &scratch.path().join("new"), Some(&dir.join(STORAGE_KEY)), false);
        assert!(matches!(refused, Err(BackupError::Damaged(_))), "{name:?}");
    }
    let later = forge(&scratch, &key, "{\"version\": 2}", b"");
    assert!(matches!(
        restore(&later, &scratch.path().join("new"), None, false),
        Err(BackupError::Newer(_, 2))
    ));
    fs::write(scratch.path().join("text"), "not a backup").unwrap();
    assert!(matches!(
        restore(&scratch.path().join("text"), &scratch.path().join("new"), None, false),
        Err(BackupError::NoBackup(_))
    ));
}

#[tokio::test]
async fn a_backup_whose_audit_is_broken_is_not_restored() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    note(&store, "more").await;
    drop(store);
    let connection = rusqlite::Connection::open(dir.join(DATABASE)).unwrap();
    connection
        .execute_batch("DROP TRIGGER audit_is_not_changed; UPDATE audit SET who = 'x' WHERE seq = 1")
        .unwrap();
    drop(connection);
    let file = scratch.path().join("backup");
    backup(&dir, &dir.join(STORAGE_KEY), &file, true).unwrap();
    let refused = restore(&file, &scratch.path().join("new"), None, false).unwrap_err();
    assert!(refused.to_string().contains("entry 1"), "{refused}");
}

#[cfg(unix)]
#[tokio::test]
async fn everything_is_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    let file = scratch.path().join("backup");
    backup(&dir, &dir.join(STORAGE_KEY), &file, true).unwrap();
    drop(store);
    let new = scratch.path().join("new");
    restore(&file, &new, None, false).unwrap();
    let store = open(&new, &new.join(STORAGE_KEY));
    note(&store, "on").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&new), 0o700);
    let found = names(&new);
    for name in &found {
        assert_eq!(mode(&new.join(name)), 0o600, "{name}");
    }
    for name in [
        "node.db",
        "node.db-wal",
        "node.db-shm",
        "identity.key",
        "storage.key",
        "node.lock",
    ] {
        assert!(found.contains(&name.to_owned()), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_written_over() {
    let scratch = Scratch::new();
    let (dir, _store) = directory(&scratch).await;
    let file = scratch.path().join("backup");
    fs::write(&file, "mine").unwrap();
    let key_file = dir.join(STORAGE_KEY);
    assert!(matches!(
        backup(&dir, &key_file, &file, true),
        Err(BackupError::Exists(_))
    ));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let other = scratch.path().join("other");
    assert!(matches!(
        backup(&dir, &scratch.path().join("none.key"), &other, true),
        Err(BackupError::NoKey(_))
    ));
    assert!(backup(&scratch.path().join("nowhere"), &key_file, &other, true).is_err());
    assert_eq!(names(scratch.path()), ["backup", "data"]);
}

/// The names in a backup, which holds these 32 bytes nowhere in the clear.
fn names_without(header: &Header, file: &Path, key: &[u8]) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    assert!(
        !bytes.windows(key.len()).any(|part| part == key),
        "the storage key is in it"
    );
    let mut names: Vec<String> = header.files.iter().map(|part| part.name.clone()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_storage_key_is_in_no_backup_without_being_asked_for() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    drop(store);
    let key = fs::read(dir.join(STORAGE_KEY)).unwrap();
    // Under another name, as `storage_key_file` may have it, told by another path; and what else may lie there.
    fs::rename(dir.join(STORAGE_KEY), dir.join("disk.key")).unwrap();
    let key_file = scratch.path().join("data/../data/disk.key");
    for copy in ["storage.key.0123456789abcdef", "storage.key.old", "copy-of-key"] {
        fs::copy(dir.join("disk.key"), dir.join(copy)).unwrap();
    }
    fs::write(dir.join("storage.key.part"), b"another key").unwrap();
    // One with the key, within the directory.
    let with_key = backup(&dir, &key_file, &dir.join("within"), true).unwrap();
    let file = scratch.path().join("backup");
    let header = backup(&dir, &key_file, &file, false).unwrap();
    let expected = ["identity.key", "node.db", "operator.token"];
    assert_eq!(names_without(&header, &file, &key), expected);
    let mut names: Vec<&str> = with_key.files.iter().map(|part| part.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["identity.key", "node.db", "operator.token", STORAGE_KEY]);
    let new = scratch.path().join("new");
    restore(&dir.join("within"), &new, None, false).unwrap();
    assert_eq!(ids(&open(&new, &new.join(STORAGE_KEY))), 20);
}

#[cfg(unix)]
#[tokio::test]
async fn an_identity_that_is_a_link_is_backed_up_as_a_file() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    drop(store);
    let secrets = scratch.path().join("secrets");
    make_directory(&secrets).unwrap();
    fs::rename(dir.join(KEY_FILE), secrets.join("node")).unwrap();
    std::os::unix::fs::symlink(secrets.join("node"), dir.join(KEY_FILE)).unwrap();
    // Other links are left alone.
    std::os::unix::fs::symlink(dir.join(DATABASE), dir.join("link")).unwrap();
    let file = scratch.path().join("backup");
    let header = backup(&dir, &dir.join(STORAGE_KEY), &file, true).unwrap();
    assert!(header.files.iter().all(|part| part.name != "link"));
    let new = scratch.path().join("new");
    restore(&file, &new, None, false).unwrap();
    assert!(fs::symlink_metadata(new.join(KEY_FILE)).unwrap().is_file());
    assert_eq!(Identity::open(&new).unwrap().key(), header.key);
}

#[tokio::test]
async fn what_a_restore_would_refuse_is_no_backup() {
    let scratch = Scratch::new();
    let (dir, store) = directory(&scratch).await;
    drop(store);
    let key_file = dir.join(STORAGE_KEY);
    let file = scratch.path().join("backup");
    // Database, identity, token and key are there.
    for number in 4..=MOST_FILES {
        fs::write(dir.join(format!("file-{number}")), "x").unwrap();
    }
    let refused = backup(&dir, &key_file, &file, true).unwrap_err();
    assert!(matches!(refused, BackupError::TooMany(_)), "{refused}");
    assert_eq!(names(scratch.path()), ["data"], "nothing is left lying about");
    fs::remove_file(dir.join("file-4")).unwrap();
    let header = backup(&dir, &key_file, &file, true).unwrap();
    assert_eq!(header.files.len(), MOST_FILES);
    restore(&file, &scratch.path().join("new"), None, false).unwrap();

    let key = load_or_create_key(&key_file).unwrap();
    read_back(&file, &header, &key).unwrap();
    let whole = fs::read(&file).unwrap();
    let last = whole.len() - 1;
    let cut = &whole[..last];
    let changed = [cut, &[whole[last] ^ 1]].concat();
    let later = Header {
        time: header.time + 1,
        ..header.clone()
    };
    for (bytes, header) in [(cut, &header), (&changed, &header), (&whole, &later)] {
        fs::write(&file, bytes).unwrap();
        let refused = read_back(&file, header, &key).unwrap_err();
        assert!(matches!(refused, BackupError::Damaged(_)), "{refused}");
    }
}
