//! The listener's side of HTTP: connections, bounded in number and in the time they may take to ask for something.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

/// Connections at once, those between nodes not counted. The usual limit of open files is 1024: the rest is for peers and storage.
const MAX_CONNECTIONS: u32 = if cfg!(test) { 4 } else { 700 };
/// How long a client may take for the header of a request, and how long a connection is kept that asks for nothing.
const HEADER_TIME: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 60_000 });
/// Pause after an error of the listener: mostly, too many files are open.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` until `stop`; then no connection is taken any more, and those that have asked get their answers first.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let stopping = watch::Sender::new(false);
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
        let (router, stopping) = (router.clone(), stopping.subscribe());
        tokio::spawn(async move {
            answer(stream, router, stopping).await;
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

/// The requests of one connection. One that becomes a connection between nodes is given away with its request.
async fn answer(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    let router = crate::api::connected(router, stream.peer_addr());
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let stop = async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop => None,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    async fn site(router: Router) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, router, async move {
            let _ = stopped.await;
        }));
        (address, stop, server)
    }

    /// All that comes until the other end closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await;
        // A reset ends it as well.
        let _ = read.expect("the other end closes");
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn clients_that_never_ask_are_shown_out_and_make_room() {
        let (address, _stop, _server) = site(Router::new().route("/", get(|| async { "here" }))).await;
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
            silent.push(stream);
        }
        // It waits behind all of them.
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(ASK).await.unwrap();
        assert!(rest(&mut asking).await.ends_with("here"));
        for mut stream in silent {
            assert!(!rest(&mut stream).await.contains("200 OK"));
        }
    }

    #[tokio::test]
    async fn who_has_asked_is_answered_after_the_stop() {
        let (asked, mut is_asked) = watch::channel(false);
        let (go, gone) = watch::channel(false);
        let slow = move || {
            let (asked, mut gone) = (asked.clone(), gone.clone());
            async move {
                asked.send_replace(true);
                let _ = gone.wait_for(|gone| *gone).await;
                "late"
            }
        };
        let (address, stop, server) = site(Router::new().route("/", get(slow))).await;
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
}
