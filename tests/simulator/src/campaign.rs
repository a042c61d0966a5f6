//! Many seeds, side by side on all cores.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{Failure, play};

/// Plays these seeds, each on one thread, until one fails; reports the lowest failure, whatever the threads.
///
/// `prepare` runs on each thread before its first seed; `watch` gets the number of seeds played.
pub fn play_all(seeds: Range<u64>, threads: usize, prepare: impl Fn() + Sync, watch: impl Fn(u64) + Sync) -> Outcome {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(None::<Failure>);
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                prepare();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // A seed that another thread has started before the failure is still played to its end.
                    if seed >= seeds.end || is_beyond(&found, seed) {
                        return;
                    }
                    watch(seed - seeds.start);
                    if let Err(failure) = play(seed, None) {
                        note(&found, failure);
                    }
                }
            });
        }
    });
    let failure = found.into_inner().unwrap_or_else(|poison| poison.into_inner());
    Outcome { played: next.into_inner().min(seeds.end) - seeds.start, failure }
}

/// The result of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many seeds were begun.
    pub played: u64,
    /// The lowest seed that failed, if any did.
    pub failure: Option<Failure>,
}

/// The threads of this machine.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn is_beyond(found: &Mutex<Option<Failure>>, seed: u64) -> bool {
    let found = found.lock().unwrap_or_else(|poison| poison.into_inner());
    found.as_ref().is_some_and(|failure| failure.seed < seed)
}

fn note(found: &Mutex<Option<Failure>>, failure: Failure) {
    let mut found = found.lock().unwrap_or_else(|poison| poison.into_inner());
    if found.as_ref().is_none_or(|earlier| failure.seed < earlier.seed) {
        *found = Some(failure);
    }
}
