//! `GET` of a JSON document from the issuer: TLS verified, no redirects, no proxies, bounded in length and time.

use std::time::Duration;

use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::connect::Connector;
use crate::url::NodeUrl;

/// Longest document.
const MOST: usize = 256 << 10;
/// For all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// # Errors
/// What went wrong, for the log.
pub(super) async fn document(connector: &Connector, url: &NodeUrl) -> Result<Value, String> {
    let fetched = tokio::time::timeout(PATIENCE, get(connector, url)).await;
    let bytes = fetched.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|_| "its answer is not JSON".to_owned())
}

async fn get(connector: &Connector, url: &NodeUrl) -> Result<Bytes, String> {
    let stream = connector.connect(url).await.map_err(|error| error.to_string())?;
    let gone = |_| "it closes the connection without an answer".to_owned();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(gone)?;
    // Dropped, and thereby closed, with this future.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let path = if url.path().is_empty() { "/" } else { url.path() };
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| "its URL cannot be asked for".to_owned())?;
    let response = sender.send_request(request).await.map_err(gone)?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers with status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MOST).collect().await;
    let body = body.map_err(|_| format!("its answer is cut off or longer than {MOST} bytes"))?;
    Ok(body.to_bytes())
}
