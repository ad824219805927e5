//! Decimal text to integers on the declared grid, and back.
//!
//! A value v is held as the integer v · 10^after in two's complement in a [`Ring`] that is wide enough for 2^27 values of
//! the declared size, so addition is exact and cannot overflow. Text is read digit by digit; no binary floating point is
//! involved, so `0.1 + 0.2` is `0.3`.

mod total;

use crate::ring::Ring;
use zeroize::Zeroizing;

pub use total::Total;

/// Most decimal digits, before and after the point together: so many fit 2048 bits with room for 2^27 summands, and products of two the widest ring.
pub const MAX_DIGITS: u32 = 608;
/// Words of the widest ring of a grid.
const MAX_LIMBS: usize = 32;

/// A word holds that many decimal digits whatever they are.
const WORD_DIGITS: usize = 19;
/// Every ring has room for 2^27 summands of full size, and a sign.
const HEADROOM_BITS: u32 = 27 + 1;
/// Exponents are cut off here: far beyond every declared size, and no sum with a text's length can overflow.
const EXPONENT_CAP: i64 = 1 << 60;
/// Rounding may change a value by one part in that many.
const ROUNDING_PARTS: u64 = 1_000_000_000;

const POW10: [u128; 39] = {
    let mut table = [1; 39];
    let mut i = 1;
    while i < table.len() {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

/// How many decimal digits values may have before the point (|v| < 10^before) and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    before: u16,
    after: u16,
}

impl Digits {
    /// Declares digits.
    ///
    /// # Errors
    /// [`DigitsError`] if there are none at all or more than [`MAX_DIGITS`] together.
    pub fn new(before: u16, after: u16) -> Result<Digits, DigitsError> {
        let total = u32::from(before) + u32::from(after);
        if total == 0 || total > MAX_DIGITS {
            return Err(DigitsError { total });
        }
        Ok(Digits { before, after })
    }

    /// Digits before the point.
    #[must_use]
    pub fn before(self) -> u16 {
        self.before
    }

    /// Digits after the point.
    #[must_use]
    pub fn after(self) -> u16 {
        self.after
    }
}

impl Default for Digits {
    fn default() -> Self {
        Digits { before: 18, after: 12 }
    }
}

/// One form for all ways to write a JSON number: sign, exponent and digits without zeros at either end. `None` for other texts.
#[must_use]
pub fn canonical(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let token = Token::scan(text).filter(|token| token.length == text.len())?;
    let mut form = Zeroizing::new(Vec::with_capacity(9 + token.count));
    // Zero has no sign and no exponent.
    if let Some(number) = token.significant() {
        form.push(u8::from(token.negative));
        form.extend_from_slice(&number.scale.to_le_bytes());
        form.extend(number.iter().map(|digit| digit as u8));
    }
    Some(form)
}

/// The declared digits cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digits_before and digits_after add up to {total}; from 1 to {MAX_DIGITS} digits are possible")]
pub struct DigitsError {
    total: u32,
}

/// Why a number cannot be taken. Never holds or shows the number itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The text is not a JSON number.
    #[error("not a number")]
    NotANumber,
    /// The value has more digits before the point than declared.
    #[error("the number needs {digits_before_needed} digits before the point")]
    TooLarge {
        /// Digits before the point that hold it.
        digits_before_needed: u32,
    },
    /// The grid would change the value by more than one part in 10^9.
    #[error("the number needs {digits_after_needed} digits after the point")]
    TooFine {
        /// Digits after the point that hold it exactly.
        digits_after_needed: u32,
    },
}

/// The grid 10^−after and the ring that sums on it live in.
#[derive(Clone, Debug)]
pub struct Grid {
    digits: Digits,
    ring: Ring,
    max_rows: u64,
    /// 10^(before + after): no magnitude reaches it.
    bound: Box<[u64]>,
}

impl Grid {
    /// The grid for these digits. The ring's width is the smallest multiple of 64 that holds 2^27 values of full size.
    #[must_use]
    pub fn new(digits: Digits) -> Grid {
        let total = usize::from(digits.before) + usize::from(digits.after);
        let mut bound = [0; MAX_LIMBS];
        bound[0] = 1;
        shift_decimal(&mut bound, total);
        let bits = (bit_length(&bound) + HEADROOM_BITS).next_multiple_of(64);
        let ring = Ring::new(bits).expect("Digits::new allows only what fits 2048 bits");
        let bound = Box::from(&bound[..ring.limbs()]);
        let max_rows = capacity(&bound);
        Grid {
            digits,
            ring,
            max_rows,
            bound,
        }
    }

    /// The declared digits.
    #[must_use]
    pub fn digits(&self) -> Digits {
        self.digits
    }

    /// The ring of the sums; its width is a multiple of 64.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// 10^(before + after), one element: no magnitude reaches it.
    pub(crate) fn bound(&self) -> &[u64] {
        &self.bound
    }

    /// How many values of full size can be summed without overflow: at least 2^27, saturating at `u64::MAX`.
    #[must_use]
    pub fn max_rows(&self) -> u64 {
        self.max_rows
    }

    /// Reads exactly one JSON number and adds it to `acc`, one element of the ring.
    ///
    /// Decimals beyond the grid are rounded to nearest, ties to even, if that changes the value by at most one part in
    /// 10^9.
    ///
    /// # Errors
    /// [`NumberError`]; `acc` is unchanged then.
    pub fn add_token(&self, text: &[u8], acc: &mut [u64]) -> Result<(), NumberError> {
        let token = Token::scan(text).ok_or(NumberError::NotANumber)?;
        if token.length != text.len() {
            return Err(NumberError::NotANumber);
        }
        self.add(&token, acc)
    }

    /// As [`Grid::add_token`], for the number `text` begins with. Returns its length in bytes.
    pub(crate) fn add_prefix(&self, text: &[u8], acc: &mut [u64]) -> Result<usize, NumberError> {
        let token = Token::scan(text).ok_or(NumberError::NotANumber)?;
        self.add(&token, acc)?;
        Ok(token.length)
    }

    fn add(&self, token: &Token, acc: &mut [u64]) -> Result<(), NumberError> {
        debug_assert_eq!(acc.len(), self.ring.limbs(), "one element");
        match (acc, token.word()) {
            ([sum], Some(word)) => {
                let magnitude = self.narrow(token, word)? as u64;
                *sum = if token.negative {
                    sum.wrapping_sub(magnitude)
                } else {
                    sum.wrapping_add(magnitude)
                };
            }
            ([low, high], Some(word)) => {
                let magnitude = self.narrow(token, word)?;
                let sum = u128::from(*high) << 64 | u128::from(*low);
                let sum = if token.negative {
                    sum.wrapping_sub(magnitude)
                } else {
                    sum.wrapping_add(magnitude)
                };
                (*low, *high) = (sum as u64, (sum >> 64) as u64);
            }
            (acc, _) => {
                let mut magnitude = Zeroizing::new([0; MAX_LIMBS]);
                let magnitude = &mut magnitude[..self.ring.limbs()];
                self.wide(token, magnitude)?;
                if token.negative {
                    self.ring.sub_assign(acc, magnitude);
                } else {
                    self.ring.add_assign(acc, magnitude);
                }
            }
        }
        Ok(())
    }

    /// |v| on the grid where all digits of v are in one word and the ring has at most two limbs, so at most 30 digits.
    #[inline]
    fn narrow(&self, token: &Token, word: u64) -> Result<u128, NumberError> {
        if word == 0 {
            return Ok(0);
        }
        let total = self.total();
        let shift = token.scale.saturating_add(i64::from(self.digits.after));
        if shift >= 0 {
            // shift ≤ total: the bound below is then at least 1 and the product less than 10^total.
            let fits = shift <= total && u128::from(word) < POW10[(total - shift) as usize];
            if !fits {
                return Err(self.too_large(token));
            }
            return Ok(u128::from(word) * POW10[shift as usize]);
        }
        if shift < -(WORD_DIGITS as i64) {
            // Less than a tenth of the grid's step.
            return Err(too_fine(token));
        }
        let step = POW10[-shift as usize] as u64;
        let (kept, dropped) = (word / step, word % step);
        if u128::from(kept) >= POW10[total as usize] {
            return Err(self.too_large(token));
        }
        let up = dropped > step - dropped || (dropped == step - dropped && kept % 2 == 1);
        let change = if up { step - dropped } else { dropped };
        if u128::from(change) * u128::from(ROUNDING_PARTS) > u128::from(word) {
            return Err(too_fine(token));
        }
        let rounded = u128::from(kept) + u128::from(up);
        if rounded == POW10[total as usize] {
            return Err(self.rounded_too_large());
        }
        Ok(rounded)
    }

    /// |v| on the grid for any number of digits and any ring; `magnitude` is one element, zero.
    fn wide(&self, token: &Token, magnitude: &mut [u64]) -> Result<(), NumberError> {
        let Some(number) = token.significant() else {
            return Ok(());
        };
        let shift = number.scale.saturating_add(i64::from(self.digits.after));
        let count = number.count as i64;
        if count.saturating_add(shift) > self.total() {
            return Err(self.too_large(token));
        }
        if shift >= 0 {
            push_digits(magnitude, number.iter());
            shift_decimal(magnitude, shift as usize);
            return Ok(());
        }
        let kept = count.saturating_add(shift);
        if kept < 0 {
            // Less than a tenth of the grid's step.
            return Err(too_fine(token));
        }
        let kept = kept as usize;
        push_digits(magnitude, number.iter().take(kept));
        let dropped = number.iter().skip(kept);
        let odd = magnitude[0] & 1 == 1;
        // Trailing zeros are not significant: a tie is the single digit 5.
        let tie = number.count - kept == 1;
        let up = match dropped.clone().next() {
            Some(5) => !tie || odd,
            Some(digit) => digit > 5,
            None => false,
        };
        // Half a step is less than one part in 10^9 of ten digits.
        if kept < 10 && !slight_change(magnitude[0], dropped, up) {
            return Err(too_fine(token));
        }
        if up {
            multiply_add(magnitude, 1, 1);
            if magnitude[..] == self.bound[..] {
                return Err(self.rounded_too_large());
            }
        }
        Ok(())
    }

    fn total(&self) -> i64 {
        i64::from(self.digits.before) + i64::from(self.digits.after)
    }

    #[cold]
    fn too_large(&self, token: &Token) -> NumberError {
        let needed = token
            .significant()
            .map_or(0, |n| n.scale.saturating_add(n.count as i64));
        NumberError::TooLarge {
            digits_before_needed: needed.clamp(0, i64::from(u32::MAX)) as u32,
        }
    }

    #[cold]
    fn rounded_too_large(&self) -> NumberError {
        NumberError::TooLarge {
            digits_before_needed: u32::from(self.digits.before) + 1,
        }
    }
}

#[cold]
fn too_fine(token: &Token) -> NumberError {
    let needed = token.significant().map_or(0, |n| n.scale.saturating_neg());
    NumberError::TooFine {
        digits_after_needed: needed.clamp(0, i64::from(u32::MAX)) as u32,
    }
}

/// A number as written: ± digits · 10^scale.
struct Token<'a> {
    negative: bool,
    /// All digits, perhaps with the point among them.
    text: &'a [u8],
    /// How many digits.
    count: usize,
    /// The digits as an integer modulo 2^64.
    wrapped: u64,
    scale: i64,
    /// Bytes of the whole token.
    length: usize,
}

impl<'a> Token<'a> {
    /// The number at the beginning of `text` by the grammar of RFC 8259, section 6; `None` if there is none.
    #[inline]
    fn scan(text: &'a [u8]) -> Option<Token<'a>> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut wrapped = 0;
        let point = scan_digits(text, start, &mut wrapped);
        let whole = point - start;
        if whole == 0 || (whole > 1 && text[start] == b'0') {
            return None;
        }
        let (mut end, mut fraction) = (point, 0);
        if text.get(point) == Some(&b'.') {
            end = scan_digits(text, point + 1, &mut wrapped);
            fraction = end - point - 1;
            if fraction == 0 {
                return None;
            }
        }
        let (mut length, mut scale) = (end, -(fraction as i64));
        if matches!(text.get(end), Some(b'e' | b'E')) {
            let (exponent, after) = scan_exponent(text, end + 1)?;
            scale += exponent;
            length = after;
        }
        Some(Token {
            negative,
            text: &text[start..end],
            count: whole + fraction,
            wrapped,
            scale,
            length,
        })
    }

    /// All digits as one word, if they fit.
    #[inline]
    fn word(&self) -> Option<u64> {
        if self.count <= WORD_DIGITS {
            return Some(self.wrapped);
        }
        let zeros = leading_zeros(self.text.iter());
        (self.count - zeros <= WORD_DIGITS).then_some(self.wrapped)
    }

    /// The number without leading and trailing zeros; `None` for zero.
    fn significant(&self) -> Option<Significant<'a>> {
        let nonzero = |byte: &u8| matches!(byte, b'1'..=b'9');
        let first = self.text.iter().position(nonzero)?;
        let last = self.text.iter().rposition(nonzero)?;
        let leading = leading_zeros(self.text.iter());
        let trailing = leading_zeros(self.text.iter().rev());
        Some(Significant {
            text: &self.text[first..=last],
            count: self.count - leading - trailing,
            scale: self.scale + trailing as i64,
        })
    }
}

/// Digits that begin and end with a non-zero one, times 10^scale.
struct Significant<'a> {
    text: &'a [u8],
    count: usize,
    scale: i64,
}

impl<'a> Significant<'a> {
    fn iter(&self) -> impl Iterator<Item = u64> + Clone + 'a {
        let digits = self.text.iter().filter(|&&byte| byte != b'.');
        digits.map(|&byte| u64::from(byte - b'0'))
    }
}

#[inline]
fn scan_digits(text: &[u8], from: usize, value: &mut u64) -> usize {
    let mut at = from;
    while let Some(&byte) = text.get(at) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// The exponent that begins at `from` (behind the `e`), and where it ends.
fn scan_exponent(text: &[u8], from: usize) -> Option<(i64, usize)> {
    let sign = text.get(from).filter(|byte| matches!(byte, b'+' | b'-'));
    let start = from + usize::from(sign.is_some());
    let mut exponent = 0_i64;
    let mut at = start;
    while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
        exponent = exponent * 10 + i64::from(digit - b'0');
        exponent = exponent.min(EXPONENT_CAP / 10);
        at += 1;
    }
    let signed = if sign == Some(&b'-') { -exponent } else { exponent };
    (at > start).then_some((signed, at))
}

/// Zeros before the first other digit, in text that may hold a point.
fn leading_zeros<'a>(text: impl Iterator<Item = &'a u8>) -> usize {
    text.take_while(|byte| matches!(byte, b'0' | b'.'))
        .filter(|&&byte| byte == b'0')
        .count()
}

/// Is the rounding of `kept`.`dropped` up or down at most one part in 10^9 of it? `kept` < 10^9.
///
/// With d = 0.dropped, down: d · 10^9 ≤ kept + d, that is d ≤ kept / (10^9 − 1);
/// up: (1 − d) · 10^9 ≤ kept + d, that is d ≥ (10^9 − kept) / (10^9 + 1).
/// Both right sides are repeating decimals with a period of 18 digits (a denominator of 10^18 − 1), so the comparison is
/// exact, digit by digit, for any number of digits.
fn slight_change(kept: u64, mut dropped: impl Iterator<Item = u64>, up: bool) -> bool {
    let period = if up {
        (ROUNDING_PARTS - kept) * (ROUNDING_PARTS - 1)
    } else {
        kept * (ROUNDING_PARTS + 1)
    };
    for place in (0..18).rev().cycle() {
        let Some(digit) = dropped.next() else { break };
        let threshold = period / POW10[place] as u64 % 10;
        if digit != threshold {
            return (digit > threshold) == up;
        }
    }
    // All digits agree and the repeating decimal goes on.
    !up
}

/// `magnitude = magnitude · factor + addend`; the caller knows that it fits.
fn multiply_add(magnitude: &mut [u64], factor: u64, addend: u64) -> u64 {
    let mut carry = u128::from(addend);
    for limb in magnitude {
        carry += u128::from(*limb) * u128::from(factor);
        *limb = carry as u64;
        carry >>= 64;
    }
    carry as u64
}

/// Appends decimal digits to a magnitude.
fn push_digits(magnitude: &mut [u64], digits: impl Iterator<Item = u64>) {
    let (mut chunk, mut count) = (0, 0);
    for digit in digits {
        chunk = chunk * 10 + digit;
        count += 1;
        if count == WORD_DIGITS {
            multiply_add(magnitude, POW10[WORD_DIGITS] as u64, chunk);
            (chunk, count) = (0, 0);
        }
    }
    multiply_add(magnitude, POW10[count] as u64, chunk);
}

/// Multiplies a magnitude by 10^places.
fn shift_decimal(magnitude: &mut [u64], places: usize) {
    let mut left = places;
    while left > 0 {
        let now = left.min(WORD_DIGITS);
        multiply_add(magnitude, POW10[now] as u64, 0);
        left -= now;
    }
}

fn bit_length(magnitude: &[u64]) -> u32 {
    let top = magnitude.iter().rposition(|&limb| limb != 0);
    top.map_or(0, |i| 64 * i as u32 + 64 - magnitude[i].leading_zeros())
}

/// The largest n with n · bound < 2^(64 · limbs − 1), at most `u64::MAX`.
fn capacity(bound: &[u64]) -> u64 {
    let fits = |n: u64| {
        let mut product = bound.to_vec();
        let carry = multiply_add(&mut product, n, 0);
        carry == 0 && product.last().is_some_and(|&top| top >> 63 == 0)
    };
    let bits = (0..64).rev().map(|i| 1 << i);
    bits.fold(0, |n, bit| if fits(n | bit) { n | bit } else { n })
}
