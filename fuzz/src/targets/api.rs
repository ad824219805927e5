//! Both faces of the API, the whole way: requests to a node in this process, without sockets.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use fdrtd::api::router;
use fdrtd::config::Config;
use fdrtd::node::Node;
use fdrtd::policy::Profile;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::source::{Source, put};

/// Some requests wait for others; here nobody comes.
const PATIENCE: Duration = Duration::from_millis(30);
const HOST: &str = "127.0.0.1:1";
const SERVICES: [&str; 4] = [
    r#"{"protocol":"Simon"}"#,
    r#"{"microservice":"KeyValueStorage"}"#,
    r#"{"microservice":"Barrier"}"#,
    r#"{"microservice":"Broadcast"}"#,
];
const PATHS: [&str; 12] = [
    "/a",
    "/a/",
    "/a/tasks",
    "/a/tasks/$V",
    "/a/tasks/$V/cancel",
    "/a/identity",
    "/a/healthz",
    "/a/metrics",
    "/a/probe",
    "/a/peer",
    "/b",
    "//a//",
];

struct Face {
    runtime: Runtime,
    node: Arc<Node>,
    handles: Vec<String>,
}

/// One node for all inputs: what earlier ones have left behind is part of the test.
static FACE: LazyLock<Face> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut config = Config {
        base_path: "/a".to_owned(),
        ephemeral: true,
        policy: Profile::Teaching,
        // Nothing is there, so no request goes anywhere.
        allow_peer_urls: vec!["http://127.0.0.1:1/".to_owned()],
        public_url: vec!["http://127.0.0.1:1/a".parse().expect("a URL")],
        ..Config::default()
    };
    config.limits.tasks = 50;
    config.limits.objects = 50;
    config.limits.time_to_live = 0.5;
    let node = runtime.block_on(Node::start(config)).expect("an ephemeral node starts");
    let mut face = Face {
        runtime,
        node,
        handles: Vec::new(),
    };
    face.handles = SERVICES.map(|service| face.select(service)).to_vec();
    face
});

impl Face {
    fn select(&self, service: &str) -> String {
        let answer = self
            .ask(Method::PUT, "/a", service.as_bytes())
            .expect("it answers at once");
        assert_eq!(answer.0, StatusCode::ACCEPTED);
        answer.1.as_str().expect("a handle").to_owned()
    }

    /// Status and JSON body; `None` if it waits for something.
    fn ask(&self, method: Method, path: &str, body: &[u8]) -> Option<(StatusCode, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_vec()))
            .expect("a request");
        let router = router(vec![Arc::clone(&self.node)], &[]);
        let answer = async {
            let response = router.oneshot(request).await.expect("infallible");
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            (parts, body)
        };
        let (parts, body) = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await })
            .ok()?;
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let kind = parts
            .headers
            .get(header::CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap_or_default());
        if parts.status.is_client_error() {
            assert_eq!(kind, Some("application/problem+json"), "{}", parts.status);
            assert_eq!(value["status"], parts.status.as_u16());
            for member in ["code", "message", "hint"] {
                assert!(
                    value[member].as_str().is_some_and(|text| !text.is_empty()),
                    "{member}: {value}"
                );
            }
        }
        assert!(!parts.status.is_server_error(), "{}: {value}", parts.status);
        Some((parts.status, value))
    }
}

/// A sequence of requests. `$S`, `$K`, `$B`, `$C` stand for the services, `$V` for the last object that was made.
pub(super) fn handles(data: &[u8]) {
    let face = &*FACE;
    let mut source = Source::new(data);
    let mut object = "0".to_owned();
    for _ in 0..8 {
        let (how, body) = (source.u8(), source.bytes());
        let fill = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let words = [
                ("$S", &face.handles[0]),
                ("$K", &face.handles[1]),
                ("$B", &face.handles[2]),
            ];
            for (word, value) in words.into_iter().chain([("$C", &face.handles[3]), ("$V", &object)]) {
                bytes = replace(&bytes, word.as_bytes(), value.as_bytes());
            }
            bytes
        };
        let (method, path) = match how {
            0..=199 => (Method::POST, "/a"),
            200..=219 => (Method::PUT, "/a"),
            220..=239 => (Method::GET, PATHS[usize::from(how) % PATHS.len()]),
            _ => (Method::POST, PATHS[usize::from(how) % PATHS.len()]),
        };
        let path = String::from_utf8(fill(path.as_bytes())).unwrap_or_default();
        if let Some((StatusCode::CREATED, value)) = face.ask(method, &path, &fill(body))
            && let Some(callback) = value["callback"].as_str()
        {
            callback.clone_into(&mut object);
        }
        if source.is_empty() {
            break;
        }
    }
}

/// A sequence of requests of generation 0.6. Each works on the last object that came back, and calls the function that it names.
pub(super) fn representations(data: &[u8]) {
    let face = &*FACE;
    let mut source = Source::new(data);
    let mut object = String::new();
    for _ in 0..8 {
        let (how, name, body) = (source.u8(), source.bytes(), source.bytes());
        let name: String = String::from_utf8_lossy(name)
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let body = replace(body, b"$V", object.as_bytes());
        let here = format!("/a/representation/{object}");
        let uuid = |answer: Option<(StatusCode, Value)>| {
            let (_, value) = answer?;
            Some(value["uuid"].as_str()?.to_owned())
        };
        let made = match how {
            0..=179 => uuid(face.ask(Method::GET, &format!("{here}/{name}"), b"{}"))
                .and_then(|method| uuid(face.ask(Method::PATCH, &format!("/a/representation/{method}"), &body))),
            180..=199 => uuid(face.ask(Method::PUT, "/a/representations", &body)),
            200..=229 => uuid(face.ask(Method::POST, "/a/representations", &body)),
            230..=239 => uuid(face.ask(Method::PATCH, &here, &body)),
            240..=249 => uuid(face.ask(Method::GET, &here, &body)),
            _ => uuid(face.ask(Method::DELETE, &here, &body)),
        };
        object = made.unwrap_or(object);
        if source.is_empty() {
            break;
        }
    }
}

fn replace(bytes: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(word.len()).position(|part| part == word) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by);
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}

pub(super) fn handle_seeds() -> Vec<Vec<u8>> {
    let network = r#""network":{"nodes":["http://127.0.0.1:1/a","http://127.0.0.1:1/b"],"myself":0},"durations":{"join":0.2,"input":0.2,"run":0.2,"silence":0.2}"#;
    let call = |handle: &str, function: &str, parameters: &str| {
        format!(r#"{{"handle":"{handle}","function":"{function}","parameters":{{{parameters}}}}}"#)
    };
    let on = |handle: &str, function: &str, parameters: &str| {
        let call = call(handle, function, parameters);
        format!(r#"{},"callback":"$V"}}"#, &call[..call.len() - 1])
    };
    let sequences: Vec<Vec<String>> = vec![
        vec![
            call("$K", "create", r#""value":{"a":[1,2.50,1e300]},"storage":"s""#),
            on("$K", "retrieve", ""),
            on("$K", "store", r#""value":[]"#),
            on("$K", "exists", ""),
            on("$K", "delete", ""),
        ],
        vec![
            call(
                "$S",
                "create",
                &format!(r#""microprotocol":"SecureSum",{network},"parameters":{{"digits_after":3}}"#),
            ),
            on("$S", "invite", ""),
            on("$S", "input", r#""data":[1,2,3]"#),
            on("$S", "progress", ""),
            on("$S", "result", r#""timeout":0"#),
            on("$S", "cancel", ""),
            on("$S", "delete", ""),
        ],
        vec![
            call("$K", "create", r#""value":[1,"x",{}]"#),
            call("$S", "create_task", &format!(r#""microprotocol":"BasicSum",{network}"#)),
            on("$S", "input", r#""source":{"handle":"$K","callback":"$V"}"#),
            on("$S", "start", ""),
        ],
        vec![call(
            "$S",
            "join",
            &format!(r#""invitation":"fdrtd:http://127.0.0.1:1/b#a.b",{network}"#),
        )],
        vec![call("$S", "invitations", r#""microprotocol":"SecureSum","timeout":0"#)],
        vec![call("$B", "create", r#""tokens":["a","b"]"#), on("$B", "arrive", "")],
        vec![
            call("$C", "create", r#""tokens":["a"]"#),
            on("$C", "send", r#""message":{"x":1}"#),
            on("$C", "receive", ""),
        ],
    ];
    let mut seeds = Vec::new();
    for sequence in sequences {
        let mut seed = Vec::new();
        for body in sequence {
            seed.push(0);
            put(&mut seed, body.as_bytes());
        }
        seeds.push(seed);
    }
    for (how, service) in (200..).zip(SERVICES) {
        let mut seed = vec![how];
        put(&mut seed, service.as_bytes());
        seeds.push(seed);
    }
    seeds.extend((220..=255).map(|how| vec![how, 0, 0]));
    seeds
}

pub(super) fn representation_seeds() -> Vec<Vec<u8>> {
    let network = r#""network":{"nodes":["http://127.0.0.1:1/a","http://127.0.0.1:1/b"],"myself":0,"uuid":"u"},"durations":{"join":0.2,"input":0.2,"run":0.2,"silence":0.2}"#;
    let named = |kwargs: &str| format!(r#"{{"args":[],"kwargs":{{{kwargs}}}}}"#);
    let task = named(&format!(r#""microprotocol":"SecureSum",{network}"#));
    let whole = named(&format!(
        r#""microprotocol":"SecureSum","data":[1,2],"timeout":0,{network}"#
    ));
    let other = whole.replace("\"myself\":0", "\"myself\":1");
    let storage = named(r#""microservice":"KeyValueStorage""#);
    let sequences: Vec<Vec<(u8, &str, String)>> = vec![
        vec![
            (200, "", storage.clone()),
            (0, "create", named(r#""storage":"s""#)),
            (0, "store", r#"{"args":["k",[1,2.50]]}"#.to_owned()),
            (0, "retrieve", named(r#""key":"k""#)),
            (240, "", "{}".to_owned()),
            (250, "", "{}".to_owned()),
        ],
        vec![
            (180, "", r#"{"args":[{"a":1e300}]}"#.to_owned()),
            (0, "keys", "{}".to_owned()),
            (240, "", String::new()),
            (230, "", "{}".to_owned()),
        ],
        vec![
            (200, "", named(r#""microservice":"Barrier""#)),
            (0, "create", named(r#""uuid":"u""#)),
            (0, "arrive", r#"{"args":[0]}"#.to_owned()),
            (0, "wait", named(r#""count":1,"timeout":0"#)),
            (240, "", "{}".to_owned()),
        ],
        vec![
            (200, "", named(r#""microservice":"Broadcast""#)),
            (0, "create", named(r#""uuid":"u""#)),
            (0, "send", named(r#""uuid":"u","message":{"representation_uuid":"$V"}"#)),
            (0, "wait", named(r#""uuid":"u","timeout":0"#)),
        ],
        vec![
            (200, "", "{}".to_owned()),
            (0, "create_task", task),
            (0, "input", r#"{"args":[[1,2]]}"#.to_owned()),
            (0, "start", "{}".to_owned()),
            (0, "result", named(r#""timeout":0"#)),
            (250, "", "{}".to_owned()),
        ],
        vec![(200, "", "{}".to_owned()), (0, "compute", whole)],
        vec![(200, "", "{}".to_owned()), (0, "compute", other)],
    ];
    let seed = |sequence: Vec<(u8, &str, String)>| {
        let mut seed = Vec::new();
        for (how, name, body) in sequence {
            seed.push(how);
            put(&mut seed, name.as_bytes());
            put(&mut seed, body.as_bytes());
        }
        seed
    };
    sequences.into_iter().map(seed).collect()
}
