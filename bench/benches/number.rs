//! Numbers a second from JSON text into a sum, through `data::read`.

use criterion::{Criterion, Throughput};
use fdrtd_mpc::data;
use fdrtd_mpc::number::{Digits, Grid};
use std::hint::black_box;

const NUMBERS: u64 = 1_000_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("number");
    group.throughput(Throughput::Elements(NUMBERS)).sample_size(20);
    let default = Digits::default();
    let wide = Digits::new(60, 60).expect("120 digits can be declared");
    for (name, kinds, digits) in [
        ("mixed", &[0, 1, 2][..], default),
        ("integers", &[0][..], default),
        ("two decimals", &[1][..], default),
        ("doubles", &[2][..], default),
        ("mixed, 60 + 60 digits", &[0, 1, 2][..], wide),
    ] {
        let grid = Grid::new(digits);
        let json = list(kinds);
        group.bench_function(name, |bencher| {
            bencher.iter(|| data::read(&grid, NUMBERS, black_box(&json)).is_ok());
        });
        assert!(data::read(&grid, NUMBERS, &json).is_ok(), "{name}: refused");
    }
    group.finish();
    criterion.final_summary();
}

/// A list of numbers of the given kinds in turn, always the same one.
fn list(kinds: &[u8]) -> String {
    let mut state = 1_u64;
    let numbers = kinds.iter().cycle().take(NUMBERS as usize).map(|kind| {
        // Knuth's MMIX generator; its high bits are good enough here.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let sign = if state >> 63 == 1 { "-" } else { "" };
        let bits = (state << 1) >> 11;
        match kind {
            0 => format!("{sign}{}", bits >> 30),
            1 => format!("{sign}{}.{:02}", bits >> 36, bits % 100),
            // From 1 to 1000, 15 to 17 digits.
            _ => format!("{sign}{:?}", 1.0 + 999.0 * bits as f64 / (1_u64 << 53) as f64),
        }
    });
    format!("[{}]", numbers.collect::<Vec<_>>().join(", "))
}
