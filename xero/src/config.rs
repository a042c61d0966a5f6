//! Settings that clients and workers share: values, defaults, reasons; no I/O.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    error::ConfigError,
    proto::{
        dispatch::DispatcherConfig,
        frame::Limits,
        hold::HoldLimits,
        liveness::{Heartbeats, INTERVAL_MAX, INTERVAL_MIN},
        registry::{LeastRecentlyUsed, WorkerChoice},
        retry::{BackoffConfig, RetryConfig},
    },
};

/// The time a call has unless it or its method says otherwise.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest wait that may be set, so that no instant is out of the clock's range.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Gives an error unless the rule holds.
pub(crate) fn require(
    holds: bool,
    setting: &'static str,
    value: impl ToString,
    rule: &'static str,
) -> Result<(), ConfigError> {
    match holds {
        true => Ok(()),
        false => Err(ConfigError { setting, value: value.to_string(), rule }),
    }
}

/// What both ends of a connection are set to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) heartbeats: Heartbeats,
    pub(crate) limits: Limits,
    pub(crate) window_bytes: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let DispatcherConfig { heartbeats, limits, window_bytes, .. } = DispatcherConfig::default();
        Self { heartbeats, limits, window_bytes }
    }
}

impl LinkConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Heartbeats { interval, liveness } = self.heartbeats;
        let value = format!("{interval:?}");
        require(interval >= INTERVAL_MIN, "heartbeat_interval", &value, "at least 1 ms")?;
        require(interval <= INTERVAL_MAX, "heartbeat_interval", &value, "at most 60 s, which is what peers believe")?;
        require((2..=10).contains(&liveness), "liveness", liveness, "2 to 10 intervals; 3 to 5 is usual")?;
        let payload = self.limits.payload_bytes_max;
        require(payload >= 1024, "payload_bytes_max", payload, "at least 1,024 bytes, so that small replies fit")?;
        require(payload <= u32::MAX as usize, "payload_bytes_max", payload, "at most 4 GiB - 1, the wire's own bound")?;
        let Limits { header_bytes_max, batch_messages_max, services_max, methods_max, .. } = self.limits;
        require(header_bytes_max >= 1024, "header_bytes_max", header_bytes_max, "at least 1,024 bytes")?;
        require(batch_messages_max >= 1024, "batch_messages_max", batch_messages_max, "at least 1,024 messages")?;
        require(services_max >= 1, "services_max", services_max, "at least 1")?;
        require(methods_max >= 1, "methods_max", methods_max, "at least 1")
    }
}

/// How a client or a broker deals with those that serve its calls.
#[derive(Debug)]
pub(crate) struct RoutingConfig {
    pub(crate) waiting_max: usize,
    pub(crate) retry: RetryConfig,
    /// The user's policy, if there is one.
    pub(crate) choice: Option<Box<dyn WorkerChoice>>,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        let DispatcherConfig { waiting_max, retry, .. } = DispatcherConfig::default();
        Self { waiting_max, retry, choice: None }
    }
}

impl RoutingConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let RetryConfig { attempts_max, backoff, budget_percent, .. } = self.retry;
        require(self.waiting_max > 0, "waiting_max", self.waiting_max, "at least 1")?;
        require(attempts_max > 0, "attempts_max", attempts_max, "at least 1")?;
        require(budget_percent <= 1_000, "retry_budget", budget_percent, "at most 1,000 %: ten retries for a call")?;
        check_backoff("retry_backoff", backoff)
    }

    /// What a dispatcher of a new incarnation is made with.
    pub(crate) fn dispatcher(self, link: &LinkConfig, backoff: BackoffConfig) -> DispatcherConfig {
        let Self { waiting_max, retry, choice } = self;
        let choice = choice.unwrap_or(Box::new(LeastRecentlyUsed));
        let (incarnation, seed) = (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().0);
        let LinkConfig { heartbeats, limits, window_bytes } = *link;
        DispatcherConfig { incarnation, seed, heartbeats, limits, waiting_max, retry, backoff, window_bytes, choice }
    }
}

/// Checks the bounds of a back-off.
pub(crate) fn check_backoff(setting: &'static str, backoff: BackoffConfig) -> Result<(), ConfigError> {
    let BackoffConfig { first, max } = backoff;
    require(first >= Duration::from_millis(1), setting, format!("{first:?}"), "the first wait is at least 1 ms")?;
    let value = format!("{first:?} to {max:?}");
    require(max >= first, setting, &value, "the last wait is at least the first")?;
    require(max <= WAIT_MAX, setting, &value, "the last wait is at most a day")
}

/// The setters that clients, workers and brokers have in common.
macro_rules! link_setters {
    () => {
        /// How long nothing may go out before a heartbeat does. Default 1 s; 1 ms to 60 s. Shorter notices a frozen
        /// peer sooner and costs more idle traffic; longer the reverse. The other side learns it from the
        /// introduction, so the two need not agree. (`PROTOCOL.md` §6)
        pub fn heartbeat_interval(mut self, interval: std::time::Duration) -> Self {
            self.link.heartbeats.interval = interval;
            self
        }

        /// How many of a peer's intervals may pass in silence before it counts as dead. Default 3; 2 to 10. Lower
        /// notices a frozen peer sooner; higher forgives longer stalls of the network. (`PROTOCOL.md` §6)
        pub fn liveness(mut self, intervals: u32) -> Self {
            self.link.heartbeats.liveness = intervals;
            self
        }

        /// The largest encoded value that is sent or taken, in bytes. Default 64 MiB; 1,024 to 4 GiB - 1. Each call
        /// in flight may take this much memory on both sides. The other side learns it from the introduction.
        /// (`PROTOCOL.md` §13)
        pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
            self.link.limits.payload_bytes_max = bytes;
            self
        }

        /// How many bytes of large payloads may be under way to here from each peer before it waits for this side to take
        /// some. Default 2 MiB; 0, or more than 64 MiB, stands for 64 MiB. Lower lets small messages wait shorter behind large ones, and keeps less
        /// for a side that does not read; higher suits networks whose bandwidth times their delay is more. One payload
        /// always fits, and those up to 4 KiB never wait. (`PROTOCOL.md` §9)
        pub fn window_bytes(mut self, bytes: u64) -> Self {
            self.link.window_bytes = bytes;
            self
        }

        /// The largest header of a message, in bytes: metadata and names, or a worker's whole offer. Default 64 KiB;
        /// at least 1,024. Not announced: raise it on both sides. (`PROTOCOL.md` §13)
        pub fn header_bytes_max(mut self, bytes: usize) -> Self {
            self.link.limits.header_bytes_max = bytes;
            self
        }

        /// How many messages a received BATCH may hold. Default 1,024, which is also the least: every peer may count on
        /// that. (`PROTOCOL.md` §13)
        pub fn batch_messages_max(mut self, messages: usize) -> Self {
            self.link.limits.batch_messages_max = messages;
            self
        }

        /// How many services a worker may offer. Default 256; at least 1. Not announced: raise it on both sides. A
        /// broker lists no more than that to its clients, for all of its workers together: where they offer more, what
        /// is beyond a worker's fair share is left out, and logged. (`PROTOCOL.md` §5, §13)
        pub fn services_max(mut self, services: usize) -> Self {
            self.link.limits.services_max = services;
            self
        }

        /// How many methods a worker may offer, over all its services. Default 4,096; at least 1. Not announced: raise
        /// it on both sides. It bounds a broker's list as [`Self::services_max`] does. (`PROTOCOL.md` §5, §13)
        pub fn methods_max(mut self, methods: usize) -> Self {
            self.link.limits.methods_max = methods;
            self
        }

        /// The largest metadata of a call as written on the wire, in bytes: keys, values, and up to 7 more for each.
        /// Default 16 KiB. Not announced: raise it on both sides. (`PROTOCOL.md` §13)
        pub fn metadata_bytes_max(mut self, bytes: usize) -> Self {
            self.link.limits.metadata_bytes_max = bytes;
            self
        }
    };
}
pub(crate) use link_setters;

/// The setters of those that hold requests of their peers: workers and brokers.
macro_rules! hold_setters {
    () => {
        /// How many bytes are held of one peer: its requests that wait, at a broker also those that have not ended, and the
        /// replies that it has not taken.
        /// Default 64 MiB; one message always fits. What comes beyond is not acknowledged before there is room, so it
        /// stays with whoever sends it. Lower bounds the memory that one peer can take; higher lets it have more large
        /// requests in flight. (`PROTOCOL.md` §9)
        pub fn peer_bytes_max(mut self, bytes: u64) -> Self {
            self.hold_limits.peer_bytes_max = bytes;
            self
        }

        /// How many bytes are held of all peers together. Default 256 MiB; at least 1 MiB. From half of it on, nothing more
        /// is acknowledged before there is room, which slows its senders down; when all of it is held, further requests
        /// are refused as overloaded, and go elsewhere if they can. Set it to what the process can spare. (`PROTOCOL.md` §9)
        pub fn total_bytes_max(mut self, bytes: u64) -> Self {
            self.hold_limits.total_bytes_max = bytes;
            self
        }
    };
}
pub(crate) use hold_setters;

/// Checks what [`hold_setters`] set.
pub(crate) fn check_hold_limits(limits: &HoldLimits) -> Result<(), ConfigError> {
    let total = limits.total_bytes_max;
    require(total >= 1 << 20, "total_bytes_max", total, "at least 1 MiB, so that requests are taken at all")
}

/// The setters that clients and brokers have in common.
macro_rules! routing_setters {
    () => {
        /// How many calls may wait for a worker before further ones fail with
        /// [`CallError::Overloaded`](crate::CallError::Overloaded). Default 10,000; at least 1. Each keeps its
        /// arguments in memory until its deadline. (`PROTOCOL.md` §9)
        pub fn waiting_max(mut self, calls: usize) -> Self {
            self.routing.waiting_max = calls;
            self
        }

        /// How often a call is tried in all: an idempotent one whose worker is lost, or any that a worker has refused
        /// unstarted. Default 3; at least 1, which turns retries off. What a leaving worker has not started counts as no
        /// attempt. (`PROTOCOL.md` §8)
        pub fn attempts_max(mut self, attempts: u8) -> Self {
            self.routing.retry.attempts_max = attempts;
            self
        }

        /// The bounds of the wait before a call is tried again, which doubles from the first to the last and is drawn at
        /// random below that. Default 10 ms to 1 s. Shorter answers sooner after a loss; longer spares workers in
        /// trouble. At least 1 ms, at most a day. (`PROTOCOL.md` §8)
        pub fn retry_backoff(mut self, first: std::time::Duration, max: std::time::Duration) -> Self {
            self.routing.retry.backoff = crate::proto::retry::BackoffConfig { first, max };
            self
        }

        /// How many retries all calls together may make: each call earns so many hundredths of one, and so many are saved
        /// up at most. Default 20 % and 1,000; at most 1,000 %. Beyond, a call that would be retried ends with
        /// [`CallError::WorkerLost`](crate::CallError::WorkerLost). Lower protects workers in trouble from a multiplied
        /// load; higher survives more losses at the same time. (`PROTOCOL.md` §8)
        pub fn retry_budget(mut self, percent: u32, reserve: u32) -> Self {
            (self.routing.retry.budget_percent, self.routing.retry.budget_reserve) = (percent, reserve);
            self
        }

        /// Who gets a call when several workers could. Default: the least recently used one.
        pub fn worker_choice(mut self, choice: impl crate::proto::registry::WorkerChoice + 'static) -> Self {
            self.routing.choice = Some(Box::new(choice));
            self
        }
    };
}
pub(crate) use routing_setters;
