//! Decimal numbers against arithmetic on texts of digits.

use fdrtd_mpc::number::{Digits, Grid, NumberError};

use crate::source::Source;

/// A number as JSON writes it: sign, digits, and how many of them are behind the point (fewer than none for large ones).
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    behind: i64,
}

/// Any text as a number on any grid: taken exactly as exact arithmetic says, or refused for its reason.
pub(super) fn numbers(data: &[u8]) {
    let mut source = Source::new(data);
    let (before, after) = (u16::from(source.u8()) % 300, u16::from(source.u8()) % 300);
    let Ok(digits) = Digits::new(before, after) else { return };
    let grid = Grid::new(digits);
    let text = source.rest();
    let mut sum = vec![0; grid.ring().limbs()];
    let taken = grid.add_token(text, &mut sum);
    let is_number = is_json_number(text);
    let Some(decimal) = is_number.then(|| read(text)).flatten() else {
        if !is_number {
            assert_eq!(taken, Err(NumberError::NotANumber));
        }
        return;
    };
    assert_ne!(taken, Err(NumberError::NotANumber));
    match (on_grid(&decimal, before, after), taken) {
        (Ok(expected), Ok(())) => {
            let negative = decimal.negative && expected != "0";
            let shown = grid.to_decimal(&sum);
            assert_eq!(plain(&shown, after), (negative, expected), "{shown}");
        }
        (Err(expected), Err(found)) => assert_eq!(same_kind(&found), expected),
        (expected, found) => panic!("{expected:?}, but {found:?}"),
    }
    if taken.is_ok() {
        // Twice the same, and the other way round: nothing is left.
        let mut text = text.to_vec();
        if text.first() == Some(&b'-') {
            text.remove(0);
        } else {
            text.insert(0, b'-');
        }
        assert_eq!(grid.add_token(&text, &mut sum), Ok(()));
        assert!(sum.iter().all(|limb| *limb == 0), "x − x");
    } else {
        assert!(sum.iter().all(|limb| *limb == 0), "a refusal changes nothing");
    }
}

fn same_kind(error: &NumberError) -> &'static str {
    match error {
        NumberError::NotANumber => "no number",
        NumberError::TooLarge { .. } => "too large",
        NumberError::TooFine { .. } => "too fine",
    }
}

/// The grammar of RFC 8259, as `serde_json` has it.
fn is_json_number(text: &[u8]) -> bool {
    let starts = matches!(text.first(), Some(b'-' | b'0'..=b'9'));
    starts
        && !text.last().is_some_and(u8::is_ascii_whitespace)
        && serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok()
}

/// `None` for exponents so large that digits could not be written out.
fn read(text: &[u8]) -> Option<Decimal> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|exponent: &i64| exponent.abs() < 2000)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = [whole, fraction].concat().bytes().map(|byte| byte - b'0').collect();
    Some(Decimal {
        negative,
        digits,
        behind: fraction.len() as i64 - exponent,
    })
}

/// |v| · 10^after, rounded to nearest, ties to even, as digits; or why not.
fn on_grid(decimal: &Decimal, before: u16, after: u16) -> Result<String, &'static str> {
    let mut digits = trim(&decimal.digits);
    if digits.is_empty() {
        return Ok("0".to_owned());
    }
    let drop = decimal.behind - i64::from(after);
    let most = usize::from(before) + usize::from(after);
    // Of the size first, as far as it is told by the digits in front of what is dropped.
    if digits.len() as i64 - drop > most as i64 {
        return Err("too large");
    }
    if drop <= 0 {
        digits.extend(std::iter::repeat_n(0, drop.unsigned_abs() as usize));
        return Ok(show(&digits));
    }
    let value = digits.clone();
    let padded = [vec![0; (drop as usize).saturating_sub(digits.len())], digits].concat();
    let (kept, dropped) = padded.split_at(padded.len() - drop as usize);
    let half = [vec![5], vec![0; dropped.len() - 1]].concat();
    let odd = kept.last().is_some_and(|digit| digit % 2 == 1);
    let up = dropped > &half[..] || (dropped == half && odd);
    let change = if up { complement(dropped) } else { dropped.to_vec() };
    // change · 10^9 > value: more than one part in 10^9.
    let scaled = [
        trim(&change),
        if trim(&change).is_empty() { vec![] } else { vec![0; 9] },
    ]
    .concat();
    if larger(&scaled, &trim(&value)) {
        return Err("too fine");
    }
    let kept = if up { plus_one(kept) } else { kept.to_vec() };
    let kept = trim(&kept);
    if kept.len() > most {
        return Err("too large");
    }
    Ok(show(&kept))
}

/// 10^n − x for the n digits of x.
fn complement(digits: &[u8]) -> Vec<u8> {
    plus_one(&digits.iter().map(|digit| 9 - digit).collect::<Vec<u8>>())
}

fn plus_one(digits: &[u8]) -> Vec<u8> {
    let mut digits = [&[0], digits].concat();
    for digit in digits.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            break;
        }
        *digit = 0;
    }
    digits
}

fn trim(digits: &[u8]) -> Vec<u8> {
    digits.iter().copied().skip_while(|digit| *digit == 0).collect()
}

fn larger(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) > (b.len(), b)
}

fn show(digits: &[u8]) -> String {
    let text: String = trim(digits).iter().map(|digit| char::from(digit + b'0')).collect();
    if text.is_empty() { "0".to_owned() } else { text }
}

/// A decimal text as sign and digits on the grid.
fn plain(text: &str, after: u16) -> (bool, String) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= usize::from(after));
    let zeros = "0".repeat(usize::from(after) - fraction.len());
    let digits = [whole, fraction, &zeros].concat();
    let digits = digits.trim_start_matches('0');
    (negative, if digits.is_empty() { "0" } else { digits }.to_owned())
}

pub(super) fn number_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "0",
        "-0.0",
        "1",
        "-12.5",
        "0.1",
        "1e300",
        "123456789012345678901234567890.123456789012",
        "1e-12",
        "9.5",
        "0.9999999999995",
        "999999999999999999.9999999999995",
        "12345678901.0000000000005",
        "1E+18",
        "00",
        "1.",
        "-",
        "9007199254740993",
        "99999999999999999999999999999999999999",
        "1e99999999999999999999",
    ];
    let grids = [[18, 12], [0, 1], [1, 0], [38, 0], [250, 250], [9, 9]];
    let seed = |grid: [u8; 2]| texts.map(|text| [&grid[..], text.as_bytes()].concat());
    grids.into_iter().flat_map(seed).collect()
}
