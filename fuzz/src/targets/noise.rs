//! The encrypted channel: its clear first frame, its handshake, its records.

use fdrtd::peer::fuzzing;

use crate::source::{Source, put};

/// Any text as the first frame.
pub(super) fn openings(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        fuzzing::read_opening(text);
    }
}

pub(super) fn opening_seeds() -> Vec<Vec<u8>> {
    vec![fuzzing::opening().into_bytes(), br#"{"fdrtd":2}"#.to_vec()]
}

/// One of the three messages is another one: never do both ends come to the end.
pub(super) fn handshakes(data: &[u8]) {
    let mut source = Source::new(data);
    let (step, how, at) = (source.below(3), source.u8(), usize::from(source.u16()));
    let other = source.rest();
    let mut same = false;
    let done = fuzzing::handshake(step, |message| {
        let before = message.clone();
        match how % 4 {
            0 => *message = other.to_vec(),
            1 => {
                let length = message.len();
                for (index, byte) in other.iter().enumerate() {
                    message[(at + index) % length] ^= byte;
                }
            }
            2 => message.truncate(at),
            _ => message.extend_from_slice(other),
        }
        same = *message == before;
    });
    assert_eq!(done, same, "a message that was changed, or the end of one that was not");
}

pub(super) fn handshake_seeds() -> Vec<Vec<u8>> {
    let changes = [[0_u8, 0, 0], [1, 0, 0], [2, 255, 0], [3, 0, 0]];
    let seed = |step: u8| changes.map(|change| [&[step], &change[..], &[0; 32], &[1]].concat());
    (0..3).flat_map(seed).collect()
}

/// Records that are dropped, repeated, exchanged and changed on their way.
pub(super) fn channels(data: &[u8]) {
    let mut source = Source::new(data);
    let count = 1 + source.below(6);
    let plains: Vec<&[u8]> = (0..count).map(|_| source.bytes()).collect();
    let mut changed = false;
    let opened = fuzzing::records(&plains, |records| {
        let before = records.clone();
        while !source.is_empty() && !records.is_empty() {
            let (what, at) = (source.u8(), source.below(records.len()));
            let other = usize::from(source.u8()) % records.len();
            match what % 6 {
                0 => drop(records.remove(at)),
                1 => records.insert(other, records[at].clone()),
                2 => records.swap(at, other),
                3 => {
                    let place = usize::from(source.u16()) % records[at].len().max(1);
                    if let Some(byte) = records[at].get_mut(place) {
                        *byte ^= source.u8();
                    }
                }
                4 => records[at].truncate(usize::from(source.u16())),
                _ => records.insert(at, source.bytes().to_vec()),
            }
            records.truncate(64);
        }
        changed = *records != before;
    });
    assert!(changed || opened == count, "all records as they were sent");
}

pub(super) fn channel_seeds() -> Vec<Vec<u8>> {
    let mut seed = vec![2];
    for plain in [&b"first"[..], b"", &[7; 300]] {
        put(&mut seed, plain);
    }
    let ops: [&[u8]; 4] = [
        &[],
        &[1, 0, 1],
        &[3, 1, 0, 4, 0, 1, 2, 0, 2],
        &[0, 0, 0, 5, 0, 0, 2, 0, 9, 9],
    ];
    ops.iter().map(|ops| [&seed, *ops].concat()).collect()
}
