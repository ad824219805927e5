//! The protocols of fdrtd: secure multi-party computation, pure. No clock, no files, no sockets, no randomness of its own: a protocol is an `async fn`
//! over [`net::Net`], and [`net::Machine`] turns it inside out into a state machine that a node, a simulator or a fuzzer drives.
//!
//! Read on: [`net`] (what a protocol may do), [`mask`] (secure addition), [`ot`] (oblivious transfer), [`circuit`] (comparison and whatever else circuits can
//! do), [`threshold`] (counts that are compared before they open), [`order`] (values by their rank), [`centred`] (means, variances and covariances, exactly), [`sketch`] (names that nobody declared), [`opening`] (what opens, in words that tests compare), [`microprotocols::secure_sum`] (a whole microprotocol), [`microprotocol`] (the table the node uses), [`number`] (decimal numbers as exact integers), [`exact`] (their quotients, rounded once), [`distributions`],
//! [`sim`] (tests with faults).
//!
//! Not supported yet: circuits against parties that deviate, parties that drop out.

pub mod association;
pub mod centred;
pub mod circuit;
pub mod data;
pub mod distributions;
pub mod exact;
pub mod keys;
pub mod mask;
pub mod microprotocol;
pub mod microprotocols;
pub mod net;
pub mod number;
pub mod opening;
pub mod order;
pub mod ot;
pub mod ring;
pub mod sim;
pub mod sketch;
pub mod threshold;
pub mod wire;

/// The guide's code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-microprotocol.md")]
struct AddingAMicroprotocol;
