//! `[access]` of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::ConfigError;
use crate::principal::Role;
use crate::url::NodeUrl;

/// Who may call a node, and how often.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Whether callers without credentials are admitted.
    pub anonymous: Anonymous,
    /// Requests a second that one principal, and one address, may go on sending.
    pub requests_per_second: f64,
    /// Requests that may come at once on top of that.
    pub burst: f64,
    /// Refused credentials a minute that one address may send before it is told to wait.
    pub failures_per_minute: f64,
    /// Whose JWTs are believed.
    pub oidc: Option<OidcConfig>,
}

/// See [`AccessConfig::anonymous`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// As long as only this machine reaches the node, no token was ever made and no issuer is configured.
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

/// An issuer of JWTs (OpenID Connect).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// Exactly as in the JWTs' claim `iss`; what the issuer says about itself is below it.
    pub issuer: String,
    /// Must be among the JWTs' claim `aud`.
    pub audience: String,
    /// Where its keys are, if what it says about itself shall not be asked.
    #[serde(default)]
    pub jwks_url: Option<NodeUrl>,
    /// The claim with the groups or roles; dots lead into objects.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// Which role each of them has here.
    pub roles: BTreeMap<String, Role>,
    /// Certificate authorities (PEM) of the issuer's server, beside those that this machine trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn role_claim() -> String {
    "roles".to_owned()
}

impl Default for AccessConfig {
    /// A class of thirty, or a thousand tasks at once by one client, does not meet these limits; a loop that has lost its pause does.
    fn default() -> AccessConfig {
        AccessConfig {
            anonymous: Anonymous::Auto,
            requests_per_second: 1_000.0,
            burst: 20_000.0,
            failures_per_minute: 60.0,
            oidc: None,
        }
    }
}

impl AccessConfig {
    /// Refuses what cannot be used.
    ///
    /// # Errors
    /// With the member and what it should be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text: &str| Err(ConfigError::Value(text.to_owned()));
        let range = 0.001..=1e9;
        for (name, value, least) in [
            ("requests_per_second", self.requests_per_second, *range.start()),
            ("burst", self.burst, 1.0),
            ("failures_per_minute", self.failures_per_minute, 1.0),
        ] {
            if !range.contains(&value) || value < least {
                return wrong(&format!("access.{name} is a number from {least} to 1e9"));
            }
        }
        let Some(oidc) = &self.oidc else { return Ok(()) };
        let issuer = NodeUrl::parse(&oidc.issuer);
        let urls = issuer.as_ref().ok().into_iter().chain(&oidc.jwks_url);
        if issuer.is_err() || urls.into_iter().any(|url| !is_safe(url)) {
            return wrong("access.oidc.issuer and jwks_url are https:// URLs (http:// on this machine only)");
        }
        if oidc.audience.is_empty() || oidc.role_claim.is_empty() || oidc.roles.is_empty() {
            return wrong(
                "access.oidc has an audience, and in roles at least one role, such as { \"fdrtd-analysts\" = \"analyst\" }",
            );
        }
        Ok(())
    }
}

/// Whether keys may be fetched from there: with a certificate, or without leaving the machine.
pub(super) fn is_safe(url: &NodeUrl) -> bool {
    url.is_tls() || url.is_loopback()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        let config: AccessConfig = toml::from_str(text).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn unusable_values_are_refused() {
        assert!(AccessConfig::default().check().is_ok());
        for text in [
            "burst = 0.5",
            "requests_per_second = 0.0",
            "requests_per_second = nan",
            "burst = inf",
            "failures_per_minute = 0.0",
        ] {
            assert!(refused(text).contains(text.split(' ').next().unwrap()), "{text}");
        }
        let oidc = |issuer: &str, rest: &str| format!("[oidc]\nissuer = \"{issuer}\"\naudience = \"a\"\n{rest}");
        assert!(refused(&oidc("http://idp.example", "roles = { a = \"owner\" }")).contains("https"));
        assert!(refused(&oidc("idp", "roles = { a = \"owner\" }")).contains("https"));
        assert!(refused(&oidc("https://a", "jwks_url = \"http://b\"\nroles = { a = \"owner\" }")).contains("jwks_url"));
        assert!(refused(&oidc("https://a", "roles = {}")).contains("roles"));
        assert!(
            toml::from_str::<AccessConfig>(
                "[oidc]\nissuer = \"https://a\"\naudience = \"a\"\nroles = { a = \"admin\" }"
            )
            .is_err()
        );
        let good: AccessConfig = toml::from_str(&oidc("https://a/realms/x/", "roles = { a = \"owner\" }")).unwrap();
        assert!(good.check().is_ok());
        assert_eq!(good.oidc.unwrap().role_claim, "roles");
    }
}
