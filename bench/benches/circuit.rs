//! Circuits at three parties in one thread: triples from base transfers that are there, evaluation, and a comparison of 101-bit numbers.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fdrtd_mpc::circuit::{Builder, Circuit, Lanes, Triples, open};
use fdrtd_mpc::net::{Machine, Session};
use fdrtd_mpc::sim;

const PARTIES: usize = 3;

/// 100 products of two bits in one layer: with 1000 lanes, 10^5 of them.
fn products() -> Circuit {
    let mut builder = Builder::new();
    let (x, y) = (builder.inputs(100), builder.inputs(100));
    for (x, y) in x.iter().zip(&y) {
        let product = builder.and(*x, *y);
        builder.output(product);
    }
    builder.finish()
}

fn comparison() -> Circuit {
    let mut builder = Builder::new();
    let (x, y) = (builder.inputs(101), builder.inputs(101));
    let less = builder.less(&x, &y);
    builder.output(less);
    builder.finish()
}

/// Prepares, evaluates and opens.
fn whole(session: Session, circuit: Arc<Circuit>, lanes: usize) -> Machine {
    let inputs = vec![Lanes::filled(lanes, session.me.index() == 0); circuit.inputs()];
    Machine::new(session, move |mut net| async move {
        let opened = async {
            let mut triples = Triples::generate(&mut net, &[(&circuit, lanes)]).await?;
            let shares = circuit.run(&mut net, &mut triples, &inputs).await?;
            Ok(open(&mut net, &shares).await?.len().to_string())
        };
        let opened = opened.await;
        (net, opened)
    })
}

fn computations(c: &mut Criterion) {
    let mut group = c.benchmark_group("circuit");
    let cases = [
        ("10^5 ANDs in one layer, with triples", products(), 1000),
        ("10^6 ANDs in one layer, with triples", products(), 10_000),
        ("101-bit comparison, 2 lanes, with triples", comparison(), 2),
        ("101-bit comparison, 10^4 lanes, with triples", comparison(), 10_000),
    ];
    let bases = sim::bases(PARTIES, 2);
    for (name, circuit, lanes) in cases {
        let circuit = Arc::new(circuit);
        group
            .throughput(Throughput::Elements((circuit.ands() * lanes) as u64))
            .sample_size(10);
        let prepare = || {
            let warm = sim::sessions(PARTIES, 1).into_iter().zip(&bases);
            warm.map(|(mut session, bases)| {
                session.bases.clone_from(bases);
                whole(session, Arc::clone(&circuit), lanes)
            })
            .collect()
        };
        group.bench_function(name, |b| {
            b.iter_batched(prepare, |machines| sim::run(machines, 1, &[]), BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// Evaluates and opens with triples that are there.
fn evaluation(session: Session, circuit: Arc<Circuit>, mut triples: Triples, lanes: usize) -> Machine {
    let inputs = vec![Lanes::filled(lanes, session.me.index() == 0); circuit.inputs()];
    Machine::new(session, move |mut net| async move {
        let opened = match circuit.run(&mut net, &mut triples, &inputs).await {
            Ok(shares) => open(&mut net, &shares).await,
            Err(abort) => Err(abort),
        };
        (net, opened.map(|opened| opened.len().to_string()))
    })
}

fn evaluations(c: &mut Criterion) {
    let mut group = c.benchmark_group("circuit");
    let cases = [
        ("evaluation alone, 10^5 ANDs in one layer", products(), 1000),
        ("evaluation alone, 101-bit comparison, 2 lanes", comparison(), 2),
    ];
    for (name, circuit, lanes) in cases {
        let circuit = Arc::new(circuit);
        group
            .throughput(Throughput::Elements((circuit.ands() * lanes) as u64))
            .sample_size(20);
        let prepare = || {
            let triples = sim::triples(PARTIES, &[(&circuit, lanes)], 1);
            let each = sim::sessions(PARTIES, 1).into_iter().zip(triples);
            each.map(|(session, triples)| evaluation(session, Arc::clone(&circuit), triples, lanes))
                .collect()
        };
        group.bench_function(name, |b| {
            b.iter_batched(prepare, |machines| sim::run(machines, 1, &[]), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, computations, evaluations);
criterion_main!(benches);
