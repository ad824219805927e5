//! JWTs: which keys a set holds, and whether a token is signed by one of them and is for this node.
//!
//! `jsonwebtoken` reads tokens and checks their claims; it signs and verifies with whatever is installed, which here is ring, for the four algorithms
//! of the list below and no other. An algorithm is taken only if it is the one that the *key* is for: a token's header chooses among nothing.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header, Validation, decode, decode_header};
use ring::signature as primitives;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What is believed. None of them has a secret in common with the issuer, so a public key can never be taken for one.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
/// Longest token.
const LONGEST: usize = 16 << 10;
/// Most keys of a set that are kept.
const MOST_KEYS: usize = 64;
/// Longest subject, in bytes: it becomes part of a principal's name.
const LONGEST_SUBJECT: usize = 255;
/// Seconds that two clocks may differ.
pub(super) const LEEWAY: u64 = 30;

/// Whether a text looks like one: three parts with points between them.
pub(super) fn is_meant(token: &str) -> bool {
    token.len() <= LONGEST && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The id of the key by which a token says to be signed.
///
/// # Errors
/// What is wrong with its header.
pub(super) fn header(token: &str) -> Result<Header, &'static str> {
    let header =
        decode_header(token).map_err(|_| "its header cannot be read, or names an algorithm that nobody takes")?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err("its algorithm is not taken");
    }
    if header.crit.is_some() {
        return Err("it wants extensions that are not known here");
    }
    Ok(header)
}

/// A key of the issuer.
pub(super) struct Key {
    id: Option<String>,
    /// For these.
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

/// The usable keys of a JWK set; what cannot be used is left out.
pub(super) fn keys(set: &Value) -> Vec<Key> {
    let all = set["keys"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(read_key).take(MOST_KEYS).collect()
}

fn read_key(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|given| *given != PublicKeyUse::Signature)
    {
        return None;
    }
    let possible: &'static [Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::PS256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return None,
    };
    let algorithms = match jwk.common.key_algorithm {
        None => possible,
        Some(KeyAlgorithm::RS256) => &[Algorithm::RS256],
        Some(KeyAlgorithm::PS256) => &[Algorithm::PS256],
        Some(KeyAlgorithm::ES256) => &[Algorithm::ES256],
        Some(KeyAlgorithm::EdDSA) => &[Algorithm::EdDSA],
        // "Ed25519", the newer name of the same, is among the unknown ones.
        Some(KeyAlgorithm::UNKNOWN_ALGORITHM) if value["alg"] == "Ed25519" => &[Algorithm::EdDSA],
        Some(_) => return None,
    };
    Some(Key {
        id: jwk.common.key_id.clone(),
        algorithms: if algorithms.iter().all(|algorithm| possible.contains(algorithm)) {
            algorithms
        } else {
            return None;
        },
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}

/// Those by which a token with that header may be signed.
pub(super) fn fitting<'a>(keys: &'a [Key], header: &Header) -> Vec<&'a Key> {
    let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
    let fits = |key: &&Key| key.algorithms.contains(&header.alg);
    keys.iter().filter(named).filter(fits).collect()
}

/// What a token says that was found good.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    /// One issuer, as the standard has it; a list is refused.
    iss: String,
    pub(super) sub: String,
    pub(super) exp: f64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Checks a token with one of these keys.
///
/// # Errors
/// Why it is not good, for the log of the operator only.
pub(super) fn check(token: &str, keys: &[&Key], issuer: &str, audience: &str) -> Result<Claims, &'static str> {
    install();
    let mut validation = Validation::new(header(token)?.alg);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    let mut why = "it is signed by no key of the issuer";
    for key in keys {
        match decode::<Claims>(token, &key.key, &validation) {
            Ok(data) => return sane(data.claims, issuer),
            Err(error) => match error.kind() {
                ErrorKind::InvalidSignature => {}
                ErrorKind::ExpiredSignature => why = "it has expired",
                ErrorKind::ImmatureSignature => why = "it is not valid yet",
                ErrorKind::InvalidAudience => why = "it is for somebody else (aud)",
                ErrorKind::InvalidIssuer => why = "it is of another issuer (iss)",
                ErrorKind::MissingRequiredClaim(_) => why = "it lacks exp, iss, aud or sub",
                _ => why = "it cannot be read",
            },
        }
    }
    Err(why)
}

fn sane(claims: Claims, issuer: &str) -> Result<Claims, &'static str> {
    let sub = &claims.sub;
    if claims.iss != issuer || !claims.exp.is_finite() {
        return Err("it cannot be read");
    }
    if sub.is_empty() || sub.len() > LONGEST_SUBJECT || sub.chars().any(char::is_control) {
        return Err("its subject cannot be used as a name");
    }
    Ok(claims)
}

impl Claims {
    /// The texts of a claim: of one text its words, of a list its texts. A name with points is looked for as it is, and then step by step.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        let stepwise = || {
            let (first, rest) = name.split_once('.')?;
            let start = self.rest.get(first)?;
            rest.split('.').try_fold(start, |value, step| value.get(step))
        };
        match self.rest.get(name).or_else(stepwise) {
            Some(Value::String(text)) => std::iter::once(text.as_str())
                .chain(text.split_ascii_whitespace())
                .collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

/// Once a process. If something else in it has installed another, that one verifies: the keys and the list above are the same.
fn install() {
    static ONCE: Once = Once::new();
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    ONCE.call_once(|| {
        if RING.install_default().is_err() {
            tracing::warn!("JWTs are verified by another library than ring");
        }
    });
}

struct RingVerifier(Algorithm, DecodingKey);

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if !ALGORITHMS.contains(algorithm) || key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(RingVerifier(*algorithm, key.clone())))
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let RingVerifier(algorithm, key) = self;
        let plain = |primitive: &'static dyn primitives::VerificationAlgorithm, key: &[u8]| {
            primitives::UnparsedPublicKey::new(primitive, key).verify(message, signature)
        };
        let verified = match (algorithm, key.kind()) {
            (Algorithm::RS256 | Algorithm::PS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let primitive = if *algorithm == Algorithm::RS256 {
                    &primitives::RSA_PKCS1_2048_8192_SHA256
                } else {
                    &primitives::RSA_PSS_2048_8192_SHA256
                };
                let (n, e) = (without_zeros(n), without_zeros(e));
                primitives::RsaPublicKeyComponents { n, e }.verify(primitive, message, signature)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(key)) => plain(&primitives::ECDSA_P256_SHA256_FIXED, key),
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => plain(&primitives::ED25519, key),
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

/// Ring wants numbers in their shortest form.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use data_encoding::BASE64URL_NOPAD as BASE64;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn set(pair: &Ed25519KeyPair) -> Value {
        let x = BASE64.encode(pair.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x}, {"kty": "nonsense"}, 5]})
    }

    fn token(pair: &Ed25519KeyPair, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            BASE64.encode(header.to_string().as_bytes()),
            BASE64.encode(claims.to_string().as_bytes())
        );
        let signature = pair.sign(message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature.as_ref()))
    }

    fn claims() -> Value {
        json!({"iss": "https://idp", "aud": ["node", "other"], "sub": "anna", "exp": 4_000_000_000_u64, "groups": ["x"],
               "realm_access": {"roles": ["a", "b"]}, "https://x.example/roles": "c d"})
    }

    fn checked(token: &str) -> Result<Claims, &'static str> {
        let keys = keys(&set(&pair()));
        check(token, &fitting(&keys, &header(token)?), "https://idp", "node")
    }

    #[test]
    fn a_good_token_is_good_and_its_claims_are_found() {
        let claims = checked(&token(&pair(), &json!({"alg": "EdDSA", "kid": "a"}), &claims())).unwrap();
        assert_eq!(claims.sub, "anna");
        assert_eq!(claims.texts("groups"), ["x"]);
        assert_eq!(claims.texts("realm_access.roles"), ["a", "b"]);
        assert_eq!(claims.texts("https://x.example/roles"), ["c d", "c", "d"]);
        assert!(claims.texts("realm_access").is_empty() && claims.texts("nothing.at.all").is_empty());
    }

    #[test]
    fn claims_that_are_not_as_they_should_be() {
        let header = json!({"alg": "EdDSA", "kid": "a"});
        for (name, value) in [
            ("iss", json!("https://idp/")),
            ("iss", json!(["https://idp"])),
            ("aud", json!("somebody")),
            ("aud", json!([])),
            ("sub", json!("")),
            ("sub", json!("a\nb")),
            ("sub", json!("a".repeat(256))),
            ("exp", json!(1)),
            ("exp", json!("4000000000")),
            ("nbf", json!(4_000_000_000_u64)),
            ("nbf", json!("1")),
        ] {
            let mut wrong = claims();
            wrong[name] = value.clone();
            assert!(checked(&token(&pair(), &header, &wrong)).is_err(), "{name}: {value}");
        }
        for name in ["iss", "aud", "sub", "exp"] {
            let mut wrong = claims();
            wrong.as_object_mut().unwrap().remove(name);
            assert!(checked(&token(&pair(), &header, &wrong)).is_err(), "{name}");
        }
    }

    #[test]
    fn headers_that_are_not_as_they_should_be() {
        for wrong in [
            json!({"alg": "none"}),
            json!({"alg": "HS256", "kid": "a"}),
            json!({"alg": "RS256", "kid": "a"}),
            json!({"alg": "ES256", "kid": "a"}),
            json!({"alg": "EdDSA", "kid": "b"}),
            json!({"alg": "EdDSA", "kid": "a", "crit": ["b64"], "b64": false}),
            json!({"kid": "a"}),
        ] {
            assert!(checked(&token(&pair(), &wrong, &claims())).is_err(), "{wrong}");
        }
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        assert!(checked(&token(&other, &json!({"alg": "EdDSA", "kid": "a"}), &claims())).is_err());
        assert!(
            checked(&token(&pair(), &json!({"alg": "EdDSA"}), &claims())).is_ok(),
            "without a name all keys are tried"
        );
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let x = BASE64.encode(pair().public_key().as_ref());
        for (name, value) in [
            ("use", "enc"),
            ("alg", "RS256"),
            ("alg", "HS256"),
            ("crv", "X25519"),
            ("kty", "oct"),
        ] {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x, "k": x});
            key[name] = value.into();
            assert!(keys(&json!({"keys": [key]})).is_empty(), "{name}: {value}");
        }
        let mut newer = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        newer["alg"] = "Ed25519".into();
        assert_eq!(keys(&json!({"keys": [newer]})).len(), 1);
        assert!(keys(&json!({"keys": {}})).is_empty() && keys(&json!([])).is_empty());
    }

    proptest! {
        /// No text is taken, and none makes it panic.
        #[test]
        fn nothing_else_is_taken(text in ".{0,200}", at in 0_usize..400, byte in 0_u8..128) {
            prop_assert!(checked(&text).is_err());
            let good = token(&pair(), &json!({"alg": "EdDSA", "kid": "a"}), &claims());
            let mut changed = good.clone().into_bytes();
            let at = at % changed.len();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(checked(&changed).is_ok(), changed == good);
        }
    }
}
