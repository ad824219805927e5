//! A node for federated secure computing.
//!
//! The way of a call: [`access`] says who is admitted and what their role lets them do, [`api`] translates HTTP, [`node`] finds the service, [`services`] parse
//! and find what is the caller's, [`policy`] permits, [`task`] keeps a task's state and deadlines, [`ledger`] records releases, [`session`] speaks the protocol
//! between nodes and drives one machine of `fdrtd-mpc`, [`peer`] carries its messages, [`receipt`] is what all parties sign at the end, [`audit`] notes what was
//! done, [`store`] keeps what survives a restart. Modules call downwards only.
//!
//! Not supported yet: the other generation of the HTTP API.

pub mod access;
mod acquaintances;
pub mod addresses;
pub mod api;
pub mod approvals;
pub mod audit;
pub mod backup;
pub mod chain;
pub mod config;
pub mod connect;
pub mod descriptor;
pub mod fingerprint;
pub mod here;
pub mod identity;
pub mod invitation;
pub mod json;
pub mod ledger;
pub mod metrics;
pub mod node;
pub mod operator;
pub mod peer;
pub mod policy;
pub mod principal;
pub mod private_ca;
pub mod problem;
pub mod reach;
pub mod reason;
pub mod receipt;
pub mod rotation;
mod serve;
pub mod services;
pub mod session;
pub mod store;
pub mod task;
pub mod tasks;
pub mod tls;
pub mod url;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::node::{Node, StartError};
use crate::tls::Tls;

/// How long requests in progress may take after a node was asked to stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// Nodes that share a listener share the first one's limits.
fn bounds(nodes: &[Arc<Node>]) -> serve::Bounds {
    let first = nodes.first();
    serve::Bounds {
        limits: first
            .map(|node| &node.config.limits)
            .unwrap_or(&config::Limits::default())
            .listener(),
        proxies: nodes
            .iter()
            .flat_map(|node| node.config.trusted_proxies.clone())
            .collect(),
        metrics: first.map(|node| node.metrics().clone()).unwrap_or_default(),
    }
}

/// Runs the nodes of `configs` on one listener until `shutdown`; `ready` is told when they can be called.
///
/// They share the listener and so its certificate: `tls` is the same in all of them.
///
/// # Errors
/// A node that cannot start, unusable certificate files, or a listener that fails.
pub async fn run(
    configs: Vec<Config>,
    listener: TcpListener,
    ready: impl FnOnce(&[Arc<Node>]) + Send,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let mut nodes = Vec::new();
    let mut origins = Vec::new();
    let mut configs: Vec<Config> = configs.into_iter().map(Config::checked).collect::<Result<_, _>>()?;
    // Who is admitted depends on it; so it is what is true, not what was written.
    let listens = listener.local_addr()?;
    configs.iter_mut().for_each(|config| config.listen = listens);
    let tls = configs.first().map(|config| config.tls.clone()).unwrap_or_default();
    if configs.iter().any(|config| config.tls != tls) {
        return Err("nodes on one listener have the same tls".into());
    }
    let tls = Tls::open(&tls)?;
    for config in configs {
        origins.extend(config.cors_origins.clone());
        nodes.push(Node::start(config).await?);
    }
    let router = api::router(nodes.clone(), &origins);
    let certificate = match &tls {
        None => None,
        Some(tls) => {
            let urls = nodes.iter().flat_map(|node| node.config.public_url.clone()).collect();
            let metrics = nodes.iter().map(|node| node.metrics().clone()).collect();
            Some(Arc::clone(tls).watch(urls, metrics)?)
        }
    };
    let watch = async {
        match certificate {
            Some(certificate) => certificate.await,
            None => std::future::pending().await,
        }
    };
    nodes.iter().for_each(|node| here::write(&node.config));
    ready(&nodes);
    let (asked, mut stopping) = tokio::sync::watch::channel(false);
    let leaving = nodes.clone();
    let server = serve::serve(listener, tls, router, bounds(&nodes), async move {
        shutdown.await;
        leaving.iter().for_each(|node| node.leave());
        let _ = asked.send(true);
    });
    let too_long = async {
        while !*stopping.borrow() {
            if stopping.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        () = server => {}
        () = watch => {}
        () = too_long => tracing::info!("some requests were still waiting"),
    }
    for node in &nodes {
        node.stop().await;
    }
    Ok(())
}
