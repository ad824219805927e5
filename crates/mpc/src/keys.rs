//! Numbers as unsigned keys of one width in the same order, for comparisons.
//!
//! A number v on the grid is an integer with |v| < 10^d for d declared digits. Its key is v + 10^d: from 1 to 2 · 10^d − 1. The lowest and the highest key of
//! the width belong to no number, so they can stand for "none".

use std::cmp::Ordering;
use std::fmt;

use zeroize::Zeroizing;

use crate::number::Grid;
use crate::ring::Ring;

/// The keys of a grid.
#[derive(Clone, Debug)]
pub struct KeySpace {
    ring: Ring,
    bits: usize,
    /// 10^d.
    offset: Vec<u64>,
}

impl KeySpace {
    /// The keys of the numbers on `grid`.
    #[must_use]
    pub fn new(grid: &Grid) -> KeySpace {
        let offset = grid.bound().to_vec();
        // 2 · 10^d has one bit more than 10^d and is no power of two.
        KeySpace {
            ring: grid.ring(),
            bits: bit_length(&offset) + 1,
            offset,
        }
    }

    /// Bits of a key.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// 64-bit words of a key, the lowest first.
    #[must_use]
    pub fn limbs(&self) -> usize {
        self.ring.limbs()
    }

    /// Turns elements of the grid's ring into keys, in place.
    pub fn keys(&self, elements: &mut [u64]) {
        for element in elements.chunks_exact_mut(self.limbs()) {
            self.ring.add_assign(element, &self.offset);
        }
    }

    /// The number of a key, as an element of the grid's ring. `None` for keys that belong to no number.
    #[must_use]
    pub fn element(&self, key: &[u64]) -> Option<Vec<u64>> {
        let mut highest = self.offset.clone();
        self.ring.add_assign(&mut highest, &self.offset);
        if key.len() != self.limbs() || compare(key, &highest) != Ordering::Less || key.iter().all(|limb| *limb == 0) {
            return None;
        }
        let mut element = key.to_vec();
        self.ring.sub_assign(&mut element, &self.offset);
        Some(element)
    }

    /// The lowest key: below all numbers.
    #[must_use]
    pub fn below_all(&self) -> Vec<u64> {
        vec![0; self.limbs()]
    }

    /// The highest key: above all numbers.
    #[must_use]
    pub fn above_all(&self) -> Vec<u64> {
        let mut key = vec![0; self.limbs()];
        self.invert(&mut key);
        key
    }

    /// Reverses the order: every bit of the key is the other one.
    pub fn invert(&self, key: &mut [u64]) {
        for (index, limb) in key.iter_mut().enumerate() {
            let used = self.bits.saturating_sub(64 * index).min(64);
            let mask = if used == 64 { u64::MAX } else { (1 << used) - 1 };
            *limb = !*limb & mask;
        }
    }
}

/// Keys of one party in order. Private.
pub struct Sorted {
    limbs: usize,
    keys: Zeroizing<Vec<u64>>,
}

impl fmt::Debug for Sorted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sorted").finish_non_exhaustive()
    }
}

impl Sorted {
    /// Sorts numbers, given as elements of the grid's ring.
    #[must_use]
    pub fn new(space: &KeySpace, mut elements: Zeroizing<Vec<u64>>) -> Sorted {
        space.keys(&mut elements);
        let limbs = space.limbs();
        match limbs {
            1 => elements.sort_unstable(),
            2 => {
                let (pairs, _) = elements.as_chunks_mut::<2>();
                pairs.sort_unstable_by_key(|[low, high]| (*high, *low));
            }
            _ => {
                let mut order: Vec<&[u64]> = elements.chunks_exact(limbs).collect();
                order.sort_unstable_by(|a, b| compare(a, b));
                elements = Zeroizing::new(order.concat());
            }
        }
        Sorted { limbs, keys: elements }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.keys.len() / self.limbs) as u64
    }

    /// The lowest.
    #[must_use]
    pub fn first(&self) -> Option<&[u64]> {
        self.keys.get(..self.limbs)
    }

    /// How many are below `pivot`.
    #[must_use]
    pub fn below(&self, pivot: &[u64]) -> u64 {
        let (mut low, mut high) = (0, self.keys.len() / self.limbs);
        while low < high {
            let middle = low.midpoint(high);
            let key = &self.keys[middle * self.limbs..(middle + 1) * self.limbs];
            if compare(key, pivot) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low as u64
    }
}

/// Compares unsigned numbers of one length.
pub(crate) fn compare(a: &[u64], b: &[u64]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

fn bit_length(number: &[u64]) -> usize {
    let top = number.iter().rposition(|limb| *limb != 0);
    top.map_or(0, |index| 64 * (index + 1) - number[index].leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::number::Digits;
    use proptest::prelude::*;

    fn elements(grid: &Grid, numbers: &[&str]) -> Zeroizing<Vec<u64>> {
        let mut all = Zeroizing::new(Vec::new());
        for number in numbers {
            let mut element = vec![0; grid.ring().limbs()];
            grid.add_token(number.as_bytes(), &mut element).unwrap();
            all.extend(element);
        }
        all
    }

    #[test]
    fn keys_are_in_the_order_of_the_numbers_whatever_the_width() {
        let ordered = ["-99999999", "-3.5", "-0.01", "0", "0.01", "2", "99999999.99"];
        for digits in [(8, 2), (18, 12), (60, 60), (300, 300)] {
            let grid = Grid::new(Digits::new(digits.0, digits.1).unwrap());
            let space = KeySpace::new(&grid);
            let mut shuffled = ordered.to_vec();
            shuffled.reverse();
            shuffled.swap(1, 4);
            let sorted = Sorted::new(&space, elements(&grid, &shuffled));
            let limbs = space.limbs();
            assert_eq!(sorted.count(), 7);
            for (index, number) in ordered.iter().enumerate() {
                let key = &sorted.keys[index * limbs..(index + 1) * limbs];
                assert_eq!(space.element(key).unwrap(), *elements(&grid, &[number]), "{digits:?}");
                assert_eq!(sorted.below(key), index as u64);
                let mut other = key.to_vec();
                space.invert(&mut other);
                assert!(bit_length(&other) <= space.bits() && compare(&other, &space.below_all()) == Ordering::Greater);
            }
            assert_eq!(sorted.below(&space.above_all()), 7);
            assert_eq!(sorted.below(&space.below_all()), 0);
            assert_eq!(space.element(&space.above_all()), None);
            assert_eq!(space.element(&space.below_all()), None);
        }
        assert_eq!(KeySpace::new(&Grid::new(Digits::default())).bits(), 101);
    }

    proptest! {
        #[test]
        fn sorting_and_counting_are_those_of_integers(numbers in proptest::collection::vec(-9999i64..9999, 0..50), pivot in -9999i64..9999) {
            let grid = Grid::new(Digits::new(4, 0).unwrap());
            let space = KeySpace::new(&grid);
            let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let sorted = Sorted::new(&space, elements(&grid, &texts));
            let mut key = elements(&grid, &[&pivot.to_string()]);
            space.keys(&mut key);
            prop_assert_eq!(sorted.below(&key), numbers.iter().filter(|number| **number < pivot).count() as u64);
            let value = |key: &[u64]| space.element(key).unwrap()[0].cast_signed();
            prop_assert_eq!(sorted.first().map(value), numbers.iter().min().copied());
        }
    }
}
