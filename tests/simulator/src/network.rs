//! Connections and their messages. A connection keeps its messages in order and repeats none. It may lose its tail, be
//! slow, stall, or end without notice to either side.

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

use super::{
    clock::At,
    process::Life,
    scenario::{Action, Address, BreakPlan, Pid, ms},
    trace::Brief,
    world::World,
};

/// A connection, for one life; its index in the list.
pub(super) type Wire = usize;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Dialer = 0,
    Listener = 1,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
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

/// A parcel on a connection.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) wire: Wire,
    pub(super) to: Side,
    number: u64,
    what: Contents,
}

#[derive(Debug)]
enum Contents {
    /// The connection is there; precedes all messages.
    Accepted,
    Frames(Frames),
    /// The other side has ended the connection; follows all its messages.
    End,
    /// This side's own machine has noticed that the connection is broken.
    News,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    /// By the receiving side.
    ways: [Way; 2],
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) process: Pid,
    pub(super) incarnation: u32,
    pub(super) door: Door,
    pub(super) peer: Peer,
    pub(super) stands: bool,
}

#[derive(Debug, Default)]
struct Way {
    sent: u64,
    /// Parcels from here on are lost.
    lost_from: Option<u64>,
    under_way: usize,
    last_arrival_at: At,
}

impl Connection {
    /// Whether it stands on both sides and loses nothing.
    pub(super) fn is_whole(&self) -> bool {
        self.ends.iter().all(|end| end.stands) && self.ways.iter().all(|way| way.lost_from.is_none())
    }
}

impl World {
    pub(super) fn post(&mut self, at: At, event: Event) {
        self.posted += 1;
        self.events.insert((at, self.posted), event);
    }

    pub(super) fn post_after(&mut self, time: Duration, event: Event) {
        self.post(self.now.after(time), event);
    }

    /// Requests a connection, which stands or is refused after a moment.
    pub(super) fn dial(&mut self, process: Pid, slot: Peer) {
        let address = self.processes[process].setup.dials[slot.0 as usize];
        let incarnation = self.processes[process].incarnation;
        self.post_after(self.latency.max(ms(1)), Event::Dial { process, incarnation, slot, address });
    }

    pub(super) fn handle_dial(&mut self, process: Pid, incarnation: u32, slot: Peer, address: Address) {
        if !self.is_alive(process, incarnation) {
            return;
        }
        let event = Event::DialFailed { process, incarnation, slot };
        if self.is_blocked(process, address.process) || self.is_blocked(address.process, process) {
            return self.post_after(DIAL_TIMEOUT, event);
        }
        if self.processes[address.process].life == Life::Dead {
            return self.post_after(self.latency, event);
        }
        let wire = self.open(process, slot, address);
        let now = self.local(process);
        self.tell(process, &format_args!("connected to {}", self.processes[address.process]));
        self.ledger.opened(wire, &self.connections[wire], [now, self.local(address.process)], &self.processes);
        self.dispatch(wire, Side::Listener, Contents::Accepted, Duration::ZERO);
        self.processes[process].machine.handle_dialed(now, slot);
        self.drain_outputs(process);
        self.touch(process);
    }

    fn open(&mut self, process: Pid, slot: Peer, address: Address) -> Wire {
        let wire = self.connections.len();
        let dialer_door = super::machine::door_of(self.processes[process].setup.role);
        let listener = &mut self.processes[address.process];
        let peer = listener.next_peer(address.door);
        listener.sockets.insert((address.door, peer), wire);
        let (incarnation, door) = (listener.incarnation, address.door);
        let listening = End { process: address.process, incarnation, door, peer, stands: true };
        let dialer = &mut self.processes[process];
        dialer.sockets.insert((dialer_door, slot), wire);
        let incarnation = dialer.incarnation;
        let dialing = End { process, incarnation, door: dialer_door, peer: slot, stands: true };
        let way = || Way { last_arrival_at: self.now, ..Way::default() };
        self.connections.push(Connection { ends: [dialing, listening], ways: [way(), way()] });
        wire
    }

    pub(super) fn handle_dial_failed(&mut self, process: Pid, incarnation: u32, slot: Peer) {
        if !self.is_alive(process, incarnation) {
            return;
        }
        let (now, door) = (self.local(process), super::machine::door_of(self.processes[process].setup.role));
        self.tell(process, &"could not connect");
        self.processes[process].machine.handle_disconnected(now, door, slot);
        self.drain_outputs(process);
        self.touch(process);
    }

    /// Hands messages to the network; `false` if it does not take them.
    pub(super) fn send(&mut self, wire: Wire, from: Side, transmit: &Transmit) -> bool {
        let way = &self.connections[wire].ways[from.other() as usize];
        if way.under_way >= self.high_water_mark && !self.is_healed {
            return false;
        }
        let process = self.connections[wire].ends[from as usize].process;
        let now = self.local(process);
        for message in &transmit.messages {
            self.note_offer(wire, process, message);
            self.tell_on(wire, from, "→", message);
            self.ledger.sent(wire, from, now, message, &self.processes);
        }
        self.ledger.sent_together(wire, from, transmit.messages.len());
        let mut frames = match &transmit.messages[..] {
            [message] => frame::encode(message),
            messages => frame::encode_batch(messages),
        };
        // Their sender keeps nothing of them from now on.
        frames.payload = Bytes::copy_from_slice(&frames.payload);
        let other = self.connections[wire].ends[from.other() as usize].process;
        // A repeated reply counts twice, which a window does not allow for.
        let has_window = self.processes[other].setup.window_bytes > 0;
        let is_repeatable = !has_window && transmit.messages.iter().all(is_repeatable);
        if is_repeatable && self.random.u8(0..100) < self.repeats_percent {
            self.dispatch(wire, from.other(), Contents::Frames(frames.clone()), Duration::ZERO);
        }
        self.dispatch(wire, from.other(), Contents::Frames(frames), Duration::ZERO);
        true
    }

    /// Hands frames of a hostile process to the network, whatever they are.
    pub(super) fn send_raw(&mut self, wire: Wire, from: Side, frames: Frames) {
        self.dispatch(wire, from.other(), Contents::Frames(frames), Duration::ZERO);
    }

    fn dispatch(&mut self, wire: Wire, to: Side, what: Contents, delay: Duration) {
        let time = self.latency + self.jitter.mul_f64(self.random.f64());
        // Whole milliseconds, so that messages meet and are handled in one turn, as in a busy process.
        let at = At::ZERO.after(ms(self.now.after(time + delay).since(At::ZERO).as_millis() as u64 + 1));
        let way = &mut self.connections[wire].ways[to as usize];
        way.last_arrival_at = at.max(way.last_arrival_at);
        way.sent += 1;
        way.under_way += 1;
        let (at, number) = (way.last_arrival_at, way.sent);
        self.post(at, Event::Arrive(Parcel { wire, to, number, what }));
    }

    /// Delivers a parcel that has crossed the network, unless a fault stops it.
    pub(super) fn arrive(&mut self, parcel: Parcel) {
        let Connection { ends, ways } = &self.connections[parcel.wire];
        let (process, sender) = (ends[parcel.to as usize].process, ends[parcel.to.other() as usize].process);
        let is_news = matches!(parcel.what, Contents::News);
        let is_lost = ways[parcel.to as usize].lost_from.is_some_and(|number| parcel.number >= number);
        // A parcel that nobody takes off the connection blocks those behind it.
        if is_lost && !is_news {
            return;
        }
        if !is_news && self.is_blocked(sender, process) {
            return self.held.entry((sender, process)).or_default().push(Event::Arrive(parcel));
        }
        self.take_in(parcel);
    }

    /// Hands a parcel to its process, which reads it if it runs and has time.
    pub(super) fn take_in(&mut self, parcel: Parcel) {
        let (wire, to) = (parcel.wire, parcel.to);
        let End { process, incarnation, stands, .. } = self.connections[wire].ends[to as usize];
        if !stands || !self.is_alive(process, incarnation) {
            self.connections[wire].ways[to as usize].under_way -= 1;
            return self.reset(wire, to);
        }
        if self.processes[process].life == Life::Frozen || self.processes[process].pause.is_some() {
            return self.processes[process].inbox.push_back(Event::Arrive(parcel));
        }
        self.connections[wire].ways[to as usize].under_way -= 1;
        match parcel.what {
            Contents::Accepted => self.accept(wire, to),
            Contents::Frames(frames) => self.receive(wire, to, frames),
            Contents::End | Contents::News => self.lose(wire, to),
        }
    }

    fn accept(&mut self, wire: Wire, to: Side) {
        let End { process, door, peer, .. } = self.connections[wire].ends[to as usize];
        let now = self.local(process);
        self.ledger.accepted(wire, to, now);
        self.processes[process].machine.handle_accepted(now, door, peer);
        self.drain_outputs(process);
        self.touch(process);
    }

    fn receive(&mut self, wire: Wire, to: Side, frames: Frames) {
        let End { process, door, peer, .. } = self.connections[wire].ends[to as usize];
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
                    self.tell_on(wire, to, "←", &inbound.message);
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

    /// Handles a message for a connection end that is gone: its sender learns of that, as with TCP.
    fn reset(&mut self, wire: Wire, to: Side) {
        let connection = &self.connections[wire];
        let process = connection.ends[to as usize].process;
        // A machine that is down does not answer.
        if connection.ends[to.other() as usize].stands && self.processes[process].life != Life::Dead {
            self.dispatch(wire, to.other(), Contents::End, Duration::ZERO);
        }
    }

    /// Reports to this side that its connection is gone.
    pub(super) fn lose(&mut self, wire: Wire, side: Side) {
        let end = &mut self.connections[wire].ends[side as usize];
        if !std::mem::take(&mut end.stands) {
            return;
        }
        let End { process, door, peer, .. } = *end;
        self.processes[process].sockets.remove(&(door, peer));
        let now = self.local(process);
        self.tell(process, &format_args!("lost its connection to {}", self.name_beyond(wire, side)));
        self.ledger.ended(wire, side);
        self.processes[process].machine.handle_disconnected(now, door, peer);
        self.drain_outputs(process);
        self.touch(process);
    }

    /// Ends this side's connection; the other side hears of it after all messages.
    pub(super) fn disconnect(&mut self, process: Pid, door: Door, peer: Peer) {
        let Some(wire) = self.processes[process].sockets.remove(&(door, peer)) else { return };
        let side = self.side_of(wire, process);
        self.connections[wire].ends[side as usize].stands = false;
        self.ledger.ended(wire, side);
        self.dispatch(wire, side.other(), Contents::End, Duration::ZERO);
    }

    /// Breaks the connection. Some messages in transit still arrive; each side learns of it in its time, or not at all.
    pub(super) fn break_connection(&mut self, wire: Wire, plan: BreakPlan) {
        for to in [Side::Dialer, Side::Listener] {
            let way = &mut self.connections[wire].ways[to as usize];
            let arrives = way.under_way as u64 * u64::from(plan.arrives_percent) / 100;
            let lost_from = way.sent + 1 - (way.under_way as u64 - arrives).min(way.sent);
            way.lost_from = Some(way.lost_from.map_or(lost_from, |earlier| earlier.min(lost_from)));
            if let Some(time) = plan.told_after[to as usize] {
                self.dispatch(wire, to, Contents::News, time);
            }
        }
    }

    /// Ends every connection of a dead process.
    pub(super) fn cut_off(&mut self, process: Pid, is_silent: bool) {
        for wire in 0..self.connections.len() {
            for side in [Side::Dialer, Side::Listener] {
                let end = &mut self.connections[wire].ends[side as usize];
                if end.process != process || !std::mem::take(&mut end.stands) {
                    continue;
                }
                self.ledger.ended(wire, side);
                if !is_silent {
                    self.dispatch(wire, side.other(), Contents::End, Duration::ZERO);
                }
            }
        }
    }

    pub(super) fn is_blocked(&self, from: Pid, to: Pid) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    pub(super) fn is_alive(&self, process: Pid, incarnation: u32) -> bool {
        let process = &self.processes[process];
        process.life != Life::Dead && process.incarnation == incarnation
    }

    pub(super) fn side_of(&self, wire: Wire, process: Pid) -> Side {
        match self.connections[wire].ends[0].process == process {
            true => Side::Dialer,
            false => Side::Listener,
        }
    }

    fn tell_on(&self, wire: Wire, side: Side, arrow: &str, message: &Message) {
        if self.trace.is_some() {
            let other = self.name_beyond(wire, side);
            let process = self.connections[wire].ends[side as usize].process;
            self.tell(process, &format_args!("{arrow} {other} (connection {wire}): {}", Brief(message)));
        }
    }

    fn name_beyond(&self, wire: Wire, side: Side) -> &str {
        &self.processes[self.connections[wire].ends[side.other() as usize].process].setup.name
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
        _ => 0,
    }
}

/// Waiting calls that a machine may look at for one message: those that it sends, and one of each line.
const STEPS_MAX: u64 = 200;

/// How long an unanswered dial takes, as in the shell.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
