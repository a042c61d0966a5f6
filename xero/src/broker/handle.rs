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
    sync::{mpsc, oneshot, watch},
};
use uuid::Uuid;

use super::{
    command::Command,
    driver::{self, Bound, Channels},
};
use crate::{
    config::{
        LinkConfig, RoutingConfig, WAIT_MAX, check_hold_limits, hold_setters, link_setters, require, routing_setters,
    },
    error::{BindError, ConfigError},
    info::WorkerInfo,
    io::{
        contained::Contained,
        current,
        guest::Guest,
        panics,
        thread::{IoThread, Owned, io_thread_died},
    },
    proto::{
        broker::{BrokerConfig, BrokerCounters},
        hold::HoldLimits,
        retry::BackoffConfig,
    },
    transport::Endpoint,
};

/// Stands between many clients and many workers, both of which connect to it: clients to its frontend, workers to its
/// backend. So neither side needs an address of its own, and each may come and go without the other.
///
/// A broker routes calls as a client that binds does: to the least recently used worker with room that offers the
/// method, retried on another worker where that is allowed, and waiting until its deadline while there is none. Clients
/// and workers may connect to several brokers; then the loss of any of them is survived.
///
/// Clones share one broker and one I/O thread; nothing else of the program runs there, and no call runs in it. When the
/// last clone is gone, everyone is told goodbye.
///
/// In a process that was forked from the broker's, a handle is of no use: the broker runs in the parent alone. Each of its
/// methods returns at once there, as those of a broker that has left do.
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
    commands: mpsc::UnboundedSender<Command>,
    workers: watch::Receiver<Arc<[WorkerInfo]>>,
    clients: watch::Receiver<usize>,
    left: watch::Receiver<bool>,
}

impl Broker {
    /// Binds two endpoints with the default settings: clients connect to the first, workers to the second. Each is
    /// `tcp://host:port` (`*` for all interfaces, port 0 for a free one), `ipc://path`, or `inproc://name` within one
    /// process; they need not be of the same kind.
    ///
    /// # Errors
    /// When an endpoint is not written as one, is in use, or cannot be bound, or both are the same.
    pub async fn bind(frontend: impl AsRef<str>, backend: impl AsRef<str>) -> Result<Self, BindError> {
        Self::builder().bind(frontend, backend).await
    }

    /// Settings for a broker.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// This life of the broker, by which its clients know it.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// Where clients can connect to, with the real port when port 0 was bound.
    pub fn frontend(&self) -> &str {
        &self.shared.bound.frontend
    }

    /// Where workers can connect to, with the real port when port 0 was bound.
    pub fn backend(&self) -> &str {
        &self.shared.bound.backend
    }

    /// The workers that are connected now and do not drain, oldest connection first.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.open().map(|ends| ends.workers.borrow().to_vec()).unwrap_or_default()
    }

    /// How many clients are connected now.
    pub fn clients(&self) -> usize {
        self.open().map_or(0, |ends| *ends.clients.borrow())
    }

    /// What the broker has counted since it was bound. All zero once it has left.
    pub async fn counters(&self) -> BrokerCounters {
        let Some(ends) = self.shared.ends.here() else { return BrokerCounters::default() };
        let (sender, receiver) = oneshot::channel();
        let _ = ends.commands.send(Command::Counters(sender));
        self.shared.ends.answer(receiver).await.and_then(Result::ok).unwrap_or_default()
    }

    /// Takes nothing new, refuses what waits, lets what runs end, says goodbye and stops, at the latest after the drain
    /// timeout. What is refused has not run, and goes to another broker where its client has one. Returns when the
    /// broker has left.
    ///
    /// A procedure whose own call came through the broker must not wait for it: the drain waits for that call. Start it
    /// with `tokio::spawn` there.
    pub async fn drain(&self) {
        self.ask(Command::Drain);
        self.left().await;
    }

    /// Says goodbye to everyone and stops, without waiting for what runs. Returns once both endpoints are free again,
    /// within a second, and the policy is dropped: the `Drop` of a [`WorkerChoice`](crate::WorkerChoice) is waited for.
    pub async fn close(&self) {
        self.ask(Command::Close);
        self.left().await;
    }

    /// Waits until the broker has left, because some clone was told to drain or to close, or because of
    /// [`BrokerBuilder::drain_on`]. This is how a program that is only a broker stays alive: it binds with `drain_on`,
    /// and waits here.
    pub async fn left(&self) {
        let Some(ends) = self.shared.ends.here() else { return };
        // The `Drop` of the broker's own policy: the broker leaves after it.
        if current::execution(self.shared.id).is_some() {
            return;
        }
        let mut left = ends.left.clone();
        // An error means that the I/O thread has ended, which is the same.
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
    link: LinkConfig,
    routing: RoutingConfig,
    client_credits: u32,
    hold_limits: HoldLimits,
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
    link_setters!();
    routing_setters!();
    hold_setters!();

    /// How many calls each client may have here at once, waiting or under way; what exceeds that waits at the client.
    /// Default 1,024; at least 1. Lower keeps one client from filling the queue that all of them share; higher suits
    /// few clients with many calls. (`PROTOCOL.md` §9)
    pub fn client_credits(mut self, calls: u32) -> Self {
        self.client_credits = calls;
        self
    }

    /// How long a drain may take before what still runs is given up. Default 30 s; at most a day. (`PROTOCOL.md` §10)
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Drains the broker when the future is ready, whatever it gives, or panics, which is logged: with Tokio's feature `signal`,
    /// `.drain_on(tokio::signal::ctrl_c())`. A program that is only a broker then waits for [`Broker::left`].
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
    /// When the settings contradict each other; an endpoint is not written as one, is in use, or cannot be bound; both
    /// are the same; or [`Self::drain_on`] was called and there is no Tokio runtime here.
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
            // What waits for the signal keeps no broker alive that nobody has a handle of.
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
        let config = Guest::only_if(self.routing.choice.is_some(), self.config());
        let id = config.dispatcher.incarnation;
        let (commands, mailbox) = mpsc::unbounded_channel();
        let (workers_sender, workers) = watch::channel(Arc::from([]));
        let (clients_sender, clients) = watch::channel(0);
        let (left_sender, left) = watch::channel(false);
        let (bound_sender, bound) = oneshot::channel();
        let io = IoThread::new();
        let channels = Channels {
            io: io.clone(),
            commands: mailbox,
            workers: workers_sender,
            clients: clients_sender,
            left: left_sender,
        };
        IoThread::spawn("xero-broker", driver::run(frontend, backend, config, channels, bound_sender))
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
        require(self.client_credits > 0, "client_credits", self.client_credits, "at least 1")?;
        let drain = self.drain_timeout;
        require(drain <= WAIT_MAX, "drain_timeout", format!("{drain:?}"), "at most a day")
    }
}

/// Drains the broker when the signal comes. Drops the signal when the broker has left without it.
async fn drain_on(stop: Contained, commands: mpsc::WeakUnboundedSender<Command>, mut left: watch::Receiver<bool>) {
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
