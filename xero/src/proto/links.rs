//! The connections of one side of a machine: dialed, introduced, kept alive and ended.

mod events;
mod log;
mod owed;
mod room;
mod sending;
mod table;
mod watch;

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use tracing::{debug, trace};

use super::{
    announcements::Announcements,
    dials::Dials,
    fault::{Fault, planted},
    frame::{Inbound, Malformed},
    hold::{HoldLimits, Receipt},
    introduction::Introduction,
    link::{Departure, Link, Partner},
    liveness::{Heartbeats, LARGE_PAYLOAD_BYTES, patience},
    lives::Lives,
    message::{CallId, ErrorCode, ErrorReply, Message, Peer, Ready, Role},
    outbox::{Outbox, Transmit},
    timer::{Timer, TimerTable},
    window::Outflow,
};
pub(crate) use events::{End, LinkCounters, LinkEvent};
use log::Log;
use owed::Owed;
use table::Table;

/// All connections of one side. After each method call, take the events until there are none.
#[derive(Debug)]
pub(crate) struct Links {
    /// This side's introduction.
    introduction: Introduction,
    /// The role of the connecting or connected peers.
    partner: Role,
    /// The place for such peers, for the error to those at the wrong place.
    place: &'static str,
    heartbeats: Heartbeats,
    links: Table,
    owed: Owed,
    /// The peers that this side dials.
    dials: Dials,
    announcements: Announcements,
    /// Accepted peers that have yet to introduce themselves.
    strangers: BTreeSet<Peer>,
    /// Whether new connections end at once.
    is_closed: bool,
    /// Peers whose connections end with this turn: their remaining messages are ignored.
    ended: BTreeSet<Peer>,
    /// The workers' processes, so that an abandoned connection gets no calls.
    lives: Lives,
    timers: TimerTable,
    /// Heartbeats to send; separate, because they are never put off.
    beats: TimerTable,
    outbox: Outbox,
    log: Log,
    events: VecDeque<LinkEvent>,
    counters: LinkCounters,
}

impl Links {
    /// Connections from peers of that role.
    pub(crate) fn accepting(introduction: Ready, heartbeats: Heartbeats, partner: Role, place: &'static str) -> Self {
        Self {
            log: Log::new(introduction.role, partner),
            introduction: Introduction::new(introduction),
            partner,
            place,
            heartbeats,
            links: Table::default(),
            owed: Owed::default(),
            dials: Dials::default(),
            announcements: Announcements::default(),
            strangers: BTreeSet::new(),
            is_closed: false,
            ended: BTreeSet::new(),
            lives: Lives::default(),
            timers: TimerTable::default(),
            beats: TimerTable::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            counters: LinkCounters::default(),
        }
    }

    /// Connections to dispatchers, the peers 0, 1, 2 …, which are dialed at once.
    pub(crate) fn dialing(now: Instant, introduction: Ready, heartbeats: Heartbeats, dials: Dials) -> Self {
        let mut links = Self { dials, ..Self::accepting(introduction, heartbeats, Role::Dispatcher, "") };
        links.dials.peers().for_each(|peer| links.timers.set(Timer::Dial(peer), now));
        links
    }

    /// Names the endpoints of the dialed peers for the logs, in the peers' order.
    pub(crate) fn name_endpoints(&mut self, endpoints: impl IntoIterator<Item = String>) {
        self.dials.name_endpoints(endpoints);
    }

    /// Sets the limits of what is held of peers, and for them.
    pub(crate) fn holding(self, hold_limits: HoldLimits) -> Self {
        Self { links: self.links.with_limits(hold_limits), ..self }
    }

    /// Handles a message from a peer.
    pub(crate) fn handle_message(&mut self, now: Instant, from: Peer, inbound: Inbound) {
        let Some(link) = self.links.get_mut(from) else { return self.handle_stranger(now, from, inbound.message) };
        if link.received(now) {
            self.timers.hasten(Timer::Lease(from), link.expires_at());
        }
        if self.lives.hear(from) {
            self.events.push_back(LinkEvent::Heard(from));
        }
        if !link.receive(&inbound, self.introduction.ready().window_bytes) {
            return self.handle_excess(now, from);
        }
        let Inbound { message, window_bytes } = inbound;
        match message {
            Message::Goodbye => self.hang_up(now, from, Departure::Goodbye),
            // The peer has not read the goodbye yet.
            Message::Ready(_) if link.is_leaving() => {}
            Message::Ready(ready) if ready.role == self.partner => {
                self.events.push_back(LinkEvent::Introduced(from, ready));
                self.release(now, Receipt { from, bytes: window_bytes });
            }
            message if link.is_introducing() => self.handle_refusal(now, from, message),
            Message::Heartbeat => trace!(peer = from.0, "heartbeat"),
            Message::Patience(time) => {
                link.excuse(now + time.min(patience(self.introduction.ready().payload_bytes_max as usize)));
            }
            Message::Ack(bytes) => {
                self.links.account(from, |link| link.acknowledge(bytes));
                self.send_kept(now, from);
                self.watch(now, from);
                self.events.push_back(LinkEvent::Room(from));
            }
            Message::Drain => {
                if link.drain() {
                    self.events.push_back(LinkEvent::Draining(from));
                }
            }
            Message::Error(error) if error.call == CallId(0) && self.partner == Role::Dispatcher => {
                self.note_refused(now, from, &error.detail);
                self.release(now, Receipt { from, bytes: window_bytes });
            }
            message => self.events.push_back(LinkEvent::Received(from, message, window_bytes)),
        }
    }

    /// Counts an unreadable message; returns whether its peer is introduced.
    pub(crate) fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) -> bool {
        self.counters.malformed += 1;
        debug!(peer = from.0, %malformed, "a message cannot be read");
        match self.links.get_mut(from) {
            Some(link) => {
                if link.received(now) {
                    self.timers.hasten(Timer::Lease(from), link.expires_at());
                }
                link.note_received(malformed.window_bytes);
                if self.lives.hear(from) {
                    self.events.push_back(LinkEvent::Heard(from));
                }
                if link.is_up() && malformed.hides_offer() && !planted(Fault::HiddenOfferBorne) {
                    self.reject(now, from, malformed.to_string());
                    return false;
                }
                // The bytes behind the break of a BATCH would never be acknowledged, nor its requests answered.
                if link.is_introducing() || malformed.breaks_batch() && !planted(Fault::BreakBorne) {
                    self.hang_up(now, from, Departure::Disconnected);
                    return false;
                }
                link.is_up()
            }
            None => {
                self.reject(now, from, malformed.to_string());
                false
            }
        }
    }

    /// Handles the connection of a peer that has yet to introduce itself.
    pub(crate) fn handle_accepted(&mut self, now: Instant, peer: Peer) {
        if self.is_closed {
            self.disconnect(peer);
        } else if self.accepts(peer) && !self.links.has(peer) && !planted(Fault::StrangerKept) {
            self.strangers.insert(peer);
            self.timers.set(Timer::Lease(peer), now + INTRODUCTION_EXPIRIES * self.heartbeats.own_expiry());
        }
    }

    /// Handles the connection that [`LinkEvent::Dial`] asked for.
    pub(crate) fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        if !self.dials.has(peer) {
            return self.events.push_back(LinkEvent::Disconnect(peer));
        }
        let link = Link::introducing(now, self.heartbeats);
        self.timers.set(Timer::Lease(peer), link.expires_at());
        self.links.entry(peer, || link);
        self.outbox.push(peer, Message::Ready(self.introduction.ready().clone()));
    }

    /// Handles a connection that has ended, or could not be made.
    pub(crate) fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.end(now, peer, Departure::Disconnected);
    }

    /// Handles messages that the transport did not take; the connection is gone.
    pub(crate) fn handle_unsent(&mut self, now: Instant, transmit: Transmit) {
        self.outbox.put_back(transmit.to, transmit.messages);
        self.end(now, transmit.to, Departure::Disconnected);
    }

    /// Sends due heartbeats.
    pub(crate) fn handle_heartbeats(&mut self, now: Instant) {
        self.announcements.begin_turn(now);
        while let Some(timer) = self.beats.expire(now) {
            if let Timer::Heartbeat(peer) = timer {
                self.heartbeat(now, peer);
            }
        }
    }

    /// Handles due timeouts, of a bounded number of peers. Returns the instant up to which none is left.
    ///
    /// `weight` is what the end of a peer concerns: methods and requests.
    pub(crate) fn handle_timeout(&mut self, now: Instant, weight: impl Fn(Peer) -> usize) -> Instant {
        self.handle_heartbeats(now);
        let (mut checked, mut ended) = (0, 0);
        while checked < LEASE_BOUND && ended < ENDS_BOUND || planted(Fault::ExpiriesUnbounded) {
            checked += 1;
            match self.timers.expire(now) {
                Some(Timer::Lease(peer)) => {
                    let weight = weight(peer);
                    let sent = self.check_lease(now, peer);
                    ended += if self.links.has(peer) { sent } else { weight };
                }
                Some(Timer::Dial(peer)) => self.events.push_back(LinkEvent::Dial(peer)),
                Some(Timer::Heartbeat(_) | Timer::Deadline(_) | Timer::Retry(_) | Timer::Overrun(_)) => {}
                None => return now,
            }
        }
        self.timers.next().map_or(now, |at| at.min(now))
    }

    /// Accepts a peer's introduction, and answers it if the peer has connected.
    pub(crate) fn accept(&mut self, now: Instant, peer: Peer, ready: &Ready) {
        let heartbeats = self.heartbeats;
        let is_new = self.links.get(peer).is_none_or(Link::is_introducing);
        let link = self.links.entry(peer, || Link::introducing(now, heartbeats));
        link.introduce(now, heartbeats, ready);
        // A side that stops dialing has still sent READY first, and must not answer the answer.
        let is_dialed = self.partner == Role::Dispatcher;
        if is_new && is_dialed {
            link.note_announced();
        }
        self.timers.set(Timer::Lease(peer), link.expires_at());
        // An acknowledgement may be due earlier.
        match link.owes_ack() {
            true => self.beats.hasten(Timer::Heartbeat(peer), link.heartbeat_at()),
            false => self.beats.set(Timer::Heartbeat(peer), link.heartbeat_at()),
        }
        self.outbox.allow_batches(peer, link.partner().and_then(Partner::batch_bytes_max));
        self.dials.note_accepted(peer);
        if !is_dialed {
            self.announcements.add(now, peer, is_new);
        }
        self.strangers.remove(&peer);
        self.log.introduced(now, peer, self.dials.endpoint(peer), ready, is_new);
        if ready.role == Role::Worker {
            let doubted = self.lives.introduce(peer, ready.incarnation);
            self.events.extend(doubted.into_iter().map(LinkEvent::Doubted));
        }
        self.send_kept(now, peer);
        self.watch(now, peer);
    }

    /// Answers why a peer's introduction is not accepted, and disconnects the peer.
    pub(crate) fn reject(&mut self, now: Instant, peer: Peer, detail: String) {
        if self.partner == Role::Dispatcher {
            self.log.dropped(now, peer, &detail);
            return self.hang_up(now, peer, Departure::Disconnected);
        }
        if !self.accepts(peer) {
            return;
        }
        self.end(now, peer, Departure::Disconnected);
        self.log.rejected(now, peer, &detail);
        self.outbox.push(peer, Message::Error(ErrorReply::not_started(CallId(0), ErrorCode::Malformed, detail)));
        self.disconnect(peer);
    }

    /// Ends a connection.
    pub(crate) fn hang_up(&mut self, now: Instant, peer: Peer, departure: Departure) {
        self.disconnect(peer);
        self.end(now, peer, departure);
    }

    /// Ends the connections of strangers, now and from now on.
    pub(crate) fn close(&mut self, now: Instant) {
        self.is_closed = true;
        for peer in std::mem::take(&mut self.strangers) {
            self.hang_up(now, peer, Departure::Goodbye);
        }
    }

    /// Ends all connections.
    pub(crate) fn hang_up_all(&mut self, now: Instant) {
        self.peers().into_iter().for_each(|peer| self.hang_up(now, peer, Departure::Goodbye));
    }

    /// Says goodbye to a peer, which then ends the connection.
    pub(crate) fn say_goodbye(&mut self, now: Instant, to: Peer) {
        self.send(now, to, Message::Goodbye);
        self.beats.stop(Timer::Heartbeat(to));
        if self.links.is_up(to) {
            // Whether or not the peer still takes what is on its way, others wait for it no longer.
            let receipts = self.links.account(to, Link::leave).unwrap_or_default();
            self.note_released(to, receipts);
        }
    }

    /// Says goodbye to every peer, and disconnects those that have not answered.
    pub(crate) fn leave(&mut self, now: Instant) {
        for peer in self.peers() {
            match self.links.get(peer).is_some_and(Link::is_introducing) {
                true => self.hang_up(now, peer, Departure::Disconnected),
                false => self.say_goodbye(now, peer),
            }
        }
    }

    /// Stops dialing.
    pub(crate) fn stop_dialing(&mut self) {
        std::mem::take(&mut self.dials).peers().for_each(|peer| self.timers.stop(Timer::Dial(peer)));
    }

    /// Logs that a peer drains.
    pub(crate) fn note_draining(&mut self, now: Instant, peer: Peer) {
        self.log.draining(now, peer);
    }

    /// Counts a message of a kind that the machine does not accept.
    pub(crate) fn drop_unexpected(&mut self, from: Peer, message: &str) {
        self.counters.unexpected += 1;
        debug!(peer = from.0, "dropped {message}");
    }

    /// Gives the next event.
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<LinkEvent> {
        while let Some(peer) = self.links.next_relieved() {
            self.release_receipts(peer);
        }
        // Not earlier: an introduction that waits here is of a connection that stands.
        if self.events.is_empty() && self.links.acknowledged_bytes() > self.links.limits().total_bytes_max {
            self.shed(now);
        }
        self.events.pop_front()
    }

    /// Gives the next message to send. When there is none, the turn is over.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        // One peer at a time: thousands of introductions at once would take many megabytes.
        while self.outbox.is_empty()
            && let Some(peer) = self.announcements.next()
        {
            self.announce(peer);
        }
        let transmit = self.outbox.poll();
        if transmit.is_none() {
            self.ended.clear();
        }
        transmit
    }

    /// Takes back a transmit that was sent.
    pub(crate) fn recycle(&mut self, sent: Transmit) {
        self.outbox.recycle(sent.messages);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.beats.next(), self.announcements.due_at()].into_iter().flatten().min()
    }

    pub(crate) fn counters(&self) -> LinkCounters {
        self.counters
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&Link> {
        self.links.get(peer)
    }

    pub(crate) fn outflow(&self, peer: Peer) -> Option<&Outflow> {
        self.links.get(peer)?.outflow()
    }

    /// Whether nothing large may be sent to a peer now: its window is full, or it is gone.
    pub(crate) fn is_window_full(&self, peer: Peer) -> bool {
        self.outflow(peer).is_none_or(Outflow::is_full)
    }

    /// Whether no request may be sent to a peer now, however small.
    pub(crate) fn is_clogged(&self, peer: Peer) -> bool {
        self.outflow(peer).is_some_and(Outflow::is_clogged)
    }

    /// The largest payload for a peer; 0 before its introduction.
    pub(crate) fn reply_bytes_max(&self, peer: Peer) -> usize {
        let own = self.introduction.ready().payload_bytes_max as usize;
        self.links.get(peer).and_then(Link::partner).map_or(0, |partner| partner.reply_bytes_max(own))
    }

    /// Every peer with a connection, introduced or not, in order.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.links.peers().collect()
    }

    /// The introduced peers without a goodbye, in order.
    pub(crate) fn up(&self) -> impl Iterator<Item = Peer> {
        self.links.peers().filter(|peer| self.links.is_up(*peer))
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether no connection is left.
    pub(crate) fn are_gone(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether this side keeps nothing: no connection, dial, timer, held byte or message to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
            && self.dials.is_empty()
            && self.announcements.is_empty()
            && self.owed.is_empty()
            && self.lives.is_empty()
            && self.timers.is_empty()
            && self.beats.is_empty()
            && self.links.held_bytes() == 0
            && self.outbox.is_empty()
            && self.events.is_empty()
    }

    /// Whether a peer's introduction is expected.
    fn accepts(&self, peer: Peer) -> bool {
        self.partner != Role::Dispatcher && (!self.ended.contains(&peer) || planted(Fault::EndedPeerAccepted))
    }

    fn handle_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Ready(ready) if self.accepts(from) && ready.role == self.partner => {
                self.events.push_back(LinkEvent::Introduced(from, ready));
            }
            Message::Ready(ready) if self.accepts(from) => {
                let (own, partner, place) = (ready.role, self.partner, self.place);
                self.reject(now, from, format!("a {own} has connected where {partner}s are expected: {place}"));
            }
            _ => {
                self.counters.unregistered += 1;
                if self.accepts(from) {
                    self.hang_up(now, from, Departure::Disconnected);
                }
            }
        }
    }

    /// Handles a dialed peer's answer to the introduction that is not its own.
    fn handle_refusal(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Error(error) => self.note_refused(now, from, &error.detail),
            _ => self.counters.unexpected += 1,
        }
        self.hang_up(now, from, Departure::Disconnected);
    }

    /// Logs why a dialed peer ends the connection.
    fn note_refused(&mut self, now: Instant, from: Peer, reason: &str) {
        let is_repeated = self.dials.is_refused_again(from, reason);
        self.log.refused(now, from, self.dials.endpoint(from), reason, is_repeated);
    }

    /// Handles a peer that exceeds its window: its messages would pile up without bound.
    fn handle_excess(&mut self, now: Instant, from: Peer) {
        self.counters.malformed += 1;
        self.log.dropped(now, from, "it sends more than its window allows");
        self.hang_up(now, from, Departure::Disconnected);
    }

    /// Forgets a connection; a dialed peer is dialed again after the back-off.
    fn end(&mut self, now: Instant, peer: Peer, departure: Departure) {
        let unsent = self.outbox.forget(peer);
        self.announcements.forget(peer);
        self.strangers.remove(&peer);
        self.timers.stop(Timer::Lease(peer));
        self.beats.stop(Timer::Heartbeat(peer));
        self.lives.forget(peer);
        if let Some(mut link) = self.links.remove(peer)
            && !link.is_introducing()
        {
            // One that ends at once, again and again, must not be dialed without a pause.
            if link.introduced_at().is_some_and(|at| at + self.heartbeats.own_expiry() <= now) {
                self.dials.note_lasting(peer);
            }
            self.note_released(peer, link.take_receipts());
            let was_draining = link.is_draining();
            self.log.ended(now, peer, self.dials.endpoint(peer), link.partner(), departure);
            self.events.push_back(LinkEvent::Ended(peer, End { departure, was_draining, unsent }));
        }
        self.redial(now, peer);
    }

    fn redial(&mut self, now: Instant, peer: Peer) {
        let Some(wait) = self.dials.next_wait(peer) else { return };
        self.counters.redials += 1;
        trace!(peer = peer.0, ?wait, "dialing again after the back-off");
        if !planted(Fault::RedialForgotten) {
            self.timers.set(Timer::Dial(peer), now + wait);
        }
    }

    fn disconnect(&mut self, peer: Peer) {
        if self.partner != Role::Dispatcher {
            self.ended.insert(peer);
        }
        self.events.push_back(LinkEvent::Disconnect(peer));
    }
}

/// How many expiries a connection may take to introduce itself: a slow link needs several for a long READY. The side
/// that dials gives up after one of its own.
const INTRODUCTION_EXPIRIES: u32 = 10;

/// The leases that are checked in one pass.
const LEASE_BOUND: usize = 64;

/// The methods and requests of the peers that end by them, or the messages that leave: 4,096, the most methods of one
/// worker, take some 15 ms.
const ENDS_BOUND: usize = 4_096;

/// How long a closing side waits for a large reply that may still be on its way.
pub(crate) fn sending_time(payload_bytes: usize) -> Duration {
    if payload_bytes >= LARGE_PAYLOAD_BYTES { patience(payload_bytes) } else { Duration::ZERO }
}
