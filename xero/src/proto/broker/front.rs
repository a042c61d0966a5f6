//! The clients' side of a broker: registrations, requests in, replies out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tracing::debug;
use uuid::Uuid;

use super::{
    BrokerConfig, BrokerOutput, Door,
    offers::Offers,
    pass::{error_of, spec_of},
};
use crate::proto::{
    calls::CallFailure,
    dispatch::{Departure, Dispatcher, DispatcherConfig},
    fault::{Fault, planted},
    frame::{self, Malformed},
    hold::Receipt,
    link::Link,
    links::{LinkEvent, Links},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Payload, Peer, Ready,
        Request, Role,
    },
    window::{Outflow, SMALL_PAYLOAD_BYTES},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Front {
    /// The clients' connections. Their introduction holds the offer that the clients know.
    pub(super) links: Links,
    clients: BTreeMap<Peer, Client>,
    /// Open calls by their ids on the workers' side.
    origins: BTreeMap<CallId, Origin>,
    offers: Offers,
    credits: u32,
    /// The last id on the workers' side.
    last_call: u64,
    requests: u64,
    is_draining: bool,
    /// Whether the broker was closed, be it after a drain.
    is_closed: bool,
    /// When a drain's time is up.
    drains_until: Option<Instant>,
}

/// A registered client.
#[derive(Debug)]
struct Client {
    incarnation: Uuid,
    /// Open calls by the client's own ids.
    requests: BTreeMap<CallId, CallId>,
    /// Those of them that start once the client has read enough of its replies.
    unstarted: BTreeSet<CallId>,
    /// Whether too much is held back for it: none of its calls starts.
    is_behind: bool,
}

impl Client {
    /// What its end concerns.
    fn weight(&self) -> usize {
        self.requests.len()
    }
}

/// The origin of a call.
#[derive(Clone, Copy, Debug)]
struct Origin {
    client: Peer,
    call: CallId,
    /// Its bytes in the client's window.
    bytes: u64,
    /// The memory that it takes here.
    held_bytes: u64,
    /// Whether its bytes are acknowledged. They are once the call has ended, or a worker has it and the client's limit
    /// has room for it.
    is_released: bool,
    partials: u32,
}

/// A request that is not passed on: the error to answer it with.
type Refusal = (ErrorCode, String);

impl Front {
    pub(super) fn new(config: &BrokerConfig) -> Self {
        let BrokerConfig { dispatcher, credits, hold_limits, .. } = config;
        let introduction = introduction(dispatcher, *credits);
        let links = Links::accepting(introduction, dispatcher.heartbeats, Role::Client, PLACE);
        Self {
            links: links.holding(*hold_limits),
            clients: BTreeMap::new(),
            origins: BTreeMap::new(),
            offers: Offers::default(),
            credits: *credits,
            // Half of the range: ids never repeat in this life, and hardly in the next.
            last_call: dispatcher.incarnation.as_u64_pair().0 >> 1,
            requests: 0,
            is_draining: false,
            is_closed: false,
            drains_until: None,
        }
    }

    /// Handles an event of the clients' connections; returns what it means to the broker's owner.
    pub(super) fn handle_event(
        &mut self,
        now: Instant,
        dispatcher: &mut Dispatcher,
        event: LinkEvent,
    ) -> Option<BrokerOutput> {
        match event {
            LinkEvent::Introduced(peer, ready) => return self.handle_ready(now, dispatcher, peer, &ready),
            // The client has not read the goodbye yet, which answers its request.
            LinkEvent::Received(peer, ..) if self.links.get(peer).is_some_and(Link::is_leaving) => {}
            LinkEvent::Received(peer, Message::Request(request), bytes) => {
                self.handle_request(now, dispatcher, request, Receipt { from: peer, bytes });
            }
            LinkEvent::Received(peer, Message::Cancel(call), _) => self.handle_cancel(now, dispatcher, peer, call),
            LinkEvent::Received(from, _, bytes) => {
                self.links.release(now, Receipt { from, bytes });
                self.links.drop_unexpected(from, "a message that clients do not send");
            }
            LinkEvent::Released(receipt) => dispatcher.release(now, receipt),
            LinkEvent::Draining(peer) => self.links.drop_unexpected(peer, "a message that clients do not send"),
            LinkEvent::Ended(peer, end) => return self.remove_client(now, dispatcher, peer, end.departure),
            LinkEvent::Disconnect(peer) => return Some(BrokerOutput::Disconnect(Door::Front, peer)),
            LinkEvent::Room(peer) => self.follow_reader(now, dispatcher, peer),
            // Clients dial us; partial replies kept for them leave by themselves.
            LinkEvent::Dial(_) | LinkEvent::PartialLeft(..) => {}
            // These concern workers.
            LinkEvent::Doubted(_) | LinkEvent::Heard(_) => {}
        }
        None
    }

    pub(super) fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        if !self.links.handle_malformed(now, from, malformed) {
            return;
        }
        self.links.release(now, Receipt { from, bytes: malformed.window_bytes });
        let is_open = |call: &CallId| self.clients.get(&from).is_some_and(|client| client.requests.contains_key(call));
        if let Some(call) = malformed.call.filter(|call| malformed.is_request() && !is_open(call)) {
            self.refuse(now, from, call, (malformed.code, malformed.to_string()));
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, dispatcher: &Dispatcher) {
        let clients = &self.clients;
        self.links.handle_timeout(now, |peer| clients.get(&peer).map_or(0, Client::weight));
        self.offers.handle_timeout(now, dispatcher, &mut self.links);
    }

    /// What the end of a client concerns.
    pub(super) fn weight(&self, peer: Peer) -> usize {
        self.clients.get(&peer).map_or(0, Client::weight)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.links.poll_timeout(), self.offers.poll_timeout()].into_iter().flatten().min()
    }

    /// Announces the workers' offers if they have changed.
    pub(super) fn follow_offers(&mut self, now: Instant, dispatcher: &Dispatcher) {
        if !self.is_draining {
            self.offers.follow(now, dispatcher, &mut self.links);
        }
    }

    pub(super) fn pass_partial(
        &mut self,
        now: Instant,
        dispatcher: &mut Dispatcher,
        id: CallId,
        payload: Payload,
        receipt: Receipt,
    ) {
        let Some(origin) = self.origins.get_mut(&id) else { return dispatcher.release(now, receipt) };
        let (to, call, sequence, size) = (origin.client, origin.call, origin.partials, payload.bytes.len());
        if self.links.is_hoarding(now, to) {
            dispatcher.overflow(now, id);
            return dispatcher.release(now, receipt);
        }
        origin.partials = origin.partials.saturating_add(1);
        if planted(Fault::InnocentUnread) && self.links.outflow(to).is_some_and(|outflow| !outflow.is_empty()) {
            dispatcher.overflow(now, id);
            return dispatcher.release(now, receipt);
        }
        if size > self.links.reply_bytes_max(to) {
            // Its place stays empty, so the client sees a gap in the sequence.
            dispatcher.release(now, receipt);
            return debug!(%call, size, "dropped a partial reply that is larger than the client accepts");
        }
        self.pass_on(now, dispatcher, to, Message::Partial(PartialReply { call, sequence, payload }), receipt);
    }

    pub(super) fn pass_final(
        &mut self,
        now: Instant,
        dispatcher: &mut Dispatcher,
        id: CallId,
        payload: Payload,
        receipt: Receipt,
    ) {
        let Some(Origin { mut client, call, partials, .. }) = self.remove_origin(now, id) else {
            return dispatcher.release(now, receipt);
        };
        if planted(Fault::ReplyToWrongClient) {
            client = self.clients.keys().next().copied().unwrap_or(client);
        }
        let limit = self.links.reply_bytes_max(client);
        let size = payload.bytes.len();
        let reason = match size {
            _ if size > limit => Some(frame::reply_too_large(size, limit)),
            _ if self.is_refused(now, client, size) => Some(self.links.unread(size)),
            _ => None,
        };
        let message = match reason {
            Some(detail) => Message::Error(too_large(call, partials, detail)),
            None => Message::Final(FinalReply { call, partials, payload }),
        };
        self.pass_on(now, dispatcher, client, message, receipt);
    }

    pub(super) fn pass_failure(
        &mut self,
        now: Instant,
        dispatcher: &mut Dispatcher,
        id: CallId,
        failure: CallFailure,
        receipt: Receipt,
    ) {
        let Some(Origin { client, call, partials, .. }) = self.remove_origin(now, id) else {
            return dispatcher.release(now, receipt);
        };
        let is_unoffered = matches!(
            failure,
            CallFailure::NotOffered { .. } | CallFailure::UnknownMethod { .. } | CallFailure::NoWorker { .. }
        );
        let error = ErrorReply { call, partials, ..error_of(failure, self.leaving(now)) };
        let size = error.payload.bytes.len() + error.detail.len();
        let error = Message::Error(match self.is_refused(now, client, size) {
            true => too_large(call, partials, self.links.unread(size)),
            false => error,
        });
        if is_unoffered && !self.is_draining {
            self.offers.hasten(now, client, dispatcher, &mut self.links);
            self.links.send_returned(now, client, error);
            return dispatcher.release(now, receipt);
        }
        self.pass_on(now, dispatcher, client, error, receipt);
    }

    /// Notes that a worker has the request.
    ///
    /// The broker keeps the request until its end, because it may have to go to another worker. So its client may send
    /// as many bytes again only within its limit.
    pub(super) fn note_forwarded(&mut self, now: Instant, id: CallId) {
        if self.origins.get(&id).is_some_and(|origin| self.links.may_hold(origin.client)) {
            self.release_request(now, id);
            if planted(Fault::ForwardedForgotten)
                && let Some(origin) = self.origins.get(&id)
            {
                self.links.forget_request(origin.client, origin.held_bytes);
            }
        }
    }

    /// Tells all clients that no new request is accepted, and that running ones have until then.
    pub(super) fn drain(&mut self, now: Instant, until: Instant) {
        self.drains_until = Some(until);
        self.stop_accepting(now);
    }

    /// Tells all clients that no new request is accepted. No call continues.
    pub(super) fn close(&mut self, now: Instant) {
        self.is_closed = true;
        // A request that crosses the goodbye was not started, and DRAIN lets its client know.
        if !self.is_draining {
            self.stop_accepting(now);
        }
    }

    /// Why the broker ends calls because it leaves.
    fn leaving(&self, now: Instant) -> &'static str {
        match self.drains_until {
            _ if self.is_closed => "the broker was closed",
            Some(until) if until <= now => "the broker's drain timeout has passed",
            _ => "the broker drains",
        }
    }

    fn stop_accepting(&mut self, now: Instant) {
        self.is_draining = true;
        self.offers.stop();
        self.links.meet_expectations(now);
        self.links.peers().into_iter().for_each(|peer| self.links.send(now, peer, Message::Drain));
    }

    /// After the last call, says goodbye to each client that has received everything; `false` if there is none.
    pub(super) fn say_goodbye(&mut self, now: Instant) -> bool {
        if !self.is_draining || !self.origins.is_empty() {
            return false;
        }
        self.links.close(now);
        let is_done = |peer: &Peer| self.links.outflow(*peer).is_some_and(Outflow::is_empty);
        let done: Vec<_> = self.links.up().filter(is_done).collect();
        done.iter().for_each(|peer| self.links.say_goodbye(now, *peer));
        !done.is_empty() || self.links.has_events()
    }

    /// Whether every client has received a goodbye.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.is_draining && self.origins.is_empty() && self.links.up().next().is_none()
    }

    /// The registered clients, with each one's incarnation.
    pub(super) fn clients(&self) -> impl ExactSizeIterator<Item = (Peer, Uuid)> {
        self.clients.iter().map(|(peer, client)| (*peer, client.incarnation))
    }

    /// Requests received so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn open_calls(&self) -> usize {
        self.origins.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        let has_timer = self.offers.poll_timeout().is_some();
        self.clients.is_empty() && self.origins.is_empty() && self.links.is_empty() && !has_timer
    }

    fn handle_ready(
        &mut self,
        now: Instant,
        dispatcher: &mut Dispatcher,
        from: Peer,
        ready: &Ready,
    ) -> Option<BrokerOutput> {
        if self.is_draining && !self.clients.contains_key(&from) {
            self.links.reject(now, from, "the broker is closing".to_owned());
            return None;
        }
        self.links.accept(now, from, ready);
        // A client that repeats itself gets what others have, until the next announcement.
        let is_repeated = self.clients.contains_key(&from);
        if !self.is_draining && (!is_repeated || !self.offers.is_paused(now)) {
            self.offers.include(now, dispatcher, &mut self.links);
        }
        let incarnation = ready.incarnation;
        let client = || Client { incarnation, requests: BTreeMap::new(), unstarted: BTreeSet::new(), is_behind: false };
        self.clients.entry(from).or_insert_with(client);
        // Its window may have grown.
        self.follow_reader(now, dispatcher, from);
        Some(BrokerOutput::ClientJoined(from))
    }

    fn handle_request(&mut self, now: Instant, dispatcher: &mut Dispatcher, request: Request, receipt: Receipt) {
        let (from, call) = (receipt.from, request.call);
        if self.is_overrun(from) {
            return self.let_go(now, from);
        }
        let Some(client) = self.clients.get(&from) else { return };
        // An answer would end the open call with this id.
        if client.requests.contains_key(&call) {
            self.links.release(now, receipt);
            return self.links.drop_unexpected(from, "a request of an open call");
        }
        self.requests += 1;
        let (bytes, held_bytes) = (receipt.bytes, receipt.bytes + request.metadata.overhead_bytes());
        let may_wait = !request.fail_fast;
        if let Err(refusal) = self.admit(now, from, client, &request, held_bytes) {
            self.links.release(now, receipt);
            return self.refuse(now, from, call, refusal);
        }
        self.links.hold_request(from, held_bytes);
        self.last_call += 1;
        let id = CallId(self.last_call);
        if let Some(client) = self.clients.get_mut(&from) {
            client.requests.insert(call, id);
        }
        self.origins.insert(id, Origin { client: from, call, bytes, held_bytes, is_released: false, partials: 0 });
        if !dispatcher.add(id, spec_of(now, from, request)) {
            return self.note_forwarded(now, id);
        }
        match self.clients.get_mut(&from).filter(|client| client.is_behind && may_wait) {
            Some(client) => drop(client.unstarted.insert(id)),
            None => self.start(now, dispatcher, id),
        }
    }

    fn start(&mut self, now: Instant, dispatcher: &mut Dispatcher, id: CallId) {
        dispatcher.start(now, id);
        if !dispatcher.is_waiting(id) {
            self.note_forwarded(now, id);
        }
    }

    /// Stops the client's waiting calls once a part of its limit is held back for it, and starts them when half of that is
    /// left. Their replies would be held as well, and the running ones need the rest of the limit for theirs.
    fn follow_reader(&mut self, now: Instant, dispatcher: &mut Dispatcher, peer: Peer) {
        let kept = self.links.outflow(peer).map_or(0, Outflow::kept_bytes);
        let most = self.links.hold_limits().peer_bytes_max / BEHIND_PART;
        let Some(client) = self.clients.get_mut(&peer) else { return };
        if !client.is_behind && kept > most && !planted(Fault::StartedUnread) {
            client.is_behind = true;
            let waiting = client.requests.values().copied().filter(|id| dispatcher.stop(*id));
            client.unstarted.extend(waiting);
        } else if client.is_behind && kept <= most / 2 {
            client.is_behind = false;
            for id in std::mem::take(&mut client.unstarted) {
                self.start(now, dispatcher, id);
            }
        }
    }

    fn admit(
        &self,
        now: Instant,
        from: Peer,
        client: &Client,
        request: &Request,
        held_bytes: u64,
    ) -> Result<(), Refusal> {
        let held_ends = self.links.outflow(from).map_or(0, Outflow::held_ends);
        if self.is_draining {
            return Err((ErrorCode::Refused, self.leaving(now).to_owned()));
        }
        if client.requests.len() + held_ends >= self.credits as usize {
            let credits = self.credits;
            let detail =
                format!("the broker accepts {credits} requests of a client at once; raise its `client_credits`");
            return Err((ErrorCode::Overloaded, detail));
        }
        if request.remaining.is_zero() {
            return Err((ErrorCode::DeadlineExceeded, String::new()));
        }
        if request.fail_fast && self.links.is_unread(from) {
            let max = self.links.hold_limits().peer_bytes_max;
            let detail = format!(
                "more than {max} bytes of replies are held back until the client reads them; raise the broker's \
                 `peer_bytes_max`"
            );
            return Err((ErrorCode::Overloaded, detail));
        }
        match self.links.refusal(from, held_bytes, "broker") {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    fn handle_cancel(&mut self, now: Instant, dispatcher: &mut Dispatcher, from: Peer, call: CallId) {
        // A cancel that crosses the final reply finds nothing, which is fine.
        let Some(id) = self.clients.get(&from).and_then(|client| client.requests.get(&call)).copied() else { return };
        let maybe_executed = dispatcher.maybe_executed(id);
        dispatcher.cancel(now, id);
        if let Some(origin) = self.remove_origin(now, id) {
            let error = ErrorReply {
                partials: origin.partials,
                maybe_executed,
                ..ErrorReply::not_started(call, ErrorCode::Cancelled, String::new())
            };
            self.links.send(now, from, Message::Error(error));
        }
    }

    /// Passes a reply on, and acknowledges it to its worker once there is room for another.
    fn pass_on(&mut self, now: Instant, dispatcher: &mut Dispatcher, to: Peer, message: Message, receipt: Receipt) {
        let receipt = self.links.pass_on(now, to, message, receipt);
        dispatcher.release(now, receipt);
        self.follow_reader(now, dispatcher, to);
    }

    fn remove_origin(&mut self, now: Instant, id: CallId) -> Option<Origin> {
        self.release_request(now, id);
        let origin = self.origins.remove(&id)?;
        self.links.forget_request(origin.client, origin.held_bytes);
        if let Some(client) = self.clients.get_mut(&origin.client)
            && !planted(Fault::ClientCreditLost)
        {
            client.requests.remove(&origin.call);
            client.unstarted.remove(&id);
        }
        Some(origin)
    }

    /// Answers a request that is not passed on, unless its client takes no answer.
    fn refuse(&mut self, now: Instant, to: Peer, call: CallId, (code, detail): Refusal) {
        if self.is_overrun(to) {
            return self.let_go(now, to);
        }
        self.links.send(now, to, Message::Error(ErrorReply::not_started(call, code, detail)));
    }

    /// Disconnects a client that keeps sending requests without reading replies: its queue would grow for ever.
    fn let_go(&mut self, now: Instant, from: Peer) {
        self.links.drop_unexpected(from, "a client that sends requests and reads no replies");
        self.links.hang_up(now, from, Departure::Disconnected);
    }

    fn is_overrun(&self, peer: Peer) -> bool {
        let peer_bytes_max = self.links.hold_limits().peer_bytes_max;
        self.links.outflow(peer).is_some_and(|outflow| outflow.is_overrun(self.credits, peer_bytes_max))
    }

    /// Whether a reply of that size is not kept for a client that takes none.
    fn is_refused(&self, now: Instant, client: Peer, size: usize) -> bool {
        size > SMALL_PAYLOAD_BYTES && self.links.is_hoarding(now, client)
    }

    /// Acknowledges a request to its client, once.
    fn release_request(&mut self, now: Instant, id: CallId) {
        let Some(origin) = self.origins.get_mut(&id).filter(|origin| !origin.is_released) else { return };
        origin.is_released = true;
        let receipt = Receipt { from: origin.client, bytes: origin.bytes };
        self.links.release(now, receipt);
    }

    fn remove_client(
        &mut self,
        now: Instant,
        dispatcher: &mut Dispatcher,
        peer: Peer,
        departure: Departure,
    ) -> Option<BrokerOutput> {
        let client = self.clients.remove(&peer)?;
        for id in client.requests.into_values() {
            self.origins.remove(&id);
            if !planted(Fault::VanishedClientServed) {
                dispatcher.cancel(now, id);
            }
        }
        Some(BrokerOutput::ClientLeft(peer, departure))
    }
}

/// The part of a client's limit from which on none of its calls starts. What is left is for the replies of those that run:
/// with the default, 48 KiB for each of 1,000.
const BEHIND_PART: u64 = 4;

fn too_large(call: CallId, partials: u32, detail: String) -> ErrorReply {
    ErrorReply { partials, maybe_executed: true, ..ErrorReply::not_started(call, ErrorCode::TooLarge, detail) }
}

/// What a worker learns that has connected here.
const PLACE: &str = "the frontend of a broker; workers connect to its backend, the second endpoint";

/// The broker's introduction to clients, before any worker has an offer.
fn introduction(config: &DispatcherConfig, credits: u32) -> Ready {
    Ready {
        role: Role::Dispatcher,
        incarnation: config.incarnation,
        capabilities: Capabilities::BATCH,
        interval: config.heartbeats.interval,
        payload_bytes_max: config.limits.payload_bytes_max as u64,
        credits,
        window_bytes: config.window_bytes,
        codecs: Codec::ALL.to_vec(),
        services: Vec::new(),
    }
}
