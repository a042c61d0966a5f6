//! The planned faults, their times and victims, from a seed.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// A fault of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is killed, and restarted after this time.
    Kill(Duration),
    /// It is frozen for less than its lease.
    Stall(Duration),
    /// It is frozen for longer than its lease: it is given up and must return.
    Freeze(Duration),
    /// It is asked to leave, and restarted after this time.
    Leave(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(away) => write!(f, "is killed, and started again after {away:.1?}"),
            Self::Stall(time) => write!(f, "is frozen for {time:.1?}, which its lease outlasts"),
            Self::Freeze(time) => write!(f, "is frozen for {time:.1?}, which its lease does not outlast"),
            Self::Leave(away) => write!(f, "is asked to leave, and started again after {away:.1?}"),
        }
    }
}

/// A fault at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// The time, counted from the start.
    pub(super) at: Duration,
    /// The fault.
    pub(super) fault: Fault,
    /// The victim: the first possible one from this member on.
    pub(super) from: usize,
}

/// All events in that time; peers give up a process that is silent for `expiry`.
pub(super) fn plan(seed: u64, time: Duration, expiry: Duration) -> Vec<Planned> {
    let mut random = Rng::with_seed(seed);
    let mut at = PAUSE_MAX;
    let mut plan = Vec::new();
    while at < time {
        // Each kind once before any repeats, in a changing order: a short run also has all of them.
        let mut kinds = [0, 1, 2, 3];
        random.shuffle(&mut kinds);
        for kind in kinds {
            let fault = draw(kind, expiry, &mut random);
            plan.push(Planned { at, fault, from: random.usize(..) });
            at += between(PAUSE_MIN, PAUSE_MAX, &mut random);
        }
    }
    plan.retain(|planned| planned.at < time);
    plan
}

fn draw(kind: usize, expiry: Duration, random: &mut Rng) -> Fault {
    let away = between(Duration::ZERO, AWAY_MAX, random);
    match kind {
        0 => Fault::Kill(away),
        1 => Fault::Stall(between(expiry / 10, expiry / 2, random)),
        2 => Fault::Freeze(between(expiry * 3 / 2, expiry * 3, random)),
        _ => Fault::Leave(away),
    }
}

fn between(low: Duration, high: Duration, random: &mut Rng) -> Duration {
    low + (high - low).mul_f64(random.f64())
}

/// The bounds of the time between two faults: so short that several processes are away at once, and so long that they
/// return in between.
const PAUSE_MIN: Duration = Duration::from_millis(150);
const PAUSE_MAX: Duration = Duration::from_millis(600);

/// The longest absence of a process that has ended.
const AWAY_MAX: Duration = Duration::from_millis(800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_plan_alike_and_ten_seconds_have_every_kind_several_times() {
        let (time, expiry) = (Duration::from_secs(10), Duration::from_secs(1));
        assert_ne!(plan(1, time, expiry), plan(2, time, expiry));
        for seed in 0..100 {
            let planned = plan(seed, time, expiry);
            assert_eq!(planned, plan(seed, time, expiry));
            assert!(planned.iter().all(|planned| planned.at < time));
            let count = |is: fn(&Fault) -> bool| planned.iter().filter(|planned| is(&planned.fault)).count();
            assert!(count(|fault| matches!(fault, Fault::Kill(_))) >= 4, "seed {seed}");
            assert!(count(|fault| matches!(fault, Fault::Stall(_))) >= 4, "seed {seed}");
            assert!(count(|fault| matches!(fault, Fault::Freeze(_))) >= 4, "seed {seed}");
            assert!(count(|fault| matches!(fault, Fault::Leave(_))) >= 4, "seed {seed}");
        }
    }
}
