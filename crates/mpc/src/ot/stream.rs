//! Streams of pseudorandom blocks from the keys of base transfers, and everything else that is new in each use of them.
//!
//! Block i of a stream is AES_k(AES_k(AES_k(n₁) ⊕ n₂) ⊕ i): the CBC-MAC under the base key k of three blocks, of which n₁ and n₂ are a hash of session, direction and number
//! of the message. CBC-MAC of messages of one length is a pseudorandom function (Bellare, Kilian, Rogaway: *The Security of the Cipher Block Chaining Message
//! Authentication Code*, JCSS 2000), up to q² / 2^128 for q blocks. So no part of a stream ever comes again, however often base transfers serve. Whoever
//! influences session ids would have to find a collision of 256 bits; a counter that begins at a hash of fewer bits could be made to meet an earlier one.
//! A key of its own for each stream would have to be expanded, which costs more than a small number of transfers themselves.

use aes::Aes128;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser};
use zeroize::Zeroizing;

use super::hash::{BATCH, Hash, encrypt};

/// Blocks of one stream that are made at once.
pub(super) const BLOCKS: usize = BATCH;

/// One use of base transfers in one direction: what streams, hash and challenge depend on beside the keys.
#[derive(Clone, Copy)]
pub(super) struct Use {
    pub(super) sid: [u8; 32],
    pub(super) sender: u16,
    pub(super) receiver: u16,
    /// Its number on the channel of the pair.
    pub(super) message: u32,
}

impl Use {
    fn hasher(&self, context: &str) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.sid);
        hasher
            .update(&self.sender.to_le_bytes())
            .update(&self.receiver.to_le_bytes())
            .update(&self.message.to_le_bytes());
        hasher
    }

    pub(super) fn nonce(&self) -> Nonce {
        let nonce = self
            .hasher("fdrtd 2026-11 oblivious transfer, streams, version 2")
            .finalize();
        Nonce(halves(nonce.as_bytes()))
    }

    pub(super) fn hash(&self) -> Hash {
        let key = self
            .hasher("fdrtd 2026-11 oblivious transfer, hash, version 2")
            .finalize();
        Hash::new(halves(key.as_bytes())[0])
    }

    /// What the columns are checked with: known only when the matrix of so many transfers is.
    pub(super) fn challenge(&self, count: usize, matrix: &[u8]) -> [u8; 16] {
        let mut hasher = self.hasher("fdrtd 2026-11 oblivious transfer, challenge, version 2");
        hasher.update(&(count as u64).to_le_bytes()).update(matrix);
        halves(hasher.finalize().as_bytes())[0]
    }
}

/// What tells the streams of one use from those of all others.
#[derive(Clone, Copy)]
pub(super) struct Nonce([[u8; 16]; 2]);

/// Room to encrypt in.
pub(super) type Scratch = Zeroizing<[[u8; 16]; BLOCKS]>;

pub(super) fn scratch() -> Scratch {
    Zeroizing::new([[0; 16]; BLOCKS])
}

impl Nonce {
    /// Writes up to [`BLOCKS`] blocks of the stream of that key, from block `first` on.
    pub(super) fn write(&self, key: &Aes128, first: usize, out: &mut [u128], scratch: &mut Scratch) {
        let (nonce, scratch) = (&self.0, &mut scratch[..out.len()]);
        key.encrypt_with_backend(Write {
            nonce,
            first,
            out,
            scratch,
        });
    }
}

/// One call, with round keys that are loaded once.
struct Write<'a> {
    nonce: &'a [[u8; 16]; 2],
    first: usize,
    out: &'a mut [u128],
    scratch: &'a mut [[u8; 16]],
}

impl BlockSizeUser for Write<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Write<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut state = 0;
        for nonce in self.nonce {
            let mut block = (state ^ u128::from_le_bytes(*nonce)).to_le_bytes().into();
            backend.encrypt_block_inplace(&mut block);
            state = u128::from_le_bytes(block.into());
        }
        for (index, block) in self.scratch.iter_mut().enumerate() {
            *block = (state ^ (self.first + index) as u128).to_le_bytes();
        }
        encrypt(backend, self.scratch);
        for (out, block) in self.out.iter_mut().zip(&*self.scratch) {
            *out = u128::from_le_bytes(*block);
        }
    }
}

fn halves(digest: &[u8; 32]) -> [[u8; 16]; 2] {
    [0, 1].map(|half| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[16 * half..][..16]);
        bytes
    })
}
