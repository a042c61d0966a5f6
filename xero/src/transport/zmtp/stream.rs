//! Connections and listeners of the operating system: TCP and Unix sockets alike.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BufMut;
use socket2::SockRef;
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::{Handle, is_rt_shutdown_err},
};

use crate::{
    io::{guest::describe_panic, panics},
    transport::listen,
};

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Calls the same method of either kind of stream.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Self::Tcp($stream) => $call,
            #[cfg(unix)]
            Self::Unix($stream) => $call,
        }
    };
}

impl Stream {
    /// Connects by TCP.
    pub(super) async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // An accepted connection inherits this from its listener.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SockRef::from(&stream).set_tcp_user_timeout(Some(listen::UNREAD_MAX))?;
        Self::tcp(stream)
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        // Writes are gathered here; the system must not hold back what a turn has written.
        SockRef::from(&stream).set_tcp_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Reads into a slice; 0 bytes mean the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        ready!(either!(self, stream => Pin::new(stream).poll_read(cx, &mut buffer)))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads into the spare room of a buffer, at most `room` bytes; 0 bytes mean the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = buffer.limit(room);
        loop {
            ready!(either!(self, stream => stream.poll_read_ready(cx)))?;
            match either!(self, stream => stream.try_read_buf(&mut buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Writes at once what the system takes, also if the stream's reactor is stuck.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match either!(self, stream => SockRef::from(&*stream).send_vectored(slices)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                match either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices)) {
                    // The I/O thread is about to take the stream.
                    Poll::Ready(Err(error)) if is_rt_shutdown_err(&error) => Poll::Pending,
                    result => result,
                }
            }
            result => Poll::Ready(result),
        }
    }

    /// Moves the stream to this runtime. It stays where it is if the runtime has ended or has no reactor.
    pub(super) fn rehome(&mut self, home: &Handle) -> io::Result<()> {
        let socket = either!(self, stream => SockRef::from(&*stream).try_clone())?;
        let _inside = home.enter();
        // Tokio panics without a reactor.
        let moved = panics::catch(|| match self {
            Self::Tcp(_) => TcpStream::from_std(socket.into()).map(Self::Tcp),
            #[cfg(unix)]
            Self::Unix(_) => UnixStream::from_std(socket.into()).map(Self::Unix),
        });
        *self = moved.unwrap_or_else(|panic| Err(io::Error::other(describe_panic(panic))))?;
        Ok(())
    }

    /// Tells the peer that nothing follows.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A listener.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn new(listener: listen::Listener) -> io::Result<Self> {
        match listener {
            listen::Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            #[cfg(unix)]
            listen::Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Stream::tcp(listener.accept().await?.0),
            #[cfg(unix)]
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}
