//! Many bits at once: the same wire in many evaluations of a circuit, and how they travel.

use std::fmt;

use zeroize::Zeroizing;

use crate::wire::Malformed;

/// One bit (or this party's share of it) in each of many evaluations of a circuit. Bits behind the last lane are zero.
#[derive(Clone)]
pub struct Lanes {
    lanes: usize,
    words: Zeroizing<Vec<u64>>,
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Lanes {
    /// All false. Also the share of whoever does not own an input.
    pub fn zeros(lanes: usize) -> Lanes {
        Lanes {
            lanes,
            words: Zeroizing::new(vec![0; lanes.div_ceil(64)]),
        }
    }

    /// All `value`.
    pub fn filled(lanes: usize, value: bool) -> Lanes {
        let mut filled = Lanes::zeros(lanes);
        if value {
            filled.invert();
        }
        filled
    }

    /// One lane for each of `bits`.
    pub fn from_bools(bits: &[bool]) -> Lanes {
        let mut lanes = Lanes::zeros(bits.len());
        for (lane, bit) in bits.iter().enumerate() {
            lanes.words[lane / 64] |= u64::from(*bit) << (lane % 64);
        }
        lanes
    }

    /// The lowest bit of the first word is lane 0. Missing words are zero, and bits beyond the last lane are ignored.
    pub fn from_words(lanes: usize, mut words: Zeroizing<Vec<u64>>) -> Lanes {
        words.resize(lanes.div_ceil(64), 0);
        let mut lanes = Lanes { lanes, words };
        lanes.clear_rest();
        lanes
    }

    /// Numbers bit by bit: element k of the result is bit k of every number, for the `width` lowest bits. `values` has `limbs` words for each lane, the lowest
    /// first; bits that it does not have are zero.
    pub fn columns(values: &[u64], limbs: usize, width: usize) -> Vec<Lanes> {
        let lanes = values.len().checked_div(limbs).unwrap_or(0);
        let mut columns = vec![Lanes::zeros(lanes); width];
        for (lane, value) in values.chunks_exact(limbs.max(1)).enumerate() {
            let bits = value.iter().flat_map(|limb| (0..64).map(move |bit| limb >> bit & 1));
            for (column, bit) in columns.iter_mut().zip(bits) {
                column.words[lane / 64] |= bit << (lane % 64);
            }
        }
        columns
    }

    /// The reverse of [`Lanes::columns`]: for each lane as many words as the columns need, the lowest first.
    pub fn numbers(columns: &[Lanes]) -> Zeroizing<Vec<u64>> {
        let lanes = columns.first().map_or(0, Lanes::lanes);
        let limbs = columns.len().div_ceil(64);
        let mut values = Zeroizing::new(vec![0; lanes * limbs]);
        for (place, column) in columns.iter().enumerate() {
            for lane in 0..lanes.min(column.lanes) {
                let bit = column.words[lane / 64] >> (lane % 64) & 1;
                values[lane * limbs + place / 64] |= bit << (place % 64);
            }
        }
        values
    }

    /// The number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// The bit of one lane; false if there is no such lane.
    pub fn get(&self, lane: usize) -> bool {
        let word = self.words.get(lane / 64).copied().unwrap_or(0);
        word >> (lane % 64) & 1 == 1
    }

    /// The lanes as words, lane 0 in the lowest bit of the first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Each lane exclusive-or that of `other`; lanes that `other` does not have stay.
    pub fn xor_assign(&mut self, other: &Lanes) {
        for (word, other) in self.words.iter_mut().zip(other.words.iter()) {
            *word ^= other;
        }
        self.clear_rest();
    }

    /// Both, exclusive-or.
    #[must_use]
    pub fn xor(&self, other: &Lanes) -> Lanes {
        let mut sum = self.clone();
        sum.xor_assign(other);
        sum
    }

    /// Both, and: as many lanes as `self`.
    #[must_use]
    pub fn and(&self, other: &Lanes) -> Lanes {
        let mut product = Lanes::zeros(self.lanes);
        product.add_product(self, other);
        product
    }

    /// Exclusive-or the product of two others.
    pub(super) fn add_product(&mut self, a: &Lanes, b: &Lanes) {
        for ((word, a), b) in self.words.iter_mut().zip(a.words.iter()).zip(b.words.iter()) {
            *word ^= a & b;
        }
        self.clear_rest();
    }

    /// Negates each lane.
    pub fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.clear_rest();
    }

    /// Adds words behind word `first`; bits beyond the last lane are ignored.
    pub(super) fn xor_words(&mut self, first: usize, words: &[u64]) {
        for (word, other) in self.words.iter_mut().skip(first).zip(words) {
            *word ^= other;
        }
        self.clear_rest();
    }

    fn clear_rest(&mut self) {
        if let (used @ 1.., Some(last)) = (self.lanes % 64, self.words.last_mut()) {
            *last &= (1 << used) - 1;
        }
    }
}

/// Bits of many wires without gaps: the form in which they travel.
pub(super) struct Packed {
    words: Zeroizing<Vec<u64>>,
    bits: usize,
}

impl Packed {
    pub(super) fn with_capacity(bits: usize) -> Packed {
        Packed {
            words: Zeroizing::new(Vec::with_capacity(bits.div_ceil(64))),
            bits: 0,
        }
    }

    pub(super) fn zeros(bits: usize) -> Packed {
        Packed {
            words: Zeroizing::new(vec![0; bits.div_ceil(64)]),
            bits,
        }
    }

    /// All of `shares`, one behind the other.
    pub(super) fn of(shares: &[Lanes]) -> Packed {
        let mut packed = Packed::with_capacity(shares.iter().map(Lanes::lanes).sum());
        shares.iter().for_each(|share| packed.push(&share.words, share.lanes));
        packed
    }

    /// Appends the `bits` lowest bits of `words`; higher ones must be zero.
    pub(super) fn push(&mut self, words: &[u64], bits: usize) {
        let mut left = bits;
        for word in words {
            let used = left.min(64);
            let shift = self.bits % 64;
            match self.words.last_mut() {
                Some(last) if shift > 0 => *last |= word << shift,
                _ if used > 0 => self.words.push(*word),
                _ => {}
            }
            if shift > 0 && shift + used > 64 {
                self.words.push(word >> (64 - shift));
            }
            self.bits += used;
            left -= used;
        }
    }

    /// Adds bits; those behind the end are ignored.
    pub(super) fn xor_words(&mut self, words: &[u64]) {
        for (word, other) in self.words.iter_mut().zip(words) {
            *word ^= other;
        }
        if let (used @ 1.., Some(last)) = (self.bits % 64, self.words.last_mut()) {
            *last &= (1 << used) - 1;
        }
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(super) fn bits(&self) -> usize {
        self.bits
    }

    /// Bytes of a message with so many bits.
    pub(super) fn bytes(bits: usize) -> usize {
        bits.div_ceil(8)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let end = out.len() + Packed::bytes(self.bits);
        for word in self.words.iter() {
            let rest = (end - out.len()).min(8);
            out.extend_from_slice(&word.to_le_bytes()[..rest]);
        }
    }

    /// Adds the bits of a peer's message, which must be as many and have nothing behind them.
    pub(super) fn xor_message(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let size = Packed::bytes(self.bits);
        if bytes.len() != size {
            return Err(if bytes.len() < size {
                Malformed::Short
            } else {
                Malformed::Trailing
            });
        }
        let used = self.bits % 8;
        let unused = bytes.last().map_or(0, |last| if used > 0 { last >> used } else { 0 });
        if unused != 0 {
            return Err(Malformed::Value);
        }
        for (word, bytes) in self.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word ^= u64::from_le_bytes(whole);
        }
        Ok(())
    }

    pub(super) fn reader(&self) -> Unpacker<'_> {
        Unpacker { packed: self, at: 0 }
    }
}

/// Takes bits off the front.
pub(super) struct Unpacker<'a> {
    packed: &'a Packed,
    at: usize,
}

impl Unpacker<'_> {
    /// The next `lanes` bits; zeros behind the end.
    pub(super) fn next(&mut self, lanes: usize) -> Lanes {
        let words = &self.packed.words;
        let word = |index: usize| words.get(index).copied().unwrap_or(0);
        let shift = self.at % 64;
        let mut out = Zeroizing::new(Vec::with_capacity(lanes.div_ceil(64)));
        for index in 0..lanes.div_ceil(64) {
            let index = self.at / 64 + index;
            let high = if shift == 0 { 0 } else { word(index + 1) << (64 - shift) };
            out.push(word(index) >> shift | high);
        }
        self.at += lanes;
        Lanes::from_words(lanes, out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn lanes() -> impl Strategy<Value = Vec<bool>> {
        proptest::collection::vec(any::<bool>(), 0..200)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(all in proptest::collection::vec(lanes(), 0..8)) {
            let shares: Vec<Lanes> = all.iter().map(|bits| Lanes::from_bools(bits)).collect();
            let packed = Packed::of(&shares);
            let bits: usize = all.iter().map(Vec::len).sum();
            prop_assert_eq!(packed.bits(), bits);
            prop_assert_eq!(packed.words().len(), bits.div_ceil(64));
            let mut bytes = Vec::new();
            packed.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), bits.div_ceil(8));
            let mut again = Packed::of(&all.iter().map(|bits| Lanes::zeros(bits.len())).collect::<Vec<_>>());
            again.xor_message(&bytes).unwrap();
            let mut reader = again.reader();
            for bits in &all {
                let share = reader.next(bits.len());
                prop_assert_eq!(&(0..bits.len()).map(|lane| share.get(lane)).collect::<Vec<_>>(), bits);
            }
        }

        #[test]
        fn other_lengths_and_bits_behind_the_end_are_refused(bits in 0usize..300, bytes in proptest::collection::vec(any::<u8>(), 0..45)) {
            let mut packed = Packed::of(&[Lanes::zeros(bits)]);
            let size = bits.div_ceil(8);
            let expected = match bytes.len().cmp(&size) {
                std::cmp::Ordering::Less => Err(Malformed::Short),
                std::cmp::Ordering::Greater => Err(Malformed::Trailing),
                std::cmp::Ordering::Equal if bits % 8 > 0 && bytes[size - 1] >> (bits % 8) > 0 => Err(Malformed::Value),
                std::cmp::Ordering::Equal => Ok(()),
            };
            prop_assert_eq!(packed.xor_message(&bytes), expected);
        }

        #[test]
        fn numbers_become_columns_and_numbers_again(values in proptest::collection::vec(any::<u64>(), 0..140), width in 0usize..200) {
            let values = &values[..values.len() / 2 * 2];
            let columns = Lanes::columns(values, 2, width);
            prop_assert_eq!(columns.len(), width);
            for (place, column) in columns.iter().enumerate() {
                for (lane, number) in values.as_chunks::<2>().0.iter().enumerate() {
                    prop_assert_eq!(column.get(lane), place < 128 && number[place / 64] >> (place % 64) & 1 == 1);
                }
            }
            if width == 128 || width == 0 {
                return Ok(());
            }
            let numbers = Lanes::numbers(&Lanes::columns(values, 2, 128));
            prop_assert_eq!(&numbers[..], values);
        }

        #[test]
        fn bits_behind_the_last_lane_stay_zero(lanes in 0usize..130, words in proptest::collection::vec(any::<u64>(), 3)) {
            let made = Lanes::from_words(lanes, Zeroizing::new(words.clone()));
            let mut inverted = made.clone();
            inverted.invert();
            let mut wider = Lanes::zeros(lanes);
            wider.xor_assign(&Lanes::filled(192, true));
            wider.xor_words(0, &words);
            for lanes_of in [&made, &inverted, &wider, &inverted.and(&made), &inverted.xor(&made)] {
                let rest = lanes_of.words().last().filter(|_| lanes % 64 > 0).map_or(0, |last| last >> (lanes % 64));
                prop_assert_eq!(rest, 0);
                prop_assert_eq!(lanes_of.words().len(), lanes.div_ceil(64));
            }
            for lane in 0..lanes {
                prop_assert_ne!(made.get(lane), inverted.get(lane));
                prop_assert_ne!(made.get(lane), wider.get(lane));
            }
        }
    }
}
