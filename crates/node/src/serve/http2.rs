//! HTTP/2 within its bounds.
//!
//! A connection of HTTP/1.1 is bounded by the time for a request's header. HTTP/2 has no such clock: whoever answers pings could stay for ever. So it is
//! counted here how many requests this side works on, and a connection that neither has one nor takes a piece of an answer is closed after the same
//! time. What HTTP/2 lets a client do many times at once is bounded over all connections together.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Site, note, stopped};

/// How long a client of HTTP/2 may take to leave when it has been asked to, and has all its answers.
const LEAVING_TIME: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5_000 });
/// Requests at once in one connection of HTTP/2.
const MAX_STREAMS: u32 = 32;
/// Bytes of the header of a request in HTTP/2.
const MAX_HEADER: u32 = 16 << 10;
/// What a client may send in one connection of HTTP/2 before somebody has read it, in bytes: one request as much as all.
pub(super) const WINDOW: u32 = 512 << 10;
/// What of one answer waits for its client at once, in bytes; and the pieces in which it is handed over.
const SEND_BUFFER: usize = 64 << 10;
const PIECE: usize = 16 << 10;

/// The requests of one connection. Streams that are opened and reset at once are bounded by the library's defaults: 20 that nobody has taken yet, 1024 that break
/// the protocol; then the connection ends.
pub(super) async fn serve<S>(stream: S, mut site: Site)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let busy = watch::Sender::new(0_usize);
    let idle = busy.subscribe();
    let (inner, requests) = (TowerToHyperService::new(site.router), site.requests);
    let metrics = site.bounds.metrics.clone();
    let service = service_fn(move |request| {
        let working = Working::new(busy.clone());
        let (inner, requests, metrics) = (inner.clone(), Arc::clone(&requests), metrics.clone());
        async move {
            if requests.available_permits() == 0 {
                metrics.limit_hit("requests");
            }
            // The semaphore is never closed.
            let _place = requests.acquire_owned().await.ok();
            let Ok(response) = inner.call(named(request)).await;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, working)))
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut site.stopping) => None,
        () = idle_for(site.bounds.limits.header_time, idle.clone()) => None,
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
        note(&site.bounds, &error);
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

/// This side works on a request: the client has to wait, not to act.
struct Working(watch::Sender<usize>);

impl Working {
    fn new(busy: watch::Sender<usize>) -> Working {
        busy.send_modify(|busy| *busy += 1);
        Working(busy)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

/// An answer in pieces. Between one piece and the question for the next it is the client who has to act, and its time runs; whoever takes nothing
/// is as idle as one who asks for nothing.
struct Answer {
    body: Body,
    rest: Bytes,
    busy: watch::Sender<usize>,
    working: Option<Working>,
}

impl Answer {
    fn new(body: Body, working: Working) -> Answer {
        let busy = working.0.clone();
        Answer {
            body,
            rest: Bytes::new(),
            busy,
            working: None,
        }
    }

    fn piece(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(PIECE));
        Frame::data(data)
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            this.busy.send_modify(|_| {});
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.piece(rest))));
        }
        let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) else {
            this.working.get_or_insert_with(|| Working::new(this.busy.clone()));
            return Poll::Pending;
        };
        this.working = None;
        this.busy.send_modify(|_| {});
        Poll::Ready(next.map(|next| {
            next.map(|frame| match frame.into_data() {
                Ok(data) => this.piece(data),
                Err(frame) => frame,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first piece only.
        if self.rest.is_empty() {
            self.body.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

/// Ends when for so long nothing was worked on, no request came and no piece of an answer was taken.
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
