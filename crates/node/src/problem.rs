//! The one error type of the HTTP face: what went wrong, whose side it was on and what to do about it.
//!
//! Every refusal leaves the node as `application/problem+json` (RFC 9457) with a stable `code`. No message ever repeats a
//! private value; names chosen by the caller are shown through [`quoted`], which shortens and escapes them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// Every code a client can meet, with its meaning. A code, once published, keeps its meaning.
pub const CODES: &[(&str, &str)] = &[
    (
        "ALREADY_STARTED",
        "The task has its input and has started; it takes no more.",
    ),
    (
        "ANSWER_BUSY",
        "As many large answers are under way as the node can hold.",
    ),
    (
        "BODY_BUSY",
        "The node is receiving as many large requests as it can hold; nothing was done.",
    ),
    ("BODY_EMPTY", "The request needs a JSON body and has none."),
    ("BODY_INCOMPLETE", "The request's body did not arrive."),
    (
        "BODY_TOO_LARGE",
        "The request body, or a value it refers to, is larger than the node accepts.",
    ),
    ("BODY_TOO_SLOW", "The request's body did not arrive in time."),
    ("BUSY", "Another request is changing the same task."),
    (
        "CALLBACK_INVALID",
        "The callback does not have the form this service gave out.",
    ),
    (
        "CALLBACK_MISSING",
        "The function works on an object and the request names none.",
    ),
    ("CALL_INVALID", "A call lacks a member, or has one of the wrong type."),
    (
        "CONNECTIONS_BUSY",
        "The address has as many connections to the node as one address may have.",
    ),
    ("CONTENT_TYPE", "The request's body is not marked as JSON."),
    (
        "CREDENTIALS_MISSING",
        "The node wants to know who calls, and the request has no credentials.",
    ),
    (
        "CREDENTIALS_REFUSED",
        "The credentials of the request do not admit to this node: they are unknown, expired or revoked.",
    ),
    (
        "DURATIONS_UNUSABLE",
        "The durations of a task are not as they should be.",
    ),
    (
        "FUNCTION_NOT_PUBLIC",
        "The service has no public function of this name.",
    ),
    (
        "HANDLE_UNKNOWN",
        "This node has no service with this handle; it may be another node's.",
    ),
    (
        "HOST_UNKNOWN",
        "The request is for a name under which this node is not known.",
    ),
    (
        "IDENTIFIERS_INVALID",
        "The identifiers of a service are not a JSON object.",
    ),
    (
        "INPUT_REFUSED",
        "The input of a task cannot be used; nothing was sent, and the task waits for another.",
    ),
    ("INTERNAL", "The node made a mistake; its log says more."),
    (
        "INVITATION_CHANGED",
        "The inviting node answers with another task than the link invites to.",
    ),
    (
        "INVITATION_LINK_MALFORMED",
        "This text begins like an invitation link and is none: it is cut off or changed.",
    ),
    ("INVITATION_MALFORMED", "This is not an invitation to a task."),
    ("INVITATION_UNKNOWN", "The inviting node has no such task any more."),
    (
        "ISSUER_UNREACHABLE",
        "The keys of the issuer of JWTs cannot be fetched, so nobody with a JWT can be admitted.",
    ),
    ("JSON_INVALID", "The text is not valid JSON."),
    (
        "JSON_TOO_LARGE",
        "A string, an object or the number of values of the JSON text is beyond a limit of this node.",
    ),
    ("KEYS_DIFFER", "A node has another key than the invitation says."),
    ("KEY_TWICE", "Two entries of the list of nodes are the same node."),
    ("METHOD_NOT_ALLOWED", "The HTTP method is not supported here."),
    ("MICROPROTOCOL_UNKNOWN", "There is no microprotocol of this name."),
    (
        "MYSELF_NOT_FOUND",
        "None of the nodes of the invitation is known to be this one.",
    ),
    ("MYSELF_NOT_THIS_NODE", "The node at the place 'myself' is another one."),
    ("MYSELF_OUT_OF_RANGE", "The place 'myself' is not in the list of nodes."),
    ("MYSELF_TAKEN", "This node takes part in the task already."),
    (
        "MYSELF_UNREACHABLE",
        "Whether the node at the place 'myself' is this one could not be checked.",
    ),
    (
        "NESTED_TOO_DEEP",
        "The JSON text is nested more deeply than the node accepts.",
    ),
    (
        "NETWORK_MALFORMED",
        "The description of the network is not as it should be.",
    ),
    ("NETWORK_SIZE", "The network has too few or too many nodes."),
    (
        "NETWORK_TOO_LARGE",
        "The description of the task is too long to be sent to the peers.",
    ),
    ("NODES_DIFFER", "The list of nodes is not that of the invitation."),
    (
        "NODES_ORDER_DIFFERS",
        "The list of nodes has another order than that of the invitation.",
    ),
    ("NODE_TWICE", "A URL stands twice in the list of nodes."),
    (
        "NODE_URL_LOOPBACK",
        "A URL of this machine itself stands in a list with URLs of other machines.",
    ),
    ("NODE_URL_UNUSABLE", "A URL in the list of nodes cannot be used."),
    (
        "NOT_A_FUNCTION",
        "The representation stands for something that cannot be called.",
    ),
    ("NOT_A_NUMBER", "NaN and infinities are not JSON numbers."),
    (
        "NOT_A_VALUE",
        "The representation stands for something that is no value, and so cannot be downloaded.",
    ),
    (
        "NOT_READY",
        "The node lives and cannot work: it is stopping, or its storage cannot be written to.",
    ),
    ("NOT_STARTED", "The task gathers inputs and has not been started."),
    ("NOT_UTF8", "The request body is not UTF-8 text."),
    ("NO_INPUT", "The task has no input yet."),
    (
        "NO_RECEIPT",
        "The task has no receipt: it has not ended with a result that all parties have confirmed.",
    ),
    (
        "OBJECT_UNKNOWN",
        "No such object, or it belongs to somebody else, or its time to live is over.",
    ),
    (
        "ORIGIN_REFUSED",
        "The request comes from a web page that may not call this node.",
    ),
    (
        "PARAMETERS_UNUSABLE",
        "The parameters of the microprotocol cannot be used.",
    ),
    ("PARAMETER_DUPLICATE", "A parameter is given more than once."),
    ("PARAMETER_MISSING", "A parameter that the function needs is missing."),
    ("PARAMETER_UNKNOWN", "The function has no parameter of this name."),
    (
        "PATH_UNKNOWN",
        "There is nothing under this path; the URL is not that of a node.",
    ),
    (
        "PEER_ADDRESS_REFUSED",
        "A peer's URL leads to an address that this node does not contact.",
    ),
    ("PEER_BACKLOG", "Too much waits for a peer that does not take it."),
    ("PEER_BAD_CERTIFICATE", "A node's certificate does not verify."),
    (
        "PEER_CONFIGURED",
        "The key of the peer is in the node's configuration; it is changed there.",
    ),
    ("PEER_IS_MYSELF", "A peer's URL leads to this node itself."),
    (
        "PEER_KEY_CHANGED",
        "Another node answers than the one whose key is known.",
    ),
    (
        "PEER_KEY_FORKED",
        "A key of a node has two successors: its secret is in two hands.",
    ),
    (
        "PEER_KEY_UNUSABLE",
        "The text is no key, or not enough of one to pin a peer by.",
    ),
    ("PEER_NOT_A_NODE", "What answers at a peer's URL is not a node."),
    ("PEER_NOT_PINNED", "The peer is not among the configured ones."),
    (
        "PEER_NO_WEBSOCKET",
        "What stands before a peer does not pass the WebSocket between nodes on.",
    ),
    ("PEER_UNKNOWN", "The node knows no key of this URL."),
    ("PEER_UNREACHABLE", "A peer cannot be reached."),
    ("PEER_UPGRADE", "The address is for other nodes, over WebSocket."),
    ("PEER_URL_REFUSED", "A peer's URL is against this node's policy."),
    ("PEER_VERSION", "A peer speaks another version of the protocol."),
    (
        "POLICY_CANNOT_CHECK",
        "This node's policy has a rule that nobody could check: the microprotocol does not compare it.",
    ),
    (
        "POLICY_DIGITS",
        "This node's policy allows fewer digits before or after the point.",
    ),
    (
        "POLICY_EXTREMES",
        "This node's policy does not let single values open, and the microprotocol does.",
    ),
    (
        "POLICY_MICROPROTOCOL",
        "This node's policy does not allow the microprotocol.",
    ),
    (
        "POLICY_NAMES",
        "This node's policy wants the categories declared: it does not let them be found in the data.",
    ),
    (
        "POLICY_PEER",
        "This node's policy does not allow computing with one of the nodes.",
    ),
    (
        "POLICY_TOO_FEW_ORGANISATIONS",
        "This node's policy wants nodes of more organisations.",
    ),
    ("POLICY_TOO_FEW_PARTIES", "This node's policy wants more parties."),
    (
        "POLICY_TOO_FEW_SAMPLES",
        "A party's policy wants more samples of each party; nothing was sent, and the task waits for another input.",
    ),
    (
        "POLICY_TWO_PARTIES",
        "This node's policy does not allow two parties alone.",
    ),
    (
        "POLICY_UNUSABLE",
        "The policy that the caller asks for is none: neither a profile nor rules.",
    ),
    (
        "PROBES_BUSY",
        "The node is testing as many connections to other nodes as it does at once.",
    ),
    (
        "QUOTA",
        "A limit on the number or the size of stored things is reached.",
    ),
    (
        "RATE_LIMITED",
        "Requests come faster than the node takes them; the header Retry-After says when to go on.",
    ),
    (
        "REFERENCE_INVALID",
        "An object reference inside a parameter is malformed.",
    ),
    (
        "ROLE_REFUSED",
        "The caller's role at this node does not allow what was asked.",
    ),
    ("SERVICE_UNKNOWN", "No service of this node has these identifiers."),
    (
        "STORAGE_FAILED",
        "The node could not write to or read from its storage.",
    ),
    (
        "STORAGE_FULL",
        "The node's storage is full: nothing was stored, and nothing is lost.",
    ),
    (
        "STREAMS_BUSY",
        "As many streams of events are open as this node has room for.",
    ),
    (
        "TASK_FAILED",
        "The task ended without a result; the member 'cause' says why.",
    ),
    ("TASK_FINISHED", "The task has its result already."),
    (
        "TASK_NOT_WAITING",
        "The task does not wait for this node's owner, or can no longer be declined.",
    ),
    (
        "TASK_TOO_LARGE",
        "The messages of the task would need more memory than the node gives to one task or one peer.",
    ),
    (
        "TASK_UNKNOWN",
        "This node has no task with this id: it is deleted, or its time to live is over, or it is another node's.",
    ),
    ("TLS_EXPECTED", "The port speaks TLS, and the request is plain HTTP."),
    (
        "TOKEN_EXPIRY_UNUSABLE",
        "The time at which a token is to expire is not to come, or cannot be told.",
    ),
    ("TOKEN_NAME_TAKEN", "There is a token of this name already."),
    ("TOKEN_NAME_UNUSABLE", "This cannot be the name of a token."),
    ("TOKEN_UNKNOWN", "There is no token of this name that could be revoked."),
    (
        "VALUE_ONE_WAY",
        "The value was stored one way: it can be the input of a task, and is given back to nobody.",
    ),
    (
        "VALUE_OUT_OF_RANGE",
        "A parameter has the right type and an impossible value.",
    ),
    (
        "VERSIONS_DIFFER",
        "The invitation is of another version of the protocol.",
    ),
    ("WRONG_TYPE", "A parameter has the wrong JSON type."),
];

/// On whose side the cause is, for people and for programs: who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The call, and so whoever made it.
    Call,
    /// The node that was called.
    Node,
    /// The rules of that node's owner.
    Policy,
    /// Another node.
    Peer,
    /// The state of the task.
    Task,
}

impl Side {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Side::Call => "call",
            Side::Node => "node",
            Side::Policy => "policy",
            Side::Peer => "peer",
            Side::Task => "task",
        }
    }

    /// The side of a code.
    pub fn of_code(code: &str) -> Side {
        let found = SIDES.iter().find(|(_, codes)| codes.contains(&code));
        found.map_or(Side::Call, |(side, _)| *side)
    }
}

/// The codes whose cause is not the call. A new code belongs here unless its cause is.
const SIDES: [(Side, &[&str]); 4] = [
    (
        Side::Node,
        &[
            "ANSWER_BUSY",
            "BODY_BUSY",
            "CONNECTIONS_BUSY",
            "INTERNAL",
            "NOT_READY",
            "ISSUER_UNREACHABLE",
            "PROBES_BUSY",
            "QUOTA",
            "STORAGE_FAILED",
            "STORAGE_FULL",
            "STREAMS_BUSY",
            "TASK_TOO_LARGE",
        ],
    ),
    (
        Side::Policy,
        &[
            "HOST_UNKNOWN",
            "ORIGIN_REFUSED",
            "PEER_ADDRESS_REFUSED",
            "PEER_NOT_PINNED",
            "PEER_URL_REFUSED",
            "POLICY_CANNOT_CHECK",
            "POLICY_DIGITS",
            "POLICY_EXTREMES",
            "POLICY_MICROPROTOCOL",
            "POLICY_NAMES",
            "POLICY_PEER",
            "POLICY_TOO_FEW_ORGANISATIONS",
            "POLICY_TOO_FEW_PARTIES",
            "POLICY_TOO_FEW_SAMPLES",
            "POLICY_TWO_PARTIES",
            "ROLE_REFUSED",
        ],
    ),
    (
        Side::Peer,
        &[
            "INVITATION_CHANGED",
            "INVITATION_UNKNOWN",
            "KEYS_DIFFER",
            "PEER_BACKLOG",
            "PEER_BAD_CERTIFICATE",
            "PEER_KEY_CHANGED",
            "PEER_KEY_FORKED",
            "PEER_NOT_A_NODE",
            "PEER_NO_WEBSOCKET",
            "PEER_UNREACHABLE",
            "PEER_VERSION",
        ],
    ),
    (
        Side::Task,
        &[
            "ALREADY_STARTED",
            "BUSY",
            "MYSELF_TAKEN",
            "NOT_STARTED",
            "NO_INPUT",
            "NO_RECEIPT",
            "TASK_FAILED",
            "TASK_FINISHED",
            "TASK_NOT_WAITING",
        ],
    ),
];

/// What kind of error it is, and so its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be read at all.
    Malformed,
    /// The request is readable and its content unusable.
    Input,
    /// The caller has not shown that it may.
    Unauthorized,
    /// The function exists on no closed list of public functions.
    NotPublic,
    /// The object does not exist, or is another's.
    Unknown,
    /// The object is in a state that does not allow this, or its task has failed.
    State,
    /// The data holder's policy forbids it.
    Policy,
    /// Another node is the cause.
    Peer,
    /// Too many bytes.
    TooLarge,
    /// Too many objects or requests.
    TooMany,
    /// The client took too long.
    Slow,
    /// The content type is not JSON.
    Media,
    /// The HTTP method is not supported here.
    Method,
    /// The node cannot do it at the moment.
    Unavailable,
    /// The node has no room for it.
    Full,
    /// A mistake of the node.
    Internal,
}

impl Fault {
    /// The HTTP status of this kind of error.
    pub fn status(self) -> u16 {
        match self {
            Fault::Malformed => 400,
            Fault::Unauthorized => 401,
            Fault::NotPublic | Fault::Policy => 403,
            Fault::Unknown => 404,
            Fault::Method => 405,
            Fault::Slow => 408,
            Fault::State | Fault::Peer => 409,
            Fault::TooLarge => 413,
            Fault::Media => 415,
            Fault::Input => 422,
            Fault::TooMany => 429,
            Fault::Internal => 500,
            Fault::Unavailable => 503,
            Fault::Full => 507,
        }
    }
}

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// On whose side the cause is.
    pub side: Side,
    /// Stable name of the error, one of [`CODES`].
    pub code: &'static str,
    /// What is wrong, in one sentence, without private values.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Further members of the body, such as `party`, `at` or `cause`.
    pub extra: Vec<(&'static str, Value)>,
    /// The member of `[limits]` that is exceeded, if it is about one.
    pub exceeds: Option<&'static str>,
}

/// What the metrics count of a refusal; goes along with the answer inside the node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) exceeds: Option<&'static str>,
}

impl Problem {
    /// A problem of any kind; the constructors named by kind read better.
    pub fn new(fault: Fault, code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        debug_assert!(CODES.iter().any(|(known, _)| *known == code), "{code} is not in CODES");
        Problem {
            status: fault.status(),
            side: Side::of_code(code),
            code,
            message: message.into(),
            hint: hint.into(),
            extra: Vec::new(),
            exceeds: None,
        }
    }

    /// 400: the request cannot be read.
    pub fn malformed(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Malformed, code, message, hint)
    }

    /// 401: the caller has not shown that it may.
    pub fn unauthorized(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Unauthorized, code, message, hint)
    }

    /// 422: the request is readable, its content unusable.
    pub fn input(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Input, code, message, hint)
    }

    /// 403: not a public function.
    pub fn not_public(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::NotPublic, code, message, hint)
    }

    /// 404: unknown, or another's.
    pub fn unknown(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Unknown, code, message, hint)
    }

    /// 409: wrong state, or a failed task.
    pub fn state(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::State, code, message, hint)
    }

    /// 403: refused by policy.
    pub fn policy(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Policy, code, message, hint)
    }

    /// 409: another node is the cause.
    pub fn peer(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Peer, code, message, hint)
    }

    /// 413: too many bytes.
    pub fn too_large(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::TooLarge, code, message, hint)
    }

    /// 429: too many objects or requests.
    pub fn too_many(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::TooMany, code, message, hint)
    }

    /// 408: the client took too long.
    pub fn timeout(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Slow, code, message, hint)
    }

    /// 415: the content type is not JSON.
    pub fn media(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Media, code, message, hint)
    }

    /// 405: the HTTP method is not supported here.
    pub fn method(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Method, code, message, hint)
    }

    /// 503: not at the moment.
    pub fn unavailable(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Unavailable, code, message, hint)
    }

    /// 500: a mistake of the node.
    pub fn internal(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(Fault::Internal, code, message, hint)
    }

    /// Adds a member to the body. The standard members cannot be overwritten this way.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Problem {
        self.extra.push((name, value.into()));
        self
    }

    /// Names the member of `[limits]` that is exceeded, and its value.
    pub fn exceeds(self, limit: &'static str, most: usize) -> Problem {
        self.over(limit).with("limit", most)
    }

    /// Names the member of `[limits]` that is not kept to; the message tells its value.
    pub fn over(mut self, limit: &'static str) -> Problem {
        self.exceeds = Some(limit);
        self.with("exceeds", limit)
    }

    /// The body: `type`, `title`, `status`, `code`, `side`, `message`, `hint`, `detail` (the message again, for readers of
    /// RFC 9457) and the extra members.
    pub fn body(&self) -> Value {
        let mut body: Map<String, Value> = self
            .extra
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let standard: [(&str, Value); 8] = [
            ("type", "about:blank".into()),
            ("title", reason(self.status).into()),
            ("status", self.status.into()),
            ("code", self.code.into()),
            ("side", self.side.name().into()),
            ("message", self.message.as_str().into()),
            ("hint", self.hint.as_str().into()),
            ("detail", self.message.as_str().into()),
        ];
        // Last, so that an extra member never hides a standard one.
        body.extend(standard.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(body)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = HeaderValue::from_static("application/problem+json");
        let refusal = Refusal {
            code: self.code,
            exceeds: self.exceeds,
        };
        let retry_after = self.extra.iter().find(|(name, _)| *name == "retry_after");
        let retry_after = retry_after.and_then(|(_, seconds)| seconds.as_u64());
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], self.body().to_string()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(refusal);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A name chosen by a caller, fit for a message: in quotes, control characters escaped, at most 60 characters.
pub fn quoted(name: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown = String::from("\"");
    shown.extend(name.chars().take(LONGEST).flat_map(char::escape_debug));
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}

fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_explained() {
        for pair in CODES.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} and {}", pair[0].0, pair[1].0);
        }
        for (code, meaning) in CODES {
            assert!(
                code.bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
                "{code}"
            );
            assert!(meaning.ends_with('.'), "{code}");
        }
    }

    #[test]
    fn sides_are_those_of_codes() {
        let named: Vec<&str> = SIDES.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        for (index, code) in named.iter().enumerate() {
            assert!(CODES.iter().any(|(known, _)| known == code), "{code}");
            assert!(!named[..index].contains(code), "{code}");
        }
        assert_eq!(Side::of_code("TASK_FAILED"), Side::Task);
        assert_eq!(Side::of_code("WRONG_TYPE"), Side::Call);
    }

    #[test]
    fn every_fault_has_its_status() {
        let expected = [
            (Fault::Malformed, 400),
            (Fault::Unauthorized, 401),
            (Fault::Input, 422),
            (Fault::NotPublic, 403),
            (Fault::Unknown, 404),
            (Fault::State, 409),
            (Fault::Policy, 403),
            (Fault::Peer, 409),
            (Fault::TooLarge, 413),
            (Fault::TooMany, 429),
            (Fault::Slow, 408),
            (Fault::Media, 415),
            (Fault::Method, 405),
            (Fault::Unavailable, 503),
            (Fault::Internal, 500),
            (Fault::Full, 507),
        ];
        for (fault, status) in expected {
            assert_eq!(fault.status(), status, "{fault:?}");
            assert_ne!(reason(status), "Error");
        }
    }

    #[test]
    fn the_body_has_all_members_and_extras_hide_none() {
        let problem = Problem::unknown("OBJECT_UNKNOWN", "no such object", "create it first")
            .with("party", 2)
            .with("status", 200);
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Not Found", "status": 404, "code": "OBJECT_UNKNOWN", "side": "call",
            "message": "no such object", "detail": "no such object", "hint": "create it first", "party": 2,
        });
        assert_eq!(problem.body(), expected);
    }

    #[test]
    fn a_response_is_problem_json() {
        let response = Problem::too_many("QUOTA", "full", "delete something").into_response();
        assert_eq!(response.status().as_u16(), 429);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(!response.headers().contains_key("retry-after"));
        let later = Problem::too_many("RATE_LIMITED", "slow down", "wait").with("retry_after", 3);
        assert_eq!(later.into_response().headers()["retry-after"], "3");
    }

    #[test]
    fn names_are_shortened_and_escaped() {
        assert_eq!(quoted("a\n\"b"), r#""a\n\"b""#);
        assert_eq!(quoted(&"ü".repeat(60)), format!("\"{}\"", "ü".repeat(60)));
        assert_eq!(quoted(&"ü".repeat(61)), format!("\"{}…\"", "ü".repeat(60)));
    }
}
