//! The connections of one side of a machine: who is dialed, introduced, kept alive and let go.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use tracing::{debug, info, trace, warn};

use super::{
    fault::{Fault, planted},
    frame::Malformed,
    ids::IdMap,
    link::{Departure, Link, Partner},
    liveness::{Heartbeats, LARGE_PAYLOAD_BYTES, patience},
    message::{CallId, ErrorCode, ErrorReply, Message, Peer, Ready, Role, ServiceOffer},
    outbox::{Outbox, Transmit},
    retry::{Backoff, BackoffConfig},
    timer::{Timer, TimerTable},
    window::Outflow,
};

/// Something that a machine must act on.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A peer has introduced itself, for the first time or anew. Answer with [`Links::accept`], [`Links::turn_away`] or
    /// [`Links::hang_up`].
    Introduced(Peer, Ready),
    /// A request, a reply, or another message that is the machine's business. Answer with [`Links::take`] once its bytes
    /// need no room any more.
    Received(Peer, Message),
    /// The peer takes no more requests.
    Draining(Peer),
    /// The peer has acknowledged bytes: there may be room for more.
    Room(Peer),
    /// A partial reply has left; the number is the size of its payload in bytes.
    PartialLeft(Peer, CallId, usize),
    /// The connection of a peer that was introduced is gone.
    Ended(Peer, End),
    /// Connect to that peer.
    Dial(Peer),
    /// End that connection once what was sent is on its way.
    Disconnect(Peer),
}

/// How a connection has ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) departure: Departure,
    /// Whether the peer had said that it takes no more requests.
    pub(crate) was_draining: bool,
    /// The messages that have not left.
    pub(crate) unsent: VecDeque<Message>,
}

/// What has been counted of a side's connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkCounters {
    /// Messages that could not be read.
    pub(crate) malformed: u64,
    /// Messages of peers that had not introduced themselves.
    pub(crate) unregistered: u64,
    /// Messages of a kind that the role or state does not take.
    pub(crate) unexpected: u64,
    /// Peers that fell silent.
    pub(crate) expired_leases: u64,
    /// Dials after the first one of each peer.
    pub(crate) redials: u64,
}

/// All connections of one side. After each call, take the events until there are none.
#[derive(Debug)]
pub(crate) struct Links {
    /// How this side introduces itself.
    introduction: Ready,
    /// The role of those who connect, or are connected to.
    partner: Role,
    /// Where they are expected, for those that have come to the wrong place.
    place: &'static str,
    heartbeats: Heartbeats,
    links: IdMap<Peer, Link>,
    /// The keys of `links`, in order.
    peers: BTreeSet<Peer>,
    /// The peers that this side dials.
    dials: BTreeMap<Peer, Dial>,
    /// Peers that READY is to be sent to, once a turn and before all else.
    unannounced: BTreeSet<Peer>,
    /// Peers whose connections end with this turn: what they have still sent is not looked at.
    ended: BTreeSet<Peer>,
    timers: TimerTable,
    outbox: Outbox,
    events: VecDeque<LinkEvent>,
    counters: LinkCounters,
}

/// A peer that is dialed, and dialed again after each loss.
#[derive(Debug)]
struct Dial {
    backoff: Backoff,
    /// Why it refused this side the last time, so that the same is not logged again and again.
    refusal: Option<String>,
}

impl Links {
    /// Connections that peers of that role make.
    pub(crate) fn accepting(introduction: Ready, heartbeats: Heartbeats, partner: Role, place: &'static str) -> Self {
        Self {
            introduction,
            partner,
            place,
            heartbeats,
            links: IdMap::default(),
            peers: BTreeSet::new(),
            dials: BTreeMap::new(),
            unannounced: BTreeSet::new(),
            ended: BTreeSet::new(),
            timers: TimerTable::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            counters: LinkCounters::default(),
        }
    }

    /// Connections to dispatchers, the peers 0, 1, 2 …, which are dialed at once.
    pub(crate) fn dialing(
        now: Instant,
        introduction: Ready,
        heartbeats: Heartbeats,
        (peers, backoff, seed): (u64, BackoffConfig, u64),
    ) -> Self {
        let mut links = Self::accepting(introduction, heartbeats, Role::Dispatcher, "");
        for peer in 0..peers {
            let backoff = Backoff::new(backoff, seed.wrapping_add(peer));
            links.dials.insert(Peer(peer), Dial { backoff, refusal: None });
            links.timers.set(Timer::Dial(Peer(peer)), now);
        }
        links
    }

    /// Takes a message from a peer.
    pub(crate) fn handle_message(&mut self, now: Instant, from: Peer, message: Message) {
        let Some(link) = self.links.get_mut(&from) else { return self.handle_stranger(now, from, message) };
        link.received(now);
        if !link.receive(&message, self.introduction.window_bytes) {
            return self.handle_excess(now, from);
        }
        match message {
            Message::Goodbye => self.hang_up(now, from, Departure::Goodbye),
            // The peer has not read the goodbye yet.
            Message::Ready(_) if link.is_leaving() => {}
            Message::Ready(ready) if ready.role == self.partner => {
                self.events.push_back(LinkEvent::Introduced(from, ready));
            }
            message if link.is_introducing() => self.handle_refusal(now, from, message),
            Message::Heartbeat => trace!(peer = from.0, "heartbeat"),
            Message::Patience(time) => {
                link.excuse(now + time.min(patience(self.introduction.payload_bytes_max as usize)));
            }
            Message::Ack(bytes) => {
                link.acknowledge(bytes);
                self.send_kept(now, from);
                self.events.push_back(LinkEvent::Room(from));
            }
            Message::Drain => {
                link.drain();
                self.events.push_back(LinkEvent::Draining(from));
            }
            message => self.events.push_back(LinkEvent::Received(from, message)),
        }
    }

    /// Takes note of a message that could not be read; whether its peer is introduced.
    pub(crate) fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) -> bool {
        self.counters.malformed += 1;
        debug!(peer = from.0, %malformed, "a message cannot be read");
        match self.links.get_mut(&from) {
            Some(link) => {
                link.received(now);
                link.note_received(malformed.window_bytes);
                // What a broken BATCH held beyond the break would never be acknowledged nor answered.
                if link.is_introducing() || malformed.breaks_batch() {
                    self.hang_up(now, from, Departure::Disconnected);
                    return false;
                }
                link.is_up()
            }
            None => {
                self.turn_away(now, from, malformed.to_string());
                false
            }
        }
    }

    /// The connection asked for by [`LinkEvent::Dial`] stands.
    pub(crate) fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        if !self.dials.contains_key(&peer) {
            return self.events.push_back(LinkEvent::Disconnect(peer));
        }
        let link = Link::introducing(now, self.heartbeats);
        self.timers.set(Timer::Lease(peer), link.expires_at());
        self.links.insert(peer, link);
        self.peers.insert(peer);
        self.outbox.push(peer, Message::Ready(self.introduction.clone()));
    }

    /// The connection has ended, or could not be made.
    pub(crate) fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.end(now, peer, Departure::Disconnected);
    }

    /// The transport has not taken these messages, and the connection is gone.
    pub(crate) fn handle_unsent(&mut self, now: Instant, transmit: Transmit) {
        self.outbox.put_back(transmit.to, transmit.messages);
        self.end(now, transmit.to, Departure::Disconnected);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Heartbeat(peer) => self.heartbeat(now, peer),
                Timer::Lease(peer) => self.check_lease(now, peer),
                Timer::Dial(peer) => self.events.push_back(LinkEvent::Dial(peer)),
                Timer::Deadline(_) | Timer::Retry(_) | Timer::Overrun(_) | Timer::Leave | Timer::Offers => {}
            }
        }
    }

    /// Takes a peer's introduction, and answers it where the peer has connected.
    pub(crate) fn accept(&mut self, now: Instant, peer: Peer, ready: &Ready) {
        let heartbeats = self.heartbeats;
        let is_new = self.links.get(&peer).is_none_or(Link::is_introducing);
        self.peers.insert(peer);
        let link = self.links.entry(peer).or_insert_with(|| Link::introducing(now, heartbeats));
        link.introduce(now, heartbeats, ready);
        self.timers.set(Timer::Lease(peer), link.expires_at());
        self.timers.set(Timer::Heartbeat(peer), link.heartbeat_at());
        self.outbox.allow_batches(peer, link.partner().and_then(Partner::batch_bytes_max));
        match self.dials.get_mut(&peer) {
            Some(dial) => {
                dial.backoff.reset();
                dial.refusal = None;
            }
            None => {
                self.unannounced.insert(peer);
            }
        }
        let (role, incarnation, credits) = (ready.role, ready.incarnation, ready.credits);
        match is_new {
            true => info!(peer = peer.0, %role, %incarnation, credits, "registered"),
            false => debug!(peer = peer.0, %role, %incarnation, credits, "introduced itself anew"),
        }
        self.send_kept(now, peer);
    }

    /// Says why a peer's introduction is not accepted, and lets the peer go.
    pub(crate) fn turn_away(&mut self, now: Instant, peer: Peer, detail: String) {
        if !self.accepts(peer) {
            return;
        }
        self.end(now, peer, Departure::Disconnected);
        info!(peer = peer.0, detail, "turned a peer away");
        self.outbox.push(peer, Message::Error(ErrorReply::not_started(CallId(0), ErrorCode::Malformed, detail)));
        self.disconnect(peer);
    }

    /// Ends a connection.
    pub(crate) fn hang_up(&mut self, now: Instant, peer: Peer, departure: Departure) {
        self.disconnect(peer);
        self.end(now, peer, departure);
    }

    /// Sends a message to a peer that is introduced, or keeps it until its window has room.
    pub(crate) fn send(&mut self, now: Instant, to: Peer, message: Message) {
        if let Some(message) = self.links.get_mut(&to).and_then(|link| link.push(message)) {
            self.transmit(now, to, message);
        }
    }

    /// Bytes from a peer need no room here any more: it may send as many again.
    pub(crate) fn take(&mut self, now: Instant, from: Peer, bytes: u64) {
        let window = self.introduction.window_bytes;
        let due = self.links.get_mut(&from).and_then(|link| link.take(bytes, window));
        let is_dropped = planted(Fault::AckNotSent) && self.introduction.role == Role::Dispatcher;
        if let Some(bytes) = due.filter(|_| !is_dropped) {
            self.transmit(now, from, Message::Ack(bytes));
        }
    }

    /// Offers these services in introductions from now on; `false` if they are the same as before.
    pub(crate) fn set_services(&mut self, services: Vec<ServiceOffer>) -> bool {
        let is_other = services != self.introduction.services;
        self.introduction.services = services;
        is_other
    }

    /// Introduces this side anew to a peer, once this turn and before all else.
    pub(crate) fn announce_to(&mut self, peer: Peer) {
        if self.links.get(&peer).is_some_and(Link::is_up) {
            self.unannounced.insert(peer);
        }
    }

    /// Introduces this side anew to all peers.
    pub(crate) fn announce_to_all(&mut self) {
        self.unannounced = self.up().collect();
    }

    /// Says goodbye to a peer, which then ends the connection.
    pub(crate) fn say_goodbye(&mut self, now: Instant, to: Peer) {
        self.send(now, to, Message::Goodbye);
        self.timers.stop(Timer::Heartbeat(to));
        if let Some(link) = self.links.get_mut(&to).filter(|link| link.is_up()) {
            link.leave();
        }
    }

    /// Says goodbye to every peer, and hangs up on those that have not answered.
    pub(crate) fn leave(&mut self, now: Instant) {
        for peer in self.peers() {
            match self.links.get(&peer).is_some_and(Link::is_introducing) {
                true => self.hang_up(now, peer, Departure::Disconnected),
                false => self.say_goodbye(now, peer),
            }
        }
    }

    /// Dials nobody any more.
    pub(crate) fn stop_dialing(&mut self) {
        for peer in std::mem::take(&mut self.dials).into_keys() {
            self.timers.stop(Timer::Dial(peer));
        }
    }

    /// Counts a message of a kind that the machine does not take.
    pub(crate) fn drop_unexpected(&mut self, from: Peer, message: &str) {
        self.counters.unexpected += 1;
        debug!(peer = from.0, "dropped {message}");
    }

    /// The next thing to act on.
    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// The next message to send. When there is none, the turn is over.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        while let Some(peer) = self.unannounced.first().copied() {
            self.announce(peer);
        }
        let transmit = self.outbox.poll();
        if transmit.is_none() {
            self.ended.clear();
        }
        transmit
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(crate) fn counters(&self) -> LinkCounters {
        self.counters
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&Link> {
        self.links.get(&peer)
    }

    pub(crate) fn outflow(&self, peer: Peer) -> Option<&Outflow> {
        self.links.get(&peer)?.outflow()
    }

    /// The largest payload that may be sent to a peer; 0 where it is not introduced.
    pub(crate) fn reply_bytes_max(&self, peer: Peer) -> usize {
        let own = self.introduction.payload_bytes_max as usize;
        self.links.get(&peer).and_then(Link::partner).map_or(0, |partner| partner.reply_bytes_max(own))
    }

    /// Every peer with a connection, introduced or not, in order.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.peers.iter().copied().collect()
    }

    /// The peers that are introduced and have not been told goodbye, in order.
    pub(crate) fn up(&self) -> impl Iterator<Item = Peer> {
        self.peers.iter().copied().filter(|peer| self.links.get(peer).is_some_and(Link::is_up))
    }

    pub(crate) fn introduction(&self) -> &Ready {
        &self.introduction
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether no connection is left.
    pub(crate) fn are_gone(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether nothing is kept: no connection, no dial, no timer, nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
            && self.dials.is_empty()
            && self.unannounced.is_empty()
            && self.timers.is_empty()
            && self.outbox.is_empty()
            && self.events.is_empty()
    }

    /// Whether an introduction is expected of a peer that is not introduced.
    fn accepts(&self, peer: Peer) -> bool {
        self.partner != Role::Dispatcher && !self.ended.contains(&peer)
    }

    fn handle_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Ready(ready) if self.accepts(from) && ready.role == self.partner => {
                self.events.push_back(LinkEvent::Introduced(from, ready));
            }
            Message::Ready(ready) if self.accepts(from) => {
                let (own, partner, place) = (ready.role, self.partner, self.place);
                self.turn_away(now, from, format!("a {own} has connected where {partner}s are expected: {place}"));
            }
            _ => {
                self.counters.unregistered += 1;
                if self.accepts(from) {
                    self.disconnect(from);
                }
            }
        }
    }

    /// A dialed peer has answered the introduction with something else than its own.
    fn handle_refusal(&mut self, now: Instant, from: Peer, message: Message) {
        match (message, self.dials.get_mut(&from)) {
            (Message::Error(error), Some(dial)) => {
                let (own, detail) = (self.introduction.role, &error.detail);
                match dial.refusal.as_ref() == Some(detail) {
                    true => debug!(peer = from.0, detail, "the dispatcher does not take this {own}"),
                    false => warn!(peer = from.0, detail, "the dispatcher does not take this {own}"),
                }
                dial.refusal = Some(error.detail);
            }
            _ => self.counters.unexpected += 1,
        }
        self.hang_up(now, from, Departure::Disconnected);
    }

    /// The peer has sent more than its window allows: what it sends would pile up without bound.
    fn handle_excess(&mut self, now: Instant, from: Peer) {
        self.counters.malformed += 1;
        let window_bytes = self.introduction.window_bytes;
        warn!(peer = from.0, window_bytes, "hung up on a peer that sends more than its window allows");
        self.hang_up(now, from, Departure::Disconnected);
    }

    fn heartbeat(&mut self, now: Instant, peer: Peer) {
        let is_dropped = match self.introduction.role {
            Role::Worker => planted(Fault::WorkerHeartbeatNotSent),
            Role::Dispatcher | Role::Client => planted(Fault::HeartbeatNotSent),
        };
        let Some(link) = self.links.get(&peer).filter(|link| link.is_up() && !is_dropped) else { return };
        if link.heartbeat_at() <= now {
            self.transmit(now, peer, Message::Heartbeat);
        }
        if let Some(link) = self.links.get(&peer) {
            self.timers.set(Timer::Heartbeat(peer), link.heartbeat_at());
        }
    }

    fn check_lease(&mut self, now: Instant, peer: Peer) {
        let Some(link) = self.links.get(&peer) else { return };
        if planted(Fault::LeaseNeverEnds) {
            return;
        }
        if link.expires_at() > now {
            return self.timers.set(Timer::Lease(peer), link.check_at(now));
        }
        self.counters.expired_leases += u64::from(!link.is_introducing());
        debug!(peer = peer.0, "the peer has fallen silent");
        self.hang_up(now, peer, Departure::Expired);
    }

    /// Forgets a connection; a dialed peer is dialed again after the back-off.
    fn end(&mut self, now: Instant, peer: Peer, departure: Departure) {
        let unsent = self.outbox.forget(peer);
        self.unannounced.remove(&peer);
        self.timers.stop(Timer::Lease(peer));
        self.timers.stop(Timer::Heartbeat(peer));
        self.peers.remove(&peer);
        if let Some(link) = self.links.remove(&peer)
            && !link.is_introducing()
        {
            let was_draining = link.is_draining();
            match link.partner() {
                Some(Partner { role, incarnation, .. }) => {
                    info!(peer = peer.0, %role, %incarnation, ?departure, "left")
                }
                None => info!(peer = peer.0, "has ended the connection after this side's goodbye"),
            }
            self.events.push_back(LinkEvent::Ended(peer, End { departure, was_draining, unsent }));
        }
        self.redial(now, peer);
    }

    fn redial(&mut self, now: Instant, peer: Peer) {
        let Some(dial) = self.dials.get_mut(&peer) else { return };
        let wait = dial.backoff.next();
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

    /// Sends what the peer's window has got room for.
    fn send_kept(&mut self, now: Instant, to: Peer) {
        while let Some(message) = self.links.get_mut(&to).and_then(Link::poll) {
            self.transmit(now, to, message);
        }
    }

    fn transmit(&mut self, now: Instant, to: Peer, message: Message) {
        let Some(link) = self.links.get_mut(&to) else { return };
        link.sent(now);
        self.announce(to);
        let bytes = message.payload_bytes();
        if let Message::Partial(reply) = &message {
            self.events.push_back(LinkEvent::PartialLeft(to, reply.call, bytes));
        }
        if bytes >= LARGE_PAYLOAD_BYTES {
            self.outbox.push(to, Message::Patience(patience(bytes)));
        }
        self.outbox.push(to, message);
    }

    /// Sends READY to a peer that is to get it.
    fn announce(&mut self, peer: Peer) {
        if self.unannounced.remove(&peer) {
            self.outbox.push(peer, Message::Ready(self.introduction.clone()));
        }
    }
}

/// How long a closing side waits for a large reply that may still be on its way.
pub(crate) fn sending_time(payload_bytes: usize) -> Duration {
    if payload_bytes >= LARGE_PAYLOAD_BYTES { patience(payload_bytes) } else { Duration::ZERO }
}
