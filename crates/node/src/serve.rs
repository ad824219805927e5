//! The listener's side of HTTP: connections, bounded in number and in the time they may take to ask for something.
//!
//! With a certificate the listener speaks TLS, and within it HTTP/2 or HTTP/1.1; without one plain HTTP/1.1.

mod addresses;
mod http2;
mod paced;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::addresses::AddressRange;
use crate::config::Listener;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::tls::Tls;
use addresses::Addresses;
use paced::Paced;

/// How long one that has too many connections may take to read why, and how many may do so at once.
const TURNED_AWAY_TIME: Duration = Duration::from_secs(2);
const TURNED_AWAY: usize = 32;
/// Bytes of a request's header, and of what is read of a body at once.
const BUFFER: usize = 64 << 10;
/// Pause after an error of the listener: mostly, too many files are open.
const PAUSE: Duration = Duration::from_millis(200);
/// The first byte of TLS: the type of a handshake record.
const TLS_RECORD: u8 = 0x16;

/// What the listener keeps to, and where it counts.
#[derive(Clone)]
pub(crate) struct Bounds {
    pub(crate) limits: Listener,
    /// Connections of these addresses are everybody's.
    pub(crate) proxies: Vec<AddressRange>,
    pub(crate) metrics: Metrics,
}

/// What connections share.
#[derive(Clone)]
struct Site {
    router: Router,
    bounds: Arc<Bounds>,
    addresses: Addresses,
    turned_away: Arc<Semaphore>,
    tls: Option<Arc<Tls>>,
    /// Room for requests of HTTP/2 in progress.
    requests: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves `router` until `stop`; then no connection is taken any more, and those that have asked get their answers first.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let connections = bounds.limits.connections;
    let room = Arc::new(Semaphore::new(connections));
    let stopping = watch::Sender::new(false);
    let site = Site {
        router,
        tls,
        addresses: Addresses::new(bounds.limits.per_address, bounds.proxies.clone()),
        turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        requests: Arc::new(Semaphore::new(bounds.limits.requests)),
        bounds: Arc::new(bounds),
        stopping: stopping.subscribe(),
    };
    let mut stop = pin!(stop);
    loop {
        let next = async {
            if room.available_permits() == 0 {
                // Whoever comes now waits in the queue of the operating system.
                site.bounds.metrics.limit_hit("connections");
            }
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
            let _open = site.bounds.metrics.connection();
            let address = stream.peer_addr().map(|address| address.ip());
            match address.map(|address| site.addresses.enter(address)) {
                Ok(Some(_counted)) => answer(stream, site).await,
                Ok(None) => {
                    drop(place);
                    turn_away(stream, &site).await;
                    return;
                }
                // It is gone already.
                Err(_) => {}
            }
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    let _ = room.acquire_many(all).await;
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
    site.router = crate::api::connected(site.router, stream.peer_addr());
    let Some(tls) = site.tls.clone() else {
        return serve_http1(stream, site).await;
    };
    let secured = tokio::select! {
        () = stopped(&mut site.stopping) => return,
        secured = timeout(site.bounds.limits.handshake_time, secure(stream, &tls)) => secured,
    };
    match secured {
        Ok(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => http2::serve(stream, site).await,
        Ok(Ok(Some(stream))) => serve_http1(stream, site).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => {
            site.bounds.metrics.limit_hit("handshake_time");
            tracing::debug!("a TLS handshake took too long");
        }
    }
}

/// TLS on top of a connection; `None` for one that is closed, or speaks something else and has been told.
async fn secure(stream: TcpStream, tls: &Tls) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Ok(None),
        _ if first[0] == TLS_RECORD => TlsAcceptor::from(tls.config()).accept(stream).await.map(Some),
        _ => {
            let problem = Problem::malformed("TLS_EXPECTED", "this port speaks TLS", "write https:// in the URL");
            tell(stream, &problem).await?;
            Ok(None)
        }
    }
}

/// Answers without having read the request.
async fn tell(mut stream: TcpStream, problem: &Problem) -> io::Result<()> {
    let body = problem.body().to_string();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closed under a request that is still being sent, the connection would be reset and the answer lost.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Tells an address that it has too many connections. Whoever speaks TLS sees the connection end.
async fn turn_away(stream: TcpStream, site: &Site) {
    let most = site.bounds.limits.per_address;
    site.bounds.metrics.limit_hit("connections_per_address");
    tracing::debug!("an address has {most} connections and gets no more");
    let Ok(_place) = site.turned_away.try_acquire() else {
        return;
    };
    if site.tls.is_none() {
        let problem = Problem::unavailable(
            "CONNECTIONS_BUSY",
            format!("this address has {most} connections to this node, and gets no more"),
            "close some, use one connection for many requests, or ask this node's operator to raise limits.connections_per_address",
        )
        .exceeds("connections_per_address", most);
        site.bounds.metrics.refused(problem.code);
        let _ = timeout(TURNED_AWAY_TIME, tell(stream, &problem)).await;
    }
}

/// The requests of one connection. One that becomes a connection between nodes is given away with its request.
async fn serve_http1<S>(stream: S, mut site: Site)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = site.bounds.limits;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(BUFFER);
    let upgraded = Arc::new(AtomicBool::new(false));
    let stream = Paced::new(stream, limits.slowest, limits.header_time, Arc::clone(&upgraded));
    let inner = TowerToHyperService::new(site.router);
    let service = service_fn(move |request: Request<Incoming>| {
        let (inner, upgraded) = (inner.clone(), Arc::clone(&upgraded));
        async move {
            let response = inner.call(request).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                upgraded.store(true, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(response)
        }
    });
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
        note(&site.bounds, &error);
    }
}

/// Why a connection ended, if not as it should.
fn note(bounds: &Bounds, error: &hyper::Error) {
    tracing::debug!(%error, "a client's connection ended");
    if error.is_timeout() {
        bounds.metrics.limit_hit("header_time");
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut) {
        bounds.metrics.limit_hit("slowest");
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error: who could say so is gone, and with it the listener.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
