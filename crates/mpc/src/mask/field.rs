//! The same masks in a prime field: secure addition modulo ℓ = 2^252 + …, the order of the group of curve25519, in one round.
//!
//! Source, adversary and argument are those of [`super`], with Z_ℓ in the place of Z_2^b: every pair i < j shares a key, party i publishes y_i = x_i + Σ_{j>i} PRG(K_ij) − Σ_{j<i} PRG(K_ji). An element
//! of a mask is 512 bits of the generator modulo ℓ, which is uniform but for a distance of 2^−259. The masks among the honest parties span all vectors over them that add up to zero, in any
//! abelian group; so their y_j are uniform among those with the right sum.
//!
//! The arithmetic is that of `curve25519-dalek`, in constant time.

use curve25519_dalek::scalar::Scalar;
use zeroize::{Zeroize, Zeroizing};

use super::Prg;
use crate::net::{Abort, HEADER, Net, Party, message};
use crate::wire::Malformed;

/// Bytes of an element.
pub const ELEMENT_BYTES: usize = 32;
/// Rough time of one element of a mask, in the bytes of [`Net::work_ahead`].
const WORK: usize = 150;

/// The next element of a generator.
pub(crate) fn next(prg: &mut Prg) -> Scalar {
    let mut words = Zeroizing::new([0_u64; 8]);
    prg.fill(&mut words[..]);
    let mut wide = Zeroizing::new([0; 64]);
    for (bytes, word) in wide.chunks_exact_mut(8).zip(words.iter()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// Adds this party's masks to `vector`. `coins(peer)` gives the next element shared with `peer`.
///
/// The masks may come from anywhere: [`sum`] derives them from the session, a test chooses them.
pub fn apply(me: Party, parties: usize, vector: &mut [Scalar], mut coins: impl FnMut(Party) -> Scalar) {
    for peer in Party::all(parties).filter(|peer| *peer != me) {
        for element in &mut *vector {
            let mut mask = coins(peer);
            if me < peer {
                *element += mask;
            } else {
                *element -= mask;
            }
            mask.zeroize();
        }
    }
}

/// One round: the sum of everybody's `vector`, equally long at every party.
///
/// # Errors
/// A peer that sends a vector of another length or what is no element.
pub async fn sum(net: &mut Net, mut vector: Zeroizing<Vec<Scalar>>) -> Result<Vec<Scalar>, Abort> {
    let (me, parties, length) = (net.session().me, net.session().parties, vector.len());
    net.work_ahead(length.saturating_mul(WORK).saturating_mul(parties))
        .await;
    let mut prgs: Vec<Option<Prg>> = (0..parties).map(|_| None).collect();
    for peer in net.peers() {
        let key = net
            .session()
            .pair_key("pairwise mask in a field", peer, net.messages_with(peer));
        prgs[peer.index()] = Some(Prg::new(&key));
    }
    apply(me, parties, &mut vector, |peer| {
        prgs[peer.index()].as_mut().map_or(Scalar::ZERO, next)
    });
    drop(prgs);
    // From here on `vector` is masked: uniformly random to everybody who does not know all masks.
    let size = length * ELEMENT_BYTES;
    let mut payload = message(size);
    for element in vector.iter() {
        payload.extend_from_slice(element.as_bytes());
    }
    debug_assert_eq!(payload.len(), HEADER + size);
    let mut total = std::mem::take(&mut *vector);
    let round = net.broadcast_unverified(payload, size, |_, bytes| {
        let (theirs, rest) = bytes.as_chunks::<ELEMENT_BYTES>();
        if theirs.len() != length || !rest.is_empty() {
            return Err(Malformed::Value);
        }
        for (sum, bytes) in total.iter_mut().zip(theirs) {
            let element: Option<Scalar> = Scalar::from_canonical_bytes(*bytes).into();
            *sum += element.ok_or(Malformed::Value)?;
        }
        Ok(())
    });
    round.await?;
    Ok(total)
}
