//! A client's limits, liveness, windows and retries.

use std::time::Duration;

use super::handle::ClientBuilder;
use crate::{
    config::ProgramTurns,
    proto::{registry::WorkerChoice, retry::BackoffConfig},
    transport::Transport,
};

impl ClientBuilder {
    /// The implementation of `tcp://` and `ipc://`. Default [`Transport::Zmtp`].
    ///
    /// Peers need not agree: the wire is the same. Another one costs speed and safety, and serves comparison.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.link.transport = transport;
        self
    }

    /// Longest silence before a heartbeat. Default 1 s; 1 ms to 60 s.
    ///
    /// Shorter notices a frozen peer sooner and costs more idle traffic; longer the reverse. The introduction carries
    /// the interval to the peer, so the two sides need not agree. (`PROTOCOL.md` §6)
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.link.heartbeats.interval = interval;
        self
    }

    /// Intervals of silence before a peer counts as dead. Default 3; 2 to 10.
    ///
    /// Lower notices a frozen peer sooner; higher forgives longer stalls of the network. (`PROTOCOL.md` §6)
    pub fn liveness(mut self, intervals: u32) -> Self {
        self.link.heartbeats.liveness = intervals;
        self
    }

    /// Largest encoded value to send or accept, in bytes. Default 64 MiB; 1,024 to 4 GiB - 1.
    ///
    /// Each call in flight may take this much memory on both sides. The introduction carries the limit to the peer.
    /// (`PROTOCOL.md` §13)
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.link.limits.payload_bytes_max = bytes;
        self
    }

    /// Receive window per peer, in bytes. Default 2 MiB; 0 means 64 MiB, the largest.
    ///
    /// A peer may send this many bytes of large payloads before it must wait for an acknowledgement. Lower shortens the
    /// wait of small messages behind large ones, and keeps less for a peer that does not read; higher suits networks
    /// with a larger product of bandwidth and delay. One payload always fits, and payloads up to 4 KiB never wait. A
    /// value above 64 MiB means 64 MiB. (`PROTOCOL.md` §9)
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        self.link.window_bytes = bytes;
        self
    }

    /// Largest header of a message, in bytes. Default 64 KiB; at least 1,024.
    ///
    /// A header holds metadata and names, or a worker's whole offer. The limit is not announced: raise it on both
    /// sides. (`PROTOCOL.md` §13)
    pub fn header_bytes_max(mut self, bytes: usize) -> Self {
        self.link.limits.header_bytes_max = bytes;
        self
    }

    /// Most messages in a received BATCH. Default 1,024, which is also the least.
    ///
    /// Every peer may rely on that minimum. (`PROTOCOL.md` §13)
    pub fn batch_messages_max(mut self, messages: usize) -> Self {
        self.link.limits.batch_messages_max = messages;
        self
    }

    /// Most services that a worker may offer, or a broker may list. Default 256; at least 1.
    ///
    /// The limit is not announced: raise it on both sides. (`PROTOCOL.md` §13)
    pub fn services_max(mut self, services: usize) -> Self {
        self.link.limits.services_max = services;
        self
    }

    /// Most methods that a worker may offer, or a broker may list, over all services. Default 4,096; at least 1.
    ///
    /// The limit is not announced: raise it on both sides. (`PROTOCOL.md` §13)
    pub fn methods_max(mut self, methods: usize) -> Self {
        self.link.limits.methods_max = methods;
        self
    }

    /// Largest metadata of a call on the wire, in bytes. Default 16 KiB.
    ///
    /// It counts keys, values, and up to 7 more bytes for each. The limit is not announced: raise it on both sides.
    /// (`PROTOCOL.md` §13)
    pub fn metadata_bytes_max(mut self, bytes: usize) -> Self {
        self.link.limits.metadata_bytes_max = bytes;
        self
    }

    /// Most calls that wait for a worker. Default 10,000; at least 1.
    ///
    /// Further calls fail with [`RpcError::Overloaded`](crate::RpcError::Overloaded). Requests that return from a worker
    /// which drains, refuses or is lost wait beside these: there are at most as many as credits. Each waiting call keeps
    /// its arguments in memory until its deadline. (`PROTOCOL.md` §9)
    pub fn waiting_max(mut self, calls: usize) -> Self {
        self.routing.waiting_max = calls;
        self
    }

    /// Most memory for what workers offer, in bytes. Default 128 MiB; at least 1 MiB.
    ///
    /// It counts names, and 1 KiB for each service and method, which is more than they take; equal offers count once. A
    /// worker whose offer has no room is refused, logs this setter, and dials again later. Lower bounds the memory that
    /// strangers can take; higher admits larger fleets. (`PROTOCOL.md` §13)
    pub fn offers_bytes_max(mut self, bytes: u64) -> Self {
        self.routing.offers_bytes_max = bytes;
        self
    }

    /// Most attempts of a call, the first one included. Default 3; 1 turns retries off.
    ///
    /// A call is attempted again if it is idempotent and its worker is lost, or if a worker refused it unstarted. A
    /// request that a leaving worker has not started counts as no attempt. (`PROTOCOL.md` §8)
    pub fn attempts_max(mut self, attempts: u8) -> Self {
        self.routing.retry.attempts_max = attempts;
        self
    }

    /// Bounds of the wait before a retry. Default 10 ms to 1 s.
    ///
    /// The upper bound of the wait doubles from the first to the last, and the wait is drawn at random below it.
    /// Shorter answers sooner after a loss; longer spares workers in trouble. At least 1 ms, at most a day.
    /// (`PROTOCOL.md` §8)
    pub fn retry_backoff(mut self, first: Duration, max: Duration) -> Self {
        self.routing.retry.backoff = BackoffConfig { first, max };
        self
    }

    /// Retries that all calls together may make. Default 20 % and 1,000; at most 1,000 %.
    ///
    /// Each call earns `percent` hundredths of a retry, and at most `reserve` retries are saved up. Without a saved
    /// retry, the call ends with [`RpcError::WorkerLost`](crate::RpcError::WorkerLost). Lower protects workers in
    /// trouble from a multiplied load; higher survives more losses at the same time. (`PROTOCOL.md` §8)
    pub fn retry_budget(mut self, percent: u32, reserve: u32) -> Self {
        (self.routing.retry.budget_percent, self.routing.retry.budget_reserve) = (percent, reserve);
        self
    }

    /// Which worker gets a call when several suit it alike. Default: [`LeastRecentlyUsed`](crate::LeastRecentlyUsed).
    ///
    /// Workers whose limit (`payload_bytes_max`) allows the payload come before others.
    ///
    /// ```
    /// use xero::{Candidate, Client, Peer, WorkerChoice};
    ///
    /// /// The worker with the fewest calls; of several, the first in turn.
    /// #[derive(Debug)]
    /// struct LeastLoaded;
    ///
    /// impl WorkerChoice for LeastLoaded {
    ///     fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
    ///         candidates.min_by_key(|worker| worker.in_flight).map(|worker| worker.peer)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), xero::BindError> {
    /// let client = Client::builder().worker_choice(LeastLoaded).bind("inproc://worker-choice-example").await?;
    /// # client.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn worker_choice(mut self, choice: impl WorkerChoice + 'static) -> Self {
        self.routing.choice = Some(Box::new(choice));
        self
    }

    /// Which turns at the sockets callers and their runtime take. Default [`ProgramTurns::ReadAndWrite`].
    ///
    /// A client with a [`Self::worker_choice`] of its own leaves all turns to its I/O thread, because a caller may hold a
    /// lock that the choice takes.
    pub fn program_turns(mut self, turns: ProgramTurns) -> Self {
        self.program_turns = turns;
        self
    }
}
