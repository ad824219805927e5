//! The ring Z_2^bits with a width chosen at run time.
//!
//! An element is `limbs()` little-endian 64-bit words; a vector of elements is one flat slice, so that masks and sums
//! run over contiguous memory. Elements are kept reduced: bits at or above the width are zero.

/// Widest supported ring, in bits.
pub const MAX_BITS: u32 = 4096;
/// Limbs of an element of the widest ring.
pub const MAX_LIMBS: usize = MAX_BITS as usize / 64;

/// The ring Z_2^bits, 1 ≤ bits ≤ 4096.
///
/// All operations take flat slices that hold whole vectors: the length is elements × [`Ring::limbs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    bits: u32,
}

impl Ring {
    /// The ring of that width; `None` unless 1 ≤ bits ≤ 4096.
    #[must_use]
    pub const fn new(bits: u32) -> Option<Ring> {
        if bits == 0 || bits > MAX_BITS {
            return None;
        }
        Some(Ring { bits })
    }

    /// Width in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// 64-bit words per element.
    #[must_use]
    pub const fn limbs(self) -> usize {
        self.bits.div_ceil(64) as usize
    }

    /// Bytes per encoded element.
    #[must_use]
    pub const fn element_bytes(self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    /// `acc += x`, element by element.
    pub fn add_assign(self, acc: &mut [u64], x: &[u64]) {
        self.check(acc, x);
        match self.limbs() {
            1 => {
                for (a, &b) in acc.iter_mut().zip(x) {
                    *a = a.wrapping_add(b);
                }
            }
            2 => pairwise(acc, x, u128::wrapping_add),
            limbs => {
                for (a, b) in acc.chunks_exact_mut(limbs).zip(x.chunks_exact(limbs)) {
                    add_wide(a, b);
                }
            }
        }
        self.reduce(acc);
    }

    /// `acc -= x`, element by element.
    pub fn sub_assign(self, acc: &mut [u64], x: &[u64]) {
        self.check(acc, x);
        match self.limbs() {
            1 => {
                for (a, &b) in acc.iter_mut().zip(x) {
                    *a = a.wrapping_sub(b);
                }
            }
            2 => pairwise(acc, x, u128::wrapping_sub),
            limbs => {
                for (a, b) in acc.chunks_exact_mut(limbs).zip(x.chunks_exact(limbs)) {
                    sub_wide(a, b);
                }
            }
        }
        self.reduce(acc);
    }

    /// `acc = -acc`, element by element.
    pub fn neg_assign(self, acc: &mut [u64]) {
        self.check(acc, acc);
        for element in acc.chunks_exact_mut(self.limbs()) {
            let mut carry = true;
            for limb in element {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        self.reduce(acc);
    }

    /// Clears all bits at or above the width, in every element.
    pub fn reduce(self, v: &mut [u64]) {
        let mask = self.top_mask();
        if mask == u64::MAX {
            return;
        }
        for element in v.chunks_exact_mut(self.limbs()) {
            if let Some(top) = element.last_mut() {
                *top &= mask;
            }
        }
    }

    /// Appends `element_bytes` little-endian bytes for each element.
    pub fn encode(self, v: &[u64], out: &mut Vec<u8>) {
        self.check(v, v);
        let (limbs, bytes) = (self.limbs(), self.element_bytes());
        out.reserve(v.len() / limbs * bytes);
        if bytes == limbs * 8 {
            out.extend(v.iter().flat_map(|limb| limb.to_le_bytes()));
            return;
        }
        for element in v.chunks_exact(limbs) {
            out.extend(element.iter().flat_map(|l| l.to_le_bytes()).take(bytes));
        }
    }

    /// Reads exactly `elements` encoded elements.
    ///
    /// `None` if the length is not exactly right (checked before anything is allocated) or an element is not reduced:
    /// every element has one encoding only.
    #[must_use]
    pub fn decode(self, bytes: &[u8], elements: usize) -> Option<Vec<u64>> {
        if bytes.len() != elements.checked_mul(self.element_bytes())? {
            return None;
        }
        let mut v = Vec::with_capacity(elements.checked_mul(self.limbs())?);
        let mask = self.top_mask();
        for element in bytes.chunks_exact(self.element_bytes()) {
            let mut top = 0;
            for limb in element.chunks(8) {
                let mut word = [0; 8];
                word[..limb.len()].copy_from_slice(limb);
                top = u64::from_le_bytes(word);
                v.push(top);
            }
            if top & !mask != 0 {
                return None;
            }
        }
        Some(v)
    }

    /// Which bits of an element's highest limb belong to the ring.
    const fn top_mask(self) -> u64 {
        match self.bits % 64 {
            0 => u64::MAX,
            used => (1 << used) - 1,
        }
    }

    fn check(self, acc: &[u64], x: &[u64]) {
        debug_assert_eq!(acc.len(), x.len(), "vectors of one length");
        debug_assert_eq!(acc.len() % self.limbs(), 0, "whole elements");
    }
}

fn pairwise(acc: &mut [u64], x: &[u64], op: impl Fn(u128, u128) -> u128) {
    let (acc, _) = acc.as_chunks_mut::<2>();
    let (x, _) = x.as_chunks::<2>();
    for (a, &b) in acc.iter_mut().zip(x) {
        *a = split(op(join(*a), join(b)));
    }
}

fn join([low, high]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

fn split(x: u128) -> [u64; 2] {
    [x as u64, (x >> 64) as u64]
}

fn add_wide(acc: &mut [u64], x: &[u64]) {
    let mut carry = false;
    for (a, &b) in acc.iter_mut().zip(x) {
        let (sum, over) = a.overflowing_add(b);
        let (sum, over_again) = sum.overflowing_add(u64::from(carry));
        *a = sum;
        carry = over | over_again;
    }
}

fn sub_wide(acc: &mut [u64], x: &[u64]) {
    let mut borrow = false;
    for (a, &b) in acc.iter_mut().zip(x) {
        let (difference, under) = a.overflowing_sub(b);
        let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
        *a = difference;
        borrow = under | under_again;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The same sum by bytes: an oracle with other carries than the code under test.
    fn sum_by_bytes(a: &[u64], b: &[u64], bits: u32) -> Vec<u64> {
        let bytes = |v: &[u64]| v.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<u8>>();
        let mut carry = 0_u16;
        let mut sum: Vec<u8> = bytes(a)
            .iter()
            .zip(bytes(b))
            .map(|(&x, y)| {
                let s = u16::from(x) + u16::from(y) + carry;
                carry = s >> 8;
                s as u8
            })
            .collect();
        for bit in bits as usize..sum.len() * 8 {
            sum[bit / 8] &= !(1 << (bit % 8));
        }
        sum.chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn widths() {
        assert_eq!(Ring::new(0), None);
        assert_eq!(Ring::new(4097), None);
        for (bits, limbs, bytes) in [
            (1, 1, 1),
            (4, 1, 1),
            (64, 1, 8),
            (65, 2, 9),
            (2048, 32, 256),
            (4096, 64, 512),
        ] {
            let ring = Ring::new(bits).unwrap();
            assert_eq!((ring.limbs(), ring.element_bytes()), (limbs, bytes));
        }
    }

    #[test]
    fn the_ring_of_sixteen_elements_exhaustively() {
        let ring = Ring::new(4).unwrap();
        for a in 0..16 {
            for b in 0..16 {
                let mut sum = [a, b];
                ring.add_assign(&mut sum, &[b, a]);
                assert_eq!(sum, [(a + b) % 16; 2]);
                let mut difference = [a];
                ring.sub_assign(&mut difference, &[b]);
                assert_eq!(difference, [(16 + a - b) % 16]);
            }
            let mut negative = [a];
            ring.neg_assign(&mut negative);
            assert_eq!(negative, [(16 - a) % 16]);
            let mut bytes = Vec::new();
            ring.encode(&[a], &mut bytes);
            assert_eq!(bytes, [a as u8]);
        }
        for byte in 0..=255_u8 {
            assert_eq!(ring.decode(&[byte], 1).is_some(), byte < 16);
        }
    }

    #[test]
    fn wrong_lengths_are_not_decoded() {
        let ring = Ring::new(128).unwrap();
        assert_eq!(ring.decode(&[0; 32], 2), Some(vec![0; 4]));
        assert_eq!(ring.decode(&[0; 31], 2), None);
        assert_eq!(ring.decode(&[0; 33], 2), None);
        assert_eq!(ring.decode(&[], usize::MAX), None);
        assert_eq!(ring.decode(&[], 0), Some(vec![]));
    }

    proptest! {
        #[test]
        fn addition_subtraction_negation_and_encoding(
            bits in prop_oneof![1..=4096_u32, Just(64), Just(128), Just(192)],
            seed in proptest::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 256),
        ) {
            let ring = Ring::new(bits).unwrap();
            let limbs = ring.limbs();
            let (mut a, mut b) = (seed[..2 * limbs].to_vec(), seed[256 - 2 * limbs..].to_vec());
            ring.reduce(&mut a);
            ring.reduce(&mut b);
            let mut sum = a.clone();
            ring.add_assign(&mut sum, &b);
            for i in 0..2 {
                let one = i * limbs..(i + 1) * limbs;
                prop_assert_eq!(&sum[one.clone()], sum_by_bytes(&a[one.clone()], &b[one], bits));
            }
            let mut bytes = vec![7];
            ring.encode(&sum, &mut bytes);
            prop_assert_eq!(ring.decode(&bytes[1..], 2), Some(sum.clone()));

            let mut negative = b.clone();
            ring.neg_assign(&mut negative);
            ring.sub_assign(&mut sum, &b);
            prop_assert_eq!(&sum, &a);
            ring.add_assign(&mut negative, &b);
            prop_assert!(negative.iter().all(|&l| l == 0));
        }
    }
}
