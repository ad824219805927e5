//! A connection whose other end has to take what is sent to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Fails when, over all the time that a write had to wait, the other end took less than so many bytes per second.
pub(super) struct Paced<S> {
    inner: S,
    slowest: u64,
    window: Duration,
    /// Set once the connection is no client's any more: nodes look after each other themselves.
    released: Arc<AtomicBool>,
    /// Since when the write under way waits.
    waiting: Option<Instant>,
    /// How long earlier writes waited, and how much was taken since the first of them.
    waited: Duration,
    taken: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S, slowest: u64, window: Duration, released: Arc<AtomicBool>) -> Paced<S> {
        Paced {
            inner,
            slowest,
            window,
            released,
            waiting: None,
            waited: Duration::ZERO,
            taken: 0,
            timer: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<io::Result<T>>,
        bytes: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if self.released.load(Ordering::Relaxed) {
            return done;
        }
        match &done {
            Poll::Ready(Ok(result)) => {
                if let Some(since) = self.waiting.take() {
                    self.waited += since.elapsed();
                }
                if !self.waited.is_zero() {
                    self.taken += bytes(result) as u64;
                }
                if self.waited >= self.window {
                    self.judge()?;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let since = *self.waiting.get_or_insert_with(Instant::now);
                let end = since + self.window.saturating_sub(self.waited);
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
                if timer.deadline() != end {
                    timer.as_mut().reset(end);
                }
                if timer.as_mut().poll(cx).is_ready() {
                    self.waiting = None;
                    self.waited += since.elapsed();
                    self.judge()?;
                    // The next window begins.
                    return self.watch(cx, done, bytes);
                }
            }
        }
        done
    }

    fn judge(&mut self) -> io::Result<()> {
        let least = self.waited.as_secs_f64() * self.slowest as f64;
        let enough = self.taken as f64 >= least;
        self.waited = Duration::ZERO;
        self.taken = 0;
        if enough {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client takes its answer too slowly",
            ))
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.watch(cx, done, |bytes| *bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.watch(cx, done, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_flush(cx);
        this.watch(cx, done, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.watch(cx, done, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const WINDOW: Duration = Duration::from_millis(100);

    /// With room for a thousand bytes between them.
    fn pair(slowest: u64, released: bool) -> (Paced<DuplexStream>, DuplexStream) {
        let (own, other) = duplex(1000);
        let released = Arc::new(AtomicBool::new(released));
        (Paced::new(own, slowest, WINDOW, released), other)
    }

    #[tokio::test]
    async fn who_takes_nothing_is_left_after_the_window() {
        let (mut paced, _other) = pair(1, false);
        let error = paced.write_all(&[0; 2000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_takes_a_little_now_and_then_too_and_who_takes_enough_is_not() {
        // A million bytes per second are more than ten in a millisecond, and ten bytes per second fewer.
        for (slowest, enough) in [(1_000_000, false), (10, true)] {
            let (mut paced, mut other) = pair(slowest, false);
            let reader = tokio::spawn(async move {
                let mut buffer = vec![0; 10];
                while let Ok(count) = other.read(&mut buffer).await
                    && count > 0
                {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            // It takes several windows.
            let written = paced.write_all(&[0; 4000]).await;
            assert_eq!(written.is_ok(), enough, "{slowest} bytes per second");
            drop(paced);
            reader.await.unwrap();
        }
    }

    #[tokio::test]
    async fn time_in_which_nothing_is_sent_does_not_count() {
        let (mut paced, mut other) = pair(5_000, false);
        for _ in 0..3 {
            let mut buffer = [0; 1500];
            let (written, read) = tokio::join!(paced.write_all(&[0; 1500]), other.read_exact(&mut buffer));
            written.unwrap();
            read.unwrap();
            // Waiting for it would cost the connection, since nothing is taken.
            sleep(WINDOW * 2).await;
        }
    }

    #[tokio::test]
    async fn nodes_look_after_each_other_themselves() {
        let (mut paced, _other) = pair(1, true);
        let written = paced.write_all(&[0; 2000]);
        assert!(tokio::time::timeout(WINDOW * 3, written).await.is_err());
    }
}
