//! The names that any party has, without telling whose they are: a summed sketch.
//!
//! - **Sources**: invertible Bloom lookup tables of Goodrich and Mitzenmacher, *Invertible Bloom Lookup Tables*, Allerton 2011, section 3 (and Eppstein, Goodrich, Uyeda, Varghese, *What's the Difference?*, SIGCOMM 2011,
//!   sections 3 and 4, for checks in place of counts), over a prime field in place of counters and xor; masks of Bonawitz et al. 2017 ([`crate::mask::field`]).
//! - **How**: a name is two words w of 31 bytes and a check h, a hash of it. A table has three thirds; a party adds (r, r·w, r·h) to one cell of each third, which the hash of the name chooses, with a fresh random factor r ≠ 0
//!   for each of its names. The tables are added under masks, and only their sum opens: a cell to which one name was added, by however many parties, holds (R, R·w, R·h) with R the sum of their factors. It tells w, and is taken off the other two
//!   cells of that name; so others come free, until the table is empty (*peeling*). The table's size is public. If a first one of [`SIZES`] cells does not come to its end, all parties try the larger one, once, with new factors and hashes;
//!   if that one does not, either, there is no result ([`Abort::TooManyNames`]).
//! - **Rounds**: one for the sum, and one in which all compare what they were told, since the lengths of all further messages depend on it; the same again for a second attempt.
//! - **Adversary**: semi-honest, any number of colluding parties.
//!
//! # What each party sees
//! Masked tables, from which nothing follows but their sum ([`crate::mask::field`]), and the sum. Its cells depend on names alone through R: for a name that honest parties propose R is uniform (but for 2^−252), *however many they are*. So the sum
//! is **simulatable from the set of proposed names and, for each name that the coalition itself proposes, one bit: whether anybody else does**. A simulator draws R for every name that somebody else has, and takes the sum of the coalition's own factors
//! for the others. That bit is there because whoever proposes a name knows its own factor and sees whether it is the whole. It is a declared output. With a minimum of 1 it follows from the count that opens; with a greater one it tells
//! whether one of the others reaches the minimum alone.
//!
//! **A failed attempt** opens the same things: the sum of a table that was too small, of which some names can be read, and linear equations about the others. It is simulatable from the same set and bits; but whoever computes with it may
//! learn names in a task that ends without a result. A second attempt has other factors, and tells nothing new about the same names.
//!
//! # What parties can do that deviate
//! Add anything: names of their own making (they could have them in their data as well), or what makes the table unreadable, which ends the task. What is read from the sum is checked for form; a name that comes twice, or that its cell does not belong to,
//! ends the attempt. Every generation of peeling takes off at least one new name, and there are no more names than cells, so it ends.
//!
//! # Not protected
//! The names that a party proposes open to all. Who proposes only names that enough of its own samples have (see [`crate::microprotocols::frequency`]) tells none that belongs to a few. No name may be a secret.

use std::collections::BTreeSet;

use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use crate::data::Category;
use crate::mask::{Prg, field};
use crate::net::{Abort, Net};

/// Cells of the first table and of the second one: they hold some 250 and some 4000 names.
pub const SIZES: [usize; 2] = [3 * 128, 3 * 2048];
/// Longest text that can be found, in bytes.
pub const MAX_TEXT_BYTES: usize = WORDS * WORD_BYTES - 2;

/// Cells of one name.
const HASHES: usize = 3;
/// Words of a name.
const WORDS: usize = 2;
/// Fewer bits than the field has.
const WORD_BYTES: usize = 31;
/// The factor, the words, the check.
const ELEMENTS: usize = WORDS + 2;
/// Rough time to go through a cell of an opened table, in the bytes of [`Net::work_ahead`]: an inversion is the most of it.
const WORK: usize = 2_000;

/// Longest message.
#[must_use]
pub fn message_bytes() -> usize {
    SIZES[1] * ELEMENTS * field::ELEMENT_BYTES
}

/// Rounds, if the first attempt is enough.
#[must_use]
pub fn rounds() -> u32 {
    2
}

/// Whether a category can be found.
#[must_use]
pub fn fits(category: &Category) -> bool {
    match category {
        Category::Number(_) => true,
        Category::Text(text) => text.len() <= MAX_TEXT_BYTES,
    }
}

/// The names that any party proposes, for each variable, in order: numbers first, then texts by their bytes. `proposed` are this party's, distinct for each variable; all parties have as many variables, at most 64.
///
/// # Errors
/// [`Abort::TooManyNames`] if there are too many to be found; a peer that breaks the protocol.
pub async fn find(net: &mut Net, proposed: &[Vec<Category>]) -> Result<Vec<Vec<Category>>, Abort> {
    for (attempt, size) in SIZES.into_iter().enumerate() {
        let hash = Hash::new(&net.session().sid, attempt, size);
        net.work_ahead(size * ELEMENTS * 8).await;
        let factors = net.session().own_key("factors of names", attempt as u32);
        let mut prg = Prg::new(&factors);
        let mut table = Zeroizing::new(vec![Scalar::ZERO; size * ELEMENTS]);
        for (variable, names) in proposed.iter().enumerate() {
            for name in names {
                let name = encode(variable, name).ok_or(Abort::Internal("a name that does not fit"))?;
                let cells = hash.of(&name);
                cells.add(&mut table, &name, &factor(&mut prg));
            }
        }
        net.will_open("names");
        let sum = field::sum(net, table).await?;
        net.agree().await?;
        net.work_ahead(size * WORK).await;
        if let Some(found) = peel(&hash, sum, proposed.len()) {
            return Ok(found);
        }
    }
    Err(Abort::TooManyNames)
}

/// Never 0.
fn factor(prg: &mut Prg) -> Zeroizing<Scalar> {
    loop {
        let factor = Zeroizing::new(field::next(prg));
        if *factor != Scalar::ZERO {
            return factor;
        }
    }
}

type Name = [u8; WORDS * WORD_BYTES];

/// Variable and kind, length, bytes, zeros.
fn encode(variable: usize, category: &Category) -> Option<Name> {
    let number;
    let (kind, bytes) = match category {
        Category::Number(value) => {
            number = value.to_le_bytes();
            (0, &number[..])
        }
        Category::Text(text) => (1, text.as_bytes()),
    };
    let mut name = [0; WORDS * WORD_BYTES];
    name[0] = u8::try_from(variable * 2 + kind).ok()?;
    name[1] = u8::try_from(bytes.len()).ok()?;
    name.get_mut(2..2 + bytes.len())?.copy_from_slice(bytes);
    Some(name)
}

/// What a name stands for; `None` for bytes that no category is encoded as.
fn decode(name: &Name, variables: usize) -> Option<(usize, Category)> {
    let (variable, kind) = (usize::from(name[0] / 2), name[0] % 2);
    let bytes = name.get(2..2 + usize::from(name[1]))?;
    let category = if kind == 0 {
        Category::Number(i64::from_le_bytes(bytes.try_into().ok()?))
    } else {
        Category::Text(std::str::from_utf8(bytes).ok()?.to_owned())
    };
    (variable < variables && encode(variable, &category)? == *name).then_some((variable, category))
}

fn words(name: &Name) -> [Scalar; WORDS] {
    let mut words = [Scalar::ZERO; WORDS];
    for (word, part) in words.iter_mut().zip(name.chunks_exact(WORD_BYTES)) {
        let mut bytes = [0; 32];
        bytes[..WORD_BYTES].copy_from_slice(part);
        *word = Scalar::from_bytes_mod_order(bytes);
    }
    words
}

/// A name whose words these are.
fn name(words: &[Scalar]) -> Option<Name> {
    let mut name = [0; WORDS * WORD_BYTES];
    for (part, word) in name.chunks_exact_mut(WORD_BYTES).zip(words) {
        let bytes = word.as_bytes();
        if bytes[WORD_BYTES] != 0 {
            return None;
        }
        part.copy_from_slice(&bytes[..WORD_BYTES]);
    }
    Some(name)
}

/// The hashes of one attempt.
struct Hash {
    key: [u8; 32],
    size: usize,
}

/// Where a name belongs, and its check.
struct Cells {
    places: [usize; HASHES],
    check: Scalar,
}

impl Hash {
    fn new(sid: &[u8; 32], attempt: usize, size: usize) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 sketch of names, version 1");
        hasher.update(sid).update(&(attempt as u64).to_le_bytes());
        Hash {
            key: *hasher.finalize().as_bytes(),
            size,
        }
    }

    fn of(&self, name: &Name) -> Cells {
        let mut output = blake3::Hasher::new_keyed(&self.key).update(name).finalize_xof();
        let mut wide = [0; 64];
        output.fill(&mut wide);
        let third = self.size / HASHES;
        let places = std::array::from_fn(|index| {
            let mut word = [0; 8];
            output.fill(&mut word);
            // Thirds are a power of two, so this is uniform.
            index * third + (u64::from_le_bytes(word) % third as u64) as usize
        });
        Cells {
            places,
            check: Scalar::from_bytes_mod_order_wide(&wide),
        }
    }
}

impl Cells {
    /// Adds the name with that factor.
    fn add(&self, table: &mut [Scalar], name: &Name, factor: &Scalar) {
        let [first, second] = words(name);
        let elements = [*factor, factor * first, factor * second, factor * self.check];
        for place in self.places {
            let cell = &mut table[place * ELEMENTS..(place + 1) * ELEMENTS];
            cell.iter_mut()
                .zip(&elements)
                .for_each(|(sum, element)| *sum += element);
        }
    }
}

/// Reads all names from an opened sum; `None` if it cannot be read to its end. Public values only.
fn peel(hash: &Hash, mut table: Vec<Scalar>, variables: usize) -> Option<Vec<Vec<Category>>> {
    let cells = hash.size;
    let mut found: Vec<BTreeSet<Category>> = vec![BTreeSet::new(); variables];
    let mut count = 0;
    let mut changed: Vec<usize> = (0..cells).collect();
    while !changed.is_empty() {
        let mut next = BTreeSet::new();
        for (place, name) in alone(hash, &table, &changed) {
            let factor = table[place * ELEMENTS];
            let of_name = hash.of(&name);
            if factor == Scalar::ZERO {
                // Taken off a moment ago, from another one of its cells.
                continue;
            }
            let (variable, category) = decode(&name, variables)?;
            if count == cells || !found.get_mut(variable)?.insert(category) {
                return None;
            }
            count += 1;
            of_name.add(&mut table, &name, &-factor);
            next.extend(of_name.places);
        }
        changed = next.into_iter().collect();
    }
    let empty = table.iter().all(|element| *element == Scalar::ZERO);
    empty.then(|| found.into_iter().map(|names| names.into_iter().collect()).collect())
}

/// Those of these cells that hold a single name.
fn alone(hash: &Hash, table: &[Scalar], places: &[usize]) -> Vec<(usize, Name)> {
    let used = |place: &usize| table[place * ELEMENTS] != Scalar::ZERO;
    let places: Vec<usize> = places.iter().copied().filter(used).collect();
    // One inversion for all.
    let mut inverses: Vec<Scalar> = places.iter().map(|place| table[place * ELEMENTS]).collect();
    if !inverses.is_empty() {
        Scalar::invert_batch_alloc(&mut inverses);
    }
    let mut all = Vec::new();
    for (place, inverse) in places.into_iter().zip(inverses) {
        let cell = &table[place * ELEMENTS..(place + 1) * ELEMENTS];
        let Some(name) = name(&[cell[1] * inverse, cell[2] * inverse]) else {
            continue;
        };
        let of_name = hash.of(&name);
        if of_name.places.contains(&place) && of_name.check * cell[0] == cell[3] {
            all.push((place, name));
        }
    }
    all
}
