//! Decimal text on the declared grid: fixed cases, then random ones against schoolbook arithmetic.
#![allow(clippy::unwrap_used)]

use fdrtd_mpc::data;
use fdrtd_mpc::number::{Digits, Grid, NumberError};
use proptest::prelude::*;
use std::cmp::Ordering;

fn grid(before: u16, after: u16) -> Grid {
    Grid::new(Digits::new(before, after).unwrap())
}

fn sum(grid: &Grid, texts: &[&str]) -> Result<Vec<u64>, NumberError> {
    let mut acc = vec![0; grid.ring().limbs()];
    for text in texts {
        grid.add_token(text.as_bytes(), &mut acc)?;
    }
    Ok(acc)
}

fn decimal(before: u16, after: u16, texts: &[&str]) -> Result<String, NumberError> {
    let grid = grid(before, after);
    sum(&grid, texts).map(|acc| grid.to_decimal(&acc))
}

fn too_large(digits_before_needed: u32) -> Result<String, NumberError> {
    Err(NumberError::TooLarge { digits_before_needed })
}

fn too_fine(digits_after_needed: u32) -> Result<String, NumberError> {
    Err(NumberError::TooFine { digits_after_needed })
}

#[test]
fn rings_have_the_stated_width_and_room() {
    let widths = [(10, 0, 64), (10, 1, 128), (18, 12, 128), (18, 13, 192)];
    let widest = [(300, 300, 2048), (301, 300, 2048), (608, 0, 2048)];
    for (before, after, bits) in widths.into_iter().chain(widest) {
        let grid = grid(before, after);
        assert_eq!(grid.ring().bits(), bits);
        assert!(grid.max_rows() >= 1 << 27);
    }
    // floor(2^127 / 10^30)
    assert_eq!(Grid::new(Digits::default()).max_rows(), 170_141_183);
    assert_eq!(grid(1, 0).max_rows(), (1 << 63) / 10);
    assert_eq!(grid(11, 0).max_rows(), u64::MAX);
    assert!(Digits::new(304, 304).is_ok());
    assert!(Digits::new(304, 305).is_err());
    assert!(Digits::new(u16::MAX, u16::MAX).is_err());
    assert!(Digits::new(0, 0).is_err());
}

#[test]
fn sums_that_binary_floating_point_gets_wrong() {
    let default = |texts: &[&str]| decimal(18, 12, texts).unwrap();
    assert_eq!(default(&["0.1", "0.2"]), "0.3");
    assert_eq!(default(&["-0.1", "-0.2"]), "-0.3");
    assert_eq!(default(&["1e16", "1", "-1e16", "1"]), "2");
    let odd = "9007199254740993";
    assert_eq!(default(&[odd, odd]), "18014398509481986");
    assert_eq!(default(&["0.1"; 10]), "1");
    let tiny = decimal(18, 13, &["1e-13"; 10]).unwrap();
    assert_eq!(tiny, "0.000000000001");
}

#[test]
fn what_does_not_fit_says_what_it_needs() {
    assert_eq!(decimal(18, 12, &["1e300"]), too_large(301));
    assert_eq!(decimal(18, 12, &["1e-13"]), too_fine(13));
    let huge = format!("1{}", "0".repeat(300));
    assert_eq!(decimal(301, 12, &["1e300"]), Ok(huge));
    assert_eq!(decimal(18, 12, &["1000000000000000000"]), too_large(19));
    assert_eq!(decimal(18, 12, &["-1E18"]), too_large(19));
    assert_eq!(decimal(18, 12, &["1e999999999999"]), too_large(u32::MAX));
    assert_eq!(decimal(18, 12, &["1e-999999999999"]), too_fine(u32::MAX));
    let endless = format!("-3.1e-{}", "9".repeat(50));
    assert_eq!(decimal(300, 300, &[&endless]), too_fine(u32::MAX));
    // One that rounds up to 10^before, in a word and beyond.
    assert_eq!(decimal(9, 1, &["999999999.99"]), too_large(10));
    let nines = format!("{}.{}", "9".repeat(18), "9".repeat(13));
    assert_eq!(decimal(18, 12, &[&nines]), too_large(19));
    assert_eq!(decimal(18, 13, &[&nines]), Ok(nines));
}

#[test]
fn rounding_is_to_nearest_with_ties_to_even() {
    for (text, rounded) in [
        ("1000000000.5", "1000000000"),
        ("1000000001.5", "1000000002"),
        ("-1000000001.5", "-1000000002"),
        ("1000000000.50000000000000000001", "1000000001"),
        ("1000000000.49999999999999999999", "1000000000"),
        ("0.9999999995", "1"),
        ("1000000000.500000000000000000000", "1000000000"),
    ] {
        assert_eq!(decimal(12, 0, &[text]).as_deref(), Ok(rounded), "{text}");
        assert_eq!(decimal(30, 0, &[text]).as_deref(), Ok(rounded), "{text}");
    }
    let third = decimal(18, 12, &["0.3333333333333333"]);
    assert_eq!(third.as_deref(), Ok("0.333333333333"));
}

#[test]
fn one_part_in_a_thousand_millions_is_the_limit_of_rounding() {
    for (text, fine) in [
        // d ≤ 1 / (10^9 − 1) = 0.000000001000000001…
        ("1.000000001000000001", true),
        ("1.000000001000000002", false),
        ("1.00000000100000000100000000", true),
        ("1.0000000010000000010000000010000000009", true),
        ("1.0000000010000000010000000010000000011", false),
        // d ≥ (10^9 − 1) / (10^9 + 1) = 0.999999998000000001999999998…
        ("1.999999998000000002", true),
        ("1.999999998000000001", false),
        ("1.9999999980000000019999999980000000020", true),
        ("1.9999999980000000019999999980000000019", false),
        ("0.4", false),
        ("100000000.4", false),
        ("100000000.1", true),
        ("123456789.1234567890123456789", true),
        ("123456789.1234567901", false),
        ("0.9999999990", false),
        ("0.9999999991", true),
    ] {
        assert_eq!(decimal(9, 0, &[text]).is_ok(), fine, "{text}");
        assert_eq!(decimal(40, 0, &[text]).is_ok(), fine, "{text}");
    }
}

#[test]
fn only_json_numbers_are_numbers() {
    let zeros = ["0", "-0", "0.0", "-0.000e5", "0e99999", "0E-999999999999999999999"];
    for text in zeros {
        for (before, after) in [(18, 12), (1, 0), (0, 1), (300, 300)] {
            assert_eq!(decimal(before, after, &[text]).as_deref(), Ok("0"), "{text}");
        }
    }
    for (text, value) in [("1.5E-7", "0.00000015"), ("12e+0", "12"), ("0.00e1", "0")] {
        assert_eq!(decimal(18, 12, &[text]).as_deref(), Ok(value));
    }
    for text in [
        "",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e5",
        "01",
        "-01",
        "00",
        "1e",
        "1e+",
        "1e5.5",
        "0x1",
        "1_0",
        " 1",
        "1 ",
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "1,",
        "--1",
        "1.2.3",
        "\u{664}",
    ] {
        assert_eq!(decimal(18, 12, &[text]), Err(NumberError::NotANumber), "{text}");
    }
}

#[test]
fn json_is_an_integer_where_it_can_be() {
    let json = |before, after, texts: &[&str]| {
        let grid = grid(before, after);
        serde_json::to_string(&grid.to_total(&sum(&grid, texts).unwrap())).unwrap()
    };
    assert_eq!(json(18, 12, &["30.5", "0.5"]), "31");
    assert_eq!(json(18, 12, &["-0.1", "-0.2"]), "-0.3");
    assert_eq!(json(18, 12, &["0.5", "-0.5"]), "0");
    let most = "9223372036854775807";
    assert_eq!(json(20, 12, &[most]), most);
    assert_eq!(json(20, 12, &[&format!("-{most}")]), format!("-{most}"));
    for over in ["9223372036854775808", "-9223372036854775808"] {
        let text = json(20, 12, &[over]);
        assert!(text.contains(['.', 'e']), "{text} is a double");
        assert_eq!(text.parse::<f64>().unwrap(), over.parse::<f64>().unwrap());
    }
    let beyond = format!("-2{}", "0".repeat(308));
    assert_eq!(json(309, 0, &["-1e308", "-1e308"]), beyond);
    let below = format!("-0.{}1", "0".repeat(399));
    assert_eq!(json(1, 400, &["-1e-400"]), below);
    let tiny = grid(1, 400);
    let value = tiny.to_f64(&sum(&tiny, &["-1e-400"]).unwrap());
    assert_eq!(value.to_bits(), 0);
}

/// Schoolbook arithmetic on decimal digits, highest first: slow, plain, and nothing like the code under test.
mod oracle {
    use super::{NumberError, Ordering};

    /// An exact integer of any size.
    #[derive(Clone, Debug, Default)]
    pub(super) struct Whole {
        pub(super) negative: bool,
        pub(super) digits: Vec<u8>,
    }

    pub(super) fn trim(digits: &[u8]) -> Vec<u8> {
        digits.iter().copied().skip_while(|&d| d == 0).collect()
    }

    pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
        let (a, b) = (trim(a), trim(b));
        a.len().cmp(&b.len()).then(a.cmp(&b))
    }

    fn padded(a: &[u8], length: usize) -> Vec<u8> {
        [vec![0; length - a.len()], a.to_vec()].concat()
    }

    pub(super) fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
        let length = a.len().max(b.len()) + 1;
        let (a, b) = (padded(a, length), padded(b, length));
        let mut sum = vec![0; length];
        let mut carry = 0;
        for i in (0..length).rev() {
            let s = a[i] + b[i] + carry;
            (sum[i], carry) = (s % 10, s / 10);
        }
        trim(&sum)
    }

    /// a − b for a ≥ b.
    pub(super) fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
        let b = padded(&trim(b), a.len());
        let mut difference = a.to_vec();
        let mut borrow = 0;
        for i in (0..a.len()).rev() {
            let d = 10 + a[i] - b[i] - borrow;
            (difference[i], borrow) = (d % 10, 1 - d / 10);
        }
        trim(&difference)
    }

    pub(super) fn add_signed(a: &Whole, b: &Whole) -> Whole {
        if a.negative == b.negative {
            let digits = add(&a.digits, &b.digits);
            return Whole {
                negative: a.negative,
                digits,
            };
        }
        let (big, small) = match compare(&a.digits, &b.digits) {
            Ordering::Less => (b, a),
            _ => (a, b),
        };
        let digits = subtract(&trim(&big.digits), &small.digits);
        Whole {
            negative: big.negative,
            digits,
        }
    }

    /// The rule for one number: digits · 10^exponent on the grid, in units of 10^−after, or what it needs.
    pub(super) fn place(digits: &[u8], exponent: i64, before: u16, after: u16) -> Result<Vec<u8>, NumberError> {
        let mut digits = trim(digits);
        let mut exponent = exponent;
        if digits.is_empty() {
            return Ok(digits);
        }
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += 1;
        }
        let whole_digits = digits.len() as i64 + exponent;
        if whole_digits > i64::from(before) {
            return Err(NumberError::TooLarge {
                digits_before_needed: whole_digits as u32,
            });
        }
        let finer = -exponent - i64::from(after);
        if finer <= 0 {
            digits.extend(vec![0; -finer as usize]);
            return Ok(digits);
        }
        // Over the common denominator 10^finer: value, the multiple of 10^finer below it, and the one above it.
        let step = [vec![1], vec![0; finer as usize]].concat();
        let kept = digits[..digits.len().saturating_sub(finer as usize)].to_vec();
        let below = [kept.clone(), vec![0; finer as usize]].concat();
        let down = subtract(&digits, &below);
        let up = subtract(&step, &down);
        let odd = kept.last().is_some_and(|d| d % 2 == 1);
        let round_up = match compare(&down, &up) {
            Ordering::Less => false,
            Ordering::Equal => odd,
            Ordering::Greater => true,
        };
        let change = if round_up { up } else { down };
        if compare(&[change, vec![0; 9]].concat(), &digits) == Ordering::Greater {
            return Err(NumberError::TooFine {
                digits_after_needed: -exponent as u32,
            });
        }
        let rounded = if round_up { add(&kept, &[1]) } else { kept };
        if rounded.len() > usize::from(before + after) {
            return Err(NumberError::TooLarge {
                digits_before_needed: u32::from(before) + 1,
            });
        }
        Ok(rounded)
    }

    pub(super) fn text(sum: &Whole, after: u16) -> String {
        let after = usize::from(after);
        let digits = trim(&sum.digits);
        let digits = padded(&digits, digits.len().max(after + 1));
        let show = |d: &[u8]| d.iter().map(|d| char::from(b'0' + d)).collect::<String>();
        let (whole, fraction) = digits.split_at(digits.len() - after);
        let mut text = show(whole);
        if fraction.iter().any(|&d| d != 0) {
            text = format!("{text}.{}", show(fraction).trim_end_matches('0'));
        }
        if sum.negative && digits.iter().any(|&d| d != 0) {
            text.insert(0, '-');
        }
        text
    }
}

/// A number as drawn: its digits and exponent are known apart from its text.
#[derive(Clone, Debug)]
struct Drawn {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
    text: String,
}

/// Writes ±digits · 10^exponent with the point after `point` digits and the rest as an exponent.
fn write(negative: bool, digits: Vec<u8>, exponent: i64, point: usize, plain: bool) -> Drawn {
    let sign = if negative { "-" } else { "" };
    let all: String = digits.iter().map(|d| char::from(b'0' + d)).collect();
    let after = -exponent;
    let text = if plain && (1..700).contains(&after) {
        let all = format!("{all:0>width$}", width = after as usize + 1);
        let (whole, fraction) = all.split_at(all.len() - after as usize);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        format!("{sign}{whole}.{fraction}")
    } else {
        let point = point % digits.len();
        let (whole, fraction) = all.split_at(point);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let exponent = exponent + (digits.len() - point) as i64;
        format!("{sign}{whole}.{fraction}e{exponent}")
    };
    Drawn {
        negative,
        digits,
        exponent,
        text,
    }
}

fn drawn(most_digits: usize, span: i64) -> impl Strategy<Value = Drawn> {
    let digit = prop_oneof![4 => 0..10_u8, 2 => Just(0), 2 => Just(9), 1 => Just(5)];
    let digits = proptest::collection::vec(digit, 1..=most_digits);
    (any::<bool>(), digits, -span..=span, any::<usize>(), any::<bool>()).prop_map(
        |(negative, digits, lead, point, plain)| {
            // The exponent is drawn for the leading digit, so that long and short numbers have the same sizes.
            let exponent = lead - digits.len() as i64;
            write(negative, digits, exponent, point, plain)
        },
    )
}

/// Digits to declare, with numbers whose sizes lie around what they hold.
fn declared_and_drawn() -> impl Strategy<Value = (u16, u16, Vec<Drawn>)> {
    let digits = prop_oneof![
        Just((18, 12)),
        (0..6_u16, 1..6_u16),
        (1..30_u16, 0..30_u16),
        (1..300_u16, 0..300_u16),
        Just((300, 300)),
    ];
    digits.prop_flat_map(|(before, after)| {
        let span = i64::from(before.max(after)) + 3;
        let any_length = usize::from(before + after) + 30;
        let number = prop_oneof![drawn(6, span), drawn(22, span), drawn(any_length, span)];
        let numbers = proptest::collection::vec(number, 1..12);
        numbers.prop_map(move |numbers| (before, after, numbers))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_number_and_every_sum_agree_with_schoolbook_arithmetic((before, after, numbers) in declared_and_drawn()) {
        let grid = grid(before, after);
        let mut acc = vec![0; grid.ring().limbs()];
        let mut expected = oracle::Whole::default();
        for number in &numbers {
            let unchanged = acc.clone();
            let got = grid.add_token(number.text.as_bytes(), &mut acc);
            match oracle::place(&number.digits, number.exponent, before, after) {
                Ok(digits) => {
                    prop_assert_eq!(got, Ok(()), "{}", &number.text);
                    let value = oracle::Whole { negative: number.negative, digits };
                    expected = oracle::add_signed(&expected, &value);
                }
                Err(error) => {
                    prop_assert_eq!(got, Err(error), "{}", &number.text);
                    prop_assert_eq!(&acc, &unchanged);
                }
            }
        }
        let text = oracle::text(&expected, after);
        prop_assert_eq!(grid.to_decimal(&acc), &text[..]);
        prop_assert_eq!(grid.to_f64(&acc), text.parse::<f64>().unwrap());
        let total = serde_json::to_string(&grid.to_total(&acc)).unwrap();
        prop_assert_eq!(total.parse::<f64>().unwrap() + 0.0, text.parse::<f64>().unwrap() + 0.0, "{}", total);
    }

    #[test]
    fn numbers_that_cancel_leave_zero((before, after, numbers) in declared_and_drawn()) {
        let grid = grid(before, after);
        let mut acc = vec![0; grid.ring().limbs()];
        let negated = numbers.iter().map(|n| match n.text.strip_prefix('-') {
            Some(positive) => positive.to_owned(),
            None => format!("-{}", n.text),
        });
        let taken: Vec<bool> = numbers.iter().map(|n| grid.add_token(n.text.as_bytes(), &mut acc).is_ok()).collect();
        let again: Vec<bool> = negated.map(|n| grid.add_token(n.as_bytes(), &mut acc).is_ok()).collect();
        prop_assert_eq!(taken, again);
        prop_assert_eq!(grid.to_decimal(&acc), "0");
    }

    #[test]
    fn doubles_of_any_size_sum_as_their_shortest_text(values in proptest::collection::vec(-1e15..1e15_f64, 1..50)) {
        let grid = grid(20, 12);
        let json = format!("{values:?}");
        let sums = data::read(&grid, 1000, &json).unwrap();
        let mut expected = oracle::Whole::default();
        for value in &values {
            let text = format!("{:?}", value.abs());
            let (whole, fraction) = text.split_once('.').unwrap();
            let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
            let digits = oracle::place(&digits, -(fraction.len() as i64), 20, 12).unwrap();
            expected = oracle::add_signed(&expected, &oracle::Whole { negative: *value < 0.0, digits });
        }
        prop_assert_eq!(grid.to_decimal(&sums.sums), oracle::text(&expected, 12));
        prop_assert_eq!(sums.samples[0], values.len() as u64);
    }

    #[test]
    fn any_bytes_are_numbers_or_errors(text in proptest::collection::vec(
        prop_oneof![Just(b'0'), Just(b'9'), Just(b'.'), Just(b'-'), Just(b'+'), Just(b'e'), Just(b'E'), any::<u8>()],
        0..40,
    )) {
        let grid = grid(18, 12);
        let mut acc = vec![0; 2];
        let taken = grid.add_token(&text, &mut acc);
        let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&text)
            .is_ok_and(|raw| raw.get().len() == text.len() && matches!(text[0], b'-' | b'0'..=b'9'));
        prop_assert_eq!(taken == Err(NumberError::NotANumber), !is_json);
    }
}
