//! Drives a worker: its connections, and its procedures on the user's runtime.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    future::pending,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tracing::debug;
use uuid::Uuid;

use super::{
    command::{Command, Sentinel},
    context::{Context as CallContext, Place},
    procedure::{self, Job, Lease, Served},
    service::BoundService,
};
use crate::{
    io::{
        clock,
        guest::Guest,
        thread::{IoThread, Owned},
        turns::{Driver, drive, frames_of, wake_after},
    },
    proto::{
        frame::{self, Frames, Limits, Malformed},
        message::{Payload, Peer},
        timer::Execution,
        worker::{Start, Worker, WorkerConfig, WorkerOutput},
    },
    transport::{Dealers, DealersInput, Endpoint, RouterInput},
};

/// The ends of a worker's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) io: IoThread,
    /// For procedures; it also keeps the mailbox open when the last handle is dropped.
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) mailbox: mpsc::UnboundedReceiver<Command>,
    pub(crate) registered: watch::Sender<usize>,
    pub(crate) left: watch::Sender<bool>,
}

/// Runs until the machine has left and what was served is dropped. The services are guests from the first poll on: where
/// there is none, they are dropped in place.
pub(crate) async fn run(
    endpoints: Vec<Endpoint>,
    config: WorkerConfig,
    services: Vec<BoundService>,
    user: Handle,
    channels: Channels,
) {
    let (held, released) = mpsc::channel(1);
    let worker = config.incarnation;
    let services = Guest::of(&user, Served { worker, services });
    let mut driver = WorkerDriver {
        limits: config.limits,
        id: worker,
        machine: Worker::new(clock::now(), config, endpoints.len() as u64),
        dealers: Dealers::new(endpoints),
        lease: Lease { services: Arc::new(services), user, _held: held },
        channels,
        running: HashMap::new(),
        leaving: Vec::new(),
        hangups: Vec::new(),
        has_left: false,
    };
    // A runtime that ends drops its tasks. Procedures cannot be run then, and a worker that stayed would only take calls
    // away from others.
    let sentinel = Sentinel(Owned::new(driver.channels.io.clone(), driver.channels.commands.clone()));
    let watch = driver.lease.user.spawn(async move {
        let _sentinel = sentinel;
        pending::<()>().await;
    });
    let ended = drive(&mut driver).await;
    watch.abort();
    if let Err(panic) = ended {
        driver.channels.io.crash(panic);
    }
    driver.finish(released).await;
}

struct WorkerDriver {
    machine: Worker,
    limits: Limits,
    id: Uuid,
    dealers: Dealers,
    lease: Lease,
    channels: Channels,
    /// To tell the procedures that they are no longer wanted.
    running: HashMap<Execution, CallContext>,
    /// Procedures that wait for the others to end.
    leaving: Vec<(Execution, oneshot::Sender<()>)>,
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
        self.release_leaving();
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
            Command::AwaitOthers(execution, sender) => self.leaving.push((execution, sender)),
            Command::Wake(time, sender) => wake_after(time, sender),
            #[cfg(test)]
            Command::Panic => panic!("as asked"),
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
        let Start { execution, peer, service, method, deadline, reply_bytes_max, mut request } = start;
        let lease = self.lease.clone();
        let procedure = lease.services.services[service].procedures[method].clone();
        let (io, commands) = (self.channels.io.clone(), self.channels.commands.clone());
        let bytes = mem::take(&mut request.payload.bytes);
        let arguments = Payload { codec: request.payload.codec, bytes };
        let place = Place { worker: self.id, execution, deadline, reply_bytes_max, io, commands };
        let context = CallContext::new(request, place);
        self.running.insert(execution, context.clone());
        procedure::spawn(Job { procedure, context, arguments, peer, lease });
    }

    /// Answers the procedures that wait for all others to end, once only they run. Queued requests do not count: they may
    /// wait for the place of one of these.
    fn release_leaving(&mut self) {
        if self.leaving.is_empty() || !self.machine.is_leaving() {
            return;
        }
        self.leaving.retain(|(_, sender)| !sender.is_closed());
        let leaving: HashSet<_> = self.leaving.iter().map(|(execution, _)| *execution).collect();
        if self.running.keys().all(|execution| leaving.contains(execution)) {
            for (_, sender) in self.leaving.drain(..) {
                let _ = sender.send(());
            }
        }
    }

    /// Ends the connections, drops what was served, and says that the worker has left.
    async fn finish(self, mut released: mpsc::Receiver<Infallible>) {
        let Self { machine, dealers, lease, channels, running, leaving, .. } = self;
        let Channels { io, commands, mailbox, registered, left } = channels;
        // Commands that are sent from now on fail.
        drop((machine, dealers, commands, mailbox, leaving));
        registered.send_replace(0);
        running.values().for_each(CallContext::cancel);
        let Lease { services, _held: held, .. } = lease;
        drop(held);
        // An error means that a procedure does not look at its cancellation; it drops what it has when it ends.
        let _ = timeout(STRAGGLERS_MAX, released.recv()).await;
        if let Some(services) = Arc::into_inner(services) {
            services.dispose().await;
        }
        if !io.has_panicked() {
            left.send_replace(true);
        }
    }
}

/// How long a worker that leaves waits for procedures that were told to stop: far longer than one that awaits needs.
const STRAGGLERS_MAX: Duration = Duration::from_millis(500);
