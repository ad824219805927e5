//! Transposition of 128 × 128 bits, by swapping ever smaller squares (Eklundh 1972; Warren, *Hacker's Delight*, section 7-3).

/// Bit j of word i and bit i of word j change places.
pub(crate) fn transpose(rows: &mut [u128; 128]) {
    let mut quarters = [[0u64; 64]; 4];
    let [a, b, c, d] = &mut quarters;
    for (index, row) in rows.iter().enumerate() {
        let (low, high) = (*row as u64, (*row >> 64) as u64);
        let (left, right) = if index < 64 {
            (&mut *a, &mut *b)
        } else {
            (&mut *c, &mut *d)
        };
        left[index % 64] = low;
        right[index % 64] = high;
    }
    quarters.iter_mut().for_each(transpose_64);
    let [a, b, c, d] = &quarters;
    for (index, row) in rows.iter_mut().enumerate() {
        let (low, high) = if index < 64 { (a, c) } else { (b, d) };
        *row = u128::from(high[index % 64]) << 64 | u128::from(low[index % 64]);
    }
    zeroize::Zeroize::zeroize(&mut quarters);
}

fn transpose_64(rows: &mut [u64; 64]) {
    swap::<32>(rows, 0x0000_0000_ffff_ffff);
    swap::<16>(rows, 0x0000_ffff_0000_ffff);
    swap::<8>(rows, 0x00ff_00ff_00ff_00ff);
    swap::<4>(rows, 0x0f0f_0f0f_0f0f_0f0f);
    swap::<2>(rows, 0x3333_3333_3333_3333);
    swap::<1>(rows, 0x5555_5555_5555_5555);
}

/// Swaps squares of that size; with the size known the compiler makes vector instructions of it.
#[inline]
fn swap<const SIZE: usize>(rows: &mut [u64; 64], low: u64) {
    for pair in rows.chunks_exact_mut(2 * SIZE) {
        let (upper, lower) = pair.split_at_mut(SIZE);
        for (a, b) in upper.iter_mut().zip(lower) {
            let change = ((*a >> SIZE) ^ *b) & low;
            *a ^= change << SIZE;
            *b ^= change;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bit_changes_its_place(rows in proptest::collection::vec(any::<u128>(), 128)) {
            let mut turned: [u128; 128] = std::array::from_fn(|index| rows[index]);
            transpose(&mut turned);
            for (i, row) in rows.iter().enumerate() {
                for (j, column) in turned.iter().enumerate() {
                    prop_assert_eq!(row >> j & 1, column >> i & 1);
                }
            }
        }
    }
}
