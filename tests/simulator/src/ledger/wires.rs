//! The messages on the wire: introductions, requests and answers, credits, and forbidden sequences.

use std::time::{Duration, Instant};

use xero::proto::{
    frame,
    message::{CallId, ErrorCode, Message, Ready, Request},
};

use super::*;
use crate::{network::Connection, scenario::Role, work::Work};

/// One connection, from both sides.
#[derive(Debug)]
pub(super) struct WireRecord {
    pub(super) sides: [SideRecord; 2],
    /// The side that sends requests.
    pub(super) caller: Side,
    /// Requests whose end the caller has not read.
    pub(super) requests: BTreeMap<CallId, RequestRecord>,
    /// The other side's credits and services, as the caller has read them.
    pub(super) credits: u32,
    pub(super) services: Vec<String>,
    /// The bytes that count in a window, by the receiving side.
    pub(super) flows: [FlowRecord; 2],
}

/// The bytes of requests or replies in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowRecord {
    /// The receiver's announced window, as the sender has read it; 0 for no bound.
    window: u64,
    sent: u64,
    /// The bytes that the receiver has read, has acknowledged, and whose acknowledgement the sender has read.
    taken: u64,
    told: u64,
    acknowledged: u64,
    /// When the sender last read an acknowledgement.
    heard_at: Option<Instant>,
}

/// One side's view of a connection.
#[derive(Debug)]
pub(super) struct SideRecord {
    pub(super) life: Life,
    pub(super) stands: bool,
    pub(super) has_given_up: bool,
    pub(super) is_introduced: bool,
    /// Whether it has introduced itself and read the other's introduction.
    pub(super) is_registered: bool,
    pub(super) has_heard_ready: bool,
    pub(super) has_said_drain: bool,
    pub(super) has_heard_drain: bool,
    drain_heard_at: Option<Instant>,
    pub(super) has_said_goodbye: bool,
    pub(super) has_heard_goodbye: bool,
    pub(super) sent_at: Instant,
    pub(super) heard_at: Instant,
    pub(super) excused_until: Option<Instant>,
    /// How long this side stays silent, and how much silence it tolerates.
    pub(super) interval: Duration,
    liveness: u32,
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
    partials: u32,
}

/// One request of a call, as its sender knows it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    wire: Wire,
    side: Side,
    /// Whether the network did not take it.
    pub(super) is_unsent: bool,
    /// How the other side ended it, as far as the sender has read.
    answer: Option<(ErrorCode, bool)>,
}

impl WireRecord {
    pub(super) fn side_of(&self, pid: Pid) -> &SideRecord {
        &self.sides[usize::from(self.sides[0].life.0 != pid)]
    }

    /// Whether a request with a payload of this size may be sent.
    pub(super) fn has_room(&self, payload_bytes: u64) -> bool {
        payload_bytes <= SMALL_PAYLOAD_BYTES || !self.flow_to(self.caller.other()).is_full()
    }

    /// The bytes that go to a side.
    pub(super) fn flow_to(&self, side: Side) -> FlowRecord {
        self.flows[side as usize]
    }

    pub(super) fn side_index(&self, pid: Pid) -> Side {
        if self.sides[0].life.0 == pid { Side::Dialer } else { Side::Listener }
    }
}

impl Ledger {
    pub(crate) fn opened(&mut self, wire: Wire, connection: &Connection, now: [Instant; 2], processes: &[Process]) {
        let side = |side: Side| {
            let end = &connection.ends[side as usize];
            let heartbeats = processes[end.process].setup.heartbeats;
            SideRecord {
                life: (end.process, end.incarnation),
                stands: true,
                has_given_up: false,
                is_introduced: false,
                is_registered: false,
                has_heard_ready: false,
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
        let is_workers = processes[connection.ends[0].process].setup.role == Role::Worker;
        let record = WireRecord {
            sides: [side(Side::Dialer), side(Side::Listener)],
            caller: if is_workers { Side::Listener } else { Side::Dialer },
            requests: BTreeMap::new(),
            credits: 0,
            services: Vec::new(),
            flows: [FlowRecord::default(); 2],
        };
        debug_assert_eq!(wire, self.wires.len());
        self.wires.push(record);
    }

    pub(crate) fn sent(&mut self, wire: Wire, from: Side, now: Instant, message: &Message, processes: &[Process]) {
        let found = self.judge_sent(wire, from, now, message);
        let who = &processes[self.wires[wire].sides[from as usize].life.0];
        if let Err(what) = found {
            self.blame(format!("{who} sends on connection {wire} what it must not: {what}: {message:?}"));
        }
        let record = &mut self.wires[wire];
        let side = &mut record.sides[from as usize];
        side.sent_at = now;
        record.flows[from.other() as usize].sent += counted_bytes(message, !side.is_introduced);
        match message {
            Message::Ack(bytes) => record.flows[from as usize].told = *bytes,
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

    fn judge_sent(&self, wire: Wire, from: Side, now: Instant, message: &Message) -> Result<(), &'static str> {
        let record = &self.wires[wire];
        let side = &record.sides[from as usize];
        let is_turning_away = matches!(message, Message::Error(error) if error.call == CallId(0));
        if side.has_said_goodbye {
            return Err("nothing follows a goodbye");
        }
        if !side.is_introduced && !matches!(message, Message::Ready(_)) && !is_turning_away {
            return Err("it has not introduced itself");
        }
        let begins = from == Side::Dialer && !side.is_introduced;
        if !side.has_heard_ready && !begins && !is_turning_away {
            return Err("the other side has not introduced itself");
        }
        match message {
            _ if needs_room(message, !side.is_introduced) && record.flow_to(from.other()).is_full() => {
                Err("there is no room for it in the window")
            }
            Message::Request(request) => self.judge_request(wire, from, now, request),
            Message::Cancel(call) => match record.requests.get(call) {
                Some(request) if request.is_cancelled => Err("it has been cancelled already"),
                // The sender may have read its end in the same turn.
                None if !self.attempts.contains_key(&(side.life, *call)) => Err("there is no such request"),
                _ => Ok(()),
            },
            Message::Partial(reply) => match record.requests.get(&reply.call).filter(|r| r.is_delivered) {
                Some(request) if request.is_answered => Err("the request has been answered"),
                Some(request) if request.partials != reply.sequence => Err("it is out of order"),
                Some(_) => Ok(()),
                None => Err("there is no such request"),
            },
            Message::Final(reply) => judge_answer(record.requests.get(&reply.call), reply.partials),
            Message::Error(reply) if !is_turning_away => judge_answer(record.requests.get(&reply.call), reply.partials),
            Message::Goodbye if side.has_said_drain => {
                // Requests that it has not started go elsewhere unharmed.
                let open = |request: &RequestRecord| request.is_started && !request.is_answered;
                match record.requests.values().any(open) {
                    true => Err("it drains, and has not finished what it has"),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn judge_request(&self, wire: Wire, from: Side, now: Instant, request: &Request) -> Result<(), &'static str> {
        let record = &self.wires[wire];
        let side = &record.sides[from as usize];
        if from != record.caller || record.requests.contains_key(&request.call) {
            return Err("nobody takes it");
        }
        // Messages from the turn in which its drain was read may still leave.
        if side.has_heard_drain && side.drain_heard_at.is_some_and(|at| at < now) {
            return Err("the other side drains");
        }
        if record.requests.len() >= record.credits as usize {
            return Err("there is no credit for it");
        }
        self.judge_attempt(side.life, request)
    }

    /// Checks that a repeated request has a reason; passed time is none.
    fn judge_attempt(&self, life: Life, request: &Request) -> Result<(), &'static str> {
        let attempts = self.attempts.get(&(life, request.call)).map(Vec::as_slice).unwrap_or_default();
        let work = Work::read(&request.payload).ok_or("nobody has made this call")?;
        let call = self.calls.get(&work.tag).ok_or("nobody has made this call")?;
        if request.idempotent && !call.plan.is_idempotent() {
            return Err("its caller does not let it run twice");
        }
        match attempts.last() {
            Some(last) if !self.is_over(last) => Err("its last attempt has not failed"),
            Some(_) if !call.plan.is_idempotent() && attempts.iter().any(|attempt| self.may_have_run(attempt)) => {
                Err("it may have run, and is not idempotent")
            }
            _ => Ok(()),
        }
    }

    /// Whether its sender has reason to believe that the attempt is over.
    pub(super) fn is_over(&self, attempt: &Attempt) -> bool {
        let side = &self.wires[attempt.wire].sides[attempt.side as usize];
        let is_refused = matches!(
            attempt.answer,
            Some((ErrorCode::Refused | ErrorCode::Overloaded | ErrorCode::WorkerLost | ErrorCode::NoWorker, _))
        );
        attempt.is_unsent || is_refused || !side.stands || side.has_given_up
    }

    fn may_have_run(&self, attempt: &Attempt) -> bool {
        let side = &self.wires[attempt.wire].sides[attempt.side as usize];
        let is_refused = attempt.answer.is_some_and(|(_, maybe_executed)| !maybe_executed);
        let is_drained = side.has_heard_drain && side.has_heard_goodbye;
        !(attempt.is_unsent || is_refused || is_drained)
    }

    fn note_request(&mut self, wire: Wire, from: Side, request: &Request) {
        let Some(work) = Work::read(&request.payload) else { return };
        let life = self.wires[wire].sides[from as usize].life;
        let attempt = Attempt { wire, side: from, is_unsent: false, answer: None };
        let attempts = self.attempts.entry((life, request.call)).or_default();
        attempts.push(attempt);
        if attempts.len() == 1 {
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
            let attempt = Attempt { wire, side: from, is_unsent: true, answer: None };
            self.attempts.entry((life, request.call)).or_default().push(attempt);
        }
    }

    pub(crate) fn delivered(&mut self, wire: Wire, to: Side, now: Instant, message: &Message, processes: &[Process]) {
        let interval = self.wires[wire].sides[to.other() as usize].interval;
        let record = &mut self.wires[wire];
        let side = &mut record.sides[to as usize];
        (side.heard_at, side.excused_until) = (now, None);
        let pid = side.life.0;
        record.flows[to as usize].taken += counted_bytes(message, !side.has_heard_ready);
        match message {
            Message::Ack(bytes) => {
                let flow = &mut record.flows[to.other() as usize];
                (flow.acknowledged, flow.heard_at) = (*bytes, Some(now));
            }
            Message::Ready(ready) => {
                side.expiry = interval * side.liveness;
                side.has_heard_ready = true;
                side.is_registered |= side.is_introduced;
                record.flows[to.other() as usize].window = ready.window_bytes;
                if to == record.caller {
                    note_offer(record, ready);
                }
            }
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
        self.shaken.insert(own.life.0);
        let is_silent = now >= own.expires_at();
        let is_leaving = self.leaving.contains_key(&own.life.0) || processes[own.life.0].is_leaving;
        let patience = STALL_EXPIRIES * (own.interval * own.liveness);
        let flow = record.flows[side.other() as usize];
        let is_stalled = flow.is_full() && flow.heard_at.is_none_or(|at| now >= at + patience);
        let own = &record.sides[side as usize];
        let has_reason = !own.is_registered || own.has_said_goodbye || own.has_heard_goodbye || is_leaving || is_silent;
        let has_reason = has_reason || is_stalled || flow.is_overrun();
        if !has_reason {
            let (who, silence) = (&processes[own.life.0], now.saturating_duration_since(own.heard_at));
            let what = format!("{who} gives up connection {wire}, from which it has heard {silence:?} ago");
            self.blame(what);
        }
    }
}

impl FlowRecord {
    /// Whether nothing large may follow.
    pub(super) fn is_full(&self) -> bool {
        self.window > 0 && self.sent.saturating_sub(self.acknowledged) >= self.window
    }

    /// The bytes that the receiver has read, and has not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.taken.saturating_sub(self.told)
    }

    /// Whether the receiver reads on, and acknowledges less than two windows are worth.
    fn is_overrun(&self) -> bool {
        self.window > 0 && self.sent.saturating_sub(self.acknowledged) > 2 * self.window
    }

    /// Whether the receiver owes an acknowledgement, because a quarter of its window has arrived since the last one.
    pub(super) fn is_untold(&self, window: u64, waiting: u64) -> bool {
        window > 0 && self.taken.saturating_sub(self.told + waiting) >= window.div_ceil(4)
    }
}

impl SideRecord {
    /// When the other side is dead unless a message arrives.
    pub(super) fn expires_at(&self) -> Instant {
        let expires_at = self.heard_at + self.expiry;
        self.excused_until.map_or(expires_at, |until| expires_at.max(until))
    }
}

fn judge_answer(request: Option<&RequestRecord>, partials: u32) -> Result<(), &'static str> {
    match request.filter(|request| request.is_delivered) {
        Some(request) if request.is_answered => Err("the request has been answered"),
        Some(request) if request.partials != partials => Err("it counts its partial replies wrongly"),
        Some(_) => Ok(()),
        None => Err("there is no such request"),
    }
}

fn note_offer(record: &mut WireRecord, ready: &Ready) {
    record.credits = ready.credits;
    record.services = ready.services.iter().map(|service| service.name.to_string()).collect();
}

/// What a message counts in a window.
fn counted_bytes(message: &Message, is_first_ready: bool) -> u64 {
    match message {
        Message::Ready(_) if is_first_ready => 0,
        // Nobody counts messages to a peer that is turned away.
        Message::Error(error) if error.call == CallId(0) => 0,
        Message::Ready(_) | Message::Request(_) | Message::Partial(_) | Message::Final(_) | Message::Error(_) => {
            // Counted here, and not by the machines' own count: header frame, payload, and 64 bytes.
            frame::batched_bytes(message) as u64 - 8 + 64
        }
        _ => 0,
    }
}

fn needs_room(message: &Message, is_first_ready: bool) -> bool {
    match message {
        Message::Partial(_) => true,
        Message::Ready(_) => !is_first_ready,
        Message::Error(error) => (error.payload.bytes.len() + error.detail.len()) as u64 > SMALL_PAYLOAD_BYTES,
        _ => counted_bytes(message, false) > 0 && message.payload_bytes() as u64 > SMALL_PAYLOAD_BYTES,
    }
}

/// How many expiries of its own a side bears a peer that acknowledges nothing.
const STALL_EXPIRIES: u32 = 10;

/// Payloads up to this size do not wait for a window (`PROTOCOL.md` §9).
const SMALL_PAYLOAD_BYTES: u64 = 4_096;
