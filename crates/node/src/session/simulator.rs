//! All parties of one task in one thread, without sockets and with a clock that is a number. Messages keep their order between two nodes; everything
//! else happens in an order drawn from a seed: joins, keys found late, inputs, restarts that others notice late, connections that break, heavy
//! work that takes its time, and whatever a hostile party sends.
//!
//! `world.rs` is the simulation and checks at every step what holds always; the other files are the properties.
#![allow(clippy::unwrap_used, clippy::panic)]

mod deadlines;
mod ends;
mod garbage;
mod honest;
mod hostile;
mod one_event;
mod policies;
mod warm;
mod world;

pub(super) use world::{descriptor, key};
