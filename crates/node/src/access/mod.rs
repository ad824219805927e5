//! Who is admitted, what their role lets them do, and how often they may ask.
//!
//! Credentials are bearer tokens: the operator's from its file, those of [`tokens`], and JWTs of the configured [`issuer`]. Whoever has none is
//! anonymous, and admitted only where [`Anonymous`] says so.

mod fetch;
pub mod issuer;
mod jwt;
pub mod rate;
pub mod roles;
pub mod settings;
pub mod tokens;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

use self::issuer::{Issuer, Verdict};
use self::rate::{Key, Rate, Rates};
use self::settings::{AccessConfig, Anonymous};
use self::tokens::{Checked, Tokens};
use crate::audit::Audit;
use crate::config::ConfigError;
use crate::operator::OperatorToken;
use crate::principal::Principal;
use crate::problem::Problem;
use crate::services::Clock;

/// Somebody who was admitted, and until when.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who it is.
    pub who: Principal,
    /// What puts an end to that.
    pub lease: Lease,
}

/// How long credentials hold. Requests that wait look at it, so that the end of a token ends them too.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// In seconds since 1970.
    expires: Option<u64>,
    /// Becomes true.
    ended: Option<watch::Receiver<bool>>,
}

impl Lease {
    pub(crate) fn new(expires: Option<u64>, ended: Option<watch::Receiver<bool>>) -> Lease {
        Lease { expires, ended }
    }

    /// Ends when the credentials do.
    pub async fn over(self) {
        let ended = async {
            if let Some(mut ended) = self.ended
                && ended.wait_for(|ended| *ended).await.is_ok()
            {
                return;
            }
            // Nothing ends it; a sender that is gone has not either.
            std::future::pending().await
        };
        let expired = async {
            let Some(expires) = self.expires else {
                return std::future::pending().await;
            };
            loop {
                let left = expires.saturating_sub(Clock::System.now());
                if left == 0 {
                    return;
                }
                // Not in one piece: the clock may be set, and a timer does not reach for ever.
                tokio::time::sleep(Duration::from_secs(left.min(60))).await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = expired => {}
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Access {
    /// Those made with `fdrtd token create`.
    pub tokens: Tokens,
    operator: OperatorToken,
    issuer: Option<Issuer>,
    anonymous: Anonymous,
    /// Whether only this machine reaches the node.
    loopback: bool,
    rates: Rates,
    failures: Rates,
    start: Instant,
    audit: Audit,
}

impl Access {
    /// For a node that listens at `listen`.
    ///
    /// # Errors
    /// An issuer that cannot be used, or a node that would listen beyond its machine with nobody to admit.
    pub fn new(
        config: &AccessConfig,
        listen: IpAddr,
        tokens: Tokens,
        operator: OperatorToken,
        audit: Audit,
    ) -> Result<Access, ConfigError> {
        let issuer = config.oidc.as_ref().map(Issuer::new).transpose()?;
        let access = Access {
            tokens,
            operator,
            issuer,
            anonymous: config.anonymous,
            loopback: listen.is_loopback(),
            rates: Rates::new(Rate::new(config.requests_per_second, config.burst)),
            failures: Rates::new(Rate::new(config.failures_per_minute / 60.0, config.failures_per_minute)),
            start: Instant::now(),
            audit,
        };
        if config.anonymous == Anonymous::Auto && !access.loopback && access.issuer.is_none() && !access.tokens.any() {
            if access.tokens.are_forgotten() {
                return Err(ConfigError::Value(format!(
                    "this node would listen at {listen}, beyond this machine, and knows nobody: without a data directory (--ephemeral) it has no tokens, so \
                     configure an issuer ([access.oidc]), or let everybody who reaches it use it (--anonymous yes)"
                )));
            }
            return Err(ConfigError::Value(format!(
                "this node would listen at {listen}, beyond this machine, and knows nobody: make a token first (fdrtd token create --name NAME \
                 --role owner, with the same --data-dir or --config), or let everybody who reaches it use it (--anonymous yes)"
            )));
        }
        Ok(access)
    }

    /// Whether callers without credentials are admitted.
    pub fn admits_anonymous(&self) -> bool {
        match self.anonymous {
            Anonymous::Yes => true,
            Anonymous::No => false,
            Anonymous::Auto => self.loopback && self.issuer.is_none() && !*self.tokens.made().borrow(),
        }
    }

    /// Who the bearer of `credentials` is; `None` is somebody who has none. `from` is their address.
    ///
    /// # Errors
    /// 401 for credentials that do not admit, which of them and why is not said; 429 if they come too often; 503 if the issuer cannot be asked.
    pub async fn admit(&self, credentials: Option<&[u8]>, from: Option<IpAddr>) -> Result<Caller, Problem> {
        let Some(credentials) = credentials else {
            return self.admit_anonymous();
        };
        if self.operator.is(credentials) {
            return Ok(Caller {
                who: Principal::operator(),
                lease: Lease::default(),
            });
        }
        let token = std::str::from_utf8(credentials).unwrap_or_default();
        let why = match self.tokens.check(token) {
            Checked::Good(caller) => return Ok(caller),
            Checked::Expired(name) => Some(("expired", name)),
            Checked::Revoked(name) => Some(("revoked", name)),
            Checked::Unknown => None,
        };
        if why.is_none()
            && let Some(issuer) = &self.issuer
            && jwt::is_meant(token)
        {
            match issuer.check(token).await {
                Verdict::Good(caller) => return Ok(caller),
                Verdict::NoRole(who) => return Err(self.no_role(&who)),
                Verdict::Unreachable => return Err(issuer_unreachable()),
                Verdict::Bad(why) => tracing::debug!(why, "a JWT was refused"),
            }
        }
        // Nobody is locked out by it: whoever has good credentials never comes here, and 256 bits are not guessed. It bounds what failures cost: the
        // checks of signatures, the log and the audit.
        self.failures
            .take(&Key::of_address(from), self.start.elapsed())
            .map_err(rate_limited)?;
        if let Some((why, name)) = why {
            self.audit.note(
                &Principal::anonymous(),
                "access.refused",
                None,
                &json!({"token": name, "why": why}),
            );
        }
        Err(credentials_refused())
    }

    /// Counts a request from an address.
    ///
    /// # Errors
    /// 429.
    pub fn count_address(&self, from: Option<IpAddr>) -> Result<(), Problem> {
        self.rates
            .take(&Key::of_address(from), self.start.elapsed())
            .map_err(rate_limited)
    }

    /// Counts a request of somebody who has shown who they are. Those who are anonymous are many, and are counted by their addresses only.
    ///
    /// # Errors
    /// 429.
    pub fn count(&self, who: &Principal) -> Result<(), Problem> {
        if who.is_anonymous() {
            return Ok(());
        }
        let key = Key::Principal(who.recorded().into());
        self.rates.take(&key, self.start.elapsed()).map_err(rate_limited)
    }

    fn admit_anonymous(&self) -> Result<Caller, Problem> {
        if !self.admits_anonymous() {
            return Err(credentials_missing());
        }
        let ended = (self.anonymous == Anonymous::Auto).then(|| self.tokens.made());
        Ok(Caller {
            who: Principal::anonymous(),
            lease: Lease::new(None, ended),
        })
    }

    fn no_role(&self, who: &Principal) -> Problem {
        tracing::info!(who = who.shown(), "a JWT gives no role here");
        Problem::policy(
            "ROLE_REFUSED",
            "your credentials are good, but give you no role at this node",
            "ask this node's operator to give one of your groups a role (access.oidc.roles)",
        )
    }
}

/// 401 for somebody who has shown nothing and would have to.
pub(crate) fn credentials_missing() -> Problem {
    Problem::unauthorized(
        "CREDENTIALS_MISSING",
        "this node wants to know who calls, and the request has no credentials",
        "send 'Authorization: Bearer …' with a token (in Python token=… or FDRTD_TOKEN, on the command line FDRTD_TOKEN or --token-file); this node's \
         operator makes one with fdrtd token create",
    )
}

/// The same for all that do not admit: a guess must not learn whether it was a token once.
pub(crate) fn credentials_refused() -> Problem {
    Problem::unauthorized(
        "CREDENTIALS_REFUSED",
        "the credentials of the request do not admit to this node",
        "they are unknown here, expired or revoked: ask this node's operator for a new token",
    )
}

fn issuer_unreachable() -> Problem {
    Problem::unavailable(
        "ISSUER_UNREACHABLE",
        "this node cannot fetch the keys with which your identity provider signs, and so cannot check who you are",
        "try again in a moment; the operator finds the cause in the node's log",
    )
}

fn rate_limited(wait: Duration) -> Problem {
    let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
    Problem::too_many(
        "RATE_LIMITED",
        "requests come faster than this node takes them",
        format!(
            "wait {seconds} s, as the header Retry-After says; the node's operator can raise the limits of [access]"
        ),
    )
    .with("retry_after", seconds)
}

#[cfg(test)]
mod tests;
