//! A replaceable policy that chooses among the workers that can take a request.

use std::fmt;

use crate::proto::message::Peer;

/// A worker that can take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The worker's connection.
    pub peer: Peer,
    /// The requests that it has in flight.
    pub in_flight: usize,
    /// The requests that it takes at once.
    pub credits: u32,
}

/// Chooses which of the candidate workers gets a request.
///
/// It runs on the I/O thread and must not block: heartbeats, deadlines and waits of the whole client or broker wait until
/// it returns. A panic ends the client or broker.
pub trait WorkerChoice: fmt::Debug + Send {
    /// Chooses one. The least recently used candidate is first, or one before it to which a request leaves at the same time
    /// anyway.
    ///
    /// `None` lets the call wait, and so does a worker that is not a candidate.
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer>;
}

/// The default choice: the worker that has gone longest without a request, or without room for one.
///
/// Up to four requests that leave at the same time may follow each other to one worker, in one message, while it has at
/// most four more than the next one in turn and no worker is without any. A policy that takes the candidate with the
/// fewest requests spreads them more evenly.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRecentlyUsed;

impl WorkerChoice for LeastRecentlyUsed {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|candidate| candidate.peer)
    }
}
