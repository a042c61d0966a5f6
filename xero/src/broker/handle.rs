//! The broker's handle and its builder; no routing.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{self, Either};
use tokio::{
    runtime,
    sync::{oneshot, watch},
};
use uuid::Uuid;

use super::{
    command::Command,
    driver::{self, Bound, Channels},
};
use crate::{
    config::{LinkConfig, RoutingConfig, WAIT_MAX, check_hold_limits, require},
    error::{BindError, ConfigError, shown},
    info::{self, WorkerInfo, WorkerList, Workers},
    io::{
        contained::Contained,
        current,
        guest::Guest,
        mailbox::{Commands, WeakCommands, mailbox},
        panics,
        thread::{Connections, IoThread, Owned, io_thread_died},
    },
    proto::{
        broker::{BrokerConfig, BrokerCounters},
        hold::HoldLimits,
        retry::BackoffConfig,
    },
    transport::Endpoint,
};

/// Routes calls between many clients and many workers, all of which connect to it.
///
/// Clients connect to its frontend, workers to its backend. So neither side needs an address, and each may come and go
/// without the other.
///
/// A broker routes calls like a client that binds: to a worker with room that offers the method, by default
/// the [`LeastRecentlyUsed`](crate::LeastRecentlyUsed) one.
/// It retries a call on another worker where that is allowed. A call without a worker waits until its deadline. Clients
/// and workers may connect to several brokers, and then survive the loss of any of them.
///
/// Clones share one broker and one I/O thread, which runs nothing else of the program and no call. When the last clone
/// is dropped, the broker says goodbye to all peers.
///
/// In a forked process, a handle is useless: the broker runs in the parent alone. Its methods return at once there,
/// like those of a broker that has left.
///
/// ```
/// use xero::{Broker, Client, Worker};
///
/// #[xero::service]
/// trait Greeter {
///     #[xero(idempotent)]
///     async fn greet(&self, name: &str) -> String;
/// }
///
/// struct Polite;
///
/// #[xero::worker]
/// impl Greeter for Polite {
///     async fn greet(&self, name: &str) -> String {
///         format!("Good day, {name}.")
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await?;
/// let worker = Worker::connect(broker.backend()).serve(Polite).start()?;
/// let client = Client::connect(broker.frontend())?;
///
/// let greeter = GreeterClient::new(&client);
/// assert_eq!(greeter.greet("Ada").await?, "Good day, Ada.");
///
/// worker.drain().await;
/// broker.drain().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a broker ends when its last handle is dropped"]
pub struct Broker {
    shared: Arc<Shared>,
}

struct Shared {
    id: Uuid,
    bound: Bound,
    ends: Owned<Ends>,
}

/// The broker's ends of its channels to the I/O thread.
struct Ends {
    commands: Commands<Command>,
    workers: watch::Receiver<Workers>,
    clients: watch::Receiver<usize>,
    left: watch::Receiver<bool>,
}

impl Broker {
    /// Binds two endpoints with the default settings, for clients and for workers.
    ///
    /// Each endpoint is `tcp://host:port` (`*` for all interfaces, port 0 for a free one), `ipc://path`, or
    /// `inproc://name` within one process. The two may be of different kinds.
    ///
    /// # Errors
    /// When an endpoint is malformed, is in use, or cannot be bound, or both are the same.
    pub async fn bind(frontend: impl AsRef<str>, backend: impl AsRef<str>) -> Result<Self, BindError> {
        Self::builder().bind(frontend, backend).await
    }

    /// Settings for a broker.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// The broker's incarnation, by which its clients know it.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// The endpoint for clients, with the real port when port 0 was bound.
    pub fn frontend(&self) -> &str {
        &self.shared.bound.frontend
    }

    /// The endpoint for workers, with the real port when port 0 was bound.
    pub fn backend(&self) -> &str {
        &self.shared.bound.backend
    }

    /// The connected workers that do not drain, oldest connection first.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.open().map(|ends| info::list_of(&ends.workers)).unwrap_or_default()
    }

    /// The number of connected clients.
    pub fn clients(&self) -> usize {
        self.open().map_or(0, |ends| *ends.clients.borrow())
    }

    /// The broker's counters since it was bound; all zero once it has left.
    pub async fn counters(&self) -> BrokerCounters {
        let Some(ends) = self.shared.ends.here() else { return BrokerCounters::default() };
        let (sender, receiver) = oneshot::channel();
        let _ = ends.commands.send(Command::Counters(sender));
        self.shared.ends.answer(receiver).await.and_then(Result::ok).unwrap_or_default()
    }

    /// Drains the broker, at most for the drain timeout; returns when it has left.
    ///
    /// The broker accepts nothing new, refuses waiting calls, lets running calls end, says goodbye and stops. A refused
    /// call has not run, and goes to another broker if its client has one.
    ///
    /// A procedure whose own call came through this broker must not wait for the drain, which waits for that call.
    /// Start the drain with `tokio::spawn` there.
    pub async fn drain(&self) {
        self.ask(Command::Drain);
        self.left().await;
    }

    /// Says goodbye to all peers and stops, without waiting for running calls.
    ///
    /// Returns within a second, once both endpoints are free again, and the policy is dropped. It waits for the `Drop`
    /// of a [`WorkerChoice`](crate::WorkerChoice), however long that takes.
    pub async fn close(&self) {
        self.ask(Command::Close);
        self.left().await;
    }

    /// Waits until the broker has left, after a drain, a close or [`BrokerBuilder::drain_on`].
    ///
    /// A program that is only a broker binds with `drain_on`, then waits here.
    pub async fn left(&self) {
        let Some(ends) = self.shared.ends.here() else { return };
        // Called in the `Drop` of the broker's own policy: the broker leaves only after it.
        if current::execution(self.shared.id).is_some() {
            return;
        }
        let mut left = ends.left.clone();
        // An error means that the I/O thread has ended: the broker has left.
        let _ = self.shared.ends.answer(panics::shielded(left.wait_for(|left| *left))).await;
    }

    fn ask(&self, command: Command) {
        if let Some(ends) = self.shared.ends.here() {
            let _ = ends.commands.send(command);
        }
    }

    fn open(&self) -> Option<&Ends> {
        self.shared.ends.open(|ends| ends.commands.is_closed()).ok()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { id, bound, .. } = &*self.shared;
        f.debug_struct("Broker").field("id", id).field("bound", bound).finish_non_exhaustive()
    }
}

/// Settings for a [`Broker`]. [`BrokerBuilder::bind`] checks them.
#[must_use = "a broker does nothing until it is bound"]
pub struct BrokerBuilder {
    pub(super) link: LinkConfig,
    pub(super) routing: RoutingConfig,
    client_credits: u32,
    pub(super) hold_limits: HoldLimits,
    drain_timeout: Duration,
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        let BrokerConfig { credits, hold_limits, drain_timeout, .. } = BrokerConfig::default();
        Self {
            link: LinkConfig::default(),
            routing: RoutingConfig::default(),
            client_credits: credits,
            hold_limits,
            drain_timeout,
            stop: None,
        }
    }
}

impl BrokerBuilder {
    /// Calls that each client may have here at once, waiting or in flight. Default 1,024; at least 1.
    ///
    /// Further calls wait at the client. Lower keeps one client from filling the shared queue; higher suits few clients
    /// with many calls. (`PROTOCOL.md` §9)
    pub fn client_credits(mut self, calls: u32) -> Self {
        self.client_credits = calls;
        self
    }

    /// How long a drain waits for running calls. Default 30 s; at most a day.
    ///
    /// After its goodbye, the broker waits up to 0.5 s longer for its clients and workers to disconnect. (`PROTOCOL.md`
    /// §10)
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Drains the broker when the future is ready, whatever its result, or panics.
    ///
    /// With Tokio's feature `signal`: `.drain_on(tokio::signal::ctrl_c())`. A program that is only a broker then waits
    /// for [`Broker::left`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), xero::BindError> {
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let broker = xero::Broker::builder().drain_on(stopped).bind("inproc://front", "inproc://back").await?;
    /// drop(stop);
    /// broker.left().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_on(mut self, stop: impl Future<Output: Send> + Send + 'static) -> Self {
        self.stop = Some(Box::pin(async move {
            stop.await;
        }));
        self
    }

    /// Binds both endpoints; see [`Broker::bind`].
    ///
    /// # Errors
    /// When the settings contradict each other; when an endpoint is malformed, is in use, or cannot be bound; when both
    /// are the same; or when [`Self::drain_on`] was called without a Tokio runtime.
    pub async fn bind(mut self, frontend: impl AsRef<str>, backend: impl AsRef<str>) -> Result<Broker, BindError> {
        self.check()?;
        let frontend: Endpoint = frontend.as_ref().parse()?;
        let backend: Endpoint = backend.as_ref().parse()?;
        if frontend == backend && !frontend.is_chosen_by_the_system() {
            return Err(BindError::SameEndpoint(frontend));
        }
        let stop = self.stop.take();
        let runtime = stop.map(|stop| runtime::Handle::try_current().map(|runtime| (runtime, stop))).transpose();
        let stop = runtime.map_err(|_| BindError::NoRuntime)?;
        let broker = self.open(frontend, backend).await?;
        if let Some((runtime, stop)) = stop {
            // The task that waits for the signal keeps no broker alive that has lost its handles.
            if let Some(ends) = broker.shared.ends.here() {
                runtime.spawn(drain_on(
                    Contained::new("the future given to drain_on", stop),
                    ends.commands.downgrade(),
                    ends.left.clone(),
                ));
            }
        }
        Ok(broker)
    }

    async fn open(self, frontend: Endpoint, backend: Endpoint) -> Result<Broker, BindError> {
        let transport = self.link.transport;
        let config = Guest::only_if(self.routing.choice.is_some(), self.config());
        let id = config.dispatcher.incarnation;
        let (commands, mailbox) = mailbox();
        let (worker_list, workers) = WorkerList::new();
        let (clients_sender, clients) = watch::channel(0);
        let (left_sender, left) = watch::channel(false);
        let (bound_sender, bound) = oneshot::channel();
        let io = IoThread::new();
        let channels =
            Channels { io: io.clone(), mailbox, workers: worker_list, clients: clients_sender, left: left_sender };
        IoThread::spawn(
            "xero-broker",
            Connections::Many,
            driver::run(transport, frontend, backend, config, channels, bound_sender),
        )
        .map_err(BindError::Thread)?;
        let bound = bound.await.unwrap_or_else(|_| Err(BindError::Thread(io_thread_died())))?;
        let ends = Owned::new(io, Ends { commands, workers, clients, left });
        Ok(Broker { shared: Arc::new(Shared { id, bound, ends }) })
    }

    fn config(self) -> BrokerConfig {
        let dispatcher = self.routing.dispatcher(&self.link, BackoffConfig::default());
        let Self { client_credits: credits, hold_limits, drain_timeout, .. } = self;
        BrokerConfig { dispatcher, credits, hold_limits, drain_timeout }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.link.check()?;
        self.routing.check()?;
        check_hold_limits(&self.hold_limits)?;
        require(self.client_credits > 0, "client_credits", self.client_credits, "must be at least 1")?;
        let drain = self.drain_timeout;
        require(drain <= WAIT_MAX, "drain_timeout", shown(drain), "must be at most a day")
    }
}

/// Drains the broker when the signal is ready. Drops the signal if the broker leaves first.
async fn drain_on(stop: Contained, commands: WeakCommands<Command>, mut left: watch::Receiver<bool>) {
    let left = pin!(left.wait_for(|left| *left));
    if let Either::Left(_) = future::select(stop, left).await
        && let Some(commands) = commands.upgrade()
    {
        let _ = commands.send(Command::Drain);
    }
}

impl fmt::Debug for BrokerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder")
            .field("routing", &self.routing)
            .field("client_credits", &self.client_credits)
            .finish_non_exhaustive()
    }
}
