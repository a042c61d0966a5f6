//! A worker's limits, liveness and windows.

use std::time::Duration;

use super::handle::WorkerBuilder;
use crate::{config::ProgramTurns, transport::Transport};

impl WorkerBuilder {
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
    ///
    /// A request must also be within four fifteenths of [`Self::total_bytes_max`]: raise that to at least 3.75 times this
    /// limit.
    ///
    /// Give the workers of a service equal limits. Else a call whose arguments exceed the limits of all workers that are
    /// there fails as too large, and does not wait for a larger worker; and a reply may exceed the limit of the worker
    /// that was chosen. (`PROTOCOL.md` §5, §13)
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

    /// Most services that the worker offers. Default 256; at least 1.
    ///
    /// The limit is not announced: raise it on both sides. (`PROTOCOL.md` §13)
    pub fn services_max(mut self, services: usize) -> Self {
        self.link.limits.services_max = services;
        self
    }

    /// Most methods that the worker offers, over all services. Default 4,096; at least 1.
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

    /// Most bytes held of one client or broker. Default 64 MiB; one message always fits.
    ///
    /// This counts its waiting requests, and the replies that it has not read. Further requests are acknowledged only
    /// once there is room, so they stay with their sender. Lower bounds the memory of one peer; higher lets it have
    /// more large requests in flight. (`PROTOCOL.md` §9)
    pub fn peer_bytes_max(mut self, bytes: u64) -> Self {
        self.hold_limits.peer_bytes_max = bytes;
        self
    }

    /// Most bytes held of all peers together. Default 768 MiB; at least 3 MiB.
    ///
    /// Set it to the memory that the process can spare: nothing comes on top. One request takes at most four fifteenths
    /// of it, so set it to at least 3.75 times the largest request; a larger request fails with
    /// [`RpcError::TooLarge`](crate::RpcError::TooLarge).
    ///
    /// Peers share a third of it. One that holds more than the rest of that third slows down. Once its requests are
    /// more than four times what all requests leave of the third, or all requests are half of the whole, further ones
    /// are refused as overloaded, and go elsewhere if they can. So a few peers never lock out the others. A large reply
    /// becomes an error beyond the third if its peer reads nothing, and beyond three quarters in any case. Beyond the
    /// whole, the peers that read nothing and hold the most are disconnected (`WorkerCounters::shed_dispatchers`).
    /// (`PROTOCOL.md` §9)
    pub fn total_bytes_max(mut self, bytes: u64) -> Self {
        self.hold_limits.total_bytes_max = bytes;
        self
    }

    /// Which turns at the sockets procedures and their runtime take. Default [`ProgramTurns::ReadAndWrite`].
    ///
    /// With it, `inline` procedures run on the runtime of the others, except while that is blocked.
    pub fn program_turns(mut self, turns: ProgramTurns) -> Self {
        self.program_turns = turns;
        self
    }
}
