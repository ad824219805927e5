//! One struct for everything that can be configured. A TOML file, environment variables and flags fill it, later ones winning.

mod limits;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::access::settings::AccessConfig;
use crate::addresses::AddressRange;
use crate::connect::Connector;
use crate::identity::PeerKey;
use crate::peer::{PeerConfig, Trust};
use crate::policy::{Changes, Organisations, Policy, Profile};
use crate::reach::{Allowed, Reach};
use crate::store::Durability;
use crate::task::StopAt;
use crate::tasks::Quota;
use crate::tls::Certificate;
use crate::url::NodeUrl;

pub use limits::Limits;
pub(crate) use limits::Listener;

/// Configuration of one node. `docs/fdrtd.example.toml` shows every member with its default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port to listen on; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Path in front of everything, such as `/public1`; empty for none.
    pub base_path: String,
    /// URLs under which others reach this node. If none is given, a node finds out by asking `nodes[myself]`.
    pub public_url: Vec<NodeUrl>,
    /// Addresses of reverse proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Where identity and storage live.
    pub data_dir: PathBuf,
    /// Keep everything in memory, with a new identity at every start.
    pub ephemeral: bool,
    /// The key that encrypts the storage, if it shall not lie in the data directory.
    pub storage_key_file: Option<PathBuf>,
    /// Where the operator's token is, if it shall not lie in the data directory; a node without a data directory has none unless it is told.
    pub operator_token_file: Option<PathBuf>,
    /// Disclosure rules: a profile.
    pub policy: Profile,
    /// Single rules that differ from the profile's.
    pub rules: Changes,
    /// Whose this node is.
    pub organisation: Option<String>,
    /// Web origins whose pages may call this node; `*` for any.
    pub cors_origins: Vec<String>,
    /// How keys of other nodes become known.
    pub trust: TrustMode,
    /// Nodes whose keys are known beforehand.
    pub peers: Vec<PinnedPeer>,
    /// Whether peers beyond this machine may be reached without TLS.
    pub allow_plain_http: bool,
    /// URLs (with everything below them) to which this node may connect; empty for any.
    pub allow_peer_urls: Vec<String>,
    /// Addresses, beside ordinary ones, to which this node may connect: `loopback`, `private`, `shared`, ranges.
    pub allow_peer_addresses: Vec<Allowed>,
    /// Certificate authorities (PEM) that peers' servers may use, beside those that this machine trusts.
    pub peer_ca_file: Option<PathBuf>,
    /// The listener's certificate; without one it speaks plain HTTP.
    pub tls: TlsConfig,
    /// What is logged, such as `info` or `fdrtd=debug`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Who may call this node, and how often.
    pub access: AccessConfig,
    /// Limits.
    pub limits: Limits,
    /// How the storage is kept.
    pub storage: StorageConfig,
    /// Only tests that link this crate can set it.
    #[serde(skip)]
    pub stop_at: Option<StopAt>,
}

/// See [`Trust`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TrustMode {
    /// A URL's key is remembered at first use.
    Tofu,
    /// Configured peers only.
    Pinned,
}

/// A peer whose key is known beforehand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedPeer {
    /// Its URL.
    pub url: NodeUrl,
    /// Its key, as `fdrtd identity` prints it there.
    pub key: PeerKey,
    /// Whose it is.
    #[serde(default)]
    pub organisation: Option<String>,
}

/// The certificate of a listener, and thereby of all nodes behind it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificates (PEM): the server's own first, then those that signed it.
    pub cert_file: Option<PathBuf>,
    /// Its private key (PEM, without passphrase).
    pub key_file: Option<PathBuf>,
    /// Seconds between two looks whether the files have changed.
    pub reload_interval: f64,
    /// A certificate from memory instead of files. Only programs that link this crate can set it.
    #[serde(skip)]
    pub made: Option<Certificate>,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How the storage is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// What an acknowledged write survives.
    pub sync: Durability,
    /// Most bytes of all records together, encrypted.
    pub max_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            sync: Durability::Full,
            max_bytes: 4 << 30,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 55500)),
            base_path: String::new(),
            public_url: Vec::new(),
            trusted_proxies: Vec::new(),
            data_dir: PathBuf::from("fdrtd-data"),
            ephemeral: false,
            storage_key_file: None,
            operator_token_file: None,
            policy: Profile::Standard,
            rules: Changes::default(),
            organisation: None,
            cors_origins: Vec::new(),
            trust: TrustMode::Tofu,
            peers: Vec::new(),
            allow_plain_http: false,
            allow_peer_urls: Vec::new(),
            allow_peer_addresses: Vec::new(),
            peer_ca_file: None,
            tls: TlsConfig::default(),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            access: AccessConfig::default(),
            limits: Limits::default(),
            storage: StorageConfig::default(),
            stop_at: None,
        }
    }
}

impl Default for TlsConfig {
    fn default() -> TlsConfig {
        TlsConfig {
            cert_file: None,
            key_file: None,
            reload_interval: 10.0,
            made: None,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// The file is no valid configuration.
    #[error("{0}: {1}")]
    Parse(PathBuf, toml::de::Error),
    /// A value that cannot be used.
    #[error("{0}")]
    Value(String),
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// An unreadable file, unknown members, wrong types.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse(path.to_owned(), error))
    }

    /// Brings values into their one form and refuses what cannot be used.
    ///
    /// # Errors
    /// With the member and what it should look like.
    pub fn checked(mut self) -> Result<Config, ConfigError> {
        let segments: Vec<&str> = self
            .base_path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let plain = |segment: &&str| {
            segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
                && !segment.starts_with('.')
        };
        if !segments.iter().all(plain) {
            return Err(ConfigError::Value(
                "base_path has letters, digits, '-', '_', '.', '~' only, such as /public1".into(),
            ));
        }
        self.base_path = segments.iter().map(|segment| format!("/{segment}")).collect();
        self.limits.check()?;
        self.access.check()?;
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return Err(ConfigError::Value(
                "tls.cert_file and tls.key_file belong together: give both (--tls-cert, --tls-key), or none for plain HTTP".into(),
            ));
        }
        if !(0.1..=86400.0).contains(&self.tls.reload_interval) {
            return Err(ConfigError::Value(
                "tls.reload_interval is a number of seconds from 0.1 to 86400".into(),
            ));
        }
        self.owner_policy()?;
        Ok(self)
    }

    /// The profile with the owner's own rules.
    pub(crate) fn owner_policy(&self) -> Result<Policy, ConfigError> {
        let policy = self.rules.apply(Policy::of(self.policy));
        let policy = policy.map_err(|error| ConfigError::Value(format!("[rules]: {error}")))?;
        for name in policy.home.microprotocols.iter().flatten() {
            if fdrtd_mpc::microprotocol::Entry::find(name).is_none_or(|entry| entry.name != name) {
                return Err(ConfigError::Value(format!("[rules]: there is no microprotocol {name}")));
            }
        }
        Ok(policy)
    }

    pub(crate) fn organisations(&self) -> Organisations {
        let named = |peer: &PinnedPeer| Some((peer.url.clone(), peer.key, peer.organisation.clone()?));
        Organisations::new(self.organisation.as_deref(), self.peers.iter().filter_map(named))
    }

    pub(crate) fn time_to_live(&self) -> Duration {
        Duration::from_secs_f64(self.limits.time_to_live)
    }

    /// What `allow_peer_addresses` says, and loopback if nobody else than this machine's users can name URLs: then nothing is gained by it.
    fn reachable(&self) -> Vec<Allowed> {
        let mut allowed = self.allow_peer_addresses.clone();
        let alone = self.listen.ip().is_loopback()
            && self.public_url.iter().all(NodeUrl::is_loopback)
            && (self.trusted_proxies.is_empty() || !self.public_url.is_empty());
        if alone {
            allowed.push(Allowed::Loopback);
        }
        allowed
    }

    pub(crate) fn peer_config(&self) -> Result<PeerConfig, ConfigError> {
        Ok(PeerConfig {
            trust: match self.trust {
                TrustMode::Tofu => Trust::Tofu,
                TrustMode::Pinned => Trust::Pinned,
            },
            pinned: self.peers.iter().map(|peer| (peer.url.clone(), peer.key)).collect(),
            allow_plain_http: self.allow_plain_http,
            allow_urls: self.allow_peer_urls.clone(),
            reach: Reach::new(self.reachable()),
            own_servers: self.public_url.iter().map(NodeUrl::server).collect(),
            own_url: self.public_url.first().cloned(),
            connector: Connector::new(self.peer_ca_file.as_deref())
                .map_err(|error| ConfigError::Value(format!("peer_ca_file: {error}")))?,
            max_handshakes: self.limits.peer_handshakes,
            max_strangers: self.limits.peer_strangers,
            inbox_bytes: self.limits.peer_inbox_bytes,
            outbox_bytes: self.limits.peer_outbox_bytes,
            ..PeerConfig::default()
        })
    }

    pub(crate) fn quota(&self) -> Quota {
        Quota {
            tasks: self.limits.tasks,
            parties: self.limits.parties,
            tasks_each: self.limits.tasks_per_principal,
            hellos: self.limits.invitations,
            hellos_per_peer: self.limits.invitations_per_peer,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_example_file_shows_every_member_with_its_default() {
        let text = include_str!("../../../docs/fdrtd.example.toml");
        let shown: Config = toml::from_str(text).unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n");
        let all: Config = toml::from_str(&uncommented).unwrap();
        let default = Config::default();
        assert_eq!(format!("{shown:?}"), format!("{default:?}"));
        assert_eq!(all.peers.len(), 1);
        let debug = format!("{default:?}");
        for member in debug
            .split([' ', '{', '}', ','])
            .filter_map(|word| word.strip_suffix(':'))
        {
            assert!(
                ["stop_at", "made"].contains(&member) || text.contains(member),
                "{member} is not in the example"
            );
        }
    }

    #[test]
    fn loopback_may_be_contacted_by_nodes_that_only_this_machine_reaches() {
        let reachable = |listen: &str, public_url: &[&str], proxies: &[&str]| {
            let config = Config {
                listen: listen.parse().unwrap(),
                public_url: public_url.iter().map(|url| url.parse().unwrap()).collect(),
                trusted_proxies: proxies.iter().map(|proxy| proxy.parse().unwrap()).collect(),
                ..Config::default()
            };
            config.reachable() == [Allowed::Loopback]
        };
        assert!(reachable("127.0.0.1:0", &[], &[]) && reachable("[::1]:0", &["http://localhost:1/x"], &["127.0.0.1"]));
        assert!(!reachable("0.0.0.0:0", &[], &[]) && !reachable("10.0.0.1:0", &["http://127.0.0.1"], &[]));
        // Behind a proxy on the same machine the clients are anywhere.
        assert!(!reachable("127.0.0.1:0", &["https://node.example"], &[]));
        assert!(!reachable(
            "127.0.0.1:0",
            &["http://localhost", "https://node.example"],
            &[]
        ));
        assert!(!reachable("127.0.0.1:0", &[], &["127.0.0.1"]));
    }

    #[test]
    fn unknown_members_and_unusable_values_are_refused() {
        assert!(
            toml::from_str::<Config>("listn = '127.0.0.1:1'")
                .unwrap_err()
                .to_string()
                .contains("listn")
        );
        assert!(toml::from_str::<Config>("[limits]\nbodies = 3").is_err());
        let path = |base_path: &str| {
            Config {
                base_path: base_path.into(),
                ..Config::default()
            }
            .checked()
        };
        assert_eq!(path("public1//a/").unwrap().base_path, "/public1/a");
        assert_eq!(path("/").unwrap().base_path, "");
        assert!(path("/a/../b").is_err());
        assert!(path("/a b").is_err());
    }
}
