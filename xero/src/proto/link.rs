//! One connection to one peer: introduction, liveness, windows and its end (`PROTOCOL.md` §5, §6, §9, §10).

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    fault::{Fault, planted},
    frame::Inbound,
    hold::Receipt,
    introduction::{Introduction, Revision},
    liveness::{Heartbeats, Liveness, patience},
    message::{Capabilities, Message, Peer, Ready, Role},
    window::{Intake, Outflow},
};

/// Why a connection is no longer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The peer said goodbye.
    Goodbye,
    /// The connection ended.
    Disconnected,
    /// The peer's lease expired.
    Expired,
}

/// One connection, from its first message to its end; the machine then drops it.
#[derive(Debug)]
pub(crate) struct Link {
    state: State,
    liveness: Liveness,
}

#[derive(Debug)]
enum State {
    /// READY is sent; expects the peer's READY and sends nothing else.
    Introducing,
    /// Both sides are introduced.
    Up(Box<Session>),
    /// The peer has said DRAIN: it accepts no more requests.
    Draining(Box<Session>),
    /// GOODBYE is sent; expects the connection to end, and sends nothing more.
    Leaving,
}

/// What the two introduced sides know of each other.
#[derive(Debug)]
struct Session {
    introduced_at: Instant,
    partner: Partner,
    intake: Intake,
    outflow: Outflow,
    /// The peer's open requests, in bytes.
    requests_bytes: u64,
    announcement: Announcement,
    /// Whether a later READY has left since the last held reply: the next room is for replies.
    is_reply_next: bool,
    /// The revision of this side's services that the peer has been sent; `None` if it needs all of them.
    known: Option<Revision>,
}

/// How far the peer knows this side's introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announcement {
    /// READY is still to be sent; the first one on a connection counts nothing in the window.
    First,
    /// READY is sent.
    Made,
    /// A newer READY waits for room in the window.
    Overdue,
}

/// The peer's own description in READY.
#[derive(Clone, Debug)]
pub(crate) struct Partner {
    pub(crate) incarnation: Uuid,
    pub(crate) capabilities: Capabilities,
    pub(crate) payload_bytes_max: u64,
}

impl Partner {
    fn of(ready: &Ready) -> Self {
        Self {
            incarnation: ready.incarnation,
            capabilities: ready.capabilities,
            payload_bytes_max: ready.payload_bytes_max,
        }
    }

    /// The largest payload of the peer, if it reads BATCH.
    pub(crate) fn batch_bytes_max(&self) -> Option<u64> {
        self.capabilities.contains(Capabilities::BATCH).then_some(self.payload_bytes_max)
    }

    /// The largest payload for the peer, from a side that sends no more than `own_max`.
    pub(crate) fn reply_bytes_max(&self, own_max: usize) -> usize {
        usize::try_from(self.payload_bytes_max).unwrap_or(usize::MAX).min(own_max)
    }
}

impl Link {
    /// A connection on which this side has sent READY. Until the peer announces its own interval, ours is the best
    /// guess.
    pub(crate) fn introducing(now: Instant, heartbeats: Heartbeats) -> Self {
        let liveness = Liveness::new(now, heartbeats.interval, heartbeats.own_expiry());
        Self { state: State::Introducing, liveness }
    }

    /// Handles the peer's introduction, first or repeated. Bytes in flight still count, and a drain is permanent.
    pub(crate) fn introduce(&mut self, now: Instant, heartbeats: Heartbeats, ready: &Ready) {
        self.liveness = self.liveness.renewed(now, heartbeats.expiry_of(ready.interval));
        match &mut self.state {
            State::Introducing => {
                self.state = State::Up(Box::new(Session {
                    introduced_at: now,
                    partner: Partner::of(ready),
                    intake: Intake::default(),
                    outflow: Outflow::new(ready.window_bytes),
                    requests_bytes: 0,
                    announcement: Announcement::First,
                    is_reply_next: false,
                    known: None,
                }));
            }
            State::Up(session) | State::Draining(session) => {
                session.partner = Partner::of(ready);
                session.outflow.resize(ready.window_bytes);
                session.known = None;
            }
            State::Leaving => {}
        }
    }

    /// Handles the peer's DRAIN: it finishes its requests and accepts no new one. Returns whether that is new.
    pub(crate) fn drain(&mut self) -> bool {
        let was_up = matches!(self.state, State::Up(_));
        self.state = match std::mem::replace(&mut self.state, State::Leaving) {
            State::Up(session) => State::Draining(session),
            other => other,
        };
        was_up
    }

    /// Notes that GOODBYE was sent. Returns the kept receipts.
    pub(crate) fn leave(&mut self) -> Vec<Receipt> {
        let receipts = self.take_receipts();
        self.state = State::Leaving;
        receipts
    }

    /// Returns whether the message ends an excuse for silence: the lease is to be checked at [`Self::expires_at`].
    pub(crate) fn received(&mut self, now: Instant) -> bool {
        self.liveness.received(now)
    }

    /// Handles a received message. `false` if it exceeds the window that the peer was granted.
    pub(crate) fn receive(&mut self, inbound: &Inbound, window: u64) -> bool {
        self.session_mut().is_none_or(|session| session.intake.receive(inbound, window))
    }

    /// Counts the bytes of an unreadable message.
    pub(crate) fn note_received(&mut self, bytes: u64) {
        if let Some(session) = self.session_mut() {
            session.intake.note_received(bytes);
        }
    }

    /// Excuses silence until then, because a large message is on its way.
    pub(crate) fn excuse(&mut self, until: Instant) {
        self.liveness.excuse(until);
    }

    pub(crate) fn sent(&mut self, now: Instant) {
        self.liveness.sent(now);
    }

    /// Sends a request or reply: returns it if it may leave now, else keeps it for [`Self::poll`]. Other messages may
    /// always leave.
    pub(crate) fn push(&mut self, message: Message) -> Option<Message> {
        let session = self.session_mut()?;
        match (&message, message.reply()) {
            (_, Some(call)) => session.outflow.push(call, message),
            (Message::Request(_), None) => {
                session.outflow.note_sent(&message);
                Some(message)
            }
            _ => Some(message),
        }
    }

    /// Keeps an error until the peer has been sent the current offer.
    pub(crate) fn hold_returned(&mut self, message: Message) {
        if let Some(session) = self.session_mut() {
            session.outflow.hold_returned(message);
        }
    }

    /// Gives the next error that has waited for the offer.
    pub(crate) fn poll_returned(&mut self) -> Option<Message> {
        self.session_mut()?.outflow.poll_returned()
    }

    /// Gives the next kept message that may leave.
    pub(crate) fn poll(&mut self) -> Option<Message> {
        let session = self.session_mut()?;
        session.is_reply_next = false;
        session.outflow.poll()
    }

    /// The introduction to send now, or its changes; if it must wait, [`Self::is_announcement_overdue`] from now on. All
    /// but the first one wait for room like any large message.
    pub(crate) fn announce(&mut self, introduction: &Introduction) -> Option<Message> {
        let session = self.session_mut()?;
        let is_first = session.announcement == Announcement::First;
        let may_leave = is_first || !session.outflow.is_full() || planted(Fault::ReadyUncounted);
        session.announcement = if may_leave { Announcement::Made } else { Announcement::Overdue };
        if !may_leave {
            if planted(Fault::MissedChangeForgotten) {
                session.known = Some(introduction.revision());
            }
            return None;
        }
        let known = session.known.replace(introduction.revision());
        let reads_changes = session.partner.capabilities.contains(Capabilities::OFFERS) || planted(Fault::OfferUnasked);
        let message = introduction.message_since(known.filter(|_| reads_changes));
        if !is_first {
            session.is_reply_next = true;
            session.outflow.note_sent(&message);
        }
        Some(message)
    }

    /// Whether the peer has been sent the services of that revision.
    pub(crate) fn knows(&self, revision: Revision) -> bool {
        self.session().is_some_and(|session| session.known == Some(revision))
    }

    /// Whether the first READY is still to be sent.
    pub(crate) fn is_unannounced(&self) -> bool {
        self.session().is_some_and(|session| session.announcement == Announcement::First)
    }

    /// Notes that READY left before the peer's arrived.
    pub(crate) fn note_announced(&mut self) {
        if let Some(session) = self.session_mut() {
            session.announcement = Announcement::Made;
        }
    }

    /// Whether a READY waits for room.
    pub(crate) fn is_announcement_overdue(&self) -> bool {
        self.session().is_some_and(|session| session.announcement == Announcement::Overdue)
    }

    /// Handles the peer's acknowledgement of bytes, counted since its introduction.
    pub(crate) fn acknowledge(&mut self, bytes: u64) {
        if let Some(session) = self.session_mut() {
            session.outflow.acknowledge(bytes);
        }
    }

    /// Holds a request of the peer until [`Self::forget_request`].
    pub(crate) fn hold_request(&mut self, bytes: u64) {
        if let Some(session) = self.session_mut() {
            session.requests_bytes += bytes;
        }
    }

    pub(crate) fn forget_request(&mut self, bytes: u64) {
        if let Some(session) = self.session_mut() {
            session.requests_bytes = session.requests_bytes.saturating_sub(bytes);
        }
    }

    /// Keeps the receipt of a reply that is held back for the peer, or on its way.
    pub(crate) fn defer(&mut self, receipt: Receipt) {
        if let Some(session) = self.session_mut() {
            session.outflow.defer(receipt);
        }
    }

    /// Gives as much of the next sender's receipt as the peer has taken, or as there is room to hold.
    pub(crate) fn poll_receipt(&mut self, room: u64) -> Option<Receipt> {
        self.session_mut()?.outflow.poll_receipt(room)
    }

    /// Gives all kept receipts.
    pub(crate) fn take_receipts(&mut self) -> Vec<Receipt> {
        self.session_mut().map(|session| session.outflow.take_receipts()).unwrap_or_default()
    }

    /// Forgets the kept receipts of one sender.
    pub(crate) fn forget_receipts(&mut self, from: Peer) {
        if let Some(session) = self.session_mut() {
            session.outflow.forget_receipts(from);
        }
    }

    /// Whether receipts are kept.
    pub(crate) fn keeps_receipts(&self) -> bool {
        self.outflow().is_some_and(Outflow::keeps_receipts)
    }

    /// The peer's open requests, in bytes.
    pub(crate) fn requests_bytes(&self) -> u64 {
        self.session().map_or(0, |session| session.requests_bytes)
    }

    /// Bytes held of the peer and for it, those in transit included.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.session().map_or(0, |session| session.requests_bytes + session.outflow.counted_bytes())
    }

    /// The same without what still counts in the windows of others.
    pub(crate) fn acknowledged_bytes(&self) -> u64 {
        self.session().map_or(0, |session| session.requests_bytes + session.outflow.acknowledged_bytes())
    }

    /// When the peer will have taken nothing for longer than a living one needs.
    ///
    /// For a client, `expiry` is this side's own: a peer must not put the others off with a long interval. A broker may
    /// have to wait for a client itself, with its own interval; so a worker gives it several times as long.
    pub(crate) fn stalls_at(&mut self, now: Instant, partner: Role, expiry: Duration) -> Option<Instant> {
        let partners_expiry = self.liveness.expiry();
        let (since, bytes) = self.session_mut()?.outflow.stall(now)?;
        let wait = |expiry, bytes| STALL_EXPIRIES * expiry + patience(bytes);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Some(match partner {
            Role::Dispatcher => since + BROKER_STALLS * wait(expiry.max(partners_expiry), bytes.max(BROKER_BYTES)),
            Role::Client | Role::Worker => since + wait(expiry, bytes),
        })
    }

    /// Notes whether others wait for the peer.
    pub(crate) fn note_lag(&mut self, now: Instant) {
        if let Some(session) = self.session_mut() {
            session.outflow.note_lag(now);
        }
    }

    /// Notes that bytes from the peer need no room here any more. `Some` is the acknowledgement to send now.
    pub(crate) fn release(&mut self, bytes: u64, window: u64) -> Option<u64> {
        self.session_mut()?.intake.release(bytes, window)
    }

    /// Whether an acknowledgement is due within [`ACK_DELAY`].
    pub(crate) fn owes_ack(&self) -> bool {
        self.session().is_some_and(|session| session.intake.has_rest())
    }

    /// The acknowledgement of all that needs no room any more, if any of it is left.
    pub(crate) fn take_ack(&mut self) -> Option<u64> {
        self.session_mut()?.intake.take_rest()
    }

    /// The instant of the peer's first introduction.
    pub(crate) fn introduced_at(&self) -> Option<Instant> {
        self.session().map(|session| session.introduced_at)
    }

    /// The next held reply, if it may leave now.
    pub(crate) fn next_leaving(&self) -> Option<&Message> {
        self.outflow()?.next_leaving()
    }

    /// Whether a READY that waits for room goes before held replies. They take turns: either could take all the room.
    pub(crate) fn is_announcement_next(&self) -> bool {
        self.is_announcement_overdue() && !self.session().is_some_and(|session| session.is_reply_next)
    }

    pub(crate) fn is_introducing(&self) -> bool {
        matches!(self.state, State::Introducing)
    }

    /// Whether both sides are introduced and neither has said goodbye.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_) | State::Draining(_))
    }

    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving)
    }

    pub(crate) fn partner(&self) -> Option<&Partner> {
        self.session().map(|session| &session.partner)
    }

    /// The messages to the peer that are kept or unacknowledged.
    pub(crate) fn outflow(&self) -> Option<&Outflow> {
        self.session().map(|session| &session.outflow)
    }

    pub(crate) fn heartbeat_at(&self) -> Instant {
        self.liveness.heartbeat_at()
    }

    pub(crate) fn expires_at(&self) -> Instant {
        self.liveness.expires_at()
    }

    /// When to check again whether the peer has expired.
    pub(crate) fn check_at(&self, now: Instant) -> Instant {
        self.liveness.check_at(now)
    }

    fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Up(session) | State::Draining(session) => Some(session),
            State::Introducing | State::Leaving => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Up(session) | State::Draining(session) => Some(session),
            State::Introducing | State::Leaving => None,
        }
    }
}

/// How long a side waits, after its goodbye, for its peers to disconnect when no reply can still be on its way.
pub(crate) const GOODBYE_GRACE: Duration = Duration::from_millis(500);

/// How long an acknowledgement may wait for more to acknowledge.
///
/// The rest of a burst is less than a quarter of the window. Without this, its sender would count it as held for ever.
pub(crate) const ACK_DELAY: Duration = Duration::from_secs(1);

/// How many expiries a peer may take nothing while others wait for it. It sends heartbeats, so it lives; a slow link
/// needs several expiries for a quarter of a window.
const STALL_EXPIRIES: u32 = 10;

/// How many times a worker waits as long as the broker may wait for a client: several of its clients may stall.
const BROKER_STALLS: u32 = 3;

/// The most bytes that a broker may wait for: a quarter of the largest window, and a payload.
const BROKER_BYTES: usize = 80 << 20;
