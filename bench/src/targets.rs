//! What Xero is to reach, and whether a run did.

use std::fmt::{self, Display, Formatter};

use crate::{
    mode::{Flavor, Mode},
    peer::Peer,
    record::Case,
    summary::Summary,
};

/// A figure to reach.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How it is called.
    pub mode: Mode,
    /// Which way of using Xero.
    pub peer: Peer,
    /// What is compared.
    pub measure: Measure,
    /// What must be reached on a multi-thread and on a current-thread runtime.
    must: [Option<f64>; 2],
    /// What should be.
    pub goal: Option<f64>,
    bound: Bound,
}

/// What a target compares.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// The mode's figure, divided by another peer's of the same round.
    Ratio(Peer),
    /// CPU time of all processes for one call, in microseconds.
    Cpu,
    /// Most resident memory of any process, in MiB.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtMost,
    AtLeast,
}

/// A target beside what a run has measured.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The target.
    pub target: &'static Target,
    /// The kind of runtime.
    pub runtime: Flavor,
    /// The median of the rounds.
    pub measured: f64,
    /// What must be reached on this kind of runtime.
    pub must: Option<f64>,
}

/// The targets whose figures have been measured.
pub fn verdicts(summary: &Summary<'_>) -> Vec<Verdict> {
    let runtimes = [Flavor::MultiThread, Flavor::CurrentThread];
    let pairs = TARGETS.iter().flat_map(|target| runtimes.into_iter().zip(target.must).map(move |pair| (target, pair)));
    let verdict = |(target, (runtime, must)): (&'static Target, _)| {
        let case = Case { mode: target.mode, peer: target.peer, runtime: Some(runtime) };
        let measured = match target.measure {
            Ratio(reference) => summary.ratio(case, reference),
            Cpu => summary.cpu_us_per_call(case),
            Memory => summary.peak_mib_of_any(case),
        };
        Some(Verdict { target, runtime, measured: measured?.median, must })
    };
    pairs.filter_map(verdict).collect()
}

impl Target {
    /// A bound with its sign, for people.
    pub fn shown(&self, bound: Option<f64>) -> String {
        let sign = if self.bound == Bound::AtMost { '≤' } else { '≥' };
        bound.map_or_else(String::new, |bound| format!("{sign} {bound}"))
    }

    fn is_reached(&self, measured: f64, bound: Option<f64>) -> bool {
        bound.is_none_or(|bound| match self.bound {
            Bound::AtMost => measured <= bound,
            Bound::AtLeast => measured >= bound,
        })
    }
}

impl Verdict {
    /// "goal", "met" or "missed".
    pub fn word(&self) -> &'static str {
        let is_reached = |bound| self.target.is_reached(self.measured, bound);
        match (is_reached(self.must), is_reached(self.target.goal)) {
            (true, true) if self.target.goal.is_some() => "goal",
            // A target that is only a goal.
            (true, false) if self.must.is_none() => "short of the goal",
            (true, _) => "met",
            (false, _) => "**missed**",
        }
    }
}

impl Display for Measure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(reference) => write!(f, "× {}", reference.name()),
            Self::Cpu => f.write_str("CPU µs/call"),
            Self::Memory => f.write_str("peak MiB"),
        }
    }
}

const fn at_most(mode: Mode, peer: Peer, measure: Measure, must: Option<f64>, goal: Option<f64>) -> Target {
    Target { mode, peer, measure, must: [must; 2], goal, bound: Bound::AtMost }
}

const fn at_least(mode: Mode, peer: Peer, reference: Peer, must: [Option<f64>; 2], goal: Option<f64>) -> Target {
    Target { mode, peer, measure: Ratio(reference), must, goal, bound: Bound::AtLeast }
}

use Measure::{Cpu, Memory, Ratio};
use Mode::{Bytes, InFlight64, InFlight1024, SequentialCpuEach, SequentialOneCpu, Workers};
use Peer::{Bare, Batching, Libzmq, Tarpc, Xero, XeroBrokered, XeroInline};

/// The targets. Two lists of one measure differ in the kind of runtime.
const TARGETS: &[Target] = &[
    at_most(SequentialOneCpu, Xero, Ratio(Bare), Some(1.45), Some(1.25)),
    at_most(SequentialOneCpu, XeroInline, Ratio(Bare), Some(1.45), Some(1.10)),
    at_most(SequentialOneCpu, Xero, Ratio(Tarpc), Some(1.0), None),
    at_most(SequentialCpuEach, Xero, Ratio(Bare), Some(1.3), Some(1.15)),
    at_most(SequentialCpuEach, Xero, Ratio(Tarpc), Some(1.0), None),
    at_least(InFlight64, Xero, Tarpc, [Some(2.5), Some(1.5)], Some(4.0)),
    at_least(InFlight64, Xero, Batching, [None; 2], Some(0.5)),
    at_least(InFlight1024, Xero, Tarpc, [Some(2.0), Some(1.2)], None),
    at_least(InFlight1024, Xero, Batching, [None; 2], Some(0.35)),
    at_most(InFlight64, Xero, Cpu, Some(5.0), Some(2.5)),
    at_least(Bytes, Xero, Bare, [Some(0.55); 2], Some(0.7)),
    at_least(Bytes, Xero, Tarpc, [Some(1.2); 2], None),
    at_least(Workers, Xero, Libzmq, [Some(0.35); 2], Some(0.8)),
    at_most(Workers, Xero, Memory, Some(24.0), None),
    at_most(SequentialOneCpu, XeroBrokered, Ratio(Xero), Some(1.8), Some(1.6)),
    at_most(SequentialCpuEach, XeroBrokered, Ratio(Xero), Some(1.8), Some(1.6)),
    at_least(InFlight64, XeroBrokered, Xero, [Some(0.6); 2], Some(0.8)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::measured;

    #[test]
    fn verdict_says_whether_bound_and_goal_are_reached() {
        for (calls, word) in [(100, "**missed**"), (250, "met"), (399, "met"), (400, "goal")] {
            let records = [measured(1, Xero, calls), measured(1, Tarpc, 100)];
            let verdicts = verdicts(&Summary::new(&records));
            let verdict = verdicts.iter().find(|verdict| matches!(verdict.target.measure, Ratio(Tarpc)));
            assert_eq!(verdict.expect("was measured").word(), word, "{calls}");
        }
    }

    #[test]
    fn target_without_a_bound_has_only_a_goal() {
        for (calls, word) in [(49, "short of the goal"), (50, "goal")] {
            let records = [measured(1, Xero, calls), measured(1, Batching, 100)];
            let verdicts = verdicts(&Summary::new(&records));
            let verdict = verdicts.iter().find(|verdict| matches!(verdict.target.measure, Ratio(Batching)));
            assert_eq!(verdict.expect("was measured").word(), word, "{calls}");
        }
    }

    #[test]
    fn what_was_not_measured_has_no_verdict() {
        assert!(verdicts(&Summary::new(&[])).is_empty());
    }

    #[test]
    fn every_target_can_be_measured() {
        for target in TARGETS {
            assert!(target.peer.supports(target.mode));
            if let Ratio(reference) = target.measure {
                assert!(reference.supports(target.mode));
            }
        }
    }
}
