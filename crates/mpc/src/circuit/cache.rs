//! Circuits that were built before: the same ones serve all tasks of a kind, and building one takes longer than a round of messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Circuit;

/// What a circuit computes, and for which public numbers.
pub(crate) type Name = (&'static str, [u64; 4]);

/// Most products of all circuits that are kept: some 30 MiB. When there are more, all go, and larger ones are not kept at all: parameters that clients choose must not
/// fill the memory.
const MOST: usize = 1 << 18;

static BUILT: Mutex<BTreeMap<Name, Arc<Circuit>>> = Mutex::new(BTreeMap::new());

/// The circuit of that name, built if need be. A name must always stand for the same circuit.
pub(crate) fn cached(name: Name, build: impl FnOnce() -> Circuit) -> Arc<Circuit> {
    // Nothing is half done when a builder panics: the map changes in one step.
    let lock = || BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(circuit) = lock().get(&name) {
        return Arc::clone(circuit);
    }
    // Not under the lock: others need not wait for it.
    let circuit = Arc::new(build());
    if circuit.products() > MOST {
        return circuit;
    }
    let mut built = lock();
    // One at least for each, so that those without products are bounded, too.
    let size = |circuit: &Arc<Circuit>| circuit.products() + 256;
    if built.values().map(size).sum::<usize>() + size(&circuit) > MOST {
        built.clear();
    }
    Arc::clone(built.entry(name).or_insert(circuit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::Builder;

    #[test]
    fn a_circuit_is_built_once_and_not_all_are_kept() {
        let name = |number| ("test of the cache", [number, 0, 0, 0]);
        let build = || {
            let mut circuit = Builder::new();
            let bit = circuit.input();
            circuit.output(bit);
            circuit.finish()
        };
        let first = cached(name(0), build);
        assert!(Arc::ptr_eq(&first, &cached(name(0), || unreachable!("it is there"))));
        for number in 1..3000 {
            cached(name(number), build);
        }
        assert!(BUILT.lock().is_ok_and(|built| built.len() <= MOST / 256));
    }
}
