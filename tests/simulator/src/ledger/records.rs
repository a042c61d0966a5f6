//! A connection, as each of its sides knows it.

use std::time::{Duration, Instant};

use xero::proto::{
    frame,
    message::{CallId, ErrorCode, Message},
};

use super::{offers::Offer, *};

/// One connection, from both sides.
#[derive(Debug)]
pub(super) struct WireRecord {
    pub(super) sides: [SideRecord; 2],
    /// Whether one of its sides keeps to no rule.
    pub(super) is_hostile: bool,
    /// When a broker has announced its offer lately, and how often it had to because of a call that it gave back.
    pub(super) announced: Vec<Instant>,
    pub(super) gave_back: Vec<Instant>,
    /// What the honest side does wrong unless it ends the connection in this turn.
    pub(super) complaint: Option<&'static str>,
    /// The side that sends requests.
    pub(super) caller: Side,
    /// Requests whose end the caller has not read.
    pub(super) requests: BTreeMap<CallId, RequestRecord>,
    /// The other side's credits and offer, as the caller has read them.
    pub(super) credits: u32,
    pub(super) offer: Offer,
    /// The bytes that count in a window, by the receiving side.
    pub(super) flows: [FlowRecord; 2],
}

/// The bytes of requests or replies in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowRecord {
    /// The receiver's announced window, as the sender has read it; 0 for no bound.
    pub(super) window: u64,
    pub(super) sent: u64,
    /// The bytes that the receiver has read, has acknowledged, and whose acknowledgement the sender has read.
    pub(super) taken: u64,
    pub(super) confirmed: u64,
    /// What was acknowledged when a message last came that had no room.
    pub(super) excess_at: Option<u64>,
    pub(super) acknowledged: u64,
    /// Whether the receiver has acknowledged more than was sent.
    pub(super) lies: bool,
    /// When the sender last read the window's size.
    pub(super) resized_at: Option<Instant>,
    /// What was acknowledged when the receiver had last made progress, and when.
    pub(super) progressed: u64,
    pub(super) progressed_at: Option<Instant>,
}

/// One side's view of a connection.
#[derive(Debug)]
pub(super) struct SideRecord {
    pub(super) life: Life,
    pub(super) stands: bool,
    /// When a listener got the connection.
    pub(super) accepted_at: Option<Instant>,
    pub(super) has_given_up: bool,
    pub(super) is_introduced: bool,
    /// Whether it has introduced itself and read the other's introduction.
    pub(super) is_registered: bool,
    /// Whether the other side's last introduction says that it reads BATCH, and OFFER.
    pub(super) may_batch: bool,
    pub(super) may_offer: bool,
    pub(super) has_heard_ready: bool,
    /// When it first read the other's introduction.
    pub(super) met_at: Option<Instant>,
    pub(super) has_said_drain: bool,
    pub(super) has_heard_drain: bool,
    pub(super) drain_heard_at: Option<Instant>,
    pub(super) has_said_goodbye: bool,
    pub(super) has_heard_goodbye: bool,
    pub(super) sent_at: Instant,
    pub(super) heard_at: Instant,
    pub(super) excused_until: Option<Instant>,
    /// How long this side stays silent, and how much silence it tolerates.
    pub(super) interval: Duration,
    pub(super) liveness: u32,
    pub(super) expiry: Duration,
}

/// One request, until the caller has read its end.
#[derive(Debug)]
pub(super) struct RequestRecord {
    pub(super) tag: Tag,
    pub(super) bytes: u64,
    pub(super) is_delivered: bool,
    pub(super) is_answered: bool,
    pub(super) is_cancelled: bool,
    /// Whether the other side has read the cancel.
    pub(super) is_stopped: bool,
    /// Whether its client has asked twice, over different connections, and one request was forwarded.
    pub(super) may_wait: bool,
    /// Whether a worker has started it.
    pub(super) is_started: bool,
    /// Whether its sender relies on a declaration of the worker.
    pub(super) must_declare: bool,
    pub(super) partials: u32,
}

/// One request of a call, as its sender knows it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) wire: Wire,
    pub(super) side: Side,
    /// Whether it says that it may run twice.
    pub(super) idempotent: bool,
    /// Whether the network did not take it.
    pub(super) is_unsent: bool,
    /// How the other side ended it, as far as the sender has read.
    pub(super) answer: Option<(ErrorCode, bool)>,
}

impl WireRecord {
    pub(super) fn side_of(&self, pid: Pid) -> &SideRecord {
        &self.sides[usize::from(self.sides[0].life.0 != pid)]
    }

    /// The process that takes requests.
    pub(super) fn callee(&self) -> Life {
        self.sides[self.caller.other() as usize].life
    }

    /// Whether a request with a payload of this size may be sent.
    pub(super) fn has_room(&self, payload_bytes: u64) -> bool {
        payload_bytes <= SMALL_PAYLOAD_BYTES || !self.flow_to(self.caller.other()).is_full()
    }

    /// The bytes that go to a side.
    pub(super) fn flow_to(&self, side: Side) -> FlowRecord {
        self.flows[side as usize]
    }

    /// Checks that changes of an offer go to one who reads them, from one who has workers.
    pub(super) fn judge_offer(&self, from: Side) -> Result<(), &'static str> {
        match self.sides[from as usize].may_offer && from != self.caller {
            true => Ok(()),
            false => Err("the other side does not read it"),
        }
    }

    pub(super) fn side_index(&self, pid: Pid) -> Side {
        if self.sides[0].life.0 == pid { Side::Dialer } else { Side::Listener }
    }
}

impl FlowRecord {
    /// Whether nothing large may follow.
    pub(super) fn is_full(&self) -> bool {
        self.window > 0 && self.in_transit() >= self.window
    }

    /// The bytes that the sender does not know to be acknowledged.
    pub(super) fn in_transit(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged)
    }

    /// The bytes that the receiver has read, and has not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.taken.saturating_sub(self.confirmed)
    }

    /// Whether the receiver reads on, and leaves more than its window unacknowledged: beyond that, what the sender holds of
    /// one peer, and no less than a quarter of the window.
    pub(super) fn is_overrun(&self, peer_bytes_max: u64) -> bool {
        let taken = self.window.min(peer_bytes_max).max(self.window.div_ceil(4));
        self.window > 0 && self.sent.saturating_sub(self.acknowledged) > self.window.saturating_add(taken)
    }

    /// Whether the receiver owes an acknowledgement, because a quarter of its window has arrived since the last one.
    pub(super) fn owes_acknowledgement(&self, window: u64, waiting: u64) -> bool {
        window > 0 && self.taken.saturating_sub(self.confirmed + waiting) >= window.div_ceil(4)
    }
}

impl SideRecord {
    /// Whether it has read the other's introduction, and not turned it away.
    pub(super) fn is_known(&self) -> bool {
        self.has_heard_ready && (self.is_registered || !self.has_given_up)
    }

    /// When the other side is dead unless a message arrives.
    pub(super) fn expires_at(&self) -> Instant {
        let expires_at = self.heard_at + self.expiry;
        self.excused_until.map_or(expires_at, |until| expires_at.max(until))
    }
}

/// What a message counts in a window.
pub(crate) fn counted_bytes(message: &Message, is_first_ready: bool) -> u64 {
    match message {
        Message::Ready(_) if is_first_ready => 0,
        // Nobody counts messages to a peer that is turned away.
        Message::Error(error) if error.call == CallId(0) => 0,
        Message::Ready(_)
        | Message::Offer(_)
        | Message::Request(_)
        | Message::Partial(_)
        | Message::Final(_)
        | Message::Error(_) => own_count(message),
        _ => 0,
    }
}

/// Counted here, and not by the machines' own count: header frame, payload, and 64 bytes.
pub(super) fn own_count(message: &Message) -> u64 {
    frame::batched_bytes(message) as u64 - 8 + 64
}

pub(super) fn needs_room(message: &Message, is_first_ready: bool) -> bool {
    match message {
        Message::Partial(_) | Message::Offer(_) => true,
        Message::Ready(_) => !is_first_ready,
        Message::Error(error) => (error.payload.bytes.len() + error.detail.len()) as u64 > SMALL_PAYLOAD_BYTES,
        _ => counted_bytes(message, false) > 0 && message.payload_bytes() as u64 > SMALL_PAYLOAD_BYTES,
    }
}

/// Payloads up to this size do not wait for a window (`PROTOCOL.md` §9).
const SMALL_PAYLOAD_BYTES: u64 = 4_096;
