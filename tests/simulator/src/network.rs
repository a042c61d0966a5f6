//! The network as the simulator drives it: dials, messages and ends, which the trace shows and the ledger checks.

use std::time::Duration;

use bytes::Bytes;
use xero::proto::{
    broker::Door,
    fault::take_steps,
    frame::{self, Frames},
    message::{Message, Peer},
    outbox::Transmit,
    timer::Execution,
};

use xero_wires::{DIAL_TIMEOUT, Taken};
pub(super) use xero_wires::{Side, Wire};

use super::{
    clock::At,
    machine::door_of,
    process::{Life, Process},
    scenario::{Action, Address, BreakPlan, Pid, ms},
    trace::Brief,
    world::World,
};

pub(super) type Network = xero_wires::Network<Pid, Socket, Frames, Event>;
pub(super) type Connection = xero_wires::Connection<Pid, Socket>;
pub(super) type End = xero_wires::End<Pid, Socket>;
pub(super) type Parcel = xero_wires::Parcel<Frames>;

/// How a process knows a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    pub(super) incarnation: u32,
    pub(super) door: Door,
    pub(super) peer: Peer,
}

/// An event at an instant.
#[derive(Debug)]
pub(super) enum Event {
    Dial {
        process: Pid,
        incarnation: u32,
        slot: Peer,
        address: Address,
    },
    DialFailed {
        process: Pid,
        incarnation: u32,
        slot: Peer,
    },
    Arrive(Parcel),
    /// A slow process reads its next message.
    Read {
        process: Pid,
        incarnation: u32,
    },
    Job {
        process: Pid,
        incarnation: u32,
        execution: Execution,
        step: Step,
    },
    Cancel {
        process: Pid,
        incarnation: u32,
        call: xero::proto::message::CallId,
    },
    Act(Action),
    Thaw(Pid),
    Unblock(Pid, Pid),
    Quicken(Pid),
    Undeafen(Pid),
    Misbehave(Pid),
    Restart(Pid),
}

/// The next step of a procedure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Begin,
    Partial,
    End,
}

impl From<Parcel> for Event {
    fn from(parcel: Parcel) -> Self {
        Self::Arrive(parcel)
    }
}

impl World {
    pub(super) fn post(&mut self, at: At, event: Event) {
        self.network.queue.post(at, event);
    }

    pub(super) fn post_after(&mut self, time: Duration, event: Event) {
        self.post(self.now.after(time), event);
    }

    /// Requests a connection, which stands or is refused after a moment.
    pub(super) fn dial(&mut self, process: Pid, slot: Peer) {
        let address = self.processes[process].setup.dials[slot.0 as usize];
        let incarnation = self.processes[process].incarnation;
        self.post_after(self.network.latency.max(ms(1)), Event::Dial { process, incarnation, slot, address });
    }

    pub(super) fn handle_dial(&mut self, process: Pid, incarnation: u32, slot: Peer, address: Address) {
        if !self.is_alive(process, incarnation) {
            return;
        }
        let event = Event::DialFailed { process, incarnation, slot };
        if self.network.is_cut(process, address.process) {
            return self.post_after(DIAL_TIMEOUT, event);
        }
        if self.processes[address.process].life == Life::Dead {
            return self.post_after(self.network.latency, event);
        }
        let wire = self.open(process, slot, address);
        let now = self.local(process);
        self.log(process, &format_args!("connected to {}", self.processes[address.process]));
        self.ledger.opened(wire, &self.network[wire], [now, self.local(address.process)], &self.processes);
        self.processes[process].machine.handle_dialed(now, slot);
        self.drain_outputs(process);
        self.touch(process);
    }

    fn open(&mut self, process: Pid, slot: Peer, address: Address) -> Wire {
        let Process { incarnation, setup, .. } = &self.processes[process];
        let dialing = Socket { incarnation: *incarnation, door: door_of(setup.role), peer: slot };
        let listener = &mut self.processes[address.process];
        let (incarnation, door) = (listener.incarnation, address.door);
        let listening = Socket { incarnation, door, peer: listener.next_peer(door) };
        let wire = self.network.open(self.now, (process, dialing), (address.process, listening));
        for (pid, Socket { door, peer, .. }) in [(process, dialing), (address.process, listening)] {
            self.processes[pid].sockets.insert((door, peer), wire);
        }
        wire
    }

    pub(super) fn handle_dial_failed(&mut self, process: Pid, incarnation: u32, slot: Peer) {
        if !self.is_alive(process, incarnation) {
            return;
        }
        let (now, door) = (self.local(process), door_of(self.processes[process].setup.role));
        self.log(process, &"could not connect");
        self.processes[process].machine.handle_disconnected(now, door, slot);
        self.drain_outputs(process);
        self.touch(process);
    }

    /// Hands messages to the network; `false` if it does not take them.
    pub(super) fn send(&mut self, wire: Wire, from: Side, transmit: &Transmit) -> bool {
        if self.network.in_transit(wire, from.other()) >= self.high_water_mark && !self.is_healed {
            return false;
        }
        let process = self.network[wire].end(from).process;
        let now = self.local(process);
        for message in &transmit.messages {
            self.note_offer(wire, process, message);
            self.log_on(wire, from, "→", message);
            self.ledger.sent(wire, from, now, message, &self.processes);
        }
        self.ledger.sent_together(wire, from, transmit.messages.len());
        let mut frames = match &transmit.messages[..] {
            [message] => frame::encode(message),
            messages => frame::encode_batch(messages),
        };
        // Their sender keeps nothing of them from now on.
        frames.payload = Bytes::copy_from_slice(&frames.payload);
        let other = self.network[wire].end(from.other()).process;
        // A repeated reply counts twice, which a window does not allow for.
        let has_window = self.processes[other].setup.window_bytes > 0;
        let is_repeatable = !has_window && transmit.messages.iter().all(is_repeatable);
        if is_repeatable && self.network.random.u8(0..100) < self.repeats_percent {
            self.send_raw(wire, from, frames.clone());
        }
        self.send_raw(wire, from, frames);
        true
    }

    /// Hands frames of a hostile process to the network, whatever they are.
    pub(super) fn send_raw(&mut self, wire: Wire, from: Side, frames: Frames) {
        self.network.send(self.now, wire, from.other(), frames);
    }

    /// Delivers a parcel, unless a fault stops it.
    pub(super) fn arrive(&mut self, parcel: Parcel) {
        if let Some(parcel) = self.network.arrive(parcel) {
            self.take_in(parcel);
        }
    }

    /// Hands a parcel to its process, which reads it if it runs and has time.
    pub(super) fn take_in(&mut self, parcel: Parcel) {
        let (wire, to) = (parcel.wire, parcel.to);
        let End { process, stands, .. } = *self.network[wire].end(to);
        let Process { life, pause, inbox, .. } = &mut self.processes[process];
        if stands && (*life == Life::Frozen || pause.is_some()) {
            return inbox.push_back(parcel.into());
        }
        // A machine that is down does not answer for an end that is gone.
        let answers = *life != Life::Dead;
        match self.network.take(parcel) {
            Taken::Accepted => self.accept(wire, to),
            Taken::Frames(frames) => self.receive(wire, to, frames),
            Taken::End => self.lose(wire, to),
            Taken::Nothing if answers => self.network.reset(self.now, wire, to),
            Taken::Nothing => {}
        }
    }

    fn accept(&mut self, wire: Wire, to: Side) {
        let End { process, socket: Socket { door, peer, .. }, .. } = *self.network[wire].end(to);
        let now = self.local(process);
        self.ledger.accepted(wire, to, now);
        self.processes[process].machine.handle_accepted(now, door, peer);
        self.drain_outputs(process);
        self.touch(process);
    }

    fn receive(&mut self, wire: Wire, to: Side, frames: Frames) {
        let End { process, socket: Socket { door, peer, .. }, .. } = *self.network[wire].end(to);
        if self.processes[process].setup.is_hostile {
            return self.overhear(process, frames);
        }
        let now = self.local(process);
        let buffer = frames.payload.clone();
        for decoded in frame::decode(frames, &Default::default()) {
            let (mut steps, mut steps_max) = (0, STEPS_MAX);
            match decoded {
                Ok(mut inbound) => {
                    steps_max += steps_of(&inbound.message);
                    self.log_on(wire, to, "←", &inbound.message);
                    self.ledger.delivered(wire, to, now, &inbound.message, &self.processes);
                    self.ledger.kept(wire, to, &mut inbound, &buffer, &self.processes);
                    take_steps();
                    self.processes[process].machine.handle_message(now, door, peer, inbound);
                    steps = take_steps();
                }
                Err(malformed) => {
                    self.ledger.unreadable(wire, to, now, &malformed);
                    self.processes[process].machine.handle_malformed(now, door, peer, &malformed);
                }
            }
            self.drain_outputs(process);
            if steps > steps_max {
                let what = format!("one message makes a machine look at {steps} waiting calls, lines and methods");
                self.ledger.blame(what);
            }
        }
        self.touch(process);
    }

    /// Reports to this side that its connection is gone.
    fn lose(&mut self, wire: Wire, side: Side) {
        let End { process, socket: Socket { door, peer, .. }, .. } = *self.network[wire].end(side);
        self.processes[process].sockets.remove(&(door, peer));
        let now = self.local(process);
        self.log(process, &format_args!("lost its connection to {}", self.name_beyond(wire, side)));
        self.ledger.ended(wire, side);
        self.processes[process].machine.handle_disconnected(now, door, peer);
        self.drain_outputs(process);
        self.touch(process);
    }

    /// Ends this side's connection; the other side hears of it after all messages.
    pub(super) fn disconnect(&mut self, process: Pid, door: Door, peer: Peer) {
        let Some(wire) = self.processes[process].sockets.remove(&(door, peer)) else { return };
        let side = self.side_of(wire, process);
        self.ledger.ended(wire, side);
        self.network.hang_up(self.now, wire, side);
    }

    /// Breaks the connection. Some messages in transit still arrive; each side learns of it in its time, or not at all.
    pub(super) fn break_connection(&mut self, wire: Wire, plan: BreakPlan) {
        for to in Side::BOTH {
            let in_transit = self.network.in_transit(wire, to);
            let arrives = in_transit * usize::from(plan.arrives_percent) / 100;
            self.network.lose_tail(wire, to, in_transit - arrives);
            if let Some(time) = plan.noticed_after[to as usize] {
                self.network.notice_break(self.now, wire, to, time);
            }
        }
    }

    /// Ends every connection of a dead process.
    pub(super) fn cut_off(&mut self, process: Pid, is_silent: bool) {
        for (wire, side) in self.network.ends_of(process) {
            self.ledger.ended(wire, side);
            match is_silent {
                true => self.network.abandon(wire, side),
                false => self.network.hang_up(self.now, wire, side),
            };
        }
    }

    pub(super) fn is_alive(&self, process: Pid, incarnation: u32) -> bool {
        let process = &self.processes[process];
        process.life != Life::Dead && process.incarnation == incarnation
    }

    pub(super) fn side_of(&self, wire: Wire, process: Pid) -> Side {
        match self.network[wire].end(Side::Dialer).process == process {
            true => Side::Dialer,
            false => Side::Listener,
        }
    }

    fn log_on(&self, wire: Wire, side: Side, arrow: &str, message: &Message) {
        if self.trace.is_some() {
            let other = self.name_beyond(wire, side);
            let process = self.network[wire].end(side).process;
            self.log(process, &format_args!("{arrow} {other} (connection {wire}): {}", Brief(message)));
        }
    }

    fn name_beyond(&self, wire: Wire, side: Side) -> &str {
        &self.processes[self.network[wire].end(side.other()).process].setup.name
    }
}

/// Whether a message may arrive twice. A repeated error could pass for the answer to the next attempt, which has the
/// same call id.
fn is_repeatable(message: &Message) -> bool {
    matches!(message, Message::Final(_) | Message::Partial(_) | Message::Heartbeat)
}

/// What an introduction costs beside that: each method of the former offer, of the new one, and their lines.
fn steps_of(message: &Message) -> u64 {
    match message {
        Message::Ready(ready) => 4 * ready.services.iter().map(|service| service.methods.len() as u64).sum::<u64>(),
        // The services that it does not name count as well.
        Message::Offer(_) => OFFER_STEPS,
        _ => 0,
    }
}

/// As many as all services of a scenario have.
const OFFER_STEPS: u64 = 4 * 64;

/// Waiting calls that a machine may look at for one message: those that it sends, and one of each line.
const STEPS_MAX: u64 = 200;
