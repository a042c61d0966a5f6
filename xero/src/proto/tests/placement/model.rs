//! What a play knows about its workers and calls.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::super::pair::introduction;
use crate::proto::{
    calls::WaitPolicy,
    message::{CallId, Capabilities, Codec, MethodOffer, Peer, Ready, ServiceOffer},
    window::SMALL_PAYLOAD_BYTES,
};

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) offer: Offer,
    pub(super) credits: u32,
    /// Whether it has had credits since its introduction.
    pub(super) is_callable: bool,
    pub(super) is_draining: bool,
    /// Any message fills it.
    pub(super) is_window_full: bool,
    /// The answer to a repeated introduction waits for the window, and fills it.
    pub(super) is_owed_an_answer: bool,
    pub(super) in_flight: BTreeSet<CallId>,
}

impl Worker {
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        let (offer, credits) = (Offer::random(random), random.u32(0..3));
        let (is_draining, is_window_full, is_owed_an_answer) = (false, false, false);
        let in_flight = BTreeSet::new();
        Self { offer, credits, is_callable: credits > 0, is_draining, is_window_full, is_owed_an_answer, in_flight }
    }

    pub(super) fn ready(&self, peer: Peer) -> Ready {
        Ready {
            incarnation: Uuid::from_u64_pair(3, peer.0),
            capabilities: Capabilities::BATCH.and(Capabilities::OFFERS),
            payload_bytes_max: self.offer.payload_bytes_max,
            credits: self.credits,
            window_bytes: 1,
            codecs: self.offer.codecs.clone(),
            services: self.offer.services(),
            ..introduction()
        }
    }

    pub(super) fn has_room_for(&self, call: &Call) -> bool {
        self.in_flight.len() < self.credits as usize && !(self.is_window_full && call.bytes > SMALL_PAYLOAD_BYTES)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) method: &'static str,
    pub(super) fingerprint: u64,
    pub(super) is_idempotent: bool,
    pub(super) codecs: Vec<Codec>,
    pub(super) payload_bytes_max: u64,
}

impl Offer {
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            method: if random.u8(0..12) == 0 { "other" } else { "hold" },
            fingerprint: random.u64(0..4),
            is_idempotent: random.bool(),
            codecs: Codec::ALL.into_iter().filter(|codec| *codec == Codec::Json || random.u8(0..5) > 0).collect(),
            payload_bytes_max: LIMITS[random.usize(..LIMITS.len())],
        }
    }

    pub(super) fn services(&self) -> Vec<ServiceOffer> {
        let (name, idempotent, fingerprint) = (self.method.into(), self.is_idempotent, self.fingerprint);
        let methods = vec![MethodOffer { name, idempotent, fingerprint }];
        vec![ServiceOffer { name: "Demo".into(), version: 1, methods }]
    }
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) fingerprint: u64,
    pub(super) codec: Codec,
    pub(super) bytes: usize,
    pub(super) idempotent: Option<bool>,
    pub(super) must_declare: bool,
    pub(super) wait_policy: WaitPolicy,
    pub(super) may_have_run: bool,
    pub(super) was_refused: bool,
    /// The worker that has its request.
    pub(super) worker: Option<Peer>,
    pub(super) partials: u32,
}

impl Call {
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        let must_declare = random.u8(0..4) == 0;
        let idempotent = [None, Some(true), Some(false)][random.usize(0..3)];
        Self {
            fingerprint: random.u64(0..6),
            codec: Codec::ALL[random.usize(..Codec::ALL.len())],
            bytes: SIZES[random.usize(..SIZES.len())],
            idempotent: idempotent.filter(|_| !must_declare),
            must_declare,
            wait_policy: [WaitPolicy::UntilDeadline, WaitPolicy::WhileOffered][random.usize(0..2)],
            may_have_run: false,
            was_refused: false,
            worker: None,
            partials: 0,
        }
    }

    /// How well a worker with this offer suits it, if at all.
    pub(super) fn grade(&self, offer: &Offer) -> Option<Grade> {
        let must_declare = self.must_declare || self.idempotent.is_none() && self.may_have_run;
        let can =
            offer.method == "hold" && offer.codecs.contains(&self.codec) && (offer.is_idempotent || !must_declare);
        let fits = self.fingerprint == 0 || [0, self.fingerprint].contains(&offer.fingerprint);
        let is_within = offer.payload_bytes_max >= self.bytes as u64;
        can.then_some(Grade { fits, limit: if is_within { u64::MAX } else { offer.payload_bytes_max } })
    }
}

/// A fitting signature is worth more than a higher limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grade {
    pub(super) fits: bool,
    /// The limit on payloads; `u64::MAX` if it suffices.
    pub(super) limit: u64,
}

impl Grade {
    pub(super) fn is_sufficient(self) -> bool {
        self.limit == u64::MAX
    }
}

/// More than count exactly, some of them close to each other.
const LIMITS: [u64; 8] = [0, 100, 1_500, 1_600, 5_000, 5_500, 7_000, 1 << 20];
/// Between the limits, on both sides of what counts as large.
const SIZES: [usize; 9] = [0, 50, 1_400, 1_550, 4_000, 5_000, 5_200, 6_000, 8_000];
