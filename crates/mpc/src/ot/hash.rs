//! The hash that makes pads of rows: TMMO, H(x, i) = π(π(x) ⊕ i) ⊕ π(x), with AES-128 under a public key for π.
//!
//! Source: Guo, Katz, Wang, Yu: *Efficient and Secure Multiparty Computation from Fixed-Key Block Ciphers*, IEEE S&P 2020, section VII: a tweakable circular correlation
//! robust hash, if π is modelled as a random permutation.

use aes::Aes128;
use aes::cipher::consts::U16;
use aes::cipher::{
    Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, InOutBuf, KeyInit,
};
use zeroize::Zeroizing;

/// Blocks that are encrypted in one go: no backend of the cipher takes more.
pub(super) const BATCH: usize = 64;

/// TMMO with a public key.
pub(super) struct Hash(Aes128);

impl Hash {
    pub(super) fn new(key: [u8; 16]) -> Hash {
        Hash(Aes128::new(&key.into()))
    }

    /// Overwrites each block x with H(x, i), i counted from `first`.
    pub(super) fn apply(&self, blocks: &mut [u128], first: usize) {
        self.0.encrypt_with_backend(Apply { blocks, first });
    }
}

/// All batches of one call, with round keys that are loaded once.
struct Apply<'a> {
    blocks: &'a mut [u128],
    first: usize,
}

impl BlockSizeUser for Apply<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Apply<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let [mut once, mut twice] = [0; 2].map(|_| Zeroizing::new([[0; 16]; BATCH]));
        for (batch, blocks) in self.blocks.chunks_mut(BATCH).enumerate() {
            let (once, twice) = (&mut once[..blocks.len()], &mut twice[..blocks.len()]);
            for (bytes, block) in once.iter_mut().zip(&*blocks) {
                *bytes = block.to_le_bytes();
            }
            encrypt(backend, once);
            for (index, (tweaked, once)) in twice.iter_mut().zip(&*once).enumerate() {
                let tweak = (self.first + batch * BATCH + index) as u128;
                *tweaked = (u128::from_le_bytes(*once) ^ tweak).to_le_bytes();
            }
            encrypt(backend, twice);
            for ((block, once), twice) in blocks.iter_mut().zip(&*once).zip(&*twice) {
                *block = u128::from_le_bytes(*once) ^ u128::from_le_bytes(*twice);
            }
        }
    }
}

/// Encrypts each block by itself.
#[inline(always)]
pub(super) fn encrypt<B: BlockCipherEncBackend<BlockSize = U16>>(backend: &B, blocks: &mut [[u8; 16]]) {
    let blocks = InOutBuf::from(Block::<Aes128>::cast_slice_from_core_mut(blocks));
    let (many, rest) = blocks.into_chunks();
    many.into_iter().for_each(|blocks| backend.encrypt_par_blocks(blocks));
    rest.into_iter().for_each(|block| backend.encrypt_block(block));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another implementation of AES: `vectors/tmmo.py` does it again.
    #[test]
    fn known_answers() {
        let numbers = |line: &str| -> Vec<u128> {
            let fields = line.split_whitespace();
            fields
                .map(|field| u128::from_str_radix(field, 16).unwrap_or_default())
                .collect()
        };
        let lines = include_str!("../../../../vectors/tmmo.txt").lines();
        let mut count = 0;
        for line in lines.filter(|line| !line.starts_with('#')) {
            let [key, tweak, x, expected] = numbers(line)[..] else {
                unreachable!("four numbers in a line")
            };
            let mut block = [x];
            Hash::new(key.to_le_bytes()).apply(&mut block, tweak as usize);
            assert_eq!(block, [expected], "{line}");
            count += 1;
        }
        assert_eq!(count, 8);
    }

    #[test]
    fn tweaks_count_on_in_every_length() {
        let hash = Hash::new([7; 16]);
        for count in [1, 7, 8, 63, 64, 65, 200] {
            let mut together: Vec<u128> = (0..count as u128).map(|x| x << 90 | x).collect();
            let alone: Vec<u128> = together
                .iter()
                .enumerate()
                .map(|(index, x)| {
                    let mut block = [*x];
                    hash.apply(&mut block, 1000 + index);
                    block[0]
                })
                .collect();
            hash.apply(&mut together, 1000);
            assert_eq!(together, alone);
        }
    }
}
