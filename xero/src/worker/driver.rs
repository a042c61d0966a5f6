//! Drives a worker: its connections, and its procedures on the user's runtime.

use std::{
    collections::HashSet,
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
    procedure::{self, Job, Lease, Queued, Served},
    service::BoundService,
};
use crate::{
    config::ProgramTurns,
    io::{
        clock,
        driver::{Driver, Role, Side},
        errands::{self, Code, Errands},
        guest::{Guest, Rest},
        machine::Machine,
        mailbox::{Commands, Mailbox},
        panics,
        thread::{IoThread, Owned, close},
        turns::{drive, wake_after},
        watch::Need,
    },
    proto::{
        frame::{Inbound, Malformed},
        ids::IdMap,
        message::{Payload, Peer},
        outbox::Transmit,
        timer::Execution,
        worker::{Start, Worker, WorkerConfig, WorkerOutput},
    },
    transport::{Dealers, Endpoint, Sockets, Transport},
};

/// The ends of a worker's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) io: IoThread,
    /// Commands from procedures; this also keeps the mailbox open when the last handle is dropped.
    pub(crate) commands: Owned<Commands<Command>>,
    pub(crate) mailbox: Mailbox<Command>,
    pub(crate) registered: watch::Sender<usize>,
    pub(crate) left: watch::Sender<bool>,
    /// Whether procedures handle their commands themselves when nobody else is at work.
    pub(crate) program_turns: ProgramTurns,
}

/// Runs until the machine has left and the services are dropped.
///
/// The services are guests from the first poll on; before it, they are dropped in place.
pub(crate) async fn run(
    transport: Transport,
    endpoints: Vec<Endpoint>,
    config: WorkerConfig,
    services: Vec<BoundService>,
    user: Handle,
    channels: Channels,
) -> Rest {
    let (worker, limits) = (config.incarnation, config.limits);
    let services = Guest::of(&user, Served { worker, services });
    let (lease, released) = Lease::new(services, user, Handle::current());
    let role = WorkerRole {
        id: worker,
        lease,
        channels,
        running: IdMap::default(),
        leaving: Leaving::default(),
        has_registered_changed: false,
        has_left: false,
    };
    let mut machine = Worker::new(clock::now(), config, endpoints.len() as u64);
    machine.name_endpoints(endpoints.iter().map(Endpoint::to_string));
    // It holds no user value.
    let machine = Guest::only_if(false, machine);
    let driver = Driver::new(machine, limits, Dealers::new(endpoints, Sockets::new(transport, limits)), role);
    // A runtime that ends drops its tasks. The worker cannot run procedures then, and by staying would only take calls
    // away from others.
    let sentinel = Sentinel(driver.role.channels.commands.clone());
    let watch = driver.role.lease.user.spawn(async move {
        let _sentinel = sentinel;
        pending::<()>().await;
    });
    let may_read = driver.role.channels.program_turns.may_read(transport);
    let program = may_read.then(|| driver.role.lease.user.clone());
    let (driver, ended) = drive(driver, program).await;
    watch.abort();
    if let Err(panic) = ended {
        driver.role.channels.io.crash(Guest::of(&driver.role.lease.user, panic));
    }
    let Driver { side, role, .. } = *driver;
    // Ends the connections.
    drop(side);
    role.finish(released).await
}

struct WorkerRole {
    id: Uuid,
    lease: Lease,
    channels: Channels,
    running: IdMap<Execution, Running>,
    leaving: Leaving,
    has_registered_changed: bool,
    has_left: bool,
}

/// A procedure whose end has not been reported.
#[derive(Clone)]
struct Running {
    context: Context,
    /// Set while a blocking procedure waits for a thread.
    queued: Option<Queued>,
}

impl Running {
    /// Reports to the procedure that nobody wants its reply.
    fn cancel(&self, errands: &mut Errands<Errand>) {
        // From here on, no wait begins.
        self.context.note_unwanted();
        match self.context.is_awaited() {
            true => errands.add(Errand::Cancel(self.clone())),
            // Only tasks of Tokio's and threads of ours wait.
            false => self.wake(),
        }
    }

    /// Wakes what waits for that, and ends a procedure that waits for a thread.
    fn wake(&self) {
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
struct Leaving(Vec<Wait>);

/// A procedure that waits, and where to answer it.
type Wait = (Execution, oneshot::Sender<()>);

impl Leaving {
    /// Cancelled waits are removed before the list grows, so it is at most twice as long as needed.
    /// Returns the removed ones.
    fn push(&mut self, execution: Execution, sender: oneshot::Sender<()>) -> Vec<Wait> {
        let mut cancelled = Vec::new();
        if self.0.len() == self.0.capacity() {
            cancelled = self.prune();
            self.0.reserve(self.0.len().max(LEAVING_MIN));
        }
        self.0.push((execution, sender));
        cancelled
    }

    /// Removes the cancelled waits, and returns them: their drop runs user code.
    fn prune(&mut self) -> Vec<Wait> {
        self.0.extract_if(.., |(_, sender)| sender.is_closed()).collect()
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

type WorkerSide = Side<Worker, Dealers, Errand>;

/// User code that a worker's turn leads to. The common ones need no memory of their own.
enum Errand {
    /// Nobody wants the procedure's reply.
    Cancel(Running),
    /// A partial reply of this size has been sent.
    Room(Context, usize),
    Code(Code),
}

impl From<Code> for Errand {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl errands::Errand for Errand {
    fn run(self) {
        match self {
            Self::Cancel(running) => running.wake(),
            Self::Room(context, bytes) => _ = panics::wake(|| context.make_room(bytes)),
            Self::Code(code) => code(),
        }
    }
}

impl Role for WorkerRole {
    type Machine = Worker;
    type Connections = Dealers;
    type Command = Command;
    type Errand = Errand;

    fn mailbox(&mut self) -> &mut Mailbox<Command> {
        &mut self.channels.mailbox
    }

    fn handle_command(&mut self, side: &mut WorkerSide, now: Instant, command: Command) {
        match command {
            Command::Finish(execution, finish) => {
                // Nobody wants the work that the procedure left running elsewhere.
                if let Some(running) = self.running.remove(&execution) {
                    running.cancel(&mut side.errands);
                }
                side.machine.finish(now, execution, finish);
            }
            Command::Partial(execution, payload) => {
                side.machine.partial(now, execution, payload);
            }
            Command::Counters(sender) => {
                let counters = side.machine.counters();
                side.errands.add_code(move || _ = panics::wake(|| sender.send(counters)));
            }
            Command::Drain => side.machine.drain(now),
            Command::AwaitOthers(execution, sender) => {
                let cancelled = self.leaving.push(execution, sender);
                side.errands.add_code(move || cancelled.into_iter().for_each(panics::drop_quietly));
            }
            Command::Wake(time, sender) => wake_after(time, sender),
            #[cfg(test)]
            Command::Panic => panic!("as asked"),
        }
    }

    fn handle_abandoned(&mut self, _: &mut WorkerSide, _: Instant) {
        // A worker outlives its handles: it keeps a sender for its procedures.
    }

    fn handle_output(&mut self, side: &mut WorkerSide, _: Instant, output: WorkerOutput) {
        match output {
            WorkerOutput::Dial(peer) => side.connections.dial(peer),
            WorkerOutput::Hangup(peer) => side.hang_up(peer),
            WorkerOutput::Registered(_) | WorkerOutput::Unregistered(_) => {
                self.has_registered_changed = true;
            }
            WorkerOutput::Start(start) => self.start(*start, &side.home),
            WorkerOutput::PartialSent(execution, bytes) => {
                if let Some(running) = self.running.get(&execution) {
                    side.errands.add(Errand::Room(running.context.clone(), bytes));
                }
            }
            WorkerOutput::Abort(execution) => {
                if let Some(running) = self.running.get(&execution) {
                    running.cancel(&mut side.errands);
                }
            }
            WorkerOutput::Left => self.has_left = true,
        }
    }

    fn finish_turn(&mut self, side: &mut WorkerSide) {
        if mem::take(&mut self.has_registered_changed) {
            let (count, registered) = (side.machine.registered().count(), self.channels.registered.clone());
            side.errands.add_code(move || _ = panics::wake(|| registered.send_replace(count)));
        }
        self.release_leaving(side);
    }

    fn allows_turns(&self) -> bool {
        self.channels.program_turns.may_write()
    }

    fn is_quiet(&self) -> bool {
        // The command is probably the end of the only procedure.
        self.running.len() <= 1
    }

    fn need(&self) -> Need {
        if self.running.is_empty() { Need::News } else { Need::Replies }
    }

    fn has_ended(&self) -> bool {
        self.has_left
    }
}

impl WorkerRole {
    fn start(&mut self, start: Start, home: &Handle) {
        let Start { execution, peer, service, method, deadline, reply_bytes_max, mut request } = start;
        let lease = self.lease.clone();
        let procedure = lease.services.services[service].procedures[method].clone();
        let commands = self.channels.commands.clone();
        let bytes = mem::take(&mut request.payload.bytes);
        let arguments = Payload { codec: request.payload.codec, bytes };
        let place = Place { worker: self.id, execution, deadline, reply_bytes_max, commands };
        let context = Context::new(request, place);
        let queued = procedure::spawn(Job { procedure, context: context.clone(), arguments, peer, lease }, home);
        self.running.insert(execution, Running { context, queued });
    }

    /// Answers the procedures that wait for all others to end, once only they run.
    ///
    /// Queued requests do not count, nor do procedures that wait for a thread: they may wait for the place of one of
    /// these.
    fn release_leaving(&mut self, side: &mut WorkerSide) {
        if self.leaving.0.is_empty() || !side.machine.is_leaving() {
            return;
        }
        let cancelled = self.leaving.prune();
        side.errands.add_code(move || cancelled.into_iter().for_each(panics::drop_quietly));
        let leaving = self.leaving.executions();
        let mut begun = self.running.iter().filter(|(_, running)| running.has_begun());
        if begun.all(|(execution, _)| leaving.contains(execution)) {
            let mut leaving = mem::take(&mut self.leaving);
            side.errands.add_code(move || leaving.release());
        }
    }

    /// Drops the services, and reports that the worker has left.
    async fn finish(self, mut released: mpsc::Receiver<Infallible>) -> Rest {
        let Self { lease, channels, running, leaving, .. } = self;
        let Channels { io, commands, mailbox, registered, left, .. } = channels;
        // Later commands fail.
        drop(commands);
        close(mailbox);
        leaving.0.into_iter().for_each(panics::drop_quietly);
        panics::wake(|| registered.send_replace(0));
        running.values().for_each(Running::wake);
        let services = Arc::clone(&lease.services);
        drop(lease);
        // An error means that a procedure ignores its cancellation; it drops its values when it ends.
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

impl Machine for Worker {
    type Peer = Peer;
    type Output = WorkerOutput;

    fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.handle_dialed(now, peer);
    }

    fn handle_message(&mut self, now: Instant, from: Peer, message: Inbound) {
        self.handle_message(now, from, message);
    }

    fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        self.handle_malformed(now, from, malformed);
    }

    /// It dials its peers, whose ends do not wait for anything.
    fn weight(&self, _: Peer) -> usize {
        0
    }

    fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.handle_disconnected(now, peer);
    }

    fn handle_unsent(&mut self, now: Instant, peer: Peer, _: Transmit) {
        // The reply has no other way to its caller.
        self.handle_disconnected(now, peer);
    }

    fn handle_heartbeats(&mut self, now: Instant) {
        self.handle_heartbeats(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<(Peer, Transmit)> {
        self.poll_transmit().map(|transmit| (transmit.to, transmit))
    }

    fn recycle(&mut self, _: Peer, sent: Transmit) {
        self.recycle(sent);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<WorkerOutput> {
        self.poll_output()
    }
}

/// How long a leaving worker waits for cancelled procedures: far longer than one that awaits needs.
const STRAGGLERS_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_waits_for_the_others_are_forgotten() {
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
