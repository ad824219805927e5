//! Base oblivious transfers of earlier sessions: offered by whoever keeps them, used if both parties of a pair hold halves of the same.
//!
//! With its Ready a party tells each peer a digest of what it holds of the two and of the session's id, or zeros; a pair whose digests are the same and
//! no zeros is warm. Both sides compare the same two digests, so both come to the same. The id of a base is known to its two halves only: a digest tells
//! nobody else anything, and none can be told again in another session. Whoever tells a digest without the half spoils its own computation, as it
//! could anyway.
//!
//! What was used in a session that did not end with everybody's confirmation is never used again: somebody may have cheated with it.

use std::sync::Arc;

use fdrtd_mpc::net::Party;
use fdrtd_mpc::ot::Base;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{End, Phase, Session};

/// What one pair of parties has of earlier sessions, and what became of its connection.
#[derive(Default)]
pub(super) struct PairBase {
    /// For the next Ready.
    offered: Option<Arc<Base>>,
    /// As this party's Ready has told.
    told: Option<Arc<Base>>,
    /// The connection broke while the session computed.
    cut: bool,
}

impl PairBase {
    pub(super) fn connection_broke(&mut self) {
        self.cut = true;
    }

    /// Nothing is held any more.
    pub(super) fn forget(&mut self) {
        (self.offered, self.told) = (None, None);
    }
}

impl Session {
    /// Whether [`Session::offer_base`] may still make a difference.
    pub fn may_use_bases(&self) -> bool {
        matches!(self.phase, Phase::Gathering)
    }

    /// What this party holds together with that one, for the next time that it says that it is ready.
    pub fn offer_base(&mut self, party: Party, base: Option<Arc<Base>>) {
        if self.may_use_bases() && party != self.me {
            self.peers[party.index()].base.offered = base;
        }
    }

    /// What Ready tells that party. From now on it stays with what is told.
    pub(super) fn tell_base(&mut self, sid: &[u8; 32], party: Party) -> [u8; 32] {
        let pair = &mut self.peers[party.index()].base;
        pair.told.clone_from(&pair.offered);
        self.base_digest(sid, party)
    }

    fn base_digest(&self, sid: &[u8; 32], party: Party) -> [u8; 32] {
        let Some(base) = &self.peers[party.index()].base.told else {
            return [0; 32];
        };
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 digest of base oblivious transfers, version 1");
        hasher.update(base.id()).update(sid);
        let digest = *hasher.finalize().as_bytes();
        hasher.zeroize();
        digest
    }

    /// What both hold, once both are ready for this session.
    pub(super) fn common_base(&self, sid: &[u8; 32], party: Party) -> Option<Arc<Base>> {
        let peer = &self.peers[party.index()];
        let base = peer.base.told.as_ref()?;
        let theirs = &peer.ready.as_ref().filter(|ready| ready.sid == *sid)?.base;
        bool::from(theirs.ct_eq(&self.base_digest(sid, party))).then(|| Arc::clone(base))
    }

    /// Those that this party has told of and the other one does not have: no use any more. Once it computes.
    pub fn one_sided_bases(&self) -> Vec<(Party, Arc<Base>)> {
        let Phase::Running(run) = &self.phase else {
            return Vec::new();
        };
        let lonely = |party: Party| {
            let told = self.peers[party.index()].base.told.as_ref()?;
            self.common_base(&run.sid, party)
                .is_none()
                .then(|| (party, Arc::clone(told)))
        };
        Party::all(self.peers.len()).filter_map(lonely).collect()
    }

    /// Notes what the computation has made.
    pub(super) fn keep_bases(&mut self, made: Vec<(Party, Arc<Base>)>) {
        self.made.extend(made);
    }

    /// Those that were made in this session, if everybody has confirmed its result; once. Not those of a pair whose connection broke meanwhile.
    pub fn take_bases(&mut self) -> Vec<(Party, Arc<Base>)> {
        let mut made = std::mem::take(&mut self.made);
        made.retain(|(party, _)| self.peers.get(party.index()).is_some_and(|peer| !peer.base.cut));
        if self.confirmed() { made } else { Vec::new() }
    }

    /// Whether what this party holds together with the others must not be used any more: it was ready to use it, and the session did not end with
    /// everybody's confirmation.
    pub fn spoils_bases(&self) -> bool {
        self.end().is_some() && self.was_ready && !self.confirmed()
    }

    fn confirmed(&self) -> bool {
        matches!(self.end(), Some(End::Done { unconfirmed, .. }) if unconfirmed.is_empty())
    }
}
