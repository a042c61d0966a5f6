//! The invariants after each turn of a process, once it has sent everything it wants.

use std::time::Instant;

use xero::proto::{broker::Door, hold::HoldLimits, worker::Start};

use super::{
    records::{RequestRecord, SideRecord},
    *,
};
use crate::{process::Process, scenario::Role, work::Work};

impl Ledger {
    pub(crate) fn check(&mut self, now: Instant, pid: Pid, processes: &[Process]) {
        let process = &processes[pid];
        self.sweep(pid);
        self.note_burdens(now, pid, process);
        let found = self.check_memory(now, pid, process).and_then(|()| self.check_transit(now, pid, process));
        let found = found.and_then(|()| self.check_starts(pid, process));
        let found = found.and_then(|()| self.check_suspects(pid)).and_then(|()| self.check_queue(pid, process));
        let found = found.and_then(|()| self.check_leave(now, pid, process));
        let found = found.and_then(|()| self.check_wires(now, pid, process));
        let found = found.and_then(|()| self.check_credits(process));
        let found = found.and_then(|()| match process.setup.role {
            Role::Worker => self.check_executions(pid, process),
            _ => self
                .check_cancels(pid, process)
                .and_then(|()| self.check_unrouted(now, pid, processes))
                .and_then(|()| self.check_haste(pid)),
        });
        if let Err(what) = found {
            self.blame(format!("{process} {what}"));
        }
    }

    /// Checks a worker's start: it has received the request, and does not exceed its announced credits.
    pub(crate) fn started(&mut self, pid: Pid, process: &Process, start: &Start) {
        if process.jobs.len() > process.setup.credits as usize {
            self.blame(format!("{process} runs more than its {} credits at once", process.setup.credits));
        }
        let is_meant = |request: &RequestRecord| request.is_delivered && !request.is_answered && !request.is_started;
        for wire in process.sockets.values() {
            let record = &mut self.wires[*wire];
            let stands = record.side_of(pid).stands;
            if let Some(request) = record.requests.get_mut(&start.request.call).filter(|r| stands && is_meant(r)) {
                request.is_started = true;
                self.started_for.insert(*wire);
                return;
            }
        }
        let work = Work::read(&start.request.payload);
        if !work.is_some_and(|work| work.tag.is_hostile()) {
            self.blame(format!("{process} starts {}, which nobody waits for", start.request.call));
        }
    }

    fn check_leave(&self, now: Instant, pid: Pid, process: &Process) -> Result<(), String> {
        match self.leaving.get(&pid) {
            // A worker with large replies waits until they are read; it knows how long they take.
            Some(leave) if now > leave.gone_by && process.setup.role != Role::Worker && !process.is_late => {
                Err(format!("takes too long to leave, since {:?}", now - leave.cut_at))
            }
            _ => Ok(()),
        }
    }

    fn check_wires(&self, now: Instant, pid: Pid, process: &Process) -> Result<(), String> {
        for wire in process.sockets.values() {
            let side = self.wires[*wire].side_of(pid);
            if let Some(at) =
                side.accepted_at.filter(|_| !side.has_heard_ready && !side.has_given_up && !process.is_late)
                && now > at + INTRODUCTION_EXPIRIES * (side.interval * side.liveness) + TICK
            {
                return Err(format!("keeps connection {wire}, which has not introduced itself: {side:?}"));
            }
            self.check_hostile(pid, process, *wire)?;
            self.check_pace(*wire)?;
            if side.has_given_up || side.has_said_goodbye || side.has_heard_goodbye {
                continue;
            }
            if side.is_registered && now > side.sent_at + side.interval + TICK {
                return Err(format!("has not been heard for more than an interval on connection {wire}"));
            }
            self.check_acknowledged(pid, process, *wire)?;
            let dials = self.wires[*wire].side_index(pid) == Side::Dialer;
            if (side.is_registered || dials) && !process.is_late && now > side.expires_at() + TICK {
                return Err(format!("still believes in connection {wire}, which is silent: {side:?}"));
            }
        }
        Ok(())
    }

    /// Checks that the receiver of a window acknowledges. Requests that wait at a broker are not acknowledged.
    fn check_acknowledged(&self, pid: Pid, process: &Process, wire: Wire) -> Result<(), String> {
        // A deaf process acknowledges nothing; one that keeps something, or has something on its way, may be at its limit.
        let is_on_its_way = |wire: &Wire| {
            let record = &self.wires[*wire];
            record.flow_to(record.side_index(pid).other()).in_transit() > 0
        };
        let is_limited = process.setup.hold_limits != HoldLimits::default();
        let is_excused = is_limited && (self.keeps_anything(pid) || process.sockets.values().any(is_on_its_way));
        if process.is_deaf || is_excused || self.wires[wire].is_hostile {
            return Ok(());
        }
        let record = &self.wires[wire];
        let flow = record.flow_to(record.side_index(pid));
        let waiting = self.unrouted.get(&pid).into_iter().flatten().filter_map(|entry| match entry {
            Unrouted::Request(from, call) if *from == wire => record.requests.get(call),
            _ => None,
        });
        let waiting = waiting.chain(record.requests.values().filter(|request| request.may_wait));
        match flow.owes_acknowledgement(process.setup.window_bytes, waiting.map(|request| request.bytes).sum()) {
            true => Err(format!("has not acknowledged what it has taken on connection {wire}: {flow:?}")),
            false => Ok(()),
        }
    }

    /// Checks that the requests a machine believes in flight are those sent and not ended.
    fn check_credits(&self, process: &Process) -> Result<(), String> {
        for (socket, in_flight) in process.machine.in_flight(process.setup.role) {
            let Some(wire) = process.sockets.get(&socket) else {
                return Err(format!("still has {socket:?}, whose connection is gone"));
            };
            let sent = self.wires[*wire].requests.len();
            if self.wires[*wire].is_hostile {
                continue;
            }
            if in_flight != sent {
                return Err(format!("believes {in_flight} requests in flight on connection {wire}, and {sent} are"));
            }
        }
        Ok(())
    }

    /// Checks that every running execution has a caller, or was asked to stop, and that all others are started.
    fn check_executions(&self, pid: Pid, process: &Process) -> Result<(), String> {
        let wires = || process.sockets.values().map(|wire| &self.wires[*wire]).filter(|wire| is_up(wire.side_of(pid)));
        for (execution, job) in process.jobs.iter().filter(|(_, job)| !job.is_aborted && !job.work.tag.is_hostile()) {
            let request = wires().find_map(|wire| wire.requests.get(&job.call));
            let is_wanted = request.is_some_and(|request| !request.is_stopped && !request.is_answered);
            if !is_wanted {
                return Err(format!("lets execution {} run on, which nobody waits for", execution.0));
            }
        }
        let has_room = process.jobs.len() < process.setup.credits as usize;
        let is_waiting = |request: &RequestRecord| request.is_delivered && !request.is_answered && !request.is_started;
        // An ended execution may wait for its caller to take earlier replies, and keeps its credit.
        let has_room = has_room && !wires().any(|wire| wire.flow_to(wire.caller).is_full());
        match has_room && wires().any(|wire| wire.requests.values().any(is_waiting)) {
            true => Err("lets a request wait while it has room for it".to_owned()),
            false => Ok(()),
        }
    }

    /// Checks that every call without a caller was cancelled.
    fn check_cancels(&self, pid: Pid, process: &Process) -> Result<(), String> {
        let life = (pid, process.incarnation);
        for (wire, record) in process.sockets.values().map(|wire| (wire, &self.wires[*wire])) {
            let side = record.side_of(pid);
            if record.caller != record.side_index(pid) || !is_up(side) || record.is_hostile {
                continue;
            }
            for (id, request) in
                record.requests.iter().filter(|(_, request)| !request.is_cancelled && !request.tag.is_hostile())
            {
                let is_wanted = match process.setup.role {
                    Role::Broker => self.is_asked_for(pid, process, request.tag),
                    _ => self.is_open_at(request.tag, life),
                };
                if !is_wanted {
                    return Err(format!("has not cancelled {id} on connection {wire}, which nobody waits for"));
                }
            }
        }
        Ok(())
    }

    /// Whether a client still waits for this call at a broker.
    fn is_asked_for(&self, pid: Pid, process: &Process, tag: Tag) -> bool {
        let front = process.sockets.iter().filter(|((door, _), _)| *door == Door::Front);
        let mut records = front.map(|(_, wire)| &self.wires[*wire]).filter(|wire| !wire.side_of(pid).has_given_up);
        records.any(|wire| {
            let is_wanted = |request: &RequestRecord| {
                request.tag == tag && request.is_delivered && !request.is_answered && !request.is_stopped
            };
            wire.requests.values().any(is_wanted)
        })
    }

    /// Checks that no more calls wait than allowed, unless a connection that took nothing has returned some.
    fn check_queue(&mut self, pid: Pid, process: &Process) -> Result<(), String> {
        let (waiting, max) = (self.waiting_of(pid), process.setup.waiting_max);
        if waiting <= max {
            self.shaken.remove(&pid);
        }
        match waiting > max && process.setup.role.is_client() && !self.shaken.contains(&pid) {
            true => Err(format!("lets {waiting} calls wait, which are more than {max}")),
            false => Ok(()),
        }
    }
}

/// How many of its own expiries a listener waits for an introduction.
const INTRODUCTION_EXPIRIES: u32 = 10;

pub(super) fn is_up(side: &SideRecord) -> bool {
    side.is_registered && side.stands && !side.has_given_up && !side.has_said_goodbye && !side.has_heard_goodbye
}
