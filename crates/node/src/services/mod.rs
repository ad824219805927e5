//! What all services share: who calls, what a call gives back, and how services are found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

pub use crate::principal::Principal;
use crate::problem::{Problem, quoted};

pub mod kv;
pub mod returned;
pub mod simon;
pub mod sync;

/// Names an object to the service that made it.
pub type Callback = Value;

/// What a function gives back.
#[derive(Clone)]
pub enum Reply {
    /// A value, as JSON text.
    Value(String),
    /// A value, as JSON text that is kept here; answering takes no copy of it.
    Shared(kv::ValueText),
    /// The result of a whole computation, as JSON text. It is to be said when the caller has it.
    Computed(String, simon::Delivery),
    /// An object of the service, named by its callback.
    Object(Callback),
    /// Done, and there is nothing to say.
    Nothing,
    /// Not yet; the text tells people who or what is waited for.
    Waiting(String),
}

/// A value is the same whether it is kept here or not.
impl PartialEq for Reply {
    fn eq(&self, other: &Reply) -> bool {
        fn value(reply: &Reply) -> Option<&str> {
            match reply {
                Reply::Value(text) | Reply::Computed(text, _) => Some(text),
                Reply::Shared(text) => Some(text),
                _ => None,
            }
        }
        match (self, other) {
            (Reply::Object(one), Reply::Object(other)) => one == other,
            (Reply::Nothing, Reply::Nothing) => true,
            (Reply::Waiting(one), Reply::Waiting(other)) => one == other,
            _ => value(self).is_some() && value(self) == value(other),
        }
    }
}

/// Shows the kind of reply only: values are private.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reply::Value(_) | Reply::Shared(_) | Reply::Computed(..) => "Value(…)",
            Reply::Object(_) => "Object(…)",
            Reply::Nothing => "Nothing",
            Reply::Waiting(_) => "Waiting(…)",
        })
    }
}

/// The pairs by which a service is found, such as `("microservice", "Barrier")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifiers(pub Vec<(&'static str, &'static str)>);

impl Identifiers {
    /// Whether all wanted pairs are among these. The namespaces of both generations name the same services.
    pub fn matches(&self, wanted: &Map<String, Value>) -> bool {
        wanted.iter().all(|(name, value)| {
            self.0.iter().any(|(own_name, own_value)| {
                let same = value == own_value;
                let alias = *own_name == "namespace" && (value == "fdrtd" || value == "federatedsecure");
                own_name == name && (same || alias)
            })
        })
    }

    /// As a JSON object, for the list of services.
    pub fn to_json(&self) -> Value {
        let pairs = self
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        Value::Object(pairs.collect())
    }
}

/// Where the time of day comes from; times to live are counted in its seconds.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The clock of the operating system.
    #[default]
    System,
    /// Seconds since 1970, set by a test.
    Fixed(Arc<AtomicU64>),
}

impl Clock {
    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        match self {
            // A clock set before 1970 reads as 1970: things then live longer, nothing is lost.
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |age| age.as_secs()),
            Clock::Fixed(seconds) => seconds.load(Ordering::Relaxed),
        }
    }
}

/// The refusal of a function that is not on a service's list.
pub fn not_public(service: &str, function: &str, public: &[&str]) -> Problem {
    Problem::not_public(
        "FUNCTION_NOT_PUBLIC",
        format!("function not public: {service} has no function {}", quoted(function)),
        format!("{service} offers: {}", public.join(", ")),
    )
}

/// The refusal of a call that names no object, for a function that works on one.
pub(crate) fn callback_missing(service: &str, function: &str) -> Problem {
    Problem::input(
        "CALLBACK_MISSING",
        format!("{function} of {service} works on an object, and the request has no callback"),
        format!("call create of {service} first and {function} on what it returns"),
    )
}

/// The refusal for an object that is deleted, expired, another's or was never there.
pub(crate) fn object_unknown(service: &str) -> Problem {
    Problem::unknown(
        "OBJECT_UNKNOWN",
        format!("{service} has no such object"),
        "it may be deleted, expired or another node's: use the api that made it, or call create to make a new one",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_service_is_found_by_any_of_its_pairs() {
        let own = Identifiers(vec![("namespace", "fdrtd"), ("plugin", "Util"), ("version", "0.2.0")]);
        assert!(own.matches(&wanted("{}")));
        assert!(own.matches(&wanted(r#"{"plugin": "Util"}"#)));
        assert!(own.matches(&wanted(
            r#"{"plugin": "Util", "version": "0.2.0", "namespace": "fdrtd"}"#
        )));
        assert!(!own.matches(&wanted(r#"{"plugin": "Util", "version": "0.6.0"}"#)));
        assert!(!own.matches(&wanted(r#"{"plugin": 1}"#)));
        assert!(!own.matches(&wanted(r#"{"microservice": "Util"}"#)));
    }

    #[test]
    fn both_namespaces_match_on_both_faces() {
        for namespace in ["fdrtd", "federatedsecure"] {
            let own = Identifiers(vec![("namespace", namespace)]);
            assert!(own.matches(&wanted(r#"{"namespace": "fdrtd"}"#)));
            assert!(own.matches(&wanted(r#"{"namespace": "federatedsecure"}"#)));
            assert!(!own.matches(&wanted(r#"{"namespace": "other"}"#)));
            assert!(!own.matches(&wanted(r#"{"plugin": "fdrtd"}"#)));
        }
    }

    #[test]
    fn a_reply_does_not_print_its_value() {
        assert!(!format!("{:?}", Reply::Value("12345".into())).contains('1'));
    }
}
