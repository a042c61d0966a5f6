//! The end of a connection from this side: the peer gets what was sent, and then the end.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use super::connection::Connection;

/// The connections of a socket that end in the background.
#[derive(Clone, Debug, Default)]
pub(super) struct Lingering {
    /// The bytes that wait to be written on them.
    bytes: Arc<AtomicUsize>,
}

/// One of them, until it has ended.
struct Place {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Lingering {
    /// Ends a connection; what the system does not take at once is written in the background.
    ///
    /// A close while the peer's bytes are unread would reset the connection, and the reset may overtake what was sent.
    /// So the peer is left to close first, for a moment.
    pub(super) fn end(&self, mut connection: Connection) {
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(flushed) = connection.poll_flush(cx).map(|flushed| flushed.is_ok()) else {
            return self.spawn(connection);
        };
        // An error means that the peer has closed, so nothing is lost by closing too.
        if flushed && connection.stream().poll_shutdown(cx).is_ready() && discard(&mut connection, cx).is_pending() {
            self.spawn(connection);
        }
    }

    fn spawn(&self, mut connection: Connection) {
        // The last moments of a runtime, or a flood of connections that end.
        let Ok(runtime) = Handle::try_current() else { return };
        connection.rehome(&runtime);
        let bytes = connection.outgoing().bytes();
        let others = self.bytes.load(Ordering::Relaxed);
        if Arc::strong_count(&self.bytes) > LINGERING_MAX || others > LINGERING_BYTES_MAX {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Place { all: Arc::clone(&self.bytes), bytes };
        runtime.spawn(async move {
            let _place = place;
            let flushed = timeout(LINGER, poll_fn(|cx| connection.poll_flush(cx))).await;
            if let Ok(Ok(())) = flushed {
                let _ = poll_fn(|cx| connection.stream().poll_shutdown(cx)).await;
                let _ = timeout(CLOSE, poll_fn(|cx| discard(&mut connection, cx))).await;
            }
        });
    }
}

/// Reads to the end and keeps nothing.
fn discard(connection: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut bytes = [0; 4096];
    while ready!(connection.stream().poll_read(cx, &mut bytes))? > 0 {}
    Poll::Ready(Ok(()))
}

/// How long the queue of an ended connection is kept for a peer that does not read: as long as the system keeps one.
const LINGER: Duration = Duration::from_secs(30);

/// How long a peer has to close its end: many round trips.
const CLOSE: Duration = Duration::from_secs(1);

/// The most bytes that wait on them, apart from one connection: who reads nothing is disconnected for the memory that it
/// takes, and must not keep it.
const LINGERING_BYTES_MAX: usize = 64 << 20;

/// The most connections of a socket that end in the background: a broker's clients all leave at once, but a stranger
/// cannot keep more descriptors than this by connecting and misbehaving.
const LINGERING_MAX: usize = 4096;
