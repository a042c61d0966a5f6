//! Why an endpoint cannot be bound or connected to.

use std::{io, time::Duration};

use super::endpoint::{Endpoint, NO_IPC};

/// Why an endpoint could not be bound or connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Something else listens there.
    #[error("cannot bind {endpoint}: the address is in use; stop what listens there, or bind another one")]
    AddressInUse {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The address belongs to no interface of this machine.
    #[error("cannot bind {endpoint}: this machine has no such address; bind one of its own, or `*` for all of them")]
    NoSuchAddress {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The directory of a socket file does not exist.
    #[error("cannot bind {endpoint}: its directory does not exist; create it first")]
    NoSuchDirectory {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The path of a socket file belongs to something else, which is left alone.
    #[error("cannot bind {endpoint}: the path exists and is not a socket; choose another one, or remove it")]
    NotASocket {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The system does not allow it.
    #[error("no permission for {endpoint}; ports below 1024 need privileges, socket files a writable directory")]
    PermissionDenied {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The host name could not be looked up.
    #[error("cannot look up the host of {endpoint}: {source}; check its spelling and the name service")]
    Resolve {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
    /// An `ipc://` endpoint, on a system without Unix domain sockets.
    #[error("cannot bind {endpoint}: {NO_IPC}")]
    Unsupported {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// An endpoint for binding only, or of a kind that this system does not know.
    #[error("cannot connect to {endpoint}: {reason}")]
    NotDialable {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// What to write instead.
        reason: &'static str,
    },
    /// Nothing listens there.
    #[error("nothing listens at {endpoint}; start the client or broker that binds it, or check the address")]
    Refused {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The network has no route to it.
    #[error("cannot reach {endpoint}: {source}; check the address and the network")]
    Unreachable {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
    /// Nothing answered in time: a machine that is down, or a network that drops packets.
    #[error("no answer from {endpoint} within {after:?}; check that its process runs and no firewall is in between")]
    TimedOut {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// How long the dial waited.
        after: Duration,
    },
    /// The system there accepts connections, but no ZeroMQ peer has greeted in time: another program, or a frozen one.
    #[error("something answers at {endpoint}, but not as a ZeroMQ peer within {after:?}: is this the right port?")]
    Silent {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// How long the dial waited.
        after: Duration,
    },
    /// The connection met itself: nothing listens there, and the system chose the same port for this end.
    #[error("nothing listens at {endpoint}: the connection met itself; start the client or broker that binds it")]
    SelfConnected {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// Something listens there that is not a client or broker.
    #[error("the process at {endpoint} does not speak Xero's protocol ({reason}); check the port")]
    WrongProtocol {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// The mistake in its greeting.
        reason: String,
    },
    /// The system cannot do it, for another reason.
    #[error("cannot use {endpoint}: the system reports: {source}")]
    Io {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
}

impl TransportError {
    /// The meaning of a bind's system error.
    pub(super) fn of_bind(endpoint: &Endpoint, source: io::Error) -> Self {
        let endpoint = endpoint.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { endpoint },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { endpoint },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { endpoint },
            io::ErrorKind::NotFound => Self::NoSuchDirectory { endpoint },
            _ => Self::Io { endpoint, source },
        }
    }

    /// The meaning of a dial's system error.
    pub(super) fn of_dial(endpoint: &Endpoint, source: io::Error) -> Self {
        let endpoint = endpoint.clone();
        match source.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused { endpoint },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { endpoint },
            _ => Self::Unreachable { endpoint, source },
        }
    }

    /// The endpoint that was asked for.
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::AddressInUse { endpoint }
            | Self::NoSuchAddress { endpoint }
            | Self::NoSuchDirectory { endpoint }
            | Self::NotASocket { endpoint }
            | Self::PermissionDenied { endpoint }
            | Self::Resolve { endpoint, .. }
            | Self::Unsupported { endpoint }
            | Self::NotDialable { endpoint, .. }
            | Self::Refused { endpoint }
            | Self::Unreachable { endpoint, .. }
            | Self::TimedOut { endpoint, .. }
            | Self::Silent { endpoint, .. }
            | Self::SelfConnected { endpoint }
            | Self::WrongProtocol { endpoint, .. }
            | Self::Io { endpoint, .. } => endpoint,
        }
    }
}
