//! `fdrtd demo`: three nodes in one process.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use fdrtd::access::settings::{AccessConfig, Anonymous};
use fdrtd::config::{Config, LogFormat};
use fdrtd::node::StartError;
use fdrtd::policy::Profile;
use fdrtd::reach::Allowed;
use fdrtd::url::NodeUrl;
use serde_json::{Value, json};

use super::address::{Flags, reachable};
use super::demo_ca::DemoCa;
use super::{listening, run, say, start_log};

/// With TLS the certificate is for these, beside what is known of this machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const FLAGS: Flags = Flags {
    host: "--host",
    port: "--port",
};
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Port to listen on; 0 takes any free one
    #[arg(long, env = "FDRTD_DEMO_PORT", default_value_t = 55500)]
    port: u16,
    /// Address to listen on; 0.0.0.0 or :: for all of this machine, so that others can use the nodes as well
    #[arg(long, env = "FDRTD_DEMO_HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// URL under which others reach this machine and port, such as http://192.168.1.5:55500 [default: guessed]
    #[arg(long, env = "FDRTD_DEMO_PUBLIC_URL")]
    public_url: Option<NodeUrl>,
    /// Speak https, with a certificate authority made on the spot
    #[arg(long)]
    tls: bool,
    /// Where to write that authority's certificate (its key is never written) [default: a temporary directory]
    #[arg(long, requires = "tls")]
    ca_file: Option<PathBuf>,
    /// What to log
    #[arg(long, env = "FDRTD_LOG", default_value = "warn")]
    log: String,
    /// Say as one line of JSON where the nodes listen
    #[arg(long)]
    json: bool,
}

pub(crate) fn demo(args: &DemoArgs) -> Result<(), StartError> {
    start_log(&args.log, LogFormat::Text)?;
    let known = known_as(args)?;
    let ca = if args.tls {
        let mut hosts: Vec<String> = LOOPBACK.map(str::to_owned).to_vec();
        hosts.extend(known.host());
        hosts.extend(reachable(args.host).map(|ip| ip.to_string()));
        hosts.sort_unstable();
        hosts.dedup();
        Some(DemoCa::make(hosts, args.ca_file.as_deref())?)
    } else {
        None
    };
    let configs = |bound: SocketAddr| {
        let urls = known.urls(bound, args.tls)?;
        if !matches!(known, Known::Here) {
            warn(&known, &urls[0], bound.port());
        }
        Ok(urls
            .iter()
            .zip(1..)
            .map(|(url, index)| config(&known, ca.as_ref(), bound, url, index))
            .collect())
    };
    run(SocketAddr::new(args.host, args.port), FLAGS, configs, |nodes, bound| {
        let urls = known.urls(bound, args.tls).map_err(io::Error::other)?;
        if args.json {
            let each = nodes.iter().zip(&urls);
            let each: Vec<Value> = each.map(|(node, url)| listening(node, &url.to_string())).collect();
            let file = ca.as_ref().map(|ca| ca.file.display().to_string());
            return say(&json!({"nodes": each, "ca_file": file}).to_string());
        }
        say(&welcome(&urls, ca.as_ref()))?;
        for (node, url) in nodes.iter().zip(&urls) {
            say(&format!(
                "fdrtd node {} listens on {url} (policy {})",
                node.fingerprint(),
                node.config.policy
            ))?;
        }
        Ok(())
    })
}

/// Under which address others know this machine.
enum Known {
    /// Under none: nobody else reaches it.
    Here,
    Given(NodeUrl),
    Guessed(IpAddr),
}

fn known_as(args: &DemoArgs) -> Result<Known, StartError> {
    match &args.public_url {
        Some(url) if args.tls && !url.is_tls() => {
            Err(format!("with --tls the public URL begins with https://, and {url} does not").into())
        }
        Some(url) => Ok(Known::Given(url.clone())),
        None if args.host.is_loopback() => Ok(Known::Here),
        None => match reachable(args.host) {
            Some(ip) => Ok(Known::Guessed(ip)),
            None => {
                Err("this machine seems to be in no network; if it is, give --public-url http://ADDRESS:PORT".into())
            }
        },
    }
}

impl Known {
    /// The host by which others call this machine, as a certificate names it.
    fn host(&self) -> Option<String> {
        match self {
            Known::Here => None,
            Known::Given(url) => Some(url.host().trim_matches(['[', ']']).to_owned()),
            Known::Guessed(ip) => Some(ip.to_string()),
        }
    }

    /// The address by which others call this machine, unless they call it by a name.
    fn address(&self) -> Option<Allowed> {
        let address: IpAddr = self.host()?.parse().ok()?;
        address.to_string().parse().ok()
    }

    /// Of the three nodes.
    fn urls(&self, bound: SocketAddr, tls: bool) -> Result<Vec<NodeUrl>, StartError> {
        let scheme = if tls { "https" } else { "http" };
        let base = match self {
            Known::Here => format!("{scheme}://{bound}"),
            Known::Given(url) => url.to_string(),
            Known::Guessed(ip) => format!("{scheme}://{}", SocketAddr::new(*ip, bound.port())),
        };
        let urls = (1..=3).map(|index| NodeUrl::parse(&format!("{base}/public{index}")));
        Ok(urls.collect::<Result<_, _>>()?)
    }
}

fn config(known: &Known, ca: Option<&DemoCa>, bound: SocketAddr, url: &NodeUrl, index: usize) -> Config {
    let here = matches!(known, Known::Here);
    Config {
        listen: bound,
        base_path: format!("/public{index}"),
        public_url: if here { Vec::new() } else { vec![url.clone()] },
        ephemeral: true,
        policy: Profile::Teaching,
        // Pages from anywhere may use nodes that only this machine's user reaches: lessons in a browser. Nodes that others reach would otherwise be open
        // to every page that somebody in their network looks at, and so to people far outside of it.
        cors_origins: if here { vec!["*".to_owned()] } else { Vec::new() },
        // For lessons; `warn` says what it means.
        access: AccessConfig {
            anonymous: Anonymous::Yes,
            ..AccessConfig::default()
        },
        allow_plain_http: !url.is_tls() && !url.is_loopback(),
        // The three reach each other under the address by which others reach them.
        allow_peer_addresses: known.address().into_iter().collect(),
        peer_ca_file: ca.map(|ca| ca.file.clone()),
        tls: ca.map(|ca| ca.tls.clone()).unwrap_or_default(),
        ..Config::default()
    }
}

/// On standard error: what it means that others reach these nodes.
fn warn(known: &Known, url: &NodeUrl, port: u16) {
    let mut text = String::new();
    if let Known::Guessed(ip) = known {
        text = format!("fdrtd: others may reach this machine as {ip}; if that is wrong, give --public-url\n");
    }
    text += &format!(
        "fdrtd: whoever reaches port {port} of this machine can use these nodes (there are no passwords): for lessons in a network you trust\n"
    );
    if !url.is_tls() {
        text += "fdrtd: what people send to their node travels unencrypted; with --tls it does not\n";
    }
    // Nobody is left to tell if this fails.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn welcome(urls: &[NodeUrl], ca: Option<&DemoCa>) -> String {
    let list: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    let list = list.join(", ");
    let (file, argument, hint) = match ca {
        None => (String::new(), "", String::new()),
        Some(ca) => {
            let file = ca.file.display();
            (
                format!("ca_file = {:?}\n    ", ca.file),
                ", ca_file=ca_file",
                format!(
                    "\n\nThe certificate is signed by an authority made just now. Every program of yours trusts it for these nodes after\n\n  \
                     export FDRTD_CA_FILE='{file}'\n\n\
                     in its shell; other machines need a copy of that file"
                ),
            )
        }
    };
    format!(
        "Three nodes run on this machine; nothing they hold outlives them. Ctrl-C ends them.\n\n\
         Paste into Python (pip install ./clients/python):\n\n    \
         import fdrtd\n    \
         {file}nodes = [{list}]\n    \
         api_A, api_B, api_C = [fdrtd.Api(fdrtd.HttpInterface(url{argument})) for url in nodes]\n\n\
         and go on with docs/tutorial.md.{hint}\n"
    )
}
