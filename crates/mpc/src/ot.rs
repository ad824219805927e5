//! Oblivious transfer among all pairs of a session's parties: one party offers two random pads, the other one has the one of its choice; the first does not learn which, the
//! second not the other one.
//!
//! - `base.rs`: 128 transfers in each direction of a pair with public-key cryptography, in one round; once for a pair of connections.
//! - `extension.rs`: from them any number with symmetric cryptography, in one message. Its parts: `stream.rs`, `transpose.rs`, `hash.rs`, `check.rs`.
//! - What each party sees, and why that is simulatable, stands there.
//!
//! **Adversary**: any number of colluding parties. The protocols that use these pads are secure against semi-honest ones only; the transfers themselves are made for parties that
//! deviate, because base transfers serve many sessions: whoever learned a sender's Δ in one of them, by deviating, would see through all its pads in every later one, without
//! deviating again and without anybody's noticing. A matrix that no choices give could tell Δ bit by bit, from whether results are wrong (which all see alike, so
//! that closing digests agree). Therefore the sender checks the receiver's matrix (`check.rs`), and base transfers are dropped when a session ends without a confirmed result.

mod base;
mod check;
mod extension;
mod hash;
#[doc(hidden)]
pub mod parts;
mod stream;
mod transpose;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aes::Aes128;
use aes::cipher::KeyInit;
use zeroize::{Zeroize, Zeroizing};

use crate::net::{Abort, Fault, Net, Party, message};
use crate::wire::Malformed;
pub(crate) use transpose::transpose;

use base::{Context, Keys};
use stream::Use;

/// Bytes of the message that makes base transfers.
pub const BASE_BYTES: usize = base::MESSAGE;

/// About how many bytes could be gone through in the time of half a transfer, and in that of making base transfers with one peer.
const WORK: usize = 40;
const BASE_WORK: usize = 20_000_000;

/// Base oblivious transfers of one pair of parties, in both directions: one party's half. It may serve many sessions, also at once.
pub struct Base {
    id: Zeroizing<[u8; 32]>,
    delta: Zeroizing<u128>,
    /// Of base transfers in which this party chose: the generator of its choice. They expand their keys once, and erase themselves.
    chosen: Vec<Aes128>,
    /// Of those in which the peer chose: both.
    offered: Vec<[Aes128; 2]>,
    /// The peer was found out in some session: nothing more must be told with these, whatever other sessions have under way.
    spoiled: AtomicBool,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").finish_non_exhaustive()
    }
}

impl Base {
    /// Known to both halves and to nobody else: tells whether two parties hold halves of the same.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// Both halves, made by one who knows all: only good for tests and measurements. See [`crate::sim::warm`].
    pub(crate) fn dealt(coins: &mut blake3::OutputReader) -> [Base; 2] {
        let mut bytes = || {
            let mut bytes = Zeroizing::new([0; 32]);
            coins.fill(&mut bytes[..]);
            bytes
        };
        let id = bytes();
        let mut side = || {
            let offered: Vec<[base::Key; 2]> = (0..base::COUNT).map(|_| [bytes(), bytes()]).collect();
            let mut delta = Zeroizing::new([0; 16]);
            delta.copy_from_slice(&bytes()[..16]);
            let delta = Zeroizing::new(u128::from_le_bytes(*delta));
            let choice = |(index, keys): (usize, &[base::Key; 2])| keys[(*delta >> index & 1) as usize].clone();
            let chosen = offered.iter().enumerate().map(choice).collect();
            (offered, delta, chosen)
        };
        let (first_offered, second_choices, second_chosen) = side();
        let (second_offered, first_choices, first_chosen) = side();
        let half = |choices, chosen, offered| {
            let keys = Keys {
                choices,
                chosen,
                offered,
            };
            Base::new(id.clone(), keys)
        };
        [
            half(first_choices, first_chosen, first_offered),
            half(second_choices, second_chosen, second_offered),
        ]
    }

    /// The same with another id: only good for tests. See [`crate::sim::base`].
    pub(crate) fn with_id(mut self, id: [u8; 32]) -> Base {
        self.id = Zeroizing::new(id);
        self
    }

    fn new(id: Zeroizing<[u8; 32]>, keys: Keys) -> Base {
        let generator = |key: &base::Key| {
            let mut short = Zeroizing::new([0; 16]);
            short.copy_from_slice(&key[..16]);
            Aes128::new((&*short).into())
        };
        Base {
            id,
            delta: keys.choices,
            chosen: keys.chosen.iter().map(generator).collect(),
            offered: keys
                .offered
                .iter()
                .map(|[one, other]| [generator(one), generator(other)])
                .collect(),
            spoiled: AtomicBool::new(false),
        }
    }

    /// The sender's pads, unless the peer deviates here or did so in another session. Every failure tells it something about Δ; after the first one nothing more does,
    /// however many sessions it cheats in at once: what comes out is decided by the order in which the flag is set and looked at.
    fn sender_pads(&self, usage: &Use, message: &[u8], count: usize) -> Option<Zeroizing<Vec<[u128; 2]>>> {
        let pads = extension::sender_pads(&self.chosen, *self.delta, usage, message, count);
        if pads.is_none() {
            self.spoiled.store(true, Ordering::SeqCst);
        }
        pads.filter(|_| !self.spoiled.load(Ordering::SeqCst))
    }
}

/// Random pads of one pair of parties.
pub struct Pads {
    /// Of the transfers in which this party chooses: the pad of its choice.
    pub chosen: Zeroizing<Vec<u128>>,
    /// Of those in which the peer chooses: both.
    pub offered: Zeroizing<Vec<[u128; 2]>>,
}

impl fmt::Debug for Pads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pads").finish_non_exhaustive()
    }
}

/// Oblivious transfer with every peer of a session.
#[derive(Debug)]
pub struct Ot {
    bases: Vec<(Party, Arc<Base>)>,
}

impl Ot {
    /// Takes the base transfers that the session has, and makes those that it has not: one round with these peers only.
    ///
    /// # Errors
    /// A peer's message that is not made of points.
    pub async fn new(net: &mut Net) -> Result<Ot, Abort> {
        let known = |net: &Net, peer: Party| net.session().bases.get(peer.index()).cloned().flatten();
        let cold: Vec<Party> = net.peers().filter(|peer| known(net, *peer).is_none()).collect();
        if !cold.is_empty() {
            make(net, &cold).await?;
        }
        let all = net.peers().map(|peer| Some((peer, known(net, peer)?)));
        let bases = all
            .collect::<Option<Vec<_>>>()
            .ok_or(Abort::Internal("no base transfers"))?;
        Ok(Ot { bases })
    }

    /// One round: `count` random transfers with every peer in each direction. Bit j of `choices` is this party's choice in the j-th transfer with each of them.
    ///
    /// # Errors
    /// A peer's message of another length, or one that no choices give, here or earlier in another session with the same base transfers.
    pub async fn random(&mut self, net: &mut Net, choices: &[u64], count: usize) -> Result<Vec<(Party, Pads)>, Abort> {
        if choices.len() < count.div_ceil(64) {
            return Err(Abort::Internal("transfers without choices"));
        }
        let me = net.session().me;
        // Rounds follow whenever this key is taken: so the number of rounds is a new one each time.
        let coins = net
            .session()
            .own_key("oblivious transfer, covers of the check", net.round());
        let usage = |net: &Net, sender: Party, receiver: Party| Use {
            sid: net.session().sid,
            sender: sender.number(),
            receiver: receiver.number(),
            message: net.messages_with(if sender == me { receiver } else { sender }),
        };
        let bytes = Ot::message_bytes(count);
        let work = count.saturating_mul(self.bases.len()).saturating_mul(WORK);
        net.work_ahead(work).await;
        let mut payloads = Vec::with_capacity(self.bases.len());
        let mut uses = Vec::with_capacity(self.bases.len());
        let mut columns = Vec::with_capacity(self.bases.len());
        for (peer, base) in &self.bases {
            let (mine, theirs) = (usage(net, *peer, me), usage(net, me, *peer));
            let mut payload = message(bytes);
            let cover = cover(&coins, *peer);
            columns.push(extension::receive(
                &base.offered,
                &mine,
                choices,
                cover,
                count,
                &mut payload,
            ));
            payloads.push((*peer, payload));
            uses.push((mine, theirs));
        }
        let mut received: Vec<Vec<u8>> = self.bases.iter().map(|_| Vec::new()).collect();
        let bases = &self.bases;
        let round = net.exchange(payloads, bytes, |from, message| {
            let index = bases
                .iter()
                .position(|(peer, _)| *peer == from)
                .ok_or(Malformed::Value)?;
            if message.len() != bytes {
                return Err(Malformed::Short);
            }
            received[index] = message.to_vec();
            Ok(())
        });
        round.await?;
        net.work_ahead(work).await;
        let mut pads = Vec::with_capacity(self.bases.len());
        for (((peer, base), columns), ((mine, theirs), message)) in
            self.bases.iter().zip(columns).zip(uses.iter().zip(received))
        {
            let offered = base.sender_pads(theirs, &message, count);
            let offered = offered.ok_or(Abort::Peer(*peer, Fault::Inconsistent))?;
            let chosen = extension::receiver_pads(mine, columns, count);
            pads.push((*peer, Pads { chosen, offered }));
        }
        Ok(pads)
    }

    /// Bytes of the message of so many transfers.
    pub fn message_bytes(count: usize) -> usize {
        extension::message_bytes(count)
    }
}

/// A word for one peer, known to nobody else.
fn cover(coins: &[u8; 32], peer: Party) -> u128 {
    let mut bytes = Zeroizing::new([0; 16]);
    let mut hasher = blake3::Hasher::new_keyed(coins);
    let mut stream = hasher.update(&peer.number().to_le_bytes()).finalize_xof();
    stream.fill(&mut bytes[..]);
    hasher.zeroize();
    stream.zeroize();
    u128::from_le_bytes(*bytes)
}

/// Base transfers with these peers.
async fn make(net: &mut Net, peers: &[Party]) -> Result<(), Abort> {
    net.work_ahead(peers.len() * BASE_WORK).await;
    let me = net.session().me;
    let sid = net.session().sid;
    let context = |sender: Party, receiver: Party| Context {
        sid,
        sender: sender.number(),
        receiver: receiver.number(),
    };
    let started: Vec<(Party, base::Started)> = peers
        .iter()
        .map(|peer| {
            let coins = net
                .session()
                .own_key("base oblivious transfer", u32::from(peer.number()));
            (*peer, base::start(&context(*peer, me), &coins))
        })
        .collect();
    let payload = |(peer, started): &(Party, base::Started)| {
        let mut payload = message(BASE_BYTES);
        payload.extend_from_slice(started.message());
        (*peer, payload)
    };
    let payloads = started.iter().map(payload).collect();
    let ids = peers.iter().map(|peer| {
        net.session()
            .pair_key("base oblivious transfer, id", *peer, net.messages_with(*peer))
    });
    let ids: Vec<Zeroizing<[u8; 32]>> = ids.collect();
    let mut received: Vec<Vec<u8>> = peers.iter().map(|_| Vec::new()).collect();
    let round = net.exchange(payloads, BASE_BYTES, |from, message| {
        let index = peers.iter().position(|peer| *peer == from).ok_or(Malformed::Value)?;
        received[index] = message.to_vec();
        Ok(())
    });
    round.await?;
    net.work_ahead(peers.len() * BASE_WORK).await;
    for (((peer, own), received), key) in started.into_iter().zip(received).zip(ids) {
        let messages = if me < peer {
            [own.message(), &received]
        } else {
            [&received, own.message()]
        };
        let mut id = blake3::Hasher::new_keyed(&key);
        messages.into_iter().for_each(|message| {
            id.update(blake3::hash(message).as_bytes());
        });
        let keys = own.finish(&context(peer, me), &context(me, peer), &received);
        let keys = keys.map_err(|malformed| Abort::Peer(peer, malformed.into()))?;
        net.keep_base(
            peer,
            Arc::new(Base::new(Zeroizing::new(*id.finalize().as_bytes()), keys)),
        );
        id.zeroize();
    }
    Ok(())
}
