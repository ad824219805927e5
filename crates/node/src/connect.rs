//! Connections to other machines: TCP, and TLS on top of it for `https`.
//!
//! Certificates are always verified, against the authorities that this machine trusts and those of one more file.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::either::Either;

use crate::{
    peer::{PeerError, TlsFault},
    reach::Reach,
    url::NodeUrl,
};

/// What carries the bytes of a connection that was opened here.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens connections. Cheap to clone.
///
/// Of its own it connects to whatever its user names. [`Connector::within`] gives one that looks at every address before it is used: names are looked
/// up once for each connection, and the addresses that were checked are those that are connected to.
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Inner>,
    reach: Reach,
    /// The URL is one that the node's operator has named.
    configured: bool,
}

#[derive(Default)]
struct Inner {
    ca_file: Option<PathBuf>,
    own: Vec<CertificateDer<'static>>,
    /// Reading the machine's authorities takes a while, and who dials no `https` does not need them.
    tls: OnceLock<Arc<ClientConfig>>,
    /// Answers instead of the machine's resolver.
    #[cfg(test)]
    names: Option<FakeNames>,
}

/// What stands in for the name server in tests.
#[cfg(test)]
pub(crate) type FakeNames = Box<dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync>;

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// It cannot be read, or is not PEM.
    #[error("the certificate file {0} cannot be used: {1}")]
    Unusable(PathBuf, String),
    /// It holds none.
    #[error("the certificate file {0} holds no certificate (it must be PEM text: -----BEGIN CERTIFICATE-----)")]
    Empty(PathBuf),
}

impl Connector {
    /// Trusts the authorities of this machine and, beside them, those in `ca_file` (PEM).
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, CaFileError> {
        let own = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        Ok(Self::of(Inner {
            ca_file: ca_file.map(Path::to_owned),
            own,
            ..Inner::default()
        }))
    }

    fn of(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            reach: Reach::open(),
            configured: false,
        }
    }

    /// One that asks `names` instead of the machine's resolver.
    #[cfg(test)]
    pub(crate) fn with_names(names: FakeNames) -> Self {
        Self::of(Inner {
            names: Some(names),
            ..Inner::default()
        })
    }

    /// The same for URLs that somebody else names: it connects to the addresses within `reach` only. `configured`: the URL is one that the operator has named.
    #[must_use]
    pub fn within(&self, reach: Reach, configured: bool) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            reach,
            configured,
        }
    }

    /// The file of authorities beside those of the machine.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.inner.ca_file.as_deref()
    }

    /// TCP and, for `https`, TLS to the host of `url`.
    ///
    /// # Errors
    /// [`PeerError`] by layer: `Dns`, `Address`, `Refused`, `Timeout`, `Tls`.
    pub async fn connect(&self, url: &NodeUrl) -> Result<Stream, PeerError> {
        let addresses = self.resolve(url).await?;
        let stream = tcp(&addresses).await?;
        self.secure(url, stream).await
    }

    /// The addresses of the host of `url`. None is given if one of them must not be contacted.
    ///
    /// # Errors
    /// `Dns`, `Timeout` or `Address`.
    pub async fn resolve(&self, url: &NodeUrl) -> Result<Vec<SocketAddr>, PeerError> {
        let addresses = self.look_up(url).await?;
        for address in &addresses {
            self.reach
                .check(address.ip(), self.configured)
                .map_err(|class| PeerError::Address(url.clone(), class))?;
        }
        Ok(addresses)
    }

    async fn look_up(&self, url: &NodeUrl) -> Result<Vec<SocketAddr>, PeerError> {
        #[cfg(test)]
        if let Some(names) = &self.inner.names {
            return Ok(names(bare_host(url), url.port()));
        }
        look_up(url).await
    }

    /// TLS on top of a connection, if `url` wants it. HTTP/1.1 is offered only: what follows may be a WebSocket.
    ///
    /// # Errors
    /// `Tls` or `Timeout`.
    pub async fn secure(&self, url: &NodeUrl, stream: TcpStream) -> Result<Stream, PeerError> {
        if !url.is_tls() {
            return Ok(Either::Left(stream));
        }
        Ok(Either::Right(Box::new(self.tls(url, stream).await?)))
    }

    /// Whether the server of `url` speaks TLS on that port, whatever the URL says and whatever its certificate is worth. The connection is given up at once.
    pub async fn speaks_tls(&self, url: &NodeUrl, addresses: &[SocketAddr]) -> bool {
        let Ok(stream) = tcp(addresses).await else {
            return false;
        };
        match self.tls(url, stream).await {
            Ok(_) => true,
            Err(PeerError::Tls(fault)) => !matches!(fault, TlsFault::NotTls | TlsFault::Closed),
            Err(_) => false,
        }
    }

    async fn tls(&self, url: &NodeUrl, stream: TcpStream) -> Result<TlsStream<TcpStream>, PeerError> {
        let name = ServerName::try_from(bare_host(url).to_owned()).map_err(|_| PeerError::Tls(TlsFault::WrongName))?;
        let connector = TlsConnector::from(Arc::clone(self.config()));
        let made = within(TLS_TIMEOUT, "the TLS handshake", async {
            connector
                .connect(name, stream)
                .await
                .map_err(|error| PeerError::Tls(fault(&error)))
        });
        made.await
    }

    fn config(&self) -> &Arc<ClientConfig> {
        self.inner.tls.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of this machine's certificate authorities cannot be read");
            }
            roots.add_parsable_certificates(found.certs);
            roots.add_parsable_certificates(self.inner.own.iter().cloned());
            let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("ring has the suites of the default versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        })
    }
}

impl Default for Connector {
    fn default() -> Self {
        Self::of(Inner::default())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.inner.ca_file).finish()
    }
}

async fn look_up(url: &NodeUrl) -> Result<Vec<SocketAddr>, PeerError> {
    let unknown = || PeerError::Dns(url.host().to_owned());
    let looked_up = within(CONNECT_TIMEOUT, "the look-up of the host name (DNS)", async {
        lookup_host((bare_host(url), url.port())).await.map_err(|_| unknown())
    });
    let addresses: Vec<SocketAddr> = looked_up.await?.collect();
    if addresses.is_empty() {
        Err(unknown())
    } else {
        Ok(addresses)
    }
}

/// A TCP connection to the first address that takes one.
///
/// # Errors
/// `Refused` or `Timeout`.
pub async fn tcp(addresses: &[SocketAddr]) -> Result<TcpStream, PeerError> {
    within(CONNECT_TIMEOUT, "the TCP connection", async {
        let mut last = PeerError::Refused("no address".to_owned());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Rounds of small messages must not wait for Nagle's algorithm. A socket that refuses still works.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = PeerError::Refused(error.kind().to_string()),
            }
        }
        Err(last)
    })
    .await
}

/// The certificates of a PEM file.
///
/// # Errors
/// A file that cannot be read or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let unusable = |error: &dyn fmt::Display| CaFileError::Unusable(path.to_owned(), error.to_string());
    let text = std::fs::read(path).map_err(|error| unusable(&error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| unusable(&error))?;
    if certificates.is_empty() {
        return Err(CaFileError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

/// The host without the brackets of an IPv6 address.
fn bare_host(url: &NodeUrl) -> &str {
    url.host().trim_start_matches('[').trim_end_matches(']')
}

/// What is wrong, as far as it tells somebody what to do.
fn fault(error: &std::io::Error) -> TlsFault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::WrongName,
            CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
            // Rustls has no variant of its own for it.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => TlsFault::SelfSigned,
            _ => TlsFault::BadCertificate,
        },
        Some(rustls::Error::InvalidMessage(_)) => TlsFault::NotTls,
        Some(_) => TlsFault::Handshake,
        None => TlsFault::Closed,
    }
}

/// `work`, or `Timeout` naming the step.
pub(crate) async fn within<T>(
    limit: Duration,
    step: &'static str,
    work: impl Future<Output = Result<T, PeerError>>,
) -> Result<T, PeerError> {
    timeout(limit, work).await.unwrap_or(Err(PeerError::Timeout(step)))
}
