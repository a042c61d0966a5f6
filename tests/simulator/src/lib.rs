//! The simulator: clients, brokers and workers on a simulated network with simulated clocks, driven by one seed. Each
//! is a machine of the core itself. The seed decides the processes, the calls and the faults. A ledger outside the
//! machines checks every call, every run and every message against the promises.
//!
//! Nothing here sleeps, reads the time or starts a thread (except [`campaign`], which plays seeds in parallel). So
//! equal seeds play alike, and a failed seed fails again, with a trace.

mod application;
pub mod campaign;
mod clock;
mod faults;
mod hostile;
mod ledger;
mod machine;
mod network;
mod process;
mod scenario;
mod trace;
mod whim;
mod wind_up;
mod work;
mod world;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub use self::trace::Trace;
use self::world::World;

/// A seed in which a promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed to replay.
    pub seed: u64,
    /// When it failed, and how.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// Plays one seed.
///
/// # Errors
/// The first broken promise. A panic of a machine counts as one.
pub fn play(seed: u64, trace: Option<&Trace>) -> Result<(), Failure> {
    let played = catch_unwind(AssertUnwindSafe(|| World::new(seed, trace.cloned()).play()));
    let what = match played {
        Ok(Ok(())) => return Ok(()),
        Ok(Err((at, what))) => format!("{}: {what}", at.to_string().trim()),
        Err(panic) => format!("a machine panicked: {}", message_of(&*panic)),
    };
    Err(Failure { seed, what })
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
