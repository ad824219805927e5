//! Oblivious transfer.

use std::fmt;

use zeroize::Zeroizing;

/// Base oblivious transfers of one pair of parties, in both directions: one party's half.
pub struct Base {
    /// Known to both halves and to nobody else: tells whether two parties hold halves of the same.
    pub id: Zeroizing<[u8; 32]>,
}

impl Base {
    /// Known to both halves and to nobody else.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").finish_non_exhaustive()
    }
}
