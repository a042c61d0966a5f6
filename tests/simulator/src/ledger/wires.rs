//! The messages on the wire: introductions, requests and answers, credits, and forbidden sequences.

use std::time::Instant;

use xero::proto::message::{CallId, Capabilities, ErrorCode, Message, Ready, Request};

use super::{memory::LARGEST, offers::Offer, records::*, rest::is_up, *};
use crate::{network::Connection, scenario::Role, trace::Brief, work::Work};

impl Ledger {
    pub(crate) fn opened(&mut self, wire: Wire, connection: &Connection, now: [Instant; 2], processes: &[Process]) {
        let side = |side: Side| {
            let end = connection.end(side);
            let heartbeats = processes[end.process].setup.heartbeats;
            SideRecord {
                life: (end.process, end.socket.incarnation),
                stands: true,
                accepted_at: None,
                has_given_up: false,
                is_introduced: false,
                is_registered: false,
                may_batch: false,
                may_offer: false,
                has_heard_ready: false,
                met_at: None,
                has_said_drain: false,
                has_heard_drain: false,
                drain_heard_at: None,
                has_said_goodbye: false,
                has_heard_goodbye: false,
                sent_at: now[side as usize],
                heard_at: now[side as usize],
                excused_until: None,
                interval: heartbeats.interval,
                liveness: heartbeats.liveness,
                expiry: heartbeats.expiry(heartbeats.interval),
            }
        };
        let is_workers = processes[connection.end(Side::Dialer).process].setup.role == Role::Worker;
        let record = WireRecord {
            sides: [side(Side::Dialer), side(Side::Listener)],
            caller: if is_workers { Side::Listener } else { Side::Dialer },
            is_hostile: connection.ends.iter().any(|end| processes[end.process].setup.is_hostile),
            complaint: None,
            announced: Vec::new(),
            gave_back: Vec::new(),
            requests: BTreeMap::new(),
            credits: 0,
            offer: Offer::default(),
            flows: [FlowRecord::default(); 2],
        };
        debug_assert_eq!(wire, self.wires.len());
        self.wires.push(record);
    }

    pub(crate) fn sent(&mut self, wire: Wire, from: Side, now: Instant, message: &Message, processes: &[Process]) {
        let found = match self.wires[wire].is_hostile {
            true => self.judge_towards_hostile(wire, from, now, message),
            false => self.judge_sent(wire, from, now, message),
        };
        self.note_announcement(wire, from, now, message);
        let who = &processes[self.wires[wire].sides[from as usize].life.0];
        if let Err(what) = found {
            let FlowRecord { window, sent, acknowledged, .. } = self.wires[wire].flow_to(from.other());
            let flow = format_args!("window {window}, {sent} sent, {acknowledged} acknowledged");
            let message = Brief(message);
            self.blame(format!("{who} sends on connection {wire} what it must not: {what}: {message} ({flow})"));
        }
        let record = &mut self.wires[wire];
        let side = &mut record.sides[from as usize];
        side.sent_at = now;
        record.flows[from.other() as usize].sent += counted_bytes(message, !side.is_introduced);
        match message {
            Message::Ack(bytes) => record.flows[from as usize].confirmed = *bytes,
            Message::Ready(_) => {
                side.is_introduced = true;
                side.is_registered |= side.has_heard_ready;
            }
            Message::Drain => side.has_said_drain = true,
            Message::Goodbye => side.has_said_goodbye = true,
            Message::Request(request) => self.note_request(wire, from, request),
            Message::Cancel(call) => {
                record.requests.get_mut(call).into_iter().for_each(|request| request.is_cancelled = true);
            }
            Message::Partial(reply) => {
                record.requests.get_mut(&reply.call).into_iter().for_each(|request| request.partials += 1);
            }
            Message::Final(reply) => self.note_answer(wire, from, reply.call),
            Message::Error(reply) => self.note_answer(wire, from, reply.call),
            _ => {}
        }
    }

    fn note_request(&mut self, wire: Wire, from: Side, request: &Request) {
        let Some(work) = Work::read(&request.payload) else { return };
        let life = self.wires[wire].sides[from as usize].life;
        let idempotent = request.idempotent;
        let attempt = Attempt { wire, side: from, idempotent, is_unsent: false, answer: None };
        let attempts = self.attempts.entry((life, request.call)).or_default();
        attempts.push(attempt);
        // One that a full connection did not take has left the call waiting.
        if attempts.iter().filter(|attempt| !attempt.is_unsent).count() == 1 {
            self.route(life.0, work.tag);
        }
        let record = RequestRecord {
            tag: work.tag,
            bytes: counted_bytes(&Message::Request(request.clone()), false),
            is_delivered: false,
            is_answered: false,
            is_cancelled: false,
            is_stopped: false,
            may_wait: false,
            is_started: false,
            must_declare: request.idempotent && request.as_declared,
            partials: 0,
        };
        self.wires[wire].requests.insert(request.call, record);
    }

    /// Notes that a request was forwarded for the call.
    fn route(&mut self, pid: Pid, tag: Tag) {
        let Some(unrouted) = self.unrouted.get_mut(&pid) else { return };
        let wires = &self.wires;
        let is_of_call = |entry: &Unrouted| match entry {
            Unrouted::Call(other) => *other == tag,
            Unrouted::Request(wire, call) => wires[*wire].requests.get(call).is_none_or(|request| request.tag == tag),
        };
        let routed: Vec<_> = unrouted.extract_if(.., |entry| is_of_call(entry)).collect();
        for entry in &routed {
            if let Unrouted::Request(wire, call) = entry
                && let Some(request) = self.wires[*wire].requests.get_mut(call)
            {
                request.may_wait = routed.len() > 1;
            }
        }
    }

    fn note_answer(&mut self, wire: Wire, from: Side, call: CallId) {
        let pid = self.wires[wire].sides[from as usize].life.0;
        if let Some(request) = self.wires[wire].requests.get_mut(&call) {
            request.is_answered = true;
        }
        self.unroute(pid, wire, call);
    }

    fn unroute(&mut self, pid: Pid, wire: Wire, call: CallId) {
        if let Some(unrouted) = self.unrouted.get_mut(&pid) {
            unrouted.remove(&Unrouted::Request(wire, call));
        }
    }

    pub(crate) fn has_said_goodbye(&self, wire: Wire, side: Side) -> bool {
        self.wires[wire].sides[side as usize].has_said_goodbye
    }

    /// Whether this side knows the other, and neither has said goodbye.
    pub(crate) fn is_up(&self, wire: Wire, side: Side) -> bool {
        is_up(&self.wires[wire].sides[side as usize])
    }

    /// Whether a request is open on it, whose end its sender has not read.
    pub(crate) fn has_requests(&self, wire: Wire) -> bool {
        !self.wires[wire].requests.is_empty()
    }

    /// Notes that the network did not take these messages.
    pub(crate) fn unsent(&mut self, wire: Wire, from: Side, messages: &[Message]) {
        let life = self.wires[wire].sides[from as usize].life;
        let side = &mut self.wires[wire].sides[from as usize];
        side.has_given_up = true;
        for message in messages {
            let Message::Request(request) = message else { continue };
            let idempotent = request.idempotent;
            let attempt = Attempt { wire, side: from, idempotent, is_unsent: true, answer: None };
            self.attempts.entry((life, request.call)).or_default().push(attempt);
        }
    }

    /// Notes that a listener has its end of the connection.
    pub(crate) fn accepted(&mut self, wire: Wire, side: Side, now: Instant) {
        self.wires[wire].sides[side as usize].accepted_at = Some(now);
    }

    pub(crate) fn delivered(&mut self, wire: Wire, to: Side, now: Instant, message: &Message, processes: &[Process]) {
        if self.wires[wire].is_hostile {
            return self.heard_from_hostile(wire, to, now, message, processes);
        }
        let interval = self.wires[wire].sides[to.other() as usize].interval;
        let record = &mut self.wires[wire];
        let side = &mut record.sides[to as usize];
        (side.heard_at, side.excused_until) = (now, None);
        let pid = side.life.0;
        record.flows[to as usize].taken += counted_bytes(message, !side.has_heard_ready);
        match message {
            Message::Ack(bytes) => {
                let flow = &mut record.flows[to.other() as usize];
                flow.acknowledged = *bytes;
                // A few bytes more are no progress.
                let enough = flow.progressed + flow.window.div_ceil(4) + LARGEST;
                if flow.in_transit() == 0 || *bytes >= enough {
                    (flow.progressed, flow.progressed_at) = (*bytes, Some(now));
                }
            }
            Message::Ready(ready) => {
                side.expiry = interval * side.liveness;
                side.may_batch = ready.capabilities.contains(Capabilities::BATCH);
                side.may_offer = ready.capabilities.contains(Capabilities::OFFERS);
                side.has_heard_ready = true;
                side.met_at.get_or_insert(now);
                side.is_registered |= side.is_introduced;
                record.flows[to.other() as usize].window = ready.window_bytes;
                if to == record.caller {
                    note_offer(record, now, ready);
                }
            }
            Message::Offer(change) => record.offer.change(now, change.clone()),
            Message::Patience(time) => side.excused_until = Some(now + *time),
            Message::Drain => {
                side.has_heard_drain = true;
                side.drain_heard_at.get_or_insert(now);
            }
            Message::Goodbye => side.has_heard_goodbye = true,
            Message::Credit(credits) => record.credits = *credits,
            Message::Request(request) => {
                let is_broker = processes[pid].setup.role == Role::Broker;
                record.requests.get_mut(&request.call).into_iter().for_each(|request| request.is_delivered = true);
                if is_broker {
                    self.unrouted.entry(pid).or_default().insert(Unrouted::Request(wire, request.call));
                    self.hopeless.get_mut().remove(&(pid, Unrouted::Request(wire, request.call)));
                    self.unserved.get_mut().remove(&(pid, Unrouted::Request(wire, request.call)));
                }
            }
            Message::Cancel(call) => {
                record.requests.get_mut(call).into_iter().for_each(|request| request.is_stopped = true);
                self.unroute(pid, wire, *call);
            }
            Message::Final(reply) => self.note_end(wire, to, reply.call, None),
            Message::Error(reply) => self.note_end(wire, to, reply.call, Some((reply.code, reply.maybe_executed))),
            _ => {}
        }
    }

    /// Notes that the caller has read the end of a request.
    fn note_end(&mut self, wire: Wire, to: Side, call: CallId, answer: Option<(ErrorCode, bool)>) {
        let record = &mut self.wires[wire];
        record.requests.remove(&call);
        let life = record.sides[to as usize].life;
        let attempts = self.attempts.get_mut(&(life, call)).into_iter().flatten();
        if let Some(attempt) = attempts.rev().find(|attempt| attempt.wire == wire) {
            attempt.answer = answer;
        }
    }

    /// Notes that this side's connection is gone.
    pub(crate) fn ended(&mut self, wire: Wire, side: Side) {
        let record = &mut self.wires[wire];
        record.sides[side as usize].stands = false;
        let pid = record.sides[side as usize].life.0;
        self.shaken.insert(pid);
        if let Some(unrouted) = self.unrouted.get_mut(&pid) {
            unrouted.retain(|entry| !matches!(entry, Unrouted::Request(other, _) if *other == wire));
        }
    }

    /// Checks that a machine has a reason to end a connection.
    pub(crate) fn given_up(&mut self, wire: Wire, side: Side, now: Instant, processes: &[Process]) {
        let record = &mut self.wires[wire];
        let own = &mut record.sides[side as usize];
        own.has_given_up = true;
        let pid = own.life.0;
        self.shaken.insert(pid);
        let is_silent = now >= own.expires_at();
        let silence = now.saturating_duration_since(own.heard_at);
        let is_leaving = self.leaving.contains_key(&pid) || processes[pid].is_leaving;
        let patience = STALL_EXPIRIES * (own.interval * own.liveness);
        let flow = record.flows[side.other() as usize];
        let peer_bytes_max = processes[pid].setup.hold_limits.peer_bytes_max;
        let is_stalled = flow.in_transit() > 0 && flow.progressed_at.is_none_or(|at| now >= at + patience);
        let own = &record.sides[side as usize];
        let has_reason = !own.is_registered || own.has_said_goodbye || own.has_heard_goodbye || is_leaving || is_silent;
        let has_reason = has_reason || is_stalled || flow.is_overrun(peer_bytes_max);
        let is_hostile = record.is_hostile;
        if has_reason || is_hostile {
            return;
        }
        if self.is_crowded(pid, &processes[pid]) {
            self.sheds += 1;
        } else {
            let who = &processes[pid];
            let what = format!("{who} gives up connection {wire}, from which it has heard {silence:?} ago");
            self.blame(what);
        }
    }
}

fn note_offer(record: &mut WireRecord, now: Instant, ready: &Ready) {
    record.credits = ready.credits;
    record.offer.read(now, ready);
}

/// How many expiries of its own a side bears a peer that acknowledges nothing.
const STALL_EXPIRIES: u32 = 10;
