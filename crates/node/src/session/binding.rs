//! What binds a session together: its id, and digests that the parties compare before any data.

use fdrtd_mpc::microprotocol::Shape;
use fdrtd_mpc::net::Party;
use zeroize::{Zeroize, Zeroizing};

use super::Session;

impl Session {
    /// Known once all have joined. Every field has a fixed length or carries it, so two different sessions cannot have one sid.
    pub(super) fn sid(&self) -> Option<[u8; 32]> {
        if !self.all_joined() || !self.all_keys_known() {
            return None;
        }
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 session id, version 2");
        hasher.update(self.descriptor.task.as_bytes());
        hasher
            .update(&(self.text.len() as u64).to_le_bytes())
            .update(self.text.as_bytes());
        hasher.update(&(self.peers.len() as u64).to_le_bytes());
        for (index, peer) in self.peers.iter().enumerate() {
            let own = index == self.me.index();
            let (rules, nonce) = match &peer.hello {
                _ if own => (self.rules, self.nonce),
                Some(hello) => (hello.rules, hello.nonce),
                None => return None,
            };
            hasher.update(peer.key.as_ref()?.as_bytes());
            hasher.update(&rules.to_bytes()).update(&nonce);
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// Known once all keys are.
    pub(super) fn keys_digest(&self) -> Option<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 keys of all parties, version 1");
        for peer in &self.peers {
            hasher.update(peer.key?.as_bytes());
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// The secret of this party and another one: the lower party's seed, then the higher one's.
    pub(super) fn pair_secret(&self, party: Party) -> Zeroizing<[u8; 64]> {
        let mut secret = Zeroizing::new([0; 64]);
        let peer = &self.peers[party.index()];
        if let Some(hello) = &peer.hello {
            let (low, high) = if self.me < party {
                (&peer.my_seed, &hello.seed)
            } else {
                (&hello.seed, &peer.my_seed)
            };
            secret[..32].copy_from_slice(&low[..]);
            secret[32..].copy_from_slice(&high[..]);
        }
        secret
    }

    /// Shows the other one of the pair that both have the same secret. Without that, masks might not cancel, and everybody would confirm a wrong sum.
    pub(super) fn pair_digest(&self, sid: &[u8; 32], party: Party) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 digest of a pair's secret, version 1");
        hasher.update(&self.pair_secret(party)[..]).update(sid);
        let digest = *hasher.finalize().as_bytes();
        hasher.zeroize();
        digest
    }

    fn all_keys_known(&self) -> bool {
        self.peers.iter().all(|peer| peer.key.is_some())
    }
}

/// The shape travels only as this hash; the sid keeps anybody outside from guessing at it.
pub(super) fn shape_digest(sid: &[u8; 32], shape: &Shape) -> [u8; 32] {
    *blake3::keyed_hash(sid, shape.exact.as_bytes()).as_bytes()
}

/// The first party whose digest is another one than party 0's, among the parties before the first unknown digest. Every party that finds one
/// finds the same, whatever else it knows; so all give the same reason.
pub(super) fn first_difference(digests: impl Iterator<Item = Option<[u8; 32]>>) -> Option<usize> {
    let mut known = digests.map_while(|digest| digest).enumerate();
    let (_, first) = known.next()?;
    known.find(|(_, digest)| *digest != first).map(|(party, _)| party)
}
