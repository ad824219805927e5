//! Both protocols, with and without TLS, over real sockets.

#![allow(clippy::unwrap_used)]
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::routing::get;
use futures_util::stream;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::http2::WINDOW;
use super::*;
use crate::config::TlsConfig;
use crate::private_ca;

const MAX_CONNECTIONS: u32 = 4;
const HEADER_TIME: Duration = Duration::from_millis(300);
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const SLOW: &[u8] = b"GET / HTTP/1.1\r\nX-Slow: ";
/// For what must come; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    ca: String,
}

async fn plain(router: Router) -> Served {
    start(router, None, String::new()).await
}

async fn secured(router: Router) -> Served {
    let made = private_ca::make("test", vec!["127.0.0.1".to_owned()]).unwrap();
    let config = TlsConfig {
        made: Some(made.certificate),
        ..TlsConfig::default()
    };
    start(router, Tls::open(&config).unwrap(), made.pem).await
}

async fn start(router: Router, tls: Option<Arc<Tls>>, ca: String) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let bounds = Bounds {
        limits: Listener {
            connections: MAX_CONNECTIONS as usize,
            per_address: usize::MAX,
            requests: MAX_CONNECTIONS as usize,
            header_time: HEADER_TIME,
            handshake_time: HEADER_TIME,
            slowest: 1000,
        },
        proxies: Vec::new(),
        metrics: Metrics::default(),
    };
    let server = tokio::spawn(serve(listener, tls, router, bounds, async move {
        let _ = stopped.await;
    }));
    Served {
        address,
        stop,
        server,
        ca,
    }
}

impl Served {
    async fn tls(&self, protocol: &[u8]) -> client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let made = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
        let stream = made.expect("there is room").unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        stream
    }

    /// A connection of HTTP/2 that answers pings; and its end.
    async fn http2(&self) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
        self.http2_taking(WINDOW).await
    }

    /// That takes so much of each answer, until it reads on.
    async fn http2_taking(&self, window: u32) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
        let stream = TokioIo::new(self.tls(b"h2").await);
        let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let made = http.initial_stream_window_size(window).handshake(stream).await;
        let (sender, connection) = made.unwrap();
        (sender, tokio::spawn(connection))
    }
}

fn asking(path: &str) -> Request<Empty<Bytes>> {
    let uri = format!("https://named.example{path}");
    Request::builder()
        .uri(uri)
        .header(header::HOST, "other.example")
        .body(Empty::new())
        .unwrap()
}

async fn text(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> String {
    let response = timeout(PATIENCE, sender.send_request(asking(path))).await;
    let response = response.expect("it is answered").unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// All that comes until the other end closes.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // A reset ends it as well.
    let _ = read.expect("the other end closes");
    String::from_utf8(text).unwrap()
}

/// A page that is answered when it is told to, and says when it is asked.
fn slow() -> (Router, watch::Receiver<bool>, watch::Sender<bool>) {
    let (asked, is_asked) = watch::channel(false);
    let (go, gone) = watch::channel(false);
    let page = move || {
        let (asked, mut gone) = (asked.clone(), gone.clone());
        async move {
            asked.send_replace(true);
            let _ = gone.wait_for(|gone| *gone).await;
            "late"
        }
    };
    (Router::new().route("/", get(page)), is_asked, go)
}

fn here() -> Router {
    Router::new().route("/", get(|| async { "here" }))
}

#[tokio::test]
async fn clients_that_never_ask_are_shown_out_and_make_room() {
    let served = plain(here()).await;
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(SLOW).await.unwrap();
        silent.push(stream);
    }
    // It waits behind all of them.
    let mut asking = TcpStream::connect(served.address).await.unwrap();
    asking.write_all(ASK).await.unwrap();
    assert!(rest(&mut asking).await.ends_with("here"));
    for mut stream in silent {
        assert!(!rest(&mut stream).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn so_are_those_that_get_stuck_before_within_and_after_the_handshake() {
    let served = secured(here()).await;
    let mut silent = Vec::new();
    for begin in [&b""[..], &[TLS_RECORD], &[TLS_RECORD, 3, 1, 2, 0, 1]].repeat(MAX_CONNECTIONS as usize) {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        silent.push(stream);
    }
    let mut asking = served.tls(b"http/1.1").await;
    asking.write_all(ASK).await.unwrap();
    assert!(rest(&mut asking).await.ends_with("here"));
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await, "");
    }
    let mut stream = served.tls(b"http/1.1").await;
    stream.write_all(SLOW).await.unwrap();
    assert!(!rest(&mut stream).await.contains("200 OK"));
    // Not even the first words of HTTP/2.
    assert!(!rest(&mut served.tls(b"h2").await).await.contains("200 OK"));
}

#[tokio::test]
async fn who_has_asked_is_answered_after_the_stop() {
    let (router, mut is_asked, go) = slow();
    let Served {
        address, stop, server, ..
    } = plain(router).await;
    let mut asking = TcpStream::connect(address).await.unwrap();
    asking.write_all(ASK).await.unwrap();
    is_asked.wait_for(|asked| *asked).await.unwrap();
    stop.send(()).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    go.send_replace(true);
    assert!(rest(&mut asking).await.ends_with("late"));
    server.await.unwrap();
}

#[tokio::test]
async fn and_over_http2() {
    let (router, mut is_asked, go) = slow();
    let served = secured(router.route("/here", get(|| async { "here" }))).await;
    let (mut sender, connection) = served.http2().await;
    let asking = tokio::spawn(async move { text(&mut sender, "/").await });
    is_asked.wait_for(|asked| *asked).await.unwrap();
    // It has nothing to ask, and does not keep the server from stopping.
    let (mut idle, idle_end) = served.http2().await;
    assert_eq!(text(&mut idle, "/here").await, "here");
    served.stop.send(()).unwrap();
    idle_end.await.unwrap().unwrap();
    assert!(!served.server.is_finished());
    go.send_replace(true);
    assert_eq!(asking.await.unwrap(), "late");
    timeout(PATIENCE, served.server).await.expect("it stops").unwrap();
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_of_http2_ends_and_a_busy_one_stays() {
    let (router, mut is_asked, go) = slow();
    let served = secured(router.route("/here", get(|| async { "here" }))).await;
    let (mut busy, _end) = served.http2().await;
    let asking = tokio::spawn(async move { text(&mut busy, "/").await });
    is_asked.wait_for(|asked| *asked).await.unwrap();
    let (mut idle, end) = served.http2().await;
    assert_eq!(text(&mut idle, "/here").await, "here");
    timeout(PATIENCE, end).await.expect("it ends").unwrap().unwrap();
    // The other one was silent for longer.
    go.send_replace(true);
    assert_eq!(asking.await.unwrap(), "late");
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_idle_and_who_waits_for_more_is_not() {
    let large = get(|| async { vec![b'x'; 1 << 20] });
    let (send, sent) = mpsc::channel(1);
    let sent = Arc::new(Mutex::new(Some(sent)));
    let events = get(move || {
        let sent = sent.lock().unwrap().take().unwrap();
        let events = stream::unfold(sent, |mut sent: mpsc::Receiver<&'static str>| async move {
            let event = sent.recv().await?;
            Some((Ok::<_, Infallible>(event), sent))
        });
        ready(Body::from_stream(events))
    });
    let served = secured(Router::new().route("/", large).route("/events", events)).await;
    let (mut waiting, _end) = served.http2().await;
    let mut events = waiting.send_request(asking("/events")).await.unwrap().into_body();
    for window in [0, 30_000] {
        let (mut idle, end) = served.http2_taking(window).await;
        let mut untouched = idle.send_request(asking("/")).await.unwrap().into_body();
        assert!(timeout(PATIENCE, end).await.expect("it ends").is_ok());
        let mut got = 0;
        while let Some(Ok(frame)) = untouched.frame().await {
            got += frame.into_data().unwrap().len();
        }
        assert_eq!(got, window as usize);
    }
    // The other one was silent for longer.
    send.send("event").await.unwrap();
    assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "event");
    drop(send);
    assert!(events.collect().await.unwrap().to_bytes().is_empty());
    let (mut taking, _end) = served.http2_taking(30_000).await;
    let response = taking.send_request(asking("/")).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "1048576");
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        vec![b'x'; 1 << 20]
    );
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_over_http1_is_left() {
    let large = get(|| async { vec![b'x'; 64 << 20] });
    for tls in [false, true] {
        let router = Router::new().route("/", large.clone());
        let served = if tls {
            secured(router).await
        } else {
            plain(router).await
        };
        let mut taking: Box<dyn Both> = match tls {
            true => Box::new(served.tls(b"http/1.1").await),
            false => Box::new(TcpStream::connect(served.address).await.unwrap()),
        };
        taking.write_all(ASK).await.unwrap();
        // All its places are given back although the client keeps its connection.
        served.stop.send(()).unwrap();
        timeout(PATIENCE, served.server).await.expect("it is left").unwrap();
        // Of what was under way something comes, or the reset alone.
        let mut some = Vec::new();
        let _ = taking.read_to_end(&mut some).await;
        assert!(some.len() < 64 << 20);
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

#[tokio::test]
async fn requests_of_all_http2_connections_share_a_bounded_room() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let page = || async {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        NOW.fetch_sub(1, Ordering::SeqCst);
        "here"
    };
    let served = secured(Router::new().route("/", get(page))).await;
    let mut asked = Vec::new();
    for _ in 0..2 {
        let (sender, _) = served.http2().await;
        for _ in 0..30 {
            let mut sender = sender.clone();
            asked.push(tokio::spawn(async move { text(&mut sender, "/").await }));
        }
    }
    for asked in asked {
        assert_eq!(asked.await.unwrap(), "here");
    }
    assert_eq!(MOST.load(Ordering::SeqCst), MAX_CONNECTIONS as usize);
}

#[tokio::test]
async fn the_host_of_http2_is_that_of_the_target() {
    let page = |headers: HeaderMap| async move { headers[header::HOST].to_str().unwrap().to_owned() };
    let served = secured(Router::new().route("/", get(page))).await;
    let (mut sender, _end) = served.http2().await;
    assert_eq!(text(&mut sender, "/").await, "named.example");
}

#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let served = secured(here()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    stream.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("\"TLS_EXPECTED\"") && answer.contains("write https://"),
        "{answer}"
    );
}
