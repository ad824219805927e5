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
use crate::descriptor::{Descriptor, Field, Invitation, PROTOCOL};
use crate::identity::PeerKey;
use crate::invitation::Link;
use crate::policy::Rules;
use crate::session::{CONTROL_BYTES, peek_hello};
use crate::url::NodeUrl;

/// By task, the last word of each sender: a Hello or an abort.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<Uuid, Vec<Word>>);

#[derive(Debug)]
struct Word {
    from: PeerKey,
    message: Bytes,
    /// What a Hello invites to; `None` for an abort.
    invitation: Option<(Descriptor, Rules)>,
    since: Instant,
}

impl Word {
    fn expires(&self, time_to_live: Duration) -> Option<Instant> {
        let join = |(descriptor, _): &(Descriptor, Rules)| Duration::from_millis(descriptor.durations.join);
        let kept = self.invitation.as_ref().map_or(time_to_live, join);
        self.since.checked_add(kept.min(time_to_live))
    }
}

impl Pending {
    /// Keeps a Hello if it is one, names a microprotocol we know and there is room; anything else of a stranger is dropped.
    /// Tells whether it was kept.
    pub(super) fn keep_hello(&mut self, quota: &Quota, from: PeerKey, task: Uuid, hello: Bytes, now: Instant) -> bool {
        if hello.len() > CONTROL_BYTES {
            return false;
        }
        let Ok((descriptor, rules)) = peek_hello(&hello) else {
            return false;
        };
        let parties = descriptor.nodes.len();
        let usable = (2..=MAX_PARTIES).contains(&parties) && descriptor.durations.usable();
        if descriptor.task != task || descriptor.protocol != PROTOCOL || !usable {
            return false;
        }
        if Entry::find(&descriptor.microprotocol).is_none_or(|entry| entry.configure(&descriptor.parameters).is_err()) {
            return false;
        }
        let word = Word {
            from,
            message: hello,
            invitation: Some((descriptor, rules)),
            since: now,
        };
        let kept = self.keep(quota, task, word);
        if kept {
            tracing::info!(%task, peer = %from.fingerprint(), "invited to a task");
        }
        kept
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

    /// What Hellos invite to that is just what is wanted, the durations aside: see [`Pending::invitations`].
    pub(super) fn at(&self, wanted: &Descriptor, joined: impl Fn(&Uuid) -> bool) -> Vec<PendingInvitation> {
        let fits = |descriptor: &Descriptor| {
            descriptor.meeting == wanted.meeting
                && descriptor.microprotocol == wanted.microprotocol
                && descriptor.parameters == wanted.parameters
                && descriptor.nodes == wanted.nodes
        };
        let words = self.0.iter().filter(|(task, _)| !joined(task));
        let mut found: Vec<PendingInvitation> = Vec::new();
        for word in words.flat_map(|(_, words)| words) {
            let Some((descriptor, rules)) = &word.invitation else {
                continue;
            };
            if !fits(descriptor) {
                continue;
            }
            match found.iter_mut().find(|other| other.descriptor == *descriptor) {
                Some(same) => same.from.push(word.from),
                None => found.push(PendingInvitation {
                    descriptor: descriptor.clone(),
                    rules: *rules,
                    from: vec![word.from],
                    since: word.since,
                }),
            }
        }
        found.sort_by_key(|entry| std::cmp::Reverse(entry.since));
        found
    }

    /// In what a computation in one call differs from the wanted one that somebody wants of the same nodes.
    pub(super) fn difference(&self, wanted: &Descriptor) -> Option<Field> {
        // Everybody who waits looks at this whenever anything arrives, so nothing is copied for what is of other nodes. None stands twice in a list.
        let same_nodes = |nodes: &[NodeUrl]| {
            nodes.len() == wanted.nodes.len() && wanted.nodes.iter().all(|node| nodes.contains(node))
        };
        let words = self.0.values().flatten();
        let found = words.filter_map(|word| word.invitation.as_ref().map(|(descriptor, _)| descriptor));
        found
            .filter(|found| found.meeting.is_some() && same_nodes(&found.nodes))
            .find_map(|found| {
                let wanted = Descriptor {
                    task: found.task,
                    durations: found.durations,
                    ..wanted.clone()
                };
                wanted.difference(found)
            })
    }

    /// What Hellos invite to, except to tasks that are `joined`: an entry for each description that somebody gives of a task, the newest first.
    pub(super) fn invitations(&self, joined: impl Fn(&Uuid) -> bool) -> Vec<PendingInvitation> {
        let mut found: Vec<PendingInvitation> = Vec::new();
        for (task, words) in self.0.iter().filter(|(task, _)| !joined(task)) {
            let first = found.len();
            for word in words {
                let Some((descriptor, rules)) = &word.invitation else {
                    continue;
                };
                // Somebody else's description must not hide this one.
                let same = found[first..].iter_mut().find(|other| other.descriptor == *descriptor);
                if let Some(same) = same {
                    same.from.push(word.from);
                    continue;
                }
                debug_assert_eq!(descriptor.task, *task);
                found.push(PendingInvitation {
                    descriptor: descriptor.clone(),
                    rules: *rules,
                    from: vec![word.from],
                    since: word.since,
                });
            }
        }
        found.sort_by_key(|entry| std::cmp::Reverse(entry.since));
        found
    }
}

/// A task that this node was asked into and has not joined.
#[derive(Clone, Debug)]
pub struct PendingInvitation {
    /// What is to be computed, with whom.
    pub descriptor: Descriptor,
    /// The rules of the first sender.
    pub rules: Rules,
    /// Who has said Hello with this very descriptor; the first one first, never empty.
    pub from: Vec<PeerKey>,
    /// When the first Hello came.
    pub since: Instant,
}

impl PendingInvitation {
    /// For people, and for `join`. Who sent it is known by its key only: `url` is where that node is, if that is known.
    pub fn shown(&self, url: Option<NodeUrl>) -> Value {
        let keys = vec![None; self.descriptor.nodes.len()];
        let invitation = Invitation::new(&self.descriptor, keys, self.rules, 0);
        let mut value = serde_json::to_value(&invitation).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("from");
        }
        if let Some(key) = self.from.first() {
            value["link"] = Link::new(url, *key, &self.descriptor).to_string().into();
        }
        value["hellos"] = self.from.iter().map(|key| json!(key.fingerprint())).collect();
        value["seconds"] = self.since.elapsed().as_secs().into();
        value
    }
}

#[cfg(test)]
mod tests;
