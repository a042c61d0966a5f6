//! The workers of a router: they join, change what they offer, and leave.

use std::{collections::BTreeSet, time::Instant};

use super::Router;
use crate::proto::{
    dispatch::Output,
    exits::Exits,
    fault::{Fault, planted},
    link::Departure,
    links::End,
    message::{Message, OfferChange, Peer, Ready},
    registry::{Draft, Offer, OfferCost, Renewal},
    retry::Setback,
};

impl Router {
    /// Registers a worker with its offer, or replaces that of a registered one.
    pub(in crate::proto::dispatch) fn register(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        ready: &Ready,
        offer: Offer,
    ) {
        let registry = &mut self.placement.registry;
        if registry.get(peer).is_some() {
            // Its window may be larger.
            registry.set_clogged(peer, exits.links.is_clogged(peer));
            let (draft, ready) = (Draft::of(offer.clone()), ready.clone());
            // One that changes nothing costs nothing, and needs no room among the changes that wait.
            if self.changes.draft_of(peer).is_none() && registry.is_as_before(peer, &ready, &offer) {
                return self.renew(now, exits, peer, Renewal { draft, ready: Some(ready), credits: None });
            }
            return match self.changes.replace(peer, ready, draft) {
                Ok(()) => self.await_changes(now, exits, peer),
                Err(detail) => exits.links.reject(now, peer, detail),
            };
        }
        self.placement.registry.register(now, peer, ready, offer);
        self.follow_offer_of(now, exits, peer);
    }

    /// Changes the offer of a registered worker, now or soon.
    pub(in crate::proto::dispatch) fn change_offer(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        change: OfferChange,
    ) {
        let registry = &self.placement.registry;
        if self.changes.draft_of(peer).is_none() && registry.is_as_after(peer, &change) {
            return;
        }
        match self.changes.change(peer, change, || registry.draft(peer)) {
            Ok(()) => self.await_changes(now, exits, peer),
            Err(detail) => exits.links.reject(now, peer, detail),
        }
    }

    /// Lets a worker's changes have their turn. It gets no request before.
    fn await_changes(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        self.placement.registry.suspend(peer);
        self.make_changes(now, exits);
    }

    /// Makes the changes of offers that are due.
    pub(in crate::proto::dispatch) fn make_changes(&mut self, now: Instant, exits: &mut Exits<Output>) {
        while let Some((peer, renewal)) = self.changes.next(now) {
            self.renew(now, exits, peer, renewal);
        }
    }

    fn renew(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer, renewal: Renewal) {
        match self.placement.registry.renew(peer, renewal) {
            Ok(OfferCost { is_other: false, .. }) => self.follow_credits(now, exits, peer),
            Ok(OfferCost { methods, .. }) => {
                let places = self.follow_offer_of(now, exits, peer);
                self.changes.note_cost(now, methods + places);
            }
            // Without this change, the rest of the offer would be another one than the sender's.
            Err(detail) => exits.links.reject(now, peer, detail),
        }
    }

    fn follow_offer_of(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) -> usize {
        exits.report(Output::WorkerJoined(peer));
        let places = self.follow_offers(now, exits);
        self.serve_waiting(now, exits, peer);
        places
    }

    /// Removes a worker. Its requests go elsewhere, or fail.
    pub(in crate::proto::dispatch) fn remove_worker(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        end: &End,
    ) {
        self.changes.take(peer);
        let Some(worker) = self.placement.registry.remove(peer) else { return };
        let unsent: BTreeSet<_> = end.unsent.iter().filter_map(Message::request).collect();
        exits.report(Output::WorkerLeft(peer, end.departure));
        // Before its goodbye, a draining worker ends all requests that it has read; the others it has not read (§10).
        let is_drained = end.departure == Departure::Goodbye && end.was_draining;
        for (id, wanted) in worker.requests() {
            let setback = match is_drained || unsent.contains(&id) {
                true => Setback::NotStarted,
                false => Setback::MaybeExecuted,
            };
            if wanted && !planted(Fault::LostRequestsForgotten) {
                self.lose_worker_of(now, exits, id, setback);
            }
        }
        self.follow_offers(now, exits);
    }

    pub(in crate::proto::dispatch) fn set_credits(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        credits: u32,
    ) {
        if !self.changes.set_credits(peer, credits) {
            self.placement.registry.set_credits(peer, credits);
            self.follow_credits(now, exits, peer);
        }
    }

    fn follow_credits(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        exits.report(Output::WorkerChanged(peer));
        self.follow_offers(now, exits);
        self.serve_waiting(now, exits, peer);
    }

    pub(in crate::proto::dispatch) fn set_draining(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        self.placement.registry.set_draining(peer);
        exits.report(Output::WorkerChanged(peer));
        self.follow_offers(now, exits);
    }

    /// Sets whether the worker's connection may be dead.
    pub(in crate::proto::dispatch) fn set_doubted(
        &mut self,
        now: Instant,
        exits: &mut Exits<Output>,
        peer: Peer,
        is_doubted: bool,
    ) {
        self.placement.registry.set_doubted(peer, is_doubted);
        if !is_doubted {
            self.serve_waiting(now, exits, peer);
        }
    }

    /// Handles an acknowledgement of a worker: its window may have room again.
    pub(in crate::proto::dispatch) fn note_room(&mut self, now: Instant, exits: &mut Exits<Output>, peer: Peer) {
        self.placement.registry.set_clogged(peer, exits.links.is_clogged(peer));
        self.placement.registry.note_room(peer);
        self.serve_waiting(now, exits, peer);
    }
}
