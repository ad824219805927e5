//! Invitation links: a whole invitation as one short text for mails, chats and QR codes.
//!
//! ```text
//! fdrtd:<URL of the inviting node>#<its key: 52 characters of base32>.<52 more: task and commitment>
//! ```
//! The second group is the task's id (16 bytes) and the first 16 bytes of a hash of the descriptor. So whoever carries the link can neither
//! exchange the inviting node nor change what is computed, with whom, or for how long; it contains no secret. The first 16 characters of the key are
//! the node's fingerprint.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::descriptor::Descriptor;
use crate::identity::{PeerKey, base32, unbase32};
use crate::url::{MAX_URL, NodeUrl, UrlError};

/// What every link begins with, in any case of its letters.
pub const SCHEME: &str = "fdrtd:";

/// Characters of a key, and of a task with its commitment.
const GROUP: usize = 52;
/// Longest text that is looked at, in bytes: a link and what mail programs put into it.
const MAX_TEXT: usize = 2 * (SCHEME.len() + MAX_URL + 2 + 2 * GROUP);
/// Separates these hashes from all others.
const CONTEXT: &str = "fdrtd 2026-11 invitation link: commitment to the descriptor, version 1";

/// An invitation link; see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the invitation can be had; `None` if only the key of the inviting node is known.
    pub url: Option<NodeUrl>,
    /// The inviting node.
    pub key: PeerKey,
    /// The task.
    pub task: Uuid,
    commitment: [u8; 16],
}

/// Why a text is no link. The texts complete "this is not an invitation link: …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Far more text than a link has.
    #[error("it is too long")]
    TooLong,
    /// It begins with something else.
    #[error("it does not begin with {SCHEME}")]
    Scheme,
    /// There is no `#`, or what follows is of the wrong form.
    #[error(
        "what follows the '#' is cut off or changed (two groups of {GROUP} letters and digits with a point in between)"
    )]
    Code,
    /// The URL cannot be used.
    #[error("{0}")]
    Url(#[from] UrlError),
}

impl Link {
    /// The link of the node `key` at `url` to the task of `descriptor`.
    pub fn new(url: Option<NodeUrl>, key: PeerKey, descriptor: &Descriptor) -> Link {
        Link {
            url,
            key,
            task: descriptor.task,
            commitment: commitment(descriptor),
        }
    }

    /// Whether a text wants to be a link, readable or not.
    pub fn is_meant(text: &str) -> bool {
        let text = text.trim_start_matches(is_wrapping);
        text.get(..SCHEME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads a link. What mail programs and people put around or into it does not matter: blanks and line breaks anywhere, brackets and quotes
    /// around it.
    ///
    /// # Errors
    /// [`LinkError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Link, LinkError> {
        if text.len() > MAX_TEXT {
            return Err(LinkError::TooLong);
        }
        let text: String = text.chars().filter(|c| !is_blank(*c)).collect();
        let text = text.trim_matches(is_wrapping);
        let scheme = text.get(..SCHEME.len()).ok_or(LinkError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(LinkError::Scheme);
        }
        let (url, code) = text[SCHEME.len()..].split_once('#').ok_or(LinkError::Code)?;
        let (key, rest) = code.split_once('.').ok_or(LinkError::Code)?;
        let key = PeerKey::from_bytes(unbase32(key).ok_or(LinkError::Code)?);
        let rest: [u8; 32] = unbase32(rest).ok_or(LinkError::Code)?;
        let (mut task, mut commitment) = ([0; 16], [0; 16]);
        task.copy_from_slice(&rest[..16]);
        commitment.copy_from_slice(&rest[16..]);
        let url = if url.is_empty() {
            None
        } else {
            Some(NodeUrl::parse(url)?)
        };
        Ok(Link {
            url,
            key,
            task: Uuid::from_bytes(task),
            commitment,
        })
    }

    /// Whether this is the task that the link invites to, with everything that belongs to it.
    pub fn fits(&self, descriptor: &Descriptor) -> bool {
        descriptor.task == self.task && bool::from(commitment(descriptor).ct_eq(&self.commitment))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = [0; 32];
        rest[..16].copy_from_slice(self.task.as_bytes());
        rest[16..].copy_from_slice(&self.commitment);
        let url = self.url.as_ref().map_or("", NodeUrl::as_str);
        write!(f, "{SCHEME}{url}#{}.{}", self.key, base32(&rest))
    }
}

impl FromStr for Link {
    type Err = LinkError;
    fn from_str(text: &str) -> Result<Link, LinkError> {
        Link::parse(text)
    }
}

/// A half of a hash is enough: to find a second descriptor with the same one takes 2^128 attempts.
fn commitment(descriptor: &Descriptor) -> [u8; 16] {
    let hash = blake3::derive_key(CONTEXT, descriptor.text().as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// Never part of a link: blanks, line breaks, and the invisible characters that word processors like.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}

/// What people put around a link, and the points and commas of the sentence it stands in.
fn is_wrapping(c: char) -> bool {
    is_blank(c) || "<>()[]{}\"'`´“”„‚‘’«»‹›.,;!".contains(c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::descriptor::{Durations, PROTOCOL};

    fn descriptor() -> Descriptor {
        Descriptor {
            protocol: PROTOCOL,
            task: Uuid::from_bytes([7; 16]),
            microprotocol: "SecureSum".into(),
            parameters: "{\"digits_after\":12}".into(),
            nodes: ["https://a.example/public1", "https://b.example/public1"]
                .map(|url| NodeUrl::parse(url).unwrap())
                .to_vec(),
            durations: Durations::default(),
            meeting: None,
        }
    }

    fn link() -> Link {
        let descriptor = descriptor();
        Link::new(
            Some(descriptor.nodes[0].clone()),
            PeerKey::from_bytes([0xa5; 32]),
            &descriptor,
        )
    }

    #[test]
    fn a_link_has_its_form_and_is_read_back() {
        let text = link().to_string();
        let code = text.strip_prefix("fdrtd:https://a.example/public1#").unwrap();
        assert_eq!(code.len(), 2 * GROUP + 1);
        assert!(code.starts_with(&link().key.fingerprint().replace('-', "")));
        assert_eq!(text.parse(), Ok(link()));
        let anonymous = Link { url: None, ..link() };
        assert!(anonymous.to_string().starts_with("fdrtd:#"));
        assert_eq!(anonymous.to_string().parse(), Ok(anonymous));
    }

    #[test]
    fn a_link_fits_its_task_and_no_other() {
        assert!(link().fits(&descriptor()));
        let changes: [fn(&mut Descriptor); 6] = [
            |other| other.task = Uuid::from_bytes([8; 16]),
            |other| other.microprotocol.push('2'),
            |other| other.parameters = "{\"digits_after\":13}".into(),
            |other| other.nodes.reverse(),
            |other| other.nodes.push(NodeUrl::parse("https://c.example").unwrap()),
            |other| other.durations.run += 1,
        ];
        for change in changes {
            let mut other = descriptor();
            change(&mut other);
            assert!(!link().fits(&other), "{other:?}");
        }
    }

    #[test]
    fn what_mail_programs_do_to_it_does_not_matter() {
        let text = link().to_string();
        let (url, code) = text.split_once('#').unwrap();
        let wrapped: String = text
            .as_bytes()
            .chunks(40)
            .map(|line| format!("{}\r\n", std::str::from_utf8(line).unwrap()))
            .collect();
        let forms = [
            format!("  {text}\n"),
            format!("<{text}>"),
            format!("\"{text}\","),
            format!("(“{text}”)."),
            format!("{url}#{}", code.to_uppercase()),
            text.replacen("fdrtd:", "FDRTD:", 1),
            wrapped.clone(),
            format!("<\r\n{wrapped}>"),
            text.replace('#', "\u{200b}#\u{ad}"),
        ];
        for form in forms {
            assert!(Link::is_meant(&form), "{form}");
            assert_eq!(Link::parse(&form), Ok(link()), "{form}");
        }
    }

    #[test]
    fn no_part_of_a_link_is_a_link() {
        let text = link().to_string();
        for end in 0..text.len() {
            assert!(Link::parse(&text[..end]).is_err(), "{}", &text[..end]);
        }
        for start in 1..text.len() {
            assert!(Link::parse(&text[start..]).is_err(), "{}", &text[start..]);
        }
        for at in 0..=text.len() {
            let longer = format!("{}x{}", &text[..at], &text[at..]);
            // Only the URL can grow, and it then leads elsewhere.
            assert_ne!(Link::parse(&longer), Ok(link()), "{longer}");
        }
    }

    /// A changed bit leaves no link, one to another node or address, or one that does not fit the task.
    #[test]
    fn every_changed_bit_is_noticed() {
        let text = link().to_string();
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                let only_case = changed.eq_ignore_ascii_case(&text);
                match Link::parse(&changed) {
                    Ok(other) if only_case => assert!(other.key == link().key && other.fits(&descriptor())),
                    Ok(other) => assert!(
                        other.url != link().url || other.key != link().key || !other.fits(&descriptor()),
                        "{changed}"
                    ),
                    Err(_) => {}
                }
            }
        }
    }

    #[test]
    fn what_is_no_link_is_told_apart() {
        let text = link().to_string();
        let (_, code) = text.split_once('#').unwrap();
        let cases = [
            (String::new(), LinkError::Scheme),
            ("{\"fdrtd\": 1}".to_owned(), LinkError::Scheme),
            ("https://a.example".to_owned(), LinkError::Scheme),
            ("fdrtd:".to_owned(), LinkError::Code),
            (
                format!("fdrtd:ftp://a.example#{code}"),
                LinkError::Url(UrlError::Scheme),
            ),
            (
                format!("fdrtd:https://u:p@a.example#{code}"),
                LinkError::Url(UrlError::UserInfo),
            ),
            (
                format!("fdrtd:https://a.example?x#{code}"),
                LinkError::Url(UrlError::QueryOrFragment),
            ),
            (format!("fdrtd:https://a.example##{code}"), LinkError::Code),
            (format!("{text}.{code}"), LinkError::Code),
            // The four bits that carry nothing must be zero: one link, one text.
            (format!("{}b", &text[..text.len() - 1]), LinkError::Code),
            (" ".repeat(MAX_TEXT + 1), LinkError::TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(Link::parse(&text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(host in "[a-z][a-z0-9]{0,20}", path in "(/[a-z0-9]{1,8}){0,3}", key: [u8; 32], task: [u8; 16], commitment: [u8; 16]) {
            let url = NodeUrl::parse(&format!("https://{host}.example{path}")).unwrap();
            let link = Link { url: Some(url), key: PeerKey::from_bytes(key), task: Uuid::from_bytes(task), commitment };
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,300}") {
            let _ = Link::is_meant(&text);
            let _ = Link::parse(&text);
            if let Ok(link) = Link::parse(&format!("fdrtd:{text}")) {
                prop_assert_eq!(link.to_string().parse(), Ok(link));
            }
        }
    }
}
