//! Settings that clients, workers and brokers share: values, defaults, reasons; no I/O.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    error::{ConfigError, shown},
    io::process::Process,
    proto::{
        dispatch::DispatcherConfig,
        frame::Limits,
        hold::HoldLimits,
        liveness::{Heartbeats, INTERVAL_MAX, INTERVAL_MIN},
        registry::{LeastRecentlyUsed, WorkerChoice},
        retry::{BackoffConfig, RetryConfig},
    },
    transport::Transport,
};

/// The default time limit of a call.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest time limit of a call; a longer one is capped to it.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

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
    pub(crate) transport: Transport,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let DispatcherConfig { heartbeats, limits, window_bytes, .. } = DispatcherConfig::default();
        Self { heartbeats, limits, window_bytes, transport: Transport::default() }
    }
}

impl LinkConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Heartbeats { interval, liveness } = self.heartbeats;
        let value = shown(interval);
        require(interval >= INTERVAL_MIN, "heartbeat_interval", &value, "must be at least 1 ms")?;
        require(
            interval <= INTERVAL_MAX,
            "heartbeat_interval",
            &value,
            "must be at most 60 s, the most that peers accept",
        )?;
        require((2..=10).contains(&liveness), "liveness", liveness, "must be 2 to 10 intervals; 3 to 5 is usual")?;
        let payload = self.limits.payload_bytes_max;
        require(
            payload >= 1024,
            "payload_bytes_max",
            payload,
            "must be at least 1,024 bytes, so that small replies fit",
        )?;
        require(
            payload <= u32::MAX as usize,
            "payload_bytes_max",
            payload,
            "must be at most 4 GiB - 1, the wire's own bound",
        )?;
        let Limits { header_bytes_max, batch_messages_max, services_max, methods_max, .. } = self.limits;
        require(header_bytes_max >= 1024, "header_bytes_max", header_bytes_max, "must be at least 1,024 bytes")?;
        require(
            batch_messages_max >= 1024,
            "batch_messages_max",
            batch_messages_max,
            "must be at least 1,024 messages",
        )?;
        require(services_max >= 1, "services_max", services_max, "must be at least 1")?;
        require(methods_max >= 1, "methods_max", methods_max, "must be at least 1")
    }
}

/// Which turns at the sockets the program's own threads take, so that a call changes threads less often.
///
/// Heartbeats have a thread of their own in any case, the I/O thread. While another thread has a turn, the I/O thread
/// waits: if the system interrupts that thread, heartbeats and all other calls wait until it runs again. Threads of low
/// priority on a busy machine should take none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramTurns {
    /// The I/O thread does everything.
    None,
    /// A call that finds no other in flight is written on its caller's thread, and so is a reply on the thread where its
    /// procedure ends. Of many, each sixteenth writes those that have gathered, so that the peer starts on them.
    Write,
    /// A task on the program's runtime also reads what arrives, so that a lone call changes no thread on its way. It is
    /// the runtime in which a client is made, or that of a worker's procedures.
    ///
    /// The I/O thread takes over the sockets if that runtime has ended or does not answer: within 60 ms while calls are
    /// in flight, within 400 ms while none is. The runtime needs `enable_io`: without it, Tokio panics once, the message
    /// is printed by the program's panic hook, and the I/O thread reads the sockets. A program built with
    /// `panic = "abort"`, the transport `Transport::ZeroMq`, and handles made after a fork are treated like
    /// [`Self::Write`]. A forked child must not drive a runtime of its parent, because the two share its reactor: the
    /// parent's would miss what arrives.
    #[default]
    ReadAndWrite,
}

impl ProgramTurns {
    pub(crate) fn may_write(self) -> bool {
        self != Self::None
    }

    /// Whether the program's runtime may read.
    ///
    /// Tokio panics in a runtime without a reactor. In a forked process, a runtime may share its reactor with the parent's.
    pub(crate) fn may_read(self, transport: Transport) -> bool {
        let is_asked = self == Self::ReadAndWrite && transport == Transport::Zmtp;
        is_asked && cfg!(panic = "unwind") && !Process::is_a_fork()
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
        require(offers >= 1 << 20, "offers_bytes_max", offers, "must be at least 1 MiB, so that workers are accepted")?;
        require(self.waiting_max > 0, "waiting_max", self.waiting_max, "must be at least 1")?;
        require(attempts_max > 0, "attempts_max", attempts_max, "must be at least 1")?;
        require(
            budget_percent <= 1_000,
            "retry_budget",
            budget_percent,
            "must be at most 1,000 %: ten retries for a call",
        )?;
        check_backoff("retry_backoff", backoff)
    }

    /// The configuration of a dispatcher of a new incarnation.
    pub(crate) fn dispatcher(self, link: &LinkConfig, backoff: BackoffConfig) -> DispatcherConfig {
        let Self { offers_bytes_max, waiting_max, retry, choice } = self;
        let choice = choice.unwrap_or(Box::new(LeastRecentlyUsed));
        let (incarnation, seed) = (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().0);
        let LinkConfig { heartbeats, limits, window_bytes, .. } = *link;
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
    require(first >= Duration::from_millis(1), setting, shown(first), "the first wait must be at least 1 ms")?;
    let value = format!("{} to {}", shown(first), shown(max));
    require(max >= first, setting, &value, "the last wait must be at least the first")?;
    require(max <= WAIT_MAX, setting, &value, "the last wait must be at most a day")
}

/// Checks the limits of what is held.
pub(crate) fn check_hold_limits(limits: &HoldLimits) -> Result<(), ConfigError> {
    let total = limits.total_bytes_max;
    require(total >= 3 << 20, "total_bytes_max", total, "must be at least 3 MiB, so that requests are accepted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_say_what_they_must_be() {
        let link = |change: fn(&mut LinkConfig)| {
            let mut config = LinkConfig::default();
            change(&mut config);
            config.check().expect_err("is wrong").to_string()
        };
        let interval = link(|config| config.heartbeats.interval = Duration::ZERO);
        assert_eq!(interval, "`heartbeat_interval` is 0s: must be at least 1 ms");
        let liveness = link(|config| config.heartbeats.liveness = 11);
        assert_eq!(liveness, "`liveness` is 11: must be 2 to 10 intervals; 3 to 5 is usual");
        let backoff = |first, max| {
            let config = BackoffConfig { first: Duration::from_secs(first), max: Duration::from_secs(max) };
            check_backoff("backoff", config).expect_err("is wrong").to_string()
        };
        assert_eq!(backoff(0, 1), "`backoff` is 0s: the first wait must be at least 1 ms");
        assert_eq!(backoff(2, 0), "`backoff` is 2s to 0s: the last wait must be at least the first");
    }
}
