//! The worker's handle and its builder; no liveness.

use std::{
    collections::BTreeSet,
    future::{Future, IntoFuture},
    pin::{Pin, pin},
    thread,
    time::Duration,
};

use futures_util::future::{self, Either};
use tokio::{
    runtime,
    sync::{oneshot, watch},
};
use uuid::Uuid;

use super::{
    command::{Command, Sentinel},
    driver::{self, Channels},
    service::{BoundService, IntoService},
};
use crate::{
    config::{LinkConfig, ProgramTurns, WAIT_MAX, check_backoff, check_hold_limits, require},
    error::{ConfigError, ConnectError, StartError, shown},
    io::{
        contained::Contained,
        current,
        mailbox::{Commands, mailbox},
        panics,
        thread::{Connections, IoThread, Owned, io_thread_died},
    },
    proto::{
        frame,
        hold::HoldLimits,
        message::Message,
        retry::BackoffConfig,
        worker::{DRAIN_TIMEOUT, WorkerConfig, WorkerCounters},
    },
    transport::IntoEndpoints,
};

/// The default concurrency for each of the machine's CPUs.
const CREDITS_PER_CPU: u32 = 32;

/// The least default concurrency of a worker whose procedures do not block: tasks that wait cost little, and the requests
/// that a busy client sends in one BATCH are a few hundred.
const CREDITS_MIN: u32 = 256;

/// Serves the calls of one or several clients or brokers, to which it connects.
///
/// It reconnects for as long as it lives.
///
/// Heartbeats and connections have a thread of their own: a procedure that blocks, even one that blocks every thread of
/// the runtime, loses no peer. Procedures run on the Tokio runtime that started the worker.
///
/// A `Worker` is a handle; dropping it leaves the worker running. [`Worker::drain`] stops the worker, and so does the
/// end of the runtime that started it. Its services are dropped on the blocking pool of that runtime, before the worker
/// has left. The services of a worker that never starts are dropped in place, like any value.
///
/// In a forked process, a handle is useless: the worker runs in the parent alone. Its methods return at once there,
/// like those of a worker that has left. A future from before the fork returns when it is polled, but nobody wakes it:
/// an executor that holds it, such as a `FuturesUnordered` or a `JoinHandle`, waits for ever. Make new handles in the
/// child, before other threads dial `inproc` endpoints there.
#[derive(Clone, Debug)]
pub struct Worker {
    id: Uuid,
    ends: Owned<Ends>,
}

/// The worker's ends of its channels to the I/O thread.
#[derive(Clone, Debug)]
struct Ends {
    commands: Commands<Command>,
    registered: watch::Receiver<usize>,
    left: watch::Receiver<bool>,
}

impl Worker {
    /// Settings for a worker that connects to a client or to a broker's backend.
    ///
    /// An endpoint is `tcp://host:port`, `ipc://path`, or `inproc://name` within one process. A worker serves all
    /// endpoints that are given here or to [`WorkerBuilder::connect`].
    ///
    /// Choose a fixed TCP port outside the system's ephemeral range, on Linux 32768 to 60999. The system may give a
    /// port of that range to any connection. While nobody listens at the port, a worker on the same machine also
    /// reserves it during each attempt to connect: a server that does not set `SO_REUSEADDR` cannot bind it then.
    pub fn connect(endpoints: impl IntoEndpoints) -> WorkerBuilder {
        WorkerBuilder::new().connect(endpoints)
    }

    /// The worker's incarnation, by which clients know it.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Whether the worker has a live connection to a client or broker that has answered.
    pub fn is_connected(&self) -> bool {
        self.ends.here().is_some_and(|ends| *ends.registered.borrow() > 0)
    }

    /// Waits until a client or broker has answered.
    ///
    /// `false` if none has in time, or the worker has left.
    pub async fn wait_for_client(&self, timeout: Duration) -> bool {
        let Some(ends) = self.ends.here() else { return false };
        let mut registered = ends.registered.clone();
        let (sender, late) = oneshot::channel();
        let _ = ends.commands.send(Command::Wake(timeout, sender));
        let arrival = pin!(registered.wait_for(|count| *count > 0));
        let answer = self.ends.answer(panics::shielded(future::select(arrival, late))).await;
        matches!(answer, Some(Either::Left((Ok(_), _))))
    }

    /// Drains the worker: accepts nothing new, finishes running calls, says goodbye and leaves.
    ///
    /// No call fails because of a drain: a request that crosses the announcement goes to another worker. Returns when
    /// the worker has left.
    ///
    /// Calls that still run after the drain timeout are given up. Then the services are dropped, and the drain waits
    /// for their `Drop`, however long that takes. A procedure that does not stop when it is given up keeps its service
    /// alive. The drain does not wait for it, and the service is dropped when the procedure ends.
    ///
    /// # In a method of the same worker
    /// A method of the worker may await the drain, through any clone of the handle. The drain counts its call as the
    /// last one: it returns to the method when everything else has ended. Then the reply is sent, and the worker
    /// leaves. Several such calls do not wait for each other. Calls that wait for their place, or for a thread of the
    /// blocking pool, run after that. This covers only the waits of the method itself.
    ///
    /// It does not cover waits through other tasks or calls, which end with the drain timeout, or the deadline of a
    /// call:
    ///
    /// - A drain in a task or thread that the method starts and waits for, or in a task of a runtime or `LocalSet` that
    ///   the method blocks on. Start it with `tokio::spawn(async move { worker.drain().await })`, and do not wait for
    ///   it.
    /// - A method that calls another method of the same worker, which drains: the outer call still runs. Let the outer
    ///   method drain.
    /// - Methods of two workers that each drain the other worker, or both: each waits for the other's call. Let one
    ///   method drain, or a task that no call waits for.
    pub async fn drain(&self) {
        if let Some(ends) = self.ends.here() {
            let _ = ends.commands.send(Command::Drain);
        }
        self.left().await;
    }

    /// Waits until the worker has left after a drain.
    ///
    /// A call of a worker's own method keeps the worker from leaving. There, `left` returns when a drain has begun and
    /// everything else has ended; see [`Self::drain`].
    pub async fn left(&self) {
        let Some(ends) = self.ends.here() else { return };
        if let Some(execution) = current::execution(self.id) {
            let (sender, alone) = oneshot::channel();
            let _ = ends.commands.send(Command::AwaitOthers(execution, sender));
            let _ = self.ends.answer(alone).await;
            return;
        }
        let mut left = ends.left.clone();
        // An error means that the I/O thread has ended: the worker has left.
        let _ = self.ends.answer(panics::shielded(left.wait_for(|left| *left))).await;
    }

    /// The worker's counters since its start; all zero once it has left.
    pub async fn counters(&self) -> WorkerCounters {
        let Some(ends) = self.ends.here() else { return WorkerCounters::default() };
        let (sender, receiver) = oneshot::channel();
        let _ = ends.commands.send(Command::Counters(sender));
        self.ends.answer(receiver).await.and_then(Result::ok).unwrap_or_default()
    }

    /// How the worker ended.
    fn ended(&self) -> Result<(), StartError> {
        let ends = self.ends.here().ok_or(StartError::Forked)?;
        match *ends.left.borrow() {
            true => Ok(()),
            false => Err(ConnectError::Thread(io_thread_died()).into()),
        }
    }
}

/// Settings for a [`Worker`], which [`WorkerBuilder::start`] checks.
///
/// Awaiting the builder starts the worker and waits until it has left. Dropping that future drains the worker.
///
/// ```no_run
/// # #[xero::service]
/// # trait Greeter { async fn greet(&self, name: &str) -> String; }
/// # struct Polite;
/// # #[xero::worker]
/// # impl Greeter for Polite { async fn greet(&self, name: &str) -> String { name.to_owned() } }
/// # async fn example() -> Result<(), xero::StartError> {
/// xero::Worker::connect("tcp://127.0.0.1:5550").serve(Polite).await
/// # }
/// ```
#[must_use = "a worker does nothing until it is started or awaited"]
pub struct WorkerBuilder {
    endpoints: Vec<String>,
    services: Vec<BoundService>,
    pub(super) link: LinkConfig,
    backoff: BackoffConfig,
    /// The default depends on the services.
    concurrency: Option<u32>,
    pub(super) hold_limits: HoldLimits,
    drain_timeout: Duration,
    pub(super) program_turns: ProgramTurns,
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl WorkerBuilder {
    fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            services: Vec::new(),
            link: LinkConfig::default(),
            backoff: BackoffConfig::default(),
            concurrency: None,
            hold_limits: HoldLimits::default(),
            drain_timeout: DRAIN_TIMEOUT,
            program_turns: ProgramTurns::default(),
            stop: None,
        }
    }

    /// Adds one or several endpoints of clients or brokers.
    pub fn connect(mut self, endpoints: impl IntoEndpoints) -> Self {
        self.endpoints.extend(endpoints.into_endpoints());
        self
    }

    /// Serves a value with a `#[xero::worker]` impl; call it again for further services.
    ///
    /// If a value implements several services, name each one with its trait's `into_service`, which takes an `Arc` of
    /// the value:
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use xero::Worker;
    /// # #[xero::service]
    /// # trait Users { async fn count(&self) -> u32; }
    /// # #[xero::service]
    /// # trait Orders { async fn cancel(&self, number: u32) -> bool; }
    /// # struct Shop;
    /// # #[xero::worker]
    /// # impl Users for Shop { async fn count(&self) -> u32 { 1 } }
    /// # #[xero::worker]
    /// # impl Orders for Shop { async fn cancel(&self, number: u32) -> bool { number == 7 } }
    /// let shop = Arc::new(Shop);
    /// let settings = Worker::connect("tcp://127.0.0.1:5550")
    ///     .serve(Users::into_service(Arc::clone(&shop)))
    ///     .serve(Orders::into_service(shop));
    /// ```
    // If the compiler cannot choose between several services, it prints the parameter's name and its line.
    pub fn serve<OneOfItsServices>(
        mut self,
        service: impl IntoService<OneOfItsServices>, // name it: `.serve(YourService::into_service(Arc::new(value)))`
    ) -> Self {
        self.services.push(service.into_bound_service());
        self
    }

    /// Requests that run at once, and that each client may send ahead. Default 32 per CPU; at least 256 if no method is
    /// `blocking`.
    ///
    /// At least 1. Lower keeps slow work from piling up here while other workers are idle: a procedure that computes for
    /// long gains nothing from more than a few per CPU. Higher suits procedures that mostly wait. (`PROTOCOL.md` §9)
    pub fn concurrency(mut self, requests: u32) -> Self {
        self.concurrency = Some(requests);
        self
    }

    /// Bounds of the wait before the worker dials again. Default 100 ms to 2 s.
    ///
    /// The upper bound of the wait doubles from the first to the last, and the wait is drawn at random below it. The
    /// ZeroMQ guide's Paranoid Pirate goes up to 32 s. Lower finds a restarted client sooner; higher spares a network
    /// with many workers. At least 1 ms, at most a day. (`PROTOCOL.md` §6)
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = BackoffConfig { first, max };
        self
    }

    /// How long a drain waits for running calls. Default 30 s; at most a day.
    ///
    /// After its goodbye, the worker waits up to 0.5 s longer for its clients and brokers to disconnect. (`PROTOCOL.md`
    /// §10)
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Drains the worker when the future is ready, whatever its result, or panics.
    ///
    /// With Tokio's feature `signal`: `.drain_on(tokio::signal::ctrl_c())`.
    ///
    /// ```
    /// # #[xero::service]
    /// # trait Greeter { async fn greet(&self, name: &str) -> String; }
    /// # struct Polite;
    /// # #[xero::worker]
    /// # impl Greeter for Polite { async fn greet(&self, name: &str) -> String { name.to_owned() } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), xero::StartError> {
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let worker = xero::Worker::connect("inproc://drain-on-example").serve(Polite).drain_on(stopped).start()?;
    /// drop(stop);
    /// worker.left().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_on(mut self, stop: impl Future<Output: Send> + Send + 'static) -> Self {
        self.stop = Some(Box::pin(async move {
            stop.await;
        }));
        self
    }

    /// Starts the worker on the current Tokio runtime.
    ///
    /// Returns at once: the worker connects in the background, and reconnects after each loss.
    ///
    /// # Errors
    /// When an endpoint is malformed, the settings contradict each other, there is no service or the same service
    /// twice, or there is no Tokio runtime.
    pub fn start(self) -> Result<Worker, StartError> {
        self.check()?;
        let endpoints = ConnectError::check(&self.endpoints)?;
        let user = runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let config = self.config();
        frame::check(&Message::Ready(config.introduction()), &config.limits)?;
        let id = config.incarnation;
        let (ends, channels) = open(self.program_turns);
        let driver = driver::run(self.link.transport, endpoints, config, self.services, user.clone(), channels);
        IoThread::spawn("xero-worker", Connections::Few, driver).map_err(ConnectError::Thread)?;
        let worker = Worker { id, ends };
        if let Some(stop) = self.stop {
            user.spawn(drain_on(Contained::new("the future given to drain_on", stop), worker.clone()));
        }
        Ok(worker)
    }

    fn config(&self) -> WorkerConfig {
        let id = Uuid::new_v4();
        WorkerConfig {
            incarnation: id,
            seed: id.as_u64_pair().0,
            heartbeats: self.link.heartbeats,
            backoff: self.backoff,
            limits: self.link.limits,
            credits: self.credits(),
            window_bytes: self.link.window_bytes,
            hold_limits: self.hold_limits,
            drain_timeout: self.drain_timeout,
            services: self.services.iter().map(BoundService::offer).collect(),
            signatures: self.services.iter().map(BoundService::signatures).collect(),
        }
    }

    fn credits(&self) -> u32 {
        self.concurrency.unwrap_or_else(|| {
            let cpus = thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
            let credits = cpus.saturating_mul(CREDITS_PER_CPU);
            // Each blocking procedure takes a thread.
            if self.services.iter().any(BoundService::blocks) { credits } else { credits.max(CREDITS_MIN) }
        })
    }

    fn check(&self) -> Result<(), StartError> {
        self.check_settings().map_err(ConnectError::Config)?;
        let mut names = BTreeSet::new();
        for service in &self.services {
            if !names.insert(service.descriptor.name) {
                return Err(StartError::DuplicateService(service.descriptor.name.to_owned()));
            }
        }
        match self.services.is_empty() {
            true => Err(StartError::NoService),
            false => Ok(()),
        }
    }

    fn check_settings(&self) -> Result<(), ConfigError> {
        self.link.check()?;
        check_hold_limits(&self.hold_limits)?;
        check_backoff("backoff", self.backoff)?;
        let drain = self.drain_timeout;
        require(drain <= WAIT_MAX, "drain_timeout", shown(drain), "must be at most a day")?;
        let credits = self.credits();
        require(credits > 0, "concurrency", credits, "must be at least 1")
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("endpoints", &self.endpoints)
            .field("services", &self.services)
            .field("concurrency", &self.credits())
            .finish_non_exhaustive()
    }
}

/// The initial state of a handle and its I/O thread.
fn open(program_turns: ProgramTurns) -> (Owned<Ends>, Channels) {
    let (io, (commands, mailbox)) = (IoThread::new(), mailbox());
    let (registered_sender, registered) = watch::channel(0);
    let (left_sender, left) = watch::channel(false);
    let channels = Channels {
        io: io.clone(),
        commands: Owned::new(io.clone(), commands.clone()),
        mailbox,
        registered: registered_sender,
        left: left_sender,
        program_turns,
    };
    (Owned::new(io, Ends { commands, registered, left }), channels)
}

/// Drains the worker when the signal is ready. Drops the signal if the worker leaves first.
async fn drain_on(stop: Contained, worker: Worker) {
    let left = pin!(worker.left());
    if let Either::Left(_) = future::select(stop, left).await {
        worker.drain().await;
    }
}

impl IntoFuture for WorkerBuilder {
    type Output = Result<(), StartError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let worker = self.start()?;
            // A dropped future leaves no other handle to stop the worker with.
            let _drain = Sentinel(worker.ends.map(|ends| ends.commands.clone()));
            worker.left().await;
            worker.ended()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::service::ServiceDescriptor;

    static EMPTY: ServiceDescriptor = ServiceDescriptor { name: "Empty", version: 1, methods: &[] };

    #[tokio::test]
    async fn everything_asked_of_a_worker_whose_io_thread_dies_ends_at_once() {
        let settings = || Worker::connect("inproc://nobody-is-here").serve(BoundService::new(&EMPTY));
        let worker = settings().start().expect("a worker");
        let waiting = tokio::spawn({
            let worker = worker.clone();
            async move { (worker.wait_for_client(Duration::MAX).await, worker.left().await) }
        });
        worker.counters().await;
        let ends = worker.ends.here().expect("this process");
        ends.commands.send(Command::Panic).expect("it runs");
        worker.left().await;
        assert!(!waiting.await.expect("it ends").0);
        worker.drain().await;
        assert_eq!(worker.counters().await, WorkerCounters::default());
        assert!(!worker.wait_for_client(Duration::MAX).await && !worker.is_connected());
        assert!(worker.ended().is_err_and(|error| error.to_string().contains("panicked")));
    }
}
