//! Base oblivious transfers that this node holds together with others, for later tasks. In memory only: they are secrets, and making new ones takes
//! milliseconds.
//!
//! One for each peer, by its key. Dropped when the connection to the peer breaks or is made anew, when a task with it that was ready ends without
//! everybody's confirmation, when its key is succeeded or forgotten, and after [`LIFE`]. If the two sides should not drop the same, each sees from the
//! other's Ready that they differ, and both begin anew.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fdrtd_mpc::net::Party;
use fdrtd_mpc::ot::Base;
use subtle::ConstantTimeEq;

use crate::identity::PeerKey;
use crate::session::{Millis, Session};

/// How long one is used for new tasks.
pub(crate) const LIFE: Millis = 60 * 60 * 1000;
/// Most peers for which one is held.
pub(crate) const MOST: usize = 1024;

/// What this node holds together with others.
#[derive(Default)]
pub struct Bases(Mutex<HashMap<PeerKey, Kept>>);

struct Kept {
    base: Arc<Base>,
    made: Millis,
}

/// How many, and nothing of what they are.
impl fmt::Debug for Bases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bases({})", self.lock().len())
    }
}

impl Bases {
    /// What is held together with that peer.
    pub fn get(&self, peer: &PeerKey, now: Millis) -> Option<Arc<Base>> {
        let mut all = self.lock();
        let kept = all.get(peer)?;
        if kept.is_over(now) {
            all.remove(peer);
            return None;
        }
        Some(Arc::clone(&kept.base))
    }

    /// Keeps what was made in a session that all have confirmed.
    ///
    /// Two sessions at once may each make one, and end in another order at the other side: so that both keep the same, the smaller id stays.
    pub fn keep(&self, peer: PeerKey, base: Arc<Base>, now: Millis) {
        let mut all = self.lock();
        all.retain(|_, kept| !kept.is_over(now));
        match all.get(&peer) {
            Some(kept) if kept.base.id() <= base.id() => return,
            None if all.len() >= MOST => {
                let oldest = all.iter().min_by_key(|(_, kept)| kept.made).map(|(peer, _)| *peer);
                oldest.and_then(|oldest| all.remove(&oldest));
            }
            _ => {}
        }
        all.insert(peer, Kept { base, made: now });
    }

    /// Drops what is held together with that peer.
    pub fn forget(&self, peer: &PeerKey) {
        self.lock().remove(peer);
    }

    /// Drops this one, if it is still held.
    pub fn forget_this(&self, peer: &PeerKey, base: &Base) {
        let mut all = self.lock();
        if all
            .get(peer)
            .is_some_and(|kept| bool::from(kept.base.id().ct_eq(base.id())))
        {
            all.remove(peer);
        }
    }

    /// Drops all that are over.
    pub fn expire(&self, now: Millis) {
        self.lock().retain(|_, kept| !kept.is_over(now));
    }

    /// Lets a session know what is held together with its parties. Before anything that may make it say that it is ready.
    pub fn offer(&self, session: &mut Session, now: Millis) {
        if !session.may_use_bases() {
            return;
        }
        for (party, key) in Party::all(session.parties()).zip(session.keys()) {
            session.offer_base(party, key.and_then(|key| self.get(&key, now)));
        }
    }

    /// A session has begun to compute: what only this side holds is of no use.
    pub fn begin(&self, session: &Session) {
        let keys = session.keys();
        for (party, base) in session.one_sided_bases() {
            if let Some(key) = &keys[party.index()] {
                self.forget_this(key, &base);
            }
        }
    }

    /// A session has ended: keeps what it has made, or drops what somebody may have cheated with.
    pub fn end(&self, session: &mut Session, now: Millis) {
        let keys = session.keys();
        if session.spoils_bases() {
            for key in keys.iter().flatten() {
                self.forget(key);
            }
        }
        for (party, base) in session.take_bases() {
            if let Some(key) = keys[party.index()] {
                self.keep(key, base, now);
            }
        }
    }

    /// How many are held.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerKey, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_over(&self, now: Millis) -> bool {
        now.saturating_sub(self.made) >= LIFE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::session::test_base as base;

    fn key(index: usize) -> PeerKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&index.to_le_bytes());
        PeerKey::from_bytes(bytes)
    }

    fn held(bases: &Bases, peer: usize, now: Millis) -> Option<[u8; 32]> {
        bases.get(&key(peer), now).map(|base| *base.id())
    }

    #[test]
    fn one_for_each_peer_until_it_is_too_old() {
        let bases = Bases::default();
        bases.keep(key(1), base(1), 1000);
        bases.keep(key(2), base(2), 2000);
        assert_eq!(held(&bases, 1, 1000 + LIFE - 1), Some([1; 32]));
        assert_eq!(held(&bases, 1, 1000 + LIFE), None);
        assert_eq!(bases.count(), 1);
        bases.expire(2000 + LIFE);
        assert_eq!(bases.count(), 0);
        assert_eq!(format!("{bases:?}"), "Bases(0)");
    }

    #[test]
    fn of_two_that_were_made_at_once_both_sides_keep_the_same() {
        for order in [[3, 5], [5, 3]] {
            let bases = Bases::default();
            for id in order {
                bases.keep(key(1), base(id), 0);
            }
            assert_eq!(held(&bases, 1, 0), Some([3; 32]));
        }
        // One that is over stands in nobody's way.
        let bases = Bases::default();
        bases.keep(key(1), base(3), 0);
        bases.keep(key(1), base(5), LIFE);
        assert_eq!(held(&bases, 1, LIFE), Some([5; 32]));
    }

    #[test]
    fn dropped_by_peer_or_only_if_it_is_still_the_same() {
        let bases = Bases::default();
        bases.keep(key(1), base(1), 0);
        bases.forget_this(&key(1), &base(2));
        assert_eq!(held(&bases, 1, 0), Some([1; 32]));
        bases.forget_this(&key(1), &base(1));
        assert_eq!(held(&bases, 1, 0), None);
        bases.keep(key(1), base(1), 0);
        bases.forget(&key(1));
        assert_eq!(bases.count(), 0);
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let bases = Bases::default();
        for peer in 0..MOST {
            bases.keep(key(peer), base(1), peer as Millis);
        }
        bases.keep(key(MOST), base(1), MOST as Millis);
        assert_eq!(bases.count(), MOST);
        assert_eq!(held(&bases, 0, MOST as Millis), None);
        assert!(held(&bases, 1, MOST as Millis).is_some() && held(&bases, MOST, MOST as Millis).is_some());
    }
}
