//! The common part of all drivers: commands and frames go to the machine, outputs to the role, transmits to peers.

use std::{
    mem,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::mpsc::error::TryRecvError};
use tracing::debug;

use super::{
    clock,
    errands::{Errand, Errands},
    guest::Guest,
    later::{Admitted, Later},
    machine::{Connections, Input, Machine, Oversized, SendError},
    mailbox::Mailbox,
    pace::{self, Pace},
    watch::Need,
};
use crate::proto::{
    frame::{self, Frames, KnownNames, Limits, Malformed},
    message::Message,
};

/// The part of a driver that differs by role: commands of its handles, and outputs of its machine.
pub(crate) trait Role: Sized + Send + 'static {
    /// The role's machine.
    type Machine: Machine;

    /// Its connections.
    type Connections: Connections<PeerOf<Self>> + Send;

    /// A command from a handle.
    type Command;

    /// User code that a turn leads to.
    type Errand: Errand;

    /// Where commands arrive.
    fn mailbox(&mut self) -> &mut Mailbox<Self::Command>;

    /// Handles a command.
    fn handle_command(&mut self, side: &mut SideOf<Self>, now: Instant, command: Self::Command);

    /// Handles the end of the last handle.
    fn handle_abandoned(&mut self, side: &mut SideOf<Self>, now: Instant);

    /// Handles an output of the machine.
    fn handle_output(&mut self, side: &mut SideOf<Self>, now: Instant, output: <Self::Machine as Machine>::Output);

    /// Shows the handles what has changed; called at the end of each turn.
    fn finish_turn(&mut self, side: &mut SideOf<Self>);

    /// Whether senders may handle commands: the settings allow it, and such a turn asks no policy of the user.
    fn allows_turns(&self) -> bool;

    /// Whether the next command is likely to be the only one for a while.
    fn is_quiet(&self) -> bool;

    /// Which messages are expected.
    fn need(&self) -> Need;

    /// Whether the machine has ended.
    fn has_ended(&self) -> bool;
}

/// How the machine of a role knows its connections.
pub(crate) type PeerOf<R> = <<R as Role>::Machine as Machine>::Peer;

/// The machine and the connections of a role.
pub(crate) type SideOf<R> = Side<<R as Role>::Machine, <R as Role>::Connections, <R as Role>::Errand>;

/// A machine and its connections.
pub(crate) struct Side<M: Machine, C, E> {
    /// A guest, because it may hold a user's policy.
    pub(crate) machine: Guest<M>,
    pub(crate) connections: C,
    /// For all user code that handling a command or an output leads to.
    pub(crate) errands: Errands<E>,
    /// The runtime whose task reads the sockets.
    pub(crate) home: Handle,
    limits: Limits,
    /// Names in earlier requests, so that no name is allocated for each request.
    names: KnownNames,
    /// Connections to end after this turn's transmits.
    hangups: Vec<M::Peer>,
    later: Later<M::Peer>,
    pace: Pace<M::Peer>,
}

impl<M: Machine, C, E> Side<M, C, E> {
    /// Ends a connection at the end of the turn, after what the machine still sends on it.
    pub(crate) fn hang_up(&mut self, peer: M::Peer) {
        self.hangups.push(peer);
    }
}

/// A role with its machine and connections.
pub(crate) struct Driver<R: Role> {
    pub(crate) side: SideOf<R>,
    pub(crate) role: R,
    /// Whether timeouts were due at the end of the reader's last turn.
    was_due: bool,
}

impl<R: Role> Driver<R> {
    /// A driver before its first turn. It reads messages within these limits, on the current runtime so far.
    ///
    /// In a box, because each future that it is moved through would keep room for it.
    pub(crate) fn new(machine: Guest<R::Machine>, limits: Limits, connections: R::Connections, role: R) -> Box<Self> {
        let (errands, names, hangups) = (Errands::new(), KnownNames::default(), Vec::new());
        let (home, later, pace) = (Handle::current(), Later::new(), Pace::new(connections.is_dialing()));
        let side = Side { machine, connections, errands, home, limits, names, hangups, later, pace };
        Box::new(Self { side, role, was_due: false })
    }

    /// Handles at most one command and one message. Returns their total weight.
    ///
    /// It reads the clock for each input once the input has arrived. Otherwise a thread that was held up would count a
    /// request's remaining time from before its arrival, and end its call early.
    pub(super) fn poll_inputs(&mut self, cx: &mut Context<'_>) -> usize {
        let mut taken = usize::from(self.handle_command().is_some());
        if let Poll::Ready((peer, input)) = self.side.connections.poll_receive(cx) {
            taken += self.receive(clock::now(), peer, input);
        }
        taken
    }

    /// Handles commands and messages at hand, within the bound of a turn, then what has waited until these were handled,
    /// within another one. Returns their total weight: at least the bound, if there is more.
    pub(super) fn take_inputs(&mut self, cx: &mut Context<'_>) -> usize {
        let mut taken = 0;
        while taken < TURN_BOUND {
            match self.poll_inputs(cx) {
                0 => break,
                count => taken += count,
            }
        }
        if self.side.later.is_empty() {
            return taken;
        }
        let mut of_later = 0;
        while of_later < TURN_BOUND
            && let Some((peer, input)) = self.side.later.next(clock::now())
        {
            of_later += self.handle_input(clock::now(), peer, input);
            self.resume(peer);
        }
        match self.side.later.end_turn(clock::now()) {
            true => (taken + of_later).max(TURN_BOUND),
            false => taken + of_later,
        }
    }

    /// Handles commands at hand, within the bound of a turn. Returns their number, and the time of the last one.
    pub(super) fn take_commands(&mut self) -> (usize, Instant) {
        let mut last = None;
        let taken = (0..TURN_BOUND).map_while(|_| self.handle_command()).inspect(|at| last = Some(*at)).count();
        (taken, last.unwrap_or_else(clock::now))
    }

    /// Takes a turn on a caller's thread: without reading and timeouts. Returns whether something is left for the I/O
    /// thread.
    pub(super) fn take_callers_turn(&mut self) -> bool {
        let (taken, now) = self.take_commands();
        self.transmit(now);
        self.finish_turn();
        taken == TURN_BOUND || self.has_ended()
    }

    /// Takes a turn of the reader.
    pub(super) fn take_readers_turn(&mut self, cx: &mut Context<'_>) -> ReadersTurn {
        let mut has_more = self.take_inputs(cx) >= TURN_BOUND;
        let now = clock::now();
        // Late ones are for the I/O thread, which has the reactor look at the sockets first.
        let is_due = |driver: &Self| driver.is_due(now) && !driver.is_late(now);
        let mut is_now_due = is_due(self);
        // The reactor looks between two turns.
        if is_now_due && self.was_due && !has_more {
            self.handle_timeout(now);
            is_now_due = is_due(self);
        }
        self.was_due = is_now_due;
        has_more |= self.was_due;
        self.transmit(now);
        self.finish_turn();
        ReadersTurn { has_more, has_ended: self.has_ended() }
    }

    /// Moves the sockets to this runtime; `false` if it has no reactor.
    pub(super) fn rehome(&mut self, home: &Handle) -> bool {
        self.side.home.clone_from(home);
        self.side.connections.rehome(home)
    }

    /// Whether connections wait to be looked at.
    pub(super) fn is_behind(&self) -> bool {
        self.side.connections.is_behind()
    }

    /// Whether a timeout is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Whether a timeout has been due for so long that this process must have been held up.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| at + LATE <= now)
    }

    /// Handles a command, if there is one. Returns when.
    fn handle_command(&mut self) -> Option<Instant> {
        let command = self.role.mailbox().take();
        if matches!(command, Err(TryRecvError::Empty)) {
            return None;
        }
        let (now, is_command) = (clock::now(), command.is_ok());
        match command {
            Ok(command) => self.role.handle_command(&mut self.side, now, command),
            // An abandoned mailbox stays so, and does not count as input.
            Err(_) => self.role.handle_abandoned(&mut self.side, now),
        }
        self.drain_outputs(now);
        is_command.then_some(now)
    }

    /// Sends the heartbeats that are due, so that peers hear from this side while other timeouts are put off.
    pub(super) fn handle_heartbeats(&mut self, now: Instant) {
        self.side.machine.handle_heartbeats(now);
    }

    /// Handles the timeouts that are due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(peer) = self.side.pace.next_rested(now) {
            self.resume(peer);
        }
        self.side.machine.handle_timeout(now);
        self.drain_outputs(now);
    }

    /// The time of the next timeout.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let Side { machine, later, pace, .. } = &self.side;
        [machine.poll_timeout(), later.due_at(), pace.due_at()].into_iter().flatten().min()
    }

    /// Sends the machine's transmits, then ends the connections that it has given up.
    pub(super) fn transmit(&mut self, now: Instant) {
        while let Some((peer, transmit)) = self.side.machine.poll_transmit() {
            let Err(error) = self.side.connections.send(peer, frames_of(&transmit.messages)) else {
                self.side.machine.recycle(peer, transmit);
                continue;
            };
            debug!(?peer, ?error, "a message could not be sent");
            match error {
                SendError::Gone => self.side.machine.handle_unsent(now, peer, transmit),
                // The peer may still receive part of it.
                SendError::Stuck => self.side.machine.handle_disconnected(now, peer),
            }
            self.drain_outputs(now);
        }
        self.side.connections.flush();
        for peer in mem::take(&mut self.side.hangups) {
            self.side.pace.forget(peer);
            while self.side.later.next_of(peer).is_some() {}
            self.side.connections.disconnect(peer);
        }
    }

    /// Shows the handles what has changed.
    pub(super) fn finish_turn(&mut self) {
        self.role.finish_turn(&mut self.side);
    }

    /// Whether the sender of the next command may handle it.
    pub(super) fn is_quiet(&self) -> bool {
        self.role.is_quiet() && self.role.allows_turns()
    }

    /// Whether senders may handle commands.
    pub(super) fn allows_turns(&self) -> bool {
        self.role.allows_turns()
    }

    /// Which messages are expected.
    pub(super) fn need(&self) -> Need {
        self.role.need()
    }

    /// Whether the machine has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.role.has_ended()
    }

    /// Handles an input, or keeps it for later. Returns its weight.
    fn receive(&mut self, now: Instant, peer: PeerOf<R>, input: Input) -> usize {
        if matches!(input, Input::Gone) {
            let mut taken = 0;
            // Not every transport can pause.
            while let Some(earlier) = self.side.later.next_of(peer) {
                taken += self.handle_input(now, peer, earlier);
            }
            // A dialed connection has a successor of the same name.
            if self.side.machine.weight(peer) > LIGHT && !self.side.connections.is_dialing() {
                self.side.later.admit_end(peer);
                return taken + 1;
            }
            return taken + self.handle_input(now, peer, input);
        }
        let Side { machine, connections, later, limits, .. } = &mut self.side;
        let weight = input.weight();
        match later.admit(peer, input, limits, || connections.is_dialing() || machine.weight(peer) > 0) {
            Admitted::Now(input) => self.handle_input(now, peer, input),
            Admitted::Later => {
                connections.pause(peer);
                weight
            }
            Admitted::Refused => {
                debug!(?peer, "dropping a peer: too many others announce their offers");
                // At once: nothing more of it may be read.
                connections.disconnect(peer);
                while later.next_of(peer).is_some() {}
                weight + self.handle_input(now, peer, Input::Gone)
            }
        }
    }

    /// Reads a connection again, unless it must wait for another reason.
    fn resume(&mut self, peer: PeerOf<R>) {
        if !self.side.later.has(peer) && !self.side.pace.is_resting(peer) {
            self.side.connections.resume(peer);
        }
    }

    fn handle_input(&mut self, now: Instant, peer: PeerOf<R>, input: Input) -> usize {
        let (mut weight, machine) = (input.weight(), &mut *self.side.machine);
        match input {
            Input::Frames(frames) => return weight.max(self.handle_frames(now, peer, frames)),
            Input::Dialed => {
                self.side.pace.forget(peer);
                machine.handle_dialed(now, peer);
            }
            Input::Accepted => machine.handle_accepted(now, peer),
            Input::WrongFrameCount(count) => machine.handle_malformed(now, peer, &Malformed::frame_count(count)),
            Input::Oversized(Oversized { header, header_bytes, payload_bytes }) => {
                let malformed = frame::oversized(&header, header_bytes, payload_bytes, &self.side.limits);
                machine.handle_malformed(now, peer, &malformed);
            }
            Input::Gone => {
                weight += machine.weight(peer);
                machine.handle_disconnected(now, peer);
                self.side.pace.forget(peer);
            }
        }
        self.drain_outputs(now);
        weight
    }

    /// Returns the number of messages, and of services and methods in them.
    fn handle_frames(&mut self, now: Instant, from: PeerOf<R>, frames: Frames) -> usize {
        let (limits, mut messages, mut entries) = (self.side.limits, 0, 0);
        let mut decoded = frame::decode(frames, &limits);
        while let Some(item) = decoded.next_known(&mut self.side.names) {
            match item {
                Ok(message) => {
                    entries += pace::entries(&message.message);
                    self.side.machine.handle_message(now, from, message);
                }
                Err(malformed) => self.side.machine.handle_malformed(now, from, &malformed),
            }
            messages += 1;
            self.drain_outputs(now);
        }
        if entries > 0 && self.side.pace.note(now, from, entries) {
            debug!(peer = ?from, "a connection is not read for a while: it announces too much");
            self.side.connections.pause(from);
        }
        messages + entries
    }

    fn drain_outputs(&mut self, now: Instant) {
        while let Some(output) = self.side.machine.poll_output() {
            self.role.handle_output(&mut self.side, now, output);
        }
    }
}

/// The most commands and messages in one turn before its results are sent; a large message counts as several.
///
/// That is enough to fill a BATCH, and so little that a flood delays neither heartbeats nor the calls of others.
pub(super) const TURN_BOUND: usize = 512;

/// The end of a connection with at most this many methods and requests is handled in its place.
const LIGHT: usize = 64;

/// A timeout handled later than this was held up: by a frozen process, a suspended machine or a flood.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// What a turn of the reader has left.
pub(super) struct ReadersTurn {
    pub(super) has_more: bool,
    /// Whether the machine has ended; the I/O thread does the rest.
    pub(super) has_ended: bool,
}

/// The frames of one message, or of a BATCH of several.
fn frames_of(messages: &[Message]) -> Frames {
    match messages {
        [message] => frame::encode(message),
        _ => frame::encode_batch(messages),
    }
}
