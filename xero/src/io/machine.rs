//! What a driver needs: a machine of the core, and its connections.

use std::{
    fmt,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::proto::{
    frame::{Frames, Inbound, Malformed},
    outbox::Transmit,
};

/// A machine of the core: messages and the time go in, transmits and outputs come out.
pub(crate) trait Machine: Send + 'static {
    /// How the machine knows a connection.
    type Peer: Copy + Ord + fmt::Debug + Send;

    /// An instruction to the role.
    type Output;

    /// A dialed connection stands. A machine that dials nobody ignores it.
    fn handle_dialed(&mut self, _now: Instant, _peer: Self::Peer) {}

    /// A peer has connected. A machine that accepts nobody ignores it.
    fn handle_accepted(&mut self, _now: Instant, _peer: Self::Peer) {}

    /// Takes a message.
    fn handle_message(&mut self, now: Instant, from: Self::Peer, message: Inbound);

    /// Handles a message that cannot be read.
    fn handle_malformed(&mut self, now: Instant, from: Self::Peer, malformed: &Malformed);

    /// What the end of a connection concerns: methods and requests.
    fn weight(&self, peer: Self::Peer) -> usize;

    /// Handles the end of a connection.
    fn handle_disconnected(&mut self, now: Instant, peer: Self::Peer);

    /// Handles the end of a connection before any of these messages left.
    fn handle_unsent(&mut self, now: Instant, peer: Self::Peer, transmit: Transmit);

    /// Sends the heartbeats that are due, and handles nothing else.
    fn handle_heartbeats(&mut self, now: Instant);

    /// Handles the timeouts that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// Gives the next messages to send to one peer.
    fn poll_transmit(&mut self) -> Option<(Self::Peer, Transmit)>;

    /// Takes back a transmit that was sent.
    fn recycle(&mut self, peer: Self::Peer, sent: Transmit);

    /// The time of the next timeout.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Gives the next output.
    fn poll_output(&mut self) -> Option<Self::Output>;
}

/// The connections of a machine, by the machine's names for them.
pub(crate) trait Connections<P> {
    /// Gives the next input of any connection. Nothing of a connection follows its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<(P, Input)>;

    /// Hands a message to a connection, at once or not at all.
    fn send(&mut self, peer: P, frames: Frames) -> Result<(), SendError>;

    /// Writes what was sent, as far as the system takes it; called after the last message of a turn.
    fn flush(&mut self);

    /// Ends a connection once everything sent on it is on its way.
    fn disconnect(&mut self, peer: P);

    /// Whether this side dials its peers.
    fn is_dialing(&self) -> bool {
        false
    }

    /// Reads nothing more of a connection before [`Self::resume`]. Only Xero's own ZMTP can; others ignore it.
    fn pause(&mut self, _peer: P) {}

    /// Reads a connection again, if it still stands.
    fn resume(&mut self, _peer: P) {}

    /// Moves the sockets to this runtime, whose tasks read them from now on; `false` if it has no reactor. The next polls
    /// read what has arrived, whatever the reactor knows.
    fn rehome(&mut self, _home: &Handle) -> bool {
        true
    }

    /// Whether connections wait to be looked at.
    fn is_behind(&self) -> bool {
        false
    }
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum Input {
    /// The dialed connection stands.
    Dialed,
    /// A peer has connected; its messages follow.
    Accepted,
    /// A message of one or two frames.
    Frames(Frames),
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(usize),
    /// A message over a limit; its content is gone.
    Oversized(Oversized),
    /// The connection has ended, or could not be made.
    Gone,
}

impl Input {
    /// The weight in a turn, in small messages: each takes the time to copy [`PAYLOAD_BYTES_PER_WEIGHT`], or to read
    /// [`HEADER_BYTES_PER_WEIGHT`].
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Frames(Frames { header, payload }) => {
                1 + header.len() / HEADER_BYTES_PER_WEIGHT + payload.len() / PAYLOAD_BYTES_PER_WEIGHT
            }
            Self::Dialed | Self::Accepted | Self::WrongFrameCount(_) | Self::Oversized(_) | Self::Gone => 1,
        }
    }
}

/// What is left of a message that the transport did not keep, because it exceeds a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Oversized {
    /// The start of the header frame.
    pub(crate) header: Bytes,
    /// The declared size of the header frame.
    pub(crate) header_bytes: usize,
    /// The declared size of the payload frame.
    pub(crate) payload_bytes: usize,
}

/// Why a connection did not take a message. The connection is dropped, and its end reported.
///
/// The message may still be on its way: a stuck peer receives its queue if it reads again before the system gives the
/// connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// There is no such peer, or its connection has ended.
    Gone,
    /// The peer's queue is full: it has stopped reading.
    Stuck,
}

/// The payload bytes that take about as long as a small message: a mebibyte weighs 65.
const PAYLOAD_BYTES_PER_WEIGHT: usize = 16 * 1024;

/// The header bytes that take about as long as a small message: a READY with 4,096 methods is a turn of its own.
const HEADER_BYTES_PER_WEIGHT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::driver::TURN_BOUND;

    fn weight(header_bytes: usize, payload_bytes: usize) -> usize {
        let (header, payload) = (vec![0; header_bytes].into(), vec![0; payload_bytes].into());
        Input::Frames(Frames { header, payload }).weight()
    }

    #[test]
    fn small_message_weighs_one_and_the_largest_introduction_is_a_turn_of_its_own() {
        assert_eq!((weight(100, 4_096), weight(32, 1 << 20)), (1, 65));
        assert!(weight(64 << 10, 0) >= TURN_BOUND);
    }
}
