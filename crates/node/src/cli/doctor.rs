//! `fdrtd doctor`: tests the ways between nodes, from this machine and from each node to each other, and says where a way ends and what to do.

mod compare;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use fdrtd::connect::Connector;
use fdrtd::fingerprint::Expected;
use fdrtd::identity::{Identity, PeerKey};
use fdrtd::invitation::Link;
use fdrtd::peer::TlsFault;
use fdrtd::peer::probe::{Obstacle, Probe, probe};
use fdrtd::url::{NodeUrl, UrlError};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Client, NodeArgs};
use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::{runtime, say};

/// Probes, and nodes asked, at once.
const AT_ONCE: usize = 8;
/// A node gives up on a probe before.
const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// A node that tests other connections is asked again so many times, a second apart.
const RETRIES: usize = 30;

/// Tests the ways between nodes layer by layer: DNS, TCP, TLS, path, version, key, WebSocket, round trip.
///
/// Every URL is tried from this machine, and every node is asked to try every other one. A token is sent to the node of --node only, if it is among the URLs.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd doctor https://a.example/public1 https://b.example/public2
  fdrtd doctor --node https://a.example/public1 --token-file a.token https://a.example/public1 https://b.example/public2
  fdrtd doctor 'https://b.example/public2#abcd-efgh-ijkl-mnop'
  fdrtd doctor 'fdrtd:https://a.example/public1#...'

{EXIT_HELP}"))]
pub(crate) struct DoctorArgs {
    /// URLs of nodes, each with #KEY or #FINGERPRINT behind it if that is known; or the links of invitations (fdrtd:...)
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Target>,
    /// The key, or the fingerprint, that the node at a URL must have; may be given several times
    #[arg(long, value_name = "URL=KEY")]
    pinned: Vec<Pinned>,
    #[command(flatten)]
    node: NodeArgs,
    /// Data directory of a node on this machine: the operator's token in it is sent to that node, on this machine only
    #[arg(long, env = "FDRTD_DATA_DIR", value_name = "DIRECTORY", default_value = "fdrtd-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A URL to test, and the key that is expected there.
#[derive(Clone, Debug)]
struct Target {
    url: NodeUrl,
    expected: Option<Expected>,
}

#[derive(Clone, Debug)]
struct Pinned {
    url: NodeUrl,
    expected: Expected,
}

/// A way from here (`None`) or from one of the targets to another.
#[derive(Debug)]
struct Way {
    from: Option<usize>,
    to: usize,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Probe(Probe),
    /// The node at its beginning could not be asked; the code, why, and what to do.
    NotAsked(Obstacle),
}

pub(crate) fn doctor(mut args: DoctorArgs) -> Result<Exit, Failure> {
    pin(&mut args)?;
    let callers = Callers::new(&args)?;
    let ways = runtime()?.block_on(walk_all(&callers, &args.urls, args.json))?;
    let ok = ways.iter().all(Way::is_ok);
    if args.json {
        let ways: Vec<Value> = ways.iter().map(|way| way.to_json(&args.urls)).collect();
        say(&json!({"ok": ok, "ways": ways}).to_string())?;
    } else {
        let keys = keys(&ways, &args.urls);
        if !keys.is_empty() {
            say(&keys)?;
        }
        say(&advice(&ways, &args.urls))?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Failed })
}

/// `--pinned` into the targets; the same URL twice is one.
fn pin(args: &mut DoctorArgs) -> Result<(), Failure> {
    for pinned in &args.pinned {
        let Some(target) = args.urls.iter_mut().find(|target| target.url == pinned.url) else {
            return Err(Failure::usage(
                format!("--pinned names {}, which is not among the URLs to test", pinned.url),
                "name that URL as well",
                "PINNED_UNKNOWN",
            ));
        };
        target.expected = Some(pinned.expected.clone());
    }
    let mut kept: Vec<Target> = Vec::new();
    for target in args.urls.drain(..) {
        match kept.iter_mut().find(|other| other.url == target.url) {
            Some(same) => same.expected = same.expected.take().or(target.expected),
            None => kept.push(target),
        }
    }
    args.urls = kept;
    Ok(())
}

/// With what nodes are asked. The nodes are several people's, so a token goes to its own one alone.
struct Callers {
    connector: Connector,
    /// The node that `token` is for.
    own: Option<NodeUrl>,
    token: Option<Zeroizing<String>>,
    data_dir: PathBuf,
}

impl Callers {
    fn new(args: &DoctorArgs) -> Result<Callers, Failure> {
        Ok(Callers {
            connector: args.node.trust.connector()?,
            own: args.node.node.clone(),
            token: args.node.given_token()?,
            data_dir: args.data_dir.clone(),
        })
    }

    /// `known` is whether nothing speaks against the node's key: who has another key than was named gets no token.
    fn client(&self, url: &NodeUrl, known: bool) -> Result<Client, Failure> {
        let mut client = Client::new(self.connector.clone(), url.clone());
        if known {
            if let Some(token) = self.token.as_ref().filter(|_| self.own.as_ref() == Some(url)) {
                client.set_token(token)?;
            }
            client.find_token(&self.data_dir)?;
        }
        Ok(client)
    }
}

async fn walk_all(callers: &Callers, targets: &[Target], quiet: bool) -> Result<Vec<Way>, Failure> {
    let identity = Identity::ephemeral().map_err(|error| Failure::new(Exit::Failed, error.to_string(), "", "", ""))?;
    let mut ways: Vec<Way> = Vec::new();
    let here = (0..targets.len()).map(|to| from_here(&callers.connector, &identity, targets, to));
    let mut here = stream::iter(here).buffered(AT_ONCE);
    while let Some(way) = here.next().await {
        if !quiet {
            say(&way.line(targets))?;
        }
        ways.push(way);
    }
    let seen: Vec<Option<PeerKey>> = ways.iter().map(Way::key).collect();
    let clients: Vec<Option<Result<Client, Failure>>> = ways
        .iter()
        .map(|way| {
            way.key()
                .map(|_| callers.client(&targets[way.to].url, way.is_of_its_key()))
        })
        .collect();
    let asked = (0..targets.len()).map(|from| from_node(clients[from].as_ref(), targets, from));
    let mut asked = stream::iter(asked).buffered(AT_ONCE);
    while let Some(group) = asked.next().await {
        for mut way in group {
            compare::with_here(&mut way, targets, &seen);
            if !quiet {
                say(&way.line(targets))?;
            }
            ways.push(way);
        }
    }
    Ok(ways)
}

async fn from_here(connector: &Connector, identity: &Identity, targets: &[Target], to: usize) -> Way {
    let mut found = probe(connector, identity, &targets[to].url, &[]).await;
    if let Some(error) = &mut found.error
        && error.hint == TlsFault::UnknownIssuer.hint()
    {
        error.hint =
            "name the authority's PEM file with --ca-file or FDRTD_CA_FILE, if you trust it; nodes have peer_ca_file"
                .to_owned();
    }
    compare::with_expected(&mut found, targets[to].expected.as_ref());
    Way {
        from: None,
        to,
        found: Found::Probe(found),
    }
}

/// The node `from` tries all others, one after the other; it is asked through `client` if it can be reached.
async fn from_node(client: Option<&Result<Client, Failure>>, targets: &[Target], from: usize) -> Vec<Way> {
    let mut ways = Vec::new();
    for (to, target) in targets.iter().enumerate().filter(|(to, _)| *to != from) {
        let found = match client {
            Some(Ok(client)) => ask(client, target).await,
            Some(Err(failure)) => Found::not_asked(&failure.what, &failure.hint, &failure.code),
            None => Found::not_asked("it cannot be reached from this machine", "", "NOT_ASKED"),
        };
        ways.push(Way {
            from: Some(from),
            to,
            found,
        });
    }
    ways
}

async fn ask(client: &Client, target: &Target) -> Found {
    let body = json!({"url": target.url}).to_string();
    for _ in 0..RETRIES {
        let asked = client.send(Method::POST, "/probe", Some(body.clone().into()), PROBE_LIMIT);
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(failure) => return Found::not_asked(&failure.what, &failure.hint, &failure.code),
        };
        let busy = answer.json().is_ok_and(|problem| problem["code"] == "PROBES_BUSY");
        return match answer.status {
            200 => match serde_json::from_slice::<Probe>(&answer.body) {
                Ok(mut found) => {
                    compare::with_expected(&mut found, target.expected.as_ref());
                    Found::Probe(found)
                }
                Err(_) => Found::not_asked(
                    "its answer cannot be read",
                    "run the same version everywhere",
                    "NOT_ASKED",
                ),
            },
            503 if busy => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            404 | 405 => Found::not_asked(
                "that node is too old to be asked",
                "update that node, or run fdrtd doctor on its machine",
                "NOT_ASKED",
            ),
            status @ (401 | 403) => refused(client, status, &answer.body),
            status => match Failure::from_problem(status, &answer.body) {
                Some(failure) => Found::not_asked(&failure.what, &failure.hint, &failure.code),
                None => Found::not_asked(
                    &format!("HTTP status {status}"),
                    "what stands before that node must let POST {base}/probe pass; or run fdrtd doctor on its machine",
                    "NOT_ASKED",
                ),
            },
        };
    }
    Found::not_asked("it is busy with other tests", "try again later", "PROBES_BUSY")
}

/// A node that asks who calls.
fn refused(client: &Client, status: u16, body: &[u8]) -> Found {
    let problem = Failure::from_problem(status, body);
    let (code, hint) = problem.map_or_else(
        || ("NOT_ASKED".to_owned(), String::new()),
        |failure| (failure.code, failure.hint),
    );
    let others = "or have its operator run fdrtd doctor";
    let (message, hint) = match (status, client.has_token()) {
        (401, false) => (
            "that node asks for a token",
            format!(
                "if you have one, name the node and the token: --node {} --token-file FILE; {others}",
                client.base()
            ),
        ),
        (401, true) => (
            "that node does not take the token",
            format!("ask its operator for a new one, {others}"),
        ),
        _ if code == "ROLE_REFUSED" => (
            "that node lets analysts and owners test connections, and the token is a viewer's",
            format!("use another token, {others}"),
        ),
        _ => ("that node refuses to be asked", hint),
    };
    Found::not_asked(message, &hint, &code)
}

impl Found {
    fn not_asked(message: &str, hint: &str, code: &str) -> Found {
        Found::NotAsked(Obstacle {
            layer: "ask".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        })
    }
}

impl Way {
    fn is_ok(&self) -> bool {
        matches!(&self.found, Found::Probe(found) if found.ok)
    }

    fn key(&self) -> Option<PeerKey> {
        match &self.found {
            Found::Probe(found) => found.key,
            Found::NotAsked(_) => None,
        }
    }

    /// Whether the node has the key that was named for it, if one was.
    fn is_of_its_key(&self) -> bool {
        self.obstacle().is_none_or(|error| error.layer != "key")
    }

    fn obstacle(&self) -> Option<&Obstacle> {
        match &self.found {
            Found::Probe(found) => found.error.as_ref(),
            Found::NotAsked(why) => Some(why),
        }
    }

    fn line(&self, targets: &[Target]) -> String {
        let way = format!("{} → {}", self.start(targets), targets[self.to].url);
        match &self.found {
            Found::Probe(found) => match &found.error {
                None => {
                    let time = found.round_trip_ms.unwrap_or_default();
                    let key = found.key.map(|key| key.fingerprint()).unwrap_or_default();
                    format!("{way}  ok  {time:.1} ms  key {key}")
                }
                Some(error) => printable(&format!(
                    "{way}  FAIL {}: {} — {} ({})",
                    error.layer, error.message, error.hint, error.code
                )),
            },
            Found::NotAsked(why) => printable(&format!("{way}  not tested: {}", why.message)),
        }
    }

    fn start(&self, targets: &[Target]) -> String {
        self.from
            .map_or_else(|| "here".to_owned(), |from| targets[from].url.to_string())
    }

    fn to_json(&self, targets: &[Target]) -> Value {
        let (asked, probe) = match &self.found {
            Found::Probe(found) => (true, found.clone()),
            Found::NotAsked(why) => (
                false,
                Probe {
                    error: Some(why.clone()),
                    ..Probe::default()
                },
            ),
        };
        json!({
            "from": self.from.map(|from| &targets[from].url),
            "to": targets[self.to].url,
            "asked": asked,
            "ok": self.is_ok(),
            "key": probe.key,
            "fingerprint": probe.key.map(|key| key.fingerprint()),
            "spoken": probe.key.map(|key| key.spoken()),
            "former": probe.former,
            "steps": probe.steps,
            "round_trip_ms": probe.round_trip_ms,
            "error": probe.error,
        })
    }
}

/// The keys as this machine saw them, in the form for the telephone, and which are new.
fn keys(ways: &[Way], targets: &[Target]) -> String {
    let mut text = String::new();
    for way in ways.iter().filter(|way| way.from.is_none()) {
        let (Some(key), Found::Probe(found)) = (way.key(), &way.found) else {
            continue;
        };
        let target = &targets[way.to];
        text += &format!("\n{}  {}", target.url, key.spoken());
        let old = target.expected.as_ref().is_some_and(|expected| !expected.is(&key));
        if old && way.is_ok() {
            text += "\n  this key has succeeded the one you named: write the new one wherever the old one is written";
        } else if let Some(former) = found.former.last() {
            text += &format!("\n  before it, this node had the key {}", former.fingerprint());
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\nKeys in digits, to compare by telephone:{text}")
}

/// What to do, once for each remedy.
fn advice(ways: &[Way], targets: &[Target]) -> String {
    let good = ways.iter().filter(|way| way.is_ok()).count();
    if good == ways.len() {
        return "\nAll is well.".to_owned();
    }
    let mut remedies: Vec<(usize, &str, Vec<String>)> = Vec::new();
    for way in ways {
        // Without a hint: the way from here to that node has it.
        let Some(error) = way.obstacle().filter(|error| !error.hint.is_empty()) else {
            continue;
        };
        // What is wrong with a node that cannot be asked concerns that node.
        let about = match &way.found {
            Found::NotAsked(_) => way.from.unwrap_or(way.to),
            Found::Probe(_) => way.to,
        };
        let known = remedies
            .iter_mut()
            .find(|(to, hint, _)| *to == about && *hint == error.hint);
        match known {
            Some((_, _, starts)) => starts.push(way.start(targets)),
            None => remedies.push((about, &error.hint, vec![way.start(targets)])),
        }
    }
    let mut text = format!("\n{good} of {} ways are good. What to do:", ways.len());
    for (about, hint, mut starts) in remedies {
        starts.dedup();
        let line = format!("- {} (from {}): {hint}", targets[about].url, starts.join(", "));
        text.push('\n');
        text.push_str(&printable(&line));
    }
    text
}

impl FromStr for Target {
    type Err = String;

    /// `URL`, `URL#KEY` or `fdrtd:URL#KEY.TASK`.
    fn from_str(text: &str) -> Result<Target, String> {
        if Link::is_meant(text) {
            let link = Link::parse(text).map_err(|error| format!("this is not an invitation link: {error}"))?;
            let url = link.url.ok_or("this link names no URL, so there is nothing to test")?;
            let expected = Some(Expected::Key(link.key));
            return Ok(Target { url, expected });
        }
        let (url, key) = match text.trim().split_once('#') {
            Some((url, key)) => (url, Some(key)),
            None => (text, None),
        };
        Ok(Target {
            url: url.parse().map_err(|error: UrlError| error.to_string())?,
            expected: key.map(str::parse).transpose()?,
        })
    }
}

impl FromStr for Pinned {
    type Err = String;

    fn from_str(text: &str) -> Result<Pinned, String> {
        let (url, key) = text.rsplit_once('=').ok_or("write URL=KEY")?;
        Ok(Pinned {
            url: url.parse().map_err(|error: UrlError| error.to_string())?,
            expected: key.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_may_name_keys() {
        let key = Identity::from_seed(&[1; 32]).key();
        let plain: Target = "https://A.example/x/".parse().unwrap();
        assert_eq!((plain.url.as_str(), plain.expected), ("https://a.example/x", None));
        let keyed: Target = format!("http://a/x#{key}").parse().unwrap();
        assert_eq!(keyed.expected, Some(Expected::Key(key)));
        let spoken: Target = format!("http://a/x#{}", key.spoken()).parse().unwrap();
        assert_eq!(spoken.expected, Some(Expected::Spoken(key.spoken())));
        let named: Target = format!("http://a/x#{}", key.fingerprint()).parse().unwrap();
        assert_eq!(named.expected, Some(Expected::Short(key.fingerprint())));
        let link: Target = format!("fdrtd:http://a/x#{key}.{key}").parse().unwrap();
        assert_eq!(
            (link.url.as_str(), link.expected),
            ("http://a/x", Some(Expected::Key(key)))
        );
        for bad in [
            "",
            "a",
            "ftp://a",
            "http://a#",
            "http://a#short",
            "http://a#12345",
            "fdrtd:http://a",
            "fdrtd:x",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        assert!(format!("http://a/x={key}").parse::<Pinned>().is_ok());
        assert!("http://a/x".parse::<Pinned>().is_err());
    }
}
