//! Boolean circuits on shared bits: comparison and everything else that addition alone cannot do.
//!
//! Sources: Goldreich, Micali, Wigderson: *How to play any mental game*, STOC 1987 (XOR shares, products by oblivious transfer); Beaver: *Efficient
//! multiparty protocols using circuit randomization*, CRYPTO 1991 (products made up front); Schneider and Zohner: *GMW vs. Yao?*, FC 2013 (circuits of
//! small depth, many evaluations in one machine word); Ben-Efraim, Nielsen, Omri: *Turbospeedz*, ACNS 2019, section 3 (one mask for each wire instead of two
//! for each product).
//!
//! A bit x is shared as x = x_1 ⊕ … ⊕ x_n, one share at each party. XOR and NOT are computed on the shares, without a message. Up front ([`Triples::generate`])
//! each operand x of a product gets a random bit λ_x that nobody knows, and each product x·y shares of λ_x·λ_y. Then
//!
//! 1. everybody broadcasts its share of δ_x = x ⊕ λ_x, once for each operand, all operands of a layer and all lanes in one message;
//! 2. x·y = (δ_x ⊕ λ_x)·(δ_y ⊕ λ_y) = δ_x·δ_y ⊕ δ_x·λ_y ⊕ δ_y·λ_x ⊕ λ_x·λ_y, which is linear in the shared bits: without a message.
//!
//! **Inputs** need no message: whoever owns a bit takes it as its share, and all others take zero. So shares, those of results too, may say everything about
//! inputs: they must go nowhere but through [`open`] and [`open_to`], which add fresh shares of zero (pairwise pseudorandom, as in [`crate::mask`]).
//!
//! # Rounds
//! One for each layer ([`Circuit::depth`]), one for [`open`] or [`open_to`]. For [`Triples::generate`] see there.
//!
//! # What each party sees
//! Let C be the parties that collude, and H the others (not empty).
//! - *Layers:* from each party i of H the bits x_i ⊕ λ_{x,i}, one for each operand. λ_{x,i} is a uniform bit of party i's coins, used for no other opened bit.
//!   What C knows of it from the preparation is nothing: party i's choices in oblivious transfers are hidden, and its bits in corrections are covered by pads of which C has
//!   only the other half (see [`triples`](self::Triples)). So these bits are uniform and independent of everything else in C's view: **a simulator draws them.**
//! - *Opening v:* the shares of H, each with a fresh share of zero added. The pads between two parties of H are unknown to C and make the shares of H uniform among all
//!   with the right sum, and that sum is v ⊕ (shares of C), which C can compute from v. **A simulator, given v, draws them so.** With one party in H its share is
//!   v ⊕ (shares of C): that follows from v alone. The zero shares are fresh for each opening, so several openings together are simulated in the same way.
//!
//! Therefore nothing but what is passed to `open` is learned. What a microprotocol opens is its declared output; openings in between need a reason there.
//!
//! # Adversary
//! Semi-honest; all parties but one may collude. A party that deviates can invert any opened bit and any product, also within the circuit: a wrong result, alike for all
//! to whom it is opened. What is opened then is another function of the inputs than the declared one, so it may tell more. And a wrong correction inverts a product only
//! where the receiver's share of a mask is 1: whether the result is right then tells that share, and with what the receiver broadcasts its share of the operand, which may be
//! an input. Microprotocols that need more than semi-honest peers must not be built on this. A broadcast bit that differs between receivers
//! is found by the closing digest, whoever caused it; a bit changed in a private round (preparation, [`open_to`]) is not.
//!
//! # Example
//! ```
//! use fdrtd_mpc::circuit::Builder;
//!
//! let mut builder = Builder::new();
//! let (x, y) = (builder.inputs(32), builder.inputs(32));
//! let less = builder.less(&x, &y);
//! builder.output(less);
//! let circuit = builder.finish();
//! assert_eq!((circuit.ands(), circuit.depth()), (32, 6));
//! ```
//! Then in a protocol: [`Triples::generate`] once for everything, [`Circuit::run`] with [`Lanes::columns`] of the own number and [`Lanes::zeros`] for others', [`open`].

mod arithmetic;
mod builder;
mod cache;
mod lanes;
#[cfg(test)]
mod privacy;
mod run;
mod triples;

pub use builder::{Bit, Builder};
pub(crate) use cache::cached;
pub use lanes::Lanes;
pub use run::{open, open_to};
pub use triples::Triples;
pub(crate) use triples::transfers;

use lanes::Packed;

/// Bits of the pad that one oblivious transfer gives: the most products with a common operand that it serves.
const PAD_BITS: usize = 128;

/// A circuit in layers. Wires are numbered in the order in which they are computed: wire 0 is false, then come the inputs, then for each layer its XOR gates and
/// its products.
#[derive(Clone, Debug)]
pub struct Circuit {
    inputs: usize,
    /// Wires that are operands of products. Each has its mask; masks are numbered in the order in which the masked wires are opened.
    masks: usize,
    products: usize,
    scalings: Vec<Scaling>,
    layers: Vec<Layer>,
    /// XOR gates behind the last layer.
    last: Vec<(u32, u32)>,
    outputs: Vec<Bit>,
}

#[derive(Clone, Debug)]
struct Layer {
    /// Before the products: the operands of each gate.
    xors: Vec<(u32, u32)>,
    first_mask: u32,
    /// Wires that are operands for the first time, in the order of their masks.
    opened: Vec<u32>,
    products: Vec<Product>,
}

/// The masks of both operands.
type Product = [u32; 2];

/// Products with a common operand, whose preparation needs one oblivious transfer in each direction, for each lane and pair of parties.
#[derive(Clone, Debug)]
struct Scaling {
    /// The mask of the common operand.
    left: usize,
    /// The products and the masks of their other operands.
    products: Vec<(usize, usize)>,
}

impl Circuit {
    /// Oblivious transfers, for each lane and in each direction between two parties: what a circuit costs. Products that share an operand share one.
    pub fn ands(&self) -> usize {
        self.scalings.len()
    }

    /// Products of two bits.
    pub fn products(&self) -> usize {
        self.products
    }

    /// Layers of products: rounds of [`Circuit::run`].
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Input bits.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output bits.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Bytes of the longest message of [`Circuit::run`].
    pub fn message_bytes(&self, lanes: usize) -> usize {
        let opened = self.layers.iter().map(|layer| layer.opened.len()).max().unwrap_or(0);
        Packed::bytes(opened * lanes)
    }
}
