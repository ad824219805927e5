//! Waiting for a task's messages to arrive.

use super::{Peers, TaskId};
use crate::identity::PeerKey;

impl Peers {
    /// Bytes of messages of `task` to that peer that it has not acknowledged.
    #[must_use]
    pub fn queued_of(&self, peer: PeerKey, task: TaskId) -> usize {
        self.0.with_known(peer, |_, state| state.link.queued(task)).unwrap_or(0)
    }

    /// Waits until these peers have acknowledged everything of `task`.
    pub async fn delivered(&self, peers: &[PeerKey], task: TaskId) {
        loop {
            let changed = self.0.acknowledged.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before looking, so that nothing is missed in between.
            changed.as_mut().enable();
            let done = |peer: &PeerKey| {
                self.0
                    .with_known(*peer, |_, state| state.link.queued(task) == 0)
                    .unwrap_or(true)
            };
            if peers.iter().all(done) {
                return;
            }
            changed.await;
        }
    }
}
