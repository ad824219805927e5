//! What opens: declared in words by every microprotocol, said by its protocol before each opening, and seen by tests.
//!
//! A protocol reveals something in three ways only: [`crate::mask::sum`] to all, [`crate::circuit::open`] to all, [`crate::circuit::open_to`] to one. Before each it says what that will be
//! ([`crate::net::Net::will_open`]), in the words of [`crate::microprotocol::Microprotocol::OPENS`]. What was said holds for one opening: one that nothing was said about has no name, and so is none of
//! those that are declared. A machine that records ([`crate::net::Machine::record`]) keeps what has opened; nodes never do.
//!
//! Tests run the same data dealt to the parties in different ways: what opens must be the same, so it says nothing about who has what.

/// A declared output, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// It follows from the data of all parties together.
    Value(&'static str),
    /// It follows from the data of all parties together whether it is 0. If not, it is uniformly random.
    Random(&'static str),
    /// It follows from the data of all parties together if everything [`Opens::Random`] of the same opening is 0. If not, it is uniformly random.
    Unless(&'static str),
}

impl Opens {
    /// The words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Opens::Value(what) | Opens::Random(what) | Opens::Unless(what) => what,
        }
    }
}

/// The way in which something has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a sum under masks, to all.
    Sum,
    /// As bits of a circuit, to all.
    Bits,
    /// As bits of a circuit, to this party alone.
    OwnBits,
}

/// What has opened of one declared output at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The words of the declared output; empty if nothing was said.
    pub what: &'static str,
    /// How it has opened.
    pub way: Way,
    /// Elements of a ring or field as words, or bits.
    pub elements: Vec<Vec<u64>>,
}

/// More elements were announced than have opened.
const MISSING: &str = "announced, but has not opened";

/// What was said about the next opening: words, and how many elements they are about.
#[derive(Debug, Default)]
pub(crate) struct Announced(Vec<(&'static str, Option<usize>)>);

impl Announced {
    /// All elements.
    pub(crate) fn all(&mut self, what: &'static str) {
        self.0.clear();
        self.0.push((what, None));
    }

    /// So many of each, in this order.
    pub(crate) fn parts(&mut self, parts: &[(&'static str, usize)]) {
        self.0.clear();
        self.0
            .extend(parts.iter().map(|(what, elements)| (*what, Some(*elements))));
    }

    /// It was about the opening before.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// What has opened, by what was said of it.
    pub(crate) fn split(&self, way: Way, elements: Vec<Vec<u64>>) -> Vec<Opening> {
        let mut left = elements.into_iter();
        let mut openings = Vec::with_capacity(self.0.len());
        for (what, announced) in &self.0 {
            if *announced == Some(0) {
                continue;
            }
            let elements: Vec<_> = left.by_ref().take(announced.unwrap_or(usize::MAX)).collect();
            let complete = announced.is_none_or(|announced| announced == elements.len());
            let what = if complete { what } else { MISSING };
            openings.push(Opening { what, way, elements });
        }
        let rest: Vec<_> = left.collect();
        if !rest.is_empty() {
            let what = "";
            openings.push(Opening {
                what,
                way,
                elements: rest,
            });
        }
        openings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_has_the_words_that_were_said_of_it() {
        let split = |announced: &Announced, count: u64| -> Vec<(&str, usize)> {
            let openings = announced.split(Way::Sum, (0..count).map(|element| vec![element]).collect());
            openings
                .iter()
                .map(|opening| (opening.what, opening.elements.len()))
                .collect()
        };
        let mut announced = Announced::default();
        assert_eq!(split(&announced, 2), [("", 2)]);
        announced.all("sum");
        assert_eq!(split(&announced, 3), [("sum", 3)]);
        announced.parts(&[("sum", 2), ("count", 1)]);
        assert_eq!(split(&announced, 3), [("sum", 2), ("count", 1)]);
        assert_eq!(split(&announced, 4), [("sum", 2), ("count", 1), ("", 1)]);
        assert_eq!(split(&announced, 2), [("sum", 2), (MISSING, 0)]);
        announced.parts(&[("none", 0), ("sum", 1)]);
        assert_eq!(split(&announced, 1), [("sum", 1)]);
        announced.forget();
        assert_eq!(split(&announced, 1), [("", 1)]);
    }
}
