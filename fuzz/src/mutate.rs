//! Changes of inputs, drawn from a seed.

/// Random numbers that can be repeated (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() >> 11) as usize % bound.max(1)
    }
}

/// Longest input.
pub const LONGEST: usize = 1 << 16;

const INTERESTING: [u64; 16] = [
    0,
    1,
    2,
    15,
    16,
    64,
    127,
    128,
    255,
    256,
    4096,
    65_535,
    1 << 31,
    (1 << 32) - 1,
    1 << 63,
    u64::MAX,
];

/// Words that mean something to one of the parsers.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\u0000",
    "\\ud800",
    "\\",
    "null",
    "true",
    "-0",
    "1e999999999",
    "0.1",
    "-",
    "1E-400",
    "NaN",
    "\"handle\"",
    "\"callback\"",
    "$S",
    "$K",
    "$V",
    "\"nodes\"",
    "\"myself\"",
    "\"durations\"",
    "\"function\":\"create\"",
    "\"parameters\":{}",
    "fdrtd:",
    "https://",
    "http://[::1]:80/",
    "#",
    "/../",
    "@",
    "\n",
    "99999999999999999999",
    "\u{feff}",
    "\u{202e}",
    "[limits]",
    "= ",
];

/// A changed copy: of `input` alone, or with parts of `other`.
pub fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let exponent = random.below(5);
    for _ in 0..=random.below(1 << exponent) {
        change(random, &mut bytes, other);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let length = bytes.len();
    let at = random.below(length + 1);
    match random.below(13) {
        0 if length > 0 => bytes[at % length] ^= 1 << random.below(8),
        1 if length > 0 => bytes[at % length] = random.draw() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..(at + 1 + random.below(16)).min(length))),
        4 => {
            let count = 1 + random.below(16);
            let new: Vec<u8> = (0..count).map(|_| random.draw() as u8).collect();
            drop(bytes.splice(at..at, new));
        }
        // A part once more, or in another place.
        5 | 6 => {
            let part = part(random, bytes).to_vec();
            let times = if random.below(8) == 0 { 1 + random.below(200) } else { 1 };
            if part.len() * times < LONGEST {
                drop(bytes.splice(at..at, part.repeat(times)));
            }
        }
        7 | 8 => {
            let part = part(random, other).to_vec();
            let end = if random.below(2) == 0 {
                at
            } else {
                (at + part.len()).min(length)
            };
            drop(bytes.splice(at..end, part));
        }
        // A field that may be a length or a count, of any width, either way round.
        9 | 10 => {
            let width = 1 << random.below(4);
            let value = match random.below(3) {
                0 => INTERESTING[random.below(INTERESTING.len())],
                1 => (length as u64).wrapping_add(random.below(9) as u64).wrapping_sub(4),
                _ => random.draw() >> random.below(64),
            };
            let end = (at + width).min(length);
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        11 => {
            let word = WORDS[random.below(WORDS.len())];
            drop(bytes.splice(at..at, word.bytes()));
        }
        _ if length > 0 => {
            let at = at % length;
            bytes[at] = bytes[at].wrapping_add(random.below(5) as u8).wrapping_sub(2);
        }
        _ => bytes.push(random.draw() as u8),
    }
}

fn part<'a>(random: &mut Random, bytes: &'a [u8]) -> &'a [u8] {
    let from = random.below(bytes.len() + 1);
    let longest = [4, 40, 400, LONGEST][random.below(4)];
    &bytes[from..(from + random.below(longest)).min(bytes.len())]
}
