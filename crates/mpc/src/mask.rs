//! Pairwise masks: secure addition in Z_2^b in one round.
//!
//! Source: Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth: *Practical Secure Aggregation for Privacy-Preserving
//! Machine Learning*, CCS 2017, section 4.0.1 ("masking with one-time pads"), without its handling of dropouts: whoever does not send ends
//! the session for all.
//!
//! Every pair i < j shares a key K_ij. Party i publishes y_i = x_i + Σ_{j>i} PRG(K_ij) − Σ_{j<i} PRG(K_ji) in Z_2^b. The masks cancel in the
//! sum of all y_i, which is the sum of all x_i.
//!
//! # What each party sees
//! All y_j, and the keys of its own pairs. **Simulatable from its own input and the sum:** let C be the set of colluding parties and H the
//! others, |H| ≥ 2. The masks among H are pseudorandom, unknown to C, and span all vectors over H that add up to zero; so, given what C
//! knows, the y_j of H are uniform among all vectors with Σ_H y_j = sum − Σ_C x_j + (masks C knows). A simulator draws them so. With |H| = 1 the
//! remaining input is the sum minus the inputs of C: that follows from the output alone.
//!
//! Adversary: semi-honest, any number of colluding parties. A party that deviates can shift the sum by any constant (it could have chosen another
//! input as well) and stop the protocol; it learns nothing more. Keys must be fresh in every session: the same mask on two vectors would
//! reveal their difference.

pub mod field;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use zeroize::Zeroizing;

use crate::net::{Abort, Net, Party, message};
use crate::ring::Ring;
use crate::wire::Malformed;

/// Elements are masked in blocks that stay in the first-level cache.
const BLOCK: usize = 1024;

/// Adds this party's masks to `vector`. `coins(peer, pad)` overwrites `pad` with the next ring words shared with `peer`; it is called for
/// every peer with consecutive blocks, in order.
///
/// The masks may come from anywhere: [`sum`] derives them from the session, a test enumerates all of them.
pub fn apply(ring: Ring, me: Party, parties: usize, vector: &mut [u64], mut coins: impl FnMut(Party, &mut [u64])) {
    let block = BLOCK.next_multiple_of(ring.limbs());
    let mut pad = Zeroizing::new(vec![0u64; block.min(vector.len())]);
    for part in vector.chunks_mut(block) {
        let pad = &mut pad[..part.len()];
        for peer in Party::all(parties).filter(|peer| *peer != me) {
            coins(peer, pad);
            ring.reduce(pad);
            if me < peer {
                ring.add_assign(part, pad);
            } else {
                ring.sub_assign(part, pad);
            }
        }
    }
}

/// One round: the sum of everybody's `vector` (whole elements of `ring`, equally many at every party). The vector is overwritten.
///
/// # Errors
/// A peer that sends a vector of another length or elements outside the ring.
pub async fn sum(net: &mut Net, ring: Ring, mut vector: Zeroizing<Vec<u64>>) -> Result<Vec<u64>, Abort> {
    let (me, parties) = (net.session().me, net.session().parties);
    let mut prgs: Vec<Option<Prg>> = (0..parties).map(|_| None).collect();
    for peer in net.peers() {
        prgs[peer.index()] = Some(Prg::new(&net.session().pair_key(
            "pairwise mask",
            peer,
            net.messages_with(peer),
        )));
    }
    apply(ring, me, parties, &mut vector, |peer, pad| {
        if let Some(prg) = &mut prgs[peer.index()] {
            prg.fill(pad);
        }
    });
    drop(prgs);
    // From here on `vector` is masked: uniformly random to everybody who does not know all masks.
    let elements = vector.len() / ring.limbs();
    let size = elements * ring.element_bytes();
    let mut payload = message(size);
    ring.encode(&vector, &mut payload);
    let mut total = std::mem::take(&mut *vector);
    let round = net.broadcast_unverified(payload, size, |_, bytes| {
        let theirs = ring.decode(bytes, elements).ok_or(Malformed::Value)?;
        ring.add_assign(&mut total, &theirs);
        Ok(())
    });
    round.await?;
    Ok(total)
}

/// ChaCha20 as a pseudorandom generator of ring words.
pub struct Prg {
    stream: ChaCha20,
    bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Prg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prg").finish_non_exhaustive()
    }
}

impl Prg {
    /// A generator. The key must be used for this stream only; so the nonce may be constant.
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Prg {
        let stream = ChaCha20::new(&(**key).into(), &[0; 12].into());
        Prg {
            stream,
            bytes: Zeroizing::new(Vec::new()),
        }
    }

    /// Overwrites `words` with the next ones.
    pub fn fill(&mut self, words: &mut [u64]) {
        for part in words.chunks_mut(BLOCK) {
            self.bytes.resize(part.len() * 8, 0);
            self.bytes.fill(0);
            self.stream.apply_keystream(&mut self.bytes);
            for (word, bytes) in part.iter_mut().zip(self.bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
    }
}
