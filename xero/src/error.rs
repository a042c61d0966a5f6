//! Public errors: one enum per operation; the variant says who failed and what the caller can do.

mod call;

use std::{error::Error, fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::call::{CallError, RpcError};
use crate::{
    codec::CodecError,
    io::thread::Gone,
    proto::frame::TooLarge,
    transport::{Endpoint, EndpointError, TransportError},
};

/// A time as people write it: nothing is `0s`, not `0ns`.
pub(crate) fn shown(time: Duration) -> String {
    if time.is_zero() { "0s".to_owned() } else { format!("{time:?}") }
}

fn known(services: &[String]) -> String {
    match services {
        [] => "no worker is connected".to_owned(),
        _ => format!("live workers offer {}", services.join(", ")),
    }
}

/// The error of a method that has none. It has no value, so a match on it needs no arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl Error for Never {}

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("the method has no error type, but the worker sent an error"))
    }
}

/// No worker connected during the wait.
///
/// For a client that connects, it says whether a broker is connected: if none is, check the brokers, otherwise their
/// workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no worker{}: {}", for_service(.service), self.reason())]
pub struct NoWorkerError {
    pub(crate) service: Option<String>,
    pub(crate) waited: Duration,
    pub(crate) place: Place,
    /// The number of workers, or brokers, that are connected all the same.
    pub(crate) connected: usize,
    pub(crate) offered: Vec<String>,
    pub(crate) gone: Option<Gone>,
}

/// Where the client waited for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this bound endpoint.
    Bound(String),
    /// At the brokers at these endpoints.
    Brokers(Vec<String>),
}

impl NoWorkerError {
    /// Whether a longer wait is useless.
    ///
    /// The client was closed, its I/O thread has panicked, or this process was forked from the client's.
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
            Place::Bound(endpoint) if self.offered.is_empty() => {
                format!("none came to {endpoint} within {:?}", self.waited)
            }
            Place::Bound(endpoint) => {
                format!("none came to {endpoint} within {:?}; {}", self.waited, known(&self.offered))
            }
            Place::Brokers(endpoints) => self.reason_at(&endpoints.join(", "), endpoints.len()),
        }
    }

    /// The same for the brokers at `count` endpoints.
    fn reason_at(&self, endpoints: &str, count: usize) -> String {
        let after = if self.waited.is_zero() { String::new() } else { format!(" after {:?}", self.waited) };
        let brokers = match (self.connected, count) {
            (0, _) if self.waited.is_zero() => {
                return format!("no broker at {endpoints} is connected yet, or any more");
            }
            (0, _) => return format!("no broker at {endpoints} is connected{after}; the log says why"),
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
    /// The value exceeds the caller's limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The caller no longer waits for replies to this call.
    #[error("the caller no longer waits for replies to this call")]
    Unwanted,
}

/// A setting that is out of range, or contradicts another.
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
    /// The endpoint is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The endpoint cannot be bound.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A broker's two endpoints are the same.
    #[error("{0} cannot serve both clients and workers: name two endpoints")]
    SameEndpoint(Endpoint),
    /// A broker's two endpoints share a port, as `tcp://*:5560` and `tcp://127.0.0.1:5560` do.
    #[error("cannot bind {backend} for workers: {frontend}, for clients, has its port; give each a port of its own")]
    SharedPort {
        /// The endpoint for clients.
        frontend: Endpoint,
        /// The endpoint for workers.
        backend: Endpoint,
    },
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no Tokio runtime for the broker's `drain_on` signal.
    #[error("`drain_on` needs a Tokio runtime: bind the broker within one")]
    NoRuntime,
    /// The I/O thread could not be started, or has panicked.
    #[error("the I/O thread does not run: {0}")]
    Thread(std::io::Error),
}

/// Why a client or worker cannot connect.
///
/// An unreachable endpoint is not an error: it is dialed again until a peer answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An endpoint is malformed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An endpoint is for binding only.
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
    /// Reads the endpoints to dial.
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

/// Why a worker could not start.
///
/// An unreachable endpoint is not an error: it is dialed again until a peer answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The worker cannot connect: its endpoints or settings are wrong, or it has no I/O thread.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The worker has no service.
    #[error("the worker has nothing to serve: call `serve` before starting it")]
    NoService,
    /// Two values serve the same service.
    #[error("the service `{0}` is served twice by one worker")]
    DuplicateService(String),
    /// The services exceed the limits of an introduction.
    #[error("the worker serves too much: {0}")]
    TooLarge(#[from] TooLarge),
    /// There is no Tokio runtime for the procedures.
    #[error("procedures need a Tokio runtime: start the worker within one")]
    NoRuntime,
    /// The process was forked from the worker's, which still runs the worker.
    #[error("the worker runs in the parent of this forked process; start another one after the fork")]
    Forked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_that_cannot_connect_says_what_a_client_says() {
        let connect = || ConnectError::check(&["nowhere".to_owned()]).expect_err("no endpoint");
        let start = StartError::from(connect());
        assert_eq!(start.to_string(), connect().to_string());
        // The variant shows its content's text, so the content is not a source as well.
        assert_eq!(start.source().map(ToString::to_string), connect().source().map(ToString::to_string));
    }
}
