//! The disturbances of a test, their victims and times, and thus the excuses of its calls.

use std::ops::Range;

/// The disturbances of a test. They must explain everything unusual.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    disturbances: Vec<Disturbance>,
    over_at: Option<u64>,
}

/// A disturbance of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// The victim: a service's name.
    pub victim: String,
    /// The fault.
    pub fault: Fault,
    /// From its start until all peers were connected again, in microseconds since 1970.
    pub time: Range<u64>,
}

/// A fault of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was asked to leave: nothing is lost, but a call may have to go elsewhere.
    Left,
    /// It was killed: calls that it had are lost, or go elsewhere; its own calls never end.
    Killed,
    /// It was cut off: the same, but its own calls end, by their deadline at the latest.
    CutOff,
    /// It was frozen: the same, but its own calls may end late by that time.
    Frozen,
}

impl Terms {
    /// Notes the end of the test: all processes leave, and lost peers no longer count.
    #[must_use]
    pub fn over_at(mut self, at: u64) -> Self {
        self.over_at = Some(at);
        self
    }

    /// Adds a disturbance.
    #[must_use]
    pub fn disturbed(mut self, disturbance: Disturbance) -> Self {
        self.disturbances.push(disturbance);
        self
    }

    /// Whether the test was over then.
    pub fn is_over(&self, at: u64) -> bool {
        self.over_at.is_some_and(|over_at| at >= over_at)
    }

    /// All disturbances at that time.
    pub fn during(&self, time: &Range<u64>) -> impl Iterator<Item = &Disturbance> {
        self.disturbances.iter().filter(|disturbance| {
            let Range { start, end } = disturbance.time;
            time.start < end && start < time.end
        })
    }
}

impl Disturbance {
    /// Whether a call in flight to the victim may have been lost by it.
    pub fn is_deadly(&self) -> bool {
        self.fault != Fault::Left
    }

    /// Whether it left this client without reachable peers.
    pub fn isolates(&self, client: &str) -> bool {
        self.victim == client && matches!(self.fault, Fault::CutOff | Fault::Frozen)
    }
}
