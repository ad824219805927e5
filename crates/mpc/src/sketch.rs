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
use crate::opening::Opens;

/// Cells of the first table and of the second one: they hold some 250 and some 4000 names.
pub const SIZES: [usize; 2] = [3 * 128, 3 * 2048];
/// Longest text that can be found, in bytes.
pub const MAX_TEXT_BYTES: usize = WORDS * WORD_BYTES - 2;

/// What [`find`] opens: from which cells are empty, and which names stand in the others, whatever the factors.
pub const OPENS: Opens = Opens::Random(NAMES);
const NAMES: &str = "names of categories that are not declared, in a summed sketch";

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
        net.will_open(NAMES);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn hash(size: usize) -> Hash {
        Hash::new(&[7; 32], 0, size)
    }

    fn text(text: &str) -> Category {
        Category::Text(text.to_owned())
    }

    /// The sum of what parties with these names add.
    fn sum(hash: &Hash, parties: &[Vec<Category>], seed: u8) -> Vec<Scalar> {
        let mut prg = Prg::new(&[seed; 32].into());
        let mut table = vec![Scalar::ZERO; hash.size * ELEMENTS];
        for name in parties.iter().flatten() {
            let name = encode(0, name).unwrap();
            hash.of(&name).add(&mut table, &name, &factor(&mut prg));
        }
        table
    }

    fn numbers(range: std::ops::Range<i64>) -> Vec<Category> {
        range.map(Category::Number).collect()
    }

    #[test]
    fn names_are_encoded_in_one_way_each() {
        let longest = "ä".repeat(MAX_TEXT_BYTES / 2);
        let all = [
            text(""),
            text("1"),
            Category::Number(1),
            Category::Number(i64::MIN),
            text(&longest),
            text("\0"),
        ];
        for (variable, category) in (0..3).flat_map(|variable| all.iter().map(move |category| (variable, category))) {
            let encoded = encode(variable, category).unwrap();
            assert_eq!(name(&words(&encoded)), Some(encoded));
            assert!(decode(&encoded, variable + 1) == Some((variable, category.clone())));
            assert!(decode(&encoded, variable).is_none(), "a variable that does not exist");
            for place in 0..encoded.len() {
                let mut other = encoded;
                other[place] ^= 1 << (place % 8);
                // Another name or none, never the same one.
                assert!(decode(&other, variable + 1) != Some((variable, category.clone())));
                if let Some((variable, category)) = decode(&other, 64) {
                    assert_eq!(encode(variable, &category), Some(other));
                }
            }
        }
        assert!(fits(&text(&longest)) && !fits(&text(&format!("{longest}a"))));
        assert!(encode(0, &text(&format!("{longest}a"))).is_none());
        assert!(encode(128, &text("")).is_none());
    }

    #[test]
    fn what_was_added_is_read_in_order() {
        let hash = hash(SIZES[0]);
        let parties = [
            vec![text("b"), Category::Number(10), text("1")],
            vec![Category::Number(1), text("b"), text("B"), Category::Number(-3)],
            vec![],
            vec![text("b"), Category::Number(1)],
        ];
        let expected = vec![
            Category::Number(-3),
            Category::Number(1),
            Category::Number(10),
            text("1"),
            text("B"),
            text("b"),
        ];
        assert!(peel(&hash, sum(&hash, &parties, 1), 1) == Some(vec![expected]));
        assert!(peel(&hash, sum(&hash, &[vec![]], 1), 2) == Some(vec![vec![], vec![]]));
    }

    #[test]
    fn as_many_as_a_table_is_said_to_hold() {
        for (size, names) in [(SIZES[0], 250), (SIZES[1], 4000)] {
            let read = (0..20_u8).filter(|attempt| {
                let hash = Hash::new(&[*attempt; 32], 0, size);
                let names = numbers(0..names);
                peel(&hash, sum(&hash, std::slice::from_ref(&names), *attempt), 1) == Some(vec![names])
            });
            assert!(read.count() >= 17, "{size}");
        }
        // And more are noticed.
        let hash = hash(SIZES[0]);
        assert!(peel(&hash, sum(&hash, &[numbers(0..500)], 1), 1).is_none());
    }

    /// Nothing of the sum depends on how many have a name, but through the factor, which is uniform.
    #[test]
    fn a_name_of_many_looks_like_a_name_of_one() {
        let hash = hash(SIZES[0]);
        let (one, many) = (vec![vec![text("a")]], vec![vec![text("a")]; 7]);
        let (one, many) = (sum(&hash, &one, 1), sum(&hash, &many, 2));
        let used = |table: &[Scalar]| -> Vec<usize> {
            (0..hash.size)
                .filter(|cell| table[cell * ELEMENTS] != Scalar::ZERO)
                .collect()
        };
        assert_eq!(used(&one), used(&many));
        assert_eq!(used(&one).len(), HASHES);
        for cell in used(&one) {
            let part = |table: &[Scalar]| table[cell * ELEMENTS..(cell + 1) * ELEMENTS].to_vec();
            let (one, many) = (part(&one), part(&many));
            let scale = many[0] * one[0].invert();
            let scaled: Vec<Scalar> = one.iter().map(|element| element * scale).collect();
            assert_eq!(scaled, many);
        }
    }

    #[test]
    fn a_name_in_the_wrong_place_or_of_a_wrong_form_is_not_taken() {
        let hash = hash(SIZES[0]);
        let good = encode(0, &text("a")).unwrap();
        let add = |table: &mut [Scalar], name: &Name, places: [usize; HASHES]| {
            let cells = Cells {
                places,
                check: hash.of(name).check,
            };
            cells.add(table, name, &Scalar::from(5_u8));
        };
        let empty = || vec![Scalar::ZERO; hash.size * ELEMENTS];
        let mut table = empty();
        add(&mut table, &good, hash.of(&good).places);
        assert!(peel(&hash, table, 1).is_some());
        let mut table = empty();
        add(&mut table, &good, hash.of(&good).places.map(|place| place ^ 1));
        assert!(peel(&hash, table, 1).is_none());
        // Not text; longer than it says; a number of nine bytes.
        for change in [(2, 0xff), (1, 0), (0, 0)] {
            let mut name = good;
            name[change.0] = change.1;
            let mut table = empty();
            add(&mut table, &name, hash.of(&name).places);
            assert!(peel(&hash, table, 1).is_none(), "{change:?}");
        }
        // Twice, so that one stays when the other is taken off.
        let mut table = empty();
        let [a, b, c] = hash.of(&good).places;
        add(&mut table, &good, [a, b, c]);
        add(&mut table, &good, [a, a, a]);
        assert!(peel(&hash, table, 1).is_none());
    }

    /// Several names in one cell look like another one now and then. These two comparisons tell that apart.
    #[test]
    fn a_cell_is_that_of_one_name_only_if_place_and_check_are_those_of_the_name() {
        let hash = hash(SIZES[0]);
        let good = encode(0, &text("a")).unwrap();
        let of_good = hash.of(&good);
        let alone = |places: [usize; HASHES], check: Scalar| {
            let mut table = vec![Scalar::ZERO; hash.size * ELEMENTS];
            Cells { places, check }.add(&mut table, &good, &Scalar::from(5_u8));
            alone(&hash, &table, &places).len()
        };
        assert_eq!(alone(of_good.places, of_good.check), HASHES);
        assert_eq!(alone(of_good.places, of_good.check + Scalar::ONE), 0);
        assert_eq!(alone(of_good.places.map(|place| place ^ 1), of_good.check), 0);
    }

    proptest! {
        #[test]
        fn any_sum_is_survived(cells in proptest::collection::vec((0..384_usize * ELEMENTS, any::<[u8; 32]>()), 0..40), names in 0..40_i64) {
            let hash = hash(SIZES[0]);
            let mut table = sum(&hash, &[numbers(0..names)], 3);
            for (place, bytes) in &cells {
                table[*place] += Scalar::from_bytes_mod_order(*bytes);
            }
            let expected = cells.is_empty().then(|| vec![numbers(0..names)]);
            prop_assert!(peel(&hash, table, 1) == expected);
        }

        #[test]
        fn cells_that_are_forged_are_survived(all in proptest::collection::vec((any::<[u8; 3]>(), 0..128_usize, 0..128_usize, 0..128_usize, 1..9_u8), 0..60)) {
            // Everything a name's cell holds, at places of the forger's choice.
            let hash = hash(SIZES[0]);
            let mut table = vec![Scalar::ZERO; hash.size * ELEMENTS];
            for (bytes, a, b, c, factor) in all {
                let mut name = [0; WORDS * WORD_BYTES];
                name[..3].copy_from_slice(&bytes);
                name[0] %= 4;
                name[1] %= 3;
                let mut cells = hash.of(&name);
                if a % 2 == 0 {
                    cells.places = [a, 128 + b, 256 + c];
                }
                cells.add(&mut table, &name, &Scalar::from(factor));
            }
            let _ = peel(&hash, table, 1);
        }
    }
}
