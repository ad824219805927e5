//! Extension: from 128 base transfers to any number, with symmetric cryptography alone.
//!
//! Sources: Ishai, Kilian, Nissim, Petrank: *Extending Oblivious Transfers Efficiently*, CRYPTO 2003, section 3; with the optimisations of Asharov, Lindell, Schneider,
//! Zohner, CCS 2013, section 5 (one generated column instead of two sent ones). Streams: `stream.rs`; hash: `hash.rs`; check against receivers that deviate: `check.rs`.
//!
//! The receiver has choices r_j and both keys of each base transfer i: t^i = PRG(k^i_0), and sends u^i = t^i ⊕ PRG(k^i_1) ⊕ r. The sender has a secret Δ and for each i the
//! key k^i_{Δ_i}: q^i = PRG(k^i_{Δ_i}) ⊕ Δ_i·u^i. Row j of the matrix of all q^i is q_j = t_j ⊕ r_j·Δ. So H(q_j, j) and H(q_j ⊕ Δ, j) are two pads, of which the receiver has one:
//! H(t_j, j).
//!
//! # What each party sees
//! The sender: u^i, covered by the half of PRG(k^i) that it does not know: uniform; and the receiver's side of the check, which tells nothing (`check.rs`). The receiver:
//! nothing. The pad it has not chosen is H(t_j ⊕ Δ, j): random to whoever does not know Δ, since H is correlation robust for a Δ of full entropy, also for rows that a receiver
//! who deviates has chosen.
//!
//! Every stream, and the key of the hash, belongs to one session, direction and message (`stream.rs`).

use aes::Aes128;
use zeroize::Zeroizing;

use super::base::COUNT;
use super::check::{self, Digests};
use super::stream::{BLOCKS, Nonce, Scratch, Use, scratch};
use super::transpose::transpose;

/// Words of all columns that are worked on at once: they stay in the second-level cache.
const PART: usize = BLOCKS * COUNT;

/// Blocks of each column: the choices, and random ones on top that hide what the check tells of them.
fn blocks(count: usize) -> usize {
    if count == 0 { 0 } else { count.div_ceil(COUNT) + 1 }
}

/// Bytes of the receiver's message for so many transfers: the matrix, and its side of the check.
pub(super) fn message_bytes(count: usize) -> usize {
    match blocks(count) {
        0 => 0,
        blocks => blocks * COUNT * 16 + check::BYTES,
    }
}

/// The receiver's columns, and the message, appended to `out`. `cover` is a random word that is used nowhere else.
pub(super) fn receive(
    keys: &[[Aes128; 2]],
    usage: &Use,
    choices: &[u64],
    cover: u128,
    count: usize,
    out: &mut Vec<u8>,
) -> Zeroizing<Vec<u128>> {
    let blocks = blocks(count);
    let chosen = |index| {
        if index + 1 == blocks {
            cover
        } else {
            choice_block(choices, index)
        }
    };
    let chosen: Zeroizing<Vec<u128>> = Zeroizing::new((0..blocks).map(chosen).collect());
    let mut columns = Zeroizing::new(vec![0; blocks * COUNT]);
    let start = out.len();
    out.resize(start + blocks * COUNT * 16, 0);
    fill(keys, usage, &chosen, &mut columns, &mut out[start..]);
    if blocks > 0 {
        let challenge = usage.challenge(count, &out[start..]);
        check::prove(challenge, &chosen, &columns, out);
    }
    columns
}

/// Columns t and the matrix u.
fn fill(keys: &[[Aes128; 2]], usage: &Use, chosen: &[u128], columns: &mut [u128], matrix: &mut [u8]) {
    let nonce = usage.nonce();
    let mut other = Zeroizing::new([0; BLOCKS]);
    let mut scratch = scratch();
    let parts = columns.chunks_mut(PART).zip(matrix.chunks_mut(PART * 16));
    for ((columns, matrix), (place, chosen)) in parts.zip(chosen.chunks(BLOCKS).enumerate()) {
        let (here, first) = (chosen.len(), place * BLOCKS);
        let other = &mut other[..here];
        let parts = columns.chunks_exact_mut(here).zip(matrix.chunks_exact_mut(here * 16));
        for ([one, two], (own, matrix)) in keys.iter().zip(parts) {
            nonce.write(one, first, own, &mut scratch);
            nonce.write(two, first, other, &mut scratch);
            let words = own.iter().zip(&*other).zip(chosen);
            for (out, ((own, other), chosen)) in matrix.as_chunks_mut::<16>().0.iter_mut().zip(words) {
                *out = (own ^ other ^ chosen).to_le_bytes();
            }
        }
    }
}

/// The receiver's pads.
pub(super) fn receiver_pads(usage: &Use, mut columns: Zeroizing<Vec<u128>>, count: usize) -> Zeroizing<Vec<u128>> {
    let mut copy = Zeroizing::new(vec![0; PART.min(columns.len())]);
    columns.chunks_mut(PART).for_each(|part| rows(part, &mut copy));
    columns.truncate(count);
    usage.hash().apply(&mut columns, 0);
    columns
}

/// The sender's pads, from the receiver's message, whose length is right. `None` if no choices give this message.
pub(super) fn sender_pads(
    keys: &[Aes128],
    delta: u128,
    usage: &Use,
    message: &[u8],
    count: usize,
) -> Option<Zeroizing<Vec<[u128; 2]>>> {
    let mut pads = Zeroizing::new(Vec::with_capacity(count));
    let Some((matrix, sent)) = message
        .split_at_checked(blocks(count) * COUNT * 16)
        .filter(|_| count > 0)
    else {
        return (message.is_empty() && count == 0).then_some(pads);
    };
    let (nonce, hash) = (usage.nonce(), usage.hash());
    let mut digests = Digests::new(usage.challenge(count, matrix), COUNT);
    let [mut columns, mut others, mut copy] = [0; 3].map(|_| Zeroizing::new(vec![0; PART.min(blocks(count) * COUNT)]));
    let mut scratch = scratch();
    for (place, matrix) in matrix.chunks(PART * 16).enumerate() {
        let columns = &mut columns[..matrix.len() / 16];
        correct(keys, &nonce, delta, place * BLOCKS, matrix, columns, &mut scratch);
        digests.update(columns);
        rows(columns, &mut copy);
        let done = pads.len();
        let left = columns.len().min(count - done);
        let (columns, others) = (&mut columns[..left], &mut others[..left]);
        for (other, row) in others.iter_mut().zip(&*columns) {
            *other = row ^ delta;
        }
        hash.apply(columns, done);
        hash.apply(others, done);
        pads.extend(columns.iter().zip(&*others).map(|(one, other)| [*one, *other]));
    }
    check::holds(&digests.finish(), delta, sent).then_some(pads)
}

/// Columns q, of blocks from `first` on.
fn correct(
    keys: &[Aes128],
    nonce: &Nonce,
    delta: u128,
    first: usize,
    matrix: &[u8],
    columns: &mut [u128],
    scratch: &mut Scratch,
) {
    let here = columns.len() / COUNT;
    let parts = columns.chunks_exact_mut(here).zip(matrix.chunks_exact(here * 16));
    for ((index, key), (own, theirs)) in keys.iter().enumerate().zip(parts) {
        nonce.write(key, first, own, scratch);
        let mask = 0u128.wrapping_sub(delta >> index & 1);
        for (own, theirs) in own.iter_mut().zip(theirs.as_chunks::<16>().0) {
            *own ^= u128::from_le_bytes(*theirs) & mask;
        }
    }
}

/// A part of all columns (all words of column 0, then of column 1, …) becomes rows, in place.
pub(super) fn rows(columns: &mut [u128], copy: &mut [u128]) {
    let blocks = columns.len() / COUNT;
    let copy = &mut copy[..columns.len()];
    copy.copy_from_slice(columns);
    for (block, square) in columns.as_chunks_mut::<COUNT>().0.iter_mut().enumerate() {
        for (index, word) in square.iter_mut().enumerate() {
            *word = copy[index * blocks + block];
        }
        transpose(square);
    }
}

fn choice_block(choices: &[u64], block: usize) -> u128 {
    let word = |index: usize| u128::from(choices.get(index).copied().unwrap_or(0));
    word(2 * block) | word(2 * block + 1) << 64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ot::Base;
    use proptest::prelude::*;

    const USE: Use = Use {
        sid: [1; 32],
        sender: 0,
        receiver: 1,
        message: 0,
    };

    /// The sender's half and the receiver's.
    fn halves() -> [Base; 2] {
        Base::dealt(&mut blake3::Hasher::new().update(b"extension").finalize_xof())
    }

    fn words(label: &str, count: usize) -> Vec<u64> {
        let mut bytes = vec![0; count.div_ceil(64) * 8];
        blake3::Hasher::new()
            .update(label.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect()
    }

    /// What column `column` of a matrix says, block by block.
    fn column(matrix: &[u8], column: usize) -> Vec<u128> {
        let part = |part: &[u8]| {
            let here = part.len() / COUNT;
            let blocks = part[column * here..][..here].as_chunks().0.iter();
            blocks.map(|block| u128::from_le_bytes(*block)).collect::<Vec<_>>()
        };
        matrix.chunks(PART * 16).flat_map(part).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_receiver_has_one_pad_of_two(count in 0usize..20_000, cover: u128, seed: u64) {
            let [sender, receiver] = halves();
            let choices = words(&seed.to_string(), count);
            let mut message = Vec::new();
            let columns = receive(&receiver.offered, &USE, &choices, cover, count, &mut message);
            prop_assert_eq!(message.len(), message_bytes(count));
            let offered = sender_pads(&sender.chosen, *sender.delta, &USE, &message, count).unwrap();
            let chosen = receiver_pads(&USE, columns, count);
            prop_assert_eq!((offered.len(), chosen.len()), (count, count));
            for (index, (chosen, offered)) in chosen.iter().zip(offered.iter()).enumerate() {
                let choice = (choices[index / 64] >> (index % 64) & 1) as usize;
                prop_assert_eq!(*chosen, offered[choice]);
                prop_assert_ne!(*chosen, offered[1 - choice]);
            }
        }
    }

    /// Other choices in one column pass if the receiver guesses that bit of Δ, and only then.
    #[test]
    fn a_matrix_that_no_choices_give_is_refused() {
        let [sender, receiver] = halves();
        let (count, cover) = (10_000, 77);
        let choices = words("choices", count);
        let blocks = blocks(count);
        let passes = |message: &[u8]| sender_pads(&sender.chosen, *sender.delta, &USE, message, count).is_some();
        let mut honest = Vec::new();
        let columns = receive(&receiver.offered, &USE, &choices, cover, count, &mut honest);
        assert!(passes(&honest));
        let mut chosen: Vec<u128> = (0..blocks - 1).map(|index| choice_block(&choices, index)).collect();
        chosen.push(cover);
        let mut guessed_right = 0;
        for index in 0..COUNT {
            let mut matrix = honest[..blocks * COUNT * 16].to_vec();
            // In the first part, or in the second one.
            let (place, at) = if index % 2 == 0 {
                (3, index * BLOCKS + 3)
            } else {
                (BLOCKS, BLOCKS * COUNT + index * (blocks - BLOCKS))
            };
            matrix[at * 16] ^= 1;
            let challenge = USE.challenge(count, &matrix);
            let mut change = vec![0; blocks];
            change[place] = 1;
            let mut digest = Digests::new(challenge, 1);
            change.chunks(BLOCKS).for_each(|part| digest.update(part));
            let digest = digest.finish()[0];
            for guess in [0, 1] {
                let mut message = matrix.clone();
                check::prove(challenge, &chosen, &columns, &mut message);
                let own = &mut message[matrix.len() + 16 + index * 16..][..16];
                let sent = u128::from_le_bytes(own.try_into().unwrap()) ^ (digest * guess);
                own.copy_from_slice(&sent.to_le_bytes());
                let right = *sender.delta >> index & 1 == guess;
                assert_eq!(passes(&message), right, "column {index}, guess {guess}");
                guessed_right += usize::from(right);
            }
        }
        assert_eq!(guessed_right, COUNT);
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let [sender, receiver] = halves();
        let count = 300;
        let mut message = Vec::new();
        receive(
            &receiver.offered,
            &USE,
            &words("choices", count),
            5,
            count,
            &mut message,
        );
        for bit in (0..message.len() * 8).step_by(61) {
            message[bit / 8] ^= 1 << (bit % 8);
            assert!(
                sender_pads(&sender.chosen, *sender.delta, &USE, &message, count).is_none(),
                "bit {bit}"
            );
            message[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(sender_pads(&sender.chosen, *sender.delta, &USE, &message, count).is_some());
        for wrong in [&message[1..], &[]] {
            assert!(sender_pads(&sender.chosen, *sender.delta, &USE, wrong, count).is_none());
        }
    }

    /// With choices that are zero everywhere a matrix is nothing but streams.
    #[test]
    fn no_block_of_a_stream_comes_again() {
        let [_, receiver] = halves();
        let (count, mut matrix) = (20_000usize, Vec::new());
        receive(
            &receiver.offered,
            &USE,
            &vec![0; count.div_ceil(64)],
            0,
            count,
            &mut matrix,
        );
        matrix.truncate(blocks(count) * COUNT * 16);
        let mut seen: Vec<&[u8; 16]> = matrix.as_chunks().0.iter().collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), blocks(count) * COUNT);
    }

    /// If a stream came twice, the difference of two messages would be that of the choices, in each column where it did.
    #[test]
    fn messages_do_not_differ_as_choices_do() {
        let [sender, receiver] = halves();
        let count = 10_000;
        let uses = [
            USE,
            Use { sid: [2; 32], ..USE },
            Use { message: 1, ..USE },
            Use {
                sender: 1,
                receiver: 0,
                ..USE
            },
            Use { receiver: 2, ..USE },
        ];
        let run = |usage: &Use, choices: &[u64]| {
            let mut message = Vec::new();
            receive(&receiver.offered, usage, choices, 0, count, &mut message);
            let pads = sender_pads(&sender.chosen, *sender.delta, usage, &message, count).unwrap();
            message.truncate(blocks(count) * COUNT * 16);
            (message, pads)
        };
        let [first, second] = ["one", "other"].map(|label| words(label, count));
        let alike = uses.map(|usage| run(&usage, &first));
        let other = uses.map(|usage| run(&usage, &second));
        // Blocks of zeros where nothing tells two messages apart but the choices.
        let same = |a: &[u8], b: &[u8], choices: [&[u64]; 2]| {
            let columns = (0..COUNT).flat_map(|index| {
                let (a, b) = (column(a, index), column(b, index));
                let rest = move |(place, (a, b)): (usize, (u128, u128))| {
                    a ^ b ^ choice_block(choices[0], place) ^ choice_block(choices[1], place)
                };
                a.into_iter().zip(b).enumerate().map(rest).collect::<Vec<_>>()
            });
            columns.filter(|rest| *rest == 0).count()
        };
        // The test sees what it is made to see.
        assert_eq!(same(&alike[0].0, &other[0].0, [&first, &second]), blocks(count) * COUNT);
        for i in 0..uses.len() {
            for j in 0..i {
                assert_eq!(same(&alike[i].0, &alike[j].0, [&first, &first]), 0);
                assert_eq!(same(&alike[i].0, &other[j].0, [&first, &second]), 0);
            }
        }
        // No pad comes twice, and where they would differ by Δ without a hash, all differ differently.
        let pads = alike.iter().flat_map(|(_, pads)| pads.iter());
        let mut seen: Vec<u128> = pads.flat_map(|[one, other]| [*one, *other, one ^ other]).collect();
        let all = uses.len() * count * 3;
        assert_eq!(seen.len(), all);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
