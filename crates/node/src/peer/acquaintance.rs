//! Getting to know the nodes behind URLs: asking them, taking note of new keys, and what the operator says about them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{
    Event, Known, PeerError, Peers, PinError,
    inner::{Inner, lock},
    trust::Met,
    ws,
};
use crate::{
    connect::Connector,
    identity::{PeerKey, Shown},
    rotation::{Succession, now},
    url::NodeUrl,
};

/// How long a node whose key is known is asked whether it still has it. Who does not answer has it.
const STILL: Duration = Duration::from_secs(1);
/// Pause between two questions to one URL that a connection by an unknown key gives rise to.
const PAUSE: Duration = Duration::from_secs(5);

/// What this node has learnt, to be kept for its next life.
#[derive(Clone, Debug)]
pub enum News<'a> {
    /// A URL has shown its key for the first time.
    FirstUse {
        /// The URL.
        url: &'a NodeUrl,
        /// Its key.
        key: PeerKey,
        /// When, in seconds since 1970.
        since: u64,
    },
    /// A node has a new key, and its old one says so.
    Succeeded {
        /// Where it was shown.
        url: &'a NodeUrl,
        /// From the known key to the new one.
        links: &'a [Succession],
    },
}

impl Peers {
    /// The key of the node at `url`: pinned, remembered, or asked for now and remembered.
    ///
    /// A node that is known and not connected is asked whether it has a new key, as long as it answers at once.
    ///
    /// # Errors
    /// [`PeerError`]: the URL is against the policy, does not lead to a node, leads to another node than the known one, or to this node.
    pub async fn resolve(&self, url: &NodeUrl) -> Result<PeerKey, PeerError> {
        let known = {
            let book = lock(&self.0.book);
            book.check_url(url)?;
            book.expected(url)?
        };
        let Some(known) = known else {
            return self.0.ask(url).await;
        };
        if self.status(known).connected {
            return Ok(known);
        }
        match timeout(STILL, self.0.ask(url)).await {
            Ok(Err(
                error @ (PeerError::KeyChanged { .. }
                | PeerError::KeyForked { .. }
                | PeerError::Address(..)
                | PeerError::Myself),
            )) => Err(error),
            Ok(Ok(key)) => Ok(key),
            _ => Ok(known),
        }
    }

    /// The key that `url` shows now. Nothing is remembered and nothing compared, so this answers "is this URL me?".
    ///
    /// # Errors
    /// [`PeerError`]: the URL is against the policy or does not lead to a node.
    pub async fn look_up(&self, url: &NodeUrl) -> Result<PeerKey, PeerError> {
        let shown = ws::fetch_identity(&self.0.way(url)?, url).await?;
        Ok(shown.key)
    }

    /// The same for a URL that the operator of this node names: it may lead into a closed network.
    ///
    /// # Errors
    /// As [`Peers::look_up`].
    pub async fn look_up_named(&self, url: &NodeUrl) -> Result<PeerKey, PeerError> {
        lock(&self.0.book).check_url(url)?;
        let config = &self.0.config;
        let connector = config.connector.within(config.reach.clone(), true);
        let shown = ws::fetch_identity(&connector, url).await?;
        if shown.key == self.0.identity.key() {
            return Err(PeerError::Myself);
        }
        Ok(shown.key)
    }

    /// All URLs whose keys are known, with the keys that count now.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        lock(&self.0.book).all()
    }

    /// The keys of nodes that are connected now.
    #[must_use]
    pub fn connected(&self) -> Vec<PeerKey> {
        let peers = self.0.all();
        let connected = peers.iter().filter(|peer| peer.lock().link.is_connected());
        connected.map(|peer| peer.key).collect()
    }

    /// The operator says that this key belongs to that URL. The answer is what is known now: a successor of the key may be.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn pin(&self, url: &NodeUrl, key: PeerKey) -> Result<Known, PinError> {
        let since = now();
        let before = lock(&self.0.book).expected(url).ok().flatten();
        let key = lock(&self.0.book).pin(url, key, since)?;
        if let Some(before) = before.filter(|before| *before != key) {
            self.part_if_unwelcome(before);
        }
        Ok(Known {
            url: url.clone(),
            key,
            source: super::Source::Pinned,
            since: Some(since),
        })
    }

    /// Forgets the key of a URL, so that it may be used for the first time again. With pinned peers only, its node is a stranger from now on.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn forget_url(&self, url: &NodeUrl) -> Result<Known, PinError> {
        let known = lock(&self.0.book).forget(url)?;
        self.part_if_unwelcome(known.key);
        Ok(known)
    }

    fn part_if_unwelcome(&self, key: PeerKey) {
        if !self.welcomes(&key) {
            self.0.part(key);
        }
    }
}

impl Inner {
    /// What opens connections to `url`, which may be anybody's: only to addresses that the policy allows.
    pub(super) fn way(&self, url: &NodeUrl) -> Result<Connector, PeerError> {
        let book = lock(&self.book);
        book.check_url(url)?;
        let named = book.is_named(url);
        Ok(self.config.connector.within(self.config.reach.clone(), named))
    }

    /// Asks `url` who it is, and takes note.
    pub(super) async fn ask(&self, url: &NodeUrl) -> Result<PeerKey, PeerError> {
        let shown = ws::fetch_identity(&self.way(url)?, url).await?;
        self.take_note(url, &shown)?;
        Ok(shown.key)
    }

    /// A node that says to be at `claimed` has shown a key that is not known to belong there. If another one is, it may have been succeeded.
    pub(super) fn look_after(self: &Arc<Self>, claimed: Option<NodeUrl>, key: PeerKey) {
        let Some(url) = claimed else { return };
        let other = matches!(lock(&self.book).expected(&url), Ok(Some(known)) if known != key);
        let due = || {
            let mut asked = lock(&self.asked);
            asked.retain(|_, at: &mut Instant| at.elapsed() < PAUSE);
            asked.insert(url.clone(), Instant::now()).is_none()
        };
        if !other || !due() {
            return;
        }
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = inner.ask(&url).await {
                debug!(%url, %error, "who connects in the name of a known peer is not that peer");
            }
        });
    }

    /// Ends the connection to that node, if there is one.
    pub(super) fn part(&self, key: PeerKey) {
        self.with_known(key, |_, state| {
            if let Some(slot) = &state.current {
                slot.close();
            }
        });
    }

    fn take_note(&self, url: &NodeUrl, shown: &Shown) -> Result<(), PeerError> {
        if shown.key == self.identity.key() {
            return Err(PeerError::Myself);
        }
        let since = now();
        let met = lock(&self.book).meet(url, shown, since);
        match met {
            Ok(Met::Known) => {}
            Ok(Met::New) => {
                info!(%url, peer = %shown.key.fingerprint(), "first contact: this key is remembered");
                (self.on_news)(News::FirstUse {
                    url,
                    key: shown.key,
                    since,
                });
            }
            Ok(Met::Succeeded(links)) => self.follow(url, shown.key, &links),
            Err(error) => {
                if let PeerError::KeyForked { .. } = &error {
                    error!(%url, %error, "a key of a peer is in two hands; its new key is not taken");
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn follow(&self, url: &NodeUrl, key: PeerKey, links: &[Succession]) {
        let old = links.first().map(|link| link.old.fingerprint()).unwrap_or_default();
        warn!(%url, %old, new = %key.fingerprint(), "a peer has a new key, and the old one has signed it: it is taken from now on");
        let configured = lock(&self.book).all();
        if configured
            .iter()
            .any(|known| known.url == *url && known.source == super::Source::Configured)
        {
            warn!(%url, %key, "the configuration has the old key of this peer: write the new one under [[peers]]");
        }
        (self.on_news)(News::Succeeded { url, links });
        for link in links {
            // Whoever is connected under the old key is not that node any more.
            self.part(link.old);
            self.deliver(Event::Rotated { old: link.old });
        }
    }
}
