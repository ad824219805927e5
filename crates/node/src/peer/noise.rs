//! The encrypted channel between two nodes: `Noise_XX_25519_AESGCM_SHA256` over WebSocket messages.
//!
//! The dialler begins with one frame in clear, the [`Opening`]; its exact bytes are part of the prologue, so a frame changed on the
//! way makes the handshake fail. Then, each as one binary message:
//!
//! ```text
//! → e                          32 bytes
//! ← e, ee, s, es, certificate  32 + 48 + 128 + 16 bytes
//! → s, se, certificate         48 + 128 + 16 bytes
//! ```
//!
//! A certificate counts only if its channel key is the static key that this very handshake proved. Afterwards each message is one
//! record of at most [`MAX_RECORD`] bytes, 16 of them the tag.
//!
//! A nonce is never used twice: snow counts them per direction and refuses to wrap, and a connection is replaced long before, after
//! [`MAX_SEALED`] bytes: AES-GCM loses its margin with the number of blocks under one key, and at 2^34 blocks an
//! attacker's advantage is still below 2^-59. The next connection has fresh keys and the link above resumes, so no rekeying is needed.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use snow::{Builder, HandshakeState, TransportState};

use super::error::PeerError;
use crate::{
    identity::{Certificate, Identity, PROTOCOL, PeerKey},
    url::NodeUrl,
};

/// Longest record on the wire, in bytes (the limit of Noise).
pub(super) const MAX_RECORD: usize = 65_535;
/// Bytes of a record that are its tag.
const TAG: usize = 16;
/// Longest clear frame, in bytes.
pub(super) const MAX_OPENING: usize = 2048;
/// Bytes that are sent under one key before the connection is replaced: 256 GiB.
const MAX_SEALED: u64 = 1 << 38;

const PATTERN: &str = "Noise_XX_25519_AESGCM_SHA256";
const PROLOGUE: &[u8] = b"fdrtd/1 ";
/// Exact lengths of the three messages.
const LENGTHS: [usize; 3] = [32, 32 + 48 + Certificate::LENGTH + TAG, 48 + Certificate::LENGTH + TAG];

/// The clear first frame of a connection. Nothing in it is proved; it only fixes version and roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opening {
    /// Version of the protocol.
    pub(super) fdrtd: u32,
    /// The dialler's own URL, if it has one. Only if it is that of a known peer, that one is asked whether it has a new key.
    pub(super) from: Option<NodeUrl>,
    /// The URL that was dialled.
    pub(super) to: NodeUrl,
}

impl Opening {
    pub(super) fn new(from: Option<NodeUrl>, to: NodeUrl) -> Self {
        Self {
            fdrtd: PROTOCOL,
            from,
            to,
        }
    }

    pub(super) fn encode(&self) -> String {
        serde_json::to_string(self).expect("a number and two texts are always JSON")
    }

    pub(super) fn parse(text: &str) -> Result<Self, PeerError> {
        const MALFORMED: PeerError = PeerError::NotANode("its first frame is malformed");
        #[derive(Deserialize)]
        struct Version {
            fdrtd: u32,
        }
        if text.len() > MAX_OPENING {
            return Err(MALFORMED);
        }
        // The version first: a later one may have changed the rest.
        let Version { fdrtd } = serde_json::from_str(text).map_err(|_| MALFORMED)?;
        if fdrtd != PROTOCOL {
            return Err(PeerError::Version);
        }
        serde_json::from_str(text).map_err(|_| MALFORMED)
    }
}

/// A handshake under way. Both sides alternate [`Handshake::write`] and [`Handshake::read`], the dialler writes first.
pub(super) struct Handshake {
    state: HandshakeState,
    certificate: [u8; Certificate::LENGTH],
    /// Messages written or read so far.
    step: usize,
    peer: Option<PeerKey>,
}

impl Handshake {
    /// The dialler's side. `opening` is the clear frame as sent.
    pub(super) fn dialler(identity: &Identity, opening: &str) -> Result<Self, PeerError> {
        Self::new(identity, opening, true)
    }

    /// The listener's side. `opening` is the clear frame as received.
    pub(super) fn listener(identity: &Identity, opening: &str) -> Result<Self, PeerError> {
        Self::new(identity, opening, false)
    }

    /// The next message to the peer.
    pub(super) fn write(&mut self) -> Result<Bytes, PeerError> {
        let length = *LENGTHS.get(self.step).ok_or(FAILED)?;
        let payload: &[u8] = if self.step == 0 { &[] } else { &self.certificate };
        // snow wants room for a tag even where there is none.
        let mut message = vec![0; length + TAG];
        let written = self.state.write_message(payload, &mut message).map_err(|_| FAILED)?;
        message.truncate(written);
        self.step += 1;
        Ok(message.into())
    }

    /// Takes the peer's next message. From the one that carries its certificate on, [`Handshake::peer`] is known.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<(), PeerError> {
        if LENGTHS.get(self.step) != Some(&message.len()) {
            return Err(PeerError::NotANode("a handshake message has the wrong length"));
        }
        let mut payload = [0; Certificate::LENGTH];
        let read = self.state.read_message(message, &mut payload).map_err(|_| FAILED)?;
        if self.step > 0 {
            let certificate = Certificate::from_bytes(&payload);
            let proved = self.state.get_remote_static();
            if read != payload.len() || proved != Some(&certificate.noise_public[..]) {
                return Err(PeerError::BadCertificate);
            }
            self.peer = Some(certificate.verify()?);
        }
        self.step += 1;
        Ok(())
    }

    /// The peer, once its certificate has been read and verified.
    pub(super) fn peer(&self) -> Option<PeerKey> {
        self.peer
    }

    /// After the third message: the channel, and who is at its other end.
    pub(super) fn finish(self) -> Result<(Channel, PeerKey), PeerError> {
        let peer = self.peer.ok_or(FAILED)?;
        let state = self.state.into_transport_mode().map_err(|_| FAILED)?;
        Ok((
            Channel {
                state,
                sealed: 0,
                buffer: BytesMut::new(),
            },
            peer,
        ))
    }

    fn new(identity: &Identity, opening: &str, dialler: bool) -> Result<Self, PeerError> {
        let prologue = [PROLOGUE, opening.as_bytes()].concat();
        let build = || {
            let builder = Builder::new(PATTERN.parse()?)
                .prologue(&prologue)?
                .local_private_key(identity.noise_secret().as_ref())?;
            if dialler {
                builder.build_initiator()
            } else {
                builder.build_responder()
            }
        };
        let state = build().map_err(|_: snow::Error| FAILED)?;
        Ok(Self {
            state,
            certificate: identity.certificate().to_bytes(),
            step: 0,
            peer: None,
        })
    }
}

const FAILED: PeerError = PeerError::NotANode("the encrypted handshake failed");

/// An encrypted channel to an authenticated peer.
pub(super) struct Channel {
    state: TransportState,
    sealed: u64,
    buffer: BytesMut,
}

impl Channel {
    /// Encrypts one record of at most [`MAX_RECORD`] − 16 bytes.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Result<Bytes, PeerError> {
        let failed = || PeerError::Closed("a record could not be encrypted".to_owned());
        // The buffer is used again as soon as the last record has been copied into the socket's.
        self.buffer.resize(plain.len() + TAG, 0);
        let written = self
            .state
            .write_message(plain, &mut self.buffer)
            .map_err(|_| failed())?;
        self.sealed += written as u64;
        Ok(self.buffer.split_to(written).freeze())
    }

    /// Decrypts one record into `scratch` and returns the plaintext.
    pub(super) fn open<'a>(&mut self, record: &[u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], PeerError> {
        if record.len() < TAG || record.len() > MAX_RECORD {
            return Err(PeerError::Closed("a record has an impossible length".to_owned()));
        }
        scratch.resize(MAX_RECORD, 0);
        let length = self
            .state
            .read_message(record, scratch)
            .map_err(|_| PeerError::Closed("a record could not be decrypted".to_owned()))?;
        Ok(&scratch[..length])
    }

    /// Whether so much has been sent that the keys should be replaced by those of a new connection.
    pub(super) fn is_worn_out(&self) -> bool {
        self.sealed > MAX_SEALED
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn identity(seed: u8) -> Identity {
        Identity::from_seed(&[seed; 32])
    }

    fn opening() -> String {
        Opening::new(None, NodeUrl::parse("http://127.0.0.1:1/a").unwrap()).encode()
    }

    /// Runs the three messages; `change` may alter message number `step` on its way.
    fn shake(
        openings: [&str; 2],
        mut change: impl FnMut(usize, &mut Vec<u8>),
    ) -> Result<[(Channel, PeerKey); 2], PeerError> {
        let mut dialler = Handshake::dialler(&identity(1), openings[0])?;
        let mut listener = Handshake::listener(&identity(2), openings[1])?;
        for step in 0..3 {
            let (from, to) = if step == 1 {
                (&mut listener, &mut dialler)
            } else {
                (&mut dialler, &mut listener)
            };
            let mut message = from.write()?.to_vec();
            change(step, &mut message);
            to.read(&message)?;
        }
        Ok([dialler.finish()?, listener.finish()?])
    }

    #[test]
    fn both_sides_know_each_other_and_records_pass() {
        let text = opening();
        let [(mut a, of_a), (mut b, of_b)] = shake([&text, &text], |_, _| ()).unwrap();
        assert_eq!((of_a, of_b), (identity(2).key(), identity(1).key()));
        let mut scratch = Vec::new();
        for length in [0, 1, 1000, MAX_RECORD - TAG] {
            let plain = vec![length as u8; length];
            let sealed = a.seal(&plain).unwrap();
            assert_eq!(sealed.len(), length + TAG);
            assert_eq!(b.open(&sealed, &mut scratch).unwrap(), plain);
            let sealed = b.seal(&plain).unwrap();
            assert_eq!(a.open(&sealed, &mut scratch).unwrap(), plain);
        }
        assert!(a.seal(&vec![0; MAX_RECORD - TAG + 1]).is_err());
        assert!(!a.is_worn_out());
    }

    #[test]
    fn replayed_reordered_and_changed_records_are_refused() {
        let text = opening();
        let mut scratch = Vec::new();
        let pair = || shake([&text, &text], |_, _| ()).unwrap();
        let [(mut a, _), (mut b, _)] = pair();
        let first = a.seal(b"first").unwrap();
        b.open(&first, &mut scratch).unwrap();
        assert!(b.open(&first, &mut scratch).is_err(), "replay");
        let [(mut a, _), (mut b, _)] = pair();
        let _ = a.seal(b"first").unwrap();
        let second = a.seal(b"second").unwrap();
        assert!(b.open(&second, &mut scratch).is_err(), "gap");
        let [(mut a, _), (mut b, _)] = pair();
        let mut changed = a.seal(b"text").unwrap().to_vec();
        changed[0] ^= 1;
        assert!(b.open(&changed, &mut scratch).is_err(), "changed");
        for length in [0, TAG - 1, MAX_RECORD + 1] {
            assert!(b.open(&vec![0; length], &mut scratch).is_err());
        }
    }

    #[test]
    fn a_changed_opening_fails() {
        let other = opening().replace("/a", "/b");
        let error = shake([&opening(), &other], |_, _| ()).err();
        assert_eq!(error, Some(FAILED));
    }

    #[test]
    fn every_byte_of_the_handshake_counts() {
        let text = opening();
        for (step, length) in LENGTHS.into_iter().enumerate() {
            for at in (0..length).step_by(7) {
                // X25519 ignores the top bit of a public value, but the transcript does not.
                let result = shake([&text, &text], |now, message| {
                    if now == step {
                        message[at] ^= 0x80;
                    }
                });
                assert!(result.is_err(), "step {step}, byte {at}");
            }
        }
    }

    #[test]
    fn a_stolen_certificate_is_refused() {
        // Somebody shows the certificate of node 3 in a handshake made with their own static key.
        // Or it is their own but for the name, which the signature then does not fit.
        let stolen = identity(3).certificate().to_bytes();
        let renamed = |seed| {
            let mut own = identity(seed).certificate().to_bytes();
            own[..32].copy_from_slice(identity(3).key().as_bytes());
            own
        };
        let text = opening();
        for (thief_dials, certificate) in [(false, stolen), (true, stolen), (false, renamed(2)), (true, renamed(1))] {
            let mut dialler = Handshake::dialler(&identity(1), &text).unwrap();
            let mut listener = Handshake::listener(&identity(2), &text).unwrap();
            let thief = if thief_dials { &mut dialler } else { &mut listener };
            thief.certificate = certificate;
            listener.read(&dialler.write().unwrap()).unwrap();
            let result = dialler.read(&listener.write().unwrap());
            if thief_dials {
                let last = dialler.write().unwrap();
                assert_eq!(listener.read(&last), Err(PeerError::BadCertificate));
                assert_eq!(listener.peer(), None);
            } else {
                assert_eq!(result, Err(PeerError::BadCertificate));
                assert_eq!(dialler.peer(), None);
            }
        }
    }

    #[test]
    fn openings() {
        assert_eq!(Opening::parse(&opening()).unwrap().encode(), opening());
        assert_eq!(Opening::parse(r#"{"fdrtd":2}"#), Err(PeerError::Version));
        let long = opening() + &" ".repeat(MAX_OPENING);
        for bad in [
            "",
            "[]",
            r#"{"fdrtd":1}"#,
            r#"{"fdrtd":-1}"#,
            r#"{"fdrtd":1,"from":null,"to":"x"}"#,
            &long,
        ] {
            assert!(matches!(Opening::parse(bad), Err(PeerError::NotANode(_))), "{bad:.40}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(step in 0_usize..3, length in 0_usize..300, seed: u8) {
            let text = opening();
            let garbage: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
            let mut dialler = Handshake::dialler(&identity(1), &text).unwrap();
            let mut listener = Handshake::listener(&identity(2), &text).unwrap();
            if step == 0 {
                // Any 32 bytes are an ephemeral key: the fault shows in the next message.
                let _ = listener.read(&garbage);
            } else {
                listener.read(&dialler.write().unwrap()).unwrap();
                let second = listener.write().unwrap();
                if step == 1 {
                    prop_assert!(dialler.read(&garbage).is_err());
                } else {
                    dialler.read(&second).unwrap();
                    prop_assert!(listener.read(&garbage).is_err());
                    prop_assert!(listener.finish().is_err());
                }
            }
        }
    }
}
