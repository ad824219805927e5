//! Fuzzes all targets, or those that are named, for some seconds together.
//!
//! ```text
//! fuzz [--seconds N] [--seed N] [TARGET…]      fuzz --replay TARGET FILE
//! ```

#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fdrtd_fuzz::harness::{fuzz, report, run, watch};
use fdrtd_fuzz::targets::{ALL, find};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut seconds, mut seed, mut targets) = (60.0, now.as_secs(), Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--seconds" => seconds = value().parse().unwrap_or(seconds),
            "--seed" => seed = value().parse().unwrap_or(seed),
            "--replay" => return replay(&value(), &value()),
            name => match find(name) {
                Some(target) => targets.push(target),
                None => return usage(),
            },
        }
    }
    if targets.is_empty() {
        targets = ALL.to_vec();
    }
    watch(seed);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut found = false;
    let count = targets.len();
    for (index, target) in targets.into_iter().enumerate() {
        // What one leaves over is shared by those that follow.
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(count - index).unwrap_or(1);
        let begin = Instant::now();
        match fuzz(&target, seed, share, usize::MAX) {
            Ok(runs) => println!(
                "{:<16} {runs:>9} inputs in {:>5.1} s, seed {seed}: nothing found",
                target.name,
                begin.elapsed().as_secs_f64()
            ),
            Err(finding) => {
                found = true;
                report(&target, seed, &finding);
            }
        }
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn replay(name: &str, file: &str) -> ExitCode {
    let (Some(target), Ok(input)) = (find(name), std::fs::read(file)) else {
        return usage();
    };
    match run(&target, &input) {
        Ok(()) => println!("{name}: {} bytes, nothing wrong", input.len()),
        Err(what) => {
            println!("{name}: {what}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("fuzz [--seconds N] [--seed N] [TARGET…], or: fuzz --replay TARGET FILE. Targets:");
    for target in ALL {
        println!("  {}", target.name);
    }
    ExitCode::FAILURE
}
