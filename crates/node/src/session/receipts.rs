//! After a confirmed result: every party signs the receipt and tells the others. A party that lacks a signature asks for it with its own.
//!
//! The own signature is in the record of the result; the others hear of it a moment later, when whoever waits for the result has it.
//!
//! Nothing here can take the result back, and no message is answered by one that asks: there are no loops.

use bytes::Bytes;
use fdrtd_mpc::net::Party;
use fdrtd_mpc::wire::{Malformed, Reader};

use super::message::RECEIPT;
use super::{Phase, Session};
use crate::identity::Identity;
use crate::receipt::Receipt;

/// How often one peer is answered, and asked, in the life of this process: restarts are few, and a peer that asks without end gets nothing.
const ANSWERS: u8 = 8;
const QUESTIONS: u8 = 8;

/// What a session does about its receipt.
pub(super) struct Receipts {
    receipt: Option<Receipt>,
    /// The own signature is with the others, and theirs are looked at.
    exchanged: bool,
    /// By party: what came before that, and how often it was answered and asked.
    peers: Vec<Exchange>,
}

impl Receipts {
    pub(super) fn new(parties: usize) -> Receipts {
        Receipts {
            receipt: None,
            exchanged: false,
            peers: vec![Exchange::default(); parties],
        }
    }
}

#[derive(Clone, Default)]
struct Exchange {
    early: Option<Bytes>,
    answers: u8,
    questions: u8,
}

fn encode(lacking: bool, signature: &[u8; 64]) -> Bytes {
    let mut message = vec![RECEIPT, u8::from(lacking)];
    message.extend_from_slice(signature);
    Bytes::from(message)
}

fn decode(message: &[u8]) -> Result<(bool, [u8; 64]), Malformed> {
    let mut reader = Reader::new(message);
    if reader.u8()? != RECEIPT {
        return Err(Malformed::Value);
    }
    let lacking = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed::Value),
    };
    let signature = reader.array()?;
    reader.end()?;
    Ok((lacking, signature))
}

impl Session {
    /// The receipt, if the result is confirmed.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipts.receipt.as_ref()
    }

    /// Everybody has confirmed this result.
    pub(super) fn make_receipt(&mut self, result: &str) {
        let own = self.me.index();
        let keys: Option<Vec<_>> = self.peers.iter().map(|peer| peer.key).collect();
        let nonces: Option<Vec<_>> = self
            .peers
            .iter()
            .enumerate()
            .map(|(index, peer)| match &peer.hello {
                _ if index == own => Some(self.nonce),
                hello => hello.as_ref().map(|hello| hello.nonce),
            })
            .collect();
        if let (Some(keys), Some(nonces)) = (keys, nonces) {
            let rules = self.rules().rules.text();
            let receipt = Receipt::new(&self.descriptor, keys, rules, nonces.into_iter(), result);
            self.receipts.receipt = Some(receipt);
        }
    }

    /// Signs the receipt that was just made.
    pub fn sign_receipt(&mut self, identity: &Identity) {
        let own = self.me.index();
        if let Some(receipt) = &mut self.receipts.receipt {
            receipt.sign(own, identity);
        }
    }

    /// Tells the others the own signature, and takes theirs from then on. Doing it again changes nothing.
    pub fn exchange_signatures(&mut self) {
        if self.receipts.receipt.is_none() || std::mem::replace(&mut self.receipts.exchanged, true) {
            return;
        }
        let own = self.me.index();
        for party in Party::all(self.peers.len()).filter(|party| party.index() != own) {
            self.tell_signature(party, false);
            if let Some(early) = self.receipts.peers[party.index()].early.take() {
                // Its form was checked when it came.
                let _ = self.receive_receipt(party, &early);
            }
        }
    }

    /// Puts a receipt back that was there before a restart. Peers of an ended session are known by its keys.
    pub fn restore_receipt(&mut self, receipt: Receipt) {
        if receipt.keys().len() == self.peers.len() {
            for (peer, key) in self.peers.iter_mut().zip(receipt.keys()) {
                peer.key = Some(*key);
            }
            self.receipts.receipt = Some(receipt);
            self.receipts.exchanged = true;
        }
    }

    /// The parties whose signature is missing here.
    pub fn unsigned(&self) -> Vec<Party> {
        let lacks = |party: &Party| self.receipt().is_some_and(|receipt| !receipt.has(party.index()));
        Party::all(self.peers.len()).filter(lacks).collect()
    }

    /// Asks a peer for its signature if that is missing, a bounded number of times.
    pub fn ask_for_signature(&mut self, party: Party) {
        if self.unsigned().contains(&party)
            && let Some(exchange) = self.receipts.peers.get_mut(party.index())
            && exchange.questions < QUESTIONS
        {
            exchange.questions += 1;
            self.tell_signature(party, true);
        }
    }

    /// A peer's signature. Bytes of another form are no signature of a correct peer; one that does not hold is dropped, and stays missing.
    pub(super) fn receive_receipt(&mut self, from: Party, message: &Bytes) -> Result<(), Malformed> {
        let (lacking, signature) = decode(message)?;
        let index = from.index();
        let signed = self.receipts.receipt.is_some();
        if matches!(self.phase, Phase::Running(_)) || (signed && !self.receipts.exchanged) {
            // The last one counts; there is room for one.
            self.receipts.peers[index].early = Some(message.clone());
            return Ok(());
        }
        let Some(receipt) = &mut self.receipts.receipt else {
            return Ok(());
        };
        receipt.countersign(index, &signature);
        if lacking
            && let Some(exchange) = self.receipts.peers.get_mut(index)
            && exchange.answers < ANSWERS
        {
            exchange.answers += 1;
            self.tell_signature(from, false);
        }
        Ok(())
    }

    fn tell_signature(&mut self, party: Party, lacking: bool) {
        let own = self.me.index();
        if let Some(signature) = self.receipt().and_then(|receipt| receipt.signature(own)) {
            self.outgoing.push((party, encode(lacking, signature)));
        }
    }
}
