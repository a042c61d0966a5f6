//! What was done to whom and when, and so what their calls are excused.

use std::ops::Range;

/// What was done in a test. Whatever it does not explain must not have happened.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    disturbances: Vec<Disturbance>,
    over_at: Option<u64>,
}

/// Something that was done to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// Who it was done to: a service's name.
    pub victim: String,
    /// What it was.
    pub fault: Fault,
    /// From when it was done until everybody had everybody back, in microseconds since 1970.
    pub time: Range<u64>,
}

/// What can be done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was asked to leave: nothing is lost, but a call may have to go elsewhere.
    Left,
    /// It was killed: calls that it had are lost, or go elsewhere; its own calls never end.
    Killed,
    /// It was cut off: the same, but its own calls end, by their deadline at the latest.
    CutOff,
    /// It was frozen: the same, but its own calls may end late by as much.
    Frozen,
}

impl Terms {
    /// The test was over then: everybody is asked to leave, and nobody counts any more who misses whom.
    #[must_use]
    pub fn over_at(mut self, at: u64) -> Self {
        self.over_at = Some(at);
        self
    }

    /// That was done, too.
    #[must_use]
    pub fn disturbed(mut self, disturbance: Disturbance) -> Self {
        self.disturbances.push(disturbance);
        self
    }

    /// Whether the test was over then.
    pub fn is_over(&self, at: u64) -> bool {
        self.over_at.is_some_and(|over_at| at >= over_at)
    }

    /// All that was done at that time.
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

    /// Whether this client could reach nobody for it.
    pub fn isolates(&self, client: &str) -> bool {
        self.victim == client && matches!(self.fault, Fault::CutOff | Fault::Frozen)
    }
}
