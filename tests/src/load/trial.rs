//! Judges a load by the records that those have left who took part in it.

use std::{ops::Range, time::Duration};

use super::{
    ledger::{Ledger, Plan, TEXT_BYTES_MAX},
    record::Record,
};

/// What calls are held to.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The seed of the loads. Several loads have the same, and numbers of their own.
    pub seed: u64,
    /// When nobody could be reached, in microseconds since 1970: calls that were open then may have expired.
    pub unreachable: Vec<Range<u64>>,
}

impl Trial {
    /// One of loads with that seed that could reach a worker at any time.
    pub fn new(seed: u64) -> Self {
        Self { seed, unreachable: Vec::new() }
    }

    /// The ledger of all calls: from the records of all loads, each in its order, and those of all workers that there
    /// ever were.
    pub fn judge(&self, records: impl IntoIterator<Item = Record>) -> Ledger {
        let (mut ledger, mut runs) = (Ledger::default(), Vec::new());
        for record in records {
            match record {
                Record::Begun { number, .. } => ledger.begun(&self.plan(number)),
                Record::Ended { number, at, took, end } => {
                    let (plan, time) = (self.plan(number), Duration::from_micros(took));
                    match self.may_reach_nobody(at.saturating_sub(took)..at) {
                        true => ledger.ended_unreachable(&plan, &end, time),
                        false => ledger.ended(&plan, &end, time),
                    }
                }
                Record::Ran { number, .. } => runs.push(number),
                Record::Workers { .. } => {}
            }
        }
        ledger.compare(runs);
        ledger
    }

    /// But for the lengths of its texts, which the load may have bounded: to those, its caller has held the reply.
    fn plan(&self, number: u64) -> Plan {
        Plan::of(self.seed, number, TEXT_BYTES_MAX)
    }

    fn may_reach_nobody(&self, call: Range<u64>) -> bool {
        self.unreachable.iter().any(|range| call.start < range.end && range.start < call.end)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::load::ledger::{End, Kind};

    fn number(kind: Kind) -> u64 {
        (0..).find(|number| Plan::of(1, *number, TEXT_BYTES_MAX).kind == kind).expect("each kind comes")
    }

    fn records(number: u64, end: End, runs: usize) -> Vec<Record> {
        let (at, took) = (2_000, 1_000);
        let mut records = vec![Record::Begun { number, at: at - took }, Record::Ended { number, at, took, end }];
        records.extend((0..runs).map(|_| Record::ran(number, 1, Uuid::nil())));
        records
    }

    #[test]
    fn records_of_callers_and_workers_are_judged_together() {
        let (trial, once) = (Trial::new(1), number(Kind::Once));
        let violations = |runs| {
            let ledger = trial.judge(records(once, End::Replied { attempt: 1 }, runs));
            assert_eq!((ledger.made, ledger.replies, ledger.open().count()), (1, 1, 0));
            ledger.violations().len()
        };
        assert_eq!([0, 1, 2].map(violations), [1, 0, 1]);
        let begun = trial.judge([Record::begun(once)]);
        assert_eq!((begun.open().collect::<Vec<_>>(), begun.violations().len()), (vec![once], 0));
    }

    #[test]
    fn call_may_expire_only_if_it_was_open_when_nobody_could_be_reached() {
        let expired = records(number(Kind::Again), End::Expired { maybe_executed: false }, 0);
        for (unreachable, violations) in [(0..1_000, 1), (0..1_001, 0), (1_999..9_000, 0), (2_000..9_000, 1)] {
            let trial = Trial { unreachable: vec![unreachable.clone()], ..Trial::new(1) };
            let ledger = trial.judge(expired.clone());
            assert_eq!(ledger.violations().len(), violations, "{unreachable:?}: {ledger}");
        }
    }
}
