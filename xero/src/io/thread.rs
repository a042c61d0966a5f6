//! The I/O thread behind a handle, the process that it belongs to, and how it ended.

use std::{
    any::Any,
    future::{Future, poll_fn},
    io, mem,
    pin::pin,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
};

use tokio::{runtime, sync::mpsc};
use tracing::error;

use super::{
    guest::{Guest, Rest, describe_guest},
    panics,
};

/// The I/O thread of a client, worker or broker. Handles ask it whether there is somebody to wait for.
#[derive(Clone, Debug)]
pub(crate) struct IoThread {
    process: u32,
    has_panicked: Arc<AtomicBool>,
}

/// Why a handle is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Gone {
    #[error("the client is closed")]
    Closed,
    /// Threads stay behind.
    #[error("the client belongs to the process that was forked into this one; make another one here")]
    Forked,
    #[error("the client's I/O thread has panicked")]
    Crashed,
}

impl IoThread {
    /// A thread of this process that is still to be started.
    pub(crate) fn new() -> Self {
        Self { process: process::id(), has_panicked: Arc::default() }
    }

    /// Runs a driver on a thread and a runtime of its own, so that heartbeats never wait for the user's code. What the
    /// driver leaves is done there once that runtime has ended.
    pub(crate) fn spawn(name: &str, driver: impl Future<Output = Rest> + Send + 'static) -> io::Result<()> {
        let runtime = Unstarted(Some(runtime::Builder::new_current_thread().enable_io().enable_time().build()?));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Some(rest) = runtime.run(driver) {
                rest();
            }
        })?;
        Ok(())
    }

    /// Records a panic. Comes before the channels close, so that a handle that finds them closed finds the reason too.
    pub(crate) fn crash(&self, panic: Guest<Box<dyn Any + Send>>) {
        self.has_panicked.store(true, Ordering::Release);
        error!(panic = describe_guest(panic), "the I/O thread has panicked");
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked.load(Ordering::Acquire)
    }

    /// Whether the thread runs in the process that was forked into this one.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.process != process::id()
    }
}

/// The runtime of a thread that is still to be started. Where no thread can be had, the caller drops it, within its own
/// runtime perhaps.
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
            // Unlike a drop, this may be done within another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A handle's ends of the channels to its I/O thread. In a forked process they are neither used nor dropped: the other
/// ends, and locks that were held at the time, belong to a thread that is not there.
#[derive(Clone, Debug)]
pub(crate) struct Owned<T> {
    io: IoThread,
    ends: Option<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(io: IoThread, ends: T) -> Self {
        Self { io, ends: Some(ends) }
    }

    /// The ends, unless this is a forked process.
    pub(crate) fn here(&self) -> Option<&T> {
        self.ends.as_ref().filter(|_| !self.io.is_elsewhere())
    }

    /// The future's value; `None` in a forked process, whenever the fork was: whoever would give it is not there.
    pub(crate) async fn answer<A>(&self, future: impl Future<Output = A>) -> Option<A> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.io.is_elsewhere() {
            true => Poll::Ready(None),
            false => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Some of the ends.
    pub(crate) fn map<U>(&self, part: impl FnOnce(&T) -> U) -> Owned<U> {
        Owned { io: self.io.clone(), ends: self.here().map(part) }
    }

    /// The ends, or why nobody is at the other ones.
    pub(crate) fn open(&self, is_closed: impl FnOnce(&T) -> bool) -> Result<&T, Gone> {
        let ends = self.here().ok_or(Gone::Forked)?;
        match is_closed(ends) {
            true if self.io.has_panicked() => Err(Gone::Crashed),
            true => Err(Gone::Closed),
            false => Ok(ends),
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.io.is_elsewhere() {
            mem::forget(self.ends.take());
        }
    }
}

/// Closes a mailbox. What was sent too late wakes whoever waits for an answer to it, each by itself.
pub(crate) fn close<T>(mut mailbox: mpsc::UnboundedReceiver<T>) {
    mailbox.close();
    while let Ok(command) = mailbox.try_recv() {
        panics::drop_quietly(command);
    }
}

/// What a builder says whose I/O thread has ended without an answer.
pub(crate) fn io_thread_died() -> io::Error {
    io::Error::other("it has panicked")
}
