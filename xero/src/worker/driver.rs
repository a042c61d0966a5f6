//! Drives a worker: its connections, and its procedures on the user's runtime.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    future::pending,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

use super::{
    command::{Command, Sentinel},
    context::{Context, Place},
    procedure::{self, Job, Lease, Served},
    service::BoundService,
};
use crate::{
    io::{
        clock,
        driver::{Driver, Role, Side},
        guest::Guest,
        machine::Machine,
        thread::{IoThread, Owned},
        turns::{drive, wake_after},
    },
    proto::{
        frame::Malformed,
        message::{Message, Payload, Peer},
        outbox::Transmit,
        timer::Execution,
        worker::{Start, Worker, WorkerConfig, WorkerOutput},
    },
    transport::{Dealers, Endpoint},
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
    let role = WorkerRole {
        id: worker,
        lease: Lease { services: Arc::new(services), user, _held: held },
        channels,
        running: HashMap::new(),
        leaving: Vec::new(),
        has_left: false,
    };
    let (limits, count) = (config.limits, endpoints.len() as u64);
    // It holds nothing of the user's.
    let machine = Guest::only_if(false, Worker::new(clock::now(), config, count));
    let mut driver = Driver::new(machine, limits, Dealers::new(endpoints), role);
    // A runtime that ends drops its tasks. Procedures cannot be run then, and a worker that stayed would only take calls
    // away from others.
    let sentinel = Sentinel(Owned::new(driver.role.channels.io.clone(), driver.role.channels.commands.clone()));
    let watch = driver.role.lease.user.spawn(async move {
        let _sentinel = sentinel;
        pending::<()>().await;
    });
    let ended = drive(&mut driver).await;
    watch.abort();
    if let Err(panic) = ended {
        driver.role.channels.io.crash(panic);
    }
    let Driver { side, role } = driver;
    role.finish(side, released).await;
}

struct WorkerRole {
    id: Uuid,
    lease: Lease,
    channels: Channels,
    /// To tell the procedures that they are no longer wanted.
    running: HashMap<Execution, Context>,
    /// Procedures that wait for the others to end.
    leaving: Vec<(Execution, oneshot::Sender<()>)>,
    has_left: bool,
}

type WorkerSide = Side<Worker, Dealers>;

impl Role for WorkerRole {
    type Machine = Worker;
    type Connections = Dealers;
    type Command = Command;

    fn mailbox(&mut self) -> &mut mpsc::UnboundedReceiver<Command> {
        &mut self.channels.mailbox
    }

    fn handle_command(&mut self, side: &mut WorkerSide, now: Instant, command: Command) {
        match command {
            Command::Finish(execution, finish) => {
                // What the procedure has left running elsewhere is no longer wanted either.
                if let Some(context) = self.running.remove(&execution) {
                    context.cancel();
                }
                side.machine.finish(now, execution, finish);
            }
            Command::Partial(execution, payload) => {
                side.machine.partial(now, execution, payload);
            }
            Command::Counters(sender) => drop(sender.send(side.machine.counters())),
            Command::Drain => side.machine.drain(now),
            Command::AwaitOthers(execution, sender) => self.leaving.push((execution, sender)),
            Command::Wake(time, sender) => wake_after(time, sender),
            #[cfg(test)]
            Command::Panic => panic!("as asked"),
        }
    }

    fn handle_abandoned(&mut self, _: &mut WorkerSide, _: Instant) {
        // A worker outlives its handles: it has a sender of its own for its procedures.
    }

    fn handle_output(&mut self, side: &mut WorkerSide, _: Instant, output: WorkerOutput) {
        match output {
            WorkerOutput::Dial(peer) => side.connections.dial(peer),
            WorkerOutput::Hangup(peer) => side.hang_up(peer),
            WorkerOutput::Registered(_) | WorkerOutput::Unregistered(_) => {
                self.channels.registered.send_replace(side.machine.registered().count());
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

    fn finish_turn(&mut self, side: &mut WorkerSide) {
        self.release_leaving(&side.machine);
    }

    fn has_ended(&self) -> bool {
        self.has_left
    }
}

impl WorkerRole {
    fn start(&mut self, start: Start) {
        let Start { execution, peer, service, method, deadline, reply_bytes_max, mut request } = start;
        let lease = self.lease.clone();
        let procedure = lease.services.services[service].procedures[method].clone();
        let (io, commands) = (self.channels.io.clone(), self.channels.commands.clone());
        let bytes = mem::take(&mut request.payload.bytes);
        let arguments = Payload { codec: request.payload.codec, bytes };
        let place = Place { worker: self.id, execution, deadline, reply_bytes_max, io, commands };
        let context = Context::new(request, place);
        self.running.insert(execution, context.clone());
        procedure::spawn(Job { procedure, context, arguments, peer, lease });
    }

    /// Answers the procedures that wait for all others to end, once only they run. Queued requests do not count: they may
    /// wait for the place of one of these.
    fn release_leaving(&mut self, machine: &Worker) {
        if self.leaving.is_empty() || !machine.is_leaving() {
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
    async fn finish(self, side: WorkerSide, mut released: mpsc::Receiver<Infallible>) {
        let Self { lease, channels, running, leaving, .. } = self;
        let Channels { io, commands, mailbox, registered, left } = channels;
        // Commands that are sent from now on fail.
        drop((side, commands, mailbox, leaving));
        registered.send_replace(0);
        running.values().for_each(Context::cancel);
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

impl Machine for Worker {
    type Peer = Peer;
    type Output = WorkerOutput;

    fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.handle_dialed(now, peer);
    }

    fn handle_message(&mut self, now: Instant, from: Peer, message: Message) {
        self.handle_message(now, from, message);
    }

    fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        self.handle_malformed(now, from, malformed);
    }

    fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.handle_disconnected(now, peer);
    }

    fn handle_unsent(&mut self, now: Instant, peer: Peer, _: Transmit) {
        // A reply has nowhere else to go.
        self.handle_disconnected(now, peer);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<(Peer, Transmit)> {
        self.poll_transmit().map(|transmit| (transmit.to, transmit))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.poll_output()
    }
}

/// How long a worker that leaves waits for procedures that were told to stop: far longer than one that awaits needs.
const STRAGGLERS_MAX: Duration = Duration::from_millis(500);
