//! Drives a broker: clients at one ROUTER, workers at the other.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::command::Command;
use crate::{
    error::BindError,
    info::WorkerInfo,
    io::{
        clock,
        guest::Guest,
        thread::IoThread,
        turns::{Driver, drive, frames_of},
    },
    proto::{
        broker::{Broker, BrokerConfig, BrokerOutput, Door},
        frame::{self, Frames, Limits, Malformed},
        message::Peer,
    },
    transport::{Endpoint, RouterInput, RouterSocket, SendError, transport_for},
};

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
) {
    let doors = match Doors::bind(&frontend, &backend).await {
        Ok(doors) => doors,
        Err(error) => {
            config.dispose().await;
            return drop(bound.send(Err(error)));
        }
    };
    if bound.send(Ok(doors.bound())).is_err() {
        return;
    }
    let mut driver = BrokerDriver {
        limits: config.dispatcher.limits,
        machine: config.map(Broker::new),
        doors,
        channels,
        disconnects: Vec::new(),
        have_workers_changed: false,
        have_clients_changed: false,
        is_closed: false,
    };
    let ended = drive(&mut driver).await;
    let BrokerDriver { machine, doors, channels, .. } = driver;
    let Channels { io, commands, left, .. } = channels;
    if let Err(panic) = ended {
        io.crash(panic);
    }
    // Commands that are sent from now on fail.
    drop((commands, doors));
    machine.dispose().await;
    left.send_replace(true);
}

/// The two sockets.
struct Doors {
    front: Box<dyn RouterSocket>,
    back: Box<dyn RouterSocket>,
}

impl Doors {
    async fn bind(frontend: &Endpoint, backend: &Endpoint) -> Result<Self, BindError> {
        let front = transport_for(frontend).bind(frontend).await?;
        let back = transport_for(backend).bind(backend).await?;
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
    machine: Guest<Broker>,
    limits: Limits,
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
            self.channels.workers.send_replace(self.machine.workers().filter_map(WorkerInfo::of).collect());
        }
        if mem::take(&mut self.have_clients_changed) {
            self.channels.clients.send_replace(self.machine.clients().count());
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
            Command::Counters(sender) => drop(sender.send(self.machine.counters())),
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
        for decoded in frame::decode(frames, &limits) {
            match decoded {
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
