//! The listener's side of HTTP: connections, bounded in number and in the time they may take to ask for something.
//!
//! With a certificate the listener speaks TLS, and within it HTTP/2 or HTTP/1.1; without one plain HTTP/1.1.

mod http2;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
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
    site.router = crate::api::connected(site.router, stream.peer_addr());
    let Some(tls) = site.tls.clone() else {
        return serve_http1(stream, site).await;
    };
    let secured = tokio::select! {
        () = stopped(&mut site.stopping) => return,
        secured = timeout(HANDSHAKE_TIME, secure(stream, &tls)) => secured,
    };
    match secured {
        Ok(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => http2::serve(stream, site).await,
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

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error: who could say so is gone, and with it the listener.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
