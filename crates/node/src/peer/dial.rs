//! Dialling: one task per peer that is wanted and not connected.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::debug;

use super::{
    PeerError, connection,
    inner::{Inner, Peer, State, lock},
    ws,
};
use crate::{connect::Stream, url::NodeUrl};

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Starts the task that dials, if there is need and none is running.
pub(super) fn ensure(inner: &Arc<Inner>, peer: &Arc<Peer>, state: &mut State) {
    if !state.dialling && target(inner, state).is_some() {
        state.dialling = true;
        inner.runtime.spawn(keep_dialling(inner.clone(), peer.clone()));
    }
}

/// Where to dial, if that is to be done.
fn target(inner: &Inner, state: &State) -> Option<NodeUrl> {
    let free = state.current.is_none() && state.newcomers == 0;
    let needed = free && !inner.is_stopped() && state.needs_connection(inner.now());
    state.url.clone().filter(|_| needed)
}

/// Goes on dialling if a handler of events panics on a connection made here: otherwise this peer would never be dialled again.
struct Resume<'a>(&'a Arc<Inner>, &'a Arc<Peer>);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Resume(inner, peer) = self;
            let mut state = peer.lock();
            state.dialling = false;
            state.backoff = Duration::from_millis(inner.config.dial_retry_max_ms);
            ensure(inner, peer, &mut state);
        }
    }
}

/// Dials until there is a connection, and goes on when one made here has ended.
async fn keep_dialling(inner: Arc<Inner>, peer: Arc<Peer>) {
    let _resume = Resume(&inner, &peer);
    loop {
        let pause = peer.lock().backoff;
        if !pause.is_zero() {
            tokio::select! {
                () = sleep(pause) => {}
                () = peer.redial.notified() => {}
                () = inner.stopped() => {}
            }
        }
        let url = {
            let mut state = peer.lock();
            let Some(url) = target(&inner, &state) else {
                // Under the same lock as the check: whoever makes it necessary again starts another task.
                state.dialling = false;
                return;
            };
            url
        };
        let made = tokio::select! {
            () = inner.stopped() => continue,
            made = dial(&inner, &peer, &url) => made,
        };
        let error = match made {
            Ok(made) => connection::run(&inner, made, inner.identity.key()).await,
            Err(error) => error,
        };
        debug!(peer = %peer.key.fingerprint(), %url, %error, "dialled connection ended");
        let mut state = peer.lock();
        if state.current.is_none() {
            let longest = Duration::from_millis(inner.config.dial_retry_max_ms);
            state.backoff = (state.backoff * 2).max(FIRST_PAUSE).min(longest);
            state.last_error = Some(error);
        }
    }
}

async fn dial(inner: &Inner, peer: &Peer, url: &NodeUrl) -> Result<ws::Authenticated<Stream>, PeerError> {
    lock(&inner.book).check_peer(url, peer.key)?;
    // Anew for every attempt: names may lead elsewhere by now.
    let way = inner.way(url)?;
    let own_url = inner.config.own_url.as_ref();
    let made = ws::dial(&way, &inner.identity, own_url, url, peer.key).await;
    if let Err(PeerError::KeyChanged { .. }) = &made {
        // It may be the same node with a new key. The tasks that want the old one are told then, and end.
        let _ = inner.ask(url).await;
    }
    made
}
