//! Keys as people compare them: a form to be read aloud, and what people type or paste.
//!
//! The spoken form is eight groups of five digits: 132 bits, more than anybody can search for another key with the same. Digits are the same in every
//! language and on every telephone, and nobody has to keep a list of words.

use std::fmt;
use std::str::FromStr;

use crate::identity::PeerKey;

/// Groups of the spoken form.
const GROUPS: usize = 8;
/// Digits of a group.
const DIGITS: usize = 5;
/// Characters of the short form, without its hyphens.
const SHORT: usize = 16;
const CONTEXT: &str = "fdrtd 2026-11 fingerprint in digits, version 1";

impl PeerKey {
    /// The form for the telephone: `12345 67890 …`, eight groups.
    #[must_use]
    pub fn spoken(&self) -> String {
        let mut digest = blake3::Hasher::new_derive_key(CONTEXT)
            .update(self.as_bytes())
            .finalize_xof();
        let groups = (0..GROUPS).map(|_| {
            let mut bytes = [0; 8];
            digest.fill(&mut bytes);
            // 2^64 is so much more than 10^5 that no group is likelier than another by anything that matters.
            format!("{:05}", u64::from_le_bytes(bytes) % 100_000)
        });
        groups.collect::<Vec<_>>().join(" ")
    }
}

/// What somebody knows of a key: all of it, or one of its fingerprints. Read in any case, with spaces and hyphens anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key.
    Key(PeerKey),
    /// Its first 16 characters, in groups of four.
    Short(String),
    /// [`PeerKey::spoken`].
    Spoken(String),
}

impl Expected {
    /// Whether it is that key.
    #[must_use]
    pub fn is(&self, key: &PeerKey) -> bool {
        match self {
            Expected::Key(wanted) => wanted == key,
            Expected::Short(wanted) => *wanted == key.fingerprint(),
            Expected::Spoken(wanted) => *wanted == key.spoken(),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Key(key) => f.write_str(&key.fingerprint()),
            Expected::Short(text) | Expected::Spoken(text) => f.write_str(text),
        }
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Expected, String> {
        let bare: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let grouped = |size: usize, joint: &str| {
            let groups: Vec<&str> = (0..bare.len() / size)
                .map(|at| &bare[at * size..(at + 1) * size])
                .collect();
            groups.join(joint)
        };
        if let Ok(key) = bare.parse() {
            return Ok(Expected::Key(key));
        }
        if bare.len() == GROUPS * DIGITS && bare.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Expected::Spoken(grouped(DIGITS, " ")));
        }
        let base32 = bare
            .bytes()
            .all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        if bare.len() == SHORT && base32 {
            return Ok(Expected::Short(grouped(4, "-")));
        }
        Err(
            "a key has 52 characters (a-z, 2-7); a fingerprint has 16 (abcd-efgh-ijkl-mnop), or 40 digits to be read aloud (12345 67890 …)"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::Identity;
    use proptest::prelude::*;

    #[test]
    fn the_spoken_form_stays_as_it_is() {
        // People have it on paper.
        let key = Identity::from_seed(&[7; 32]).key();
        assert_eq!(key.spoken(), KNOWN);
    }

    const KNOWN: &str = "95091 22203 61219 85789 11947 79468 81156 16637";

    #[test]
    fn people_write_fingerprints_in_many_ways() {
        let key = Identity::from_seed(&[7; 32]).key();
        let (short, spoken, whole) = (key.fingerprint(), key.spoken(), key.to_string());
        for text in [
            short.clone(),
            short.to_uppercase(),
            short.replace('-', ""),
            format!("  {} ", short.replace('-', " - ")),
            spoken.clone(),
            spoken.replace(' ', ""),
            spoken.replace(' ', "-"),
            spoken.replace(' ', "\n"),
            whole.clone(),
            whole.to_uppercase(),
            format!("{} {}", &whole[..20], &whole[20..]),
        ] {
            assert!(text.parse::<Expected>().unwrap().is(&key), "{text}");
        }
        let other = Identity::from_seed(&[8; 32]).key();
        for text in [other.fingerprint(), other.spoken(), other.to_string()] {
            assert!(!text.parse::<Expected>().unwrap().is(&key), "{text}");
        }
        for text in [
            "",
            "-",
            &short[1..],
            &spoken[1..],
            &whole[1..],
            "01891-01891-01891-0",
            &format!("{spoken}0"),
            "\u{e9}",
        ] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_key_and_any_text(bytes: [u8; 32], text in ".{0,60}") {
            let key = PeerKey::from_bytes(bytes);
            let spoken = key.spoken();
            prop_assert_eq!(spoken.len(), GROUPS * (DIGITS + 1) - 1);
            prop_assert!(spoken.parse::<Expected>().unwrap().is(&key));
            let _ = text.parse::<Expected>();
        }
    }
}
