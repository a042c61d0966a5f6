//! What the connections of one side report to their machine.

use std::collections::VecDeque;

use crate::proto::{
    hold::Receipt,
    link::Departure,
    message::{CallId, Message, Peer, Ready},
};

/// An event that a machine must handle.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A peer has introduced itself, first or repeated.
    ///
    /// Answer with `Links::accept`, `Links::reject` or `Links::hang_up`.
    Introduced(Peer, Ready),
    /// A request, a reply, or another message for the machine, and its bytes in the window.
    ///
    /// Answer with `Links::release` once its bytes need no room any more.
    Received(Peer, Message, u64),
    /// The peer accepts no more requests.
    Draining(Peer),
    /// The worker has introduced itself over another connection: this one may be dead, until a message arrives on it.
    Doubted(Peer),
    /// A message has arrived from a doubted peer.
    Heard(Peer),
    /// The peer has acknowledged bytes: there may be room for more.
    Room(Peer),
    /// A partial reply has left; the number is the size of its payload in bytes.
    PartialLeft(Peer, CallId, usize),
    /// A receipt that `Links::pass_on` has kept: acknowledge it.
    Released(Receipt),
    /// The connection of an introduced peer has ended.
    Ended(Peer, End),
    /// Connect to that peer.
    Dial(Peer),
    /// End that connection once everything sent on it is on its way.
    Disconnect(Peer),
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) departure: Departure,
    /// Whether the peer had announced its drain.
    pub(crate) was_draining: bool,
    /// The messages that did not leave.
    pub(crate) unsent: VecDeque<Message>,
}

/// The counters of a side's connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkCounters {
    /// Unreadable messages.
    pub(crate) malformed: u64,
    /// Messages of peers before their introduction.
    pub(crate) unregistered: u64,
    /// Messages of a kind that the role or state does not accept.
    pub(crate) unexpected: u64,
    /// Peers that fell silent.
    pub(crate) expired_leases: u64,
    /// Connections that ended because all peers together held too much.
    pub(crate) shed: u64,
    /// Dials after the first one of each peer.
    pub(crate) redials: u64,
}
