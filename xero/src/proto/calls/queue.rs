//! The queues where lines of waiting calls stand, and their order in them.

use crate::proto::{message::CallId, registry::Station};

/// A line's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LineId(pub(super) u32);

/// The order of waiting calls: owners take turns, and each owner's oldest call is first.
pub(crate) type Precedence = (u64, CallId);

/// A line's place in a queue.
pub(crate) type Place = (Precedence, LineId);

/// The lines at a station whose calls the same of its workers can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId {
    pub(crate) station: Station,
    /// The limit that their payloads exceed.
    pub(crate) exceeds: Option<u64>,
    /// Whether they wait for room in a worker's window.
    pub(crate) is_large: bool,
}
