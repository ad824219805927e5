//! What an extension is made of, one by one: for measurements. Not part of the interface.

use aes::Aes128;
use aes::cipher::KeyInit;

use super::base::COUNT;
use super::check::Digests;
use super::extension;
use super::hash::Hash;
use super::stream::{self, BLOCKS, Use};

/// Words of all columns that are worked on at once.
pub const PART: usize = BLOCKS * COUNT;

const USE: Use = Use {
    sid: [0; 32],
    sender: 0,
    receiver: 1,
    message: 0,
};

/// Streams of 128 base transfers.
#[derive(Debug)]
pub struct Streams(Vec<Aes128>);

impl Default for Streams {
    fn default() -> Streams {
        Streams((0..COUNT as u8).map(|index| Aes128::new(&[index; 16].into())).collect())
    }
}

impl Streams {
    /// Fills a part of all columns.
    pub fn write(&self, columns: &mut [u128; PART]) {
        let (nonce, mut scratch) = (USE.nonce(), stream::scratch());
        for (key, column) in self.0.iter().zip(columns.chunks_exact_mut(BLOCKS)) {
            nonce.write(key, 0, column, &mut scratch);
        }
    }
}

/// Columns become rows.
pub fn transpose(columns: &mut [u128; PART], copy: &mut [u128; PART]) {
    extension::rows(columns, copy);
}

/// Rows become pads.
pub fn hash(rows: &mut [u128; PART]) {
    Hash::new([0; 16]).apply(rows, 0);
}

/// Columns are hashed for the check.
pub fn digest(columns: &[u128; PART]) -> u128 {
    let mut digests = Digests::new([7; 16], COUNT);
    digests.update(columns);
    digests.finish().iter().fold(0, |all, digest| all ^ digest)
}

/// The challenge of a matrix.
pub fn challenge(matrix: &[u8]) -> [u8; 16] {
    USE.challenge(0, matrix)
}
