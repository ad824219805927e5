//! Products of random bits, made up front for whole circuits.
//!
//! Sources: Beaver 1991; from oblivious transfer as in Asharov, Lindell, Schneider, Zohner: *More efficient oblivious transfer and extensions for faster secure
//! computation*, CCS 2013, section 5.1, here with common operands.
//!
//! Each operand has a mask λ, the sum of one random bit λ_i of each party's coins. For a product of x and y the parties need shares of
//! λ_x·λ_y = Σ_i λ_{x,i}·λ_{y,i} ⊕ Σ_{i≠j} λ_{x,i}·λ_{y,j}. The first sum is local. For each term of the second, party i is the receiver of a random oblivious
//! transfer with choice λ_{x,i}: party j has two random bits r⁰, r¹ and party i the one of its choice. Party j sends the correction r⁰ ⊕ r¹ ⊕ λ_{y,j} and takes r⁰ as
//! its share; party i takes its bit, plus the correction if λ_{x,i} = 1: that is r⁰ ⊕ λ_{x,i}·λ_{y,j}. A transfer's pads are 128 bits long, so that one serves all
//! products that have the operand x in common (up to 128 of them).
//!
//! # What each party sees
//! In the transfers: nothing of the other's choices and nothing of the other half of its pads (see [`crate::ot`]). A correction is covered by that other half: with
//! choice 0 the receiver knows r⁰ and not r¹, with choice 1 the other way round, and either way r⁰ ⊕ r¹ is uniform to it. **A simulator draws corrections uniformly.**
//! Between two honest parties, r⁰ is unknown to all others: so their shares of products are uniform subject to the sum.
//!
//! Rounds: base oblivious transfers if there are none, then two for each [`CHUNK`] of transfers. Adversary: semi-honest; whoever deviates makes products wrong.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::lanes::{Lanes, Packed, Unpacker};
use super::{Circuit, Scaling};
use crate::mask::Prg;
use crate::net::{Abort, Net, message};
use crate::ot::{BASE_BYTES, Ot, transpose};
use crate::wire::Malformed;

/// Most oblivious transfers of one message: bounds messages to 4 MiB.
const CHUNK: usize = 1 << 18;
/// Most at once with all peers together: bounds memory to some 50 MiB, however many parties there are.
const AT_ONCE: usize = 1 << 20;

/// Transfers of one message. All parties compute the same.
fn chunk(parties: usize) -> usize {
    (AT_ONCE / parties.saturating_sub(1).max(1) / 64 * 64).min(CHUNK)
}

/// Transfers that all runs of a plan need, with each peer.
pub(crate) fn transfers(plan: &[(&Circuit, usize)]) -> usize {
    let of = |(circuit, lanes): &(&Circuit, usize)| circuit.ands().saturating_mul(*lanes);
    plan.iter().map(of).fold(0, usize::saturating_add)
}

/// Shares of masks and of products of masks, for circuits that are run in a fixed order, each once.
pub struct Triples {
    runs: VecDeque<Prepared>,
}

impl std::fmt::Debug for Triples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Triples")
            .field("runs", &self.runs.len())
            .finish_non_exhaustive()
    }
}

/// What one run of one circuit uses up.
pub(super) struct Prepared {
    pub(super) lanes: usize,
    /// By operand.
    pub(super) masks: Vec<Lanes>,
    /// By product.
    pub(super) products: VecDeque<Lanes>,
}

impl Prepared {
    /// Masks of `coins`; of the products what this party can compute alone.
    pub(super) fn alone(circuit: &Circuit, lanes: usize, mut coins: impl FnMut(&mut [u64])) -> Prepared {
        let mask = |_| {
            let mut words = Zeroizing::new(vec![0; lanes.div_ceil(64)]);
            coins(&mut words);
            Lanes::from_words(lanes, words)
        };
        let masks: Vec<Lanes> = (0..circuit.masks).map(mask).collect();
        let pairs = circuit.layers.iter().flat_map(|layer| &layer.products);
        let products = pairs
            .map(|[x, y]| masks[*x as usize].and(&masks[*y as usize]))
            .collect();
        Prepared { lanes, masks, products }
    }
}

impl Triples {
    /// Prepares the runs of these circuits with so many lanes, in this order. All parties must pass the same plan.
    ///
    /// # Errors
    /// A peer whose message has another length than the plan wants, or base transfers that cannot be made.
    pub async fn generate(net: &mut Net, plan: &[(&Circuit, usize)]) -> Result<Triples, Abort> {
        let bits = |(circuit, lanes): &(&Circuit, usize)| (circuit.masks + circuit.products).saturating_mul(*lanes);
        net.work_ahead(plan.iter().map(bits).fold(0, usize::saturating_add) / 8)
            .await;
        // Whenever coins are taken, rounds follow: so the number of rounds is a new one each time.
        let mut coins = Prg::new(&net.session().own_key("masks of operands", net.round()));
        let run = |(circuit, lanes): &(&Circuit, usize)| Prepared::alone(circuit, *lanes, |words| coins.fill(words));
        let mut runs = plan.iter().map(run).collect();
        let chunks = chunks(plan, chunk(net.session().parties));
        if !chunks.is_empty() {
            let mut ot = Ot::new(net).await?;
            for chunk in &chunks {
                chunk.generate(net, &mut ot, &mut runs).await?;
            }
        }
        Ok(Triples { runs })
    }

    /// Rounds of [`Triples::generate`], if there are base transfers; one more if not. Of large plans a little fewer than there are: pieces begin at whole words.
    pub fn rounds(plan: &[(&Circuit, usize)], parties: usize) -> usize {
        2 * transfers(plan).div_ceil(chunk(parties))
    }

    /// A bound of the bytes of messages of [`Triples::generate`]. Corrections are no longer: as many bits for each transfer at most as its pad has.
    pub fn message_bytes(plan: &[(&Circuit, usize)], parties: usize) -> usize {
        match transfers(plan).min(chunk(parties)) {
            0 => 0,
            most => Ot::message_bytes(most).max(BASE_BYTES),
        }
    }

    /// What the next run uses up.
    pub(super) fn next(&mut self, circuit: &Circuit) -> Result<Prepared, Abort> {
        let fits = |next: &Prepared| next.masks.len() == circuit.masks && next.products.len() == circuit.products;
        let next = self.runs.pop_front().filter(fits);
        next.ok_or(Abort::Internal("a circuit for which nothing was prepared"))
    }

    /// Drawn from one generator for all parties: only good for tests. See [`crate::sim::triples`].
    pub(crate) fn dealt(plan: &[(&Circuit, usize)], parties: usize, coins: &mut Prg) -> Vec<Triples> {
        let empty = || Triples { runs: VecDeque::new() };
        let mut all: Vec<Triples> = (0..parties).map(|_| empty()).collect();
        for (circuit, lanes) in plan {
            let mut parts: Vec<Prepared> = all
                .iter()
                .map(|_| Prepared::alone(circuit, *lanes, |words| coins.fill(words)))
                .collect();
            deal(circuit, &mut parts, coins);
            all.iter_mut()
                .zip(parts)
                .for_each(|(triples, part)| triples.runs.push_back(part));
        }
        all
    }
}

/// Gives the parties shares of all products.
fn deal(circuit: &Circuit, parts: &mut [Prepared], coins: &mut Prg) {
    for (index, operands) in circuit.layers.iter().flat_map(|layer| &layer.products).enumerate() {
        let [mut rest, right] = operands.map(|mask| {
            let mut shares = parts.iter().map(|part| part.masks[mask as usize].clone());
            let first = shares.next().unwrap_or(Lanes::zeros(0));
            shares.fold(first, |sum, share| sum.xor(&share))
        });
        rest = rest.and(&right);
        let mut products = parts.iter_mut().map(|part| &mut part.products[index]);
        let first = products.next();
        for product in products {
            let mut words = Zeroizing::new(vec![0; product.words().len()]);
            coins.fill(&mut words);
            *product = Lanes::from_words(product.lanes(), words);
            rest.xor_assign(product);
        }
        first.into_iter().for_each(|first| *first = rest.clone());
    }
}

/// Some lanes of one scaling of one run: so many oblivious transfers.
struct Piece<'a> {
    run: usize,
    scaling: &'a Scaling,
    /// The first lane, divided by 64.
    word: usize,
    lanes: usize,
}

/// The oblivious transfers of one message, the same at all parties.
struct Chunk<'a> {
    pieces: Vec<Piece<'a>>,
    transfers: usize,
    /// Bits of the corrections.
    bits: usize,
}

/// Cuts a plan into chunks.
fn chunks<'a>(plan: &[(&'a Circuit, usize)], most: usize) -> Vec<Chunk<'a>> {
    let mut chunks: Vec<Chunk<'a>> = Vec::new();
    for (run, (circuit, all_lanes)) in plan.iter().enumerate() {
        for scaling in &circuit.scalings {
            let mut lane = 0;
            while lane < *all_lanes {
                let room = chunks.last().map_or(0, |chunk| most - chunk.transfers);
                let left = all_lanes - lane;
                // Pieces begin at whole words.
                let lanes = if left <= room { left } else { room / 64 * 64 };
                if let (1.., Some(chunk)) = (lanes, chunks.last_mut()) {
                    let word = lane / 64;
                    chunk.pieces.push(Piece {
                        run,
                        scaling,
                        word,
                        lanes,
                    });
                    chunk.transfers += lanes;
                    chunk.bits += lanes * scaling.products.len();
                    lane += lanes;
                } else {
                    chunks.push(Chunk {
                        pieces: Vec::new(),
                        transfers: 0,
                        bits: 0,
                    });
                }
            }
        }
    }
    chunks
}

impl Chunk<'_> {
    /// Two rounds: oblivious transfers, then corrections.
    async fn generate(&self, net: &mut Net, ot: &mut Ot, runs: &mut VecDeque<Prepared>) -> Result<(), Abort> {
        let choices = self.choices(runs);
        let pads = ot.random(net, choices.words(), self.transfers).await?;
        let size = Packed::bytes(self.bits);
        let mut payloads = Vec::with_capacity(pads.len());
        let mut chosen = Vec::with_capacity(pads.len());
        for (peer, pads) in pads {
            let mut payload = message(size);
            self.offer(runs, &pads.offered).encode(&mut payload);
            payloads.push((peer, payload));
            chosen.push((peer, pads.chosen));
        }
        net.exchange(payloads, size, |from, bytes| {
            let corrections = self.decode(bytes)?;
            let (_, chosen) = chosen.iter().find(|(peer, _)| *peer == from).ok_or(Malformed::Value)?;
            self.take(runs, chosen, &mut corrections.reader());
            Ok(())
        })
        .await
    }

    /// This party's choices in the transfers.
    fn choices(&self, runs: &VecDeque<Prepared>) -> Packed {
        let mut choices = Packed::with_capacity(self.transfers);
        for piece in &self.pieces {
            let part = piece.part(&runs[piece.run].masks[piece.scaling.left]);
            choices.push(part.words(), part.lanes());
        }
        choices
    }

    /// As the sender to a peer: takes this party's shares and returns the corrections.
    fn offer(&self, runs: &mut VecDeque<Prepared>, offered: &[[u128; 2]]) -> Packed {
        let mut corrections = Packed::with_capacity(self.bits);
        let mut at = 0;
        for piece in &self.pieces {
            let run = &mut runs[piece.run];
            let width = piece.scaling.products.len();
            let zeros = columns(piece.lanes, width, |lane| offered[at + lane][0]);
            let ones = columns(piece.lanes, width, |lane| offered[at + lane][1]);
            for (((product, right), zero), one) in piece.scaling.products.iter().zip(zeros).zip(ones) {
                let (share, correction) = offer(&zero, &one, &piece.part(&run.masks[*right]));
                run.products[*product].xor_words(piece.word, share.words());
                corrections.push(correction.words(), correction.lanes());
            }
            at += piece.lanes;
        }
        corrections
    }

    /// As the receiver from a peer: takes this party's shares.
    fn take(&self, runs: &mut VecDeque<Prepared>, chosen: &[u128], corrections: &mut Unpacker<'_>) {
        let mut at = 0;
        for piece in &self.pieces {
            let run = &mut runs[piece.run];
            let pads = columns(piece.lanes, piece.scaling.products.len(), |lane| chosen[at + lane]);
            let choice = piece.part(&run.masks[piece.scaling.left]);
            for ((product, _), pad) in piece.scaling.products.iter().zip(pads) {
                let share = take(&pad, &choice, &corrections.next(piece.lanes));
                run.products[*product].xor_words(piece.word, share.words());
            }
            at += piece.lanes;
        }
    }

    /// The corrections in a peer's message.
    fn decode(&self, bytes: &[u8]) -> Result<Packed, Malformed> {
        let mut corrections = Packed::zeros(self.bits);
        corrections.xor_message(bytes)?;
        Ok(corrections)
    }
}

impl Piece<'_> {
    /// These lanes of a wire of the run.
    fn part(&self, of: &Lanes) -> Lanes {
        let words = of.words().iter().skip(self.word).take(self.lanes.div_ceil(64));
        Lanes::from_words(self.lanes, Zeroizing::new(words.copied().collect()))
    }
}

/// The sender's share of a product, and the correction.
pub(super) fn offer(zero: &Lanes, one: &Lanes, right: &Lanes) -> (Lanes, Lanes) {
    (zero.clone(), zero.xor(one).xor(right))
}

/// The receiver's share.
pub(super) fn take(chosen: &Lanes, choice: &Lanes, correction: &Lanes) -> Lanes {
    let mut share = chosen.clone();
    share.add_product(choice, correction);
    share
}

/// Widths from which on blocks are transposed as a whole: below, picking single bits is faster.
const WIDE: usize = 6;

/// The `width` lowest bits of pads, bit by bit.
fn columns(lanes: usize, width: usize, pad: impl Fn(usize) -> u128) -> Vec<Lanes> {
    let capacity = 2 * lanes.div_ceil(128);
    let mut columns: Vec<Zeroizing<Vec<u64>>> = (0..width)
        .map(|_| Zeroizing::new(Vec::with_capacity(capacity)))
        .collect();
    let mut square = Zeroizing::new([0; 128]);
    for first in (0..lanes).step_by(128) {
        let here = (lanes - first).min(128);
        if width >= WIDE {
            square.fill(0);
            (0..here).for_each(|lane| square[lane] = pad(first + lane));
            transpose(&mut square);
        } else {
            for (place, row) in square.iter_mut().take(width).enumerate() {
                let bit = |lane: usize| (pad(first + lane) >> place & 1) << lane;
                *row = (0..here).map(bit).fold(0, |row, bit| row | bit);
            }
        }
        for (column, row) in columns.iter_mut().zip(square.iter()) {
            column.push(*row as u64);
            column.push((row >> 64) as u64);
        }
    }
    columns
        .into_iter()
        .map(|words| Lanes::from_words(lanes, words))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::circuit::Builder;
    use proptest::prelude::*;

    /// What parties hold after an ideal oblivious transfer, for one chunk.
    fn exchange(chunk: &Chunk<'_>, all: &mut [VecDeque<Prepared>], coins: &mut Prg) {
        for receiver in 0..all.len() {
            for sender in (0..all.len()).filter(|sender| *sender != receiver) {
                let choices = chunk.choices(&all[receiver]);
                assert_eq!(choices.bits(), chunk.transfers);
                let mut words = vec![0; 4 * chunk.transfers];
                coins.fill(&mut words);
                let wide = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
                let offered: Vec<[u128; 2]> = words
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|w| [wide(w[0], w[1]), wide(w[2], w[3])])
                    .collect();
                let choice = |at: usize| (choices.words()[at / 64] >> (at % 64) & 1) as usize;
                let chosen: Vec<u128> = (0..chunk.transfers).map(|at| offered[at][choice(at)]).collect();
                let corrections = chunk.offer(&mut all[sender], &offered);
                let mut bytes = Vec::new();
                corrections.encode(&mut bytes);
                let corrections = chunk.decode(&bytes).unwrap();
                chunk.take(&mut all[receiver], &chosen, &mut corrections.reader());
            }
        }
    }

    fn circuit(width: usize) -> Circuit {
        let mut builder = Builder::new();
        let (x, y) = (builder.inputs(width), builder.inputs(width));
        let less = builder.less(&x, &y);
        let chosen = builder.mux(less, &x, &y);
        builder.outputs(&chosen);
        builder.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// However the transfers are cut into messages.
        #[test]
        fn shares_of_products_add_up(parties in 2usize..5, lanes in 1usize..200, width in 1usize..140, most in 64usize..1000, seed in any::<u8>()) {
            let circuits = [circuit(width), circuit(1)];
            let plan = [(&circuits[0], lanes), (&circuits[1], 3), (&circuits[1], lanes)];
            let mut coins = Prg::new(&Zeroizing::new([seed; 32]));
            let mut all: Vec<VecDeque<Prepared>> = Vec::new();
            for _ in 0..parties {
                let runs = plan.iter().map(|(circuit, lanes)| Prepared::alone(circuit, *lanes, |words| coins.fill(words)));
                all.push(runs.collect());
            }
            let chunks = chunks(&plan, most);
            for chunk in &chunks {
                prop_assert!(chunk.transfers <= most);
                exchange(chunk, &mut all, &mut coins);
            }
            let transfers: usize = plan.iter().map(|(circuit, lanes)| circuit.ands() * lanes).sum();
            prop_assert_eq!(chunks.iter().map(|chunk| chunk.transfers).sum::<usize>(), transfers);
            for (run, (circuit, lanes)) in plan.iter().enumerate() {
                let sum = |of: &dyn Fn(&Prepared) -> Lanes| all.iter().fold(Lanes::zeros(*lanes), |sum, runs| sum.xor(&of(&runs[run])));
                for (index, [x, y]) in circuit.layers.iter().flat_map(|layer| &layer.products).enumerate() {
                    let product = sum(&|one| one.products[index].clone());
                    let [x, y] = [x, y].map(|mask| sum(&|one| one.masks[*mask as usize].clone()));
                    let expected = x.and(&y);
                    prop_assert_eq!(product.words(), expected.words());
                }
            }
        }

        #[test]
        fn columns_are_bits_of_pads(pads in proptest::collection::vec(any::<u128>(), 1..200), width in 1usize..=128) {
            let columns = columns(pads.len(), width, |lane| pads[lane]);
            prop_assert_eq!(columns.len(), width);
            for (place, column) in columns.iter().enumerate() {
                for (lane, pad) in pads.iter().enumerate() {
                    prop_assert_eq!(column.get(lane), pad >> place & 1 == 1);
                }
            }
        }
    }
}
