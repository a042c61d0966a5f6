//! Connections to processes that keep to no rule: what the honest side must still do.

use std::time::Instant;

use xero::proto::{
    frame::Malformed,
    message::{CallId, Capabilities, Message, Role},
};

use super::{
    records::{counted_bytes, needs_room, own_count},
    *,
};
use crate::process::Process;

impl Ledger {
    /// Notes a message that cannot be read; only hostile processes write such.
    pub(crate) fn unreadable(&mut self, wire: Wire, to: Side, now: Instant, malformed: &Malformed) {
        let record = &mut self.wires[wire];
        if !record.is_hostile {
            return self.blame(format!("a message could not be read: {malformed}"));
        }
        (record.sides[to as usize].heard_at, record.sides[to as usize].excused_until) = (now, None);
        record.flows[to as usize].taken += malformed.window_bytes;
        if malformed.breaks_batch() {
            record.complaint = Some("bears a broken BATCH");
        }
        if malformed.hides_offer() && record.sides[to as usize].is_registered {
            record.complaint = Some("bears an offer that it cannot read");
        }
    }

    /// Notes what the honest side has read.
    pub(super) fn heard_from_hostile(
        &mut self,
        wire: Wire,
        to: Side,
        now: Instant,
        message: &Message,
        processes: &[Process],
    ) {
        let record = &mut self.wires[wire];
        let expected = match (to, record.caller) {
            (Side::Dialer, _) => Role::Dispatcher,
            (Side::Listener, Side::Listener) => Role::Worker,
            (Side::Listener, Side::Dialer) => Role::Client,
        };
        let interval = record.sides[to.other() as usize].interval;
        let side = &mut record.sides[to as usize];
        (side.heard_at, side.excused_until) = (now, None);
        let flow = &mut record.flows[to as usize];
        let window = processes[side.life.0].setup.window_bytes;
        let is_full = window > 0 && flow.unacknowledged() >= window;
        if side.has_heard_ready && is_full && needs_room(message, false) {
            flow.excess_at = Some(flow.confirmed);
        }
        flow.taken += match message {
            // It turns nobody away, so this counts like any other error.
            Message::Error(_) if side.has_heard_ready => own_count(message),
            _ => counted_bytes(message, !side.has_heard_ready),
        };
        match message {
            // Nobody believes an introduction of another role.
            Message::Ready(ready) if ready.role == expected => {
                side.expiry = interval * side.liveness;
                side.may_batch = ready.capabilities.contains(Capabilities::BATCH);
                side.may_offer = ready.capabilities.contains(Capabilities::OFFERS);
                side.has_heard_ready = true;
                side.is_registered |= side.is_introduced;
                let flow = &mut record.flows[to.other() as usize];
                (flow.window, flow.resized_at) = (ready.window_bytes, Some(now));
            }
            Message::Ack(bytes) => {
                let flow = &mut record.flows[to.other() as usize];
                // Who acknowledges what is not sent yet has a window that nobody else can know.
                flow.lies |= *bytes > flow.sent;
                flow.acknowledged = (*bytes).clamp(flow.acknowledged, flow.sent);
            }
            Message::Patience(time) => side.excused_until = now.checked_add(*time),
            Message::Goodbye => side.has_heard_goodbye = true,
            _ => {}
        }
    }

    /// Checks that a hostile process gets no more than the window that it grants.
    pub(super) fn judge_towards_hostile(
        &self,
        wire: Wire,
        from: Side,
        now: Instant,
        message: &Message,
    ) -> Result<(), &'static str> {
        let record = &self.wires[wire];
        let flow = record.flow_to(from.other());
        // The window may have been another one earlier in this turn.
        let is_full = flow.is_full() && !flow.lies && flow.resized_at != Some(now);
        let is_first = !record.sides[from as usize].is_introduced;
        let is_turning_away = matches!(message, Message::Error(error) if error.call == CallId(0));
        match message {
            _ if needs_room(message, is_first) && is_full && !is_turning_away => {
                Err("there is no room for it in the window")
            }
            // It may have read OFFER earlier in this turn.
            Message::Offer(_) if flow.resized_at != Some(now) => record.judge_offer(from),
            _ => Ok(()),
        }
    }

    /// Checks that several messages go together only to one who reads them so.
    pub(crate) fn sent_together(&mut self, wire: Wire, from: Side, count: usize) {
        if count > 1 && !self.wires[wire].sides[from as usize].may_batch {
            self.wires[wire].complaint = Some("sends a BATCH to one who does not read it");
        }
    }

    /// Checks that the honest side bears no more than it has allowed, and ends what it must.
    pub(super) fn check_hostile(&self, pid: Pid, process: &Process, wire: Wire) -> Result<(), String> {
        let record = &self.wires[wire];
        let side = record.side_of(pid);
        // After its goodbye, a side hears no introduction any more.
        if side.has_given_up || side.has_said_goodbye || !side.stands {
            return Ok(());
        }
        if let Some(why) = record.complaint {
            return Err(format!("{why} on connection {wire}"));
        }
        let flow = record.flow_to(record.side_index(pid));
        let says_all = !process.is_deaf && process.withheld.is_empty();
        // If nothing has been acknowledged since, it was in excess for the machine, too.
        match says_all && flow.excess_at == Some(flow.confirmed) {
            true => Err(format!("bears more than its window on connection {wire}: {flow:?}")),
            false => Ok(()),
        }
    }
}
