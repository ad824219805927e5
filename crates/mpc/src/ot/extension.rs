//! Extension: from 128 base transfers to any number, with symmetric cryptography alone.
//!
//! Sources: Ishai, Kilian, Nissim, Petrank: *Extending Oblivious Transfers Efficiently*, CRYPTO 2003, section 3; with the optimisations of Asharov, Lindell, Schneider,
//! Zohner, CCS 2013, section 5 (one generated column instead of two sent ones). The hash is TMMO of Guo, Katz, Wang, Yu: *Efficient and Secure Multiparty Computation from
//! Fixed-Key Block Ciphers*, IEEE S&P 2020, section VII: H(x, i) = π(π(x) ⊕ i) ⊕ π(x), with AES-128 for π; its key is public, and made of session, direction and message.
//!
//! The receiver has choices r_j and both keys of each base transfer i: t^i = PRG(k^i_0), and sends u^i = t^i ⊕ PRG(k^i_1) ⊕ r. The sender has a secret Δ and for each i the
//! key k^i_{Δ_i}: q^i = PRG(k^i_{Δ_i}) ⊕ Δ_i·u^i. Row j of the matrix of all q^i is q_j = t_j ⊕ r_j·Δ. So H(q_j, j) and H(q_j ⊕ Δ, j) are two pads, of which the receiver has one:
//! H(t_j, j).
//!
//! # What each party sees
//! The sender: u^i, covered by the half of PRG(k^i) that it does not know: uniform. The receiver: nothing. The pad it has not chosen is H(t_j ⊕ Δ, j): random to whoever
//! does not know Δ, since H is correlation robust for a Δ of full entropy (ibid.).
//!
//! A stream is AES-128 in counter mode under the base key; the upper 96 bits of its counter are a hash of session, direction and the number of the message on its channel, the
//! lower 32 bits count blocks. So no stream is ever used twice, however often base transfers serve, but with a probability below m² / 2^97 for m messages; the same
//! hash keys H. (A key of its own for each stream would cost more than a small number of transfers themselves.)

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use super::base::COUNT;
use super::transpose::transpose;

/// Rows that are worked on at once, so that their part of all columns stays in the second-level cache: 2048.
const BLOCKS: usize = 16;

/// One use of base transfers: everything that streams and hashes depend on beside the keys.
#[derive(Clone, Copy)]
pub(super) struct Use {
    pub(super) sid: [u8; 32],
    pub(super) sender: u16,
    pub(super) receiver: u16,
    pub(super) message: u32,
}

impl Use {
    /// Where its streams begin, and the key of its hash.
    fn derive(&self) -> (u128, Hash) {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 extension of oblivious transfers, version 1");
        hasher.update(&self.sid);
        hasher
            .update(&self.sender.to_le_bytes())
            .update(&self.receiver.to_le_bytes());
        hasher.update(&self.message.to_le_bytes());
        let digest = hasher.finalize();
        let [begin, key] = [0, 1].map(|half| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest.as_bytes()[16 * half..][..16]);
            bytes
        });
        (u128::from_le_bytes(begin) & COUNTERS, Hash(Aes128::new(&key.into())))
    }
}

/// Where a counter has zeros for blocks to be counted.
const COUNTERS: u128 = !(u32::MAX as u128);

/// Some blocks of a column.
type Part = Zeroizing<[u128; BLOCKS]>;

/// Writes blocks of a stream, from block `first` on.
fn keystream(key: &Aes128, begin: u128, first: usize, out: &mut [u128]) {
    let mut blocks = [Block::<Aes128>::default(); BLOCKS];
    let blocks = &mut blocks[..out.len()];
    for (index, block) in blocks.iter_mut().enumerate() {
        *block = (begin | (first + index) as u128).to_le_bytes().into();
    }
    key.encrypt_blocks(blocks);
    for (out, block) in out.iter_mut().zip(blocks) {
        *out = u128::from_le_bytes((*block).into());
    }
}

/// Bytes of the receiver's message for so many transfers.
pub(super) fn message_bytes(count: usize) -> usize {
    count.div_ceil(COUNT) * COUNT * COUNT / 8
}

/// The receiver's columns, which must not be used before the message has been sent, and the message, appended to `out`.
pub(super) fn receive(
    keys: &[[Aes128; 2]],
    usage: &Use,
    choices: &[u64],
    count: usize,
    out: &mut Vec<u8>,
) -> Zeroizing<Vec<u128>> {
    let (begin, _) = usage.derive();
    let blocks = count.div_ceil(COUNT);
    let mut columns = Zeroizing::new(vec![0; blocks * COUNT]);
    let start = out.len();
    out.resize(start + message_bytes(count), 0);
    let parts = columns
        .chunks_mut(BLOCKS * COUNT)
        .zip(out[start..].chunks_mut(BLOCKS * COUNT * 16));
    let (mut other, mut chosen) = (Part::default(), Part::default());
    for (first, (columns, out)) in (0..blocks).step_by(BLOCKS).zip(parts) {
        let here = columns.len() / COUNT;
        let (other, chosen) = (&mut other[..here], &mut chosen[..here]);
        for (index, word) in chosen.iter_mut().enumerate() {
            *word = choice_block(choices, first + index);
        }
        let parts = columns.chunks_exact_mut(here).zip(out.chunks_exact_mut(here * 16));
        for ([one, two], (own, out)) in keys.iter().zip(parts) {
            keystream(one, begin, first, own);
            keystream(two, begin, first, other);
            let words = own.iter().zip(&*other).zip(&*chosen);
            for (out, ((own, other), chosen)) in out.as_chunks_mut::<16>().0.iter_mut().zip(words) {
                *out = (own ^ other ^ chosen).to_le_bytes();
            }
        }
    }
    columns
}

/// The receiver's pads.
pub(super) fn receiver_pads(usage: &Use, mut columns: Zeroizing<Vec<u128>>, count: usize) -> Zeroizing<Vec<u128>> {
    let (_, hash) = usage.derive();
    rows(&mut columns);
    columns.truncate(count);
    hash.apply(&mut columns, 0);
    columns
}

/// The sender's pads, from the receiver's message, whose length is right.
pub(super) fn sender_pads(
    keys: &[Aes128],
    delta: u128,
    usage: &Use,
    message: &[u8],
    count: usize,
) -> Zeroizing<Vec<[u128; 2]>> {
    let (begin, hash) = usage.derive();
    let blocks = count.div_ceil(COUNT);
    let mut pads = Zeroizing::new(Vec::with_capacity(count));
    let mut columns = Zeroizing::new(vec![0; BLOCKS * COUNT]);
    let mut others = Zeroizing::new(vec![0; BLOCKS * COUNT]);
    for (first, part) in (0..blocks).step_by(BLOCKS).zip(message.chunks(BLOCKS * COUNT * 16)) {
        let here = BLOCKS.min(blocks - first);
        let columns = &mut columns[..here * COUNT];
        let parts = columns.chunks_exact_mut(here).zip(part.chunks_exact(here * 16));
        for ((index, key), (own, theirs)) in keys.iter().enumerate().zip(parts) {
            keystream(key, begin, first, own);
            let mask = 0u128.wrapping_sub(delta >> index & 1);
            for (own, theirs) in own.iter_mut().zip(theirs.as_chunks::<16>().0) {
                *own ^= u128::from_le_bytes(*theirs) & mask;
            }
        }
        rows(columns);
        let done = pads.len();
        let columns = &mut columns[..(here * COUNT).min(count - done)];
        let others = &mut others[..columns.len()];
        for (other, row) in others.iter_mut().zip(&*columns) {
            *other = row ^ delta;
        }
        hash.apply(columns, done);
        hash.apply(others, done);
        pads.extend(columns.iter().zip(&*others).map(|(one, other)| [*one, *other]));
    }
    pads
}

/// Columns in parts of up to [`BLOCKS`] blocks (all words of column 0, then of column 1, …) become rows, in place.
fn rows(columns: &mut [u128]) {
    let mut copy = Zeroizing::new(vec![0; BLOCKS * COUNT]);
    let mut square = Zeroizing::new([0u128; COUNT]);
    for columns in columns.chunks_mut(BLOCKS * COUNT) {
        let blocks = columns.len() / COUNT;
        let copy = &mut copy[..columns.len()];
        copy.copy_from_slice(columns);
        for (block, rows) in columns.as_chunks_mut::<COUNT>().0.iter_mut().enumerate() {
            for (index, word) in square.iter_mut().enumerate() {
                *word = copy[index * blocks + block];
            }
            transpose(&mut square);
            rows.copy_from_slice(&square[..]);
        }
    }
}

fn choice_block(choices: &[u64], block: usize) -> u128 {
    let word = |index: usize| u128::from(choices.get(index).copied().unwrap_or(0));
    word(2 * block) | word(2 * block + 1) << 64
}

/// TMMO with a public key.
struct Hash(Aes128);

impl Hash {
    /// Overwrites each block x with H(x, i), i counted from `first`.
    fn apply(&self, blocks: &mut [u128], first: usize) {
        const BATCH: usize = 64;
        let mut once = [Block::<Aes128>::default(); BATCH];
        let mut twice = [Block::<Aes128>::default(); BATCH];
        for (batch, blocks) in blocks.chunks_mut(BATCH).enumerate() {
            let (once, twice) = (&mut once[..blocks.len()], &mut twice[..blocks.len()]);
            for (bytes, block) in once.iter_mut().zip(&*blocks) {
                *bytes = block.to_le_bytes().into();
            }
            self.0.encrypt_blocks(once);
            for (index, (tweaked, once)) in twice.iter_mut().zip(&*once).enumerate() {
                let tweak = (first + batch * BATCH + index) as u128;
                *tweaked = (u128::from_le_bytes((*once).into()) ^ tweak).to_le_bytes().into();
            }
            self.0.encrypt_blocks(twice);
            for ((block, once), twice) in blocks.iter_mut().zip(&*once).zip(&*twice) {
                *block = u128::from_le_bytes((*once).into()) ^ u128::from_le_bytes((*twice).into());
            }
        }
    }
}
