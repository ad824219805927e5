//! The receiver shows that its matrix is made of one vector of choices, and tells nothing else.
//!
//! Source: Roy: *SoftSpokenOT: Quieter OT Extension from Small-Field Silent VOLE in the Minicrypt Model*, CRYPTO 2022, section 4 (for the repetition code): each column is hashed by
//! itself with a universal hash h over its bits. (Roy also shows the gap in the proof of the older check, which adds up rows: Keller, Orsini, Scholl, CRYPTO 2015.) Here h is
//! POLYVAL, a polynomial over GF(2^128) at a point that is a hash of the whole matrix (Fiat and Shamir), so the check needs no round of its own.
//!
//! Let x^i be what column i of the receiver's matrix says that the choices are. An honest receiver has all x^i = x. It sends x̃ = h(x) and t̃^i = h(t^i) for each column; the sender,
//! with q^i = t^i ⊕ Δ_i·x^i, demands h(q^i) = t̃^i ⊕ Δ_i·x̃ for all i.
//!
//! # What it gives
//! h is linear, so whatever the receiver sends as x̃ and t̃^i, the demand for column i is that a_i = Δ_i·(h(x^i) ⊕ x̃), with an a_i of the receiver's choice. If h(x^i) ≠ x̃, that holds
//! for one value of Δ_i at most. So the receiver either passes with h(x^i) = x̃ in all columns or has guessed Δ_i in c columns; it passes with probability 2^−c then, and knows c
//! bits of Δ. In the others all x^i are one x, unless h collides on two of them: at a random point with probability at most b / 2^128 for b blocks in a column, for one of the
//! pairs of columns with 2^13·b / 2^128. The receiver may try many matrices offline (a hash each), so for a message of 2^18 transfers a collision costs 2^104 trials,
//! for 2^20 ones 2^102. Hence whoever has learned c bits of Δ was found out with probability 1 − 2^−c, and then these base transfers are used no more.
//!
//! # What it tells
//! The last block of x is random and serves nothing else: x̃ is uniform and tells nothing of the choices. Each t̃^i is h(q^i) ⊕ Δ_i·x̃, which the sender knows already. **A simulator** draws
//! x̃ and computes the rest from it.

use polyval::universal_hash::UniversalHash;
use polyval::{Block, Polyval};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::base::COUNT;
use super::stream::BLOCKS;

/// Bytes of what the receiver sends for it: x̃, and t̃ of each column.
pub(super) const BYTES: usize = 16 * (1 + COUNT);

/// Appends what the receiver sends: digests of its choices and of its columns (parts of [`BLOCKS`] blocks of each).
pub(super) fn prove(challenge: [u8; 16], choices: &[u128], columns: &[u128], out: &mut Vec<u8>) {
    let mut digests = [Digests::new(challenge, 1), Digests::new(challenge, COUNT)];
    choices.chunks(BLOCKS).for_each(|part| digests[0].update(part));
    columns.chunks(BLOCKS * COUNT).for_each(|part| digests[1].update(part));
    for digests in digests.map(Digests::finish) {
        digests.iter().for_each(|digest| out.extend(digest.to_le_bytes()));
    }
}

/// h of some columns, part by part.
pub(super) struct Digests {
    columns: Vec<Polyval>,
    blocks: Zeroizing<[[u8; 16]; BLOCKS]>,
}

impl Digests {
    pub(super) fn new(challenge: [u8; 16], columns: usize) -> Digests {
        Digests {
            columns: vec![Polyval::new(&challenge.into()); columns],
            blocks: Zeroizing::new([[0; 16]; BLOCKS]),
        }
    }

    /// The next up to [`BLOCKS`] blocks of each column, one column after the other.
    pub(super) fn update(&mut self, part: &[u128]) {
        let here = part.len() / self.columns.len();
        for (column, part) in self.columns.iter_mut().zip(part.chunks_exact(here)) {
            let blocks = &mut self.blocks[..here];
            for (block, word) in blocks.iter_mut().zip(part) {
                *block = word.to_le_bytes();
            }
            column.update(Block::cast_slice_from_core(blocks));
        }
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u128>> {
        let digest = |column: Polyval| u128::from_le_bytes(column.finalize().into());
        Zeroizing::new(self.columns.into_iter().map(digest).collect())
    }
}

/// Whether digests of the sender's columns fit those that the receiver has sent, all of them.
pub(super) fn holds(own: &[u128], delta: u128, sent: &[u8]) -> bool {
    let (sent, rest) = sent.as_chunks::<16>();
    let Some((choices, theirs)) = sent.split_first() else {
        return false;
    };
    if theirs.len() != own.len() || !rest.is_empty() {
        return false;
    }
    let choices = u128::from_le_bytes(*choices);
    let columns = own.iter().zip(theirs).enumerate();
    let difference = columns.fold(0, |all, (index, (own, theirs))| {
        let mask = 0u128.wrapping_sub(delta >> index & 1);
        all | (own ^ u128::from_le_bytes(*theirs) ^ (choices & mask))
    });
    difference.ct_eq(&0).into()
}
