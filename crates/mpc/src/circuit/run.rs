//! Evaluation and opening.

use zeroize::Zeroizing;

use super::lanes::{Lanes, Packed};
use super::triples::{Prepared, Triples};
use super::{Circuit, Layer};
use crate::mask::Prg;
use crate::net::{Abort, Net, Party, message};
use crate::opening::Way;

impl Circuit {
    /// Evaluates the circuit. `inputs` are this party's shares, one for each input bit; so are the returned ones of the outputs.
    ///
    /// Uses up the triples that were planned for this run. One round for each layer.
    ///
    /// # Errors
    /// A peer whose message has another length than the circuit wants; inputs or triples that do not fit (a mistake of the caller).
    pub async fn run(&self, net: &mut Net, triples: &mut Triples, inputs: &[Lanes]) -> Result<Vec<Lanes>, Abort> {
        let prepared = triples.next(self)?;
        if inputs.len() != self.inputs || inputs.iter().any(|input| input.lanes() != prepared.lanes) {
            return Err(Abort::Internal("inputs that do not fit the circuit"));
        }
        let mut evaluation = Evaluation::new(self, prepared, inputs, net.session().me.index() == 0);
        for layer in &self.layers {
            let mut opened = evaluation.masked(layer);
            let size = Packed::bytes(opened.bits());
            let mut payload = message(size);
            opened.encode(&mut payload);
            net.broadcast_unverified(payload, size, |_, bytes| opened.xor_message(bytes))
                .await?;
            evaluation.multiply(layer, &opened);
        }
        Ok(evaluation.outputs())
    }
}

/// One party's evaluation, layer by layer and without a network.
pub(super) struct Evaluation<'a> {
    circuit: &'a Circuit,
    prepared: Prepared,
    /// Constants are in the shares of the first party.
    first: bool,
    /// Shares, by wire.
    wires: Vec<Lanes>,
    /// What was opened, by mask.
    deltas: Vec<Lanes>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(circuit: &'a Circuit, prepared: Prepared, inputs: &[Lanes], first: bool) -> Evaluation<'a> {
        let mut wires = vec![Lanes::zeros(prepared.lanes)];
        wires.extend_from_slice(inputs);
        Evaluation {
            circuit,
            prepared,
            first,
            wires,
            deltas: Vec::with_capacity(circuit.masks),
        }
    }

    /// This party's shares of the layer's operands, each under its mask: to be broadcast and added to those of the others.
    pub(super) fn masked(&mut self, layer: &Layer) -> Packed {
        self.xors(&layer.xors);
        let mut opened = Packed::with_capacity(layer.opened.len() * self.prepared.lanes);
        for (wire, mask) in layer
            .opened
            .iter()
            .zip(&self.prepared.masks[layer.first_mask as usize..])
        {
            let masked = self.wires[*wire as usize].xor(mask);
            opened.push(masked.words(), masked.lanes());
        }
        opened
    }

    /// The layer's products, from the sum of everybody's masked shares.
    pub(super) fn multiply(&mut self, layer: &Layer, opened: &Packed) {
        let mut opened = opened.reader();
        for _ in &layer.opened {
            self.deltas.push(opened.next(self.prepared.lanes));
        }
        for [x, y] in &layer.products {
            let (x, y) = (*x as usize, *y as usize);
            // There are as many as products: see `Triples::next`.
            let Some(mut product) = self.prepared.products.pop_front() else {
                return;
            };
            product.add_product(&self.deltas[x], &self.prepared.masks[y]);
            product.add_product(&self.deltas[y], &self.prepared.masks[x]);
            if self.first {
                product.add_product(&self.deltas[x], &self.deltas[y]);
            }
            self.wires.push(product);
        }
    }

    /// This party's shares of the outputs. The same bits may be in many shares: they are not to be told as they are.
    pub(super) fn outputs(mut self) -> Vec<Lanes> {
        self.xors(&self.circuit.last);
        let outputs = self.circuit.outputs.iter().map(|bit| {
            let mut share = self.wires[bit.wire()].clone();
            if bit.inverted() && self.first {
                share.invert();
            }
            share
        });
        outputs.collect()
    }

    fn xors(&mut self, gates: &[(u32, u32)]) {
        for (a, b) in gates {
            let sum = self.wires[*a as usize].xor(&self.wires[*b as usize]);
            self.wires.push(sum);
        }
    }
}

/// Opens bits to all, in the order of `shares`: one round.
///
/// # Errors
/// A peer whose message has another length.
pub async fn open(net: &mut Net, shares: &[Lanes]) -> Result<Vec<Lanes>, Abort> {
    let mut opened = Packed::of(shares);
    hide(&mut opened, &mut zero_coins(net, "zero shares of opened bits"));
    let size = Packed::bytes(opened.bits());
    let mut payload = message(size);
    opened.encode(&mut payload);
    net.broadcast_unverified(payload, size, |_, bytes| opened.xor_message(bytes))
        .await?;
    Ok(unpacked(net, Way::Bits, &opened, shares))
}

/// Opens `shares[j]` to party j alone: one round. Returns what is opened to this party. Every party passes its shares of everything, so there is an entry for
/// each party, the own one included.
///
/// # Errors
/// A peer whose message has another length; another number of entries than parties (a mistake of the caller).
pub async fn open_to(net: &mut Net, shares: &[Vec<Lanes>]) -> Result<Vec<Lanes>, Abort> {
    let (me, parties) = (net.session().me, net.session().parties);
    if shares.len() != parties {
        return Err(Abort::Internal("bits to open for another number of parties"));
    }
    let mut coins = zero_coins(net, "zero shares of bits opened to one");
    let mut own = Packed::with_capacity(0);
    let mut payloads = Vec::with_capacity(parties - 1);
    for (party, shares) in Party::all(parties).zip(shares) {
        let mut opened = Packed::of(shares);
        hide(&mut opened, &mut coins);
        if party == me {
            own = opened;
        } else {
            let mut payload = message(Packed::bytes(opened.bits()));
            opened.encode(&mut payload);
            payloads.push((party, payload));
        }
    }
    drop(coins);
    net.exchange(payloads, Packed::bytes(own.bits()), |_, bytes| own.xor_message(bytes))
        .await?;
    Ok(unpacked(net, Way::OwnBits, &own, &shares[me.index()]))
}

/// For each peer what is shared with it alone, for one opening: the number of messages makes it another each time.
fn zero_coins(net: &Net, label: &str) -> Vec<impl FnMut(&mut [u64]) + use<>> {
    let coins = |peer: Party| {
        let mut prg = Prg::new(&net.session().pair_key(label, peer, net.messages_with(peer)));
        move |pad: &mut [u64]| prg.fill(pad)
    };
    net.peers().map(coins).collect()
}

/// Adds a share of zero: whatever this party shares with each of its peers, so that in the sum of all shares everything is there twice.
pub(super) fn hide(shares: &mut Packed, coins: &mut [impl FnMut(&mut [u64])]) {
    let mut pad = Zeroizing::new(vec![0; shares.words().len()]);
    for coins in coins {
        coins(&mut pad);
        shares.xor_words(&pad);
    }
}

fn unpacked(net: &mut Net, way: Way, opened: &Packed, like: &[Lanes]) -> Vec<Lanes> {
    let mut reader = opened.reader();
    let opened: Vec<Lanes> = like.iter().map(|share| reader.next(share.lanes())).collect();
    net.opened(way, || {
        let bits = |one: &Lanes| {
            (0..one.lanes())
                .map(|lane| vec![u64::from(one.get(lane))])
                .collect::<Vec<_>>()
        };
        opened.iter().flat_map(bits).collect()
    });
    opened
}
