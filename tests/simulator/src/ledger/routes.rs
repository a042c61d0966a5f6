//! Calls that wait: each has somebody who can take it, and nobody who could take it now.

use std::time::{Duration, Instant};

use super::{offers::OFFERS_PAUSE, records::WireRecord, rest::is_up, *};
use crate::{
    process::Process,
    scenario::{CallPlan, Role},
};

impl Ledger {
    /// Checks that no call waits while there is a credit for it, or while nobody can ever take it.
    pub(super) fn check_unrouted(&self, now: Instant, pid: Pid, processes: &[Process]) -> Result<(), String> {
        let Some(unrouted) = self.unrouted.get(&pid).filter(|unrouted| !unrouted.is_empty()) else { return Ok(()) };
        let process = &processes[pid];
        // Expired calls end first, in several passes.
        if process.machine.poll_timeout().is_some_and(|at| at <= now) {
            return Ok(());
        }
        for entry in unrouted {
            let (tag, must_declare, is_stuck) = match entry {
                Unrouted::Call(tag) => (*tag, false, false),
                Unrouted::Request(wire, call) => {
                    let record = &self.wires[*wire];
                    // A goodbye answers the requests that cross it.
                    let request = record.requests.get(call).filter(|_| is_up(record.side_of(pid)));
                    let Some(request) = request.filter(|_| !self.is_unread(pid, process, *wire)) else { continue };
                    (request.tag, request.must_declare, record.flow_to(record.caller).is_full())
                }
            };
            let Some(call) = self.calls.get(&tag) else { continue };
            let grade = |wire: Wire| self.wires[wire].offer.grade(&call.plan, must_declare);
            let best = self.serving(pid, process).filter_map(grade).max();
            let has_room =
                |wire: &Wire| best.is_some() && grade(*wire) == best && self.has_room(pid, *wire, &call.plan);
            let is_large = best.is_some_and(|(_, max)| call.plan.work.payload_bytes() > max);
            let is_choosy = is_stuck || is_large || process.setup.whim.may_refuse();
            // Its error waits until the client has room for the offer without its service, and for the end of a pause.
            let is_hopeless = is_large || best.is_none() && self.is_hopeless(pid, process, &call.plan);
            let is_hopeless = is_hopeless && !is_stuck;
            let pause = if process.setup.role == Role::Broker { OFFERS_PAUSE } else { Duration::ZERO };
            match self.hopeless_since(now, pid, *entry, is_hopeless) {
                Some(since) if now >= since + pause && !is_stuck => {
                    return Err(format!("lets call {} wait for nobody", tag.0));
                }
                Some(_) => continue,
                None => {}
            }
            let free = self.serving(pid, process).find(has_room).filter(|_| !is_choosy);
            // The broker may have ended it in this turn, before the worker came.
            let since = self.unserved_since(now, pid, *entry, free.is_some());
            if let Some(wire) = free.filter(|_| since.is_some_and(|since| now >= since + pause)) {
                return Err(format!("lets call {} wait while connection {wire} has room for it", tag.0));
            }
        }
        Ok(())
    }

    /// When a process has ended a call that nobody could take, if its error is still to come.
    fn hopeless_since(&self, now: Instant, pid: Pid, call: Unrouted, is_hopeless: bool) -> Option<Instant> {
        let mut hopeless = self.hopeless.borrow_mut();
        match is_hopeless {
            true => Some(*hopeless.entry((pid, call)).or_insert(now)),
            false => hopeless.get(&(pid, call)).copied(),
        }
    }

    /// Since when a process lets a call wait that somebody has room for.
    fn unserved_since(&self, now: Instant, pid: Pid, call: Unrouted, is_unserved: bool) -> Option<Instant> {
        let mut unserved = self.unserved.borrow_mut();
        if !is_unserved {
            unserved.remove(&(pid, call));
            return None;
        }
        Some(*unserved.entry((pid, call)).or_insert(now))
    }

    /// Whether a broker may start nothing for a client: it stops at a quarter of the client's limit, until half of that.
    fn is_unread(&self, pid: Pid, process: &Process, wire: Wire) -> bool {
        let record = &self.wires[wire];
        let client = record.sides[record.caller as usize].life.0;
        self.kept_for(pid, client) > process.setup.hold_limits.peer_bytes_max / 8
    }

    /// Checks that a call which must fail fast neither waits nor backs off.
    pub(super) fn check_haste(&self, pid: Pid) -> Result<(), String> {
        let open = self.deadlines.iter().filter_map(|(_, tag)| Some((tag, self.calls.get(tag)?)));
        for (tag, call) in open.filter(|(_, call)| call.client.0 == pid && call.plan.fail_fast) {
            let attempts = self.attempts.get(&(call.client, call.id)).map(Vec::as_slice).unwrap_or_default();
            if attempts.last().is_none_or(|last| self.is_over(last)) {
                return Err(format!("lets call {} wait, which must not: {attempts:?}", tag.0));
            }
        }
        Ok(())
    }

    /// The connections to those that take requests, now or later.
    fn serving<'a>(&'a self, pid: Pid, process: &'a Process) -> impl Iterator<Item = Wire> {
        let is_serving = move |record: &WireRecord| {
            let side = record.side_of(pid);
            let is_caller = record.caller == record.side_index(pid);
            is_caller && is_up(side) && !side.has_heard_drain && record.offer.is_callable()
        };
        process.sockets.values().copied().filter(move |wire| is_serving(&self.wires[*wire]))
    }

    fn has_room(&self, pid: Pid, wire: Wire, plan: &CallPlan) -> bool {
        let record = &self.wires[wire];
        let has_credit = record.requests.len() < record.credits as usize;
        has_credit && record.has_room(plan.work.payload_bytes()) && !self.is_left_behind(pid, wire)
    }

    /// Whether a call that nobody can take must not wait: only a client waits for a new service.
    fn is_hopeless(&self, pid: Pid, process: &Process, plan: &CallPlan) -> bool {
        let is_known = |wire: Wire| self.wires[wire].offer.has_service(plan);
        process.setup.role == Role::Broker || self.serving(pid, process).any(is_known)
    }

    /// Whether the worker of this connection has introduced itself over a newer one: the older one may be dead.
    fn is_left_behind(&self, pid: Pid, wire: Wire) -> bool {
        self.newer(wire).any(|other| self.wires[other].side_of(pid).is_known())
    }

    /// The newer connections between the same two, in their same lives.
    pub(super) fn newer(&self, wire: Wire) -> impl Iterator<Item = Wire> {
        let lives_of = |wire: Wire| self.wires[wire].sides.each_ref().map(|side| side.life);
        (wire + 1..self.wires.len()).filter(move |other| lives_of(*other) == lives_of(wire))
    }
}
