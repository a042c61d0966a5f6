//! Connections, their ends, and the parcels on them.

use super::at::At;

/// The number of a connection, which no other connection ever has.
pub type Wire = usize;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The process that has dialed.
    Dialer = 0,
    /// The process that was dialed.
    Listener = 1,
}

impl Side {
    /// Both, the dialer first.
    pub const BOTH: [Self; 2] = [Self::Dialer, Self::Listener];

    /// The opposite end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// One connection between processes `P`, which know it by sockets `S`.
#[derive(Debug)]
pub struct Connection<P, S> {
    /// By their sides.
    pub ends: [End<P, S>; 2],
    /// By the receiving side.
    pub(super) ways: [Way; 2],
}

impl<P, S> Connection<P, S> {
    /// The end of this side.
    pub fn end(&self, side: Side) -> &End<P, S> {
        &self.ends[side as usize]
    }

    /// Whether it stands on both sides and loses nothing.
    pub fn is_whole(&self) -> bool {
        self.ends.iter().all(|end| end.stands) && self.ways.iter().all(|way| way.lost_from.is_none())
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End<P, S> {
    /// The process that holds it.
    pub process: P,
    /// How the process knows it.
    pub socket: S,
    /// Whether the process has neither ended it nor learned of its end.
    pub stands: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) sent: u64,
    /// Parcels from this number on are lost.
    pub(super) lost_from: Option<u64>,
    pub(super) in_transit: usize,
    pub(super) last_arrival_at: At,
}

/// Frames `F`, or the news of the beginning or the end, on a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Parcel<F> {
    /// The connection.
    pub wire: Wire,
    /// The receiving side.
    pub to: Side,
    pub(super) number: u64,
    pub(super) contents: Contents<F>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Contents<F> {
    /// The dialer is connected.
    Accepted,
    Frames(F),
    /// The other side has ended the connection.
    End,
    /// The receiver's own machine has noticed that the connection is broken.
    Break,
}
