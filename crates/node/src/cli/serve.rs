//! `fdrtd serve`: one node.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use fdrtd::access::settings::Anonymous;
use fdrtd::addresses::AddressRange;
use fdrtd::config::{Config, LogFormat, TrustMode};
use fdrtd::node::StartError;
use fdrtd::policy::Profile;
use fdrtd::reach::Allowed;
use fdrtd::url::NodeUrl;
use serde_json::json;

use super::address::{Flags, reachable};
use super::{listening, run, say, start_log};

const FLAGS: Flags = Flags {
    host: "--listen",
    port: "--listen",
};

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML); flags and environment win over it
    #[arg(long, env = "FDRTD_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:55500]
    #[arg(long, env = "FDRTD_LISTEN")]
    listen: Option<SocketAddr>,
    /// Path in front of everything, such as /public1
    #[arg(long, env = "FDRTD_BASE_PATH")]
    base_path: Option<String>,
    /// URL under which others reach this node; may be given several times
    #[arg(long, env = "FDRTD_PUBLIC_URL", value_delimiter = ',')]
    public_url: Vec<NodeUrl>,
    /// Address or range (10.0.0.0/8) of reverse proxies whose X-Forwarded-* headers are believed; may be given several times
    #[arg(long, env = "FDRTD_TRUSTED_PROXY", value_delimiter = ',')]
    trusted_proxy: Vec<AddressRange>,
    /// Where identity and storage live [default: fdrtd-data]
    #[arg(long, env = "FDRTD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Keep everything in memory, with a new identity
    #[arg(long, env = "FDRTD_EPHEMERAL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    ephemeral: Option<bool>,
    /// Where the operator's token is kept [default: operator.token in the data directory]
    #[arg(long, env = "FDRTD_OPERATOR_TOKEN_FILE")]
    operator_token_file: Option<PathBuf>,
    /// Disclosure rules [default: standard]
    #[arg(long, env = "FDRTD_POLICY")]
    policy: Option<Profile>,
    /// Whether callers without a token are admitted [default: auto, as long as only this machine reaches the node and it has no tokens]
    #[arg(long, env = "FDRTD_ANONYMOUS")]
    anonymous: Option<Anonymous>,
    /// Web origin whose pages may call this node, or *; may be given several times
    #[arg(long, env = "FDRTD_CORS_ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// How keys of other nodes become known [default: tofu]
    #[arg(long, env = "FDRTD_TRUST")]
    trust: Option<TrustMode>,
    /// Reach peers beyond this machine without TLS
    #[arg(long, env = "FDRTD_ALLOW_PLAIN_HTTP", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    allow_plain_http: Option<bool>,
    /// Addresses beside public ones to which this node may connect: loopback, private, shared, or a range (10.0.0.0/8); may be given several times
    #[arg(long, env = "FDRTD_ALLOW_PEER_ADDRESS", value_delimiter = ',')]
    allow_peer_address: Vec<Allowed>,
    /// Certificate authorities (PEM) of peers, beside those that this machine trusts
    #[arg(long, env = "FDRTD_PEER_CA_FILE")]
    peer_ca_file: Option<PathBuf>,
    /// Certificate (PEM) of this node: with it the node speaks TLS; its own first, then those that signed it
    #[arg(long, env = "FDRTD_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, env = "FDRTD_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// What to log, such as info or fdrtd=debug [default: info]
    #[arg(long, env = "FDRTD_LOG")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "FDRTD_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Say as one line of JSON where the node listens
    #[arg(long)]
    json: bool,
}

pub(crate) fn serve(args: ServeArgs) -> Result<(), StartError> {
    let as_json = args.json;
    let config = merge(args)?.checked()?;
    start_log(&config.log, config.log_format)?;
    let listen = config.listen;
    if !listen.ip().is_loopback() && config.access.anonymous == Anonymous::Yes {
        tracing::warn!(
            "whoever reaches {listen} can use this node (--anonymous yes): for lessons in a network you trust"
        );
    }
    let scheme = if config.tls.cert_file.is_some() {
        "https"
    } else {
        "http"
    };
    let hint = config.public_url.is_empty();
    let configs = |_| Ok(vec![config]);
    run(listen, FLAGS, configs, |nodes, address| {
        for node in nodes {
            let base_path = &node.config.base_path;
            let url = format!("{scheme}://{address}{base_path}");
            let others = if hint && !address.ip().is_loopback() {
                reachable(address.ip())
            } else {
                None
            };
            let others = others.map(|ip| format!("{scheme}://{}{base_path}", SocketAddr::new(ip, address.port())));
            if as_json {
                let mut line = listening(node, &url);
                let urls = node.config.public_url.iter();
                line["public_url"] = urls.map(ToString::to_string).collect();
                line["others_may_use"] = json!(others);
                say(&line.to_string())?;
                continue;
            }
            say(&format!(
                "fdrtd node {} listens on {url} (policy {})",
                node.fingerprint(),
                node.config.policy
            ))?;
            if let Some(known) = others {
                say(&format!(
                    "others may reach it as {known}; set --public-url if that is right"
                ))?;
            }
        }
        Ok(())
    })
}

/// The file, then what flags and environment say.
fn merge(args: ServeArgs) -> Result<Config, StartError> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    fn set<T>(slot: &mut T, given: Option<T>) {
        if let Some(value) = given {
            *slot = value;
        }
    }
    set(&mut config.listen, args.listen);
    set(&mut config.base_path, args.base_path);
    set(&mut config.data_dir, args.data_dir);
    set(&mut config.ephemeral, args.ephemeral);
    set(&mut config.policy, args.policy);
    set(&mut config.trust, args.trust);
    set(&mut config.access.anonymous, args.anonymous);
    set(&mut config.allow_plain_http, args.allow_plain_http);
    if args.operator_token_file.is_some() {
        config.operator_token_file = args.operator_token_file;
    }
    if args.peer_ca_file.is_some() {
        config.peer_ca_file = args.peer_ca_file;
    }
    if args.tls_cert.is_some() {
        config.tls.cert_file = args.tls_cert;
    }
    if args.tls_key.is_some() {
        config.tls.key_file = args.tls_key;
    }
    set(&mut config.log, args.log);
    set(&mut config.log_format, args.log_format);
    set(
        &mut config.public_url,
        (!args.public_url.is_empty()).then_some(args.public_url),
    );
    set(
        &mut config.trusted_proxies,
        (!args.trusted_proxy.is_empty()).then_some(args.trusted_proxy),
    );
    set(
        &mut config.allow_peer_addresses,
        (!args.allow_peer_address.is_empty()).then_some(args.allow_peer_address),
    );
    set(
        &mut config.cors_origins,
        (!args.cors_origin.is_empty()).then_some(args.cors_origin),
    );
    Ok(config)
}
