//! Why a call has no value: the method's own error, or Xero's.

use std::{error::Error, fmt, time::Duration};

use super::{Never, known, shown};
use crate::proto::frame::TooLarge;

/// Why a call has no value: what the method says, or what keeps Xero from asking it.
///
/// `E` is the method's own error, or [`Never`] if it has none. It needs no trait beyond serde's. If it is an
/// [`Error`], this is one too, whose [`source`](Error::source) is the method's error, so `anyhow`, `eyre` and
/// `Box<dyn Error>` take it with `?`. If it can be displayed, so can this. A `String` can be displayed, but is no
/// [`Error`]: give such a method a type, or convert its text with [`Self::map_application`].
///
/// ```
/// use xero::{CallError, RpcError};
/// # #[derive(Debug, PartialEq)] enum LibraryError { NotFound }
/// # fn answer(outcome: Result<u32, CallError<LibraryError>>) -> String {
/// match outcome {
///     Ok(pages) => format!("{pages} pages"),
///     Err(CallError::Application(LibraryError::NotFound)) => "no such book".to_owned(),
///     Err(CallError::Rpc(RpcError::NoWorker { offered, .. })) => format!("no library; there is {offered:?}"),
///     Err(CallError::Rpc(error)) => format!("failed: {error}"),
/// }
/// # }
/// # assert_eq!(answer(Err(CallError::Application(LibraryError::NotFound))), "no such book");
/// ```
///
/// A function that calls several methods has one error type for all of them: [`RpcError`], after [`Self::split`].
///
/// ```
/// # use xero::{CallError, RpcError};
/// # #[derive(Debug, PartialEq)] enum LibraryError { NotFound }
/// # #[derive(Debug, PartialEq)] enum ShopError { Closed }
/// # async fn find() -> Result<u32, CallError<LibraryError>> { Ok(7) }
/// # async fn buy(_: u32) -> Result<(), CallError<ShopError>> { Ok(()) }
/// # async fn ping() -> Result<(), CallError<xero::Never>> { Ok(()) }
/// async fn order() -> Result<bool, RpcError> {
///     ping().await?;
///     let Ok(book) = CallError::split(find().await)? else { return Ok(false) };
///     Ok(CallError::split(buy(book).await)?.is_ok())
/// }
/// # assert_eq!(futures_util::FutureExt::now_or_never(order()), Some(Ok(true)));
/// ```
///
/// [`Self::maybe_executed`] and [`Self::is_retryable`] decide what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// The method returned this error.
    Application(E),
    /// The method was not reached, or its answer was lost.
    Rpc(RpcError),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(error) => write!(f, "the method returned an error: {error}"),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Application(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }
}

impl<E> From<RpcError> for CallError<E> {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

/// A method without an error of its own fails for no other reason.
impl From<CallError<Never>> for RpcError {
    fn from(error: CallError<Never>) -> Self {
        match error {
            CallError::Application(never) => match never {},
            CallError::Rpc(error) => error,
        }
    }
}

impl<E> CallError<E> {
    /// Takes an outcome apart: what the method says is within, what Xero says is the error.
    ///
    /// # Errors
    /// The [`RpcError`] of a call that has one.
    pub fn split<T>(outcome: Result<T, Self>) -> Result<Result<T, E>, RpcError> {
        match outcome {
            Ok(value) => Ok(Ok(value)),
            Err(Self::Application(error)) => Ok(Err(error)),
            Err(Self::Rpc(error)) => Err(error),
        }
    }

    /// Converts the method's own error.
    pub fn map_application<F>(self, convert: impl FnOnce(E) -> F) -> CallError<F> {
        match self {
            Self::Application(error) => CallError::Application(convert(error)),
            Self::Rpc(error) => CallError::Rpc(error),
        }
    }

    /// The method's own error, if it is one.
    pub fn application(&self) -> Option<&E> {
        match self {
            Self::Application(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }

    /// Xero's error, if it is one.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Application(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }

    /// Whether the procedure may have run, in part or whole.
    ///
    /// If `false`, calling again cannot run it twice.
    pub fn maybe_executed(&self) -> bool {
        self.rpc().is_none_or(RpcError::maybe_executed)
    }

    /// Whether the same call may succeed later without a risk of running twice; never for the method's own error.
    ///
    /// For an idempotent method, ask [`Self::is_transient`] instead.
    pub fn is_retryable(&self) -> bool {
        self.rpc().is_some_and(RpcError::is_retryable)
    }

    /// Whether the cause may pass by itself: an absent, full or slow worker.
    pub fn is_transient(&self) -> bool {
        self.rpc().is_some_and(RpcError::is_transient)
    }
}

/// Why a call did not reach its method, or lost its answer.
///
/// Further variants and fields may come: match with `..`, and with an arm for the rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The procedure panicked. The worker is well and serves other calls.
    #[error("`{method}`: the procedure panicked: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The method, as `Service.method`.
        method: String,
        /// The panic's text.
        message: String,
    },
    /// The asked worker does not offer the service.
    #[error("unknown service: {detail}")]
    #[non_exhaustive]
    UnknownService {
        /// The method, as `Service.method`.
        method: String,
        /// The requested service.
        service: String,
        /// The requested service, and the offered ones.
        detail: String,
    },
    /// The service has no such method.
    #[error("unknown method: {detail}")]
    #[non_exhaustive]
    UnknownMethod {
        /// The method, as `Service.method`.
        method: String,
        /// The methods that the service has; empty if this client does not know them, as behind a broker.
        offered: Vec<String>,
        /// The requested method, and the offered ones.
        detail: String,
    },
    /// Caller and worker have different signatures of the method. The procedure has not run.
    #[error(
        "the signatures of `{method}` differ: the caller has `{caller}`, the worker has `{worker}`; build both from the \
         same trait (MessagePack and JSON allow some changes)"
    )]
    #[non_exhaustive]
    SignatureMismatch {
        /// The method, as `Service.method`.
        method: String,
        /// The caller's signature.
        caller: String,
        /// The worker's signature.
        worker: String,
    },
    /// The arguments could not be encoded, or not decoded by the worker. The procedure has not run.
    #[error("invalid arguments of `{method}`: {reason}")]
    #[non_exhaustive]
    InvalidArguments {
        /// The method, as `Service.method`.
        method: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The worker could not encode the reply, or the caller could not decode it. The procedure has run.
    #[error("invalid reply of `{method}`: {reason}")]
    #[non_exhaustive]
    InvalidReply {
        /// The method, as `Service.method`.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The deadline passed before a reply arrived.
    #[error("`{method}`: the deadline of {} has passed{}", shown(*.timeout), executed(*.maybe_executed))]
    #[non_exhaustive]
    DeadlineExceeded {
        /// The method, as `Service.method`.
        method: String,
        /// The call's time limit.
        timeout: Duration,
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
    /// The worker stopped the procedure before its end.
    #[error("`{method}`: the worker cancelled the call{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    Cancelled {
        /// The method, as `Service.method`.
        method: String,
        /// Whether the procedure had begun.
        maybe_executed: bool,
    },
    /// No live worker offered the service while the call could wait for one.
    #[error("no worker offers the service `{service}`: {}", found(*.timeout, .offered, *.has_broker, .brokers_missing))]
    #[non_exhaustive]
    NoWorker {
        /// The method, as `Service.method`.
        method: String,
        /// The requested service.
        service: String,
        /// The call's time limit; zero if the call was not allowed to wait.
        timeout: Duration,
        /// The services that live workers do offer.
        offered: Vec<String>,
        /// Whether one of the client's brokers was connected.
        has_broker: bool,
        /// The endpoints of the client's brokers, if none of them was connected; empty otherwise.
        brokers_missing: Vec<String>,
    },
    /// The worker died or was cut off before its reply, and no retry was possible.
    #[error("`{method}`: the worker, or a broker on the way to it, was lost before it replied (after {}){}", counted(*.attempts), executed(*.maybe_executed))]
    #[non_exhaustive]
    WorkerLost {
        /// The method, as `Service.method`.
        method: String,
        /// The number of workers that this client has asked; a broker that it has asked may have asked several.
        attempts: u8,
        /// Whether one of them may have run the procedure.
        maybe_executed: bool,
    },
    /// Nobody has room for the call now.
    #[error("`{method}`: overloaded: {detail}")]
    #[non_exhaustive]
    Overloaded {
        /// The method, as `Service.method`.
        method: String,
        /// What is full, and the setter that raises its bound.
        detail: String,
        /// Whether an earlier attempt may have run.
        maybe_executed: bool,
    },
    /// Every candidate worker is about to leave.
    #[error("`{method}`: refused: {detail}{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    Refused {
        /// The method, as `Service.method`.
        method: String,
        /// Why.
        detail: String,
        /// Whether the procedure had begun.
        maybe_executed: bool,
    },
    /// The arguments or the reply exceed the limit of one side.
    #[error("`{method}`: too large: {detail}{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    TooLarge {
        /// The method, as `Service.method`.
        method: String,
        /// What is too large, its size and its limit; `None` if another process refused it, whose words are `detail`.
        exceeded: Option<TooLarge>,
        /// What is too large, its size, the limit and the setter that raises it.
        detail: String,
        /// Whether the procedure has run; if so, the reply is too large.
        maybe_executed: bool,
    },
    /// A partial reply is missing, so the order of later ones is unknown.
    #[error("`{method}`: partial replies were lost: {sent} were sent and {received} have arrived")]
    #[non_exhaustive]
    PartialsLost {
        /// The method, as `Service.method`.
        method: String,
        /// The number of partial replies that the worker has sent so far.
        sent: u32,
        /// The number that arrived in order.
        received: u32,
    },
    /// The caller reads partial replies too slowly: more are unread than the client keeps.
    #[error(
        "`{method}`: partial replies arrive faster than they are read: {received} have arrived, and a caller may leave at most 1,024 \
         of them unread, or 16 MiB (fewer behind a broker that is short of memory); read faster, send fewer, or call \
         without `start`"
    )]
    #[non_exhaustive]
    PartialsUnread {
        /// The method, as `Service.method`.
        method: String,
        /// The number of partial replies that arrived.
        received: u32,
    },
    /// The worker or this side could not read a message about this call.
    #[error("`{method}`: a message was malformed: {reason}{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    Malformed {
        /// The method, as `Service.method`.
        method: String,
        /// What is wrong with it.
        reason: String,
        /// Whether the procedure may have run.
        maybe_executed: bool,
    },
    /// The client was closed.
    #[error("`{method}`: the client is closed{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    Closed {
        /// The method, as `Service.method`.
        method: String,
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
    /// The process was forked from the client's, which keeps its threads and connections.
    ///
    /// Make a client after the fork.
    #[error("`{method}`: the client belongs to the parent of this forked process; make another one after the fork{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    Forked {
        /// The method, as `Service.method`.
        method: String,
        /// Whether a worker may have had the request: the call was started before the fork.
        maybe_executed: bool,
    },
    /// The client's I/O thread has panicked. Make another client.
    ///
    /// The cause is a [`WorkerChoice`](crate::WorkerChoice) or a `tracing` subscriber that panics, or a mistake in
    /// Xero.
    #[error("`{method}`: the client's I/O thread has panicked{}", executed(*.maybe_executed))]
    #[non_exhaustive]
    Crashed {
        /// The method, as `Service.method`.
        method: String,
        /// Whether a worker may have had the request.
        maybe_executed: bool,
    },
}

/// The kinds of an [`RpcError`] that say by a flag whether the procedure may have run.
macro_rules! flagged {
    ($flag:ident) => {
        Self::DeadlineExceeded { maybe_executed: $flag, .. }
            | Self::Cancelled { maybe_executed: $flag, .. }
            | Self::WorkerLost { maybe_executed: $flag, .. }
            | Self::Overloaded { maybe_executed: $flag, .. }
            | Self::Refused { maybe_executed: $flag, .. }
            | Self::TooLarge { maybe_executed: $flag, .. }
            | Self::Malformed { maybe_executed: $flag, .. }
            | Self::Closed { maybe_executed: $flag, .. }
            | Self::Forked { maybe_executed: $flag, .. }
            | Self::Crashed { maybe_executed: $flag, .. }
    };
}

/// Errors for tests and layers, which stand in for the network; [`Self::with_maybe_executed`] sets the rest.
impl RpcError {
    /// The worker was lost after one attempt, and may have run the procedure.
    pub fn worker_lost(method: impl Into<String>) -> Self {
        Self::WorkerLost { method: method.into(), attempts: 1, maybe_executed: true }
    }

    /// The deadline has passed while the procedure may have run.
    pub fn deadline_exceeded(method: impl Into<String>, timeout: Duration) -> Self {
        Self::DeadlineExceeded { method: method.into(), timeout, maybe_executed: true }
    }

    /// No worker is there for the method, given as `Service.method`, and the call did not wait for one.
    pub fn no_worker(method: impl Into<String>) -> Self {
        let method = method.into();
        let service = method.rsplit_once('.').map_or("", |(service, _)| service).to_owned();
        let (timeout, offered, brokers_missing) = (Duration::ZERO, Vec::new(), Vec::new());
        Self::NoWorker { method, service, timeout, offered, has_broker: false, brokers_missing }
    }

    /// There is no room for the call, which has not run.
    pub fn overloaded(method: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Overloaded { method: method.into(), detail: detail.into(), maybe_executed: false }
    }

    /// The call is refused, and has not run.
    pub fn refused(method: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Refused { method: method.into(), detail: detail.into(), maybe_executed: false }
    }

    /// The worker has cancelled the call, which may have run.
    pub fn cancelled(method: impl Into<String>) -> Self {
        Self::Cancelled { method: method.into(), maybe_executed: true }
    }

    /// The client was closed while the procedure may have run.
    pub fn closed(method: impl Into<String>) -> Self {
        Self::Closed { method: method.into(), maybe_executed: true }
    }

    /// The same error with another answer of [`Self::maybe_executed`]; unchanged if its kind decides that.
    #[must_use]
    pub fn with_maybe_executed(mut self, may: bool) -> Self {
        if let flagged!(maybe_executed) = &mut self {
            *maybe_executed = may;
        }
        self
    }
}

impl RpcError {
    /// Whether the procedure may have run, in part or whole.
    ///
    /// If `false`, calling again cannot run it twice.
    pub fn maybe_executed(&self) -> bool {
        match self {
            Self::Panicked { .. }
            | Self::InvalidReply { .. }
            | Self::PartialsLost { .. }
            | Self::PartialsUnread { .. } => true,
            Self::UnknownService { .. }
            | Self::UnknownMethod { .. }
            | Self::SignatureMismatch { .. }
            | Self::InvalidArguments { .. }
            | Self::NoWorker { .. } => false,
            flagged!(maybe_executed) => *maybe_executed,
        }
    }

    /// Whether the same call may succeed later without a risk of running twice.
    ///
    /// For an idempotent method, ask [`Self::is_transient`] instead.
    pub fn is_retryable(&self) -> bool {
        self.is_transient() && !self.maybe_executed()
    }

    /// Whether the cause may pass by itself: an absent, full or slow worker.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::DeadlineExceeded { .. }
                | Self::Cancelled { .. }
                | Self::NoWorker { .. }
                | Self::WorkerLost { .. }
                | Self::Overloaded { .. }
                | Self::Refused { .. }
        )
    }

    /// The called method, as `Service.method`.
    pub fn method(&self) -> &str {
        match self {
            Self::Panicked { method, .. }
            | Self::UnknownService { method, .. }
            | Self::UnknownMethod { method, .. }
            | Self::SignatureMismatch { method, .. }
            | Self::InvalidArguments { method, .. }
            | Self::InvalidReply { method, .. }
            | Self::DeadlineExceeded { method, .. }
            | Self::Cancelled { method, .. }
            | Self::NoWorker { method, .. }
            | Self::WorkerLost { method, .. }
            | Self::Overloaded { method, .. }
            | Self::Refused { method, .. }
            | Self::TooLarge { method, .. }
            | Self::PartialsLost { method, .. }
            | Self::PartialsUnread { method, .. }
            | Self::Malformed { method, .. }
            | Self::Closed { method, .. }
            | Self::Forked { method, .. }
            | Self::Crashed { method, .. } => method,
        }
    }
}

fn executed(maybe: bool) -> &'static str {
    match maybe {
        true => "; the procedure may have run",
        false => "; the procedure has not run",
    }
}

fn counted(attempts: u8) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

/// What a call found that waited that long, or did not wait.
fn found(timeout: Duration, offered: &[String], has_broker: bool, brokers_missing: &[String]) -> String {
    let found = match (brokers_missing, offered) {
        ([], []) if has_broker => "a broker is connected, without such a worker".to_owned(),
        ([], []) if timeout.is_zero() => "no worker is connected".to_owned(),
        ([], []) => return format!("none came within {timeout:?}"),
        ([], offered) => known(offered),
        (endpoints, _) if timeout.is_zero() => format!(
            "no broker at {} is connected yet, or any more; wait for one with `wait_for_service`, or see the log",
            endpoints.join(", ")
        ),
        (endpoints, _) => format!("no broker at {} is connected; the log says why", endpoints.join(", ")),
    };
    if timeout.is_zero() { found } else { format!("none came within {timeout:?}; {found}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_worker_is_said_once() {
        let missing = |timeout: u64, offered: &[&str], has_broker, missing: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            found(Duration::from_millis(timeout), &owned(offered), has_broker, &owned(missing))
        };
        assert_eq!(missing(0, &[], false, &[]), "no worker is connected");
        assert_eq!(missing(300, &[], false, &[]), "none came within 300ms");
        assert_eq!(missing(300, &["A", "B"], true, &[]), "none came within 300ms; live workers offer A, B");
        assert_eq!(missing(0, &[], true, &[]), "a broker is connected, without such a worker");
        let waited = "none came within 300ms; a broker is connected, without such a worker";
        assert_eq!(missing(300, &[], true, &[]), waited);
        let waited = "none came within 300ms; no broker at tcp://b:1 is connected; the log says why";
        assert_eq!(missing(300, &[], false, &["tcp://b:1"]), waited);
        let at_once = "no broker at tcp://b:1 is connected yet, or any more; wait for one with `wait_for_service`, or see \
                       the log";
        assert_eq!(missing(0, &[], false, &["tcp://b:1"]), at_once);
    }

    #[test]
    fn errors_write_numbers_as_people_do() {
        let lost =
            |attempts| RpcError::WorkerLost { method: String::new(), attempts, maybe_executed: true }.to_string();
        assert!(lost(1).contains("(after 1 attempt); ") && lost(3).contains("(after 3 attempts); "), "{}", lost(3));
        let late = RpcError::DeadlineExceeded { method: String::new(), timeout: Duration::ZERO, maybe_executed: false };
        assert!(late.to_string().starts_with("``: the deadline of 0s has passed; "), "{late}");
    }
}
