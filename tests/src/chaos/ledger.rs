//! What was called and what became of it, and what must not have.

use std::{collections::BTreeMap, fmt, time::Duration};

use fastrand::Rng;
use xero::CallError;

use crate::load::{Order, Receipt, figures::Latencies};

/// A call to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// What it asks for.
    pub(super) order: Order,
    /// What it may come to.
    pub(super) kind: Kind,
    /// The time that it has.
    pub(super) timeout: Duration,
}

/// What a call may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Idempotent: a reply, whatever happens to workers.
    Again,
    /// Not idempotent: a reply, or the loss of its worker.
    Once,
    /// Its procedure takes longer than it has: its deadline, or the loss of its worker before.
    Hurried,
}

impl Plan {
    /// The call of that number in a run of that seed.
    pub(super) fn of(seed: u64, number: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let kind = match random.u8(..100) {
            0..60 => Kind::Again,
            60..95 => Kind::Once,
            _ => Kind::Hurried,
        };
        let (millis, timeout) = match kind {
            Kind::Hurried => (10_000, Duration::from_millis(random.u64(20..300))),
            // Most take no time; the rest are in flight when something happens to their worker.
            _ if random.u8(..4) > 0 => (0, TIMEOUT),
            _ => (random.u64(1..80), TIMEOUT),
        };
        let bytes = |random: &mut Rng| match random.u8(..20) {
            0 => random.usize(..TEXT_BYTES_MAX),
            _ => random.usize(..500),
        };
        let order = Order { number, text_bytes: bytes(&mut random), reply_bytes: bytes(&mut random), millis };
        Self { order, kind, timeout }
    }
}

/// How a call ended that is not idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Replied,
    NotExecuted,
    MaybeExecuted,
}

/// The outcome of a call.
pub(super) type Outcome = Result<Receipt, CallError<String>>;

/// All calls of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// How many were begun.
    pub(super) made: u64,
    /// How many ended with their reply.
    pub(super) replies: u64,
    /// How many of those after more than one attempt.
    pub(super) retried: u64,
    /// How many ended with the loss of their worker.
    pub(super) lost: u64,
    /// How many ended at their deadline, as they were to.
    pub(super) expired: u64,
    /// By how much a call has outlasted its deadline, at most.
    pub(super) overrun: Duration,
    /// How long those took that ended with their reply.
    pub(super) latencies: Latencies,
    once: BTreeMap<u64, Fate>,
    violations: Vec<String>,
    violation_count: usize,
}

impl Ledger {
    /// A call has ended.
    pub(super) fn ended(&mut self, plan: Plan, outcome: &Outcome, time: Duration) {
        self.overrun = self.overrun.max(time.saturating_sub(plan.timeout));
        self.count(outcome, time);
        if plan.kind != Kind::Again {
            self.once.insert(plan.order.number, fate(outcome));
        }
        if let Err(mistake) = judge(plan, outcome) {
            self.violated(format!("after {time:.1?}, {mistake}"));
        }
    }

    /// A call has not ended.
    pub(super) fn hung(&mut self, plan: Plan, time: Duration) {
        self.violated(format!("{plan:?} has not ended within {time:?}"));
    }

    /// Something has happened that must not.
    pub(super) fn violated(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_SHOWN {
            self.violations.push(what);
        }
    }

    /// Compares what calls came to with what the workers have noted: the numbers of the calls that they have begun.
    pub(super) fn compare(&mut self, noted: impl Iterator<Item = u64>) {
        let mut counts = BTreeMap::<u64, u32>::new();
        noted.for_each(|number| *counts.entry(number).or_default() += 1);
        for (number, fate) in std::mem::take(&mut self.once) {
            match (fate, counts.remove(&number).unwrap_or(0)) {
                (Fate::Replied, 1) | (Fate::NotExecuted, 0) | (Fate::MaybeExecuted, 0 | 1) => {}
                (fate, count) => self.violated(format!("call {number} has run {count} times and ended as {fate:?}")),
            }
        }
        for (number, count) in counts {
            self.violated(format!("call {number} has run {count} times and was never made"));
        }
    }

    /// What must not have happened, at most the first few.
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    fn count(&mut self, outcome: &Outcome, time: Duration) {
        match outcome {
            Ok(receipt) => {
                self.replies += 1;
                self.retried += u64::from(receipt.attempt > 1);
                self.latencies.add(time);
            }
            Err(CallError::WorkerLost { .. }) => self.lost += 1,
            Err(CallError::DeadlineExceeded { .. } | CallError::NoWorker { .. }) => self.expired += 1,
            Err(_) => {}
        }
    }
}

fn fate(outcome: &Outcome) -> Fate {
    match outcome {
        Ok(_) => Fate::Replied,
        Err(error) if error.maybe_executed() => Fate::MaybeExecuted,
        Err(_) => Fate::NotExecuted,
    }
}

fn judge(plan: Plan, outcome: &Outcome) -> Result<(), String> {
    match (plan.kind, outcome) {
        (_, Ok(receipt)) => plan.order.check(receipt),
        (Kind::Once | Kind::Hurried, Err(CallError::WorkerLost { .. })) => Ok(()),
        (Kind::Hurried, Err(CallError::DeadlineExceeded { .. } | CallError::NoWorker { .. })) => Ok(()),
        (_, Err(error)) => Err(format!("{plan:?} ended with: {error}")),
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, replies, retried, lost, expired, overrun, latencies, .. } = self;
        writeln!(
            f,
            "{made} calls: {replies} replies ({retried} after a retry), {lost} workers lost, {expired} expired"
        )?;
        writeln!(f, "latency {latencies}")?;
        match overrun.is_zero() {
            true => writeln!(f, "every call ended by its deadline")?,
            false => writeln!(f, "the latest call ended {overrun:.1?} after its deadline")?,
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        match self.violation_count - self.violations.len() {
            0 => Ok(()),
            more => writeln!(f, "and {more} more violations"),
        }
    }
}

/// The time of a call that is to end before: a call whose worker is frozen waits for the lease, several times over if
/// the next worker is frozen, too.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest text of a call or reply here: the load is to be many calls, not many bytes.
const TEXT_BYTES_MAX: usize = 65_536;

/// Violations that are shown: the first ones tell the most.
const VIOLATIONS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::text;

    fn reply(order: Order) -> Outcome {
        Ok(Receipt { order, attempt: 1, text: text(order.number, order.reply_bytes) })
    }

    fn first(kind: Kind) -> Plan {
        (0..).map(|number| Plan::of(1, number)).find(|plan| plan.kind == kind).expect("each kind comes")
    }

    fn lost(maybe_executed: bool) -> Outcome {
        Err(CallError::WorkerLost { attempts: 1, maybe_executed })
    }

    fn violations(record: impl FnOnce(&mut Ledger)) -> usize {
        let mut ledger = Ledger::default();
        record(&mut ledger);
        ledger.violations().len()
    }

    #[test]
    fn each_kind_of_call_is_held_to_its_own_outcomes() {
        let [again, once, hurried] = [Kind::Again, Kind::Once, Kind::Hurried].map(first);
        let late: Outcome = Err(CallError::DeadlineExceeded { timeout: TIMEOUT, maybe_executed: true });
        let ended = |plan: Plan, outcome: Outcome| violations(|ledger| ledger.ended(plan, &outcome, TIMEOUT));
        for plan in [again, once, hurried] {
            assert_eq!(ended(plan, reply(plan.order)), 0);
            assert_eq!(ended(plan, reply(Order { number: u64::MAX, ..plan.order })), 1);
        }
        assert_eq!([again, once, hurried].map(|plan| ended(plan, lost(true))), [1, 0, 0]);
        assert_eq!([again, once, hurried].map(|plan| ended(plan, late.clone())), [1, 1, 0]);
    }

    #[test]
    fn run_that_does_not_go_with_the_outcome_is_a_violation() {
        let once = first(Kind::Once);
        let number = once.order.number;
        let compared = |outcome: Outcome, noted: &[u64]| {
            violations(|ledger| {
                ledger.ended(once, &outcome, Duration::ZERO);
                ledger.compare(noted.iter().copied());
            })
        };
        assert_eq!([0, 1, 2].map(|count| compared(reply(once.order), &vec![number; count])), [1, 0, 1]);
        assert_eq!([0, 1, 2].map(|count| compared(lost(false), &vec![number; count])), [0, 1, 1]);
        assert_eq!([0, 1, 2].map(|count| compared(lost(true), &vec![number; count])), [0, 0, 1]);
        assert_eq!(compared(lost(true), &[number + 1]), 1);
    }
}
