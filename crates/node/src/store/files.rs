//! Files that only this node may read: the storage key, the lock, the database.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{StorageKey, StoreError};

/// The storage key from its file: 32 random bytes, made when there is none.
///
/// # Errors
/// When the file can be read by other users, has another length, or cannot be read or made.
pub fn load_or_create_key(path: &Path) -> Result<StorageKey, StoreError> {
    let bytes = load_or_create(path, 32, create_key)?;
    let key = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| StoreError::KeyFileLength(path.to_owned()))?;
    Ok(Zeroizing::new(key))
}

/// What a file holds that nobody else may read, but one byte more than `longest` at most, so that a longer one is noticed. `create` makes it when
/// there is none.
pub(crate) fn load_or_create(
    path: &Path,
    longest: usize,
    create: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let file_error = |error: std::io::Error| StoreError::File(path.to_owned(), error.to_string());
    if !path.try_exists().map_err(file_error)? {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            make_directory(dir).map_err(|error| StoreError::File(dir.to_owned(), error.to_string()))?;
        }
        create(path).map_err(file_error)?;
    }
    let mut file = File::open(path).map_err(file_error)?;
    if !is_private(&file).map_err(file_error)? {
        return Err(StoreError::KeyFileOpen(path.to_owned()));
    }
    let mut bytes = Zeroizing::new(vec![0; longest + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]).map_err(file_error)? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn create_key(path: &Path) -> std::io::Result<()> {
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *key)?;
    create_private(path, &key[..])
}

/// Writes a file under a temporary name and links it to its own: no reader ever sees half of it, and of two processes that do this at once one wins
/// and both use what it wrote.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut suffix = [0_u8; 8];
    getrandom::fill(&mut suffix)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}", u64::from_le_bytes(suffix)));
    let temporary = PathBuf::from(name);
    let mut file = private_options().create_new(true).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&temporary)?;
    linked
}

/// Takes the directory for this node, until the file is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("node.lock");
    let file_error = |error: std::io::Error| StoreError::File(path.clone(), error.to_string());
    let file = private_options()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(error)),
    }
}

/// Makes a directory, with those above it, for nobody else. One that is there stays as it is.
///
/// # Errors
/// Those of the file system.
pub fn make_directory(dir: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes a file that is not there yet, for nobody else.
///
/// # Errors
/// Those of the file system.
pub fn create_private_file(path: &Path) -> std::io::Result<File> {
    private_options().create_new(true).open(path)
}

/// Read and write, for nobody else.
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn is_private(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 == 0)
}

#[cfg(unix)]
pub(super) fn make_private(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

// Elsewhere the access list of the directory decides.
#[cfg(not(unix))]
fn is_private(_file: &File) -> std::io::Result<bool> {
    Ok(true)
}

#[cfg(not(unix))]
pub(super) fn make_private(_file: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let scratch = Scratch::new();
        let path = scratch.path().join("new/storage.key");
        let key = load_or_create_key(&path).unwrap();
        assert_ne!(*key, [0; 32]);
        assert_eq!(load_or_create_key(&path).unwrap(), key);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn a_key_that_appears_meanwhile_is_kept() {
        let scratch = Scratch::new();
        let path = scratch.path().join("storage.key");
        create_key(&path).unwrap();
        let first = fs::read(&path).unwrap();
        create_key(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let scratch = Scratch::new();
        for length in [0, 31, 33, 100] {
            let path = scratch.path().join(format!("{length}.key"));
            private_options()
                .create_new(true)
                .open(&path)
                .unwrap()
                .write_all(&vec![1; length])
                .unwrap();
            assert_eq!(load_or_create_key(&path).unwrap_err(), StoreError::KeyFileLength(path));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new();
        let path = scratch.path().join("storage.key");
        load_or_create_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                load_or_create_key(&path).unwrap_err(),
                StoreError::KeyFileOpen(path.clone())
            );
        }
    }
}
