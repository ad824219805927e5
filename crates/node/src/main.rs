//! The command line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use fdrtd::config::{Config, LogFormat, TrustMode};
use fdrtd::identity::Identity;
use fdrtd::node::{Node, StartError};
use fdrtd::policy::Profile;
use fdrtd::url::NodeUrl;
use tokio::net::TcpListener;

/// Federated secure computing: nodes compute together, and nobody learns anything but the result.
#[derive(Parser)]
#[command(name = "fdrtd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node.
    Serve(Box<ServeArgs>),
    /// Runs three nodes on one port for a lesson or a trial; nothing is kept.
    Demo(DemoArgs),
    /// Prints this node's key, and makes it if there is none.
    Identity(IdentityArgs),
}

#[derive(Args)]
struct ServeArgs {
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
    /// Where identity and storage live [default: fdrtd-data]
    #[arg(long, env = "FDRTD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Keep everything in memory, with a new identity
    #[arg(long, env = "FDRTD_EPHEMERAL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    ephemeral: Option<bool>,
    /// Disclosure rules [default: standard]
    #[arg(long, env = "FDRTD_POLICY")]
    policy: Option<Profile>,
    /// Web origin whose pages may call this node, or *; may be given several times
    #[arg(long, env = "FDRTD_CORS_ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// How keys of other nodes become known [default: tofu]
    #[arg(long, env = "FDRTD_TRUST")]
    trust: Option<TrustMode>,
    /// Reach peers beyond this machine without TLS
    #[arg(long, env = "FDRTD_ALLOW_PLAIN_HTTP", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    allow_plain_http: Option<bool>,
    /// Certificate authorities (PEM) of peers, beside those that this machine trusts
    #[arg(long, env = "FDRTD_PEER_CA_FILE")]
    peer_ca_file: Option<PathBuf>,
    /// What to log, such as info or fdrtd=debug [default: info]
    #[arg(long, env = "FDRTD_LOG")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, env = "FDRTD_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Args)]
struct DemoArgs {
    /// Port on this machine; 0 takes any free one
    #[arg(long, env = "FDRTD_DEMO_PORT", default_value_t = 55500)]
    port: u16,
    /// What to log
    #[arg(long, env = "FDRTD_LOG", default_value = "warn")]
    log: String,
}

#[derive(Args)]
struct IdentityArgs {
    /// Where identity and storage live
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve(*args),
        Command::Demo(args) => demo(&args),
        Command::Identity(args) => identity(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fdrtd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), StartError> {
    let config = merge(args)?.checked()?;
    start_log(&config.log, config.log_format)?;
    let listen = config.listen;
    if !listen.ip().is_loopback() {
        tracing::warn!(
            "this version knows no users: whoever reaches {listen} can use this node; put an authenticating proxy in front"
        );
    }
    run(vec![config], listen, |nodes, address| {
        for node in nodes {
            say(&format!(
                "fdrtd node {} listens on http://{address}{} (policy {})",
                node.fingerprint(),
                node.config.base_path,
                node.config.policy
            ))?;
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
    set(&mut config.allow_plain_http, args.allow_plain_http);
    if args.peer_ca_file.is_some() {
        config.peer_ca_file = args.peer_ca_file;
    }
    set(&mut config.log, args.log);
    set(&mut config.log_format, args.log_format);
    set(
        &mut config.public_url,
        (!args.public_url.is_empty()).then_some(args.public_url),
    );
    set(
        &mut config.cors_origins,
        (!args.cors_origin.is_empty()).then_some(args.cors_origin),
    );
    Ok(config)
}

fn demo(args: &DemoArgs) -> Result<(), StartError> {
    start_log(&args.log, LogFormat::Text)?;
    let config = |index: usize| Config {
        base_path: format!("/public{index}"),
        ephemeral: true,
        policy: Profile::Teaching,
        cors_origins: vec!["*".to_owned()],
        ..Config::default()
    };
    let address = SocketAddr::from(([127, 0, 0, 1], args.port));
    run((1..=3).map(config).collect(), address, |nodes, address| {
        let urls: Vec<String> = nodes
            .iter()
            .map(|node| format!("http://{address}{}", node.config.base_path))
            .collect();
        say(&format!(
            "Three nodes run on this machine; nothing they hold outlives them. Ctrl-C ends them.\n\n\
             Paste into Python (pip install ./clients/python):\n\n    \
             import fdrtd\n    \
             nodes = [{}]\n    \
             api_A, api_B, api_C = [fdrtd.Api(fdrtd.HttpInterface(url)) for url in nodes]\n\n\
             and go on with docs/tutorial.md.\n",
            urls.iter()
                .map(|url| format!("\"{url}\""))
                .collect::<Vec<_>>()
                .join(", ")
        ))?;
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

fn run(
    configs: Vec<Config>,
    address: SocketAddr,
    announce: impl FnOnce(&[Arc<Node>], SocketAddr) -> io::Result<()> + Send,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {} is taken by another program (perhaps another fdrtd); end it, or choose another port",
                address.port()
            ),
            _ => format!("{address}: {error}"),
        })?;
        let address = listener.local_addr()?;
        let signal = shutdown_signal()?;
        let ready = |nodes: &[Arc<Node>]| {
            if let Err(error) = announce(nodes, address) {
                tracing::warn!(%error, "standard output is closed");
            }
        };
        fdrtd::run(configs, listener, ready, signal).await
    })
}

/// Ends with Ctrl-C or SIGTERM.
fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn identity(args: &IdentityArgs) -> Result<(), StartError> {
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

fn start_log(filter: &str, format: LogFormat) -> Result<(), StartError> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("log is something like info or fdrtd=debug: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
