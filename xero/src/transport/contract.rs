//! The shell's view of a transport: ROUTER-like and DEALER-like sockets that never make a sender wait.

use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::{endpoint::Endpoint, error::TransportError};
use crate::{
    io::machine::{Connections, Input},
    proto::message::Peer,
};
pub(crate) use crate::{
    io::machine::{Oversized, SendError},
    proto::frame::{Frames, Limits},
};

/// An input of a ROUTER-like socket.
#[derive(Debug)]
pub(crate) enum RouterInput {
    /// A peer has connected. Transports that strangers cannot reach do not report it.
    Accepted(Peer),
    /// A message of one or two frames.
    Frames(Peer, Frames),
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(Peer, usize),
    /// A message over a limit; its content is gone.
    Oversized(Peer, Oversized),
    /// The peer's connection has ended; its number is never used again.
    Gone(Peer),
}

impl RouterInput {
    /// The peer, and what its connection reports.
    pub(super) fn addressed(self) -> (Peer, Input) {
        match self {
            Self::Accepted(peer) => (peer, Input::Accepted),
            Self::Frames(peer, frames) => (peer, Input::Frames(frames)),
            Self::WrongFrameCount(peer, count) => (peer, Input::WrongFrameCount(count)),
            Self::Oversized(peer, oversized) => (peer, Input::Oversized(oversized)),
            Self::Gone(peer) => (peer, Input::Gone),
        }
    }
}

/// An input of a DEALER-like socket.
#[derive(Debug)]
pub(crate) enum DealerInput {
    /// A message of one or two frames.
    Frames(Frames),
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(usize),
    /// A message over a limit; its content is gone.
    Oversized(Oversized),
    /// The connection has ended, and the socket with it.
    Gone,
}

/// A bound socket with many peers.
pub(crate) trait RouterSocket: Send {
    /// The endpoint for peers, with the port that the system chose for port 0.
    fn endpoint(&self) -> &str;

    /// Gives the next input. Never ends; nothing of a peer follows its `Gone`.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<RouterInput>;

    /// Hands a message to the peer's connection, at once or not at all. It leaves at the next [`Self::flush`].
    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError>;

    /// Writes what was sent, as far as the system takes it; the rest follows while the socket is polled.
    fn flush(&mut self) {}

    /// Ends the peer's connection once everything sent to it is on its way. A `Gone` may or may not follow.
    fn disconnect(&mut self, peer: Peer);

    /// Reads nothing more of a connection before [`Self::resume`]. Only Xero's own ZMTP can; others ignore it.
    fn pause(&mut self, _peer: Peer) {}

    /// Reads a connection again, if it still stands.
    fn resume(&mut self, _peer: Peer) {}

    /// Moves the connections to this runtime, whose tasks poll the socket from now on; `false` if it has no reactor.
    fn rehome(&mut self, _home: &Handle) -> bool {
        true
    }

    /// Whether connections wait to be looked at.
    fn is_behind(&self) -> bool {
        false
    }
}

impl Connections<Peer> for Box<dyn RouterSocket> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<(Peer, Input)> {
        (**self).poll_receive(cx).map(RouterInput::addressed)
    }

    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        (**self).send(peer, frames)
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn disconnect(&mut self, peer: Peer) {
        (**self).disconnect(peer);
    }

    fn pause(&mut self, peer: Peer) {
        (**self).pause(peer);
    }

    fn resume(&mut self, peer: Peer) {
        (**self).resume(peer);
    }

    fn rehome(&mut self, home: &Handle) -> bool {
        (**self).rehome(home)
    }

    fn is_behind(&self) -> bool {
        (**self).is_behind()
    }
}

/// One connection, for one life.
pub(crate) trait DealerSocket: Send {
    /// Gives the next input; nothing follows `Gone`.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealerInput>;

    /// Hands a message to the connection, at once or not at all. It leaves at the next [`Self::flush`].
    fn send(&mut self, frames: Frames) -> Result<(), SendError>;

    /// Writes what was sent, as far as the system takes it; the rest follows while the socket is polled.
    fn flush(&mut self) {}

    /// Whether the last poll has left something to read.
    fn is_behind(&self) -> bool {
        false
    }

    /// Moves the connection to this runtime, whose tasks poll the socket from now on; `false` if it has no reactor.
    fn rehome(&mut self, _home: &Handle) -> bool {
        true
    }
}

/// A way to make sockets. Called on the runtime that will poll them.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Binds a ROUTER-like socket. It reports messages over the limits, or leaves them to the reader of frames.
    async fn bind(&self, endpoint: &Endpoint, limits: &Limits) -> Result<Box<dyn RouterSocket>, TransportError>;

    /// Connects a DEALER-like socket with an identity of its own; gives up after a second or so.
    async fn dial(&self, endpoint: &Endpoint, limits: &Limits) -> Result<Box<dyn DealerSocket>, TransportError>;
}

/// The most peers of a socket; it turns further ones away.
///
/// That is far more than one process can serve, and few enough that a flood of connections costs megabytes.
pub(crate) const PEERS_MAX: usize = 65_536;

/// The most messages that wait to be written to one peer; a peer with more has stopped reading.
///
/// Credits keep a healthy peer's queue far below it. Windows bound the bytes of large messages.
pub(crate) const QUEUE_MESSAGES_MAX: usize = 100_000;

/// The time limit of a dial, with look-up and handshake.
///
/// It is longer than any healthy network needs; short, because the supervisor's back-off paces the attempts.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
