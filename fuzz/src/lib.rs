//! Fuzz targets of fdrtd: everything that reads bytes of peers or clients.
//!
//! A target is a plain function of bytes that panics if something is wrong, so any engine can drive it; [`harness`] is one that runs with the stable
//! toolchain: no coverage, but valid inputs of the real encoders as seeds, and mutations that know lengths, integers and splices. Whatever it finds
//! becomes a file in `corpus/`, which all tests run.
//!
//! Read on: [`targets`] (the table), [`mutate`], [`source`] (bytes as a sequence of choices), [`harness`].

// A target says by a panic that something is wrong; the harness catches it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stdout)]

pub mod harness;
pub mod mutate;
pub mod source;
pub mod targets;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory in `corpus/`.
    pub name: &'static str,
    /// What is fuzzed. Panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}
