//! The faults, and how each is undone.

use std::{sync::atomic::Ordering, time::Duration};

use fastrand::Rng;
use xero::proto::{
    message::{Message, OfferChange, Ready, ServiceOffer},
    outbox::Transmit,
};

use super::{
    network::{End, Event, Side, Wire},
    process::Life,
    scenario::{Action, BreakPlan, Pid, Role, Temper, ms},
    world::World,
};

/// What a renewed offer adds to its versions.
const RENEWED: u32 = 1_000;

/// Longer than any simulation.
const NEVER: Duration = Duration::from_secs(1_000_000);

impl World {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Call(process, plan) => self.call(process, plan),
            Action::Break(one, other, plan) => self.break_between(one, other, plan),
            Action::Block(from, to, time) => self.block(from, to, time),
            Action::Freeze(process, time) => self.freeze(process, time),
            Action::Crash { process, is_silent, restart_after } => self.crash(process, is_silent, restart_after),
            Action::Drain(process, absence) => self.drain(process, absence),
            Action::Close(process, absence) => self.close(process, absence),
            Action::Slow { process, pause, time } => self.slow(process, pause, time),
            Action::EndRuntime(process, absence) => self.end_runtime(process, absence),
            Action::Misbehave(process) => self.misbehave(process),
            Action::Deafen(process, time) => self.deafen(process, time),
            Action::Renew(process) => self.renew(process),
        }
    }

    fn break_between(&mut self, one: Pid, other: Pid, plan: BreakPlan) {
        let connects = |wire: &Wire| self.network[*wire].ends.iter().all(|end| [one, other].contains(&end.process));
        let Some(wire) = self.wires_of(one).into_iter().rfind(connects) else { return };
        self.remark(&format_args!("connection {wire} breaks: {plan:?}"));
        self.break_connection(wire, plan);
    }

    fn block(&mut self, from: Pid, to: Pid, time: Duration) {
        let (one, other) = (&self.processes[from], &self.processes[to]);
        self.remark(&format_args!("nothing gets from {one} to {other} for {time:?}"));
        self.network.block(from, to);
        self.post_after(time, Event::Unblock(from, to));
    }

    pub(super) fn unblock(&mut self, from: Pid, to: Pid) {
        let Some(held) = self.network.unblock(from, to) else { return };
        self.remark(&format_args!("{} can reach {} again", self.processes[from], self.processes[to]));
        held.into_iter().for_each(|parcel| self.arrive(parcel));
    }

    fn freeze(&mut self, pid: Pid, time: Duration) {
        if self.processes[pid].is_running() {
            self.log(pid, &format_args!("is frozen for {time:?}"));
            self.processes[pid].life = Life::Frozen;
            self.post_after(time, Event::Thaw(pid));
        }
    }

    pub(super) fn thaw(&mut self, pid: Pid) {
        if self.processes[pid].life != Life::Frozen {
            return;
        }
        self.log(pid, &"runs again");
        self.processes[pid].life = Life::Running;
        self.ledger.thawed(self.now, pid);
        self.fall_behind(pid);
        self.empty_inbox(pid);
        if self.processes[pid].pause.is_none() {
            self.catch_up(pid);
        }
    }

    /// Lets a process that was held up read what has come one by one, before it looks at its timeouts.
    fn fall_behind(&mut self, pid: Pid) {
        let process = &self.processes[pid];
        let may = self.temper == Temper::Harsh && !self.is_healed && process.pause.is_none();
        if may && process.inbox.len() > 3 && self.network.random.bool() {
            let pause = ms(self.network.random.u64(2..60));
            self.log(pid, &format_args!("is late, and takes {pause:?} to read a message"));
            let process = &mut self.processes[pid];
            (process.is_late, process.pause) = (true, Some(pause));
            self.post_after(pause, Event::Read { process: pid, incarnation: self.processes[pid].incarnation });
        }
    }

    /// Ends lateness once everything is read: what was due meanwhile is due now.
    fn catch_up(&mut self, pid: Pid) {
        if std::mem::take(&mut self.processes[pid].is_late) {
            self.log(pid, &"is late no more");
            self.processes[pid].pause = None;
            self.ledger.thawed(self.now, pid);
            self.touch(pid);
        }
    }

    fn crash(&mut self, pid: Pid, is_silent: bool, restart_after: Duration) {
        if self.processes[pid].life == Life::Dead {
            return;
        }
        self.log(pid, &if is_silent { "is gone, with its machine" } else { "is killed" });
        self.end_process(pid, is_silent, restart_after);
    }

    fn end_process(&mut self, pid: Pid, is_silent: bool, restart_after: Duration) {
        self.ledger.died(pid);
        self.cut_off(pid, is_silent);
        self.processes[pid].die();
        self.post_after(restart_after, Event::Restart(pid));
    }

    pub(super) fn restart(&mut self, pid: Pid) {
        if self.processes[pid].life == Life::Dead {
            self.log(pid, &"starts again");
            self.processes[pid].restart(pid, self.now, &self.is_calm);
            self.touch(pid);
        }
    }

    pub(super) fn drain(&mut self, pid: Pid, absence: Duration) {
        if !self.processes[pid].is_running() || self.processes[pid].has_left {
            return;
        }
        self.log(pid, &"drains");
        let (now, process) = (self.local(pid), &mut self.processes[pid]);
        (process.is_leaving, process.absence) = (true, absence);
        self.ledger.is_leaving(pid, now, &process.setup);
        process.machine.drain(now, process.setup.drain_timeout);
        self.drain_outputs(pid);
        self.touch(pid);
    }

    fn close(&mut self, pid: Pid, absence: Duration) {
        if !self.processes[pid].is_running() || self.processes[pid].has_left {
            return;
        }
        self.log(pid, &"closes");
        let (now, process) = (self.local(pid), &mut self.processes[pid]);
        (process.is_leaving, process.absence) = (true, absence);
        self.ledger.is_leaving(pid, now, &process.setup);
        process.machine.close(now);
        self.drain_outputs(pid);
        self.touch(pid);
    }

    /// Removes a process that has said goodbye to all peers.
    pub(super) fn leave(&mut self, pid: Pid) {
        let process = &self.processes[pid];
        if !process.machine.is_empty() {
            self.ledger.blame(format!("{process} has left, and something is left in it: {:#?}", process.machine));
        }
        self.ledger.left(pid);
        self.log(pid, &"ends");
        let absence = self.processes[pid].absence;
        self.end_process(pid, false, absence);
    }

    fn slow(&mut self, pid: Pid, pause: Duration, time: Duration) {
        let process = &mut self.processes[pid];
        if process.is_running() && process.pause.is_none() && !pause.is_zero() {
            process.pause = Some(pause);
            let incarnation = process.incarnation;
            self.log(pid, &format_args!("takes {pause:?} to read a message for {time:?}"));
            self.post_after(pause, Event::Read { process: pid, incarnation });
            self.post_after(time, Event::Quicken(pid));
        }
    }

    pub(super) fn read_slowly(&mut self, pid: Pid, incarnation: u32) {
        let Some(pause) = self.processes[pid].pause.filter(|_| self.is_alive(pid, incarnation)) else { return };
        self.post_after(pause, Event::Read { process: pid, incarnation });
        if self.processes[pid].life == Life::Frozen {
            return;
        }
        let event = self.processes[pid].inbox.pop_front();
        self.processes[pid].pause = None;
        event.into_iter().for_each(|event| self.handle_again(event));
        self.processes[pid].pause = Some(pause);
        if self.processes[pid].inbox.is_empty() {
            self.catch_up(pid);
        }
    }

    pub(super) fn quicken(&mut self, pid: Pid) {
        if self.processes[pid].pause.take().is_some() && self.processes[pid].life != Life::Frozen {
            self.log(pid, &"reads fast again");
            self.empty_inbox(pid);
            self.catch_up(pid);
        }
    }

    /// Ends all procedures of a worker, which starts no other.
    fn end_runtime(&mut self, pid: Pid, absence: Duration) {
        if !self.processes[pid].is_running() {
            return;
        }
        self.log(pid, &"has no runtime any more");
        self.processes[pid].has_runtime = false;
        for execution in self.processes[pid].jobs.keys().copied().collect::<Vec<_>>() {
            self.stop(pid, execution);
            self.drain_outputs(pid);
        }
        self.drain(pid, absence);
    }

    fn deafen(&mut self, pid: Pid, time: Duration) {
        if self.processes[pid].life != Life::Dead && !self.processes[pid].is_deaf {
            self.log(pid, &format_args!("acknowledges next to nothing for {time:?}"));
            self.processes[pid].is_deaf = true;
            self.post_after(time, Event::Undeafen(pid));
        }
    }

    /// Notes a worker's offer, which it may renew.
    pub(super) fn note_offer(&mut self, wire: Wire, pid: Pid, message: &Message) {
        let process = &mut self.processes[pid];
        match message {
            Message::Ready(ready) if process.setup.role == Role::Worker => {
                process.offers.insert(wire, ready.clone());
            }
            Message::Offer(change) => {
                let change = change.clone();
                process.offers.entry(wire).and_modify(|ready| ready.services = change.apply(&ready.services));
            }
            Message::Credit(credits) => {
                process.offers.entry(wire).and_modify(|ready| ready.credits = *credits);
            }
            _ => {}
        }
    }

    /// Changes what a worker offers, as a program in another language may.
    fn renew(&mut self, pid: Pid) {
        if self.processes[pid].is_running() && !self.processes[pid].is_leaving {
            for wire in self.wires_of(pid) {
                let all = self.processes[pid].setup.services.clone();
                let random = Rng::with_seed(self.network.random.u64(..));
                self.send_offer(pid, wire, |ready| Some(renewed(random, ready, &all)));
            }
        }
    }

    /// Offers again what workers have withdrawn.
    fn restore_offers(&mut self) {
        for pid in 0..self.processes.len() {
            for wire in self.wires_of(pid) {
                let mut changed = self.processes[pid].setup.services.clone();
                self.send_offer(pid, wire, |ready| {
                    changed.retain(|service| ready.services.iter().all(|other| other.name != service.name));
                    let change = OfferChange { changed, withdrawn: Vec::new() };
                    (!change.changed.is_empty()).then_some(Message::Offer(change))
                });
            }
        }
    }

    /// Sends a message about what a worker offers, if it may. Its machine knows nothing of it, so a listener must not
    /// count it in a window.
    fn send_offer(&mut self, pid: Pid, wire: Wire, message: impl FnOnce(Ready) -> Option<Message>) {
        let listener = self.network[wire].end(Side::Listener).process;
        let is_alone = self.wires_of(listener).iter().filter(|other| self.links(**other, pid)).count() == 1;
        let has_window = self.processes[listener].setup.window_bytes > 0;
        let may_speak = self.ledger.is_up(wire, Side::Dialer) && is_alone && !has_window;
        let to = self.network[wire].end(Side::Dialer).socket.peer;
        let ready = self.processes[pid].offers.get(&wire).filter(|_| may_speak).cloned();
        if let Some(message) = ready.and_then(message) {
            self.log(pid, &"changes its offer");
            self.send(wire, Side::Dialer, &Transmit { to, messages: vec![message] });
        }
    }

    fn links(&self, wire: Wire, pid: Pid) -> bool {
        self.network[wire].ends.iter().any(|end| end.process == pid)
    }

    pub(super) fn undeafen(&mut self, pid: Pid) {
        if std::mem::take(&mut self.processes[pid].is_deaf) {
            self.log(pid, &"acknowledges again");
            self.touch(pid);
        }
    }

    /// Withholds a deaf process's acknowledgements: on every second connection it acknowledges a byte each time, and
    /// nothing on the others.
    pub(super) fn withhold(&mut self, pid: Pid, wire: Wire, messages: &mut [Message]) {
        let process = &mut self.processes[pid];
        for message in messages {
            let Message::Ack(bytes) = *message else { continue };
            let last = process.acknowledged.entry(wire).or_default();
            if process.is_deaf {
                process.withheld.insert(wire, bytes);
                let drips = wire.is_multiple_of(2) && *last + 1 < bytes;
                *message = if drips { Message::Ack(*last + 1) } else { Message::Heartbeat };
                *last += u64::from(drips);
            } else {
                *last = bytes;
            }
        }
    }

    /// Acknowledges what was withheld, once the process is not deaf any more.
    pub(super) fn send_withheld(&mut self, pid: Pid) {
        if self.processes[pid].is_deaf {
            return;
        }
        for (wire, bytes) in std::mem::take(&mut self.processes[pid].withheld) {
            let side = self.side_of(wire, pid);
            let End { stands, socket, .. } = *self.network[wire].end(side);
            if stands && !self.ledger.has_said_goodbye(wire, side) {
                self.processes[pid].acknowledged.insert(wire, bytes);
                self.send(wire, side, &Transmit { to: socket.peer, messages: vec![Message::Ack(bytes)] });
            }
        }
    }

    fn empty_inbox(&mut self, pid: Pid) {
        if self.processes[pid].pause.is_none() {
            let inbox = std::mem::take(&mut self.processes[pid].inbox);
            inbox.into_iter().for_each(|event| self.handle_again(event));
        }
        self.touch(pid);
    }

    fn handle_again(&mut self, event: Event) {
        match event {
            Event::Arrive(parcel) => self.take_in(parcel),
            Event::Dial { process, incarnation, slot, address } => {
                self.handle_dial(process, incarnation, slot, address)
            }
            Event::DialFailed { process, incarnation, slot } => self.handle_dial_failed(process, incarnation, slot),
            Event::Job { process, incarnation, execution, step } => self.work(process, incarnation, execution, step),
            _ => {}
        }
    }

    /// Ends all faults, and allows no new ones.
    pub(super) fn heal(&mut self) {
        self.remark(&"everything is well again");
        self.is_healed = true;
        self.is_calm.store(true, Ordering::Relaxed);
        self.repeats_percent = 0;
        let is_over = |event: &Event| matches!(event, Event::Act(_) | Event::Restart(_) | Event::Misbehave(_));
        self.network.queue.retain(|event| !is_over(event));
        self.network.unblock_all().into_iter().for_each(|parcel| self.arrive(parcel));
        for pid in 0..self.processes.len() {
            if self.processes[pid].setup.is_hostile {
                self.end_process(pid, false, NEVER);
                continue;
            }
            self.quicken(pid);
            self.undeafen(pid);
            self.thaw(pid);
            self.restart(pid);
        }
        self.restore_offers();
    }
}

/// All services in another version, or one of them; one service less, or one that was withdrawn before.
fn renewed(mut random: Rng, mut ready: Ready, all: &[ServiceOffer]) -> Message {
    let is_there = |service: &&ServiceOffer| ready.services.iter().any(|other| other.name == service.name);
    if let Some(withdrawn) = all.iter().find(|service| !is_there(service)).filter(|_| random.bool()) {
        return Message::Offer(OfferChange { changed: vec![withdrawn.clone()], withdrawn: Vec::new() });
    }
    let place = random.usize(..ready.services.len().max(1));
    match (random.u8(..3), ready.services.get_mut(place)) {
        (0, Some(service)) => {
            service.version += RENEWED;
            let (name, changed) = (service.name.clone(), vec![service.clone()]);
            // Withdrawn first, then changed: it stays.
            Message::Offer(OfferChange { changed, withdrawn: vec![name] })
        }
        (1, Some(service)) => {
            let withdrawn = vec![service.name.clone()];
            Message::Offer(OfferChange { changed: Vec::new(), withdrawn })
        }
        _ => {
            ready.services.iter_mut().for_each(|service| service.version += RENEWED);
            Message::Ready(ready)
        }
    }
}
