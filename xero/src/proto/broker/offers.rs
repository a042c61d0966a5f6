//! How far a broker's clients know what its workers offer, and when it announces that anew (`PROTOCOL.md` §5).

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::proto::{
    dispatch::Dispatcher,
    fault::{Fault, planted},
    frame::TooLarge,
    links::Links,
    message::Peer,
    registry::Listing,
};

/// The shortest pause between two announcements of the offer.
///
/// A fleet that starts, or rolls, changes its offers hundreds of times a second, and each announcement holds all of
/// them. A tenth of a second harms nobody, because a call that a change returns brings the new offer along.
pub(crate) const OFFERS_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: how late a client may learn of a new service.
const OFFERS_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Bytes per second of announcements to all clients together: a seventh of a 1 Gbit/s link.
///
/// Larger announcements have longer pauses between them, up to the longest.
const OFFERS_BYTES_PER_SECOND: usize = 16 << 20;

/// The most left-out services to log, each once: as many as the default limit lists. Nobody reads more.
const LEFT_OUT_LOGGED_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// The revision of the workers' offers in the introduction to clients.
    revision: u64,
    /// The size of that introduction, in bytes.
    bytes: usize,
    /// The end of the pause after the last announcement.
    paused_until: Option<Instant>,
    /// Whether an error has brought the introduction up to date since then.
    is_hastened: bool,
    /// When to announce the offer to all clients.
    announces_at: Option<Instant>,
    /// Left-out services that were already logged.
    logged: BTreeSet<Arc<str>>,
}

impl Offers {
    /// Follows the workers' offers: announces the first change at once, and bundles those soon after it.
    pub(super) fn follow(&mut self, now: Instant, dispatcher: &Dispatcher, links: &mut Links) {
        if self.revision == dispatcher.revision() {
            return;
        }
        match self.paused_until.filter(|until| *until > now && !planted(Fault::OffersUnpaced)) {
            None => self.announce(now, dispatcher, links),
            Some(until) => self.announces_at = self.announces_at.or(Some(until)),
        }
    }

    /// Announces the offer once the pause is over.
    pub(super) fn handle_timeout(&mut self, now: Instant, dispatcher: &Dispatcher, links: &mut Links) {
        if self.announces_at.is_some_and(|at| at <= now) {
            self.announce(now, dispatcher, links);
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.announces_at
    }

    /// Whether changes wait for the end of a pause.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Brings the introduction up to date for a client that is about to receive it, before the others do.
    pub(super) fn include(&mut self, now: Instant, dispatcher: &Dispatcher, links: &mut Links) {
        if self.refresh(dispatcher, links) {
            let at = self.paused_until.map_or(now, |until| until.max(now));
            self.announces_at.get_or_insert(at);
        }
    }

    /// Sends a client the offer in its turn, and not only after the pause; once in each pause, because listing the whole
    /// offer takes much longer than causing it does. After that, errors to the client wait for the end of the pause.
    pub(super) fn hasten(&mut self, now: Instant, client: Peer, dispatcher: &Dispatcher, links: &mut Links) {
        if self.revision != dispatcher.revision() {
            let until = self.paused_until.filter(|until| *until > now && self.is_hastened);
            if let Some(until) = until.filter(|_| !planted(Fault::OffersUnpaced)) {
                self.announces_at.get_or_insert(until);
                return links.expect_offer(client);
            }
            self.is_hastened = true;
        }
        self.include(now, dispatcher, links);
        links.announce_to(now, client);
    }

    /// Makes no further announcement.
    pub(super) fn stop(&mut self) {
        self.announces_at = None;
    }

    /// Announces the offer to the clients that know another one. Without clients, that waits for one.
    fn announce(&mut self, now: Instant, dispatcher: &Dispatcher, links: &mut Links) {
        self.announces_at = None;
        if links.up().next().is_none() {
            return;
        }
        let is_read = self.revision != dispatcher.revision();
        self.refresh(dispatcher, links);
        let clients = links.announce_to_all(now);
        if is_read || clients > 0 {
            self.paused_until = Some(now + self.pause(clients));
            self.is_hastened = false;
        }
        links.meet_expectations(now);
    }

    /// The pause after an announcement, which grows with its size.
    fn pause(&self, clients: usize) -> Duration {
        let bytes = self.bytes.saturating_mul(clients);
        let pause = Duration::from_secs_f64(bytes as f64 / OFFERS_BYTES_PER_SECOND as f64);
        pause.clamp(OFFERS_PAUSE, OFFERS_PAUSE_MAX)
    }

    /// Brings the introduction to clients up to date; `true` if its services have changed.
    fn refresh(&mut self, dispatcher: &Dispatcher, links: &mut Links) -> bool {
        let revision = dispatcher.revision();
        if std::mem::replace(&mut self.revision, revision) == revision {
            return false;
        }
        let Listing { services, left_out, bytes } = dispatcher.listing();
        self.bytes = bytes;
        left_out.into_iter().for_each(|(service, limit)| self.log_left_out(service, &limit));
        links.set_services(services)
    }

    fn log_left_out(&mut self, service: Arc<str>, limit: &TooLarge) {
        if self.logged.len() < LEFT_OUT_LOGGED_MAX && !self.logged.contains(&service) {
            warn!(?service, "clients see only a part of a service: with all of it, the {limit}");
            self.logged.insert(service);
        }
    }
}
