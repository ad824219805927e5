//! `fdrtd identity`: the node's key.

use std::path::PathBuf;

use clap::Args;
use fdrtd::identity::Identity;
use fdrtd::node::StartError;

use super::say;

#[derive(Args)]
pub(crate) struct IdentityArgs {
    /// Where identity and storage live
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn identity(args: &IdentityArgs) -> Result<(), StartError> {
    let made = fdrtd::store::make_directory(&args.data_dir);
    made.map_err(|error| format!("the data directory {} cannot be made: {error}", args.data_dir.display()))?;
    let identity = Identity::open(&args.data_dir)?;
    if args.json {
        say(&serde_json::to_string(&identity.document())?)?;
    } else {
        say(&format!(
            "key          {}\nfingerprint  {}",
            identity.key(),
            identity.key().fingerprint()
        ))?;
    }
    Ok(())
}
