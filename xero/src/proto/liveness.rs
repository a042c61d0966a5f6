//! When to send a heartbeat, and when a silent peer expires (`PROTOCOL.md` §6).

use std::time::{Duration, Instant};

use super::fault::{Fault, planted};

/// The longest interval that is believed of a peer; a longer one would keep dead peers too long.
pub const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// The shortest interval that is believed of a peer.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// How often each side of a connection must hear from its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeats {
    /// Longest silence before a heartbeat. Default 1 s, at least 1 ms.
    pub interval: Duration,
    /// The peer's intervals that may pass in silence. Default 3, 2 to 10.
    pub liveness: u32,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), liveness: 3 }
    }
}

impl Heartbeats {
    /// The silence after which a peer with this announced interval is dead.
    pub(crate) fn expiry_of(&self, announced: Duration) -> Duration {
        self.expiry(announced.clamp(INTERVAL_MIN, INTERVAL_MAX))
    }

    /// The silence after which this side is dead to a peer of its own liveness.
    pub(crate) fn own_expiry(&self) -> Duration {
        self.expiry(self.interval)
    }

    /// The silence after which a peer with that interval is dead.
    pub fn expiry(&self, peer_interval: Duration) -> Duration {
        peer_interval.saturating_mul(self.liveness)
    }
}

/// The two clocks of one connection.
///
/// The machine's timers may lag behind them: a due timer checks here whether it still applies, so that traffic costs no
/// timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    interval: Duration,
    expiry: Duration,
    sent_at: Instant,
    received_at: Instant,
    /// The end of the excuse for silence, while a large message is on its way.
    excused_until: Option<Instant>,
}

impl Liveness {
    pub(crate) fn new(now: Instant, interval: Duration, expiry: Duration) -> Self {
        Self { interval, expiry, sent_at: now, received_at: now, excused_until: None }
    }

    /// Handles a repeated introduction, which does not change when the peer was last sent anything.
    pub(crate) fn renewed(self, now: Instant, expiry: Duration) -> Self {
        Self { expiry, received_at: now, excused_until: None, ..self }
    }

    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent_at = now;
    }

    /// Returns whether the message ends an excuse. Then a check that [`Self::check_at`] has put off may come too late.
    pub(crate) fn received(&mut self, now: Instant) -> bool {
        if planted(Fault::LeaseNotRenewed) {
            return false;
        }
        self.received_at = now;
        self.excused_until.take().is_some()
    }

    /// Excuses silence before an announced large message. Call it after `received`; the next message ends the excuse.
    pub(crate) fn excuse(&mut self, until: Instant) {
        self.excused_until = Some(until);
    }

    /// The silence after which the peer expires.
    pub(crate) fn expiry(&self) -> Duration {
        self.expiry
    }

    pub(crate) fn heartbeat_at(&self) -> Instant {
        self.sent_at + self.interval
    }

    /// When to check again whether the peer has expired.
    ///
    /// A peer with a short interval does not set the pace during an excuse, which costs it one message.
    pub(crate) fn check_at(&self, now: Instant) -> Instant {
        self.expires_at().min(now + self.expiry.max(self.interval))
    }

    pub(crate) fn expires_at(&self) -> Instant {
        let expires_at = self.received_at + self.expiry;
        self.excused_until.map_or(expires_at, |until| expires_at.max(until))
    }
}

/// The smallest payload to announce: smaller ones cross any link well within an interval.
pub const LARGE_PAYLOAD_BYTES: usize = 256 * 1024;

/// The slowest link on which large payloads disturb no lease, in bytes a second.
const SLOWEST_LINK: u32 = 1 << 20;

/// How long a payload of that size may take to cross the slowest link.
pub(crate) fn patience(payload_bytes: usize) -> Duration {
    Duration::from_secs(payload_bytes as u64) / SLOWEST_LINK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_message_renews_the_lease_and_only_sending_puts_off_the_heartbeat() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut liveness = Liveness::new(start, second, 3 * second);
        assert_eq!(liveness.expires_at(), start + 3 * second);
        liveness.received(start + second);
        assert_eq!(liveness.expires_at(), start + 4 * second);
        assert_eq!(liveness.heartbeat_at(), start + second);
        liveness.sent(start + second);
        assert_eq!(liveness.heartbeat_at(), start + 2 * second);
    }

    #[test]
    fn announced_payload_excuses_silence_until_the_next_message() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut liveness = Liveness::new(start, second, 3 * second);
        liveness.excuse(start + patience(16 << 20));
        assert_eq!(liveness.expires_at(), start + 16 * second);
        liveness.received(start + 10 * second);
        assert_eq!(liveness.expires_at(), start + 13 * second);
        liveness.excuse(start + 11 * second);
        assert_eq!(liveness.expires_at(), start + 13 * second);
    }

    #[test]
    fn excused_peer_is_looked_after_as_soon_as_it_could_expire_without_the_excuse() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut liveness = Liveness::new(start, second, 3 * second);
        assert_eq!(liveness.check_at(start + second), start + 3 * second);
        liveness.excuse(start + 60 * second);
        assert_eq!(liveness.check_at(start + 3 * second), start + 6 * second);
        assert_eq!(liveness.check_at(start + 59 * second), start + 60 * second);
    }

    #[test]
    fn expiry_is_the_peers_interval_times_our_liveness() {
        let heartbeats = Heartbeats { interval: Duration::from_secs(1), liveness: 4 };
        assert_eq!(heartbeats.expiry(Duration::from_millis(250)), Duration::from_secs(1));
        assert_eq!(heartbeats.expiry(Duration::MAX), Duration::MAX);
    }
}
