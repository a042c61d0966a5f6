//! Settings that clients, workers and brokers share: values, defaults, reasons; no I/O.

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

/// The default time limit of a call.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest wait that a setting allows, so that no instant leaves the clock's range.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Returns an error unless the rule holds.
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

/// Settings of both ends of a connection.
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
        require(interval <= INTERVAL_MAX, "heartbeat_interval", &value, "at most 60 s, the most that peers accept")?;
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

/// How a client or a broker routes calls to workers.
#[derive(Debug)]
pub(crate) struct RoutingConfig {
    pub(crate) offers_bytes_max: u64,
    pub(crate) waiting_max: usize,
    pub(crate) retry: RetryConfig,
    /// The user's policy, if there is one.
    pub(crate) choice: Option<Box<dyn WorkerChoice>>,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        let DispatcherConfig { offers_bytes_max, waiting_max, retry, .. } = DispatcherConfig::default();
        Self { offers_bytes_max, waiting_max, retry, choice: None }
    }
}

impl RoutingConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let RetryConfig { attempts_max, backoff, budget_percent, .. } = self.retry;
        let offers = self.offers_bytes_max;
        require(offers >= 1 << 20, "offers_bytes_max", offers, "at least 1 MiB, so that workers are accepted")?;
        require(self.waiting_max > 0, "waiting_max", self.waiting_max, "at least 1")?;
        require(attempts_max > 0, "attempts_max", attempts_max, "at least 1")?;
        require(budget_percent <= 1_000, "retry_budget", budget_percent, "at most 1,000 %: ten retries for a call")?;
        check_backoff("retry_backoff", backoff)
    }

    /// The configuration of a dispatcher of a new incarnation.
    pub(crate) fn dispatcher(self, link: &LinkConfig, backoff: BackoffConfig) -> DispatcherConfig {
        let Self { offers_bytes_max, waiting_max, retry, choice } = self;
        let choice = choice.unwrap_or(Box::new(LeastRecentlyUsed));
        let (incarnation, seed) = (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().0);
        let LinkConfig { heartbeats, limits, window_bytes } = *link;
        DispatcherConfig {
            incarnation,
            seed,
            heartbeats,
            limits,
            offers_bytes_max,
            waiting_max,
            retry,
            backoff,
            window_bytes,
            choice,
        }
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

/// The setters that clients, workers and brokers share.
macro_rules! link_setters {
    () => {
        /// Longest silence before a heartbeat. Default 1 s; 1 ms to 60 s.
        ///
        /// Shorter notices a frozen peer sooner and costs more idle traffic; longer the reverse. The introduction
        /// carries the interval to the peer, so the two sides need not agree. (`PROTOCOL.md` §6)
        pub fn heartbeat_interval(mut self, interval: std::time::Duration) -> Self {
            self.link.heartbeats.interval = interval;
            self
        }

        /// Intervals of silence before a peer counts as dead. Default 3; 2 to 10.
        ///
        /// Lower notices a frozen peer sooner; higher forgives longer stalls of the network. (`PROTOCOL.md` §6)
        pub fn liveness(mut self, intervals: u32) -> Self {
            self.link.heartbeats.liveness = intervals;
            self
        }

        /// Largest encoded value to send or accept, in bytes. Default 64 MiB; 1,024 to 4 GiB - 1.
        ///
        /// Each call in flight may take this much memory on both sides. The introduction carries the limit to the peer.
        /// (`PROTOCOL.md` §13)
        pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
            self.link.limits.payload_bytes_max = bytes;
            self
        }

        /// Receive window per peer, in bytes. Default 2 MiB; 0 means 64 MiB, the largest.
        ///
        /// A peer may send this many bytes of large payloads before it must wait for an acknowledgement. Lower shortens
        /// the wait of small messages behind large ones, and keeps less for a peer that does not read; higher suits
        /// networks with a larger product of bandwidth and delay. One payload always fits, and payloads up to 4 KiB
        /// never wait. A value above 64 MiB means 64 MiB. (`PROTOCOL.md` §9)
        pub fn window_bytes(mut self, bytes: u64) -> Self {
            self.link.window_bytes = bytes;
            self
        }

        /// Largest header of a message, in bytes. Default 64 KiB; at least 1,024.
        ///
        /// A header holds metadata and names, or a worker's whole offer. The limit is not announced: raise it on both
        /// sides. (`PROTOCOL.md` §13)
        pub fn header_bytes_max(mut self, bytes: usize) -> Self {
            self.link.limits.header_bytes_max = bytes;
            self
        }

        /// Most messages in a received BATCH. Default 1,024, which is also the least.
        ///
        /// Every peer may rely on that minimum. (`PROTOCOL.md` §13)
        pub fn batch_messages_max(mut self, messages: usize) -> Self {
            self.link.limits.batch_messages_max = messages;
            self
        }

        /// Most services that a worker may offer. Default 256; at least 1.
        ///
        /// The limit is not announced: raise it on both sides. A broker lists no more services than this to its
        /// clients, for all its workers together. If they offer more, it leaves out and logs what exceeds a worker's
        /// fair share. (`PROTOCOL.md` §5, §13)
        pub fn services_max(mut self, services: usize) -> Self {
            self.link.limits.services_max = services;
            self
        }

        /// Most methods that a worker may offer, over all services. Default 4,096; at least 1.
        ///
        /// The limit is not announced: raise it on both sides. It bounds a broker's list as [`Self::services_max`]
        /// does. (`PROTOCOL.md` §5, §13)
        pub fn methods_max(mut self, methods: usize) -> Self {
            self.link.limits.methods_max = methods;
            self
        }

        /// Largest metadata of a call on the wire, in bytes. Default 16 KiB.
        ///
        /// It counts keys, values, and up to 7 more bytes for each. The limit is not announced: raise it on both sides.
        /// (`PROTOCOL.md` §13)
        pub fn metadata_bytes_max(mut self, bytes: usize) -> Self {
            self.link.limits.metadata_bytes_max = bytes;
            self
        }
    };
}
pub(crate) use link_setters;

/// The setters of workers and brokers, which hold requests of their peers.
macro_rules! hold_setters {
    () => {
        /// Most bytes held of one peer. Default 64 MiB; one message always fits.
        ///
        /// This counts the peer's waiting requests, at a broker all its open requests, and its unread replies. Further
        /// messages are acknowledged only once there is room, so they stay with their sender. Lower bounds the memory
        /// of one peer; higher lets it have more large requests in flight. (`PROTOCOL.md` §9)
        pub fn peer_bytes_max(mut self, bytes: u64) -> Self {
            self.hold_limits.peer_bytes_max = bytes;
            self
        }

        /// Most bytes held of all peers together. Default 256 MiB; at least 1 MiB.
        ///
        /// From half of it on, messages are acknowledged only once there is room, which slows their senders down. When
        /// all of it is held, further requests are refused as overloaded, and go elsewhere if they can. Set it to the
        /// memory that the process can spare. (`PROTOCOL.md` §9)
        pub fn total_bytes_max(mut self, bytes: u64) -> Self {
            self.hold_limits.total_bytes_max = bytes;
            self
        }
    };
}
pub(crate) use hold_setters;

/// Checks the limits that [`hold_setters`] set.
pub(crate) fn check_hold_limits(limits: &HoldLimits) -> Result<(), ConfigError> {
    let total = limits.total_bytes_max;
    require(total >= 1 << 20, "total_bytes_max", total, "at least 1 MiB, so that requests are accepted")
}

/// The setters that clients and brokers share.
macro_rules! routing_setters {
    () => {
        /// Most calls that wait for a worker. Default 10,000; at least 1.
        ///
        /// Further calls fail with [`CallError::Overloaded`](crate::CallError::Overloaded). Each waiting call keeps its
        /// arguments in memory until its deadline. (`PROTOCOL.md` §9)
        pub fn waiting_max(mut self, calls: usize) -> Self {
            self.routing.waiting_max = calls;
            self
        }

        /// Most memory for what workers offer, in bytes. Default 512 MiB; at least 1 MiB.
        ///
        /// It counts names, and 1 KiB for each service and method, which is more than they take; equal offers count
        /// once. A worker whose offer has no room is refused, logs this setter, and dials again later. Lower bounds the
        /// memory that strangers can take; higher admits larger fleets. (`PROTOCOL.md` §13)
        pub fn offers_bytes_max(mut self, bytes: u64) -> Self {
            self.routing.offers_bytes_max = bytes;
            self
        }

        /// Most attempts of a call, the first one included. Default 3; 1 turns retries off.
        ///
        /// A call is attempted again if it is idempotent and its worker is lost, or if a worker refused it unstarted. A
        /// request that a leaving worker has not started counts as no attempt. (`PROTOCOL.md` §8)
        pub fn attempts_max(mut self, attempts: u8) -> Self {
            self.routing.retry.attempts_max = attempts;
            self
        }

        /// Bounds of the wait before a retry. Default 10 ms to 1 s.
        ///
        /// The upper bound of the wait doubles from the first to the last, and the wait is drawn at random below it.
        /// Shorter answers sooner after a loss; longer spares workers in trouble. At least 1 ms, at most a day.
        /// (`PROTOCOL.md` §8)
        pub fn retry_backoff(mut self, first: std::time::Duration, max: std::time::Duration) -> Self {
            self.routing.retry.backoff = crate::proto::retry::BackoffConfig { first, max };
            self
        }

        /// Retries that all calls together may make. Default 20 % and 1,000; at most 1,000 %.
        ///
        /// Each call earns `percent` hundredths of a retry, and at most `reserve` retries are saved up. Without a saved
        /// retry, the call ends with [`CallError::WorkerLost`](crate::CallError::WorkerLost). Lower protects workers in
        /// trouble from a multiplied load; higher survives more losses at the same time. (`PROTOCOL.md` §8)
        pub fn retry_budget(mut self, percent: u32, reserve: u32) -> Self {
            (self.routing.retry.budget_percent, self.routing.retry.budget_reserve) = (percent, reserve);
            self
        }

        /// Which worker gets a call when several can take it. Default: the least recently used one.
        pub fn worker_choice(mut self, choice: impl crate::proto::registry::WorkerChoice + 'static) -> Self {
            self.routing.choice = Some(Box::new(choice));
            self
        }
    };
}
pub(crate) use routing_setters;
