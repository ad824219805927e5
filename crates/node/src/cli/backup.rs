//! `fdrtd backup` and `fdrtd restore`: a data directory in one file, and back.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fdrtd::backup::{BackupError, STORAGE_KEY};
use serde_json::json;
use x509_cert::der::DateTime;

use super::failure::{EXIT_HELP, Exit, Failure};
use super::say;

/// What both work on, and how they say it.
#[derive(Args)]
struct Place {
    /// Data directory of the node
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// The storage key, if it does not lie in the data directory
    #[arg(long, env = "FDRTD_STORAGE_KEY_FILE", value_name = "FILE")]
    storage_key_file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Backs up a node, running or not, into one file.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd backup node.backup
  fdrtd backup node.backup --with-keys --data-dir /var/lib/fdrtd

The file (mode 0600) holds stored values, tasks, the audit, and the secret of the node's identity: keep it as you keep the data directory.
Without --with-keys the values in it can be read with the storage key only, which you keep elsewhere.

{EXIT_HELP}"))]
pub(crate) struct BackupArgs {
    /// A file that is not there yet
    file: PathBuf,
    /// Put the storage key in, too: whoever has the file then can read everything
    #[arg(long)]
    with_keys: bool,
    #[command(flatten)]
    place: Place,
}

/// Puts a backup into the place of a data directory; the node must not be running.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd restore node.backup
  fdrtd restore node.backup --force --storage-key-file /run/secrets/fdrtd-storage.key

Everything is verified before anything is replaced. What happened after the backup is gone: values and tasks deleted since then are back,
and the audit goes on from where it was then, with an entry that says so.

{EXIT_HELP}"))]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Move a data directory that is there already aside
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn backup(args: &BackupArgs) -> Result<Exit, Failure> {
    let usual = args.place.data_dir.join(STORAGE_KEY);
    let key_file = args.place.storage_key_file.as_ref().unwrap_or(&usual);
    let header = fdrtd::backup::backup(&args.place.data_dir, key_file, &args.file, args.with_keys).map_err(refused)?;
    if args.place.json {
        say(
            &json!({"file": args.file, "key": header.key, "time": header.time, "with_keys": args.with_keys})
                .to_string(),
        )?;
        return Ok(Exit::Ok);
    }
    say(&format!(
        "backup of {} in {}; it holds the secret of the node's identity",
        header.key.fingerprint(),
        args.file.display()
    ))?;
    say(&if args.with_keys {
        "it holds the storage key: whoever has this file can read everything".to_owned()
    } else {
        format!(
            "it does not hold the storage key: without a copy of {} it is of no use",
            key_file.display()
        )
    })?;
    Ok(Exit::Ok)
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<Exit, Failure> {
    let key_file = args.place.storage_key_file.as_deref();
    let restored = fdrtd::backup::restore(&args.file, &args.place.data_dir, key_file, args.force).map_err(refused)?;
    let header = &restored.header;
    if args.place.json {
        let made = json!({"data_dir": args.place.data_dir, "key": header.key, "time": header.time, "replaced": restored.replaced, "storage_key": restored.key_inside});
        say(&made.to_string())?;
        return Ok(Exit::Ok);
    }
    let made = DateTime::from_unix_duration(Duration::from_secs(header.time))
        .map_or_else(|_| header.time.to_string(), |time| time.to_string());
    say(&format!(
        "restored {} as of {made} to {}",
        header.key.fingerprint(),
        args.place.data_dir.display()
    ))?;
    if let Some(replaced) = &restored.replaced {
        say(&format!("what was there is now {}", replaced.display()))?;
    }
    if let (false, Some(key_file)) = (restored.key_inside, key_file) {
        say(&format!(
            "the storage key is not in it: start the node with storage_key_file = \"{}\"",
            key_file.display()
        ))?;
    }
    Ok(Exit::Ok)
}

fn refused(error: BackupError) -> Failure {
    let exit = match &error {
        BackupError::Exists(_)
        | BackupError::NoBackup(_)
        | BackupError::NoKey(_)
        | BackupError::NotEmpty(_)
        | BackupError::Newer(..) => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string(), "", "", "")
}
