//! Limits the number of connections, and the time that each may do nothing.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Accepts a connection once there is a permit for it.
pub(super) struct LimitedListener {
    pub(super) listener: TcpListener,
    pub(super) permits: Arc<Semaphore>,
    /// How long a connection may be [idle](Awaited).
    pub(super) patience: Duration,
}

/// A connection that is closed when its peer does nothing for too long.
pub(super) struct Connection {
    stream: TcpStream,
    patience: Duration,
    /// When the connection is closed, if it still awaits the same peer then.
    deadline: Pin<Box<Sleep>>,
    awaited: Awaited,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The action of the peer that has a deadline.
#[derive(Clone, Copy, PartialEq)]
enum Awaited {
    FirstRequest,
    /// There is no deadline between requests, nor for an answer that is not complete yet.
    Nothing,
    Read,
}

impl Connection {
    fn new(stream: TcpStream, patience: Duration, permit: Option<OwnedSemaphorePermit>) -> Self {
        let deadline = Box::pin(tokio::time::sleep(patience));
        Connection { stream, patience, deadline, awaited: Awaited::FirstRequest, _permit: permit }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.deadline.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }

    /// Sets or clears the deadline after an attempt to write.
    fn after_write<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.awaited = Awaited::Nothing;
            return written;
        }
        if self.awaited != Awaited::Read {
            self.awaited = Awaited::Read;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        self.poll_deadline(cx).map(Err)
    }
}

impl Listener for LimitedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so there is a permit.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, self.patience, permit), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() && self.awaited == Awaited::FirstRequest {
            return self.poll_deadline(cx).map(Err);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use futures_util::stream;
    use std::convert::Infallible;
    use std::future::IntoFuture;
    use std::io::{Read, Write};
    use tokio::runtime;

    #[test]
    fn a_peer_that_sends_no_request_or_does_not_read_is_disconnected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _in_runtime = runtime.enter();
        let patience = Duration::from_millis(200);
        let listener = TcpListener::from_std(listener).unwrap();
        let permits = Arc::new(Semaphore::new(4));
        let listener = LimitedListener { listener, permits, patience };
        let large = async || Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![0; 1 << 20])));
        let router = Router::new().route("/small", get(async || "small")).route("/large", get(large));
        runtime.spawn(axum::serve(listener, router).into_future());

        let mut silent = std::net::TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it is disconnected");
        let mut slow = std::net::TcpStream::connect(address).unwrap();
        slow.write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        assert!(slow.read(&mut answer).unwrap() > 0);
        std::thread::sleep(3 * patience);
        slow.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(slow.read(&mut answer).unwrap() > 0, "between two requests there is no hurry");
        let mut num_read = 0;
        std::thread::sleep(3 * patience);
        // The system has taken some bytes of the answer, and no more come.
        while let Ok(len @ 1..) = slow.read(&mut answer) {
            num_read += len;
            assert!(num_read < 1 << 30, "it goes on for ever");
        }
    }
}
