//! Tests the way to another node step by step, and says at which layer it ends.
//!
//! Nothing is remembered, and no task or link is touched. The handshake goes up to the message in which the other end proves its key; the third
//! one, in which a dialler would name itself, is never sent, so the other node does not learn who tried.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{PeerError, TlsFault, error::NO_IDENTITY, ws};
use crate::{
    connect::{self, Connector},
    identity::{Identity, PeerKey},
    url::NodeUrl,
};

/// A part of the way between two nodes, in the order in which it is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The rules of the node that dials.
    Policy,
    /// The host's name.
    Dns,
    /// A connection to its port.
    Tcp,
    /// Encryption and certificate of the server.
    Tls,
    /// A web server that answers.
    Http,
    /// A node under that path.
    Prefix,
    /// The version of the protocol.
    Version,
    /// The node's key.
    Key,
    /// An upgrade to a WebSocket.
    WebSocket,
    /// The encrypted handshake.
    Handshake,
}

impl Layer {
    /// Its name for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Prefix => "prefix",
            Self::Version => "version",
            Self::Key => "key",
            Self::WebSocket => "WebSocket",
            Self::Handshake => "handshake",
        }
    }
}

/// What was found on the way to one node. The answer of `POST {base}/probe`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Whether a connection between nodes can be made.
    pub ok: bool,
    /// The key that the other end has shown or proved, as far as it came to that.
    pub key: Option<PeerKey>,
    /// Keys that the node had before, the oldest first; each has signed the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<PeerKey>,
    /// What was passed, in order.
    pub steps: Vec<Step>,
    /// Milliseconds from the first message of the handshake to the proof of the key, computation included.
    pub round_trip_ms: Option<f64>,
    /// Where the way ends.
    pub error: Option<Obstacle>,
}

/// A layer that was passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// [`Layer::name`].
    pub layer: String,
    /// How long it took.
    pub ms: f64,
}

/// Where a way ends, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Obstacle {
    /// [`Layer::name`].
    pub layer: String,
    /// [`PeerError::code`].
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Tries everything that a connection to the node at `url` needs. Takes at most about half a minute.
///
/// `expected` are keys that are known beforehand: the first that differs from the proved one is an error. The rules of a node are not looked at.
pub async fn probe(connector: &Connector, identity: &Identity, url: &NodeUrl, expected: &[PeerKey]) -> Probe {
    let mut walk = Walk {
        found: Probe::default(),
        since: Instant::now(),
    };
    match walk.go(connector, identity, url, expected).await {
        Ok(()) => walk.found.ok = true,
        Err((layer, error)) => walk.found.error = Some(Obstacle::new(layer, &error, url)),
    }
    walk.found
}

impl Probe {
    /// A way that the rules of the dialling node do not allow.
    pub(super) fn refused(error: &PeerError, url: &NodeUrl) -> Self {
        Self {
            error: Some(Obstacle::new(Layer::Policy, error, url)),
            ..Self::default()
        }
    }
}

impl Obstacle {
    fn new(layer: Layer, error: &PeerError, url: &NodeUrl) -> Self {
        Self {
            layer: layer.name().to_owned(),
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint_at(url),
        }
    }
}

struct Walk {
    found: Probe,
    since: Instant,
}

impl Walk {
    async fn go(
        &mut self,
        connector: &Connector,
        identity: &Identity,
        url: &NodeUrl,
        expected: &[PeerKey],
    ) -> Result<(), (Layer, PeerError)> {
        let at = |layer| move |error| (layer, error);
        let addresses = connector.resolve(url).await.map_err(|error| match error {
            PeerError::Address(..) => (Layer::Policy, error),
            error => (Layer::Dns, error),
        })?;
        self.passed(Layer::Dns);
        let stream = connect::tcp(&addresses).await.map_err(at(Layer::Tcp))?;
        self.passed(Layer::Tcp);
        let stream = connector.secure(url, stream).await.map_err(at(Layer::Tls))?;
        if url.is_tls() {
            self.passed(Layer::Tls);
        }
        let shown = match ws::ask_identity(stream, url).await {
            Ok(shown) => shown,
            // These are what a TLS server makes of a plain request.
            Err(PeerError::NotANode(_) | PeerError::Closed(_) | PeerError::Timeout(_) | PeerError::Http(400))
                if !url.is_tls() && connector.speaks_tls(url, &addresses).await =>
            {
                return Err((Layer::Tls, PeerError::Tls(TlsFault::Expected)));
            }
            Err(error) => return Err((layer_of_identity(&error), error)),
        };
        self.passed(Layer::Prefix);
        self.found.former = shown.chain.iter().map(|link| link.old).collect();
        let shown = shown.key;
        self.found.key = Some(shown);
        // Who knows an earlier key of the node knows the node.
        let former = &self.found.former;
        let expected: Vec<PeerKey> = expected.iter().copied().filter(|key| !former.contains(key)).collect();
        let expected = &expected[..];
        check_key(shown, identity, expected).map_err(at(Layer::Key))?;

        let tcp = connect::tcp(&addresses).await.map_err(at(Layer::Tcp))?;
        let stream = connector.secure(url, tcp).await.map_err(at(Layer::Tls))?;
        self.since = Instant::now();
        let mut socket = within(ws::open(stream, url)).await.map_err(|error| match error {
            PeerError::Http(404) => (Layer::WebSocket, PeerError::NoWebSocket(404)),
            error => (Layer::WebSocket, error),
        })?;
        self.passed(Layer::WebSocket);
        let handshake = within(ws::greet(&mut socket, identity, None, url))
            .await
            .map_err(|error| match error {
                PeerError::Version => (Layer::Version, error),
                PeerError::BadCertificate => (Layer::Key, error),
                error => (Layer::Handshake, error),
            })?;
        self.found.round_trip_ms = Some(self.passed(Layer::Handshake));
        let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        let proved = handshake.peer().unwrap_or(shown);
        self.found.key = Some(proved);
        // What answers at /identity and what answers at /peer must be the same node.
        check_key(proved, identity, &[expected, &[shown]].concat()).map_err(at(Layer::Key))
    }

    /// Notes the time since the last step, in milliseconds.
    fn passed(&mut self, layer: Layer) -> f64 {
        let ms = (self.since.elapsed().as_secs_f64() * 100_000.0).round() / 100.0;
        self.found.steps.push(Step {
            layer: layer.name().to_owned(),
            ms,
        });
        self.since = Instant::now();
        ms
    }
}

fn check_key(found: PeerKey, identity: &Identity, expected: &[PeerKey]) -> Result<(), PeerError> {
    if found == identity.key() {
        return Err(PeerError::Myself);
    }
    match expected.iter().find(|expected| **expected != found) {
        Some(expected) => Err(PeerError::KeyChanged {
            expected: *expected,
            found,
        }),
        None => Ok(()),
    }
}

fn layer_of_identity(error: &PeerError) -> Layer {
    match error {
        PeerError::Version => Layer::Version,
        PeerError::BadCertificate => Layer::Key,
        PeerError::Tls(_) => Layer::Tls,
        PeerError::Http(status) if *status < 500 => Layer::Prefix,
        PeerError::NotANode(what) if *what == NO_IDENTITY => Layer::Prefix,
        _ => Layer::Http,
    }
}

async fn within<T>(work: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    let timed_out = Err(PeerError::Timeout("the handshake"));
    timeout(ws::HANDSHAKE_TIMEOUT, work).await.unwrap_or(timed_out)
}
