//! `fdrtd audit`: what was done at a node, read from its data directory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use fdrtd::chain::{Broken, Entry, Hash, Verifier};
use fdrtd::identity::{Identity, KEY_FILE, PeerKey};
use fdrtd::services::Clock;
use fdrtd::store::{StoreError, create_private_file, inspect};
use serde_json::json;
use x509_cert::der::DateTime;

use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::say;

/// Longest line of an export.
const LONGEST_LINE: u64 = 256 << 10;

/// Shows, verifies and exports what was done at a node.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd audit show --since 24h
  fdrtd audit show --task 3f2a9c1b --json
  fdrtd audit verify
  fdrtd audit export audit.jsonl
  fdrtd audit verify audit.jsonl --key KEY

Reads the data directory, also beside a running node; nothing is changed.

{EXIT_HELP}"))]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Shows entries.
    Show(ShowArgs),
    /// Verifies the whole chain of entries, and names the first that is not as it was written.
    Verify(VerifyArgs),
    /// Writes all entries to a file, a line of JSON each; `fdrtd audit verify FILE` needs nothing else.
    Export(ExportArgs),
}

#[derive(Args)]
struct Directory {
    /// Data directory of the node
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
}

#[derive(Args)]
struct ShowArgs {
    #[command(flatten)]
    directory: Directory,
    /// Only about this task: its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Only from then on: 2026-11-25T10:00:00Z, 2026-11-25, or so long ago: 90m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<u64>,
    /// A line of JSON per entry
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArgs {
    /// An export; without it the audit of the data directory
    file: Option<PathBuf>,
    #[command(flatten)]
    directory: Directory,
    /// The node's key, as `fdrtd identity` prints it there: the last entry must be signed by it
    #[arg(long)]
    key: Option<PeerKey>,
    /// An earlier export: what it holds must be the beginning of this audit. Only so can be noticed that the end was cut off, or everything written anew
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
    /// A file that is not there yet, or - for standard output
    file: PathBuf,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn audit(args: AuditArgs) -> Result<Exit, Failure> {
    match args.command {
        AuditCommand::Show(args) => show(&args),
        AuditCommand::Verify(args) => verify(&args),
        AuditCommand::Export(args) => export(&args),
    }
}

/// Why reading entries ended early.
enum Stop {
    Store(StoreError),
    Broken(Broken),
    Failure(Failure),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Broken(broken)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Failure(error.into())
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Failure {
        match stop {
            Stop::Store(error) => Failure::new(Exit::Failed, error.to_string(), "", "", ""),
            Stop::Broken(broken) => Failure::new(
                Exit::Failed,
                format!("the audit is broken at {broken}"),
                "",
                "everything before it is whole; compare with an earlier export (--against), and keep the file as it is",
                "AUDIT_BROKEN",
            ),
            Stop::Failure(failure) => failure,
        }
    }
}

/// Hands every entry of the directory in order to `each`.
fn entries(directory: &Directory, each: impl FnMut(Entry) -> Result<(), Stop>) -> Result<(), Stop> {
    inspect(&directory.data_dir)?.audit(each)
}

/// Hands every entry of an export in order to `each`.
fn exported(path: &Path, mut each: impl FnMut(Entry) -> Result<(), Stop>) -> Result<(), Stop> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let what = format!("{}: {error}", path.display());
        Stop::Failure(Failure::usage(
            what,
            "name a file that `fdrtd audit export` wrote",
            "FILE_UNREADABLE",
        ))
    };
    let mut file = BufReader::new(File::open(path).map_err(|error| unreadable(&error))?);
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        let read = file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(&error))? == 0 {
            return Ok(());
        }
        number += 1;
        let entry = serde_json::from_slice(&line).map_err(|_| Broken {
            seq: number,
            what: "the line is not an entry of an audit".to_owned(),
        })?;
        each(entry)?;
    }
}

fn show(args: &ShowArgs) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    entries(&args.directory, |entry| {
        let of_task = |beginning: &String| {
            entry
                .task
                .as_ref()
                .is_some_and(|task| task.starts_with(beginning.trim()))
        };
        if args.task.as_ref().is_none_or(of_task) && args.since.is_none_or(|since| entry.time >= since) {
            let line = if args.json {
                serde_json::to_string(&entry).unwrap_or_default()
            } else {
                line(&entry)
            };
            writeln!(out, "{line}")?;
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(Exit::Ok)
}

fn line(entry: &Entry) -> String {
    let detail = entry.detail.to_string();
    let mut text = format!(
        "{:>6}  {}  {:<14}",
        entry.seq,
        time(entry.time),
        printable(&entry.action)
    );
    for part in [
        entry.task.as_deref().unwrap_or(""),
        &entry.who,
        if detail == "{}" { "" } else { &detail },
    ] {
        if !part.is_empty() {
            text.push_str("  ");
            text.push_str(&printable(part));
        }
    }
    text
}

fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let mut known = Vec::new();
    if let Some(path) = &args.against {
        let mut verifier = Verifier::default();
        exported(path, |entry| {
            verifier.take(&entry)?;
            known.push(entry.hash);
            Ok(())
        })?;
    }
    let mut verifier = Verifier::default();
    let mut last = None;
    let take = |entry: Entry| {
        verifier.take(&entry)?;
        let earlier: Option<&Hash> = usize::try_from(entry.seq - 1).ok().and_then(|place| known.get(place));
        if earlier.is_some_and(|hash| *hash != entry.hash) {
            let what = "is another one than in the earlier export: from here on the audit was written anew".to_owned();
            return Err(Broken { seq: entry.seq, what }.into());
        }
        last = Some(entry.time);
        Ok(())
    };
    match &args.file {
        Some(file) => exported(file, take)?,
        None => entries(&args.directory, take)?,
    }
    let (count, head) = verifier.head();
    let broken = |seq: u64, what: String| Err(Stop::from(Broken { seq, what }).into());
    if count < known.len() as u64 {
        return broken(
            count + 1,
            "is missing, and the earlier export has it: the end was cut off".to_owned(),
        );
    }
    let Some(signer) = verifier.key() else {
        return Err(Failure::new(
            Exit::Failed,
            "the audit has no entry",
            "",
            "a node writes the first one when it is started: start it, or name the directory or the export of one that was",
            "AUDIT_EMPTY",
        ));
    };
    let expected = match (args.key, &args.file) {
        (None, None) => Some(own_key(&args.directory.data_dir)?),
        (key, _) => key,
    };
    if let Some(expected) = expected
        && !verifier.is_of(expected)
    {
        let (signed, expected) = (signer.fingerprint(), expected.fingerprint());
        return broken(count, format!("signed by {signed} instead of {expected}"));
    }
    if args.json {
        let whole = json!({"entries": count, "head": head, "key": signer, "last": last});
        say(&whole.to_string())?;
    } else {
        say(&format!(
            "{count} entries, whole; signed by {}{}\nhead  {head}",
            signer.fingerprint(),
            last.map(|last| format!("; the last one at {}", time(last)))
                .unwrap_or_default()
        ))?;
        if expected.is_none() {
            say("whose key that is was not checked: give --key with what `fdrtd identity` prints at the node")?;
        }
    }
    Ok(Exit::Ok)
}

/// Of the node whose directory it is; nothing is made.
fn own_key(directory: &Path) -> Result<PeerKey, Failure> {
    let path = directory.join(KEY_FILE);
    let unreadable = |error: &dyn std::fmt::Display| {
        let hint = "give --key with what `fdrtd identity` prints at the node";
        Failure::usage(format!("{}: {error}", path.display()), hint, "FILE_UNREADABLE")
    };
    std::fs::metadata(&path).map_err(|error| unreadable(&error))?;
    let identity = Identity::open(directory).map_err(|error| unreadable(&error))?;
    Ok(identity.key())
}

fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let to_stdout = args.file.as_os_str() == "-";
    let (mut count, mut head) = (0, Hash::default());
    let mut write = |out: &mut dyn Write| {
        entries(&args.directory, |entry| {
            let line = serde_json::to_string(&entry).unwrap_or_default();
            writeln!(out, "{line}")?;
            (count, head) = (entry.seq, entry.hash);
            Ok(())
        })?;
        out.flush().map_err(Stop::from)
    };
    if to_stdout {
        write(&mut io::stdout().lock())?;
        return Ok(Exit::Ok);
    }
    let file = create_private_file(&args.file).map_err(|error| {
        let what = format!("{}: {error}", args.file.display());
        Failure::usage(what, "name a file that is not there yet", "FILE_UNWRITABLE")
    })?;
    write(&mut BufWriter::new(file))?;
    say(&format!("{count} entries\nhead  {head}"))?;
    Ok(Exit::Ok)
}

fn time(seconds: u64) -> String {
    DateTime::from_unix_duration(Duration::from_secs(seconds))
        .map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn since(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    for (unit, seconds) in units {
        if let Some(Ok(number)) = text.strip_suffix(unit).map(str::parse::<u64>) {
            return Ok(Clock::System.now().saturating_sub(number.saturating_mul(seconds)));
        }
    }
    let whole = if text.len() == "2026-11-25".len() {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let time: Result<DateTime, _> = whole.parse();
    time.map(|time| time.unix_duration().as_secs())
        .map_err(|_| "a time is 2026-11-25T10:00:00Z (UTC), 2026-11-25, or 90m, 24h, 7d ago".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        assert_eq!(since("1970-01-02").unwrap(), 86400);
        assert_eq!(since("2026-11-25T10:00:01Z").unwrap(), 1_795_600_801);
        assert_eq!(time(1_795_600_801), "2026-11-25T10:00:01Z");
        assert!(since("24h").unwrap() > 1_700_000_000);
        assert_eq!(since("99999999999999999999d").ok(), None);
        for wrong in ["", "yesterday", "2026-13-01", "h"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
