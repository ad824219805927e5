//! `fdrtd receipt`: what all parties of a task have signed, verified without any node.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use fdrtd::receipt::{MAX_BYTES, Receipt};
use serde_json::json;
use zeroize::Zeroizing;

use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::say;

/// Longest result that is read.
const MAX_RESULT: usize = 64 << 20;

/// Verifies the receipt of a task; `fdrtd task receipt` prints it.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd task receipt 3f2a9c1b > receipt.json
  fdrtd receipt verify receipt.json --result result.json

Calls no node. That the keys are those of the nodes you mean, you see by their fingerprints.

{EXIT_HELP}"))]
pub(crate) struct ReceiptArgs {
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(Subcommand)]
enum ReceiptCommand {
    /// Says what the receipt is about, and what is wrong with it.
    Verify(VerifyArgs),
}

#[derive(Args)]
struct VerifyArgs {
    /// The receipt
    file: PathBuf,
    /// The result, as a node gave it: whether it is the one of the receipt
    #[arg(long, value_name = "FILE")]
    result: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn receipt(args: &ReceiptArgs) -> Result<Exit, Failure> {
    let ReceiptCommand::Verify(args) = &args.command;
    let text = read(&args.file, MAX_BYTES)?;
    let receipt = Receipt::parse(&text).map_err(|what| {
        let hint = "give what `fdrtd task receipt` or the function receipt() gave, unchanged";
        Failure::usage(printable(&what), hint, "RECEIPT_MALFORMED")
    })?;
    let result = args.result.as_ref().map(|path| read(path, MAX_RESULT)).transpose()?;
    let problems = receipt.problems(result.as_ref().map(|text| text.as_str()));
    if args.json {
        let found =
            json!({"id": receipt.id(), "valid": problems.is_empty(), "problems": problems, "result": result.is_some()});
        say(&found.to_string())?;
    } else {
        describe(&receipt)?;
        for problem in &problems {
            say(&format!("WRONG  {problem}"))?;
        }
        if problems.is_empty() {
            say(match result {
                Some(_) => "valid: signed by all parties, and the result is the one they have signed",
                None => "valid: signed by all parties; with --result it is seen whether a result belongs to it",
            })?;
        }
    }
    Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn describe(receipt: &Receipt) -> Result<(), Failure> {
    say(&format!("receipt {}", receipt.id()))?;
    if let Some(descriptor) = receipt.descriptor() {
        say(&printable(&format!(
            "task {}: {} {} under the rules {}",
            descriptor.task,
            descriptor.microprotocol,
            descriptor.parameters,
            receipt.rules()
        )))?;
        for (party, (url, key)) in descriptor.nodes.iter().zip(receipt.keys()).enumerate() {
            say(&printable(&format!("party {party}  {}  {url}", key.fingerprint())))?;
        }
    }
    Ok(())
}

fn read(path: &Path, longest: usize) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |what: String| {
        let what = format!("{}: {what}", path.display());
        Failure::usage(what, "name a file with JSON", "FILE_UNREADABLE")
    };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let read = file.take(longest as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(error.to_string()))?;
    if text.len() > longest {
        return Err(unreadable(format!("longer than {longest} bytes")));
    }
    Ok(text)
}
