//! The reader: a task on the program's own runtime that reads the sockets there, so that what arrives changes no thread.
//!
//! The sockets belong to one runtime at a time, the I/O thread's or the program's, and only a task of that runtime reads
//! them. [`Watch`](super::watch::Watch) decides which one it is.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Wake},
};

use futures_util::task::AtomicWaker;
use tokio::{runtime::Handle, task::yield_now};

use super::process::Process;

/// What the reader shares with those who call it. As a waker, it reports that a socket is ready.
#[derive(Debug)]
pub(super) struct Reader {
    runtime: Handle,
    process: Process,
    task: AtomicWaker,
    io_thread: Arc<AtomicWaker>,
    is_called: AtomicBool,
    /// Whether the call came from a socket, so that nothing is gained by waiting for further commands.
    is_readable: AtomicBool,
    /// Whether the sockets belong to its runtime.
    has_sockets: AtomicBool,
    /// Whether it has found the desk taken, and must be called once that is free.
    awaits_desk: AtomicBool,
    /// Whether it has found the desk taken, and has not been there since.
    is_kept_out: AtomicBool,
    /// Whether the I/O thread looks at it from time to time.
    is_watched: AtomicBool,
    /// How often its runtime has answered a call.
    answers: AtomicU64,
    has_ended: AtomicBool,
    is_dismissed: AtomicBool,
}

impl Reader {
    pub(super) fn new(runtime: Handle, io_thread: Arc<AtomicWaker>) -> Self {
        Self {
            runtime,
            process: Process::current(),
            task: AtomicWaker::new(),
            io_thread,
            is_called: AtomicBool::new(false),
            is_readable: AtomicBool::new(false),
            has_sockets: AtomicBool::new(false),
            awaits_desk: AtomicBool::new(false),
            is_kept_out: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            is_dismissed: AtomicBool::new(false),
        }
    }

    /// Whether this process was forked from the one of the I/O thread, to which the sockets belong.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.process.is_elsewhere()
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Has the task take a turn, after others that are about to run: they may add commands to it.
    pub(super) fn call(&self) {
        if !self.is_called.swap(true, Ordering::SeqCst) {
            self.task.wake();
        }
        self.watch();
    }

    /// Has the I/O thread look after the task from time to time, if the task has the sockets.
    pub(super) fn watch(&self) {
        if self.has_sockets() && self.begin_watch() {
            self.io_thread.wake();
        }
    }

    /// Has the I/O thread look at the task.
    pub(super) fn wake_io_thread(&self) {
        self.io_thread.wake();
    }

    /// Has the task take a turn now.
    pub(super) fn call_to_read(&self) {
        self.is_readable.store(true, Ordering::SeqCst);
        self.call();
    }

    /// Waits for a call, and for the commands of tasks that are about to run: these leave in the same BATCH.
    pub(super) async fn called(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            match self.is_called.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        if !self.is_readable.load(Ordering::SeqCst) {
            // Further calls do not wake the task, which would end this at once.
            yield_now().await;
        }
        self.is_readable.store(false, Ordering::SeqCst);
        self.is_called.store(false, Ordering::SeqCst);
    }

    /// Notes that the runtime works.
    pub(super) fn answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether the sockets belong to the reader's runtime.
    pub(super) fn has_sockets(&self) -> bool {
        self.has_sockets.load(Ordering::SeqCst)
    }

    pub(super) fn set_has_sockets(&self, has_sockets: bool) {
        self.has_sockets.store(has_sockets, Ordering::SeqCst);
    }

    /// Notes that the reader must be called once the desk is free.
    pub(super) fn await_desk(&self) {
        self.awaits_desk.store(true, Ordering::SeqCst);
        self.is_kept_out.store(true, Ordering::Relaxed);
    }

    /// Notes that the reader is at the desk.
    pub(super) fn note_desk(&self) {
        self.is_kept_out.store(false, Ordering::Relaxed);
    }

    /// Whether the reader has waited for the desk since it was last there.
    pub(super) fn is_kept_out(&self) -> bool {
        self.is_kept_out.load(Ordering::Relaxed)
    }

    /// Calls the reader if it waits for the desk, which is free now.
    pub(super) fn offer_desk(&self) {
        if self.awaits_desk.load(Ordering::SeqCst) && self.awaits_desk.swap(false, Ordering::SeqCst) {
            self.call_to_read();
        }
    }

    /// Notes that the task is watched. Returns whether it was not before.
    pub(super) fn begin_watch(&self) -> bool {
        !self.is_watched.load(Ordering::SeqCst) && !self.is_watched.swap(true, Ordering::SeqCst)
    }

    pub(super) fn end_watch(&self) {
        self.is_watched.store(false, Ordering::SeqCst);
    }

    /// Whether a call waits for the task.
    pub(super) fn is_called(&self) -> bool {
        self.is_called.load(Ordering::SeqCst)
    }

    /// Has the task end, because its driver has.
    pub(super) fn dismiss(&self) {
        self.is_dismissed.store(true, Ordering::SeqCst);
        self.call();
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::SeqCst)
    }

    /// Whether its runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.call_to_read();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call_to_read();
    }
}
