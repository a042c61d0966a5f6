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
    clock,
    dealers::{Dealers, DealersInput},
    driver::{Driver, drive, frames_of, wake_after},
    endpoint::Endpoint,
    guest::{Guest, Rest},
    io_thread::{IoThread, Owned, close},
    panics,
    procedure::{self, Job, Lease, Queued, Served},
    transport::RouterInput,
};
use crate::{
    context::{Context as CallContext, Place},
    proto::{
        frame::{self, Frames, KnownNames, Limits, Malformed},
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
    /// Answer once the worker drains and every execution that still runs has asked this.
    AwaitOthers(Execution, oneshot::Sender<()>),
    /// Answer after that time.
    Wake(Duration, oneshot::Sender<()>),
    #[cfg(test)]
    Panic,
}

/// Drains the worker when it is dropped.
#[derive(Debug)]
pub(crate) struct Sentinel(pub(crate) Owned<mpsc::UnboundedSender<Command>>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if let Some(commands) = self.0.here() {
            let _ = commands.send(Command::Drain);
        }
    }
}

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
) -> Rest {
    let (held, released) = mpsc::channel(1);
    let (worker, limits) = (config.incarnation, config.limits);
    let services = Guest::of(&user, Served { worker, services });
    let mut machine = Worker::new(clock::now(), config, endpoints.len() as u64);
    machine.name_endpoints(endpoints.iter().map(Endpoint::to_string));
    let mut driver = WorkerDriver {
        limits,
        names: KnownNames::default(),
        id: worker,
        machine,
        dealers: Dealers::new(endpoints),
        lease: Lease { services: Arc::new(services), user, _held: held },
        channels,
        running: HashMap::new(),
        leaving: Leaving::default(),
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
        driver.channels.io.crash(Guest::of(&driver.lease.user, panic));
    }
    driver.finish(released).await
}

struct WorkerDriver {
    machine: Worker,
    limits: Limits,
    /// What requests have named, so that no name is allocated for each.
    names: KnownNames,
    id: Uuid,
    dealers: Dealers,
    lease: Lease,
    channels: Channels,
    running: HashMap<Execution, Running>,
    leaving: Leaving,
    /// Connections to end once what is to be sent on them is on its way.
    hangups: Vec<Peer>,
    has_left: bool,
}

/// A procedure whose end has not been reported.
struct Running {
    context: CallContext,
    /// One that blocks waits for a thread first.
    queued: Option<Queued>,
}

impl Running {
    /// Tells the procedure that it is no longer wanted.
    fn cancel(&self) {
        panics::wake(|| self.context.cancel());
        if let Some(queued) = &self.queued {
            queued.withdraw();
        }
    }

    fn has_begun(&self) -> bool {
        !self.queued.as_ref().is_some_and(Queued::is_waiting)
    }
}

/// Procedures that wait for the others to end.
#[derive(Default)]
struct Leaving(Vec<(Execution, oneshot::Sender<()>)>);

impl Leaving {
    /// Waits that were given up are removed before the list grows, so it is at most twice as long as ever needed.
    fn push(&mut self, execution: Execution, sender: oneshot::Sender<()>) {
        if self.0.len() == self.0.capacity() {
            self.prune();
            self.0.reserve(self.0.len().max(LEAVING_MIN));
        }
        self.0.push((execution, sender));
    }

    fn prune(&mut self) {
        self.0.retain(|(_, sender)| !sender.is_closed());
    }

    fn executions(&self) -> HashSet<Execution> {
        self.0.iter().map(|(execution, _)| *execution).collect()
    }

    /// Answers all of them.
    fn release(&mut self) {
        for (_, sender) in self.0.drain(..) {
            panics::wake(|| sender.send(()));
        }
    }
}

/// Room for as many waits as a worker has in practice.
const LEAVING_MIN: usize = 16;

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
                if let Some(running) = self.running.remove(&execution) {
                    running.cancel();
                }
                self.machine.finish(now, execution, finish);
            }
            Command::Partial(execution, payload) => {
                self.machine.partial(now, execution, payload);
            }
            Command::Counters(sender) => drop(panics::wake(|| sender.send(self.machine.counters()))),
            Command::Drain => self.machine.drain(now),
            Command::AwaitOthers(execution, sender) => self.leaving.push(execution, sender),
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
        let mut decoded = frame::decode(frames, &limits);
        while let Some(item) = decoded.next_known(&mut self.names) {
            match item {
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
                    let count = self.machine.registered().count();
                    panics::wake(|| self.channels.registered.send_replace(count));
                }
                WorkerOutput::Start(start) => self.start(*start),
                WorkerOutput::PartialSent(execution, bytes) => {
                    if let Some(running) = self.running.get(&execution) {
                        panics::wake(|| running.context.make_room(bytes));
                    }
                }
                WorkerOutput::Abort(execution) => {
                    if let Some(running) = self.running.get(&execution) {
                        running.cancel();
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
        let commands = Owned::new(self.channels.io.clone(), self.channels.commands.clone());
        let bytes = mem::take(&mut request.payload.bytes);
        let arguments = Payload { codec: request.payload.codec, bytes };
        let place = Place { worker: self.id, execution, deadline, reply_bytes_max, commands };
        let context = CallContext::new(request, place);
        let queued = procedure::spawn(Job { procedure, context: context.clone(), arguments, peer, lease });
        self.running.insert(execution, Running { context, queued });
    }

    /// Answers the procedures that wait for all others to end, once only they run. Queued requests do not count, nor do
    /// procedures that wait for a thread: they may wait for the place of one of these.
    fn release_leaving(&mut self) {
        if self.leaving.0.is_empty() || !self.machine.is_leaving() {
            return;
        }
        self.leaving.prune();
        let leaving = self.leaving.executions();
        let mut begun = self.running.iter().filter(|(_, running)| running.has_begun());
        if begun.all(|(execution, _)| leaving.contains(execution)) {
            self.leaving.release();
        }
    }

    /// Ends the connections, drops what was served, and says that the worker has left.
    async fn finish(self, mut released: mpsc::Receiver<Infallible>) -> Rest {
        let Self { machine, dealers, lease, channels, running, leaving, .. } = self;
        let Channels { io, commands, mailbox, registered, left } = channels;
        // Commands that are sent from now on fail.
        drop((machine, dealers, commands));
        close(mailbox);
        leaving.0.into_iter().for_each(panics::drop_quietly);
        panics::wake(|| registered.send_replace(0));
        running.values().for_each(Running::cancel);
        let Lease { services, _held: held, .. } = lease;
        drop(held);
        // An error means that a procedure does not look at its cancellation; it drops what it has when it ends.
        let _ = timeout(STRAGGLERS_MAX, released.recv()).await;
        let leave = move || {
            if !io.has_panicked() {
                panics::wake(|| left.send_replace(true));
            }
            panics::drop_quietly((left, registered));
        };
        match Arc::into_inner(services) {
            Some(services) => services.dispose(leave).await,
            None => {
                leave();
                None
            }
        }
    }
}

/// How long a worker that leaves waits for procedures that were told to stop: far longer than one that awaits needs.
const STRAGGLERS_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_others_that_are_given_up_are_forgotten() {
        let mut leaving = Leaving::default();
        let (kept, mut receiver) = oneshot::channel();
        leaving.push(Execution(1), kept);
        for _ in 0..10_000 {
            leaving.push(Execution(2), oneshot::channel().0);
        }
        assert!(leaving.0.capacity() <= 8 * LEAVING_MIN, "{}", leaving.0.capacity());
        leaving.prune();
        assert_eq!(leaving.executions(), HashSet::from([Execution(1)]));
        leaving.release();
        assert_eq!(receiver.try_recv(), Ok(()));
    }
}
