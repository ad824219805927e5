//! Large answers. A client that takes its answer slowly keeps it in memory, and there may be as many as connections.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::SMALL_BODY;
use crate::config::Limits;
use crate::problem::Problem;
use crate::services::kv::ValueText;
use crate::services::simon::Delivery;

/// Room for large answers that are not taken yet, in KiB.
pub(crate) type Answers = Arc<Semaphore>;

/// Marks an answer that takes no memory of its own.
#[derive(Clone, Copy)]
struct Shared;

/// A kept value as an answer, without a copy, between two texts.
pub(super) fn shared(before: &'static str, text: ValueText, after: &'static str) -> Response {
    struct Kept(ValueText);
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let parts = [
        Bytes::from_static(before.as_bytes()),
        Bytes::from_owner(Kept(text)),
        Bytes::from_static(after.as_bytes()),
    ];
    let body = Body::new(Parts {
        left: parts.iter().map(|part| part.len() as u64).sum(),
        parts: parts.into_iter(),
    });
    let kind = HeaderValue::from_static("application/json");
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    response.extensions_mut().insert(Shared);
    response
}

/// An answer of which it is noted that the client has it, as far as this node can tell: it was taken by a connection that stands.
pub(super) fn delivered(response: Response, delivery: Delivery) -> Response {
    response.map(|body| Body::new(Noted { body, delivery }))
}

struct Noted {
    body: Body,
    delivery: Delivery,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let over = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            _ => false,
        };
        if over {
            self.delivery.done();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer with its room, if it needs any; a refusal if there is none.
pub(super) fn with_room(answers: &Answers, limits: &Limits, response: Response) -> Response {
    let length = response.body().size_hint().exact().unwrap_or(0);
    if length <= SMALL_BODY as u64 || response.extensions().get::<Shared>().is_some() {
        return response;
    }
    // One that is longer than all the room takes it all.
    let kib = length.div_ceil(1024).min(limits.bodies_bytes as u64 / 1024);
    let room = u32::try_from(kib).ok();
    let room = room.and_then(|kib| Arc::clone(answers).try_acquire_many_owned(kib).ok());
    match room {
        Some(room) => response.map(|body| Body::new(Held { body, _room: room })),
        None => Problem::unavailable(
            "ANSWER_BUSY",
            "as many large answers of this node are under way as it can hold",
            "ask again in a moment",
        )
        .exceeds("bodies_bytes", limits.bodies_bytes)
        .into_response(),
    }
}

/// Pieces one after the other.
struct Parts {
    parts: std::array::IntoIter<Bytes, 3>,
    left: u64,
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let next = this.parts.find(|part| !part.is_empty());
        this.left -= next.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(next.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body that gives its room back when it has been sent, or is given up.
struct Held {
    body: Body,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::BodyExt;
    use zeroize::Zeroizing;

    use super::*;

    #[tokio::test]
    async fn large_answers_share_a_bounded_room_and_kept_values_need_none() {
        let limits = Limits {
            bodies_bytes: 300 << 10,
            ..Limits::default()
        };
        let answers: Answers = Arc::new(Semaphore::new(300));
        let large = |kib: usize| vec![b'x'; kib << 10].into_response();
        let first = with_room(&answers, &limits, large(200));
        assert_eq!((first.status().as_u16(), answers.available_permits()), (200, 100));
        assert_eq!(with_room(&answers, &limits, large(200)).status().as_u16(), 503);
        assert_eq!(with_room(&answers, &limits, large(64)).status().as_u16(), 200);
        let kept: ValueText = Arc::new(Zeroizing::new("7".repeat(1 << 20)));
        for _ in 0..3 {
            let response = with_room(&answers, &limits, shared("", Arc::clone(&kept), "\n"));
            assert_eq!(response.body().size_hint().exact(), Some((1 << 20) + 1));
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert!(bytes.len() == (1 << 20) + 1 && bytes.ends_with(b"7\n"));
        }
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes().len(), 200 << 10);
        assert_eq!(answers.available_permits(), 300);
        // More than all the room: alone it is served.
        assert_eq!(with_room(&answers, &limits, large(400)).status().as_u16(), 200);
    }
}
