//! The token of a node's operator: whoever can read its file decides for the node.

use std::path::Path;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::identity::base32;
use crate::store::{StoreError, create_private, load_or_create};

/// Name of the token's file in the data directory.
pub const TOKEN_FILE: &str = "operator.token";

/// Characters of a token: 32 random bytes in base32.
const LENGTH: usize = 52;

/// See the [module](self). Never shown, never logged.
pub struct OperatorToken(Zeroizing<String>);

/// A token that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read or made, or others can read it.
    #[error("the operator's token: {0}")]
    File(#[from] StoreError),
    /// The file holds something else.
    #[error(
        "the file {0} does not hold an operator's token ({LENGTH} letters and digits); delete it, and the node makes a new one"
    )]
    Form(std::path::PathBuf),
    /// The operating system gave no random numbers.
    #[error("the operating system gives no randomness")]
    Random,
}

impl OperatorToken {
    /// The token in its file, readable by its owner only; made when there is none.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(path: &Path) -> Result<OperatorToken, TokenError> {
        let create = |path: &Path| {
            let token = random()?;
            create_private(path, format!("{}\n", token.as_str()).as_bytes())
        };
        // With the end of a line, in either form.
        let bytes = load_or_create(path, LENGTH + 2, create)?;
        let text = std::str::from_utf8(&bytes).map_or("", str::trim_end);
        let is_token = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_token {
            return Err(TokenError::Form(path.to_owned()));
        }
        Ok(OperatorToken(Zeroizing::new(text.to_owned())))
    }

    /// A token that nobody has: for nodes without a file.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn unknown() -> Result<OperatorToken, TokenError> {
        random().map(OperatorToken).map_err(|_| TokenError::Random)
    }

    /// Whether an `Authorization` header carries it. Compared in constant time.
    pub fn admits(&self, authorization: &[u8]) -> bool {
        let Some((scheme, token)) = authorization.split_at_checked("bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && self.is(token.trim_ascii())
    }

    /// Whether this is it. Compared in constant time.
    pub fn is(&self, token: &[u8]) -> bool {
        bool::from(token.ct_eq(self.0.as_bytes()))
    }
}

impl std::fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperatorToken(…)")
    }
}

fn random() -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())?;
    Ok(Zeroizing::new(base32(&bytes[..])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn a_token_is_made_once_for_its_owner_only() {
        let scratch = Scratch::new();
        let path = scratch.path().join("new/operator.token");
        let token = OperatorToken::open(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), LENGTH);
        let again = OperatorToken::open(&path).unwrap();
        let header = format!("Bearer {}", text.trim_end());
        assert!(token.admits(header.as_bytes()) && again.admits(header.as_bytes()));
        assert!(!format!("{token:?}").contains(&text[..4]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(OperatorToken::open(&path), Err(TokenError::File(_))));
        }
    }

    #[test]
    fn only_the_token_itself_is_admitted() {
        let token = OperatorToken::unknown().unwrap();
        let text = token.0.to_string();
        assert!(token.admits(format!("bearer  {text}").as_bytes()));
        let other = OperatorToken::unknown().unwrap().0.to_string();
        for header in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            text.clone(),
            format!("Basic {text}"),
            format!("Bearer {}", &text[..LENGTH - 1]),
            format!("Bearer {text}a"),
            format!("Bearer {other}"),
        ] {
            assert!(!token.admits(header.as_bytes()), "{header}");
        }
        assert!(!token.admits(b"Bearer\xff\xff"));
    }

    #[test]
    fn files_that_hold_no_token_are_refused() {
        let scratch = Scratch::new();
        for (index, content) in [&b""[..], b"short", &[b'a'; 53], &[b'a'; 500], &[0xff; 52]]
            .into_iter()
            .enumerate()
        {
            let path = scratch.path().join(index.to_string());
            create_private(&path, content).unwrap();
            assert!(
                matches!(OperatorToken::open(&path), Err(TokenError::Form(_))),
                "{content:?}"
            );
        }
    }
}
