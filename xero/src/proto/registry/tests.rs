//! The choice of a worker, in small examples; `model.rs` plays many.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::proto::{
    message::{Capabilities, Codec, MethodOffer, Role, ServiceOffer},
    tests::start,
    window::SMALL_PAYLOAD_BYTES,
};

#[test]
fn least_recently_used_worker_with_free_credit_is_chosen() {
    let mut registry = registry_of(&[(1, 2, 7), (2, 1, 7)]);
    assert_eq!(route(&mut registry, "Demo", "ping", 7), chosen(1));
    registry.take_credit(Peer(1), CallId(1));
    assert_eq!(route(&mut registry, "Demo", "ping", 7), chosen(2));
    registry.take_credit(Peer(2), CallId(2));
    assert_eq!(route(&mut registry, "Demo", "ping", 7), chosen(1));
    registry.take_credit(Peer(1), CallId(3));
    assert_eq!(route(&mut registry, "Demo", "ping", 7), Route::AllBusy);
    assert_eq!(registry.return_credit(Peer(2), CallId(2)), Some(true));
    assert_eq!(route(&mut registry, "Demo", "ping", 7), chosen(2));
}

#[test]
fn abandoned_request_keeps_its_credit_until_the_worker_ends_it() {
    let mut registry = registry_of(&[(1, 1, 7)]);
    registry.take_credit(Peer(1), CallId(1));
    registry.abandon(Peer(1), CallId(1));
    assert_eq!(route(&mut registry, "Demo", "ping", 7), Route::AllBusy);
    assert_eq!(registry.return_credit(Peer(1), CallId(1)), Some(false));
    assert_eq!(registry.return_credit(Peer(1), CallId(1)), None);
    assert_eq!(route(&mut registry, "Demo", "ping", 7), chosen(1));
}

#[test]
fn worker_with_the_fitting_signature_comes_first_and_another_only_without_one() {
    let mut registry = registry_of(&[(1, 1, 7), (2, 1, 8)]);
    assert_eq!(route(&mut registry, "Demo", "ping", 8), chosen(2));
    registry.take_credit(Peer(2), CallId(1));
    assert_eq!(route(&mut registry, "Demo", "ping", 8), Route::AllBusy);
    registry.remove(Peer(2));
    assert_eq!(route(&mut registry, "Demo", "ping", 8), chosen(1));
}

#[test]
fn payload_goes_to_a_worker_that_accepts_it_or_to_nobody() {
    let mut registry = registry_of(&[(1, 1, 7)]);
    let ready = Ready { payload_bytes_max: 1 << 20, ..introduction(1, 7) };
    register(&mut registry, Peer(2), ready);
    let route = |registry: &mut Registry, bytes| {
        let need = &Need { bytes, ..need(7) };
        registry.route(&mut LeastRecentlyUsed, need, ROOMY)
    };
    assert_eq!((route(&mut registry, 1024), route(&mut registry, 1025)), (chosen(1), chosen(2)));
    registry.take_credit(Peer(2), CallId(1));
    assert_eq!(route(&mut registry, 1025), Route::AllBusy);
    registry.remove(Peer(2));
    assert_eq!(route(&mut registry, 1025), Route::Nobody(Outlook::TooLarge(1024)));
}

#[test]
fn payload_goes_to_those_whose_limit_allows_it_however_close_the_limits_are() {
    let route = |limits: [u64; 2], bytes| {
        let mut registry = Registry::new(&Limits::default(), u64::MAX);
        for (peer, max) in (1..).zip(limits) {
            register(&mut registry, Peer(peer), Ready { payload_bytes_max: max, ..introduction(9, 7) });
        }
        registry.route(&mut LeastRecentlyUsed, &Need { bytes, ..need(7) }, ROOMY)
    };
    for (first, second) in [(5_000, 5_001), (5_000, 8_191), (5_000, 8_192), (1_000, 1_001), (3, 4), (1 << 40, 1 << 41)]
    {
        let size = |limit: u64| usize::try_from(limit).expect("64 bits");
        assert_eq!(route([first, second], size(first)), chosen(1), "{first} and {second}");
        assert_eq!(route([first, second], size(first) + 1), chosen(2), "{first} and {second}");
        let too_large = Route::Nobody(Outlook::TooLarge(second));
        assert_eq!(route([first, second], size(second) + 1), too_large, "{first} and {second}");
        assert_eq!(route([second, first], size(first) + 1), chosen(1), "{first} and {second}");
    }
}

#[test]
fn requests_differ_only_by_signatures_and_limits_that_workers_have() {
    let mut registry = registry_of(&[(1, 1, 7)]);
    register(&mut registry, Peer(2), Ready { payload_bytes_max: 5_000, ..introduction(9, 8) });
    let Need { service, method, .. } = need(7);
    let id = registry.wait(&service.into(), &method.into());
    let distinct = |registry: &Registry, fingerprint, sizes: &[usize]| -> BTreeSet<_> {
        sizes.iter().map(|bytes| registry.distinguish(id, &Need { bytes: *bytes, ..need(fingerprint) })).collect()
    };
    let all = |registry: &Registry, fingerprints: &[u64]| -> BTreeSet<_> {
        fingerprints.iter().flat_map(|fingerprint| distinct(registry, *fingerprint, &[1])).collect()
    };
    assert_eq!(all(&registry, &[100, 101, 102, u64::MAX]).len(), 1, "no worker has them");
    assert_eq!(all(&registry, &[0, 7, 8, 100]).len(), 4);
    assert_eq!(distinct(&registry, 7, &[1_025, 4_999, 5_000]).len(), 1);
    assert_eq!(distinct(&registry, 7, &[5_000, 5_001, 6_000, 60_000]).len(), 2);
    registry.remove(Peer(2));
    assert_eq!(all(&registry, &[8, 100]).len(), 1);
    assert_eq!(distinct(&registry, 7, &[5_000, 5_001]).len(), 1);
    registry.stop_awaiting(id);
}

#[test]
fn only_changes_of_the_offers_are_a_new_revision() {
    let mut registry = registry_of(&[(1, 1, 7), (2, 1, 7)]);
    let mut is_another = |change: &dyn Fn(&mut Registry)| {
        let before = registry.revision();
        change(&mut registry);
        registry.revision() != before
    };
    let ready = introduction(1, 8);
    assert!(!is_another(&|registry| registry.set_credits(Peer(1), 5)));
    assert!(!is_another(&|registry| registry.take_credit(Peer(1), CallId(1))));
    assert!(!is_another(&|registry| register(registry, Peer(1), introduction(1, 7))));
    assert!(is_another(&|registry| register(registry, Peer(1), ready.clone())), "they differ");
    assert!(!is_another(&|registry| registry.set_credits(Peer(1), 0)), "a pause");
    assert!(is_another(&|registry| registry.set_draining(Peer(1))), "the other's word counts alone");
    assert!(!is_another(&|registry| drop(registry.remove(Peer(1)))), "it offered nothing any more");
    assert!(is_another(&|registry| drop(registry.remove(Peer(2)))));
}

#[test]
fn missing_method_and_missing_service_differ() {
    let mut registry = registry_of(&[(1, 1, 7)]);
    assert_eq!(route(&mut registry, "Demo", "pong", 0), Route::Nobody(Outlook::NoMethod));
    assert_eq!(route(&mut registry, "Other", "ping", 0), Route::Nobody(Outlook::NoService));
    registry.set_draining(Peer(1));
    assert_eq!(route(&mut registry, "Demo", "ping", 0), Route::Nobody(Outlook::NoService));
}

#[test]
fn credits_can_shrink_below_what_is_in_flight_and_grow_again() {
    let mut registry = registry_of(&[(1, 2, 7)]);
    registry.take_credit(Peer(1), CallId(1));
    registry.set_credits(Peer(1), 1);
    assert_eq!(route(&mut registry, "Demo", "ping", 0), Route::AllBusy);
    registry.set_credits(Peer(1), 0);
    assert_eq!(route(&mut registry, "Demo", "ping", 0), Route::AllBusy, "a pause");
    registry.set_credits(Peer(1), 2);
    assert_eq!(route(&mut registry, "Demo", "ping", 0), chosen(1));
}

#[test]
fn worker_that_announces_no_credits_offers_nothing_until_it_has_some() {
    let mut registry = registry_of(&[(1, 0, 7)]);
    assert_eq!(route(&mut registry, "Demo", "ping", 0), Route::Nobody(Outlook::NoService));
    registry.set_credits(Peer(1), 1);
    assert_eq!(route(&mut registry, "Demo", "ping", 0), chosen(1));
    register(&mut registry, Peer(1), introduction(0, 7));
    assert_eq!(route(&mut registry, "Demo", "ping", 0), Route::Nobody(Outlook::NoService));
}

#[test]
fn worker_whose_byte_window_is_full_gets_only_small_requests() {
    let mut registry = registry_of(&[]);
    register(&mut registry, Peer(1), Ready { payload_bytes_max: 1 << 20, ..introduction(9, 7) });
    let route = |registry: &mut Registry, bytes, is_full: bool| {
        let need = Need { bytes, is_large: bytes > SMALL_PAYLOAD_BYTES, ..need(0) };
        registry.route(&mut LeastRecentlyUsed, &need, &|peer| is_full && peer == Peer(1))
    };
    assert_eq!(route(&mut registry, SMALL_PAYLOAD_BYTES + 1, true), Route::AllBusy);
    assert_eq!(route(&mut registry, SMALL_PAYLOAD_BYTES, true), chosen(1));
    registry.note_room(Peer(1));
    assert_eq!(route(&mut registry, SMALL_PAYLOAD_BYTES + 1, false), chosen(1));
}

#[test]
fn draining_worker_gets_nothing_new_even_after_a_new_introduction() {
    let mut registry = registry_of(&[(1, 1, 7)]);
    registry.set_draining(Peer(1));
    register(&mut registry, Peer(1), introduction(1, 7));
    assert_eq!(route(&mut registry, "Demo", "ping", 0), Route::Nobody(Outlook::NoService));
}

#[test]
fn worker_that_refused_is_asked_again_only_if_it_is_the_only_one() {
    let mut registry = registry_of(&[(1, 1, 7), (2, 1, 7)]);
    let avoiding = |avoid| Need { avoid: Some(Peer(avoid)), ..need(0) };
    assert_eq!(registry.route(&mut LeastRecentlyUsed, &avoiding(1), ROOMY), chosen(2));
    let mut registry = registry_of(&[(1, 1, 7)]);
    assert_eq!(registry.route(&mut LeastRecentlyUsed, &avoiding(1), ROOMY), chosen(1));
}

pub(super) fn register(registry: &mut Registry, peer: Peer, mut ready: Ready) {
    let offer = Offer::take(&mut ready);
    match registry.get(peer).is_some() {
        true => {
            let renewal = Renewal { draft: Draft::of(offer), ready: Some(ready), credits: None };
            registry.renew(peer, renewal).expect("it is within all limits");
        }
        false => registry.register(start(), peer, &ready, offer),
    }
}

/// Room in every window.
const ROOMY: &IsFull<'static> = &|_| false;

/// The need of a small call of the method.
fn need(fingerprint: u64) -> Need<'static> {
    Need {
        service: "Demo",
        method: "ping",
        fingerprint,
        codec: Codec::Bincode,
        bytes: 0,
        is_large: false,
        must_declare: false,
        avoid: None,
    }
}

fn chosen(peer: u64) -> Route {
    Route::Worker { peer: Peer(peer), idempotent: true }
}

fn route(registry: &mut Registry, service: &str, method: &str, fingerprint: u64) -> Route {
    registry.route(&mut LeastRecentlyUsed, &Need { service, method, ..need(fingerprint) }, ROOMY)
}

fn registry_of(workers: &[(u64, u32, u64)]) -> Registry {
    let mut registry = Registry::new(&Limits::default(), u64::MAX);
    for &(peer, credits, fingerprint) in workers {
        register(&mut registry, Peer(peer), introduction(credits, fingerprint));
    }
    registry
}

fn introduction(credits: u32, fingerprint: u64) -> Ready {
    let methods = vec![MethodOffer { name: "ping".into(), idempotent: true, fingerprint }];
    Ready {
        role: Role::Worker,
        incarnation: Uuid::nil(),
        capabilities: Capabilities::default(),
        interval: Duration::from_secs(1),
        payload_bytes_max: 1024,
        credits,
        window_bytes: 0,
        codecs: Codec::ALL.to_vec(),
        services: vec![ServiceOffer { name: "Demo".into(), version: 1, methods }],
    }
}
