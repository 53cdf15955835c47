//! A connection whose heads are held to CRLF before anybody parses them, each to the time that actix
//! gives the first one only, and whose reader is held to the time and the rate of bodies: actix waits
//! for one for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::BodyLimits;
use super::lines::Lines;

/// A TCP connection, see `lines`.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    lines: Lines,
    limits: BodyLimits,
    head_timeout: Duration,
    /// The number of a head that is being read, and when it must have ended.
    head: Option<(usize, Pin<Box<Sleep>>)>,
    /// While bytes wait that the system does not take, because their reader does not.
    stalled: Option<Stalled>,
}

#[derive(Debug)]
struct Stalled {
    since: Instant,
    taken: usize,
    end: Pin<Box<Sleep>>,
}

impl Stream {
    /// Watches over `tcp`, of which nothing has been read.
    pub fn new(tcp: TcpStream, limits: BodyLimits, head_timeout: Duration) -> Self {
        let lines = Lines::default();
        Self { tcp, lines, limits, head_timeout, head: None, stalled: None }
    }

    /// The connection itself.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Nothing has come: fails once the head that has begun took too long.
    fn waited(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(number) = self.lines.unfinished() else {
            self.head = None;
            return Poll::Pending;
        };
        let (_, end) = match self.head.take().filter(|(known, _)| *known == number) {
            Some(known) => self.head.insert(known),
            None => {
                let end = Box::pin(sleep_until(Instant::now() + self.head_timeout));
                self.head.insert((number, end))
            }
        };
        ready!(end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// What became of `offered` bytes, unless their reader is too slow: then the connection is reset.
    fn held(
        &mut self,
        context: &mut Context<'_>,
        offered: usize,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let limits = self.limits;
        match polled {
            Poll::Ready(Ok(taken)) if taken < offered => {
                if let Some(stalled) = &mut self.stalled {
                    stalled.taken += taken;
                    let until = limits.until(stalled.since, Instant::now(), stalled.taken);
                    stalled.end.as_mut().reset(until);
                }
            }
            Poll::Ready(_) => self.stalled = None,
            Poll::Pending => {
                let stalled = self.stalled.get_or_insert_with(|| {
                    let now = Instant::now();
                    let end = Box::pin(sleep_until(limits.until(now, now, 0)));
                    Stalled { since: now, taken: 0, end }
                });
                ready!(stalled.end.as_mut().poll(context));
                tracing::debug!("an answer was not read in time; its connection was reset");
                // Or the system would go on offering what it holds of the answer.
                self.tcp.set_zero_linger()?;
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.tcp).poll_read(context, buffer) else {
            return self.waited(context);
        };
        read?;
        let new = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if new.is_empty() {
            // The caller has left. actix takes note of it and goes when it is woken once more,
            // which else is when a detector answers.
            context.waker().wake_by_ref();
        }
        self.lines.follow(new);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.held(context, bytes.len(), polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        self.held(context, slices.iter().map(|slice| slice.len()).sum(), polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
