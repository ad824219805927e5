//! Circuits: every operation against plain numbers, what circuits cost, and what faults can do.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use fdrtd_mpc::circuit::{Bit, Builder, Circuit, Lanes, Triples, open, open_to};
use fdrtd_mpc::mask::Prg;
use fdrtd_mpc::net::{HEADER, Machine, Session};
use fdrtd_mpc::sim::{self, End, Fault, FaultAt};
use proptest::prelude::*;

fn build(circuit: impl FnOnce(&mut Builder)) -> Circuit {
    let mut builder = Builder::new();
    circuit(&mut builder);
    builder.finish()
}

fn log2(number: usize) -> usize {
    number.next_power_of_two().ilog2() as usize
}

/// Shares of each input bit, by party.
fn shared(parties: usize, inputs: &[Lanes], seed: u8) -> Vec<Vec<Lanes>> {
    let mut prg = Prg::new(&[seed; 32].into());
    let mut shares = vec![Vec::new(); parties];
    for input in inputs {
        let mut rest = input.clone();
        for share in &mut shares[1..] {
            let mut words = vec![0; input.words().len()];
            prg.fill(&mut words);
            share.push(Lanes::from_words(input.lanes(), words.into()));
            rest.xor_assign(&share[share.len() - 1]);
        }
        shares[0].push(rest);
    }
    shares
}

fn machines(parties: usize, circuit: &Arc<Circuit>, inputs: &[Lanes], seed: u8) -> Vec<Machine> {
    let lanes = inputs.first().map_or(1, Lanes::lanes);
    let triples = sim::triples(parties, &[(circuit, lanes)], u64::from(seed));
    let parts = triples.into_iter().zip(shared(parties, inputs, seed));
    let machine = |(session, (mut triples, inputs)): (Session, (Triples, Vec<Lanes>))| {
        let circuit = Arc::clone(circuit);
        Machine::new(session, move |mut net| async move {
            let shares = circuit.run(&mut net, &mut triples, &inputs).await;
            let opened = match shares {
                Ok(shares) => open(&mut net, &shares).await,
                Err(abort) => Err(abort),
            };
            let round = net.round();
            let text = opened.map(|opened| {
                let words: Vec<&[u64]> = opened.iter().map(Lanes::words).collect();
                format!("{round} {}", serde_json::to_string(&words).unwrap())
            });
            (net, text)
        })
    };
    sim::sessions(parties, 1).into_iter().zip(parts).map(machine).collect()
}

/// What opens to all, and the rounds.
fn evaluate(parties: usize, circuit: &Arc<Circuit>, inputs: &[Lanes], seed: u8) -> (Vec<Lanes>, usize) {
    let outcome = sim::run(machines(parties, circuit, inputs, seed), u64::from(seed), &[]);
    for end in &outcome.ends {
        assert_eq!(*end, outcome.ends[0]);
    }
    let End::Confirmed(text) = &outcome.ends[0] else {
        unreachable!("{:?}", outcome.ends)
    };
    let (round, words) = text.split_once(' ').unwrap();
    let words: Vec<Vec<u64>> = serde_json::from_str(words).unwrap();
    let lanes = inputs.first().map_or(1, Lanes::lanes);
    let opened = words
        .into_iter()
        .map(|words| Lanes::from_words(lanes, words.into()))
        .collect();
    (opened, round.parse().unwrap())
}

/// Numbers in, numbers out, in every lane; and one round for each layer, one to open.
fn check(parties: usize, circuit: Circuit, width: usize, numbers: &[Vec<u128>], expected: impl Fn(&[u128]) -> u128) {
    let circuit = Arc::new(circuit);
    let lanes = numbers[0].len();
    let mut inputs = Vec::new();
    for number in numbers {
        let limbs: Vec<u64> = number
            .iter()
            .flat_map(|value| [*value as u64, (value >> 64) as u64])
            .collect();
        inputs.extend(Lanes::columns(&limbs, 2, width));
    }
    assert_eq!(inputs.len(), circuit.inputs());
    let (opened, rounds) = evaluate(parties, &circuit, &inputs, lanes as u8);
    assert_eq!(rounds, circuit.depth() + 1);
    assert_eq!(opened.len(), circuit.outputs());
    for lane in 0..lanes {
        let of_lane: Vec<u128> = numbers.iter().map(|number| number[lane]).collect();
        let got = opened
            .iter()
            .rev()
            .fold(0, |number, bit| number << 1 | u128::from(bit.get(lane)));
        assert_eq!(got, expected(&of_lane), "of {of_lane:?}, width {width}");
    }
}

fn modulus(width: usize) -> u128 {
    if width == 128 { u128::MAX } else { (1 << width) - 1 }
}

type Operation = (
    &'static str,
    fn(&mut Builder, &[Bit], &[Bit]) -> Vec<Bit>,
    fn(u128, u128, usize) -> u128,
);

/// Operations on two numbers of one width, with what they should give.
const OPERATIONS: &[Operation] = &[
    ("add", |b, x, y| b.add(x, y), |x, y, w| x.wrapping_add(y) & modulus(w)),
    ("less", |b, x, y| vec![b.less(x, y)], |x, y, _| u128::from(x < y)),
    ("equal", |b, x, y| vec![b.equal(x, y)], |x, y, _| u128::from(x == y)),
    ("any", |b, x, _| vec![b.any(x)], |x, _, _| u128::from(x != 0)),
    ("all", |b, x, _| vec![b.all(x)], |x, _, w| u128::from(x == modulus(w))),
    ("xor", |b, x, y| pairwise(x, y, |x, y| b.xor(x, y)), |x, y, _| x ^ y),
    ("and", |b, x, y| pairwise(x, y, |x, y| b.and(x, y)), |x, y, _| x & y),
    ("or", |b, x, y| pairwise(x, y, |x, y| b.or(x, y)), |x, y, _| x | y),
    (
        "not",
        |b, x, _| x.iter().map(|x| b.not(*x)).collect(),
        |x, _, w| !x & modulus(w),
    ),
    (
        "scale",
        |b, x, y| b.scale(x[0], y),
        |x, y, _| if x & 1 == 1 { y } else { 0 },
    ),
    (
        "mux",
        |b, x, y| b.mux(x[0], y, x),
        |x, y, _| if x & 1 == 1 { y } else { x },
    ),
    (
        "maximum",
        |b, x, y| {
            let less = b.less(x, y);
            b.mux(less, y, x)
        },
        |x, y, _| x.max(y),
    ),
    (
        "sum of two",
        |b, x, y| b.sum(&[x.to_vec(), y.to_vec()]),
        |x, y, w| x.wrapping_add(y) & modulus(w),
    ),
    (
        "count",
        |b, x, y| {
            let mut bits: Vec<Vec<Bit>> = x.iter().chain(y).map(|bit| vec![*bit]).collect();
            bits.push(vec![b.constant(false); 9]);
            b.sum(&bits)
        },
        |x, y, _| u128::from(x.count_ones() + y.count_ones()),
    ),
    (
        "sum with inverted and constant bits",
        |b, x, y| {
            let inverted = x.iter().map(|x| b.not(*x)).collect();
            let one = vec![b.constant(true)];
            b.sum(&[y.to_vec(), inverted, one])
        },
        |x, y, w| y.wrapping_sub(x) & modulus(w),
    ),
    (
        "sign of a difference",
        |b, x, y| {
            let inverted = x.iter().map(|x| b.not(*x)).collect();
            let one = vec![b.constant(true)];
            vec![b.sum_is_negative(&[y.to_vec(), inverted, one])]
        },
        |x, y, w| y.wrapping_sub(x) >> (w - 1) & 1,
    ),
];

fn pairwise(x: &[Bit], y: &[Bit], mut gate: impl FnMut(Bit, Bit) -> Bit) -> Vec<Bit> {
    x.iter().zip(y).map(|(x, y)| gate(*x, *y)).collect()
}

fn operation(width: usize, gates: fn(&mut Builder, &[Bit], &[Bit]) -> Vec<Bit>) -> Circuit {
    build(|b| {
        let (x, y) = (b.inputs(width), b.inputs(width));
        let result = gates(b, &x, &y);
        b.outputs(&result);
    })
}

#[test]
fn operations_are_right_for_all_small_numbers() {
    for width in 1..=5 {
        let (x, y) = (0..1u128 << (2 * width))
            .map(|pair| (pair & modulus(width), pair >> width))
            .unzip();
        let numbers: [Vec<u128>; 2] = [x, y];
        for (name, gates, expected) in OPERATIONS {
            println_on_panic(name, || {
                check(3, operation(width, *gates), width, &numbers, |n| {
                    expected(n[0], n[1], width)
                })
            });
        }
    }
}

fn println_on_panic(name: &str, test: impl FnOnce()) {
    struct Name<'a>(&'a str);
    impl Drop for Name<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("in {}", self.0);
            }
        }
    }
    let _name = Name(name);
    test();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn operations_are_right_for_large_numbers(
        which in 0..OPERATIONS.len(),
        width in prop_oneof![Just(8usize), Just(32), Just(64), Just(101), Just(128), 1usize..128],
        parties in 2usize..=8,
        lanes in prop_oneof![Just(1usize), Just(2), Just(63), Just(64), Just(65)],
        values in proptest::collection::vec((any::<u128>(), any::<u128>(), 0usize..129), 65),
    ) {
        let (name, gates, expected) = OPERATIONS[which];
        // Numbers that have their upper bits in common, so that comparisons depend on lower ones.
        let near = |(x, y, same): &(u128, u128, usize)| x ^ y.checked_shr(*same as u32).unwrap_or(0);
        let x: Vec<u128> = values[..lanes].iter().map(|pair| pair.0 & modulus(width)).collect();
        let y: Vec<u128> = values[..lanes].iter().map(|pair| near(pair) & modulus(width)).collect();
        println_on_panic(name, || check(parties, operation(width, gates), width, &[x, y], |n| expected(n[0], n[1], width)));
    }

    #[test]
    fn sums_of_many_numbers(
        count in 0usize..12,
        width in 1usize..40,
        parties in 2usize..4,
        values in proptest::collection::vec(any::<u128>(), 12 * 3),
    ) {
        let numbers: Vec<Vec<u128>> =
            values.chunks(3).take(count).map(|lanes| lanes.iter().map(|value| value & modulus(width)).collect()).collect();
        let sum = |numbers: &[u128]| numbers.iter().fold(0u128, |sum, number| sum.wrapping_add(*number)) & modulus(width);
        if count == 0 {
            prop_assert_eq!(build(|b| { let sum = b.sum(&[]); b.outputs(&sum) }).outputs(), 0);
            return Ok(());
        }
        let circuit = |gates: fn(&mut Builder, &[Vec<Bit>]) -> Vec<Bit>| build(|b| {
            let numbers: Vec<Vec<Bit>> = (0..count).map(|_| b.inputs(width)).collect();
            let sum = gates(b, &numbers);
            b.outputs(&sum);
        });
        check(parties, circuit(|b, numbers| b.sum(numbers)), width, &numbers, sum);
        check(parties, circuit(|b, numbers| vec![b.sum_is_negative(numbers)]), width, &numbers, |n| sum(n) >> (width - 1));
    }

    /// Gates at random, with constants and repetitions: folding, sharing and dropping change nothing.
    #[test]
    fn random_circuits(gates in proptest::collection::vec((0u8..6, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..60)) {
        const INPUTS: usize = 4;
        let mut builder = Builder::new();
        let mut bits = builder.inputs(INPUTS);
        let lanes = 1 << INPUTS;
        let mut plain = Lanes::columns(&(0..lanes as u64).collect::<Vec<_>>(), 1, INPUTS);
        for value in [false, true] {
            bits.push(builder.constant(value));
            plain.push(Lanes::filled(lanes, value));
        }
        let inputs = plain[..INPUTS].to_vec();
        for (kind, a, b) in gates {
            let (a, b) = (a.index(bits.len()), b.index(bits.len()));
            let (mut x, y) = (plain[a].clone(), &plain[b]);
            let (bit, result) = match kind {
                0 | 1 => (builder.xor(bits[a], bits[b]), x.xor(y)),
                2 | 3 => (builder.and(bits[a], bits[b]), x.and(y)),
                4 => (builder.or(bits[a], bits[b]), x.xor(y).xor(&x.and(y))),
                _ => (builder.not(bits[a]), { x.invert(); x }),
            };
            bits.push(bit);
            plain.push(result);
        }
        builder.outputs(&bits);
        let (opened, _) = evaluate(2, &Arc::new(builder.finish()), &inputs, 1);
        for (opened, plain) in opened.iter().zip(&plain) {
            prop_assert_eq!(opened.words(), plain.words());
        }
    }
}

#[test]
fn a_thousand_lanes() {
    let numbers = [0, 1].map(|salt| {
        (0..1000u128)
            .map(|lane| lane.wrapping_mul(0x9e37_79b9 + salt) & modulus(20))
            .collect()
    });
    check(3, operation(20, |b, x, y| b.add(x, y)), 20, &numbers, |n| {
        (n[0] + n[1]) & modulus(20)
    });
}

#[test]
fn costs() {
    for width in [8, 32, 64, 101] {
        let cost = |gates| {
            let circuit = operation(width, gates);
            (circuit.ands(), circuit.products(), circuit.depth())
        };
        // One transfer for each of width joins; only the highest one of each size needs no second product.
        let less = cost(|b, x, y| vec![b.less(x, y)]);
        assert_eq!((less.0, less.2), (width, log2(width + 1)), "less, {width}");
        assert!(less.1 <= 2 * width, "less, {width}");
        assert_eq!(
            cost(|b, x, y| vec![b.equal(x, y)]),
            (width - 1, width - 1, log2(width)),
            "equal, {width}"
        );
        assert_eq!(cost(|b, x, y| b.mux(x[0], x, y)), (1, width, 1), "mux, {width}");
        let add = cost(|b, x, y| b.add(x, y));
        assert_eq!(add.2, log2(width), "add, {width}");
        assert!(add.0 <= width * log2(width) / 2, "add, {width}: {add:?}");
        let sign = cost(|b, x, y| vec![b.sum_is_negative(&[x.to_vec(), y.to_vec()])]);
        assert_eq!((sign.0, sign.2), (width - 1, log2(width)), "sign, {width}");
        let bits = |b: &mut Builder, x: &[Bit]| {
            let mut numbers: Vec<Vec<Bit>> = x.iter().map(|bit| vec![*bit]).collect();
            numbers.push(vec![b.constant(false); log2(x.len() + 1)]);
            b.sum(&numbers)
        };
        let count = build(|b| {
            let x = b.inputs(width);
            let count = bits(b, &x);
            b.outputs(&count);
        });
        // A full adder takes one bit away for one product, and what is left are the digits of the count.
        assert!(
            count.products() <= width + 2 * log2(width),
            "count of {width}: {count:?}"
        );
        for (count, tree) in [(3, 1), (4, 2), (8, 3), (16, 4), (64, 6)] {
            let sum = |gates: fn(&mut Builder, &[Vec<Bit>]) -> Vec<Bit>| {
                build(|b| {
                    let numbers: Vec<Vec<Bit>> = (0..count).map(|_| b.inputs(width)).collect();
                    let sum = gates(b, &numbers);
                    b.outputs(&sum);
                })
            };
            let (whole, sign) = (sum(|b, n| b.sum(n)), sum(|b, n| vec![b.sum_is_negative(n)]));
            assert_eq!(
                (whole.depth(), sign.depth()),
                (tree + log2(width), tree + log2(width)),
                "{count}, {width}"
            );
            assert!(
                sign.ands() <= count * width,
                "sign of {count}, {width}: {}",
                sign.ands()
            );
        }
    }
}

#[test]
fn nothing_is_computed_twice_or_in_vain() {
    let circuit = build(|b| {
        let x = b.inputs(3);
        let (one, zero) = (b.constant(true), b.constant(false));
        let product = b.and(x[0], x[1]);
        let again = b.and(x[1], x[0]);
        let inverted = b.not(x[0]);
        // ¬x·y = y ⊕ x·y.
        let other = b.and(inverted, x[1]);
        let nothing = [
            b.and(x[0], inverted),
            b.and(x[0], zero),
            b.xor(x[2], x[2]),
            b.and(x[0], x[0]),
            b.or(x[1], one),
        ];
        let unused = b.and(x[1], x[2]);
        let _ = b.and(unused, x[0]);
        b.outputs(&[product, again, other]);
        b.outputs(&nothing);
    });
    assert_eq!(
        (circuit.ands(), circuit.products(), circuit.depth(), circuit.outputs()),
        (1, 1, 1, 8)
    );
    let wide = build(|b| {
        let (a, x) = (b.input(), b.inputs(300));
        let scaled = b.scale(a, &x);
        b.outputs(&scaled);
    });
    assert_eq!((wide.ands(), wide.products(), wide.depth()), (3, 300, 1));
    // The common operand is opened once.
    assert_eq!(wide.message_bytes(2), 301 * 2 / 8 + 1);
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Drop),
        Just(Fault::Repeat),
        (1usize..40).prop_map(Fault::Truncate),
        (0usize..400).prop_map(Fault::Flip),
        Just(Fault::Delay),
        (0usize..400).prop_map(Fault::Equivocate),
    ]
}

/// A greatest number of three: eight bits each, in three lanes.
fn maximum() -> (Arc<Circuit>, Vec<Lanes>) {
    let circuit = build(|b| {
        let numbers = [b.inputs(8), b.inputs(8), b.inputs(8)];
        let mut greatest = numbers[0].clone();
        for number in &numbers[1..] {
            let less = b.less(&greatest, number);
            greatest = b.mux(less, number, &greatest);
        }
        b.outputs(&greatest);
    });
    let numbers = [[7u64, 200, 99], [8, 199, 99], [5, 201, 98]];
    let inputs = numbers.iter().flat_map(|number| Lanes::columns(number, 1, 8)).collect();
    (Arc::new(circuit), inputs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to what is broadcast: a confirmed result is the right one, unless somebody lies, and never are there two.
    #[test]
    fn with_faults_nobody_confirms_a_wrong_result(
        parties in 2usize..5,
        seed: u64,
        faults in proptest::collection::vec((0usize..5, 0usize..5, 0usize..12, any_fault()), 1..4),
    ) {
        let faults: Vec<FaultAt> = faults.into_iter().map(|(from, to, index, fault)| FaultAt { from: from % parties, to: to % parties, index, fault }).collect();
        let liars: Vec<usize> = faults.iter().filter(|at| matches!(at.fault, Fault::Equivocate(_))).map(|at| at.from).collect();
        // With two parties a lie is just another share.
        prop_assume!(parties > 2 || liars.is_empty());
        let (circuit, inputs) = maximum();
        let right = sim::run(machines(parties, &circuit, &inputs, 1), 0, &[]).ends[0].clone();
        let outcome = sim::run(machines(parties, &circuit, &inputs, 1), seed, &faults);
        let mut confirmed = Vec::new();
        for (party, end) in outcome.ends.iter().enumerate() {
            if matches!(end, End::Confirmed(_)) && !liars.contains(&party) {
                confirmed.push(end);
                prop_assert!(*end == right || !liars.is_empty(), "party {} of {:?}", party, outcome.ends);
            }
        }
        prop_assert!(confirmed.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn a_changed_bit_is_found_wherever_it_is() {
    let (circuit, inputs) = maximum();
    for index in 0..=circuit.depth() {
        for bit in [0, 1, 2, 5] {
            let fault = FaultAt {
                from: 1,
                to: 2,
                index,
                fault: Fault::Flip(bit),
            };
            let outcome = sim::run(machines(3, &circuit, &inputs, 1), 7, &[fault]);
            for end in &outcome.ends {
                assert!(
                    !matches!(end, End::Confirmed(_)),
                    "message {index}, bit {bit}: {:?}",
                    outcome.ends
                );
            }
        }
    }
}

/// Sizes depend on circuit, lanes and parties only.
#[test]
fn lengths_of_messages_tell_nothing() {
    let (circuit, inputs) = maximum();
    let lengths = |inputs: &[Lanes], seed| {
        let mut lengths: Vec<_> = sim::run(machines(3, &circuit, inputs, seed), 1, &[])
            .delivered
            .iter()
            .map(|(from, to, bytes)| (*from, *to, bytes.len() - HEADER))
            .collect();
        lengths.sort_unstable();
        lengths
    };
    let zeros = vec![Lanes::zeros(3); inputs.len()];
    let ones = vec![Lanes::filled(3, true); inputs.len()];
    let all = lengths(&inputs, 1);
    assert_eq!(all, lengths(&zeros, 2));
    assert_eq!(all, lengths(&ones, 3));
    let digest = 32;
    let longest = all
        .iter()
        .map(|(_, _, length)| *length)
        .filter(|length| *length != digest)
        .max();
    assert_eq!(longest, Some(circuit.message_bytes(3)));
}

#[test]
fn what_opens_to_one_is_seen_by_no_other() {
    for parties in 2..=5 {
        // To party j: j + 1 secrets of 10·j + 3 lanes.
        let secrets: Vec<Vec<Lanes>> = (0..parties)
            .map(|party| {
                (0..=party)
                    .map(|bit| Lanes::from_words(10 * party + 3, vec![0x5a17_93c6_u64 << bit].into()))
                    .collect()
            })
            .collect();
        let shares: Vec<Vec<Vec<Lanes>>> = secrets.iter().map(|secrets| shared(parties, secrets, 3)).collect();
        let machine = |session: Session| {
            let me = session.me.index();
            let shares: Vec<Vec<Lanes>> = shares.iter().map(|of_all| of_all[me].clone()).collect();
            let secret = secrets[me].clone();
            Machine::new(session, move |mut net| async move {
                // Twice: the second one has other pads.
                let first = open_to(&mut net, &shares).await.unwrap();
                let second = open_to(&mut net, &shares).await.unwrap();
                for ((secret, first), second) in secret.iter().zip(&first).zip(&second) {
                    assert_eq!((first.words(), second.words()), (secret.words(), secret.words()));
                }
                assert_eq!(
                    (first.len(), second.len(), net.round()),
                    (secret.len(), secret.len(), 2)
                );
                (net, Ok(String::from("\"opened\"")))
            })
        };
        let outcome = sim::run(sim::sessions(parties, 9).into_iter().map(machine).collect(), 4, &[]);
        assert!(
            outcome.ends.iter().all(|end| matches!(end, End::Confirmed(_))),
            "{:?}",
            outcome.ends
        );
        for (from, to, bytes) in &outcome.delivered {
            let bits = (to.index() + 1) * (10 * to.index() + 3);
            assert!([bits.div_ceil(8), 32].contains(&(bytes.len() - HEADER)));
            // Long ones are under pads, so the second message is not the first.
            let alike = outcome
                .delivered
                .iter()
                .filter(|other| (other.0, other.1) == (*from, *to) && other.2[HEADER..] == bytes[HEADER..]);
            assert!(bits < 64 || alike.count() == 1);
        }
    }
}

/// A share as it is may be an input.
#[test]
fn no_share_is_told_as_it_is() {
    for parties in 2..=4 {
        let input = Lanes::from_words(128, vec![0x0123_4567_89ab_cdef, 42].into());
        let shares = |me: usize| if me == 0 { input.clone() } else { Lanes::zeros(128) };
        let machine = |session: Session| {
            let share = [shares(session.me.index())];
            Machine::new(session, move |mut net| async move {
                let first = open(&mut net, &share).await.unwrap();
                let second = open(&mut net, &share).await.unwrap();
                (
                    net,
                    Ok(serde_json::to_string(&[first[0].words(), second[0].words()]).unwrap()),
                )
            })
        };
        let outcome = sim::run(sim::sessions(parties, 5).into_iter().map(machine).collect(), 4, &[]);
        let right = End::Confirmed(serde_json::to_string(&[input.words(), input.words()]).unwrap());
        assert!(outcome.ends.iter().all(|end| *end == right), "{:?}", outcome.ends);
        let mut told = Vec::new();
        for (from, to, bytes) in &outcome.delivered {
            let share: Vec<u8> = shares(from.index())
                .words()
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            assert_ne!(bytes[HEADER..], share);
            if bytes.len() == HEADER + 16 && to.index() == usize::from(from.index() == 0) {
                told.push(bytes[HEADER..].to_vec());
            }
        }
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 2 * parties, "other pads for each party and each opening");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (circuit, inputs) = maximum();
    let results = |lanes: usize, prepared: Option<usize>, count: usize| {
        let plan: Vec<(&Circuit, usize)> = prepared.iter().map(|lanes| (&*circuit, *lanes)).collect();
        let inputs: Vec<Lanes> = inputs[..count].iter().map(|_| Lanes::zeros(lanes)).collect();
        let all = sim::sessions(2, 1).into_iter().zip(sim::triples(2, &plan, 1));
        let machine = |(session, mut triples): (Session, Triples)| {
            let (circuit, inputs) = (Arc::clone(&circuit), inputs.clone());
            Machine::new(session, move |mut net| async move {
                let shares = circuit.run(&mut net, &mut triples, &inputs).await;
                (net, shares.map(|shares| format!("{}", shares.len())))
            })
        };
        sim::run(all.map(machine).collect(), 1, &[]).ends.swap_remove(0)
    };
    assert_eq!(results(3, Some(3), 24), End::Confirmed("8".into()));
    for (lanes, prepared, count) in [(3, None, 24), (3, Some(4), 24), (3, Some(3), 23)] {
        assert!(matches!(
            results(lanes, prepared, count),
            End::Aborted(fdrtd_mpc::net::Abort::Internal(_))
        ));
    }
}
