//! Circuits: every operation against plain numbers, what circuits cost, and what faults can do.

#![allow(missing_docs, clippy::unwrap_used)]

mod messages;
mod operations;
mod preparation;

use std::sync::Arc;

use fdrtd_mpc::circuit::{Bit, Builder, Circuit, Lanes, Triples, open};
use fdrtd_mpc::mask::Prg;
use fdrtd_mpc::net::{Machine, Session};
use fdrtd_mpc::sim::{self, End};

use operations::operation;

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
fn check(
    name: &str,
    parties: usize,
    circuit: Circuit,
    width: usize,
    numbers: &[Vec<u128>],
    expected: impl Fn(&[u128]) -> u128,
) {
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
        assert_eq!(got, expected(&of_lane), "{name} of {of_lane:?}, width {width}");
    }
}

fn modulus(width: usize) -> u128 {
    if width == 128 { u128::MAX } else { (1 << width) - 1 }
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
