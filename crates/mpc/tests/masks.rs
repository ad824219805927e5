//! The masks: equal outputs give equally distributed views (exhaustively, in a small ring), and known answers for the real ring; in a field, that every pair masks, and no two sums alike.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::scalar::Scalar;
use fdrtd_mpc::mask::{self, field};
use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::{HEADER, Machine, Party, Session};
use fdrtd_mpc::ring::Ring;
use fdrtd_mpc::sim::{self, End};
use zeroize::Zeroizing;

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

/// The lower party of a pair adds what the higher one subtracts, for every pair and every element.
#[test]
fn in_a_field_every_pair_masks_with_both_signs() {
    const PARTIES: usize = 4;
    let mask = |a: Party, b: Party, element: u64| {
        let (low, high) = (a.min(b).index() as u64, a.max(b).index() as u64);
        Scalar::from(1_000_000 * (low + 1) + 1_000 * high + element)
    };
    for party in Party::all(PARTIES) {
        let inputs = [3_u8, 5].map(Scalar::from);
        let mut vector = inputs;
        let mut asked = [0; PARTIES];
        field::apply(party, PARTIES, &mut vector, |peer| {
            asked[peer.index()] += 1;
            mask(party, peer, asked[peer.index()])
        });
        for (element, (masked, input)) in (1..).zip(vector.iter().zip(&inputs)) {
            let peers = Party::all(PARTIES).filter(|peer| *peer != party);
            let expected = peers.fold(*input, |sum, peer| {
                if party < peer {
                    sum + mask(party, peer, element)
                } else {
                    sum - mask(party, peer, element)
                }
            });
            assert_eq!(*masked, expected, "{party}");
        }
    }
}

/// Each party's messages when all add the same vectors, which are small, twice in one session.
fn field_sums(sessions: Vec<Session>) -> Vec<Vec<Vec<u8>>> {
    let vector = |me: usize| -> Vec<Scalar> { (0..9_u64).map(|element| Scalar::from(element + me as u64)).collect() };
    let (parties, all) = (sessions.len(), sessions.len() as u64);
    let expected: Vec<Scalar> = (0..9)
        .map(|element| Scalar::from(all * element + all * (all - 1) / 2))
        .collect();
    let machine = |session: Session| {
        let (own, expected) = (vector(session.me.index()), expected.clone());
        Machine::new(session, move |mut net| async move {
            for _ in 0..2 {
                match field::sum(&mut net, Zeroizing::new(own.clone())).await {
                    Ok(sum) => assert_eq!(sum, expected),
                    Err(abort) => return (net, Err(abort)),
                }
            }
            (net, Ok("{}".to_owned()))
        })
    };
    let outcome = sim::run(sessions.into_iter().map(machine).collect(), 1, &[]);
    assert_eq!(outcome.ends, vec![End::Confirmed("{}".to_owned()); parties]);
    let sent = |from: usize| {
        let to = usize::from(from == 0);
        let channel = outcome
            .delivered
            .iter()
            .filter(|(a, b, _)| (a.index(), b.index()) == (from, to));
        // Without the closing digest.
        channel
            .take(2)
            .map(|(_, _, message)| message[HEADER..].to_vec())
            .collect()
    };
    (0..parties).map(sent).collect()
}

#[test]
fn in_a_field_no_mask_serves_twice() {
    let messages = field_sums(sim::sessions(3, 1));
    let elements: Vec<&[u8]> = messages
        .iter()
        .flatten()
        .flat_map(|message| message.chunks_exact(32))
        .collect();
    let distinct: BTreeSet<&[u8]> = elements.iter().copied().collect();
    assert_eq!((elements.len(), distinct.len()), (3 * 2 * 9, 3 * 2 * 9));
    // Nor do small inputs make small elements, or differ by what small inputs differ by.
    let element = |bytes: &[u8]| Scalar::from_canonical_bytes(bytes.try_into().unwrap()).unwrap();
    let small = |element: Scalar| element.as_bytes()[8..].iter().all(|byte| *byte == 0);
    for (index, one) in elements.iter().enumerate() {
        assert!(!small(element(one)) && !small(-element(one)));
        for other in &elements[..index] {
            let difference = element(one) - element(other);
            assert!(!small(difference) && !small(-difference), "masked alike");
        }
    }
}

/// Whoever knows all other masks cannot take one off that two parties share, and another secret gives other masks everywhere.
#[test]
fn in_a_field_the_secret_of_each_pair_masks_all_of_both() {
    const PARTIES: usize = 4;
    let before = field_sums(sim::sessions(PARTIES, 1));
    for low in 0..PARTIES {
        for high in low + 1..PARTIES {
            let mut sessions = sim::sessions(PARTIES, 1);
            sessions[low].pairs[high][0] ^= 1;
            sessions[high].pairs[low][0] ^= 1;
            let after = field_sums(sessions);
            for party in 0..PARTIES {
                for (one, other) in before[party].iter().zip(&after[party]) {
                    let mut elements = one.chunks_exact(32).zip(other.chunks_exact(32));
                    if party == low || party == high {
                        assert!(elements.all(|(one, other)| one != other), "{low} and {high}: {party}");
                    } else {
                        assert!(elements.all(|(one, other)| one == other), "{low} and {high}: {party}");
                    }
                }
            }
        }
    }
}
