//! An issuer of JWTs (OpenID Connect): its keys, fetched when they are needed, and what its tokens say about their bearers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::settings::{OidcConfig, is_safe};
use super::{Caller, Lease, fetch, jwt};
use crate::config::ConfigError;
use crate::connect::Connector;
use crate::principal::{Principal, Role};
use crate::url::NodeUrl;

/// A key that nobody knows is asked for at most so often: anybody can write any name into a token.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(60);
/// An issuer that did not answer is left alone for so long.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Keys are fetched anew after this time, so that one that was withdrawn goes.
const FRESH: Duration = Duration::from_secs(3600);
/// Older ones are still believed for this long if the issuer does not answer.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// What becomes of a token.
#[derive(Debug)]
pub enum Verdict {
    /// It admits.
    Good(Caller),
    /// It is good, and its bearer has no role here.
    NoRole(Principal),
    /// It does not; for the log.
    Bad(&'static str),
    /// The keys cannot be had.
    Unreachable,
}

/// See the [module](self).
pub struct Issuer {
    config: OidcConfig,
    url: NodeUrl,
    connector: Connector,
    keys: Mutex<Option<Keys>>,
    /// Held while they are fetched: one question for all who wait.
    fetching: tokio::sync::Mutex<Asked>,
}

/// When something was last asked for.
#[derive(Default)]
struct Asked {
    failed: Option<Instant>,
    unknown: Option<Instant>,
}

#[derive(Clone)]
struct Keys {
    list: Arc<Vec<jwt::Key>>,
    since: Instant,
}

/// Why keys are wanted.
#[derive(Clone, Copy, PartialEq)]
enum Want {
    /// There are none, or they are old.
    Fresh,
    /// These, fetched then, lack the one that a token names.
    Another(Instant),
}

impl Issuer {
    /// Nothing is fetched yet, so that a node starts without its issuer.
    ///
    /// # Errors
    /// An unusable file of certificates or URL.
    pub fn new(config: &OidcConfig) -> Result<Issuer, ConfigError> {
        let connector = Connector::new(config.ca_file.as_deref())
            .map_err(|error| ConfigError::Value(format!("access.oidc.ca_file: {error}")))?;
        let url = NodeUrl::parse(&config.issuer)
            .map_err(|error| ConfigError::Value(format!("access.oidc.issuer: {error}")))?;
        Ok(Issuer {
            config: config.clone(),
            url,
            connector,
            keys: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Whether a token is good, and for whom.
    pub async fn check(&self, token: &str) -> Verdict {
        let header = match jwt::header(token) {
            Ok(header) => header,
            Err(why) => return Verdict::Bad(why),
        };
        let Some(mut keys) = self.keys(Want::Fresh).await else {
            return Verdict::Unreachable;
        };
        if jwt::fitting(&keys.list, &header).is_empty() {
            match self.keys(Want::Another(keys.since)).await {
                Some(newer) => keys = newer,
                None => return Verdict::Unreachable,
            }
        }
        let fitting = jwt::fitting(&keys.list, &header);
        match jwt::check(token, &fitting, &self.config.issuer, &self.config.audience) {
            Ok(claims) => self.admit(&claims),
            Err(why) => Verdict::Bad(why),
        }
    }

    fn admit(&self, claims: &jwt::Claims) -> Verdict {
        let name = format!("jwt:{}#{}", self.config.issuer, claims.sub);
        let given = claims.texts(&self.config.role_claim);
        let role = given
            .iter()
            .filter_map(|text| self.config.roles.get(*text))
            .max()
            .copied();
        let Some(role) = role else {
            return Verdict::NoRole(Principal::new(&name, Role::Viewer));
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // a float becomes the nearest integer there is
        let expires = (claims.exp as u64).saturating_add(jwt::LEEWAY);
        Verdict::Good(Caller {
            who: Principal::new(&name, role),
            lease: Lease::new(Some(expires), None),
        })
    }

    /// The keys: those that are there if they are what is wanted, else newly fetched ones; `None` if they cannot be had.
    async fn keys(&self, want: Want) -> Option<Keys> {
        if let Some(there) = self.there().filter(|there| is_wanted(there, want)) {
            return Some(there);
        }
        let mut asked = self.fetching.lock().await;
        // Somebody may have fetched them meanwhile.
        let there = self.there();
        if let Some(there) = there.clone().filter(|there| is_wanted(there, want)) {
            return Some(there);
        }
        let usable = there.filter(|there| there.since.elapsed() < STALE);
        let recently = |at: Option<Instant>, pause| at.is_some_and(|at: Instant| at.elapsed() < pause);
        if want != Want::Fresh && recently(asked.unknown, UNKNOWN_PAUSE) {
            return usable;
        }
        if recently(asked.failed, FAILURE_PAUSE) {
            return if want == Want::Fresh { usable } else { None };
        }
        match self.fetch().await {
            Ok(list) => {
                asked.failed = None;
                if want != Want::Fresh {
                    asked.unknown = Some(Instant::now());
                }
                let keys = Keys {
                    list: Arc::new(list),
                    since: Instant::now(),
                };
                *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
                Some(keys)
            }
            Err(why) => {
                tracing::warn!(
                    issuer = self.config.issuer,
                    why,
                    "the keys of the issuer cannot be fetched"
                );
                asked.failed = Some(Instant::now());
                if want == Want::Fresh { usable } else { None }
            }
        }
    }

    fn there(&self) -> Option<Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> Result<Vec<jwt::Key>, String> {
        let url = match &self.config.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set = fetch::document(&self.connector, &url).await?;
        let keys = jwt::keys(&set);
        if keys.is_empty() {
            return Err("its set of keys has none for RS256, PS256, ES256 or EdDSA".to_owned());
        }
        Ok(keys)
    }

    /// Where the keys are, by what the issuer says about itself.
    async fn discover(&self) -> Result<NodeUrl, String> {
        let about = format!("{}/.well-known/openid-configuration", self.url);
        let about = NodeUrl::parse(&about).map_err(|error| error.to_string())?;
        let document = fetch::document(&self.connector, &about).await?;
        if document["issuer"].as_str() != Some(&self.config.issuer) {
            return Err(
                "it says to be another issuer than access.oidc.issuer, which must be the same to the letter".to_owned(),
            );
        }
        let url = document["jwks_uri"].as_str().and_then(|text| NodeUrl::parse(text).ok());
        // Who can be reached under a name with a certificate must not lead to somebody on the way, and nobody from elsewhere onto this machine.
        url.filter(|url| is_safe(url) && (!self.url.is_tls() || url.is_tls()))
            .ok_or_else(|| "its jwks_uri cannot be used".to_owned())
    }
}

fn is_wanted(there: &Keys, want: Want) -> bool {
    match want {
        Want::Fresh => there.since.elapsed() < FRESH,
        Want::Another(than) => there.since > than,
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Issuer").field(&self.config.issuer).finish()
    }
}
