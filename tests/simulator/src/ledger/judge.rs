//! What a side may send, and why.

use std::time::Instant;

use xero::proto::message::{CallId, ErrorCode, Message, Request};

use super::{
    offers::Offer,
    records::{Attempt, RequestRecord, needs_room},
    *,
};
use crate::work::Work;

impl Ledger {
    pub(super) fn judge_sent(
        &self,
        wire: Wire,
        from: Side,
        now: Instant,
        message: &Message,
    ) -> Result<(), &'static str> {
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
            Message::Offer(_) => record.judge_offer(from),
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
        // Messages from the turn in which the newer connection was introduced may still leave.
        let is_newer = |at: Instant| at > side.heard_at && at < now;
        let newer = self.newer(wire).map(|other| self.wires[other].side_of(side.life.0));
        // One that was turned away, for want of room, leaves the older one in use.
        if newer.filter(|newer| newer.is_known()).any(|newer| newer.met_at.is_some_and(is_newer)) {
            return Err("its worker has left this connection behind");
        }
        if record.requests.len() >= record.credits as usize {
            return Err("there is no credit for it");
        }
        let offer = &record.offer;
        match (offer.reads(request.payload.codec), offer.takes(request.payload.bytes.len() as u64)) {
            (false, _) => Err("the other side does not read its codec"),
            (_, false) => Err("it is larger than the other side takes"),
            _ => self.judge_attempt(side.life, offer, now, request),
        }
    }

    /// Checks that a repeated request has a reason; passed time is none.
    fn judge_attempt(&self, life: Life, offer: &Offer, now: Instant, request: &Request) -> Result<(), &'static str> {
        let attempts = self.attempts.get(&(life, request.call)).map(Vec::as_slice).unwrap_or_default();
        let work = Work::read(&request.payload).ok_or("nobody has made this call")?;
        if work.tag.is_hostile() {
            return Ok(());
        }
        let call = self.calls.get(&work.tag).ok_or("nobody has made this call")?;
        if request.idempotent && !call.plan.idempotent.unwrap_or(offer.declared(now, &call.plan)) {
            return Err("neither its caller nor its worker lets it run twice");
        }
        let relies = |request: &RequestRecord| request.tag == work.tag && request.is_delivered && request.must_declare;
        let mut asked = self.wires.iter().filter(|record| record.callee() == life);
        if asked.any(|record| record.requests.values().any(relies)) && !offer.declared(now, &call.plan) {
            return Err("its client relies on a declaration that this worker does not make");
        }
        match attempts.last() {
            Some(last) if !self.is_over(last) => Err("its last attempt has not failed"),
            Some(_) if !self.may_run_again(request, attempts) => Err("it may have run, and is not idempotent"),
            _ => Ok(()),
        }
    }

    /// Whether every attempt that may have run was one that may run twice, as this one is.
    fn may_run_again(&self, request: &Request, attempts: &[Attempt]) -> bool {
        let mut ran = attempts.iter().filter(|attempt| self.may_have_run(attempt));
        ran.all(|attempt| attempt.idempotent && request.idempotent)
    }

    /// Whether its sender has reason to believe that the attempt is over.
    pub(super) fn is_over(&self, attempt: &Attempt) -> bool {
        let side = &self.wires[attempt.wire].sides[attempt.side as usize];
        let is_refused = attempt.answer.is_some_and(|(code, _)| {
            use ErrorCode::{NoWorker, Overloaded, Refused, UnknownMethod, WorkerLost};
            matches!(code, NoWorker | Overloaded | Refused | UnknownMethod | WorkerLost)
        });
        attempt.is_unsent || is_refused || !side.stands || side.has_given_up
    }

    fn may_have_run(&self, attempt: &Attempt) -> bool {
        let side = &self.wires[attempt.wire].sides[attempt.side as usize];
        let is_refused = attempt.answer.is_some_and(|(_, maybe_executed)| !maybe_executed);
        let is_drained = side.has_heard_drain && side.has_heard_goodbye;
        !(attempt.is_unsent || is_refused || is_drained)
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
