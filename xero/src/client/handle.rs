//! The client's handle and its builder; no timers, no retries.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{self, Either};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    call::Call,
    caller::{Caller, Ends},
    command::Command,
    driver::{self, Channels},
    method::Method,
    value::Value,
};
use crate::{
    config::{
        LinkConfig, RoutingConfig, TIMEOUT_DEFAULT, WAIT_MAX, check_backoff, link_setters, require, routing_setters,
    },
    error::{BindError, ConfigError, ConnectError, NoWorkerError, Place},
    info::WorkerInfo,
    io::{
        guest::Guest,
        panics,
        thread::{IoThread, Owned, io_thread_died},
    },
    proto::{
        dispatch::{DispatcherConfig, DispatcherCounters},
        message::Codec,
        retry::BackoffConfig,
    },
    transport::{Endpoint, IntoEndpoints},
};

/// Calls services. Either workers connect to it: it binds an endpoint and routes its calls to the workers that have
/// dialed in. Or it connects to one or several brokers, each of which routes its calls to workers of their own: see
/// [`Client::connect`] and [`Broker`](crate::Broker). Its methods are the same, and so are calls.
///
/// Clones share one endpoint and one I/O thread, on which heartbeats go on whatever the rest of the program does. When
/// the last clone is gone, its workers and brokers are told goodbye.
///
/// A client works under any executor, and belongs to the process that made it. In a process forked from that one, calls
/// fail at once with [`CallError::Forked`](crate::CallError::Forked), and the other methods return as those of a closed
/// client do. A call that was begun before the fork says so when it is polled, but nobody wakes it: an executor that holds
/// it, such as a `FuturesUnordered` or a `JoinHandle`, waits for ever. Make another client there, before other threads dial
/// `inproc` endpoints. Until such a process ends, or runs another program, it keeps the connections of
/// its parent open: when the parent dies meanwhile, its peers notice by the missing heartbeats.
///
/// ```
/// use std::time::Duration;
/// use xero::{Client, Worker};
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
/// let client = Client::bind("tcp://127.0.0.1:0").await?;
/// let worker = Worker::connect(client.endpoint()).serve(Polite).start()?;
///
/// let greeter = GreeterClient::new(&client);
/// assert_eq!(greeter.greet("Ada").await?, "Good day, Ada.");
/// assert_eq!(greeter.greet("Ada").timeout(Duration::from_secs(1)).await?, "Good day, Ada.");
///
/// worker.drain().await;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    caller: Caller,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (endpoint, timeout, codec) = (self.endpoint(), self.caller.timeout(), self.caller.codec());
        let debug = &mut f.debug_struct("Client");
        debug.field("endpoint", &endpoint).field("timeout", &timeout).field("codec", &codec).finish_non_exhaustive()
    }
}

impl Client {
    /// Binds an endpoint with the default settings: `tcp://host:port` (`*` for all interfaces, port 0 for a free one),
    /// `ipc://path`, or `inproc://name` for workers of the same process.
    ///
    /// # Errors
    /// When the endpoint is not written as one, is in use, or cannot be bound.
    pub async fn bind(endpoint: impl AsRef<str>) -> Result<Self, BindError> {
        Self::builder().bind(endpoint).await
    }

    /// Connects to the brokers at one or several endpoints, with the default settings. Calls go to whichever brokers
    /// are there, and those of a broker that is lost are treated like those of a lost worker.
    ///
    /// Returns at once: connections are made meanwhile, and again whenever they are lost. Calls wait for a broker whose
    /// workers offer their service, until their deadline.
    ///
    /// ```
    /// # use xero::{Broker, Client, Worker};
    /// # #[xero::service]
    /// # trait Greeter { async fn greet(&self, name: &str) -> String; }
    /// # struct Polite;
    /// # #[xero::worker]
    /// # impl Greeter for Polite { async fn greet(&self, name: &str) -> String { format!("Good day, {name}.") } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let first = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await?;
    /// # let second = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await?;
    /// # let _worker = Worker::connect([first.backend(), second.backend()]).serve(Polite).start()?;
    /// # let endpoints = [first.frontend(), second.frontend()];
    /// // For example `["tcp://broker-1:5560", "tcp://broker-2:5560"]`, or just one text.
    /// let client = Client::connect(endpoints)?;
    /// assert_eq!(GreeterClient::new(&client).greet("Ada").await?, "Good day, Ada.");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When an endpoint is not written as one, is one for binding only, or is named twice.
    pub fn connect(endpoints: impl IntoEndpoints) -> Result<Self, ConnectError> {
        Self::builder().connect(endpoints)
    }

    /// Settings for a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Where workers can connect to, with the real port when port 0 was bound. Of a client that connects, the
    /// endpoints of its brokers as they were given, with `, ` between them.
    pub fn endpoint(&self) -> &str {
        self.caller.endpoint()
    }

    /// Prepares a call of a method by its name, `Service.method`, whose types are not known here. Its arguments are any
    /// serde value, by position or by name; its outcome is a [`Value`].
    ///
    /// ```
    /// # use xero::{Client, Worker};
    /// # #[xero::service]
    /// # trait Demo { async fn compare(&self, str1: String, str2: String) -> (bool, u8); }
    /// # struct Here;
    /// # #[xero::worker]
    /// # impl Demo for Here {
    /// #     async fn compare(&self, str1: String, str2: String) -> (bool, u8) {
    /// #         if str1 == str2 { (true, 1) } else { (false, 2) }
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::bind("inproc://dynamic-example").await?;
    /// # let _worker = Worker::connect("inproc://dynamic-example").serve(Here).start()?;
    /// let reply = client.call("Demo.compare").arguments(&("apple", "orange")).await?;
    /// assert_eq!(reply.decode::<(bool, u8)>()?, (false, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn call(&self, method: &str) -> Call<Value, Value> {
        // A name that is none is found out when the call is sent.
        let (service, name) = method.rsplit_once('.').unwrap_or(("", method));
        let method = Method { service: service.into(), name: name.into(), fingerprint: 0, signature: "", version: 1 };
        Call::dynamic(&self.caller, method)
    }

    /// The workers that are connected now and do not drain, oldest connection first. Of a client that connects, its
    /// brokers, also those that have no workers yet.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.caller.open().map(|ends| ends.workers.borrow().to_vec()).unwrap_or_default()
    }

    /// Whether a worker is connected now that does not drain, or a broker with such a worker.
    pub fn is_connected(&self) -> bool {
        self.caller.open().is_ok_and(|ends| ends.workers.borrow().iter().any(|worker| worker.offers(None)))
    }

    /// Waits until a worker is connected, or a broker that has one. Returns at once when one is.
    ///
    /// # Errors
    /// When none has come in time, or the client is closed.
    pub async fn wait_for_worker(&self, timeout: Duration) -> Result<(), NoWorkerError> {
        self.wait_for(None, timeout).await
    }

    /// Waits until a worker that offers the service is connected, or a broker that has one. Returns at once when one is.
    ///
    /// # Errors
    /// When none has come in time, or the client is closed.
    pub async fn wait_for_service(&self, service: &str, timeout: Duration) -> Result<(), NoWorkerError> {
        self.wait_for(Some(service), timeout).await
    }

    /// What the client has counted since it was made: late and unsolicited replies, malformed messages, retries.
    /// All zero once it is closed.
    pub async fn counters(&self) -> DispatcherCounters {
        self.caller.ask(Command::Counters).await.unwrap_or_default()
    }

    /// Takes no new call, for any clone, lets those under way end, then says goodbye to the workers and stops. What has
    /// not ended when the timeout has passed ends with [`CallError::Closed`](crate::CallError::Closed), as new calls do
    /// at once. Returns when the client is closed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use xero::{Client, Worker};
    /// # #[xero::service]
    /// # trait Greeter { async fn greet(&self, name: &str) -> String; }
    /// # struct Polite;
    /// # #[xero::worker]
    /// # impl Greeter for Polite { async fn greet(&self, name: &str) -> String { name.to_owned() } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::bind("inproc://drain-example").await?;
    /// # let _worker = Worker::connect("inproc://drain-example").serve(Polite).start()?;
    /// # let greeter = GreeterClient::new(&client);
    /// let call = greeter.greet("Ada").start();
    /// client.drain(Duration::from_secs(10)).await;
    /// assert_eq!(call.await?, "Ada");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A method that serves one of the client's own calls must not wait for it: the drain waits for that call, until the
    /// timeout. Start it there with `tokio::spawn`, and do not wait for it.
    pub async fn drain(&self, timeout: Duration) {
        self.caller.ask(|sender| Command::Drain(timeout.min(WAIT_MAX), sender)).await;
    }

    /// Says goodbye to the workers and stops, for every clone. Calls under way end with
    /// [`CallError::Closed`](crate::CallError::Closed). Returns once the endpoint is free again, within a
    /// second, and the policy is dropped: the `Drop` of a [`WorkerChoice`](crate::WorkerChoice) is waited for.
    pub async fn close(&self) {
        // Without an answer the I/O thread has ended already, which is what was wanted.
        self.caller.ask(Command::Close).await;
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    async fn wait_for(&self, service: Option<&str>, timeout: Duration) -> Result<(), NoWorkerError> {
        if self.has_arrived(service, timeout).await && self.caller.open().is_ok() {
            return Ok(());
        }
        let workers = self.workers();
        let connected = workers.len();
        let mut offered: Vec<_> = workers.into_iter().flat_map(|worker| worker.services).collect();
        offered.sort();
        offered.dedup();
        let (service, gone) = (service.map(str::to_owned), self.caller.gone());
        let place = self.caller.place().clone();
        Err(NoWorkerError { service, waited: timeout, place, connected, offered, gone })
    }

    /// Whether such a worker is there, or comes in time.
    async fn has_arrived(&self, service: Option<&str>, timeout: Duration) -> bool {
        let Ok(ends) = self.caller.open() else { return false };
        let mut workers = ends.workers.clone();
        let (sender, late) = oneshot::channel();
        let _ = ends.commands.send(Command::Wake(timeout, sender));
        let arrival = pin!(workers.wait_for(|workers| workers.iter().any(|worker| worker.offers(service))));
        let answer = self.caller.answer(panics::shielded(future::select(arrival, late))).await;
        matches!(answer, Some(Either::Left((Ok(_), _))))
    }
}

/// Settings for a [`Client`]. [`ClientBuilder::bind`] and [`ClientBuilder::connect`] check them.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    link: LinkConfig,
    timeout: Duration,
    codec: Codec,
    routing: RoutingConfig,
    backoff: BackoffConfig,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        let (link, routing, backoff) = (LinkConfig::default(), RoutingConfig::default(), BackoffConfig::default());
        Self { link, timeout: TIMEOUT_DEFAULT, codec: Codec::default(), routing, backoff }
    }
}

impl ClientBuilder {
    link_setters!();
    routing_setters!();

    /// The time that a call has unless it or its method says otherwise. Default 5 s; more than zero. There is always a
    /// deadline: one that is far away keeps a lost call's memory that long. (`PROTOCOL.md` §8)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The codec of typed clients made from this one. Default bincode, or postcard in a build without it. Self-describing
    /// codecs let caller and worker be built from different versions of a service, for larger and slower payloads: see
    /// [choosing a codec](crate::guide::codecs). (`PROTOCOL.md` §7)
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The bounds of the wait between attempts to connect to a broker, which doubles from the first to the last and is
    /// drawn at random below that. Default 100 ms to 2 s; the ZeroMQ guide's Paranoid Pirate goes up to 32 s. Lower
    /// finds a restarted broker sooner; higher spares a network with many clients. At least 1 ms, at most a day.
    /// (`PROTOCOL.md` §6)
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = BackoffConfig { first, max };
        self
    }

    /// Binds an endpoint; see [`Client::bind`].
    ///
    /// # Errors
    /// When the settings contradict each other, or the endpoint is not written as one, is in use, or cannot be bound.
    pub async fn bind(self, endpoint: impl AsRef<str>) -> Result<Client, BindError> {
        self.check()?;
        let endpoint: Endpoint = endpoint.as_ref().parse()?;
        let (bound_sender, bound) = oneshot::channel();
        let (handle, config, channels) = self.open();
        IoThread::spawn("xero-client", driver::bind(endpoint, config, channels, bound_sender))
            .map_err(BindError::Thread)?;
        let endpoint = bound.await.unwrap_or_else(|_| Err(BindError::Thread(io_thread_died())))?;
        Ok(handle.at(Place::Bound(endpoint)))
    }

    /// Connects to brokers; see [`Client::connect`].
    ///
    /// # Errors
    /// When the settings contradict each other, or an endpoint is not written as one, is one for binding only, or is
    /// named twice.
    pub fn connect(self, endpoints: impl IntoEndpoints) -> Result<Client, ConnectError> {
        self.check()?;
        let texts = endpoints.into_endpoints();
        let endpoints = ConnectError::check(&texts)?;
        let (handle, config, channels) = self.open();
        IoThread::spawn("xero-client", driver::connect(endpoints, config, channels)).map_err(ConnectError::Thread)?;
        Ok(handle.at(Place::Brokers(texts)))
    }

    /// What the client and its I/O thread begin with.
    fn open(self) -> (Handle, Guest<DispatcherConfig>, Channels) {
        let Self { link, timeout, codec, routing, backoff } = self;
        let has_policy = routing.choice.is_some();
        let config = Guest::only_if(has_policy, routing.dispatcher(&link, backoff));
        let io = IoThread::new();
        let (workers_sender, workers) = watch::channel(Arc::from([]));
        let (commands, mailbox) = mpsc::unbounded_channel();
        let channels = Channels { io: io.clone(), commands: mailbox, workers: workers_sender };
        (Handle { ends: Owned::new(io, Ends { commands, workers }), timeout, codec }, config, channels)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.link.check()?;
        require(!self.timeout.is_zero(), "timeout", "0 s", "more than zero")?;
        self.routing.check()?;
        check_backoff("backoff", self.backoff)
    }
}

/// A client that is not told yet where it is.
#[derive(Debug)]
struct Handle {
    ends: Owned<Ends>,
    timeout: Duration,
    codec: Codec,
}

impl Handle {
    fn at(self, place: Place) -> Client {
        let Self { ends, timeout, codec } = self;
        Client { caller: Caller::new(ends, place, timeout, codec) }
    }
}
