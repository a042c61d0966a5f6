//! Connections and listeners of the operating system: TCP and Unix sockets alike.

use std::{
    io::{self, IoSlice, Read},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BufMut;
use socket2::SockRef;
use thiserror::Error;
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
    /// It was lost on its way to another runtime.
    Lost,
}

/// Calls the same method of either kind of stream.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Self::Tcp($stream) => $call,
            #[cfg(unix)]
            Self::Unix($stream) => $call,
            Self::Lost => Err(io::ErrorKind::NotConnected.into()).into(),
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
        let sent = either!(self, stream => match slices {
            // Cheaper for the system, and a lone call has one.
            [slice] => SockRef::from(&*stream).send(slice),
            _ => SockRef::from(&*stream).send_vectored(slices),
        });
        match sent {
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

    /// Reads what is there, whatever the stream's reactor knows of it; [`io::ErrorKind::WouldBlock`] if that is nothing.
    pub(super) fn read_now(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => (&*SockRef::from(&*stream)).read(bytes))
    }

    /// Moves the stream to this runtime. It stays where it is if the runtime has ended, or has no reactor.
    pub(super) fn rehome(&mut self, home: &Handle) -> Result<(), RehomeError> {
        let is_here = Handle::try_current().is_ok_and(|here| here.id() == home.id());
        let _inside = home.enter();
        let copy = either!(self, stream => SockRef::from(&*stream).try_clone());
        // Tokio panics without a reactor. The original is still there then.
        let moved = panics::catch(|| match (&*self, copy) {
            (Self::Tcp(_), Ok(copy)) => TcpStream::from_std(copy.into()).map(Self::Tcp),
            #[cfg(unix)]
            (Self::Unix(_), Ok(copy)) => UnixStream::from_std(copy.into()).map(Self::Unix),
            // The process has no free file descriptor. The calling thread's runtime is at work, so nothing is at risk.
            (_, Err(_)) if is_here => self.take().rehomed(),
            (_, Err(error)) => Err(error),
            (Self::Lost, Ok(_)) => Ok(Self::Lost),
        });
        *self = moved.map_err(|panic| RehomeError::NoReactor(describe_panic(panic)))??;
        Ok(())
    }

    /// The stream itself, in the current runtime.
    fn rehomed(self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream.into_std()?).map(Self::Tcp),
            #[cfg(unix)]
            Self::Unix(stream) => UnixStream::from_std(stream.into_std()?).map(Self::Unix),
            Self::Lost => Ok(Self::Lost),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Lost)
    }

    /// Tells the peer that nothing follows.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Why a stream stays in its runtime.
#[derive(Debug, Error)]
pub(super) enum RehomeError {
    #[error("the runtime has no reactor: {0}")]
    NoReactor(String),
    #[error(transparent)]
    Io(#[from] io::Error),
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// A stream in a runtime, and its peer in another one.
    struct Scene {
        first: Runtime,
        stream: Stream,
        other: Runtime,
        peer: Stream,
    }

    impl Scene {
        fn new() -> Self {
            let runtime = || Builder::new_current_thread().enable_io().build().expect("a runtime");
            let (first, other) = (runtime(), runtime());
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("an address");
            let stream = first.block_on(Stream::connect_tcp(address)).expect("a connection");
            let (peer, _) = listener.accept().expect("a connection");
            peer.set_nonblocking(true).expect("a setting");
            let peer = other.block_on(async { TcpStream::from_std(peer).map(Stream::Tcp) }).expect("a stream");
            Self { first, stream, other, peer }
        }

        /// Sends a byte each way, with the stream in its first runtime, or in the other one.
        fn assert_works(mut self, is_at_first: bool) {
            let slices = [IoSlice::new(b"?")];
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            assert!(matches!(self.peer.poll_write(cx, &slices), Poll::Ready(Ok(1))));
            let mut bytes = [0; 2];
            let home = if is_at_first { &self.first } else { &self.other };
            let read = home.block_on(poll_fn(|cx| self.stream.poll_read(cx, &mut bytes)));
            assert_eq!((read.expect("a read"), bytes[0]), (1, b'?'));
            assert!(matches!(self.stream.poll_write(cx, &slices), Poll::Ready(Ok(1))));
            let read = self.other.block_on(poll_fn(|cx| self.peer.poll_read(cx, &mut bytes)));
            assert_eq!(read.expect("a read"), 1);
        }
    }

    #[test]
    fn stream_moves_to_another_runtime() {
        let mut scene = Scene::new();
        scene.stream.rehome(scene.other.handle()).expect("a move");
        scene.assert_works(false);
    }

    #[test]
    fn stream_moves_without_a_free_descriptor() {
        let mut scene = Scene::new();
        let stream = scene.stream.take();
        scene.stream = scene.other.block_on(async { stream.rehomed() }).expect("a move");
        scene.assert_works(false);
    }

    #[test]
    fn stream_stays_where_it_is_if_the_other_runtime_has_no_reactor() {
        let mut scene = Scene::new();
        let bare = Builder::new_current_thread().build().expect("a runtime");
        let moved = scene.stream.rehome(bare.handle());
        assert!(matches!(&moved, Err(RehomeError::NoReactor(text)) if text.contains("IO")), "{moved:?}");
        scene.assert_works(true);
    }

    #[test]
    fn stream_is_read_although_its_runtime_does_nothing() {
        let mut scene = Scene::new();
        let mut bytes = [0; 2];
        let read = scene.stream.read_now(&mut bytes);
        assert_eq!(read.expect_err("there is nothing").kind(), io::ErrorKind::WouldBlock);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(matches!(scene.peer.poll_write(cx, &[IoSlice::new(b"?")]), Poll::Ready(Ok(1))));
        assert!(scene.stream.poll_read(cx, &mut bytes).is_pending());
        assert_eq!((scene.stream.read_now(&mut bytes).expect("a read"), bytes[0]), (1, b'?'));
    }

    #[test]
    fn lost_stream_reports_an_error() {
        let mut scene = Scene::new();
        drop(scene.stream.take());
        let read = scene.first.block_on(poll_fn(|cx| scene.stream.poll_read(cx, &mut [0])));
        assert_eq!(read.expect_err("it is lost").kind(), io::ErrorKind::NotConnected);
    }
}
