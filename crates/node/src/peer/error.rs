//! What can go wrong between two nodes, by layer, and what to do about it.

use std::io;

use tokio_tungstenite::tungstenite;

use crate::{
    identity::{IdentityError, PROTOCOL, PeerKey},
    reach::Class,
    url::NodeUrl,
};

/// What is wrong with a server that answers something else than an identity document.
pub(super) const NO_IDENTITY: &str = "it has no identity document";

/// Why a peer cannot be reached or is not talked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The URL is against the policy of this node; the text says which rule.
    #[error("the URL of the peer is refused: {0}")]
    Url(String),
    /// The host has an address of this kind, which this node does not contact. The address itself is told to nobody.
    #[error("the URL of the peer is refused: {0} leads to {1}")]
    Address(NodeUrl, Class),
    /// The host name cannot be resolved.
    #[error("the host name of the peer cannot be resolved (DNS): {0}")]
    Dns(String),
    /// No TCP connection.
    #[error("the peer cannot be reached (TCP): {0}")]
    Refused(String),
    /// A step took too long; the text names the step.
    #[error("the peer did not answer in time: {0}")]
    Timeout(&'static str),
    /// No TLS session.
    #[error("no secure connection to the peer (TLS): {0}")]
    Tls(TlsFault),
    /// The server answered with this HTTP status instead of what a node answers.
    #[error("{}", http_text(*.0))]
    Http(u16),
    /// A server that should pass the WebSocket of a node on answered with this HTTP status instead.
    #[error("the peer's server opens no WebSocket between nodes (HTTP status {0} at /peer)")]
    NoWebSocket(u16),
    /// Something answers there, but not a node; the text says what was wrong.
    #[error("what answers at the peer's URL is not a node: {0}")]
    NotANode(&'static str),
    /// No common version of the protocol.
    #[error("the peer does not speak version {PROTOCOL} of the protocol between nodes")]
    Version,
    /// The peer's certificate does not verify or is not the one of this connection.
    #[error("the certificate of the peer does not verify")]
    BadCertificate,
    /// Another node answers where a known one was expected.
    #[error(
        "another node answers: expected the key {}, found {}",
        .expected.fingerprint(),
        .found.fingerprint()
    )]
    KeyChanged {
        /// The key that is pinned or remembered.
        expected: PeerKey,
        /// The key that was proved.
        found: PeerKey,
    },
    /// A key has two successors: whoever has its secret beside its owner has made one of them.
    #[error(
        "the key {} has two successors, {} and {}: its secret is in two hands",
        .old.fingerprint(),
        .known.fingerprint(),
        .found.fingerprint()
    )]
    KeyForked {
        /// The key.
        old: PeerKey,
        /// The successor that was learnt first.
        known: PeerKey,
        /// The other one.
        found: PeerKey,
    },
    /// This node talks to configured peers only, and this is none.
    #[error("the peer is not among the pinned peers of this node")]
    NotPinned,
    /// The URL leads back to this very node.
    #[error("the URL leads to this node itself")]
    Myself,
    /// The connection ended; the text says how.
    #[error("the connection to the peer was closed: {0}")]
    Closed(String),
}

/// Why there is no TLS session with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The server's certificate has expired.
    #[error("its certificate has expired")]
    Expired,
    /// The server's certificate is not valid yet.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The certificate is for other names.
    #[error("its certificate is for another host")]
    WrongName,
    /// Nobody who is trusted here has signed the certificate.
    #[error("its certificate is not signed by an authority that this node trusts")]
    UnknownIssuer,
    /// The certificate is an authority's own.
    #[error("its certificate is self-signed: an authority's, not a server's")]
    SelfSigned,
    /// The certificate is unusable in another way.
    #[error("its certificate cannot be used")]
    BadCertificate,
    /// Something else than TLS is spoken there.
    #[error("it does not speak TLS on this port")]
    NotTls,
    /// TLS is spoken there, and the URL says otherwise.
    #[error("it speaks TLS on this port, and the URL begins with http://")]
    Expected,
    /// The connection was closed during the handshake.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// No common version or suite, or the server refused.
    #[error("the handshake failed")]
    Handshake,
}

impl TlsFault {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Expired => "the certificate must be renewed at the peer's node or its proxy (tls.cert_file there)",
            Self::NotYetValid => "check the clocks of both machines",
            Self::WrongName => "use the host name that the certificate was made for",
            Self::UnknownIssuer => {
                "name the authority's PEM file in peer_ca_file of this node's configuration (or FDRTD_PEER_CA_FILE), if you trust it"
            }
            Self::SelfSigned => {
                "at the peer, have an authority of your own sign a certificate for the server (docs/tls.md), and name the authority's PEM file in peer_ca_file of this node's configuration"
            }
            Self::BadCertificate => "the certificate of the peer's node or its proxy must be made anew",
            Self::NotTls => "if the peer serves plain HTTP there, write http:// in its URL",
            Self::Expected => "write https:// in the peer's URL",
            Self::Closed => "check the port, and that the peer or its proxy speaks TLS there",
            Self::Handshake => "the peer's server must speak TLS 1.2 or 1.3",
        }
    }
}

impl PeerError {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "PEER_URL_REFUSED",
            Self::Address(..) => "PEER_ADDRESS_REFUSED",
            Self::Http(status) if *status < 500 => "PEER_NOT_A_NODE",
            Self::NoWebSocket(_) => "PEER_NO_WEBSOCKET",
            Self::Dns(_) | Self::Refused(_) | Self::Timeout(_) | Self::Tls(_) | Self::Http(_) | Self::Closed(_) => {
                "PEER_UNREACHABLE"
            }
            Self::NotANode(_) => "PEER_NOT_A_NODE",
            Self::Version => "PEER_VERSION",
            Self::BadCertificate => "PEER_BAD_CERTIFICATE",
            Self::KeyChanged { .. } => "PEER_KEY_CHANGED",
            Self::KeyForked { .. } => "PEER_KEY_FORKED",
            Self::NotPinned => "PEER_NOT_PINNED",
            Self::Myself => "PEER_IS_MYSELF",
        }
    }

    /// What to do about it, for the people who run the two nodes.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Url(_) => "correct the URL, or allow it in the configuration of this node",
            Self::Address(_, class) => class.hint(),
            Self::Dns(_) => "check the spelling of the host name and the name server",
            Self::Refused(_) => "check that the peer runs, and the port and the firewalls in between",
            Self::Timeout(_) => "check that the peer runs and that no firewall drops the packets",
            Self::Tls(fault) => fault.hint(),
            Self::Http(300..=399) => "write the URL to which that server redirects: nodes follow no redirects",
            Self::Http(401 | 403) => {
                "the proxy before the peer must leave {base}/identity and {base}/peer open to the other nodes"
            }
            Self::Http(status) if *status < 500 => {
                "check the path of the URL: it must be the base URL of the node, for example https://host/public1"
            }
            Self::NoWebSocket(_) => {
                "the proxy in front of the peer must pass WebSocket upgrades on (the headers Upgrade and Connection, at {base}/peer)"
            }
            Self::Http(_) => "the reverse proxy before the peer cannot reach it: check that the node behind it runs",
            Self::NotANode(_) => "check host, port and path of the URL: it must be the base URL of a node",
            Self::Version => "update the older of the two nodes",
            Self::BadCertificate => {
                "the peer's identity file is damaged, or somebody is in between: compare the fingerprints"
            }
            Self::KeyChanged { .. } => {
                "ask the people of the peer whether their node has a new key, and compare the fingerprints before you accept it: fdrtd peers pin"
            }
            Self::KeyForked { .. } => {
                "somebody has stolen a key of the peer: ask its people which key is theirs, and pin that one: fdrtd peers pin"
            }
            Self::NotPinned => {
                "add the peer's URL and key to the pinned peers of this node: fdrtd peers pin, or [[peers]]"
            }
            Self::Myself => "list the URL of the other node, not of your own",
            Self::Closed(_) => "nothing if it comes back by itself; otherwise look at the peer's log",
        }
    }
}

fn http_text(status: u16) -> String {
    let what = match status {
        300..=399 => "the peer's server redirects instead of answering",
        401 | 403 => "the peer's server lets nobody in without credentials",
        0..=499 => "no node is under this path of the peer's server (prefix)",
        _ => "the peer's server or the proxy before it failed (HTTP)",
    };
    format!("{what}: HTTP status {status}")
}

impl PeerError {
    /// [`PeerError::hint`] for the peer at `url`: who copies an address of the own machine to another one is told.
    #[must_use]
    pub fn hint_at(&self, url: &NodeUrl) -> String {
        let hint = self.hint();
        match self {
            Self::Refused(_) if url.is_loopback() => format!(
                "{hint}; {} is this machine only: if the peer runs on another one, write the address under which the others reach it",
                url.host()
            ),
            _ => hint.to_owned(),
        }
    }
}

impl From<IdentityError> for PeerError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Version(_) => Self::Version,
            IdentityError::Certificate | IdentityError::Succession => Self::BadCertificate,
            _ => Self::NotANode(NO_IDENTITY),
        }
    }
}

impl From<tungstenite::Error> for PeerError {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::Error;
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed("by the peer".to_owned()),
            Error::Io(error) => error.into(),
            Error::Http(response) => Self::Http(response.status().as_u16()),
            Error::Tls(_) => Self::Tls(TlsFault::Handshake),
            // The texts of the library may quote what the peer sent; ours do not.
            Error::Capacity(_) => Self::Closed("a message was too long".to_owned()),
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Closed("without a farewell".to_owned())
            }
            _ => Self::Closed("the peer broke the WebSocket protocol".to_owned()),
        }
    }
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> Self {
        Self::Closed(error.kind().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_prefix_differs_from_a_broken_proxy() {
        assert_eq!(PeerError::Http(404).code(), "PEER_NOT_A_NODE");
        assert_eq!(PeerError::Http(502).code(), "PEER_UNREACHABLE");
        assert_ne!(PeerError::Http(404).hint(), PeerError::Http(502).hint());
    }

    #[test]
    fn a_changed_key_is_told_by_fingerprints() {
        let (expected, found) = (PeerKey::from_bytes([1; 32]), PeerKey::from_bytes([2; 32]));
        let text = PeerError::KeyChanged { expected, found }.to_string();
        assert!(
            text.contains(&expected.fingerprint()) && text.contains(&found.fingerprint()),
            "{text}"
        );
    }
}
