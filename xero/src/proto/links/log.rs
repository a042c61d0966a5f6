//! The words of the log about connections, for the user of either side.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::proto::{
    link::{Departure, Partner},
    message::{Peer, Ready, Role},
};

/// Writes a line at that level if there is room for it, otherwise at level debug.
macro_rules! line {
    ($has_room:ident, $level:ident, $($line:tt)+) => {
        if $has_room { $level!($($line)+) } else { debug!($($line)+) }
    };
}

/// The log of the connections of one side. What its peers can make it write is bounded.
#[derive(Debug)]
pub(super) struct Log {
    own: Role,
    partner: Role,
    lines: Lines,
    /// Anybody can cause refusals, without a READY: they must not take the room of the other lines.
    refusals: Lines,
}

impl Log {
    pub(super) fn new(own: Role, partner: Role) -> Self {
        Self { own, partner, lines: Lines::new(LINES_MAX, SECOND), refusals: Lines::new(REFUSALS_MAX, MINUTE) }
    }

    /// A peer has introduced itself, first or repeated.
    pub(super) fn introduced(&mut self, now: Instant, peer: Peer, endpoint: Option<&str>, ready: &Ready, is_new: bool) {
        let (peer, id, who) = (peer.0, ready.incarnation, self.partner_in_words());
        if !is_new {
            return debug!(peer, endpoint, %id, credits = ready.credits, "{who} has introduced itself again");
        }
        let has_room = self.lines.admit(now);
        match (self.own, self.partner) {
            (Role::Worker, _) => line!(has_room, info, peer, endpoint, %id, "this worker has registered with {who}"),
            (Role::Client, _) => line!(has_room, info, peer, endpoint, %id, "this client has connected to {who}"),
            (_, Role::Worker) => {
                line!(has_room, info, peer, %id, concurrency = ready.credits, "{who} has registered");
            }
            _ => line!(has_room, info, peer, %id, "{who} has connected"),
        }
    }

    /// The connection of a peer has ended that was introduced; `None` after this side's goodbye.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        peer: Peer,
        endpoint: Option<&str>,
        partner: Option<&Partner>,
        departure: Departure,
    ) {
        let (peer, who, has_room) = (peer.0, self.partner_in_words(), self.lines.admit(now));
        let Some(Partner { incarnation: id, .. }) = partner else {
            return line!(has_room, info, peer, endpoint, "{who} has closed the connection after this side's goodbye");
        };
        match departure {
            Departure::Goodbye => line!(has_room, info, peer, endpoint, %id, "{who} has said goodbye"),
            Departure::Disconnected => line!(has_room, info, peer, endpoint, %id, "{who} is disconnected"),
            Departure::Expired => {
                line!(has_room, info, peer, endpoint, %id, "{who} has fallen silent and counts as lost");
            }
        }
    }

    /// A worker or broker accepts no more calls.
    pub(super) fn draining(&mut self, now: Instant, peer: Peer) {
        let (who, has_room) = (self.partner_in_words(), self.lines.admit(now));
        line!(has_room, info, peer = peer.0, "{who} drains: it finishes its calls and accepts no others");
    }

    /// A dialed peer has refused this side.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        peer: Peer,
        endpoint: Option<&str>,
        reason: &str,
        is_repeated: bool,
    ) {
        let (peer, own) = (peer.0, self.own);
        if is_repeated {
            return debug!(peer, endpoint, reason, "the connection of this {own} was refused again");
        }
        let has_room = self.lines.admit(now);
        line!(has_room, warn, peer, endpoint, reason, "the connection of this {own} was refused");
    }

    /// This side ends the connection of a peer that breaks the protocol.
    pub(super) fn dropped(&mut self, now: Instant, peer: Peer, reason: &str) {
        let has_room = self.lines.admit(now);
        line!(has_room, warn, peer = peer.0, reason, "dropped a connection");
    }

    /// This side does not accept an introduction.
    pub(super) fn rejected(&mut self, now: Instant, peer: Peer, reason: &str) {
        let has_room = self.refusals.admit(now);
        line!(has_room, info, peer = peer.0, reason, "refused a connection");
    }

    /// The other end's name in the user's documentation.
    const fn partner_in_words(&self) -> &'static str {
        match (self.own, self.partner) {
            (_, Role::Worker) => "a worker",
            (_, Role::Client) => "a client",
            (Role::Client, Role::Dispatcher) => "a broker",
            (_, Role::Dispatcher) => "a client or broker",
        }
    }
}

/// Lines of which only some are logged for users, in each period; the rest have level debug.
#[derive(Debug)]
struct Lines {
    max: u64,
    period: Duration,
    /// The start of the current period.
    since: Option<Instant>,
    count: u64,
}

impl Lines {
    const fn new(max: u64, period: Duration) -> Self {
        Self { max, period, since: None, count: 0 }
    }

    /// Counts a line; returns whether users read it. A line of its own says how many they did not.
    fn admit(&mut self, now: Instant) -> bool {
        let Self { max, period, .. } = *self;
        if self.since.is_none_or(|since| since + period <= now) {
            let left_out = self.count.saturating_sub(max);
            if left_out > 0 {
                info!("{left_out} more lines about connections have level debug");
            }
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        if self.count == max + 1 {
            info!("more than {max} lines about connections within {period:?}: the rest of them have level debug");
        }
        self.count <= max
    }
}

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

/// The lines of a second: more than a person reads, and less than a disk minds.
const LINES_MAX: u64 = 20;

/// The refusals of a minute.
const REFUSALS_MAX: u64 = 10;
