//! In how many rows two multisets differ, from a few numbers of each.
//!
//! Every row is a point h of the field GF(p), p = 2^61 − 1, by a keyed hash. Of a set of rows only the power sums s_j = Σ h^j are kept, j = 1 … 2·K − 1.
//! The difference of two sets' power sums is Σ c_i · h_i^j over the d rows in which they differ, c_i = ±1. The Hankel matrix of these numbers,
//! (s_{i+j+1}) for i, j < k, is Σ c_i · h_i · v_i · v_iᵀ with v_i = (1, h_i, …, h_i^(k−1)); its rank is d if d ≤ k, since the v_i are then independent
//! (Vandermonde). So the rank tells d as long as it is below k: the syndrome decoding of BCH codes, used for sets by Minsky, Trachtenberg and Zippel
//! (Set reconciliation with nearly optimal communication complexity, 2003) and by Dodis, Ostrovsky, Reyzin and Smith (Fuzzy extractors, 2008: PinSketch).
//!
//! **Errors.** Two of the d rows may have one hash: below d² / 2^62. If d > k, the determinant is not zero as a polynomial in the hashes (Cauchy-Binet) and has
//! the degree k², so it vanishes for random ones with a probability below k² / 2^61 (Schwartz-Zippel): below 2^−53 for k = 16. The first lets a
//! release pass, the second refuses one.

use super::MOST;

/// 2^61 − 1.
const P: u64 = (1 << 61) - 1;

/// How many power sums are kept.
pub const COUNT: usize = 2 * MOST - 1;

/// The power sums of a multiset of rows: s_1 first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PowerSums([u64; COUNT]);

impl std::fmt::Debug for PowerSums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PowerSums")
    }
}

fn reduce(value: u128) -> u64 {
    // value < 2^122, so both parts are below 2^61.
    #[allow(clippy::cast_possible_truncation)]
    let folded = (value & u128::from(P)) as u64 + (value >> 61) as u64;
    if folded >= P { folded - P } else { folded }
}

fn multiply(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) * u128::from(b))
}

fn add(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) + u128::from(b))
}

fn subtract(a: u64, b: u64) -> u64 {
    add(a, P - b)
}

/// a^(p − 2).
fn invert(a: u64) -> u64 {
    let (mut power, mut base, mut left) = (1, a, P - 2);
    while left > 0 {
        if left & 1 == 1 {
            power = multiply(power, base);
        }
        base = multiply(base, base);
        left >>= 1;
    }
    power
}

/// A point of the field that is not zero.
pub fn point(hash: &[u8; 32]) -> u64 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    #[allow(clippy::cast_possible_truncation)] // below 2^61
    let below = (u128::from_le_bytes(bytes) % u128::from(P - 1)) as u64;
    below + 1
}

impl PowerSums {
    /// Of nothing.
    pub const EMPTY: PowerSums = PowerSums([0; COUNT]);

    /// With one row more.
    pub fn insert(&mut self, point: u64) {
        let mut power = 1;
        for sum in &mut self.0 {
            power = multiply(power, point);
            *sum = add(*sum, power);
        }
    }

    /// In how many rows two multisets differ, if these are fewer than `least`, which is at most `MOST`.
    pub fn differing(&self, other: &PowerSums, least: usize) -> Option<usize> {
        let mut difference = [0; COUNT];
        for (index, slot) in difference.iter_mut().enumerate() {
            *slot = subtract(self.0[index], other.0[index]);
        }
        let size = least.min(MOST);
        let rank = rank(&difference, size);
        (rank < size).then_some(rank)
    }

    /// As they are stored.
    pub fn to_bytes(self) -> [u8; 8 * COUNT] {
        let mut bytes = [0; 8 * COUNT];
        for (slot, sum) in bytes.chunks_exact_mut(8).zip(self.0) {
            slot.copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// From what was stored.
    pub fn from_bytes(bytes: &[u8]) -> Option<PowerSums> {
        if bytes.len() != 8 * COUNT {
            return None;
        }
        let mut sums = [0; COUNT];
        for (sum, stored) in sums.iter_mut().zip(bytes.chunks_exact(8)) {
            *sum = u64::from_le_bytes(stored.try_into().ok()?);
        }
        sums.iter().all(|sum| *sum < P).then_some(PowerSums(sums))
    }
}

/// The rank of the Hankel matrix of that size, by Gauss.
fn rank(sums: &[u64; COUNT], size: usize) -> usize {
    let mut rows: Vec<Vec<u64>> = (0..size).map(|row| sums[row..row + size].to_vec()).collect();
    let mut rank = 0;
    for column in 0..size {
        let Some(pivot) = (rank..size).find(|row| rows[*row][column] != 0) else {
            continue;
        };
        rows.swap(rank, pivot);
        let (above, below) = rows.split_at_mut(rank + 1);
        let top = &above[rank];
        let inverse = invert(top[column]);
        for row in below {
            let factor = multiply(row[column], inverse);
            for (entry, of_top) in row.iter_mut().zip(top).skip(column) {
                *entry = subtract(*entry, multiply(factor, *of_top));
            }
        }
        rank += 1;
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_one() {
        for value in [1, 2, 3, P - 1, 1 << 60, 0x0123_4567_89ab_cdef % P] {
            assert_eq!(multiply(value, invert(value)), 1, "{value}");
            assert_eq!(add(value, P - value), 0);
            assert_eq!(subtract(value, value), 0);
        }
        assert_eq!(multiply(P - 1, P - 1), 1);
        assert_eq!(reduce(u128::from(P)), 0);
    }

    #[test]
    fn points_are_never_zero() {
        assert_eq!(point(&[0; 32]), 1);
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&(u128::from(P) - 1).to_le_bytes());
        assert_eq!(point(&hash), 1);
        assert!((1..P).contains(&point(&[0xff; 32])));
    }

    #[test]
    fn sums_are_read_back() {
        let mut sums = PowerSums::EMPTY;
        sums.insert(7);
        assert_eq!(PowerSums::from_bytes(&sums.to_bytes()), Some(sums));
        assert_eq!(PowerSums::from_bytes(&[0xff; 8 * COUNT]), None);
        assert_eq!(PowerSums::from_bytes(&[0; 8]), None);
    }
}
