//! Back-off between dials, and when a call may be attempted again.

use std::time::Duration;

use super::fault::{Fault, planted};

/// The wait between attempts to reach a peer (`PROTOCOL.md` §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first upper bound of the wait. Default 100 ms.
    pub first: Duration,
    /// The last upper bound, where doubling stops. Default 2 s.
    ///
    /// So a worker that has waited for an hour still serves a new client within seconds. The ZeroMQ guide's Paranoid
    /// Pirate goes up to 32 s.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(2) }
    }
}

impl BackoffConfig {
    /// A wait after this many failures: from zero to a bound that doubles with each.
    pub(crate) fn draw(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.max).mul_f64(random.f64())
    }
}

/// How often, and how soon, calls are attempted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Attempts of a call, the first one included. Default 3.
    pub attempts_max: u8,
    /// The wait before the next attempt. Default 10 ms doubling to 1 s.
    pub backoff: BackoffConfig,
    /// Retries that each call earns for all calls together, in hundredths. Default 20.
    ///
    /// In the long run one call in five may be retried, so that retries cannot multiply the load of workers in trouble.
    pub budget_percent: u32,
    /// Retries that may be saved up. Default 1,000: calls in flight to a worker that dies are retried at once.
    pub budget_reserve: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let backoff = BackoffConfig { first: Duration::from_millis(10), max: Duration::from_secs(1) };
        Self { attempts_max: 3, backoff, budget_percent: 20, budget_reserve: 1_000 }
    }
}

/// The retries that a dispatcher may still make, in hundredths.
///
/// Free retries do not count: those of requests that a leaving worker has not started.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    percent: u64,
    reserve: u64,
    balance: u64,
}

impl RetryBudget {
    pub(crate) fn new(config: RetryConfig) -> Self {
        let reserve = 100 * u64::from(config.budget_reserve);
        Self { percent: config.budget_percent.into(), reserve, balance: reserve }
    }

    /// Earns the share of a new call.
    pub(crate) fn deposit(&mut self) {
        self.balance = (self.balance + self.percent).min(self.reserve);
    }

    /// Pays for one retry; `false` if the budget is too small.
    pub(crate) fn withdraw(&mut self) -> bool {
        let is_enough = self.balance >= 100;
        self.balance -= if is_enough { 100 } else { 0 };
        is_enough
    }
}

/// Exponential back-off with full jitter.
///
/// Each wait is drawn from zero to a bound that doubles, so that the workers of a restarted broker do not all dial in
/// the same instant.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    bound: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig, seed: u64) -> Self {
        Self { config, bound: config.first, random: fastrand::Rng::with_seed(seed) }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.bound.mul_f64(self.random.f64());
        self.bound = (self.bound * 2).min(self.config.max);
        wait
    }

    /// Resets the wait after the peer has answered.
    pub(crate) fn reset(&mut self) {
        self.bound = self.config.first;
    }
}

/// How an attempt ended without the procedure's own outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// The worker reports that it did not start the request.
    NotStarted,
    /// The worker is gone, or gave up after it had started.
    MaybeExecuted,
}

/// The cost of a failed attempt to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A leaving worker has not started it: it goes elsewhere at once.
    Nothing,
    /// No worker was there to start it: it goes elsewhere after the back-off.
    Time,
    /// One attempt, and the back-off.
    Attempt,
}

/// Whether a call gets another attempt.
///
/// Passed time is never a reason; only a worker that died, drained or refused is (`PROTOCOL.md` §8).
///
/// A request that a leaving worker has not started costs no attempt: the worker gives up each request once, and a
/// rolling restart fails no call, however many workers leave in a row.
pub(crate) fn may_retry(setback: Setback, idempotent: bool, charged: u8, attempts_max: u8) -> bool {
    let idempotent = idempotent || planted(Fault::NonIdempotentRetried);
    charged < attempts_max && (idempotent || setback == Setback::NotStarted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_its_bound_and_starts_over_after_an_answer() {
        let config = BackoffConfig::default();
        for seed in 0..100 {
            let mut backoff = Backoff::new(config, seed);
            for bound in [100, 200, 400, 800, 1600, 2000, 2000] {
                assert!(backoff.next() <= Duration::from_millis(bound), "seed {seed}");
            }
            backoff.reset();
            assert!(backoff.next() <= config.first, "seed {seed}");
        }
        // Without doubling, no wait would pass the first bound.
        let late = |seed| {
            (0..7).map(|_| 0).fold(Backoff::new(config, seed), |mut backoff, _| {
                backoff.next();
                backoff
            })
        };
        assert!((0..100).any(|seed| late(seed).next() > 10 * config.first));
    }

    #[test]
    fn equal_seeds_wait_alike_and_different_seeds_do_not() {
        let waits = |seed| {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            (0..5).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn work_that_may_have_run_is_retried_only_when_idempotent() {
        assert!(may_retry(Setback::MaybeExecuted, true, 1, 3));
        assert!(!may_retry(Setback::MaybeExecuted, false, 1, 3));
        assert!(may_retry(Setback::NotStarted, false, 1, 3));
        assert!(!may_retry(Setback::NotStarted, true, 3, 3));
    }
}
