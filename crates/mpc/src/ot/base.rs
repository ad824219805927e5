//! Base oblivious transfers: 128 in each direction of a pair, in one round.
//!
//! Source: Masny, Rindal: *Endemic Oblivious Transfer*, CCS 2019, section 4 (one round; here over ristretto255 with Diffie-Hellman). For each transfer the receiver
//! with choice c takes a random scalar b and a random point R_{1−c}, and sets R_c = b·G − H_c(R_{1−c}); it sends R_0, R_1. The sender takes a random scalar a and
//! sends A = a·G. The keys are K(a·(R_0 + H_0(R_1))) and K(a·(R_1 + H_1(R_0))) to the sender, and K(b·A) to the receiver, which is the one of its choice.
//! McQuoid, Rosulek, Roy: *Batching Base Oblivious Transfers*, ASIACRYPT 2021, show what goes wrong if one A serves a whole batch: here each transfer has its own, and H
//! and K take the session, the direction and the index.
//!
//! # What each party sees
//! The sender: R_0 and R_1, whose joint distribution is the same for both choices (one is uniform, the other uniform given the first). The receiver: A. It knows the
//! discrete logarithm of one of the two points that a is multiplied with; of the other it would have to solve a computational Diffie-Hellman problem, since H is
//! modelled as a random oracle and fixes that point to something it did not choose. **A simulator** of the sender's view draws two uniform points; of the receiver's, a uniform
//! point.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use subtle::{Choice, ConditionallySelectable};
use zeroize::{Zeroize, Zeroizing};

use crate::wire::{Malformed, Reader};

/// Transfers in each direction: the computational security parameter of the extension.
pub(super) const COUNT: usize = 128;
/// Bytes of the one message: two points for each transfer as receiver, one for each as sender.
pub(super) const MESSAGE: usize = COUNT * 3 * 32;

/// What goes into every hash: the session, and who is sender and receiver.
pub(super) struct Context {
    pub(super) sid: [u8; 32],
    pub(super) sender: u16,
    pub(super) receiver: u16,
}

impl Context {
    fn hasher(&self, label: &str, index: usize) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key(label);
        hasher.update(&self.sid);
        hasher
            .update(&self.sender.to_le_bytes())
            .update(&self.receiver.to_le_bytes());
        hasher.update(&(index as u64).to_le_bytes());
        hasher
    }

    /// H_c of the paper: a point of which nobody knows the discrete logarithm.
    fn point(&self, index: usize, side: u8, other: &CompressedRistretto) -> RistrettoPoint {
        let mut hasher = self.hasher("fdrtd 2026-11 base transfer, hash to a point, version 1", index);
        hasher.update(&[side]).update(other.as_bytes());
        let mut bytes = [0; 64];
        hasher.finalize_xof().fill(&mut bytes);
        RistrettoPoint::from_uniform_bytes(&bytes)
    }

    /// The key that a shared point gives, with all that both have seen of this transfer.
    fn key(&self, index: usize, seen: [&[u8; 32]; 3], mut shared: RistrettoPoint) -> Zeroizing<[u8; 32]> {
        let mut hasher = self.hasher("fdrtd 2026-11 base transfer, key, version 1", index);
        seen.into_iter().for_each(|bytes| {
            hasher.update(bytes);
        });
        hasher.update(shared.compress().as_bytes());
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        hasher.zeroize();
        shared.zeroize();
        key
    }
}

/// Secrets of one party between sending and receiving.
pub(super) struct Started {
    choices: Zeroizing<u128>,
    receiver: Zeroizing<Vec<Scalar>>,
    sender: Zeroizing<Vec<Scalar>>,
    sent: Vec<u8>,
}

/// What a transfer gives.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// What comes out: this party's keys as receiver, of its choices; and as sender, both of each.
pub(super) struct Keys {
    pub(super) choices: Zeroizing<u128>,
    pub(super) chosen: Vec<Key>,
    pub(super) offered: Vec<[Key; 2]>,
}

/// The own message. `coins` must be fresh for every pair and session.
pub(super) fn start(context: &Context, coins: &Zeroizing<[u8; 32]>) -> Started {
    let mut coins = blake3::Hasher::new_keyed(coins).finalize_xof();
    let mut wide = Zeroizing::new([0; 64]);
    let mut scalar = || {
        coins.fill(&mut wide[..]);
        Scalar::from_bytes_mod_order_wide(&wide)
    };
    let receiver = Zeroizing::new((0..COUNT).map(|_| scalar()).collect::<Vec<_>>());
    let sender = Zeroizing::new((0..COUNT).map(|_| scalar()).collect::<Vec<_>>());
    let mut choices = Zeroizing::new([0; 16]);
    coins.fill(&mut choices[..]);
    let choices = Zeroizing::new(u128::from_le_bytes(*choices));
    let mut sent = Vec::with_capacity(MESSAGE);
    for (index, b) in receiver.iter().enumerate() {
        coins.fill(&mut wide[..]);
        let other = RistrettoPoint::from_uniform_bytes(&wide).compress();
        let choice = (*choices >> index & 1) as u8;
        let masks = [0, 1].map(|side| context.point(index, side, &other));
        let mask = RistrettoPoint::conditional_select(&masks[0], &masks[1], Choice::from(choice));
        let own = (RistrettoPoint::mul_base(b) - mask).compress();
        let (mut first, mut second) = (own.to_bytes(), other.to_bytes());
        for (a, b) in first.iter_mut().zip(&mut second) {
            u8::conditional_swap(a, b, Choice::from(choice));
        }
        sent.extend(first);
        sent.extend(second);
    }
    for a in sender.iter() {
        sent.extend(RistrettoPoint::mul_base(a).compress().to_bytes());
    }
    coins.zeroize();
    Started {
        choices,
        receiver,
        sender,
        sent,
    }
}

impl Started {
    /// The message for the peer.
    pub(super) fn message(&self) -> &[u8] {
        &self.sent
    }

    /// The keys, from the peer's message. `mine` is the context in which this party is the receiver, `theirs` the other one.
    pub(super) fn finish(self, mine: &Context, theirs: &Context, received: &[u8]) -> Result<Keys, Malformed> {
        let mut reader = Reader::new(received);
        let mut offered = Vec::with_capacity(COUNT);
        let (own_points, own_keys) = self.sent.split_at(COUNT * 64);
        for (index, (a, sent)) in self.sender.iter().zip(own_keys.as_chunks::<32>().0).enumerate() {
            let points = [reader.array::<32>()?, reader.array::<32>()?];
            let [first, second] = points.map(CompressedRistretto);
            let keys = [(0, &first, &second), (1, &second, &first)].map(|(side, one, other)| {
                let point = decode(one)? + theirs.point(index, side, other);
                Ok(theirs.key(index, [&points[0], &points[1], sent], point * a))
            });
            let [first, second] = keys;
            offered.push([first?, second?]);
        }
        let mut chosen = Vec::with_capacity(COUNT);
        for (index, (b, sent)) in self.receiver.iter().zip(own_points.as_chunks::<64>().0).enumerate() {
            let theirs = reader.array::<32>()?;
            let shared = decode(&CompressedRistretto(theirs))? * b;
            let (points, _) = sent.as_chunks::<32>();
            chosen.push(mine.key(index, [&points[0], &points[1], &theirs], shared));
        }
        reader.end()?;
        Ok(Keys {
            choices: self.choices,
            chosen,
            offered,
        })
    }
}

/// A point in its one encoding. That of no point, and the neutral element, which no honest party sends, are refused.
fn decode(bytes: &CompressedRistretto) -> Result<RistrettoPoint, Malformed> {
    let point = bytes.decompress().filter(|point| !point.is_identity());
    point.ok_or(Malformed::Value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn context(sid: u8, sender: u16, receiver: u16) -> Context {
        Context {
            sid: [sid; 32],
            sender,
            receiver,
        }
    }

    /// Both parties of a pair, started: the party is the receiver from the other one in its own message.
    fn pair(sid: u8) -> [Started; 2] {
        [0, 1].map(|me| start(&context(sid, 1 - me, me), &Zeroizing::new([me as u8; 32])))
    }

    fn finish(own: Started, sid: u8, me: u16, received: &[u8]) -> Result<Keys, Malformed> {
        own.finish(&context(sid, 1 - me, me), &context(sid, me, 1 - me), received)
    }

    #[test]
    fn the_receiver_has_the_key_of_its_choice() {
        let [first, second] = pair(1);
        let (to_second, to_first) = (first.message().to_vec(), second.message().to_vec());
        let first = finish(first, 1, 0, &to_first).unwrap();
        let second = finish(second, 1, 1, &to_second).unwrap();
        let mut all = BTreeSet::new();
        for (sender, receiver) in [(&first, &second), (&second, &first)] {
            for (index, (offered, chosen)) in sender.offered.iter().zip(&receiver.chosen).enumerate() {
                let choice = (*receiver.choices >> index & 1) as usize;
                assert_eq!(offered[choice], *chosen);
                all.extend(offered.iter().map(|key| **key));
            }
        }
        assert_eq!(all.len(), 4 * COUNT);
        // Each transfer has its own points, the sender's too.
        let points: BTreeSet<[u8; 32]> = to_first
            .as_chunks()
            .0
            .iter()
            .chain(to_second.as_chunks().0)
            .copied()
            .collect();
        assert_eq!(points.len(), 6 * COUNT);
        // Choices are mixed: all alike would come with a probability of 2^-127.
        assert!(*first.choices != 0 && *first.choices != u128::MAX && first.choices != second.choices);
    }

    #[test]
    fn keys_depend_on_session_and_direction() {
        let points = |index: usize, context: &Context| {
            let other = CompressedRistretto([7; 32]);
            [0, 1].map(|side| context.point(index, side, &other).compress().to_bytes())
        };
        let contexts = [context(1, 0, 1), context(2, 0, 1), context(1, 1, 0), context(1, 0, 2)];
        let all: BTreeSet<[u8; 32]> = contexts
            .iter()
            .flat_map(|context| (0..2).flat_map(|index| points(index, context)))
            .collect();
        assert_eq!(all.len(), 16);
        let shared = RistrettoPoint::mul_base(&Scalar::ONE);
        let seen = [[1; 32], [2; 32], [3; 32]];
        let key = |context: &Context, index, seen: &[[u8; 32]; 3]| *context.key(index, seen.each_ref(), shared);
        let mut keys: BTreeSet<[u8; 32]> = contexts
            .iter()
            .flat_map(|context| (0..2).map(|index| key(context, index, &seen)))
            .collect();
        for place in 0..3 {
            let mut other = seen;
            other[place][0] ^= 8;
            keys.insert(key(&contexts[0], 0, &other));
        }
        assert_eq!(keys.len(), 11);
    }

    #[test]
    fn what_is_no_point_is_refused() {
        let message = pair(1)[1].message().to_vec();
        let refused = |message: &[u8]| {
            let [own, _] = pair(1);
            finish(own, 1, 0, message).err()
        };
        assert_eq!(refused(&message), None);
        assert!(refused(&message[1..]).is_some() && refused(&message[..MESSAGE - 32]).is_some());
        assert!(refused(&[&message[..], &[0]].concat()).is_some());
        // The neutral element; the field's modulus plus one and plus zero, other encodings of what is smaller; an odd number; one that is no point.
        let modulus = |add: u8| {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (0xed + add, 0x7f);
            bytes
        };
        let mut odd = [0; 32];
        odd[0] = 1;
        let mut none = [0; 32];
        none[0] = 2;
        assert!(CompressedRistretto(none).decompress().is_none());
        for wrong in [[0; 32], modulus(0), modulus(1), modulus(3), odd, none, [0xff; 32]] {
            // As a receiver's first and second point, and as a sender's.
            for place in [0, 1, 2 * COUNT - 1, 2 * COUNT, 3 * COUNT - 1] {
                let mut message = message.clone();
                message[place * 32..][..32].copy_from_slice(&wrong);
                assert_eq!(refused(&message), Some(Malformed::Value), "{wrong:?} at {place}");
            }
        }
    }
}
