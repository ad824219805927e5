//! The microprotocols, one file each.

pub mod secure_sum;
