//! Public errors: one enum for each operation; the variant says who failed and what can be done.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    codec::CodecError,
    io::thread::Gone,
    proto::frame::TooLarge,
    transport::{Endpoint, EndpointError, TransportError},
};

/// Why a call has no value. `E` is the method's own error, or [`Never`] where it has none.
///
/// Two questions decide what to do next: [`CallError::maybe_executed`] and [`CallError::is_retryable`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The method returned this error. It is shown by its `Debug`, so that any type will do; match it for the rest.
    #[error("the method returned an error: {0:?}")]
    Application(E),
    /// The procedure panicked. The worker is well and serves other calls.
    #[error("the procedure panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The worker that was asked does not offer the service.
    #[error("unknown service: {detail}")]
    UnknownService {
        /// What was asked for, and what is offered.
        detail: String,
    },
    /// The service has no such method.
    #[error("unknown method: {detail}")]
    UnknownMethod {
        /// What was asked for, and what is offered.
        detail: String,
    },
    /// Caller and worker were built with different signatures of the method. Nothing was run.
    #[error("the signatures of `{method}` differ: the caller has `{caller}`, the worker has `{worker}`")]
    SignatureMismatch {
        /// The method, as `Service.method`.
        method: String,
        /// The signature that the caller was built with.
        caller: String,
        /// The signature that the worker was built with.
        worker: String,
    },
    /// The arguments could not be encoded, or the worker could not decode them. Nothing was run.
    #[error("invalid arguments of `{method}`: {reason}")]
    InvalidArguments {
        /// The method, as `Service.method`.
        method: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The reply could not be encoded by the worker, or decoded by the caller. The procedure has run.
    #[error("invalid reply of `{method}`: {reason}")]
    InvalidReply {
        /// The method, as `Service.method`.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The deadline passed before a reply came.
    #[error("the deadline of {timeout:?} has passed{}", executed(*.maybe_executed))]
    DeadlineExceeded {
        /// The time that the call had.
        timeout: Duration,
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
    /// The worker stopped the procedure before its end.
    #[error("the worker cancelled the call{}", executed(*.maybe_executed))]
    Cancelled {
        /// Whether the procedure had begun.
        maybe_executed: bool,
    },
    /// No live worker offered the service while the call could wait for one.
    #[error("no worker offers the service `{service}`: {}{}", none_came(*.timeout), known(.offered))]
    NoWorker {
        /// The service that was asked for.
        service: String,
        /// The time that the call had; zero if it was not to wait.
        timeout: Duration,
        /// The services that live workers do offer.
        offered: Vec<String>,
    },
    /// The worker died or was cut off before its reply, and the call could not be tried again.
    #[error("the worker, or a broker on the way to it, was lost before it replied (attempt {attempts}){}", executed(*.maybe_executed))]
    WorkerLost {
        /// How many workers were asked.
        attempts: u8,
        /// Whether one of them may have run it.
        maybe_executed: bool,
    },
    /// Nobody has room for the call now.
    #[error("overloaded: {detail}")]
    Overloaded {
        /// What is full, and the setter that raises its bound.
        detail: String,
        /// Whether an earlier attempt may have run.
        maybe_executed: bool,
    },
    /// Every worker that could be asked is about to leave.
    #[error("refused: {detail}{}", executed(*.maybe_executed))]
    Refused {
        /// Why.
        detail: String,
        /// Whether the procedure had begun.
        maybe_executed: bool,
    },
    /// The arguments or the reply are larger than one of the two sides takes.
    #[error("too large: {detail}{}", executed(*.maybe_executed))]
    TooLarge {
        /// What is too large, its size, the limit and the setter that raises it.
        detail: String,
        /// Whether the procedure has run: if so, it is the reply that is too large.
        maybe_executed: bool,
    },
    /// A partial reply is missing, so those that follow cannot be trusted to be in order.
    #[error("partial replies were lost: {sent} were sent and {received} have arrived")]
    PartialsLost {
        /// How many the worker has sent so far.
        sent: u32,
        /// How many have arrived in order.
        received: u32,
    },
    /// The caller asked for partial replies and reads them more slowly than they come: more wait than are kept.
    #[error(
        "partial replies come faster than they are read: of the {received} that have arrived, more wait than are kept; \
         read them faster, have fewer sent, or call without `start`"
    )]
    PartialsUnread {
        /// How many have arrived.
        received: u32,
    },
    /// A message about this call could not be read, by the worker or by this side.
    #[error("a message was malformed: {reason}{}", executed(*.maybe_executed))]
    Malformed {
        /// What is wrong with it.
        reason: String,
        /// Whether the procedure may have run.
        maybe_executed: bool,
    },
    /// The client was closed.
    #[error("the client is closed{}", executed(*.maybe_executed))]
    Closed {
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
    /// The process was forked from the one that made the client, whose threads and connections stay there. Make a client
    /// after the fork.
    #[error("the client belongs to the process that was forked into this one; make another one here{}", executed(*.maybe_executed))]
    Forked {
        /// Whether a worker may have had the request: the call was started before the fork.
        maybe_executed: bool,
    },
    /// The client's I/O thread has panicked, because of a [`WorkerChoice`](crate::WorkerChoice) or a `tracing` subscriber
    /// that does, or a mistake in Xero. Make another client.
    #[error("the client's I/O thread has panicked{}", executed(*.maybe_executed))]
    Crashed {
        /// Whether a worker may have had the request.
        maybe_executed: bool,
    },
}

impl<E> CallError<E> {
    /// Whether the procedure may have run, in part or whole. When `false`, calling again cannot run it twice.
    pub fn maybe_executed(&self) -> bool {
        match self {
            Self::Application(_)
            | Self::Panicked { .. }
            | Self::InvalidReply { .. }
            | Self::PartialsLost { .. }
            | Self::PartialsUnread { .. } => true,
            Self::UnknownService { .. }
            | Self::UnknownMethod { .. }
            | Self::SignatureMismatch { .. }
            | Self::InvalidArguments { .. }
            | Self::NoWorker { .. } => false,
            Self::DeadlineExceeded { maybe_executed, .. }
            | Self::Cancelled { maybe_executed }
            | Self::WorkerLost { maybe_executed, .. }
            | Self::Overloaded { maybe_executed, .. }
            | Self::Refused { maybe_executed, .. }
            | Self::TooLarge { maybe_executed, .. }
            | Self::Malformed { maybe_executed, .. }
            | Self::Closed { maybe_executed }
            | Self::Forked { maybe_executed }
            | Self::Crashed { maybe_executed } => *maybe_executed,
        }
    }

    /// Whether the same call may succeed later, and calling again cannot run it twice. For an idempotent method the
    /// second half does not matter: then [`Self::is_transient`] is the question.
    pub fn is_retryable(&self) -> bool {
        self.is_transient() && !self.maybe_executed()
    }

    /// Whether the cause may pass by itself: a worker that is away, full or slow. A mistake in the call stays one.
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

    /// The method's own error, if it is one.
    pub fn application(&self) -> Option<&E> {
        match self {
            Self::Application(error) => Some(error),
            _ => None,
        }
    }
}

fn executed(maybe: bool) -> &'static str {
    match maybe {
        true => "; the procedure may have run",
        false => "; the procedure has not run",
    }
}

fn none_came(timeout: Duration) -> String {
    if timeout.is_zero() { String::new() } else { format!("none came within {timeout:?}; ") }
}

fn known(services: &[String]) -> String {
    match services {
        [] => "no worker is connected".to_owned(),
        _ => format!("live workers offer {}", services.join(", ")),
    }
}

/// The error of a method that has none: there is no such value. It stays empty, so it can be matched by no arms at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("the method has no error of its own, and the worker sent one"))
    }
}

/// No worker came while one was waited for. Of a client that connects, it says whether a broker is connected: if none
/// is, brokers are what to look for, and otherwise their workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no worker{}: {}", for_service(.service), self.reason())]
pub struct NoWorkerError {
    pub(crate) service: Option<String>,
    pub(crate) waited: Duration,
    pub(crate) place: Place,
    /// How many workers, or brokers, are connected all the same.
    pub(crate) connected: usize,
    pub(crate) offered: Vec<String>,
    pub(crate) gone: Option<Gone>,
}

/// Where a worker was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this endpoint, which is bound.
    Bound(String),
    /// At the brokers at these endpoints.
    Brokers(Vec<String>),
}

impl NoWorkerError {
    /// Whether waiting any longer is of no use: the client was closed, its I/O thread has panicked, or this process was
    /// forked from the client's.
    pub fn is_closed(&self) -> bool {
        self.gone.is_some()
    }

    fn reason(&self) -> String {
        if let Some(gone) = self.gone {
            return gone.to_string();
        }
        match &self.place {
            Place::Bound(endpoint) if self.waited.is_zero() && self.offered.is_empty() => {
                format!("none is connected to {endpoint}")
            }
            Place::Bound(_) if self.waited.is_zero() => known(&self.offered),
            Place::Bound(endpoint) => {
                format!("none came to {endpoint} within {:?}; {}", self.waited, known(&self.offered))
            }
            Place::Brokers(endpoints) => self.reason_at(&endpoints.join(", "), endpoints.len()),
        }
    }

    /// The same, of the brokers at so many endpoints.
    fn reason_at(&self, endpoints: &str, count: usize) -> String {
        let after = if self.waited.is_zero() { String::new() } else { format!(" after {:?}", self.waited) };
        let brokers = match (self.connected, count) {
            (0, _) => return format!("no broker at {endpoints} is connected{after}"),
            (_, 1) => format!("the broker at {endpoints} is connected"),
            (1, _) => format!("one of the brokers at {endpoints} is connected"),
            (connected, _) => format!("{connected} of the brokers at {endpoints} are connected"),
        };
        match &self.offered[..] {
            [] => format!("{brokers}, without any worker{after}"),
            offered => format!("{brokers}, without such a worker{after}; live workers offer {}", offered.join(", ")),
        }
    }
}

fn for_service(service: &Option<String>) -> String {
    service.as_ref().map(|name| format!(" for the service `{name}`")).unwrap_or_default()
}

/// Why a partial reply was not sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartialError {
    /// The value could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The value is larger than the caller takes.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Nobody waits for the call's replies any more.
    #[error("nobody waits for the call's replies any more")]
    Unwanted,
}

/// A setting that is out of its range, or does not go with another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` is {value}: {rule}")]
pub struct ConfigError {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
    pub(crate) rule: &'static str,
}

impl ConfigError {
    /// The setter's name.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

/// Why a client or broker could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The endpoint is not written as one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The endpoint cannot be bound.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A broker's two endpoints are one.
    #[error("{0} cannot be for clients and for workers: name two endpoints")]
    SameEndpoint(Endpoint),
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no Tokio runtime to wait for a broker's signal to drain on.
    #[error("there is no Tokio runtime here to wait for the signal on: bind the broker within one")]
    NoRuntime,
    /// The I/O thread could not be started, or has panicked.
    #[error("the I/O thread does not run: {0}")]
    Thread(std::io::Error),
}

/// Why a client or worker cannot connect. An unreachable endpoint is not an error: it is dialed again until somebody
/// answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An endpoint is not written as one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An endpoint is one for binding only.
    #[error("cannot connect to {endpoint}: {reason}")]
    NotDialable {
        /// The endpoint.
        endpoint: Endpoint,
        /// What to write instead.
        reason: &'static str,
    },
    /// An endpoint is named twice.
    #[error("{0} is named twice: each endpoint needs one connection")]
    DuplicateEndpoint(String),
    /// No endpoint is named.
    #[error("there is no endpoint to connect to: name at least one")]
    NoEndpoint,
    /// The I/O thread could not be started, or has panicked.
    #[error("the I/O thread does not run: {0}")]
    Thread(std::io::Error),
}

impl ConnectError {
    /// Reads the endpoints that are to be dialed.
    pub(crate) fn check(texts: &[String]) -> Result<Vec<Endpoint>, Self> {
        let mut endpoints = Vec::new();
        for text in texts {
            let endpoint: Endpoint = text.parse()?;
            if let Some(reason) = endpoint.undialable() {
                return Err(Self::NotDialable { endpoint, reason });
            }
            if endpoints.contains(&endpoint) {
                return Err(Self::DuplicateEndpoint(text.clone()));
            }
            endpoints.push(endpoint);
        }
        match endpoints.is_empty() {
            true => Err(Self::NoEndpoint),
            false => Ok(endpoints),
        }
    }
}

/// Why a worker could not be started. An unreachable endpoint is not an error: it is dialed again until somebody answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The worker cannot connect: its endpoints or settings are wrong, or it has no I/O thread.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The worker has nothing to serve.
    #[error("the worker has nothing to serve: call `serve` before starting it")]
    NoService,
    /// Two values serve the same service.
    #[error("the service `{0}` is served twice by one worker")]
    DuplicateService(String),
    /// There is more to serve than an introduction may hold.
    #[error("the worker serves too much: {0}")]
    TooLarge(#[from] TooLarge),
    /// There is no Tokio runtime to run procedures on.
    #[error("there is no Tokio runtime here to run procedures on: start the worker within one")]
    NoRuntime,
    /// The process was forked from the one that started the worker, which runs on there.
    #[error("the worker runs in the process that was forked into this one; start another one here")]
    Forked,
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn worker_that_cannot_connect_says_what_a_client_says() {
        let connect = || ConnectError::check(&["nowhere".to_owned()]).expect_err("no endpoint");
        let start = StartError::from(connect());
        assert_eq!(start.to_string(), connect().to_string());
        // It is shown by its own text, and so is no source of itself.
        assert_eq!(start.source().map(ToString::to_string), connect().source().map(ToString::to_string));
    }
}
