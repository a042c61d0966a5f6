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
    sync::{mpsc, oneshot, watch},
};
use uuid::Uuid;

use super::{
    command::{Command, Sentinel},
    driver::{self, Channels},
    service::{BoundService, IntoService},
};
use crate::{
    config::{LinkConfig, WAIT_MAX, check_backoff, check_hold_limits, hold_setters, link_setters, require},
    error::{ConfigError, ConnectError, StartError},
    io::{
        contained::Contained,
        current, panics,
        thread::{IoThread, Owned, io_thread_died},
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

/// Requests that a worker takes at once for each of its machine's CPUs, unless it is set otherwise.
const CREDITS_PER_CPU: u32 = 32;

/// Serves the calls of one or several clients or brokers, to which it connects and connects again for as long as it
/// lives.
///
/// Heartbeats and connections live on a thread of the worker's own: a procedure that blocks, even every thread of the
/// runtime, loses nobody. Procedures run on the Tokio runtime that the worker is started in.
///
/// A `Worker` is a handle; dropping it leaves the worker running. It stops by [`Worker::drain`], or when the runtime that
/// it was started in ends. What it serves is dropped on the blocking pool of that runtime, before it has left; where the
/// worker is never started, it is dropped in place, like any value.
///
/// In a process that was forked from the worker's, a handle is of no use: the worker runs in the parent alone. Each of
/// its methods returns at once there, as those of a worker that has left do. A future that was begun before the fork says
/// so when it is polled, but nobody wakes it: an executor that holds it, such as a `FuturesUnordered` or a
/// `JoinHandle`, waits for ever. Make new handles in the child, before other threads dial `inproc` endpoints there.
#[derive(Clone, Debug)]
pub struct Worker {
    id: Uuid,
    ends: Owned<Ends>,
}

/// The worker's ends of its channels to the I/O thread.
#[derive(Clone, Debug)]
struct Ends {
    commands: mpsc::UnboundedSender<Command>,
    registered: watch::Receiver<usize>,
    left: watch::Receiver<bool>,
}

impl Worker {
    /// Settings for a worker that connects to the endpoint of a client that binds, or to the back of a broker:
    /// `tcp://host:port`, `ipc://path`, or `inproc://name` within one process. It can be given several, here or by
    /// [`WorkerBuilder::connect`], and serves all of them.
    ///
    /// Choose a fixed TCP port outside the system's ephemeral range, on Linux 32768 to 60999. The system may give a port
    /// of that range to any connection, and while nobody listens at it, a worker on the same machine reserves it for each
    /// attempt to connect: a server that does not set `SO_REUSEADDR` cannot bind it then.
    pub fn connect(endpoints: impl IntoEndpoints) -> WorkerBuilder {
        WorkerBuilder::new().connect(endpoints)
    }

    /// This life of the worker, by which clients know it.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Whether a client or broker has answered and is alive.
    pub fn is_connected(&self) -> bool {
        self.ends.here().is_some_and(|ends| *ends.registered.borrow() > 0)
    }

    /// Waits until a client or broker has answered; `false` when none has in time, or the worker has left.
    pub async fn wait_for_client(&self, timeout: Duration) -> bool {
        let Some(ends) = self.ends.here() else { return false };
        let mut registered = ends.registered.clone();
        let (sender, late) = oneshot::channel();
        let _ = ends.commands.send(Command::Wake(timeout, sender));
        let arrival = pin!(registered.wait_for(|count| *count > 0));
        let answer = self.ends.answer(panics::shielded(future::select(arrival, late))).await;
        matches!(answer, Some(Either::Left((Ok(_), _))))
    }

    /// Takes nothing new, finishes what runs, says goodbye and leaves. No call fails because of it: what crosses the
    /// announcement goes to another worker. Returns when the worker has left.
    ///
    /// What still runs after the drain timeout is given up. Then what is served is dropped, and the drain waits for its
    /// `Drop` however long that takes. A procedure that does not stop when it is given up keeps its service alive: the
    /// drain does not wait for it, and the service is dropped when the procedure ends.
    ///
    /// # In a method of the same worker
    /// A method of the worker may await the drain, through any clone of the handle. The drain counts its call as the last
    /// one: it returns to the method when everything else has ended, the reply is sent, and then the worker leaves. Calls
    /// that do so at the same time do not wait for each other. Calls that wait for their place, or for a thread of the
    /// blocking pool, run after that. This covers what the method itself awaits or blocks on.
    ///
    /// It does not cover waits that go through somebody else, which end with the drain timeout, or the deadline of a call:
    ///
    /// - A drain in a task or thread that the method starts, and waits for, also a task of a runtime or `LocalSet` that the
    ///   method blocks on. Start it with
    ///   `tokio::spawn(async move { worker.drain().await })`, and do not wait for it.
    /// - A method that calls another method of the same worker, which drains: the outer call still runs. Let the outer
    ///   method drain.
    /// - Methods of two workers that each drain the other worker, or both: each waits for the other's call. Let one method
    ///   drain, or a task that no call waits for.
    pub async fn drain(&self) {
        if let Some(ends) = self.ends.here() {
            let _ = ends.commands.send(Command::Drain);
        }
        self.left().await;
    }

    /// Waits until the worker has left, because some clone was told to drain.
    ///
    /// In a method of the worker, without which it cannot leave, it returns when a drain has begun and everything else
    /// has ended; see [`Self::drain`].
    pub async fn left(&self) {
        let Some(ends) = self.ends.here() else { return };
        if let Some(execution) = current::execution(self.id) {
            let (sender, alone) = oneshot::channel();
            let _ = ends.commands.send(Command::AwaitOthers(execution, sender));
            let _ = self.ends.answer(alone).await;
            return;
        }
        let mut left = ends.left.clone();
        // An error means that the I/O thread has ended, which is the same.
        let _ = self.ends.answer(panics::shielded(left.wait_for(|left| *left))).await;
    }

    /// What the worker has counted since it was started. All zero once it has left.
    pub async fn counters(&self) -> WorkerCounters {
        let Some(ends) = self.ends.here() else { return WorkerCounters::default() };
        let (sender, receiver) = oneshot::channel();
        let _ = ends.commands.send(Command::Counters(sender));
        self.ends.answer(receiver).await.and_then(Result::ok).unwrap_or_default()
    }

    /// How a worker that has left has ended.
    fn ended(&self) -> Result<(), StartError> {
        let ends = self.ends.here().ok_or(StartError::Forked)?;
        match *ends.left.borrow() {
            true => Ok(()),
            false => Err(ConnectError::Thread(io_thread_died()).into()),
        }
    }
}

/// Settings for a [`Worker`]. [`WorkerBuilder::start`] checks them; awaiting the builder starts the worker and waits
/// until it has left. Dropping that future drains the worker.
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
    link: LinkConfig,
    backoff: BackoffConfig,
    concurrency: u32,
    hold_limits: HoldLimits,
    drain_timeout: Duration,
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl WorkerBuilder {
    link_setters!();
    hold_setters!();

    fn new() -> Self {
        let cpus = thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
        Self {
            endpoints: Vec::new(),
            services: Vec::new(),
            link: LinkConfig::default(),
            backoff: BackoffConfig::default(),
            concurrency: cpus.saturating_mul(CREDITS_PER_CPU),
            hold_limits: HoldLimits::default(),
            drain_timeout: DRAIN_TIMEOUT,
            stop: None,
        }
    }

    /// Connects to a further client or broker, or to several.
    pub fn connect(mut self, endpoints: impl IntoEndpoints) -> Self {
        self.endpoints.extend(endpoints.into_endpoints());
        self
    }

    /// Serves a value with a `#[xero::worker]` impl. Call it again for further services.
    ///
    /// For a value that implements several services, each call names the service by the trait's `into_service`, which
    /// takes an `Arc` of the value:
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
    // The compiler prints the name of the parameter, and its line, where it cannot choose between several services.
    pub fn serve<OneOfItsServices>(
        mut self,
        service: impl IntoService<OneOfItsServices>, // name it: `.serve(YourService::into_service(Arc::new(value)))`
    ) -> Self {
        self.services.push(service.into_bound_service());
        self
    }

    /// How many requests run at once, and how many each client may send ahead. Default 32 for each CPU; at least 1.
    /// Lower keeps slow work from piling up here while other workers are idle; higher suits procedures that mostly
    /// wait. (`PROTOCOL.md` §9)
    pub fn concurrency(mut self, requests: u32) -> Self {
        self.concurrency = requests;
        self
    }

    /// The bounds of the wait between attempts to connect, which doubles from the first to the last and is drawn at
    /// random below that. Default 100 ms to 2 s; the ZeroMQ guide's Paranoid Pirate goes up to 32 s. Lower finds a
    /// restarted client sooner; higher spares a network with many workers. At least 1 ms, at most a day.
    /// (`PROTOCOL.md` §6)
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = BackoffConfig { first, max };
        self
    }

    /// How long a drain may take before what still runs is given up. Default 30 s; at most a day. (`PROTOCOL.md` §10)
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Drains the worker when the future is ready, whatever it gives, or panics, which is logged: with Tokio's feature `signal`,
    /// `.drain_on(tokio::signal::ctrl_c())`.
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

    /// Starts the worker on the current Tokio runtime. Returns at once: the connections are made meanwhile, and again
    /// whenever they are lost.
    ///
    /// # Errors
    /// When an endpoint is not written as one, the settings contradict each other, nothing or the same service twice
    /// is to be served, or there is no Tokio runtime.
    pub fn start(self) -> Result<Worker, StartError> {
        self.check()?;
        let endpoints = ConnectError::check(&self.endpoints)?;
        let user = runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let config = self.config();
        frame::check(&Message::Ready(config.introduction()), &config.limits)?;
        let id = config.incarnation;
        let (ends, channels) = open();
        let driver = driver::run(endpoints, config, self.services, user.clone(), channels);
        IoThread::spawn("xero-worker", driver).map_err(ConnectError::Thread)?;
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
            credits: self.concurrency,
            window_bytes: self.link.window_bytes,
            hold_limits: self.hold_limits,
            drain_timeout: self.drain_timeout,
            services: self.services.iter().map(BoundService::offer).collect(),
            signatures: self.services.iter().map(BoundService::signatures).collect(),
        }
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
        require(drain <= WAIT_MAX, "drain_timeout", format!("{drain:?}"), "at most a day")?;
        require(self.concurrency > 0, "concurrency", self.concurrency, "at least 1")
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("endpoints", &self.endpoints)
            .field("services", &self.services)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What a handle and its I/O thread begin with.
fn open() -> (Owned<Ends>, Channels) {
    let (io, (commands, mailbox)) = (IoThread::new(), mpsc::unbounded_channel());
    let (registered_sender, registered) = watch::channel(0);
    let (left_sender, left) = watch::channel(false);
    let channels = Channels {
        io: io.clone(),
        commands: commands.clone(),
        mailbox,
        registered: registered_sender,
        left: left_sender,
    };
    (Owned::new(io, Ends { commands, registered, left }), channels)
}

/// Drains the worker when the signal comes. Drops the signal when the worker has left without it.
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
            // Whoever drops this future has no other handle to stop the worker with.
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
