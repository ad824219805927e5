//! Sockets: dialling and accepting a connection up to the authenticated channel, and asking a URL who it is.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, Response, StatusCode, header},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    error::{PeerError, TlsFault},
    noise::{Channel, Handshake, MAX_OPENING, MAX_RECORD, Opening},
};
use crate::{
    connect::{Connector, Stream, within},
    identity::{Identity, IdentityDocument, MAX_DOCUMENT, PROTOCOL, PeerKey, Shown},
    url::NodeUrl,
};

const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);
const IDENTITY_STEP: &str = "the question for its identity (HTTP)";
/// Limit of everything between the first byte and the authenticated channel.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames while one of the handshake is awaited.
const MAX_FRAMES: usize = 16;
/// How long a refused dialler may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection whose other end has proved its key.
pub(super) struct Authenticated<S> {
    pub(super) socket: WebSocketStream<S>,
    pub(super) channel: Channel,
    pub(super) peer: PeerKey,
    /// Where a dialler says to be; nothing is proved.
    pub(super) claimed: Option<NodeUrl>,
}

/// Opens a connection to the node `expected` at `url`.
pub(super) async fn dial(
    connector: &Connector,
    identity: &Identity,
    own_url: Option<&NodeUrl>,
    url: &NodeUrl,
    expected: PeerKey,
) -> Result<Authenticated<Stream>, PeerError> {
    let stream = connector.connect(url).await?;
    within(HANDSHAKE_TIMEOUT, "the handshake (WebSocket)", async {
        let mut socket = open(stream, url).await?;
        let mut handshake = greet(&mut socket, identity, own_url, url).await?;
        // Before this node says who it is, the other one must be the right one.
        match handshake.peer() {
            Some(found) if found == identity.key() => return Err(PeerError::Myself),
            Some(found) if found != expected => {
                return Err(PeerError::KeyChanged { expected, found });
            }
            _ => socket.send(Message::Binary(handshake.write()?)).await?,
        }
        let (channel, peer) = handshake.finish()?;
        Ok(Authenticated {
            socket,
            channel,
            peer,
            claimed: None,
        })
    })
    .await
}

/// The WebSocket at `{url}/peer`.
pub(super) async fn open(stream: Stream, url: &NodeUrl) -> Result<WebSocketStream<Stream>, PeerError> {
    let request = format!("ws://{}{}/peer", url.authority(), url.path());
    let (socket, _) = client_async_with_config(request, stream, Some(config()))
        .await
        .map_err(not_a_websocket)?;
    Ok(socket)
}

/// The first two messages of a handshake: afterwards the other end has proved its key, and this one has said nothing of its own.
pub(super) async fn greet(
    socket: &mut WebSocketStream<Stream>,
    identity: &Identity,
    own_url: Option<&NodeUrl>,
    url: &NodeUrl,
) -> Result<Handshake, PeerError> {
    let opening = Opening::new(own_url.cloned(), url.clone()).encode();
    let mut handshake = Handshake::dialler(identity, &opening)?;
    socket.feed(Message::text(opening)).await?;
    socket.send(Message::Binary(handshake.write()?)).await?;
    match frame(socket).await? {
        Frame::Binary(message) => handshake.read(&message)?,
        Frame::Text(text) => return Err(refusal(&text)),
    }
    Ok(handshake)
}

/// The listener's side, after the HTTP upgrade.
pub(super) async fn answer<S>(identity: &Identity, io: S) -> Result<Authenticated<S>, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within(HANDSHAKE_TIMEOUT, "the handshake (WebSocket)", async {
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
        let Frame::Text(opening) = frame(&mut socket).await? else {
            return Err(PeerError::NotANode("its first frame is not text"));
        };
        let claimed = match Opening::parse(&opening) {
            Ok(parsed) => parsed.from,
            Err(error) => {
                if error == PeerError::Version {
                    refuse(&mut socket).await;
                }
                return Err(error);
            }
        };
        let mut handshake = Handshake::listener(identity, &opening)?;
        handshake.read(&binary(&mut socket).await?)?;
        socket.send(Message::Binary(handshake.write()?)).await?;
        handshake.read(&binary(&mut socket).await?)?;
        let (channel, peer) = handshake.finish()?;
        if peer == identity.key() {
            return Err(PeerError::Myself);
        }
        Ok(Authenticated {
            socket,
            channel,
            peer,
            claimed,
        })
    })
    .await
}

/// Asks `GET {url}/identity` and verifies the answer. No redirects, no proxies, at most 4 KiB.
pub(super) async fn fetch_identity(connector: &Connector, url: &NodeUrl) -> Result<Shown, PeerError> {
    let shown = async { ask_identity(connector.connect(url).await?, url).await };
    within(IDENTITY_TIMEOUT, IDENTITY_STEP, shown).await
}

/// The same question over a connection that stands.
pub(super) async fn ask_identity(stream: Stream, url: &NodeUrl) -> Result<Shown, PeerError> {
    let body = within(
        IDENTITY_TIMEOUT,
        IDENTITY_STEP,
        get(stream, url, "identity", MAX_DOCUMENT),
    )
    .await?;
    Ok(IdentityDocument::parse(&body)?)
}

/// Asks `GET {url}/{page}`. No redirects, no proxies.
pub(super) async fn fetch_page(
    connector: &Connector,
    url: &NodeUrl,
    page: &str,
    max_bytes: usize,
) -> Result<Bytes, PeerError> {
    let body = async { get(connector.connect(url).await?, url, page, max_bytes).await };
    within(IDENTITY_TIMEOUT, "the question for a page (HTTP)", body).await
}

async fn get(stream: Stream, url: &NodeUrl, page: &str, max_bytes: usize) -> Result<Bytes, PeerError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(not_http)?;
    // Dropped, and thereby closed, with this future.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let request = Request::builder()
        .uri(format!("{}/{page}", url.path()))
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| PeerError::Url("it cannot be written into a request".to_owned()))?;
    let response = sender.send_request(request).await.map_err(not_http)?;
    let status = response.status();
    let may_expect_tls = status == StatusCode::BAD_REQUEST && !url.is_tls();
    if status != StatusCode::OK && !may_expect_tls {
        return Err(PeerError::Http(status.as_u16()));
    }
    let body = Limited::new(response.into_body(), max_bytes).collect().await;
    if status != StatusCode::OK {
        // Nodes, nginx and others say in the text of their answer that this port is for https.
        let text = body
            .map(|body| body.to_bytes().to_ascii_lowercase())
            .unwrap_or_default();
        let expects_tls = text.windows(5).any(|part| part == b"https");
        return Err(if expects_tls {
            PeerError::Tls(TlsFault::Expected)
        } else {
            PeerError::Http(status.as_u16())
        });
    }
    let body = body.map_err(|_| PeerError::NotANode("its answer is cut off or too long"))?;
    Ok(body.to_bytes())
}

/// Why a request is not upgraded to a peer connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Not a WebSocket upgrade; answer 426.
    #[error("this address speaks the protocol between nodes over WebSocket only")]
    NotAnUpgrade,
}

/// Checks a WebSocket upgrade request; the response `101` that accepts it.
pub(super) fn switch_protocols(request: &Request<Body>) -> Result<Response<Body>, UpgradeError> {
    let lists = |name, value: &str| {
        let headers = request
            .headers()
            .get_all(name)
            .iter()
            .filter_map(|text| text.to_str().ok());
        headers
            .flat_map(|text| text.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(value))
    };
    let is_upgrade = request.method() == Method::GET
        && lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
        && lists(header::SEC_WEBSOCKET_VERSION, "13");
    match request.headers().get(header::SEC_WEBSOCKET_KEY) {
        Some(key) if is_upgrade => Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
            .body(Body::empty())
            .map_err(|_| UpgradeError::NotAnUpgrade),
        _ => Err(UpgradeError::NotAnUpgrade),
    }
}

/// Frames are bounded by one record; the write buffer takes what one flush may hold.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_RECORD))
        .max_frame_size(Some(MAX_RECORD))
        .read_buffer_size(128 * 1024)
        .write_buffer_size(256 * 1024)
        .max_write_buffer_size(8 * 1024 * 1024)
}

enum Frame {
    Text(String),
    Binary(Bytes),
}

async fn frame<S>(socket: &mut WebSocketStream<S>) -> Result<Frame, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for _ in 0..MAX_FRAMES {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text.len() <= MAX_OPENING => {
                return Ok(Frame::Text(text.to_string()));
            }
            Some(Ok(Message::Binary(bytes))) if bytes.len() <= MAX_OPENING => {
                return Ok(Frame::Binary(bytes));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => {
                return Err(PeerError::Closed("during the handshake".to_owned()));
            }
            Some(Ok(_)) => return Err(PeerError::NotANode("a handshake message is too long")),
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Err(PeerError::NotANode("it sends pings instead of a handshake"))
}

async fn binary<S>(socket: &mut WebSocketStream<S>) -> Result<Bytes, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match frame(socket).await? {
        Frame::Binary(bytes) => Ok(bytes),
        Frame::Text(_) => Err(PeerError::NotANode("a handshake message is text")),
    }
}

/// Tells a dialler of another version which one is spoken here.
async fn refuse<S>(socket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = format!(r#"{{"error":"VERSION","speaks":[{PROTOCOL}]}}"#);
    let _ = timeout(FAREWELL, async {
        socket.send(Message::text(text)).await?;
        socket.close(None).await?;
        // Until the other end has closed too: dropping the socket earlier could discard what it has not read yet.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    })
    .await;
}

/// Closes the connection of a peer that this node does not talk to.
pub(super) async fn turn_away<S>(made: Authenticated<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = made.socket;
    let frame = CloseFrame {
        code: CloseCode::Policy,
        reason: "not pinned".into(),
    };
    let _ = timeout(FAREWELL, async {
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    })
    .await;
}

fn refusal(text: &str) -> PeerError {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_str(text) {
        Ok(Refusal { error }) if error == "VERSION" => PeerError::Version,
        _ => PeerError::NotANode("it answers with text"),
    }
}

fn not_a_websocket(error: tokio_tungstenite::tungstenite::Error) -> PeerError {
    use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};
    if matches!(
        error,
        Error::Io(_) | Error::Protocol(ProtocolError::HandshakeIncomplete)
    ) {
        return PeerError::Closed("without an answer".to_owned());
    }
    match error.into() {
        PeerError::Closed(_) => PeerError::NotANode("it does not answer as a WebSocket"),
        // 404 may as well be a wrong path.
        PeerError::Http(status @ (200..=299 | 400 | 405 | 426 | 501)) => PeerError::NoWebSocket(status),
        other => other,
    }
}

fn not_http(error: hyper::Error) -> PeerError {
    if error.is_parse() {
        PeerError::NotANode("it does not answer as an HTTP server")
    } else {
        // So do proxies whose node is not there for a while.
        PeerError::Closed("without an answer".to_owned())
    }
}
