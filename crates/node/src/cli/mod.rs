//! The subcommands, one file each, and what they share.

pub(crate) mod address;
pub(crate) mod audit;
pub(crate) mod backup;
mod client;
pub(crate) mod completion;
pub(crate) mod compute;
pub(crate) mod demo;
pub(crate) mod demo_ca;
pub(crate) mod doctor;
pub(crate) mod failure;
pub(crate) mod identity;
pub(crate) mod peers;
pub(crate) mod policy;
pub(crate) mod receipt;
pub(crate) mod serve;
mod simon;
pub(crate) mod task;
pub(crate) mod token;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use fdrtd::config::{Config, LogFormat};
use fdrtd::node::{Node, StartError};
use serde_json::{Value, json};

use self::address::Flags;

/// Listens at `address`, and runs the nodes that `configs` makes for the address that was got.
fn run(
    address: SocketAddr,
    flags: Flags,
    configs: impl FnOnce(SocketAddr) -> Result<Vec<Config>, StartError> + Send,
    announce: impl FnOnce(&[Arc<Node>], SocketAddr) -> io::Result<()> + Send,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = address::bind(address, flags).await?;
        let address = listener.local_addr()?;
        let configs = configs(address)?;
        let signal = shutdown_signal()?;
        let ready = |nodes: &[Arc<Node>]| {
            if let Err(error) = announce(nodes, address) {
                tracing::warn!(%error, "standard output is closed");
            }
        };
        fdrtd::run(configs, listener, ready, signal).await
    })
}

/// For commands that call nodes: one thread will do.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
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

/// Ends with Ctrl-C or SIGTERM; never, if they cannot be listened for.
async fn interrupted() {
    match shutdown_signal() {
        Ok(signal) => signal.await,
        Err(_) => std::future::pending().await,
    }
}

fn start_log(filter: &str, format: LogFormat) -> Result<(), StartError> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("log is something like info or fdrtd=debug: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Where the log cannot be written, saying so would panic: on a full disk the node has to go on answering.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// What programs are told of a node that listens.
fn listening(node: &Node, url: &str) -> Value {
    json!({"url": url, "fingerprint": node.fingerprint(), "policy": node.config.policy.to_string()})
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
