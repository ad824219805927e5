//! `fdrtd token`: who may call a node.
//!
//! While a node runs, its data directory is its own: then the running node is asked, with the operator's token. Otherwise the commands work on the
//! directory.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::Method;
use clap::{Args, Subcommand};
use fdrtd::access::tokens::{By, Tokens};
use fdrtd::config::Config;
use fdrtd::here;
use fdrtd::identity::Identity;
use fdrtd::operator::TOKEN_FILE;
use fdrtd::principal::Role;
use fdrtd::problem::Problem;
use fdrtd::services::Clock;
use fdrtd::store::{Options, Store, StoreError, load_or_create_key, make_directory};
use serde_json::{Value, json};
use x509_cert::der::DateTime;
use zeroize::Zeroizing;

use super::client::{Client, NodeArgs, SHORT, read_token};
use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::{interrupted, runtime, say};

const DAY: u64 = 24 * 3600;

/// Makes, lists and revokes the tokens with which people and programs call a node.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd token create --name anna --role analyst > anna.token
  fdrtd token create --name ward-7 --role viewer --expires 2027-12-31
  fdrtd token list
  fdrtd token revoke anna

A node that runs is asked over HTTP, with the operator's token of its data directory (or FDRTD_TOKEN, --token-file); one that does not run is found
in its data directory.

{EXIT_HELP}"))]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it, this once: the node keeps a hash only
    Create(CreateArgs),
    /// Lists the tokens, never what admits
    List(WhereArgs),
    /// Ends a token at once
    Revoke(RevokeArgs),
}

#[derive(Args)]
struct CreateArgs {
    /// Whose it is: letters, digits, - _ . @; what its bearer makes belongs to this name
    #[arg(long)]
    name: String,
    /// What its bearer may do: viewer (see how tasks go on), analyst (keep values and compute), owner (decide for the node besides)
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// When it ends: a time from now (12h, 30d, 8w), a date (to the end of that day, UTC), or never
    #[arg(long, default_value = "90d", value_name = "WHEN")]
    expires: Expiry,
    #[command(flatten)]
    place: WhereArgs,
}

#[derive(Args)]
struct RevokeArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    place: WhereArgs,
}

#[derive(Args)]
struct WhereArgs {
    /// Configuration file of the node
    #[arg(long, env = "FDRTD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory of the node [default: fdrtd-data, or what the configuration says]
    #[arg(long, env = "FDRTD_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// When a token ends, before it is known from when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    After(u64),
    At(u64),
}

pub(crate) fn token(args: TokenArgs) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let work = async {
            match args.command {
                TokenCommand::Create(args) => create(&args).await,
                TokenCommand::List(args) => list(&args).await,
                TokenCommand::Revoke(args) => revoke(&args).await,
            }
        };
        tokio::select! {
            ended = work => ended,
            () = interrupted() => Ok(Exit::Interrupted),
        }
    })
}

async fn create(args: &CreateArgs) -> Result<Exit, Failure> {
    let expires = args.expires.seconds(Clock::System.now());
    let mut made = match args.place.find()? {
        Place::Directory(tokens) => {
            let made = tokens.create(&args.name, args.role, expires, By::Directory).await;
            let (token, mut shown) = made.map_err(|problem| refused(&problem))?;
            shown["token"] = token.as_str().into();
            shown
        }
        Place::Node(client) => {
            let body = json!({"name": args.name, "role": args.role, "expires": expires});
            client.post("/tokens", Some(body.to_string().into())).await?.json()?
        }
    };
    if args.place.json {
        say(&made.to_string())?;
        return Ok(Exit::Ok);
    }
    let token = Zeroizing::new(made["token"].take().as_str().unwrap_or_default().to_owned());
    let until = made["expires"]
        .as_str()
        .map_or_else(|| "for ever".to_owned(), |time| format!("until {}", printable(time)));
    // On standard error, so that standard output is the token and nothing else.
    let place = if io::stdout().is_terminal() {
        "below"
    } else {
        "on standard output"
    };
    writeln!(
        io::stderr(),
        "fdrtd: the token of {} ({}, {until}) is {place}, this once; give it to its bearer as FDRTD_TOKEN or in a file",
        args.name,
        args.role
    )?;
    say(&token)?;
    Ok(Exit::Ok)
}

async fn list(args: &WhereArgs) -> Result<Exit, Failure> {
    let all = match args.find()? {
        Place::Directory(tokens) => json!({"tokens": tokens.list()}),
        Place::Node(client) => client.get("/tokens").await?.json()?,
    };
    if args.json {
        say(&all.to_string())?;
        return Ok(Exit::Ok);
    }
    let tokens = all["tokens"].as_array().map_or(&[][..], Vec::as_slice);
    if tokens.is_empty() {
        say("there are no tokens; fdrtd token create makes one")?;
        return Ok(Exit::Ok);
    }
    let text = |token: &Value, name: &str, missing: &str| printable(token[name].as_str().unwrap_or(missing));
    let rows = tokens.iter().map(|token| {
        let ends = text(token, "expires", "never");
        [
            text(token, "name", ""),
            text(token, "role", ""),
            text(token, "state", ""),
            ends.split('T').next().unwrap_or_default().to_owned(),
            text(token, "last_used", "never"),
        ]
    });
    let header = ["NAME", "ROLE", "STATE", "EXPIRES", "LAST USED"].map(str::to_owned);
    say(&table(&std::iter::once(header).chain(rows).collect::<Vec<_>>()))?;
    Ok(Exit::Ok)
}

async fn revoke(args: &RevokeArgs) -> Result<Exit, Failure> {
    let revoked = match args.place.find()? {
        Place::Directory(tokens) => tokens
            .revoke(&args.name, By::Directory)
            .await
            .map_err(|problem| refused(&problem))?,
        Place::Node(client) => {
            if args.name.is_empty()
                || args
                    .name
                    .bytes()
                    .any(|byte| !byte.is_ascii_alphanumeric() && !b"-_.@".contains(&byte))
            {
                return Err(Failure::usage(
                    "this is not the name of a token",
                    "fdrtd token list shows the names",
                    "TOKEN_UNKNOWN",
                ));
            }
            let page = format!("/tokens/{}", args.name);
            client
                .accepted(client.send(Method::DELETE, &page, None, SHORT).await?)?
                .json()?
        }
    };
    if args.place.json {
        say(&revoked.to_string())?;
    } else {
        say(&format!("revoked {}", args.name))?;
    }
    Ok(Exit::Ok)
}

/// Where the tokens are.
enum Place {
    /// In the directory of a node that does not run. Boxed, because the other is small.
    Directory(Box<Tokens>),
    /// At a node that runs.
    Node(Client),
}

impl WhereArgs {
    fn find(&self) -> Result<Place, Failure> {
        let config = self.config()?;
        if self.node.node.is_some() {
            return self.client(&config);
        }
        match open(&config) {
            Ok(tokens) => Ok(Place::Directory(Box::new(tokens))),
            Err(StoreError::InUse(_)) => self.client(&config),
            Err(error) => {
                let hint = "name the node's data directory with --data-dir, or its configuration with --config";
                Err(Failure::usage(error.to_string(), hint, "DATA_DIR_UNUSABLE"))
            }
        }
    }

    fn config(&self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(path) => Config::read(path).map_err(|error| {
                Failure::usage(
                    error.to_string(),
                    "docs/fdrtd.example.toml shows every member",
                    "CONFIG_UNUSABLE",
                )
            })?,
            None => Config::default(),
        };
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }

    fn client(&self, config: &Config) -> Result<Place, Failure> {
        let noted = here::read(&config.data_dir);
        let mut client = self.node.client(noted.as_ref())?;
        if !client.has_token() && (client.base().is_loopback() || noted.as_ref() == Some(client.base())) {
            let file = config
                .operator_token_file
                .clone()
                .unwrap_or_else(|| config.data_dir.join(TOKEN_FILE));
            client.set_token(&read_token(&file)?)?;
        }
        Ok(Place::Node(client))
    }
}

fn open(config: &Config) -> Result<Tokens, StoreError> {
    let key_file = config
        .storage_key_file
        .clone()
        .unwrap_or_else(|| config.data_dir.join("storage.key"));
    // The directory has to be there before the identity in it.
    make_directory(&config.data_dir).map_err(|error| StoreError::File(config.data_dir.clone(), error.to_string()))?;
    let identity = || {
        Identity::open(&config.data_dir).map_err(|error| StoreError::File(config.data_dir.clone(), error.to_string()))
    };
    let signer = Arc::new(identity()?);
    let options = Options {
        identity: Arc::clone(&signer),
        sync: config.storage.sync,
        max_bytes: config.storage.max_bytes,
    };
    let store = Store::open(&config.data_dir, load_or_create_key(&key_file)?, &options)?;
    // Only now nobody gives the node a new key any more, and the audit goes on under that one.
    if identity()?.key() != signer.key() {
        let what = "the node's key was just changed; try again".to_owned();
        return Err(StoreError::File(config.data_dir.clone(), what));
    }
    Tokens::open(store, Clock::System)
}

/// The same words as a running node's.
fn refused(problem: &Problem) -> Failure {
    let body = problem.body().to_string();
    Failure::from_problem(problem.status, body.as_bytes())
        .unwrap_or_else(|| Failure::new(Exit::Failed, problem.message.clone(), "", &problem.hint, problem.code))
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Expiry {
    fn seconds(self, now: u64) -> Option<u64> {
        match self {
            Expiry::Never => None,
            Expiry::After(seconds) => Some(now.saturating_add(seconds)),
            Expiry::At(time) => Some(time),
        }
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Expiry, String> {
        let wrong = || "write a time such as 12h, 30d or 8w, a date such as 2027-12-31, or never".to_owned();
        if text == "never" {
            return Ok(Expiry::Never);
        }
        let unit = match text.chars().last() {
            Some('h') => Some(3600),
            Some('d') => Some(DAY),
            Some('w') => Some(7 * DAY),
            _ => None,
        };
        if let Some(unit) = unit {
            let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
            // A hundred years are as good as never, and can still be told.
            return match u64::from(count) * unit {
                seconds if (1..=100 * 366 * DAY).contains(&seconds) => Ok(Expiry::After(seconds)),
                _ => Err(wrong()),
            };
        }
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else {
            return Err(wrong());
        };
        let (year, month, day) = (year.parse(), month.parse(), day.parse());
        let (Ok(year), Ok(month), Ok(day)) = (year, month, day) else {
            return Err(wrong());
        };
        let start = DateTime::new(year, month, day, 0, 0, 0).map_err(|_| wrong())?;
        let end = start.unix_duration() + Duration::from_secs(DAY);
        if UNIX_EPOCH + end <= SystemTime::now() {
            return Err(format!("{text} is over"));
        }
        Ok(Expiry::At(end.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!("never".parse(), Ok(Expiry::Never));
        assert_eq!("12h".parse(), Ok(Expiry::After(43_200)));
        assert_eq!("30d".parse(), Ok(Expiry::After(30 * DAY)));
        assert_eq!("8w".parse(), Ok(Expiry::After(56 * DAY)));
        assert_eq!("2100-02-28".parse(), Ok(Expiry::At(4_107_542_400)));
        for wrong in [
            "",
            "0d",
            "d",
            "-1d",
            "30",
            "30m",
            "1.5d",
            "ünd",
            "2027-13-01",
            "2027-02-30",
            "2027-1",
            "2001-01-01",
            "99999999d",
        ] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
        assert_eq!(Expiry::After(5).seconds(10), Some(15));
        assert_eq!(Expiry::Never.seconds(10), None);
    }
}
