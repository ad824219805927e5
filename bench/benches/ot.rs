//! Oblivious transfer of one pair: both parties in this one thread, through the simulator.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fdrtd_mpc::net::{Machine, Party, Session};
use fdrtd_mpc::ot::{Base, Ot};
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

/// Base transfers that both have.
fn warm() -> Bases {
    let mut machines = machines(&vec![Vec::new(); 2], 1, 1);
    for _ in 0..4 {
        for from in 0..2 {
            machines[from].step();
            for (to, message) in machines[from].outgoing() {
                if let Some(from) = Party::new(from, 2) {
                    // A failure shows as bases that are missing, and then as another figure.
                    let _ = machines[to.index()].deliver(from, message);
                }
            }
        }
    }
    let bases = |machine: &mut Machine| {
        let mut all = vec![None; 2];
        machine
            .bases()
            .into_iter()
            .for_each(|(peer, base)| all[peer.index()] = Some(base));
        all
    };
    machines.iter_mut().map(bases).collect()
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
    let bases = warm();
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

criterion_group!(benches, transfers);
criterion_main!(benches);
