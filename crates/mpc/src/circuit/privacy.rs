//! Equal outputs give equally distributed views: for small circuits, over every choice of all coins. Each lane of one evaluation is one choice.

use std::collections::{BTreeMap, BTreeSet};

use super::lanes::{Lanes, Packed};
use super::run::{Evaluation, hide};
use super::triples::{Prepared, offer, take};
use super::{Bit, Builder, Circuit};
use crate::ot::transpose;

/// Every choice of so many coins, one in each lane.
struct Coins {
    lanes: usize,
    next: usize,
}

impl Coins {
    fn new(bits: usize) -> Coins {
        Coins {
            lanes: 1 << bits,
            next: 0,
        }
    }

    fn next(&mut self) -> Lanes {
        // The pattern of bit k of the numbers 0, 1, 2, …
        const WITHIN: [u64; 6] = [
            0xaaaa_aaaa_aaaa_aaaa,
            0xcccc_cccc_cccc_cccc,
            0xf0f0_f0f0_f0f0_f0f0,
            0xff00_ff00_ff00_ff00,
            0xffff_0000_ffff_0000,
            0xffff_ffff_0000_0000,
        ];
        let bit = self.next;
        self.next += 1;
        assert!(self.lanes >> bit > 1, "more coins than choices");
        let word = |word: usize| {
            WITHIN
                .get(bit)
                .copied()
                .unwrap_or_else(|| 0u64.wrapping_sub((word >> (bit - 6) & 1) as u64))
        };
        Lanes::from_words(
            self.lanes,
            (0..self.lanes.div_ceil(64)).map(word).collect::<Vec<_>>().into(),
        )
    }
}

/// What coalitions see.
struct Views {
    known: Vec<Known>,
}

/// Sets of parties are numbers: bit i is party i.
struct Known {
    to: u32,
    /// To a coalition with these parties it is nothing new.
    follows_for: u32,
    bits: Lanes,
}

impl Views {
    fn know(&mut self, to: u32, follows_for: u32, bits: &Lanes) {
        let bits = bits.clone();
        self.known.push(Known { to, follows_for, bits });
    }

    /// How often each view of a coalition occurs.
    fn of(&self, coalition: u32) -> Vec<u32> {
        let seen: Vec<&Lanes> = self
            .known
            .iter()
            .filter(|known| known.to & coalition > 0 && known.follows_for & coalition == 0)
            .map(|known| &known.bits)
            .collect();
        assert!(seen.len() <= 24, "a histogram that fits in memory");
        let mut counts = vec![0u32; 1 << seen.len()];
        for word in (0..seen[0].words().len()).step_by(2) {
            let mut square = [0; 128];
            for (row, bits) in square.iter_mut().zip(&seen) {
                let at = |word: usize| u128::from(bits.words().get(word).copied().unwrap_or(0));
                *row = at(word) | at(word + 1) << 64;
            }
            transpose(&mut square);
            let lanes = seen[0].lanes() - 64 * word;
            square.iter().take(lanes).for_each(|view| counts[*view as usize] += 1);
        }
        counts
    }
}

struct Case {
    parties: usize,
    circuit: Circuit,
    /// Of each input bit.
    owners: &'static [usize],
    /// Whether shares of zero are added before shares are opened, as they must be.
    hidden: bool,
}

impl Case {
    fn new(parties: usize, owners: &'static [usize], gates: impl FnOnce(&mut Builder, &[Bit]) -> Vec<Bit>) -> Case {
        let mut builder = Builder::new();
        let inputs = builder.inputs(owners.len());
        let outputs = gates(&mut builder, &inputs);
        builder.outputs(&outputs);
        let circuit = builder.finish();
        Case {
            parties,
            circuit,
            owners,
            hidden: true,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let parties = self.parties;
        (0..parties)
            .flat_map(move |i| (0..parties).map(move |j| (i, j)))
            .filter(|(i, j)| i != j)
    }

    fn coins(&self) -> Coins {
        let pairs = self.pairs().count();
        let Circuit { masks, products, .. } = self.circuit;
        Coins::new(self.parties * masks + 2 * pairs * products + pairs / 2 * self.circuit.outputs())
    }

    /// The protocol, with everything that anybody sees; and the outputs.
    fn run(&self, inputs: u64) -> (Views, Vec<bool>) {
        let mut coins = self.coins();
        let mut views = Views { known: Vec::new() };
        let lanes = coins.lanes;
        let mut prepared: Vec<Prepared> = (0..self.parties)
            .map(|party| {
                Prepared::alone(&self.circuit, lanes, |words| {
                    let mask = coins.next();
                    views.know(1 << party, 0, &mask);
                    words.copy_from_slice(mask.words());
                })
            })
            .collect();
        self.prepare(&mut prepared, &mut coins, &mut views);

        let mut parties: Vec<Evaluation<'_>> = Vec::new();
        for (party, prepared) in prepared.into_iter().enumerate() {
            let share =
                |(place, owner): (usize, &usize)| Lanes::filled(lanes, *owner == party && inputs >> place & 1 == 1);
            let shares: Vec<Lanes> = self.owners.iter().enumerate().map(share).collect();
            parties.push(Evaluation::new(&self.circuit, prepared, &shares, party == 0));
        }
        for layer in &self.circuit.layers {
            let masked = parties.iter_mut().map(|party| party.masked(layer)).collect();
            let opened = self.broadcast(masked, layer.opened.len(), &mut views);
            parties.iter_mut().for_each(|party| party.multiply(layer, &opened));
        }
        let outputs = parties.into_iter().map(|party| Packed::of(&party.outputs())).collect();
        let opened = self.open(outputs, &mut coins, &mut views);
        assert_eq!(coins.lanes >> coins.next, 1, "all coins are used");
        (views, opened)
    }

    /// Oblivious transfers and corrections.
    fn prepare(&self, prepared: &mut [Prepared], coins: &mut Coins, views: &mut Views) {
        for (receiver, sender) in self.pairs() {
            for scaling in &self.circuit.scalings {
                for (product, right) in &scaling.products {
                    let pads = [coins.next(), coins.next()];
                    views.know(1 << sender, 0, &pads[0]);
                    views.know(1 << sender, 0, &pads[1]);
                    let choice = prepared[receiver].masks[scaling.left].clone();
                    let mut chosen = pads[0].clone();
                    chosen.add_product(&choice, &pads[0].xor(&pads[1]));
                    let (share, correction) = offer(&pads[0], &pads[1], &prepared[sender].masks[*right]);
                    prepared[sender].products[*product].xor_assign(&share);
                    let share = take(&chosen, &choice, &correction);
                    prepared[receiver].products[*product].xor_assign(&share);
                    views.know(1 << receiver, 1 << sender, &chosen);
                    views.know(1 << receiver, 1 << sender, &correction);
                }
            }
        }
    }

    /// What all parties send to all is seen by everybody else; what one has sent, it knew.
    fn broadcast(&self, messages: Vec<Packed>, wires: usize, views: &mut Views) -> Packed {
        let bits = messages[0].bits();
        let mut sum = Packed::zeros(bits);
        for (party, message) in messages.iter().enumerate() {
            sum.xor_words(message.words());
            let mut reader = message.reader();
            for _ in 0..wires {
                let others = ((1 << self.parties) - 1) & !(1 << party);
                views.know(others, 1 << party, &reader.next(bits / wires));
            }
        }
        sum
    }

    fn open(&self, mut shares: Vec<Packed>, coins: &mut Coins, views: &mut Views) -> Vec<bool> {
        let mut pads = BTreeMap::new();
        for (low, high) in self.pairs().filter(|(low, high)| low < high) {
            let pad: Vec<Lanes> = (0..self.circuit.outputs()).map(|_| coins.next()).collect();
            pad.iter().for_each(|bit| views.know(1 << low | 1 << high, 0, bit));
            pads.insert((low, high), Packed::of(&pad));
        }
        if self.hidden {
            for (party, shares) in shares.iter_mut().enumerate() {
                let pad = |peer: usize| {
                    let pad = &pads[&(party.min(peer), party.max(peer))];
                    move |words: &mut [u64]| words.copy_from_slice(pad.words())
                };
                let peers = (0..self.parties).filter(|peer| *peer != party);
                hide(shares, &mut peers.map(pad).collect::<Vec<_>>());
            }
        }
        let opened = self.broadcast(shares, self.circuit.outputs(), views);
        let mut reader = opened.reader();
        let outputs = (0..self.circuit.outputs()).map(|_| {
            let output = reader.next(coins.lanes);
            let value = output.get(0);
            assert_eq!(
                output.words(),
                Lanes::filled(coins.lanes, value).words(),
                "right whatever the coins"
            );
            value
        });
        outputs.collect()
    }

    /// For each coalition, inputs of the coalition and outputs: the different distributions of views. All must be one.
    fn distributions(&self) -> BTreeMap<(u32, u64, Vec<bool>), Vec<Vec<u32>>> {
        let mut all: BTreeMap<_, Vec<Vec<u32>>> = BTreeMap::new();
        for inputs in 0..1u64 << self.owners.len() {
            let (views, outputs) = self.run(inputs);
            for coalition in 1..(1u32 << self.parties) - 1 {
                let theirs = |(place, owner): (usize, &usize)| (coalition >> owner & 1) as u64 * (inputs & 1 << place);
                let own = self.owners.iter().enumerate().map(theirs).sum();
                let seen = views.of(coalition);
                let known = all.entry((coalition, own, outputs.clone())).or_default();
                if !known.contains(&seen) {
                    known.push(seen);
                }
            }
        }
        all
    }

    /// Whether all is well: also that the test sees anything at all.
    fn is_private(&self) -> bool {
        let all = self.distributions();
        let inputs: BTreeSet<_> = all.keys().map(|(coalition, own, _)| (coalition, own)).collect();
        assert!(inputs.len() < all.len(), "outputs depend on what others put in");
        all.values().all(|seen| seen.len() == 1)
    }

    /// The outputs as a number.
    fn result(&self, inputs: u64) -> u64 {
        let (_, outputs) = self.run(inputs);
        outputs
            .iter()
            .rev()
            .fold(0, |number, bit| number << 1 | u64::from(*bit))
    }
}

#[test]
fn three_parties_multiply_and_add() {
    let case = Case::new(3, &[0, 1, 2], |b, bits| {
        let product = b.and(bits[0], bits[1]);
        vec![b.xor(product, bits[2])]
    });
    assert_eq!((case.result(0b011), case.result(0b111), case.result(0b101)), (1, 0, 1));
    assert!(case.is_private());
}

#[test]
fn two_parties_compare() {
    let case = Case::new(2, &[0, 0, 1, 1], |b, bits| vec![b.less(&bits[..2], &bits[2..])]);
    assert_eq!(case.circuit.depth(), 2);
    for inputs in 0..16 {
        assert_eq!(case.result(inputs), u64::from(inputs & 3 < inputs >> 2));
    }
    assert!(case.is_private());
}

#[test]
fn a_common_operand() {
    let case = Case::new(2, &[0, 1, 1], |b, bits| b.scale(bits[0], &bits[1..]));
    assert_eq!((case.circuit.ands(), case.circuit.products()), (1, 2));
    assert_eq!((case.result(0b011), case.result(0b110), case.result(0b101)), (1, 0, 2));
    assert!(case.is_private());
}

/// Each product shares operands with both others, so one mask is chosen with as well as corrected for.
#[test]
fn majority() {
    let case = Case::new(2, &[0, 1, 1], |b, bits| {
        let products = [(0, 1), (1, 2), (2, 0)].map(|(x, y)| b.and(bits[x], bits[y]));
        let two = b.xor(products[0], products[1]);
        vec![b.xor(two, products[2])]
    });
    assert_eq!(
        (case.circuit.ands(), case.circuit.products(), case.circuit.depth()),
        (2, 3, 1)
    );
    for inputs in 0..8u64 {
        assert_eq!(case.result(inputs), u64::from(inputs.count_ones() > 1));
    }
    assert!(case.is_private());
}

/// Shares as they are tell inputs: they are what was put in.
#[test]
fn without_shares_of_zero_inputs_are_seen() {
    let gates = |b: &mut Builder, bits: &[Bit]| {
        let sum = b.xor(bits[0], bits[1]);
        vec![b.xor(sum, bits[2])]
    };
    let mut case = Case::new(3, &[0, 1, 2], gates);
    assert!(case.is_private());
    case.hidden = false;
    assert!(!case.is_private());
}
