//! The layout of a record and its bounded decoder.
//!
//! All integers are little-endian. Every record begins with
//!
//! | bytes | field                                                             |
//! |-------|-------------------------------------------------------------------|
//! | 1     | kind: 0 data, 1 ack, 2 ping, 3 pong                                |
//! | 8     | cumulative acknowledgement: data records received so far, in order |
//!
//! and that is all of an ack, a ping or a pong. A data record goes on with
//!
//! | bytes | field                                                             |
//! |-------|-------------------------------------------------------------------|
//! | 8     | sequence number of the record, from 0                              |
//! | 16    | task                                                              |
//! | 1     | part: 0 middle, 1 first, 2 last, 3 only (a whole message), 4 abort |
//! | 8     | *first* parts only: length of the whole message                    |
//! | rest  | payload; empty for *abort*, never empty for first, middle and last |

use bytes::Bytes;

/// Identifies the task that a message belongs to.
pub type TaskId = [u8; 16];

/// The longest plaintext of one record: a Noise message has at most 65,535 bytes, 16 of which are its tag.
pub const MAX_RECORD: usize = 65_519;

/// Length of the header of a data record, and of one that begins a message of several parts.
pub(super) const DATA_HEADER: usize = 9 + 8 + 16 + 1;
pub(super) const FIRST_HEADER: usize = DATA_HEADER + 8;

/// How a peer broke the record protocol. The connection is to be closed; nothing else needs to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The record ends within its header.
    #[error("a record ends within its header")]
    Truncated,
    /// The record is longer than [`MAX_RECORD`].
    #[error("a record is longer than {MAX_RECORD} bytes")]
    Oversized,
    /// A record without payload is followed by further bytes.
    #[error("a record has surplus bytes")]
    Trailing,
    /// The first byte names no kind of record.
    #[error("record kind {0} is unknown")]
    UnknownKind(u8),
    /// A part of a message that cannot be where it is.
    #[error("a message is cut wrongly: {0}")]
    BadFragment(&'static str),
    /// A data record is missing.
    #[error("data record {found} came where {expected} was due")]
    Gap {
        /// The sequence number that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The peer acknowledges what was never sent.
    #[error("{acknowledged} data records are acknowledged, but only {sent} were sent")]
    AckAhead {
        /// What the peer says it received.
        acknowledged: u64,
        /// What was sent.
        sent: u64,
    },
    /// More messages are under way at once than allowed.
    #[error("too many messages are under way at once")]
    TooManyStreams,
    /// A [`Resume`] that does not have its length, or whose epoch is zero.
    #[error("the greeting of the link is malformed")]
    BadResume,
    /// A record came outside a connection.
    #[error("a record came while the link was not connected")]
    NotConnected,
}

/// What each side tells the other at the start of a connection, inside the encrypted channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The sender's incarnation; never zero.
    pub epoch: u64,
    /// The incarnation of the receiver that the sender last talked to.
    pub peer_epoch: Option<u64>,
    /// How many data records the sender has from that incarnation.
    pub received: u64,
}

impl Resume {
    /// Length of the encoding in bytes.
    pub const LEN: usize = 24;

    /// Three little-endian integers: epoch, the peer's epoch (0 for none), records received.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.peer_epoch.unwrap_or(0).to_le_bytes());
        bytes[16..].copy_from_slice(&self.received.to_le_bytes());
        bytes
    }

    /// Reads what [`Resume::encode`] wrote.
    ///
    /// # Errors
    /// [`Violation::BadResume`] for another length or an epoch of zero.
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| Violation::BadResume)?;
        let mut rest = &bytes[..];
        let (epoch, peer_epoch, received) = (take_u64(&mut rest)?, take_u64(&mut rest)?, take_u64(&mut rest)?);
        if epoch == 0 {
            return Err(Violation::BadResume);
        }
        Ok(Self {
            epoch,
            peer_epoch: (peer_epoch != 0).then_some(peer_epoch),
            received,
        })
    }
}

/// Which part of its message a data record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Middle,
    /// With the length of the whole message, which is more than this record holds.
    First(u64),
    Last,
    Only,
    /// The sender gives the rest of the message up.
    Abort,
}

impl Part {
    pub(super) fn header_len(self) -> usize {
        match self {
            Part::First(_) => FIRST_HEADER,
            _ => DATA_HEADER,
        }
    }

    fn code(self) -> u8 {
        match self {
            Part::Middle => 0,
            Part::First(_) => 1,
            Part::Last => 2,
            Part::Only => 3,
            Part::Abort => 4,
        }
    }
}

/// A data record as it is kept until the peer has acknowledged it. Its sequence number follows from its place.
pub(super) struct Cut {
    pub(super) task: TaskId,
    pub(super) part: Part,
    pub(super) payload: Bytes,
}

impl Cut {
    /// Bytes of the record's plaintext.
    pub(super) fn size(&self) -> usize {
        self.part.header_len() + self.payload.len()
    }
}

/// The records that carry nothing but their acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Ack,
    Ping,
    Pong,
}

/// Replaces the content of `out` by a record without payload.
pub(super) fn write_control(out: &mut Vec<u8>, control: Control, ack: u64) {
    let kind = match control {
        Control::Ack => 1,
        Control::Ping => 2,
        Control::Pong => 3,
    };
    out.clear();
    out.push(kind);
    out.extend_from_slice(&ack.to_le_bytes());
}

/// Replaces the content of `out` by a data record.
pub(super) fn write_data(out: &mut Vec<u8>, ack: u64, seq: u64, cut: &Cut) {
    out.clear();
    out.reserve(cut.size());
    out.push(0);
    out.extend_from_slice(&ack.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&cut.task);
    out.push(cut.part.code());
    if let Part::First(total) = cut.part {
        out.extend_from_slice(&total.to_le_bytes());
    }
    out.extend_from_slice(&cut.payload);
}

/// A decoded record, borrowing its payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) ack: u64,
    pub(super) body: Body<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Control(Control),
    Data {
        seq: u64,
        task: TaskId,
        part: Part,
        payload: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// Decodes one record. Whether the parts fit together is left to the reassembly.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_RECORD {
            return Err(Violation::Oversized);
        }
        let mut rest = bytes;
        let [kind] = take(&mut rest)?;
        let ack = take_u64(&mut rest)?;
        let body = match kind {
            0 => decode_data(rest)?,
            1..=3 if !rest.is_empty() => return Err(Violation::Trailing),
            1 => Body::Control(Control::Ack),
            2 => Body::Control(Control::Ping),
            3 => Body::Control(Control::Pong),
            unknown => return Err(Violation::UnknownKind(unknown)),
        };
        Ok(Record { ack, body })
    }
}

fn decode_data(mut rest: &[u8]) -> Result<Body<'_>, Violation> {
    let seq = take_u64(&mut rest)?;
    let task = take(&mut rest)?;
    let [code] = take(&mut rest)?;
    let part = match code {
        0 => Part::Middle,
        1 => Part::First(take_u64(&mut rest)?),
        2 => Part::Last,
        3 => Part::Only,
        4 => Part::Abort,
        _ => return Err(Violation::BadFragment("an unknown part")),
    };
    match part {
        Part::Only => {}
        Part::Abort if !rest.is_empty() => return Err(Violation::Trailing),
        Part::Abort => {}
        // Empty parts would let a peer keep us busy without getting anywhere.
        _ if rest.is_empty() => return Err(Violation::BadFragment("an empty part")),
        Part::First(total) if total <= rest.len() as u64 => {
            return Err(Violation::BadFragment("a first part that is the whole"));
        }
        _ => {}
    }
    Ok(Body::Data {
        seq,
        task,
        part,
        payload: rest,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Violation> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Violation::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, Violation> {
    take(rest).map(u64::from_le_bytes)
}
