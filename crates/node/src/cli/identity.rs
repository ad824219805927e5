//! `fdrtd identity`: the node's key, and a new one.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fdrtd::identity::Identity;
use fdrtd::node::StartError;
use fdrtd::rotation::rotate;
use serde_json::json;

use super::say;

/// Prints this node's key, and makes it if there is none.
///
/// The fingerprint in digits is for the telephone: whoever pins the node compares it (fdrtd peers pin).
#[derive(Args)]
#[command(after_help = "\
Examples:
  fdrtd identity --data-dir /var/lib/fdrtd
  fdrtd identity rotate --data-dir /var/lib/fdrtd")]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    command: Option<IdentityCommand>,
    /// Where identity and storage live
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data", global = true)]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Gives the node a new key, signed by the old one. The node must be stopped; its open tasks end
    Rotate,
}

pub(crate) fn identity(args: &IdentityArgs) -> Result<(), StartError> {
    if let Some(IdentityCommand::Rotate) = args.command {
        return new_key(args);
    }
    let made = fdrtd::store::make_directory(&args.data_dir);
    made.map_err(|error| format!("the data directory {} cannot be made: {error}", args.data_dir.display()))?;
    let identity = Identity::open(&args.data_dir)?;
    if args.json {
        say(&serde_json::to_string(&identity.document())?)?;
    } else {
        say(&format!(
            "key          {}\nfingerprint  {}\nin digits    {}",
            identity.key(),
            identity.key().fingerprint(),
            identity.key().spoken()
        ))?;
    }
    Ok(())
}

fn new_key(args: &IdentityArgs) -> Result<(), StartError> {
    let (old, new) = rotate(&args.data_dir)?;
    let (old, new) = (old.key(), new.key());
    if args.json {
        say(&json!({"old": old, "key": new, "fingerprint": new.fingerprint(), "spoken": new.spoken()}).to_string())?;
    } else {
        say(&format!(
            "old key      {old}\nkey          {new}\nfingerprint  {}\nin digits    {}\n\n\
             Start the node. Peers that know the old key take the new one when they meet it, because the old one has signed it.\n\
             Tell partners that have the old key in their configuration to write the new one. Make a new backup: the old key is worth nothing any more.",
            new.fingerprint(),
            new.spoken()
        ))?;
    }
    Ok(())
}
