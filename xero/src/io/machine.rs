//! What a driver asks of its parts: a machine of the core, and its connections.

use std::{
    fmt,
    task::{Context, Poll},
    time::Instant,
};

use crate::proto::{
    frame::{Frames, Inbound, Malformed},
    outbox::Transmit,
};

/// A machine of the core: messages and the time go in, transmits and outputs come out.
pub(crate) trait Machine: Send + 'static {
    /// How the machine knows a connection.
    type Peer: Copy + fmt::Debug;

    /// What the role is to do.
    type Output;

    /// A connection that an output has asked for stands. A machine that dials nobody has nothing to do.
    fn handle_dialed(&mut self, _now: Instant, _peer: Self::Peer) {}

    /// Takes a message.
    fn handle_message(&mut self, now: Instant, from: Self::Peer, message: Inbound);

    /// Takes a message that cannot be read.
    fn handle_malformed(&mut self, now: Instant, from: Self::Peer, malformed: &Malformed);

    /// The connection has ended.
    fn handle_disconnected(&mut self, now: Instant, peer: Self::Peer);

    /// The connection has ended, and nothing of these messages has left.
    fn handle_unsent(&mut self, now: Instant, peer: Self::Peer, transmit: Transmit);

    /// Sends the heartbeats that are due, and handles nothing else.
    fn handle_heartbeats(&mut self, now: Instant);

    /// Handles the timeouts that are due.
    fn handle_timeout(&mut self, now: Instant);

    /// Gives the next messages to send to one peer.
    fn poll_transmit(&mut self) -> Option<(Self::Peer, Transmit)>;

    /// When something is due next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Gives the next output.
    fn poll_output(&mut self) -> Option<Self::Output>;
}

/// The connections of a machine, by the names that the machine has for them.
pub(crate) trait Connections<P> {
    /// Gives the next input of any connection. After the end of one, nothing of it follows.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<(P, Input)>;

    /// Hands a message to a connection, at once or not at all.
    fn send(&mut self, peer: P, frames: Frames) -> Result<(), SendError>;

    /// Ends a connection once what was sent on it is on its way.
    fn disconnect(&mut self, peer: P);
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum Input {
    /// The connection that was asked for stands.
    Dialed,
    /// A message of one or two frames.
    Frames(Frames),
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(usize),
    /// The connection has ended, or could not be made.
    Gone,
}

impl Input {
    /// How many small messages it is worth in a turn: each takes the time to copy [`BYTES_PER_WEIGHT`].
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Frames(frames) => 1 + frames.payload.len() / BYTES_PER_WEIGHT,
            Self::Dialed | Self::WrongFrameCount(_) | Self::Gone => 1,
        }
    }
}

/// Why a message was not taken. The peer's connection is dropped in either case, and its end is reported.
/// It may be on its way all the same: what was queued for a stuck peer reaches it if it reads again before the system
/// gives its connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// There is no such peer, or its connection has ended.
    Gone,
    /// The peer's queue is full: it has stopped reading.
    Stuck,
}

/// The payload of a message that takes about as long as a small message does: a mebibyte counts for 65 of them.
const BYTES_PER_WEIGHT: usize = 16 * 1024;
