//! One call in the caller's hands: settings, awaiting, partial replies, cancelling on drop.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    caller::Caller,
    command::CallSink,
    defaults::{Defaults, add_metadata},
    method::Method,
    partials::{self, PartialReceiver, PartialSender},
    value::Value,
};
use crate::{
    codec::{self, CodecError},
    config::TIMEOUT_MAX,
    error::{CallError, Place, RpcError},
    io::{clock, thread::Gone},
    proto::{
        calls::{CallEnd, CallFailure, CallSpec, WaitPolicy, codec_not_read, overloaded},
        message::{CallId, Codec, ErrorCode, ErrorReply, Metadata, Payload},
    },
    wire::{self, Carries},
    worker::signature_in,
};

/// How to read the outcome of a call.
struct Reader<T, E> {
    value: fn(Payload, &Method) -> Result<T, CodecError>,
    error: fn(Payload, &Method) -> Result<E, CodecError>,
}

impl<T, E> Clone for Reader<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for Reader<T, E> {}

/// A call: a future that is sent when it is first polled. Set it up, then await it.
///
/// The arguments are encoded when the call is made, on the calling thread. The timeout counts from the sending.
///
/// It is `Send`, `Unpin` and `'static`, so it can be spawned, joined, selected and timed out like any future.
/// [`Call::start`] sends it at once and returns a [`PendingCall`], which gives partial replies before the final one.
/// Dropping either cancels the call on the worker. Settings must come before the first poll; later ones do nothing.
///
/// ```
/// # use std::time::Duration;
/// #[xero::service]
/// trait Library {
///     async fn pages(&self, title: &str) -> u32;
/// }
///
/// async fn longest(library: &LibraryClient) -> Result<u32, xero::RpcError> {
///     let calls = ["Emma", "Ulysses", "Walden"].map(|title| library.pages(title).timeout(Duration::from_secs(1)));
///     // All three are on their way at the same time.
///     let pages = futures_util::future::try_join_all(calls).await?;
///     Ok(pages.into_iter().max().unwrap_or(0))
/// }
/// ```
///
/// # Panics
/// When polled again after it has returned the outcome.
#[must_use = "a call does nothing until it is awaited or started"]
pub struct Call<T, E> {
    caller: Caller,
    method: Method,
    timeout: Duration,
    fail_fast: bool,
    reader: Reader<T, E>,
    state: State,
}

enum State {
    Unsent(Unsent),
    /// Nothing was sent.
    Invalid(Invalid),
    Sent(CallId, oneshot::Receiver<CallEnd>),
    Ended,
}

/// What a call sends.
struct Unsent {
    /// `None` until a dynamic call has arguments.
    arguments: Option<Result<Payload, CodecError>>,
    codec: Codec,
    idempotent: Option<bool>,
    metadata: Metadata,
}

/// Why a call cannot be sent.
enum Invalid {
    /// A dynamic call's name is not `Service.method`.
    Name,
    /// The arguments could not be encoded.
    Arguments(CodecError),
}

impl<T, E> Call<T, E> {
    /// A call with the forms `MV` and `ME` of its value and its error.
    pub(super) fn typed<MV: Carries<T>, ME: Carries<E>>(
        caller: &Caller,
        defaults: &Defaults,
        method: Method,
        arguments: Result<Payload, CodecError>,
        codec: Codec,
    ) -> Self {
        let reader = Reader {
            value: |payload, _| wire::decode::<MV, T>(&payload),
            error: |payload, _| wire::decode::<ME, E>(&payload),
        };
        Self::new(caller, defaults, method, Some(arguments), codec, reader)
    }
}

impl Call<Value, Value> {
    pub(super) fn dynamic(caller: &Caller, defaults: &Defaults, method: Method) -> Self {
        let read = |payload, method: &Method| Ok(Value { payload, origin: Some(("a reply", method.clone())) });
        let reader = Reader { value: read, error: read };
        let codec = defaults.codec.unwrap_or_else(|| dynamic_codec(Codec::is_available));
        Self::new(caller, defaults, method, None, codec, reader)
    }

    /// Sets the arguments: a tuple or sequence by position, or a map or struct by name.
    ///
    /// A single argument is a tuple of one, `&("apple",)`. `&()` means no arguments. bincode and postcard write no names
    /// and no end of a list, so they take only a tuple; the call fails with [`RpcError::InvalidArguments`] otherwise.
    ///
    /// In these two codecs, nothing checks the types of a dynamic call against the method's: no signature travels with
    /// it, and bytes do not say what they are. So `&(1u32,)` for an `i64` may run the procedure with another number.
    pub fn arguments<A: Serialize + ?Sized>(self, arguments: &A) -> Self {
        self.with(|unsent| unsent.arguments = Some(encode_arguments(unsent.codec, arguments)))
    }

    /// Sets the codec of arguments and reply.
    ///
    /// Default: that of [`Client::with_codec`](crate::Client::with_codec), else MessagePack; JSON in a program without
    /// MessagePack; without either, the program's codec. Call this before [`Self::arguments`]: a call whose arguments are already written in another codec fails with
    /// [`RpcError::InvalidArguments`].
    ///
    /// Choose bincode or postcard only if the types of arguments and reply are certain: see [`Self::arguments`].
    pub fn codec(self, codec: Codec) -> Self {
        self.with(|unsent| {
            if unsent.arguments.is_some() && codec != unsent.codec {
                unsent.arguments = Some(Err(CodecError::too_late(codec)));
            }
            unsent.codec = codec;
        })
    }

    /// Lets the call be retried when its worker is lost, whatever the method declares.
    pub fn idempotent(self) -> Self {
        self.with(|unsent| unsent.idempotent = Some(true))
    }
}

impl<T, E> Call<T, E> {
    fn new(
        caller: &Caller,
        defaults: &Defaults,
        method: Method,
        arguments: Option<Result<Payload, CodecError>>,
        codec: Codec,
        reader: Reader<T, E>,
    ) -> Self {
        let unsent = Unsent { arguments, codec, idempotent: None, metadata: defaults.metadata.clone() };
        let (timeout, state) = (defaults.timeout.unwrap_or(caller.timeout()), State::Unsent(unsent));
        Self { caller: caller.clone(), method, timeout, fail_fast: defaults.fail_fast, reader, state }
    }

    pub(super) fn declared(mut self, idempotent: bool, timeout: Option<Duration>) -> Self {
        self.timeout = timeout.unwrap_or(self.timeout);
        self.with(|unsent| unsent.idempotent = Some(idempotent))
    }

    /// Changes what is sent. A call that was polled has been sent already.
    fn with(mut self, change: impl FnOnce(&mut Unsent)) -> Self {
        if let State::Unsent(unsent) = &mut self.state {
            change(unsent);
        }
        self
    }

    /// Sets how long the call may take, counted from the sending.
    ///
    /// Default: what `with_timeout` of the client or typed client says, else the method's timeout, else that of the
    /// client's builder, else 5 s. (`PROTOCOL.md` §8)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let State::Unsent(_) = self.state {
            self.timeout = timeout;
        }
        self
    }

    /// Fails at once if no worker can take the call, instead of waiting.
    ///
    /// A new client has no worker yet: see [`Client::wait_for_service`](crate::Client::wait_for_service).
    pub fn fail_fast(mut self) -> Self {
        if let State::Unsent(_) = self.state {
            self.fail_fast = true;
        }
        self
    }

    /// Sends a value beside the arguments, such as `traceparent`.
    ///
    /// The procedure reads it from its `Context`. Keys and values together are at most 16 KiB by default.
    pub fn metadata(self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.with(|unsent| add_metadata(&mut unsent.metadata, key, &value))
    }

    /// Sends the call now and keeps its partial replies for [`PendingCall::partial`].
    ///
    /// A call keeps at most 1,024 unread partial replies, or 16 MiB of them. One more ends the call with
    /// [`RpcError::PartialsUnread`]: a slow reader does not slow the procedure down, so it holds up no other call of
    /// the client. A call that was polled has been sent already, and keeps none.
    pub fn start(mut self) -> PendingCall<T, E> {
        let (sender, receiver) = partials::channel();
        let id = self.caller.next_call();
        if let State::Unsent(_) = self.state {
            self.send(id, Some(sender));
        }
        let id = if let State::Sent(id, _) = self.state { id } else { id };
        PendingCall { call: self, id, unread: receiver }
    }

    /// Sends the call, if it is not sent yet.
    fn send(&mut self, id: CallId, partials: Option<PartialSender>) {
        let State::Unsent(unsent) = mem::replace(&mut self.state, State::Ended) else {
            unreachable!("a call is sent once")
        };
        let Unsent { arguments, codec, idempotent, metadata } = unsent;
        self.state = match arguments.unwrap_or_else(|| no_arguments(codec)) {
            _ if self.method.service.is_empty() || self.method.name.is_empty() => State::Invalid(Invalid::Name),
            Err(error) => State::Invalid(Invalid::Arguments(error)),
            Ok(payload) => {
                let (end, receiver) = oneshot::channel();
                let spec = self.spec(idempotent, metadata, payload);
                self.caller.send(id, spec, CallSink { end, partials });
                State::Sent(id, receiver)
            }
        };
    }

    fn spec(&self, idempotent: Option<bool>, metadata: Metadata, payload: Payload) -> CallSpec {
        // A self-describing codec needs no fingerprint, and a fingerprint must not rule out a worker.
        let fingerprint = if payload.codec.is_self_describing() { 0 } else { self.method.fingerprint };
        CallSpec {
            service: Arc::clone(&self.method.service),
            method: Arc::clone(&self.method.name),
            fingerprint,
            idempotent,
            must_declare: false,
            wait_policy: if self.fail_fast { WaitPolicy::Never } else { WaitPolicy::UntilDeadline },
            owner: 0,
            attempts_before: 0,
            deadline: clock::now() + self.timeout.min(TIMEOUT_MAX),
            metadata,
            payload,
        }
    }

    fn read(&self, end: CallEnd) -> Result<T, CallError<E>> {
        match end {
            Ok(payload) => (self.reader.value)(payload, &self.method).map_err(|error| self.invalid_reply(&error)),
            Err(CallFailure::Remote(error)) if error.code == ErrorCode::Application => {
                let error = (self.reader.error)(error.payload, &self.method);
                Err(error.map_or_else(|error| self.invalid_reply(&error), CallError::Application))
            }
            Err(failure) => Err(self.explain(failure).into()),
        }
    }

    fn invalid_reply(&self, error: &CodecError) -> CallError<E> {
        CallError::Rpc(RpcError::InvalidReply { method: self.method.to_string(), reason: error.to_string() })
    }

    fn explain(&self, failure: CallFailure) -> RpcError {
        let method = self.method.to_string();
        match failure {
            CallFailure::Remote(error) => self.explain_remote(error),
            CallFailure::DeadlineExceeded { maybe_executed } => {
                RpcError::DeadlineExceeded { method, timeout: self.timeout, maybe_executed }
            }
            // The same as from a broker, in `explain_remote`.
            CallFailure::NotOffered { maybe_executed: true, .. } => {
                RpcError::WorkerLost { method, attempts: 1, maybe_executed: true }
            }
            CallFailure::NotOffered { offered, .. } => self.no_worker(&offered, true),
            CallFailure::NoWorker { offered, is_connected } => self.no_worker(&offered, is_connected),
            CallFailure::UnknownMethod { offered } => {
                let Method { service, name, .. } = &self.method;
                let detail = format!("service `{service}` has no method `{name}`; it has `{}`", offered.join("`, `"));
                RpcError::UnknownMethod { method, offered: names(&offered), detail }
            }
            CallFailure::CodecNotRead { codec, read } => {
                RpcError::InvalidArguments { method, reason: codec_not_read(codec, &read) }
            }
            CallFailure::WorkerLost { maybe_executed, attempts } => {
                RpcError::WorkerLost { method, attempts, maybe_executed }
            }
            CallFailure::Overloaded { waiting, waiting_max } => {
                RpcError::Overloaded { method, detail: overloaded(waiting, waiting_max, ""), maybe_executed: false }
            }
            CallFailure::TooLarge(too_large) => RpcError::TooLarge {
                method,
                exceeded: Some(too_large),
                detail: too_large.to_string(),
                maybe_executed: false,
            },
            CallFailure::PartialsLost { sent, received } => RpcError::PartialsLost { method, sent, received },
            CallFailure::PartialsUnread { received } => RpcError::PartialsUnread { method, received },
            CallFailure::UnreadableReply { reason } => RpcError::Malformed { method, reason, maybe_executed: true },
            CallFailure::Closed { maybe_executed } => match self.caller.gone() {
                Some(Gone::Forked) => RpcError::Forked { method, maybe_executed },
                Some(Gone::Crashed) => RpcError::Crashed { method, maybe_executed },
                Some(Gone::Closed) | None => RpcError::Closed { method, maybe_executed },
            },
        }
    }

    fn no_worker(&self, offered: &[Arc<str>], is_connected: bool) -> RpcError {
        // A client's call waits until its deadline, or not at all.
        let timeout = if self.fail_fast { Duration::ZERO } else { self.timeout };
        let (service, method, offered) = (self.method.service.to_string(), self.method.to_string(), names(offered));
        let (has_broker, brokers_missing) = match self.caller.place() {
            Place::Brokers(endpoints) if !is_connected => (false, endpoints.clone()),
            Place::Brokers(_) => (true, Vec::new()),
            Place::Bound(_) => (false, Vec::new()),
        };
        RpcError::NoWorker { service, method, timeout, offered, has_broker, brokers_missing }
    }

    fn explain_remote(&self, error: ErrorReply) -> RpcError {
        let ErrorReply { code, partials, maybe_executed, detail, .. } = error;
        let method = self.method.to_string();
        match code {
            // An earlier attempt was lost, and may have run: this matters more than the missing second worker.
            ErrorCode::NoWorker | ErrorCode::UnknownService | ErrorCode::UnknownMethod if maybe_executed => {
                RpcError::WorkerLost { method, attempts: 1, maybe_executed }
            }
            ErrorCode::Application | ErrorCode::InvalidReply => RpcError::InvalidReply { method, reason: detail },
            ErrorCode::Panicked => RpcError::Panicked { method, message: detail },
            ErrorCode::UnknownService => {
                RpcError::UnknownService { method, service: self.method.service.to_string(), detail }
            }
            ErrorCode::UnknownMethod => RpcError::UnknownMethod { method, offered: Vec::new(), detail },
            ErrorCode::SignatureMismatch => RpcError::SignatureMismatch {
                method,
                caller: signature_in(self.method.version, self.method.signature),
                worker: detail,
            },
            ErrorCode::InvalidArguments => RpcError::InvalidArguments { method, reason: detail },
            ErrorCode::DeadlineExceeded => RpcError::DeadlineExceeded { method, timeout: self.timeout, maybe_executed },
            ErrorCode::Cancelled => RpcError::Cancelled { method, maybe_executed },
            ErrorCode::Refused => RpcError::Refused { method, detail, maybe_executed },
            ErrorCode::Overloaded => RpcError::Overloaded { method, detail, maybe_executed },
            ErrorCode::TooLarge => RpcError::TooLarge { method, exceeded: None, detail, maybe_executed },
            ErrorCode::Malformed => RpcError::Malformed { method, reason: detail, maybe_executed },
            ErrorCode::NoWorker => self.no_worker(&[], true),
            ErrorCode::WorkerLost => RpcError::WorkerLost { method, attempts: 1, maybe_executed },
            ErrorCode::Unread => RpcError::PartialsUnread { method, received: partials },
        }
    }
}

impl<T, E> Future for Call<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Unsent(_) = self.state {
            let id = self.caller.next_call();
            self.send(id, None);
        }
        let end = match &mut self.state {
            State::Sent(_, receiver) => {
                let closed = Err(CallFailure::Closed { maybe_executed: true });
                match Pin::new(receiver).poll(cx) {
                    // No sender means that the I/O thread has ended.
                    Poll::Ready(end) => end.unwrap_or(closed),
                    // After a fork, no thread here can answer.
                    Poll::Pending if self.caller.is_elsewhere() => closed,
                    Poll::Pending => return Poll::Pending,
                }
            }
            State::Invalid(invalid) => {
                let error = match invalid {
                    Invalid::Arguments(error) => {
                        let reason = error.to_string();
                        RpcError::InvalidArguments { method: self.method.to_string(), reason }
                    }
                    Invalid::Name => {
                        let Method { service, name, .. } = &self.method;
                        let separator = if service.is_empty() { "" } else { "." };
                        let method = format!("{service}{separator}{name}");
                        let detail = format!("`{method}` is not a method's name: write `Service.method`");
                        RpcError::UnknownMethod { method, offered: Vec::new(), detail }
                    }
                };
                self.state = State::Ended;
                return Poll::Ready(Err(error.into()));
            }
            State::Unsent(_) | State::Ended => panic!("a call was polled after its outcome"),
        };
        self.state = State::Ended;
        Poll::Ready(self.read(end))
    }
}

impl<T, E> Drop for Call<T, E> {
    fn drop(&mut self) {
        if let State::Sent(id, receiver) = &mut self.state
            && receiver.try_recv().is_err()
        {
            self.caller.cancel(*id);
        }
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A call in flight: a future of its outcome. Dropping it cancels the call on the worker.
///
/// # Panics
/// When polled again after it has returned the outcome.
#[must_use = "dropping a pending call cancels it"]
pub struct PendingCall<T, E> {
    call: Call<T, E>,
    id: CallId,
    unread: PartialReceiver,
}

impl<T, E> PendingCall<T, E> {
    /// The next partial reply, in the order of sending; `None` when the call has ended, or was polled before it was
    /// started.
    ///
    /// Awaiting the call then gives its outcome. A retry on another worker starts its partial replies over.
    pub async fn partial(&mut self) -> Option<Value> {
        let payload = self.call.caller.answer(self.unread.next()).await??;
        Some(Value { payload, origin: Some(("a partial reply", self.call.method.clone())) })
    }

    /// The call's number. Where the client binds, the worker's `Context` has the same; a broker gives its requests
    /// numbers of its own.
    pub fn id(&self) -> CallId {
        self.id
    }
}

impl<T, E> Future for PendingCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.call).poll(cx)
    }
}

impl<T, E> fmt::Debug for PendingCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("id", &self.id).field("method", &self.call.method).finish_non_exhaustive()
    }
}

fn names(offered: &[Arc<str>]) -> Vec<String> {
    offered.iter().map(|name| name.to_string()).collect()
}

/// The codec of a dynamic call: one that names fields, if there is one, so that the other side may know other fields.
fn dynamic_codec(is_available: impl Fn(Codec) -> bool) -> Codec {
    let by_name = [Codec::MessagePack, Codec::Json];
    by_name.into_iter().find(|codec| is_available(*codec)).unwrap_or_default()
}

fn encode_arguments<A: Serialize + ?Sized>(codec: Codec, arguments: &A) -> Result<Payload, CodecError> {
    let written = codec::encode_dynamic_arguments(codec, arguments)?;
    // MessagePack and JSON write `()`, the empty tuple, as a value that is no sequence.
    match written == codec::encode(codec, &())? {
        true => no_arguments(codec),
        false => Ok(written),
    }
}

fn no_arguments(codec: Codec) -> Result<Payload, CodecError> {
    codec::encode::<[(); 0]>(codec, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_calls_are_written_by_name_in_codecs_with_names() {
        let chosen = |available: &[Codec]| dynamic_codec(|codec| available.contains(&codec));
        assert_eq!(chosen(&Codec::ALL), Codec::MessagePack);
        assert_eq!(chosen(&[Codec::Bincode, Codec::Json, Codec::Postcard]), Codec::Json);
        assert_eq!(chosen(&[Codec::Postcard]), Codec::default());
        assert!(dynamic_codec(Codec::is_available).is_available());
    }
}
