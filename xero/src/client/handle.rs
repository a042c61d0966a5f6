//! The client's handle and its builder; no timers, no retries.

use std::{fmt, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::future::{self, Either};
use tokio::{runtime, sync::oneshot};

use super::{
    call::Call,
    caller::{Caller, Ends},
    command::Command,
    defaults::Defaults,
    driver::{self, Channels},
    method::Method,
    value::Value,
};
use crate::{
    config::{LinkConfig, ProgramTurns, RoutingConfig, TIMEOUT_DEFAULT, WAIT_MAX, check_backoff, require},
    error::{BindError, ConfigError, ConnectError, NoWorkerError, Place, shown},
    info::{self, WorkerInfo, WorkerList},
    io::{
        guest::Guest,
        mailbox::mailbox,
        panics,
        thread::{Connections, IoThread, Owned, io_thread_died},
    },
    proto::{
        dispatch::{DispatcherConfig, DispatcherCounters},
        message::Codec,
        retry::BackoffConfig,
    },
    transport::{Endpoint, IntoEndpoints},
};

/// Calls services on the workers that dial it, or through brokers that it connects to.
///
/// A client that binds an endpoint routes its calls to the workers that have dialed in. A client that connects sends
/// its calls to one or several brokers, each of which routes them to its own workers: see [`Client::connect`] and
/// [`Broker`](crate::Broker). Both kinds have the same methods and the same calls.
///
/// Clones share one endpoint and one I/O thread, which sends heartbeats even while all threads of your runtime are busy.
/// When the last clone is dropped, the client says goodbye to its workers and brokers.
///
/// A client works under any executor, and belongs to the process that made it. In a forked process, calls fail at once
/// with [`RpcError::Forked`](crate::RpcError::Forked), and the other methods return like those of a closed client. A
/// call from before the fork returns that error when it is polled, but nobody wakes it: an executor that holds it, such
/// as a `FuturesUnordered` or a `JoinHandle`, waits for ever. Make another client there, before other threads dial
/// `inproc` endpoints. Until such a process ends, or runs another program, it keeps its parent's connections open: if
/// the parent dies, its peers notice only by the missing heartbeats.
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
    defaults: Defaults,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (timeout, codec) = (self.defaults.timeout.unwrap_or(self.caller.timeout()), self.codec());
        let debug = &mut f.debug_struct("Client");
        debug.field("endpoint", &self.endpoint()).field("timeout", &timeout).field("codec", &codec);
        debug.finish_non_exhaustive()
    }
}

impl Client {
    /// Binds an endpoint with the default settings.
    ///
    /// The endpoint is `tcp://host:port` (`*` for all interfaces, port 0 for a free one), `ipc://path`, or
    /// `inproc://name` for workers of the same process.
    ///
    /// # Errors
    /// When the endpoint is malformed, is in use, or cannot be bound.
    pub async fn bind(endpoint: impl AsRef<str>) -> Result<Self, BindError> {
        Self::builder().bind(endpoint).await
    }

    /// Connects to the brokers at one or several endpoints, with the default settings.
    ///
    /// Calls go to any broker that is up. The calls of a lost broker end or are retried like those of a lost worker.
    ///
    /// Returns at once: the client connects in the background, and reconnects after each loss. A call waits until its
    /// deadline for a broker whose workers offer its service.
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
    /// When an endpoint is malformed, is one for binding only, or is named twice.
    pub fn connect(endpoints: impl IntoEndpoints) -> Result<Self, ConnectError> {
        Self::builder().connect(endpoints)
    }

    /// Settings for a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The endpoint for workers, with the real port when port 0 was bound.
    ///
    /// For a client that connects, the endpoints of its brokers as given, joined with `, `.
    pub fn endpoint(&self) -> &str {
        self.caller.endpoint()
    }

    /// Prepares a call by the method's name, `Service.method`, without its types.
    ///
    /// The arguments are any serde value, by position or by name. The outcome is a [`Value`].
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
        // Sending the call reports an invalid name.
        let (service, name) = method.rsplit_once('.').unwrap_or(("", method));
        let method = Method { service: service.into(), name: name.into(), fingerprint: 0, signature: "", version: 1 };
        Call::dynamic(&self.caller, &self.defaults, method)
    }

    /// The same client, with another time limit of its calls and those of its typed clients.
    ///
    /// It takes precedence over the methods' own timeouts, and a call's over it. A clone is cheap, and shares
    /// everything else:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use xero::{Client, Worker};
    /// # #[xero::service]
    /// # trait Library { async fn tenant(&self, cx: &xero::Context) -> Option<String>; }
    /// # struct Here;
    /// # #[xero::worker]
    /// # impl Library for Here {
    /// #     async fn tenant(&self, cx: &xero::Context) -> Option<String> {
    /// #         cx.metadata().get("tenant").map(|value| String::from_utf8_lossy(value).into_owned())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::bind("inproc://settings-example").await?;
    /// # let _worker = Worker::connect("inproc://settings-example").serve(Here).start()?;
    /// let patient = client.clone().with_timeout(Duration::from_secs(60)).with_metadata("tenant", "north");
    /// let library = LibraryClient::new(&patient);
    /// assert_eq!(library.tenant().await?.as_deref(), Some("north"));
    /// let south = library.clone().with_metadata("tenant", "south");
    /// assert_eq!(south.tenant().await?.as_deref(), Some("south"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.defaults.timeout = Some(timeout);
        self
    }

    /// The same client, whose calls send this value beside their arguments; a call's own value of that key replaces it.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.defaults.add_metadata(key.into(), &value.into());
        self
    }

    /// The same client, whose calls fail at once if no worker can take them; see [`Call::fail_fast`].
    #[must_use]
    pub fn with_fail_fast(mut self) -> Self {
        self.defaults.fail_fast = true;
        self
    }

    /// The same client, with another codec of its calls and those of its typed clients.
    ///
    /// Calls without types have it too, unlike the builder's: see [`Call::codec`] for what bincode and postcard do not
    /// check there.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.defaults.codec = Some(codec);
        self
    }

    /// The connected workers that do not drain, oldest connection first.
    ///
    /// For a client that connects, its brokers, including those without workers so far.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.caller.open().map(|ends| info::list_of(&ends.workers)).unwrap_or_default()
    }

    /// Whether a worker is connected that does not drain, or a broker with one.
    pub fn is_connected(&self) -> bool {
        self.caller.open().is_ok_and(|ends| ends.workers.borrow().values().any(|worker| worker.offers(None)))
    }

    /// Waits until a worker is connected, or a broker that has one; at once if one is.
    ///
    /// # Errors
    /// When none has connected in time, or the client is closed.
    pub async fn wait_for_worker(&self, timeout: Duration) -> Result<(), NoWorkerError> {
        self.wait_for(None, timeout).await
    }

    /// Waits until a worker that offers the service is connected, or a broker with one.
    ///
    /// Returns at once if one is connected.
    ///
    /// # Errors
    /// When none has connected in time, or the client is closed.
    pub async fn wait_for_service(&self, service: &str, timeout: Duration) -> Result<(), NoWorkerError> {
        self.wait_for(Some(service), timeout).await
    }

    /// The client's counters: late and unsolicited replies, malformed messages, retries.
    ///
    /// All zero once the client is closed.
    pub async fn counters(&self) -> DispatcherCounters {
        self.caller.ask(Command::Counters).await.unwrap_or_default()
    }

    /// Drains every clone: accepts no new call, lets open calls end, then closes.
    ///
    /// Calls that have not ended after the timeout end with [`RpcError::Closed`](crate::RpcError::Closed); new calls
    /// do at once. Then the client says goodbye to its workers. Returns when the client is closed.
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
    /// A method that serves one of this client's own calls must not wait for the drain, which waits for that call until
    /// the timeout. Start the drain with `tokio::spawn` there, and do not wait for it.
    pub async fn drain(&self, timeout: Duration) {
        self.caller.ask(|sender| Command::Drain(timeout.min(WAIT_MAX), sender)).await;
    }

    /// Says goodbye to the workers and closes every clone.
    ///
    /// Open calls end with [`RpcError::Closed`](crate::RpcError::Closed). Returns within a second, once the endpoint
    /// is free again, and the policy is dropped. It waits for the `Drop` of a [`WorkerChoice`](crate::WorkerChoice),
    /// however long that takes.
    pub async fn close(&self) {
        // Without an answer the I/O thread has ended already: the client is closed.
        self.caller.ask(Command::Close).await;
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// The codec of typed calls.
    pub(super) fn codec(&self) -> Codec {
        self.defaults.codec.unwrap_or(self.caller.codec())
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

    /// Whether such a worker is connected, or connects in time.
    async fn has_arrived(&self, service: Option<&str>, timeout: Duration) -> bool {
        let Ok(ends) = self.caller.open() else { return false };
        let mut workers = ends.workers.clone();
        let (sender, late) = oneshot::channel();
        let _ = ends.commands.send(Command::Wake(timeout, sender));
        let arrival = pin!(workers.wait_for(|workers| workers.values().any(|worker| worker.offers(service))));
        let answer = self.caller.answer(panics::shielded(future::select(arrival, late))).await;
        matches!(answer, Some(Either::Left((Ok(_), _))))
    }
}

/// Settings for a [`Client`]. [`ClientBuilder::bind`] and [`ClientBuilder::connect`] check them.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    pub(super) link: LinkConfig,
    timeout: Duration,
    codec: Codec,
    pub(super) routing: RoutingConfig,
    backoff: BackoffConfig,
    pub(super) program_turns: ProgramTurns,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        let (link, routing, backoff) = (LinkConfig::default(), RoutingConfig::default(), BackoffConfig::default());
        let program_turns = ProgramTurns::default();
        Self { link, timeout: TIMEOUT_DEFAULT, codec: Codec::default(), routing, backoff, program_turns }
    }
}

impl ClientBuilder {
    /// The default time limit of a call. Default 5 s; more than zero.
    ///
    /// [`Client::with_timeout`] and a call's or method's own timeout take precedence. Every call has a deadline: a distant one keeps a lost call in
    /// memory that long. (`PROTOCOL.md` §8)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The codec of typed clients. Default bincode, or postcard in a build without it.
    ///
    /// Self-describing codecs let caller and worker use different versions of a service, for larger and slower
    /// payloads: see [choosing a codec](crate::guide::codecs). (`PROTOCOL.md` §7)
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Bounds of the wait before the client dials a broker again. Default 100 ms to 2 s.
    ///
    /// The upper bound of the wait doubles from the first to the last, and the wait is drawn at random below it. The
    /// ZeroMQ guide's Paranoid Pirate goes up to 32 s. Lower finds a restarted broker sooner; higher spares a network
    /// with many clients. At least 1 ms, at most a day. (`PROTOCOL.md` §6)
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = BackoffConfig { first, max };
        self
    }

    /// Binds an endpoint; see [`Client::bind`].
    ///
    /// # Errors
    /// When the settings contradict each other, or the endpoint is malformed, is in use, or cannot be bound.
    pub async fn bind(self, endpoint: impl AsRef<str>) -> Result<Client, BindError> {
        self.check()?;
        let endpoint: Endpoint = endpoint.as_ref().parse()?;
        let (bound_sender, bound) = oneshot::channel();
        let transport = self.link.transport;
        let (handle, config, channels) = self.open();
        IoThread::spawn(
            "xero-client",
            Connections::Many,
            driver::bind(transport, endpoint, config, channels, bound_sender),
        )
        .map_err(BindError::Thread)?;
        let endpoint = bound.await.unwrap_or_else(|_| Err(BindError::Thread(io_thread_died())))?;
        Ok(handle.at(Place::Bound(endpoint)))
    }

    /// Connects to brokers; see [`Client::connect`].
    ///
    /// # Errors
    /// When the settings contradict each other, or an endpoint is malformed, is for binding only, or is named twice.
    pub fn connect(self, endpoints: impl IntoEndpoints) -> Result<Client, ConnectError> {
        self.check()?;
        let texts = endpoints.into_endpoints();
        let endpoints = ConnectError::check(&texts)?;
        let transport = self.link.transport;
        let (handle, config, channels) = self.open();
        IoThread::spawn("xero-client", Connections::Few, driver::connect(transport, endpoints, config, channels))
            .map_err(ConnectError::Thread)?;
        Ok(handle.at(Place::Brokers(texts)))
    }

    /// The initial state of the client and its I/O thread.
    fn open(self) -> (Handle, Guest<DispatcherConfig>, Channels) {
        let Self { link, timeout, codec, routing, backoff, program_turns } = self;
        let has_policy = routing.choice.is_some();
        let config = Guest::only_if(has_policy, routing.dispatcher(&link, backoff));
        let io = IoThread::new();
        let (worker_list, workers) = WorkerList::new();
        let (commands, mailbox) = mailbox();
        // A caller may hold a lock that its policy takes.
        let caller_turns = program_turns.may_write() && !has_policy;
        let may_read = caller_turns && program_turns.may_read(link.transport);
        let program = runtime::Handle::try_current().ok().filter(|_| may_read);
        let channels = Channels { io: io.clone(), mailbox, workers: worker_list, caller_turns, program };
        (Handle { ends: Owned::new(io, Ends { commands, workers }), timeout, codec }, config, channels)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.link.check()?;
        require(!self.timeout.is_zero(), "timeout", shown(self.timeout), "must be more than zero")?;
        let codec = self.codec;
        require(
            codec.is_available(),
            "codec",
            codec,
            "this build lacks it; the feature of its name, of the crate `xero`, adds it",
        )?;
        self.routing.check()?;
        check_backoff("backoff", self.backoff)
    }
}

/// A client that does not know its endpoint yet.
#[derive(Debug)]
struct Handle {
    ends: Owned<Ends>,
    timeout: Duration,
    codec: Codec,
}

impl Handle {
    fn at(self, place: Place) -> Client {
        let Self { ends, timeout, codec } = self;
        Client { caller: Caller::new(ends, place, timeout, codec), defaults: Defaults::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::registry::LeastRecentlyUsed;

    #[test]
    fn calls_without_time_are_a_mistake() {
        let error = Client::builder().timeout(Duration::ZERO).check().expect_err("no call could end");
        assert_eq!(error.to_string(), "`timeout` is 0s: must be more than zero");
    }

    #[test]
    fn callers_take_turns_unless_a_policy_or_a_setting_forbids_it() {
        let caller_turns = |builder: ClientBuilder| builder.open().2.caller_turns;
        assert!(caller_turns(Client::builder()));
        assert!(!caller_turns(Client::builder().program_turns(ProgramTurns::None)));
        assert!(!caller_turns(Client::builder().worker_choice(LeastRecentlyUsed)));
    }
}
