//! Runs targets without any engine but a random one.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Target;
use crate::mutate::{Random, mutate};

/// An input that takes longer is a finding.
const TOO_LONG: Duration = Duration::from_secs(20);
/// Memory that a target may have gained in the end, in KiB.
const TOO_MUCH: u64 = 300_000;
/// Inputs that are kept to be changed further, beside seeds and corpus.
const KEPT: usize = 500;

/// What is wrong, and the input that shows it.
#[derive(Debug)]
pub struct Finding {
    /// For people.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
}

/// Where cases found earlier are, and where new ones are written.
pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The seeds of a target and the cases found earlier.
pub fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    let mut found: Vec<PathBuf> = fs::read_dir(directory("corpus").join(target.name))
        .map(|files| files.filter_map(|file| Some(file.ok()?.path())).collect())
        .unwrap_or_default();
    found.sort();
    inputs.extend(found.iter().filter_map(|path| fs::read(path).ok()));
    inputs.push(Vec::new());
    inputs
}

/// Runs one input.
///
/// # Errors
/// The text of the panic.
pub fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "a panic".to_owned())
    })
}

/// Runs all known inputs, then changed ones until `limit` has passed or `most` were run. Tells how many.
///
/// # Errors
/// The first finding.
pub fn fuzz(target: &Target, seed: u64, limit: Duration, most: usize) -> Result<usize, Finding> {
    let end = Instant::now() + limit;
    let mut random = Random(seed);
    let mut inputs = inputs(target);
    let known = inputs.len();
    let mut count = 0;
    for input in &inputs {
        check(target, input)?;
        count += 1;
    }
    let before = resident();
    while count < most && Instant::now() < end {
        let (one, other) = (random.below(inputs.len()), random.below(inputs.len()));
        let input = mutate(&mut random, &inputs[one], &inputs[other]);
        check(target, &input)?;
        count += 1;
        // Without coverage nothing tells which ones are worth it: a few at random go on, so that changes add up.
        if random.below(20) == 0 {
            if inputs.len() < known + KEPT {
                inputs.push(input);
            } else {
                let place = known + random.below(KEPT);
                inputs[place] = input;
            }
        }
    }
    if resident() > before + TOO_MUCH {
        return Err(Finding {
            what: format!("memory grew from {before} to {} KiB in {count} runs", resident()),
            input: Vec::new(),
        });
    }
    Ok(count)
}

fn check(target: &Target, input: &[u8]) -> Result<(), Finding> {
    *lock() = Some((*target, input.to_vec(), Instant::now()));
    let ended = run(target, input);
    *lock() = None;
    ended.map_err(|what| Finding {
        what,
        input: input.to_vec(),
    })
}

/// What runs, and since when.
static CURRENT: Mutex<Option<(Target, Vec<u8>, Instant)>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<(Target, Vec<u8>, Instant)>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process if an input takes too long: nothing else could.
pub fn watch(seed: u64) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let current = lock();
            if let Some((target, input, since)) = &*current
                && since.elapsed() > TOO_LONG
            {
                let what = format!("it takes more than {} s", TOO_LONG.as_secs());
                let input = input.clone();
                report(target, seed, &Finding { what, input });
                std::process::exit(1);
            }
        }
    });
}

/// Writes a finding and says how to see it again.
pub fn report(target: &Target, seed: u64, finding: &Finding) {
    let path = write(target, &finding.input);
    println!("{}: FINDING (seed {seed}): {}", target.name, finding.what);
    println!(
        "  again: cargo run -p fdrtd-fuzz -- --replay {} {}",
        target.name,
        path.display()
    );
    println!("  when it is fixed: move the file to fuzz/corpus/{}/", target.name);
}

fn write(target: &Target, input: &[u8]) -> PathBuf {
    let findings = directory("findings");
    let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = findings.join(format!("{}-{name:016x}", target.name));
    let written = fs::create_dir_all(&findings).and_then(|()| fs::write(&path, input));
    if let Err(error) = written {
        println!("{}: {error}", path.display());
    }
    path
}

/// This process's memory in KiB; 0 where that is not told.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
