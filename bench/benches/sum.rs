//! Masks and whole sums: bytes of masks a second, and 10^6 numbers at three parties in one thread.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fdrtd_mpc::mask;
use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::Party;
use fdrtd_mpc::ring::Ring;
use fdrtd_mpc::sim;

const NUMBERS: usize = 1_000_000;

/// The pseudorandom generator alone: the physical limit of masking.
fn generator(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    group.throughput(Throughput::Bytes(16 * NUMBERS as u64)).sample_size(20);
    let mut words = vec![0u64; 2 * NUMBERS];
    group.bench_function("generator, 16 MB", |b| {
        let mut prg = mask::Prg::new(&zeroize_key(1));
        b.iter(|| prg.fill(&mut words));
    });
    group.bench_function("one pair's mask on 10^6 elements of Z_2^128", |b| {
        let ring = ring();
        let parties = 2;
        let Some(me) = Party::new(0, parties) else { return };
        let mut prg = mask::Prg::new(&zeroize_key(1));
        b.iter(|| mask::apply(ring, me, parties, &mut words, |_, pad| prg.fill(pad)));
    });
    group.finish();
}

/// Everything but sockets, for all three parties in one thread: masks, encoding, addition, digests, opening.
fn vector_sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("sum");
    group.throughput(Throughput::Elements(NUMBERS as u64)).sample_size(10);
    let text = format!("{{\"vectors\":[[{}]]}}", vec!["1.25"; NUMBERS].join(","));
    let entry = Entry::find("SecureSum").and_then(|entry| entry.configure("{}").ok());
    let Some(entry) = entry else { return };
    let prepare = || {
        let machines = sim::sessions(3, 1)
            .into_iter()
            .map(|session| Some(entry.input(3, &[&text]).ok()?.start(session)));
        machines.collect::<Option<Vec<_>>>().unwrap_or_default()
    };
    group.bench_function("three parties, vectors of 10^6", |b| {
        b.iter_batched(prepare, |machines| sim::run(machines, 1, &[]), BatchSize::LargeInput);
    });
    group.finish();
}

fn ring() -> Ring {
    // 128 is a width that exists.
    Ring::new(128).unwrap_or_else(|| std::process::abort())
}

fn zeroize_key(byte: u8) -> zeroize::Zeroizing<[u8; 32]> {
    zeroize::Zeroizing::new([byte; 32])
}

criterion_group!(benches, generator, vector_sum);
criterion_main!(benches);
