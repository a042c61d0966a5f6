//! The calls of a run, their outcomes, and broken promises.

use std::{collections::BTreeMap, fmt, time::Duration};

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use xero::{CallError, RpcError};

use super::{Order, Receipt, figures::Latencies};

/// A call to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its order.
    pub order: Order,
    /// Its allowed outcomes.
    pub kind: Kind,
    /// Its time limit.
    pub timeout: Duration,
}

/// The allowed outcomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Idempotent: a reply, whatever happens to workers.
    Again,
    /// Not idempotent: a reply, or the loss of its worker.
    Once,
    /// Its procedure takes longer than its timeout: it ends at its deadline, or with the loss of its worker before.
    Hurried,
}

impl Plan {
    /// The call of that number in a load of that seed, with texts of at most that many bytes.
    ///
    /// Equal arguments give equal plans, so a judge needs only a call's number. Kind and time do not depend on the
    /// bytes.
    pub fn of(seed: u64, number: u64, text_bytes_max: usize) -> Self {
        let mut random = Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let kind = match random.u8(..100) {
            0..60 => Kind::Again,
            60..95 => Kind::Once,
            _ => Kind::Hurried,
        };
        let (millis, timeout) = match kind {
            Kind::Hurried => (10_000, Duration::from_millis(random.u64(20..300))),
            // Most take no time; the rest are in flight when a fault hits their worker.
            _ if random.u8(..4) > 0 => (0, TIMEOUT),
            _ => (random.u64(1..80), TIMEOUT),
        };
        let bytes = |random: &mut Rng| match random.u8(..20) {
            0 => random.usize(..=text_bytes_max),
            _ => random.usize(..500).min(text_bytes_max),
        };
        let order = Order { number, text_bytes: bytes(&mut random), reply_bytes: bytes(&mut random), millis };
        Self { order, kind, timeout }
    }
}

/// The outcome of a call.
pub type Outcome = Result<Receipt, CallError<String>>;

/// How a call ended, in a form for records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With its reply.
    Replied {
        /// The attempt that replied.
        attempt: u8,
    },
    /// With a reply that belongs to another call, or is incomplete.
    Wrong {
        /// The mistake in it.
        mistake: String,
    },
    /// With the loss of its worker.
    Lost {
        /// Whether it may have run.
        maybe_executed: bool,
    },
    /// At its deadline, or for want of a worker until then.
    Expired {
        /// Whether it may have run.
        maybe_executed: bool,
    },
    /// With any other error.
    Failed {
        /// The error.
        error: String,
        /// Whether it may have run.
        maybe_executed: bool,
    },
    /// Not at all, until a second after its deadline.
    Hung,
}

impl End {
    /// The meaning of that outcome for the caller.
    pub fn of(order: &Order, outcome: &Outcome) -> Self {
        let error = match outcome.as_ref().map(|receipt| (receipt, order.check(receipt))) {
            Ok((receipt, Ok(()))) => return Self::Replied { attempt: receipt.attempt },
            Ok((_, Err(mistake))) => return Self::Wrong { mistake },
            Err(error) => error,
        };
        let maybe_executed = error.maybe_executed();
        match error {
            CallError::Rpc(RpcError::WorkerLost { .. }) => Self::Lost { maybe_executed },
            CallError::Rpc(RpcError::DeadlineExceeded { .. } | RpcError::NoWorker { .. }) => {
                Self::Expired { maybe_executed }
            }
            _ => Self::Failed { error: error.to_string(), maybe_executed },
        }
    }

    fn fate(&self) -> Fate {
        match *self {
            Self::Replied { .. } | Self::Wrong { .. } => Fate::Replied,
            Self::Lost { maybe_executed: false }
            | Self::Expired { maybe_executed: false }
            | Self::Failed { maybe_executed: false, .. } => Fate::NotExecuted,
            Self::Lost { .. } | Self::Expired { .. } | Self::Failed { .. } | Self::Hung => Fate::MaybeExecuted,
        }
    }
}

/// What is known about whether a call has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Replied,
    NotExecuted,
    MaybeExecuted,
}

impl Fate {
    /// Whether workers may have started a call of this fate this many times.
    fn allows(self, kind: Kind, runs: u32) -> bool {
        match self {
            Self::NotExecuted => runs == 0,
            Self::Replied if runs == 0 => false,
            _ => kind == Kind::Again || runs <= 1,
        }
    }
}

/// All calls of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The calls that started.
    pub made: u64,
    /// The calls that ended with their reply.
    pub replies: u64,
    /// Those of them with more than one attempt.
    pub retried: u64,
    /// The calls that ended with the loss of their worker.
    pub lost: u64,
    /// The calls that ended at their deadline.
    pub expired: u64,
    /// The most that a call has outlasted its deadline.
    pub overrun: Duration,
    /// The durations of the calls that ended with their reply.
    pub latencies: Latencies,
    calls: BTreeMap<u64, (Kind, Fate)>,
    violations: Vec<String>,
    violation_count: usize,
}

impl Ledger {
    /// Notes that a call is about to start.
    pub fn begun(&mut self, plan: &Plan) {
        self.made += 1;
        let number = plan.order.number;
        if self.calls.insert(number, (plan.kind, Fate::Open)).is_some() {
            self.violated(format!("two calls have the number {number}"));
        }
    }

    /// Notes that a call has ended, this long after its start; workers were reachable.
    pub fn ended(&mut self, plan: &Plan, end: &End, took: Duration) {
        self.close(plan, end, took);
        if let Err(mistake) = judge(plan, end, took) {
            self.violated(format!("after {took:.1?}, {mistake}"));
        }
    }

    /// Notes that a call has ended, this long after its start, with no process reachable at times. Its deadline may
    /// have ended it, whatever its kind. A call that had lost its worker before says that at its deadline.
    pub fn ended_unreachable(&mut self, plan: &Plan, end: &End, took: Duration) {
        match end {
            End::Expired { .. } | End::Lost { .. } if took >= plan.timeout => self.close(plan, end, took),
            _ => self.ended(plan, end, took),
        }
    }

    /// Notes a broken promise.
    pub fn violated(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_SHOWN {
            self.violations.push(what);
        }
    }

    /// Compares the calls' outcomes with the workers' notes: the numbers of the calls that they have started, each as
    /// often as they have. Call it once, at the end.
    pub fn compare(&mut self, noted: impl IntoIterator<Item = u64>) {
        let mut counts = BTreeMap::<u64, u32>::new();
        noted.into_iter().for_each(|number| *counts.entry(number).or_default() += 1);
        let mut mistakes = Vec::new();
        for (number, (kind, fate)) in &self.calls {
            let count = counts.remove(number).unwrap_or(0);
            if !fate.allows(*kind, count) {
                mistakes.push(format!("call {number}, {kind:?}, has run {count} times and ended as {fate:?}"));
            }
        }
        let strange =
            counts.iter().map(|(number, count)| format!("call {number} has run {count} times and was never made"));
        mistakes.extend(strange);
        mistakes.into_iter().for_each(|mistake| self.violated(mistake));
    }

    /// The numbers of the calls that have not ended: none, unless their caller was killed.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.calls.iter().filter(|(_, (_, fate))| *fate == Fate::Open).map(|(number, _)| *number)
    }

    /// Broken promises, at most the first few.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    fn close(&mut self, plan: &Plan, end: &End, took: Duration) {
        self.overrun = self.overrun.max(took.saturating_sub(plan.timeout));
        self.count(end, took);
        let number = plan.order.number;
        match self.calls.insert(number, (plan.kind, end.fate())) {
            Some((_, Fate::Open)) => {}
            Some(_) => self.violated(format!("call {number} has ended twice")),
            None => self.violated(format!("call {number} has ended and was never begun")),
        }
    }

    fn count(&mut self, end: &End, took: Duration) {
        match end {
            End::Replied { attempt } => {
                self.replies += 1;
                self.retried += u64::from(*attempt > 1);
                self.latencies.add(took);
            }
            End::Lost { .. } => self.lost += 1,
            End::Expired { .. } => self.expired += 1,
            End::Wrong { .. } | End::Failed { .. } | End::Hung => {}
        }
    }
}

fn judge(plan: &Plan, end: &End, took: Duration) -> Result<(), String> {
    match (plan.kind, end) {
        (_, End::Replied { .. }) if took < Duration::from_millis(plan.order.millis) => {
            Err(format!("{plan:?} has its reply before its procedure can have ended"))
        }
        (_, End::Replied { .. }) => Ok(()),
        (_, End::Expired { .. }) if took < plan.timeout => Err(format!("{plan:?} has expired before its deadline")),
        (Kind::Once | Kind::Hurried, End::Lost { .. }) => Ok(()),
        (Kind::Hurried, End::Expired { .. }) => Ok(()),
        (_, End::Wrong { mistake }) => Err(mistake.clone()),
        (_, end) => Err(format!("{plan:?} ended as {end:?}")),
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
        let open = self.open().count();
        if open > 0 {
            writeln!(f, "{open} calls have not ended")?;
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

/// The time limit of a call that should end earlier: a call whose worker is frozen waits for the lease, several times
/// if the next worker is frozen too.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The default for the largest text of a call or reply: the load is many calls, not many bytes.
pub const TEXT_BYTES_MAX: usize = 65_535;

/// Violations that are shown: the first ones say the most.
const VIOLATIONS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::text;

    fn reply(order: Order) -> Outcome {
        Ok(Receipt { order, attempt: 1, text: text(order.number, order.reply_bytes) })
    }

    fn first(kind: Kind) -> Plan {
        (0..).map(|number| Plan::of(1, number, TEXT_BYTES_MAX)).find(|plan| plan.kind == kind).expect("each kind comes")
    }

    fn lost(maybe_executed: bool) -> Outcome {
        Err(RpcError::worker_lost("Load.once").with_maybe_executed(maybe_executed).into())
    }

    fn late(maybe_executed: bool) -> Outcome {
        Err(RpcError::deadline_exceeded("Load.once", TIMEOUT).with_maybe_executed(maybe_executed).into())
    }

    fn violations(plan: Plan, record: impl FnOnce(&mut Ledger)) -> usize {
        let mut ledger = Ledger::default();
        ledger.begun(&plan);
        record(&mut ledger);
        ledger.violations().len()
    }

    fn ended(plan: Plan, outcome: &Outcome) -> usize {
        violations(plan, |ledger| ledger.ended(&plan, &End::of(&plan.order, outcome), TIMEOUT))
    }

    #[test]
    fn each_kind_of_call_has_its_own_outcomes() {
        let plans = [Kind::Again, Kind::Once, Kind::Hurried].map(first);
        for plan in plans {
            assert_eq!(ended(plan, &reply(plan.order)), 0);
            assert_eq!(ended(plan, &reply(Order { number: u64::MAX, ..plan.order })), 1);
            assert_eq!(ended(plan, &Err(RpcError::closed("Load.once").into())), 1);
            assert_eq!(violations(plan, |ledger| ledger.ended(&plan, &End::Hung, TIMEOUT)), 1);
        }
        assert_eq!(plans.map(|plan| ended(plan, &lost(true))), [1, 0, 0]);
        assert_eq!(plans.map(|plan| ended(plan, &late(true))), [1, 1, 0]);
    }

    #[test]
    fn call_without_a_reachable_worker_may_only_expire() {
        for plan in [Kind::Again, Kind::Once].map(first) {
            let ended = |outcome: Outcome| {
                let end = End::of(&plan.order, &outcome);
                violations(plan, |ledger| ledger.ended_unreachable(&plan, &end, TIMEOUT))
            };
            assert_eq!(
                [ended(late(true)), ended(Err(RpcError::closed("Load.once").with_maybe_executed(false).into()))],
                [0, 1]
            );
            assert_eq!(ended(reply(Order { number: u64::MAX, ..plan.order })), 1);
        }
    }

    #[test]
    fn call_without_a_reachable_worker_is_lost_no_sooner_than_at_its_deadline() {
        let plan = first(Kind::Again);
        let end = End::of(&plan.order, &lost(true));
        let before = plan.timeout - Duration::from_millis(1);
        let lost_after = |took| violations(plan, |ledger| ledger.ended_unreachable(&plan, &end, took));
        assert_eq!([lost_after(before), lost_after(plan.timeout)], [1, 0]);
    }

    #[test]
    fn run_that_contradicts_the_outcome_is_a_violation() {
        let compared = |plan: Plan, outcome: Outcome, count: usize| {
            violations(plan, |ledger| {
                ledger.ended_unreachable(&plan, &End::of(&plan.order, &outcome), TIMEOUT);
                ledger.compare(vec![plan.order.number; count]);
            })
        };
        let (again, once) = (first(Kind::Again), first(Kind::Once));
        assert_eq!([0, 1, 2].map(|count| compared(once, reply(once.order), count)), [1, 0, 1]);
        assert_eq!([0, 1, 2].map(|count| compared(once, lost(false), count)), [0, 1, 1]);
        assert_eq!([0, 1, 2].map(|count| compared(once, lost(true), count)), [0, 0, 1]);
        assert_eq!([0, 1, 2].map(|count| compared(again, reply(again.order), count)), [1, 0, 0]);
        assert_eq!([0, 1, 2].map(|count| compared(again, late(false), count)), [0, 1, 1]);
        assert_eq!([0, 1, 2].map(|count| compared(again, late(true), count)), [0, 0, 0]);
        assert_eq!(violations(once, |ledger| ledger.compare([once.order.number + 1])), 1);
    }

    #[test]
    fn call_begins_once_and_ends_once_and_is_open_in_between() {
        let plan = first(Kind::Once);
        let end = End::Replied { attempt: 1 };
        assert_eq!(violations(plan, |ledger| ledger.begun(&plan)), 1);
        let twice = |ledger: &mut Ledger| (0..2).for_each(|_| ledger.ended(&plan, &end, Duration::ZERO));
        assert_eq!(violations(plan, twice), 1);
        let mut ledger = Ledger::default();
        ledger.ended(&plan, &end, Duration::ZERO);
        assert_eq!(ledger.violations().len(), 1, "it was never begun");

        let mut ledger = Ledger::default();
        ledger.begun(&plan);
        assert_eq!(ledger.open().collect::<Vec<_>>(), [plan.order.number]);
        ledger.compare([plan.order.number]);
        assert!(ledger.violations().is_empty(), "{ledger}");
        ledger.ended(&plan, &end, Duration::ZERO);
        assert_eq!(ledger.open().count(), 0);
    }

    #[test]
    fn texts_stay_within_their_bound() {
        for text_bytes_max in [0, 100, 1_000, TEXT_BYTES_MAX] {
            let orders = (0..1_000).map(|number| Plan::of(7, number, text_bytes_max).order);
            let most = orders.map(|order| order.text_bytes.max(order.reply_bytes)).max().expect("there are some");
            assert!(most <= text_bytes_max && most >= text_bytes_max / 2, "{most} of {text_bytes_max}");
        }
    }

    #[test]
    fn equal_arguments_give_equal_plans_and_the_text_bound_changes_only_texts() {
        for number in 0..1_000 {
            let [plan, short] = [TEXT_BYTES_MAX, 0].map(|bytes| Plan::of(7, number, bytes));
            assert_eq!(plan, Plan::of(7, number, TEXT_BYTES_MAX));
            assert_eq!((plan.kind, plan.timeout), (short.kind, short.timeout));
        }
    }
}
