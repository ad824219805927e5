//! A node for federated secure computing.
//!
//! The way of a call: [`api`] translates HTTP, [`node`] finds the service, [`services`] parse, [`policy`] permits, [`task`] keeps a task's state and deadlines,
//! [`session`] speaks the protocol between nodes and drives one machine of `fdrtd-mpc`, [`peer`] carries its messages, [`store`] keeps what survives a restart.
//! Modules call downwards only.
//!
//! Not supported yet: users and credentials (every caller is anonymous), TLS, thresholds, the other generation of the HTTP API.

pub mod api;
pub mod config;
pub mod connect;
pub mod descriptor;
pub mod identity;
pub mod invitation;
pub mod json;
pub mod metrics;
pub mod node;
pub mod operator;
pub mod peer;
pub mod policy;
pub mod problem;
pub mod reason;
mod serve;
pub mod services;
pub mod session;
pub mod store;
pub mod task;
pub mod tasks;
pub mod url;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::node::{Node, StartError};

/// How long requests in progress may take after a node was asked to stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the nodes of `configs` on one listener until `shutdown`; `ready` is told when they can be called.
///
/// # Errors
/// A node that cannot start, or a listener that fails.
pub async fn run(
    configs: Vec<Config>,
    listener: TcpListener,
    ready: impl FnOnce(&[Arc<Node>]) + Send,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let mut nodes = Vec::new();
    let mut origins = Vec::new();
    for config in configs {
        let config = config.checked()?;
        origins.extend(config.cors_origins.clone());
        nodes.push(Node::start(config).await?);
    }
    let router = api::router(nodes.clone(), &origins);
    ready(&nodes);
    let (asked, mut stopping) = tokio::sync::watch::channel(false);
    let leaving = nodes.clone();
    let server = serve::serve(listener, router, async move {
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
        () = too_long => tracing::info!("some requests were still waiting"),
    }
    for node in &nodes {
        node.stop().await;
    }
    Ok(())
}
