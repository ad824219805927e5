//! The listener's side of HTTP: connections, bounded in number and in the time they may take to ask for something.
//!
//! With a certificate the listener speaks TLS, and within it HTTP/2 or HTTP/1.1; without one plain HTTP/1.1. A connection of HTTP/1.1 is bounded by the
//! time for a request's header. HTTP/2 has no such clock: whoever answers pings could stay for ever, so the requests in progress are counted here, and
//! a connection without any is closed after the same time. What HTTP/2 lets a client do many times at once is bounded over all connections together.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::problem::Problem;
use crate::tls::Tls;

/// Connections at once, those between nodes not counted. The usual limit of open files is 1024: the rest is for peers and storage.
const MAX_CONNECTIONS: u32 = if cfg!(test) { 4 } else { 700 };
/// How long a client may take for the header of a request, and how long a connection is kept that asks for nothing.
const HEADER_TIME: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 60_000 });
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });
/// How long a client of HTTP/2 may take to leave when it has been asked to, and has all its answers.
const LEAVING_TIME: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5_000 });
/// Requests at once in one connection of HTTP/2.
const MAX_STREAMS: u32 = 32;
/// Bytes of the header of a request in HTTP/2.
const MAX_HEADER: u32 = 16 << 10;
/// What a client may send in one connection of HTTP/2 before somebody has read it, in bytes: one request as much as all.
const WINDOW: u32 = 512 << 10;
/// Pause after an error of the listener: mostly, too many files are open.
const PAUSE: Duration = Duration::from_millis(200);
/// The first byte of TLS: the type of a handshake record.
const TLS_RECORD: u8 = 0x16;

/// What connections share.
#[derive(Clone)]
struct Site {
    router: Router,
    tls: Option<Arc<Tls>>,
    /// Room for requests of HTTP/2 in progress: as many as connections, which are the measure of everything that a request may take.
    requests: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves `router` until `stop`; then no connection is taken any more, and those that have asked get their answers first.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let stopping = watch::Sender::new(false);
    let site = Site {
        router,
        tls,
        requests: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
        stopping: stopping.subscribe(),
    };
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (accept(&listener).await, place)
        };
        let (stream, place) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        let site = site.clone();
        tokio::spawn(async move {
            answer(stream, site).await;
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    let _ = room.acquire_many(MAX_CONNECTIONS).await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "no connection could be taken");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, whatever it speaks.
async fn answer(stream: TcpStream, mut site: Site) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let Some(tls) = site.tls.clone() else {
        return serve_http1(stream, site).await;
    };
    let secured = tokio::select! {
        () = stopped(&mut site.stopping) => return,
        secured = timeout(HANDSHAKE_TIME, secure(stream, &tls)) => secured,
    };
    match secured {
        Ok(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => serve_http2(stream, site).await,
        Ok(Ok(Some(stream))) => serve_http1(stream, site).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// TLS on top of a connection; `None` for one that is closed, or speaks something else and has been told.
async fn secure(mut stream: TcpStream, tls: &Tls) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Ok(None),
        _ if first[0] == TLS_RECORD => TlsAcceptor::from(tls.config()).accept(stream).await.map(Some),
        _ => {
            let problem = Problem::malformed("TLS_EXPECTED", "this port speaks TLS", "write https:// in the URL");
            let body = problem.body().to_string();
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // Closed under a request that is still being sent, the connection would be reset and the answer lost.
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await? > 0 {}
            Ok(None)
        }
    }
}

/// The requests of one connection. One that becomes a connection between nodes is given away with its request.
async fn serve_http1<S>(stream: S, mut site: Site)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    let service = TowerToHyperService::new(site.router);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut site.stopping) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// The same in HTTP/2. Streams that are opened and reset at once are bounded by the library's defaults: 20 that nobody has taken yet, 1024 that break
/// the protocol; then the connection ends.
async fn serve_http2<S>(stream: S, mut site: Site)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let busy = watch::Sender::new(0_usize);
    let idle = busy.subscribe();
    let (inner, requests) = (TowerToHyperService::new(site.router), site.requests);
    let service = service_fn(move |request| {
        let asking = Asking::new(busy.clone());
        let (inner, requests) = (inner.clone(), Arc::clone(&requests));
        async move {
            // The semaphore is never closed.
            let _place = requests.acquire_owned().await.ok();
            let Ok(response) = inner.call(named(request)).await;
            Ok::<_, Infallible>(response.map(|body| asking.until_sent(body)))
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut site.stopping) => None,
        () = idle_for(HEADER_TIME, idle.clone()) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                // It does not even say that it has heard.
                () = idle_for(LEAVING_TIME, idle) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// In HTTP/2 the request's target says which host is meant; everything behind looks at the header, which a client may have set to something else.
fn named(mut request: Request<Incoming>) -> Request<Incoming> {
    let host = request
        .uri()
        .authority()
        .map(|host| HeaderValue::from_str(host.as_str()));
    if let Some(Ok(host)) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// A request in progress, from its header to the end of its answer.
struct Asking(watch::Sender<usize>);

impl Asking {
    fn new(busy: watch::Sender<usize>) -> Asking {
        busy.send_modify(|busy| *busy += 1);
        Asking(busy)
    }

    fn until_sent(self, body: Body) -> Body {
        Body::new(body.map_err(move |error| {
            // Held by the body.
            let _ = &self;
            error
        }))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

/// Ends when for so long there was no request in progress, and none came.
async fn idle_for(time: Duration, mut busy: watch::Receiver<usize>) {
    loop {
        // An error: nobody can ask any more, and the connection ends by itself.
        if busy.wait_for(|busy| *busy == 0).await.is_err() {
            return std::future::pending().await;
        }
        match timeout(time, busy.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error: who could say so is gone, and with it the listener.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::client::conn::http2::SendRequest;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;
    use crate::config::TlsConfig;
    use crate::private_ca;

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
        let server = tokio::spawn(serve(listener, tls, router, async move {
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
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
            stream
        }

        /// A connection of HTTP/2 that answers pings; and its end.
        async fn http2(&self) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
            let stream = TokioIo::new(self.tls(b"h2").await);
            let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
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
        let response = sender.send_request(asking(path)).await.unwrap();
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
}
