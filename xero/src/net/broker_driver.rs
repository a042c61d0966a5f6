//! Drives a broker: clients at one ROUTER, workers at the other.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;
use uuid::Uuid;

use super::{
    clock,
    driver::{Driver, drive, frames_of},
    endpoint::Endpoint,
    guest::{Guest, Rest},
    io_thread::{IoThread, close},
    panics, procedure,
    transport::{self, RouterInput, RouterSocket, SendError},
};
use crate::{
    client::WorkerInfo,
    error::BindError,
    proto::{
        broker::{Broker, BrokerConfig, BrokerCounters, BrokerOutput, Door},
        frame::{self, Frames, KnownNames, Limits, Malformed},
        message::Peer,
    },
};

/// What handles ask of the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Counters(oneshot::Sender<BrokerCounters>),
    Drain,
    Close,
}

/// The ends of a broker's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) io: IoThread,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) workers: watch::Sender<Arc<[WorkerInfo]>>,
    pub(crate) clients: watch::Sender<usize>,
    pub(crate) left: watch::Sender<bool>,
}

/// Where a broker is, with the ports that the system chose for port 0.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) frontend: String,
    pub(crate) backend: String,
}

/// Binds both endpoints, tells where, and runs until the machine has closed.
pub(crate) async fn run(
    frontend: Endpoint,
    backend: Endpoint,
    config: Guest<BrokerConfig>,
    channels: Channels,
    bound: oneshot::Sender<Result<Bound, BindError>>,
) -> Rest {
    let doors = match Doors::bind(&frontend, &backend).await {
        Ok(doors) => doors,
        Err(error) => {
            return config.dispose(|| drop(panics::wake(|| bound.send(Err(error))))).await;
        }
    };
    // An error means that nobody waits any more. A waker that panics is no reason to stop.
    if panics::wake(|| bound.send(Ok(doors.bound()))).is_some_and(|sent| sent.is_err()) {
        return None;
    }
    let mut driver = BrokerDriver {
        limits: config.dispatcher.limits,
        names: KnownNames::default(),
        machine: config.map(Machine::new),
        doors,
        channels,
        disconnects: Vec::new(),
        have_workers_changed: false,
        have_clients_changed: false,
        is_closed: false,
    };
    let ended = drive(&mut driver).await;
    let BrokerDriver { machine, doors, channels, .. } = driver;
    let Channels { io, commands, workers, clients, left } = channels;
    if let Err(panic) = ended {
        io.crash(machine.beside(panic));
    }
    // Commands that are sent from now on fail.
    close(commands);
    drop(doors);
    panics::drop_quietly(workers);
    panics::drop_quietly(clients);
    let leave = move || {
        panics::wake(|| left.send_replace(true));
        panics::drop_quietly(left);
    };
    machine.dispose(leave).await
}

/// The machine, which holds the policy. The broker leaves after it is dropped: a `Drop` of the policy that waits for that
/// returns at once.
struct Machine(Option<Broker>, Uuid);

impl Machine {
    fn new(config: BrokerConfig) -> Self {
        let id = config.dispatcher.incarnation;
        Self(Some(Broker::new(config)), id)
    }
}

impl Deref for Machine {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.0.as_ref().expect("only the drop takes it")
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut Broker {
        self.0.as_mut().expect("only the drop takes it")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let broker = self.0.take();
        procedure::within_drop(self.1, || drop(broker));
    }
}

/// The two sockets.
struct Doors {
    front: Box<dyn RouterSocket>,
    back: Box<dyn RouterSocket>,
}

impl Doors {
    async fn bind(frontend: &Endpoint, backend: &Endpoint) -> Result<Self, BindError> {
        let front = transport::transport_for(frontend).bind(frontend).await?;
        let back = transport::transport_for(backend).bind(backend).await?;
        Ok(Self { front, back })
    }

    fn bound(&self) -> Bound {
        Bound { frontend: self.front.endpoint().to_owned(), backend: self.back.endpoint().to_owned() }
    }

    fn at(&mut self, door: Door) -> &mut dyn RouterSocket {
        match door {
            Door::Front => &mut *self.front,
            Door::Back => &mut *self.back,
        }
    }
}

struct BrokerDriver {
    /// Holds the policy, which is the user's.
    machine: Guest<Machine>,
    limits: Limits,
    /// What requests have named, so that no name is allocated for each.
    names: KnownNames,
    doors: Doors,
    channels: Channels,
    /// Connections to end once what is to be sent to them is on its way.
    disconnects: Vec<(Door, Peer)>,
    have_workers_changed: bool,
    have_clients_changed: bool,
    is_closed: bool,
}

impl Driver for BrokerDriver {
    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> usize {
        let mut taken = 0;
        match self.channels.commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => {
                self.handle_command(clock::now(), command);
                taken += 1;
            }
            // Every handle is gone. The channel stays ready, so it must not count as input.
            Poll::Ready(None) => self.machine.close(clock::now()),
            Poll::Pending => {}
        }
        self.drain_outputs();
        for door in [Door::Front, Door::Back] {
            if let Poll::Ready(input) = self.doors.at(door).poll_receive(cx) {
                taken += self.handle_input(clock::now(), door, input);
            }
        }
        taken
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
        self.drain_outputs();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn transmit(&mut self, now: Instant) {
        while let Some((door, transmit)) = self.machine.poll_transmit() {
            if let Err(error) = self.doors.at(door).send(transmit.to, frames_of(&transmit.messages)) {
                debug!(?door, peer = transmit.to.0, ?error, "a message could not be sent");
                match error {
                    SendError::Gone => self.machine.handle_unsent(now, door, transmit),
                    // Part of it may reach the peer all the same.
                    SendError::Stuck => self.machine.handle_disconnected(now, door, transmit.to),
                }
                self.drain_outputs();
            }
        }
        // Once a turn, however many have come at the same time.
        if mem::take(&mut self.have_workers_changed) {
            let workers = self.machine.workers().filter_map(WorkerInfo::of).collect();
            panics::wake(|| self.channels.workers.send_replace(workers));
        }
        if mem::take(&mut self.have_clients_changed) {
            let count = self.machine.clients().count();
            panics::wake(|| self.channels.clients.send_replace(count));
        }
        for (door, peer) in mem::take(&mut self.disconnects) {
            self.doors.at(door).disconnect(peer);
        }
    }

    fn has_ended(&self) -> bool {
        self.is_closed
    }
}

impl BrokerDriver {
    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Counters(sender) => drop(panics::wake(|| sender.send(self.machine.counters()))),
            Command::Drain => self.machine.drain(now),
            Command::Close => self.machine.close(now),
        }
    }

    fn handle_input(&mut self, now: Instant, door: Door, input: RouterInput) -> usize {
        let weight = input.weight();
        let messages = match input {
            RouterInput::Frames(from, frames) => self.handle_frames(now, door, from, frames),
            RouterInput::WrongFrameCount(from, count) => {
                self.machine.handle_malformed(now, door, from, &Malformed::frame_count(count));
                1
            }
            RouterInput::Gone(peer) => {
                self.machine.handle_disconnected(now, door, peer);
                1
            }
        };
        self.drain_outputs();
        weight.max(messages)
    }

    fn handle_frames(&mut self, now: Instant, door: Door, from: Peer, frames: Frames) -> usize {
        let (limits, mut messages) = (self.limits, 0);
        let mut decoded = frame::decode(frames, &limits);
        while let Some(item) = decoded.next_known(&mut self.names) {
            match item {
                Ok(message) => self.machine.handle_message(now, door, from, message),
                Err(malformed) => self.machine.handle_malformed(now, door, from, &malformed),
            }
            messages += 1;
            self.drain_outputs();
        }
        messages
    }

    fn drain_outputs(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                BrokerOutput::WorkerJoined(_) | BrokerOutput::WorkerChanged(_) | BrokerOutput::WorkerLeft(..) => {
                    self.have_workers_changed = true;
                }
                BrokerOutput::ClientJoined(_) | BrokerOutput::ClientLeft(..) => self.have_clients_changed = true,
                BrokerOutput::Disconnect(door, peer) => self.disconnects.push((door, peer)),
                BrokerOutput::Closed => self.is_closed = true,
            }
        }
    }
}
