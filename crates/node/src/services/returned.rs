//! What functions have returned to callers of representations (generation 0.6): values that are downloaded later, by their uuids.
//!
//! They are held in memory. Clients of that generation seldom release them, so there is no refusal when there are too many: the caller's oldest ones make
//! room for the newest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::kv::{KvQuota, ValueText};
use super::{Clock, Principal};

/// Most values of one caller.
const EACH: usize = 1000;

/// See the [module](self).
pub struct Returned {
    quota: KvQuota,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    values: HashMap<Uuid, Kept>,
    bytes: usize,
    /// The values of each who has any, the oldest first.
    owned: HashMap<Principal, Share>,
}

#[derive(Default)]
struct Share {
    uuids: VecDeque<Uuid>,
    bytes: usize,
}

struct Kept {
    owner: Principal,
    text: ValueText,
    expires_at: u64,
}

impl Returned {
    /// None yet; within the limits of stored values.
    pub fn new(quota: KvQuota, clock: Clock) -> Returned {
        Returned {
            quota,
            clock,
            state: Mutex::default(),
        }
    }

    /// Keeps a value for its owner to fetch.
    pub fn keep(&self, who: &Principal, text: ValueText) -> Uuid {
        let uuid = Uuid::new_v4();
        let mut state = self.state();
        let expires_at = self.clock.now().saturating_add(self.quota.ttl.as_secs());
        state.bytes += text.len();
        let share = state.owned.entry(who.clone()).or_default();
        share.uuids.push_back(uuid);
        share.bytes += text.len();
        let owner = who.clone();
        state.values.insert(
            uuid,
            Kept {
                owner,
                text,
                expires_at,
            },
        );
        self.make_room(&mut state, who);
        uuid
    }

    /// The value, if it is the caller's.
    pub fn text(&self, who: &Principal, uuid: Uuid) -> Option<ValueText> {
        let state = self.state();
        let kept = state.values.get(&uuid)?;
        (kept.owner == *who && kept.expires_at > self.clock.now()).then(|| kept.text.clone())
    }

    /// Forgets a value of the caller's; tells whether there was one.
    pub fn release(&self, who: &Principal, uuid: Uuid) -> bool {
        let found = self.text(who, uuid).is_some();
        if found {
            self.state().remove(uuid);
        }
        found
    }

    /// Forgets what has expired by `now` (seconds since 1970) and tells how many values that were.
    pub fn sweep(&self, now: u64) -> usize {
        let mut state = self.state();
        let over = state.values.iter().filter(|(_, kept)| kept.expires_at <= now);
        let over: Vec<Uuid> = over.map(|(uuid, _)| *uuid).collect();
        over.iter().for_each(|uuid| state.remove(*uuid));
        over.len()
    }

    /// How many values are held.
    pub fn len(&self) -> usize {
        self.state().values.len()
    }

    /// Whether no value is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest value stays whatever its size: one alone is bounded by what a call can give back.
    fn make_room(&self, state: &mut State, who: &Principal) {
        let quota = &self.quota;
        let each = EACH.min(quota.max_objects_each);
        while let Some(share) = state.owned.get(who)
            && share.uuids.len() > 1
            && (share.uuids.len() > each || share.bytes > quota.max_bytes_each)
        {
            state.drop_oldest(&who.clone());
        }
        while state.values.len() > quota.max_objects || state.bytes > quota.max_bytes {
            let largest = state
                .owned
                .iter()
                .max_by_key(|(_, share)| (share.bytes, share.uuids.len()));
            let Some((owner, _)) = largest.filter(|_| state.values.len() > 1) else {
                return;
            };
            state.drop_oldest(&owner.clone());
        }
    }

    /// No code between lock and unlock leaves the values half changed, so a poisoned lock can be used.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self, owner: &Principal) {
        let oldest = self.owned.get(owner).and_then(|share| share.uuids.front().copied());
        if let Some(uuid) = oldest {
            self.remove(uuid);
        }
    }

    fn remove(&mut self, uuid: Uuid) {
        let Some(kept) = self.values.remove(&uuid) else { return };
        self.bytes -= kept.text.len();
        if let Some(share) = self.owned.get_mut(&kept.owner) {
            share.bytes -= kept.text.len();
            share.uuids.retain(|other| *other != uuid);
            if share.uuids.is_empty() {
                self.owned.remove(&kept.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::principal::Role;

    fn text(bytes: usize) -> ValueText {
        Arc::new(Zeroizing::new("7".repeat(bytes)))
    }

    fn quota() -> KvQuota {
        KvQuota {
            max_objects: 5,
            max_bytes: 100,
            max_objects_each: 3,
            max_bytes_each: 60,
            ttl: Duration::from_secs(10),
        }
    }

    #[test]
    fn the_oldest_of_the_same_caller_makes_room() {
        let returned = Returned::new(quota(), Clock::System);
        let [anna, ben] = ["anna", "ben"].map(|name| Principal::new(name, Role::Analyst));
        let bens = returned.keep(&ben, text(1));
        let annas: Vec<Uuid> = (0..5).map(|_| returned.keep(&anna, text(1))).collect();
        let there = |who, uuid: &Uuid| returned.text(who, *uuid).is_some();
        assert_eq!(
            annas.iter().map(|uuid| there(&anna, uuid)).collect::<Vec<_>>(),
            [false, false, true, true, true]
        );
        assert!(there(&ben, &bens) && !there(&anna, &bens));
        // By size as well; the newest stays.
        let large = returned.keep(&anna, text(61));
        assert!(there(&anna, &large) && there(&ben, &bens));
        assert_eq!(returned.len(), 2);
        // The node is full: who takes most gives way.
        let more = returned.keep(&ben, text(59));
        assert!(!there(&anna, &large) && there(&ben, &more) && there(&ben, &bens));
    }

    #[test]
    fn what_is_released_or_expired_takes_no_room() {
        let seconds = Arc::new(AtomicU64::new(100));
        let returned = Returned::new(quota(), Clock::Fixed(Arc::clone(&seconds)));
        let [anna, ben] = ["anna", "ben"].map(|name| Principal::new(name, Role::Analyst));
        let one = returned.keep(&anna, text(3));
        assert!(!returned.release(&ben, one));
        assert!(returned.release(&anna, one) && !returned.release(&anna, one));
        let other = returned.keep(&anna, text(3));
        seconds.store(110, Ordering::Relaxed);
        assert!(returned.text(&anna, other).is_none());
        assert_eq!((returned.sweep(110), returned.sweep(110)), (1, 0));
        let state = returned.state();
        assert_eq!((state.values.len(), state.bytes, state.owned.len()), (0, 0, 0));
    }
}
