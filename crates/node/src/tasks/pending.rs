//! What peers said of tasks in which they are not known to take part: the task is not joined here, or the sender's key has not been found yet.
//!
//! Anybody can send such messages, so each is checked before it is kept, and their number is bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::MAX_PARTIES;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Quota;
use crate::descriptor::{Descriptor, Invitation, PROTOCOL};
use crate::identity::PeerKey;
use crate::policy::Profile;
use crate::session::{CONTROL_BYTES, peek_hello};

/// By task, the last word of each sender: a Hello or an abort.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<Uuid, Vec<Word>>);

#[derive(Debug)]
struct Word {
    from: PeerKey,
    message: Bytes,
    /// What a Hello invites to; `None` for an abort.
    invitation: Option<(Descriptor, Profile)>,
    since: Instant,
}

impl Word {
    fn expires(&self, time_to_live: Duration) -> Option<Instant> {
        let join = |(descriptor, _): &(Descriptor, Profile)| Duration::from_millis(descriptor.durations.join);
        let kept = self.invitation.as_ref().map_or(time_to_live, join);
        self.since.checked_add(kept.min(time_to_live))
    }
}

impl Pending {
    /// Keeps a Hello if it is one, names a microprotocol we know and there is room; anything else of a stranger is dropped.
    pub(super) fn keep_hello(&mut self, quota: &Quota, from: PeerKey, task: Uuid, hello: Bytes, now: Instant) {
        if hello.len() > CONTROL_BYTES {
            return;
        }
        let Ok((descriptor, profile)) = peek_hello(&hello) else {
            return;
        };
        let parties = descriptor.nodes.len();
        let usable = (2..=MAX_PARTIES).contains(&parties) && descriptor.durations.usable();
        if descriptor.task != task || descriptor.protocol != PROTOCOL || !usable {
            return;
        }
        if Entry::find(&descriptor.microprotocol).is_none_or(|entry| entry.configure(&descriptor.parameters).is_err()) {
            return;
        }
        let word = Word {
            from,
            message: hello,
            invitation: Some((descriptor, profile)),
            since: now,
        };
        if self.keep(quota, task, word) {
            tracing::info!(%task, peer = %from.fingerprint(), "invited to a task");
        }
    }

    /// The sender's Hello is void. If the task is `joined` here, its reason is kept until the sender is known to be a party.
    pub(super) fn keep_abort(
        &mut self,
        quota: &Quota,
        from: PeerKey,
        task: Uuid,
        abort: Bytes,
        joined: bool,
        now: Instant,
    ) {
        self.take(&task, &from);
        if joined && abort.len() <= CONTROL_BYTES {
            let word = Word {
                from,
                message: abort,
                invitation: None,
                since: now,
            };
            self.keep(quota, task, word);
        }
    }

    /// In place of what the sender said before.
    fn keep(&mut self, quota: &Quota, task: Uuid, word: Word) -> bool {
        self.take(&task, &word.from);
        let all = || self.0.values().flatten();
        let full = all().count() >= quota.hellos
            || all().filter(|kept| kept.from == word.from).count() >= quota.hellos_per_peer
            || self.0.get(&task).is_some_and(|kept| kept.len() >= MAX_PARTIES);
        if full {
            tracing::warn!(peer = %word.from.fingerprint(), "too many pending invitations, one more was dropped");
        } else {
            self.0.entry(task).or_default().push(word);
        }
        !full
    }

    /// What that sender said of that task last.
    pub(super) fn take(&mut self, task: &Uuid, from: &PeerKey) -> Option<Bytes> {
        let kept = self.0.get_mut(task)?;
        let word = kept
            .iter()
            .position(|word| word.from == *from)
            .map(|index| kept.remove(index).message);
        if kept.is_empty() {
            self.0.remove(task);
        }
        word
    }

    /// What all senders said of that task last.
    pub(super) fn take_all(&mut self, task: &Uuid) -> Vec<(PeerKey, Bytes)> {
        let words = self.0.remove(task).unwrap_or_default().into_iter();
        words.map(|word| (word.from, word.message)).collect()
    }

    /// The peer was started anew: what it said is void.
    pub(super) fn forget_peer(&mut self, peer: &PeerKey) {
        self.retain(|word| word.from != *peer);
    }

    /// Drops what is older than `time_to_live` or the task's join duration.
    pub(super) fn expire(&mut self, time_to_live: Duration, now: Instant) {
        self.retain(|word| word.expires(time_to_live).is_none_or(|at| now < at));
    }

    fn retain(&mut self, keep: impl Fn(&Word) -> bool) {
        self.0.retain(|_, words| {
            words.retain(&keep);
            !words.is_empty()
        });
    }

    /// For people: the tasks to which Hellos invite, except those that are `joined`.
    pub(super) fn invitations(&self, joined: impl Fn(&Uuid) -> bool, now: Instant) -> Vec<Value> {
        let waiting = self.0.iter().filter(|(task, _)| !joined(task));
        waiting
            .filter_map(|(_, words)| {
                let (first, (descriptor, profile)) =
                    words.iter().find_map(|word| Some((word, word.invitation.as_ref()?)))?;
                let hellos = words.iter().filter(|word| word.invitation.is_some());
                let invitation = Invitation::new(descriptor, vec![None; descriptor.nodes.len()], *profile, 0);
                let mut value = serde_json::to_value(&invitation).ok()?;
                value.as_object_mut()?.remove("from");
                value["hellos"] = hellos.map(|word| json!(word.from.fingerprint())).collect();
                value["seconds"] = now.saturating_duration_since(first.since).as_secs().into();
                Some(value)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
