//! What the shell asks of a transport: ROUTER-like and DEALER-like sockets that never make a sender wait.

use std::{
    fmt, io,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    endpoint::{Address, Endpoint, NO_IPC},
    memory::Memory,
    zmq::ZeroMq,
};
pub(crate) use crate::proto::frame::Frames;
use crate::proto::message::Peer;

/// What a ROUTER-like socket has received.
#[derive(Debug)]
pub(crate) enum RouterInput {
    /// A message of one or two frames.
    Frames(Peer, Frames),
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(Peer, usize),
    /// The peer's connection has ended; its number will not come again.
    Gone(Peer),
}

impl RouterInput {
    /// How many small messages it is worth in a turn: each takes the time to copy so many bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Frames(_, frames) => 1 + frames.payload.len() / BYTES_PER_WEIGHT,
            Self::WrongFrameCount(..) | Self::Gone(_) => 1,
        }
    }
}

/// What a DEALER-like socket has received.
#[derive(Debug)]
pub(crate) enum DealerInput {
    /// A message of one or two frames.
    Frames(Frames),
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(usize),
    /// The connection has ended; the socket is of no more use.
    Gone,
}

/// Why a message was not taken. The peer's connection is dropped in either case, and `Gone` follows.
/// It may be on its way all the same: what was queued for a stuck peer reaches it if it reads again before the system
/// gives its connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// There is no such peer, or its connection has ended.
    Gone,
    /// The peer's queue is full: it has stopped reading.
    Stuck,
}

/// A bound socket with many peers.
pub(crate) trait RouterSocket: Send {
    /// Where peers can connect to, with the port that the system chose for port 0.
    fn endpoint(&self) -> &str;

    /// Gives the next input. Never ends; after `Gone(peer)` nothing of that peer follows.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<RouterInput>;

    /// Hands a message to the peer's connection, at once or not at all.
    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError>;

    /// Ends the peer's connection once what was sent to it is on its way. No `Gone` need follow.
    fn disconnect(&mut self, peer: Peer);
}

/// One connection, for one life.
pub(crate) trait DealerSocket: Send {
    /// Gives the next input; nothing follows `Gone`.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealerInput>;

    /// Hands a message to the connection, at once or not at all.
    fn send(&mut self, frames: Frames) -> Result<(), SendError>;
}

/// A way to make sockets. Called on the runtime that will poll them.
#[async_trait]
pub(crate) trait Transport: fmt::Debug + Send + Sync {
    /// Binds a ROUTER-like socket.
    async fn bind(&self, endpoint: &Endpoint) -> Result<Box<dyn RouterSocket>, TransportError>;

    /// Connects a DEALER-like socket with an identity of its own; gives up after a second or so.
    async fn dial(&self, endpoint: &Endpoint) -> Result<Box<dyn DealerSocket>, TransportError>;
}

/// The transport that an endpoint's scheme asks for.
pub(crate) fn transport_for(endpoint: &Endpoint) -> &'static dyn Transport {
    match endpoint.address() {
        Address::Tcp { .. } | Address::Ipc { .. } => &ZeroMq,
        Address::Inproc { .. } => &Memory,
    }
}

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
    /// The path of a socket file belongs to something that is not a socket, and is left alone.
    #[error("cannot bind {endpoint}: the path exists and is not a socket; choose another one, or remove it")]
    NotASocket {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The system does not allow it.
    #[error("no permission for {endpoint}; ports below 1024 need privileges, socket files a directory of one's own")]
    PermissionDenied {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// The host name could not be looked up.
    #[error("cannot look up the host of {endpoint}: {source}; check its spelling and the name service")]
    Resolve {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// An `ipc://` endpoint, on a system without Unix domain sockets.
    #[error("cannot bind {endpoint}: {NO_IPC}")]
    Unsupported {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// An endpoint for binding only, or one that this system does not know.
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
    /// The network has no way there.
    #[error("cannot reach {endpoint}: {source}; check the address and the network")]
    Unreachable {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing answered in time: a frozen process, or a network that drops packets.
    #[error("no answer from {endpoint} within {after:?}; check that its process runs and no firewall is in between")]
    TimedOut {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// How long we waited.
        after: Duration,
    },
    /// The connection is one with itself: nothing listens there, and the system has chosen the same port for this end.
    #[error("nothing listens at {endpoint}: the connection met itself; start the client or broker that binds it")]
    SelfConnected {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },
    /// Something listens there that is not a client or broker.
    #[error("what listens at {endpoint} does not speak our protocol ({reason}); check the port")]
    WrongProtocol {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// What was wrong with its greeting.
        reason: String,
    },
    /// The system cannot do it, for another reason.
    #[error("cannot use {endpoint}: {source}; this is the system's own answer")]
    Io {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

impl TransportError {
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
            | Self::SelfConnected { endpoint }
            | Self::WrongProtocol { endpoint, .. }
            | Self::Io { endpoint, .. } => endpoint,
        }
    }
}

/// The payload of a message that takes about as long as a small message does: a mebibyte counts for 65 of them.
const BYTES_PER_WEIGHT: usize = 16 * 1024;

/// How many peers a socket keeps apart. Beyond, new ones are turned away: far more than one process can serve, and few
/// enough that a flood of connections costs megabytes.
pub(crate) const PEERS_MAX: usize = 65_536;

/// How long a dial may take, look-up and handshake included. Longer than any healthy network needs; short, because the
/// supervisor's back-off paces the attempts.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
