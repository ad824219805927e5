//! Numbers: sums and comparisons of least depth.
//!
//! Carries are found with a parallel prefix (Sklansky, *Conditional-sum addition logic*, 1960), as Schneider and Zohner (*GMW vs. Yao? Efficient secure
//! two-party computation with low depth circuits*, FC 2013) advise. Our segments carry another pair than theirs: with p = x⊕y, the carry out of a place is
//! the carry into it if p, else x (which is y then). So a place is (p, x), needs no product, and segments join by
//!
//! > (p', g') above (p, g) = (p'·p, g' ⊕ p'·(g' ⊕ g)),
//!
//! two products with a common operand, thus one oblivious transfer. That saves the layer and the products which make "generate" bits. Below the lowest
//! place lies the segment (1, 0): nothing is carried into it.
//!
//! Sums of many numbers go through a carry-save tree (Wallace 1964; Dadda 1965), place by place, always adding the three bits that are there first: since
//! XOR is free, a sum bit is no later than its operands, and the tree's depth is about log2 of the number of numbers instead of log1.5. A full adder has
//! one product: the carry of x, y, z is x ⊕ (x⊕y)·(x⊕z) (Boyar, Peralta, Pochuev 2000).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Bit;
use super::Builder;
use super::builder::zero_extended;

/// Some adjacent places of an addition: whether a carry runs through all of them, and the carry out of them if not.
#[derive(Clone, Copy)]
struct Segment {
    through: Bit,
    carry: Bit,
}

impl Builder {
    /// x + y modulo 2^width, the width being that of the wider number: depth log(width).
    pub fn add(&mut self, x: &[Bit], y: &[Bit]) -> Vec<Bit> {
        let places = zero_extended(x, y);
        let width = places.len();
        let mut segments = self.segments(&places[..width.saturating_sub(1)]);
        self.prefix(&mut segments);
        let sum = |(place, (x, y)): (usize, &(Bit, Bit))| {
            let sum = self.xor(*x, *y);
            self.xor(sum, segments[place].carry)
        };
        places.iter().enumerate().map(sum).collect()
    }

    /// The sum of all numbers modulo 2^width, the width being that of the widest: depth about log(numbers) + log(width). (Constant zeros on top of one of
    /// them make room for carries; they cost nothing by themselves.)
    pub fn sum(&mut self, numbers: &[Vec<Bit>]) -> Vec<Bit> {
        let (x, y) = self.carry_save(numbers);
        self.add(&x, &y)
    }

    /// Whether the sum of all numbers modulo 2^width is negative as a two's complement: its highest bit. Cheaper than [`Builder::sum`], of the same depth.
    ///
    /// All numbers should have the same width, since zeros and not signs are put on top of shorter ones. Without a bit there is no sign: false.
    pub fn sum_is_negative(&mut self, numbers: &[Vec<Bit>]) -> Bit {
        let (x, y) = self.carry_save(numbers);
        let places = zero_extended(&x, &y);
        let Some(((x, y), below)) = places.split_last() else {
            return self.constant(false);
        };
        let carry = self.carry_out(below);
        let sum = self.xor(*x, *y);
        self.xor(sum, carry)
    }

    /// Whether x < y, without sign: depth log(width + 1).
    pub fn less(&mut self, x: &[Bit], y: &[Bit]) -> Bit {
        // The carry out of (2^width − 1 − x) + y: that is at least 2^width exactly if y > x.
        let places: Vec<(Bit, Bit)> = zero_extended(x, y).iter().map(|(x, y)| (self.not(*x), *y)).collect();
        self.carry_out(&places)
    }

    /// Whether x = y: depth log(width).
    pub fn equal(&mut self, x: &[Bit], y: &[Bit]) -> Bit {
        let mut same = Vec::new();
        for (x, y) in zero_extended(x, y) {
            let different = self.xor(x, y);
            same.push(self.not(different));
        }
        self.all(&same)
    }

    /// The segment below the lowest place, and each place.
    fn segments(&mut self, places: &[(Bit, Bit)]) -> Vec<Segment> {
        let below = Segment {
            through: self.constant(true),
            carry: self.constant(false),
        };
        let mut segments = vec![below];
        for (x, y) in places {
            segments.push(Segment {
                through: self.xor(*x, *y),
                carry: *y,
            });
        }
        segments
    }

    fn join(&mut self, high: Segment, low: Segment) -> Segment {
        let difference = self.xor(high.carry, low.carry);
        let products = self.scale(high.through, &[low.through, difference]);
        Segment {
            through: products[0],
            carry: self.xor(high.carry, products[1]),
        }
    }

    /// Each segment becomes the join of all up to it.
    fn prefix(&mut self, segments: &mut [Segment]) {
        let middle = segments.len().next_power_of_two() / 2;
        if segments.len() < 2 {
            return;
        }
        let (low, high) = segments.split_at_mut(middle);
        self.prefix(low);
        self.prefix(high);
        let low = low[middle - 1];
        for segment in high {
            *segment = self.join(*segment, low);
        }
    }

    /// The carry out of the highest place.
    fn carry_out(&mut self, places: &[(Bit, Bit)]) -> Bit {
        let mut segments = self.segments(places);
        while segments.len() > 1 {
            let joined = segments.chunks(2).map(|pair| match pair {
                [low, high] => self.join(*high, *low),
                rest => rest[0],
            });
            segments = joined.collect();
        }
        segments[0].carry
    }

    /// Two numbers with the same sum modulo 2^width.
    fn carry_save(&mut self, numbers: &[Vec<Bit>]) -> (Vec<Bit>, Vec<Bit>) {
        let width = numbers.iter().map(Vec::len).max().unwrap_or(0);
        let (mut x, mut y) = (Vec::with_capacity(width), Vec::with_capacity(width));
        let mut carries: Vec<Bit> = Vec::new();
        for place in 0..width {
            let bits = numbers.iter().filter_map(|number| number.get(place)).copied();
            let mut waiting: BinaryHeap<Reverse<(u32, Bit)>> = bits
                .chain(carries.drain(..))
                .filter(|bit| *bit != Bit::FALSE)
                .map(|bit| Reverse((self.level(bit), bit)))
                .collect();
            while waiting.len() > 2 {
                let mut next = || waiting.pop().map_or(Bit::FALSE, |Reverse((_, bit))| bit);
                let (a, b, c) = (next(), next(), next());
                let (sum, carry) = self.full_adder(a, b, c);
                waiting.push(Reverse((self.level(sum), sum)));
                carries.push(carry);
            }
            let mut next = || waiting.pop().map_or(Bit::FALSE, |Reverse((_, bit))| bit);
            x.push(next());
            y.push(next());
        }
        (x, y)
    }

    fn full_adder(&mut self, a: Bit, b: Bit, c: Bit) -> (Bit, Bit) {
        let (ab, ac) = (self.xor(a, b), self.xor(a, c));
        let different = self.and(ab, ac);
        (self.xor(ab, c), self.xor(a, different))
    }
}
