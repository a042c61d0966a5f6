//! The only clock read.

use std::time::Instant;

/// The time now.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
