//! The protocol's version, and the kinds of messages by their numbers on the wire (`PROTOCOL.md` §3).

use crate::proto::fault::{Fault, planted};

/// The protocol's version that this code speaks.
pub(super) const VERSION: u8 = 1;

/// A message's kind by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Ready = 1,
    Request = 2,
    Partial = 3,
    Final = 4,
    Error = 5,
    Cancel = 6,
    Credit = 7,
    Event = 8,
    Subscribe = 9,
    Heartbeat = 10,
    Drain = 11,
    Goodbye = 12,
    Batch = 13,
    Ack = 14,
    Offer = 15,
}

impl Kind {
    /// Every kind with its name, in the order of the numbers on the wire.
    pub(super) const NAMED: [(Self, &'static str); 15] = [
        (Self::Ready, "READY"),
        (Self::Request, "REQUEST"),
        (Self::Partial, "PARTIAL"),
        (Self::Final, "FINAL"),
        (Self::Error, "ERROR"),
        (Self::Cancel, "CANCEL"),
        (Self::Credit, "CREDIT"),
        (Self::Event, "EVENT"),
        (Self::Subscribe, "SUBSCRIBE"),
        (Self::Heartbeat, "HEARTBEAT"),
        (Self::Drain, "DRAIN"),
        (Self::Goodbye, "GOODBYE"),
        (Self::Batch, "BATCH"),
        (Self::Ack, "ACK"),
        (Self::Offer, "OFFER"),
    ];

    pub(super) fn from_wire(number: u8) -> Option<Self> {
        Self::named(number).map(|(kind, _)| kind)
    }

    pub(super) fn name(number: u8) -> &'static str {
        Self::named(number).map_or("message", |(_, name)| name)
    }

    /// Whether the call id has a meaning for this kind.
    pub(super) fn has_call(self) -> bool {
        matches!(self, Self::Request | Self::Partial | Self::Final | Self::Error | Self::Cancel)
    }

    /// Whether a message of this kind must name a call; an error without one is about a connection.
    pub(super) fn needs_call(self) -> bool {
        self.has_call() && self != Self::Error
    }

    /// What a message of this kind, with frames of these sizes, counts in a byte window (`PROTOCOL.md` §9).
    pub(super) fn window_bytes(self, header_bytes: usize, payload_bytes: usize) -> u64 {
        match self {
            Self::Request | Self::Partial | Self::Final | Self::Error | Self::Ready | Self::Offer => {
                let header_bytes = if planted(Fault::HeadersUncounted) { 0 } else { header_bytes };
                MESSAGE_BYTES + header_bytes as u64 + payload_bytes as u64
            }
            _ => 0,
        }
    }

    fn named(number: u8) -> Option<(Self, &'static str)> {
        Self::NAMED.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// What a message counts in a byte window beside its frames: the cost of tracking it.
const MESSAGE_BYTES: u64 = 64;
