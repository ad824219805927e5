//! The messages of a session as bytes. Data messages are the engine's own ([`net::HEADER`]); they are only told apart here.

use bytes::Bytes;
use fdrtd_mpc::net;
use fdrtd_mpc::wire::{Malformed, Reader, put_text};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::descriptor::{Descriptor, MAX_BYTES};
use crate::policy::Rules;
use crate::reason::Reason;

pub(super) const HELLO: u8 = 1;
pub(super) const READY: u8 = 2;
pub(super) const DATA: u8 = net::KIND;
pub(super) const ABORT: u8 = 4;
pub(super) const RECEIPT: u8 = 5;

/// What a Hello of a task that this node has not joined says.
///
/// # Errors
/// Bytes that are no Hello.
pub fn peek_hello(message: &[u8]) -> Result<(Descriptor, Rules), Malformed> {
    let (hello, text) = Hello::decode(message)?;
    let descriptor = serde_json::from_str(text).map_err(|_| Malformed::Value)?;
    Ok((descriptor, hello.rules))
}

/// Whether a message asks to take part.
pub fn is_hello(message: &[u8]) -> bool {
    message.first() == Some(&HELLO)
}

/// Whether a message belongs to the computation.
pub fn is_data(message: &[u8]) -> bool {
    message.first() == Some(&DATA)
}

/// Whether a message ends its task.
pub fn is_abort(message: &[u8]) -> bool {
    message.first() == Some(&ABORT)
}

/// Whether a message is a signature of the receipt.
pub fn is_receipt(message: &[u8]) -> bool {
    message.first() == Some(&RECEIPT)
}

/// A party's part of a session: for all its rules and a nonce, for this peer a seed.
pub(super) struct Hello {
    pub(super) rules: Rules,
    /// Whether the sender has the receiver's Hello. If not, and it was sent, it was lost and is sent again.
    pub(super) has_ours: bool,
    pub(super) nonce: [u8; 32],
    pub(super) seed: Zeroizing<[u8; 32]>,
}

impl Hello {
    pub(super) fn encode(&self, descriptor: &str) -> Bytes {
        let [profile, rules @ ..] = self.rules.to_bytes();
        let mut message = vec![HELLO, profile, u8::from(self.has_ours)];
        message.extend_from_slice(&self.nonce);
        message.extend_from_slice(&self.seed[..]);
        message.extend_from_slice(&rules);
        put_text(&mut message, descriptor);
        Bytes::from(message)
    }

    /// With the text of the descriptor.
    pub(super) fn decode(message: &[u8]) -> Result<(Hello, &str), Malformed> {
        let mut reader = Reader::new(message);
        if reader.u8()? != HELLO {
            return Err(Malformed::Value);
        }
        let profile = reader.u8()?;
        let has_ours = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed::Value),
        };
        let nonce = reader.array()?;
        let seed = Zeroizing::new(reader.array()?);
        let rules = Rules::from_bytes(profile, &reader.array()?)?;
        let text = reader.text(MAX_BYTES)?;
        reader.end()?;
        let hello = Hello {
            rules,
            has_ours,
            nonce,
            seed,
        };
        Ok((hello, text))
    }

    pub(super) fn same_as(&self, other: &Hello) -> bool {
        self.rules == other.rules && self.nonce == other.nonce && bool::from(self.seed.ct_eq(&other.seed[..]))
    }
}

/// That a party has its input, and what it thinks this session is.
pub(super) struct Ready {
    pub(super) sid: [u8; 32],
    /// Digest of all keys.
    pub(super) keys: [u8; 32],
    /// Digest of the input's shape under the sid.
    pub(super) shape: [u8; 32],
    /// Digest of the secret of sender and receiver under the sid.
    pub(super) pair: [u8; 32],
    /// Digest of the base oblivious transfers that the sender holds together with the receiver, under the sid; zeros for none.
    pub(super) base: [u8; 32],
}

impl Ready {
    pub(super) fn encode(&self) -> Bytes {
        let mut message = vec![READY];
        for field in [&self.sid, &self.keys, &self.shape, &self.pair, &self.base] {
            message.extend_from_slice(field);
        }
        Bytes::from(message)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Ready, Malformed> {
        let mut reader = Reader::new(message);
        if reader.u8()? != READY {
            return Err(Malformed::Value);
        }
        let ready = Ready {
            sid: reader.array()?,
            keys: reader.array()?,
            shape: reader.array()?,
            pair: reader.array()?,
            base: reader.array()?,
        };
        reader.end()?;
        Ok(ready)
    }
}

/// The session that a data message says it belongs to.
pub(super) fn sid_of_data(message: &[u8]) -> Result<[u8; 32], Malformed> {
    let mut reader = Reader::new(message);
    if reader.u8()? != DATA {
        return Err(Malformed::Value);
    }
    reader.array()
}

/// `by` is the party that found the reason: whoever is told it passes it on.
pub(super) fn encode_abort(reason: &Reason, by: usize) -> Bytes {
    let mut message = vec![ABORT, u8::try_from(by).unwrap_or(u8::MAX)];
    message.extend_from_slice(serde_json::to_string(reason).unwrap_or_default().as_bytes());
    Bytes::from(message)
}

/// A reason that fits a task of so many parties, and the party that found it.
pub(super) fn decode_abort(message: &[u8], parties: usize) -> Result<(Reason, usize), Malformed> {
    let [ABORT, by, text @ ..] = message else {
        return Err(Malformed::Value);
    };
    let by = usize::from(*by);
    if text.len() > Reason::MAX_BYTES {
        return Err(Malformed::TooLong);
    }
    let reason: Reason = serde_json::from_slice(text).map_err(|_| Malformed::Value)?;
    if reason.fits(parties) && by < parties {
        Ok((reason, by))
    } else {
        Err(Malformed::Value)
    }
}
