//! Drives a worker: its connections, and its procedures on the user's runtime.

use std::{
    collections::HashMap,
    future::pending,
    mem,
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tracing::debug;
use uuid::Uuid;

use super::{
    clock,
    dealers::{Dealers, DealersInput},
    driver::{Driver, drive, frames_of},
    endpoint::Endpoint,
    procedure,
    transport::RouterInput,
};
use crate::{
    context::{Context as CallContext, Place},
    proto::{
        frame::{self, Frames, Limits, Malformed},
        message::{Payload, Peer},
        timer::Execution,
        worker::{Finish, Start, Worker, WorkerConfig, WorkerCounters, WorkerOutput},
    },
    service::BoundService,
};

/// What handles and procedures ask of the I/O thread.
#[derive(Debug)]
pub(crate) enum Command {
    Finish(Execution, Finish),
    Partial(Execution, Payload),
    Counters(oneshot::Sender<WorkerCounters>),
    Drain,
}

/// Drains the worker when it is dropped.
#[derive(Debug)]
pub(crate) struct Sentinel(pub(crate) mpsc::UnboundedSender<Command>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.send(Command::Drain);
    }
}

/// The ends of a worker's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    /// For procedures; it also keeps the mailbox open when the last handle is dropped.
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) mailbox: mpsc::UnboundedReceiver<Command>,
    pub(crate) registered: watch::Sender<usize>,
    pub(crate) left: watch::Sender<bool>,
}

/// Runs until the machine has left.
pub(crate) async fn run(
    endpoints: Vec<Endpoint>,
    config: WorkerConfig,
    services: Vec<BoundService>,
    user: Handle,
    channels: Channels,
) {
    let mut driver = WorkerDriver {
        limits: config.limits,
        id: config.incarnation,
        machine: Worker::new(clock::now(), config, endpoints.len() as u64),
        dealers: Dealers::new(endpoints),
        services,
        user,
        channels,
        running: HashMap::new(),
        hangups: Vec::new(),
        has_left: false,
    };
    // A runtime that ends drops its tasks. Procedures cannot be run then, and a worker that stayed would only take calls
    // away from others.
    let sentinel = Sentinel(driver.channels.commands.clone());
    let watch = driver.user.spawn(async move {
        let _sentinel = sentinel;
        pending::<()>().await;
    });
    drive(&mut driver).await;
    watch.abort();
    driver.channels.left.send_replace(true);
}

struct WorkerDriver {
    machine: Worker,
    limits: Limits,
    id: Uuid,
    dealers: Dealers,
    services: Vec<BoundService>,
    user: Handle,
    channels: Channels,
    /// To tell the procedures that they are no longer wanted.
    running: HashMap<Execution, CallContext>,
    /// Connections to end once what is to be sent on them is on its way.
    hangups: Vec<Peer>,
    has_left: bool,
}

impl Driver for WorkerDriver {
    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> usize {
        let mut taken = 0;
        if let Poll::Ready(Some(command)) = self.channels.mailbox.poll_recv(cx) {
            self.handle_command(clock::now(), command);
            taken += 1;
        }
        if let Poll::Ready(input) = self.dealers.poll_receive(cx) {
            taken += self.handle_input(clock::now(), input);
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
        while let Some(transmit) = self.machine.poll_transmit() {
            if let Err(error) = self.dealers.send(transmit.to, frames_of(&transmit.messages)) {
                debug!(peer = transmit.to.0, ?error, "a message could not be sent");
                self.machine.handle_disconnected(now, transmit.to);
                self.drain_outputs();
            }
        }
        for peer in mem::take(&mut self.hangups) {
            self.dealers.disconnect(peer);
        }
    }

    fn has_ended(&self) -> bool {
        self.has_left
    }
}

impl WorkerDriver {
    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Finish(execution, finish) => {
                // What the procedure has left running elsewhere is no longer wanted either.
                if let Some(context) = self.running.remove(&execution) {
                    context.cancel();
                }
                self.machine.finish(now, execution, finish);
            }
            Command::Partial(execution, payload) => {
                self.machine.partial(now, execution, payload);
            }
            Command::Counters(sender) => drop(sender.send(self.machine.counters())),
            Command::Drain => self.machine.drain(now),
        }
        self.drain_outputs();
    }

    fn handle_input(&mut self, now: Instant, input: DealersInput) -> usize {
        let weight = input.weight();
        let messages = match input {
            DealersInput::Dialed(peer) => {
                self.machine.handle_dialed(now, peer);
                1
            }
            DealersInput::Received(RouterInput::Frames(from, frames)) => self.handle_frames(now, from, frames),
            DealersInput::Received(RouterInput::WrongFrameCount(from, count)) => {
                self.machine.handle_malformed(now, from, &Malformed::frame_count(count));
                1
            }
            DealersInput::Received(RouterInput::Gone(peer)) => {
                self.machine.handle_disconnected(now, peer);
                1
            }
        };
        self.drain_outputs();
        weight.max(messages)
    }

    fn handle_frames(&mut self, now: Instant, from: Peer, frames: Frames) -> usize {
        let (limits, mut messages) = (self.limits, 0);
        for decoded in frame::decode(frames, &limits) {
            match decoded {
                Ok(message) => self.machine.handle_message(now, from, message),
                Err(malformed) => self.machine.handle_malformed(now, from, &malformed),
            }
            messages += 1;
            self.drain_outputs();
        }
        messages
    }

    fn drain_outputs(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                WorkerOutput::Dial(peer) => self.dealers.dial(peer),
                WorkerOutput::Hangup(peer) => self.hangups.push(peer),
                WorkerOutput::Registered(_) | WorkerOutput::Unregistered(_) => {
                    self.channels.registered.send_replace(self.machine.registered().count());
                }
                WorkerOutput::Start(start) => self.start(*start),
                WorkerOutput::PartialSent(execution, bytes) => {
                    if let Some(context) = self.running.get(&execution) {
                        context.make_room(bytes);
                    }
                }
                WorkerOutput::Abort(execution) => {
                    if let Some(context) = self.running.get(&execution) {
                        context.cancel();
                    }
                }
                WorkerOutput::Left => self.has_left = true,
            }
        }
    }

    fn start(&mut self, start: Start) {
        let Start { execution, service, method, deadline, reply_bytes_max, mut request } = start;
        let procedure = self.services[service].procedures[method].clone();
        let commands = self.channels.commands.clone();
        let arguments = mem::take(&mut request.payload.bytes);
        let payload = Payload { codec: request.payload.codec, bytes: arguments };
        let place = Place { worker: self.id, execution, deadline, reply_bytes_max, commands };
        let context = CallContext::new(request, place);
        self.running.insert(execution, context.clone());
        procedure::spawn(&self.user, procedure, context, payload);
    }
}
