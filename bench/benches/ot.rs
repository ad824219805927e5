//! Oblivious transfer of one pair: both parties in this one thread, through the simulator.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fdrtd_mpc::net::{Machine, Session};
use fdrtd_mpc::ot::{Base, Ot, parts};
use fdrtd_mpc::sim;

type Bases = Vec<Vec<Option<Arc<Base>>>>;

/// Machines that make base transfers, if they have none, and then `count` random ones in each direction.
fn machines(bases: &Bases, seed: u64, count: usize) -> Vec<Machine> {
    let machine = |(mut session, bases): (Session, &Vec<Option<Arc<Base>>>)| {
        session.bases.clone_from(bases);
        Machine::new(session, move |mut net| async move {
            let choices = vec![0x0123_4567_89ab_cdef; count.div_ceil(64)];
            let result = match Ot::new(&mut net).await {
                Ok(mut ot) => ot.random(&mut net, &choices, count).await.map(|_| "1".to_owned()),
                Err(abort) => Err(abort),
            };
            (net, result)
        })
    };
    sim::sessions(2, seed).into_iter().zip(bases).map(machine).collect()
}

fn transfers(c: &mut Criterion) {
    let mut group = c.benchmark_group("ot");
    let cold = vec![Vec::new(); 2];
    group.sample_size(20);
    group.bench_function("base transfers of a pair, both directions", |b| {
        b.iter_batched(
            || machines(&cold, 1, 0),
            |machines| sim::run(machines, 1, &[]),
            BatchSize::LargeInput,
        );
    });
    let bases = sim::bases(2, 2);
    for count in [1_000, 100_000, 1_000_000] {
        // Transfers in both directions are counted.
        group.throughput(Throughput::Elements(2 * count as u64));
        group.bench_function(format!("{count} random transfers in each direction"), |b| {
            b.iter_batched(
                || machines(&bases, 1, count),
                |machines| sim::run(machines, 1, &[]),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// What a transfer is made of. One transfer takes three streams, two transpositions, three hashes, two digests and two challenges.
fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("a part of ot, 8192 rows");
    group.throughput(Throughput::Elements(parts::PART as u64));
    let (mut columns, mut copy) = (Box::new([0; parts::PART]), Box::new([0; parts::PART]));
    let streams = parts::Streams::default();
    group.bench_function("streams", |b| b.iter(|| streams.write(&mut columns)));
    group.bench_function("transposition", |b| {
        b.iter(|| parts::transpose(&mut columns, &mut copy))
    });
    group.bench_function("hash", |b| b.iter(|| parts::hash(&mut columns)));
    group.bench_function("check: digests", |b| b.iter(|| parts::digest(&columns)));
    let matrix = vec![1; 16 * parts::PART];
    group.bench_function("check: challenge", |b| b.iter(|| parts::challenge(&matrix)));
    group.finish();
}

criterion_group!(benches, transfers, steps);
criterion_main!(benches);
