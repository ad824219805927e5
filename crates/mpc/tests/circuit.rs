//! Circuits: every operation against plain numbers, what circuits cost, and what faults can do.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use fdrtd_mpc::circuit::{Bit, Builder, Circuit, Lanes, Triples, open};
use fdrtd_mpc::mask::Prg;
use fdrtd_mpc::net::{Machine, Session};
use fdrtd_mpc::sim::{self, End};
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
