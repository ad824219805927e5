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
//! Streams are keyed by base key, session, direction and the number of the message on its channel, so no stream is ever used twice, however often base transfers serve;
//! the same holds for the hash.

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use zeroize::{Zeroize, Zeroizing};

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
    fn derive(&self, label: &[u8], key: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&self.sid);
        hasher
            .update(&self.sender.to_le_bytes())
            .update(&self.receiver.to_le_bytes());
        hasher.update(&self.message.to_le_bytes()).update(label);
        let derived = Zeroizing::new(*hasher.finalize().as_bytes());
        hasher.zeroize();
        derived
    }

    fn stream(&self, key: &Zeroizing<[u8; 32]>) -> ChaCha20 {
        let key = self.derive(b"column", key);
        ChaCha20::new(&(*key).into(), &[0; 12].into())
    }

    fn hash(&self) -> Hash {
        let key = self.derive(b"hash", &[0; 32]);
        let mut short = [0; 16];
        short.copy_from_slice(&key[..16]);
        Hash(Aes128::new(&short.into()))
    }
}

/// Bytes of the receiver's message for so many transfers.
pub(super) fn message_bytes(count: usize) -> usize {
    count.div_ceil(COUNT) * COUNT * COUNT / 8
}

/// The receiver's columns, which must not be used before the message has been sent, and the message, appended to `out`.
pub(super) fn receive(
    keys: &[[Zeroizing<[u8; 32]>; 2]],
    usage: &Use,
    choices: &[u64],
    count: usize,
    out: &mut Vec<u8>,
) -> Zeroizing<Vec<u128>> {
    let mut streams: Vec<[ChaCha20; 2]> = keys
        .iter()
        .map(|pair| [0, 1].map(|side| usage.stream(&pair[side])))
        .collect();
    let blocks = count.div_ceil(COUNT);
    let mut columns = Zeroizing::new(Vec::with_capacity(blocks * COUNT));
    let (mut own, mut other) = (Zeroizing::new([0u8; BLOCKS * 16]), Zeroizing::new([0u8; BLOCKS * 16]));
    for first in (0..blocks).step_by(BLOCKS) {
        let here = BLOCKS.min(blocks - first);
        let chosen: Zeroizing<Vec<u128>> = Zeroizing::new(
            (first..first + here)
                .map(|block| choice_block(choices, block))
                .collect(),
        );
        for [one, two] in &mut streams {
            let (own, other) = (&mut own[..here * 16], &mut other[..here * 16]);
            keystream(one, own);
            keystream(two, other);
            let words = own
                .as_chunks::<16>()
                .0
                .iter()
                .zip(other.as_chunks::<16>().0)
                .zip(chosen.iter());
            for ((own, other), chosen) in words {
                let own = u128::from_le_bytes(*own);
                columns.push(own);
                out.extend((own ^ u128::from_le_bytes(*other) ^ chosen).to_le_bytes());
            }
        }
    }
    columns
}

/// The receiver's pads.
pub(super) fn receiver_pads(usage: &Use, mut columns: Zeroizing<Vec<u128>>, count: usize) -> Zeroizing<Vec<u128>> {
    rows(&mut columns);
    columns.truncate(count);
    usage.hash().apply(&mut columns, 0);
    columns
}

/// The sender's pads, from the receiver's message, whose length is right.
pub(super) fn sender_pads(
    keys: &[Zeroizing<[u8; 32]>],
    delta: &Zeroizing<u128>,
    usage: &Use,
    message: &[u8],
    count: usize,
) -> Zeroizing<Vec<[u128; 2]>> {
    let mut streams: Vec<ChaCha20> = keys.iter().map(|key| usage.stream(key)).collect();
    let blocks = count.div_ceil(COUNT);
    let hash = usage.hash();
    let mut pads = Zeroizing::new(Vec::with_capacity(count));
    let mut columns = Zeroizing::new(Vec::with_capacity(BLOCKS * COUNT));
    let mut own = Zeroizing::new([0u8; BLOCKS * 16]);
    for (first, part) in (0..blocks).step_by(BLOCKS).zip(message.chunks(BLOCKS * COUNT * 16)) {
        let here = BLOCKS.min(blocks - first);
        columns.clear();
        for (index, (stream, column)) in streams.iter_mut().zip(part.chunks_exact(here * 16)).enumerate() {
            let own = &mut own[..here * 16];
            keystream(stream, own);
            let mask = 0u128.wrapping_sub(**delta >> index & 1);
            let words = own.as_chunks::<16>().0.iter().zip(column.as_chunks::<16>().0);
            columns
                .extend(words.map(|(own, theirs)| u128::from_le_bytes(*own) ^ (u128::from_le_bytes(*theirs) & mask)));
        }
        rows(&mut columns);
        let begin = pads.len();
        columns.truncate(count - begin);
        let mut others: Zeroizing<Vec<u128>> = Zeroizing::new(columns.iter().map(|row| row ^ **delta).collect());
        hash.apply(&mut columns, begin);
        hash.apply(&mut others, begin);
        pads.extend(columns.iter().zip(others.iter()).map(|(one, other)| [*one, *other]));
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

fn keystream(stream: &mut ChaCha20, bytes: &mut [u8]) {
    bytes.fill(0);
    stream.apply_keystream(bytes);
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
