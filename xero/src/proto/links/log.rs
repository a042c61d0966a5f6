//! The words of the log about connections, for the user of either side.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::proto::{
    link::{Departure, Partner},
    message::{Peer, Ready, Role},
};

/// The two sides of the connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub(super) own: Role,
    pub(super) partner: Role,
}

impl Log {
    /// A peer has introduced itself, first or repeated.
    pub(super) fn introduced(self, peer: Peer, endpoint: Option<&str>, ready: &Ready, is_new: bool) {
        let (peer, id, who) = (peer.0, ready.incarnation, self.partner_in_words());
        match (is_new, self.own, self.partner) {
            (false, ..) => debug!(peer, endpoint, %id, credits = ready.credits, "{who} has introduced itself again"),
            (true, Role::Worker, _) => info!(peer, endpoint, %id, "this worker has registered with {who}"),
            (true, Role::Client, _) => info!(peer, endpoint, %id, "this client has connected to {who}"),
            (true, _, Role::Worker) => info!(peer, %id, concurrency = ready.credits, "{who} has registered"),
            (true, ..) => info!(peer, %id, "{who} has connected"),
        }
    }

    /// The connection of a peer has ended that was introduced; `None` after this side's goodbye.
    pub(super) fn ended(self, peer: Peer, endpoint: Option<&str>, partner: Option<&Partner>, departure: Departure) {
        let (peer, who) = (peer.0, self.partner_in_words());
        let Some(Partner { incarnation: id, .. }) = partner else {
            return info!(peer, endpoint, "{who} has closed the connection after this side's goodbye");
        };
        match departure {
            Departure::Goodbye => info!(peer, endpoint, %id, "{who} has said goodbye"),
            Departure::Disconnected => info!(peer, endpoint, %id, "{who} is disconnected"),
            Departure::Expired => info!(peer, endpoint, %id, "{who} has fallen silent and counts as lost"),
        }
    }

    /// A dialed peer has refused this side.
    pub(super) fn refused(self, peer: Peer, endpoint: Option<&str>, reason: &str, is_repeated: bool) {
        let (peer, own) = (peer.0, self.own);
        match is_repeated {
            true => debug!(peer, endpoint, reason, "the connection of this {own} was refused again"),
            false => warn!(peer, endpoint, reason, "the connection of this {own} was refused"),
        }
    }

    /// The other end's name in the user's documentation.
    const fn partner_in_words(self) -> &'static str {
        match (self.own, self.partner) {
            (_, Role::Worker) => "a worker",
            (_, Role::Client) => "a client",
            (Role::Client, Role::Dispatcher) => "a broker",
            (_, Role::Dispatcher) => "a client or broker",
        }
    }
}

/// Refused connections: anybody can cause them, so only some are logged for users.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The start of the current minute, and the refusals since then.
    minute: Option<(Instant, u64)>,
}

impl Refusals {
    pub(super) fn log(&mut self, now: Instant, peer: Peer, reason: &str) {
        let (start, count) = self.minute.filter(|(start, _)| now < *start + MINUTE).unwrap_or((now, 0));
        self.minute = Some((start, count + 1));
        match count {
            0..LOGGED_MAX => info!(peer = peer.0, reason, "refused a connection"),
            LOGGED_MAX => info!(peer = peer.0, reason, "refused a connection; more of them this minute: level debug"),
            _ => debug!(peer = peer.0, reason, "refused a connection"),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// The refusals of a minute that users read about, but one.
const LOGGED_MAX: u64 = 9;
