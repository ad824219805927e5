//! The masks: equal outputs give equally distributed views (exhaustively, in a small ring), and known answers for the real ring.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use fdrtd_mpc::mask;
use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::Party;
use fdrtd_mpc::ring::Ring;
use fdrtd_mpc::sim;

const N: usize = 3;

/// What party 0 sees: its own input and masks, and what the others publish.
type View = (u64, [u64; 2], [u64; 2]);

/// All views of party `me` for these inputs, over every choice of the three pairs' masks in Z_2^4, with their frequencies.
fn views(inputs: [u64; N], me: usize) -> BTreeMap<View, u32> {
    let ring = Ring::new(4).unwrap();
    let mut views = BTreeMap::new();
    for coins in 0..16u64.pow(3) {
        let pair = |a: usize, b: usize| match (a.min(b), a.max(b)) {
            (0, 1) => coins & 15,
            (0, 2) => coins >> 4 & 15,
            _ => coins >> 8 & 15,
        };
        let published: Vec<u64> = Party::all(N)
            .map(|party| {
                let mut vector = [inputs[party.index()]];
                mask::apply(ring, party, N, &mut vector, |peer, pad| {
                    pad[0] = pair(party.index(), peer.index())
                });
                vector[0]
            })
            .collect();
        let sum = published.iter().sum::<u64>() & 15;
        assert_eq!(sum, inputs.iter().sum::<u64>() & 15, "the masks cancel");
        let others: Vec<usize> = (0..N).filter(|party| *party != me).collect();
        let masks = [pair(me, others[0]), pair(me, others[1])];
        let heard = [published[others[0]], published[others[1]]];
        *views.entry((inputs[me], masks, heard)).or_insert(0) += 1;
    }
    views
}

#[test]
fn a_view_depends_on_the_own_input_and_the_sum_only() {
    for me in 0..N {
        for own in [0u64, 5, 15] {
            for sum in 0..16u64 {
                let mut first: Option<BTreeMap<View, u32>> = None;
                for second in 0..16u64 {
                    let mut inputs = [0; N];
                    inputs[me] = own;
                    inputs[(me + 1) % N] = second;
                    inputs[(me + 2) % N] = sum.wrapping_sub(own).wrapping_sub(second) & 15;
                    let seen = views(inputs, me);
                    match &first {
                        None => first = Some(seen),
                        Some(first) => assert_eq!(*first, seen, "party {me}, inputs {inputs:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_view_of_another_sum_differs() {
    assert_ne!(views([1, 2, 3], 0), views([1, 2, 4], 0));
}

/// The key of a mask is in the generator's state for as long as that lives. Without the crate's feature this does not compile.
#[test]
fn generators_are_erased() {
    fn erased<Secret: zeroize::ZeroizeOnDrop>() {}
    erased::<chacha20::ChaChaCore<chacha20::R20, chacha20::variants::Ietf>>();
}

/// A generator that began anew with every block would mask all blocks alike, and the masks would still cancel.
#[test]
fn no_two_words_of_a_long_mask_are_equal() {
    let mut words = vec![0; 10_000];
    mask::Prg::new(&[1; 32].into()).fill(&mut words);
    // The same stream, however it is taken.
    let (mut pieces, mut prg) = (vec![0; 10_000], mask::Prg::new(&[1; 32].into()));
    for piece in pieces.chunks_mut(700) {
        prg.fill(piece);
    }
    assert_eq!(pieces, words);
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 10_000);
}

/// The real ring, keys and encoding: changed by any change of the key derivation, the generator, a sign or the layout.
#[test]
fn known_answers() {
    let machine = |session: fdrtd_mpc::net::Session| {
        let configured = Entry::find("BasicSum").unwrap().configure("{}").unwrap();
        let text = ["10", "7", "14"][session.me.index()];
        configured.input(3, &[text]).unwrap().start(session)
    };
    let machines = sim::sessions(3, 1).into_iter().map(machine).collect();
    let outcome = sim::run(machines, 1, &[]);
    let mut messages: Vec<String> = outcome
        .delivered
        .iter()
        .map(|(from, to, bytes)| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} {} {hex}", from.index(), to.index())
        })
        .collect();
    messages.sort();
    let expected: Vec<&str> = include_str!("../../../vectors/secure-sum.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(messages, expected);
}
