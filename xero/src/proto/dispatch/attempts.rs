//! Whether a failed attempt is followed by another, and when (`PROTOCOL.md` §8).

use std::time::Duration;

use crate::proto::{
    calls::{Call, WaitPolicy},
    fault::{Fault, planted},
    retry::{Cost, RetryBudget, RetryConfig, Setback, may_retry},
};

/// The bounds of the attempts of each call, and of all calls together.
#[derive(Debug)]
pub(super) struct Attempts {
    config: RetryConfig,
    budget: RetryBudget,
    random: fastrand::Rng,
    over_budget: u64,
}

impl Attempts {
    pub(super) fn new(config: RetryConfig, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { config, budget: RetryBudget::new(config), random, over_budget: 0 }
    }

    /// Earns the share of a new call in the budget.
    pub(super) fn note_call(&mut self) {
        self.budget.deposit();
    }

    /// Records a failed attempt of the call. `Some` is the back-off before the next one, `None` means that none may
    /// follow.
    pub(super) fn next(&mut self, call: &mut Call, setback: Setback, cost: Cost) -> Option<Duration> {
        call.maybe_executed |= setback == Setback::MaybeExecuted;
        let is_free = cost != Cost::Attempt;
        if is_free {
            call.charged = call.charged.saturating_sub(1);
        }
        if !may_retry(setback, call.is_idempotent(), call.charged, self.config.attempts_max) {
            return None;
        }
        let is_at_once =
            call.spec.wait_policy == WaitPolicy::Never && !planted(Fault::FailFastBacksOff) || cost == Cost::Nothing;
        let backoff = match is_at_once {
            true => Duration::ZERO,
            false => self.config.backoff.draw(u32::from(call.attempts), &mut self.random),
        };
        if is_free || self.budget.withdraw() {
            return Some(backoff);
        }
        self.over_budget += 1;
        None
    }

    /// Attempts that the spent budget prevented.
    pub(super) fn over_budget(&self) -> u64 {
        self.over_budget
    }
}
