//! The listener's certificate: read from files, watched, and changed for a new one while connections go on.
//!
//! A certificate belongs to a listener, and so to all nodes behind it. Each change makes a wholly new TLS configuration, so that no session of
//! the old certificate is resumed under the new one.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, ServerConfig};
use x509_cert::der::{DateTime, Decode};
use x509_cert::ext::pkix::BasicConstraints;
use zeroize::Zeroizing;

use crate::config::TlsConfig;
use crate::metrics::Metrics;
use crate::url::NodeUrl;

/// The protocols that are offered within TLS, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// So many days before the end of a certificate, and at the end, the log says so.
const WARN_DAYS: [u64; 3] = [30, 7, 1];
const DAY: u64 = 24 * 3600;

/// A certificate with what signed it, and its key, ready for use. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    config: Arc<ServerConfig>,
    own: CertificateDer<'static>,
    /// Seconds since 1970.
    begin: u64,
    end: u64,
    /// Whether it is an authority's own, which other nodes do not take for a server's.
    is_authority: bool,
}

/// Files that cannot be used. The texts name member, file and remedy, never what is in them.
#[derive(Debug, thiserror::Error)]
#[error("tls.{member} ({}): {what}", .file.display())]
pub struct TlsFileError {
    member: &'static str,
    file: PathBuf,
    what: String,
}

impl Certificate {
    /// Reads two PEM files: the certificates, the server's own first, and its private key without passphrase.
    ///
    /// # Errors
    /// Which file is unusable, and why.
    pub fn read(cert_file: &Path, key_file: &Path) -> Result<Certificate, TlsFileError> {
        let in_cert = |what: String| TlsFileError {
            member: "cert_file",
            file: cert_file.to_owned(),
            what,
        };
        let in_key = |what: String| TlsFileError {
            member: "key_file",
            file: key_file.to_owned(),
            what,
        };
        let chain = read_chain(cert_file).map_err(in_cert)?;
        let key = read_key(key_file).map_err(in_key)?;
        Certificate::new(chain, key).map_err(|fault| match fault {
            Unusable::Certificate(what) => in_cert(what),
            Unusable::Key(what) => in_key(what),
            Unusable::Pair => in_key(format!(
                "the key does not belong to the first certificate in {} (the server's own comes first there, then those that signed it)",
                cert_file.display()
            )),
        })
    }

    /// From memory: the server's own certificate first, then those that signed it.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Certificate, Unusable> {
        let own = chain
            .first()
            .ok_or_else(|| Unusable::Certificate("there is none".to_owned()))?
            .clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Unusable::Pair,
            rustls::Error::InvalidCertificate(_) => {
                Unusable::Certificate("it is damaged, or no X.509 certificate".to_owned())
            }
            _ => Unusable::Key(
                "the key cannot be used; RSA (2048 to 8192 bits), ECDSA (P-256, P-384) and Ed25519 keys can".to_owned(),
            ),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let parsed = x509_cert::Certificate::from_der(&own)
            .map_err(|_| Unusable::Certificate("it is damaged, or no X.509 certificate".to_owned()))?;
        let parsed = parsed.tbs_certificate();
        let constraints = parsed.get_extension::<BasicConstraints>().ok().flatten();
        Ok(Certificate(Arc::new(Inner {
            config: Arc::new(config),
            begin: parsed.validity().not_before.to_unix_duration().as_secs(),
            end: parsed.validity().not_after.to_unix_duration().as_secs(),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            own,
        })))
    }

    /// Whether it is for the host of `url`.
    fn is_for(&self, url: &NodeUrl) -> bool {
        let host = url.host().trim_start_matches('[').trim_end_matches(']');
        let (Ok(name), Ok(parsed)) = (ServerName::try_from(host), ParsedCertificate::try_from(&self.0.own)) else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("end", &date(self.0.end))
            .finish_non_exhaustive()
    }
}

/// The very same one: whether two say the same does not matter.
impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Why certificate and key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The certificate.
    #[error("the certificate: {0}")]
    Certificate(String),
    /// The key.
    #[error("the key: {0}")]
    Key(String),
    /// They do not belong together.
    #[error("the key does not belong to the certificate")]
    Pair,
}

/// The certificate that a listener shows now.
pub(crate) struct Tls {
    now: Mutex<Certificate>,
    files: Option<Files>,
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// Pause between two looks at them.
    pause: Duration,
    /// How they were just before they were read first.
    first: Stamp,
}

/// What differs when files have changed: time (two parts), length and number of both, if they are there.
type Stamp = [Option<(i64, i64, u64, u64)>; 2];

impl Tls {
    /// As configured; `None` for a listener without TLS.
    pub(crate) fn open(config: &TlsConfig) -> Result<Option<Arc<Tls>>, TlsFileError> {
        let (now, files) = match (&config.made, &config.cert_file, &config.key_file) {
            (Some(made), ..) => (made.clone(), None),
            (None, Some(cert), Some(key)) => {
                let files = Files {
                    cert: cert.clone(),
                    key: key.clone(),
                    pause: Duration::from_secs_f64(config.reload_interval),
                    first: stamp(cert, key),
                };
                warn_of_readers(key);
                (Certificate::read(cert, key)?, Some(files))
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Tls {
            now: Mutex::new(now),
            files,
        })))
    }

    /// What the next handshake uses.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now().0.config)
    }

    /// Looks after the certificate as long as the returned future is polled: new files are taken at SIGHUP and when they have changed, and the log
    /// says when the end comes near. `urls` are those under which others reach the nodes behind the listener.
    ///
    /// # Errors
    /// No handler of signals.
    pub(crate) fn watch(
        self: Arc<Tls>,
        urls: Vec<NodeUrl>,
        metrics: Vec<Metrics>,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        // At once, so that a SIGHUP never ends a node that can be called.
        let mut hangup = self.files.is_some().then(|| signal(SignalKind::hangup())).transpose()?;
        let mut seen = self.files.as_ref().map(|files| files.first);
        let mut told = 0;
        self.check(&urls, &metrics, &mut told);
        Ok(async move {
            let pause = self.files.as_ref().map_or(Duration::from_secs(60), |files| files.pause);
            let mut ticks = interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let asked = tokio::select! {
                    _ = ticks.tick() => false,
                    () = received(hangup.as_mut()) => true,
                };
                let stamp = self.files.as_ref().map(|files| stamp(&files.cert, &files.key));
                if asked || stamp != seen {
                    // Noted before they are read: what changes meanwhile is seen at the next look.
                    seen = stamp;
                    if self.reload() {
                        told = 0;
                        self.check(&urls, &metrics, &mut told);
                    }
                }
                self.tell_end(&mut told);
            }
        })
    }

    fn now(&self) -> Certificate {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if there is a new certificate now.
    fn reload(&self) -> bool {
        let Some(files) = &self.files else { return false };
        match Certificate::read(&files.cert, &files.key) {
            Ok(certificate) => {
                let end = date(certificate.0.end);
                *self.now.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
                tracing::info!(file = %files.cert.display(), %end, "the certificate was read anew");
                warn_of_readers(&files.key);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate files cannot be used; the old certificate stays");
                false
            }
        }
    }

    /// What can be said about a certificate when it comes.
    fn check(&self, urls: &[NodeUrl], metrics: &[Metrics], told: &mut usize) {
        let now = self.now();
        for counters in metrics {
            counters.certificate_ends(now.0.end);
        }
        let file = self.file();
        if now.0.is_authority {
            tracing::warn!(
                file,
                "this is the certificate of an authority itself (self-signed); other nodes refuse it: sign one for the server with it (docs/tls.md)"
            );
        }
        if now.0.begin > seconds() {
            tracing::warn!(
                file,
                begin = date(now.0.begin),
                "the certificate is not valid yet; check this machine's clock"
            );
        }
        for url in urls.iter().filter(|url| url.is_tls() && !now.is_for(url)) {
            tracing::warn!(file, %url, "the certificate is not for the host of this public_url: callers will refuse it");
        }
        self.tell_end(told);
    }

    /// Says that the end comes near, each time once.
    fn tell_end(&self, told: &mut usize) {
        let end = self.now().0.end;
        let left = end.saturating_sub(seconds());
        if !is_news(left, told) {
            return;
        }
        let (file, end) = (self.file(), date(end));
        if left == 0 {
            tracing::error!(
                file,
                end,
                "the certificate has expired; callers refuse it until it is renewed"
            );
        } else {
            let days = left.div_ceil(DAY);
            tracing::warn!(
                file,
                end,
                days,
                "the certificate ends soon; renew it, and this node takes it by itself"
            );
        }
    }

    fn file(&self) -> String {
        let files = self.files.as_ref();
        files.map_or_else(
            || "made at the start".to_owned(),
            |files| files.cert.display().to_string(),
        )
    }
}

fn stamp(cert: &Path, key: &Path) -> Stamp {
    [cert, key].map(|file| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.mtime(), found.mtime_nsec(), found.len(), found.ino()))
    })
}

async fn received(signal: Option<&mut Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if has(&text, "PRIVATE KEY-----") => {
            Err("there is a private key, but no certificate; are cert_file and key_file swapped?".to_owned())
        }
        _ => Err("there is no certificate; it must be PEM text: -----BEGIN CERTIFICATE-----".to_owned()),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        if has(&text, "ENCRYPTED") {
            "the key is encrypted; write it without a passphrase: openssl pkey -in … -out …".to_owned()
        } else if has(&text, "BEGIN CERTIFICATE-----") {
            "there is a certificate, but no private key; are cert_file and key_file swapped?".to_owned()
        } else {
            "there is no private key; it must be PEM text: -----BEGIN PRIVATE KEY-----".to_owned()
        }
    })
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    match std::fs::read(file) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("there is no such file".to_owned()),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

fn has(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

/// A key is nobody else's. A group may read it: that is how some systems give keys to services.
fn warn_of_readers(key: &Path) {
    if std::fs::metadata(key).is_ok_and(|found| found.permissions().mode() & 0o006 != 0) {
        tracing::warn!(file = %key.display(), "every user of this machine can read the key of the certificate: chmod o-rwx it");
    }
}

/// Whether a warning is due with so many seconds left that has not been told; then it counts as told, with those before it.
fn is_news(left: u64, told: &mut usize) -> bool {
    let due = stage(left);
    let news = due > *told;
    *told = due.max(*told);
    news
}

/// How many of the warnings are due with so many seconds left.
fn stage(left: u64) -> usize {
    let due = WARN_DAYS.iter().filter(|days| left <= **days * DAY).count();
    due + usize::from(left == 0)
}

fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Such as `2026-12-24T12:00:00Z`, from seconds since 1970.
pub fn date(seconds: u64) -> String {
    DateTime::from_unix_duration(Duration::from_secs(seconds))
        .map_or_else(|_| format!("second {seconds}"), |date| date.to_string())
}
