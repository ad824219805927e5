//! What runs beside a task until it is let go: finding the peers, the deadlines, the last messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fdrtd_mpc::net::Party;

use super::{TELL_EACH, Task};
use crate::identity::PeerKey;

/// How long a node that was started anew looks for peers whose signatures of a receipt are missing.
const SIGNATURES: Duration = Duration::from_secs(600);

/// How long the exchange of signatures waits for answers with the result, here and at the others: where several nodes share a machine, they
/// would share it with them. By then the last party has its result, too, unless the network is slow, and then it makes no difference.
const ANSWERS_FIRST: Duration = Duration::from_millis(5);

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

impl Task {
    /// Starts what runs in the background until it ends: finding the peers, and the deadlines. `on_key` is told each peer's key, `on_end` is called
    /// at the end.
    pub(crate) fn launch(
        self: &Arc<Self>,
        on_key: impl Fn(Party, PeerKey) + Clone + Send + 'static,
        on_end: impl FnOnce() + Send + 'static,
    ) {
        let nodes = self.lock().session.descriptor().nodes.clone();
        for party in Party::all(nodes.len()).filter(|party| *party != self.me()) {
            let (task, url, on_key) = (Arc::clone(self), nodes[party.index()].clone(), on_key.clone());
            tokio::spawn(async move {
                let mut pause = Duration::from_millis(100);
                while task.ended().is_none() {
                    match task.context.peers.resolve(&url).await {
                        Ok(key) => return on_key(party, key),
                        Err(error) => {
                            task.lock().resolve_errors[party.index()] = Some(error);
                            task.touch();
                        }
                    }
                    let mut changed = task.changed.subscribe();
                    let ended = async { while task.ended().is_none() && changed.changed().await.is_ok() {} };
                    let _ = tokio::time::timeout(pause, ended).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            });
        }
        let patience = if self.ended().is_some() {
            self.ask_for_signatures();
            SIGNATURES
        } else {
            Duration::ZERO
        };
        let task = Arc::clone(self);
        tokio::spawn(async move {
            task.keep_time().await;
            on_end();
            task.let_go(patience).await;
        });
    }

    async fn keep_time(self: &Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            let (deadline, tell) = {
                let core = self.lock();
                let deadline = core.session.next_deadline(&self.heard(&core.session.keys()));
                let tell = core.told.at.filter(|_| core.told.untold).map(|at| at + TELL_EACH);
                (deadline, tell)
            };
            let Some(deadline) = deadline else { break };
            let wait = tokio::time::sleep_until(self.context.at(deadline).into());
            tokio::select! {
                () = wait => {
                    let heard = self.heard(&self.lock().session.keys());
                    self.with(|session, now| session.tick(now, &heard));
                }
                () = at(tell) => self.tell_rounds(),
                () = self.soon.notified() => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// Tells of the rounds that have gone by.
    fn tell_rounds(&self) {
        let mut core = self.lock();
        core.told.untold = false;
        core.told.at = Some(Instant::now());
        drop(core);
        self.touch();
    }

    /// After the end: the last messages are still delivered, and signatures of the receipt waited for, then the peers are let go.
    async fn let_go(self: &Arc<Self>, patience: Duration) {
        let (others, id, silence) = {
            let core = self.lock();
            let descriptor = core.session.descriptor();
            (
                self.others(&core.session),
                *descriptor.task.as_bytes(),
                descriptor.durations.silence,
            )
        };
        let silence = Duration::from_millis(silence);
        let delivered = self.context.peers.delivered(&others, id);
        let _ = tokio::time::timeout(silence, delivered).await;
        let mut changed = self.changed.subscribe();
        let lacks = || {
            let core = self.lock();
            !core.deleted && !core.session.unsigned().is_empty()
        };
        let signed = async { while lacks() && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(patience.max(silence), signed).await;
        // An answer to the last signature may have been asked for.
        let delivered = self.context.peers.delivered(&others, id);
        let _ = tokio::time::timeout(silence, delivered).await;
        for key in others {
            self.context.peers.forget(key, id);
        }
    }

    /// After the end: tells the others that this party has signed the receipt. In a moment: answers are more urgent.
    pub(super) async fn exchange_signatures_soon(self: &Arc<Self>) {
        if self.lock().session.receipt().is_some() {
            self.pause(ANSWERS_FIRST).await;
            self.exchange_signatures();
        }
    }

    /// Lets a moment go by, unless the node stops.
    pub(super) async fn pause(&self, moment: Duration) {
        let mut stopping = self.context.stopping.subscribe();
        let _ = tokio::time::timeout(moment, stopping.wait_for(|stopping| *stopping)).await;
    }

    /// Asks for the signatures that were missing when this node fell over.
    fn ask_for_signatures(self: &Arc<Self>) {
        let wanted: Vec<_> = {
            let core = self.lock();
            let (keys, descriptor) = (core.session.keys(), core.session.descriptor());
            let unsigned = core.session.unsigned().into_iter();
            unsigned
                .filter_map(|party| Some((party, keys[party.index()]?, descriptor.nodes[party.index()].clone())))
                .collect()
        };
        for (_, key, url) in &wanted {
            self.context.peers.want(*key, url, *self.id().as_bytes());
        }
        self.with(|session, _| {
            for (party, ..) in wanted {
                session.ask_for_signature(party);
            }
        });
    }
}
