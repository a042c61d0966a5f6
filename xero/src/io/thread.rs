//! The I/O thread behind a handle, the process that it belongs to, and how it ended.

use std::{
    any::Any,
    future::{Future, poll_fn},
    io, mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
};

use tokio::runtime;
use tracing::error;

use super::{
    guest::{Guest, Rest, describe_guest},
    mailbox::Mailbox,
    panics,
    process::Process,
};

/// The I/O thread of a client, worker or broker. Handles ask it whether an answer can still arrive.
#[derive(Clone, Debug)]
pub(crate) struct IoThread {
    process: Process,
    has_panicked: Arc<AtomicBool>,
}

/// Why a handle is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Gone {
    #[error("the client is closed")]
    Closed,
    /// The thread stayed in the parent process.
    #[error("the client belongs to the parent of this forked process; make another one after the fork")]
    Forked,
    #[error("the client's I/O thread has panicked")]
    Crashed,
}

impl IoThread {
    /// A thread of this process that has not started yet.
    pub(crate) fn new() -> Self {
        Self { process: Process::current(), has_panicked: Arc::default() }
    }

    /// Runs a driver on its own thread and runtime, so that heartbeats never wait for the user's.
    ///
    /// The thread does the driver's remaining work once that runtime has ended.
    pub(crate) fn spawn(
        name: &str,
        connections: Connections,
        driver: impl Future<Output = Rest> + Send + 'static,
    ) -> io::Result<()> {
        // In a box, because each move of it through the thread's first frames would take kilobytes of stack for ever.
        let driver = Box::pin(driver);
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .max_io_events_per_tick(connections.events_max())
            .enable_time()
            .build()?;
        let runtime = Unstarted(Some(runtime));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Some(rest) = runtime.run(driver) {
                rest();
            }
        })?;
        Ok(())
    }

    /// Records a panic, before the channels close, so that a handle that finds them closed finds the reason too.
    pub(crate) fn crash(&self, panic: Guest<Box<dyn Any + Send>>) {
        self.has_panicked.store(true, Ordering::Release);
        error!(panic = describe_guest(panic), "the I/O thread has panicked");
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked.load(Ordering::Acquire)
    }

    /// Whether this process was forked from the thread's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.process.is_elsewhere()
    }
}

/// How many connections a thread may have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Connections {
    /// Those to the endpoints that it dials.
    Few,
    /// Whoever dials in.
    Many,
}

impl Connections {
    /// The events that the reactor takes at once, 12 bytes each.
    ///
    /// After a freeze, a look must find what all peers have sent, whoever else is connected.
    fn events_max(self) -> usize {
        match self {
            Self::Few => 128,
            Self::Many => 1024,
        }
    }
}

/// The runtime of a thread that has not started. If no thread is free, the caller drops it, possibly within its own
/// runtime.
struct Unstarted(Option<runtime::Runtime>);

impl Unstarted {
    /// Returns once the driver and the runtime have ended.
    fn run(mut self, driver: impl Future<Output = Rest>) -> Rest {
        let runtime = self.0.take()?;
        runtime.block_on(driver)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Unlike a drop, this is allowed within another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A handle's ends of the channels to its I/O thread. Clones share them.
///
/// A forked process neither uses nor drops them: the other ends, and locks held during the fork, belong to a missing
/// thread.
#[derive(Debug)]
pub(crate) struct Owned<T>(Arc<Held<T>>);

#[derive(Debug)]
struct Held<T> {
    io: IoThread,
    /// Taken by the drop in a forked process.
    ends: Option<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(io: IoThread, ends: T) -> Self {
        Self(Arc::new(Held { io, ends: Some(ends) }))
    }

    /// The ends, unless this is a forked process.
    pub(crate) fn here(&self) -> Option<&T> {
        self.0.ends.as_ref().filter(|_| !self.0.io.is_elsewhere())
    }

    /// The future's value; `None` in a forked process, whenever the fork was, because no thread there gives it.
    pub(crate) async fn answer<A>(&self, future: impl Future<Output = A>) -> Option<A> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.0.io.is_elsewhere() {
            true => Poll::Ready(None),
            false => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Some of the ends.
    pub(crate) fn map<U>(&self, part: impl FnOnce(&T) -> U) -> Owned<U> {
        Owned(Arc::new(Held { io: self.0.io.clone(), ends: self.here().map(part) }))
    }

    /// The ends, or why nobody holds the other ends.
    pub(crate) fn open(&self, is_closed: impl FnOnce(&T) -> bool) -> Result<&T, Gone> {
        let ends = self.here().ok_or(Gone::Forked)?;
        match is_closed(ends) {
            true if self.0.io.has_panicked() => Err(Gone::Crashed),
            true => Err(Gone::Closed),
            false => Ok(ends),
        }
    }
}

impl<T> Clone for Owned<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if self.io.is_elsewhere() {
            mem::forget(self.ends.take());
        }
    }
}

/// Closes a mailbox. Late commands wake their waiting senders, each by itself.
pub(crate) fn close<T>(mut mailbox: Mailbox<T>) {
    mailbox.close();
    while let Ok(command) = mailbox.take() {
        panics::drop_quietly(command);
    }
}

/// The error of a builder whose I/O thread has ended without an answer.
pub(crate) fn io_thread_died() -> io::Error {
    io::Error::other("it has panicked")
}
