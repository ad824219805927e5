//! Bounded decoding: every length is checked against what is left before anything is allocated, and trailing bytes are refused.
//!
//! All integers are little-endian. Strings and byte strings carry a `u32` length.

use thiserror::Error;

/// Why some bytes could not be decoded. Says nothing about their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The bytes end before the value does.
    #[error("the message ends too early")]
    Short,
    /// Bytes are left over behind the last value.
    #[error("the message has trailing bytes")]
    Trailing,
    /// A length exceeds the bound of its field.
    #[error("a field of the message is too long")]
    TooLong,
    /// A tag, number or text outside its range.
    #[error("a field of the message has an unusable value")]
    Value,
}

/// Reads values off the front of a byte slice.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`] when fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed::Short)?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Malformed::Short`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Malformed::Short`] at the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`] at the end.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`] at the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`] at the end.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A text of at most `max` bytes.
    ///
    /// # Errors
    /// Too long, cut off, or not UTF-8.
    pub fn text(&mut self, max: usize) -> Result<&'a str, Malformed> {
        let len = self.u32()? as usize;
        if len > max {
            return Err(Malformed::TooLong);
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed::Value)
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`Malformed::Trailing`] if bytes are left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }
}

/// Appends a text with its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_was_written_and_refuses_the_rest() {
        let mut bytes = vec![7];
        bytes.extend_from_slice(&300u16.to_le_bytes());
        bytes.extend_from_slice(&70_000u32.to_le_bytes());
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        put_text(&mut bytes, "näher");
        let mut reader = Reader::new(&bytes);
        assert_eq!(
            (reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.text(16)),
            (Ok(7), Ok(300), Ok(70_000), Ok(u64::MAX), Ok("näher"))
        );
        assert_eq!(reader.end(), Ok(()));
        assert_eq!(Reader::new(&bytes).end(), Err(Malformed::Trailing));
        for cut in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..cut]);
            let all = (|| {
                reader.u8()?;
                reader.u16()?;
                reader.u32()?;
                reader.u64()?;
                reader.text(16).map(|_| ())
            })();
            assert_eq!(all, Err(Malformed::Short), "cut at {cut}");
        }
    }

    #[test]
    fn a_claimed_length_is_checked_before_it_is_believed() {
        let bytes = u32::MAX.to_le_bytes();
        assert_eq!(Reader::new(&bytes).text(1 << 20), Err(Malformed::TooLong));
        assert_eq!(Reader::new(&[9, 0, 0, 0, b'a']).text(10), Err(Malformed::Short));
        assert_eq!(Reader::new(&[1, 0, 0, 0, 0xff]).text(10), Err(Malformed::Value));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64), max in 0usize..64) {
            let mut reader = Reader::new(&bytes);
            while reader.text(max).is_ok() && reader.u16().is_ok() {}
            let _ = reader.end();
        }
    }
}
