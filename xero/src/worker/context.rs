//! A procedure's view of its call.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use super::command::Command;
use crate::{
    codec::{self, CodecError},
    error::PartialError,
    io::{clock, mailbox::Commands, panics, thread::Owned},
    proto::{
        frame::TooLarge,
        message::{CallId, Codec, Metadata, Request},
        timer::Execution,
    },
};

/// Units of partial replies that one procedure may queue: 64 small ones, or a mebibyte.
///
/// That is enough to keep the I/O thread busy. A procedure that produces faster than its caller takes must wait.
const UNITS_MAX: u32 = 64;

/// The bytes of a partial reply that count as one unit.
const UNIT_BYTES: usize = 16 * 1024;

/// A procedure's view of its call: deadline, cancellation, metadata, partial replies.
///
/// A method of a service trait takes it as an optional first argument, `cx: &Context`. Cloning is cheap; clones may
/// outlive the procedure.
///
/// ```
/// use std::time::Duration;
/// use xero::{Client, Context, Worker};
///
/// #[xero::service]
/// trait Reports {
///     async fn build(&self, cx: &Context, pages: u32) -> u32;
/// }
///
/// struct Office;
///
/// #[xero::worker]
/// impl Reports for Office {
///     async fn build(&self, cx: &Context, pages: u32) -> u32 {
///         for page in 0..pages {
///             let _ = cx.partial(&page).await; // nobody listening is no reason to stop
///         }
///         pages
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::bind("inproc://context-example").await?;
/// let worker = Worker::connect("inproc://context-example").serve(Office).start()?;
/// let mut call = ReportsClient::new(&client).build(2).start();
/// while let Some(partial) = call.partial().await {
///     println!("page {} is done", partial.decode::<u32>()?);
/// }
/// assert_eq!(call.await?, 2);
/// # worker.drain().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    call: CallId,
    attempt: u8,
    codec: Codec,
    fingerprint: u64,
    service: Arc<str>,
    method: Arc<str>,
    worker: Uuid,
    deadline: Instant,
    metadata: Metadata,
    execution: Execution,
    reply_bytes_max: usize,
    is_cancelled: AtomicBool,
    /// Waits of user code on the next two.
    waits: AtomicUsize,
    cancelled: Notify,
    pending: Semaphore,
    commands: Owned<Commands<Command>>,
}

/// Where a procedure runs, beside its request.
pub(crate) struct Place {
    pub(crate) worker: Uuid,
    pub(crate) execution: Execution,
    pub(crate) deadline: Instant,
    pub(crate) reply_bytes_max: usize,
    pub(crate) commands: Owned<Commands<Command>>,
}

impl Context {
    pub(crate) fn new(request: Request, place: Place) -> Self {
        let Place { worker, execution, deadline, reply_bytes_max, commands } = place;
        let Request { call, attempt, fingerprint, service, method, metadata, payload, .. } = request;
        let inner = Inner {
            call,
            attempt,
            codec: payload.codec,
            fingerprint,
            service,
            method,
            worker,
            deadline,
            metadata,
            execution,
            reply_bytes_max,
            is_cancelled: AtomicBool::new(false),
            waits: AtomicUsize::new(0),
            cancelled: Notify::new(),
            pending: Semaphore::new(UNITS_MAX as usize),
            commands,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Nobody waits for the reply any more.
    pub(crate) fn cancel(&self) {
        self.note_unwanted();
        // Senders that wait for room learn that nobody listens.
        self.inner.pending.close();
        self.inner.cancelled.notify_waiters();
    }

    /// Nobody waits for the reply any more; waits learn it by [`Self::cancel`], and no other wait begins.
    pub(crate) fn note_unwanted(&self) {
        self.inner.is_cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether user code waits for the cancelling or for room: its wakers may be any.
    pub(crate) fn is_awaited(&self) -> bool {
        self.inner.waits.load(Ordering::SeqCst) > 0
    }

    /// Partial replies never wait for room from now on.
    pub(crate) fn lift_bound(&self) {
        self.inner.pending.add_permits(Semaphore::MAX_PERMITS - UNITS_MAX as usize);
    }

    /// A partial reply has been sent.
    pub(crate) fn make_room(&self, bytes: usize) {
        self.inner.pending.add_permits(units(bytes) as usize);
    }

    pub(crate) fn execution(&self) -> Execution {
        self.inner.execution
    }

    pub(crate) fn commands(&self) -> &Owned<Commands<Command>> {
        &self.inner.commands
    }

    /// The fingerprint of the caller's signature; 0 if it has none.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.inner.fingerprint
    }

    pub(crate) fn is_unwanted(&self) -> bool {
        self.inner.is_cancelled.load(Ordering::SeqCst)
    }

    /// Whether this process was forked from the worker's.
    fn is_elsewhere(&self) -> bool {
        self.inner.commands.here().is_none()
    }

    /// Returns when nobody waits for the reply any more.
    pub(crate) async fn until_unwanted(self) {
        self.unwanted().await;
    }

    async fn unwanted(&self) {
        let mut notified = pin!(self.inner.cancelled.notified());
        // Listening before looking misses no notice in between.
        notified.as_mut().enable();
        if !self.is_unwanted() {
            notified.await;
        }
    }

    /// Sends a partial reply: any serde value, in the call's codec.
    ///
    /// The caller gets the partial replies in order, before the final reply. When the call is retried on another
    /// worker, the new attempt starts over.
    ///
    /// Waits while 64 earlier partial replies of this procedure, or a mebibyte of them, are queued. They queue when the
    /// caller's process or the network takes them more slowly than the procedure sends, because the byte window is full
    /// (`PROTOCOL.md` §9). It does not wait for a caller that is slow to read what its process has taken; that call
    /// ends when it keeps too many unread.
    ///
    /// Only the writer's half of the value's type is known here. In bincode and postcard, a type whose reader differs
    /// from it (`#[serde(skip)]` on a variant that is not the last, `#[serde(skip_serializing)]`) arrives as another
    /// value. So does a value that the caller decodes as another type: see
    /// [`assert_roundtrips`](crate::assert_roundtrips).
    ///
    /// # Errors
    /// When the value cannot be encoded, exceeds the caller's limit, or nobody waits for it any more.
    pub async fn partial<T: Serialize + ?Sized + Sync>(&self, value: &T) -> Result<(), PartialError> {
        let in_partial = |error: CodecError| error.within("a partial reply", self.full_method());
        let payload = codec::encode(self.inner.codec, value).map_err(in_partial)?;
        let (size, limit) = (payload.bytes.len(), self.inner.reply_bytes_max);
        if size > limit {
            return Err(TooLarge { what: "partial reply", size, limit, setter: "payload_bytes_max" }.into());
        }
        if self.is_elsewhere() {
            return Err(PartialError::Unwanted);
        }
        let room = self.wait(self.inner.pending.acquire_many(units(size))).await;
        room.and_then(Result::ok).ok_or(PartialError::Unwanted)?.forget();
        if self.is_unwanted() {
            return Err(PartialError::Unwanted);
        }
        let command = Command::Partial(self.inner.execution, payload);
        let commands = self.inner.commands.here().ok_or(PartialError::Unwanted)?;
        commands.send_one_of_many(command).map_err(|_| PartialError::Unwanted)
    }

    /// Waits until the call is cancelled, its deadline passes, or its connection is lost.
    ///
    /// A procedure in a task is dropped at its next `await` in that case; use this for work that it has started
    /// elsewhere.
    ///
    /// In a process that the procedure has forked, it returns at once.
    pub async fn cancelled(&self) {
        if !self.is_elsewhere() {
            self.wait(self.unwanted()).await;
        }
    }

    /// A wait of user code, whose wakers may be any. `None` if nobody waits for the reply any more.
    async fn wait<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let _counted = Counted::new(&self.inner.waits);
        // Counted before this look: either the canceller sees the wait, or this sees the cancelling.
        if self.is_unwanted() {
            return None;
        }
        Some(panics::shielded(wait).await)
    }

    /// Whether nobody waits for the reply any more. A blocking procedure should ask from time to time.
    pub fn is_cancelled(&self) -> bool {
        self.is_unwanted() || self.is_elsewhere()
    }

    /// When the call must have ended, on this machine's clock.
    pub fn deadline(&self) -> Instant {
        self.inner.deadline
    }

    /// The time left until the deadline; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.inner.deadline.saturating_duration_since(clock::now())
    }

    /// What the caller has sent beside the arguments: `cx.metadata().get("traceparent")`.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// The call's number, the same for every attempt.
    pub fn call_id(&self) -> CallId {
        self.inner.call
    }

    /// The attempt: 1, or more after a retry.
    pub fn attempt(&self) -> u8 {
        self.inner.attempt
    }

    /// The incarnation of the worker that runs the procedure.
    pub fn worker_id(&self) -> Uuid {
        self.inner.worker
    }

    /// The caller's codec.
    pub fn codec(&self) -> Codec {
        self.inner.codec
    }

    /// The name of the called service.
    pub fn service(&self) -> &str {
        &self.inner.service
    }

    /// The name of the called method.
    pub fn method(&self) -> &str {
        &self.inner.method
    }

    /// The method, as `Service.method`.
    pub(crate) fn full_method(&self) -> String {
        format!("{}.{}", self.inner.service, self.inner.method)
    }
}

/// A wait that counts until it ends or is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(waits: &'a AtomicUsize) -> Self {
        waits.fetch_add(1, Ordering::SeqCst);
        Self(waits)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The units of a partial reply; one larger than all units goes alone.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(UNITS_MAX).clamp(1, UNITS_MAX)
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("call", &self.inner.call)
            .field("attempt", &self.inner.attempt)
            .field("method", &self.full_method())
            .finish_non_exhaustive()
    }
}
