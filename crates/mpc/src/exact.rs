//! Quotients of opened integers: exact until they are rounded, once, to the nearest double.
//!
//! Only integers and IEEE operations, so all parties compute the same bits.

use num_bigint::{BigInt, BigUint, Sign};

use crate::number::Grid;

/// Bits of a quotient before it is rounded: more than a double has, so that one more bit for the rest makes rounding right.
const BITS: u64 = 66;

/// A rational number.
#[derive(Clone, Debug)]
pub struct Ratio {
    numerator: BigInt,
    /// Greater than 0.
    denominator: BigUint,
}

impl Ratio {
    /// `numerator / denominator`; `None` if that is no number.
    #[must_use]
    pub fn new(numerator: impl Into<BigInt>, denominator: impl Into<BigInt>) -> Option<Ratio> {
        let (mut numerator, denominator) = (numerator.into(), denominator.into());
        if denominator.sign() == Sign::Minus {
            numerator = -numerator;
        }
        let denominator = denominator.into_parts().1;
        (denominator.bits() > 0).then_some(Ratio { numerator, denominator })
    }

    /// A whole number.
    #[must_use]
    pub fn whole(number: impl Into<BigInt>) -> Ratio {
        Ratio {
            numerator: number.into(),
            denominator: BigUint::from(1_u8),
        }
    }

    /// Divided by a whole number; `None` if that is 0.
    #[must_use]
    pub fn divided(mut self, divisor: u64) -> Option<Ratio> {
        self.denominator *= divisor;
        (divisor > 0).then_some(self)
    }

    /// Divided by 10^places.
    #[must_use]
    pub fn shifted(mut self, places: u32) -> Ratio {
        self.denominator *= BigUint::from(10_u8).pow(places);
        self
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, other: &Ratio) -> Ratio {
        let scaled = |one: &Ratio, other: &Ratio| &one.numerator * BigInt::from(other.denominator.clone());
        Ratio {
            numerator: scaled(self, other) + scaled(other, self),
            denominator: &self.denominator * &other.denominator,
        }
    }

    /// Both multiplied.
    #[must_use]
    pub fn times(&self, other: &Ratio) -> Ratio {
        Ratio {
            numerator: &self.numerator * &other.numerator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    /// This divided by the other one, which is not 0.
    #[must_use]
    pub fn over(&self, other: &Ratio) -> Option<Ratio> {
        let up = &self.numerator * BigInt::from(other.denominator.clone());
        Ratio::new(up, &other.numerator * BigInt::from(self.denominator.clone()))
    }

    /// With the other sign.
    #[must_use]
    pub fn negated(mut self) -> Ratio {
        self.numerator = -self.numerator;
        self
    }

    /// Whether it is 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.numerator.sign() == Sign::NoSign
    }

    /// Whether it is greater than 0.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.numerator.sign() == Sign::Plus
    }

    /// The nearest double; infinite beyond their range.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        self.float().to_f64()
    }

    /// The square root of its magnitude, to the nearest double but for one part in 2^60.
    #[must_use]
    pub fn root(&self) -> Float {
        let (quotient, shift) = self.quotient(2 * BITS);
        // Half of the shift must be a whole number.
        let (quotient, shift) = if shift % 2 == 0 {
            (quotient, shift)
        } else {
            (quotient << 1_u8, shift + 1)
        };
        Float::of(quotient.sqrt(), false).scaled(-shift / 2)
    }

    /// As a mantissa and an exponent, whatever its size.
    #[must_use]
    pub fn float(&self) -> Float {
        let (quotient, shift) = self.quotient(BITS);
        Float::of(quotient, self.numerator.sign() == Sign::Minus).scaled(-shift)
    }

    /// The magnitude times 2^shift, cut to an integer of at least so many bits, whose last bit is 1 if anything was cut off.
    fn quotient(&self, bits: u64) -> (BigUint, i64) {
        let numerator = self.numerator.magnitude();
        if numerator.bits() == 0 {
            return (BigUint::default(), 0);
        }
        let shift = (self.denominator.bits() + bits).cast_signed() - numerator.bits().cast_signed();
        let (up, down) = if shift >= 0 {
            (numerator << shift.unsigned_abs(), self.denominator.clone())
        } else {
            (numerator.clone(), &self.denominator << shift.unsigned_abs())
        };
        let mut quotient = &up / &down;
        if &quotient * &down != up {
            quotient.set_bit(0, true);
        }
        (quotient, shift)
    }
}

/// m · 2^e with 1/2 ≤ |m| < 1, or 0: a double whose exponent has no limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Float {
    mantissa: f64,
    exponent: i64,
}

impl Float {
    /// 0.
    pub const ZERO: Float = Float {
        mantissa: 0.0,
        exponent: 0,
    };

    /// Of a double that is a number.
    #[must_use]
    pub fn new(number: f64) -> Float {
        let (mantissa, exponent) = libm::frexp(number);
        Float {
            mantissa,
            exponent: exponent.into(),
        }
    }

    /// The nearest one to a magnitude in little-endian words.
    #[must_use]
    pub fn of_magnitude(magnitude: &[u64], negative: bool) -> Float {
        let Some(top) = magnitude.iter().rposition(|word| *word != 0) else {
            return Float::ZERO;
        };
        let word = |below: usize| top.checked_sub(below).map_or(0, |index| magnitude[index]);
        // 128 bits, of which at least 65 are used: the last one stands for all that follows.
        let mut high = u128::from(word(0)) << 64 | u128::from(word(1));
        if top >= 2 && magnitude[..top - 1].iter().any(|word| *word != 0) {
            high |= 1;
        }
        let exponent = 64 * (top as i64 - 1);
        #[allow(clippy::cast_precision_loss)] // to the nearest
        let number = high as f64;
        Float::new(if negative { -number } else { number }).scaled(exponent)
    }

    fn of(integer: BigUint, negative: bool) -> Float {
        Float::of_magnitude(&integer.to_u64_digits(), negative)
    }

    /// Times 2^exponent.
    #[must_use]
    pub fn scaled(mut self, exponent: i64) -> Float {
        if self.mantissa != 0.0 {
            self.exponent += exponent;
        }
        self
    }

    /// This divided by the other one, which is not 0.
    #[must_use]
    pub fn over(self, other: Float) -> Float {
        Float::new(self.mantissa / other.mantissa).scaled(self.exponent - other.exponent)
    }

    /// Whether it is greater than 0.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.mantissa > 0.0
    }

    /// The natural logarithm of one that is greater than 0.
    #[must_use]
    pub fn ln(self) -> f64 {
        if self.exponent.abs() <= 1000 {
            return libm::log(self.to_f64());
        }
        libm::log(self.mantissa) + self.exponent as f64 * std::f64::consts::LN_2
    }

    /// The nearest double; infinite beyond their range.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        let exponent = self.exponent.clamp(-5000, 5000);
        #[allow(clippy::cast_possible_truncation)] // just clamped
        libm::ldexp(self.mantissa, exponent as i32)
    }

    /// Adds it to an element of a ring of whole words with 64 bits behind the binary point, to the nearest. What does not fit is cut off.
    pub fn add_fixed(self, element: &mut [u64]) {
        // 53 bits, an integer.
        let (mantissa, shift) = (libm::ldexp(self.mantissa.abs(), 53), self.exponent - 53 + 64);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a whole number below 2^53
        let mantissa = mantissa as u64;
        let (low, word) = match shift {
            ..=-55 => return,
            -54..=-1 => {
                let down = shift.unsigned_abs();
                (u128::from((mantissa + (1 << (down - 1))) >> down), 0)
            }
            _ => (u128::from(mantissa) << (shift % 64), (shift / 64) as usize),
        };
        let words = [low as u64, (low >> 64) as u64];
        let mut carry = false;
        for (place, slot) in element.iter_mut().skip(word).enumerate() {
            let part = words.get(place).copied().unwrap_or(0);
            let (sum, over, again);
            if self.mantissa < 0.0 {
                (sum, over) = slot.overflowing_sub(part);
                (*slot, again) = sum.overflowing_sub(u64::from(carry));
            } else {
                (sum, over) = slot.overflowing_add(part);
                (*slot, again) = sum.overflowing_add(u64::from(carry));
            }
            carry = over | again;
        }
    }
}

/// An element in two's complement as an integer. The ring has whole words.
#[must_use]
pub fn integer(element: &[u64]) -> BigInt {
    let digits: Vec<u32> = element
        .iter()
        .flat_map(|word| [*word as u32, (*word >> 32) as u32])
        .collect();
    let magnitude = BigInt::from(BigUint::new(digits));
    let negative = element.last().is_some_and(|top| top >> 63 == 1);
    if negative {
        magnitude - (BigInt::from(1) << (64 * element.len()))
    } else {
        magnitude
    }
}

/// An integer as an element in two's complement. What does not fit is cut off.
#[must_use]
pub fn element(integer: &BigInt, words: usize) -> Vec<u64> {
    let mut element = integer.magnitude().to_u64_digits();
    element.resize(words, 0);
    if integer.sign() == Sign::Minus {
        let mut carry = true;
        for word in &mut element {
            (*word, carry) = (!*word).overflowing_add(u64::from(carry));
        }
    }
    element
}

/// Digits after the point: 10^that many steps of the grid are 1.
#[must_use]
pub fn unit(grid: &Grid) -> u32 {
    grid.digits().after().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::disallowed_methods)]
    use super::*;
    use proptest::prelude::*;

    fn big(text: &str) -> BigInt {
        text.parse().unwrap()
    }

    #[test]
    fn quotients_are_rounded_once() {
        let of = |up: &str, down: &str| Ratio::new(big(up), big(down)).unwrap().to_f64();
        assert_eq!(of("1", "3"), 1.0 / 3.0);
        assert_eq!(of("-1", "10"), -0.1);
        assert_eq!(of("1", "-10"), -0.1);
        assert_eq!(of("0", "7"), 0.0);
        // Half way between two doubles, and a little more.
        assert_eq!(of("9007199254740993", "1"), 9007199254740992.0);
        assert_eq!(
            of(
                "90071992547409930000000000000000000000000000001",
                "10000000000000000000000000000000"
            ),
            9007199254740994.0
        );
        assert_eq!(
            of(&format!("1{}", "0".repeat(400)), &format!("1{}", "0".repeat(100))),
            1e300
        );
        assert_eq!(of(&format!("1{}", "0".repeat(400)), "1"), f64::INFINITY);
        assert!(Ratio::new(1, 0).is_none());
    }

    #[test]
    fn roots_of_what_doubles_cannot_hold() {
        let huge = Ratio::new(big(&format!("4{}", "0".repeat(600))), 1).unwrap();
        assert_eq!(huge.root().to_f64(), 2e300);
        assert_eq!(Ratio::new(2, 1).unwrap().root().to_f64(), 2f64.sqrt());
        assert_eq!(Ratio::new(0, 5).unwrap().root(), Float::ZERO);
    }

    #[test]
    fn fixed_point() {
        let fixed = |number: f64, words: usize| {
            let mut element = vec![0; words];
            Float::new(number).add_fixed(&mut element);
            element
        };
        assert_eq!(fixed(1.0, 3), [0, 1, 0]);
        assert_eq!(fixed(-1.0, 3), [0, u64::MAX, u64::MAX]);
        assert_eq!(fixed(0.5, 2), [1 << 63, 0]);
        assert_eq!(fixed(2f64.powi(-64), 2), [1, 0]);
        assert_eq!(fixed(2f64.powi(-65), 2), [1, 0]);
        assert_eq!(fixed(2f64.powi(-66), 2), [0, 0]);
        assert_eq!(fixed(1e-300, 2), [0, 0]);
        assert_eq!(fixed(2f64.powi(100), 3), [0, 0, 1 << 36]);
        assert_eq!(fixed(2f64.powi(200), 3), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn floats_hold_what_doubles_hold(a in any::<f64>().prop_filter("a number", |a| a.is_finite()), b in 1e-200f64..1e200) {
            prop_assert_eq!(Float::new(a).to_f64(), a);
            if a != 0.0 && (a / b).is_normal() {
                prop_assert_eq!(Float::new(a).over(Float::new(b)).to_f64(), a / b);
            }
        }

        #[test]
        fn magnitudes_are_rounded_to_the_nearest(words in proptest::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(1), Just(u64::MAX)], 1..5), negative: bool) {
            let exact = BigInt::from_biguint(
                if negative { Sign::Minus } else { Sign::Plus },
                BigUint::new(words.iter().flat_map(|w| [*w as u32, (*w >> 32) as u32]).collect()),
            );
            let nearest: f64 = exact.to_string().parse().unwrap();
            prop_assert_eq!(Float::of_magnitude(&words, negative).to_f64(), nearest);
            let mut wide = words.clone();
            wide.push(0);
            prop_assert_eq!(integer(&element(&exact, wide.len())), exact);
        }

        #[test]
        fn fixed_point_is_within_half_a_step(numbers in proptest::collection::vec(-1e15f64..1e15, 1..20)) {
            let mut sum = vec![0; 3];
            for number in &numbers {
                Float::new(*number).add_fixed(&mut sum);
            }
            let exact = numbers.iter().fold(Ratio::whole(0), |sum, number| {
                let (mantissa, exponent) = libm::frexp(*number);
                let mantissa = libm::ldexp(mantissa, 53) as i64;
                let down = BigInt::from(1) << (200 + 53 - exponent);
                sum.plus(&Ratio::new(BigInt::from(mantissa) << 200, down).unwrap())
            });
            let mine = Ratio::new(integer(&sum), BigInt::from(1) << 64).unwrap();
            let apart = mine.plus(&exact.negated()).to_f64().abs();
            prop_assert!(apart <= numbers.len() as f64 * 2f64.powi(-65));
        }
    }
}
