//! `fdrtd peers`: which nodes this node knows, and by which keys.

use std::path::PathBuf;

use axum::http::Method;
use bytes::Bytes;
use clap::{Args, Subcommand};
use fdrtd::fingerprint::Expected;
use fdrtd::operator::TOKEN_FILE;
use fdrtd::tls::date;
use fdrtd::url::NodeUrl;
use serde_json::{Value, json};

use super::client::{Client, NodeArgs, SHORT};
use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::{runtime, say};

/// Shows, pins and forgets the nodes that a node knows.
///
/// The commands ask the running node. They take its operator's token (from the data directory, for a node on this machine), or a token with the role owner;
/// for list the role viewer is enough.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd peers list
  fdrtd peers pin https://b.example/public2
  fdrtd peers pin https://b.example/public2 --fingerprint '12345 67890 12345 67890 12345 67890 12345 67890'
  fdrtd peers forget https://b.example/public2

{EXIT_HELP}"))]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Subcommand)]
enum PeersCommand {
    /// Lists the known nodes: how each is known, and whether it is connected
    List(Common),
    /// Pins the key of a node. Without a key it is asked for, and shown to be compared
    Pin(PinArgs),
    /// Forgets the key of a URL; the next one that it shows is remembered (or refused, with trust = "pinned")
    Forget(ForgetArgs),
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    node: NodeArgs,
    /// Data directory of the node: the operator's token in it is used for nodes on this machine
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PinArgs {
    /// URL of the other node
    url: NodeUrl,
    /// Its key, as `fdrtd identity` prints it there
    #[arg(long, conflicts_with = "fingerprint")]
    key: Option<Expected>,
    /// Its fingerprint in digits, with any spaces; the node at the URL must have it
    #[arg(long, value_name = "DIGITS")]
    fingerprint: Option<Expected>,
    /// Pins the key that the URL shows now, without comparing it
    #[arg(long, conflicts_with_all = ["key", "fingerprint"])]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ForgetArgs {
    /// URL of the other node
    url: NodeUrl,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn peers(args: PeersArgs) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        match args.command {
            PeersCommand::List(common) => list(&common).await,
            PeersCommand::Pin(args) => pin(&args).await,
            PeersCommand::Forget(args) => forget(&args).await,
        }
    })
}

impl Common {
    fn client(&self) -> Result<Client, Failure> {
        self.node.client_of(&self.data_dir)
    }

    async fn ask(&self, method: Method, page: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let client = self.client()?;
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answer = client.accepted(client.send(method, page, body, SHORT).await?);
        let answer = answer.map_err(|mut failure| {
            if matches!(failure.code.as_str(), "ROLE_REFUSED" | "CREDENTIALS_MISSING") {
                failure.hint = format!(
                    "give --data-dir with the directory of that node (it has {TOKEN_FILE}), or a token with that role in FDRTD_TOKEN"
                );
            }
            failure
        })?;
        answer.json()
    }
}

async fn list(common: &Common) -> Result<Exit, Failure> {
    let told = common.ask(Method::GET, "/peers", None).await?;
    if common.json {
        say(&told.to_string())?;
        return Ok(Exit::Ok);
    }
    let peers = told["peers"].as_array().map_or(&[][..], Vec::as_slice);
    if peers.is_empty() {
        say("no other node is known yet")?;
    }
    for peer in peers {
        say(&described(peer))?;
    }
    Ok(Exit::Ok)
}

async fn pin(args: &PinArgs) -> Result<Exit, Failure> {
    let url = &args.url;
    let given = args.key.as_ref().or(args.fingerprint.as_ref());
    let key = match given {
        Some(Expected::Short(_)) => {
            let hint = "give the key itself, or the fingerprint in digits: fdrtd identity shows both at that node";
            return Err(Failure::usage(
                "the short fingerprint is too short to pin a key by",
                hint,
                "PEER_KEY_UNUSABLE",
            ));
        }
        Some(Expected::Key(key)) => key.to_string(),
        Some(Expected::Spoken(digits)) => digits.clone(),
        None => {
            let shown = args
                .common
                .ask(Method::POST, "/peers", Some(&json!({"url": url})))
                .await?;
            if !args.yes {
                if args.common.json {
                    say(&shown.to_string())?;
                } else {
                    say(&to_compare(url, &shown))?;
                }
                return Ok(Exit::Failed);
            }
            text(&shown, "key")
        }
    };
    let pinned = args
        .common
        .ask(Method::POST, "/peers", Some(&json!({"url": url, "key": key})))
        .await?;
    if args.common.json {
        say(&pinned.to_string())?;
    } else {
        say(&format!("pinned {url}\n{}", key_of(&pinned)))?;
    }
    Ok(Exit::Ok)
}

async fn forget(args: &ForgetArgs) -> Result<Exit, Failure> {
    let page = format!("/peers?url={}", encoded(args.url.as_str()));
    let forgotten = args.common.ask(Method::DELETE, &page, None).await?;
    if args.common.json {
        say(&forgotten.to_string())?;
    } else {
        say(&format!("forgotten {}\n{}", args.url, key_of(&forgotten)))?;
    }
    Ok(Exit::Ok)
}

fn to_compare(url: &NodeUrl, shown: &Value) -> String {
    format!(
        "{url} shows\n{}\n\nNothing is pinned yet. Compare the digits with the people of that node, by telephone (fdrtd identity shows them there). If they are the same:\n\n  \
         fdrtd peers pin {url} --key {}",
        key_of(shown),
        text(shown, "key")
    )
}

fn key_of(peer: &Value) -> String {
    format!(
        "  key        {}\n  in digits  {}",
        text(peer, "key"),
        text(peer, "spoken")
    )
}

fn described(peer: &Value) -> String {
    let url = match peer["url"].as_str() {
        Some(url) => printable(url),
        None => "(connected by itself; its URL is not known)".to_owned(),
    };
    let since = peer["since"]
        .as_u64()
        .map(|at| format!(" at {}", date(at)))
        .unwrap_or_default();
    let how = match peer["known"].as_str() {
        Some("configured") => "in the configuration".to_owned(),
        Some("pinned") => format!("pinned by command{since}"),
        Some("first-use") => format!("remembered at first use{since}"),
        _ => "unknown".to_owned(),
    };
    let state = match (peer["connected"].as_bool(), peer["last_heard"].as_u64()) {
        (Some(true), _) => "connected".to_owned(),
        (_, Some(at)) => format!("not connected, last heard at {}", date(at)),
        _ => "not connected".to_owned(),
    };
    let organisation = match peer["organisation"].as_str() {
        Some(name) => format!("\n  of         {}", printable(name)),
        None => String::new(),
    };
    let outdated = match peer["configured_key"].as_str() {
        Some(_) => "\n  the configuration has an older key of this node: write the one above under [[peers]]",
        None => "",
    };
    format!(
        "{url}\n{}{organisation}\n  known      {how}\n  state      {state}{outdated}",
        key_of(peer)
    )
}

fn text(value: &Value, name: &str) -> String {
    printable(value[name].as_str().unwrap_or_default())
}

/// Percent-encoded, as part of a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_survive_a_query() {
        assert_eq!(
            encoded("http://[::1]:8000/a+b&c=%"),
            "http://[::1]:8000/a%2Bb%26c%3D%25"
        );
    }

    #[test]
    fn nothing_of_a_peer_reaches_the_terminal_raw() {
        let peer = json!({"url": "http://a\u{1b}[2J", "key": "k\u{7}", "known": "configured", "organisation": "x\u{202e}y", "configured_key": "k"});
        let told = described(&peer);
        assert!(
            !told.contains('\u{1b}') && !told.contains('\u{7}') && !told.contains('\u{202e}'),
            "{told:?}"
        );
        assert!(told.contains("write the one above"));
    }
}
