//! A small client of one node: one connection per request, bounded answers, no redirects, no proxies.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, header};
use bytes::Bytes;
use clap::Args;
use fdrtd::connect::Connector;
use fdrtd::here;
use fdrtd::operator::TOKEN_FILE;
use fdrtd::peer::{PeerError, TlsFault};
use fdrtd::url::NodeUrl;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure, printable};

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Longest server-sent event, in bytes.
const MAX_EVENT: usize = 1 << 20;
/// Longest file with a token, in bytes: a JWT can be long.
const MAX_TOKEN: u64 = 16 << 10;
/// A request that waits for nothing but the node.
pub(crate) const SHORT: Duration = Duration::from_secs(30);
/// A stream of events has a sign of life at least every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct NodeArgs {
    /// URL of your node [default: http://127.0.0.1:55500]
    #[arg(long, env = "FDRTD_NODE", value_name = "URL")]
    pub(crate) node: Option<NodeUrl>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Sent to your node as a bearer token; better in the environment or a file than on the command line, which other users of the machine see
    #[arg(long, env = "FDRTD_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File with the token; wins over --token
    #[arg(long, env = "FDRTD_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct TrustArgs {
    /// Certificate authorities (PEM) to trust beside those of this machine; SSL_CERT_FILE names those of the machine
    #[arg(long, env = "FDRTD_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl TrustArgs {
    pub(crate) fn connector(&self) -> Result<Connector, Failure> {
        Connector::new(self.ca_file.as_deref()).map_err(|error| {
            let hint = "name a PEM file with the authority's certificate in --ca-file or FDRTD_CA_FILE";
            Failure::usage(error.to_string(), hint, "CA_FILE_UNUSABLE")
        })
    }
}

impl NodeArgs {
    /// The client of `--node`, else of `otherwise`, else of a node on this machine.
    pub(crate) fn client(&self, otherwise: Option<&NodeUrl>) -> Result<Client, Failure> {
        let usual = || NodeUrl::parse("http://127.0.0.1:55500").expect("a usual URL");
        let base = self.node.as_ref().or(otherwise).cloned().unwrap_or_else(usual);
        let mut client = Client::new(self.trust.connector()?, base);
        if let Some(token) = self.given_token()? {
            client.set_token(&token)?;
        }
        Ok(client)
    }

    /// The token that was named, if there is one.
    pub(crate) fn given_token(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match (&self.token_file, &self.token) {
            (Some(file), _) => read_token(file).map(Some),
            (None, token) => Ok(token.clone().map(Zeroizing::new)),
        }
    }

    /// The same; if no token is given and the node is the one of `data_dir` on this machine, with its operator's token.
    pub(crate) fn client_of(&self, data_dir: &Path) -> Result<Client, Failure> {
        let mut client = self.client(None)?;
        client.find_token(data_dir)?;
        Ok(client)
    }
}

/// The token in a file: one line.
pub(crate) fn read_token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let unusable = |what: String| {
        let hint = "name a file that holds a token and nothing else, or give it in FDRTD_TOKEN";
        Failure::usage(
            format!("the token file {}: {what}", file.display()),
            hint,
            "TOKEN_FILE_UNUSABLE",
        )
    };
    let mut text = Zeroizing::new(String::new());
    let opened = std::fs::File::open(file).map_err(|error| unusable(error.to_string()))?;
    let read = opened.take(MAX_TOKEN + 1).read_to_string(&mut text);
    if read.map_err(|error| unusable(error.to_string()))? as u64 > MAX_TOKEN {
        return Err(unusable("it is too long".to_owned()));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Calls the node at one base URL.
pub(crate) struct Client {
    connector: Connector,
    base: NodeUrl,
    token: Option<Zeroizing<String>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The JSON text as it came.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| not_a_node(self.status, &self.headers))
    }
}

impl Client {
    pub(crate) fn new(connector: Connector, base: NodeUrl) -> Client {
        Client {
            connector,
            base,
            token: None,
        }
    }

    pub(crate) fn base(&self) -> &NodeUrl {
        &self.base
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Refused if it would travel in clear.
    pub(crate) fn set_token(&mut self, token: &str) -> Result<(), Failure> {
        if !self.base.is_tls() && !self.base.is_loopback() {
            return Err(Failure::usage(
                format!("the token would travel to {} unencrypted", self.base),
                "use the node's https:// URL, or run the command on the node's machine",
                "TOKEN_UNENCRYPTED",
            ));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.is_empty() {
            let hint = "it is one line of letters and digits, as fdrtd token create prints it";
            return Err(Failure::usage("the token cannot be used", hint, "TOKEN_UNUSABLE"));
        }
        self.token = Some(Zeroizing::new(token.to_owned()));
        Ok(())
    }

    /// Without a token, and if this is the node of `data_dir` on this machine: with its operator's token.
    pub(crate) fn find_token(&mut self, data_dir: &Path) -> Result<(), Failure> {
        let base = &self.base;
        let same = |noted: NodeUrl| {
            base.is_loopback() && noted.is_loopback() && (noted.port(), noted.path()) == (base.port(), base.path())
        };
        // Nobody else's node is told it, and to another one it would be a wrong token.
        if !self.has_token() && here::read(data_dir).is_some_and(same) {
            // Somebody else's file, or none: then without.
            if let Ok(token) = read_token(&data_dir.join(TOKEN_FILE)) {
                self.set_token(&token)?;
            }
        }
        Ok(())
    }

    /// A page below the base URL.
    pub(crate) async fn get(&self, page: &str) -> Result<Answer, Failure> {
        self.accepted(self.send(Method::GET, page, None, SHORT).await?)
    }

    pub(crate) async fn post(&self, page: &str, body: Option<Bytes>) -> Result<Answer, Failure> {
        self.accepted(self.send(Method::POST, page, body, SHORT).await?)
    }

    pub(crate) async fn put(&self, page: &str, body: Bytes) -> Result<Answer, Failure> {
        self.accepted(self.send(Method::PUT, page, Some(body), SHORT).await?)
    }

    /// Any answer, a refusal as well. `limit` is for the whole exchange once there is a connection.
    pub(crate) async fn send(
        &self,
        method: Method,
        page: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let exchange = async {
            let (response, _connections) = self.begin(method, page, body, "application/json").await?;
            let (parts, body) = response.into_parts();
            let whole = Limited::new(body, MAX_ANSWER).collect().await;
            let whole = whole.map_err(|_| self.unreachable(&PeerError::Closed(String::new())))?;
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: Zeroizing::new(whole.to_bytes().to_vec()),
            })
        };
        let late = || Err(self.unreachable(&PeerError::Timeout("the answer")));
        timeout(limit, exchange).await.unwrap_or_else(|_| late())
    }

    /// Server-sent events of a page.
    pub(crate) async fn events(&self, page: &str) -> Result<Events, Failure> {
        let begun = timeout(SHORT, self.begin(Method::GET, page, None, "text/event-stream")).await;
        let late = || Err(self.unreachable(&PeerError::Timeout("the answer")));
        let (response, connections) = begun.unwrap_or_else(|_| late())?;
        if response.status().as_u16() != 200 {
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_EVENT).collect().await;
            let body = body.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            return Err(refusal(parts.status.as_u16(), &parts.headers, &body));
        }
        Ok(Events {
            body: response.into_body(),
            buffer: Vec::new(),
            gone: self.unreachable(&PeerError::Closed(String::new())).to_string(),
            _connections: connections,
        })
    }

    /// A node that is there and says nothing.
    pub(crate) fn silent(&self) -> Failure {
        self.unreachable(&PeerError::Timeout("the answer"))
    }

    pub(crate) fn accepted(&self, answer: Answer) -> Result<Answer, Failure> {
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(refusal(answer.status, &answer.headers, &answer.body))
    }

    async fn begin(
        &self,
        method: Method,
        page: &str,
        body: Option<Bytes>,
        accept: &str,
    ) -> Result<(hyper::Response<Incoming>, JoinSet<Result<(), hyper::Error>>), Failure> {
        let gone = || self.unreachable(&PeerError::Closed(String::new()));
        let stream = self.connector.connect(&self.base).await;
        let stream = stream.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| gone())?;
        // Dropped, and thereby closed, with the answer.
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let path = format!("{}{page}", self.base.path());
        let mut request = Request::builder()
            .method(method)
            .uri(if path.is_empty() { "/" } else { &path })
            .header(header::HOST, self.base.authority())
            .header(header::ACCEPT, accept)
            .header(header::CONNECTION, "close");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|_| Failure::usage("the request cannot be written", "check the id", "CALL_INVALID"))?;
        let response = sender.send_request(request).await.map_err(|error| {
            if error.is_parse() {
                self.unreachable(&PeerError::NotANode("it does not answer as an HTTP server"))
            } else {
                gone()
            }
        })?;
        Ok((response, connections))
    }

    fn unreachable(&self, error: &PeerError) -> Failure {
        let url = &self.base;
        let start = "start the node (fdrtd serve, or fdrtd demo for a trial), or name its URL";
        let (what, hint) = match error {
            PeerError::Dns(_) => (
                format!("the host name of {url} cannot be resolved (DNS)"),
                "check the spelling of the URL",
            ),
            PeerError::Refused(_) => (format!("nobody listens at {url} (TCP)"), start),
            PeerError::Timeout(step) => (
                format!("{url} did not answer in time: {step}"),
                "check that the node runs and that no firewall drops the packets",
            ),
            PeerError::Tls(TlsFault::UnknownIssuer) => (
                format!("no secure connection to {url} (TLS): {}", TlsFault::UnknownIssuer),
                "name the authority's PEM file with --ca-file or FDRTD_CA_FILE, if you trust it",
            ),
            PeerError::Tls(fault) => (format!("no secure connection to {url} (TLS): {fault}"), fault.hint()),
            PeerError::NotANode(_) => (
                format!("what answers at {url} is no web server"),
                "check the port; if it speaks TLS there, write https:// in the URL",
            ),
            _ => (
                format!("{url} closed the connection without a whole answer"),
                "try again; if it stays so, look at the node's log, and if it speaks TLS there, write https:// in the URL",
            ),
        };
        Failure::new(
            Exit::Unreachable,
            what,
            "the way to your node",
            hint,
            "NODE_UNREACHABLE",
        )
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    gone: String,
    _connections: JoinSet<Result<(), hyper::Error>>,
}

impl Events {
    /// The data of the next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(event) = self.take() {
                if event.is_empty() {
                    continue;
                }
                return Ok(Some(event));
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(self.broken());
            }
            match timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) | Err(_) => return Err(self.broken()),
            }
        }
    }

    /// The data of the first whole event of the buffer; empty for a comment.
    fn take(&mut self) -> Option<String> {
        let (end, after) = end_of_event(&self.buffer)?;
        let block: Vec<u8> = self.buffer.drain(..after).take(end).collect();
        let text = String::from_utf8_lossy(&block);
        let data: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.strip_prefix(' ').unwrap_or(data))
            .collect();
        Some(data.join("\n"))
    }

    fn broken(&self) -> Failure {
        Failure::new(Exit::Unreachable, self.gone.clone(), "", "", "")
    }
}

/// Where the first event ends, and where the next one begins.
fn end_of_event(buffer: &[u8]) -> Option<(usize, usize)> {
    let find = |pattern: &[u8]| {
        let at = buffer.windows(pattern.len()).position(|window| window == pattern)?;
        Some((at, at + pattern.len()))
    };
    find(b"\n\n").into_iter().chain(find(b"\r\n\r\n")).min()
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    Failure::from_problem(status, body).unwrap_or_else(|| not_a_node(status, headers))
}

/// Something answers, but not as a node does.
fn not_a_node(status: u16, headers: &HeaderMap) -> Failure {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let side = "the way to your node";
    let code = "NOT_A_NODE";
    match (status, location) {
        (300..=399, Some(location)) => Failure::new(
            Exit::Refused,
            format!("the server redirects to {}", printable(location)),
            side,
            "write the URL to which it redirects",
            code,
        ),
        (401 | 403, _) => Failure::new(
            Exit::Refused,
            format!("what stands before the node wants credentials (HTTP status {status})"),
            side,
            "give FDRTD_TOKEN or --token-file, if you have a token",
            code,
        ),
        (502..=504, _) => Failure::new(
            Exit::Unreachable,
            format!("the proxy before the node cannot reach it (HTTP status {status})"),
            side,
            "check that the node behind it runs",
            code,
        ),
        _ => Failure::new(
            if (400..500).contains(&status) {
                Exit::Refused
            } else {
                Exit::Failed
            },
            format!("what answers there is not a node (HTTP status {status})"),
            side,
            "check the path of the URL: it must be the base URL of the node, for example https://host/public1",
            code,
        ),
    }
}
