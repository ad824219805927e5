//! For tests: a microprotocol that computes nothing, with as many rounds as wanted, that makes base oblivious transfers where it is given none and tells
//! each owner something of its own.
#![allow(clippy::unwrap_used)]

use fdrtd_mpc::microprotocol::{Configured, Entry, Microprotocol, Refusal, Release, SeeRow, Shape};
use fdrtd_mpc::net::{Abort, Net, message};
use fdrtd_mpc::number::Digits;
use fdrtd_mpc::opening::Opens;
use fdrtd_mpc::threshold::Thresholds;
use fdrtd_mpc::wire::Malformed;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use std::sync::Arc;

use super::Party;

pub(crate) static REHEARSAL: Entry = Entry::of::<Rehearsal>();

/// Ready to use: in sessions and tasks it may go under any name.
pub(crate) fn configured(params: &Params) -> Configured {
    REHEARSAL.configure(&serde_json::to_string(params).unwrap()).unwrap()
}

/// What it does.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Params {
    /// Rounds of broadcasts.
    pub(crate) rounds: u32,
    /// Bytes of each message.
    pub(crate) bytes: usize,
    /// Bytes that the longest message may have.
    pub(crate) longest: usize,
    /// Before each round, every pair exchanges a message of its own.
    pub(crate) pairs: bool,
    /// Work that is announced before each round.
    pub(crate) work: usize,
    /// What is told to the owner is no JSON.
    pub(crate) broken: bool,
}

struct Rehearsal;

#[derive(Serialize)]
struct Output {
    rounds: u32,
    thresholds: [u64; 4],
}

impl Microprotocol for Rehearsal {
    const NAME: &'static str = "Rehearsal";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Order];
    const OPENS: &'static [Opens] = &[];
    const COMPARES: bool = true;
    type Params = Params;
    type Input = ();
    type Output = serde_json::Value;

    fn params(json: &str) -> Result<Params, Refusal> {
        Ok(serde_json::from_str(json).unwrap())
    }

    fn canonical(params: &Params) -> String {
        serde_json::to_string(params).unwrap()
    }

    fn input(_params: &Params, _parties: usize, _texts: &[&str]) -> Result<(), Refusal> {
        Ok(())
    }

    fn rounds(params: &Params, _parties: usize, _thresholds: &Thresholds) -> u32 {
        params.rounds
    }

    fn shape(params: &Params, _parties: usize, (): &()) -> Shape {
        Shape {
            text: "anything".to_owned(),
            exact: "anything".to_owned(),
            message_bytes: params.longest.max(params.bytes),
        }
    }

    fn digits(_params: &Params) -> Option<Digits> {
        None
    }

    fn samples((): &()) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(vec![1000])
    }

    fn rows(_params: &Params, _texts: &[&str], _see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    async fn run(params: Params, (): (), net: &mut Net) -> Result<serde_json::Value, Abort> {
        let peers: Vec<Party> = net.peers().collect();
        let mut warm = Vec::new();
        for peer in &peers {
            let held = net.session().bases.get(peer.index()).cloned().flatten();
            let id = match held {
                Some(base) => {
                    warm.push(peer.index());
                    *base.id()
                }
                None => {
                    let id = net.session().pair_key("rehearsal", *peer, 0);
                    net.keep_base(*peer, Arc::new(fdrtd_mpc::sim::base(*id)));
                    *id
                }
            };
            // Both have a half of the same, or the pair disagrees.
            let mut payload = message(32);
            payload.extend_from_slice(&id);
            let same = |_, theirs: &[u8]| if theirs == id { Ok(()) } else { Err(Malformed::Value) };
            net.exchange(vec![(*peer, payload)], 32, same).await?;
        }
        for _ in 0..params.rounds {
            net.work_ahead(params.work).await;
            for peer in peers.iter().filter(|_| params.pairs) {
                net.exchange(vec![(*peer, message(0))], 0, |_, _| Ok(())).await?;
            }
            let mut payload = message(params.bytes);
            payload.resize(fdrtd_mpc::net::HEADER + params.bytes, 7);
            net.broadcast_unverified(payload, params.bytes, |_, _| Ok(())).await?;
        }
        let own = json!({"party": net.session().me.index(), "warm": warm}).to_string();
        net.tell_owner(Zeroizing::new(if params.broken { "{".to_owned() } else { own }));
        let wanted = net.session().thresholds;
        let thresholds = [wanted.samples_total, wanted.samples_others, wanted.cell, wanted.beyond];
        let output = Output {
            rounds: params.rounds,
            thresholds,
        };
        Ok(serde_json::to_value(&output).unwrap())
    }
}
