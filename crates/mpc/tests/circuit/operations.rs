//! Every operation against plain numbers.

use std::sync::Arc;

use fdrtd_mpc::circuit::{Bit, Builder, Circuit, Lanes};
use proptest::prelude::*;

use super::{build, check, evaluate, modulus};

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

pub(crate) fn operation(width: usize, gates: fn(&mut Builder, &[Bit], &[Bit]) -> Vec<Bit>) -> Circuit {
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
            check(name, 2 + width % 2, operation(width, *gates), width, &numbers, |n| {
                expected(n[0], n[1], width)
            });
        }
    }
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
        check(name, parties, operation(width, gates), width, &[x, y], |n| expected(n[0], n[1], width));
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
        check("sum", parties, circuit(|b, numbers| b.sum(numbers)), width, &numbers, sum);
        check("sign", parties, circuit(|b, numbers| vec![b.sum_is_negative(numbers)]), width, &numbers, |n| sum(n) >> (width - 1));
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
    check("add", 3, operation(20, |b, x, y| b.add(x, y)), 20, &numbers, |n| {
        (n[0] + n[1]) & modulus(20)
    });
}
